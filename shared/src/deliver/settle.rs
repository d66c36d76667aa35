//! One envelope's way: unpack, send with its tries, account for every record, and only then let the queue forget [Q1].

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use ulid::Ulid;

use crate::app::App;
use crate::breaker::BreakerState;
use crate::dead;
use crate::deliver::retry;
use crate::deliver::tally::Settled;
use crate::deliver::urgency::Urgency;
use crate::error::BackendError;
use crate::express::marks;
use crate::limits::ENVELOPE_ZSTD_LEVEL;
use crate::provenance::Note;
use crate::queue::{Body, Message, QueueRef, Receipt, Settle, send_one};
use crate::record::{Envelope, Outgoing, Tier};
use crate::sink::{Lane, Sent};
use crate::store::Store;
use crate::time::Timestamp;

/// A CRITICAL envelope whose thread has an older one elsewhere in the queue is looked at again after this [E4].
const ORDER_WAIT: Duration = Duration::from_millis(500);
/// So is the copy of an alert whose try at the broker has not ended yet.
const COPY_WAIT: Duration = Duration::from_millis(50);
/// A CRITICAL envelope of which the sink took nothing is tried again after this, without being received again [R2].
const CRITICAL_AGAIN: Duration = Duration::from_secs(1);
/// In hand longer than this it goes first all the same. The older one can be hidden, by a receive whose answer was lost,
/// for as long as its visibility lasts, and a second time.
const ORDER_PATIENCE: Duration = Duration::from_secs(75);

/// An envelope in hand.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub envelope: Envelope,
    pub receipt: Receipt,
    pub receives: u32,
    /// CRITICAL: the alert's thread, of which only one message is in work at a time [E4].
    pub thread: Option<String>,
    pub urgency: Urgency,
    /// Since then more urgent alerts may have gone before it [P7].
    pub overtaken_since: Instant,
    pub taken_at: Instant,
    /// Not in work before this.
    pub due: Instant,
}

impl Held {
    /// The same, not in work before `wait` has passed.
    fn later(self, wait: Duration) -> Held {
        Held { due: Instant::now() + wait, ..self }
    }
}

/// What became of an envelope in work.
#[derive(Debug)]
pub(crate) enum Worked {
    /// The queue has forgotten it; of its records so many are acknowledged or dead letters.
    Settled { records: u64 },
    /// To be tried later: for another one's sake, or because the sink took nothing.
    Waits(Box<Held>),
    /// The sink took nothing, and the queue hides it for a while.
    Hidden,
}

/// Sends one envelope and settles it. `critical_here`: of a CRITICAL one, how many messages of its queue this process holds.
/// An `Err` means that the queue or the store is away; the envelope comes back by itself.
pub(crate) async fn work(app: &App, held: Held, critical_here: usize) -> Result<Worked, BackendError> {
    let queue = app.settings.queues.tier(held.envelope.tier);
    if app.tries.is_under_way(held.envelope.id) {
        return Ok(Worked::Waits(held.later(COPY_WAIT).into()));
    }
    if held.envelope.tier == Tier::Critical && marks::is_void(&*app.store, held.envelope.id).await {
        app.queue.settle(queue, &[(held.receipt, Settle::Forget)]).await?;
        left(&*app.store, held.thread.as_deref(), held.envelope.id).await?;
        return Ok(Worked::Settled { records: 0 });
    }
    if let Some(thread) = &held.thread
        && held.taken_at.elapsed() < ORDER_PATIENCE
        && let Some(elder) = marks::elder(&*app.store, thread, held.envelope.id).await
        && !is_gone(app, queue, elder, critical_here).await
    {
        return Ok(Worked::Waits(held.later(ORDER_WAIT).into()));
    }
    match held.envelope.unpack() {
        Ok(mut records) => {
            let now = app.clock.now();
            records.iter_mut().for_each(|record| record.mark_expired(now));
            let outcomes = retry::send(app, Lane::of(held.envelope.tier), &records).await;
            settle(app, queue, held, records, outcomes).await
        }
        Err(e) => {
            let raw = held.envelope.encode().unwrap_or_default();
            bury_unreadable(app, queue, raw, &e.to_string()).await?;
            app.queue.settle(queue, &[(held.receipt, Settle::Forget)]).await?;
            Ok(Worked::Settled { records: u64::from(held.envelope.count) })
        }
    }
}

/// A crash can leave a mark without a message: no alert waits for what is not there. Everything that is queued is then in
/// hand, as far as the queue's count reaches back to when the mark was made.
async fn is_gone(app: &App, queue: &QueueRef, elder: Timestamp, critical_here: usize) -> bool {
    app.clock.since(elder) >= app.queue.counts_lag()
        && app.queue.depth(queue).await.is_ok_and(|depth| depth.total() <= critical_here as u64)
}

async fn settle(
    app: &App,
    queue: &QueueRef,
    held: Held,
    records: Vec<Outgoing>,
    outcomes: Vec<Sent>,
) -> Result<Worked, BackendError> {
    let latency = app.clock.since(held.envelope.accepted_at);
    witness(app, &held, &records, &outcomes);
    let (mut remainder, mut refused) = (Vec::new(), Vec::new());
    let mut topics: BTreeMap<&str, u64> = BTreeMap::new();
    for (record, outcome) in records.iter().zip(outcomes) {
        match outcome {
            Sent::Acked(_) => *topics.entry(record.topic.name()).or_default() += 1,
            Sent::Retry(_) => remainder.push(record.clone()),
            Sent::Refused(reason, detail) => refused.push((record.clone(), reason, detail)),
        }
    }
    let forget = (held.receipt.clone(), Settle::Forget);
    if remainder.len() == records.len() && !remainder.is_empty() {
        let tier = held.envelope.tier;
        return match app.breakers.lane(Lane::of(tier)).state() {
            _ if tier == Tier::Critical => Ok(Worked::Waits(held.later(CRITICAL_AGAIN).into())),
            // Others get through, so only what this one needs is away: it makes room, and must not use up its receives in
            // haste [R4].
            BreakerState::Closed => {
                let again = Settle::Extend(again_after(held.receives));
                app.queue.settle(queue, &[(held.receipt, again)]).await.map(|()| Worked::Hidden)
            }
            // It is what the next probe is made with: kept in hand, however long the outage is, it is received once.
            BreakerState::Open | BreakerState::HalfOpen => Ok(Worked::Waits(held.into())),
        };
    }
    let refused_count = refused.len() as u64;
    if !refused.is_empty() {
        dead::bury_refused(app, &held.envelope.stream, &held.envelope.tenant, refused).await?;
    }
    if !remainder.is_empty() {
        send_remainder(app, queue, &held.envelope, &remainder).await?;
    }
    app.queue.settle(queue, &[forget]).await?;
    let repeated = held.receives > 1;
    app.tally.add(&Settled { tier: held.envelope.tier, topics: &topics, refused: refused_count, repeated, latency });
    left(&*app.store, held.thread.as_deref(), held.envelope.id).await?;
    Ok(Worked::Settled { records: (records.len() - remainder.len()) as u64 })
}

/// Tells the ledger of latencies [O4]. A try of which the sink took nothing is no step: in an outage it would be made for hours.
fn witness(app: &App, held: &Held, records: &[Outgoing], outcomes: &[Sent]) {
    if outcomes.iter().all(|outcome| matches!(outcome, Sent::Retry(_))) {
        return;
    }
    let (envelope, now) = (&held.envelope, app.clock.now());
    let taken = now - held.taken_at.elapsed();
    let stage =
        |stage| metrics::histogram!("stream_stage_seconds", "priority" => envelope.tier.name(), "stage" => stage);
    let seconds = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64().max(0.0);
    let (published, fetched) = (stage("published"), stage("fetched"));
    for (record, _) in records.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_acked()) {
        if let Some(at) = record.published_at {
            published.record(seconds(record.observed_at, at));
        }
        fetched.record(seconds(record.published_at.unwrap_or(record.observed_at), record.ingested_at));
    }
    stage("waited").record_many(seconds(envelope.accepted_at, taken), records.len());
    stage("sent").record_many(seconds(taken, now), records.len());
    app.provenance.note(Note::sent(envelope, records.iter().zip(outcomes), held.receives, taken, now));
}

/// The queue has forgotten the envelope: no message of its thread waits for it any more [E4].
async fn left(store: &dyn Store, thread: Option<&str>, id: Ulid) -> Result<(), BackendError> {
    match thread {
        Some(thread) => marks::left_queue(store, thread, id).await,
        None => Ok(()),
    }
}

/// Until an envelope is tried again of which the sink took nothing, although it takes others: 2 s, doubled each time.
fn again_after(receives: u32) -> Duration {
    const LONGEST: Duration = Duration::from_secs(5 * 60);
    Duration::from_secs(1 << receives.min(10)).min(LONGEST)
}

/// What is left of an envelope goes on as a new one with the same age, before the old one is forgotten [Q1].
async fn send_remainder(app: &App, queue: &QueueRef, of: &Envelope, records: &[Outgoing]) -> Result<(), BackendError> {
    let id = app.rng.ulid(app.clock.now());
    let rest = Envelope::pack(
        id,
        of.stream.clone(),
        of.tenant.clone(),
        of.tier,
        of.accepted_at,
        of.traceparent.clone(),
        records,
        ENVELOPE_ZSTD_LEVEL,
    )
    .and_then(|rest| rest.encode())
    .map_err(|e| BackendError::Fatal(e.to_string()))?;
    send_one(&*app.queue, queue, Message::now(Body::Binary(rest))).await
}

/// A message that this program cannot read is kept whole for an operator; it must not be tried for ever.
pub(crate) async fn bury_unreadable(
    app: &App,
    queue: &QueueRef,
    raw: Bytes,
    problem: &str,
) -> Result<(), BackendError> {
    tracing::error!(%queue, problem, "a message is not an envelope that this program can read");
    dead::bury_unreadable(app, raw, format!("a message of {queue}: {problem}")).await
}
