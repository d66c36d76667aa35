//! SQS event sources and asynchronous invocations: receive, invoke with the event JSON that AWS sends, forget what succeeded.
//! What failed stays hidden until its visibility ends, and goes to its queue's dead letters after its receives.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use streammanager::express::turns::{Turn, Turns};
use streammanager::queue::{Body, Delivery, Message, Queue, QueueRef, Settle};
use streammanager::record::SourceId;
use streammanager_functions::events::{BatchResponse, RuleOutput};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::agencies::lane_of;
use super::functions::Functions;

/// Invocations of one event source at a time where the template says nothing; Lambda starts with five pollers.
const CONCURRENT: u32 = 5;
const RECEIVE_WAIT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(1);
/// What the names of the queues begin with that hold asynchronous invocations.
pub(crate) const INVOCATIONS: &str = "local:async-";
/// Lambda retries an asynchronous invocation after one and then two minutes; nobody at a laptop waits that long.
const ASYNC_RETRY_WAIT: Duration = Duration::from_secs(1);

/// One event source mapping.
#[derive(Clone)]
pub(crate) struct QueueSource {
    pub(crate) functions: Functions,
    pub(crate) function: String,
    pub(crate) queue: QueueRef,
    pub(crate) backend: Arc<dyn Queue>,
    pub(crate) batch_size: usize,
    /// The answer names the failed items; without it one failure brings back the whole batch.
    pub(crate) report_failures: bool,
    /// Calls at a time.
    pub(crate) max_concurrency: Option<u32>,
}

pub(crate) async fn run(source: QueueSource, tasks: TaskTracker, stop: CancellationToken) {
    let running = Arc::new(Semaphore::new(source.max_concurrency.unwrap_or(CONCURRENT) as usize));
    // It is said once, however long it lasts.
    let mut away = false;
    loop {
        let permit = tokio::select! { biased;
            () = stop.cancelled() => return,
            permit = running.clone().acquire_owned() => permit,
        };
        let Ok(permit) = permit else { return };
        let received = tokio::select! { biased;
            () = stop.cancelled() => return,
            received = source.backend.receive(&source.queue, source.batch_size.min(10), RECEIVE_WAIT) => received,
        };
        let was_away = std::mem::replace(&mut away, received.is_err());
        match received {
            Ok(deliveries) if deliveries.is_empty() => {}
            Ok(deliveries) => {
                let source = source.clone();
                tasks.spawn(async move {
                    source.invoke(deliveries).await;
                    drop(permit);
                });
            }
            Err(problem) => {
                if !was_away {
                    tracing::warn!(%problem, queue = %source.queue, "an event source cannot reach its queue");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl QueueSource {
    async fn invoke(&self, deliveries: Vec<Delivery>) {
        let failed: BTreeSet<String> = match self
            .functions
            .invoke(&self.function, sqs_event(&self.queue, &deliveries))
            .await
        {
            Ok(answer) if self.report_failures => match serde_json::from_value::<BatchResponse>(answer) {
                Ok(response) => response.batch_item_failures.into_iter().map(|item| item.item_identifier).collect(),
                Err(e) => {
                    tracing::error!(%e, function = self.function, "the answer names no failed items: the whole batch comes back");
                    return;
                }
            },
            Ok(_) => BTreeSet::new(),
            Err(problem) => {
                tracing::warn!(%problem, function = self.function, queue = %self.queue, "a batch comes back");
                return;
            }
        };
        let done: Vec<_> = deliveries
            .into_iter()
            .filter(|delivery| !failed.contains(&delivery.id))
            .map(|delivery| (delivery.receipt, Settle::Forget))
            .collect();
        if let Err(problem) = self.backend.settle(&self.queue, &done).await {
            tracing::warn!(%problem, queue = %self.queue, "done messages will come again");
        }
    }
}

fn text(body: &Body) -> String {
    match body {
        Body::Text(text) => text.clone(),
        Body::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn sqs_event(queue: &QueueRef, deliveries: &[Delivery]) -> Value {
    let name = queue.as_str().trim_start_matches("local:");
    let records: Vec<Value> = deliveries
        .iter()
        .map(|delivery| {
            json!({
                "messageId": delivery.id,
                "receiptHandle": delivery.receipt.0,
                "body": text(&delivery.body),
                "attributes": {
                    "ApproximateReceiveCount": delivery.receives.to_string(),
                    "SentTimestamp": delivery.sent_at.as_millisecond().to_string(),
                },
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": format!("arn:aws:sqs:us-west-2:000000000000:{name}"),
                "awsRegion": "us-west-2",
            })
        })
        .collect();
    json!({ "Records": records })
}

/// Asynchronous invocations of one function: durable before they are acknowledged, tried `retries` times more, then given
/// to the function's on-failure destination. AWS keeps no order among them. Here what one MQTT client published is taken in
/// the order in which it was published, so far as threads need it.
#[derive(Clone)]
pub(crate) struct AsyncInvocations {
    pub(crate) functions: Functions,
    pub(crate) function: String,
    pub(crate) backend: Arc<dyn Queue>,
    pub(crate) retries: u8,
    pub(crate) on_failure: Option<QueueRef>,
}

impl AsyncInvocations {
    pub(crate) fn queue(function: &str) -> QueueRef {
        QueueRef::new(&format!("{INVOCATIONS}{}", function.to_lowercase()))
    }

    pub(crate) async fn run(self, tasks: TaskTracker, stop: CancellationToken) {
        let queue = AsyncInvocations::queue(&self.function);
        let mut turns = Turns::default();
        let mut away = false;
        loop {
            let received = tokio::select! { biased;
                () = stop.cancelled() => return,
                received = self.backend.receive(&queue, 10, RECEIVE_WAIT) => received,
            };
            let was_away = std::mem::replace(&mut away, received.is_err());
            let deliveries = match received {
                Ok(deliveries) => deliveries,
                Err(problem) => {
                    if !was_away {
                        tracing::warn!(%problem, function = self.function, "asynchronous invocations wait for their queue");
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
        match (self.functions.app_of(&self.function), alerts, output.payload()) {
            (Some(app), Some(source), Ok(body)) => Some(turns.take_alerts(app, lane, &source, &body).await),
            _ => Some(turns.take(lane)),
        }
    }

    async fn invoke(&self, delivery: Delivery, event: Value, mut turn: Option<Turn>, queue: &QueueRef) {
        if let Some(turn) = &mut turn {
            turn.comes().await;
        }
        for attempt in 0..=self.retries {
            if attempt > 0 {
                tokio::time::sleep(ASYNC_RETRY_WAIT).await;
            }
            match self.functions.invoke(&self.function, event.clone()).await {
                Ok(_) => return self.forget(queue, delivery).await,
                Err(problem) => {
                    tracing::warn!(%problem, function = self.function, attempt, "an asynchronous invocation failed")
                }
            }
        }
        if let Some(destination) = &self.on_failure {
            let body = json!({ "version": "1.0", "requestPayload": event, "requestContext": { "condition": "RetriesExhausted" } });
            let sent = self.backend.send(destination, &[Message::now(Body::Text(body.to_string()))]).await;
            if !matches!(sent.as_deref(), Ok([Ok(())])) {
                tracing::error!(
                    function = self.function,
                    "the on-failure destination did not take the event: it comes back"
                );
                return;
            }
        }
        self.forget(queue, delivery).await;
    }

    async fn forget(&self, queue: &QueueRef, delivery: Delivery) {
        if let Err(problem) = self.backend.settle(queue, &[(delivery.receipt, Settle::Forget)]).await {
            tracing::warn!(%problem, "a done invocation will run again");
        }
    }
}
