//! The queue on SQS. Batches are cut to what SQS takes; binary bodies, and text that SQS refuses, travel as base64.
//! SQS holds what it is given: capacity is kept by its counts, as exact as they are.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
    Message as SqsMessage, MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::aws::{self, TRY};
use crate::error::BackendError;
use crate::limits::{self, QUEUE_COUNTED_FOR};
use crate::queue::{Body, Delivery, Depth, Message, Queue, QueueRef, Receipt, Remains, SendError, Settle, send_one};
use crate::time::Timestamp;

/// The message attribute that says how the body is encoded.
const ENCODING: &str = "encoding";
const BINARY: &str = "base64";
/// Text with characters outside of XML's, which SQS refuses.
const TEXT: &str = "base64-text";
/// Name, type and longest value of that attribute count as message bytes.
const ATTRIBUTE_BYTES: usize = ENCODING.len() + "String".len() + TEXT.len();

/// SQS's longest delay and visibility.
const DELAY_MAX: Duration = Duration::from_secs(15 * 60);
const VISIBILITY_MAX: Duration = Duration::from_secs(12 * 3600);

/// Queues by their URLs; cheap to clone.
#[derive(Clone)]
pub struct SqsQueue {
    client: Client,
    capacity: Option<u64>,
    rooms: Arc<Mutex<HashMap<QueueRef, Room>>>,
}

/// Messages that a queue still takes, as it was counted last.
struct Room {
    counted_at: Instant,
    left: u64,
}

struct Encoded {
    at: usize,
    text: String,
    encoding: Option<&'static str>,
    delay: i32,
}

impl Encoded {
    fn bytes(&self) -> usize {
        self.text.len() + if self.encoding.is_some() { ATTRIBUTE_BYTES } else { 0 }
    }
}

impl SqsQueue {
    pub(crate) fn new(config: &SdkConfig) -> SqsQueue {
        SqsQueue { client: Client::new(config), capacity: None, rooms: Arc::default() }
    }

    /// Refuses what goes beyond `capacity` messages a queue [Q2].
    pub fn bounded(self, capacity: u64) -> SqsQueue {
        SqsQueue { capacity: Some(capacity), ..self }
    }

    /// How many of `wanted` messages the queue has room for. A queue that cannot be counted takes them all: what is to be
    /// made durable is not refused because a count failed.
    async fn room(&self, to: &QueueRef, wanted: usize) -> usize {
        let Some(capacity) = self.capacity else { return wanted };
        if !self.with_rooms(|rooms| rooms.get(to).is_some_and(|room| room.counted_at.elapsed() < QUEUE_COUNTED_FOR)) {
            let left = match self.depth(to).await {
                Ok(depth) => capacity.saturating_sub(depth.total()),
                Err(problem) => {
                    tracing::warn!(%problem, "a queue could not be counted");
                    capacity
                }
            };
            self.with_rooms(|rooms| rooms.insert(to.clone(), Room { counted_at: Instant::now(), left }));
        }
        self.with_rooms(|rooms| {
            let Some(room) = rooms.get_mut(to) else { return wanted };
            let taken = room.left.min(wanted as u64);
            room.left -= taken;
            taken as usize
        })
    }

    fn with_rooms<T>(&self, f: impl FnOnce(&mut HashMap<QueueRef, Room>) -> T) -> T {
        f(&mut self.rooms.lock())
    }

    /// One batch's outcomes by their entries' positions.
    async fn send_batch(
        &self,
        to: &QueueRef,
        batch: Vec<Encoded>,
        outcomes: &mut [Result<(), SendError>],
    ) -> Result<(), BackendError> {
        let mut request = self.client.send_message_batch().queue_url(to.as_str());
        for encoded in batch {
            let mut entry = SendMessageBatchRequestEntry::builder()
                .id(encoded.at.to_string())
                .message_body(encoded.text)
                .set_delay_seconds((encoded.delay > 0).then_some(encoded.delay));
            if let Some(encoding) = encoded.encoding {
                entry = entry.message_attributes(ENCODING, string(encoding)?);
            }
            request = request.entries(entry.build().map_err(incomplete)?);
        }
        let answer = request.send().await.map_err(|e| aws::failed("SQS", to.as_str(), e))?;
        for taken in answer.successful() {
            if let Some(outcome) = at(&taken.id).and_then(|at| outcomes.get_mut(at)) {
                *outcome = Ok(());
            }
        }
        for refused in answer.failed() {
            if let Some(outcome) = at(&refused.id).and_then(|at| outcomes.get_mut(at)) {
                *outcome = Err(SendError::Failed(text_of(refused)));
            }
        }
        Ok(())
    }

    async fn receive_once(&self, from: &QueueRef, max: i32, wait: Duration) -> Result<Vec<Delivery>, BackendError> {
        let wait = seconds(wait);
        let longer = TimeoutConfig::builder().operation_attempt_timeout(TRY + Duration::from_secs(wait as u64)).build();
        let answer = self
            .client
            .receive_message()
            .queue_url(from.as_str())
            .max_number_of_messages(max)
            .wait_time_seconds(wait)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_attribute_names(ENCODING)
            .customize()
            .config_override(aws_sdk_sqs::config::Builder::new().timeout_config(longer))
            .send()
            .await
            .map_err(|e| aws::failed("SQS", from.as_str(), e))?;
        answer.messages.unwrap_or_default().into_iter().map(|message| delivery(from, message)).collect()
    }

    async fn forget(&self, from: &QueueRef, receipts: &[&Receipt]) -> Result<(), BackendError> {
        let mut request = self.client.delete_message_batch().queue_url(from.as_str());
        for (at, receipt) in receipts.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder().id(at.to_string()).receipt_handle(&receipt.0);
            request = request.entries(entry.build().map_err(incomplete)?);
        }
        let answer = request.send().await.map_err(|e| aws::failed("SQS", from.as_str(), e))?;
        unless_stale(from, answer.failed())
    }

    async fn hide(&self, from: &QueueRef, receipts: &[(&Receipt, i32)]) -> Result<(), BackendError> {
        let mut request = self.client.change_message_visibility_batch().queue_url(from.as_str());
        for (at, (receipt, seconds)) in receipts.iter().enumerate() {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(at.to_string())
                .receipt_handle(&receipt.0)
                .visibility_timeout(*seconds);
            request = request.entries(entry.build().map_err(incomplete)?);
        }
        let answer = request.send().await.map_err(|e| aws::failed("SQS", from.as_str(), e))?;
        unless_stale(from, answer.failed())
    }
}

#[async_trait]
impl Queue for SqsQueue {
    async fn send(&self, to: &QueueRef, messages: &[Message]) -> Result<Vec<Result<(), SendError>>, BackendError> {
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut batches: Vec<Vec<Encoded>> = Vec::new();
        let mut bytes = 0;
        let room = self.room(to, messages.len()).await;
        for (at, message) in messages.iter().enumerate() {
            if at >= room {
                outcomes.push(Err(SendError::Full));
                continue;
            }
            let encoded = match encode(at, message) {
                Ok(encoded) => encoded,
                Err(refused) => {
                    outcomes.push(Err(refused));
                    continue;
                }
            };
            outcomes.push(Err(SendError::Failed("not sent".into())));
            bytes += encoded.bytes();
            match batches.last_mut() {
                Some(batch) if batch.len() < limits::QUEUE_BATCH && bytes <= limits::MESSAGE_BYTES => {
                    batch.push(encoded)
                }
                _ => {
                    bytes = encoded.bytes();
                    batches.push(vec![encoded]);
                }
            }
        }
        let mut any_taken = false;
        for batch in batches {
            let places: Vec<usize> = batch.iter().map(|encoded| encoded.at).collect();
            match self.send_batch(to, batch, &mut outcomes).await {
                Ok(()) => any_taken = true,
                // What was taken before stands; the caller must not send it again.
                Err(e) if any_taken => {
                    places.into_iter().for_each(|at| outcomes[at] = Err(SendError::Failed(e.to_string())));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(outcomes)
    }

    async fn receive(&self, from: &QueueRef, max: usize, wait: Duration) -> Result<Vec<Delivery>, BackendError> {
        let max = max.min(limits::QUEUE_BATCH) as i32;
        if max == 0 {
            return Ok(Vec::new());
        }
        let began = Instant::now();
        loop {
            let left = wait.saturating_sub(began.elapsed());
            let got = self.receive_once(from, max, left.min(limits::QUEUE_POLL)).await?;
            if !got.is_empty() || began.elapsed() >= wait {
                return Ok(got);
            }
        }
    }

    async fn settle(&self, from: &QueueRef, receipts: &[(Receipt, Settle)]) -> Result<(), BackendError> {
        let (mut forgotten, mut hidden) = (Vec::new(), Vec::new());
        for (receipt, settle) in receipts {
            match *settle {
                Settle::Forget => forgotten.push(receipt),
                Settle::Extend(by) => hidden.push((receipt, seconds(by.min(VISIBILITY_MAX)))),
                Settle::Release => hidden.push((receipt, 0)),
            }
        }
        let forgetting = try_join_all(forgotten.chunks(limits::QUEUE_BATCH).map(|chunk| self.forget(from, chunk)));
        let hiding = try_join_all(hidden.chunks(limits::QUEUE_BATCH).map(|chunk| self.hide(from, chunk)));
        // Both to their ends: a failure of one must not drop the other half-way.
        let (forgotten, hidden) = tokio::join!(forgetting, hiding);
        forgotten?;
        hidden?;
        Ok(())
    }

    /// A message of SQS cannot be changed: the remainder goes to the end of the queue.
    async fn replace(&self, from: &QueueRef, receipt: &Receipt, remainder: Body) -> Result<Remains, BackendError> {
        send_one(self, from, Message::now(remainder)).await?;
        self.forget(from, &[receipt]).await?;
        Ok(Remains::Queued)
    }

    async fn depth(&self, of: &QueueRef) -> Result<Depth, BackendError> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(of.as_str())
            .set_attribute_names(Some(names.to_vec()))
            .send()
            .await
            .map_err(|e| aws::failed("SQS", of.as_str(), e))?;
        let counts = answer.attributes.unwrap_or_default();
        let [visible, in_flight, delayed] =
            names.map(|name| counts.get(&name).and_then(|count| count.parse().ok()).unwrap_or(0));
        Ok(Depth { visible, in_flight, delayed })
    }

    /// A minute, as AWS says of its counts.
    fn counts_lag(&self) -> Duration {
        Duration::from_secs(60)
    }
}

fn encode(at: usize, message: &Message) -> Result<Encoded, SendError> {
    let (text, encoding) = match &message.body {
        Body::Text(text) if text.chars().all(is_sqs_text) => (text.clone(), None),
        Body::Text(text) => (STANDARD.encode(text), Some(TEXT)),
        Body::Binary(bytes) => (STANDARD.encode(bytes), Some(BINARY)),
    };
    if text.is_empty() {
        return Err(SendError::Failed("a message needs a body".into()));
    }
    if message.delay > DELAY_MAX {
        return Err(SendError::Failed("a delay is 15 minutes at most".into()));
    }
    let encoded = Encoded { at, text, encoding, delay: seconds(message.delay) };
    if encoded.bytes() > limits::MESSAGE_BYTES { Err(SendError::TooLarge(message.body.len())) } else { Ok(encoded) }
}

/// The characters of XML 1.0, which are those that SQS takes.
fn is_sqs_text(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn delivery(from: &QueueRef, message: SqsMessage) -> Result<Delivery, BackendError> {
    let missing = |what| BackendError::Fatal(format!("SQS {from}: a message came without its {what}"));
    let attribute = |name| message.attributes.as_ref().and_then(|all| all.get(&name));
    let receives = attribute(MessageSystemAttributeName::ApproximateReceiveCount).and_then(|text| text.parse().ok());
    let sent_at = attribute(MessageSystemAttributeName::SentTimestamp)
        .and_then(|text| text.parse().ok())
        .and_then(|at| Timestamp::from_millisecond(at).ok());
    let encoding = message.message_attributes.as_ref().and_then(|all| all.get(ENCODING)?.string_value.as_deref());
    let text = message.body.ok_or_else(|| missing("body"))?;
    Ok(Delivery {
        id: message.message_id.ok_or_else(|| missing("id"))?,
        body: decode(text, encoding),
        receipt: Receipt(message.receipt_handle.ok_or_else(|| missing("receipt"))?),
        receives: receives.ok_or_else(|| missing("receive count"))?,
        sent_at: sent_at.ok_or_else(|| missing("time"))?,
    })
}

/// What is not encoded as it claims is text: whoever reads it says that it is not what was expected.
fn decode(text: String, encoding: Option<&str>) -> Body {
    match (encoding, STANDARD.decode(&text)) {
        (Some(BINARY), Ok(bytes)) => Body::Binary(bytes.into()),
        (Some(TEXT), Ok(bytes)) => Body::Text(String::from_utf8(bytes).unwrap_or(text)),
        _ => Body::Text(text),
    }
}

/// An entry refused for its receipt is stale, which settles it; one that SQS could not do now is to be tried again.
fn unless_stale(from: &QueueRef, failed: &[BatchResultErrorEntry]) -> Result<(), BackendError> {
    match failed.iter().find(|entry| !entry.sender_fault || aws::passes(&entry.code)) {
        Some(entry) => Err(BackendError::Retry(format!("SQS {from}: {}", text_of(entry)))),
        None => {
            failed.iter().for_each(|entry| tracing::debug!(queue = %from, why = text_of(entry), "a receipt is stale"));
            Ok(())
        }
    }
}

fn text_of(entry: &BatchResultErrorEntry) -> String {
    format!("{}: {}", entry.code, entry.message.as_deref().unwrap_or("no reason given"))
}

fn string(value: &str) -> Result<MessageAttributeValue, BackendError> {
    MessageAttributeValue::builder().data_type("String").string_value(value).build().map_err(incomplete)
}

fn incomplete(e: impl std::fmt::Display) -> BackendError {
    BackendError::Fatal(format!("SQS: {e}"))
}

fn at(id: &str) -> Option<usize> {
    id.parse().ok()
}

/// Rounded up: SQS knows whole seconds, and nothing is to come back early.
fn seconds(time: Duration) -> i32 {
    time.as_millis().div_ceil(1_000).try_into().unwrap_or(i32::MAX)
}
