//! Dead letters from their first reading to their end [R4]: what a letter keeps, redriving, purging, and that nothing is lost
//! whatever fails between two steps.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::control::audit::{self, Action};
use streammanager::control::connectors;
use streammanager::dead::{self, DeadLetter, Outcome, Purge, Redrive, Redriven, Selection};
use streammanager::decode::Context;
use streammanager::error::{BackendError, Reason, Reject};
use streammanager::express::Verdict;
use streammanager::faults::Fault;
use streammanager::faults::sink::Fault as SinkFault;
use streammanager::ingest::dedup::Seen;
use streammanager::ingest::{Ledger, ingest};
use streammanager::limits::{DEAD_LETTER_KEPT, DEAD_LETTER_SWEPT_AFTER, REDRIVE_QUEUED, REDRIVE_STEP};
use streammanager::queue::{Body, Message, QueueRef, send_one};
use streammanager::record::{ConnectorId, EventId, Outgoing, SourceId, Stream, StreamId, TenantId, Tier, WhenFull};
use streammanager::schedule::file::StreamsFile;
use streammanager::schedule::streams;
use streammanager::settings::{GivenUp, Settings};
use streammanager::sources;
use streammanager_functions::events::KinesisRecord;
use streammanager_functions::lost::{Batch, Shards};
use streammanager_functions::{control, stream};
use streammanager_tests::bodies::actual;
use streammanager_tests::simulated::Simulated;
use streammanager_tests::upstream::FIRMS_STREAM;

const DAY: i64 = 24 * 3_600;
const HEADER: &str = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,\
                      bright_ti5,frp,daynight";
/// The simulated clock begins on 1 September: this lies a day ahead.
const TOMORROW: &str = "38.1,-120.5,330.1,0.4,0.4,2026-09-02,1900,N20,VIIRS,n,2.0NRT,290.1,4.2,D";
const NO_LATITUDE: &str = "95.0,-120.5,330.1,0.4,0.4,2026-08-31,1900,N20,VIIRS,n,2.0NRT,290.1,4.2,D";

/// Rows of a FIRMS answer through the ingest path.
async fn firms(sim: &Simulated, rows: &[&str]) -> Ledger {
    table(sim, HEADER, rows).await
}

async fn table(sim: &Simulated, header: &str, rows: &[&str]) -> Ledger {
    let source = SourceId::new("firms_viirs_noaa20").unwrap();
    let stream = Stream {
        id: StreamId::new("viirs-noaa20").unwrap(),
        source: source.clone(),
        tenant: TenantId::new("test").unwrap(),
        granted: false,
        when_full: WhenFull::Wait,
    };
    let body = Bytes::from(format!("{header}\n{}\n", rows.join("\n")));
    let context = Context { source: &source, received_at: sim.app.clock.now(), topic: None, message: None };
    let rows = sources::format_of(&source).unwrap().rows(&body, context).unwrap();
    let (mut seen, mut ledger) = (Seen::of_tenant(&stream.tenant), Ledger::default());
    ingest(&sim.app, &stream, &mut seen, &mut ledger, rows).await.unwrap();
    ledger
}

/// A reading as the sensors' rule puts it into the stream.
async fn reading(sim: &Simulated, sequence: u64, kind: &str, body: &str) {
    let rule = json!({
        "payload": BASE64.encode(body), "topic": format!("sensors/{kind}/roof/state"), "principal": "cert-7", "client": "c",
        "received_at": sim.app.clock.now().as_millisecond(),
    });
    let event = json!({ "Records": [{
        "eventID": format!("shardId-000000000003:{sequence}"),
        "kinesis": { "partitionKey": "k", "sequenceNumber": sequence.to_string(), "data": BASE64.encode(rule.to_string()) },
    }]});
    assert_eq!(stream::handle(&sim.app, event).await.unwrap(), json!({ "batchItemFailures": [] }));
}

async fn letters(sim: &Simulated) -> Vec<DeadLetter> {
    dead::list(&*sim.app.store, None, 1_000).await.unwrap().letters
}

async fn only(sim: &Simulated) -> DeadLetter {
    let mut all = letters(sim).await;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn all() -> Redrive {
    Redrive::Selected { selection: Selection::default(), after: None, began: None }
}

async fn redrive(sim: &Simulated, wanted: &Redrive) -> Redriven {
    dead::redrive(&sim.app, wanted, "a test").await.unwrap()
}

async fn outcome(sim: &Simulated, wanted: &Redrive) -> Outcome {
    let redriven = redrive(sim, wanted).await;
    assert_eq!(redriven.letters.len(), 1, "{redriven:?}");
    redriven.letters[0].outcome
}

async fn delivered(sim: &Simulated) -> Vec<Outgoing> {
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(60)).await;
    delivering.stop().await;
    sim.sink.stored()
}

fn header<'a>(record: &'a Outgoing, name: &str) -> Option<&'a str> {
    record.extra.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

fn value(record: &Outgoing) -> Value {
    serde_json::from_slice(&record.value).unwrap()
}

#[tokio::test(start_paused = true)]
async fn r4_a_row_is_read_again_under_its_header_line_and_says_what_it_was() {
    let sim = Simulated::new(1);
    assert_eq!(firms(&sim, &[TOMORROW]).await.rejected, 1);
    let letter = only(&sim).await;
    assert_eq!((letter.reason, letter.header.as_deref()), (Reason::FutureTime, Some(HEADER)));
    assert_eq!(dead::raw(&*sim.app.blobs, &letter).await.unwrap().unwrap(), TOMORROW);
    sim.wall.step(2 * DAY);
    assert_eq!(outcome(&sim, &all()).await, Outcome::Accepted);
    assert_eq!(letters(&sim).await, []);
    let stored = delivered(&sim).await;
    assert_eq!((stored.len(), value(&stored[0])["data"]["frp"].as_f64()), (1, Some(4.2)));
    for (name, said) in [
        ("dead_letter_id", letter.id.to_string()),
        ("dead_letter_reason", "future_time".to_owned()),
        ("dead_letter_attempts", "1".to_owned()),
    ] {
        assert_eq!(header(&stored[0], name), Some(&*said), "{:?}", stored[0].extra);
    }
    assert_eq!(firms(&sim, &[TOMORROW]).await.duplicates, 1, "it is known as if it had come today");
}

/// A letter keeps no header line of any length: without it the row is held, and does not become another fault's letter.
#[tokio::test(start_paused = true)]
async fn r4_a_row_whose_header_line_was_not_kept_is_held_as_it_is() {
    let sim = Simulated::new(11);
    table(&sim, &format!("{HEADER},{}", "x".repeat(5_000)), &[&format!("{TOMORROW},1"), &format!("{NO_LATITUDE},1")])
        .await;
    let before = letters(&sim).await;
    sim.wall.step(2 * DAY);
    let redriven = redrive(&sim, &all()).await;
    assert_eq!(redriven.letters.iter().map(|tried| tried.outcome).collect::<Vec<_>>(), [Outcome::Held; 2]);
    assert!(redriven.letters[0].words.contains("not a FIRMS header"), "{redriven:?}");
    assert_eq!(letters(&sim).await, before);
}

#[tokio::test(start_paused = true)]
async fn r4_a_redriven_reading_says_where_it_lay_and_keeps_its_identity() {
    let sim = Simulated::new(2);
    reading(&sim, 7, "generic", r#"{"id": "s1", "time": "2026-09-02T19:00:00Z", "temperature": 20.5}"#).await;
    sim.wall.step(2 * DAY);
    assert_eq!(outcome(&sim, &all()).await, Outcome::Accepted);
    let stored = delivered(&sim).await;
    let direct = Simulated::new(2);
    direct.wall.step(2 * DAY);
    reading(&direct, 7, "generic", r#"{"id": "s1", "time": "2026-09-02T19:00:00Z", "temperature": 20.5}"#).await;
    assert_eq!(stored[0].event, delivered(&direct).await[0].event);
    for (name, said) in [
        ("original_topic", "sensors/generic/roof/state"),
        ("original_partition", "shardId-000000000003"),
        ("original_offset", "7"),
    ] {
        assert_eq!(header(&stored[0], name), Some(said), "{:?}", stored[0].extra);
    }
    assert_eq!(value(&stored[0])["data"]["sensor_id"], "s1");
}

#[tokio::test(start_paused = true)]
async fn r4_what_fails_again_is_the_same_letter_with_one_more_attempt() {
    let sim = Simulated::new(3);
    firms(&sim, &[NO_LATITUDE, TOMORROW]).await;
    let before = letters(&sim).await;
    sim.wall.step(2 * DAY);
    let redriven = redrive(&sim, &all()).await;
    let outcomes: Vec<_> = redriven.letters.iter().map(|tried| (tried.id, tried.outcome)).collect();
    assert_eq!(outcomes.len(), 2, "{redriven:?}");
    let bad = before.iter().find(|letter| letter.reason == Reason::BadLatitude).unwrap();
    assert!(outcomes.contains(&(bad.id, Outcome::Failed)), "{redriven:?}");
    let failed = redriven.letters.iter().find(|tried| tried.id == bad.id).unwrap();
    assert!(failed.words.contains("latitude 95"), "{failed:?}");
    let after = only(&sim).await;
    assert_eq!((after.id, after.attempts, after.first_seen, after.row), (bad.id, 2, bad.first_seen, bad.row));
    assert_eq!(after.tried_at, [bad.first_seen, after.last_seen]);
    assert_eq!(after.redriven_at, Some(after.last_seen));
    // The next page of the same redrive does not try it once more.
    let next = Redrive::Selected { selection: Selection::default(), after: None, began: Some(redriven.began) };
    assert_eq!(redrive(&sim, &next).await.letters, []);
}

#[tokio::test(start_paused = true)]
async fn r4_what_was_published_meanwhile_is_said_to_be_known() {
    let sim = Simulated::new(4);
    firms(&sim, &[TOMORROW]).await;
    sim.wall.step(2 * DAY);
    assert_eq!(firms(&sim, &[TOMORROW]).await.accepted, 1);
    assert_eq!(outcome(&sim, &all()).await, Outcome::Known);
    assert_eq!(letters(&sim).await, []);
    assert_eq!(delivered(&sim).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn r4_what_the_sink_refused_goes_out_as_it_was_and_keeps_its_history() {
    let sim = Simulated::new(5);
    sim.ingest("firms_test", 0..1).await;
    sim.sink.script([SinkFault::Refuse, SinkFault::Refuse]);
    assert_eq!(delivered(&sim).await, []);
    let first = only(&sim).await;
    assert_eq!(first.reason, Reason::SinkRefused);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(outcome(&sim, &all()).await, Outcome::Accepted, "the queue has it");
    assert_eq!(delivered(&sim).await, [], "the sink refuses it again");
    let second = only(&sim).await;
    assert_eq!((second.id, second.attempts, second.first_seen), (first.id, 2, first.first_seen));
    assert_eq!(outcome(&sim, &all()).await, Outcome::Accepted);
    let stored = delivered(&sim).await;
    assert_eq!(letters(&sim).await, []);
    let told: Vec<_> = stored[0].extra.iter().map(|(name, value)| (&**name, &**value)).collect();
    let (id, at) = (first.id.to_string(), streammanager::time::rfc3339(first.first_seen));
    let want = [
        ("dead_letter_id", &*id),
        ("dead_letter_reason", "sink_refused"),
        ("dead_letter_first_seen", &*at),
        ("dead_letter_attempts", "2"),
        ("original_topic", "wildfire-nasa-firms"),
    ];
    assert_eq!(told, want);
    assert_eq!((stored.len(), Some(stored[0].event), stored[0].revision), (1, first.event, 0));
    assert_eq!(dead::raw(&*sim.app.blobs, &first).await.unwrap().unwrap(), stored[0].value);
}

#[tokio::test(start_paused = true)]
async fn r4_an_alert_goes_by_its_id_alone_and_does_not_look_new() {
    let sim = Simulated::new(6);
    let key = sim.sender("butte").await;
    // The sender's clock was a day ahead.
    let mut body: Value = serde_json::from_str(&actual("A")).unwrap();
    body["sent"] = "2026-09-02T12:00:00-07:00".into();
    body["expires"] = "2026-09-02T13:00:00-07:00".into();
    assert!(matches!(sim.alert(&key, body.to_string()).await, Verdict::Taken { rejected, .. } if rejected.len() == 1));
    let letter = only(&sim).await;
    assert_eq!(letter.sender.as_ref().unwrap().connector.as_deref(), Some("butte"));
    sim.wall.step(2 * DAY);
    let held = redrive(&sim, &all()).await;
    assert_eq!(held.letters[0].outcome, Outcome::Held);
    assert!(held.letters[0].words.contains(&letter.id.to_string()), "{held:?}");
    assert_eq!(only(&sim).await, letter, "it is as it was");
    assert_eq!(sim.sink.stored(), []);

    assert_eq!(outcome(&sim, &Redrive::Letter(letter.id)).await, Outcome::Accepted);
    let stored = sim.stored("wildfire-critical-alerts");
    assert_eq!((stored.len(), header(&stored[0], "expired")), (1, Some("true")), "{:?}", stored[0].extra);
    assert_eq!(header(&stored[0], "sent"), Some("2026-09-02T19:00:00.000Z"));
    let quality = value(&stored[0])["quality"].to_string();
    assert!(quality.contains("1440 min before") && quality.contains("future_time"), "{quality}");
    assert_eq!(letters(&sim).await, []);
}

#[tokio::test(start_paused = true)]
async fn a2_an_alert_is_redriven_only_while_its_sender_may_send_it() {
    let sim = Simulated::new(7);
    let key = sim.sender("butte").await;
    let mut body: Value = serde_json::from_str(&actual("A")).unwrap();
    body["sent"] = "2026-09-02T12:00:00-07:00".into();
    sim.alert(&key, body.to_string()).await;
    let letter = only(&sim).await;
    connectors::revoke(&sim.app, &ConnectorId::new("butte").unwrap(), "a test").await.unwrap();
    sim.wall.step(2 * DAY);
    let redriven = redrive(&sim, &Redrive::Letter(letter.id)).await;
    assert_eq!(redriven.letters[0].outcome, Outcome::Held, "{redriven:?}");
    assert_eq!((only(&sim).await, sim.sink.stored()), (letter, Vec::new()));
}

/// Every call of queue and store fails once, before or after it was done, and the process dies there; then everything is
/// redriven again. Nothing is lost, and what is repeated says so.
#[tokio::test(start_paused = true)]
async fn r4_a_redrive_that_dies_at_any_step_loses_nothing() {
    let mut died = 0;
    for refused_by_sink in [false, true] {
        for on_queue in [false, true] {
            for fault in [Fault::Before, Fault::After] {
                for step in 0.. {
                    let mut sim = Simulated::new(step);
                    let want: Vec<EventId> = if refused_by_sink {
                        sim.sink.script([SinkFault::Refuse]);
                        let want = sim.ingest("firms_test", 0..1).await;
                        assert_eq!(delivered(&sim).await, []);
                        want
                    } else {
                        firms(&sim, &[TOMORROW]).await;
                        sim.wall.step(2 * DAY);
                        Vec::new()
                    };
                    let faults = if on_queue { &sim.queue_faults } else { &sim.store_faults };
                    let before = faults.injected();
                    faults.script(std::iter::repeat_n(Fault::None, step as usize).chain([fault]));
                    let _ = dead::redrive(&sim.app, &all(), "a test").await;
                    let failed = faults.injected() > before;
                    faults.quiet();
                    sim.crash();
                    // The lease of the dead one ends.
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    redrive(&sim, &all()).await;
                    let stored = delivered(&sim).await;
                    let which = format!("sink {refused_by_sink}, queue {on_queue}, {fault:?} at {step}");
                    assert_eq!(letters(&sim).await, [], "{which}");
                    assert!(!stored.is_empty(), "lost: {which}");
                    assert!(want.is_empty() || stored.iter().all(|record| record.event == want[0]), "{which}");
                    let same = stored.iter().all(|r| (r.event, r.revision) == (stored[0].event, 0));
                    assert!(same && stored.len() <= 2, "{which}: {}", stored.len());
                    if !failed {
                        break;
                    }
                    died += 1;
                }
            }
        }
    }
    assert!(died > 40, "{died} steps");
}

#[tokio::test(start_paused = true)]
async fn r4_a_redrive_is_paced_and_waits_while_the_queues_are_filled() {
    let sim = Simulated::new(8);
    let rows: Vec<String> = (0..50).map(|n| TOMORROW.replace("38.1,", &format!("38.{n},"))).collect();
    firms(&sim, &rows.iter().map(String::as_str).collect::<Vec<_>>()).await;
    sim.wall.step(2 * DAY);
    let began = tokio::time::Instant::now();
    assert_eq!(redrive(&sim, &all()).await.letters.len(), 50);
    assert!(began.elapsed() >= 50 * REDRIVE_STEP, "{:?}", began.elapsed());
    firms(&sim, &[NO_LATITUDE]).await;
    for n in 0..=REDRIVE_QUEUED as usize {
        sim.ingest("firms_test", n..n + 1).await;
    }
    let redriven = redrive(&sim, &all()).await;
    assert!(redriven.letters.is_empty() && redriven.next.is_some(), "{redriven:?}");
    assert!(redriven.waits.unwrap().contains("HIGH"));
    assert_eq!(only(&sim).await.attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn r4_purged_and_expired_letters_take_their_bytes_along_and_no_others() {
    let sim = Simulated::new(9);
    let large =
        |id: &str| format!(r#"{{"id": "{id}", "time": "2036-01-01T00:00:00Z", "note": "{}"}}"#, "x".repeat(9_000));
    let files = || {
        let folders = std::fs::read_dir(sim.folder().join("blobs")).unwrap();
        folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap()).count()
    };
    // The same bytes of two sources: each letter has its own.
    for (sequence, kind) in [(1, "generic"), (2, "weather")] {
        reading(&sim, sequence, kind, &large("s1")).await;
    }
    assert_eq!((letters(&sim).await.len(), files()), (2, 2));
    let [one, other] = letters(&sim).await.try_into().unwrap();
    let purged = dead::purge(&sim.app, &Purge::Letter(one.id), "a test").await.unwrap();
    assert_eq!((purged.purged, files()), (1, 1));
    assert!(dead::raw(&*sim.app.blobs, &other).await.unwrap().is_some());
    assert_eq!(dead::raw(&*sim.app.blobs, &one).await.unwrap(), None);
    // A reading that comes again after its letter was purged is a letter of its own.
    reading(&sim, 3, one.source.as_str().trim_start_matches("iot_"), &large("s1")).await;
    assert_eq!((letters(&sim).await.len(), files()), (2, 2));

    let old = |older_than| Purge::Selected { selection: Selection::default(), older_than, after: None };
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    firms(&sim, &[NO_LATITUDE]).await;
    let purged = dead::purge(&sim.app, &old(Some(Duration::from_secs(3_600))), "a test").await.unwrap();
    assert_eq!((purged.purged, files(), letters(&sim).await.len()), (2, 0, 1));

    // A crash after the bytes were written, and a letter that expires: the sweep finds both.
    reading(&sim, 4, "generic", &large("s3")).await;
    assert_eq!((dead::sweep(&sim.app).await.unwrap(), files()), (0, 1));
    tokio::time::sleep(DEAD_LETTER_KEPT).await;
    assert_eq!((letters(&sim).await.len(), dead::sweep(&sim.app).await.unwrap(), files()), (0, 1, 0));
    for calls in 0..20 {
        sim.store_faults.script(std::iter::repeat_n(Fault::None, calls).chain(std::iter::repeat_n(Fault::Before, 30)));
        let body = Bytes::from(large("s4"));
        let sender = streammanager::error::Sender::default();
        let _ = dead::bury_stray(&sim.app, body, Reject::new(Reason::NotData, "a test"), &sender).await;
        sim.store_faults.quiet();
    }
    tokio::time::sleep(DEAD_LETTER_SWEPT_AFTER).await;
    dead::sweep(&sim.app).await.unwrap();
    let letter = only(&sim).await;
    assert_eq!(files(), 1, "what died half-way leaves nothing, and the letter has its bytes");
    assert!(dead::raw(&*sim.app.blobs, &letter).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn r4_operators_routes_say_what_they_did_and_audit_it() {
    let sim = Simulated::new(10);
    firms(&sim, &[NO_LATITUDE, TOMORROW]).await;
    let ask = async |route: &str, query: Value, body: Value| {
        let (method, path) = route.split_once(' ').unwrap();
        let event = json!({
            "version": "2.0", "routeKey": route, "rawPath": path, "queryStringParameters": query, "pathParameters": {},
            "requestContext": {
                "http": { "method": method, "path": path, "sourceIp": "203.0.113.7" },
                "authorizer": { "iam": { "userArn": "arn:a" } },
            },
            "body": body.to_string(), "isBase64Encoded": false,
        });
        let answer = control::handle(&sim.app, event).await.unwrap();
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        (answer["statusCode"].as_u64().unwrap(), body)
    };
    let (_, first) = ask("GET /dead-letters", json!({ "max": "1" }), Value::Null).await;
    let (_, second) = ask("GET /dead-letters", json!({ "max": "1", "after": first["next"] }), Value::Null).await;
    assert_ne!(first["dead_letters"][0]["id"], second["dead_letters"][0]["id"]);
    let (_, of_reason) = ask("GET /dead-letters", json!({ "reason": "bad_latitude" }), Value::Null).await;
    assert_eq!(of_reason["dead_letters"].as_array().unwrap().len(), 1);
    let (status, answer) = ask("GET /dead-letters", json!({ "reason": "bad" }), Value::Null).await;
    assert!(status == 422 && answer["detail"].as_str().unwrap().contains("bad_latitude"), "{answer}");

    let (_, report) = ask("GET /dead-letters/patterns", json!({}), Value::Null).await;
    let patterns = report["patterns"].as_array().unwrap();
    let pattern = patterns.iter().find(|pattern| pattern["reason"] == "bad_latitude").unwrap();
    assert_eq!((&pattern["field"], &pattern["rule"]), (&json!("latitude"), &json!("latitude … is not in -90..90")));
    assert_eq!((&pattern["letters"], &pattern["example_detail"]), (&json!(1), &json!("latitude 95 is not in -90..90")));
    assert!(pattern["advice"].as_str().unwrap().contains("latitude and longitude"), "{pattern}");

    for route in ["POST /dead-letters/redrive", "POST /dead-letters/purge"] {
        let (status, answer) = ask(route, json!({}), json!({})).await;
        assert!(status == 422 && answer["detail"].as_str().unwrap().contains("name the dead letters"), "{answer}");
        let (status, answer) = ask(route, json!({}), json!({ "id": "0".repeat(32) })).await;
        assert!(status == 404 && answer["detail"].as_str().unwrap().contains("there is no dead letter"), "{answer}");
    }
    let (_, answer) = ask("POST /dead-letters/redrive", json!({}), json!({ "reason": "bad_latitude" })).await;
    assert_eq!((&answer["letters"][0]["outcome"], &answer["next"]), (&json!("failed"), &Value::Null), "{answer}");
    let purge = json!({ "stream": "viirs-noaa20", "older_than": "1h" });
    let (_, answer) = ask("POST /dead-letters/purge", json!({}), purge).await;
    assert_eq!(answer, json!({ "purged": 0, "kept": 0, "next": null }), "none is so old");
    let (_, answer) = ask("POST /dead-letters/purge", json!({}), json!({ "all": true })).await;
    assert_eq!(answer["purged"], 2);
    let (_, log) = ask("GET /audit", json!({}), Value::Null).await;
    let entries: Vec<_> = log["audit"].as_array().unwrap().iter().map(|e| (&e["action"], &e["subject"])).collect();
    let want = [("dead_letters_redriven", "with reason bad_latitude"), ("dead_letters_purged", "all")];
    let want: Vec<_> = want.map(|(action, subject)| (json!(action), json!(subject))).into();
    assert_eq!(entries, want.iter().map(|(action, subject)| (action, subject)).collect::<Vec<_>>(), "{log}");
    assert_eq!(sim.depth(Tier::High).await.total(), 0);
}

// ---- What queues gave up ----

/// A system whose control function reads these queues, as the template has it.
fn with_given_up(sim: &Simulated) -> App {
    let queue = |one: &GivenUp| QueueRef::new(&format!("local:given-up-{one}"));
    let given_up = GivenUp::ALL.into_iter().map(|one| (one, queue(&one))).collect();
    App { settings: Arc::new(Settings { given_up, ..(*sim.app.settings).clone() }), ..sim.app.clone() }
}

async fn put(app: &App, queue: GivenUp, bodies: &[String]) {
    for body in bodies {
        let message = Message::now(Body::Text(body.clone()));
        send_one(&*app.queue, &app.settings.given_up[&queue], message).await.unwrap();
    }
}

async fn operator(app: &App, route: &str, queue: &str) -> (u64, Value) {
    let event = json!({
        "routeKey": route, "rawPath": "/", "pathParameters": { "id": queue }, "headers": {}, "requestContext": {
            "http": { "method": "GET", "path": "/", "sourceIp": "203.0.113.7" },
            "authorizer": { "iam": { "userArn": "arn:aws:iam::123456789012:user/operator" } },
        },
    });
    let answer = control::handle(app, event).await.unwrap();
    let body = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    (answer["statusCode"].as_u64().unwrap(), body)
}

/// Everything that a queue gives out now.
async fn texts(app: &App, queue: &QueueRef) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let received = app.queue.receive(queue, 10, Duration::ZERO).await.unwrap();
        if received.is_empty() {
            break;
        }
        all.extend(received.into_iter().map(|message| match message.body {
            Body::Text(text) => text,
            Body::Binary(bytes) => format!("{} bytes", bytes.len()),
        }));
    }
    all.sort();
    all
}

const LIST: &str = "GET /dead-letters/queues";
const SHOW: &str = "GET /dead-letters/queues/{id}";
const REDRIVE: &str = "POST /dead-letters/queues/{id}/redrive";

#[tokio::test(start_paused = true)]
async fn r4_what_queues_gave_up_is_listed_shown_and_moved_back_to_where_it_came_from() {
    let sim = Simulated::new(31);
    let app = with_given_up(&sim);
    streams::apply(&app, &StreamsFile::parse(FIRMS_STREAM).unwrap(), false).await.unwrap();
    let tick = |stream: &str| json!({ "stream": stream, "due_at": "2026-09-01T18:00:00Z" }).to_string();
    let lost = json!({ "KinesisBatchInfo": { "shardId": "shardId-000000000000" } }).to_string();
    put(&app, GivenUp::Ticks, &[tick("snpp"), tick("gone"), "no tick".to_owned(), lost.clone()]).await;
    let alerts: Vec<String> = (0..25).map(|n| format!("alert {n:02}")).collect();
    put(&app, GivenUp::ExpressRetry, &alerts).await;
    tokio::time::advance(Duration::from_secs(60)).await;

    let (status, listed) = operator(&app, LIST, "").await;
    assert_eq!(status, 200, "{listed}");
    let standing = |name: &str| listed["queues"].as_array().unwrap().iter().find(|one| one["queue"] == name).unwrap();
    assert_eq!(standing("ticks")["messages"], 4, "{listed}");
    assert_eq!(standing("express-retry")["oldest"], "2026-09-01T19:00:00.000Z", "{listed}");
    assert_eq!((&standing("high")["messages"], &standing("high")["oldest"]), (&json!(0), &Value::Null), "{listed}");

    // Whoever looks takes nothing away.
    for _ in 0..2 {
        let (_, shown) = operator(&app, SHOW, "ticks").await;
        let held: BTreeSet<&str> =
            shown["messages"].as_array().unwrap().iter().map(|one| one["holds"]["text"].as_str().unwrap()).collect();
        assert_eq!(held, BTreeSet::from([&*tick("snpp"), &*tick("gone"), "no tick", &*lost]), "{shown}");
    }
    assert_eq!(operator(&app, SHOW, "nothing").await.0, 422);

    let (status, moved) = operator(&app, REDRIVE, "express-retry").await;
    assert_eq!((status, &moved["moved"], &moved["more"]), (200, &json!(25), &json!(false)), "{moved}");
    assert_eq!(texts(&app, &app.settings.queues.express_retry).await, alerts);
    let (_, moved) = operator(&app, REDRIVE, "ticks").await;
    let mut why: Vec<&str> =
        moved["held"].as_array().unwrap().iter().map(|one| one["because"].as_str().unwrap()).collect();
    why.sort_unstable();
    assert_eq!(moved["moved"], 2, "{moved}");
    assert!(why[0].starts_with("it is no tick") && why[1] == "no stream gone is registered", "{why:?}");
    assert_eq!(texts(&app, &app.settings.queues.realtime_ticks).await, [tick("snpp")]);
    assert_eq!(texts(&app, &app.settings.queues.stream_ticks).await, [lost]);
    let (_, listed) = operator(&app, LIST, "").await;
    let left: u64 = listed["queues"].as_array().unwrap().iter().map(|one| one["messages"].as_u64().unwrap()).sum();
    assert_eq!(left, 2, "what has no way back stays: {listed}");
    let entries = audit::page(&*app.store, app.clock.now(), None, 10).await.unwrap();
    let redriven = entries.iter().filter(|listed| listed.entry.action == Action::DeadLettersRedriven).count();
    assert_eq!(redriven, 2);
}

#[tokio::test(start_paused = true)]
async fn r4_a_message_that_cannot_be_moved_back_now_is_not_lost() {
    let sim = Simulated::new(32);
    let app = with_given_up(&sim);
    let alerts: Vec<String> = (0..15).map(|n| format!("alert {n:02}")).collect();
    put(&app, GivenUp::ExpressRetry, &alerts).await;
    // Two calls of the queue a message, and a receive: whatever fails, both queues together have each message.
    for (call, fault) in (0..8).flat_map(|call| [(call, Fault::Before), (call, Fault::After)]) {
        sim.queue_faults.script((0..call).map(|_| Fault::None).chain([fault]));
        let (status, moved) = operator(&app, REDRIVE, "express-retry").await;
        assert_eq!(status, 200, "{moved}");
        sim.queue_faults.quiet();
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    operator(&app, REDRIVE, "express-retry").await;
    let mut found = texts(&app, &app.settings.queues.express_retry).await;
    found.extend(texts(&app, &app.settings.given_up[&GivenUp::ExpressRetry]).await);
    let found: BTreeSet<String> = found.into_iter().collect();
    assert_eq!(found, alerts.into_iter().collect());
}

/// A stream that still has these records.
struct Kept(Vec<KinesisRecord>);

#[async_trait]
impl Shards for Kept {
    async fn read(&self, batch: &Batch) -> Result<Vec<KinesisRecord>, BackendError> {
        let of = |record: &KinesisRecord| {
            KinesisRecord::put(
                &batch.shard_id,
                String::new(),
                record.kinesis.sequence_number.clone(),
                record.kinesis.data.clone(),
            )
        };
        let within = |record: &&KinesisRecord| {
            (&batch.start_sequence_number..=&batch.end_sequence_number).contains(&&record.kinesis.sequence_number)
        };
        Ok(self.0.iter().filter(within).map(of).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn r4_readings_that_were_lost_hold_of_are_taken_when_they_were_moved_back() {
    let sim = Simulated::new(33);
    let payload = |celsius: f64| BASE64.encode(json!({ "temperature": celsius }).to_string());
    let output = |celsius: f64| {
        json!({ "topic": "sensors/generic/dev-a/state", "payload": payload(celsius), "principal": "cert" }).to_string()
    };
    let records = (1..=4)
        .map(|n: u32| KinesisRecord::put("", String::new(), n.to_string(), BASE64.encode(output(20.0 + f64::from(n)))));
    let kept = Kept(records.collect());
    let rule = json!({
        "ruleName": "sensors", "topic": "sensors/generic/dev-b/state", "clientId": "dev-b",
        "base64OriginalPayload": payload(31.0), "failures": [],
    });
    let batch = |start: &str, end: &str| {
        json!({ "version": "1.0", "KinesisBatchInfo": {
            "shardId": "shardId-000000000001", "startSequenceNumber": start, "endSequenceNumber": end, "batchSize": 2,
            "streamArn": "arn:aws:kinesis:us-west-2:123456789012:stream/sensors",
        }})
    };
    let event = |bodies: [&Value; 3]| {
        let message =
            |(nth, body): (usize, &Value)| json!({ "messageId": format!("m-{nth}"), "body": body.to_string() });
        json!({ "Records": bodies.into_iter().enumerate().map(message).collect::<Vec<_>>() })
    };
    let (there, gone) = (batch("2", "3"), batch("7", "8"));
    for _ in 0..2 {
        let answer = stream::handle_with(&sim.app, &kept, event([&rule, &there, &gone])).await.unwrap();
        let failed = json!({ "batchItemFailures": [{ "itemIdentifier": "m-2" }] });
        assert_eq!(answer, failed, "what the stream does not have any more comes back and is given up again");
    }
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(60)).await;
    delivering.stop().await;
    let stored = sim.stored("wildfire-iot-sensors");
    assert_eq!(stored.len(), 3, "one of the rule, two of the stream, each once");
}
