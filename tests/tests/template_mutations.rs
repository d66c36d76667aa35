//! The template rules [L2]: in a copy of it a deleted schedule, a renamed queue and a changed topic filter each change what
//! runs. Every change has its control: the same input with the template as it is deployed. What must never get into it stands in
//! `template_mutations/faults.rs`.

#[path = "template_mutations/deployments.rs"]
mod deployments;
#[path = "template_mutations/faults.rs"]
mod faults;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use streammanager_host::publisher::Publisher;
use streammanager_tests::system::{Start, System};
use streammanager_tests::upstream::{FIRMS_STREAM, FakeUpstream, firms_csv};
use streammanager_tests::{free_port, workspace};
use tempfile::tempdir;

const ROWS: usize = 60;
const DETECTIONS: &str = "wildfire-nasa-firms";
const SENSORS: &str = "wildfire-iot-sensors";

fn deployed() -> String {
    std::fs::read_to_string(workspace().join("infra/template.yaml")).unwrap()
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the template no longer holds {from:?}");
    text.replace(from, to)
}

/// The template with one place of one resource changed.
fn changed_in(text: &str, resource: &str, from: &str, to: &str) -> String {
    let begins = text.find(&format!("\n  {resource}:\n")).unwrap_or_else(|| panic!("there is no {resource}")) + 1;
    let ends = text[begins..].find("\n\n").map_or(text.len(), |length| begins + length);
    let body = &text[begins..ends];
    assert_eq!(body.matches(from).count(), 1, "{resource} no longer holds {from:?} once");
    format!("{}{}{}", &text[..begins], body.replacen(from, to, 1), &text[ends..])
}

const EVERY_MINUTE: &str = "      Events:
        EveryMinute:
          Type: ScheduleV2
          Properties:
            Name: !Sub ${StackPrefix}-${Stage}-{NAME}
            ScheduleExpression: rate(1 minute)
            RetryPolicy:
              MaximumRetryAttempts: 0
              MaximumEventAgeInSeconds: 60";

/// The template without the schedule of this function.
fn without_schedule(text: &str, function: &str, name: &str) -> String {
    changed_in(text, function, &EVERY_MINUTE.replace("{NAME}", name), "")
}

fn write(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("template.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

/// One polled stream of FIRMS detections; gives the system and its source.
fn polling(folder: &Path, template: &str) -> (Start, FakeUpstream) {
    let upstream = FakeUpstream::serve(|_| firms_csv(0, ROWS));
    let mut start = Start::quiet(folder);
    std::fs::write(&start.streams, FIRMS_STREAM).unwrap();
    start.template = write(folder, template);
    start.upstream = Some(upstream.url.clone());
    (start, upstream)
}

fn reading(at: u64) -> Vec<u8> {
    json!({ "sensor_index": 7, "latitude": 40.7, "longitude": -122.9, "last_seen": at, "humidity": 42 })
        .to_string()
        .into_bytes()
}

/// Readings of two kinds of sensors.
fn publish_readings(system: &System) {
    let mut publisher = Publisher::connect(("127.0.0.1", system.mqtt), "template").unwrap();
    publisher.publish("sensors/smoke/1/state", &reading(1_780_000_000)).unwrap();
    publisher.publish("sensors/purpleair/2/state", &reading(1_780_000_060)).unwrap();
}

/// Why a start failed: its last line.
fn refusal(start: &Start) -> String {
    let ended = start.command(free_port(), free_port()).output().unwrap();
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{error}");
    error.lines().last().unwrap_or_default().to_owned()
}

fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !happened() {
        assert!(Instant::now() < deadline, "{what} did not happen within 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn l2_without_the_poll_schedule_the_source_is_left_alone() {
    let folder = tempdir().unwrap();
    let (start, upstream) = polling(folder.path(), &deployed());
    let system = System::up(&start);
    let began = Instant::now();
    until("the first poll", || !upstream.requests().is_empty());
    let took = began.elapsed();
    assert_eq!(system.messages(DETECTIONS, ROWS).len(), ROWS);
    drop(system);

    let folder = tempdir().unwrap();
    let (start, upstream) = polling(folder.path(), &without_schedule(&deployed(), "ScheduleFunction", "schedule"));
    let system = System::up(&start);
    tokio::time::sleep(took * 3 + Duration::from_secs(3)).await;
    let (_, stream) = system.control(Method::GET, "/streams/snpp", None).await;
    assert_eq!((&stream["is_active"], &stream["last_poll"]), (&json!(true), &Value::Null), "{stream}");
    // The rest of the template runs on.
    publish_readings(&system);
    assert_eq!(system.messages(SENSORS, 2).len(), 2);
    assert_eq!(upstream.requests(), Vec::<String>::new(), "a schedule that the template no longer has still polls");
}

#[tokio::test(flavor = "multi_thread")]
async fn l2_without_the_deliver_schedule_everything_stays_queued_and_the_ledger_says_so() {
    let folder = tempdir().unwrap();
    let (mut start, upstream) = polling(folder.path(), &without_schedule(&deployed(), "DeliverFunction", "deliver"));
    let system = System::up(&start);
    publish_readings(&system);
    until("the poll", || !upstream.requests().is_empty());
    let envelopes = async || {
        let status: Value = serde_json::from_str(&system.page("/status").await.unwrap()).unwrap();
        let visible = |tier: &str| status["queues"][tier]["visible"].as_u64().unwrap();
        (visible("HIGH"), visible("NORMAL"))
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while envelopes().await.0 == 0 || envelopes().await.1 < 2 {
        assert!(Instant::now() < deadline, "{:?} envelopes are queued", envelopes().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((system.count(DETECTIONS), system.count(SENSORS)), (0, 0), "something was delivered all the same");
    let (code, ended) = system.stop();
    let ledger = &ended["ledger"];
    let all = json!(ROWS + 2);
    assert_eq!((code, &ledger["accepted"], &ledger["queued"]), (3, &all, &all), "{ledger}");
    assert_eq!((&ledger["delivered"], &ledger["drained"]), (&json!({}), &json!(false)), "{ledger}");
    assert_eq!(ledger["balanced"], true, "{ledger}");

    // The control: the template as deployed, on what was left.
    start.template = workspace().join("infra/template.yaml");
    let system = System::up(&start);
    assert_eq!(system.started["started"]["queued_at_start"], all);
    assert_eq!(system.messages(DETECTIONS, ROWS).len(), ROWS);
    assert_eq!(system.messages(SENSORS, 2).len(), 2);
    let (code, ended) = system.stop();
    let ledger = &ended["ledger"];
    assert_eq!((code, &ledger["queued"], &ledger["drained"]), (0, &json!(0), &json!(true)), "{ledger}");
    assert_eq!(ledger["delivered"], json!({ DETECTIONS: ROWS, SENSORS: 2 }), "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn l2_a_queue_renamed_wherever_it_stands_works_under_its_new_name() {
    let folder = tempdir().unwrap();
    let renamed = replaced(&deployed(), "HighQueue", "UrgentQueue");
    let (start, _upstream) = polling(folder.path(), &renamed);
    let system = System::up(&start);
    assert_eq!(system.messages(DETECTIONS, ROWS).len(), ROWS);
    drop(system);

    // Another physical name is another queue. AWS keeps the old one with what is in it, and so does the data folder.
    let (mut start, _upstream) = polling(folder.path(), &without_schedule(&renamed, "DeliverFunction", "deliver"));
    let other = changed_in(
        &deployed(),
        "NormalQueue",
        "    Properties:\n",
        "    Properties:\n      QueueName: !Sub ${StackPrefix}-ordinary\n",
    );
    let system = System::up(&start);
    publish_readings(&system);
    let waiting = async |system: &System| {
        let status: Value = serde_json::from_str(&system.page("/status").await.unwrap()).unwrap();
        status["queues"]["NORMAL"]["visible"].as_u64().unwrap()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while waiting(&system).await < 2 {
        assert!(Instant::now() < deadline, "the readings were not queued");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(system.stop().1["ledger"]["queued"], 2);
    start.template = write(folder.path(), &other);
    let system = System::up(&start);
    let started = &system.started["started"];
    assert_eq!(started["queued_at_start"], 0, "the renamed queue is not a new one");
    assert!(started["astray"]["local:streammanager-dev-normal"].as_u64() >= Some(1), "the old one is told: {started}");
    Publisher::connect(("127.0.0.1", system.mqtt), "new")
        .unwrap()
        .publish("sensors/smoke/3/state", &reading(1_780_000_120))
        .unwrap();
    assert_eq!(system.messages(SENSORS, 1).len(), 1);
    assert_eq!(
        system.stop().1["ledger"]["delivered"][SENSORS],
        1,
        "the old queue's readings went with the new queue's"
    );
    start.template = workspace().join("infra/template.yaml");
    let system = System::up(&start);
    assert_eq!(system.started["started"]["queued_at_start"], 2, "what stood in the old queue is gone");
    assert_eq!(system.messages(SENSORS, 3).len(), 3);
}

#[test]
fn l2_a_queue_renamed_at_one_place_only_ends_the_start_and_the_place_is_named() {
    let folder = tempdir().unwrap();
    let start = |text: &str| Start { template: write(folder.path(), text), ..Start::quiet(folder.path()) };
    let renamed = replaced(&deployed(), "\n  HighQueue:\n", "\n  UrgentQueue:\n");
    let says = refusal(&start(&renamed));
    assert!(says.contains("template.yaml: ") && says.contains("HighQueue"), "{says}");
    assert!(
        says.contains("Globals.Function.Environment.Variables.HIGH_QUEUE_URL") || says.contains("Resources."),
        "{says}"
    );

    // One function looks for its queue under another name than the template gives it.
    let elsewhere = changed_in(
        &deployed(),
        "DeliverFunction",
        "        Variables:\n",
        "        Variables:\n          HIGH_QUEUE_URL: !Sub https://sqs.${AWS::Region}.amazonaws.com/${AWS::AccountId}/${StackPrefix}-${Stage}-urgent\n",
    );
    let says = refusal(&start(&elsewhere));
    let place = "Resources.DeliverFunction.Properties.Environment.Variables.HIGH_QUEUE_URL";
    assert!(says.contains(place) && says.contains("-dev-urgent"), "{says}");

    let control = System::up(&start(&deployed()));
    assert_eq!(control.stop().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn l2_a_changed_topic_filter_changes_what_is_taken() {
    let sources = |system: &System, want: usize| {
        let readings = system.messages(SENSORS, want);
        let mut sources: Vec<String> =
            readings.iter().map(|message| message["value"]["source_id"].as_str().unwrap().to_owned()).collect();
        sources.sort();
        sources
    };
    let folder = tempdir().unwrap();
    let narrower = replaced(&deployed(), "'${MqttPrefix}sensors/+/+/state'", "'sensors/purpleair/+/state'");
    let system = System::up(&Start { template: write(folder.path(), &narrower), ..Start::quiet(folder.path()) });
    publish_readings(&system);
    assert_eq!(sources(&system, 1), ["iot_purpleair"], "the filter that the template no longer has is still in force");
    drop(system);

    let folder = tempdir().unwrap();
    let control = System::up(&Start::quiet(folder.path()));
    publish_readings(&control);
    assert_eq!(sources(&control, 2), ["iot_purpleair", "iot_smoke"]);
}
