//! What a consumer finds on the topics while the faults happen: every record with its copies, the order in which the records
//! of a device or a thread first appear, and for how long nothing new came.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use streammanager::record::{Tier, Topic};

use super::ledger::{Door, Item};
use super::senders::alert_item;
use crate::fleet;
use crate::upstream::row_of;

const TOPICS: [Topic; 4] = [Topic::CRITICAL_ALERTS, Topic::NASA_FIRMS, Topic::IOT_SENSORS, Topic::HISTORICAL];
/// Wrong records that are shown; of the others their number.
const SHOWN: usize = 5;

#[derive(Debug)]
pub struct Copies {
    pub count: u32,
    /// Of its `ce_id`: copies have one `event_id` and one revision [K6].
    id: u64,
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Arrivals {
    pub found: HashMap<Item, Copies>,
    newest: HashMap<(Door, u32), u32>,
    pub out_of_order: BTreeMap<Door, u64>,
    /// Alerts that a published one refers to and says of that it did not see them: they may come after it [E4].
    said_missing: HashSet<Item>,
    /// How many of these did.
    pub said: u64,
    /// When each copy beyond the first was found, and of what.
    pub repeats: Vec<(Instant, Item)>,
    /// Records that nobody sent, and copies that are not known as such.
    pub strange: Vec<String>,
    pub examples: Vec<String>,
    last: BTreeMap<Tier, Instant>,
    pub longest_gap: BTreeMap<Tier, Duration>,
    awaited: Option<Instant>,
    /// From each kill to the first new record after it [F5].
    pub flowing_again: Vec<Duration>,
}

impl Arrivals {
    /// The next new record ends the wait that began at `since`.
    pub fn await_flow(&mut self, since: Instant) {
        self.awaited = Some(since);
    }

    /// What comes next says nothing of `up` alone.
    pub fn forget_flow(&mut self) {
        self.awaited = None;
    }

    /// Nothing is sent for a while: gaps are counted from the next record on.
    pub fn pause(&mut self) {
        self.last.clear();
    }

    fn take(&mut self, topic: &str, message: &BorrowedMessage<'_>) {
        let now = Instant::now();
        let value: Option<Value> = message.payload().and_then(|payload| serde_json::from_slice(payload).ok());
        let Some(item) = value.as_ref().and_then(|value| item(topic, value)) else {
            let text = String::from_utf8_lossy(message.payload().unwrap_or_default());
            return self.strange.push(format!("{topic} holds what nobody sent: {text}"));
        };
        value.iter().for_each(|value| self.hear(value));
        self.note(item, ce_id(message), now);
    }

    /// What a record says of alerts that it did not see.
    fn hear(&mut self, record: &Value) {
        for quality in record["quality"].as_array().into_iter().flatten() {
            let name = quality["raw"].as_str().filter(|_| quality["field"] == "references");
            self.said_missing.extend(name.and_then(|name| alert_item(name.split(',').nth(1)?)));
        }
    }

    /// One record on a topic: `id` stands for its `ce_id`.
    pub fn note(&mut self, item: Item, id: u64, now: Instant) {
        if let Some(copies) = self.found.get_mut(&item) {
            copies.count += 1;
            self.repeats.push((now, item));
            if copies.id != id {
                self.strange.push(format!("copies of {item:?} differ in event_id or revision [K6]"));
            }
            return;
        }
        self.found.insert(item, Copies { count: 1, id });
        let newest = self.newest.entry((item.door, item.line)).or_insert(item.number);
        let is_late = item.door.keeps_order() && item.number < *newest;
        if is_late && self.said_missing.contains(&item) {
            self.said += 1;
        } else if is_late {
            *self.out_of_order.entry(item.door).or_default() += 1;
            if self.examples.len() < SHOWN {
                self.examples.push(format!("{item:?} first appears after number {newest}"));
            }
        }
        *newest = item.number.max(*newest);
        let tier = item.door.tier();
        if let Some(before) = self.last.insert(tier, now) {
            let gap = self.longest_gap.entry(tier).or_default();
            *gap = (now - before).max(*gap);
        }
        self.flowing_again.extend(self.awaited.take().map(|since| now - since));
    }
}

fn item(topic: &str, value: &Value) -> Option<Item> {
    let number = |field: &str| value[field].as_f64();
    let row = |door| {
        let row = row_of(number("latitude")?, number("longitude")?);
        Some(Item { door, line: 0, number: row as u32 })
    };
    match topic {
        "wildfire-critical-alerts" => alert_item(value["data"]["identifier"].as_str()?),
        "wildfire-iot-sensors" => {
            let (device, number) = fleet::place(value["observed_at"].as_str()?);
            Some(Item { door: Door::Reading, line: device as u32, number: number as u32 })
        }
        "wildfire-nasa-firms" => row(Door::Polled),
        "wildfire-historical" => row(Door::Bulk),
        _ => None,
    }
}

fn ce_id(message: &BorrowedMessage<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    headers.filter(|header| header.key == "ce_id").for_each(|header| header.value.hash(&mut hasher));
    hasher.finish()
}

/// The consumer, and the offset after the last record that it read of each partition. It is let go before the broker is
/// disturbed, for what a client library makes of that is not what is tried here.
struct Place {
    broker: String,
    consumer: Option<BaseConsumer>,
    next: HashMap<(&'static str, i32), i64>,
}

impl Place {
    fn take_up(&mut self) {
        let consumer = consumer(&self.broker);
        let mut partitions = TopicPartitionList::new();
        for ((topic, partition), next) in &self.next {
            partitions.add_partition_offset(topic, *partition, Offset::Offset(*next)).expect("an offset");
        }
        consumer.assign(&partitions).expect("they can be assigned");
        self.consumer = Some(consumer);
    }

    /// Reads one record, if one comes soon; whether there was none.
    fn read(&mut self, arrivals: &Mutex<Arrivals>) -> bool {
        let Some(consumer) = &self.consumer else { return true };
        match consumer.poll(Duration::from_millis(20)) {
            Some(Ok(message)) => {
                let (topic, next) = (message.topic(), message.offset() + 1);
                arrivals.lock().take(topic, &message);
                let topic = TOPICS.iter().find(|known| known.name() == topic).expect("one of ours").name();
                self.next.insert((topic, message.partition()), next);
                false
            }
            Some(Err(_)) => false,
            None => true,
        }
    }

    fn is_at_end(&self) -> bool {
        let Some(consumer) = &self.consumer else { return false };
        self.next.iter().all(|((topic, partition), next)| {
            let ends = consumer.fetch_watermarks(topic, *partition, Duration::from_secs(10));
            ends.is_ok_and(|(_, end)| *next >= end)
        })
    }
}

fn consumer(broker: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", "chaos")
        .set("enable.auto.commit", "false")
        .set("reconnect.backoff.max.ms", "200")
        .set("fetch.wait.max.ms", "20")
        // Records that the broker has lost are not passed over in silence.
        .set("auto.offset.reset", "error")
        .create()
        .expect("a consumer")
}

/// Reads until it is told to stop, and then to the end.
pub struct Watch {
    pub arrivals: Arc<Mutex<Arrivals>>,
    place: Arc<Mutex<Place>>,
    stop: Arc<AtomicBool>,
    reading: JoinHandle<()>,
}

impl Watch {
    /// Returns once the topics are there.
    pub fn start(broker: &str) -> Watch {
        let first = consumer(broker);
        while !all_there(&first) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let partitions = TOPICS.iter().flat_map(|topic| (0..topic.partitions()).map(|number| (topic.name(), number)));
        let next = partitions.map(|partition| (partition, 0)).collect();
        let mut place = Place { broker: broker.to_owned(), consumer: None, next };
        place.take_up();
        let place = Arc::new(Mutex::new(place));
        let (arrivals, stop) = (Arc::new(Mutex::new(Arrivals::default())), Arc::new(AtomicBool::new(false)));
        let (from, into, stopped) = (place.clone(), arrivals.clone(), stop.clone());
        let reading = std::thread::spawn(move || {
            loop {
                let mut place = from.lock();
                let nothing = place.read(&into);
                if nothing && stopped.load(Ordering::Relaxed) && place.is_at_end() {
                    return;
                }
                let there = place.consumer.is_some();
                MutexGuard::unlock_fair(place);
                if !there {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Watch { arrivals, place, stop, reading }
    }

    /// The broker is going to be disturbed.
    pub fn let_go(&self) {
        self.place.lock().consumer = None;
    }

    /// The broker is there again.
    pub fn take_up(&self) {
        self.place.lock().take_up();
    }

    /// What was found up to the end of all topics. The broker is there, and nothing is written any more.
    pub fn end(self) -> Arrivals {
        self.stop.store(true, Ordering::Relaxed);
        self.reading.join().expect("the consumer did not panic");
        std::mem::take(&mut self.arrivals.lock())
    }
}

/// Whether every topic that is watched has its partitions.
pub(super) fn all_there(consumer: &BaseConsumer) -> bool {
    let Ok(metadata) = consumer.fetch_metadata(None, Duration::from_secs(5)) else { return false };
    let there = |topic: &Topic| {
        metadata
            .topics()
            .iter()
            .any(|t| t.name() == topic.name() && t.partitions().len() == topic.partitions() as usize)
    };
    TOPICS.iter().all(there)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn e4_an_alert_that_another_waited_for_in_vain_is_late_and_not_out_of_order() {
        let of = |number| alert_item(&format!("M-3-{number}")).expect("an alert of the senders");
        let came = |says: Value| {
            let mut arrivals = Arrivals::default();
            arrivals.note(of(0), 1, Instant::now());
            arrivals.hear(&json!({ "quality": [{ "field": "references", "problem": "names", "raw": says }] }));
            arrivals.note(of(2), 2, Instant::now());
            arrivals.note(of(1), 3, Instant::now());
            (arrivals.said, arrivals.out_of_order.values().sum::<u64>())
        };
        assert_eq!(came(json!("test@example.org,M-3-1")), (1, 0));
        assert_eq!(came(json!("test@example.org,M-3-0")), (0, 1));
        assert_eq!(came(Value::Null), (0, 1));
    }
}
