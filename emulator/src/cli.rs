//! The command surface of `ingest`, `decode` and what both read; a flag beats its environment variable. What a file holds
//! and where records go is named by flags alone: a variable meant for `up` must not decide that.

#[cfg(feature = "up")]
mod buffer;
#[cfg(feature = "up")]
mod dead_letters;
#[cfg(feature = "up")]
mod operate;
#[cfg(feature = "up")]
mod tap;
#[cfg(feature = "up")]
mod trace;
mod values;

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgGroup, Args, Parser, Subcommand};
use streammanager::record::SourceId;

#[cfg(feature = "up")]
pub(crate) use buffer::*;
#[cfg(feature = "up")]
pub(crate) use dead_letters::*;
#[cfg(feature = "up")]
pub(crate) use operate::*;
#[cfg(feature = "up")]
pub(crate) use tap::*;
#[cfg(feature = "up")]
pub(crate) use trace::*;

#[derive(Debug, Parser)]
#[command(
    name = "streammanager",
    version,
    about = "Wildfire data from unreliable sources into Kafka",
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Takes recorded files the whole way to the sink and waits for it.
    #[command(
        after_help = "Example:\n  streammanager ingest --source firms_viirs_noaa20 --out sink/ detections.csv.gz"
    )]
    Ingest(IngestArgs),
    /// Runs the whole system on this host until Ctrl-C: what infra/template.yaml says, with the functions' own handlers.
    #[cfg(feature = "up")]
    #[command(after_help = "Example:\n  streammanager up --demo")]
    Up(UpArgs),
    /// What waits, how long it can still wait, and how the broker is, of a running system.
    #[cfg(feature = "up")]
    #[command(after_help = "Example:\n  streammanager status")]
    Status(EndpointArgs),
    /// The same with every stream's polls and what is delivered, again and again until Ctrl-C.
    #[cfg(feature = "up")]
    #[command(after_help = "Example:\n  streammanager top --interval 5s")]
    Top(TopArgs),
    /// Registers, lists, starts and stops the polled streams of a running system.
    #[cfg(feature = "up")]
    #[command(subcommand, after_help = "Example:\n  streammanager streams status viirs-snpp")]
    Streams(StreamsCommand),
    /// Registers, lists, rotates and revokes senders and their keys.
    #[cfg(feature = "up")]
    #[command(
        subcommand,
        after_help = "Example:\n  streammanager connectors register butte --tenant butte --critical \\\n    --source evacuation_alert_butte --key-file butte.key"
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
    /// What comes over MQTT, live: each message as it is read, beside what was sent.
    #[cfg(feature = "up")]
    #[command(after_help = "Example:\n  streammanager tap --topic sensors/ridge/+/state --count 1")]
    Tap(TapArgs),
    /// One record's whole way: observed, published, in our hands, queued, taken, in Kafka, each step with its time.
    #[cfg(feature = "up")]
    #[command(
        after_help = "Example:\n  streammanager trace 0f6bb2a3f3c9d1f7a4f0a1c2b3d4e5f6\n  streammanager trace oes@butte.example,BUTTE-1"
    )]
    Trace(TraceArgs),
    /// Lists the audit log: refusals, grants, key changes.
    #[cfg(feature = "up")]
    #[command(subcommand, after_help = "Example:\n  streammanager audit list")]
    Audit(AuditCommand),
    /// Lists, explains, redrives and purges records that could never succeed.
    #[cfg(feature = "up")]
    #[command(subcommand, after_help = "Example:\n  streammanager dead-letters list --stream modis")]
    DeadLetters(DeadLettersCommand),
    /// Looks into a data folder's queues and state, proves them, mends them, and sends what waits there elsewhere.
    #[cfg(feature = "up")]
    #[command(subcommand, after_help = "Example:\n  streammanager buffer verify --data data")]
    Buffer(BufferCommand),
    /// Days of operation in simulated time under seeded faults, judged at every step: nothing is lost, late or out of order.
    #[cfg(feature = "up")]
    #[command(after_help = "Example:\n  streammanager simulate --days 1 --seed 7")]
    Simulate(SimulateArgs),
    /// What the deployment costs in a year on AWS, by service: messages and calls counted in simulated time, times list prices.
    #[cfg(feature = "up")]
    #[command(after_help = "Example:\n  streammanager cost --parameter ExpressProvisionedConcurrency=3")]
    Cost(CostArgs),
    /// Measures, each figure beside its baseline.
    #[cfg(feature = "up")]
    #[command(subcommand, after_help = "Example:\n  streammanager bench all --kafka 127.0.0.1:9092")]
    Bench(BenchCommand),
    /// Decodes and validates files: one JSON line a record on standard output, rejects on standard error.
    #[command(
        after_help = "Example:\n  streammanager decode --map day.html detections.csv perimeters.geojson alert.xml > day.ndjson"
    )]
    Decode(DecodeArgs),
}

// No doc comment: clap would show it as the description of the command.
#[derive(Debug, Args)]
pub(crate) struct InputArgs {
    #[arg(long, help = values::source_help())]
    pub source: Option<SourceId>,
    /// MQTT topic that the files' messages are taken to have come with, such as sensors/weather/w7/state; it names the
    /// source unless --source does.
    #[arg(long)]
    pub topic: Option<String>,
    /// Format of the files; auto goes by the source id, and where none is named `decode` by what stands in the file.
    #[arg(long, default_value = "auto", value_parser = values::formats())]
    pub format: String,
    /// Files to read; gzip too, `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    #[command(flatten)]
    pub input: InputArgs,
    /// Also draws them: a page that opens without a network (.html), or GeoJSON (.geojson). Again for both.
    #[arg(long, value_name = "FILE")]
    pub map: Vec<PathBuf>,
    /// Tries the sensor mappings of a streams file on messages that came with --topic.
    #[arg(long, value_name = "FILE", requires = "topic")]
    pub mapping: Option<PathBuf>,
    /// Rejects as {"reject": …} lines on standard error.
    #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("sink").required(true)))]
pub(crate) struct IngestArgs {
    #[command(flatten)]
    pub input: InputArgs,
    /// File with the connector's key; a critical source id needs one.
    #[arg(long, env = "STREAMMANAGER_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Data folder: queues, seen-sets and dead letters.
    #[arg(long, env = "STREAMMANAGER_DATA", value_name = "DIR", default_value = "data")]
    pub data: PathBuf,
    /// Sink: a folder with one TOPIC.ndjson a topic.
    #[arg(long, value_name = "DIR", group = "sink")]
    pub out: Option<PathBuf>,
    /// Sink: Kafka brokers, HOST:PORT with commas between; embedded:PORT is the endpoint of `up` on this host.
    #[arg(long, value_name = "BROKERS", group = "sink", value_parser = values::brokers)]
    pub kafka: Option<String>,
    /// Sink: Kinesis, one stream a topic: its URL, such as https://kinesis.us-west-2.amazonaws.com; the region is AWS_REGION.
    #[arg(long, value_name = "URL", group = "sink", value_parser = values::url)]
    pub kinesis: Option<String>,
    /// End with one JSON object on one line.
    #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}
