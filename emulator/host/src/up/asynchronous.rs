//! Asynchronous invocations: durable before they are acknowledged, tried again as Lambda does it, then given to the function's
//! on-failure destination.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use streammanager::app::App;
use streammanager::error::BackendError;
use streammanager::express::turns::{Turn, Turns};
use streammanager::limits::{QUEUE_BATCH, VISIBILITY};
use streammanager::queue::{Delivery, Queue, QueueRef, Receipt, Settle};
use streammanager::record::SourceId;
use streammanager::time::{Clock, Rng, Timestamp};
use streammanager_functions::events::RuleOutput;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::agencies::lane_of;
use super::failures::{self, Failed, LastCall};
use super::functions::Invocation;
use super::invoke::Invoke;
use super::limits::INVOCATIONS_AT_WORK;
use super::processes::Uninvoked;
use super::sources::{PAUSE, RECEIVE_WAIT, text};

/// What the names of the queues begin with that hold asynchronous invocations.
pub(crate) const INVOCATIONS: &str = "local:async-";
/// What Lambda waits before the first and the second retry.
const WAITS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(120)];
/// What Lambda waits at first before it offers an event again that was throttled, and at most; twice as long each time.
const THROTTLED_WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// Nobody at a laptop waits so long: a minute of a wait is a second here, and an event grows older by the whole minute, so that
/// it is given up at the try at which Lambda would give it up.
pub(crate) const WAITS_SHORTENED: u32 = 60;

/// How a function is invoked asynchronously, as its `EventInvokeConfig` has it.
#[derive(Clone)]
pub(crate) struct Asynchronous {
    pub(crate) functions: Arc<dyn Invoke>,
    /// Its logical id.
    pub(crate) function: String,
    pub(crate) function_arn: String,
    /// Of one call.
    pub(crate) timeout: Duration,
    pub(crate) backend: Arc<dyn Queue>,
    /// Tries after the first.
    pub(crate) retries: u8,
    pub(crate) max_age: Duration,
    pub(crate) on_failure: Option<QueueRef>,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
}

/// What becomes of an event next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Call,
    Wait(Duration),
    /// In Lambda's words.
    Over(&'static str),
}

/// The tries of one event.
#[derive(Debug, Default)]
struct Tries {
    /// That reached the function.
    calls: u8,
    throttled: u32,
    /// Before the next one.
    wait: Option<Duration>,
    /// By what the waits were shortened.
    saved: Duration,
}

impl Tries {
    /// `age`: since the event was accepted.
    fn next(&mut self, age: Duration, retries: u8, max_age: Duration) -> Next {
        if self.calls > retries {
            return Next::Over("RetriesExhausted");
        }
        if let Some(wait) = self.wait.take() {
            return Next::Wait(wait);
        }
        if age + self.saved > max_age { Next::Over("EventAgeExceeded") } else { Next::Call }
    }

    fn failed(&mut self) {
        let wait = WAITS[usize::from(self.calls).min(WAITS.len() - 1)];
        self.calls += 1;
        self.waits(wait, wait / WAITS_SHORTENED);
    }

    /// It is tried again until it is too old.
    fn throttled(&mut self) {
        let (first, most) = THROTTLED_WAITS;
        let wait = first.saturating_mul(1 << self.throttled.min(16)).min(most);
        self.throttled += 1;
        self.waits(wait, first.max(wait / WAITS_SHORTENED));
    }

    fn waits(&mut self, on_lambda: Duration, here: Duration) {
        self.saved += on_lambda - here;
        self.wait = Some(here);
    }
}

impl Asynchronous {
    /// Until the event is done with: the function took it, or it was given up. `held`: its message, which nobody else receives
    /// meanwhile.
    ///
    /// # Errors
    /// When this host stops, or the on-failure destination does not take its report: the event is not done with.
    pub(crate) async fn carry_out(
        &self,
        event: &Value,
        accepted_at: Timestamp,
        held: Option<(&QueueRef, &Receipt)>,
    ) -> Result<(), BackendError> {
        let (mut tries, mut ended) = (Tries::default(), None);
        let condition = loop {
            match tries.next(self.clock.since(accepted_at), self.retries, self.max_age) {
                Next::Wait(wait) => {
                    self.hold(held, wait).await;
                    tokio::time::sleep(wait).await;
                }
                Next::Call => {
                    self.hold(held, self.timeout).await;
                    match self.functions.invoke(&self.function, event.clone()).await {
                        Ok(_) => return Ok(()),
                        Err(Invocation::Uninvoked(Uninvoked::Stopped)) => {
                            return Err(BackendError::Retry(Uninvoked::Stopped.to_string()));
                        }
                        Err(problem) if problem.spends_no_try() => {
                            tracing::debug!(%problem, function = self.function, "an asynchronous invocation waits");
                            tries.throttled();
                        }
                        Err(problem) => {
                            tries.failed();
                            tracing::warn!(%problem, function = self.function, calls = tries.calls, "an asynchronous invocation failed");
                            ended = Some(problem.error());
                        }
                    }
                }
                Next::Over(condition) => break condition,
            }
        };
        self.give_up(event, condition, u32::from(tries.calls), ended).await
    }

    async fn hold(&self, held: Option<(&QueueRef, &Receipt)>, time: Duration) {
        let Some((queue, receipt)) = held else { return };
        let extend = [(receipt.clone(), Settle::Extend(time + VISIBILITY))];
        if let Err(problem) = self.backend.settle(queue, &extend).await {
            tracing::warn!(%problem, "an asynchronous invocation may run twice");
        }
    }

    async fn give_up(
        &self,
        event: &Value,
        condition: &'static str,
        calls: u32,
        ended: Option<Value>,
    ) -> Result<(), BackendError> {
        metrics::counter!("stream_invocations_given_up_total", "function" => self.function.clone()).increment(1);
        let function = &self.function;
        let Some(to) = &self.on_failure else {
            tracing::error!(
                function,
                condition,
                calls,
                "an event is given up, and the template names no destination for it"
            );
            return Ok(());
        };
        let last = ended.is_some().then_some(LastCall::Error);
        let function_arn = format!("{}:$LATEST", self.function_arn);
        let failed = Failed { function_arn: &function_arn, condition, calls, last };
        let mut report = failed.report(&self.rng, self.clock.now());
        report["requestPayload"] = event.clone();
        if let Some(error) = ended {
            report["responsePayload"] = error;
        }
        failures::send(&*self.backend, to, &report).await.inspect_err(|problem| {
            tracing::error!(%problem, function, "the on-failure destination did not take an event: it comes back");
        })
    }
}

/// The queue of one function's events, and who works on it. AWS keeps no order among them. Here what one MQTT client published
/// is taken in the order in which it was published, so far as threads need it.
#[derive(Clone)]
pub(crate) struct AsyncInvocations {
    pub(crate) how: Asynchronous,
    /// The function's, to tell threads of alerts apart.
    pub(crate) app: Option<App>,
}

impl AsyncInvocations {
    pub(crate) fn queue(function: &str) -> QueueRef {
        QueueRef::new(&format!("{INVOCATIONS}{}", function.to_lowercase()))
    }

    pub(crate) async fn run(self, tasks: TaskTracker, stop: CancellationToken) {
        let queue = AsyncInvocations::queue(&self.how.function);
        let mut turns = Turns::default();
        let mut away = false;
        let places = Arc::new(Semaphore::new(INVOCATIONS_AT_WORK));
        loop {
            let received = tokio::select! { biased;
                () = stop.cancelled() => return,
                received = self.receive(&queue, &places) => received,
            };
            let was_away = std::mem::replace(&mut away, received.is_err());
            let deliveries = match received {
                Ok(deliveries) => deliveries,
                Err(problem) => {
                    if !was_away {
                        tracing::warn!(%problem, function = self.how.function, "asynchronous invocations wait for their queue");
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            for delivery in deliveries {
                let (this, queue) = (self.clone(), queue.clone());
                let event: Value = serde_json::from_str(&text(&delivery.body)).unwrap_or(Value::Null);
                let turn = self.turn(&mut turns, &event).await;
                // There is one for each that was received.
                let place = places.clone().acquire_owned().await;
                tasks.spawn(async move {
                    this.invoke(delivery, event, turn, &queue).await;
                    drop(place);
                });
            }
        }
    }

    /// As many as have a place.
    async fn receive(&self, queue: &QueueRef, places: &Semaphore) -> Result<Vec<Delivery>, BackendError> {
        // It is closed by nobody, and what is free stays free: nobody else takes places.
        drop(places.acquire().await);
        let free = places.available_permits().clamp(1, QUEUE_BATCH);
        self.how.backend.receive(queue, free, RECEIVE_WAIT).await
    }

    /// The place of a topic rule's event among those of its MQTT client, by principal and client id; `None` for any other
    /// event.
    async fn turn(&self, turns: &mut Turns<(String, String)>, event: &Value) -> Option<Turn> {
        let output: RuleOutput = serde_json::from_value(event.clone()).ok()?;
        let lane = (output.principal.clone()?, lane_of(output.client.as_deref()?).to_owned());
        let alerts = output.topic.strip_prefix("alerts/").and_then(|id| SourceId::new(id).ok());
        match (&self.app, alerts, output.payload()) {
            (Some(app), Some(source), Ok(body)) => Some(turns.take_alerts(app, lane, &source, &body).await),
            _ => Some(turns.take(lane)),
        }
    }

    async fn invoke(&self, delivery: Delivery, event: Value, mut turn: Option<Turn>, queue: &QueueRef) {
        let Delivery { receipt, sent_at, .. } = delivery;
        if let Some(turn) = &mut turn {
            let comes = turn.comes();
            tokio::pin!(comes);
            // Those before it may take minutes, and it would be received once more.
            while timeout(VISIBILITY / 3, &mut comes).await.is_err() {
                self.how.hold(Some((queue, &receipt)), Duration::ZERO).await;
            }
        }
        if self.how.carry_out(&event, sent_at, Some((queue, &receipt))).await.is_ok()
            && let Err(problem) = self.how.backend.settle(queue, &[(receipt, Settle::Forget)]).await
        {
            tracing::warn!(%problem, "a done invocation will run again");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
