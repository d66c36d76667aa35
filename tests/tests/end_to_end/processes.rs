//! `up --runtime process`: the built Lambda binaries instead of the handlers in this process, with AWS's side of them played
//! by `up`, queues and state on an AWS endpoint that is not ours, and real Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::pin::pin;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use streammanager::aws::Aws;
use streammanager_tests::bodies::{actual, alert};
use streammanager_tests::endpoints::Endpoint;
use streammanager_tests::system::{Start, System};
use streammanager_tests::upstream::{FIRMS_STREAM, FakeUpstream, firms_csv};
use streammanager_tests::{aws, kafka, kinesis, published, skip};
use tempfile::{TempDir, tempdir};
use tokio::time::Instant;

use super::aws::{own_name, template};
use super::{DETECTIONS, distinct, has_mosquitto, publish, reading};

/// One that runs the binaries, with names of its own; `None`: the test is skipped.
fn started(what: &str, edits: &[(&str, &str)]) -> Option<(TempDir, String, Start)> {
    let (Some(aws), Some(kafka)) = (aws(), kafka()) else {
        skip(what, "STREAMMANAGER_TEST_AWS or STREAMMANAGER_TEST_KAFKA is not set");
        return None;
    };
    let (folder, name) = (tempdir().unwrap(), own_name());
    let start = Start {
        aws,
        kafka,
        template: template(folder.path(), &name, edits),
        variables: vec![("STREAMMANAGER_RUNTIME".into(), "process".into())],
        ..Start::quiet(folder.path())
    };
    Some((folder, name, start))
}

/// The Lambda processes of the stack with this state table, by function.
fn processes(table: &str) -> BTreeMap<String, BTreeSet<u32>> {
    let mut found = BTreeMap::<String, BTreeSet<u32>>::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended meanwhile.
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let variable = |name: &str| environment.split('\0').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        if let (Some(function), true) = (variable("AWS_LAMBDA_FUNCTION_NAME"), variable("STATE_TABLE") == Some(table)) {
            let function = function.rsplit('-').next().unwrap();
            found.entry(function.to_owned()).or_default().insert(id);
        }
    }
    found
}

/// Returns the processes once there are some of this function.
async fn processes_of(table: &str, function: &str) -> BTreeSet<u32> {
    for _ in 0..600 {
        if let Some(found) = processes(table).remove(function) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no process of {function}: {:?}", processes(table));
}

async fn none_is_left(table: &str) {
    for _ in 0..100 {
        if processes(table).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("orphans: {:?}", processes(table));
}

fn kill(id: u32) {
    let killed = Command::new("kill").arg("-KILL").arg(id.to_string()).status().unwrap();
    assert!(killed.success());
}

fn is_frozen(id: &u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

#[tokio::test(flavor = "multi_thread")]
async fn l3_the_whole_path_by_lambdas_own_binaries() {
    let Some((_folder, name, start)) = started("the whole path by Lambda's binaries", &[]) else { return };
    let topic = |topic: &str| format!("{name}-{topic}");
    let source = FakeUpstream::serve(|_| firms_csv(0, DETECTIONS));
    std::fs::write(&start.streams, FIRMS_STREAM).unwrap();
    let system = System::up(&Start { upstream: Some(source.url.clone()), ..start });
    assert_eq!(system.started["started"]["runtime"], "process");
    let not_honoured = system.started["started"]["not_honoured"].to_string();
    for honoured in ["MemorySize", "ProvisionedConcurrencyConfig", "ReservedConcurrentExecutions"] {
        assert!(!not_honoured.contains(honoured), "{honoured} is honoured: {not_honoured}");
    }
    assert_eq!(processes_of(&name, "express").await.len(), 2, "as many as the template keeps warm");

    let key = system.sender("butte").await;
    let (status, answer) = system.alert(&key, actual("A1")).await.unwrap();
    assert_eq!((status, answer["accepted"][0]["topic"].as_str()), (200, Some("wildfire-critical-alerts")), "{answer}");
    let (status, answer) = system.alert(&key, alert("D1", "Test", "Alert", &[])).await.unwrap();
    assert_eq!((status, &answer["accepted"][0]["topic"]), (200, &json!("wildfire-alert-drills")));
    let (status, answer) = system.alert("smk_butte:no", actual("A2")).await.unwrap();
    assert_eq!(status, 401, "the function's own status: {answer}");
    system.messages(&topic("wildfire-critical-alerts"), 1);
    system.messages(&topic("wildfire-alert-drills"), 1);

    if has_mosquitto() {
        for (sensor, body) in [(1, reading(1, 1_780_000_000)), (1, reading(1, 1_780_000_000)), (2, "{\"cut".to_owned())]
        {
            assert!(publish(&system, &format!("sensors/purpleair/{sensor}/state"), &body), "no PUBACK");
        }
        system.messages(&topic("wildfire-iot-sensors"), 1);
        let announced = system.messages(&topic("wildfire-dead-letters"), 1);
        assert_eq!(announced[0]["value"]["reason"], "bad_json");
        let confirmed = confirmed_over_mqtt(&system, &key);
        assert!(confirmed.starts_with("alerts/ack/"), "{confirmed}");
    } else {
        skip("readings and confirmations over MQTT by Lambda's binaries", "mosquitto_pub is not installed");
    }
    let detections = system.messages(&topic("wildfire-nasa-firms"), DETECTIONS);
    assert_eq!(distinct(detections).len(), DETECTIONS);

    // Nothing is under way but delivery: every other process has no time.
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let awake: Vec<String> = processes(&name)
            .into_iter()
            .filter(|(function, ids)| function != "deliver" && !ids.iter().all(is_frozen))
            .map(|(function, _)| function)
            .collect();
        if awake.is_empty() {
            break;
        }
        assert!(Instant::now() < end, "not frozen between invocations: {awake:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let (code, ledger) = system.stop();
    assert_eq!((code, &ledger["ledger"]["queued"]), (0, &json!(0)), "{ledger}");
    assert!(ledger["ledger"].get("delivered").is_none(), "nobody counted: {ledger}");
    none_is_left(&name).await;
}

/// K1: a stack on Kinesis needs no broker: the binaries that are deployed poll, take alerts and write events to its streams.
async fn the_whole_path_into_kinesis(at: Endpoint) {
    let Some(url) = at.url_for("Lambda's binaries and Kinesis") else { return };
    let (folder, name) = (tempdir().unwrap(), own_name());
    let source = FakeUpstream::serve(|_| firms_csv(0, DETECTIONS));
    let start = Start {
        aws: url.clone(),
        kinesis: Some(url.clone()),
        template: template(folder.path(), &name, &[]),
        upstream: Some(source.url.clone()),
        variables: vec![("STREAMMANAGER_RUNTIME".into(), "process".into())],
        ..Start::quiet(folder.path())
    };
    std::fs::write(&start.streams, FIRMS_STREAM).unwrap();
    let system = System::up(&start);
    assert_eq!(system.started["started"]["runtime"], "process", "{}", system.started);
    let key = system.sender("butte").await;
    for (id, status, topic) in [("A1", "Actual", "wildfire-critical-alerts"), ("D1", "Test", "wildfire-alert-drills")] {
        let (code, answer) = system.alert(&key, alert(id, status, "Alert", &[])).await.unwrap();
        assert_eq!((code, answer["accepted"][0]["topic"].as_str()), (200, Some(topic)), "{answer}");
    }
    let (_, status) = system.control(reqwest::Method::GET, "/status", None).await;
    assert_eq!(status["sink"], "kinesis", "{status}");

    let reader = aws_sdk_kinesis::Client::new(Aws::connect(Some(&url), "us-west-2").await.config());
    for (topic, want) in
        [("wildfire-critical-alerts", 1), ("wildfire-alert-drills", 1), ("wildfire-nasa-firms", DETECTIONS)]
    {
        let end = Instant::now() + Duration::from_secs(60);
        let found = loop {
            let found = kinesis::read(&reader, &format!("{name}-{topic}")).await;
            if found.len() >= want || Instant::now() > end {
                break found;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let mut events = BTreeSet::new();
        for (_, found) in &found {
            let (value, attributes) = (serde_json::from_str(found.data()).unwrap(), found.attributes());
            published::assert_valid(topic, &value);
            assert_eq!(attributes["subject"], value["event_id"].as_str().unwrap(), "{attributes:?}");
            assert!(attributes["dataschema"].ends_with(&format!("/schemas/{topic}-1.json")), "{attributes:?}");
            events.insert(attributes["id"].clone());
        }
        assert_eq!((events.len(), found.len()), (want, want), "{topic}");
    }
    let (code, ledger) = system.stop();
    assert_eq!((code, &ledger["ledger"]["queued"]), (0, &json!(0)), "{ledger}");
    none_is_left(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn k1_the_whole_path_by_lambdas_own_binaries_into_kinesis_of_ministack() {
    the_whole_path_into_kinesis(Endpoint::Ministack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn k1_the_whole_path_by_lambdas_own_binaries_into_kinesis_of_localstack() {
    the_whole_path_into_kinesis(Endpoint::LocalStack).await;
}

/// Sends a drill over MQTT until its confirmation is heard; gives the confirmation's topic.
fn confirmed_over_mqtt(system: &System, key: &str) -> String {
    let port = system.mqtt.to_string();
    let who = ["-h", "127.0.0.1", "-p", &port, "-q", "1", "-u", "butte", "-P", key];
    let mut subscriber = Command::new("mosquitto_sub")
        .args(who)
        .args(["-t", "alerts/ack/+", "-C", "1", "-W", "60", "-F", "%t"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while subscriber.try_wait().unwrap().is_none() {
        let body = alert("M1", "Test", "Alert", &[]);
        let mut sent = Command::new("mosquitto_pub");
        sent.args(who).args(["-t", "alerts/evacuation_alert_butte", "-m", &body]);
        assert!(sent.status().unwrap().success());
        std::thread::sleep(Duration::from_millis(200));
    }
    String::from_utf8(subscriber.wait_with_output().unwrap().stdout).unwrap()
}

/// What a call gives in whose very middle a process of `function` is killed, unless it ended before.
async fn killing<T>(function: &str, name: &str, call: impl Future<Output = T>) -> T {
    let mut call = pin!(call);
    loop {
        let thawed = processes(name).get(function).and_then(|ids| ids.iter().copied().find(|id| !is_frozen(id)));
        if let Some(id) = thawed {
            kill(id);
            return call.await;
        }
        tokio::select! {
            result = &mut call => return result,
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }
}

/// Express and delivery are killed while alerts come in; delivery comes back with its schedule.
#[tokio::test(flavor = "multi_thread")]
async fn q1_killed_functions_lose_nothing_acknowledged() {
    let quicker = [("VisibilityTimeout: 30\n", "VisibilityTimeout: 4\n")];
    let Some((_folder, name, start)) = started("killed Lambda processes", &quicker) else { return };
    let system = System::up(&start);
    let key = system.sender("butte").await;
    let (mut acknowledged, mut failed) = (BTreeSet::new(), 0);
    // A quick machine answers before the kill: then it goes on until an invocation was hit.
    for number in 0..200 {
        if number >= 40 && failed > 0 {
            break;
        }
        for status in ["Actual", "Test"] {
            let heard = loop {
                let body = alert(&format!("{status}-{number}"), status, "Alert", &[]);
                let sending = system.alert(&key, body);
                let sent = if number % 8 == 7 || number >= 40 {
                    killing("express", &name, sending).await
                } else {
                    sending.await
                };
                match sent.unwrap() {
                    // Faster than one sender may.
                    (429, _) => tokio::time::sleep(Duration::from_secs(1)).await,
                    heard => break heard,
                }
            };
            match heard {
                (200, answer) => {
                    acknowledged.insert(answer["accepted"][0]["event_id"].as_str().unwrap().to_owned());
                }
                (status, answer) => {
                    assert_eq!(status, 500, "as the API on AWS tells a failed function: {answer}");
                    failed += 1;
                }
            }
        }
        if number == 20 {
            processes_of(&name, "deliver").await.into_iter().for_each(kill);
        }
    }
    assert!(acknowledged.len() >= 60 && failed > 0, "{} acknowledged, {failed} failed", acknowledged.len());
    let topics = [format!("{name}-wildfire-critical-alerts"), format!("{name}-wildfire-alert-drills")];
    // Its schedule comes every minute, and its lease must have run out.
    let end = Instant::now() + Duration::from_secs(150);
    let lost = loop {
        let found: Vec<_> = topics.iter().flat_map(|topic| system.messages(topic, 1)).collect();
        let found: BTreeSet<&str> =
            found.iter().map(|message| message["value"]["event_id"].as_str().unwrap()).collect();
        let lost: Vec<String> = acknowledged.iter().filter(|id| !found.contains(id.as_str())).cloned().collect();
        if lost.is_empty() || Instant::now() > end {
            break lost;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    assert!(lost.is_empty(), "{} of {} acknowledged alerts are lost: {lost:?}", lost.len(), acknowledged.len());

    assert!(!processes(&name).is_empty());
    system.kill();
    none_is_left(&name).await;
}
