//! Arguments of the commands that run or operate a whole system. How a running one is reached are the same flags and
//! variables everywhere; a connector's grants are named by flags alone.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand, ValueEnum};
use streammanager::record::{ConnectorId, SourceId, StreamId, TenantId};
use streammanager::schedule::file::Interval;
use streammanager::time::Timestamp;
use streammanager_host::running;
use streammanager_host::up::{Destination, Options, Runtime};

use super::values::{brokers, is_address, kafka, url};

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Runs on made-up FIRMS detections, sensors, alerts and a bulk import, labelled as such; nothing leaves this host.
    #[arg(long, env = "STREAMMANAGER_DEMO", value_parser = FalseyValueParser::new())]
    pub demo: bool,
    /// The template to run, instead of the one in this program (infra/template.yaml).
    #[arg(long, env = "STREAMMANAGER_TEMPLATE", value_name = "FILE")]
    pub template: Option<PathBuf>,
    /// The streams to poll, instead of those in this program (infra/streams.yaml).
    #[arg(long, env = "STREAMMANAGER_STREAMS", value_name = "FILE")]
    pub streams: Option<PathBuf>,
    /// Data folder: queues, state, dead letters, the embedded Kafka endpoint's topics.
    #[arg(long, env = "STREAMMANAGER_DATA", value_name = "DIR", default_value = "data")]
    pub data: PathBuf,
    /// Address of the HTTP API.
    #[arg(long, env = "STREAMMANAGER_HTTP", value_name = "HOST:PORT", default_value = "127.0.0.1:8080", value_parser = address)]
    pub http: String,
    /// Address of the MQTT endpoint.
    #[arg(long, env = "STREAMMANAGER_MQTT", value_name = "HOST:PORT", default_value = "127.0.0.1:1883", value_parser = address)]
    pub mqtt: String,
    /// Where others reach the HTTP API, such as http://incidents.example:8080, behind whatever stands before it: records name their
    /// schemas by it. Without it the address of --http, with localhost for 0.0.0.0.
    #[arg(long, env = "STREAMMANAGER_PUBLIC_URL", value_name = "URL", value_parser = url)]
    pub public_url: Option<String>,
    /// Alerts a second that are taken of each sender, over HTTP and MQTT together, after a burst of six seconds' worth; with --runtime
    /// process by each process; without it as many as come. Beyond it HTTP answers 429, and over MQTT a PUBACK waits; QoS 0 is taken.
    #[arg(long, env = "STREAMMANAGER_SENDER_ALERTS_PER_SECOND", value_name = "N", value_parser = pace)]
    pub sender_alerts_per_second: Option<NonZeroU32>,
    /// Alerts and their confirmations may be read over MQTT by anybody, not by named connectors alone.
    #[arg(long, env = "STREAMMANAGER_MQTT_OPEN_ALERTS", value_parser = FalseyValueParser::new())]
    pub mqtt_open_alerts: bool,
    /// Kafka: embedded, embedded:PORT, or brokers as HOST:PORT with commas between.
    #[arg(long, env = "STREAMMANAGER_KAFKA", value_name = "BROKERS", default_value = "embedded", value_parser = kafka)]
    pub kafka: Destination,
    /// Kinesis instead of Kafka, one stream a topic: its URL, such as https://kinesis.us-west-2.amazonaws.com; the region is
    /// AWS_REGION.
    #[arg(long, env = "STREAMMANAGER_KINESIS", value_name = "URL", value_parser = url, conflicts_with = "kafka")]
    pub kinesis: Option<String>,
    /// Queues, state and stored bytes: embedded, or the URL of an AWS endpoint (SQS, DynamoDB, S3).
    #[arg(long, env = "STREAMMANAGER_AWS", value_name = "URL", default_value = "embedded", value_parser = backends)]
    pub aws: String,
    /// Starts Kafka and LocalStack with Docker (infra/compose.yaml) and uses them; for development, since LocalStack forgets what
    /// waits in it when it ends.
    #[arg(long, env = "STREAMMANAGER_DOCKER", value_parser = FalseyValueParser::new(), conflicts_with_all = ["kafka", "kinesis", "aws"])]
    pub docker: bool,
    /// What runs the functions: their handlers in this process, or their Lambda binaries as processes of their own over the
    /// Lambda Runtime API; that needs --aws URL, and --kafka HOST:PORT or --kinesis URL.
    #[arg(long, env = "STREAMMANAGER_RUNTIME", value_name = "RUNTIME", value_enum, default_value = "in-process")]
    pub runtime: RuntimeArg,
    /// Folder of the Lambda binaries for --runtime process, as DIR/express or DIR/express/bootstrap; without it that of this
    /// program.
    #[arg(long, env = "STREAMMANAGER_FUNCTIONS", value_name = "DIR", default_value_os_t = beside_this(), hide_default_value = true)]
    pub functions: PathBuf,
    /// Base URL of the FIRMS service, instead of the template's.
    #[arg(long, env = "STREAMMANAGER_UPSTREAM", value_name = "URL", value_parser = url)]
    pub upstream: Option<String>,
    /// Begins every topic's name, where several systems share a broker; the template's if not set.
    #[arg(long, env = "STREAMMANAGER_TOPIC_PREFIX", value_name = "TEXT")]
    pub topic_prefix: Option<String>,
    /// Consumer groups that the streams of a topic are slowed down for when they fall behind, as GROUP or GROUP:TOPIC with
    /// commas between; the template's if not set.
    #[arg(long, env = "STREAMMANAGER_CONSUMER_GROUPS", value_name = "GROUPS", conflicts_with = "kinesis")]
    pub consumer_groups: Option<String>,
    /// Stops by itself after this time, such as 30s.
    #[arg(long = "for", env = "STREAMMANAGER_FOR", value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Every line is a JSON object: the start, each change of state and heartbeat, the ledger at the end.
    #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

// No doc comments: the flag says what they are.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RuntimeArg {
    InProcess,
    Process,
}

/// Where cargo puts the functions, too.
fn beside_this() -> PathBuf {
    let folder = std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
    folder.unwrap_or_default()
}

impl From<UpArgs> for Options {
    fn from(args: UpArgs) -> Options {
        let UpArgs {
            demo,
            template,
            streams,
            data,
            http,
            public_url,
            mqtt,
            sender_alerts_per_second,
            mqtt_open_alerts,
            kafka,
            kinesis,
            aws,
            docker,
            runtime,
            functions,
            upstream,
            topic_prefix,
            consumer_groups,
            duration,
            json,
        } = args;
        let runtime = match runtime {
            RuntimeArg::InProcess => Runtime::InProcess,
            RuntimeArg::Process => Runtime::Process { functions },
        };
        Options {
            demo,
            template,
            streams,
            data,
            http,
            public_url,
            mqtt,
            sender_pace: sender_alerts_per_second,
            mqtt_open_alerts,
            destination: kinesis.map_or(kafka, Destination::Kinesis),
            aws,
            docker,
            runtime,
            upstream,
            topic_prefix,
            consumer_groups,
            duration,
            json,
        }
    }
}

/// As the template bounds it; without the flag it has no bound.
fn pace(text: &str) -> Result<NonZeroU32, &'static str> {
    let pace = text.parse().ok().filter(|pace: &NonZeroU32| pace.get() <= 1_000);
    pace.ok_or("write a whole number from 1 to 1000")
}

fn duration(text: &str) -> Result<Duration, String> {
    Interval::parse(text).map(Interval::get)
}

fn address(text: &str) -> Result<String, &'static str> {
    if is_address(text) { Ok(text.to_owned()) } else { Err("write it as HOST:PORT") }
}

fn backends(text: &str) -> Result<String, &'static str> {
    if text == "embedded" { Ok(text.to_owned()) } else { url(text).map_err(|_| "write embedded or http://HOST:PORT") }
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Time between two screens.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub interval: Duration,
    /// Ends after so many screens.
    #[arg(long, value_name = "N")]
    pub screens: Option<usize>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

// No doc comment: clap would show it as the description of the command. How a running system is reached.
#[derive(Debug, Args)]
pub(crate) struct EndpointArgs {
    /// HTTP address of the running system; without it the one that this user started last, else http://127.0.0.1:8080. That of
    /// a stack on AWS is its output ApiUrl.
    #[arg(long, env = "STREAMMANAGER_ENDPOINT", value_name = "URL", value_parser = url)]
    endpoint: Option<String>,
    /// The system is a stack in this region of AWS, and requests are signed as AWS_PROFILE says; known by itself where the
    /// address is one of execute-api.
    #[arg(long, env = "STREAMMANAGER_AWS_REGION", value_name = "REGION")]
    aws_region: Option<String>,
    /// Data folder of `up`, whose control.key is the operators' key; without it that of the running system, else data.
    #[arg(long, env = "STREAMMANAGER_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// File with the operators' key, instead of the data folder's.
    #[arg(long, env = "STREAMMANAGER_CONTROL_KEY_FILE", value_name = "FILE")]
    control_key_file: Option<PathBuf>,
    /// The answer as JSON.
    #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

impl EndpointArgs {
    pub(crate) fn url(&self) -> String {
        endpoint(self.endpoint.as_deref())
    }

    /// The region of AWS whose signatures the system wants; `None`: it wants the control key.
    pub(crate) fn aws_region(&self) -> Option<String> {
        self.aws_region.clone().or_else(|| region_of(&self.url()).map(str::to_owned))
    }

    pub(crate) fn control_key_file(&self) -> PathBuf {
        self.control_key_file.clone().unwrap_or_else(|| self.data().join("control.key"))
    }

    /// The system's data folder.
    pub(crate) fn data(&self) -> PathBuf {
        // The noted folder belongs to the noted system alone.
        let noted = running::last().filter(|noted| noted.endpoint == self.url()).map(|noted| noted.data);
        self.data.clone().or(noted).unwrap_or_else(|| "data".into())
    }
}

/// The region that the address of an API of API Gateway names: `https://ID.execute-api.REGION.amazonaws.com`.
fn region_of(url: &str) -> Option<&str> {
    let host = url.strip_prefix("https://")?.split(['/', ':']).next()?;
    let (_, rest) = host.split_once(".execute-api.")?;
    let (region, domain) = rest.split_once('.')?;
    domain.starts_with("amazonaws.com").then_some(region)
}

/// The address that a flag names, else that of the system which this user started last.
pub(crate) fn endpoint(named: Option<&str>) -> String {
    let noted = || running::last().map(|noted| noted.endpoint);
    named.map(str::to_owned).or_else(noted).unwrap_or_else(|| "http://127.0.0.1:8080".into())
}

#[derive(Debug, Subcommand)]
pub(crate) enum StreamsCommand {
    /// Loads a streams file; applying it twice changes nothing the second time.
    #[command(after_help = "Example:\n  streammanager streams apply infra/streams.yaml")]
    Apply {
        /// Streams file (YAML); `-` is standard input.
        #[arg(default_value = "infra/streams.yaml")]
        file: PathBuf,
        /// Also removes the streams that the file does not name.
        #[arg(long)]
        prune: bool,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// Reads a streams file and shows how often it asks each service, of how often it may, and which streams ask for the same; nothing
    /// is applied. With --probe each stream is polled once, and what came is shown; nothing of it is taken.
    #[command(after_help = "Example:\n  streammanager streams check infra/streams.yaml --probe")]
    Check {
        /// Streams file (YAML); `-` is standard input.
        #[arg(default_value = "infra/streams.yaml")]
        file: PathBuf,
        /// Polls each stream once; keys come from the same variables as those of `up`.
        #[arg(long)]
        probe: bool,
        /// Only this stream.
        #[arg(long, value_name = "ID", requires = "probe")]
        stream: Option<StreamId>,
        /// One JSON object instead of lines.
        #[arg(long, env = "STREAMMANAGER_JSON")]
        json: bool,
    },
    /// All streams with mode, records and last error.
    #[command(after_help = "Example:\n  streammanager streams list")]
    List {
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// One stream, whole.
    #[command(after_help = "Example:\n  streammanager streams status viirs-snpp")]
    Status {
        /// Stream id, as `streams list` shows it.
        id: StreamId,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// Polls a stopped stream again.
    #[command(after_help = "Example:\n  streammanager streams start viirs-snpp")]
    Start {
        /// Stream id, as `streams list` shows it.
        id: StreamId,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// Stops polling a stream until it is started again.
    #[command(after_help = "Example:\n  streammanager streams stop viirs-snpp")]
    Stop {
        /// Stream id, as `streams list` shows it.
        id: StreamId,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConnectorsCommand {
    /// Registers a sender and gives its key, which is shown only once.
    #[command(
        after_help = "Example:\n  streammanager connectors register butte --tenant butte --critical \\\n    --source evacuation_alert_butte --key-file butte.key"
    )]
    Register {
        /// Id of the new connector; over MQTT it is the user name.
        id: ConnectorId,
        /// Agency or unit that its records belong to.
        #[arg(long)]
        tenant: TenantId,
        /// Source id that it may publish under; may be repeated.
        #[arg(long = "source", value_name = "SOURCE", required = true)]
        sources: Vec<SourceId>,
        /// The critical grant: critical source ids need it.
        #[arg(long)]
        critical: bool,
        /// What names it on an MQTT connection: on AWS IoT the id of its certificate; its own id if not set.
        #[arg(long, value_name = "ID")]
        principal: Option<String>,
        /// New file for the key, readable by its owner only; without it the key goes to standard output.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// Replaces a key at once and gives the new one, which is shown only once.
    #[command(after_help = "Example:\n  streammanager connectors rotate butte --key-file butte-2.key")]
    Rotate {
        /// Connector id, as `connectors list` shows it.
        id: ConnectorId,
        /// New file for the key, readable by its owner only; without it the key goes to standard output.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// Refuses a connector's key from now on.
    #[command(after_help = "Example:\n  streammanager connectors revoke butte")]
    Revoke {
        /// Connector id, as `connectors list` shows it.
        id: ConnectorId,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// All connectors with their grants and source ids, without keys.
    #[command(after_help = "Example:\n  streammanager connectors list")]
    List {
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlertsCommand {
    /// Sends one file: JSON (infra/schemas/alert-1.json) or CAP 1.1 / 1.2.
    #[command(after_help = "Example:\n  streammanager alerts send --key-file butte.key alert.cap.xml")]
    Send {
        /// File with the connector's key.
        #[arg(long, env = "STREAMMANAGER_KEY_FILE", value_name = "FILE")]
        key_file: PathBuf,
        /// Source id; a connector with one need not name it.
        #[arg(long)]
        source: Option<SourceId>,
        /// HTTP address of the running system; without it the one that this user started last, else http://127.0.0.1:8080.
        #[arg(long, env = "STREAMMANAGER_ENDPOINT", value_name = "URL", value_parser = url)]
        endpoint: Option<String>,
        /// The answer as JSON.
        #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
        json: bool,
        /// The alert; `-` is standard input.
        #[arg(value_name = "ALERT")]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// A day's refusals, grants, key changes, starts and stops, oldest first.
    #[command(after_help = "Example:\n  streammanager audit list --day 2026-11-28")]
    List {
        /// Date in UTC; today if not named.
        #[arg(long, value_name = "DATE", value_parser = date)]
        day: Option<String>,
        /// Ends after so many entries.
        #[arg(long, value_name = "N")]
        max: Option<usize>,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
}

fn date(text: &str) -> Result<String, &'static str> {
    let is_date = format!("{text}T00:00:00Z").parse::<Timestamp>().is_ok();
    if is_date { Ok(text.to_owned()) } else { Err("write it as 2026-11-28") }
}

// No doc comment: clap would show it as the description of the command.
#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// Kafka brokers, HOST:PORT with commas between; embedded:PORT is the endpoint of `up` on this host. Without it those of
    /// the system that this user started last, else 127.0.0.1:9092.
    #[arg(long, env = "STREAMMANAGER_KAFKA", value_name = "BROKERS", value_parser = brokers)]
    kafka: Option<String>,
    /// JSON lines.
    #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

impl BrokerArgs {
    pub(crate) fn brokers(&self) -> String {
        let noted = || running::last().and_then(|noted| noted.kafka);
        self.kafka.clone().or_else(noted).unwrap_or_else(|| "127.0.0.1:9092".into())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicsCommand {
    /// Topics with partitions and messages.
    #[command(after_help = "Example:\n  streammanager topics list")]
    List {
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Prints a topic's keys and values as they arrive; with --json also its headers.
    #[command(after_help = "Example:\n  streammanager topics tail wildfire-nasa-firms --from-beginning --max 1 --json")]
    Tail {
        /// Topic, as `topics list` shows it.
        topic: String,
        /// From the oldest message on, not only new ones.
        #[arg(long)]
        from_beginning: bool,
        /// Ends after so many messages.
        #[arg(long, value_name = "N")]
        max: Option<u64>,
        #[command(flatten)]
        broker: BrokerArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// All of them, one after another.
    #[command(after_help = "Example:\n  streammanager bench all --kafka 127.0.0.1:9092")]
    All {
        /// Kafka brokers; a real Kafka for figures that count.
        #[arg(long, env = "STREAMMANAGER_KAFKA", value_name = "BROKERS", default_value = "127.0.0.1:9092", value_parser = brokers)]
        kafka: String,
        /// JSON lines.
        #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
        json: bool,
    },
    /// Rows decoded, queued and delivered, against a program that shares our decode and against a plain one, on the same broker.
    #[command(after_help = "Example:\n  streammanager bench orchestrated --kafka 127.0.0.1:9092")]
    Orchestrated {
        /// Kafka brokers; a real Kafka for figures that count.
        #[arg(long, env = "STREAMMANAGER_KAFKA", value_name = "BROKERS", default_value = "127.0.0.1:9092", value_parser = brokers)]
        kafka: String,
        /// Rows of a run.
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        rows: usize,
        /// Turns of ours, the naive and the plain program; the medians are compared.
        #[arg(long, value_name = "N", default_value_t = 5)]
        runs: usize,
        /// JSON lines.
        #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
        json: bool,
    },
    /// The time from an alert to its reply, for one sender or several at once, against a naive program.
    #[command(after_help = "Example:\n  streammanager bench express --kafka 127.0.0.1:9092")]
    Express {
        /// Kafka brokers; a real Kafka for figures that count.
        #[arg(long, env = "STREAMMANAGER_KAFKA", value_name = "BROKERS", default_value = "127.0.0.1:9092", value_parser = brokers)]
        kafka: String,
        /// Alerts of all senders together.
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        alerts: usize,
        /// Senders at once, each of which sends one alert after another.
        #[arg(long, value_name = "N", default_value_t = 1)]
        senders: usize,
        /// JSON lines.
        #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
        json: bool,
    },
    /// The Lambda binaries: size, time to the first request for an event, resident memory after one, each beside its goal.
    #[command(after_help = "Example:\n  streammanager bench lambda --functions target/lambda")]
    Lambda {
        /// Folder of the binaries, as DIR/express or DIR/express/bootstrap; without it that of this program.
        #[arg(long, env = "STREAMMANAGER_FUNCTIONS", value_name = "DIR", default_value_os_t = beside_this(), hide_default_value = true)]
        functions: PathBuf,
        /// Starts of each binary; the medians are shown.
        #[arg(long, value_name = "N", default_value_t = 20)]
        starts: usize,
        /// One JSON line.
        #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
        json: bool,
    },
    /// The time that `up` takes from its start on an empty data folder until it takes in what comes.
    #[command(after_help = "Example:\n  streammanager bench start")]
    Start {
        /// Starts; the median is shown.
        #[arg(long, value_name = "N", default_value_t = 20)]
        starts: usize,
        /// One JSON line.
        #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
        json: bool,
    },
    /// FIRMS rows from bytes to typed values with their times, on one thread, against a bare pass of the csv crate and against pandas.
    #[command(after_help = "Example:\n  streammanager bench decode --python venv/bin/python")]
    Decode {
        /// Rows of the file.
        #[arg(long, value_name = "N", default_value_t = 200_000)]
        rows: usize,
        /// Turns of all of them; the medians are compared.
        #[arg(long, value_name = "N", default_value_t = 9)]
        runs: usize,
        /// Python that has pandas.
        #[arg(long, value_name = "PROGRAM", default_value = "python3")]
        python: PathBuf,
        /// JSON lines.
        #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
        json: bool,
    },
    /// Where the time of one poll goes, step by step.
    #[command(after_help = "Example:\n  streammanager bench poll --kafka 127.0.0.1:9092")]
    Poll {
        /// Kafka brokers; a real Kafka for figures that count.
        #[arg(long, env = "STREAMMANAGER_KAFKA", value_name = "BROKERS", default_value = "127.0.0.1:9092", value_parser = brokers)]
        kafka: String,
        /// Rows of a poll.
        #[arg(long, value_name = "N", default_value_t = 500)]
        rows: usize,
        /// Polls; the median is shown.
        #[arg(long, value_name = "N", default_value_t = 21)]
        runs: usize,
        /// JSON lines.
        #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
        json: bool,
    },
    /// Readings over MQTT from several clients: the rate at first and after many readings of one hour.
    #[command(after_help = "Example:\n  streammanager bench readings --kafka 127.0.0.1:9092")]
    Readings {
        /// Kafka brokers; a real Kafka for figures that count.
        #[arg(long, env = "STREAMMANAGER_KAFKA", value_name = "BROKERS", default_value = "127.0.0.1:9092", value_parser = brokers)]
        kafka: String,
        /// Clients that send at once.
        #[arg(long, value_name = "N", default_value_t = 20)]
        clients: u64,
        /// Readings of all clients together.
        #[arg(long, value_name = "N", default_value_t = 300_000)]
        readings: u64,
        /// JSON lines.
        #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
        json: bool,
    },
    /// The time to find one record's way among those of many.
    #[command(after_help = "Example:\n  streammanager bench trace --records 10000000")]
    Trace {
        /// Records whose ways are kept, with two steps each.
        #[arg(long, value_name = "N", default_value_t = 10_000_000)]
        records: usize,
        /// JSON lines.
        #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
        json: bool,
    },
    /// Which share of two generated seasons' records finds its fire, and the right one.
    #[command(after_help = "Example:\n  streammanager bench joins --seed 1")]
    Joins {
        /// Decides everything that happens in them.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Detections whose ingest is timed, with fires and without.
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        rows: usize,
        /// JSON lines.
        #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
        json: bool,
    },
    /// The time to decide a record's tier, topic and throttle.
    #[command(after_help = "Example:\n  streammanager bench decide")]
    Decide {
        /// Records to decide.
        #[arg(long, value_name = "N", default_value_t = 10_000_000)]
        records: u64,
        /// JSON lines.
        #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Decides everything that happens: the same seed prints the same bytes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many seeds are run, one after the other, from this one on.
    #[arg(long, default_value_t = 1)]
    pub seeds: u64,
    /// Simulated days with faults; fractions too.
    #[arg(long, default_value_t = 7.0)]
    pub days: f64,
    /// Only this kind of fault strikes, over and over; it is named as in a report.
    #[arg(long)]
    pub only: Option<String>,
    /// One JSON object a seed.
    #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    /// The template whose deployment is paid for, instead of the one in this program (infra/template.yaml).
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
    /// A parameter of the template, instead of its default; again for each.
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = named_value)]
    pub parameters: Vec<(String, String)>,
    /// Simulated hours of the reference load that are counted.
    #[arg(long, default_value_t = 1.0, value_parser = simulated_hours)]
    pub hours: f64,
    /// One JSON object.
    #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

/// In less, calls that come every five minutes are not counted as often as they come; nobody waits for more than a week.
fn simulated_hours(text: &str) -> Result<f64, String> {
    let hours = text.parse::<f64>().ok().filter(|hours| (0.25..=168.0).contains(hours));
    hours.ok_or_else(|| "it must be a number of hours from 0.25 to 168".to_owned())
}

fn named_value(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "it must be NAME=VALUE".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a3_a_pace_is_what_the_template_takes() {
        for text in ["0", "-1", "1001", "2.5", "", "many"] {
            assert!(pace(text).is_err(), "{text}");
        }
        assert_eq!(["1", "1000"].map(|text| pace(text).map(NonZeroU32::get)), [Ok(1), Ok(1_000)]);
    }

    #[test]
    fn f10_hours_that_say_nothing_or_never_end_are_refused() {
        for hours in ["0", "-1", "0.2499", "168.1", "1e15", "NaN", "inf", "one"] {
            assert!(simulated_hours(hours).is_err(), "{hours}");
        }
        for hours in ["0.25", "1", "168"] {
            assert_eq!(simulated_hours(hours).ok(), hours.parse().ok());
        }
    }
}
