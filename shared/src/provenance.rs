//! What became of each record on its way, step by step [O4, O7]: a note a step and envelope, kept for whoever asks for one
//! event. It is a witness and never a condition: a note that cannot be kept is counted, and holds up no record.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::error::BackendError;
#[cfg(feature = "embedded")]
use crate::record::Topic;
use crate::record::{Envelope, EventId, Outgoing, StreamId, TenantId, Tier};
use crate::sink::{Sent, Written};
use crate::time::{self, Timestamp};

/// Where notes are kept.
#[async_trait]
pub trait Provenance: Send + Sync {
    /// Keeps a note; it never waits.
    fn note(&self, note: Note);

    /// The way of an event as far as it is kept, oldest step first; `None` where nothing is kept at all.
    ///
    /// # Errors
    /// When what is kept cannot be read.
    async fn way(&self, event: EventId) -> Result<Option<Vec<Step>>, BackendError>;
}

/// Keeps nothing: on AWS the logs and traces of the functions tell it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nowhere;

#[async_trait]
impl Provenance for Nowhere {
    fn note(&self, _: Note) {}

    async fn way(&self, _: EventId) -> Result<Option<Vec<Step>>, BackendError> {
        Ok(None)
    }
}

/// One step of the records of one envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub(crate) of: Of,
    pub(crate) records: Vec<Noted>,
    pub(crate) step: Stage,
}

/// What all records of the envelope share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Of {
    envelope: u128,
    stream: StreamId,
    tenant: TenantId,
    tier: Tier,
    traceparent: String,
    accepted_ms: i64,
}

/// What happened to all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// The tier's queue has acknowledged them.
    Queued { at_ms: i64 },
    /// The sink was tried; what became of each stands beside it.
    Sent { taken_ms: i64, at_ms: i64, receives: u32 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Noted {
    /// [`EventId::short`]
    pub event: u64,
    revision: u32,
    /// `None`: it was queued, and nothing more.
    sent: Option<SentAs>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SentAs {
    observed_ms: i64,
    published_ms: Option<i64>,
    topic: u8,
    outcome: Outcome,
}

/// What the sink made of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has it, and where, if it says so.
    Acknowledged(Option<Written>),
    /// It refused it for good, for this reason: it is a dead letter.
    Refused(String),
    /// It did not take it now: it goes on in an envelope of its own.
    NotTaken(String),
}

impl Note {
    /// The tier's queue has acknowledged the envelope at `at`; `records`: the event and revision of each.
    pub fn queued(envelope: &Envelope, records: impl Iterator<Item = (u64, u32)>, at: Timestamp) -> Note {
        Note {
            of: Of::new(envelope),
            records: records.map(|(event, revision)| Noted { event, revision, sent: None }).collect(),
            step: Stage::Queued { at_ms: at.as_millisecond() },
        }
    }

    /// The sink was tried with the envelope's records from `taken` on, and has answered at `at`.
    pub fn sent<'a>(
        envelope: &Envelope,
        records: impl Iterator<Item = (&'a Outgoing, &'a Sent)>,
        receives: u32,
        taken: Timestamp,
        at: Timestamp,
    ) -> Note {
        let noted = |(record, sent): (&Outgoing, &Sent)| Noted {
            event: record.event.short(),
            revision: record.revision,
            sent: Some(SentAs {
                observed_ms: record.observed_at.as_millisecond(),
                published_ms: record.published_at.map(Timestamp::as_millisecond),
                topic: record.topic.code(),
                outcome: match sent {
                    Sent::Acked(written) => Outcome::Acknowledged(*written),
                    Sent::Refused(reason, detail) => Outcome::Refused(format!("{reason}: {detail}")),
                    Sent::Retry(problem) => Outcome::NotTaken(problem.clone()),
                },
            }),
        };
        let (taken_ms, at_ms) = (taken.as_millisecond(), at.as_millisecond());
        Note {
            of: Of::new(envelope),
            records: records.map(noted).collect(),
            step: Stage::Sent { taken_ms, at_ms, receives },
        }
    }

    /// The step of one of its records; `None`: the note is of another format.
    #[cfg(feature = "embedded")]
    pub(crate) fn step(&self, record: usize) -> Option<Step> {
        let at = |ms| Timestamp::from_millisecond(ms).ok();
        let noted = self.records.get(record)?;
        let sent = match (&self.step, &noted.sent) {
            (Stage::Queued { .. }, _) | (_, None) => None,
            (Stage::Sent { taken_ms, receives, .. }, Some(sent)) => Some(SentStep {
                observed_at: at(sent.observed_ms)?,
                published_at: sent.published_ms.and_then(at),
                taken_at: at(*taken_ms)?,
                receives: *receives,
                topic: Topic::of_code(sent.topic)?.name(),
                outcome: sent.outcome.clone(),
            }),
        };
        let (Stage::Queued { at_ms } | Stage::Sent { at_ms, .. }) = self.step;
        let Of { envelope, stream, tenant, tier, traceparent, accepted_ms } = self.of.clone();
        Some(Step {
            at: at(at_ms)?,
            revision: noted.revision,
            envelope: Ulid(envelope),
            stream,
            tenant,
            tier,
            traceparent,
            accepted_at: at(accepted_ms)?,
            sent,
        })
    }
}

impl Of {
    fn new(envelope: &Envelope) -> Of {
        Of {
            envelope: envelope.id.0,
            stream: envelope.stream.clone(),
            tenant: envelope.tenant.clone(),
            tier: envelope.tier,
            traceparent: envelope.traceparent.as_str().to_owned(),
            accepted_ms: envelope.accepted_at.as_millisecond(),
        }
    }
}

/// One step of one record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// When it was done.
    #[serde(serialize_with = "time::serialize")]
    pub at: Timestamp,
    /// Of the event.
    pub revision: u32,
    /// Which travels in the queue; a remainder has one of its own.
    pub envelope: Ulid,
    /// The stream that it came in.
    pub stream: StreamId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Which queue it goes through.
    pub tier: Tier,
    /// Its trace in logs and headers [O5].
    pub traceparent: String,
    /// When it was in our hands [P1].
    #[serde(serialize_with = "time::serialize")]
    pub accepted_at: Timestamp,
    /// `None`: the queue has it.
    pub sent: Option<SentStep>,
}

/// What is known once the sink was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SentStep {
    /// When it happened, by the source.
    #[serde(serialize_with = "time::serialize")]
    pub observed_at: Timestamp,
    /// When the source published it, if it says so.
    #[serde(serialize_with = "time::serialize_optional")]
    pub published_at: Option<Timestamp>,
    /// When it was taken from the queue, or an alert sent for the first time.
    #[serde(serialize_with = "time::serialize")]
    pub taken_at: Timestamp,
    /// How often its envelope was received; 0 for an alert that went past the queue.
    pub receives: u32,
    /// Where it goes, without a prefix.
    pub topic: &'static str,
    /// What the sink made of it.
    pub outcome: Outcome,
}
