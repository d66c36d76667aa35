//! Bad input to a running system: each refusal says what, where and why, and what was sent properly before and after it
//! arrives, once.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use streammanager::limits::{ALERT_BYTES, READING_BYTES};
use streammanager_host::publisher::Publisher;
use streammanager_tests::bodies::actual;
use streammanager_tests::system::{Start, System};
use streammanager_tests::upstream::{FIRMS_STREAM, FakeUpstream, firms_csv};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn without(field: &str) -> String {
    let mut alert: Value = serde_json::from_str(&actual("B")).unwrap();
    alert.as_object_mut().unwrap().remove(field);
    alert.to_string()
}

fn cap(sent: &str, more: &str) -> String {
    format!(
        "<alert xmlns=\"urn:oasis:names:tc:emergency:cap:1.2\"><identifier>C1</identifier><sender>test@example.org</sender>\
         <sent>{sent}</sent><status>Actual</status><msgType>Alert</msgType><scope>Public</scope>{more}</alert>"
    )
}

async fn dead_letters(system: &System) -> Vec<Value> {
    let (_, listed) = system.control(Method::GET, "/dead-letters", None).await;
    listed["dead_letters"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_alerts_say_why_and_nothing_else_is_lost() {
    let folder = tempdir().unwrap();
    let system = System::up(&Start::quiet(folder.path()));
    let key = system.sender("butte").await;
    let mut sent = 0;
    let mut send_good = async || {
        sent += 1;
        let (status, answer) = system.alert(&key, actual(&format!("G{sent}"))).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        sent
    };
    send_good().await;
    let large = |bytes: usize| format!("{{\"id\": \"{}\"}}", "x".repeat(bytes));
    let with = |field: &str, value: Value| {
        let mut alert: Value = serde_json::from_str(&actual("B")).unwrap();
        alert[field] = value;
        alert.to_string()
    };
    for (body, status, error, says) in [
        (large(ALERT_BYTES), 413, "too_large", "262144"),
        (large(3 * ALERT_BYTES), 413, "too_large", "262144"),
        ("{\"id\":".to_owned(), 422, "bad_json", "line 1 column"),
        ("hello".to_owned(), 422, "not_data", "neither"),
        (String::new(), 422, "not_data", "neither"),
        ("<alert><identifier>".to_owned(), 422, "bad_xml", "ends inside an element"),
        ("<html><body>log in</body></html>".to_owned(), 422, "not_data", "html"),
        ("<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><alert>&x;</alert>".to_owned(), 422, "doctype", ""),
    ] {
        let (got, answer) = system.alert(&key, body).await.unwrap();
        assert_eq!((got, answer["error"].as_str()), (status, Some(error)), "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(says), "{says:?} is not in {answer}");
        send_good().await;
    }
    for (body, error, says) in [
        (without("sent"), "missing_field", "sent"),
        (without("id"), "missing_field", "id"),
        (with("sent", json!("yesterday")), "bad_time", "yesterday"),
        (with("sent", json!("2200-01-01T00:00:00Z")), "future_time", "2200"),
        (cap("soon", ""), "bad_time", "soon"),
        (
            cap("2026-09-01T12:00:00-07:00", "").replace("<sender>test@example.org</sender>", ""),
            "missing_field",
            "sender",
        ),
    ] {
        let (got, answer) = system.alert(&key, body).await.unwrap();
        let rejected = answer.pointer("/rejected/0").unwrap_or(&answer);
        assert_eq!((got, rejected["error"].as_str()), (422, Some(error)), "{answer}");
        assert!(rejected["detail"].as_str().unwrap().contains(says), "{says:?} is not in {answer}");
        send_good().await;
    }
    // Of several the bad one is named by its number, the others stand.
    let one = |id: &str| cap("2026-09-01T12:00:00-07:00", "").replace("C1", id);
    let feed =
        [one("S1"), one("S2").replace("2026-09-01", "soon"), one("S3")].map(|alert| format!("<entry>{alert}</entry>"));
    let several = format!("<feed xmlns=\"http://www.w3.org/2005/Atom\">{}</feed>", feed.concat());
    let (got, answer) = system.alert(&key, several).await.unwrap();
    assert_eq!((got, answer["accepted"].as_array().unwrap().len()), (422, 2), "{answer}");
    assert_eq!((&answer["rejected"][0]["row"], &answer["rejected"][0]["error"]), (&json!(2), &json!("bad_time")));

    let forged = format!("{}x", &key[..key.len() - 1]);
    for (key, path, status, says) in [
        (Some(forged.as_str()), "/alerts", 401, "belongs to no connector"),
        (None, "/alerts", 401, "Authorization: Bearer"),
        (Some(key.as_str()), "/alerts?source=evacuation_alert_yuba", 403, "evacuation_alert_yuba"),
        (Some(key.as_str()), "/alerts?source=Bad%20id", 400, "not valid"),
    ] {
        let mut request = streammanager_tests::system::client().post(system.url(path)).body(actual("F"));
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.unwrap();
        let (got, answer): (u16, Value) = (response.status().as_u16(), response.json().await.unwrap());
        assert_eq!(got, status, "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(says), "{says:?} is not in {answer}");
        assert!(!answer.to_string().contains(key.unwrap_or("no key")), "a key is shown: {answer}");
    }
    let last = send_good().await;

    let want: BTreeSet<String> = (1..=last).map(|n| format!("G{n}")).chain(["S1".into(), "S3".into()]).collect();
    let messages = system.messages("wildfire-critical-alerts", want.len());
    let got: BTreeSet<String> =
        messages.iter().map(|m| m["value"]["data"]["identifier"].as_str().unwrap().to_owned()).collect();
    assert_eq!(got, want);
    // What a known sender sent and could not be read is kept; a stranger's is only audited.
    let reasons: BTreeSet<String> =
        dead_letters(&system).await.iter().map(|letter| letter["reason"].as_str().unwrap().to_owned()).collect();
    let kept = ["bad_json", "bad_time", "bad_xml", "doctype", "future_time", "missing_field", "not_data"];
    assert_eq!(reasons, kept.map(str::to_owned).into());
    let (code, ledger) = system.stop();
    assert_eq!((code, &ledger["ledger"]["balanced"]), (0, &json!(true)), "{ledger}");
}

fn reading(at: u64) -> Vec<u8> {
    json!({ "sensor_index": 7, "latitude": 40.7, "longitude": -122.9, "last_seen": at, "humidity": 42 })
        .to_string()
        .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_readings_are_kept_apart_and_an_oversized_packet_ends_its_connection_alone() {
    let folder = tempdir().unwrap();
    let system = System::up(&Start::quiet(folder.path()));
    let topic = "sensors/purpleair/7/state";
    let (mut good, mut bad) = (
        Publisher::connect(("127.0.0.1", system.mqtt), "good").unwrap(),
        Publisher::connect(("127.0.0.1", system.mqtt), "bad").unwrap(),
    );
    good.publish(topic, &reading(1_780_000_000)).unwrap();
    for payload in [&b"{\"cut"[..], b"\xff\xfe", b"", b"offline", b"[1,2]"] {
        bad.publish(topic, payload).unwrap();
    }
    good.publish(topic, &reading(1_780_000_060)).unwrap();
    bad.publish(topic, &vec![b'x'; READING_BYTES]).expect_err("a packet over the limit got its PUBACK");
    bad.publish(topic, &reading(1_780_000_120)).expect_err("the connection outlived its fault");
    good.publish(topic, &reading(1_780_000_180)).unwrap();
    let mut again = Publisher::connect(("127.0.0.1", system.mqtt), "bad").unwrap();
    again.publish(topic, &reading(1_780_000_240)).unwrap();

    let readings = system.messages("wildfire-iot-sensors", 4);
    let seen: BTreeSet<&str> = readings.iter().map(|m| m["value"]["observed_at"].as_str().unwrap()).collect();
    assert_eq!((readings.len(), seen.len()), (4, 4), "{seen:?}");
    let announced = system.messages("wildfire-dead-letters", 5);
    assert!(announced.iter().all(|m| m["value"]["reason"] == "bad_json"), "{announced:?}");
    let letters = dead_letters(&system).await;
    assert!(letters.iter().all(|letter| letter["stream"] == "iot_purpleair"), "{letters:?}");
    assert_eq!(system.stop().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_an_alert_over_mqtt_from_nobody_gets_no_puback_and_no_confirmation_can_be_forged() {
    let folder = tempdir().unwrap();
    let system = System::up(&Start::quiet(folder.path()));
    for topic in [
        "alerts/evacuation_alert_butte",
        "alerts/ack/28830e2136098655941b7e0102782b71",
        "$aws/rules/AlertsRule/alerts/x",
        "$aws/rules/streammanager_AlertsRule/alerts/x",
        "$aws/rules/streammanager_SensorsRule/alerts/x",
        "$aws/rules/streammanager_SensorsRule/sensors/smoke",
    ] {
        let mut nobody = Publisher::connect(("127.0.0.1", system.mqtt), "nobody").unwrap();
        nobody.publish(topic, actual("N").as_bytes()).expect_err(topic);
    }
    Publisher::connect(("127.0.0.1", system.mqtt), "nobody")
        .unwrap()
        .publish("sensors/smoke/1/state", b"{}")
        .expect("readings need no name");
    let (_, audit) = system.control(Method::GET, "/audit", None).await;
    let refused = audit["audit"].as_array().unwrap().iter().filter(|entry| entry["action"] == "refused").count();
    assert_eq!(refused, 6, "{audit}");
    assert_eq!(system.stop().1["ledger"]["delivered"].get("wildfire-critical-alerts"), None);
}

/// AWS IoT's Basic Ingest: what goes straight to a rule is known by its topic, and costs no message.
#[tokio::test(flavor = "multi_thread")]
async fn l5_a_reading_that_goes_straight_to_its_rule_is_a_reading_of_its_topic() {
    let folder = tempdir().unwrap();
    let system = System::up(&Start::quiet(folder.path()));
    let mut sensor = Publisher::connect(("127.0.0.1", system.mqtt), "ridge").unwrap();
    let topic = "sensors/purpleair/7/state";
    sensor.publish(topic, &reading(1_780_000_000)).unwrap();
    sensor.publish(&format!("$aws/rules/streammanager_SensorsRule/{topic}"), &reading(1_780_000_060)).unwrap();
    let readings = system.messages("wildfire-iot-sensors", 2);
    let by_key: BTreeSet<&str> = readings.iter().map(|message| message["key"].as_str().unwrap()).collect();
    let seen: BTreeSet<&str> = readings.iter().map(|m| m["value"]["observed_at"].as_str().unwrap()).collect();
    assert_eq!((by_key.len(), seen.len()), (1, 2), "{readings:?}");
    assert_eq!(system.stop().0, 0);
}

/// As on AWS a handler runs to its end, whoever still listens: what it accepted is counted and delivered.
#[tokio::test(flavor = "multi_thread")]
async fn q1_a_sender_that_hangs_up_unbalances_nothing() {
    let folder = tempdir().unwrap();
    let broker = System::up(&Start::quiet(&folder.path().join("broker")));
    let start = Start { kafka: broker.kafka.clone(), ..Start::quiet(&folder.path().join("system")) };
    let system = System::up(&start);
    let key = system.sender("butte").await;
    assert_eq!(system.alert(&key, actual("H")).await.unwrap().0, 200);
    broker.signal("-STOP");
    for number in 0..20_u64 {
        let body = actual(&format!("H{number}"));
        let head = format!(
            "POST /alerts HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", system.http)).await.unwrap();
        socket.write_all((head + &body).as_bytes()).await.unwrap();
        // From before the queue is asked until after it has answered.
        tokio::time::sleep(std::time::Duration::from_millis(number * 5)).await;
    }
    broker.signal("-CONT");
    let (_, ledger) = system.stop();
    assert_eq!(ledger["ledger"]["balanced"], true, "{ledger}");
    assert!(ledger["ledger"]["accepted"].as_u64() >= Some(15), "little is proved: {ledger}");
}

/// A6: a body that does not come is not waited for, and its sender hears so.
#[tokio::test(flavor = "multi_thread")]
async fn a6_a_sender_that_stops_in_its_body_is_told_and_let_go() {
    let folder = tempdir().unwrap();
    let system = System::up(&Start::quiet(folder.path()));
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", system.http)).await.unwrap();
    socket.write_all(b"POST /alerts HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(std::time::Duration::from_secs(60), socket.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("did not arrive"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rows_of_a_source_are_rejected_alone_and_an_error_text_is_its_own_trouble() {
    let upstream = FakeUpstream::serve(|number| match number {
        0 => {
            let mut rows: Vec<String> = firms_csv(0, 10).lines().map(str::to_owned).collect();
            rows[3] = rows[3].replace("34.02", "94.02");
            rows[5].truncate(20);
            rows.join("\n")
        }
        1 => "Invalid API call.".to_owned(),
        _ => firms_csv(0, 12),
    });
    let folder = tempdir().unwrap();
    let mut start = Start::quiet(folder.path());
    let stream = FIRMS_STREAM.replace("60s", "2s");
    std::fs::write(&start.streams, stream).unwrap();
    start.upstream = Some(upstream.url.clone());
    let system = System::up(&start);
    // The third answer has all twelve rows in good order.
    assert_eq!(system.messages("wildfire-nasa-firms", 12).len(), 12);
    let letters = dead_letters(&system).await;
    let mut found: Vec<(&str, &Value)> =
        letters.iter().map(|letter| (letter["reason"].as_str().unwrap(), &letter["row"])).collect();
    found.sort_by_key(|(reason, _)| *reason);
    assert_eq!(found, [("bad_latitude", &json!(3)), ("short_row", &json!(5))], "{letters:?}");
    let (_, status) = system.control(Method::GET, "/streams/snpp", None).await;
    assert_eq!((&status["records_processed"], &status["records_failed"]), (&json!(12), &json!(2)), "{status}");
    assert_eq!(system.stop().0, 0);
}
