//! Readings that a rule or a stream lost hold of, on their second way [R4]: a message that an operator moved back from the sensors'
//! failures. It holds a reading that the rule could not put into the stream, or names records of the stream that were given up.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use streammanager::error::BackendError;

use crate::events::{KinesisRecord, RuleError, RuleOutput};

/// What the on-failure destination of a stream is told: where the records are, not the records.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// In which shard.
    pub shard_id: String,
    /// The first record's place in it.
    pub start_sequence_number: String,
    /// The last one's.
    pub end_sequence_number: String,
    /// Of which stream.
    pub stream_arn: String,
}

/// The stream, read a second time.
#[async_trait]
pub trait Shards: Send + Sync {
    /// The records that are named, as far as the stream still has them, in their order.
    async fn read(&self, batch: &Batch) -> Result<Vec<KinesisRecord>, BackendError>;
}

/// Of a stream that cannot be read a second time, such as that of a host, which keeps no record that was passed.
pub struct Passed;

#[async_trait]
impl Shards for Passed {
    async fn read(&self, batch: &Batch) -> Result<Vec<KinesisRecord>, BackendError> {
        Err(BackendError::Retry(format!("shard {} is not read a second time here", batch.shard_id)))
    }
}

/// What a message holds that an operator moved back.
#[derive(Debug)]
pub enum Lost {
    /// A reading that the rule could not put into the stream.
    Reading(RuleError),
    /// Records that were given up.
    Records(Batch),
}

#[derive(Deserialize)]
struct Failure {
    #[serde(rename = "KinesisBatchInfo")]
    batch: Batch,
}

impl Lost {
    /// `None`: it is something else.
    pub fn read(body: &str) -> Option<Lost> {
        let records = serde_json::from_str(body).ok().map(|failure: Failure| Lost::Records(failure.batch));
        records.or_else(|| serde_json::from_str(body).ok().map(Lost::Reading))
    }
}

/// As the rule would have put it into the stream. Who published it AWS does not say here.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn as_put(error: RuleError, message_id: &str) -> Result<KinesisRecord, serde_json::Error> {
    let output = RuleOutput {
        payload: error.base64_original_payload,
        topic: error.topic,
        principal: None,
        client: error.client_id,
        received_at: None,
    };
    Ok(KinesisRecord::put("lost", String::new(), message_id.to_owned(), BASE64.encode(serde_json::to_vec(&output)?)))
}
