//! One CRITICAL record to whichever durable place acknowledges first [E2]: the broker, or after 50 ms the CRITICAL queue.
//! The queue's copy is void once the broker has it, and messages of one thread never overtake one another [E4].

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use ulid::Ulid;

use crate::app::App;
use crate::error::{BackendError, Reason};
use crate::ingest::Stream;
use crate::limits::{HEDGE, TRY_CRITICAL};
use crate::queue::{Body, Message, send_one};
use crate::record::{Envelope, Outgoing, Tier, hex};
use crate::sink::{Lane, Sent};
use crate::store::{self, Expect, Item, Key, PutError, Store};
use crate::time::Timestamp;

/// Where the record is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durable {
    Broker,
    Queue,
    /// The broker refused it for good.
    Refused(Reason, String),
}

/// A hedged copy is not received before the broker's try has most likely ended.
const COPY_DELAY: Duration = Duration::from_secs(1);
/// Queued threads and void copies are remembered this long; the queue itself keeps messages 14 days.
const REMEMBERED: Duration = Duration::from_secs(14 * 24 * 3600);
const QUEUED: &str = "express/queued";
const VOID: &str = "express/void";
/// CRITICAL is not compressed [K4]; zstd's fastest level is what comes nearest in an envelope.
const LEVEL: i32 = 1;

/// Sends one record; `Err` when neither broker nor queue could take it.
pub async fn send(app: &App, stream: &Stream, record: Outgoing) -> Result<Durable, BackendError> {
    let envelope = envelope(app, stream, &record)?;
    let breaker = app.breakers.lane(Lane::Critical);
    // A store that is away must not hold up an alert: then order within the thread is best effort.
    let thread_waits = thread_is_queued(app, &record.key).await.unwrap_or(false);
    if thread_waits || !breaker.admit(app.clock.now()) {
        // An older message of the thread may be a delayed copy: this one must not become visible before it.
        let delay = if thread_waits { COPY_DELAY } else { Duration::ZERO };
        queue(app, &envelope, &record.key, delay).await?;
        return Ok(Durable::Queue);
    }
    let mut trying = Trying { app, over: false };
    let records = [record];
    let broker = app.sink.send(Lane::Critical, &records, TRY_CRITICAL);
    tokio::pin!(broker);
    let outcome = match tokio::time::timeout(HEDGE, &mut broker).await {
        Ok(sent) => trying.end(sent),
        Err(_) => {
            let copy = queue(app, &envelope, &records[0].key, COPY_DELAY);
            tokio::pin!(copy);
            tokio::select! { biased;
                sent = &mut broker => {
                    let outcome = trying.end(sent);
                    // The copy may be half-way there: let it end, then make it void.
                    let queued = copy.await;
                    if matches!(outcome, Sent::Retry(_)) {
                        return queued.map(|()| Durable::Queue);
                    }
                    if queued.is_ok() {
                        make_void(app, envelope.id, &records[0].key).await;
                    }
                    outcome
                }
                queued = &mut copy => match queued {
                    // Dropping the try ends it; a message that is written all the same is a visible duplicate [K6].
                    Ok(()) => return Ok(Durable::Queue),
                    Err(_) => trying.end(broker.await),
                },
            }
        }
    };
    match outcome {
        Sent::Acked => Ok(Durable::Broker),
        Sent::Refused(reason, detail) => Ok(Durable::Refused(reason, detail)),
        Sent::Retry(_) => {
            queue(app, &envelope, &records[0].key, Duration::ZERO).await?;
            Ok(Durable::Queue)
        }
    }
}

/// A try at the broker. One that ends without an outcome, because the queue was faster or the sender hung up, was no probe:
/// the breaker may be tried again at once [R2].
struct Trying<'a> {
    app: &'a App,
    over: bool,
}

impl Trying<'_> {
    fn end(&mut self, mut sent: Vec<Sent>) -> Sent {
        self.over = true;
        let outcome = sent.pop().unwrap_or_else(|| Sent::Retry("the sink gave no outcome".into()));
        self.app.breakers.lane(Lane::Critical).record(!matches!(outcome, Sent::Retry(_)), self.app.clock.now());
        outcome
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.app.breakers.lane(Lane::Critical).give_back(self.app.clock.now());
        }
    }
}

fn envelope(app: &App, stream: &Stream, record: &Outgoing) -> Result<Envelope, BackendError> {
    let (id, at) = (app.rng.ulid(record.ingested_at), record.ingested_at);
    let (stream, tenant, trace) = (stream.id.clone(), stream.tenant.clone(), record.traceparent.clone());
    Envelope::pack(id, stream, tenant, Tier::Critical, at, trace, std::slice::from_ref(record), LEVEL)
        .map_err(|e| BackendError::Fatal(e.to_string()))
}

/// The thread is marked before its message is queued: a mark too many delays a thread, one too few breaks its order.
async fn queue(app: &App, envelope: &Envelope, thread: &str, delay: Duration) -> Result<(), BackendError> {
    let marked = put(app, Key::new(QUEUED, queued_key(thread, envelope.id))).await;
    if let Err(problem) = marked {
        tracing::warn!(%problem, "a queued alert's thread could not be marked: its order is best effort");
    }
    let body = envelope.encode().map_err(|e| BackendError::Fatal(e.to_string()))?;
    let message = Message { body: Body::Binary(body), delay };
    let sent = send_one(&*app.queue, &app.settings.queues.critical, message).await;
    if sent.is_err() {
        // Nobody was told that it is accepted: nothing is to wait for it.
        let unmarked = unmark(app, thread, envelope.id).await;
        unmarked.unwrap_or_else(|problem| tracing::warn!(%problem, "an alert's mark could not be removed"));
    }
    sent
}

pub(super) fn thread_hash(thread: &str) -> String {
    hex(&Sha256::digest(thread)[..16])
}

fn queued_key(thread: &str, id: Ulid) -> String {
    format!("{}/{id}", thread_hash(thread))
}

async fn thread_is_queued(app: &App, thread: &str) -> Result<bool, BackendError> {
    Ok(!marks(app, thread, 1).await?.is_empty())
}

/// The oldest marks of a thread, in order.
async fn marks(app: &App, thread: &str, max: usize) -> Result<Vec<Item>, BackendError> {
    store::list_all(&*app.store, QUEUED, &format!("{}/", thread_hash(thread)), max).await
}

async fn put(app: &App, key: Key) -> Result<(), BackendError> {
    match app.store.put_if(&key, Bytes::from_static(b"1"), Expect::Any, Some(app.clock.now() + REMEMBERED)).await {
        Ok(_) | Err(PutError::Conflict) => Ok(()),
        Err(e) => Err(e.of(&key.partition)),
    }
}

/// The broker has the record: its copy in the queue is forgotten unsent. Failing that it is a visible duplicate [K6].
async fn make_void(app: &App, id: Ulid, thread: &str) {
    let voided = match put(app, Key::new(VOID, id.to_string())).await {
        Ok(()) => unmark(app, thread, id).await,
        // Its mark keeps the thread's next message behind the copy.
        Err(problem) => Err(problem),
    };
    if let Err(problem) = voided {
        tracing::warn!(%problem, "the queue's copy of an alert could not be made void");
    }
}

async fn unmark(app: &App, thread: &str, id: Ulid) -> Result<(), BackendError> {
    store::remove(&*app.store, &Key::new(QUEUED, queued_key(thread, id))).await
}

/// Whether this envelope of the CRITICAL queue is a copy of what the broker has: it is never sent, and counts nowhere.
pub async fn is_void(store: &dyn Store, id: Ulid) -> bool {
    store.get(&Key::new(VOID, id.to_string())).await.is_ok_and(|item| item.is_some())
}

/// Deliver asks whether an older message of the thread is still queued. With the store away nothing holds an alert back.
pub(crate) async fn elder(app: &App, thread: &str, id: Ulid) -> Option<Timestamp> {
    let oldest = marks(app, thread, 1).await.ok()?.pop()?;
    let elder: Ulid = oldest.key.sort.rsplit('/').next()?.parse().ok()?;
    (elder < id).then(|| Timestamp::from_millisecond(elder.timestamp_ms() as i64).unwrap_or_default())
}

/// A CRITICAL envelope is forgotten: nothing waits for it any more, nor for a mark of before, which stands for nothing now.
pub(crate) async fn left_queue(app: &App, thread: &str, id: Ulid) -> Result<(), BackendError> {
    let upto = queued_key(thread, id);
    for mark in marks(app, thread, usize::MAX).await?.iter().take_while(|mark| mark.key.sort <= upto) {
        store::remove(&*app.store, &mark.key).await?;
    }
    Ok(())
}
