//! A Kinesis stream of one shard on this host: records durable in the store, read in order from a durable checkpoint by the
//! function's event source. What the checkpoint has passed is deleted: the event source is the only reader here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};
use streammanager::error::BackendError;
use streammanager::store::{Expect, Item, Key, PutError, Store};
use streammanager::time::Clock;
use streammanager_functions::events::BatchResponse;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::functions::Functions;

/// Unread records that a stream holds; a publisher beyond that is told to wait.
const CAPACITY: u64 = 200_000;
/// A failed batch is tried again after this.
const RETRY_WAIT: Duration = Duration::from_secs(1);
const SHARD: &str = "shardId-000000000000";

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shard(Arc<Inner>);

struct Inner {
    name: String,
    store: Arc<dyn Store>,
    next: AtomicU64,
    read: AtomicU64,
    arrived: Notify,
}

/// Why a record was not taken.
#[derive(Debug)]
pub(crate) enum NotPut {
    /// At capacity: try again when the reader has caught up.
    Full,
    Away(BackendError),
}

impl Shard {
    /// Continues where an earlier run stopped.
    pub(crate) async fn open(name: &str, store: Arc<dyn Store>) -> Result<Shard, BackendError> {
        let partition = records(name);
        let read = match store.get(&checkpoint(name)).await? {
            Some(item) => String::from_utf8_lossy(&item.value).parse().unwrap_or(0),
            None => 0,
        };
        let mut last = read;
        while let Some(item) = store.list(&partition, "", Some(&sequence(last)), 1000).await?.pop() {
            last = number(&item);
        }
        let (next, read) = (AtomicU64::new(last + 1), AtomicU64::new(read));
        Ok(Shard(Arc::new(Inner { name: name.into(), store, next, read, arrived: Notify::new() })))
    }

    /// Durable when it returns.
    pub(crate) async fn put(&self, partition_key: &str, data: &[u8]) -> Result<(), NotPut> {
        if self.unread() >= CAPACITY {
            return Err(NotPut::Full);
        }
        let mut value = Vec::with_capacity(partition_key.len() + 1 + data.len());
        value.extend_from_slice(partition_key.as_bytes());
        value.push(0);
        value.extend_from_slice(data);
        let key = Key::new(records(&self.0.name), sequence(self.0.next.fetch_add(1, Ordering::Relaxed)));
        match self.0.store.put_if(&key, Bytes::from(value), Expect::Absent, None).await {
            Ok(_) => {
                self.0.arrived.notify_one();
                Ok(())
            }
            Err(PutError::Backend(e)) => Err(NotPut::Away(e)),
            Err(e) => Err(NotPut::Away(BackendError::Fatal(e.to_string()))),
        }
    }

    /// Records put and not yet passed by the checkpoint.
    pub(crate) fn unread(&self) -> u64 {
        self.0.next.load(Ordering::Relaxed) - 1 - self.0.read.load(Ordering::Relaxed)
    }

    /// The event source: batches in order, the checkpoint after each.
    pub(crate) async fn run(
        self,
        functions: Functions,
        function: String,
        batch_size: usize,
        clock: Clock,
        stop: CancellationToken,
    ) {
        loop {
            let arrived = self.0.arrived.notified();
            match self.one_batch(&functions, &function, batch_size, &clock).await {
                Ok(true) => {}
                Ok(false) => tokio::select! { biased;
                    () = stop.cancelled() => return,
                    () = arrived => {}
                    () = tokio::time::sleep(RETRY_WAIT) => {}
                },
                Err(problem) => {
                    tracing::warn!(problem, function, "a Kinesis batch is tried again");
                    tokio::time::sleep(RETRY_WAIT).await;
                }
            }
            if stop.is_cancelled() {
                return;
            }
        }
    }

    /// `false`: nothing to read.
    async fn one_batch(
        &self,
        functions: &Functions,
        function: &str,
        batch_size: usize,
        clock: &Clock,
    ) -> Result<bool, String> {
        let read = self.0.read.load(Ordering::Relaxed);
        let partition = records(&self.0.name);
        let items =
            self.0.store.list(&partition, "", Some(&sequence(read)), batch_size).await.map_err(|e| e.to_string())?;
        let Some(last) = items.last().map(number) else { return Ok(false) };
        let answer = functions.invoke(function, self.event(&items, clock)).await.map_err(|e| e.to_string())?;
        let response: BatchResponse = serde_json::from_value(answer).map_err(|e| e.to_string())?;
        let failed =
            response.batch_item_failures.iter().filter_map(|item| item.item_identifier.parse::<u64>().ok()).min();
        let done = failed.map_or(last, |failed| failed.saturating_sub(1));
        self.pass(read, done, &items).await.map_err(|e| e.to_string())?;
        match failed {
            None => Ok(true),
            Some(from) => Err(format!("records from {from} on failed")),
        }
    }

    async fn pass(&self, read: u64, done: u64, items: &[Item]) -> Result<(), PutError> {
        if done <= read {
            return Ok(());
        }
        let value = Bytes::from(done.to_string());
        self.0.store.put_if(&checkpoint(&self.0.name), value, Expect::Any, None).await?;
        self.0.read.store(done, Ordering::Relaxed);
        let passed = items.iter().filter(|item| number(item) <= done);
        let deletes = passed.map(|item| self.0.store.delete_if(&item.key, Expect::Any));
        futures::future::try_join_all(deletes).await.map(|_| ())
    }

    fn event(&self, items: &[Item], clock: &Clock) -> Value {
        let arrived = clock.now().as_millisecond() as f64 / 1000.0;
        let records: Vec<Value> = items
            .iter()
            .map(|item| {
                let split = item.value.iter().position(|&byte| byte == 0).unwrap_or(0);
                let sequence_number = number(item).to_string();
                json!({
                    "kinesis": {
                        "kinesisSchemaVersion": "1.0",
                        "partitionKey": String::from_utf8_lossy(&item.value[..split]),
                        "sequenceNumber": sequence_number,
                        "data": BASE64.encode(&item.value[(split + 1).min(item.value.len())..]),
                        "approximateArrivalTimestamp": arrived,
                    },
                    "eventSource": "aws:kinesis",
                    "eventVersion": "1.0",
                    "eventID": format!("{SHARD}:{sequence_number}"),
                    "eventName": "aws:kinesis:record",
                    "awsRegion": "us-west-2",
                    "eventSourceARN": format!("arn:aws:kinesis:us-west-2:000000000000:stream/{}", self.0.name),
                })
            })
            .collect();
        json!({ "Records": records })
    }
}

fn records(stream: &str) -> String {
    format!("kinesis/{stream}/{SHARD}")
}

fn checkpoint(stream: &str) -> Key {
    Key::new(format!("kinesis/{stream}"), format!("checkpoint/{SHARD}"))
}

fn sequence(number: u64) -> String {
    format!("{number:020}")
}

fn number(item: &Item) -> u64 {
    item.key.sort.parse().unwrap_or(0)
}
