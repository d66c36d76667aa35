//! `kill -9` at twenty seeded points while outside clients send readings over MQTT and alerts over HTTP: whatever they saw
//! acknowledged is in Kafka afterwards, each device's readings in their order, and what is there twice is known, bounded and
//! counted [Q1, K6, R5].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use streammanager::limits::{BULK_IN_FLIGHT_ENVELOPES, CRITICAL_PARALLEL};
use streammanager_tests::bodies::actual;
use streammanager_tests::fleet::{SENSORS, Sender, copies, judge, read};
use streammanager_tests::system::{Start, System};
use tempfile::tempdir;

const KILLS: u64 = 20;
/// A life has so many alerts acknowledged before its kill may come.
const LIFE_ALERTS: u64 = 2;
/// Clients that push readings at once, each for devices of its own; these lie on all shards of the stream.
const SENDERS: u64 = 3;
/// Shards of the template's stream, which is on demand: of each one batch may be on its way into the queues at a kill.
const SHARDS: usize = 4;
/// Readings of an envelope at most: a batch of the stream, as the template asks for it.
const ENVELOPE_READINGS: usize = 1_000;
/// Of one sender and one life; together more than what may be in flight holds, so that K6's bound can be broken.
const READINGS: u64 = 4_500;
const ALERTS: &str = "wildfire-critical-alerts";

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
    /// Readings with a PUBACK, by the second at which each was observed.
    readings: BTreeSet<u64>,
    /// The life in which a reading was first sent.
    lives: BTreeMap<u64, u64>,
    /// Kills that found records in the queues.
    hits: u64,
    redelivered: u64,
}

/// The same points in every run.
fn seeded(kill: u64, salt: u64, below: u64) -> Duration {
    Duration::from_millis((kill.wrapping_mul(7919).wrapping_add(salt.wrapping_mul(104_729))) % below)
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
    let mut fleet = Sender::fleet(SENDERS);
    for life in 0..KILLS {
        let (port, answered) = (system.mqtt, AtomicU64::new(0));
        let push = |mut sender: Sender| {
            std::thread::spawn(move || {
                sender.send(port, READINGS, false);
                sender
            })
        };
        let pushing: Vec<_> = std::mem::take(&mut fleet).into_iter().map(push).collect();
        tokio::select! {
            () = send_alerts(&system, &key, life, &mut seen, &answered) => {}
            () = the_point(&system, broker, life, &answered) => {}
        }
        system.kill();
        if let Broker::Beside(broker) = broker {
            broker.signal("-CONT");
        }
        for sender in pushing {
            let mut sender = sender.join().unwrap();
            seen.readings.extend(&sender.acknowledged);
            seen.lives.extend(std::mem::take(&mut sender.sent).into_iter().map(|reading| (reading, life)));
            fleet.push(sender);
        }
        system = System::up(start);
        seen.hits += u64::from(system.started["started"]["queued_at_start"].as_u64().unwrap() > 0);
        drain(&system, &mut seen).await;
    }
    (system, seen)
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
    let twice = |copies: &usize| *copies > 1;
    let alerts_twice =
        copies(&alerts, |value| value["data"]["identifier"].to_string()).into_values().filter(twice).count();
    let possible = seen.hedged + KILLS as usize * (CRITICAL_PARALLEL + 1);
    assert!(alerts_twice <= possible, "{alerts_twice} alerts twice, {possible} were in two places [K6]");
    let mut of_life: BTreeMap<u64, usize> = BTreeMap::new();
    for (reading, _) in judge(&seen.readings, &read(&system, SENSORS)).iter().filter(|(_, copies)| twice(copies)) {
        *of_life.entry(seen.lives[reading]).or_default() += 1;
    }
    for (life, readings) in &of_life {
        let possible = (BULK_IN_FLIGHT_ENVELOPES + SHARDS) * ENVELOPE_READINGS;
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
