//! Records of the sensors' stream that were given up, read once more as long as Kinesis keeps them.

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::ShardIteratorType;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use streammanager::aws::{Aws, chain};
use streammanager::error::BackendError;

use crate::events::KinesisRecord;
use crate::lost::{Batch, Shards};

/// A batch of a function has so many records at the most; Kinesis gives at least some of them a call.
const CALLS: usize = 100;

/// Kinesis.
#[derive(Clone)]
pub struct Kinesis(Client);

impl Kinesis {
    /// Of this account.
    pub fn connect(aws: &Aws) -> Kinesis {
        Kinesis(Client::new(aws.config()))
    }
}

/// Sequence numbers are numbers of any length.
fn is_behind(number: &str, end: &str) -> bool {
    (number.len(), number) > (end.len(), end)
}

#[async_trait]
impl Shards for Kinesis {
    async fn read(&self, batch: &Batch) -> Result<Vec<KinesisRecord>, BackendError> {
        let failed = |problem: String| BackendError::Retry(format!("Kinesis {}: {problem}", batch.stream_arn));
        let iterator = self
            .0
            .get_shard_iterator()
            .stream_arn(&batch.stream_arn)
            .shard_id(&batch.shard_id)
            .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
            .starting_sequence_number(&batch.start_sequence_number)
            .send()
            .await
            .map_err(|e| failed(chain(&e)))?;
        let (mut next, mut records) = (iterator.shard_iterator, Vec::new());
        for _ in 0..CALLS {
            let Some(iterator) = next else { break };
            let read = self.0.get_records().stream_arn(&batch.stream_arn).shard_iterator(iterator).send().await;
            let read = read.map_err(|e| failed(chain(&e)))?;
            for record in read.records {
                if is_behind(&record.sequence_number, &batch.end_sequence_number) {
                    return Ok(records);
                }
                let data = BASE64.encode(record.data.as_ref());
                records.push(KinesisRecord::put(&batch.shard_id, String::new(), record.sequence_number, data));
            }
            let ended = records.last().is_some_and(|last| last.kinesis.sequence_number == batch.end_sequence_number);
            if ended || (records.is_empty() && read.millis_behind_latest == Some(0)) {
                break;
            }
            next = read.next_shard_iterator;
        }
        Ok(records)
    }
}
