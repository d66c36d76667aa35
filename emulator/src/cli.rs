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
