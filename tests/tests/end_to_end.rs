//! The whole path as outside clients see it, on the embedded Kafka endpoint and on real Apache Kafka: alerts are acknowledged
//! and ordered, readings arrive once, refusals are named and audited.

#[path = "end_to_end/aws.rs"]
mod aws;
#[path = "end_to_end/containers.rs"]
mod containers;
#[path = "end_to_end/mqtt_alerts.rs"]
mod mqtt_alerts;
#[path = "end_to_end/processes.rs"]
mod processes;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use reqwest::Method;
use serde_json::{Value, json};
use streammanager_functions::control::{Auth, ROUTES};
use streammanager_tests::bodies::{actual, alert};
use streammanager_tests::system::{Start, System};
use streammanager_tests::upstream::{FIRMS_STREAM, FakeUpstream, firms_csv};
use streammanager_tests::{binary, free_port, kafka, kafka_authorities, skip, workspace};
use tempfile::tempdir;

const DETECTIONS: usize = 60;
fn reading(sensor: u32, at: u64) -> String {
    json!({ "sensor_index": sensor, "latitude": 40.7, "longitude": -122.9, "last_seen": at, "humidity": 42, "pm2.5_atm": 12.5 })
        .to_string()
}

/// `false` when Mosquitto's clients are not installed.
fn publish(system: &System, topic: &str, body: &str) -> bool {
    let port = system.mqtt.to_string();
    let sent = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", topic, "-m", body])
        .status();
    match sent {
        Ok(status) => status.success(),
        Err(_) => false,
    }
}

fn has_mosquitto() -> bool {
    Command::new("mosquitto_pub").arg("--help").output().is_ok()
}

/// `prefix` begins every topic's name.
async fn the_whole_path(start: Start, prefix: &str) {
    let topic = |name: &str| format!("{prefix}{name}");
    let source = FakeUpstream::serve(|_| firms_csv(0, DETECTIONS));
    std::fs::write(&start.streams, FIRMS_STREAM).unwrap();
    let system = System::up(&Start { upstream: Some(source.url.clone()), ..start });
    let key = system.sender("butte").await;
    let (status, answer) = system.alert(&key, actual("A1")).await.unwrap();
    // A broker that is still warming up may lose the race against the queue [E2]; either is durable.
    assert_eq!((status, answer["accepted"][0]["topic"].as_str()), (200, Some("wildfire-critical-alerts")), "{answer}");
    let update = alert("A2", "Actual", "Cancel", &["A1"]);
    assert_eq!(system.alert(&key, update).await.unwrap().0, 200);
    let (status, answer) = system.alert(&key, alert("D1", "Test", "Alert", &[])).await.unwrap();
    assert_eq!((status, &answer["accepted"][0]["topic"]), (200, &json!("wildfire-alert-drills")));

    let got = distinct(system.messages(&topic("wildfire-critical-alerts"), 2));
    let drills = system.messages(&topic("wildfire-alert-drills"), 1);
    assert_eq!(got.len(), 2, "a drill never reaches the critical topic [E4]");
    assert_eq!(drills[0]["headers"]["status"], "Test");
    let of_thread: Vec<&Value> = got.iter().map(|message| &message["value"]["data"]["msgType"]).collect();
    assert_eq!(
        (&got[0]["partition"], &got[0]["key"]),
        (&got[1]["partition"], &got[1]["key"]),
        "one thread, one partition"
    );
    assert_eq!(of_thread, ["Alert", "Cancel"], "a Cancel never overtakes its Alert [E4]");
    for message in got.iter().chain(&drills) {
        assert_eq!(message["headers"]["ce_subject"], message["value"]["event_id"]);
        for twin in ["event_id", "revision", "source_id", "schema"] {
            assert!(message["headers"].get(twin).is_none(), "{twin} says again what another header says: {message}");
        }
        assert_eq!(message["headers"]["ce_id"], json!(format!("{}-0", message["value"]["event_id"].as_str().unwrap())));
        for header in
            ["ce_specversion", "ce_source", "ce_type", "ce_time", "ce_dataschema", "priority", "tenant", "traceparent"]
        {
            assert!(message["headers"][header].is_string(), "{header} is missing: {message}");
        }
    }
    let named = got[0]["headers"]["ce_dataschema"].as_str().unwrap();
    let served = reqwest::get(named).await.unwrap().text().await.unwrap();
    let schema: Value = serde_json::from_str(&served).unwrap_or_else(|e| panic!("{named}: {e}: {served}"));
    assert_eq!(schema["title"], "wildfire-critical-alerts/1", "the API serves what the header names, without a key");

    if has_mosquitto() {
        for (sensor, body) in [(1, reading(1, 1_780_000_000)), (1, reading(1, 1_780_000_000)), (2, "{\"cut".to_owned())]
        {
            assert!(publish(&system, &format!("sensors/purpleair/{sensor}/state"), &body), "no PUBACK");
        }
        system.messages(&topic("wildfire-iot-sensors"), 1);
        let announced = system.messages(&topic("wildfire-dead-letters"), 1);
        assert_eq!(announced[0]["value"]["reason"], "bad_json");
        let path = format!("/trace?event={}", announced[0]["headers"]["ce_subject"].as_str().unwrap());
        let (_, answer) = system.control(Method::GET, &path, None).await;
        assert_eq!(answer["ways"][0]["dead_letter"]["reason"], "bad_json", "{answer}");
        assert_eq!(system.count(&topic("wildfire-iot-sensors")), 1, "the same reading twice is published once [S12]");
    } else {
        skip("readings over MQTT", "mosquitto_pub is not installed");
    }
    let detections = system.messages(&topic("wildfire-nasa-firms"), DETECTIONS);
    for message in [&got[0], &got[1], &drills[0], &detections[0]] {
        assert_traced(&system, message).await;
    }
    assert_named(&system, "test%40example.org%2CA1", &got[0]["value"]["event_id"]).await;
    let (status, unknown) = system.control(Method::GET, &format!("/trace?event={:032x}", 7), None).await;
    assert_eq!((status, &unknown["error"]), (404, &json!("not_found")));
    assert_eq!(distinct(detections).len(), DETECTIONS);
    let (code, ledger) = system.stop();
    assert_eq!((code, &ledger["ledger"]["balanced"]), (0, &json!(true)), "{ledger}");
}

/// Its way leads to where it lies [O7]. The sink has it before its last step is noted.
async fn assert_traced(system: &System, message: &Value) {
    let path = format!("/trace?event={}", message["value"]["event_id"].as_str().unwrap());
    let lies = json!({ "partition": message["partition"], "offset": message["offset"] });
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let (_, answer) = system.control(Method::GET, &path, None).await;
        let steps = answer["ways"][0]["steps"].as_array().cloned().unwrap_or_default();
        if let Some(last) = steps.iter().find(|step| step["sent"]["outcome"]["acknowledged"] == lies) {
            assert_eq!(last["sent"]["observed_at"], message["value"]["observed_at"], "{last}");
            assert_eq!(last["tier"], message["headers"]["priority"], "{last}");
            return;
        }
        assert!(Instant::now() < end, "{message}: {answer}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Its name leads to its way [O7]. A state store that was slow has it after the sender's answer.
async fn assert_named(system: &System, name: &str, event: &Value) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let (_, answer) = system.control(Method::GET, &format!("/trace?alert={name}"), None).await;
        let way = &answer["ways"][0];
        if (&way["accepted"][0]["event_id"], &way["event_id"]) == (event, event) {
            return;
        }
        assert!(Instant::now() < end, "{event}: {answer}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The first message of every event: a hedged alert may stand twice in the topic, under the same id [K6].
fn distinct(messages: Vec<Value>) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    messages.into_iter().filter(|message| seen.insert(message["value"]["event_id"].to_string())).collect()
}

/// K5: behind a name of its own a system names its schemas by that, whatever it listens on.
#[tokio::test(flavor = "multi_thread")]
async fn k5_records_name_their_schemas_where_others_reach_the_system() {
    let folder = tempdir().unwrap();
    let variables = vec![("STREAMMANAGER_PUBLIC_URL".into(), "https://incidents.example:8443/fire/".into())];
    let system = System::up(&Start { variables, ..Start::quiet(folder.path()) });
    let key = system.sender("butte").await;
    assert_eq!(system.alert(&key, alert("D1", "Test", "Alert", &[])).await.unwrap().0, 200);
    let drills = system.messages("wildfire-alert-drills", 1);
    let named = "https://incidents.example:8443/fire/schemas/wildfire-alert-drills-1.json";
    assert_eq!(drills[0]["headers"]["ce_dataschema"], named);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_path_on_the_embedded_endpoint() {
    let folder = tempdir().unwrap();
    the_whole_path(Start::quiet(folder.path()), "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_path_on_real_kafka() {
    let Some(brokers) = kafka() else { return skip("end to end on real Kafka", "STREAMMANAGER_TEST_KAFKA is not set") };
    let folder = tempdir().unwrap();
    // Topics of its own: other tests use the same brokers.
    let template = edited(
        folder.path(),
        &[(
            "  TopicPrefix:\n    Type: String\n    Default: \"\"",
            "  TopicPrefix:\n    Type: String\n    Default: e2e-",
        )],
    );
    let start = Start { kafka: brokers, template, ..Start::quiet(folder.path()) };
    the_whole_path(start, "e2e-").await;
}

/// K1: from a laptop, by the profile of an identity that the brokers know; and what is said when they do not.
#[tokio::test(flavor = "multi_thread")]
async fn k1_a_host_logs_in_at_the_brokers_by_a_profile() {
    let (Some(plain), Some(authorities)) = (kafka(), kafka_authorities()) else {
        return skip("a login by a profile", "STREAMMANAGER_TEST_KAFKA_AUTHORITIES is not set");
    };
    let folder = tempdir().unwrap();
    let (profiles, ca) = (folder.path().join("credentials"), authorities.join("ca.pem"));
    let profile = |name: &str, secret: &str| {
        let key = "aws_access_key_id = AKIDLOOKOUT\naws_session_token = smoke/session+token==";
        format!("[{name}]\n{key}\naws_secret_access_key = {secret}\n")
    };
    let text = profile("lookout", "smoke-column") + &profile("stranger", "smoke-screen");
    std::fs::write(&profiles, text).unwrap();
    let by = |profile: &str| -> Vec<(String, String)> {
        let told = [
            ("KAFKA_SECURITY", "iam"),
            ("KAFKA_CA_FILE", ca.to_str().unwrap()),
            ("AWS_REGION", "us-west-2"),
            ("AWS_PROFILE", profile),
            ("AWS_SHARED_CREDENTIALS_FILE", profiles.to_str().unwrap()),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        told.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    };
    let prefix = format!("e2e-iam-{}-", std::process::id());
    let default = "  TopicPrefix:\n    Type: String\n    Default: ";
    let template = edited(folder.path(), &[(&format!("{default}\"\""), &format!("{default}{prefix}"))]);
    let port: u16 = plain.rsplit_once(':').unwrap().1.parse().unwrap();
    let brokers = format!("localhost:{}", port + 4);
    let start = |profile: &str| Start {
        kafka: brokers.clone(),
        template: template.clone(),
        variables: by(profile),
        ..Start::quiet(&folder.path().join(profile))
    };

    let system = System::up(&start("lookout"));
    let key = system.sender("butte").await;
    assert_eq!(system.alert(&key, actual("A1")).await.unwrap().0, 200);
    let topic = format!("{prefix}wildfire-critical-alerts");
    let tail = ["topics", "tail", &topic, "--from-beginning", "--max", "1", "--json", "--kafka", &brokers];
    let tailed = Command::new(binary()).args(tail).envs(by("lookout")).output().unwrap();
    let read: Value = serde_json::from_slice(&tailed.stdout).unwrap_or_else(|e| panic!("{e}: {tailed:?}"));
    assert_eq!(read["value"]["source_id"], "evacuation_alert_butte", "{read}");
    let (code, ended) = system.stop();
    assert_eq!((code, &ended["ledger"]["balanced"]), (0, &json!(true)), "{ended}");

    // What `up` says of it, until it is ended.
    for (profile, part) in [("stranger", "the token is with a wrong signature"), ("nobody", "`nobody` was not defined")]
    {
        let mut up = start(profile).command(free_port(), free_port()).spawn().unwrap();
        let lines = BufReader::new(up.stdout.take().unwrap()).lines().map_while(Result::ok);
        let said = lines.take(40).find(|line| line.contains("\"delivery_stopped\"")).unwrap_or_default();
        up.kill().unwrap();
        up.wait().unwrap();
        assert!(said.contains(part) && !said.contains("smoke"), "{profile}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_a2_refusals_are_named_and_audited() {
    let folder = tempdir().unwrap();
    let system = System::up(&Start::quiet(folder.path()));
    let key = system.sender("butte").await;
    let forged = format!("{}x", &key[..key.len() - 1]);
    for (key, body, status, error) in [
        (forged.as_str(), actual("A1"), 401, "unauthorised_source"),
        ("smk_nobody:AAAA", actual("A1"), 401, "unauthorised_source"),
        (key.as_str(), "{\"id\":".to_owned(), 422, "bad_json"),
        (
            key.as_str(),
            "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><alert>&x;</alert>".to_owned(),
            422,
            "doctype",
        ),
    ] {
        let (got, answer) = system.alert(key, body).await.unwrap();
        assert_eq!((got, answer["error"].as_str()), (status, Some(error)), "{answer}");
    }
    let ungranted = json!({ "id": "mere", "tenant": "test", "sources": ["evacuation_alert_mere"], "critical": false });
    let (status, answer) = system.control(Method::POST, "/connectors", Some(ungranted)).await;
    assert_eq!(status, 422, "a critical id without the grant is refused at registration [A2]: {answer}");
    let unknown = system.control(Method::POST, "/streams/none/start", None).await;
    assert_eq!(unknown.0, 404);
    for route in ROUTES.iter().filter(|route| route.auth == Auth::Operator) {
        let (method, url) = (route.method.parse::<Method>().unwrap(), system.url(&route.path.replace("{id}", "modis")));
        let open = streammanager_tests::system::client().request(method, url).send().await.unwrap();
        // How a host is it says to everybody, as a load balancer and Prometheus want it; a stack does not [O5].
        let status = if ["/health/ready", "/metrics"].contains(&route.path) { 200 } else { 403 };
        assert_eq!(open.status().as_u16(), status, "{} {} without the control key", route.method, route.path);
    }

    let (_, rotated) = system.control(Method::POST, "/connectors/butte/rotate", None).await;
    assert_eq!(system.alert(&key, actual("A9")).await.unwrap().0, 401, "the old key is refused at once");
    let new = rotated["key"].as_str().unwrap();
    assert_eq!(system.alert(new, actual("A9")).await.unwrap().0, 200);
    system.control(Method::DELETE, "/connectors/butte", None).await;
    assert_eq!(system.alert(new, actual("A10")).await.unwrap().0, 401, "a revoked key is refused");

    let (_, audit) = system.control(Method::GET, "/audit", None).await;
    let actions: BTreeSet<&str> =
        audit["audit"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    for action in ["refused", "connector_registered", "key_rotated", "key_revoked"] {
        assert!(actions.contains(action), "{action} is not in the audit log: {actions:?}");
    }
    assert!(!audit.to_string().contains(&key[4..]), "a key stands in the audit log");
}

fn edited(folder: &Path, edits: &[(&str, &str)]) -> std::path::PathBuf {
    let mut text = std::fs::read_to_string(workspace().join("infra/template.yaml")).unwrap();
    for (from, to) in edits {
        assert!(text.contains(from), "the template no longer holds {from:?}");
        text = text.replace(from, to);
    }
    let path = folder.join("template.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

/// Q4: by what the group has committed, seen from outside.
#[tokio::test(flavor = "multi_thread")]
async fn q4_status_says_how_far_a_consumer_group_is_behind() {
    let folder = tempdir().unwrap();
    let groups = Some("desk:wildfire-critical-alerts".to_owned());
    let system = System::up(&Start { consumer_groups: groups, ..Start::quiet(folder.path()) });
    let key = system.sender("butte").await;
    assert_eq!(system.alert(&key, actual("L1")).await.unwrap().0, 200);
    let message = &system.messages("wildfire-critical-alerts", 1)[0];
    let partition = message["partition"].as_i64().unwrap() as i32;
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &system.kafka).set("group.id", "desk").create().unwrap();
    let commit = |offset| {
        let mut read = TopicPartitionList::new();
        read.add_partition_offset("wildfire-critical-alerts", partition, Offset::Offset(offset)).unwrap();
        consumer.commit(&read, CommitMode::Sync).unwrap();
    };
    let behind = async |records: u64| {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let (_, status) = system.control(Method::GET, "/status", None).await;
            let lag = &status["consumers"]["lags"][0];
            if lag["records"] == records {
                return lag.clone();
            }
            assert!(Instant::now() < end, "{records} records behind: {status}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    commit(0);
    let lag = behind(1).await;
    assert_eq!((&lag["group"], &lag["topic"]), (&json!("desk"), &json!("wildfire-critical-alerts")));
    commit(1);
    assert_eq!(behind(0).await["seconds"], 0.0);
    let metrics = system.page("/metrics").await.unwrap();
    assert!(metrics.contains("stream_consumer_lag_seconds{group=\"desk\""), "{metrics}");
    assert!(metrics.lines().any(|line| line == "stream_throttling_active 0"), "{metrics}");
    let buffer = metrics.lines().find_map(|line| line.strip_prefix("stream_buffer_size_bytes ")?.parse::<u64>().ok());
    let file = std::fs::metadata(folder.path().join("data/state.redb")).unwrap().len();
    assert!(buffer.is_some_and(|bytes| (4_096..=file).contains(&bytes)), "{buffer:?} of {file}");
    system.stop();
}
