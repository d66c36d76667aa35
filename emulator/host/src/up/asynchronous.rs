//! Asynchronous invocations: durable before they are acknowledged, tried again as Lambda does it, then given to the function's
//! on-failure destination.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::error::BackendError;
use streammanager::express::turns::{Turn, Turns};
use streammanager::limits::VISIBILITY;
use streammanager::queue::{Delivery, Queue, QueueRef, Receipt, Settle};
use streammanager::record::SourceId;
use streammanager::time::{Clock, Rng, Timestamp};
use streammanager_functions::events::RuleOutput;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::agencies::lane_of;
use super::failures::{self, Failed, LastCall};
use super::functions::Invocation;
use super::invoke::Invoke;
use super::sources::{PAUSE, RECEIVE_WAIT, text};

/// What the names of the queues begin with that hold asynchronous invocations.
pub(crate) const INVOCATIONS: &str = "local:async-";
/// What Lambda waits before the first and the second retry.
const WAITS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(120)];
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
    calls: u8,
    waited: u8,
    /// By what the waits were shortened.
    saved: Duration,
}

impl Tries {
    /// `age`: since the event was accepted.
    fn next(&mut self, age: Duration, retries: u8, max_age: Duration) -> Next {
        if self.calls > retries {
            return Next::Over("RetriesExhausted");
        }
        if self.waited < self.calls {
            let wait = WAITS[usize::from(self.waited).min(WAITS.len() - 1)];
            self.waited = self.calls;
            self.saved += wait - wait / WAITS_SHORTENED;
            return Next::Wait(wait / WAITS_SHORTENED);
        }
        if age + self.saved > max_age { Next::Over("EventAgeExceeded") } else { Next::Call }
    }
}

impl Asynchronous {
    /// Until the event is done with: the function took it, or it was given up. `held`: its message, which nobody else receives
    /// meanwhile.
    ///
    /// # Errors
    /// When the on-failure destination does not take its report: the event is not done with.
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
                    tries.calls += 1;
                    match self.functions.invoke(&self.function, event.clone()).await {
                        Ok(_) => return Ok(()),
                        Err(problem) => {
                            tracing::warn!(%problem, function = self.function, calls = tries.calls, "an asynchronous invocation failed");
                            ended = Some(error_of(&problem));
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

/// What Lambda answers for a call that failed.
fn error_of(problem: &Invocation) -> Value {
    let kind = if matches!(problem, Invocation::TimedOut(_)) { "Sandbox.Timedout" } else { "Runtime.Error" };
    json!({ "errorType": kind, "errorMessage": problem.to_string() })
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
        loop {
            let received = tokio::select! { biased;
                () = stop.cancelled() => return,
                received = self.how.backend.receive(&queue, 10, RECEIVE_WAIT) => received,
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
                tasks.spawn(async move { this.invoke(delivery, event, turn, &queue).await });
            }
        }
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
        if let Some(turn) = &mut turn {
            turn.comes().await;
        }
        let Delivery { receipt, sent_at, .. } = delivery;
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
