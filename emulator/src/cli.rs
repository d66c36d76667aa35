//! The command surface: every flag is also an environment variable `STREAMMANAGER_…`, every command has `--json`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "streammanager",
    version,
    about = "Wildfire data from unreliable sources into Kafka",
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Takes recorded files the whole way to the sink and waits for it.
    #[command(
        after_help = "Example:\n  streammanager ingest --source firms_viirs_noaa20 --out sink/ detections.csv.gz"
    )]
    Ingest(IngestArgs),
    /// Runs the whole system on this host until Ctrl-C: what infra/template.yaml says, with the functions' own handlers.
    #[cfg(feature = "up")]
    #[command(after_help = "Example:\n  streammanager up --demo")]
    Up(UpArgs),
    /// Registers, lists, starts and stops the polled streams of a running system.
    #[cfg(feature = "up")]
    #[command(subcommand, after_help = "Example:\n  streammanager streams status viirs-snpp")]
    Streams(StreamsCommand),
    /// Registers, lists, rotates and revokes senders and their keys.
    #[cfg(feature = "up")]
    #[command(
        subcommand,
        after_help = "Example:\n  streammanager connectors register butte --tenant butte --source evacuation_alert_butte --critical"
    )]
    Connectors(ConnectorsCommand),
    /// Sends life-safety alerts to a running system.
    #[cfg(feature = "up")]
    #[command(subcommand, after_help = "Example:\n  streammanager alerts send --key-file butte.key alert.cap.xml")]
    Alerts(AlertsCommand),
    /// Lists Kafka's topics, or follows one.
    #[cfg(feature = "up")]
    #[command(
        subcommand,
        after_help = "Example:\n  streammanager topics tail wildfire-nasa-firms --from-beginning --max 1 --json"
    )]
    Topics(TopicsCommand),
    /// Lists records that could never succeed, with their reasons.
    #[cfg(feature = "up")]
    #[command(subcommand, after_help = "Example:\n  streammanager dead-letters list --stream modis")]
    DeadLetters(DeadLettersCommand),
    /// Measures, each figure beside its baseline.
    #[cfg(feature = "up")]
    #[command(subcommand, after_help = "Example:\n  streammanager bench all --kafka 127.0.0.1:9092")]
    Bench(BenchCommand),
    /// Decodes and validates files: one JSON line a record on standard output, rejects on standard error.
    #[command(after_help = "Example:\n  streammanager decode --source firms_viirs_noaa20 detections.csv | head -1")]
    Decode(DecodeArgs),
}

/// What files hold.
#[derive(Debug, Args)]
pub struct InputArgs {
    /// Format of the files: auto (by source id), firms, sensor or alert.
    #[arg(long, env = "STREAMMANAGER_FORMAT", default_value = "auto")]
    pub format: String,
    /// Files to read; `.gz` too, `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct DecodeArgs {
    /// Source id the records are read as, such as firms_viirs_noaa20.
    #[arg(long, env = "STREAMMANAGER_SOURCE")]
    pub source: String,
    #[command(flatten)]
    pub input: InputArgs,
    /// Rejects as {"reject": …} lines on standard error.
    #[arg(long, env = "STREAMMANAGER_JSON")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct IngestArgs {
    /// Source id the records are published under, such as firms_viirs_noaa20.
    #[arg(long, env = "STREAMMANAGER_SOURCE")]
    pub source: String,
    #[command(flatten)]
    pub input: InputArgs,
    /// File with the connector's key; a critical source id needs one.
    #[arg(long, env = "STREAMMANAGER_KEY_FILE", value_name = "F")]
    pub key_file: Option<PathBuf>,
    /// Data folder: queues, seen-sets and dead letters.
    #[arg(long, env = "STREAMMANAGER_DATA", value_name = "DIR", default_value = "data")]
    pub data: PathBuf,
    /// Sink: a folder with one TOPIC.ndjson a topic.
    #[arg(
        long,
        env = "STREAMMANAGER_OUT",
        value_name = "DIR",
        conflicts_with = "kafka",
        required_unless_present = "kafka"
    )]
    pub out: Option<PathBuf>,
    /// Sink: Kafka brokers, HOST:PORT with commas between.
    #[arg(long, env = "STREAMMANAGER_KAFKA", value_name = "HOST:PORT,…")]
    pub kafka: Option<String>,
    /// End with one JSON object on one line.
    #[arg(long, env = "STREAMMANAGER_JSON")]
    pub json: bool,
}

#[cfg(feature = "up")]
pub use operate::*;

/// Arguments of the commands that run or operate a whole system.
#[cfg(feature = "up")]
mod operate {
    use std::path::PathBuf;
    use std::time::Duration;

    use clap::{Args, Subcommand};
    use streammanager::schedule::streams::Interval;

    #[derive(Debug, Args)]
    pub struct UpArgs {
        /// Generated FIRMS detections, sensors, alerts and a bulk import; labelled, nothing leaves this host.
        #[arg(long, env = "STREAMMANAGER_DEMO")]
        pub demo: bool,
        /// The template to run.
        #[arg(long, env = "STREAMMANAGER_TEMPLATE", value_name = "F", default_value = "infra/template.yaml")]
        pub template: PathBuf,
        /// The streams to poll.
        #[arg(long, env = "STREAMMANAGER_STREAMS", value_name = "F", default_value = "infra/streams.yaml")]
        pub streams: PathBuf,
        /// Data folder: queues, state, dead letters, the embedded Kafka endpoint's topics.
        #[arg(long, env = "STREAMMANAGER_DATA", value_name = "DIR", default_value = "data")]
        pub data: PathBuf,
        /// Address of the HTTP API.
        #[arg(long, env = "STREAMMANAGER_HTTP", value_name = "ADDR", default_value = "127.0.0.1:8080")]
        pub http: String,
        /// Address of the MQTT endpoint.
        #[arg(long, env = "STREAMMANAGER_MQTT", value_name = "ADDR", default_value = "127.0.0.1:1883")]
        pub mqtt: String,
        /// Kafka: embedded, embedded:PORT, or brokers as HOST:PORT with commas between.
        #[arg(long, env = "STREAMMANAGER_KAFKA", default_value = "embedded")]
        pub kafka: String,
        /// Queues, state and stored bytes: embedded, or the URL of an AWS endpoint (SQS, DynamoDB, S3).
        #[arg(long, env = "STREAMMANAGER_AWS", value_name = "URL", default_value = "embedded")]
        pub aws: String,
        /// Base URL of the FIRMS service, instead of the template's.
        #[arg(long, env = "STREAMMANAGER_UPSTREAM", value_name = "URL")]
        pub upstream: Option<String>,
        /// Begins every topic's name, where several systems share a broker; the template's if not set.
        #[arg(long, env = "STREAMMANAGER_TOPIC_PREFIX", value_name = "TEXT")]
        pub topic_prefix: Option<String>,
        /// Stops by itself after this time, such as 30s.
        #[arg(long = "for", env = "STREAMMANAGER_FOR", value_name = "TIME", value_parser = duration)]
        pub duration: Option<Duration>,
        /// One JSON object at the start and one at the end, each on a line.
        #[arg(long, env = "STREAMMANAGER_JSON")]
        pub json: bool,
    }

    fn duration(text: &str) -> Result<Duration, String> {
        Interval::parse(text).map(Interval::get)
    }

    /// How a running system is found.
    #[derive(Debug, Args)]
    pub struct EndpointArgs {
        /// HTTP address of the running system.
        #[arg(long, env = "STREAMMANAGER_ENDPOINT", default_value = "http://127.0.0.1:8080")]
        pub endpoint: String,
        /// File with the operators' key, which `up` makes in its data folder.
        #[arg(long, env = "STREAMMANAGER_CONTROL_KEY_FILE", value_name = "F", default_value = "data/control.key")]
        pub control_key_file: PathBuf,
        /// The answer as JSON.
        #[arg(long, env = "STREAMMANAGER_JSON")]
        pub json: bool,
    }

    #[derive(Debug, Subcommand)]
    pub enum StreamsCommand {
        /// Loads a streams file; applying it twice changes nothing the second time.
        Apply {
            #[arg(default_value = "infra/streams.yaml")]
            file: PathBuf,
            /// Also removes the streams that the file does not name.
            #[arg(long)]
            prune: bool,
            #[command(flatten)]
            endpoint: EndpointArgs,
        },
        /// All streams with mode, records and last error.
        List {
            #[command(flatten)]
            endpoint: EndpointArgs,
        },
        /// One stream, whole.
        Status {
            id: String,
            #[command(flatten)]
            endpoint: EndpointArgs,
        },
        Start {
            id: String,
            #[command(flatten)]
            endpoint: EndpointArgs,
        },
        Stop {
            id: String,
            #[command(flatten)]
            endpoint: EndpointArgs,
        },
    }

    #[derive(Debug, Subcommand)]
    pub enum ConnectorsCommand {
        /// Registers a sender and prints its key, the only time it is shown.
        Register {
            id: String,
            #[arg(long)]
            tenant: String,
            /// Source id that it may publish under; may be repeated.
            #[arg(long = "source", required = true)]
            sources: Vec<String>,
            /// The critical grant: critical source ids need it.
            #[arg(long)]
            critical: bool,
            #[command(flatten)]
            endpoint: EndpointArgs,
        },
        /// Replaces a key at once and prints the new one.
        Rotate {
            id: String,
            #[command(flatten)]
            endpoint: EndpointArgs,
        },
        /// Refuses a connector's key from now on.
        Revoke {
            id: String,
            #[command(flatten)]
            endpoint: EndpointArgs,
        },
        List {
            #[command(flatten)]
            endpoint: EndpointArgs,
        },
    }

    #[derive(Debug, Subcommand)]
    pub enum AlertsCommand {
        /// Sends one file: JSON or CAP 1.1 / 1.2; `-` is standard input.
        Send {
            /// File with the connector's key.
            #[arg(long, env = "STREAMMANAGER_KEY_FILE", value_name = "F")]
            key_file: PathBuf,
            /// Source id; a connector with one need not name it.
            #[arg(long, env = "STREAMMANAGER_SOURCE")]
            source: Option<String>,
            #[arg(long, env = "STREAMMANAGER_ENDPOINT", default_value = "http://127.0.0.1:8080")]
            endpoint: String,
            #[arg(long, env = "STREAMMANAGER_JSON")]
            json: bool,
            file: PathBuf,
        },
    }

    #[derive(Debug, Args)]
    pub struct BrokerArgs {
        /// Kafka brokers.
        #[arg(long, env = "STREAMMANAGER_KAFKA", default_value = "127.0.0.1:9092")]
        pub kafka: String,
        /// JSON lines.
        #[arg(long, env = "STREAMMANAGER_JSON")]
        pub json: bool,
    }

    #[derive(Debug, Subcommand)]
    pub enum TopicsCommand {
        /// Topics with partitions and messages.
        List {
            #[command(flatten)]
            broker: BrokerArgs,
        },
        /// Prints a topic's values as they arrive.
        Tail {
            topic: String,
            /// From the oldest message on, not only new ones.
            #[arg(long)]
            from_beginning: bool,
            /// Ends after so many.
            #[arg(long)]
            max: Option<u64>,
            #[command(flatten)]
            broker: BrokerArgs,
        },
    }

    #[derive(Debug, Subcommand)]
    pub enum BenchCommand {
        /// All of them, one after another.
        All {
            /// Kafka brokers; a real Kafka for figures that count.
            #[arg(long, env = "STREAMMANAGER_KAFKA", default_value = "127.0.0.1:9092")]
            kafka: String,
            /// The template to run.
            #[arg(long, env = "STREAMMANAGER_TEMPLATE", value_name = "F", default_value = "infra/template.yaml")]
            template: PathBuf,
            #[arg(long, env = "STREAMMANAGER_JSON")]
            json: bool,
        },
        /// F1: the whole way against the naive program, on the same broker.
        Orchestrated {
            /// Kafka brokers; a real Kafka for figures that count.
            #[arg(long, env = "STREAMMANAGER_KAFKA", default_value = "127.0.0.1:9092")]
            kafka: String,
            #[arg(long, default_value_t = 10_000)]
            rows: usize,
            /// Pairs of runs; the medians are compared.
            #[arg(long, default_value_t = 5)]
            runs: usize,
            #[arg(long, env = "STREAMMANAGER_JSON")]
            json: bool,
        },
        /// F3: alerts one after another, to a system of its own and to the naive program.
        Express {
            /// Kafka brokers; a real Kafka for figures that count.
            #[arg(long, env = "STREAMMANAGER_KAFKA", default_value = "127.0.0.1:9092")]
            kafka: String,
            /// The template to run.
            #[arg(long, env = "STREAMMANAGER_TEMPLATE", value_name = "F", default_value = "infra/template.yaml")]
            template: PathBuf,
            #[arg(long, default_value_t = 1_000)]
            alerts: usize,
            #[arg(long, env = "STREAMMANAGER_JSON")]
            json: bool,
        },
        /// F11: where the time of one poll goes, step by step.
        Poll {
            /// Kafka brokers; a real Kafka for figures that count.
            #[arg(long, env = "STREAMMANAGER_KAFKA", default_value = "127.0.0.1:9092")]
            kafka: String,
            #[arg(long, default_value_t = 500)]
            rows: usize,
            #[arg(long, default_value_t = 21)]
            runs: usize,
            #[arg(long, env = "STREAMMANAGER_JSON")]
            json: bool,
        },
        /// F11: the tier, route and throttle decision of a record.
        Decide {
            #[arg(long, default_value_t = 10_000_000)]
            records: u64,
            #[arg(long, env = "STREAMMANAGER_JSON")]
            json: bool,
        },
    }

    #[derive(Debug, Subcommand)]
    pub enum DeadLettersCommand {
        List {
            /// Only this stream's.
            #[arg(long)]
            stream: Option<String>,
            #[command(flatten)]
            endpoint: EndpointArgs,
        },
    }
}
