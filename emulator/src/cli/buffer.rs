//! Arguments of the commands for a data folder's buffer.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgGroup, Args, Subcommand};
use streammanager::record::{SourceId, Tier};
use streammanager::time::Timestamp;

use super::EndpointArgs;
use super::values::{brokers, url};

// No doc comment: clap would show it as the description of the command. The folder, which nobody else may use meanwhile.
#[derive(Debug, Args)]
pub(crate) struct FolderArgs {
    /// Data folder; no system may run on it meanwhile.
    #[arg(long, env = "STREAMMANAGER_DATA", value_name = "DIR", default_value = "data")]
    pub data: PathBuf,
    /// The answer as JSON.
    #[arg(long, env = "STREAMMANAGER_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BufferCommand {
    /// What waits in each queue, what the state holds, and the room on the disk; of a running system, or of a folder, also
    /// a damaged one.
    #[command(after_help = "Example:\n  streammanager buffer inspect --data data")]
    Inspect {
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// Reads everything: checksums, envelopes, the stored bytes of dead letters. Exit code 3 when something is wrong, each
    /// damaged range named.
    #[command(after_help = "Example:\n  streammanager buffer verify --data data")]
    Verify {
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// Writes everything readable into a new database, and keeps the old one beside it under another name. Shows first what
    /// it would do, and asks.
    #[command(after_help = "Example:\n  streammanager buffer repair --data data")]
    Repair {
        #[command(flatten)]
        folder: FolderArgs,
        /// Without the question, for scripts.
        #[arg(long)]
        yes: bool,
    },
    /// Sends what waits to a sink without a running system, CRITICAL first, each queue in its order. The folder keeps it, and
    /// sends it again when it is used, unless --forget is given.
    #[command(
        after_help = "Example:\n  streammanager buffer replay --data data --tier CRITICAL --kafka 127.0.0.1:9092"
    )]
    Replay(ReplayArgs),
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("to").required(true)))]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub folder: FolderArgs,
    /// Kafka brokers, HOST:PORT with commas between.
    #[arg(long, value_name = "BROKERS", group = "to", value_parser = brokers)]
    pub kafka: Option<String>,
    /// Kinesis, one stream a topic: its URL; the region is AWS_REGION.
    #[arg(long, value_name = "URL", group = "to", value_parser = url)]
    pub kinesis: Option<String>,
    /// A new file, one JSON object a record and line.
    #[arg(long, value_name = "FILE", group = "to")]
    pub out: Option<PathBuf>,
    /// Only this tier's records: CRITICAL, HIGH, NORMAL or LOW.
    #[arg(long, value_name = "TIER", value_parser = tier)]
    pub tier: Option<Tier>,
    /// Only records of this source id.
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<SourceId>,
    /// Only what was accepted from then on, such as 2026-11-28T10:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: Option<Timestamp>,
    /// Only what was accepted before then.
    #[arg(long, value_name = "TIME")]
    pub until: Option<Timestamp>,
    /// Takes a message out of the folder once the sink has acknowledged all of its records.
    #[arg(long)]
    pub forget: bool,
}

fn tier(text: &str) -> Result<Tier, &'static str> {
    let named = Tier::ALL.into_iter().find(|tier| tier.name().eq_ignore_ascii_case(text));
    named.ok_or("write CRITICAL, HIGH, NORMAL or LOW")
}
