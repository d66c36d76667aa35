//! The seams as AWS bills them: every call is counted in the units of its service, as the AWS adapters make it, and takes the time
//! that a call within a region takes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use streammanager::blobs::{BlobRef, Blobs, MemoryBlobs};
use streammanager::embedded::Embedded;
use streammanager::error::BackendError;
use streammanager::limits::{MESSAGE_BYTES, QUEUE_BATCH, QUEUE_COUNTED_FOR, QUEUE_POLL};
use streammanager::queue::{Body, Delivery, Depth, Message, Queue, QueueRef, Receipt, Remains, SendError, Settle};
use streammanager::record::Outgoing;
use streammanager::sink::{Lane, Position, Sent, Sink, TopicReport};
use streammanager::store::{Expect, Item, Key, PutError, Store, Version};
use streammanager::time::{Clock, Timestamp};
use tokio::time::{Instant, sleep};

use super::Billed;

/// A request to SQS is billed once for each of these that its messages have.
const SQS_CHUNK: usize = 64 * 1024;
/// Of a request to SQS and its answer: their headers, signature and addresses.
const SQS_REQUEST_BYTES: u64 = 1_500;
/// What a DynamoDB write unit and a strongly consistent read unit hold.
const WRITE_UNIT: usize = 1024;
const READ_UNIT: usize = 4096;
/// An item's attributes beside its keys and its value: their names, a version and two times.
const ATTRIBUTES: usize = 60;

/// How long calls take within a region; a function is billed while it waits for them.
const SQS_TAKES: Duration = Duration::from_millis(10);
const DYNAMO_TAKES: Duration = Duration::from_millis(5);
const S3_TAKES: Duration = Duration::from_millis(30);
const KAFKA_TAKES: Duration = Duration::from_millis(5);

/// What has been counted so far, and what is stored.
#[derive(Default)]
pub(super) struct Meter {
    counts: Mutex<BTreeMap<Billed, u64>>,
    items: Mutex<HashMap<Key, Lies>>,
}

/// An item that lies in the table.
#[derive(Clone, Copy)]
struct Lies {
    bytes: usize,
    since: Instant,
    /// How long after it was first written it ends, as its last write says. `None`: it stays.
    lasts: Option<Duration>,
}

impl Meter {
    pub(super) fn add(&self, what: Billed, units: u64) {
        *self.counts.lock().entry(what).or_default() += units;
    }

    pub(super) fn counts(&self) -> BTreeMap<Billed, u64> {
        self.counts.lock().clone()
    }

    /// What will lie in the table when as much expires as is added: what was first written since `began` comes again and again in
    /// as much time, and each of them lies there until it expires.
    pub(super) fn item_bytes(&self, began: Instant) -> u64 {
        let counted = began.elapsed().as_secs_f64();
        let at_a_time = |item: &Lies| match item.lasts {
            Some(lasts) if item.since >= began && counted > 0.0 => (lasts.as_secs_f64() / counted).max(1.0),
            _ => 1.0,
        };
        self.items.lock().values().map(|item| (item.bytes as f64 * at_a_time(item)) as u64).sum()
    }
}

/// How many of `chunk` bytes are billed.
pub(super) fn chunks(bytes: usize, chunk: usize) -> u64 {
    bytes.div_ceil(chunk).max(1) as u64
}

/// As it travels: what is binary as base64.
fn length(body: &Body) -> usize {
    match body {
        Body::Text(text) => text.len(),
        Body::Binary(bytes) => bytes.len().div_ceil(3) * 4,
    }
}

/// What one environment reaches, all of it billed to one account.
#[derive(Clone)]
pub(super) struct Metered {
    inner: Embedded,
    meter: Arc<Meter>,
    clock: Clock,
    /// Reaches SQS by the VPC's endpoint, which is paid for by what passes.
    by_endpoint: bool,
    /// When this environment counted a queue last.
    counted: Arc<Mutex<BTreeMap<QueueRef, Instant>>>,
}

impl Metered {
    pub(super) fn new(inner: Embedded, meter: Arc<Meter>, clock: Clock, by_endpoint: bool) -> Metered {
        Metered { inner, meter, clock, by_endpoint, counted: Arc::default() }
    }

    /// `bytes`: of the bodies that pass.
    async fn sqs(&self, requests: u64, bytes: usize) {
        self.meter.add(Billed::SqsRequests, requests);
        if self.by_endpoint {
            self.meter.add(Billed::EndpointBytes, requests * SQS_REQUEST_BYTES + bytes as u64);
        }
        sleep(SQS_TAKES).await;
    }

    async fn read(&self, bytes: usize) {
        self.meter.add(Billed::DynamoReads, chunks(bytes, READ_UNIT));
        sleep(DYNAMO_TAKES).await;
    }

    async fn written(&self, bytes: usize) {
        self.meter.add(Billed::DynamoWrites, chunks(bytes, WRITE_UNIT));
        sleep(DYNAMO_TAKES).await;
    }
}

#[async_trait]
impl Queue for Metered {
    async fn send(&self, to: &QueueRef, messages: &[Message]) -> Result<Vec<Result<(), SendError>>, BackendError> {
        let now = Instant::now();
        let counted = self.counted.lock().insert(to.clone(), now);
        if counted.is_none_or(|at| now - at >= QUEUE_COUNTED_FOR) {
            self.sqs(1, 0).await;
        } else if let Some(at) = counted {
            self.counted.lock().insert(to.clone(), at);
        }
        let (mut entries, mut bytes, mut requests, mut all) = (0, 0, 0, 0);
        for length in messages.iter().map(|message| length(&message.body)) {
            all += length;
            if entries == QUEUE_BATCH || bytes + length > MESSAGE_BYTES {
                requests += chunks(bytes, SQS_CHUNK);
                (entries, bytes) = (0, 0);
            }
            (entries, bytes) = (entries + 1, bytes + length);
        }
        if entries > 0 {
            self.sqs(requests + chunks(bytes, SQS_CHUNK), all).await;
        }
        self.inner.send(to, messages).await
    }

    async fn receive(&self, from: &QueueRef, max: usize, wait: Duration) -> Result<Vec<Delivery>, BackendError> {
        let began = Instant::now();
        let got = self.inner.receive(from, max.min(QUEUE_BATCH), wait).await?;
        let empty = began.elapsed().as_secs() / QUEUE_POLL.as_secs();
        let bytes = got.iter().map(|one| length(&one.body)).sum();
        self.sqs(empty + chunks(bytes, SQS_CHUNK), bytes).await;
        Ok(got)
    }

    fn end_waits(&self, from: &QueueRef) {
        self.inner.end_waits(from);
    }

    async fn settle(&self, from: &QueueRef, receipts: &[(Receipt, Settle)]) -> Result<(), BackendError> {
        let forgotten = receipts.iter().filter(|(_, settle)| *settle == Settle::Forget).count();
        let hidden = receipts.len() - forgotten;
        self.sqs((forgotten.div_ceil(QUEUE_BATCH) + hidden.div_ceil(QUEUE_BATCH)) as u64, 0).await;
        self.inner.settle(from, receipts).await
    }

    async fn replace(&self, from: &QueueRef, receipt: &Receipt, remainder: Body) -> Result<Remains, BackendError> {
        self.sqs(1 + chunks(length(&remainder), SQS_CHUNK), length(&remainder)).await;
        self.inner.replace(from, receipt, remainder).await
    }

    async fn depth(&self, of: &QueueRef) -> Result<Depth, BackendError> {
        self.sqs(1, 0).await;
        self.inner.depth(of).await
    }
}

fn size(key: &Key, value: usize) -> usize {
    key.partition.len() + key.sort.len() + value + ATTRIBUTES
}

#[async_trait]
impl Store for Metered {
    async fn get(&self, key: &Key) -> Result<Option<Item>, BackendError> {
        let item = self.inner.get(key).await?;
        self.read(item.as_ref().map_or(0, |item| size(key, item.value.len()))).await;
        Ok(item)
    }

    async fn list(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<Item>, BackendError> {
        let items = self.inner.list(partition, prefix, after, max).await?;
        self.read(items.iter().map(|item| size(&item.key, item.value.len())).sum()).await;
        Ok(items)
    }

    async fn put_if(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        expires: Option<Timestamp>,
    ) -> Result<Version, PutError> {
        let bytes = size(key, value.len());
        // A condition that does not hold is billed as the write that it refused.
        self.written(bytes).await;
        let version = self.inner.put_if(key, value, expect, expires).await?;
        let now = Instant::now();
        let left = expires.map(|at| Duration::try_from(at.duration_since(self.clock.now())).unwrap_or_default());
        let mut items = self.meter.items.lock();
        let since = items.get(key).map_or(now, |item| item.since);
        items.insert(key.clone(), Lies { bytes, since, lasts: left.map(|left| now - since + left) });
        Ok(version)
    }

    async fn delete_if(&self, key: &Key, expect: Expect) -> Result<(), PutError> {
        let bytes = self.meter.items.lock().get(key).map_or(0, |item| item.bytes);
        self.written(bytes).await;
        self.inner.delete_if(key, expect).await?;
        self.meter.items.lock().remove(key);
        Ok(())
    }
}

/// Bytes by content, billed by the request and by what stays.
#[derive(Clone)]
pub(super) struct MeteredBlobs {
    pub(super) inner: MemoryBlobs,
    pub(super) meter: Arc<Meter>,
}

#[async_trait]
impl Blobs for MeteredBlobs {
    async fn put(&self, bytes: Bytes) -> Result<BlobRef, BackendError> {
        self.meter.add(Billed::S3Puts, 1);
        self.meter.add(Billed::S3Bytes, bytes.len() as u64);
        sleep(S3_TAKES).await;
        self.inner.put(bytes).await
    }

    async fn get(&self, blob: &BlobRef) -> Result<Option<Bytes>, BackendError> {
        self.meter.add(Billed::S3Gets, 1);
        sleep(S3_TAKES).await;
        self.inner.get(blob).await
    }

    async fn delete(&self, blob: &BlobRef) -> Result<(), BackendError> {
        sleep(S3_TAKES).await;
        self.inner.delete(blob).await
    }
}

/// A broker that takes everything; what it costs is not counted here.
pub(super) struct Kafka(pub(super) Arc<Meter>);

#[async_trait]
impl Sink for Kafka {
    async fn send(&self, _: Lane, records: &[Outgoing]) -> Vec<Sent> {
        sleep(KAFKA_TAKES).await;
        self.0.add(Billed::Records, records.len() as u64);
        vec![Sent::Acked(None); records.len()]
    }

    async fn answers(&self) -> bool {
        sleep(KAFKA_TAKES).await;
        true
    }

    async fn check(&self) -> Result<Vec<TopicReport>, BackendError> {
        Ok(Vec::new())
    }

    async fn positions(&self) -> Result<Vec<Position>, BackendError> {
        Ok(Vec::new())
    }
}
