//! SQS event sources: receive, gather a batch, invoke with the event JSON that AWS sends, forget what succeeded. What failed
//! stays hidden until its visibility ends, and goes to its queue's dead letters after its receives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use parking_lot::Mutex;
use serde_json::{Value, json};
use streammanager::queue::{Body, Delivery, Queue, QueueRef, Settle};
use streammanager::record::hex;
use streammanager::time::{Clock, Timestamp};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::gathering::{Bounds, Gathering, event_bytes};
use super::invoke::{Invoke, Reported, reported};
use super::limits::{EVENT_BYTES, FIRST_RECEIVES};
use crate::template::{ACCOUNT, REGION};

/// Invocations of one event source at a time where the template says nothing; Lambda starts with five pollers.
const CONCURRENT: u32 = 5;
/// Messages of one receive, as SQS has it.
const RECEIVED: usize = 10;
pub(crate) const RECEIVE_WAIT: Duration = Duration::from_secs(1);
/// A queue that is away is asked again after this.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// One event source mapping.
#[derive(Clone)]
pub(crate) struct QueueSource {
    pub(crate) functions: Arc<dyn Invoke>,
    pub(crate) function: String,
    pub(crate) queue: QueueRef,
    pub(crate) backend: Arc<dyn Queue>,
    pub(crate) batch_size: usize,
    /// Up to this long to fill a batch.
    pub(crate) window: Duration,
    /// The answer names the failed items; without it one failure brings back the whole batch.
    pub(crate) report_failures: bool,
    /// Calls at a time.
    pub(crate) max_concurrency: Option<u32>,
    pub(crate) clock: Clock,
    pub(crate) first_receives: FirstReceives,
}

/// When this process received messages first that it has to receive again.
#[derive(Clone, Default)]
pub(crate) struct FirstReceives(Arc<Mutex<BTreeMap<String, Timestamp>>>);

impl FirstReceives {
    fn of(&self, id: &str, now: Timestamp) -> Timestamp {
        self.0.lock().get(id).copied().unwrap_or(now)
    }

    fn done(&self, id: &str) {
        self.0.lock().remove(id);
    }

    fn comes_again(&self, id: &str, received: Timestamp) {
        let mut times = self.0.lock();
        times.entry(id.to_owned()).or_insert(received);
        if times.len() > FIRST_RECEIVES {
            // Those that went to the dead letters meanwhile are among the oldest.
            let oldest = times.iter().min_by_key(|(_, at)| **at).map(|(id, _)| id.clone());
            oldest.and_then(|oldest| times.remove(&oldest));
        }
    }
}

pub(crate) async fn run(source: QueueSource, tasks: TaskTracker, stop: CancellationToken) {
    let running = Arc::new(Semaphore::new(source.max_concurrency.unwrap_or(CONCURRENT) as usize));
    let bounds = Bounds { batch_size: source.batch_size, bytes: EVENT_BYTES, window: source.window };
    let mut gathering = Gathering::new(bounds);
    // It is said once, however long it lasts.
    let mut away = false;
    'batches: loop {
        let permit = tokio::select! { biased;
            () = stop.cancelled() => break,
            permit = running.clone().acquire_owned() => permit,
        };
        let Ok(permit) = permit else { break };
        let batch = loop {
            let now = Instant::now();
            if let Some(batch) = gathering.batch(now) {
                break batch;
            }
            let wait = gathering.ends().map_or(RECEIVE_WAIT, |ends| RECEIVE_WAIT.min(ends.duration_since(now)));
            let received = tokio::select! { biased;
                () = stop.cancelled() => break 'batches,
                received = source.backend.receive(&source.queue, gathering.room().min(RECEIVED), wait) => received,
            };
            let was_away = std::mem::replace(&mut away, received.is_err());
            match received {
                Ok(deliveries) => {
                    for delivery in deliveries {
                        let bytes = event_bytes(&delivery);
                        gathering.add(delivery, bytes, Instant::now());
                    }
                }
                Err(problem) => {
                    if !was_away {
                        tracing::warn!(%problem, queue = %source.queue, "an event source cannot reach its queue");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        let source = source.clone();
        tasks.spawn(async move {
            source.invoke(batch).await;
            drop(permit);
        });
    }
    source.release(gathering.rest()).await;
}

impl QueueSource {
    async fn invoke(&self, deliveries: Vec<Delivery>) {
        let now = self.clock.now();
        let event = self.event(&deliveries, now);
        let failed = self.failed(&deliveries, self.functions.invoke(&self.function, event).await);
        let (mut done, mut again) = (Vec::new(), 0);
        for delivery in deliveries {
            if failed.as_ref().is_none_or(|failed| failed.contains(&delivery.id)) {
                self.first_receives.comes_again(&delivery.id, now);
                again += 1;
            } else {
                self.first_receives.done(&delivery.id);
                done.push((delivery.receipt, Settle::Forget));
            }
        }
        if again > 0 {
            tracing::debug!(again, function = self.function, queue = %self.queue, "messages come again");
        }
        if done.is_empty() {
            return;
        }
        if let Err(problem) = self.backend.settle(&self.queue, &done).await {
            tracing::warn!(%problem, queue = %self.queue, "done messages will come again");
        }
    }

    /// Which messages failed; `None`: all of them.
    fn failed(
        &self,
        deliveries: &[Delivery],
        answer: Result<Value, super::functions::Invocation>,
    ) -> Option<BTreeSet<String>> {
        let function = &self.function;
        let answer = match answer {
            Ok(_) if !self.report_failures => return Some(BTreeSet::new()),
            Ok(answer) => answer,
            Err(problem) => {
                tracing::warn!(%problem, function, queue = %self.queue, "a batch comes back");
                return None;
            }
        };
        match reported(&answer) {
            Reported::Done => Some(BTreeSet::new()),
            Reported::Failed(ids) => {
                let known = |id: &&str| deliveries.iter().any(|delivery| delivery.id == **id);
                if let Some(unknown) = ids.iter().find(|id| !known(id)) {
                    tracing::error!(
                        unknown,
                        function,
                        "the answer names a message of another batch: the whole batch comes back"
                    );
                    return None;
                }
                Some(ids.into_iter().map(str::to_owned).collect())
            }
            Reported::Malformed(problem) => {
                tracing::error!(problem, function, "the answer names no failed items: the whole batch comes back");
                None
            }
        }
    }

    fn event(&self, deliveries: &[Delivery], now: Timestamp) -> Value {
        let name = self.queue.as_str().trim_start_matches("local:");
        let record = |delivery: &Delivery| {
            let (body, first) = (text(&delivery.body), self.first_receives.of(&delivery.id, now));
            json!({
                "messageId": delivery.id,
                "receiptHandle": delivery.receipt.0,
                "md5OfBody": hex(&Md5::digest(&body)),
                "body": body,
                "attributes": {
                    "ApproximateReceiveCount": delivery.receives.to_string(),
                    "SentTimestamp": delivery.sent_at.as_millisecond().to_string(),
                    "SenderId": ACCOUNT,
                    "ApproximateFirstReceiveTimestamp": first.as_millisecond().to_string(),
                },
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"),
                "awsRegion": REGION,
            })
        };
        json!({ "Records": deliveries.iter().map(record).collect::<Vec<_>>() })
    }

    /// What was gathered when the system stops is there for the next start.
    async fn release(&self, deliveries: Vec<Delivery>) {
        let settled: Vec<_> = deliveries.into_iter().map(|delivery| (delivery.receipt, Settle::Release)).collect();
        if !settled.is_empty()
            && let Err(problem) = self.backend.settle(&self.queue, &settled).await
        {
            tracing::warn!(%problem, queue = %self.queue, "gathered messages stay hidden for a while");
        }
    }
}

/// As SQS carries it.
pub(crate) fn text(body: &Body) -> String {
    match body {
        Body::Text(text) => text.clone(),
        Body::Binary(bytes) => BASE64.encode(bytes),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
