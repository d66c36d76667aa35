//! `up --demo` tells its story: everything enters through the real doors, and the ledger balances.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::json;
use streammanager_tests::system::{Start, System};
use streammanager_tests::upstream::firms_csv;
use streammanager_tests::{binary, free_port, workspace};
use tempfile::tempdir;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_alerts_detections_readings_and_a_reject() {
    let folder = tempdir().unwrap();
    let streams = workspace().join("infra/streams.yaml");
    let system = System::up(&Start { demo: true, streams, ..Start::quiet(folder.path()) });
    assert!(!system.messages("wildfire-iot-sensors", 1).is_empty());
    assert_eq!(system.messages("wildfire-dead-letters", 1)[0]["value"]["reason"], "bad_latitude");
    let detections = system.messages("wildfire-nasa-firms", 100);
    assert!(
        detections
            .iter()
            .all(|one| one["value"].to_string().contains("DEMO") || one["value"]["source_id"] == "landsat_nrt")
    );
    assert!(system.count("wildfire-historical") > 0, "the import runs beside the alerts");
    // One fire: its incident, and a zone of which the second poll finds an order. What was polled before the incident was known has none.
    let incident = system.messages("wildfire-incidents", 1)[0]["value"]["incident"].clone();
    let zones = system.messages("wildfire-evacuation-zones", 3);
    let order = zones.iter().find(|one| one["value"]["data"]["status"] == "order").unwrap();
    assert!(incident.is_string() && order["value"]["incident"] == incident, "{incident}: {order}");
    let alerts = system.messages("wildfire-critical-alerts", 6);
    let (sent, derived): (Vec<_>, Vec<_>) =
        alerts.iter().partition(|alert| alert["value"]["source_id"] == "evacuation_alert_demo");
    assert_eq!((sent.len(), derived.len()), (5, 1), "{alerts:?}");
    let derived = derived[0];
    assert_eq!(derived["value"]["source_id"], "life_safety_zone_demo");
    assert_eq!(derived["value"]["derived_from"], order["value"]["event_id"], "{derived}");
    // In the middle of the import: it stops, and what it has brought in is delivered.
    let (code, ended) = system.stop();
    let ledger = &ended["ledger"];
    assert_eq!((code, &ledger["queued"], &ledger["drained"]), (0, &json!(0), &json!(true)), "{ledger}");
    assert_eq!(ledger["balanced"], json!(true), "{ledger}");
}

#[test]
fn a_demo_keeps_apart_from_real_data_and_from_the_brokers_of_others() {
    let folder = tempdir().unwrap();
    let refused = |start: &Start, says: &str| {
        let ended = start.command(free_port(), free_port()).output().unwrap();
        let error = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{error}");
        assert!(error.contains(says), "{error}");
    };
    let (real, demo) = (Start::quiet(&folder.path().join("real")), Start::quiet(&folder.path().join("demo")));
    let demo = Start { demo: true, ..demo };
    assert_eq!(System::up(&real).stop().0, 0);
    refused(&Start { demo: true, ..real.clone() }, "holds real data");
    assert_eq!(System::up(&real).stop().0, 0, "the refused demo has changed something");
    for elsewhere in [
        Start { kafka: format!("127.0.0.1:{}", free_port()), ..demo.clone() },
        Start { aws: "http://127.0.0.1:9".into(), ..demo.clone() },
    ] {
        refused(&elsewhere, "made-up evacuation alerts");
    }
    System::up(&demo).kill();
    refused(&Start { demo: false, ..demo.clone() }, "made-up records of a demo");
    let rows = folder.path().join("rows.csv");
    std::fs::write(&rows, firms_csv(0, 1)).unwrap();
    let mut ingest = Command::new(binary());
    ingest.args(["ingest", "--source", "firms_viirs_snpp", "--data"]).arg(&demo.data).arg("--out").arg(folder.path());
    let ended = ingest.arg(&rows).output().unwrap();
    let error = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && error.contains("made-up records of a demo"), "{error}");
    System::up(&demo).kill();
}

/// As under `up --demo | head -1`.
#[test]
fn q5_up_ends_in_order_although_nobody_reads_its_output_any_more() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let mut command = Command::new(binary());
    command.args(["up", "--demo", "--for", "3s", "--kafka", &start.kafka, "--data"]).arg(&start.data);
    for door in ["--http", "--mqtt"] {
        command.args([door, &format!("127.0.0.1:{}", free_port())]);
    }
    command.env("XDG_STATE_HOME", folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut first = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("StreamManager is up"), "{first}");
    let ended = process.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(matches!(ended.status.code(), Some(0 | 3)) && !said.contains("panicked"), "{:?}: {said}", ended.status);
}
