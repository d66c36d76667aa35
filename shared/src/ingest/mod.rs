//! The first half: decode → validate → dedup → enrich → route → pack → queue. Done when the queue has acknowledged; what
//! can never be accepted goes to the dead letters. Nothing here knows a sink.

mod batches;
pub mod dedup;
mod host;
mod label;
pub mod pack;
pub mod place;
pub mod poll;
mod pressure;
pub mod room;
pub mod validate;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::app::App;
use crate::control::audit::{self, Action};
use crate::dead::Buried;
use crate::decode::Row;
use crate::error::{BackendError, Reason, Reject};
use crate::limits::{LONGEST_EXPECTED_WAIT, QUEUE_BATCH};
use crate::provenance::Note;
use crate::queue::{Body, Message, SendError};
use crate::record::{Draft, Envelope, Record, SourceId, Stream, Tier, WhenFull};
use crate::sources::{self, DRILL};
use crate::time::Timestamp;
use dedup::Seen;

/// What became of a body's rows. Laws: `decoded = accepted + duplicates + rejected`, `accepted = new + revisions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Rows of the body, readable or not.
    pub decoded: u64,
    /// Records that the queues have acknowledged.
    pub accepted: u64,
    /// Of these, events that were not known before.
    pub new: u64,
    /// Of these, changes of a known event [S12].
    pub revisions: u64,
    /// Rows that say what is known already.
    pub duplicates: u64,
    /// Rows that can never be accepted; they are dead letters.
    pub rejected: u64,
    /// The rejected rows by their reason.
    pub rejected_by_reason: BTreeMap<Reason, u64>,
    /// Of the rejected, those that became dead letters now: a bad row is read again at every poll. Rows beyond what may be kept
    /// are never among them, since nothing tells whether they are new.
    pub rejected_first: u64,
    /// The accepted records by their tier.
    pub tiers: BTreeMap<Tier, u64>,
}

impl Ledger {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Ledger) {
        self.decoded += other.decoded;
        self.accepted += other.accepted;
        self.new += other.new;
        self.revisions += other.revisions;
        self.duplicates += other.duplicates;
        self.rejected += other.rejected;
        self.rejected_first += other.rejected_first;
        for (reason, n) in &other.rejected_by_reason {
            *self.rejected_by_reason.entry(*reason).or_default() += n;
        }
        for (tier, n) in &other.tiers {
            *self.tiers.entry(*tier).or_default() += n;
        }
    }

    fn reject(&mut self, reason: Reason) {
        self.rejected += 1;
        *self.rejected_by_reason.entry(reason).or_default() += 1;
    }
}

/// Why ingest stopped. Everything accepted until then is durable and in the ledger; the rest may be offered again.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A tier takes nothing new: the caller waits, or pushes back [Q2].
    #[error(transparent)]
    Full(#[from] NoRoom),
    /// Queue or store are away; what was sent is sent again, with the same `event_id` and `revision`.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Why a tier takes nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Its queue holds as many messages as it may [Q2].
    #[error("the {0} queue is full")]
    Queue(Tier),
    /// A record would wait too long for its turn [P6].
    #[error("so many {0} records wait that a new one would not be served within {minutes} minutes", minutes = LONGEST_EXPECTED_WAIT.as_secs() / 60)]
    Time(Tier),
}

/// Takes `rows` the whole way into the queues, batch by batch: each is acknowledged by its queue before the seen-set learns of it
/// and before the next one is sent [Q1].
/// `ledger` and `seen` tell what was done, also when it fails half-way.
pub async fn ingest(
    app: &App,
    stream: &Stream,
    seen: &mut Seen,
    ledger: &mut Ledger,
    rows: impl Iterator<Item = Row>,
) -> Result<(), IngestError> {
    let before = ledger.accepted;
    let taken = batches::take(app, stream, seen, ledger, rows).await;
    seen.leave(&*app.store, &app.clock).await;
    // A poll that reads what is known already serves nobody, and there is one every minute.
    if ledger.accepted > before && sources::route(&stream.source, stream.granted).is_ok_and(|route| route.audited) {
        let detail = "its connector holds no critical grant";
        let (id, source) = (stream.id.as_str(), stream.source.as_str());
        audit::write_bounded(app, Action::ServedAsHigh, id, id, source, detail).await?;
    }
    taken
}

/// Queues one record whose identity its caller has judged, such as a drill [E4]. `Err` inside: no envelope can hold it.
pub(crate) async fn queue_one(app: &App, stream: &Stream, record: &Record) -> Result<Result<(), Reject>, IngestError> {
    let (envelopes, refused) = pack::pack(&app.settings, &app.rng, stream, record.ingested_at, vec![record.clone()]);
    if let Some(rejected) = refused.into_iter().next() {
        return Ok(Err(rejected.into_reject()));
    }
    send(app, stream, &envelopes).await.failure?;
    envelopes.iter().for_each(|packed| note_queued(app, packed));
    app.tally.accepted(1, u64::from(record.revision > 0));
    count_processed(&record.draft.source, 1);
    Ok(Ok(()))
}

/// Enriches and routes: the tier is decided here, once [P3].
pub fn enrich(draft: Draft, revision: u32, stream: &Stream, now: Timestamp) -> Result<Record, Reject> {
    let granted = sources::route(&draft.source, stream.granted).map_err(|reject| draft.refused(reject))?;
    let route = match &draft.alert {
        Some(alert) if alert.is_drill() => DRILL,
        _ => granted,
    };
    let place = draft.position.map(place::place);
    let (source_name, tier, topic) = (granted.name, route.tier, route.topic);
    let tenant = stream.tenant.clone();
    Ok(Record { draft, revision, tenant, source_name, tier, topic, place, incident: None, ingested_at: now })
}

/// Its queue has acknowledged the envelope [O4].
fn note_queued(app: &App, packed: &pack::Packed) {
    let records = packed.ids.iter().map(|id| (id.key, id.revision));
    app.provenance.note(Note::queued(&packed.envelope, records, app.clock.now()));
}

struct SentEnvelopes {
    acknowledged: Vec<bool>,
    failure: Result<(), IngestError>,
}

/// How long a poller waits before it offers an envelope to a full queue again.
const FULL_WAIT: Duration = Duration::from_millis(50);

async fn send(app: &App, stream: &Stream, envelopes: &[pack::Packed]) -> SentEnvelopes {
    let mut acknowledged = vec![false; envelopes.len()];
    let mut failure = Ok(());
    for tier in Tier::ALL {
        let mut open: Vec<usize> = (0..envelopes.len()).filter(|&i| envelopes[i].envelope.tier == tier).collect();
        while !open.is_empty() && failure.is_ok() {
            let chunk: Vec<usize> = open.iter().copied().take(QUEUE_BATCH).collect();
            let message = chunk.iter().map(|&i| &envelopes[i].envelope);
            match offer(app, tier, message).await {
                Ok(outcomes) => {
                    let mut full = None;
                    for (&i, outcome) in chunk.iter().zip(outcomes) {
                        match outcome {
                            Offered::Taken => acknowledged[i] = true,
                            Offered::NoRoom(why) => full = Some(why),
                            Offered::Refused(e) => {
                                failure = Err(BackendError::Retry(format!("{tier} queue: {e}")).into())
                            }
                        }
                    }
                    open.retain(|&i| !acknowledged[i]);
                    match (full, stream.when_full) {
                        (Some(why), WhenFull::Refuse) => failure = Err(why.into()),
                        (Some(_), WhenFull::Wait) => tokio::time::sleep(FULL_WAIT).await,
                        (None, _) => {}
                    }
                }
                Err(e) => failure = Err(e.into()),
            }
        }
    }
    SentEnvelopes { acknowledged, failure }
}

/// What became of an envelope that was offered to its queue.
enum Offered {
    Taken,
    NoRoom(NoRoom),
    Refused(SendError),
}

async fn offer<'a>(
    app: &App,
    tier: Tier,
    envelopes: impl ExactSizeIterator<Item = &'a Envelope>,
) -> Result<Vec<Offered>, BackendError> {
    if !app.room.takes(tier, &*app.store, &app.clock).await {
        return Ok(envelopes.map(|_| Offered::NoRoom(NoRoom::Time(tier))).collect());
    }
    let messages: Vec<Message> = envelopes
        .map(|envelope| envelope.encode().map(|bytes| Message::now(Body::Binary(bytes))))
        .collect::<Result<_, _>>()
        .map_err(|e| BackendError::Fatal(e.to_string()))?;
    let outcomes = app.queue.send(app.settings.queues.tier(tier), &messages).await?;
    let offered = |outcome| match outcome {
        Ok(()) => Offered::Taken,
        Err(SendError::Full) => Offered::NoRoom(NoRoom::Queue(tier)),
        Err(problem) => Offered::Refused(problem),
    };
    Ok(outcomes.into_iter().map(offered).collect())
}

pub(crate) fn count_failed(source: &str, reason: Reason, records: u64) {
    metrics::counter!("stream_records_failed_total", "source_id" => label::of(source), "error_type" => reason.code())
        .increment(records);
}

pub(crate) fn count_processed(source: &SourceId, records: u64) {
    metrics::counter!("stream_records_processed_total", "source_id" => label::of(source.as_str())).increment(records);
}

/// A bad row counts as failed once, when its dead letter is stored, not at every poll that reads it again. Beyond what may be
/// kept it counts at every reading, and in `stream_dlq_beyond_total` alone.
fn count(stream: &Stream, ledger: &Ledger, buried: &Buried) {
    count_processed(&stream.source, ledger.accepted);
    for (reason, n) in &buried.first {
        count_failed(stream.source.as_str(), *reason, *n);
    }
    metrics::histogram!("stream_batch_size").record(ledger.decoded as f64);
}
