//! Devices that push readings over MQTT at QoS 1 through several senders at once, what their senders saw acknowledged, and what
//! Kafka must hold of it afterwards.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use streammanager_host::publisher::Publisher;

use crate::kafka_clients::target::Target;
use crate::kafka_clients::tools::kcat;
use crate::published::assert_valid;
use crate::system::System;

pub const SENSORS: &str = "wildfire-iot-sensors";
/// Enough that their topics lie on all four shards of the stream.
pub const DEVICES: u64 = 12;
/// Readings that a sender offers at once, all of one device.
const BURST: usize = 100;
/// The first second at which a reading was observed.
const BEGIN: u64 = 1_780_000_000;

/// A reading by the second at which it was observed, which tells its device and its place among that device's readings.
fn observed(device: u64, number: u64) -> u64 {
    BEGIN + number * DEVICES + device
}

fn device_of(observed: u64) -> u64 {
    (observed - BEGIN) % DEVICES
}

fn reading(observed: u64) -> Vec<u8> {
    let device = device_of(observed);
    json!({
        "sensor_index": device, "latitude": 36.0 + device as f64 * 0.1, "longitude": -121.0, "last_seen": observed,
        "humidity": 42,
    })
    .to_string()
    .into_bytes()
}

struct Device {
    number: u64,
    next: u64,
    /// Sent so often, and not known to be taken: sent again before anything newer.
    unanswered: Vec<(u64, u32)>,
}

/// One client and its devices.
pub struct Sender {
    client: String,
    devices: Vec<Device>,
    /// What has a PUBACK, by the second at which it was observed, and at which try it got it.
    pub acknowledged: BTreeMap<u64, u32>,
}

impl Sender {
    /// The devices of all, shared out among so many.
    pub fn fleet(senders: u64) -> Vec<Sender> {
        let device = |number| Device { number, next: 0, unanswered: Vec::new() };
        let sender = |nth| Sender {
            client: format!("fleet-{nth}"),
            devices: (0..DEVICES).filter(|number| number % senders == nth).map(device).collect(),
            acknowledged: BTreeMap::new(),
        };
        (0..senders).map(sender).collect()
    }

    /// Sends bursts until `most` readings are acknowledged or the system is gone. Of each burst whose answers did not all come, the
    /// rest goes out again first. `repeats`: every fifth burst goes out twice, as when its answers were lost on the way.
    pub fn send(&mut self, mqtt: u16, most: u64, repeats: bool) {
        let Ok(mut publisher) = Publisher::connect(("127.0.0.1", mqtt), &self.client) else { return };
        let mut answered = 0;
        for round in 0.. {
            if answered >= most {
                return;
            }
            let turn = round % self.devices.len();
            let device = &mut self.devices[turn];
            let number = device.number;
            let new = (device.next..).take(BURST - device.unanswered.len()).map(|nth| observed(number, nth));
            let new: Vec<(u64, u32)> = new.map(|at| (at, 0)).collect();
            device.next += new.len() as u64;
            device.unanswered.extend(new);
            let topic = format!("sensors/purpleair/{number}/state");
            device.unanswered.iter_mut().for_each(|(_, tries)| *tries += 1);
            for _ in 0..if repeats && round % 5 == 4 { 2 } else { 1 } {
                let acks = publisher.publish_all(&topic, device.unanswered.iter().map(|(at, _)| reading(*at)));
                let Ok(acks) = acks else { return };
                self.acknowledged.extend(device.unanswered[..acks].iter().copied());
                answered += acks as u64;
                if acks < device.unanswered.len() {
                    device.unanswered.drain(..acks);
                    return;
                }
            }
            device.unanswered.clear();
        }
    }
}

/// A topic as kcat shows it, else as `topics tail` does: values with their `ce_id`.
pub fn read(system: &System, topic: &str) -> Vec<(Value, String)> {
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

/// By what the sender knows it under: how often a message is there. Its copies have one `event_id` and one revision [K6].
pub fn copies<K: Ord + std::fmt::Debug>(messages: &[(Value, String)], own: impl Fn(&Value) -> K) -> BTreeMap<K, usize> {
    let mut copies: BTreeMap<K, (BTreeSet<String>, usize)> = BTreeMap::new();
    for (value, ce_id) in messages {
        let event_id = value["event_id"].as_str().unwrap();
        assert_eq!(*ce_id, format!("{event_id}-{}", value["revision"]), "{value}");
        let entry = copies.entry(own(value)).or_default();
        entry.0.insert(ce_id.clone());
        entry.1 += 1;
    }
    for (own, (ids, _)) in &copies {
        assert_eq!(ids.len(), 1, "copies of {own:?} are not known as such: {ids:?} [K6]");
    }
    copies.into_iter().map(|(own, (_, count))| (own, count)).collect()
}

/// The readings of Kafka by the second at which each was observed, with how often it is there.
///
/// # Panics
/// When one that was acknowledged is missing, or a device's readings do not first appear in the order in which they were sent.
pub fn judge(acknowledged: &BTreeSet<u64>, readings: &[(Value, String)]) -> BTreeMap<u64, usize> {
    let copies = copies(readings, seconds);
    let lost: Vec<&u64> = acknowledged.iter().filter(|at| !copies.contains_key(at)).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged readings are lost: {lost:?}", lost.len(), acknowledged.len());
    let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for at in readings.iter().map(|(value, _)| seconds(value)).filter(|at| seen.insert(*at)) {
        let device = device_of(at);
        if let Some(before) = newest.insert(device, at) {
            assert!(before < at, "device {device}: the reading of {at} appears after the one of {before}");
        }
    }
    copies
}

fn seconds(value: &Value) -> u64 {
    second(value["observed_at"].as_str().unwrap())
}

fn second(observed_at: &str) -> u64 {
    let time: jiff::Timestamp = observed_at.parse().unwrap();
    time.as_second().unsigned_abs()
}

/// Device and number of the reading that was observed then.
pub fn place_of(observed: u64) -> (u64, u64) {
    (device_of(observed), (observed - BEGIN) / DEVICES)
}

/// The same of a published time.
pub fn place(observed_at: &str) -> (u64, u64) {
    place_of(second(observed_at))
}
