//! Refusals: nobody fills the audit log with them, what AWS IoT acknowledged before is kept, and its sender is told [A5, E5, Q1].

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use streammanager::control::{audit, caller, connectors};
use streammanager::dead;
use streammanager::error::{BackendError, Reason, Sender};
use streammanager::express::{Verdict, Why};
use streammanager::faults::Fault;
use streammanager::limits::{ALERT_BYTES, CONNECTOR_FRESH};
use streammanager::record::ConnectorId;
use streammanager_functions::HandlerError;
use streammanager_functions::express::{Answer, handle};
use streammanager_tests::bodies::actual;
use streammanager_tests::simulated::Simulated;
use tokio::time::{Instant, sleep};

use super::order::instance;
use super::{accepted, refused};

async fn listed(sim: &Simulated) -> Vec<String> {
    let entries = audit::page(&*sim.app.store, sim.app.clock.now(), None, 1_000).await.unwrap();
    entries.into_iter().map(|listed| listed.entry.detail).collect()
}

#[tokio::test(start_paused = true)]
async fn a5_nobody_fills_the_audit_log_with_refusals() {
    let sim = Simulated::new(15);
    let key = sim.sender("butte").await;
    let registered = listed(&sim).await.len();
    let foreign = json!({ "requestContext": { "http": { "method": "POST", "path": "/alerts" } }, "rawPath": "/alerts", "routeKey": "POST /alerts",
        "headers": { "authorization": format!("Bearer {key}") }, "queryStringParameters": { "source": "evacuation_alert_yuba" },
        "body": actual("A") });
    for _ in 0..1_000 {
        assert_eq!(refused(&sim.alert("smk_x:y", actual("A")).await), Some(Why::Unknown));
        let answer = handle(&sim.app, foreign.clone()).await.unwrap();
        assert_eq!(answer.response["statusCode"], 403);
    }
    // Of each 60 singly, then the 120th, 240th, 480th and 960th.
    let entries = listed(&sim).await;
    let (strangers, keyed): (Vec<&String>, Vec<&String>) =
        entries[registered..].iter().partition(|detail| detail.contains("belongs to no connector"));
    assert_eq!((strangers.len(), keyed.len()), (64, 64), "{entries:?}");
    assert!(strangers[63].contains("the 960th entry of this minute"), "{strangers:?}");
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(refused(&sim.alert("smk_x:y", actual("A")).await), Some(Why::Unknown));
    let last = listed(&sim).await.pop().unwrap();
    assert!(!last.contains("of this minute"), "a new minute is listed again: {last:?}");
}

#[tokio::test(start_paused = true)]
async fn a5_the_audit_log_is_read_in_pages() {
    let sim = Simulated::new(16);
    for n in 0..25 {
        audit::write(&sim.app, audit::Action::Refused, "a test", &n.to_string(), "").await.unwrap();
    }
    let get = async |query: Value| {
        let request = json!({
            "routeKey": "GET /audit", "rawPath": "/audit", "queryStringParameters": query,
            "requestContext": { "http": { "method": "GET", "path": "/audit" }, "authorizer": { "iam": { "userArn": "operator" } } },
        });
        let answer = streammanager_functions::control::handle(&sim.app, request).await.unwrap();
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        (answer["statusCode"].as_u64().unwrap(), body)
    };
    let (mut subjects, mut after) = (Vec::new(), Value::Null);
    loop {
        let mut query = json!({ "max": "10", "day": "2026-09-01" });
        if !after.is_null() {
            query["after"] = after;
        }
        let (_, page) = get(query).await;
        let entries = page["audit"].as_array().unwrap();
        subjects.extend(entries.iter().map(|entry| entry["subject"].as_str().unwrap().to_owned()));
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!(subjects, (0..25).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(get(json!({ "day": "2026-08-31" })).await.1, json!({ "audit": [], "next": null }));
    for bad in [json!({ "max": "0" }), json!({ "max": "x" }), json!({ "day": "yesterday" })] {
        assert_eq!(get(bad.clone()).await.0, 422, "{bad}");
    }
}

async fn publish(sim: &Simulated, source: &str, body: &str) -> Answer {
    try_publish(sim, source, body).await.unwrap()
}

async fn try_publish(sim: &Simulated, source: &str, body: &str) -> Result<Answer, HandlerError> {
    use base64::Engine;
    let payload = base64::engine::general_purpose::STANDARD.encode(body);
    let event = json!({ "topic": format!("alerts/{source}"), "payload": payload, "principal": "butte", "client": "c" });
    handle(&sim.app, event).await
}

#[tokio::test(start_paused = true)]
async fn a3_with_the_state_store_away_a_known_principal_stays_valid_for_a_quarter_of_an_hour() {
    let sim = Simulated::new(18);
    sim.sender("butte").await;
    assert_eq!(publish(&sim, "evacuation_alert_butte", &actual("A")).await.confirmations.len(), 1);
    sim.store_faults.outage(true);
    let answer = publish(&sim, "evacuation_alert_butte", &actual("B")).await;
    assert_eq!(answer.confirmations[0].topic.split('/').nth(1), Some("ack"), "{answer:?}");
    sleep(Duration::from_secs(15 * 60)).await;
    let late = try_publish(&sim, "evacuation_alert_butte", &actual("C")).await;
    assert!(late.is_err(), "it comes again: {late:?}");
}

/// Nobody who was seen lately waits for a state store that hangs, however long it does and by whichever door.
#[tokio::test(start_paused = true)]
async fn a3_a_state_store_that_hangs_keeps_no_known_sender_waiting() {
    let sim = Simulated::new(19);
    let key = sim.sender("butte").await;
    accepted(sim.alert(&key, actual("A")).await);
    publish(&sim, "evacuation_alert_butte", &actual("B")).await;
    sim.store_faults.script([Fault::Late(Duration::from_secs(15)); 10_000]);
    for number in 0..40 {
        sleep(Duration::from_secs(1)).await;
        let began = Instant::now();
        accepted(sim.alert(&key, actual(&format!("H{number}"))).await);
        let answer = publish(&sim, "evacuation_alert_butte", &actual(&format!("M{number}"))).await;
        assert_eq!(answer.confirmations[0].topic.split('/').nth(1), Some("ack"), "{answer:?}");
        assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    }
    let began = Instant::now();
    assert!(matches!(caller::by_key(&sim.app, "smk_yuba:secret").await, Err(BackendError::Retry(_))));
    assert!(began.elapsed() <= Duration::from_secs(5), "a stranger hears in time to send it again");
}

/// A store that is merely slow is heard by the next alert.
#[tokio::test(start_paused = true)]
async fn a3_a_slow_state_store_still_tells_of_a_revocation() {
    let sim = Simulated::new(20);
    let key = sim.sender("butte").await;
    accepted(sim.alert(&key, actual("A")).await);
    publish(&sim, "evacuation_alert_butte", &actual("B")).await;
    sleep(CONNECTOR_FRESH).await;
    connectors::revoke(&instance(&sim), &ConnectorId::new("butte").unwrap(), "an operator").await.unwrap();
    sim.store_faults.script([Fault::Late(Duration::from_millis(200)); 10_000]);
    accepted(sim.alert(&key, actual("C")).await);
    publish(&sim, "evacuation_alert_butte", &actual("D")).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(refused(&sim.alert(&key, actual("E")).await), Some(Why::Unknown));
    publish(&sim, "evacuation_alert_butte", &actual("F")).await;
    sleep(Duration::from_secs(1)).await;
    let answer = publish(&sim, "evacuation_alert_butte", &actual("G")).await;
    assert_eq!(answer.confirmations[0].topic.split('/').nth(1), Some("refused"), "{answer:?}");
}

/// The bytes of every dead letter, with its reason.
async fn letters(sim: &Simulated) -> Vec<(Reason, String)> {
    let mut letters = Vec::new();
    for letter in dead::list(&*sim.app.store, None, 100).await.unwrap().letters {
        let raw = dead::raw(&*sim.app.blobs, &letter).await.unwrap().unwrap();
        letters.push((letter.reason, String::from_utf8(raw.to_vec()).unwrap()));
    }
    letters
}

#[tokio::test(start_paused = true)]
async fn e5_what_is_refused_over_mqtt_is_kept_and_its_sender_is_told() {
    let sim = Simulated::new(17);
    sim.sender("butte").await;
    let unread = "{\"id\":";
    let future = actual("F").replace("2026-09-01T12", "2026-09-02T12");
    let mut revoked = false;
    for (source, body, reason) in [
        ("evacuation_alert_yuba", actual("A"), Reason::UnauthorisedSource),
        ("evacuation_alert_butte", unread.to_owned(), Reason::BadJson),
        ("evacuation_alert_butte", future, Reason::FutureTime),
        ("evacuation_alert_butte", " ".repeat(300 * 1024), Reason::TooLarge),
        ("evacuation_alert_butte", actual("R"), Reason::UnauthorisedSource),
    ] {
        if !revoked && body == actual("R") {
            revoked = true;
            connectors::revoke(&sim.app, &ConnectorId::new("butte").unwrap(), "a test").await.unwrap();
        }
        let answer = publish(&sim, source, &body).await;
        assert_eq!(answer.response["accepted"], json!([]));
        assert_eq!(answer.response["rejected"][0]["error"], json!(reason));
        assert_eq!(answer.confirmations.len(), 1, "{reason}");
        assert_eq!(answer.confirmations[0].topic, "alerts/refused/butte");
        let told: Value = serde_json::from_slice(&answer.confirmations[0].payload).unwrap();
        assert_eq!((&told["reason"], &told["source_id"]), (&json!(reason), &json!(source)));
        assert!(!told["detail"].as_str().unwrap().is_empty());
        assert!(letters(&sim).await.contains(&(reason, body.clone())), "{reason}: the bytes are gone");
    }
    assert!(revoked);
    assert!(!matches!(sim.alert("", actual("A")).await, Verdict::Taken { .. }));
}

/// R4: whatever is wrong with an alert over MQTT, its dead letter says on which topic it came, and which client and principal
/// sent it, as far as AWS IoT tells.
#[tokio::test(start_paused = true)]
async fn r4_every_dead_letter_of_an_alert_over_mqtt_names_its_sender() {
    const OWN: &str = "alerts/evacuation_alert_butte";
    let sim = Simulated::new(61);
    sim.sender("butte").await;
    for (what, topic, principal, payload, reason) in [
        ("no source id", "alerts/bad id", "butte", "{}".to_owned(), Reason::NotData),
        ("another's source", "alerts/evacuation_alert_yuba", "butte", actual("A"), Reason::UnauthorisedSource),
        ("a stranger", OWN, "cert-9", actual("B"), Reason::UnauthorisedSource),
        ("cut", OWN, "butte", "{\"id\": \"cut".to_owned(), Reason::BadJson),
        ("no area", OWN, "butte", actual("C").replace("\"area\"", "\"aria\""), Reason::MissingField),
        ("too large", OWN, "butte", " ".repeat(ALERT_BYTES + 1), Reason::TooLarge),
    ] {
        let before = dead::list(&*sim.app.store, None, 100).await.unwrap().letters;
        let event =
            json!({ "topic": topic, "principal": principal, "client": "a-client", "payload": BASE64.encode(&payload) });
        handle(&sim.app, event).await.unwrap();
        let letters = dead::list(&*sim.app.store, None, 100).await.unwrap().letters;
        let new: Vec<_> = letters.iter().filter(|letter| before.iter().all(|known| known.id != letter.id)).collect();
        let sender = Sender {
            topic: topic.into(),
            client: Some("a-client".into()),
            principal: Some(principal.into()),
            // Where no source id stands nobody is asked for.
            connector: (principal == "butte" && topic != "alerts/bad id").then(|| principal.to_owned()),
            ..Sender::default()
        };
        let told: Vec<_> = new.iter().map(|letter| (letter.reason, letter.sender.clone())).collect();
        assert_eq!(told, [(reason, Some(sender))], "{what}");
    }
    // The rule's error action names no principal.
    for topic in [OWN, "alerts/bad id"] {
        let error =
            json!({ "topic": topic, "base64OriginalPayload": BASE64.encode(topic), "clientId": "c" }).to_string();
        handle(&sim.app, json!({ "Records": [{ "messageId": "m", "body": error }] })).await.unwrap();
        let letters = dead::list(&*sim.app.store, None, 100).await.unwrap().letters;
        let sender = Sender { topic: topic.into(), client: Some("c".into()), ..Sender::default() };
        assert!(letters.iter().any(|letter| letter.sender.as_ref() == Some(&sender)), "{topic}: {letters:?}");
    }
}
