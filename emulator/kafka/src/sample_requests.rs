//! One well-formed request of every kind, with every list filled, as a client of the given version may send it. For tests.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use super::text;

pub(super) const TOPIC: &str = "sample";

fn topic() -> TopicName {
    TopicName(text(TOPIC))
}

fn group() -> GroupId {
    GroupId(text("group"))
}

fn since<T: Default>(version: i16, from: i16, value: T) -> T {
    if version >= from { value } else { T::default() }
}

pub(super) fn one_record() -> Bytes {
    let record = Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: -1,
        timestamp: 1_700_000_000_000,
        key: None,
        value: Some(Bytes::from_static(b"value")),
        headers: IndexMap::default(),
    };
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, [&record], &options).unwrap();
    bytes.freeze()
}

pub(super) fn produce(acks: i16) -> ProduceRequest {
    use produce_request::{PartitionProduceData, TopicProduceData};
    let data = PartitionProduceData::default().with_records(Some(one_record()));
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(1_000)
        .with_topic_data(vec![TopicProduceData::default().with_name(topic()).with_partition_data(vec![data])])
}

pub(super) fn sample(key: ApiKey, version: i16) -> RequestKind {
    match key {
        ApiKey::Produce => RequestKind::Produce(produce(1)),
        ApiKey::Fetch => RequestKind::Fetch(fetch(version)),
        ApiKey::ListOffsets => RequestKind::ListOffsets(list_offsets(version)),
        ApiKey::Metadata => RequestKind::Metadata(metadata()),
        ApiKey::OffsetCommit => RequestKind::OffsetCommit(offset_commit()),
        ApiKey::OffsetFetch => RequestKind::OffsetFetch(offset_fetch(version)),
        ApiKey::FindCoordinator => RequestKind::FindCoordinator(match version {
            ..4 => FindCoordinatorRequest::default().with_key(text("group")),
            _ => FindCoordinatorRequest::default().with_coordinator_keys(vec![text("group"), text("other")]),
        }),
        ApiKey::JoinGroup => RequestKind::JoinGroup(join_group(version)),
        ApiKey::Heartbeat => RequestKind::Heartbeat(
            HeartbeatRequest::default().with_group_id(group()).with_member_id(text("member")).with_generation_id(1),
        ),
        ApiKey::LeaveGroup => RequestKind::LeaveGroup(leave_group(version)),
        ApiKey::SyncGroup => RequestKind::SyncGroup(sync_group()),
        ApiKey::DescribeGroups => {
            RequestKind::DescribeGroups(DescribeGroupsRequest::default().with_groups(vec![group(), group()]))
        }
        ApiKey::ListGroups => RequestKind::ListGroups(
            ListGroupsRequest::default()
                .with_states_filter(since(version, 4, vec![text("Stable"), text("Empty")]))
                .with_types_filter(since(version, 5, vec![text("classic")])),
        ),
        ApiKey::ApiVersions => RequestKind::ApiVersions(
            ApiVersionsRequest::default()
                .with_client_software_name(since(version, 3, text("name")))
                .with_client_software_version(since(version, 3, text("1.0"))),
        ),
        ApiKey::CreateTopics => RequestKind::CreateTopics(create_topics()),
        ApiKey::DeleteTopics => RequestKind::DeleteTopics(delete_topics(version)),
        ApiKey::DeleteRecords => RequestKind::DeleteRecords(delete_records()),
        ApiKey::InitProducerId => {
            RequestKind::InitProducerId(InitProducerIdRequest::default().with_transactional_id(None))
        }
        ApiKey::OffsetForLeaderEpoch => RequestKind::OffsetForLeaderEpoch(offset_for_leader_epoch()),
        ApiKey::DescribeConfigs => RequestKind::DescribeConfigs(describe_configs()),
        ApiKey::AlterConfigs => RequestKind::AlterConfigs(alter_configs()),
        ApiKey::IncrementalAlterConfigs => RequestKind::IncrementalAlterConfigs(incremental_alter_configs()),
        ApiKey::CreatePartitions => RequestKind::CreatePartitions(create_partitions()),
        ApiKey::DeleteGroups => {
            RequestKind::DeleteGroups(DeleteGroupsRequest::default().with_groups_names(vec![group(), group()]))
        }
        ApiKey::OffsetDelete => RequestKind::OffsetDelete(offset_delete()),
        ApiKey::DescribeLogDirs => RequestKind::DescribeLogDirs(describe_log_dirs()),
        ApiKey::DescribeCluster => RequestKind::DescribeCluster(DescribeClusterRequest::default()),
        other => panic!("{other:?} is not offered"),
    }
}

fn fetch(version: i16) -> FetchRequest {
    use fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let forgotten = ForgottenTopic::default().with_topic(topic()).with_partitions(vec![3, 4]);
    FetchRequest::default()
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_rack_id(since(version, 11, text("rack")))
        .with_topics(vec![FetchTopic::default().with_topic(topic()).with_partitions(vec![partition])])
        .with_forgotten_topics_data(since(version, 7, vec![forgotten]))
}

fn list_offsets(version: i16) -> ListOffsetsRequest {
    use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let at = |time| ListOffsetsPartition::default().with_timestamp(time);
    let partitions = vec![at(-1), at(-2), at(-3), at(1_700_000_000_000), at(-1).with_partition_index(9)];
    ListOffsetsRequest::default()
        .with_timeout_ms(since(version, 10, 5_000))
        .with_topics(vec![ListOffsetsTopic::default().with_name(topic()).with_partitions(partitions)])
}

fn describe_log_dirs() -> DescribeLogDirsRequest {
    let asked = describe_log_dirs_request::DescribableLogDirTopic::default().with_topic(topic());
    DescribeLogDirsRequest::default().with_topics(Some(vec![asked.with_partitions(vec![0, 7])]))
}

fn metadata() -> MetadataRequest {
    let asked = metadata_request::MetadataRequestTopic::default().with_name(Some(topic()));
    MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(true)
}

fn offset_commit() -> OffsetCommitRequest {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(5);
    let partition = partition.with_committed_metadata(Some(text("metadata")));
    let asked = OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text("simple")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![asked])
}

fn offset_fetch(version: i16) -> OffsetFetchRequest {
    use offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics};
    if version < 8 {
        let asked = OffsetFetchRequestTopic::default().with_name(topic()).with_partition_indexes(vec![0, 1]);
        return OffsetFetchRequest::default().with_group_id(GroupId(text("simple"))).with_topics(Some(vec![asked]));
    }
    let asked = OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(vec![0, 1]);
    let of = OffsetFetchRequestGroup::default().with_group_id(GroupId(text("simple"))).with_topics(Some(vec![asked]));
    OffsetFetchRequest::default().with_groups(vec![of])
}

fn join_group(version: i16) -> JoinGroupRequest {
    let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(format!("group-{version}"))))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(if version >= 1 { 10_000 } else { -1 })
        .with_group_instance_id((version >= 5).then(|| text("instance")))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol.with_metadata(Bytes::from_static(b"topics"))])
        .with_reason((version >= 8).then(|| text("first")))
}

fn leave_group(version: i16) -> LeaveGroupRequest {
    let member = leave_group_request::MemberIdentity::default().with_member_id(text("member"));
    let member = member.with_reason((version >= 5).then(|| text("done")));
    let request = LeaveGroupRequest::default().with_group_id(group());
    if version < 3 { request.with_member_id(text("member")) } else { request.with_members(vec![member]) }
}

fn sync_group() -> SyncGroupRequest {
    let to = sync_group_request::SyncGroupRequestAssignment::default().with_member_id(text("member"));
    SyncGroupRequest::default()
        .with_group_id(group())
        .with_member_id(text("member"))
        .with_assignments(vec![to.with_assignment(Bytes::from_static(b"0"))])
}

fn create_topics() -> CreateTopicsRequest {
    use create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
    let config = |name: &'static str, value| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(StrBytes::from_static_str(value)))
    };
    let created = CreatableTopic::default()
        .with_name(TopicName(text("created")))
        .with_num_partitions(3)
        .with_replication_factor(1)
        .with_configs(vec![config("retention.ms", "1000"), config("cleanup.policy", "delete")]);
    let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)]);
    let assigned = CreatableTopic::default()
        .with_name(TopicName(text("not a name")))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![assignment]);
    CreateTopicsRequest::default().with_topics(vec![created, assigned]).with_timeout_ms(1_000)
}

fn delete_topics(version: i16) -> DeleteTopicsRequest {
    let state = delete_topics_request::DeleteTopicState::default().with_name(Some(TopicName(text("created"))));
    let request = DeleteTopicsRequest::default().with_timeout_ms(1_000);
    match version {
        ..6 => request.with_topic_names(vec![TopicName(text("created"))]),
        _ => request.with_topics(vec![state, delete_topics_request::DeleteTopicState::default().with_name(None)]),
    }
}

fn delete_records() -> DeleteRecordsRequest {
    use delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    let partitions = [0, -1, 1 << 40].map(|offset| DeleteRecordsPartition::default().with_offset(offset));
    let asked = DeleteRecordsTopic::default().with_name(topic()).with_partitions(partitions.to_vec());
    DeleteRecordsRequest::default().with_topics(vec![asked])
}

fn offset_for_leader_epoch() -> OffsetForLeaderEpochRequest {
    use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    let partitions = [0, 1].map(|epoch| OffsetForLeaderPartition::default().with_leader_epoch(epoch));
    let asked = OffsetForLeaderTopic::default().with_topic(topic()).with_partitions(partitions.to_vec());
    OffsetForLeaderEpochRequest::default().with_topics(vec![asked])
}

fn describe_configs() -> DescribeConfigsRequest {
    use describe_configs_request::DescribeConfigsResource;
    let of =
        |kind, name: &str| DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
    let keys = Some(vec![text("retention.ms"), text("segment.bytes")]);
    let resources = vec![
        of(2, TOPIC).with_configuration_keys(None),
        of(2, TOPIC).with_configuration_keys(keys),
        of(4, "1").with_configuration_keys(None),
        of(2, "none").with_configuration_keys(None),
    ];
    DescribeConfigsRequest::default().with_resources(resources).with_include_synonyms(true)
}

fn alter_configs() -> AlterConfigsRequest {
    use alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let config = AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("-1")));
    let of = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text(TOPIC));
    AlterConfigsRequest::default().with_resources(vec![of.with_configs(vec![config])])
}

fn incremental_alter_configs() -> IncrementalAlterConfigsRequest {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let config = |operation, name: &str, value: Option<&str>| {
        let change = AlterableConfig::default().with_name(text(name)).with_config_operation(operation);
        change.with_value(value.map(text))
    };
    let configs = vec![config(0, "retention.ms", Some("1000")), config(1, "segment.bytes", None)];
    let of = |name: &str| AlterConfigsResource::default().with_resource_type(2).with_resource_name(text(name));
    IncrementalAlterConfigsRequest::default()
        .with_resources(vec![of(TOPIC).with_configs(configs.clone()), of("none").with_configs(configs)])
}

fn create_partitions() -> CreatePartitionsRequest {
    use create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
    let assignment = CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1)]);
    let of = CreatePartitionsTopic::default().with_name(topic()).with_count(2);
    CreatePartitionsRequest::default()
        .with_topics(vec![of.clone().with_assignments(Some(vec![assignment])), of.with_assignments(None)])
}

fn offset_delete() -> OffsetDeleteRequest {
    use offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    let asked = OffsetDeleteRequestTopic::default().with_name(topic());
    let asked = asked.with_partitions(vec![OffsetDeleteRequestPartition::default()]);
    OffsetDeleteRequest::default().with_group_id(GroupId(text("simple"))).with_topics(vec![asked])
}
