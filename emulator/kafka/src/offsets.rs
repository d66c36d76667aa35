//! Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete. A commit is durable when it is answered.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};

use super::group::Phase;
use super::limits::MAX_OFFSET_METADATA;
use super::meta::{Committed, PartitionKey};
use super::{Node, code, store_failed, text};

type CommittedByTopic = Vec<(TopicName, Vec<(i32, Option<Committed>)>)>;

impl Node {
    pub(super) fn offset_commit(&self, request: OffsetCommitRequest) -> OffsetCommitResponse {
        let allowed = self.may_commit(&request);
        let mut offsets = Vec::new();
        let mut topics: Vec<_> = request
            .topics
            .into_iter()
            .map(|topic| {
                let partitions = topic.partitions.into_iter().map(|asked| {
                    let index = asked.partition_index;
                    let metadata = asked.committed_metadata.map(|metadata| metadata.to_string()).unwrap_or_default();
                    let checked = allowed.and_then(|()| {
                        self.topics.get(&topic.name)?.partition(index)?;
                        if metadata.len() > MAX_OFFSET_METADATA {
                            return Err(ResponseError::OffsetMetadataTooLarge);
                        }
                        Ok(())
                    });
                    if checked.is_ok() {
                        let committed = Committed { offset: asked.committed_offset, metadata };
                        offsets.push(((topic.name.to_string(), index), committed));
                    }
                    OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code(checked))
                });
                let partitions = partitions.collect();
                OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
            })
            .collect();
        if !offsets.is_empty()
            && let Err(error) = self.meta.commit(&request.group_id, &offsets)
        {
            let error = store_failed(error);
            for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if partition.error_code == 0 {
                    partition.error_code = error.code();
                }
            }
        }
        OffsetCommitResponse::default().with_topics(topics)
    }

    /// A group without members takes commits from anyone that names no generation: tools, and consumers that assign
    /// their partitions themselves.
    fn may_commit(&self, request: &OffsetCommitRequest) -> Result<(), ResponseError> {
        let generation = request.generation_id_or_member_epoch;
        self.groups.with(&request.group_id, |group| match group {
            Some(group) if !group.is_empty() => {
                group.check(&request.member_id, request.group_instance_id.as_ref(), generation)?;
                match group.phase {
                    Phase::Completing => Err(ResponseError::RebalanceInProgress),
                    _ => Ok(()),
                }
            }
            _ if generation < 0 => Ok(()),
            _ => Err(ResponseError::UnknownMemberId),
        })
    }

    pub(super) fn offset_fetch(&self, request: OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
        if version >= 8 {
            let groups = request.groups.into_iter().map(|asked| {
                let wanted =
                    asked.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
                let (topics, error) = self.committed(&asked.group_id, wanted);
                let topics = topics.into_iter().map(|(name, partitions)| {
                    let partitions = partitions.into_iter().map(|(index, found)| {
                        let (offset, metadata) = parts(found);
                        OffsetFetchResponsePartitions::default()
                            .with_partition_index(index)
                            .with_committed_offset(offset)
                            .with_metadata(Some(text(metadata)))
                    });
                    OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
                });
                OffsetFetchResponseGroup::default()
                    .with_topics(topics.collect())
                    .with_group_id(asked.group_id)
                    .with_error_code(error)
            });
            return OffsetFetchResponse::default().with_groups(groups.collect());
        }
        let wanted = request.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        let (topics, error) = self.committed(&request.group_id, wanted);
        let topics = topics.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(index, found)| {
                let (offset, metadata) = parts(found);
                OffsetFetchResponsePartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(offset)
                    .with_metadata(Some(text(metadata)))
                    // Version 1 has no place for an error of the whole answer.
                    .with_error_code(error)
            });
            OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
        });
        OffsetFetchResponse::default().with_topics(topics.collect()).with_error_code(error)
    }

    /// The offsets of the wanted partitions, or all of the group's, and an error code.
    fn committed(&self, group: &str, wanted: Option<Vec<(TopicName, Vec<i32>)>>) -> (CommittedByTopic, i16) {
        let (mut found, error) = match self.meta.committed(group) {
            Ok(found) => (found, 0),
            Err(error) => (BTreeMap::new(), store_failed(error).code()),
        };
        let Some(wanted) = wanted else { return (by_topic(found), error) };
        let topics = wanted.into_iter().map(|(name, indexes)| {
            let partitions = indexes.into_iter().map(|index| (index, found.remove(&(name.to_string(), index))));
            let partitions = partitions.collect();
            (name, partitions)
        });
        (topics.collect(), error)
    }

    pub(super) fn offset_delete(&self, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
        let answer = OffsetDeleteResponse::default();
        if self.groups.with(&request.group_id, |group| group.is_some_and(|group| !group.is_empty())) {
            return answer.with_error_code(ResponseError::NonEmptyGroup.code());
        }
        let named = |topic: &str, partition: i32| {
            let mut topics = request.topics.iter().filter(|asked| asked.name.as_str() == topic);
            topics.any(|asked| asked.partitions.iter().any(|asked| asked.partition_index == partition))
        };
        let known = self.meta.committed(&request.group_id).and_then(|known| {
            self.meta.forget(&request.group_id, named)?;
            Ok(!known.is_empty())
        });
        match known {
            Err(error) => return answer.with_error_code(store_failed(error).code()),
            Ok(false) => return answer.with_error_code(ResponseError::GroupIdNotFound.code()),
            Ok(true) => {}
        }
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                OffsetDeleteResponsePartition::default().with_partition_index(partition.partition_index)
            });
            OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
        });
        answer.with_topics(topics.collect())
    }
}

fn by_topic(found: BTreeMap<PartitionKey, Committed>) -> CommittedByTopic {
    let mut topics: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for ((topic, index), committed) in found {
        topics.entry(topic).or_default().push((index, Some(committed)));
    }
    topics.into_iter().map(|(name, partitions)| (TopicName(text(name)), partitions)).collect()
}

/// -1 means that nothing is committed.
fn parts(found: Option<Committed>) -> (i64, String) {
    found.map_or_else(|| (-1, String::new()), |committed| (committed.offset, committed.metadata))
}
