//! The same system with queues, state and stored bytes on each AWS endpoint that is not ours, and what a kill leaves there [L4].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use streammanager::aws::Aws;
use streammanager::store::{Key, Store};
use streammanager::time::{Clock, Rng};
use streammanager_tests::bodies::alert;
use streammanager_tests::endpoints::Endpoint;
use streammanager_tests::system::{Start, System};
use streammanager_tests::{kafka, kinesis, skip};
use tempfile::tempdir;

use super::{edited, has_mosquitto, publish, reading, the_whole_path};

macro_rules! on_every_endpoint {
    ($($test:ident),* $(,)?) => {
        mod ministack {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(super::Endpoint::Ministack).await;
            })*
        }

        mod localstack {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(super::Endpoint::LocalStack).await;
            })*
        }
    };
}

on_every_endpoint!(
    the_whole_path_with_state_on_aws,
    the_whole_path_with_state_on_aws_and_real_kafka,
    d3_a_second_host_stands_by_and_takes_over,
    k1_alerts_and_readings_reach_kinesis,
    q1_kill_9_with_state_on_aws_loses_nothing_acknowledged,
    q1_kill_9_with_state_on_aws_and_real_kafka_loses_nothing_acknowledged,
);

const TOPIC_PREFIX: &str = "  TopicPrefix:\n    Type: String\n    Default: ";
const STACK_PREFIX: &str = "  StackPrefix:\n    Type: String\n    Default: ";
const RETAINED: &str = "    DeletionPolicy: RetainExceptOnCreate\n    UpdateReplacePolicy: Retain\n    Properties:\n";
/// Of deliver's last permission and its schedule; no other function has both.
const DELIVERS: &str = "!GetAtt LowQueue.Arn]\n      Events:\n        EveryMinute:\n          Type: ScheduleV2\n          Properties:\n            Name: !Sub ${StackPrefix}-${Stage}-deliver\n";

/// Other tests and runs use the same endpoint: queues, table, bucket and topics have a name of their own.
pub fn own_name() -> String {
    static USED: AtomicU32 = AtomicU32::new(0);
    format!("e2e-{}-{}", std::process::id(), USED.fetch_add(1, Ordering::Relaxed))
}

/// The template under `name`, with further edits.
pub fn template(folder: &Path, name: &str, more: &[(&str, &str)]) -> PathBuf {
    let owned = |head: String, line: String| (head.clone(), head + &line);
    let edits = [
        (format!("{TOPIC_PREFIX}\"\""), format!("{TOPIC_PREFIX}{name}-")),
        (format!("{STACK_PREFIX}streammanager"), format!("{STACK_PREFIX}{name}")),
        owned(
            format!("  StateTable:\n    Type: AWS::DynamoDB::Table\n{RETAINED}"),
            format!("      TableName: {name}\n"),
        ),
        owned(format!("  BlobsBucket:\n    Type: AWS::S3::Bucket\n{RETAINED}"), format!("      BucketName: {name}\n")),
    ];
    let edits = edits.iter().map(|(from, to)| (from.as_str(), to.as_str())).chain(more.iter().copied());
    edited(folder, &edits.collect::<Vec<_>>())
}

/// Where it is, and real Kafka; `None`, and said so, where one of them does not run.
fn with_kafka(at: Endpoint, what: &str) -> Option<(String, String)> {
    let (aws, kafka) = (at.url_for(what)?, kafka());
    if kafka.is_none() {
        skip(&format!("{what} on {at:?}"), "STREAMMANAGER_TEST_KAFKA is not set");
    }
    Some((aws, kafka?))
}

async fn the_whole_path_with_state_on_aws(at: Endpoint) {
    let Some(aws) = at.url_for("end to end") else { return };
    let (folder, name) = (tempdir().unwrap(), own_name());
    let template = template(folder.path(), &name, &[]);
    the_whole_path(Start { aws, template, ..Start::quiet(folder.path()) }, &format!("{name}-")).await;
}

async fn the_whole_path_with_state_on_aws_and_real_kafka(at: Endpoint) {
    let Some((aws, kafka)) = with_kafka(at, "end to end with real Kafka") else { return };
    let (folder, name) = (tempdir().unwrap(), own_name());
    let template = template(folder.path(), &name, &[]);
    the_whole_path(Start { aws, kafka, template, ..Start::quiet(folder.path()) }, &format!("{name}-")).await;
}

/// Two hosts on one state: the second one's start takes no lease from the first, which is alive, and its end does not stop
/// delivery.
async fn d3_a_second_host_stands_by_and_takes_over(at: Endpoint) {
    let Some(aws) = at.url_for("two hosts") else { return };
    let (folder, name) = (tempdir().unwrap(), own_name());
    let template = template(folder.path(), &name, &[("VisibilityTimeout: 30\n", "VisibilityTimeout: 4\n")]);
    let [first, second] = ["first", "second"].map(|host| Start {
        aws: aws.clone(),
        template: template.clone(),
        ..Start::quiet(&folder.path().join(host))
    });
    let state = Aws::connect(Some(&aws), "us-west-2").await.store(&name, Clock::system(), Rng::from_os().unwrap());
    let holder = async || {
        let lease = state.get(&Key::new("leases", "deliver/duty")).await.unwrap();
        lease.map(|lease| lease.value)
    };
    let first = System::up(&first);
    let held = loop {
        match holder().await {
            Some(holder) => break holder,
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let second = System::up(&second);
    // Longer than a lease lasts that nobody renews.
    for _ in 0..80 {
        assert_eq!(holder().await.as_ref(), Some(&held), "the second host took the lanes from the first");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    first.kill();
    let key = second.sender("butte").await;
    let (status, answer) = second.alert(&key, alert("T1", "Test", "Alert", &[])).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    second.messages(&format!("{name}-wildfire-alert-drills"), 1);
}

/// Drills go by the NORMAL queue, alerts by the broker or the CRITICAL queue.
async fn send(system: &System, key: &str, run: &str, count: usize, acknowledged: &mut BTreeSet<String>) {
    for number in 0..count {
        for status in ["Actual", "Test"] {
            let body = alert(&format!("{run}-{status}-{number}"), status, "Alert", &[]);
            if let Ok((200, answer)) = system.alert(key, body).await {
                acknowledged.insert(answer["accepted"][0]["event_id"].as_str().unwrap().to_owned());
            }
        }
    }
}

async fn q1_kill_9_with_state_on_aws_loses_nothing_acknowledged(at: Endpoint) {
    let Some(aws) = at.url_for("kill -9") else { return };
    let folder = tempdir().unwrap();
    kill_9_loses_nothing_acknowledged(folder.path(), Start { aws, ..Start::quiet(folder.path()) }).await;
}

async fn q1_kill_9_with_state_on_aws_and_real_kafka_loses_nothing_acknowledged(at: Endpoint) {
    let Some((aws, kafka)) = with_kafka(at, "kill -9 with real Kafka") else { return };
    let folder = tempdir().unwrap();
    kill_9_loses_nothing_acknowledged(folder.path(), Start { aws, kafka, ..Start::quiet(folder.path()) }).await;
}

/// The first run does not deliver, the second is killed while it does, the third finds what both left behind.
async fn kill_9_loses_nothing_acknowledged(folder: &Path, start: Start) {
    let name = own_name();
    let topic = |topic: &str| format!("{name}-{topic}");
    // What a killed process had received comes back after seconds, not half a minute.
    let visibility = ("VisibilityTimeout: 30\n", "VisibilityTimeout: 4\n");
    let idle = format!("{DELIVERS}            State: DISABLED\n");
    let start = Start { template: template(folder, &name, &[visibility, (DELIVERS, &idle)]), ..start };
    let system = System::up(&start);
    assert!(system.started["started"]["state"].as_str().unwrap().contains(&name), "{}", system.started);
    let key = system.sender("butte").await;
    let mut acknowledged = BTreeSet::new();
    send(&system, &key, "first", 5, &mut acknowledged).await;
    assert_eq!(acknowledged.len(), 10);
    let readings = has_mosquitto() && publish(&system, "sensors/purpleair/7/state", &reading(7, 1_780_000_000));
    system.kill();

    let start = Start { template: template(folder, &name, &[visibility]), ..start };
    let system = System::up(&start);
    let waiting = system.started["started"]["queued_at_start"]["messages"].as_u64();
    assert!(waiting >= Some(5), "the drills wait in the queue: {}", system.started);
    let sending = send(&system, &key, "second", 1_000, &mut acknowledged);
    let _ = tokio::time::timeout(Duration::from_secs(3), sending).await;
    system.kill();

    let system = System::up(&start);
    assert!(acknowledged.len() >= 20, "only {} alerts were acknowledged: the kill proved little", acknowledged.len());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let lost = loop {
        let topics = [topic("wildfire-critical-alerts"), topic("wildfire-alert-drills")];
        let found = topics.iter().flat_map(|topic| system.messages(topic, 1)).collect::<Vec<_>>();
        let found: BTreeSet<&str> = found.iter().map(|m| m["value"]["event_id"].as_str().unwrap()).collect();
        let lost: Vec<&String> = acknowledged.iter().filter(|id| !found.contains(id.as_str())).collect();
        if lost.is_empty() || tokio::time::Instant::now() > deadline {
            break lost.into_iter().cloned().collect::<Vec<_>>();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(lost.is_empty(), "{} of {} acknowledged alerts are lost: {lost:?}", lost.len(), acknowledged.len());
    if readings {
        system.messages(&topic("wildfire-iot-sensors"), 1);
    }
    let waited = system.started["started"]["queued_at_start"].is_object();
    let (code, ledger) = system.stop();
    let balanced = &ledger["ledger"]["balanced"];
    assert_eq!(
        (code, balanced, &ledger["ledger"]["queued"]),
        (0, &if waited { Value::Null } else { json!(true) }, &json!(0)),
        "{ledger}"
    );
}

/// The same system with another sink: nothing but a flag differs.
async fn k1_alerts_and_readings_reach_kinesis(at: Endpoint) {
    let Some(url) = at.url_for("up --kinesis") else { return };
    let (folder, name) = (tempdir().unwrap(), own_name());
    let template = template(folder.path(), &name, &[]);
    let system = System::up(&Start { kinesis: Some(url.clone()), template, ..Start::quiet(folder.path()) });
    assert_eq!(system.started["started"]["kafka"], Value::Null, "{}", system.started);
    let key = system.sender("butte").await;
    for (id, status, kind, references) in
        [("A1", "Actual", "Alert", &[][..]), ("A2", "Actual", "Cancel", &["A1"]), ("D1", "Test", "Alert", &[])]
    {
        let (code, answer) = system.alert(&key, alert(id, status, kind, references)).await.unwrap();
        assert_eq!(code, 200, "{answer}");
    }
    let is_published = has_mosquitto() && publish(&system, "sensors/purpleair/7/state", &reading(7, 1_780_000_000));
    let (code, ledger) = system.stop();
    assert_eq!((code, &ledger["ledger"]["balanced"]), (0, &json!(true)), "{ledger}");
    let reader = aws_sdk_kinesis::Client::new(Aws::connect(Some(&url), "us-west-2").await.config());
    let read = async |topic: &str| {
        let found = kinesis::read(&reader, &format!("{name}-{topic}")).await;
        found.into_iter().map(|(_, found)| serde_json::from_str::<Value>(found.data()).unwrap()).collect::<Vec<_>>()
    };
    let kinds = |alerts: &[Value]| alerts.iter().map(|alert| alert["data"]["msgType"].clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&read("wildfire-critical-alerts").await), ["Alert", "Cancel"], "the order of a thread");
    assert_eq!(read("wildfire-alert-drills").await.len(), 1);
    assert_eq!(read("wildfire-iot-sensors").await.len(), usize::from(is_published));
}
