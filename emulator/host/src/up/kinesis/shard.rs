//! One shard of a Kinesis stream on this host: records durable in the store, read in order from a durable checkpoint by the
//! function's event source. What the checkpoint has passed is deleted: the event source is the only reader here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::future::join_all;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use streammanager::error::BackendError;
use streammanager::store::{self, Expect, Item, Key, Store};
use streammanager::time::Clock;
use streammanager_functions::events::BatchResponse;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{NotPut, Stores};
use crate::up::functions::Functions;
use crate::up::limits::{KINESIS_EVENT_BYTES, KINESIS_PAGE};

/// Unread records that a shard holds; a publisher beyond that is told to wait.
const CAPACITY: usize = 50_000;
/// Shards that a template can ask for.
const SHARDS_MOST: u64 = 10_000;
/// A failed batch is tried again after this.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// What an event says of a record beside its data, about.
const EVENT_RECORD_BYTES: usize = 500;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Shard(Arc<Inner>);

struct Inner {
    stream: String,
    /// Its place among the stream's shards.
    nth: usize,
    /// Such as `shardId-000000000000`.
    id: String,
    store: Arc<dyn Store>,
    /// The same store for new records.
    intake: Arc<dyn Store>,
    numbers: Mutex<Numbers>,
    arrived: Notify,
}

/// Sequence numbers; every number below `next` is passed, stored, unanswered, or was never stored.
struct Numbers {
    next: u64,
    /// The checkpoint.
    read: u64,
    stored: BTreeSet<u64>,
    /// Taken by puts that are under way. Their records may become visible in any order, so nothing is read beyond the
    /// smallest: the checkpoint would pass a record that is acknowledged later.
    unanswered: BTreeSet<u64>,
}

impl Numbers {
    fn unread(&self) -> usize {
        self.stored.len() + self.unanswered.len()
    }

    /// The first number that may not be read yet.
    fn end(&self) -> u64 {
        self.unanswered.first().copied().unwrap_or(self.next)
    }
}

/// A put's number, unanswered until it is dropped: also a publisher that went away frees it.
struct Taken<'s> {
    shard: &'s Inner,
    number: u64,
}

impl Taken<'_> {
    fn stored(&self) {
        self.shard.numbers().stored.insert(self.number);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.shard.numbers().unanswered.remove(&self.number);
        self.shard.arrived.notify_one();
    }
}

impl Inner {
    fn records(&self) -> String {
        records(&self.stream, &self.id)
    }

    /// As the function sees it: no two records of a stream have one number, as in Kinesis.
    fn published(&self, sequence: u64) -> String {
        (sequence * SHARDS_MOST + self.nth as u64).to_string()
    }

    fn own(&self, published: &str) -> Option<u64> {
        published.parse::<u64>().ok().map(|number| number / SHARDS_MOST)
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock()
    }

    fn take_number(&self) -> Option<Taken<'_>> {
        let mut numbers = self.numbers();
        if numbers.unread() >= CAPACITY {
            return None;
        }
        let number = numbers.next;
        numbers.next += 1;
        numbers.unanswered.insert(number);
        Some(Taken { shard: self, number })
    }
}

impl Shard {
    /// Continues where an earlier run stopped.
    pub(super) async fn open(stream: &str, nth: usize, stores: Stores) -> Result<Shard, BackendError> {
        let Stores { store, intake } = stores;
        let id = format!("shardId-{nth:012}");
        let partition = records(stream, &id);
        let read = match store.get(&checkpoint(stream, &id)).await? {
            Some(item) => String::from_utf8_lossy(&item.value).parse().unwrap_or(0),
            None => 0,
        };
        let (mut stored, mut last) = (BTreeSet::new(), None);
        loop {
            let items = store.list(&partition, "", last.as_deref(), 1000).await?;
            let Some(end) = items.last() else { break };
            last = Some(end.key.sort.clone());
            for item in items {
                if sequence_of(&item) > read {
                    stored.insert(sequence_of(&item));
                    continue;
                }
                // Passed, but a kill came before its deletion.
                store::remove(&*store, &item.key).await?;
            }
        }
        let next = stored.last().copied().unwrap_or(read) + 1;
        let numbers = Mutex::new(Numbers { next, read, stored, unanswered: BTreeSet::new() });
        Ok(Shard(Arc::new(Inner { stream: stream.into(), nth, id, store, intake, numbers, arrived: Notify::new() })))
    }

    /// Durable when it returns.
    pub(super) async fn put(&self, partition_key: &str, data: &[u8]) -> Result<(), NotPut> {
        let taken = self.0.take_number().ok_or(NotPut::Full)?;
        let mut value = Vec::with_capacity(partition_key.len() + 1 + data.len());
        value.extend_from_slice(partition_key.as_bytes());
        value.push(0);
        value.extend_from_slice(data);
        let key = Key::new(self.0.records(), sequence(taken.number));
        match self.0.intake.put_if(&key, Bytes::from(value), Expect::Absent, None).await {
            Ok(_) => {
                taken.stored();
                Ok(())
            }
            Err(e) => Err(NotPut::Away(e.unexpected("a Kinesis record"))),
        }
    }

    /// Records put, or being put, and not yet passed by the checkpoint.
    pub(super) fn unread(&self) -> u64 {
        self.0.numbers().unread() as u64
    }

    /// The event source: batches in order, the checkpoint after each.
    pub(super) async fn run(
        self,
        functions: Functions,
        function: String,
        batch_size: usize,
        clock: Clock,
        stop: CancellationToken,
    ) {
        let mut passed = Vec::new();
        loop {
            let arrived = self.0.arrived.notified();
            match self.one_batch(&functions, &function, batch_size, &clock, &mut passed).await {
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

    /// `false`: nothing to read. `passed`: records that the checkpoint has passed and that are still stored; they are
    /// deleted beside the function's work, so that no batch waits for it.
    async fn one_batch(
        &self,
        functions: &Functions,
        function: &str,
        batch_size: usize,
        clock: &Clock,
        passed: &mut Vec<Key>,
    ) -> Result<bool, String> {
        let (read, items) = self.next_batch(batch_size).await.map_err(|e| e.to_string())?;
        let Some(last) = items.last().map(sequence_of) else {
            self.delete(passed).await;
            return Ok(false);
        };
        let (answer, ()) = tokio::join!(functions.invoke(function, self.event(&items, clock)), self.delete(passed));
        let answer = answer.map_err(|e| e.to_string())?;
        let response: BatchResponse = serde_json::from_value(answer).map_err(|e| e.to_string())?;
        let failed = response.batch_item_failures.iter().filter_map(|item| self.0.own(&item.item_identifier)).min();
        let done = failed.map_or(last, |failed| failed.saturating_sub(1));
        passed.extend(self.pass(read, done, &items).await.map_err(|e| e.to_string())?);
        match failed {
            None => Ok(true),
            Some(from) => Err(format!("records from {from} on failed")),
        }
    }

    /// The checkpoint and the records after it, as far as every put before them is answered. As on AWS a batch ends with
    /// `batch_size` records or before an event that would be too large, whichever comes first.
    async fn next_batch(&self, batch_size: usize) -> Result<(u64, Vec<Item>), BackendError> {
        let (read, end) = {
            let numbers = self.0.numbers();
            (numbers.read, numbers.end())
        };
        let partition = self.0.records();
        let (mut items, mut bytes): (Vec<Item>, usize) = (Vec::new(), 0);
        loop {
            let after = items.last().map_or_else(|| sequence(read), |item| item.key.sort.clone());
            let wanted = KINESIS_PAGE.min(batch_size - items.len());
            let page = self.0.store.list(&partition, "", Some(&after), wanted).await?;
            let is_last = page.len() < wanted;
            for item in page {
                bytes += event_bytes(&item);
                if sequence_of(&item) >= end || (bytes > KINESIS_EVENT_BYTES && !items.is_empty()) {
                    return Ok((read, items));
                }
                items.push(item);
            }
            if is_last || items.len() >= batch_size {
                return Ok((read, items));
            }
        }
    }

    /// Moves the checkpoint; the records that it has passed now.
    async fn pass(&self, read: u64, done: u64, items: &[Item]) -> Result<Vec<Key>, BackendError> {
        if done <= read {
            return Ok(Vec::new());
        }
        let value = Bytes::from(done.to_string());
        let moved = self.0.store.put_if(&checkpoint(&self.0.stream, &self.0.id), value, Expect::Any, None).await;
        moved.map_err(|e| e.unexpected("a Kinesis checkpoint"))?;
        let passed: Vec<&Item> = items.iter().filter(|item| sequence_of(item) <= done).collect();
        let mut numbers = self.0.numbers();
        numbers.read = done;
        for item in &passed {
            numbers.stored.remove(&sequence_of(item));
        }
        Ok(passed.into_iter().map(|item| item.key.clone()).collect())
    }

    /// What cannot be deleted now stays in `passed` for the next time, or is deleted when the shard is opened again.
    async fn delete(&self, passed: &mut Vec<Key>) {
        let keys = std::mem::take(passed);
        let removed = join_all(keys.iter().map(|key| store::remove(&*self.0.store, key))).await;
        for (key, removed) in keys.into_iter().zip(removed) {
            if let Err(problem) = removed {
                tracing::warn!(%problem, shard = self.0.id, "a record that was read could not be deleted");
                passed.push(key);
            }
        }
    }

    fn event(&self, items: &[Item], clock: &Clock) -> Value {
        let arrived = clock.now().as_millisecond() as f64 / 1000.0;
        let records: Vec<Value> = items
            .iter()
            .map(|item| {
                let split = item.value.iter().position(|&byte| byte == 0).unwrap_or(0);
                let sequence_number = self.0.published(sequence_of(item));
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
                    "eventID": format!("{}:{sequence_number}", self.0.id),
                    "eventName": "aws:kinesis:record",
                    "awsRegion": "us-west-2",
                    "eventSourceARN": format!("arn:aws:kinesis:us-west-2:000000000000:stream/{}", self.0.stream),
                })
            })
            .collect();
        json!({ "Records": records })
    }
}

fn records(stream: &str, shard: &str) -> String {
    format!("kinesis/{stream}/{shard}")
}

fn checkpoint(stream: &str, shard: &str) -> Key {
    Key::new(format!("kinesis/{stream}"), format!("checkpoint/{shard}"))
}

fn sequence(number: u64) -> String {
    format!("{number:020}")
}

fn event_bytes(item: &Item) -> usize {
    item.value.len().div_ceil(3) * 4 + EVENT_RECORD_BYTES
}

fn sequence_of(item: &Item) -> u64 {
    item.key.sort.parse().unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use streammanager::embedded::{Commits, Embedded, MemoryDisk, Options};
    use streammanager::faults::{Fault, Faults, Faulty};

    use super::*;

    const FIRST: &str = "shardId-000000000000";

    fn store() -> (Arc<dyn Store>, Faults) {
        let options = Options { commits: Commits::Inline, ..Options::new(Clock::system()) };
        let (inner, faults) = (Embedded::on_disk(&MemoryDisk::new(), options).unwrap(), Faults::none());
        (Arc::new(Faulty::new(inner, faults.clone())), faults)
    }

    async fn batch(shard: &Shard) -> (u64, Vec<Item>) {
        shard.next_batch(100).await.unwrap()
    }

    fn numbers(items: &[Item]) -> Vec<u64> {
        items.iter().map(sequence_of).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_beyond_a_put_that_is_not_answered() {
        let (store, faults) = store();
        let shard = Shard::open("s", 0, Stores::both(store)).await.unwrap();
        shard.put("a", b"1").await.unwrap();
        faults.script([Fault::Late(Duration::from_secs(1))]);
        let slow = tokio::spawn({
            let shard = shard.clone();
            async move { shard.put("slow", b"2").await }
        });
        tokio::task::yield_now().await;
        shard.put("a", b"3").await.unwrap();
        let (read, items) = batch(&shard).await;
        assert_eq!((numbers(&items), shard.unread()), (vec![1], 3));
        let mut passed = shard.pass(read, 1, &items).await.unwrap();
        shard.delete(&mut passed).await;
        assert!(passed.is_empty());
        assert!(batch(&shard).await.1.is_empty());

        slow.await.unwrap().unwrap();
        let (read, items) = batch(&shard).await;
        assert_eq!(numbers(&items), [2, 3]);
        shard.pass(read, 3, &items).await.unwrap();
        assert_eq!(shard.unread(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_put_that_failed_or_whose_publisher_left_holds_nothing_up() {
        let (store, faults) = store();
        let shard = Shard::open("s", 0, Stores::both(store)).await.unwrap();
        faults.script([Fault::Before, Fault::Late(Duration::from_secs(1))]);
        assert!(matches!(shard.put("a", b"1").await, Err(NotPut::Away(BackendError::Retry(_)))));
        let left = tokio::time::timeout(Duration::from_millis(1), shard.put("slow", b"2"));
        assert!(left.await.is_err());
        assert_eq!(shard.unread(), 0);
        shard.put("a", b"3").await.unwrap();
        assert_eq!((numbers(&batch(&shard).await.1), shard.unread()), (vec![3], 1));
    }

    #[tokio::test]
    async fn l5_a_batch_ends_with_its_size_or_before_an_event_that_lambda_would_refuse() {
        let (store, _) = store();
        let shard = Shard::open("s", 0, Stores::both(store)).await.unwrap();
        let large = vec![b'x'; 300 * 1024];
        for _ in 0..20 {
            shard.put("a", &large).await.unwrap();
        }
        for _ in 0..250 {
            shard.put("a", b"1").await.unwrap();
        }
        let (mut next, mut sizes) = (1, Vec::new());
        while shard.unread() > 0 {
            let (read, items) = shard.next_batch(220).await.unwrap();
            let event = shard.event(&items, &Clock::system());
            assert!(event.to_string().len() <= KINESIS_EVENT_BYTES);
            // Nothing is passed over, and the order is kept.
            assert_eq!(numbers(&items), (next..next + items.len() as u64).collect::<Vec<_>>());
            next += items.len() as u64;
            sizes.push(items.len());
            shard.pass(read, next - 1, &items).await.unwrap();
        }
        assert_eq!(sizes, [15, 220, 35]);
    }

    #[tokio::test]
    async fn what_was_read_and_not_passed_before_a_kill_comes_again_under_the_same_numbers() {
        let (store, _) = store();
        let shard = Shard::open("s", 1, Stores::both(store.clone())).await.unwrap();
        for data in ["1", "2", "3"] {
            shard.put("a", data.as_bytes()).await.unwrap();
        }
        let ids = |shard: &Shard, items: &[Item]| {
            let event = shard.event(items, &Clock::system());
            let records = event["Records"].as_array().unwrap().clone();
            records.into_iter().map(|record| record["eventID"].clone()).collect::<Vec<_>>()
        };
        let before = ids(&shard, &batch(&shard).await.1);
        assert_eq!(before.len(), 3);
        let shard = Shard::open("s", 1, Stores::both(store)).await.unwrap();
        assert_eq!(ids(&shard, &batch(&shard).await.1), before);
    }

    #[tokio::test]
    async fn what_a_kill_left_behind_the_checkpoint_is_deleted_and_the_rest_is_still_unread() {
        let (store, _) = store();
        let shard = Shard::open("s", 0, Stores::both(store.clone())).await.unwrap();
        for data in ["1", "2", "3"] {
            shard.put("a", data.as_bytes()).await.unwrap();
        }
        store.put_if(&checkpoint("s", FIRST), Bytes::from_static(b"2"), Expect::Any, None).await.unwrap();
        let shard = Shard::open("s", 0, Stores::both(store.clone())).await.unwrap();
        assert_eq!(numbers(&store.list(&records("s", FIRST), "", None, 10).await.unwrap()), [3]);
        assert_eq!(shard.unread(), 1);
        shard.put("a", b"4").await.unwrap();
        assert_eq!(numbers(&batch(&shard).await.1), [3, 4]);
    }
}
