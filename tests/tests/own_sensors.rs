//! Sensors of one's own [S18]: mappings checked at the start, tried with `decode --mapping`, in force in a running system.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use streammanager::decode::sensor::TOPICS;
use streammanager_host::publisher::Publisher;
use streammanager_tests::system::{Start, System};
use streammanager_tests::{binary, free_port, workspace};
use tempfile::tempdir;

const MAPPINGS: &str = "version: 1
sensors:
  - topic: sensors/ridge/+/state
    source_id: iot_ridge_net
    device: {path: unit.serial}
    time: {path: unit.clock}
    fields:
      air.t1: {field: temperature_c, unit: F}
      air.rh: {field: relative_humidity_percent}
    ignore: [heap]
";
const MESSAGE: &str = r#"{"unit": {"serial": 7716, "clock": 1793500000}, "air": {"t1": 60.8, "rh": 31, "odd": 1}, "heap": 5, "temp": 99}"#;

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Exit code, standard output, standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let ended = Command::new(binary()).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ended.status.code().unwrap(), text(&ended.stdout), text(&ended.stderr))
}

#[test]
fn s18_a_mapping_is_tried_on_a_recorded_message() {
    let folder = tempdir().unwrap();
    let (mappings, message) = (written(folder.path(), "m.yaml", MAPPINGS), written(folder.path(), "r.json", MESSAGE));
    let (mappings, message) = (mappings.to_str().unwrap(), message.to_str().unwrap());
    let decode = |topic: &str| run(&["decode", "--mapping", mappings, "--topic", topic, message]);
    let (code, out, error) = decode("sensors/ridge/w7/state");
    assert_eq!(code, 0, "{error}");
    let record: Value = serde_json::from_str(&out).unwrap();
    let data = &record["data"];
    assert_eq!((&record["source_id"], &data["sensor_id"]), (&json!("iot_ridge_net"), &json!("7716")));
    assert_eq!((&data["temperature_c"], &data["relative_humidity_percent"]), (&json!(16.0), &json!(31.0)));
    let unread = "not understood, kept here alone: air.odd, temp";
    assert!(record["quality"].as_array().unwrap().iter().any(|told| told["problem"] == unread), "{record}");

    let (code, out, error) = decode("sensors/other/w7/state");
    assert_eq!(code, 0);
    assert!(error.contains("no mapping fits the topic sensors/other/w7/state"), "{error}");
    let record: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&record["source_id"], &record["data"]["sensor_id"]), (&json!("iot_other"), &json!("w7")));
    let (code, _, error) = run(&["decode", "--mapping", mappings, "--source", "iot_x", message]);
    assert!(code == 2 && error.contains("--topic"), "{error}");
}

#[test]
fn s18_a_wrong_mapping_ends_the_start_with_its_place_and_rule() {
    let folder = tempdir().unwrap();
    for (from, to, says) in [
        (
            "unit: F",
            "unit: mph",
            "sensors[0].fields.air.t1.unit: \"mph\" is not a unit of temperature_c; known are c, f, k at line 8 column 38",
        ),
        (
            "field: temperature_c,",
            "field: temp,",
            "sensors[0].fields.air.t1.field: \"temp\" is not a field of ours; they are temperature_c, ",
        ),
        (
            "{field: relative_humidity_percent}",
            "{field: temperature_c}",
            "sensors[0].fields.air.t1.field: air.rh is temperature_c already at line 8 column 16",
        ),
        (
            "sensors/ridge/+/state",
            "ridge/+/state",
            "sensors[0].topic: no reading comes on a topic of ridge/+/state: the template's rule takes sensors/+/+/state at line 3 column 5",
        ),
        ("ignore: [heap]", "ignore: [heap]\n    colour: red", "unknown field `colour`"),
        (
            "    ignore: [heap]\n",
            "  - {topic: sensors/+/7/state, profile: ttn}\n",
            "sensors[1].topic: some topics fit this filter and sensors/ridge/+/state as well",
        ),
    ] {
        let text = MAPPINGS.replacen(from, to, 1);
        let file = written(folder.path(), "bad.yaml", &text);
        let (code, _, error) = run(&["streams", "check", file.to_str().unwrap()]);
        assert_eq!(code, 1, "{to}");
        assert!(error.contains("bad.yaml: ") && error.contains(says), "{error}, not {says}");
        let start = Start { streams: file, ..Start::quiet(folder.path()) };
        let ended = start.command(free_port(), free_port()).output().unwrap();
        let error = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.code() == Some(1) && error.contains(says), "{error}");
    }
}

#[test]
fn s18_mappings_may_name_what_the_templates_rule_takes() {
    let template = std::fs::read_to_string(workspace().join("infra/template.yaml")).unwrap();
    assert!(
        template.contains(&format!("FROM '${{MqttPrefix}}{TOPICS}'")),
        "the rule of readings takes other topics than {TOPICS}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s18_a_running_system_reads_by_the_mappings_that_are_registered() {
    let folder = tempdir().unwrap();
    let start = Start { streams: written(folder.path(), "s.yaml", MAPPINGS), ..Start::quiet(folder.path()) };
    let system = System::up(&start);
    let mut sensor = Publisher::connect(("127.0.0.1", system.mqtt), "w7").unwrap();
    sensor.publish("sensors/ridge/w7/state", MESSAGE.as_bytes()).unwrap();
    sensor.publish("sensors/other/w8/state", br#"{"temp_f": 50, "time": 1793500000}"#).unwrap();
    let published = system.messages("wildfire-iot-sensors", 2);
    let of = |source: &str| published.iter().find(|m| m["value"]["source_id"] == source).unwrap()["value"].clone();
    assert_eq!(of("iot_ridge_net")["data"]["temperature_c"], 16.0);
    assert_eq!(of("iot_other")["data"]["temperature_c"], 10.0, "what no mapping fits is read as ever");

    // A message that a mapping cannot read is a dead letter, and is read again by the mended mapping.
    sensor
        .publish("sensors/ridge/w9/state", br#"{"serial": "w9", "air": {"t1": 50}, "unit": {"clock": 1793500100}}"#)
        .unwrap();
    let dead = loop {
        let (_, listed) = system.control(reqwest::Method::GET, "/dead-letters", None).await;
        match listed["dead_letters"].as_array().and_then(|letters| letters.first()) {
            Some(letter) => break letter.clone(),
            None => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    };
    assert!(dead.to_string().contains("the mapping takes it from unit.serial"), "{dead}");
    let mended = MAPPINGS.replace("path: unit.serial", "path: serial");
    let file = written(folder.path(), "mended.yaml", &mended);
    let url = system.url("");
    let applied = Command::new(binary())
        .args(["streams", "apply", file.to_str().unwrap(), "--endpoint", url.trim_end_matches('/')])
        .arg("--data")
        .arg(&start.data)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&applied.stdout).into_owned();
    assert!(
        said.contains("~ sensors") && said.contains("1 mappings"),
        "{said}{}",
        String::from_utf8_lossy(&applied.stderr)
    );
    // Known for five seconds to every process.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    let chosen = json!({"id": dead["id"]});
    let (status, redriven) = system.control(reqwest::Method::POST, "/dead-letters/redrive", Some(chosen)).await;
    assert_eq!(status, 200, "{redriven}");
    let published = system.messages("wildfire-iot-sensors", 3);
    assert!(published.iter().any(|m| m["value"]["data"]["sensor_id"] == "w9"), "{published:?}");

    // The file of the start says otherwise than what is registered now: that stays, and is said.
    let (code, _) = system.stop();
    assert_eq!(code, 0);
    let again = System::up(&start);
    assert_eq!(again.started["started"]["streams_differ"]["sensors"], 1, "{}", again.started);
}

#[tokio::test(flavor = "multi_thread")]
async fn s18_tap_shows_what_comes_as_it_is_read() {
    let folder = tempdir().unwrap();
    let streams = folder.path().join("s.yaml");
    let text =
        "version: 1\nsensors:\n  - {topic: sensors/ridge/+/state, fields: {a.t1: {field: temperature_c, unit: F}}}\n";
    std::fs::write(&streams, text).unwrap();
    let start = Start { streams, ..Start::quiet(folder.path()) };
    let system = System::up(&start);
    let mut command = Command::new(binary());
    command.args(["tap", "--count", "2", "--json", "--broker", &format!("127.0.0.1:{}", system.mqtt), "--mapping"]);
    command.arg(&start.streams).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tap = command.spawn().unwrap();
    // Its first line on standard error says that it has subscribed.
    let mut first = String::new();
    let mut said = std::io::BufReader::new(tap.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut said, &mut first).unwrap();
    assert!(first.contains("sensors/# is shown, with 1 mappings"), "{first}");
    let mut sensor = Publisher::connect(("127.0.0.1", system.mqtt), "w7").unwrap();
    sensor.publish("sensors/ridge/w7/state", br#"{"a": {"t1": 60.8, "odd": 1}}"#).unwrap();
    sensor.publish("sensors/ridge/w7/state", b"offline").unwrap();
    let shown = tap.wait_with_output().unwrap();
    assert!(shown.status.success());
    let lines: Vec<Value> =
        String::from_utf8_lossy(&shown.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["topic"], "sensors/ridge/w7/state");
    assert_eq!(lines[0]["records"][0]["data"]["temperature_c"], 16.0);
    assert_eq!(lines[0]["records"][0]["not_understood"][0], "a.odd");
    assert_eq!(lines[1]["rejects"][0]["reason"], "bad_json");
    // The system's own mappings, where it can be asked.
    let asked = Command::new(binary())
        .args(["tap", "--count", "0"])
        .env("XDG_STATE_HOME", start.data.parent().unwrap())
        .output()
        .unwrap();
    let says = String::from_utf8_lossy(&asked.stderr).into_owned();
    let address = format!("127.0.0.1:{}: sensors/# is shown, with 1 mappings", system.mqtt);
    assert!(asked.status.success() && says.contains(&address), "{says}");
}
