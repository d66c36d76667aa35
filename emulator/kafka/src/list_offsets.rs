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
/// The record with the latest timestamp.
const MAX_TIMESTAMP: i64 = -3;
/// The earliest one on this host's disk: every record is there.
const EARLIEST_LOCAL: i64 = -4;
/// The latest one in remote storage: no record is there.
const LATEST_TIERED: i64 = -5;
const NOT_FOUND: Found = Found { offset: -1, time: -1 };

/// The version of the request from which on a negative number has a meaning of its own.
fn special_since(time: i64) -> i16 {
    match time {
        LATEST | EARLIEST => 1,
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        0.. => 0,
        _ => i16::MAX,
    }
}

impl Node {
    pub(super) fn list_offsets(&self, request: ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|asked| {
                let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
                match self.offset_at(&topic.name, &asked, version) {
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

    fn offset_at(&self, topic: &str, asked: &ListOffsetsPartition, version: i16) -> Result<Found, ResponseError> {
        let topic = self.topics.get(topic)?;
        if version < special_since(asked.timestamp) {
            return Err(ResponseError::UnsupportedVersion);
        }
        topic.partition(asked.partition_index)?.with(|log| {
            let found = match asked.timestamp {
                LATEST => Some(Found { offset: log.synced(), time: -1 }),
                EARLIEST | EARLIEST_LOCAL => Some(Found { offset: log.start(), time: -1 }),
                MAX_TIMESTAMP => log.latest_time()?,
                LATEST_TIERED => None,
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
