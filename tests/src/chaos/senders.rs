//! Senders through every door at once. Each says only what it heard: what was not answered it sends again, before anything
//! newer of the same line.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use streammanager_host::publisher::Publisher;
use tokio::runtime::Handle;

use super::ledger::{Accepted, Door, Item};
use crate::binary;
use crate::bodies::alert;
use crate::fleet::Sender;
use crate::system::post_alert;
use crate::upstream::{FakeUpstream, firms_csv};

/// Messages of one alert's thread: it is sent, updated, and cancelled.
const THREAD: [&str; 4] = ["Alert", "Update", "Update", "Cancel"];
/// Readings of one turn of a sender.
const TURN: u64 = 300;
/// Before the next try of what was not answered.
const AGAIN: Duration = Duration::from_millis(20);
/// New rows in each answer of the polled source, and rows in all: each stands in forty answers, so that a poll which was
/// answered and then killed takes none of them away.
const ROWS_NEW: usize = 25;
const ROWS: usize = 1_000;
/// Rows of one file of the bulk load.
const FILE_ROWS: usize = 5_000;
/// Dead letters are kept up to a bound: fewer bad readings than that are sent.
const BAD_READINGS: u32 = 500;

/// How much is sent.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// By all devices together.
    pub readings_per_s: u64,
    pub bulk_rows_per_s: u64,
    /// Between two alerts of one sender.
    pub alert_pause: Duration,
}

/// Senders that push readings at once, each for devices of its own; these lie on all shards of the stream.
const READING_SENDERS: u64 = 3;
const HTTP_SENDERS: u32 = 3;
const MQTT_SENDERS: u32 = 2;

/// Where the senders of alerts are registered.
#[derive(Clone)]
pub struct Credentials {
    pub http_key: String,
    pub mqtt_user: String,
    pub mqtt_key: String,
}

/// What all senders share.
pub struct Doors {
    pub http: u16,
    pub mqtt: u16,
    /// Known once they are registered.
    pub credentials: OnceLock<Credentials>,
    pub accepted: Mutex<Accepted>,
    /// Held to write: nobody sends.
    pub gate: RwLock<()>,
    stop: AtomicBool,
    /// Rows that the polled source has had so far.
    rows: AtomicUsize,
    runtime: Handle,
}

impl Doors {
    pub fn new(http: u16, mqtt: u16, runtime: Handle) -> Arc<Doors> {
        let credentials = OnceLock::new();
        let (accepted, gate) = (Mutex::default(), RwLock::default());
        let (stop, rows) = (AtomicBool::new(false), AtomicUsize::new(0));
        Arc::new(Doors { http, mqtt, credentials, accepted, gate, stop, rows, runtime })
    }

    fn credentials(&self) -> &Credentials {
        self.credentials.get().expect("the senders are registered")
    }

    fn open(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// The item of an alert's identifier.
pub fn alert_item(identifier: &str) -> Option<Item> {
    let mut parts = identifier.split('-');
    let door = match parts.next()? {
        "H" => Door::HttpAlert,
        "M" => Door::MqttAlert,
        _ => return None,
    };
    Some(Item { door, line: parts.next()?.parse().ok()?, number: parts.next()?.parse().ok()? })
}

fn identifier(item: Item) -> String {
    let door = if item.door == Door::HttpAlert { "H" } else { "M" };
    format!("{door}-{}-{}", item.line, item.number)
}

/// The polled source: its answers grow as long as something is sent.
pub fn upstream(doors: &Arc<Doors>) -> FakeUpstream {
    let doors = doors.clone();
    FakeUpstream::serve(move |_| {
        let grows = doors.open() && doors.gate.try_read().is_some();
        let rows = doors.rows.load(Ordering::Relaxed) + if grows { ROWS_NEW } else { 0 };
        let item = |row| Item { door: Door::Polled, line: 0, number: row as u32 };
        let mut accepted = doors.accepted.lock();
        // Whoever polls takes them, now or with a later answer.
        (doors.rows.swap(rows, Ordering::Relaxed)..rows).for_each(|row| accepted.add(item(row), 1));
        firms_csv(rows.saturating_sub(ROWS), rows.min(ROWS))
    })
}

/// The bulk load as it runs now.
#[derive(Default)]
pub struct Ingest {
    child: Mutex<Option<Child>>,
    pub redelivered: AtomicUsize,
}

impl Ingest {
    /// `kill -9`, if it runs.
    pub fn kill(&self) {
        if let Some(child) = &mut *self.child.lock() {
            child.kill().expect("it is our own process");
        }
    }
}

/// Everybody who sends.
pub struct Senders {
    doors: Arc<Doors>,
    threads: Vec<JoinHandle<()>>,
    bulk: JoinHandle<()>,
    pub ingest: Arc<Ingest>,
}

impl Senders {
    /// `folder` and `broker`: of the bulk load, which runs beside `up` with a data folder of its own.
    pub fn start(doors: &Arc<Doors>, load: Load, folder: PathBuf, broker: String) -> Senders {
        let mut threads = Vec::new();
        for sender in 0..HTTP_SENDERS {
            let doors = doors.clone();
            threads.push(spawn(move || alerts_over_http(&doors, sender, load.alert_pause)));
        }
        for sender in 0..MQTT_SENDERS {
            let doors = doors.clone();
            threads.push(spawn(move || alerts_over_mqtt(&doors, sender, load.alert_pause)));
        }
        for sender in Sender::fleet(READING_SENDERS) {
            let doors = doors.clone();
            threads.push(spawn(move || readings(&doors, sender, load.readings_per_s / READING_SENDERS)));
        }
        let bad = doors.clone();
        threads.push(spawn(move || bad_readings(&bad)));
        let ingest = Arc::new(Ingest::default());
        let (loader, own) = (ingest.clone(), doors.clone());
        let bulk = spawn(move || bulk(&own, &loader, load.bulk_rows_per_s, &folder, &broker));
        Senders { doors: doors.clone(), threads, bulk, ingest }
    }

    /// Ends when each has had its last answer; the bulk load delivers everything it has taken.
    pub fn stop(self) {
        self.doors.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().chain([self.bulk]).for_each(|thread| thread.join().expect("no sender panics"));
    }
}

/// So many a second, without making up for a long pause.
struct Pace {
    each: Duration,
    next: Instant,
}

impl Pace {
    fn new(per_s: u64) -> Pace {
        Pace { each: Duration::from_secs(1) / per_s.max(1) as u32, next: Instant::now() }
    }

    fn wait(&mut self, sent: u64) {
        const MADE_UP: Duration = Duration::from_secs(1);
        let now = Instant::now();
        self.next = self.next.max(now.checked_sub(MADE_UP).unwrap_or(now)) + self.each * sent as u32;
        sleep(self.next.saturating_duration_since(now));
    }
}

/// The messages of one thread after another, for as long as the doors are open: `send` gives whether one was accepted, or
/// `None` when it never can be.
fn threads(doors: &Doors, door: Door, sender: u32, pause: Duration, mut send: impl FnMut(Item, &str) -> Option<bool>) {
    for thread in 0.. {
        let mut before: Vec<String> = Vec::new();
        for (number, kind) in THREAD.into_iter().enumerate() {
            let item = Item { door, line: sender * 1_000_000 + thread, number: number as u32 };
            let references: Vec<&str> = before.iter().map(String::as_str).collect();
            let body = alert(&identifier(item), "Actual", kind, &references);
            for tries in 1.. {
                if !doors.open() {
                    return;
                }
                let turn = doors.gate.read();
                let accepted = send(item, &body);
                if accepted == Some(true) {
                    doors.accepted.lock().add(item, tries);
                }
                drop(turn);
                if accepted != Some(false) {
                    break;
                }
                sleep(AGAIN);
            }
            before.push(identifier(item));
            sleep(pause);
        }
    }
}

fn alerts_over_http(doors: &Doors, sender: u32, pause: Duration) {
    let client = crate::system::client();
    let url = format!("http://127.0.0.1:{}/alerts", doors.http);
    threads(doors, Door::HttpAlert, sender, pause, |_, body| {
        let key = &doors.credentials().http_key;
        match doors.runtime.block_on(post_alert(&client, &url, key, body.to_owned())) {
            Ok((200, answer)) => {
                doors.accepted.lock().hedged += usize::from(answer["accepted"][0]["acknowledged_by"] == "queue");
                Some(true)
            }
            Ok((status @ (400..=428 | 430..=499), answer)) => {
                doors.accepted.lock().refused.push(format!("{status} {answer}"));
                None
            }
            _ => Some(false),
        }
    });
}

fn alerts_over_mqtt(doors: &Doors, sender: u32, pause: Duration) {
    let Credentials { mqtt_user, mqtt_key, .. } = doors.credentials();
    let (client, topic) = (format!("alerts-{sender}"), format!("alerts/evacuation_alert_{mqtt_user}"));
    let mut publisher = None;
    threads(doors, Door::MqttAlert, sender, pause, |_, body| {
        let connect = || Publisher::connect_as(("127.0.0.1", doors.mqtt), &client, mqtt_user, mqtt_key).ok();
        let mut connected = publisher.take().or_else(connect);
        let accepted = connected.as_mut().is_some_and(|publisher| publisher.publish(&topic, body.as_bytes()).is_ok());
        if accepted {
            doors.accepted.lock().over_mqtt.push(Instant::now());
            publisher = connected;
        }
        Some(accepted)
    });
}

fn readings(doors: &Doors, mut sender: Sender, per_s: u64) {
    let mut pace = Pace::new(per_s);
    while doors.open() {
        let turn = doors.gate.read();
        sender.send(doors.mqtt, TURN, false);
        let acknowledged = std::mem::take(&mut sender.acknowledged);
        let mut accepted = doors.accepted.lock();
        for (at, tries) in &acknowledged {
            let (device, number) = crate::fleet::place_of(*at);
            accepted.add(Item { door: Door::Reading, line: device as u32, number: number as u32 }, *tries);
        }
        drop((accepted, turn));
        if acknowledged.is_empty() {
            sleep(AGAIN);
        }
        pace.wait(acknowledged.len() as u64);
    }
}

/// The number of a bad reading, by the topic that its dead letter names.
pub fn bad_number(topic: &str) -> Option<u32> {
    topic.strip_prefix("sensors/purpleair/bad-")?.strip_suffix("/state")?.parse().ok()
}

fn bad_readings(doors: &Doors) {
    let mut publisher = None;
    for number in 0..BAD_READINGS {
        let topic = format!("sensors/purpleair/bad-{number}/state");
        let body = json!({ "sensor_index": number, "latitude": 95.0, "longitude": -121.0, "last_seen": 1_780_000_000 });
        for tries in 1.. {
            if !doors.open() {
                return;
            }
            let turn = doors.gate.read();
            let connect = || Publisher::connect(("127.0.0.1", doors.mqtt), "bad").ok();
            let mut connected = publisher.take().or_else(connect);
            let sent = connected
                .as_mut()
                .is_some_and(|publisher| publisher.publish(&topic, body.to_string().as_bytes()).is_ok());
            if sent {
                publisher = connected;
                doors.accepted.lock().add(Item { door: Door::BadReading, line: 0, number }, tries);
            }
            drop(turn);
            sleep(Duration::from_millis(if sent { 250 } else { 20 }));
            if sent {
                break;
            }
        }
    }
}

/// One file after the other through `ingest`, each until all its rows are accounted for.
fn bulk(doors: &Doors, ingest: &Ingest, per_s: u64, folder: &std::path::Path, broker: &str) {
    std::fs::create_dir_all(folder).expect("a folder for the bulk load");
    let (file, mut pace) = (folder.join("archive.csv"), Pace::new(per_s));
    let run = || -> Option<Value> {
        let mut command = Command::new(binary());
        command.args(["ingest", "--json", "--source", "historical_firms", "--kafka", broker, "--data"]);
        command.arg(folder.join("data")).arg(&file).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("`ingest` starts");
        let mut output = child.stdout.take().expect("it is piped");
        *ingest.child.lock() = Some(child);
        let mut text = String::new();
        // Ends with the process; a report that is cut short is none.
        let _ = std::io::Read::read_to_string(&mut output, &mut text);
        let mut ended = ingest.child.lock().take().expect("nobody else takes it");
        ended.wait().expect("it has ended");
        let report: Value = serde_json::from_str(&text).ok()?;
        ingest.redelivered.fetch_add(report["redelivered"].as_u64()? as usize, Ordering::Relaxed);
        Some(report)
    };
    for first in (0..).step_by(FILE_ROWS) {
        std::fs::write(&file, firms_csv(first, FILE_ROWS)).expect("a file of the bulk load");
        for tries in 1.. {
            let turn = doors.gate.read();
            let report = run();
            let taken = |report: &Value| report["accepted"].as_u64().zip(report["duplicates"].as_u64());
            if report.as_ref().and_then(taken).is_some_and(|(new, known)| new + known == FILE_ROWS as u64) {
                let mut accepted = doors.accepted.lock();
                for row in first..first + FILE_ROWS {
                    accepted.add(Item { door: Door::Bulk, line: 0, number: row as u32 }, tries);
                }
                break;
            }
            drop(turn);
            if !doors.open() {
                break;
            }
            sleep(AGAIN);
        }
        if !doors.open() {
            break;
        }
        pace.wait(FILE_ROWS as u64);
    }
    // What an earlier run left queued goes out with the next.
    let end = Instant::now() + Duration::from_secs(120);
    while run().is_none_or(|report| report["queued"] != 0) && Instant::now() < end {
        sleep(AGAIN);
    }
}
