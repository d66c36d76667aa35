//! Produce and InitProducerId. A produce request has two halves: appending, in the order in which a connection sent its
//! requests, and waiting for the disk, which many requests do together.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, ProducerId, TopicName,
};

use super::limits::PRODUCER_ID_BLOCK;
use super::partition::Ticket;
use super::{Node, now_ms, store_failed};

/// A produce request whose batches stand in the logs but may not be durable yet.
pub(super) struct Appended(Vec<(TopicName, Vec<Written>)>);

/// A partition and what became of its batch.
type Written = (i32, Result<Ticket, ResponseError>);

impl Node {
    /// `None` if the producer wants no answer.
    pub(super) fn append(&self, request: ProduceRequest) -> Option<Appended> {
        let refused = match request.acks {
            _ if request.transactional_id.is_some() => Some(ResponseError::TransactionalIdAuthorizationFailed),
            -1..=1 => None,
            _ => Some(ResponseError::InvalidRequiredAcks),
        };
        let topics = request.topic_data.into_iter().map(|topic| {
            let partitions = topic.partition_data.into_iter().map(|data| {
                let index = data.index;
                let ticket = refused.map_or_else(|| self.append_batch(&topic.name, data), Err);
                (index, ticket)
            });
            let partitions = partitions.collect();
            (topic.name, partitions)
        });
        let appended = Appended(topics.collect());
        (request.acks != 0).then_some(appended)
    }

    fn append_batch(&self, topic: &str, data: PartitionProduceData) -> Result<Ticket, ResponseError> {
        let topic = self.topics.get(topic)?;
        let partition = topic.partition(data.index)?;
        let ticket = partition.append(&data.records.unwrap_or_default(), &topic.log, now_ms())?;
        self.syncer.mark(partition);
        Ok(ticket)
    }

    pub(super) fn init_producer_id(&self, request: InitProducerIdRequest) -> InitProducerIdResponse {
        let given = match request.transactional_id {
            Some(_) => Err(ResponseError::TransactionalIdAuthorizationFailed),
            None => self.next_producer_id(),
        };
        let answer = InitProducerIdResponse::default();
        match given {
            Ok(id) => answer.with_producer_id(ProducerId(id)),
            Err(error) => answer.with_producer_epoch(-1).with_error_code(error.code()),
        }
    }

    fn next_producer_id(&self) -> Result<i64, ResponseError> {
        let mut ids = self.producer_ids.lock();
        if ids.is_empty() {
            let first = self.meta.take_producer_ids(PRODUCER_ID_BLOCK).map_err(store_failed)?;
            *ids = first..first + PRODUCER_ID_BLOCK;
        }
        ids.next().ok_or(ResponseError::UnknownServerError)
    }
}

impl Appended {
    /// Waits until every batch is durable or refused.
    pub(super) async fn answer(self) -> ProduceResponse {
        let mut responses = Vec::with_capacity(self.0.len());
        for (name, tickets) in self.0 {
            let mut partitions = Vec::with_capacity(tickets.len());
            for (index, ticket) in tickets {
                let answer = PartitionProduceResponse::default().with_index(index);
                let append_time = ticket.as_ref().ok().and_then(|ticket| ticket.append_time);
                let written = match ticket {
                    Ok(ticket) => ticket.durable().await,
                    Err(error) => Err(error),
                };
                partitions.push(match written {
                    Ok(base) => answer.with_base_offset(base).with_log_append_time_ms(append_time.unwrap_or(-1)),
                    Err(error) => answer.with_base_offset(-1).with_error_code(error.code()),
                });
            }
            responses.push(TopicProduceResponse::default().with_name(name).with_partition_responses(partitions));
        }
        ProduceResponse::default().with_responses(responses)
    }
}
