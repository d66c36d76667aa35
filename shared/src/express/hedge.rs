//! One CRITICAL record to whichever durable place acknowledges first [E2]: the broker, or after 50 ms the CRITICAL queue.
//! The queue's copy is void once the broker has it, and messages of one thread never overtake one another [E4].

use std::time::Duration;

use super::marks;
use crate::app::App;
use crate::error::{BackendError, Reason};
use crate::limits::{HEDGE, TRY_CRITICAL};
use crate::queue::{Body, Message, send_one};
use crate::record::{Envelope, Outgoing, Stream, Tier};
use crate::sink::{Lane, Sent};

/// Where the record is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Durable {
    Broker,
    Queue,
    /// The broker refused it for good.
    Refused(Reason, String),
}

/// A hedged copy is not received before the broker's try has most likely ended.
const COPY_DELAY: Duration = Duration::from_secs(1);
/// CRITICAL is not compressed [K4]; zstd's fastest level is what comes nearest in an envelope.
const LEVEL: i32 = 1;

/// Sends one record; `Err` when neither broker nor queue could take it.
pub(super) async fn send(app: &App, stream: &Stream, record: Outgoing) -> Result<Durable, BackendError> {
    let envelope = envelope(app, stream, &record)?;
    let breaker = app.breakers.lane(Lane::Critical);
    // A store that is away must not hold up an alert: then order within the thread is best effort.
    let thread_waits = marks::thread_is_queued(app, &record.key).await.unwrap_or(false);
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
                        marks::make_void(app, envelope.id, &records[0].key).await;
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
    let marked = marks::mark_queued(app, thread, envelope.id).await;
    if let Err(problem) = marked {
        tracing::warn!(%problem, "a queued alert's thread could not be marked: its order is best effort");
    }
    let body = envelope.encode().map_err(|e| BackendError::Fatal(e.to_string()))?;
    let message = Message { body: Body::Binary(body), delay };
    let sent = send_one(&*app.queue, &app.settings.queues.critical, message).await;
    if sent.is_err() {
        // Nobody was told that it is accepted: nothing is to wait for it.
        let unmarked = marks::unmark(app, thread, envelope.id).await;
        unmarked.unwrap_or_else(|problem| tracing::warn!(%problem, "an alert's mark could not be removed"));
    }
    sent
}
