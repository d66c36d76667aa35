//! Messages from the brokers of agencies [S18, Q1, E5], taken as an MQTT client: from another system's endpoint, and from
//! Mosquitto where it is installed.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Method;
use serde_json::Value;
use streammanager::time::{Clock, rfc3339};
use streammanager_host::publisher::Publisher;
use streammanager_tests::bodies::actual;
use streammanager_tests::system::{Start, System};
use streammanager_tests::{binary, free_port, skip};
use tempfile::tempdir;

const READINGS: &str = "wildfire-iot-sensors";

/// A streams file with one broker.
fn broker(folder: &Path, broker: &str) -> std::path::PathBuf {
    let path = folder.join("agency.yaml");
    std::fs::write(&path, format!("version: 1\nmqtt:\n  - {broker}\n")).unwrap();
    path
}

fn reading(n: usize) -> String {
    format!(r#"{{"temp_c": 20, "n": {n}, "time": {}}}"#, 1_793_500_000 + n)
}

async fn connection(system: &System) -> Value {
    let (status, answer) = system.control(Method::GET, "/status", None).await;
    assert_eq!(status, 200, "{answer}");
    answer["mqtt"][0].clone()
}

async fn until(system: &System, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let connection = connection(system).await;
        if is_it(&connection) {
            return connection;
        }
        assert!(Instant::now() < deadline, "{what}: {connection}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn connected(system: &System) {
    until(system, "it does not connect", |connection| connection["connected"] == true).await;
}

/// Distinct events on the topic of readings.
fn events(system: &System, want: usize) -> BTreeSet<String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let messages = system.messages(READINGS, system.count(READINGS));
        let events: BTreeSet<String> =
            messages.iter().map(|message| message["value"]["event_id"].as_str().unwrap().to_owned()).collect();
        if events.len() >= want || Instant::now() > deadline {
            return events;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn q1_nothing_that_an_agencys_broker_may_forget_is_lost_by_kills() {
    const MESSAGES: usize = 600;
    let (theirs, ours) = (tempdir().unwrap(), tempdir().unwrap());
    let agency = System::up(&Start::quiet(theirs.path()));
    let url = format!("mqtt://127.0.0.1:{}", agency.mqtt);
    let streams = broker(
        ours.path(),
        &format!("{{id: butte, url: '{url}', topics: [{{filter: 'tele/+/SENSOR', kind: butte_tasmota, device: 2}}]}}"),
    );
    let start = Start { streams, ..Start::quiet(ours.path()) };
    let mut system = System::up(&start);
    connected(&system).await;

    let port = agency.mqtt;
    let sender = std::thread::spawn(move || {
        let mut publisher = Publisher::connect(("127.0.0.1", port), "devices").unwrap();
        for n in 0..MESSAGES {
            publisher.publish(&format!("tele/ridge-{}/SENSOR", n % 7), reading(n).as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        system.kill();
        system = System::up(&start);
        connected(&system).await;
    }
    sender.join().unwrap();
    let events = events(&system, MESSAGES);
    assert_eq!(events.len(), MESSAGES, "readings that the agency's broker handed over are lost");
    let one = system.messages(READINGS, 1).remove(0)["value"].clone();
    assert_eq!(one["source_id"], "iot_butte_tasmota");
    assert!(one["data"]["sensor_id"].as_str().unwrap().starts_with("ridge-"), "{one}");
    let (code, ledger) = system.stop();
    assert_eq!(code, 0, "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn e5_alerts_of_an_agencys_broker_need_a_granted_sender() {
    let (theirs, ours) = (tempdir().unwrap(), tempdir().unwrap());
    let agency = System::up(&Start::quiet(theirs.path()));
    let url = format!("mqtt://127.0.0.1:{}", agency.mqtt);
    let topics = "topics: [{filter: 'evac/+', alerts_as: evacuation_alert_butte}]";
    let bare = broker(ours.path(), &format!("{{id: butte, url: '{url}', {topics}}}"));
    let refused = Command::new(binary()).arg("streams").arg("check").arg(&bare).output().unwrap();
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    let says = "mqtt[0].topics[0].alerts_as: alerts as evacuation_alert_butte are taken from another's broker only under a granted sender";
    assert!(error.contains(says), "{error}");

    let quiet = Start::quiet(ours.path());
    let system = System::up(&quiet);
    let key = system.sender("butte").await;
    system.stop();
    let granted = broker(
        ours.path(),
        &format!("{{id: butte, url: '{url}', connector: butte, key_setting: BUTTE_KEY, {topics}}}"),
    );
    let wrong = vec![("BUTTE_KEY".to_owned(), "smk_butte:wrong".to_owned())];
    let start = Start { streams: granted, variables: wrong, ..quiet };
    let system = System::up(&start);
    let lost = until(&system, "a wrong key", |connection| connection["problem"].is_string()).await;
    assert_eq!(lost["problem"], "BUTTE_KEY does not hold the key of the sender butte");
    system.stop();

    let start = Start { variables: vec![("BUTTE_KEY".to_owned(), key)], ..start };
    let system = System::up(&start);
    connected(&system).await;
    let mut publisher = Publisher::connect(("127.0.0.1", agency.mqtt), "county").unwrap();
    publisher.publish("evac/zone-12", actual("E-1").as_bytes()).unwrap();
    let alert = system.messages("wildfire-critical-alerts", 1).remove(0);
    assert_eq!(alert["value"]["source_id"], "evacuation_alert_butte");
}

/// Mosquitto with TLS and a password, on ports of its own.
struct Mosquitto {
    child: Child,
    port: u16,
}

impl Mosquitto {
    fn start(folder: &Path, port: u16) -> Mosquitto {
        let options = format!(
            "cafile {0}/ca.pem\ncertfile {0}/server.pem\nkeyfile {0}/server.key\nallow_anonymous false\n\
             password_file {0}/passwords\npersistence true\npersistence_location {0}/\nautosave_interval 1\n",
            folder.display()
        );
        Mosquitto::with(folder, port, &options)
    }

    /// For anybody, and it forgets everything when it ends.
    fn open(folder: &Path, port: u16) -> Mosquitto {
        Mosquitto::with(folder, port, "allow_anonymous true\n")
    }

    fn with(folder: &Path, port: u16, options: &str) -> Mosquitto {
        let config = folder.join("mosquitto.conf");
        std::fs::write(&config, format!("listener {port} 127.0.0.1\n{options}")).unwrap();
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "Mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Mosquitto { child, port }
    }

    fn publish(&self, folder: &Path, topic: &str, payload: &str, retained: bool) {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "--cafile"]).arg(folder.join("ca.pem"));
        command.args(["-u", "agency", "-P", "smoke-column", "-q", "1", "-t", topic, "-m", payload]);
        if retained {
            command.arg("-r");
        }
        assert!(command.status().unwrap().success());
    }

    fn stop(mut self) {
        streammanager_tests::system::signal(&self.child, "-TERM");
        self.child.wait().unwrap();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority, and a server's certificate of it for 127.0.0.1.
fn certificates(folder: &Path) {
    let script = r#"cd "$1" && key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -batch"
        openssl req -x509 $key -keyout ca.key -out ca.pem -subj /CN=authority -days 30 &&
        openssl req $key -keyout server.key -out server.csr -subj /CN=broker &&
        printf 'subjectAltName=IP:127.0.0.1\n' > names &&
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names -out server.pem &&
        touch passwords && chmod 600 passwords && mosquitto_passwd -b passwords agency smoke-column && chmod 644 *.key passwords"#;
    let made = Command::new("sh").args(["-c", script, "sh"]).arg(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // Mosquitto gives up root for a user of its own.
    let _ = Command::new("chmod").args(["-R", "a+rwX"]).arg(folder).status();
}

#[tokio::test(flavor = "multi_thread")]
async fn s18_mosquitto_with_tls_and_a_password_is_read_and_its_troubles_are_told() {
    let there = |program: &str| Command::new(program).arg("--help").output().is_ok();
    if !["mosquitto", "mosquitto_pub", "mosquitto_passwd", "openssl"].into_iter().all(there) {
        return skip("an agency's Mosquitto", "mosquitto, its clients or openssl are not installed");
    }
    let (theirs, ours) = (tempdir().unwrap(), tempdir().unwrap());
    certificates(theirs.path());
    let port = free_port();
    let mosquitto = Mosquitto::start(theirs.path(), port);
    mosquitto.publish(theirs.path(), "tele/old/SENSOR", &reading(0), true);
    let url = format!("mqtts://127.0.0.1:{port}");
    let broker = |with: &str| {
        let topics = "topics: [{filter: 'tele/+/SENSOR', kind: county, device: 2}]";
        broker(
            ours.path(),
            &format!("{{id: county, url: '{url}', user: agency, password_setting: COUNTY_PASSWORD, {with}{topics}}}"),
        )
    };
    let quiet = Start::quiet(ours.path());
    let ca = format!("ca_file: {}/ca.pem, ", theirs.path().display());
    let password = |text: &str| vec![("COUNTY_PASSWORD".to_owned(), text.to_owned())];
    for (with, variables, words) in [
        ("", password("smoke-column"), "not signed by an authority that is trusted here"),
        (&*ca, password("wrong"), "the broker refuses the connection: "),
        (&*ca, password(""), "COUNTY_PASSWORD is not set"),
    ] {
        let folder = tempdir().unwrap();
        let start = Start { streams: broker(with), variables, ..Start::quiet(folder.path()) };
        let system = System::up(&start);
        let lost = until(&system, words, |connection| connection["problem"].is_string()).await;
        assert!(lost["problem"].as_str().unwrap().contains(words), "{lost}");
        let (_, said) = system.stop_saying();
        assert!(said.iter().any(|said| said["event"] == "source_failing" && said["stream"] == "county"), "{said:?}");
    }

    let system = System::up(&Start { streams: broker(&ca), variables: password("smoke-column"), ..quiet });
    connected(&system).await;
    mosquitto.publish(theirs.path(), "tele/w1/SENSOR", &reading(1), false);
    assert_eq!(events(&system, 1).len(), 1);
    let numbers: Vec<Value> =
        system.messages(READINGS, 1).iter().map(|m| m["value"]["data"]["reported"]["n"].clone()).collect();
    assert_eq!(numbers, [1], "a retained reading is of an unknown age, and is not taken");

    mosquitto.stop();
    let lost = until(&system, "it is not told that it is lost", |connection| connection["connected"] == false).await;
    assert!(lost["since"].is_string() && lost["problem"].is_string(), "{lost}");
    let mosquitto = Mosquitto::start(theirs.path(), port);
    // The broker keeps it for the session, which outlives both.
    mosquitto.publish(theirs.path(), "tele/w2/SENSOR", &reading(2), false);
    connected(&system).await;
    assert_eq!(events(&system, 2).len(), 2);
    let shown = Command::new(binary())
        .args(["status", "--endpoint", system.url("").trim_end_matches('/'), "--data"])
        .arg(ours.path().join("data"))
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("mqtt     county connected since "), "{shown}");
}

/// At an open Mosquitto, with what `more` says of the payload.
fn send(port: u16, topic: &str, more: &[&str]) {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", topic]).args(more);
    assert!(command.status().unwrap().success());
}

async fn dead_letters(system: &System, want: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (_, listed) = system.control(Method::GET, "/dead-letters", None).await;
        let letters = listed["dead_letters"].as_array().cloned().unwrap_or_default();
        if letters.len() >= want || Instant::now() > deadline {
            return letters;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn q1_one_message_that_cannot_be_taken_holds_nothing_else_up_and_what_is_left_is_counted() {
    let there = |program: &str| Command::new(program).arg("--help").output().is_ok();
    if !["mosquitto", "mosquitto_pub"].into_iter().all(there) {
        return skip("an agency's Mosquitto", "mosquitto or its clients are not installed");
    }
    let (theirs, ours) = (tempdir().unwrap(), tempdir().unwrap());
    let port = free_port();
    let mosquitto = Mosquitto::open(theirs.path(), port);
    for topic in ["tele/old/SENSOR", "tele/older/SENSOR"] {
        send(port, topic, &["-r", "-m", &reading(0)]);
    }
    let streams = broker(
        ours.path(),
        &format!(
            "{{id: butte, url: 'mqtt://127.0.0.1:{port}', topics: [{{filter: 'tele/+/SENSOR', kind: butte, device: 2}}]}}"
        ),
    );
    let system = System::up(&Start { streams, ..Start::quiet(ours.path()) });
    connected(&system).await;

    let large = theirs.path().join("large");
    std::fs::write(&large, vec![b'x'; 700_000]).unwrap();
    send(port, "tele/camera/SENSOR", &["-f", large.to_str().unwrap()]);
    send(port, "tele/w1/SENSOR", &["-m", &reading(1)]);
    assert_eq!(events(&system, 1).len(), 1, "a message that is too large holds up what is behind it");
    let letters = dead_letters(&system, 1).await;
    let detail = letters[0]["detail"].as_str().unwrap_or_default();
    assert_eq!(letters[0]["reason"], "too_large");
    assert!(letters.len() == 1 && detail.starts_with("700000 bytes on a topic of 18: "), "{letters:?}");
    assert!(detail.ends_with("; its end is not kept"), "{detail}");
    assert_eq!(connection(&system).await["connected"], true);

    drop(mosquitto);
    until(&system, "it is not told that it is lost", |connection| connection["connected"] == false).await;
    let _mosquitto = Mosquitto::open(theirs.path(), port);
    connected(&system).await;
    let metrics = system.page("/metrics").await.unwrap();
    let counted = |line: &str| assert!(metrics.lines().any(|there| there == line), "{line}: {metrics}");
    counted(r#"stream_mqtt_messages_left_total{broker="butte",because="retained, its age is not known"} 2"#);
    counted(r#"stream_mqtt_sessions_lost_total{broker="butte"} 1"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn e5_an_alert_without_a_grant_is_kept_and_the_next_one_with_a_grant_is_published() {
    let (theirs, ours) = (tempdir().unwrap(), tempdir().unwrap());
    let agency = System::up(&Start::quiet(theirs.path()));
    let quiet = Start::quiet(ours.path());
    let system = System::up(&quiet);
    let key = system.sender("butte").await;
    system.stop();
    let topics = "[{filter: 'fire/+', alerts_as: evacuation_alert_other}, {filter: 'evac/+', alerts_as: evacuation_alert_butte}]";
    let url = format!("mqtt://127.0.0.1:{}", agency.mqtt);
    let streams = broker(
        ours.path(),
        &format!("{{id: butte, url: '{url}', connector: butte, key_setting: BUTTE_KEY, topics: {topics}}}"),
    );
    let system = System::up(&Start { streams, variables: vec![("BUTTE_KEY".to_owned(), key)], ..quiet });
    connected(&system).await;
    let mut publisher = Publisher::connect(("127.0.0.1", agency.mqtt), "county").unwrap();
    publisher.publish("fire/zone-1", actual("E-1").as_bytes()).unwrap();
    publisher.publish("evac/zone-2", actual("E-2").as_bytes()).unwrap();
    let alert = system.messages("wildfire-critical-alerts", 1).remove(0);
    assert_eq!(alert["value"]["source_id"], "evacuation_alert_butte");
    let letters = dead_letters(&system, 1).await;
    assert!(letters.len() == 1 && letters[0]["reason"] == "unauthorised_source", "{letters:?}");
    let letter = format!("/dead-letters/{}", letters[0]["id"].as_str().unwrap());
    let (_, shown) = system.control(Method::GET, &letter, None).await;
    assert_eq!(shown["base64"], BASE64.encode(actual("E-1")), "its bytes are not kept: {shown}");
    assert_eq!(connection(&system).await["connected"], true);
}

/// A broker gives what it retained to everybody who subscribes, however old it is.
#[tokio::test(flavor = "multi_thread")]
async fn e4_a_retained_alert_of_weeks_ago_does_not_ring_again_and_is_kept() {
    let there = |program: &str| Command::new(program).arg("--help").output().is_ok();
    if !["mosquitto", "mosquitto_pub"].into_iter().all(there) {
        return skip("an agency's Mosquitto", "mosquitto or its clients are not installed");
    }
    let (theirs, ours) = (tempdir().unwrap(), tempdir().unwrap());
    let port = free_port();
    let _mosquitto = Mosquitto::open(theirs.path(), port);
    let old = actual("E-1");
    let sent = serde_json::from_str::<Value>(&old).unwrap()["sent"].as_str().unwrap().to_owned();
    let of_now = actual("E-2").replace(&sent, &rfc3339(Clock::system().now()));
    send(port, "evac/zone-1", &["-r", "-m", &old]);
    send(port, "evac/zone-2", &["-r", "-m", &of_now]);
    let quiet = Start::quiet(ours.path());
    let system = System::up(&quiet);
    let key = system.sender("butte").await;
    system.stop();
    let streams = broker(
        ours.path(),
        &format!(
            "{{id: butte, url: 'mqtt://127.0.0.1:{port}', connector: butte, key_setting: BUTTE_KEY, \
             topics: [{{filter: 'evac/+', alerts_as: evacuation_alert_butte}}]}}"
        ),
    );
    let system = System::up(&Start { streams, variables: vec![("BUTTE_KEY".to_owned(), key)], ..quiet });
    let letters = dead_letters(&system, 1).await;
    assert!(letters.len() == 1 && letters[0]["reason"] == "bad_time", "{letters:?}");
    let letter = format!("/dead-letters/{}", letters[0]["id"].as_str().unwrap());
    let (_, shown) = system.control(Method::GET, &letter, None).await;
    assert_eq!(shown["base64"], BASE64.encode(&old), "its bytes are not kept: {shown}");
    let alerts = system.messages("wildfire-critical-alerts", 1);
    assert!(alerts.len() == 1 && alerts[0]["value"].to_string().contains("E-2"), "{alerts:?}");
}
