//! Alerts over the emulator's MQTT endpoint [E4, E5]: refused before the PUBACK, kept, and seen by no subscriber; what one
//! client publishes keeps its order.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use streammanager_host::publisher::Publisher;
use streammanager_tests::bodies::{actual, alert};
use streammanager_tests::skip;
use streammanager_tests::system::{Start, System};
use tempfile::tempdir;

const SOURCE: &str = "alerts/evacuation_alert_butte";

#[tokio::test(flavor = "multi_thread")]
async fn e5_refused_alerts_are_kept_told_to_their_sender_and_seen_by_nobody() {
    if !super::has_mosquitto() {
        return skip("refusals of alerts over MQTT", "mosquitto_pub is not installed");
    }
    let folder = tempdir().unwrap();
    let system = System::up(&Start::quiet(folder.path()));
    let key = system.sender("butte").await;
    let mosquitto = |program: &str| {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &system.mqtt.to_string(), "-u", "butte", "-P", &key, "-q", "1"]);
        command
    };
    let mut subscriber = mosquitto("mosquitto_sub");
    subscriber.args(["-i", "watch", "-t", "alerts/#", "-v", "-W", "60"]).stdout(Stdio::piped());
    let mut subscriber = subscriber.spawn().unwrap();
    let mut heard = BufReader::new(subscriber.stdout.take().unwrap()).lines().map(Result::unwrap);
    let publish = |topic: &str, body: &str| {
        let sent = mosquitto("mosquitto_pub").args(["-V", "mqttv5", "-t", topic, "-m", body]).output().unwrap();
        String::from_utf8_lossy(&sent.stderr).into_owned()
    };
    // Until the subscription stands.
    let mut first = 0;
    let mut confirmed = |wanted: &dyn Fn(&str) -> bool| {
        let mut before = Vec::new();
        loop {
            let line = heard.next().expect("the subscriber ended");
            if wanted(&line) {
                return before;
            }
            before.push(line);
        }
    };
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            confirmed(&|line| line.starts_with("alerts/ack/"));
            tell.send(()).unwrap();
        });
        while told.recv_timeout(std::time::Duration::from_millis(300)).is_err() {
            first += 1;
            assert_eq!(publish(SOURCE, &actual(&format!("first-{first}"))), "");
        }
        waiting.join().unwrap();
    });

    for (topic, body, said, reason) in [
        ("alerts/evacuation_alert_yuba", actual("foreign"), "Not authorized", "unauthorised_source"),
        ("alerts/evacuation_alert_butte/deep", actual("deep"), "Not authorized", "unauthorised_source"),
        (SOURCE, "{\"id\": \"cut".to_owned(), "Payload format invalid", "bad_json"),
        (SOURCE, actual("nowhere").replace("\"area\"", "\"aria\""), "Payload format invalid", "missing_field"),
    ] {
        let warned = publish(topic, &body);
        assert!(warned.contains(said), "{topic} {body}: {warned:?}");
        let before = confirmed(&|line| line.starts_with("alerts/refused/butte ") && line.contains(reason));
        assert!(before.iter().all(|line| !line.starts_with(topic)), "{topic} was seen: {before:?}");
    }
    assert_eq!(publish(SOURCE, &actual("last")), "");
    let before = confirmed(&|line| line.starts_with(SOURCE) && line.contains("last"));
    assert!(before.iter().all(|line| !line.contains("nowhere") && !line.contains("cut")), "{before:?}");
    let (_, letters) = system.control(Method::GET, "/dead-letters", None).await;
    let reasons: Vec<&Value> =
        letters["dead_letters"].as_array().unwrap().iter().map(|letter| &letter["reason"]).collect();
    assert_eq!(reasons.len(), 4, "{letters}");
    for letter in letters["dead_letters"].as_array().unwrap() {
        let sender = &letter["sender"];
        let told = ["topic", "client", "principal"]
            .iter()
            .all(|field| sender[*field].as_str().is_some_and(|text| !text.is_empty()));
        assert!(told && sender["topic"].as_str().unwrap().starts_with("alerts/"), "{letter}");
    }

    // A key that is revoked while its connection is open.
    let mut open = Publisher::connect_as(("127.0.0.1", system.mqtt), "open", "butte", &key).unwrap();
    open.publish(SOURCE, actual("before").as_bytes()).unwrap();
    assert_eq!(system.control(Method::DELETE, "/connectors/butte", None).await.0, 200);
    open.publish(SOURCE, actual("after").as_bytes()).expect_err("no PUBACK");
    let (_, letters) = system.control(Method::GET, "/dead-letters", None).await;
    assert_eq!(letters["dead_letters"].as_array().unwrap().len(), 5, "{letters}");
    subscriber.kill().unwrap();
    subscriber.wait().unwrap();
    system.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn e4_what_one_client_publishes_at_once_keeps_the_order_of_each_thread() {
    let folder = tempdir().unwrap();
    let system = System::up(&Start::quiet(folder.path()));
    let key = system.sender("butte").await;
    let threads = 40;
    let mut client = Publisher::connect_as(("127.0.0.1", system.mqtt), "butte", "butte", &key).unwrap();
    let bodies = (0..threads).flat_map(|n| {
        let name = |place: &str| format!("T{n}-{place}");
        let first = name("0");
        [
            actual(&first),
            alert(&name("1"), "Actual", "Update", &[&first]),
            alert(&name("2"), "Actual", "Cancel", &[&first]),
        ]
    });
    let acknowledged = client.publish_all(SOURCE, bodies.map(String::into_bytes)).unwrap();
    assert_eq!(acknowledged, threads * 3);
    let mut order: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
    for message in system.messages("wildfire-critical-alerts", threads * 3) {
        let name = message["value"]["data"]["identifier"].as_str().unwrap();
        let (thread, place) = name.split_once('-').unwrap();
        let offset = message["offset"].as_i64().unwrap();
        let of_thread = order.entry(thread.to_owned()).or_default();
        if of_thread.iter().all(|(_, known)| known != place) {
            of_thread.push((offset, place.to_owned()));
        }
        assert_eq!(message["value"]["quality"], json!([]), "nothing had to go on without what it refers to");
    }
    assert_eq!(order.len(), threads);
    for (thread, mut places) in order {
        places.sort();
        let places: Vec<&str> = places.iter().map(|(_, place)| place.as_str()).collect();
        assert_eq!(places, ["0", "1", "2"], "{thread}");
    }
    assert_eq!(system.stop().0, 0);
}

/// A3: what has no acknowledgement to hold back is taken, for its client may leave at once; the flood is told all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a3_a_flood_over_mqtt_without_acknowledgements_loses_nothing_when_its_client_leaves() {
    if !super::has_mosquitto() {
        return skip("a flood over MQTT without acknowledgements", "mosquitto_pub is not installed");
    }
    // Twelve at once, and within the ten seconds that the endpoint finishes in after a client has left twenty more.
    const SENT: usize = 60;
    let folder = tempdir().unwrap();
    let variables = vec![("STREAMMANAGER_SENDER_ALERTS_PER_SECOND".into(), "2".into())];
    let system = System::up(&Start { variables, ..Start::quiet(folder.path()) });
    let key = system.sender("butte").await;
    let mut mosquitto = Command::new("mosquitto_pub");
    mosquitto.args(["-h", "127.0.0.1", "-p", &system.mqtt.to_string(), "-u", "butte", "-P", &key, "-q", "0"]);
    let mut flood = mosquitto.args(["-t", SOURCE, "-l"]).stdin(Stdio::piped()).spawn().unwrap();
    let lines: String = (0..SENT).map(|n| actual(&format!("Q-{n:02}")) + "\n").collect();
    flood.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(flood.wait().unwrap().success());
    let published = system.messages("wildfire-critical-alerts", SENT);
    let ids: BTreeSet<&str> =
        published.iter().map(|one| one["value"]["data"]["identifier"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), SENT);
    let (_, audit) = system.control(Method::GET, "/audit", None).await;
    let refused = audit["audit"].as_array().unwrap().iter().filter(|entry| entry["action"] == "refused");
    assert_eq!(refused.count(), 1, "{audit}");
    assert!(system.page("/metrics").await.unwrap().contains("stream_alerts_throttled_total{connector=\"butte\"}"));
}

/// A3: a sender that floods over MQTT is held back at its pace, by the bucket of `POST /alerts`: its PUBACKs come late, in order and all of
/// them; a sender that keeps its pace waits for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a3_a_flood_over_mqtt_is_held_back_and_nothing_of_it_is_lost() {
    const BURST: usize = 12;
    const SENT: usize = 20;
    let folder = tempdir().unwrap();
    let variables = vec![("STREAMMANAGER_SENDER_ALERTS_PER_SECOND".into(), "2".into())];
    let system = System::up(&Start { variables, ..Start::quiet(folder.path()) });
    let (flooder, other) = (system.sender("butte").await, system.sender("yuba").await);
    let (mqtt, key) = (system.mqtt, flooder.clone());
    let began = std::time::Instant::now();
    let flood = tokio::task::spawn_blocking(move || {
        let mut client = Publisher::connect_as(("127.0.0.1", mqtt), "flood", "butte", &key).unwrap();
        let alerts = (0..SENT).map(|n| alert(&format!("F-{n:02}"), "Actual", "Alert", &[]).into_bytes());
        client.publish_all("alerts/evacuation_alert_butte", alerts).unwrap()
    });
    // The bucket is one for both doors, once it is empty.
    while system.count("wildfire-critical-alerts") < BURST {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (mut taken, mut too_fast) = (0, 0);
    for n in 0..BURST {
        match system.alert(&flooder, actual(&format!("H-{n}"))).await.unwrap().0 {
            200 => taken += 1,
            status => too_fast += usize::from(status == 429),
        }
        let (status, answer) = system.alert(&other, actual(&format!("Y-{n}"))).await.unwrap();
        assert_eq!(status, 200, "another sender is refused: {answer}");
    }
    assert!(too_fast > 0 && taken + too_fast == BURST, "{taken} taken, {too_fast} too fast");
    assert!(!flood.is_finished(), "the flood was not held back");

    assert_eq!(flood.await.unwrap(), SENT, "PUBACKs");
    let least = Duration::from_secs((SENT - BURST) as u64 / 2) - Duration::from_millis(500);
    assert!(began.elapsed() >= least, "{SENT} were taken in {:?}", began.elapsed());
    let published = system.messages("wildfire-critical-alerts", SENT + BURST + taken);
    let mut ids: Vec<&str> = published.iter().map(|one| one["value"]["data"]["identifier"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids.iter().filter(|id| id.starts_with("F-")).count(), SENT, "{ids:?}");
    let (_, audit) = system.control(Method::GET, "/audit", None).await;
    let refused = audit["audit"].as_array().unwrap().iter().filter(|entry| entry["action"] == "refused");
    assert_eq!(refused.count(), 1, "once, however many were held back: {audit}");
    assert!(system.page("/metrics").await.unwrap().contains("stream_alerts_throttled_total{connector=\"butte\"}"));
}
