//! One shard of a Kinesis stream on this host: its records, and what an event says of them. What the checkpoint has passed is
//! deleted: the event source is the only reader here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use streammanager::error::BackendError;
use streammanager::time::Clock;
use streammanager_functions::events::{KinesisData, KinesisEvent, KinesisRecord};

use super::Stores;
use super::block::Record;
use super::log::Log;
use crate::template::{ACCOUNT, REGION};

/// Shards that a template can ask for.
const SHARDS_MOST: u64 = 10_000;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Shard {
    /// Its place among the stream's shards.
    nth: usize,
    pub(super) log: Log,
}

impl Shard {
    /// Continues where an earlier run stopped.
    pub(super) async fn open(stream: &str, nth: usize, stores: Stores, clock: Clock) -> Result<Shard, BackendError> {
        let log = Log::open(stream, &id(nth), stores, clock).await?;
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

    /// As Kinesis calls it.
    pub(super) fn id(&self) -> String {
        id(self.nth)
    }

    /// What a function is given.
    pub(super) fn event(&self, records: &[Record], stream_arn: &str) -> KinesisEvent {
        let (shard, role) = (self.id(), format!("arn:aws:iam::{ACCOUNT}:role/local"));
        let record = |record: &Record| {
            let key = String::from_utf8_lossy(&record.key).into_owned();
            let put = KinesisRecord::put(&shard, key, self.sequence_number(record.number), BASE64.encode(&record.data));
            let approximate_arrival_timestamp = record.arrival.at.as_millisecond() as f64 / 1_000.0;
            KinesisRecord {
                invoke_identity_arn: role.clone(),
                aws_region: REGION.into(),
                event_source_arn: stream_arn.to_owned(),
                kinesis: KinesisData { approximate_arrival_timestamp, ..put.kinesis },
                ..put
            }
        };
        KinesisEvent { records: records.iter().map(record).collect() }
    }

    /// No two records of a stream have one, as in Kinesis.
    pub(super) fn sequence_number(&self, number: u64) -> String {
        (number * SHARDS_MOST + self.nth as u64).to_string()
    }

    /// The number in this shard of the record with this sequence number; `None` for another shard's.
    pub(super) fn number(&self, sequence_number: &str) -> Option<u64> {
        let sequence: u64 = sequence_number.parse().ok()?;
        (sequence % SHARDS_MOST == self.nth as u64).then_some(sequence / SHARDS_MOST)
    }
}

fn id(nth: usize) -> String {
    format!("shardId-{nth:012}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};
    use streammanager::embedded::{Commits, Embedded, MemoryDisk, Options};
    use streammanager::store::Store;
    use streammanager::time::Timestamp;

    use super::*;
    use crate::up::limits::EVENT_BYTES;

    const ARN: &str = "arn:aws:kinesis:us-west-2:000000000000:stream/s";

    fn store() -> Arc<dyn Store> {
        let options = Options { commits: Commits::Inline, ..Options::new(Clock::system()) };
        Arc::new(Embedded::on_disk(&MemoryDisk::new(), options).unwrap())
    }

    async fn open(nth: usize, store: &Arc<dyn Store>) -> Shard {
        Shard::open("s", nth, Stores::both(store.clone()), Clock::system()).await.unwrap()
    }

    #[tokio::test]
    async fn what_was_read_and_not_passed_before_a_kill_comes_again_under_the_same_numbers() {
        let store = store();
        let shard = open(1, &store).await;
        for data in ["1", "2", "3"] {
            shard.put("a".into(), data.into()).await.unwrap();
        }
        let events = async |shard: &Shard| {
            let records = shard.log.next(0, 100, EVENT_BYTES).await.unwrap().records;
            serde_json::to_value(shard.event(&records, ARN)).unwrap()
        };
        let before = events(&shard).await;
        let ids = |event: &Value| -> Vec<String> {
            let records = event["Records"].as_array().unwrap().iter();
            records.map(|record| record["eventID"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(ids(&before), [10_001, 20_001, 30_001].map(|number| format!("shardId-000000000001:{number}")));
        let shard = open(1, &store).await;
        // Their times of arrival too.
        assert_eq!(events(&shard).await, before);
        assert_eq!((shard.number("20001"), shard.number("20002"), shard.number("x")), (Some(2), None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn l5_a_record_of_an_event_has_all_that_aws_sends() {
        let clock = Clock::simulated(Timestamp::from_millisecond(1_545_084_650_987).unwrap());
        let shard = Shard::open("s", 6, Stores::both(store()), clock).await.unwrap();
        shard.put("1".into(), "Hello, this is a test.".into()).await.unwrap();
        let records = shard.log.next(0, 1, EVENT_BYTES).await.unwrap().records;
        let expected = json!({ "Records": [{
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": "1",
                "sequenceNumber": "10006",
                "data": "SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==",
                "approximateArrivalTimestamp": 1_545_084_650.987,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": "shardId-000000000006:10006",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": "arn:aws:iam::000000000000:role/local",
            "awsRegion": "us-west-2",
            "eventSourceARN": ARN,
        }]});
        assert_eq!(serde_json::to_value(shard.event(&records, ARN)).unwrap(), expected);
    }

    #[tokio::test]
    async fn l5_an_event_is_not_larger_than_lambda_takes() {
        let shard = open(0, &store()).await;
        for _ in 0..20 {
            shard.put("a".into(), vec![b'x'; 300 * 1024]).await.unwrap();
        }
        let records = shard.log.next(0, 1_000, EVENT_BYTES).await.unwrap().records;
        assert_eq!(records.len(), 15);
        let event = serde_json::to_string(&shard.event(&records, ARN)).unwrap();
        assert!(event.len() <= EVENT_BYTES && event.len() > EVENT_BYTES / 10 * 9, "{}", event.len());
    }
}
