//! One shard of a Kinesis stream on this host, and the function's event source that reads it: batches in order, the checkpoint
//! after each. What the checkpoint has passed is deleted: the event source is the only reader here.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use streammanager::error::BackendError;
use streammanager_functions::events::{BatchResponse, KinesisData, KinesisEvent, KinesisRecord};
use tokio_util::sync::CancellationToken;

use super::Stores;
use super::block::Record;
use super::log::Log;
use crate::up::functions::Functions;
use crate::up::limits::KINESIS_EVENT_BYTES;

/// Shards that a template can ask for.
const SHARDS_MOST: u64 = 10_000;
/// A failed batch is tried again after this.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Shard {
    /// Its place among the stream's shards.
    nth: usize,
    log: Log,
}

impl Shard {
    /// Continues where an earlier run stopped.
    pub(super) async fn open(stream: &str, nth: usize, stores: Stores) -> Result<Shard, BackendError> {
        let log = Log::open(stream, &id(nth), stores).await?;
        Ok(Shard { nth, log })
    }

    /// Durable when it returns. It waits while the shard is full or the store is away.
    pub(super) async fn put(&self, partition_key: String, data: Vec<u8>) -> Result<(), BackendError> {
        self.log.put(partition_key, data).await
    }

    /// Records put, or being put, and not yet passed by the checkpoint.
    pub(super) fn unread(&self) -> u64 {
        self.log.unread()
    }

    /// The event source.
    pub(super) async fn run(self, functions: Functions, function: String, batch_size: usize, stop: CancellationToken) {
        let mut passed = Vec::new();
        loop {
            let arrived = self.log.arrived();
            match self.one_batch(&functions, &function, batch_size, &mut passed).await {
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

    /// `false`: nothing to read. `passed`: blocks that the checkpoint has passed and that are still stored; they are deleted
    /// beside the function's work, so that no batch waits for it.
    async fn one_batch(
        &self,
        functions: &Functions,
        function: &str,
        batch_size: usize,
        passed: &mut Vec<u64>,
    ) -> Result<bool, String> {
        let records = self.log.next(batch_size, KINESIS_EVENT_BYTES).await.map_err(|e| e.to_string())?;
        let Some(last) = records.last().map(|record| record.number) else {
            self.log.delete(passed).await;
            return Ok(false);
        };
        let invoked = functions.invoke_with_records(function, self.event(&records));
        let (response, ()) = tokio::join!(invoked, self.log.delete(passed));
        let response = response.map_err(|e| e.to_string())?;
        let (done, failed) = outcome(last, &response);
        passed.extend(self.log.pass(done).await.map_err(|e| e.to_string())?);
        match failed {
            None => Ok(true),
            Some(from) => Err(format!("records from {from} on failed")),
        }
    }

    fn event(&self, records: &[Record]) -> KinesisEvent {
        let shard = id(self.nth);
        let record = |record: &Record| {
            // No two records of a stream have one number, as in Kinesis.
            let sequence_number = (record.number * SHARDS_MOST + self.nth as u64).to_string();
            let kinesis = KinesisData {
                partition_key: String::from_utf8_lossy(&record.key).into_owned(),
                data: BASE64.encode(&record.data),
                sequence_number,
            };
            KinesisRecord { event_id: format!("{shard}:{}", kinesis.sequence_number), kinesis }
        };
        KinesisEvent { records: records.iter().map(record).collect() }
    }
}

fn id(nth: usize) -> String {
    format!("shardId-{nth:012}")
}

/// Up to which record a batch that ends with `last` is done, and the first one that failed.
fn outcome(last: u64, response: &BatchResponse) -> (u64, Option<u64>) {
    let failed = response.batch_item_failures.iter().filter_map(|item| own(&item.item_identifier)).min();
    (failed.map_or(last, |failed| failed.saturating_sub(1)), failed)
}

/// A record's number in its shard.
fn own(sequence_number: &str) -> Option<u64> {
    sequence_number.parse::<u64>().ok().map(|number| number / SHARDS_MOST)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use streammanager::embedded::{Commits, Embedded, MemoryDisk, Options};
    use streammanager::store::Store;
    use streammanager::time::Clock;

    use super::*;

    #[tokio::test]
    async fn what_was_read_and_not_passed_before_a_kill_comes_again_under_the_same_numbers() {
        let options = Options { commits: Commits::Inline, ..Options::new(Clock::system()) };
        let store: Arc<dyn Store> = Arc::new(Embedded::on_disk(&MemoryDisk::new(), options).unwrap());
        let shard = Shard::open("s", 1, Stores::both(store.clone())).await.unwrap();
        for data in ["1", "2", "3"] {
            shard.put("a".into(), data.into()).await.unwrap();
        }
        let ids = async |shard: &Shard| {
            let event = shard.event(&shard.log.next(100, KINESIS_EVENT_BYTES).await.unwrap());
            event.records.into_iter().map(|record| record.event_id).collect::<Vec<_>>()
        };
        let before = ids(&shard).await;
        assert_eq!(before, [10_001, 20_001, 30_001].map(|number| format!("shardId-000000000001:{number}")));
        let shard = Shard::open("s", 1, Stores::both(store)).await.unwrap();
        assert_eq!(ids(&shard).await, before);
        assert_eq!(own("20001"), Some(2));
    }

    #[test]
    fn q1_a_batch_is_done_up_to_its_first_failed_record() {
        let mut response = BatchResponse::default();
        assert_eq!(outcome(9, &response), (9, None));
        for failed in ["70001", "50001", "80001"] {
            response.fail(failed.to_owned());
        }
        assert_eq!(outcome(9, &response), (4, Some(5)));
    }

    #[tokio::test]
    async fn l5_an_event_is_not_larger_than_lambda_takes() {
        let options = Options { commits: Commits::Inline, ..Options::new(Clock::system()) };
        let store: Arc<dyn Store> = Arc::new(Embedded::on_disk(&MemoryDisk::new(), options).unwrap());
        let shard = Shard::open("s", 0, Stores::both(store)).await.unwrap();
        for _ in 0..20 {
            shard.put("a".into(), vec![b'x'; 300 * 1024]).await.unwrap();
        }
        let records = shard.log.next(1_000, KINESIS_EVENT_BYTES).await.unwrap();
        assert_eq!(records.len(), 15);
        let event = serde_json::to_string(&shard.event(&records)).unwrap();
        assert!(event.len() <= KINESIS_EVENT_BYTES && event.len() > KINESIS_EVENT_BYTES / 10 * 9, "{}", event.len());
    }
}
