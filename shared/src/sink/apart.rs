//! The sink of a process that leaves the brokers to others.

use async_trait::async_trait;

use crate::error::BackendError;
use crate::record::Outgoing;
use crate::sink::{Lane, Position, Sent, Sink, TopicReport};

/// It sends nothing, and knows nothing of the brokers.
pub struct Apart;

const WHY: &str = "this process leaves the brokers to others";

#[async_trait]
impl Sink for Apart {
    fn sends(&self) -> bool {
        false
    }

    async fn send(&self, _lane: Lane, records: &[Outgoing]) -> Vec<Sent> {
        vec![Sent::Retry(WHY.into()); records.len()]
    }

    async fn answers(&self) -> bool {
        false
    }

    async fn check(&self) -> Result<Vec<TopicReport>, BackendError> {
        Err(BackendError::Fatal(WHY.into()))
    }

    async fn positions(&self) -> Result<Vec<Position>, BackendError> {
        Ok(Vec::new())
    }
}
