//! What a sender is told of its alert, and which revision it becomes, whichever instance takes it [E5, S12].

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::dead;
use streammanager::error::Reason;
use streammanager::express::known::{self, Recent};
use streammanager::express::{Accepted, AcknowledgedBy, Verdict};
use streammanager::faults::Fault;
use streammanager::record::{EventId, ShapeTold, SourceId};
use streammanager::schemas;
use streammanager::sink::Written;
use streammanager_functions::confirm::Confirmation;
use streammanager_tests::bodies::actual;
use streammanager_tests::published::validator;
use streammanager_tests::simulated::{Simulated, send_alert};
use tokio::time::{Instant, sleep};

use super::order::instance;
use super::{TOPIC, accepted};

fn changed(changes: Value) -> String {
    let mut body: Value = serde_json::from_str(&actual("A")).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

fn published(sim: &Simulated, topic: &str) -> Vec<(u32, Value)> {
    let read =
        |record: &streammanager::record::Outgoing| (record.revision, serde_json::from_slice(&record.value).unwrap());
    sim.stored(topic).iter().map(read).collect()
}

#[tokio::test(start_paused = true)]
async fn s12_every_instance_knows_the_last_revision_and_the_contents_before() {
    let sim = Simulated::new(41);
    let key = sim.sender("butte").await;
    let bodies: Vec<String> =
        ["Order", "Warning", "Lifted"].into_iter().map(|event| changed(json!({ "event": event }))).collect();
    for (body, revision, duplicate) in [
        (&bodies[0], 0, false),
        (&bodies[1], 1, false),
        (&bodies[1], 1, true),
        (&bodies[0], 0, true),
        (&bodies[2], 2, false),
        (&bodies[1], 1, true),
    ] {
        let told = accepted(send_alert(&instance(&sim), &key, body.clone()).await);
        assert_eq!((told.revision, told.duplicate), (revision, duplicate), "{body}");
    }
    let revisions: Vec<u32> = sim.stored(TOPIC).iter().map(|record| record.revision).collect();
    assert_eq!(revisions, [0, 1, 2]);
}

/// Two instances at the same moment: the one that is second to write finds it out and publishes again as the next revision, so
/// that the last revision is one content.
#[tokio::test(start_paused = true)]
async fn s12_two_contents_at_once_in_two_instances_end_with_different_revisions() {
    let sim = Simulated::new(42);
    let key = sim.sender("butte").await;
    let (one, other) = (instance(&sim), instance(&sim));
    sim.sink.delay(Duration::from_millis(20));
    let (one, other) = tokio::join!(
        send_alert(&one, &key, changed(json!({ "event": "Order" }))),
        send_alert(&other, &key, changed(json!({ "event": "Warning" })))
    );
    let mut told = [accepted(one).revision, accepted(other).revision];
    told.sort();
    assert_eq!(told, [0, 1]);
    let last: Vec<Value> =
        published(&sim, TOPIC).into_iter().filter(|(revision, _)| *revision == 1).map(|(_, value)| value).collect();
    assert_eq!(last.len(), 1, "{last:?}");
}

/// Nobody else can have taken another content meanwhile, so the sender waits for one write less; the next start knows all.
#[tokio::test(start_paused = true)]
async fn f3_the_one_process_of_a_store_replies_before_it_notes_the_revision() {
    const LATE: Duration = Duration::from_millis(30);
    let sim = Simulated::new(45);
    let key = sim.sender("butte").await;
    let start = || App { recent: Arc::new(Recent::alone()), ..instance(&sim) };
    let waited = async |app: &App, body: String| {
        sleep(Duration::from_secs(5)).await;
        sim.store_faults.script([Fault::Late(LATE); 20]);
        let began = Instant::now();
        let told = accepted(send_alert(app, &key, body).await);
        assert_eq!((told.revision, told.duplicate), (0, false));
        let waited = began.elapsed();
        app.tries.ended().await;
        sim.store_faults.quiet();
        waited
    };
    let alone = start();
    assert_eq!(waited(&alone, actual("A")).await + LATE, waited(&instance(&sim), actual("B")).await);

    for app in [alone, start()] {
        let told = accepted(send_alert(&app, &key, actual("A")).await);
        assert_eq!((told.revision, told.duplicate), (0, true));
    }
    // What follows at once waits until the one before it is noted.
    let app = start();
    for (event, revision) in [("Warning", 1), ("Lifted", 2)] {
        let told = accepted(send_alert(&app, &key, changed(json!({ "event": event }))).await);
        assert_eq!((told.revision, told.warnings.len()), (revision, 0));
    }
    let told = accepted(send_alert(&instance(&sim), &key, changed(json!({ "event": "Order" }))).await);
    assert_eq!(told.revision, 3);
}

#[tokio::test(start_paused = true)]
async fn s12_with_the_store_away_a_revision_is_a_best_effort_and_says_so() {
    let sim = Simulated::new(43);
    let key = sim.sender("butte").await;
    accepted(sim.alert(&key, changed(json!({ "event": "Order" }))).await);
    sim.store_faults.outage(true);
    let told = accepted(sim.alert(&key, changed(json!({ "event": "Warning" }))).await);
    assert_eq!(told.revision, 1, "this process remembers");
    assert!(told.warnings[0].starts_with("revision: is a best effort"), "{told:?}");
    let quality = &published(&sim, TOPIC)[1].1["quality"][0];
    assert_eq!(quality["field"], "revision");
    sim.store_faults.outage(false);
    let told = accepted(sim.alert(&key, changed(json!({ "event": "Lifted" }))).await);
    assert_eq!((told.revision, told.warnings.len()), (2, 0));
    let told = accepted(send_alert(&instance(&sim), &key, changed(json!({ "event": "All clear" }))).await);
    assert_eq!(told.revision, 3, "what was taken meanwhile is known to all again");
}

/// What the store was too slow for is known a little later, to the next start and to whoever asks what became of the alert [O7].
#[tokio::test(start_paused = true)]
async fn s12_what_the_store_was_too_slow_for_is_known_to_the_next_start() {
    let sim = Simulated::new(46);
    let key = sim.sender("butte").await;
    for (name, alone) in [("A", true), ("B", false)] {
        let start = || {
            let recent = if alone { Recent::alone() } else { Recent::default() };
            App { recent: Arc::new(recent), ..instance(&sim) }
        };
        let app = start();
        sim.store_faults.script([Fault::Late(Duration::from_millis(400)); 200]);
        let told = accepted(send_alert(&app, &key, actual(name)).await);
        assert_eq!((told.revision, told.warnings.len()), (0, 1), "{told:?}");
        app.tries.ended().await;
        sim.store_faults.quiet();
        let of_name = known::accepted(
            &*sim.app.store,
            &SourceId::new("evacuation_alert_butte").unwrap(),
            &format!("test@example.org,{name}"),
        )
        .await
        .unwrap();
        assert_eq!(of_name.iter().map(|known| known.event_id).collect::<Vec<_>>(), [told.event_id], "alone: {alone}");
        assert!(accepted(send_alert(&start(), &key, actual(name)).await).duplicate, "alone: {alone}");
    }
}

#[tokio::test(start_paused = true)]
async fn s12_a_drill_burns_no_revision_of_what_means_it() {
    let sim = Simulated::new(44);
    let key = sim.sender("butte").await;
    let mut events = Vec::new();
    for (status, event, revision, duplicate) in [
        ("Test", "Order", 0, false),
        ("Actual", "Order", 0, false),
        ("Test", "Warning", 1, false),
        ("Exercise", "Warning", 0, false),
        ("Test", "Warning", 1, true),
        ("Actual", "Warning", 1, false),
    ] {
        let told = accepted(sim.alert(&key, changed(json!({ "status": status, "event": event }))).await);
        assert_eq!(
            (told.revision, told.duplicate, told.drill),
            (revision, duplicate, status != "Actual"),
            "{status} {event}"
        );
        events.push(told.event_id);
    }
    assert!(events[0] != events[1] && events[3] != events[0] && events[5] == events[1]);
    let source = SourceId::new("evacuation_alert_butte").unwrap();
    let named = ["test@example.org", "A", "2026-09-01T12:00:00-07:00"];
    assert_eq!(events[1], EventId::of(&source, named), "recomputable from the record alone");
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(5)).await;
    delivering.stop().await;
    assert_eq!(sim.stored("wildfire-alert-drills").len(), 3);
}

/// A drill is never answered "accepted" when nothing of it is kept.
#[tokio::test(start_paused = true)]
async fn e4_a_drill_too_large_for_an_envelope_is_rejected_and_its_bytes_are_kept() {
    let sim = Simulated::new(45);
    let key = sim.sender("butte").await;
    let area: Vec<Value> =
        (0..4_000).map(|n| json!({ "circle": format!("{:.4},-121.5 1", 35.0 + f64::from(n) / 1_000.0) })).collect();
    for status in ["Test", "Actual"] {
        let body = changed(json!({ "status": status, "area": area }));
        match sim.alert(&key, body.clone()).await {
            Verdict::Taken { accepted, rejected, .. } => {
                assert_eq!((accepted.len(), rejected.len(), rejected[0].reason), (0, 1, Reason::TooLarge), "{status}");
            }
            other => panic!("{other:?}"),
        }
        let letters = dead::list(&*sim.app.store, None, 10).await.unwrap().letters;
        let letter = letters.iter().find(|letter| letter.raw_bytes == body.len() as u64).expect("its bytes");
        assert_eq!(dead::raw(&*sim.app.blobs, letter).await.unwrap().unwrap(), body.as_bytes());
    }
    assert_eq!((sim.queued().await, sim.sink.sends()), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn e5_a_revision_that_loses_a_readable_shape_says_so_to_its_sender_and_to_consumers() {
    let sim = Simulated::new(46);
    let key = sim.sender("butte").await;
    let order = accepted(sim.alert(&key, actual("A")).await);
    assert_eq!((order.geometry, order.warnings.len(), order.expired), (ShapeTold::Ok, 0, false));
    let garbage = changed(json!({ "area": { "description": "Test Canyon", "polygon": "garbage" } }));
    let told = accepted(sim.alert(&key, garbage).await);
    assert_eq!((told.revision, told.geometry), (1, ShapeTold::Broken));
    let lost = "geometry: cannot be read, although that of revision 0 could be read";
    assert!(told.warnings.iter().any(|warning| warning == lost), "{told:?}");
    assert!(told.warnings.iter().any(|warning| warning.starts_with("info[0].area[0].polygon[0]: ")), "{told:?}");
    let swapped = changed(json!({ "area": { "polygon": [[-120.9, 38.3], [-120.8, 38.3], [-120.8, 38.4]] } }));
    let told = accepted(sim.alert(&key, swapped).await);
    assert!(told.warnings[0].contains("seem to be swapped") && told.geometry == ShapeTold::Broken, "{told:?}");
    let shapeless = accepted(sim.alert(&key, changed(json!({ "area": { "description": "Test Canyon" } }))).await);
    assert_eq!((shapeless.revision, shapeless.geometry), (3, ShapeTold::None));
    let qualities: Vec<usize> = published(&sim, TOPIC)
        .iter()
        .map(|(_, value)| value["quality"].as_array().unwrap().iter().filter(|q| q["field"] == "geometry").count())
        .collect();
    assert_eq!(qualities, [0, 1, 0, 0], "said once, when it was lost");
}

#[tokio::test(start_paused = true)]
async fn e5_an_expired_alert_is_accepted_and_said_to_be_and_mqtt_confirms_what_http_answers() {
    let sim = Simulated::new(47);
    let key = sim.sender("butte").await;
    let told = accepted(sim.alert(&key, changed(json!({ "expires": "2026-08-01T12:00:00-07:00" }))).await);
    assert!(told.expired && !told.duplicate);
    assert_eq!(told.warnings, ["info[0].expires: is before the time at which the alert was sent"]);
    let confirmation = Confirmation::accepted(&told);
    assert_eq!(confirmation.topic, format!("alerts/ack/{}", told.event_id));
    let confirmed: Value = serde_json::from_slice(&confirmation.payload).unwrap();
    for field in
        ["event_id", "revision", "duplicate", "expired", "geometry", "warnings", "acknowledged_by", "topic", "drill"]
    {
        assert!(!confirmed[field].is_null(), "{field} is missing: {confirmed}");
    }
    assert_eq!(serde_json::from_value::<Accepted>(confirmed).unwrap(), told);
    let again = accepted(sim.alert(&key, changed(json!({ "expires": "2026-08-01T12:00:00-07:00" }))).await);
    assert!(again.expired && again.duplicate);
}

/// Partition and offset are told once the broker has the alert, and never before.
#[tokio::test(start_paused = true)]
async fn e5_the_reply_says_partition_and_offset_once_the_broker_has_the_alert() {
    let sim = Simulated::new(48);
    let key = sim.sender("butte").await;
    let valid = validator(&schemas::alert_accepted());
    let confirmed = |told: &Accepted| -> Value {
        let confirmed = serde_json::from_slice(&Confirmation::accepted(told).payload).unwrap();
        assert!(valid.is_valid(&confirmed), "{confirmed}");
        confirmed
    };
    for (event, offset) in [("Order", 0), ("Warning", 1)] {
        let body = changed(json!({ "event": event }));
        for duplicate in [false, true] {
            let told = accepted(sim.alert(&key, body.clone()).await);
            assert_eq!((told.duplicate, told.written), (duplicate, Some(Written { partition: 0, offset })), "{event}");
            let confirmed = confirmed(&told);
            assert_eq!((&confirmed["partition"], &confirmed["offset"]), (&json!(0), &json!(offset)));
        }
    }
    sim.sink.outage(true);
    let queued = accepted(sim.alert(&key, changed(json!({ "event": "Lifted" }))).await);
    let drill = accepted(sim.alert(&key, changed(json!({ "status": "Test" }))).await);
    for told in [queued, drill] {
        assert_eq!((told.acknowledged_by, told.written), (AcknowledgedBy::Queue, None));
        let confirmed = confirmed(&told);
        assert!(confirmed.get("partition").is_none() && confirmed.get("offset").is_none(), "{confirmed}");
    }
}
