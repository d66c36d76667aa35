//! `up --demo` tells its story: everything enters through the real doors, and the ledger balances.

use serde_json::json;
use streammanager_tests::system::{Start, System};
use streammanager_tests::workspace;
use tempfile::tempdir;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_alerts_detections_readings_and_a_reject() {
    let folder = tempdir().unwrap();
    let streams = workspace().join("infra/streams.yaml");
    let system = System::up(&Start { demo: true, streams, ..Start::quiet(folder.path()) });
    let alerts = system.messages("wildfire-critical-alerts", 5);
    assert!(alerts.iter().all(|alert| alert["value"]["source_id"] == "evacuation_alert_demo"), "{alerts:?}");
    assert!(!system.messages("wildfire-iot-sensors", 1).is_empty());
    assert_eq!(system.messages("wildfire-dead-letters", 1)[0]["value"]["reason"], "bad_latitude");
    let detections = system.messages("wildfire-nasa-firms", 100);
    assert!(
        detections
            .iter()
            .all(|one| one["value"].to_string().contains("DEMO") || one["value"]["source_id"] == "landsat_nrt")
    );
    assert!(system.count("wildfire-historical") > 0, "the import runs beside the alerts");
    let (_, ledger) = system.stop();
    assert_eq!(ledger["ledger"]["balanced"], json!(true), "{ledger}");
}
