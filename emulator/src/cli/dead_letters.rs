//! Arguments of the commands for dead letters.

use clap::{Args, Subcommand};
use streammanager::error::Reason;
use streammanager::record::{EventId, StreamId};
use streammanager::schedule::file::Interval;
use streammanager::settings::GivenUp;

use super::EndpointArgs;

// No doc comment: clap would show it as the description of the command. Which letters are meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct ChosenArgs {
    /// Ids, as `dead-letters list` shows them; alerts are redriven by their ids alone.
    #[arg(value_name = "ID", conflicts_with_all = ["stream", "reason", "all"])]
    pub ids: Vec<EventId>,
    /// Those of this stream.
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    pub stream: Option<StreamId>,
    /// Those with this reason, such as bad_latitude.
    #[arg(long, value_name = "CODE", conflicts_with = "all")]
    pub reason: Option<Reason>,
    /// All of them.
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GivenUpCommand {
    /// Each of these queues: how many messages lie in it, and since when the oldest of the first ten.
    #[command(after_help = "Example:\n  streammanager dead-letters queues list")]
    List {
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// The first messages of a queue: an envelope's head, or its text. For that moment nobody else sees them.
    #[command(after_help = "Example:\n  streammanager dead-letters queues show ticks --max 10")]
    Show {
        /// As `dead-letters queues list` names it.
        queue: GivenUp,
        /// So many at most.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
        max: u16,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// Moves a queue's messages back to where they came from, to be taken again; sensors' failures are looked up once more in
    /// their stream, or taken from the message itself.
    #[command(after_help = "Example:\n  streammanager dead-letters queues redrive express-retry")]
    Redrive {
        /// As `dead-letters queues list` names it.
        queue: GivenUp,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// Rejected records, each with its reason, how often it was seen and when last; with --json one object a line.
    #[command(after_help = "Example:\n  streammanager dead-letters list --stream modis")]
    List {
        /// Only this stream's.
        #[arg(long, value_name = "ID")]
        stream: Option<StreamId>,
        /// Only those with this reason, such as bad_latitude.
        #[arg(long, value_name = "CODE")]
        reason: Option<Reason>,
        /// Ends after so many letters.
        #[arg(long, value_name = "N")]
        max: Option<usize>,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// One record with everything known of it, and its bytes: as text, or as base64 where they are none.
    #[command(
        after_help = "Example:\n  streammanager dead-letters show 0123456789abcdef0123456789abcdef --raw > bytes"
    )]
    Show {
        /// Id of the dead letter, as `dead-letters list` shows it.
        id: EventId,
        /// Only its bytes, as they came.
        #[arg(long)]
        raw: bool,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// What is wrong, fault by fault: how many letters have it, since when, an example, and what to do about it.
    #[command(after_help = "Example:\n  streammanager dead-letters explain")]
    Explain {
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// Reads letters again after their fault was mended, at most 50 a second; what fails again stays a dead letter. With
    /// --json one object a letter and line.
    #[command(after_help = "Example:\n  streammanager dead-letters redrive --stream modis --reason bad_time")]
    Redrive {
        #[command(flatten)]
        chosen: ChosenArgs,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// Messages that no function could take in all its tries: they lie in queues which nobody reads.
    #[command(subcommand, after_help = "Example:\n  streammanager dead-letters queues list")]
    Queues(GivenUpCommand),
    /// Deletes letters and their bytes for good, after a question.
    #[command(after_help = "Example:\n  streammanager dead-letters purge --reason not_data --older-than 7d")]
    Purge {
        #[command(flatten)]
        chosen: ChosenArgs,
        /// Only letters that were last seen longer ago than this, such as 7d.
        #[arg(long, value_name = "TIME", value_parser = Interval::parse, conflicts_with = "ids")]
        older_than: Option<Interval>,
        /// Without the question, for scripts.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
}
