//! `kill -9` at twenty seeded points while outside clients send: whatever they saw acknowledged is in Kafka afterwards, and
//! what is there twice is known, bounded and counted [Q1, K6, R5].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use streammanager::limits::{BULK_IN_FLIGHT_ENVELOPES, CRITICAL_PARALLEL};
use streammanager_host::publisher::Publisher;
use streammanager_tests::bodies::actual;
use streammanager_tests::kafka_clients::target::Target;
use streammanager_tests::kafka_clients::tools::kcat;
use streammanager_tests::published::assert_valid;
use streammanager_tests::system::{Start, System};
use tempfile::tempdir;

const KILLS: u64 = 20;
/// A life has so many alerts acknowledged before its kill may come.
const LIFE_ALERTS: u64 = 2;
/// Readings that are offered at once.
const BURST: usize = 100;
/// Readings of an envelope at most: a batch of the stream, as the template asks for it.
const ENVELOPE_READINGS: usize = 1_000;
/// Of one life; more than the envelopes that may be in flight hold, so that K6's bound can be broken.
const READINGS: u64 = 9_900;
const ALERTS: &str = "wildfire-critical-alerts";
const SENSORS: &str = "wildfire-iot-sensors";

/// Where the broker is.
enum Broker<'a> {
    /// The embedded endpoint of the system itself: every kill is its kill too.
    Inside,
    /// Another process, which stands still before most kills: then the queues cannot run dry before the kill hits.
    Beside(&'a System),
}

/// What outside clients saw acknowledged, and what the system said of itself.
#[derive(Default)]
struct Seen {
    /// Event ids of alerts answered with 200.
    alerts: BTreeSet<String>,
    /// Of these, the ones that the queue acknowledged: the broker may have them as well [E2].
    hedged: usize,
    /// Observation times of readings with a PUBACK.
    readings: BTreeSet<u64>,
    /// Kills that found records in the queues.
    hits: u64,
    redelivered: u64,
}

/// The time at which reading `number` of life `life` was observed: tells the two again.
fn observed(life: u64, number: u64) -> u64 {
    1_780_000_000 + life * 10_000 + number
}

fn life_of(observed: u64) -> u64 {
    (observed - 1_780_000_000) / 10_000
}

fn reading(observed: u64) -> Vec<u8> {
    let sensor = observed % 50;
    json!({ "sensor_index": sensor, "latitude": 36.0 + sensor as f64 * 0.1, "longitude": -121.0, "last_seen": observed, "humidity": 42 })
        .to_string()
        .into_bytes()
}

/// The same points in every run.
fn seeded(kill: u64, salt: u64, below: u64) -> Duration {
    Duration::from_millis((kill.wrapping_mul(7919).wrapping_add(salt.wrapping_mul(104_729))) % below)
}

/// Publishes bursts until the system is gone; gives what was acknowledged.
fn publish_readings(port: u16, life: u64) -> BTreeSet<u64> {
    let mut acknowledged = BTreeSet::new();
    let Ok(mut publisher) = Publisher::connect(("127.0.0.1", port), "kills") else { return acknowledged };
    for first in (0..READINGS).step_by(BURST) {
        let burst: Vec<u64> = (first..first + BURST as u64).map(|number| observed(life, number)).collect();
        let acks = publisher.publish_all("sensors/purpleair/7/state", burst.iter().map(|at| reading(*at)));
        let Ok(acks) = acks else { break };
        acknowledged.extend(&burst[..acks]);
    }
    acknowledged
}

async fn send_alerts(system: &System, key: &str, life: u64, seen: &mut Seen, answered: &AtomicU64) {
    for number in 0.. {
        if let Ok((200, answer)) = system.alert(key, actual(&format!("K{life}-{number}"))).await {
            let accepted = &answer["accepted"][0];
            seen.alerts.insert(accepted["event_id"].as_str().unwrap().to_owned());
            seen.hedged += usize::from(accepted["acknowledged_by"] == "queue");
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn queued(system: &System) -> u64 {
    let status: Value = serde_json::from_str(&system.page("/status").await.unwrap()).unwrap();
    let depths = status["queues"].as_object().unwrap().values().flat_map(|queue| queue.as_object().unwrap().values());
    depths.map(|depth| depth.as_u64().unwrap()).sum()
}

/// Comes back at the point at which the kill has to hit.
async fn the_point(system: &System, broker: &Broker<'_>, kill: u64, answered: &AtomicU64) {
    let enough = async {
        while answered.load(Ordering::Relaxed) < LIFE_ALERTS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), enough).await.expect("alerts are acknowledged");
    tokio::time::sleep(seeded(kill, 1, 300)).await;
    match broker {
        // One kill in ten hits wherever it does.
        Broker::Beside(broker) if kill % 10 != 9 => broker.signal("-STOP"),
        Broker::Beside(_) => return,
        Broker::Inside => {}
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if queued(system).await > 0 {
            tokio::time::sleep(seeded(kill, 2, 50)).await;
            // What the broker acknowledged before it stood still may have been all there was.
            if queued(system).await > 0 {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until everything that was accepted is delivered, and adds up what was delivered again.
async fn drain(system: &System, seen: &mut Seen) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let metrics = system.page("/metrics").await.unwrap();
        let waits =
            |line: &&str| line.starts_with("stream_queue_depth{") || line.starts_with("stream_unread_readings ");
        let waiting: Vec<&str> = metrics.lines().filter(waits).filter(|line| !line.ends_with(" 0")).collect();
        if waiting.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "still waiting a minute after the start: {waiting:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let status: Value = serde_json::from_str(&system.page("/status").await.unwrap()).unwrap();
    seen.redelivered += status["delivered_by_this_process"]["redelivered"].as_u64().unwrap();
}

/// Twenty lives, each ended by a kill; gives the last system, which has delivered everything.
async fn lives(start: &Start, broker: &Broker<'_>) -> (System, Seen) {
    let mut seen = Seen::default();
    let mut system = System::up(start);
    let key = system.sender("butte").await;
    for life in 0..KILLS {
        let (port, answered) = (system.mqtt, AtomicU64::new(0));
        let readings = std::thread::spawn(move || publish_readings(port, life));
        tokio::select! {
            () = send_alerts(&system, &key, life, &mut seen, &answered) => {}
            () = the_point(&system, broker, life, &answered) => {}
        }
        system.kill();
        if let Broker::Beside(broker) = broker {
            broker.signal("-CONT");
        }
        seen.readings.extend(readings.join().unwrap());
        system = System::up(start);
        seen.hits += u64::from(system.started["started"]["queued_at_start"].as_u64().unwrap() > 0);
        drain(&system, &mut seen).await;
    }
    (system, seen)
}

/// A topic as kcat shows it, else as `topics tail` does: values with their `ce_id`.
fn read(system: &System, topic: &str) -> Vec<(Value, String)> {
    let target = Target { address: system.kafka.clone() };
    let Some(lines) = kcat(&target, &["-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J"], "") else {
        let messages = system.messages(topic, 1);
        return messages.iter().map(|m| (m["value"].clone(), m["headers"]["ce_id"].as_str().unwrap().into())).collect();
    };
    let message = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let value: Value = serde_json::from_str(line["payload"].as_str().unwrap()).unwrap();
        assert_valid(topic, &value);
        let headers: Vec<&str> =
            line["headers"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        let ce_id = headers.chunks(2).find(|header| header[0] == "ce_id").unwrap()[1].to_owned();
        (value, ce_id)
    };
    lines.lines().map(message).collect()
}

/// By what the sender knows it under: the event ids, `ce_id`s and number of its messages.
fn copies(messages: &[(Value, String)], own: impl Fn(&Value) -> String) -> BTreeMap<String, (BTreeSet<String>, usize)> {
    let mut copies: BTreeMap<String, (BTreeSet<String>, usize)> = BTreeMap::new();
    for (value, ce_id) in messages {
        let event_id = value["event_id"].as_str().unwrap();
        assert_eq!(*ce_id, format!("{event_id}-{}", value["revision"]), "{value}");
        let entry = copies.entry(own(value)).or_default();
        entry.0.insert(ce_id.clone());
        entry.1 += 1;
    }
    for (own, (ids, _)) in &copies {
        assert_eq!(ids.len(), 1, "copies of {own} are not known as such: {ids:?} [K6]");
    }
    copies
}

fn seconds(time: &Value) -> u64 {
    let time: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
    time.as_second().unsigned_abs()
}

async fn nothing_acknowledged_is_lost(folder: &Path, broker: Broker<'_>) -> Seen {
    let mut start = Start::quiet(folder);
    if let Broker::Beside(broker) = &broker {
        start.kafka = broker.kafka.clone();
    }
    let (system, seen) = lives(&start, &broker).await;
    assert!(seen.readings.len() >= 1_000, "only {} readings were acknowledged: little is proved", seen.readings.len());

    let alerts = read(&system, ALERTS);
    let found: BTreeSet<&str> = alerts.iter().map(|(value, _)| value["event_id"].as_str().unwrap()).collect();
    let lost: Vec<&String> = seen.alerts.iter().filter(|id| !found.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged alerts are lost: {lost:?}", lost.len(), seen.alerts.len());
    let readings = read(&system, SENSORS);
    let found: BTreeSet<u64> = readings.iter().map(|(value, _)| seconds(&value["observed_at"])).collect();
    let lost: Vec<&u64> = seen.readings.difference(&found).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged readings are lost: {lost:?}", lost.len(), seen.readings.len());

    let twice = |(own, (_, copies)): (String, (BTreeSet<String>, usize))| (copies > 1).then_some(own);
    let alerts_twice =
        copies(&alerts, |value| value["data"]["identifier"].to_string()).into_iter().filter_map(twice).count();
    let possible = seen.hedged + KILLS as usize * (CRITICAL_PARALLEL + 1);
    assert!(alerts_twice <= possible, "{alerts_twice} alerts twice, {possible} were in two places [K6]");
    let mut of_life: BTreeMap<u64, usize> = BTreeMap::new();
    for observed in copies(&readings, |value| seconds(&value["observed_at"]).to_string()).into_iter().filter_map(twice)
    {
        *of_life.entry(life_of(observed.parse().unwrap())).or_default() += 1;
    }
    for (life, readings) in &of_life {
        let possible = (BULK_IN_FLIGHT_ENVELOPES + 1) * ENVELOPE_READINGS;
        assert!(*readings <= possible, "{readings} readings twice after kill {life}, {possible} were in flight [K6]");
    }
    let readings_twice: usize = of_life.values().sum();
    assert!(seen.redelivered >= readings_twice as u64, "{readings_twice} readings twice, {} counted", seen.redelivered);
    println!(
        "{} alerts, {} readings acknowledged; {} of {KILLS} kills found records queued; twice: {alerts_twice} alerts, {readings_twice} readings; {} counted as redelivered",
        seen.alerts.len(),
        seen.readings.len(),
        seen.hits,
        seen.redelivered
    );
    let (code, ledger) = system.stop();
    assert_eq!((code, &ledger["ledger"]["balanced"]), (0, &json!(true)), "{ledger}");
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn q1_kills_with_the_broker_inside_lose_nothing() {
    let folder = tempdir().unwrap();
    nothing_acknowledged_is_lost(folder.path(), Broker::Inside).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn q1_kills_with_records_in_flight_lose_nothing_and_count_what_comes_twice() {
    let folder = tempdir().unwrap();
    let broker = System::up(&Start::quiet(&folder.path().join("broker")));
    let seen = nothing_acknowledged_is_lost(&folder.path().join("system"), Broker::Beside(&broker)).await;
    assert!(seen.hits * 10 >= KILLS * 8, "only {} of {KILLS} kills found records queued or in flight", seen.hits);
    assert!(seen.redelivered > 0, "records were in flight at {} kills and none counts as redelivered", seen.hits);
}
