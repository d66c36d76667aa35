//! What a client asks about the cluster before it works with it: Metadata, DescribeCluster, DescribeLogDirs.
//! How topics come into being and go stands in `topics`.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterResponse, DescribeLogDirsRequest, DescribeLogDirsResponse, MetadataRequest,
    MetadataResponse, TopicName,
};
use uuid::Uuid;

use super::limits::{CLUSTER_ID, NODE_ID};
use super::topics::Topic;
use super::{Node, text};

impl Node {
    pub(super) fn metadata(&self, request: MetadataRequest, version: i16) -> MetadataResponse {
        let may_create = version < 4 || request.allow_auto_topic_creation;
        let topics = match request.topics {
            None => self.topics.all().iter().map(|topic| described(topic)).collect(),
            Some(asked) if asked.is_empty() && version == 0 => {
                self.topics.all().iter().map(|topic| described(topic)).collect()
            }
            Some(asked) => asked
                .into_iter()
                .map(|asked| match asked.name {
                    // A client that asks by id leaves the name out, or, as Java's does, empty.
                    Some(name) if asked.topic_id.is_nil() || !name.is_empty() => {
                        self.metadata_by_name(name, may_create)
                    }
                    _ => self.metadata_by_id(asked.topic_id, version),
                })
                .collect(),
        };
        MetadataResponse::default()
            .with_brokers(vec![
                MetadataResponseBroker::default()
                    .with_node_id(BrokerId(NODE_ID))
                    .with_host(text(self.advertised.ip().to_string()))
                    .with_port(i32::from(self.advertised.port())),
            ])
            .with_cluster_id(Some(text(CLUSTER_ID)))
            .with_controller_id(BrokerId(NODE_ID))
            .with_topics(topics)
    }

    fn metadata_by_id(&self, id: Uuid, version: i16) -> MetadataResponseTopic {
        match self.topics.by_id(id) {
            Some(topic) => described(&topic),
            None => MetadataResponseTopic::default()
                // Only since version 12 can an answer leave the name out.
                .with_name((version < 12).then(TopicName::default))
                .with_topic_id(id)
                .with_error_code(ResponseError::UnknownTopicId.code()),
        }
    }

    /// An unknown topic comes into being when a client asks for it, as with Kafka's defaults.
    fn metadata_by_name(&self, name: TopicName, may_create: bool) -> MetadataResponseTopic {
        let mut found = self.topics.get(&name);
        if found.is_err() && may_create {
            let created = self.create_topic(&name, 1, BTreeMap::new(), false).map(|_| ());
            found = match created {
                Err((ResponseError::TopicAlreadyExists, _)) | Ok(()) => self.topics.get(&name),
                Err((error, _)) => Err(error),
            };
        }
        match found {
            Ok(topic) => described(&topic),
            Err(error) => MetadataResponseTopic::default().with_name(Some(name)).with_error_code(error.code()),
        }
    }

    pub(super) fn describe_cluster(&self) -> DescribeClusterResponse {
        DescribeClusterResponse::default()
            .with_cluster_id(text(CLUSTER_ID))
            .with_controller_id(BrokerId(NODE_ID))
            .with_brokers(vec![
                DescribeClusterBroker::default()
                    .with_broker_id(BrokerId(NODE_ID))
                    .with_host(text(self.advertised.ip().to_string()))
                    .with_port(i32::from(self.advertised.port())),
            ])
    }

    /// There is one folder, and it is never moved to another one.
    pub(super) fn describe_log_dirs(&self, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
        let wanted = |name: &str, index: i32| {
            let named =
                |asked: &DescribableLogDirTopic| asked.topic.as_str() == name && asked.partitions.contains(&index);
            request.topics.as_ref().is_none_or(|topics| topics.iter().any(named))
        };
        let topics = self.topics.all().into_iter().filter_map(|topic| {
            let name = &topic.row.name;
            let indexes = (0..topic.row.partitions).filter(|index| wanted(name, *index));
            let partitions = indexes.filter_map(|index| {
                let size = topic.partition(index).ok()?.with(|log| log.size());
                Some(DescribeLogDirsPartition::default().with_partition_index(index).with_partition_size(size as i64))
            });
            let partitions: Vec<_> = partitions.collect();
            let answer = DescribeLogDirsTopic::default().with_name(TopicName(text(name.clone())));
            (!partitions.is_empty()).then(|| answer.with_partitions(partitions))
        });
        let folder = text(self.topics.folder().display().to_string());
        let result = DescribeLogDirsResult::default().with_log_dir(folder).with_topics(topics.collect());
        DescribeLogDirsResponse::default().with_results(vec![result])
    }
}

fn described(topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..topic.row.partitions).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(NODE_ID))
            .with_leader_epoch(0)
            .with_replica_nodes(vec![BrokerId(NODE_ID)])
            .with_isr_nodes(vec![BrokerId(NODE_ID)])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(topic.row.name.clone()))))
        .with_topic_id(topic.row.id)
        .with_partitions(partitions.collect())
}
