//! What the node answers to clients that look before they work: topics by id, folders, special offsets, settings.

use std::collections::BTreeMap;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, DeleteRecordsRequest, DescribeConfigsRequest, DescribeLogDirsRequest,
    IncrementalAlterConfigsRequest, ListOffsetsRequest, MetadataRequest, TopicName,
};
use kafka_protocol::protocol::Encodable;
use tempfile::TempDir;
use uuid::Uuid;

use super::sample_requests::produce;
use super::*;

struct Opened {
    node: Arc<Node>,
    _folder: TempDir,
}

fn opened() -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let node = Broker::open(folder.path(), ([127, 0, 0, 1], 1).into()).unwrap().0;
    Opened { node, _folder: folder }
}

fn name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// Creates a topic; answers the error code and what the client is told.
fn create(node: &Node, topic: &str, settings: &[(&str, &str)]) -> (i16, String) {
    let configs = settings
        .iter()
        .map(|(name, value)| CreatableTopicConfig::default().with_name(text(*name)).with_value(Some(text(*value))));
    let asked = CreatableTopic::default().with_name(name(topic)).with_num_partitions(2).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![asked.with_configs(configs.collect())]);
    let answer = node.create_topics(request).topics.remove(0);
    (answer.error_code, answer.error_message.map(|why| why.to_string()).unwrap_or_default())
}

fn settings_of(node: &Node, topic: &str) -> BTreeMap<String, String> {
    let asked = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text(topic));
    let request = DescribeConfigsRequest::default().with_resources(vec![asked.with_configuration_keys(None)]);
    let described = node.describe_configs(request).results.remove(0);
    assert_eq!(described.error_code, 0);
    let configs = described.configs.into_iter();
    configs.map(|config| (config.name.to_string(), config.value.unwrap().to_string())).collect()
}

#[test]
fn topics_are_found_by_id_whether_the_name_is_empty_or_left_out() {
    let Opened { node, .. } = opened();
    create(&node, "a", &[]);
    create(&node, "b", &[]);
    let id = node.topics.get("b").unwrap().row.id;
    let ask = |version, name: Option<TopicName>, id| -> MetadataResponseTopic {
        let asked = MetadataRequestTopic::default().with_name(name).with_topic_id(id);
        let mut answer = node.metadata(MetadataRequest::default().with_topics(Some(vec![asked])), version);
        let mut bytes = bytes::BytesMut::new();
        answer.encode(&mut bytes, version).expect("this version can say it");
        answer.topics.remove(0)
    };
    for version in 10..=12 {
        for by_id in [None, Some(name(""))] {
            let found = ask(version, by_id.clone(), id);
            assert_eq!((found.error_code, found.name), (0, Some(name("b"))), "version {version}, name {by_id:?}");
            assert_eq!(found.partitions.len(), 2);
            let unknown = ask(version, by_id, Uuid::from_u128(7));
            assert_eq!(unknown.error_code, ResponseError::UnknownTopicId.code(), "version {version}");
            assert_eq!(unknown.topic_id, Uuid::from_u128(7));
        }
        assert_eq!(ask(version, Some(name("a")), Uuid::nil()).error_code, 0, "by name, version {version}");
    }
}

#[test]
fn the_folder_of_the_logs_is_described_with_the_bytes_of_each_partition() {
    let Opened { node, _folder: folder } = opened();
    create(&node, super::sample_requests::TOPIC, &[]);
    create(&node, "other", &[]);
    node.append(produce(-1)).expect("it owes an answer");
    let ask = |topics| {
        let mut answer = node.describe_log_dirs(DescribeLogDirsRequest::default().with_topics(topics));
        assert_eq!((answer.error_code, answer.results.len()), (0, 1));
        let described = answer.results.remove(0);
        assert_eq!(described.log_dir.as_str(), folder.path().join("logs").to_str().unwrap());
        let topics = described.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|p| (p.partition_index, p.partition_size > 0));
            (topic.name.to_string(), partitions.collect::<Vec<_>>())
        });
        topics.collect::<BTreeMap<_, _>>()
    };
    let sample = (super::sample_requests::TOPIC.to_owned(), vec![(0, true), (1, false)]);
    let other = ("other".to_owned(), vec![(0, false), (1, false)]);
    assert_eq!(ask(None), BTreeMap::from([sample, other]));
    let of = DescribableLogDirTopic::default().with_topic(name("other")).with_partitions(vec![1, 9]);
    assert_eq!(ask(Some(vec![of])), BTreeMap::from([("other".to_owned(), vec![(1, false)])]));
}

#[test]
fn special_offsets_have_their_meaning_from_the_version_that_gave_it_to_them() {
    let Opened { node, .. } = opened();
    create(&node, super::sample_requests::TOPIC, &[]);
    node.append(produce(-1)).expect("it owes an answer");
    // The sync's threads run only while the node is served.
    node.topics.get(super::sample_requests::TOPIC).unwrap().partition(0).unwrap().sync();
    let offset = |version, time| {
        let partition = ListOffsetsPartition::default().with_timestamp(time);
        let asked = ListOffsetsTopic::default().with_name(name(super::sample_requests::TOPIC));
        let asked = asked.with_partitions(vec![partition]);
        let answer = node.list_offsets(ListOffsetsRequest::default().with_topics(vec![asked]), version);
        let found = &answer.topics[0].partitions[0];
        if found.error_code == 0 { Ok(found.offset) } else { Err(found.error_code) }
    };
    let unsupported = Err(ResponseError::UnsupportedVersion.code());
    for (time, since, found) in [(-1, 1, 1), (-2, 1, 0), (-3, 7, 0), (-4, 8, 0), (-5, 9, -1), (0, 1, 0)] {
        for version in 1..=10 {
            let expected = if version >= since { Ok(found) } else { unsupported };
            assert_eq!(offset(version, time), expected, "{time} in version {version}");
        }
    }
    assert_eq!(offset(10, -6), unsupported, "a meaning that this endpoint does not know");
}

#[test]
fn compaction_and_harmless_settings_are_accepted_and_described_back() {
    let Opened { node, .. } = opened();
    let settings = [
        ("cleanup.policy", "compact,delete"),
        ("message.timestamp.type", "LogAppendTime"),
        ("min.insync.replicas", "2"),
        ("retention.ms", "86400000"),
        ("segment.bytes", "52428800"),
        ("segment.ms", "3600000"),
    ];
    assert_eq!(create(&node, "changelog", &settings), (0, String::new()));
    let described = settings_of(&node, "changelog");
    settings.iter().for_each(|(name, value)| assert_eq!(described[*name], *value, "{name}"));
    assert_eq!(create(&node, "config", &[("cleanup.policy", "compact")]).0, 0);
    let (refused, why) = create(&node, "tiered", &[("remote.storage.enable", "true")]);
    assert_eq!(refused, ResponseError::InvalidConfig.code());
    assert!(why.contains("no remote storage"), "{why}");
}

#[test]
fn records_of_a_topic_that_is_only_compacted_are_not_deleted_on_request() {
    let Opened { node, _folder } = opened();
    for (policy, code) in [("compact", ResponseError::PolicyViolation.code()), ("compact,delete", 0), ("delete", 0)] {
        let topic = policy.replace(',', "-");
        create(&node, &topic, &[("cleanup.policy", policy)]);
        let at = DeleteRecordsPartition::default().with_offset(0);
        let asked = DeleteRecordsTopic::default().with_name(name(&topic));
        let request = DeleteRecordsRequest::default().with_topics(vec![asked.with_partitions(vec![at])]);
        assert_eq!(node.delete_records(request).topics[0].partitions[0].error_code, code, "{policy}");
    }
}

#[test]
fn a_list_can_be_appended_to_and_subtracted_from() {
    let Opened { node, .. } = opened();
    create(&node, "t", &[]);
    let change = |name: &str, operation, value: &str| {
        let config = AlterableConfig::default().with_name(text(name)).with_config_operation(operation);
        let of = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text("t"));
        let of = of.with_configs(vec![config.with_value(Some(text(value)))]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![of]);
        node.incremental_alter_configs(request).responses.remove(0).error_code
    };
    let policy = || settings_of(&node, "t")["cleanup.policy"].clone();
    assert_eq!((change("cleanup.policy", 2, "compact"), policy()), (0, "delete,compact".to_owned()));
    assert_eq!((change("cleanup.policy", 2, "compact"), policy()), (0, "delete,compact".to_owned()), "twice is once");
    assert_eq!((change("cleanup.policy", 3, "delete"), policy()), (0, "compact".to_owned()));
    let invalid = ResponseError::InvalidConfig.code();
    assert_eq!((change("cleanup.policy", 3, "compact"), policy()), (invalid, "compact".to_owned()), "none is left");
    assert_eq!(change("retention.ms", 2, "5"), invalid, "no list");
}

#[test]
fn what_tunes_a_cluster_is_kept_on_the_node_and_what_would_change_something_is_refused() {
    let Opened { node, _folder } = opened();
    let change = |resource: i8, of: &str, name: &str, operation, value: &str| {
        let config = AlterableConfig::default().with_name(text(name)).with_config_operation(operation);
        let of = AlterConfigsResource::default().with_resource_type(resource).with_resource_name(text(of));
        let of = of.with_configs(vec![config.with_value(Some(text(value)))]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![of]);
        node.incremental_alter_configs(request).responses.remove(0).error_code
    };
    let rate = "leader.replication.throttled.rate";
    let described = || {
        let asked = DescribeConfigsResource::default().with_resource_type(4).with_resource_name(text("1"));
        let request = DescribeConfigsRequest::default().with_resources(vec![asked.with_configuration_keys(None)]);
        let mut configs = node.describe_configs(request).results.remove(0).configs.into_iter();
        configs.find(|config| config.name.as_str() == rate).and_then(|config| config.value)
    };
    for node in ["1", ""] {
        assert_eq!((change(4, node, rate, 0, "1000"), described()), (0, Some(text("1000"))));
        assert_eq!((change(4, node, rate, 1, ""), described()), (0, None));
    }
    let invalid = ResponseError::InvalidConfig.code();
    assert_eq!(change(4, "1", rate, 0, "fast"), invalid);
    assert_eq!(change(4, "1", "log.retention.ms", 0, "1"), invalid);
    assert_eq!(change(4, "2", rate, 0, "1"), ResponseError::InvalidRequest.code(), "there is no other node");
    assert_eq!(change(8, "1", "kafka.server", 0, "DEBUG"), ResponseError::InvalidRequest.code());
}

#[test]
fn every_answer_can_be_said_in_every_version_also_when_it_is_an_error() {
    let Opened { node, .. } = opened();
    for api in apis::APIS.iter().filter(|api| api.key == ApiKey::Metadata || api.key == ApiKey::DescribeConfigs) {
        for version in api.min..=api.max {
            let request = super::sample_requests::sample(api.key, version);
            let answer = node.answer_from_store(request, version).expect("it is answered");
            answer
                .encode(&mut bytes::BytesMut::new(), version)
                .unwrap_or_else(|e| panic!("{:?} {version}: {e}", api.key));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn retention_looks_every_five_minutes() {
    let Opened { node, .. } = opened();
    create(&node, super::sample_requests::TOPIC, &[("retention.ms", "1000")]);
    node.append(produce(-1)).expect("it owes an answer");
    let start = Instant::now();
    let written = now_ms();
    // The wall clock goes with the paused one, and began long after the record was written.
    let now = move || written + 2 * limits::LEAST_KEPT_MS + start.elapsed().as_millis() as i64;
    let keeping = tokio::spawn(upkeep(node.clone(), now));
    let first =
        || node.topics.get(super::sample_requests::TOPIC).unwrap().partition(0).unwrap().with(|log| log.start());
    tokio::time::sleep(limits::RETENTION_TICK - limits::GROUP_TICK).await;
    assert_eq!((first(), limits::RETENTION_TICK.as_secs()), (0, 300));
    tokio::time::sleep(2 * limits::GROUP_TICK).await;
    while first() == 0 {
        // The look runs on a thread of its own.
        tokio::task::yield_now().await;
    }
    keeping.abort();
}
