//! The sink seam: where records finally go, with an outcome for each [K1].

mod apart;
#[cfg(feature = "testing")]
pub mod conformance;
mod file;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(any(feature = "kafka", feature = "aws"))]
mod mending;

use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::{BackendError, Reason};
use crate::limits::RECORD_VALUE_BYTES;
pub use crate::record::envelope::{Sent, Written};
use crate::record::{Outgoing, Tier, Topic};
pub use apart::Apart;
pub use file::FileSink;
#[cfg(any(feature = "kafka", feature = "aws"))]
pub(crate) use mending::Mending;

/// What a system's records go to [K1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Topics of Kafka's brokers.
    Kafka,
    /// Streams of Kinesis, one a topic.
    Kinesis,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Kind; 2] = [Kind::Kafka, Kind::Kinesis];

    /// As settings and reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kafka => "kafka",
            Kind::Kinesis => "kinesis",
        }
    }

    /// As people call it.
    pub fn proper_name(self) -> &'static str {
        match self {
            Kind::Kafka => "Kafka",
            Kind::Kinesis => "Kinesis",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        let names = || Kind::ALL.map(Kind::name).join(" or ");
        Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| format!("{text:?} is not {}", names()))
    }
}

/// A sink keeps its lanes apart, so that bulk never stands before an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// For alerts alone, each sent at once.
    Critical,
    /// For all other tiers, in batches.
    Bulk,
}

impl Lane {
    /// Each of them.
    pub const ALL: [Lane; 2] = [Lane::Critical, Lane::Bulk];

    /// The lane that serves a tier.
    pub const fn of(tier: Tier) -> Lane {
        match tier {
            Tier::Critical => Lane::Critical,
            Tier::High | Tier::Normal | Tier::Low => Lane::Bulk,
        }
    }

    /// The other one.
    pub const fn other(self) -> Lane {
        match self {
            Lane::Critical => Lane::Bulk,
            Lane::Bulk => Lane::Critical,
        }
    }
}

/// What `check` found of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicReport {
    /// Its full name, with the stage's prefix.
    pub topic: String,
    /// Whether records can go there, and what was done for it.
    pub state: TopicState,
}

/// What was found of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TopicState {
    /// It has the expected number of partitions.
    Ready,
    /// It was missing and has just been made.
    Created,
    /// It is not there, and others make it.
    Missing,
    /// Exists with another number of partitions: used as it is, never repartitioned silently [K2].
    Differs {
        /// As many as it has.
        partitions: i32,
        /// As many as a new one gets.
        expected: i32,
    },
}

/// How far a consumer group has read in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The group's id.
    pub group: String,
    /// Whose partition it is.
    pub topic: Topic,
    /// The partition's number.
    pub partition: i32,
    /// The offset that the group reads next.
    pub committed: i64,
    /// The offset that the next record gets.
    pub end: i64,
}

/// Where records finally go; one outcome a record.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Whether this process sends at all. One that leaves that to others learns nothing of the sink, and has nothing to tell of it.
    fn sends(&self) -> bool {
        true
    }

    /// One outcome a record, in order. A record that is not acknowledged within a try's time ([`TRY`](crate::limits::TRY))
    /// is given up: it is `Retry`, and may have been written all the same. When the call returns, nothing of it is in flight.
    /// A call that is dropped ends by itself within the same time, and costs others that share the sink nothing.
    async fn send(&self, lane: Lane, records: &[Outgoing]) -> Vec<Sent>;

    /// Whether the sink can be reached, asked without sending anything.
    async fn answers(&self) -> bool;

    /// Reaches the sink, creates the topics of K2 that are missing, and reports each.
    async fn check(&self) -> Result<Vec<TopicReport>, BackendError>;

    /// Where the configured consumer groups are, in each partition of which they have read anything, in the order of group,
    /// topic and partition; nothing when none is configured, or the sink knows no consumers [Q4].
    async fn positions(&self) -> Result<Vec<Position>, BackendError>;
}

/// What no sink takes: a value beyond the contract's size, a header that Kafka could not carry.
pub(crate) fn refusal(record: &Outgoing) -> Option<Sent> {
    if record.value.len() > RECORD_VALUE_BYTES {
        let detail = format!("the value has {} bytes, {RECORD_VALUE_BYTES} at most", record.value.len());
        return Some(Sent::Refused(Reason::TooLarge, detail));
    }
    // A name that ends early would be another name, or a panic, in librdkafka.
    let (name, _) = record.extra.iter().find(|(name, _)| name.contains('\0'))?;
    Some(Sent::Refused(Reason::SinkRefused, format!("{name:?} is not a valid header name")))
}
