//! What the senders heard as accepted, written down outside of the system.

use std::collections::HashSet;
use std::time::Instant;

use streammanager::record::Tier;

/// Where a record went in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Door {
    HttpAlert,
    MqttAlert,
    Reading,
    /// Readings that can never be published: they become dead letters.
    BadReading,
    Polled,
    Bulk,
}

impl Door {
    pub const ALL: [Door; 6] =
        [Door::HttpAlert, Door::MqttAlert, Door::Reading, Door::BadReading, Door::Polled, Door::Bulk];

    pub fn name(self) -> &'static str {
        match self {
            Door::HttpAlert => "alerts, HTTP",
            Door::MqttAlert => "alerts, MQTT",
            Door::Reading => "readings, MQTT",
            Door::BadReading => "bad readings, MQTT",
            Door::Polled => "FIRMS, polled",
            Door::Bulk => "archive, bulk",
        }
    }

    pub fn tier(self) -> Tier {
        match self {
            Door::HttpAlert | Door::MqttAlert => Tier::Critical,
            Door::Reading | Door::BadReading => Tier::Normal,
            Door::Polled => Tier::High,
            Door::Bulk => Tier::Low,
        }
    }

    /// Whether the records of one line keep their order: a device's readings, an alert's thread [E4].
    pub fn keeps_order(self) -> bool {
        matches!(self, Door::HttpAlert | Door::MqttAlert | Door::Reading)
    }
}

/// A record as its sender knows it: the line is an alert's thread or a device, the number its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Item {
    pub door: Door,
    pub line: u32,
    pub number: u32,
}

/// The ledger.
#[derive(Debug, Default)]
pub struct Accepted {
    pub items: HashSet<Item>,
    /// Accepted since this was last emptied.
    pub fresh: Vec<Item>,
    /// Alerts that the queue acknowledged to their sender: the broker may have them as well [E2].
    pub hedged: usize,
    /// When each alert over MQTT was acknowledged; which of them the queue took is not told there.
    pub over_mqtt: Vec<Instant>,
    /// What was accepted at the first, the second, the third and a later try of its sender.
    pub tries: [u64; 4],
    /// What a sender was told can never be accepted.
    pub refused: Vec<String>,
}

impl Accepted {
    /// `tries`: how often it was sent.
    pub fn add(&mut self, item: Item, tries: u32) {
        if self.items.insert(item) {
            self.fresh.push(item);
            self.tries[(tries.clamp(1, 4) - 1) as usize] += 1;
        }
    }
}
