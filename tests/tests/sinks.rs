//! The laws of `Sink` on every implementation: memory with faults, files, Kinesis as AWS endpoints serve it, and real Apache
//! Kafka, also over TLS, with a password and with tokens, whose broker the outage laws kill and start again. What only one implementation
//! promises stands at the end, and of Kinesis in `sinks/kinesis_faults.rs`.

#[path = "sinks/guarded.rs"]
mod guarded;
#[path = "sinks/kinesis.rs"]
mod kinesis;
#[path = "sinks/kinesis_faults.rs"]
mod kinesis_faults;
#[path = "sinks/worlds.rs"]
mod worlds;

use std::fs::{self, OpenOptions};
use std::io::Write;

use kinesis::{FarKinesis, KinesisWorld};
use streammanager::error::{BackendError, Reason};
use streammanager::record::Topic;
use streammanager::sink::conformance::{self, TestSink, assert_acked, record};
use streammanager::sink::kafka::{KafkaSettings, KafkaSink};
use streammanager::sink::{FileSink, Lane, Sent, Sink, TopicState};
use worlds::{Files, KafkaWorld, Memory, OwnKafka};

macro_rules! laws {
    ($kind:ident on $open:path: $($law:ident),* $(,)?) => {
        mod $kind {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                if let Some(world) = $open().await {
                    super::conformance::$law(&world).await;
                }
            })*
        }
    };
}

macro_rules! every_law {
    ($kind:ident on $open:path) => {
        laws!($kind on $open: acked_records_are_there, a_refused_record_is_refused_alone, the_largest_record_is_taken,
            an_acknowledgement_says_where_its_record_lies, an_empty_send_is_nothing, sends_at_once_keep_apart, a_dropped_send_leaves_others_alone,
            check_reports_every_topic, acked_records_outlive_the_sink);
    };
}

every_law!(memory on super::Memory::new);
every_law!(file on super::Files::new);
every_law!(kinesis_ministack on super::KinesisWorld::on_ministack);
every_law!(kinesis_of_a_stack on super::KinesisWorld::of_a_stack);
laws!(kinesis_localstack on super::KinesisWorld::on_localstack: a_refused_record_is_refused_alone, an_empty_send_is_nothing,
    check_reports_every_topic, acked_records_outlive_the_sink);
every_law!(kafka on super::KafkaWorld::shared);
every_law!(kafka_tls on super::KafkaWorld::over_tls);
every_law!(kafka_scram on super::KafkaWorld::over_scram_and_tls);
every_law!(kafka_iam on super::KafkaWorld::by_tokens);
laws!(memory_away on super::Memory::new: an_outage_is_retry_and_passes, nothing_is_in_flight_after_a_send);
laws!(file_away on super::Files::new: an_outage_is_retry_and_passes, nothing_is_in_flight_after_a_send);
laws!(kinesis_away on super::FarKinesis::on_ministack: an_outage_is_retry_and_passes, nothing_is_in_flight_after_a_send);
laws!(kafka_away on super::OwnKafka::start: an_outage_is_retry_and_passes, nothing_is_in_flight_after_a_send);

#[tokio::test]
async fn a_file_loses_its_torn_last_line_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{}.ndjson", Topic::NASA_FIRMS.name()));
    let first = [record("torn", 0), record("torn", 1)];
    let sink = FileSink::open(folder.path()).unwrap();
    assert_acked(&sink.send(Lane::Bulk, &first).await);
    drop(sink);
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"half\":").unwrap();
    let sink = FileSink::open(folder.path()).unwrap();
    let lines = |records: &[_]| records.iter().map(line).collect::<String>();
    assert_eq!(fs::read_to_string(&path).unwrap(), lines(&first), "cut off when opened, not with the next record");
    assert_acked(&sink.send(Lane::Bulk, &[record("torn", 2)]).await);
    assert_eq!(fs::read_to_string(&path).unwrap(), lines(&[record("torn", 0), record("torn", 1), record("torn", 2)]));
}

#[tokio::test]
async fn a_value_with_line_breaks_stays_one_line_and_the_same_json() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::open_prefixed(folder.path(), "dev-").unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no file before its first record");
    let mut broken = record("line breaks", 0);
    let text = "{\r\n \"a\": \"x\\ny\",\n \"b\": 2}";
    broken.value = text.into();
    assert_acked(&sink.send(Lane::Bulk, &[broken]).await);
    let written = fs::read_to_string(folder.path().join("dev-wildfire-nasa-firms.ndjson")).unwrap();
    assert_eq!(written.lines().count(), 1);
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(json(&written), json(text));
}

#[test]
fn a_folder_of_files_has_one_writer_and_must_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let topic = folder.path().join(format!("{}.ndjson", Topic::WEATHER.name()));
    fs::write(&topic, "{}\n").unwrap();
    let first = FileSink::open(folder.path()).unwrap();
    match FileSink::open(folder.path()) {
        Err(BackendError::Retry(text)) => assert!(text.contains("another process writes"), "{text}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
    drop(first);
    assert!(FileSink::open(folder.path()).is_ok(), "the files are free once the sink is gone");
    match FileSink::open(&topic) {
        Err(BackendError::Fatal(text)) => assert!(text.contains("wildfire-weather.ndjson"), "{text}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k2_kafka_makes_missing_topics_and_never_repartitions() {
    let Some(world) = KafkaWorld::fresh("k2") else { return };
    world.make(&world.named(Topic::WEATHER), 2, &[]).await;
    let sink = world.connect();
    let reports = sink.check().await.unwrap();
    for (topic, report) in Topic::ALL.iter().zip(&reports) {
        assert_eq!(report.topic, world.named(*topic));
        let differs = TopicState::Differs { partitions: 2, expected: 6 };
        assert_eq!(report.state, if *topic == Topic::WEATHER { differs } else { TopicState::Created });
    }
    let found = world.topics().await;
    for topic in Topic::ALL {
        let partitions = if *topic == Topic::WEATHER { 2 } else { topic.partitions() };
        assert_eq!(found.get(&world.named(*topic)), Some(&(partitions, "604800000".to_owned())));
    }
    assert_eq!(sink.check().await.unwrap()[1].state, TopicState::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn k2_why_a_topic_cannot_be_made_is_told_in_the_brokers_words() {
    let Some(mut world) = KafkaWorld::fresh("words") else { return };
    world.settings.topic_prefix = "not a name-".into();
    let Err(BackendError::Fatal(told)) = world.connect().check().await else { panic!("a topic is made") };
    assert!(told.contains("contains one or more characters other than"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn k3_keys_choose_the_partition_that_a_java_producer_would_choose() {
    let Some(world) = KafkaWorld::fresh("k3") else { return };
    let sink = world.open().await;
    // From Apache Kafka's own Utils.toPositive(Utils.murmur2(key)) % 12.
    let expected = [
        ("85283473fffffff", 11),
        ("8528340bfffffff", 7),
        ("852ab2c3fffffff", 6),
        ("firms_viirs_snpp", 0),
        ("KSTO@NWS.NOAA.GOV,NOAA-NWS-ALERTS-1", 4),
    ];
    let mut sent: Vec<_> = (0..expected.len()).map(|n| record("partitions", n)).collect();
    for (record, (key, _)) in sent.iter_mut().zip(expected) {
        record.key = key.into();
    }
    assert_acked(&sink.send(Lane::Critical, &sent).await);
    let found = world.read_topic(Topic::NASA_FIRMS).await;
    let partitions =
        expected.map(|(key, _)| found.iter().find(|(_, s)| s.key.as_deref() == Some(key)).map(|(p, _)| *p));
    assert_eq!(partitions, expected.map(|(_, partition)| Some(partition)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_too_large_for_its_topic_is_no_fault_of_its_records() {
    let Some(world) = KafkaWorld::fresh("small") else { return };
    world.make(&world.named(Topic::IOT_SENSORS), 1, &[("max.message.bytes", "4000")]).await;
    let sink = world.open().await;
    let mut sent: Vec<_> = (0..12).map(|n| record("small topic", n)).collect();
    for (n, record) in sent.iter_mut().enumerate() {
        record.topic = Topic::IOT_SENSORS;
        record.value = incompressible(n as u64, if n == 5 { 6_000 } else { 1_000 }).into();
    }
    let outcomes = sink.send(Lane::Bulk, &sent).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        match n {
            5 => assert!(matches!(outcome, Sent::Refused(Reason::TooLarge, _)), "{outcome:?}"),
            _ => assert!(outcome.is_acked(), "record {n}: {outcome:?}"),
        }
    }
    assert_eq!(world.read().await.len(), 11);
}

/// K2: a topic that somebody deletes while we run is made again as it must be, and the lane that found it missing goes on.
#[tokio::test(flavor = "multi_thread")]
async fn k2_a_topic_deleted_while_running_is_made_again_with_its_partitions() {
    let Some(world) = KafkaWorld::fresh("deleted") else { return };
    let sink = world.open().await;
    let topic = world.named(Topic::NASA_FIRMS);
    assert_acked(&sink.send(Lane::Critical, &[record("deleted", 0)]).await);
    world.delete(&topic).await;
    while world.topics().await.contains_key(&topic) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let mut tries = 0;
    let partitions = loop {
        let is_acked = sink.send(Lane::Critical, &[record("deleted", 1)]).await[0].is_acked();
        match world.topics().await.get(&topic) {
            Some((partitions, _)) if is_acked => break *partitions,
            _ => tries += 1,
        }
        assert!(tries < 100, "the topic does not come back");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(partitions, Topic::NASA_FIRMS.partitions());
}

#[tokio::test]
async fn an_unreachable_broker_is_named_with_its_problem() {
    let settings = KafkaSettings::plaintext("127.0.0.1:1", "").unwrap();
    let sink = KafkaSink::connect(&settings).unwrap();
    match sink.check().await {
        Err(BackendError::Retry(text)) => assert!(text.contains("127.0.0.1:1"), "{text}"),
        other => panic!("{other:?}"),
    }
    match &sink.send(Lane::Critical, &[record("unreachable", 0)]).await[..] {
        [Sent::Retry(text)] => assert!(text.contains("Connection refused"), "{text}"),
        other => panic!("{other:?}"),
    }
}

fn line(record: &streammanager::record::Outgoing) -> String {
    format!("{}\n", String::from_utf8_lossy(&record.value))
}

/// Letters that zstd makes little of.
fn incompressible(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed + 1;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'0' + (state >> 33) as u8 % 75
    })
    .take(length)
    .collect()
}
