//! One suite of client laws, run on the embedded Kafka endpoint and on a real Apache Kafka: what a Kafka client may rely on
//! here it may rely on there. Laws that need to stop, kill or fill the broker run on the embedded one alone.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::admin::{AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::producer::Producer;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use streammanager::record::Topic;
use streammanager::sink::kafka::{ConsumerGroups, KafkaSettings, KafkaSink};
use streammanager::sink::{Position, Sink};
use streammanager_tests::kafka_clients::child::EndpointProcess;
use streammanager_tests::kafka_clients::rd::{
    self, LIMIT, Record, admin, consumer, create, numbered, options, producer, read_all, send,
};
use streammanager_tests::kafka_clients::target::{Embedded, Target, folder};
use streammanager_tests::kafka_clients::tools::{
    CONFIGS, DELETE_RECORDS, GROUPS, JavaTools, OFFSETS, TOPICS, franz_go, kcat,
};
use streammanager_tests::{free_port, kafka, skip};

macro_rules! laws {
    ($($law:ident),* $(,)?) => {
        mod embedded {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $law() {
                let folder = folder();
                let embedded = Embedded::start(folder.path()).await;
                super::$law(&embedded.target).await;
                embedded.stop().await;
            })*
        }
        mod real_kafka {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $law() {
                let Some(address) = kafka() else { return skip("real Kafka", "STREAMMANAGER_TEST_KAFKA is not set") };
                super::$law(&Target { address }).await;
            })*
        }
    };
}

laws!(
    topics_are_created_changed_listed_and_deleted,
    all_codecs_round_trip,
    an_idempotent_producer_writes_each_record_once_and_in_order,
    keys_headers_and_timestamps_are_kept,
    offsets_are_found_by_time,
    two_members_share_a_group_and_lag_is_known,
    q4_the_sink_tells_where_the_configured_groups_are,
    a_static_member_gets_its_partitions_back_without_a_rebalance,
    groups_and_records_are_deleted_on_request,
    an_oversized_message_is_refused_and_the_next_is_taken,
    an_unknown_topic_is_unknown_unless_it_may_be_created,
    kcat_produces_consumes_lists_and_joins_a_group,
    kafka_s_own_tools_work,
    java_s_clients_find_what_connect_and_streams_ask_for,
    a_go_service_with_franz_go_works,
);

async fn topics_are_created_changed_listed_and_deleted(target: &Target) {
    let topic = &*target.unique("topics");
    create(target, topic, 3, &[("retention.ms", "3600000")]).await;
    let admin = admin(target);
    let again = NewTopic::new(topic, 3, TopicReplication::Fixed(1));
    let refused = admin.create_topics([&again], &options()).await.unwrap();
    assert_eq!(refused, [Err((topic.to_owned(), RDKafkaErrorCode::TopicAlreadyExists))]);
    let replicated = target.unique("replicated");
    let too_many = NewTopic::new(&replicated, 1, TopicReplication::Fixed(3));
    let refused = admin.create_topics([&too_many], &options()).await.unwrap();
    assert_eq!(refused, [Err((replicated.clone(), RDKafkaErrorCode::InvalidReplicationFactor))]);

    admin.create_partitions([&NewPartitions::new(topic, 5)], &options()).await.unwrap()[0].as_ref().unwrap();
    rd::wait_for_partitions(target, topic, 5).await;
    let fewer = admin.create_partitions([&NewPartitions::new(topic, 2)], &options()).await.unwrap();
    assert_eq!(fewer, [Err((topic.to_owned(), RDKafkaErrorCode::InvalidPartitions))]);

    let resource = ResourceSpecifier::Topic(topic);
    let setting = |name: &'static str| {
        let admin = &admin;
        async move {
            let described = admin.describe_configs([&resource], &options()).await.unwrap().remove(0).unwrap();
            described.get(name).and_then(|entry| entry.value.clone())
        }
    };
    assert_eq!(setting("retention.ms").await.as_deref(), Some("3600000"));
    assert_eq!(setting("cleanup.policy").await.as_deref(), Some("delete"));
    let change = AlterConfig::new(resource).set("retention.ms", "7200000");
    admin.alter_configs([&change], &options()).await.unwrap()[0].as_ref().unwrap();
    let wanted = Some("7200000".to_owned());
    for _ in 0..100 {
        if setting("retention.ms").await == wanted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(setting("retention.ms").await, wanted);
    let wrong = AlterConfig::new(resource).set("retention.ms", "soon");
    // rdkafka does not hand out the refusal of a single resource.
    let _ = admin.alter_configs([&wrong], &options()).await.unwrap();
    assert_eq!(setting("retention.ms").await, wanted, "a value that is none changes nothing");

    assert_eq!(admin.delete_topics(&[topic], &options()).await.unwrap(), [Ok(topic.to_owned())]);
    let client = consumer(target, &[]);
    for _ in 0..100 {
        if rd::partitions(&client, topic).is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(rd::partitions(&client, topic), Err(RDKafkaErrorCode::UnknownTopicOrPartition));
    let gone = admin.delete_topics(&[topic], &options()).await.unwrap();
    assert_eq!(gone, [Err((topic.to_owned(), RDKafkaErrorCode::UnknownTopicOrPartition))]);
}

async fn all_codecs_round_trip(target: &Target) {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = &*target.unique(codec);
        create(target, topic, 2, &[]).await;
        let mut records = numbered(0, 500);
        records.extend(numbered(1, 500));
        records.iter_mut().for_each(|record| record.value.extend(b" with text that can be packed".repeat(5)));
        let producer = producer(target, &[("compression.codec", codec), ("linger.ms", "20")]);
        let written = send(&producer, topic, &records).await;
        let read = read_all(target, topic).await;
        assert_eq!(read.len(), records.len(), "{codec}");
        for (record, at) in records.iter().zip(written) {
            let at = at.unwrap_or_else(|error| panic!("{codec}: {error}"));
            let found = read.iter().find(|read| (read.partition, read.offset) == at);
            assert_eq!(found.map(|found| &found.value), Some(&record.value), "{codec} at {at:?}");
        }
    }
}

async fn an_idempotent_producer_writes_each_record_once_and_in_order(target: &Target) {
    let topic = &*target.unique("idempotent");
    create(target, topic, 2, &[]).await;
    let producer = producer(target, &[("enable.idempotence", "true"), ("linger.ms", "0"), ("batch.num.messages", "7")]);
    let mut records = numbered(0, 1_000);
    records.extend(numbered(1, 1_000));
    let written = send(&producer, topic, &records).await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    let read = read_all(target, topic).await;
    let values: Vec<_> = read.iter().map(|record| (record.partition, record.value.clone())).collect();
    assert_eq!(values, records.iter().map(|record| (record.partition, record.value.clone())).collect::<Vec<_>>());
}

async fn keys_headers_and_timestamps_are_kept(target: &Target) {
    let topic = &*target.unique("headers");
    create(target, topic, 1, &[]).await;
    let now = now_ms();
    let headers = |pairs: &[(&str, &[u8])]| pairs.iter().map(|(k, v)| ((*k).to_owned(), v.to_vec())).collect();
    let sent = [
        Record { key: Some(b"key".to_vec()), value: b"a".to_vec(), time: Some(now - 5_000), ..Record::default() },
        Record {
            offset: 1,
            headers: headers(&[("ce_id", b"1-0"), ("bytes", &[0, 255, 10])]),
            time: Some(now - 6_000),
            ..Record::default()
        },
        Record { offset: 2, key: Some(Vec::new()), value: vec![0; 100_000], time: Some(now), ..Record::default() },
    ];
    let written = send(&producer(target, &[]), topic, &sent).await;
    assert_eq!(written, [Ok((0, 0)), Ok((0, 1)), Ok((0, 2))]);
    assert_eq!(read_all(target, topic).await, sent);
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis() as i64
}

async fn offsets_are_found_by_time(target: &Target) {
    let topic = &*target.unique("by-time");
    create(target, topic, 1, &[]).await;
    let start = now_ms() - 3_600_000;
    let mut records = numbered(0, 100);
    (0..).zip(&mut records).for_each(|(number, record)| record.time = Some(start + number * 1_000));
    for (codec, half) in [("none", &records[..50]), ("zstd", &records[50..])] {
        let written = send(&producer(target, &[("compression.codec", codec)]), topic, half).await;
        assert!(written.iter().all(Result::is_ok));
    }
    let client = consumer(target, &[]);
    let offset_at = |time: i64| {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(topic, 0, Offset::Offset(time)).unwrap();
        client.offsets_for_times(asked, LIMIT).unwrap().elements()[0].offset()
    };
    assert_eq!(offset_at(start - 1), Offset::Offset(0));
    assert_eq!(offset_at(start + 20_000), Offset::Offset(20));
    assert_eq!(offset_at(start + 20_001), Offset::Offset(21));
    assert_eq!(offset_at(start + 77_500), Offset::Offset(78));
    assert_eq!(offset_at(start + 99_001), Offset::End);
    assert_eq!(client.fetch_watermarks(topic, 0, LIMIT).unwrap(), (0, 100));
}

/// Reads with both until together they have read `count` records, and each has its share of the partitions.
async fn read_together(a: &StreamConsumer, b: &StreamConsumer, count: usize, share: usize) -> BTreeSet<(i32, i64)> {
    let mut read = BTreeSet::new();
    let end = Instant::now() + 2 * LIMIT;
    let shares = || [a, b].map(|member| member.assignment().map_or(0, |assigned| assigned.count()));
    while read.len() < count || shares() != [share, share] {
        assert!(Instant::now() < end, "{} of {count} records, shares {:?}", read.len(), shares());
        let record = tokio::select! {
            record = rd::next(a) => record,
            record = rd::next(b) => record,
            () = tokio::time::sleep(Duration::from_millis(100)) => continue,
        };
        read.insert((record.partition, record.offset));
    }
    read
}

async fn two_members_share_a_group_and_lag_is_known(target: &Target) {
    let (topic, group) = (&*target.unique("shared"), &*target.unique("group"));
    create(target, topic, 4, &[]).await;
    let producer = producer(target, &[]);
    let records: Vec<Record> = (0..4).flat_map(|partition| numbered(partition, 10)).collect();
    send(&producer, topic, &records).await.into_iter().for_each(|at| assert!(at.is_ok(), "{at:?}"));
    let member = || {
        let member = consumer(target, &[("group.id", group), ("session.timeout.ms", "6000")]);
        member.subscribe(&[topic]).unwrap();
        member
    };
    let (first, second) = (member(), member());
    let read = read_together(&first, &second, 40, 2).await;
    assert_eq!(read.len(), 40);
    let share = |member: &StreamConsumer| -> BTreeSet<i32> {
        member.assignment().unwrap().elements().iter().map(|element| element.partition()).collect()
    };
    let others = share(&second);
    assert!(share(&first).is_disjoint(&others), "no partition is read by both");

    let mut positions = TopicPartitionList::new();
    (0..4).for_each(|partition| positions.add_partition_offset(topic, partition, Offset::Offset(7)).unwrap());
    let own = |member: &StreamConsumer| {
        let mut own = TopicPartitionList::new();
        for element in member.assignment().unwrap().elements() {
            own.add_partition_offset(topic, element.partition(), Offset::Offset(7)).unwrap();
        }
        own
    };
    first.commit(&own(&first), CommitMode::Sync).unwrap();
    second.commit(&own(&second), CommitMode::Sync).unwrap();
    let committed = first.committed_offsets(positions.clone(), LIMIT).unwrap();
    assert_eq!(committed, positions, "each sees what both have committed");
    match JavaTools::find() {
        Ok(tools) => {
            let described = tools.run(target, GROUPS, &["--describe", "--group", group]);
            assert_eq!(lags(&described, topic), [3, 3, 3, 3], "{described}");
            let state = tools.run(target, GROUPS, &["--describe", "--state", "--group", group]);
            assert!(state.contains("Stable"), "{state}");
        }
        Err(why) => skip("kafka-consumer-groups", &why),
    }
    // One member leaves, the other takes its partitions over where the group stands.
    drop(second);
    let end = Instant::now() + 2 * LIMIT;
    let mut again = BTreeSet::new();
    while again.len() < 6 {
        assert!(Instant::now() < end, "{:?}, {again:?}", first.assignment());
        tokio::select! {
            record = rd::next(&first) => drop(again.insert((record.partition, record.offset))),
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        again.retain(|(partition, _)| others.contains(partition));
    }
    assert!(again.iter().all(|(_, offset)| (7..10).contains(offset)), "{again:?}");
}

/// Q4: by the group's own commits, on our topics alone, and without a member of it.
async fn q4_the_sink_tells_where_the_configured_groups_are(target: &Target) {
    let (prefix, group) = (target.unique("lag-"), target.unique("desk:"));
    let named = |topic: Topic| format!("{prefix}{}", topic.name());
    let producer = producer(target, &[]);
    for (topic, count) in [(Topic::NASA_FIRMS, 10), (Topic::WEATHER, 4)] {
        create(target, &named(topic), 3, &[]).await;
        let records: Vec<Record> = (0..2).flat_map(|partition| numbered(partition, count)).collect();
        send(&producer, &named(topic), &records).await.into_iter().for_each(|at| assert!(at.is_ok(), "{at:?}"));
    }
    let of_groups = |text: &str| {
        let groups = ConsumerGroups::parse(text).unwrap();
        let settings = KafkaSettings::plaintext(&target.address, &prefix).unwrap();
        KafkaSink::connect(&KafkaSettings { groups, ..settings }).unwrap()
    };
    let both = of_groups(&format!("{group},nobody"));
    assert_eq!(both.positions().await.unwrap(), [], "no group has read anything");
    let member = consumer(target, &[("group.id", &group)]);
    let mut read = TopicPartitionList::new();
    for (topic, partition, offset) in [(Topic::NASA_FIRMS, 0, 10), (Topic::NASA_FIRMS, 1, 7), (Topic::WEATHER, 1, 1)] {
        read.add_partition_offset(&named(topic), partition, Offset::Offset(offset)).unwrap();
    }
    member.commit(&read, CommitMode::Sync).unwrap();
    let at = |topic, partition, committed, end| Position { group: group.clone(), topic, partition, committed, end };
    let firms = [at(Topic::NASA_FIRMS, 0, 10, 10), at(Topic::NASA_FIRMS, 1, 7, 10)];
    let [caught_up, behind] = firms.clone();
    assert_eq!(both.positions().await.unwrap(), [caught_up, behind, at(Topic::WEATHER, 1, 1, 4)]);
    let one = of_groups(&format!("{group}:wildfire-nasa-firms"));
    assert_eq!(one.positions().await.unwrap(), firms);
    let none = of_groups("");
    assert_eq!(none.positions().await.unwrap(), []);
}

/// The LAG column of the topic's rows.
fn lags(described: &str, topic: &str) -> Vec<i64> {
    let rows = described.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(1) == Some(&topic)).map(|row| row[5].parse().expect("a number")).collect()
}

async fn a_static_member_gets_its_partitions_back_without_a_rebalance(target: &Target) {
    let (topic, group) = (&*target.unique("static"), &*target.unique("static-group"));
    create(target, topic, 2, &[]).await;
    let records: Vec<Record> = (0..2).flat_map(|partition| numbered(partition, 5)).collect();
    send(&producer(target, &[]), topic, &records).await.into_iter().for_each(|at| assert!(at.is_ok(), "{at:?}"));
    let member = |instance: &str| {
        let settings = [("group.id", group), ("group.instance.id", instance), ("session.timeout.ms", "30000")];
        let member = consumer(target, &settings);
        member.subscribe(&[topic]).unwrap();
        // Never dropped: rdkafka 0.39 waits for ever to close a static member. It ends as a crashed one would.
        std::mem::ManuallyDrop::new(member)
    };
    let (stays, leaves) = (member("stays"), member("leaves"));
    read_together(&stays, &leaves, 10, 1).await;
    let (kept, given_up) = (stays.assignment().unwrap(), leaves.assignment().unwrap());
    let back = member("leaves");
    // It starts from the beginning of its partition, as nothing was committed.
    let record = rd::next(&back).await;
    assert_eq!(given_up.elements()[0].partition(), record.partition);
    assert_eq!(stays.assignment().unwrap(), kept);
    let fenced = async {
        loop {
            if let Err(error) = leaves.recv().await {
                return error;
            }
        }
    };
    let fenced = tokio::time::timeout(LIMIT, fenced).await.expect("its former self hears of it");
    assert_eq!(fenced.rdkafka_error_code(), Some(RDKafkaErrorCode::FencedInstanceId), "{fenced}");
}

async fn groups_and_records_are_deleted_on_request(target: &Target) {
    let (topic, group) = (&*target.unique("deleted"), &*target.unique("deleted-group"));
    create(target, topic, 1, &[]).await;
    send(&producer(target, &[]), topic, &numbered(0, 20))
        .await
        .into_iter()
        .for_each(|at| assert!(at.is_ok(), "{at:?}"));
    let client = consumer(target, &[("group.id", group)]);
    let at = |offset| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, offset).unwrap();
        list
    };
    client.commit(&at(Offset::Offset(12)), CommitMode::Sync).unwrap();
    let committed = || client.committed_offsets(at(Offset::Invalid), LIMIT).unwrap().elements()[0].offset();
    assert_eq!(committed(), Offset::Offset(12));

    let admin = admin(target);
    let deleted = admin.delete_records(&at(Offset::Offset(8)), &options()).await.unwrap();
    assert_eq!(deleted.elements()[0].offset(), Offset::Offset(8));
    assert_eq!(client.fetch_watermarks(topic, 0, LIMIT).unwrap(), (8, 20));
    let read = read_all(target, topic).await;
    assert_eq!(read.iter().map(|record| record.offset).collect::<Vec<_>>(), (8..20).collect::<Vec<_>>());

    assert_eq!(admin.delete_groups(&[group], &options()).await.unwrap(), [Ok(group.to_owned())]);
    assert_eq!(committed(), Offset::Invalid);
    let again = admin.delete_groups(&[group], &options()).await.unwrap();
    assert_eq!(again, [Err((group.to_owned(), RDKafkaErrorCode::GroupIdNotFound))]);
}

/// Bytes that no codec makes smaller.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

async fn an_oversized_message_is_refused_and_the_next_is_taken(target: &Target) {
    let topic = &*target.unique("oversized");
    create(target, topic, 1, &[("max.message.bytes", "200000")]).await;
    let producer = producer(target, &[("message.max.bytes", "5000000"), ("linger.ms", "0")]);
    let one = |value: Vec<u8>| [Record { value, ..Record::default() }];
    let written = send(&producer, topic, &one(noise(300_000))).await;
    assert_eq!(written, [Err(RDKafkaErrorCode::MessageSizeTooLarge)]);
    assert_eq!(send(&producer, topic, &one(noise(100_000))).await, [Ok((0, 0))]);
    // The broker looks at what arrives: packed it is small.
    let packing = rd::producer(target, &[("message.max.bytes", "5000000"), ("compression.codec", "zstd")]);
    assert_eq!(send(&packing, topic, &one(vec![7; 300_000])).await, [Ok((0, 1))]);
}

async fn an_unknown_topic_is_unknown_unless_it_may_be_created(target: &Target) {
    let topic = &*target.unique("unknown");
    let client = consumer(target, &[("allow.auto.create.topics", "false")]);
    assert_eq!(rd::partitions(&client, topic), Err(RDKafkaErrorCode::UnknownTopicOrPartition));
    let careful =
        producer(target, &[("allow.auto.create.topics", "false"), ("topic.metadata.propagation.max.ms", "1")]);
    let written = send(&careful, topic, &numbered(0, 1)).await;
    assert!(
        matches!(written[..], [Err(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition)]),
        "{written:?}"
    );
    assert_eq!(rd::partitions(&client, topic), Err(RDKafkaErrorCode::UnknownTopicOrPartition), "nobody created it");
    let written = send(&producer(target, &[]), topic, &numbered(0, 1)).await;
    assert_eq!(written, [Ok((0, 0))], "a producer that may creates it");
}

async fn kcat_produces_consumes_lists_and_joins_a_group(target: &Target) {
    let (topic, group) = (&*target.unique("kcat"), &*target.unique("kcat-group"));
    let lines: String = (0..200).map(|number| format!("key{number}:value {number}\n")).collect();
    let produce = ["-P", "-t", topic, "-K:", "-z", "zstd", "-H", "source=kcat", "-X", "enable.idempotence=true"];
    if kcat(target, &produce, &lines).is_none() {
        return skip("kcat", "it is not installed");
    }
    let kcat = |arguments: &[&str]| kcat(target, arguments, "").expect("it was there a moment ago");
    let read = kcat(&["-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%k:%s\n"]);
    assert_eq!(read, lines);
    let last = kcat(&["-C", "-t", topic, "-o", "-1", "-e", "-q", "-f", "%o %h %p\n"]);
    assert_eq!(last, "199 source=kcat 0\n");
    let listed: serde_json::Value = serde_json::from_str(&kcat(&["-L", "-J"])).expect("JSON");
    let topics = listed["topics"].as_array().expect("a list");
    let found = topics.iter().find(|found| found["topic"] == topic).expect("the topic that was produced to");
    assert_eq!(found["partitions"].as_array().map(Vec::len), Some(1));
    assert_eq!(kcat(&["-Q", "-t", &format!("{topic}:0:0")]), format!("{topic} [0] offset 0\n"));
    let from_start = ["-G", group, "-X", "auto.offset.reset=earliest", "-c", "150", "-q", "-f", "%o\n", topic];
    assert_eq!(kcat(&from_start).lines().count(), 150);
    let rest = ["-G", group, "-X", "auto.offset.reset=earliest", "-c", "50", "-q", "-f", "%o\n", topic];
    assert_eq!(kcat(&rest).lines().next(), Some("150"), "the group goes on where it stopped");
}

async fn kafka_s_own_tools_work(target: &Target) {
    let tools = match JavaTools::find() {
        Ok(tools) => tools,
        Err(why) => return skip("Kafka's own tools", &why),
    };
    let (topic, group) = (&*target.unique("java"), &*target.unique("java-group"));
    let run = |class: &str, arguments: &[&str]| tools.run(target, class, arguments);
    run(TOPICS, &["--create", "--topic", topic, "--partitions", "2", "--config", "retention.ms=86400000"]);
    assert!(run(TOPICS, &["--list"]).lines().any(|line| line == topic));
    run(TOPICS, &["--alter", "--topic", topic, "--partitions", "3"]);
    rd::wait_for_partitions(target, topic, 3).await;
    let described = run(TOPICS, &["--describe", "--topic", topic]);
    assert!(described.contains("PartitionCount: 3") && described.contains("retention.ms=86400000"), "{described}");

    let of = ["--entity-type", "topics", "--entity-name", topic];
    run(CONFIGS, &[&["--alter", "--add-config", "retention.ms=7200000"][..], &of].concat());
    let settings = run(CONFIGS, &[&["--describe"][..], &of].concat());
    assert!(settings.contains("retention.ms=7200000"), "{settings}");

    let records: Vec<Record> = (0..3).flat_map(|partition| numbered(partition, 10)).collect();
    send(&producer(target, &[]), topic, &records).await.into_iter().for_each(|at| assert!(at.is_ok(), "{at:?}"));
    let offsets = |time: &str| run(OFFSETS, &["--topic", topic, "--time", time]);
    let rows = |offset: i64| (0..3).map(|partition| format!("{topic}:{partition}:{offset}\n")).collect::<String>();
    assert_eq!((offsets("-1"), offsets("-2")), (rows(10), rows(0)));
    assert_eq!(offsets("0"), rows(0), "by time");
    assert_eq!(offsets("-3").lines().count(), 3, "the latest timestamp");

    let json = folder();
    let file = json.path().join("offsets.json");
    let part = format!(r#"{{"topic": "{topic}", "partition": 0, "offset": 4}}"#);
    std::fs::write(&file, format!(r#"{{"version": 1, "partitions": [{part}]}}"#)).unwrap();
    run(DELETE_RECORDS, &["--offset-json-file", file.to_str().unwrap()]);
    assert_eq!(offsets("-2").lines().next(), Some(&*format!("{topic}:0:4")));

    let reset = ["--reset-offsets", "--to-offset", "6", "--execute", "--topic", topic, "--group", group];
    run(GROUPS, &reset);
    let described = run(GROUPS, &["--describe", "--group", group]);
    assert_eq!(lags(&described, topic), [4, 4, 4], "{described}");
    assert!(run(GROUPS, &["--list"]).lines().any(|line| line == group));
    run(GROUPS, &["--delete-offsets", "--topic", &format!("{topic}:1"), "--group", group]);
    assert_eq!(lags(&run(GROUPS, &["--describe", "--group", group]), topic), [4, 4]);
    run(GROUPS, &["--delete", "--group", group]);
    assert!(!run(GROUPS, &["--list"]).lines().any(|line| line == group));
    run(TOPICS, &["--delete", "--topic", topic]);
}

async fn java_s_clients_find_what_connect_and_streams_ask_for(target: &Target) {
    match JavaTools::find() {
        Ok(tools) => assert_eq!(tools.run_file(target, "Clients", &[&target.unique("java-clients")]), "ok\n"),
        Err(why) => skip("Java's own clients", &why),
    }
}

async fn a_go_service_with_franz_go_works(target: &Target) {
    match franz_go(target, &target.unique("franz-go")) {
        Some(worked) => assert_eq!(worked, Ok(())),
        None => skip("franz-go", "STREAMMANAGER_TEST_FRANZ_GO is not set"),
    }
}

/// A probe of a port, or a client that hangs, says nothing for ever; whoever speaks is served all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_silent_connections_keeps_no_client_out() {
    let folder = folder();
    let embedded = Embedded::start(folder.path()).await;
    let target = &embedded.target;
    create(target, "flooded", 1, &[]).await;
    let steady = producer(target, &[("linger.ms", "0")]);
    assert_eq!(send(&steady, "flooded", &numbered(0, 1)).await, [Ok((0, 0))]);
    let mut silent = Vec::new();
    for _ in 0..1_500 {
        silent.push(tokio::net::TcpStream::connect(&target.address).await.unwrap());
    }
    assert_eq!(send(&steady, "flooded", &numbered(0, 1)).await, [Ok((0, 1))], "a client that was there before");
    let late = producer(target, &[("linger.ms", "0")]);
    assert_eq!(send(&late, "flooded", &numbered(0, 1)).await, [Ok((0, 2))], "a client that comes after them");
    embedded.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_records_settings_offsets_and_sequences() {
    let folder = folder();
    let embedded = Embedded::start(folder.path()).await;
    let target = &embedded.target;
    let topic = "kept";
    create(target, topic, 2, &[("segment.bytes", "2000"), ("retention.ms", "-1")]).await;
    // Stays connected across the restart: its sequences must go on.
    let staying = producer(target, &[("enable.idempotence", "true"), ("batch.num.messages", "5")]);
    let mut records = numbered(0, 300);
    records.extend(numbered(1, 300));
    assert!(send(&staying, topic, &records).await.iter().all(Result::is_ok));
    let client = consumer(target, &[("group.id", "kept-group")]);
    let mut position = TopicPartitionList::new();
    position.add_partition_offset(topic, 1, Offset::Offset(123)).unwrap();
    client.commit(&position, CommitMode::Sync).unwrap();
    let before = read_all(target, topic).await;
    let gone = "gone";
    create(target, gone, 1, &[]).await;
    assert_eq!(admin(target).delete_topics(&[gone], &options()).await.unwrap(), [Ok(gone.to_owned())]);

    let embedded = embedded.restart(folder.path()).await;
    let target = &embedded.target;
    assert_eq!(read_all(target, topic).await, before);
    assert!(rd::partitions(&client, gone).is_err());
    let committed = client.committed_offsets(position.clone(), LIMIT).unwrap();
    assert_eq!(committed.elements()[0].offset(), Offset::Offset(123));
    let resource = ResourceSpecifier::Topic(topic);
    let described = admin(target).describe_configs([&resource], &options()).await.unwrap().remove(0).unwrap();
    assert_eq!(described.get("segment.bytes").and_then(|entry| entry.value.as_deref()), Some("2000"));
    let more = send(&staying, topic, &numbered(0, 50)).await;
    assert_eq!(more, (300..350).map(|offset| Ok((0, offset))).collect::<Vec<_>>());
    embedded.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_nothing_acknowledged_and_repeats_nothing() {
    let folder = folder();
    let port = free_port();
    let mut endpoint = EndpointProcess::start(folder.path(), port);
    let topic = "killed";
    create(&endpoint.target, topic, 3, &[("segment.bytes", "100000")]).await;
    let address = endpoint.target.address.clone();
    let sending = tokio::spawn(async move {
        let settings = [
            ("enable.idempotence", "true"),
            ("linger.ms", "1"),
            ("message.timeout.ms", "120000"),
            ("reconnect.backoff.max.ms", "200"),
        ];
        let producer = producer(&Target { address }, &settings);
        let mut acknowledged = Vec::new();
        for round in 0..60 {
            let record = |number: usize| {
                let value = format!("{round}-{number}").into_bytes();
                Record { partition: (number % 3) as i32, value, ..Record::default() }
            };
            let records: Vec<Record> = (0..500).map(record).collect();
            for (record, at) in records.iter().zip(send(&producer, topic, &records).await) {
                let (partition, offset) = at.expect("it is tried until the endpoint is there again");
                acknowledged.push((partition, offset, record.value.clone()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        producer.flush(LIMIT).expect("nothing is left");
        acknowledged
    });
    let mut kills = 0;
    while !sending.is_finished() && kills < 12 {
        tokio::time::sleep(Duration::from_millis(40 + 35 * (kills % 5))).await;
        endpoint.kill();
        kills += 1;
        endpoint = EndpointProcess::start(folder.path(), port);
    }
    let acknowledged = sending.await.expect("the producer does not give up");
    assert!(kills >= 3, "killed {kills} times only");
    let read = read_all(&endpoint.target, topic).await;
    let found: BTreeSet<_> = read.iter().map(|r| (r.partition, r.offset, r.value.clone())).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|record| !found.contains(record)).collect();
    assert!(lost.is_empty(), "{} of {} lost, first {:?}", lost.len(), acknowledged.len(), lost[0]);
    let values: BTreeSet<_> = read.iter().map(|record| record.value.clone()).collect();
    assert_eq!(values.len(), read.len(), "an idempotent producer's records stand there once");
    assert_eq!(read.len(), 30_000);
}

/// A file system of a few MiB, taken away again when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let folder = folder();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(folder.path())
            .output()
            .map_err(|error| format!("mount: {error}"))?;
        if mounted.status.success() {
            Ok(Self(folder))
        } else {
            Err(format!("it needs root: {}", String::from_utf8_lossy(&mounted.stderr).trim()))
        }
    }

    /// Takes all the room there is.
    fn fill(&self) -> std::path::PathBuf {
        use std::io::Write;
        let filler = self.0.path().join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_an_error_to_try_again_and_the_endpoint_goes_on() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(why) => return skip("a full disk", &why),
    };
    let embedded = Embedded::start(&disk.0.path().join("data")).await;
    let target = &embedded.target;
    let topic = "full";
    create(target, topic, 1, &[]).await;
    let impatient = producer(target, &[("retries", "0"), ("linger.ms", "0")]);
    assert_eq!(send(&impatient, topic, &numbered(0, 1)).await, [Ok((0, 0))]);
    let client = consumer(target, &[("group.id", "full-group")]);
    let mut position = TopicPartitionList::new();
    position.add_partition_offset(topic, 0, Offset::Offset(1)).unwrap();

    let filler = disk.fill();
    let large = [Record { value: noise(100_000), ..Record::default() }];
    assert_eq!(send(&impatient, topic, &large).await, [Err(RDKafkaErrorCode::KafkaStorageError)]);
    let patient = producer(target, &[("enable.idempotence", "true"), ("linger.ms", "0")]);
    let waiting = {
        let large = large.clone();
        tokio::spawn(async move { send(&patient, topic, &large).await })
    };
    assert_eq!(read_all(target, topic).await.len(), 1, "what is there can be read");
    let _ = client.commit(&position, CommitMode::Sync);
    std::fs::remove_file(filler).unwrap();
    assert_eq!(waiting.await.unwrap(), [Ok((0, 1))], "a producer that tries again gets through");
    assert_eq!(send(&impatient, topic, &large).await, [Ok((0, 2))]);
    client.commit(&position, CommitMode::Sync).expect("offsets are stored again");
    create(target, "another", 1, &[]).await;
    embedded.stop().await;
}
