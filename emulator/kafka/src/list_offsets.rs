//! ListOffsets and OffsetForLeaderEpoch: where a log begins, ends, or was at a time.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::Node;
use super::lookup::Found;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// The earliest on this host's disk: the same, as nothing is tiered.
const EARLIEST_LOCAL: i64 = -4;
const NOT_FOUND: Found = Found { offset: -1, time: -1 };

impl Node {
    pub(super) fn list_offsets(&self, request: ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|asked| {
                let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
                match self.offset_at(&topic.name, &asked) {
                    Ok(found) => answer
                        .with_offset(found.offset)
                        .with_timestamp(found.time)
                        .with_leader_epoch(if version >= 4 { 0 } else { -1 }),
                    Err(error) => answer.with_error_code(error.code()),
                }
            });
            let partitions = partitions.collect();
            ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }

    fn offset_at(&self, topic: &str, asked: &ListOffsetsPartition) -> Result<Found, ResponseError> {
        let topic = self.topics.get(topic)?;
        topic.partition(asked.partition_index)?.with(|log| {
            let found = match asked.timestamp {
                LATEST => Some(Found { offset: log.synced(), time: -1 }),
                EARLIEST | EARLIEST_LOCAL => Some(Found { offset: log.start(), time: -1 }),
                MAX_TIMESTAMP => log.latest_time()?,
                time => log.by_time(time)?,
            };
            Ok(found.unwrap_or(NOT_FOUND))
        })
    }

    /// There is one leader for ever, so its epoch 0 ends where the log ends.
    pub(super) fn offset_for_leader_epoch(&self, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|asked| {
                let answer = EpochEndOffset::default().with_partition(asked.partition);
                let found = self.topics.get(&topic.topic);
                match found.and_then(|topic| Ok(topic.partition(asked.partition)?.with(|log| log.synced()))) {
                    Ok(end) if asked.leader_epoch == 0 => answer.with_leader_epoch(0).with_end_offset(end),
                    Ok(_) => answer,
                    Err(error) => answer.with_error_code(error.code()),
                }
            });
            let partitions = partitions.collect();
            OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions)
        });
        OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
    }
}
