//! What a consumer finds on the topics while the faults happen: every record with its copies, the order in which the records
//! of a device or a thread first appear, and for how long nothing new came.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
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
    /// When each copy beyond the first was found, and of what.
    pub repeats: Vec<(Instant, Item)>,
    /// Records that nobody sent, and copies that are not known as such.
    pub strange: Vec<String>,
    pub examples: Vec<String>,
    last: BTreeMap<Tier, Instant>,
    pub longest_gap: BTreeMap<Tier, Duration>,
    awaited: Option<Instant>,
    /// From each kill to the first new record after it.
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
        self.note(item, ce_id(message), now);
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
        if item.door.keeps_order() && item.number < *newest {
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

/// Reads until it is told to stop, and then to the end.
pub struct Watch {
    pub arrivals: Arc<Mutex<Arrivals>>,
    stop: Arc<AtomicBool>,
    reading: JoinHandle<()>,
}

impl Watch {
    /// Returns once the topics are there.
    pub fn start(broker: &str) -> Watch {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", broker)
            .set("group.id", "chaos")
            .set("enable.auto.commit", "false")
            .set("reconnect.backoff.max.ms", "200")
            .set("fetch.wait.max.ms", "20")
            // Records that the broker has lost are not passed over in silence.
            .set("auto.offset.reset", "error")
            .create()
            .expect("a consumer");
        while !all_there(&consumer) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut partitions = TopicPartitionList::new();
        for topic in TOPICS {
            for partition in 0..topic.partitions() {
                partitions.add_partition_offset(topic.name(), partition, Offset::Beginning).expect("an offset");
            }
        }
        consumer.assign(&partitions).expect("they can be assigned");
        let (arrivals, stop) = (Arc::new(Mutex::new(Arrivals::default())), Arc::new(AtomicBool::new(false)));
        let (into, stopped) = (arrivals.clone(), stop.clone());
        let reading = std::thread::spawn(move || {
            loop {
                match consumer.poll(Duration::from_millis(50)) {
                    Some(Ok(message)) => into.lock().take(message.topic(), &message),
                    // The broker is away.
                    Some(Err(_)) => {}
                    None if stopped.load(Ordering::Relaxed) && at_end(&consumer) => return,
                    None => {}
                }
            }
        });
        Watch { arrivals, stop, reading }
    }

    /// What was found up to the end of all topics. The broker is there, and nothing is written any more.
    pub fn end(self) -> Arrivals {
        self.stop.store(true, Ordering::Relaxed);
        self.reading.join().expect("the consumer did not panic");
        std::mem::take(&mut self.arrivals.lock())
    }
}

fn all_there(consumer: &BaseConsumer) -> bool {
    let Ok(metadata) = consumer.fetch_metadata(None, Duration::from_secs(5)) else { return false };
    let there = |topic: &Topic| {
        metadata
            .topics()
            .iter()
            .any(|t| t.name() == topic.name() && t.partitions().len() == topic.partitions() as usize)
    };
    TOPICS.iter().all(there)
}

fn at_end(consumer: &BaseConsumer) -> bool {
    let positions = consumer.position().expect("positions of its own");
    positions.elements().iter().all(|at| {
        let ends = consumer.fetch_watermarks(at.topic(), at.partition(), Duration::from_secs(10));
        match (ends, at.offset()) {
            (Ok((_, end)), Offset::Offset(next)) => next >= end,
            (Ok((begin, end)), _) => begin == end,
            (Err(_), _) => false,
        }
    })
}
