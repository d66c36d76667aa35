//! One envelope's way: unpack, send with its tries, account for every record, and only then let the queue forget [Q1].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
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
use crate::limits::VISIBILITY;
use crate::provenance::Note;
use crate::queue::{Body, QueueRef, Receipt, Remains, Settle};
use crate::record::envelope::Unreadable;
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

/// The messages of the CRITICAL queue that this process holds, by their envelopes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Here(Arc<Mutex<BTreeSet<Ulid>>>);

impl Here {
    pub(crate) fn holds(&self, id: Ulid) {
        self.0.lock().insert(id);
    }

    /// Before the queue forgets it.
    pub(crate) fn leaves(&self, id: Ulid) {
        self.0.lock().remove(&id);
    }

    fn ids(&self) -> BTreeSet<Ulid> {
        self.0.lock().clone()
    }
}

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
    /// How often in a row the sink took nothing of it.
    pub failed: u32,
    /// How often of these while it took others.
    pub put_off: u32,
    /// CRITICAL: what else is held.
    pub here: Here,
}

impl Held {
    /// The same, not in work before `wait` has passed.
    fn later(self, wait: Duration) -> Held {
        Held { due: Instant::now() + wait, ..self }
    }

    /// The same, to be tried again, each time after a longer wait.
    fn put_off(self) -> Held {
        let put_off = self.put_off + 1;
        Held { put_off, ..self }.later(again_after(put_off))
    }
}

/// What became of an envelope in work; `records` of it are acknowledged or dead letters.
#[derive(Debug)]
pub(crate) enum Worked {
    /// The queue has forgotten it.
    Settled { records: u64 },
    /// To be tried later, what is left of it: for another one's sake, or because the sink did not take it.
    Waits { held: Box<Held>, records: u64 },
    /// The queue has what is left of it, hidden for a while.
    Hidden { records: u64 },
}

impl Worked {
    fn waits(held: Held) -> Worked {
        Worked::Waits { held: held.into(), records: 0 }
    }

    /// How many of its records are accounted for now.
    pub(crate) fn records(&self) -> u64 {
        match self {
            Worked::Settled { records } | Worked::Waits { records, .. } | Worked::Hidden { records } => *records,
        }
    }
}

/// Sends an alert's envelope and settles it.
///
/// # Errors
/// When the queue or the store is away; the envelope comes back by itself.
pub(crate) async fn alert(app: &App, held: Held) -> Result<Worked, BackendError> {
    let queue = app.settings.queues.tier(Tier::Critical);
    if app.tries.is_under_way(held.envelope.id) {
        return Ok(Worked::waits(held.later(COPY_WAIT)));
    }
    if marks::is_void(&*app.store, held.envelope.id).await {
        held.here.leaves(held.envelope.id);
        app.queue.settle(queue, &[(held.receipt, Settle::Forget)]).await?;
        left(&*app.store, held.thread.as_deref(), held.envelope.id).await?;
        return Ok(Worked::Settled { records: 0 });
    }
    if let Some(thread) = &held.thread
        && held.taken_at.elapsed() < ORDER_PATIENCE
        && let Some(elder) = marks::elder(&*app.store, thread, held.envelope.id).await
        && !is_gone(app, queue, elder, &held.here).await
    {
        return Ok(Worked::waits(held.later(ORDER_WAIT)));
    }
    send(app, vec![held]).await.pop().unwrap_or(Ok(Worked::Settled { records: 0 }))
}

/// Sends envelopes of one tier as one try and settles each. One outcome an envelope, in order.
///
/// # Errors
/// When the queue or the store is away; the envelope comes back by itself.
pub(crate) async fn send(app: &App, run: Vec<Held>) -> Vec<Result<Worked, BackendError>> {
    let Some(tier) = run.first().map(|held| held.envelope.tier) else { return Vec::new() };
    let now = app.clock.now();
    let mut records = Vec::new();
    let mut counts = Vec::with_capacity(run.len());
    for held in &run {
        let unpacked = app.fresh.take(&held.envelope).map_or_else(|| held.envelope.unpack(), Ok);
        counts.push(unpacked.as_ref().map(Vec::len).map_err(ToString::to_string));
        match unpacked {
            Ok(unpacked) if records.is_empty() => records = unpacked,
            unpacked => records.extend(unpacked.unwrap_or_default()),
        }
    }
    records.iter_mut().for_each(|record| record.mark_expired(now));
    let mut outcomes = retry::send(app, Lane::of(tier), &records).await;
    // Side by side, so that they share a commit.
    let settling = run.into_iter().zip(counts).map(|(held, count)| {
        let whose = *count.as_ref().unwrap_or(&0);
        let (records, outcomes) = (first(&mut records, whose), first(&mut outcomes, whose));
        async move {
            match count {
                Ok(_) if held.envelope.in_order && tier != Tier::Critical => {
                    let whole = Held { failed: held.failed + 1, ..held.clone() };
                    settle(app, held, records, outcomes).await.or_else(|problem| {
                        tracing::warn!(%problem, "an envelope could not be settled and stays before its stream");
                        // As late as one that comes back by itself: what was acknowledged of it is repeated.
                        Ok(Worked::waits(whole.later(VISIBILITY)))
                    })
                }
                Ok(_) => settle(app, held, records, outcomes).await,
                Err(problem) => set_aside(app, held, &problem).await,
            }
        }
    });
    join_all(settling.collect::<Vec<_>>()).await
}

/// Takes out the first `count`; nothing is moved where these are all.
fn first<T>(of: &mut Vec<T>, count: usize) -> Vec<T> {
    let rest = of.split_off(count.min(of.len()));
    std::mem::replace(of, rest)
}

/// An envelope whose body cannot be read is a dead letter.
async fn set_aside(app: &App, held: Held, problem: &str) -> Result<Worked, BackendError> {
    let queue = app.settings.queues.tier(held.envelope.tier);
    let raw = held.envelope.encode().unwrap_or_default();
    bury_unreadable(app, queue, raw, problem).await?;
    held.here.leaves(held.envelope.id);
    app.queue.settle(queue, &[(held.receipt, Settle::Forget)]).await?;
    Ok(Worked::Settled { records: u64::from(held.envelope.count) })
}

/// A crash can leave a mark without a message: no alert waits for what is not there. Everything that is queued is then in
/// hand, as far as the queue's count reaches back to when the mark was made. What came or left while it counted does not count.
async fn is_gone(app: &App, queue: &QueueRef, elder: Timestamp, here: &Here) -> bool {
    let before = here.ids();
    let Ok(depth) = app.queue.depth(queue).await else { return false };
    let throughout = before.intersection(&here.ids()).count() as u64;
    app.clock.since(elder) >= app.queue.counts_lag() && depth.total() <= throughout
}

async fn settle(
    app: &App,
    mut held: Held,
    records: Vec<Outgoing>,
    outcomes: Vec<Sent>,
) -> Result<Worked, BackendError> {
    let tier = held.envelope.tier;
    let queue = app.settings.queues.tier(tier);
    let latency = app.clock.since(held.envelope.accepted_at);
    witness(app, &held, &records, &outcomes);
    let (mut remainder, mut refused) = (Vec::new(), Vec::new());
    let mut topics: BTreeMap<&str, u64> = BTreeMap::new();
    for (record, outcome) in records.iter().zip(outcomes) {
        match outcome {
            Sent::Acked(_) => *topics.entry(record.topic.name()).or_default() += 1,
            Sent::Retry(_) => remainder.push(record.clone()),
            Sent::Refused(reason, detail) => {
                refused.push(dead::Rejected::refused(&held.envelope.stream, record.clone(), reason, detail));
            }
        }
    }
    let done = (records.len() - remainder.len()) as u64;
    let refused_count = refused.len() as u64;
    if !refused.is_empty() {
        dead::bury_refused(app, &held.envelope.stream, &held.envelope.tenant, refused).await?;
    }
    let mut remains = Remains::InPlace;
    if remainder.is_empty() {
        held.here.leaves(held.envelope.id);
        app.queue.settle(queue, &[(held.receipt.clone(), Settle::Forget)]).await?;
    } else if done > 0 {
        let fatal = |e: Unreadable| BackendError::Fatal(e.to_string());
        held.envelope = held.envelope.remainder(&remainder).map_err(fatal)?;
        let rest = held.envelope.encode().map_err(fatal)?;
        remains = app.queue.replace(queue, &held.receipt, Body::Binary(rest)).await?;
    }
    if done > 0 {
        let repeated = held.receives > 1;
        app.tally.add(&Settled { tier, topics: &topics, refused: refused_count, repeated, latency });
    }
    if remainder.is_empty() {
        left(&*app.store, held.thread.as_deref(), held.envelope.id).await?;
        return Ok(Worked::Settled { records: done });
    }
    if remains == Remains::Queued {
        return Ok(Worked::Hidden { records: done });
    }
    if done > 0 {
        (held.failed, held.put_off) = (0, 0);
    }
    held.failed += 1;
    let again = match app.breakers.lane(Lane::of(tier)).state() {
        _ if tier == Tier::Critical => held.later(CRITICAL_AGAIN),
        // Others get through, so only what this one needs is away.
        BreakerState::Closed if held.envelope.in_order => held.put_off(),
        // It makes room, and must not use up its receives in haste [R4].
        BreakerState::Closed => {
            let hide = Settle::Extend(again_after(held.receives));
            app.queue.settle(queue, &[(held.receipt, hide)]).await?;
            return Ok(Worked::Hidden { records: done });
        }
        // It is what the next probe is made with: kept in hand, however long the outage is, it is received once.
        BreakerState::Open | BreakerState::HalfOpen => held,
    };
    Ok(Worked::Waits { held: again.into(), records: done })
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

/// Until an envelope is tried again that the sink did not take, although it takes others: 2 s, doubled each time.
fn again_after(times: u32) -> Duration {
    const LONGEST: Duration = Duration::from_secs(5 * 60);
    Duration::from_secs(1 << times.min(10)).min(LONGEST)
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
