//! One CRITICAL record to whichever durable place acknowledges first [E2]: the broker, or after 50 ms the CRITICAL queue.
//!
//! The broker is tried first. If it has not acknowledged when the hedge's time is over, a copy of the record is written to
//! the queue while the try goes on. Whichever is durable first answers the sender. The other one is never torn down, for
//! what it runs on is shared: a try that the queue has overtaken goes on to its own end. Acknowledged after all, it makes
//! the queue's copy void, so that the alert is published once; given up, the copy is what delivers. The copy stays delayed
//! in the queue until the try must have ended. While the breaker is open, or too many tries are under way, the queue takes
//! the record at once. A message whose thread has another one in the queue goes to the queue too, where the thread keeps its
//! order: a Cancel never overtakes its Alert [E4]. So does every alert of a process that leaves the brokers to others.
//!
//! All of this runs in a task of its own: a sender that hangs up ends nothing half-way.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::marks;
use crate::app::App;
use crate::breaker::shared;
use crate::error::{BackendError, Reason};
use crate::ingest;
use crate::limits::{COPY_DELAY, HEDGE};
use crate::provenance::Note;
use crate::queue::{Body, Message, send_one};
use crate::record::{Envelope, Outgoing, Stream, Tier};
use crate::sink::{Lane, Sent, Written};
use crate::time::Timestamp;

/// Where the record is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Durable {
    /// Where it lies, if the broker says so.
    Broker(Option<Written>),
    Queue,
    /// The broker refused it for good.
    Refused(Reason, String),
}

/// CRITICAL is not compressed [K4]; zstd's fastest level is what comes nearest in an envelope.
const LEVEL: i32 = 1;

/// Sends one record and counts it as accepted; `Err` when neither broker nor queue could take it. It returns as soon as the
/// record is durable: the rest of the work goes on among `app.tries`.
pub(super) async fn send(app: &App, stream: &Stream, record: Outgoing) -> Result<Durable, BackendError> {
    let (tell, heard) = oneshot::channel();
    let (own, stream, envelope) = (app.clone(), stream.clone(), envelope(app, stream, &record)?);
    app.tries.spawn(async move {
        let mut sender = Sender {
            app: &own,
            stream: &stream,
            envelope: &envelope,
            record: &record,
            began: own.clock.now(),
            tell: Some(tell),
        };
        if !own.sink.sends() {
            return sender.queued().await;
        }
        hedged(sender).await;
        // What this try has shown is told before an invocation ends.
        shared::exchange(&own.breakers, &*own.store, &own.clock).await;
    });
    heard.await.unwrap_or_else(|_| Err(BackendError::Retry("the alert's try ended without an outcome".into())))
}

/// Whoever waits for the answer.
struct Sender<'a> {
    app: &'a App,
    stream: &'a Stream,
    /// What the queue gets, if it gets anything.
    envelope: &'a Envelope,
    record: &'a Outgoing,
    began: Timestamp,
    tell: Option<oneshot::Sender<Result<Durable, BackendError>>>,
}

impl Sender<'_> {
    /// Only the first answer is heard. The record counts as accepted also when the sender has hung up.
    fn hears(&mut self, outcome: Result<Durable, BackendError>) {
        let Some(tell) = self.tell.take() else { return };
        if matches!(outcome, Ok(Durable::Broker(_) | Durable::Queue)) {
            self.app.tally.accepted(1, u64::from(self.record.revision > 0));
            ingest::count_processed(&self.stream.source, 1);
        }
        if matches!(outcome, Ok(Durable::Queue)) {
            let noted = std::iter::once((self.record.event.short(), self.record.revision));
            self.app.provenance.note(Note::queued(self.envelope, noted, self.app.clock.now()));
        }
        // The sender may have hung up.
        let _ = tell.send(outcome);
    }

    /// The queue alone has it, and may deliver it at once.
    async fn queued(&mut self) {
        let queued = queue(self.app, self.envelope, &self.record.key, Duration::ZERO).await;
        self.hears(queued.map(|()| Durable::Queue));
    }

    /// The broker alone delivers it.
    fn delivered(&self, outcome: &Sent) {
        let (app, record) = (self.app, self.record);
        app.tally.express(record.topic.name(), app.clock.since(record.ingested_at));
        let tried = std::iter::once((record, outcome));
        app.provenance.note(Note::sent(self.envelope, tried, 0, self.began, app.clock.now()));
    }
}

async fn hedged(mut sender: Sender<'_>) {
    let Sender { app, envelope, record, .. } = sender;
    // A store that is away, or slow, must not hold up an alert: then order within the thread is best effort.
    let queued = timeout(HEDGE, marks::thread_is_queued(&*app.store, &record.key));
    let (waits, ()) = futures::join!(queued, shared::exchange(&app.breakers, &*app.store, &app.clock));
    let thread_waits = waits.is_ok_and(|waits| waits.unwrap_or(false));
    let under_way = if thread_waits { None } else { app.tries.begin(envelope.id) };
    if under_way.is_none() || !app.breakers.lane(Lane::Critical).admit() {
        return sender.queued().await;
    }
    let broker = attempt(app, record);
    tokio::pin!(broker);
    let outcome = match timeout(HEDGE, &mut broker).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let copy = queue(app, envelope, &record.key, COPY_DELAY);
            tokio::pin!(copy);
            let (outcome, copied) = tokio::select! { biased;
                outcome = &mut broker => {
                    if let Sent::Acked(written) = outcome {
                        sender.hears(Ok(Durable::Broker(written)));
                    }
                    // The copy may be half-way there: let it end, then judge it.
                    (outcome, copy.await)
                }
                copied = &mut copy => {
                    if copied.is_ok() {
                        sender.hears(Ok(Durable::Queue));
                    }
                    (broker.await, copied)
                }
            };
            if copied.is_ok() {
                return both(outcome, sender).await;
            }
            outcome
        }
    };
    match outcome {
        Sent::Acked(written) => {
            sender.hears(Ok(Durable::Broker(written)));
            sender.delivered(&outcome);
        }
        Sent::Refused(reason, detail) => sender.hears(Ok(Durable::Refused(reason, detail))),
        Sent::Retry(_) => sender.queued().await,
    }
}

/// The queue has a copy, and the try has ended: one of them delivers.
async fn both(outcome: Sent, mut sender: Sender<'_>) {
    let Sender { app, envelope, record, .. } = sender;
    let overtaken = sender.tell.is_none();
    let name = match outcome {
        Sent::Acked(_) => "acknowledged",
        Sent::Refused(..) => "refused",
        Sent::Retry(_) => "given_up",
    };
    metrics::counter!("stream_express_hedged_total", "broker" => name).increment(1);
    match outcome {
        Sent::Acked(_) if marks::make_void(&*app.store, &app.clock, envelope.id, &record.key).await => {
            sender.delivered(&outcome)
        }
        // Its copy cannot be made void: it is a visible duplicate, and counts when it is delivered [K6].
        Sent::Acked(_) => app.tally.repeated(1),
        Sent::Refused(reason, detail) if !overtaken => {
            // The sender hears of the refusal, and the copy must not become a second dead letter.
            marks::make_void(&*app.store, &app.clock, envelope.id, &record.key).await;
            sender.hears(Ok(Durable::Refused(reason, detail)));
        }
        Sent::Refused(..) | Sent::Retry(_) => sender.hears(Ok(Durable::Queue)),
    }
}

/// One try at the broker, whose end the breaker learns.
async fn attempt(app: &App, record: &Outgoing) -> Sent {
    let sent = app.sink.send(Lane::Critical, std::slice::from_ref(record)).await.pop();
    let outcome = sent.unwrap_or_else(|| Sent::Retry("the sink gave no outcome".into()));
    app.breakers.lane(Lane::Critical).record(!matches!(outcome, Sent::Retry(_)));
    outcome
}

fn envelope(app: &App, stream: &Stream, record: &Outgoing) -> Result<Envelope, BackendError> {
    let (id, at) = (app.rng.ulid(record.ingested_at), record.ingested_at);
    let (stream, tenant, trace) = (stream.id.clone(), stream.tenant.clone(), record.traceparent.clone());
    Envelope::pack(id, stream, tenant, Tier::Critical, at, trace, std::slice::from_ref(record), LEVEL)
        .map_err(|e| BackendError::Fatal(e.to_string()))
}

/// The thread is marked before its message is queued: a mark too many delays a thread, one too few breaks its order.
async fn queue(app: &App, envelope: &Envelope, thread: &str, delay: Duration) -> Result<(), BackendError> {
    match timeout(HEDGE, marks::mark_queued(&*app.store, &app.clock, thread, envelope.id)).await {
        Ok(Ok(())) => {}
        Ok(Err(problem)) => {
            tracing::warn!(%problem, "a queued alert's thread could not be marked: its order is best effort");
        }
        Err(_) => tracing::warn!("a queued alert's thread was not marked in time: its order is best effort"),
    }
    let body = envelope.encode().map_err(|e| BackendError::Fatal(e.to_string()))?;
    let message = Message { body: Body::Binary(body), delay };
    let sent = send_one(&*app.queue, &app.settings.queues.critical, message).await;
    if sent.is_err() {
        // Nobody was told that it is accepted: nothing is to wait for it.
        let unmarked = marks::unmark(&*app.store, thread, envelope.id).await;
        unmarked.unwrap_or_else(|problem| tracing::warn!(%problem, "an alert's mark could not be removed"));
    }
    sent
}
