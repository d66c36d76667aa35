//! What one queue keeps in memory: which messages are visible, delayed, in flight or leaving. A pure state machine over
//! message numbers and times; about 16 bytes for a waiting message, bodies stay on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::queue::Depth;
use crate::time::Timestamp;

/// How many message numbers one mark covers beyond what is taken: one durable write for so many receives, and after a
/// crash at most so many messages that count as received and were not; no more than a hand holds.
pub(super) const MARK_AHEAD: u64 = 64;

#[derive(Default)]
pub(super) struct Index {
    visible: BTreeSet<u64>,
    delayed: BTreeMap<u64, Timestamp>,
    in_flight: BTreeMap<u64, Flight>,
    /// Taken out for good by an operation that is not committed yet; its failure brings them back.
    leaving: BTreeMap<u64, Flight>,
    /// When a delay or a visibility ends.
    ends: BTreeSet<(Timestamp, u64)>,
    /// Of waiting messages that were received before.
    received: BTreeMap<u64, Received>,
    /// No message above this number was ever taken, and the disk knows it.
    marked: u64,
    /// Places promised to sends that are not committed yet.
    reserved: u64,
    takes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Flight {
    /// Which take this is: an earlier one's receipt is stale.
    take: u64,
    until: Timestamp,
    receives: u32,
}

#[derive(Debug, Clone, Copy)]
struct Received {
    receives: u32,
    /// The last take since the start, whose receipt is good until the next one.
    take: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) number: u64,
    pub(super) take: u64,
    /// This time included.
    pub(super) receives: u32,
}

impl Index {
    pub(super) fn new(marked: u64) -> Index {
        Index { marked, ..Index::default() }
    }

    /// A message that waits on disk, there since a send or since before the start.
    pub(super) fn add(&mut self, number: u64, visible_at: Timestamp, receives: u32, now: Timestamp) {
        if receives > 0 {
            self.received.insert(number, Received { receives, take: None });
        }
        if visible_at <= now {
            self.visible.insert(number);
        } else {
            self.delayed.insert(number, visible_at);
            self.ends.insert((visible_at, number));
        }
    }

    pub(super) fn add_visible(&mut self, number: u64) {
        self.visible.insert(number);
    }

    pub(super) fn knows(&self, number: u64) -> bool {
        self.visible.contains(&number)
            || self.delayed.contains_key(&number)
            || self.in_flight.contains_key(&number)
            || self.leaving.contains_key(&number)
    }

    /// Drops what is not on disk any more.
    pub(super) fn keep(&mut self, on_disk: &BTreeSet<u64>) {
        self.visible.retain(|number| on_disk.contains(number));
        self.delayed.retain(|number, _| on_disk.contains(number));
        self.in_flight.retain(|number, _| on_disk.contains(number));
        self.ends.retain(|(_, number)| on_disk.contains(number));
        self.received.retain(|number, _| on_disk.contains(number));
    }

    /// Promises up to `wanted` places of a queue that holds `capacity`.
    pub(super) fn reserve(&mut self, wanted: u64, capacity: u64) -> u64 {
        let granted = wanted.min(capacity.saturating_sub(self.total()));
        self.reserved += granted;
        granted
    }

    pub(super) fn give_back(&mut self, places: u64) {
        self.reserved -= places;
    }

    /// Ends what has ended by `now`; gives those that come back unforgotten with their receive counts.
    pub(super) fn advance(&mut self, now: Timestamp) -> Vec<(u64, u32)> {
        let mut returned = Vec::new();
        while let Some(&(end, number)) = self.ends.first()
            && end <= now
        {
            self.ends.pop_first();
            if self.delayed.remove(&number).is_some() {
                self.visible.insert(number);
            } else if let Some(flight) = self.in_flight.remove(&number) {
                returned.push(self.come_back(number, flight));
            }
        }
        returned
    }

    /// The next time at which `advance` has something to do.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|&(end, _)| end)
    }

    /// The mark that `take` needs first: without it a crash would forget that these were received.
    pub(super) fn mark_needed(&self, max: usize, dead_after: Option<u32>) -> Option<u64> {
        let lives = |number: &&u64| !self.is_worn_out(**number, dead_after);
        let highest = self.visible.iter().filter(lives).take(max).last()?;
        (*highest > self.marked).then_some(highest + MARK_AHEAD)
    }

    pub(super) fn mark(&mut self, number: u64) {
        self.marked = self.marked.max(number);
    }

    fn is_worn_out(&self, number: u64, dead_after: Option<u32>) -> bool {
        dead_after.is_some_and(|limit| self.received.get(&number).is_some_and(|before| before.receives >= limit))
    }

    /// Hides up to `max` visible messages until `until`. Those received `dead_after` times already leave instead, into
    /// the second list.
    pub(super) fn take(&mut self, max: usize, until: Timestamp, dead_after: Option<u32>) -> (Vec<Taken>, Vec<u64>) {
        let (mut taken, mut dead) = (Vec::new(), Vec::new());
        while taken.len() < max
            && let Some(number) = self.visible.pop_first()
        {
            self.takes += 1;
            let worn_out = self.is_worn_out(number, dead_after);
            let before = self.received.remove(&number).map_or(0, |before| before.receives);
            let mut flight = Flight { take: self.takes, until, receives: before };
            if worn_out {
                self.leaving.insert(number, flight);
                dead.push(number);
                continue;
            }
            flight.receives += 1;
            self.in_flight.insert(number, flight);
            self.ends.insert((until, number));
            taken.push(Taken { number, take: flight.take, receives: flight.receives });
        }
        (taken, dead)
    }

    /// Undoes a take whose bodies could not be read: it does not count as a receive.
    pub(super) fn untake(&mut self, taken: &Taken) {
        if let Some(mut flight) = self.land(taken.number, taken.take) {
            flight.receives -= 1;
            self.come_back(taken.number, flight);
        }
    }

    /// A taken message is damaged and belongs to this queue no more.
    pub(super) fn drop_taken(&mut self, taken: &Taken) {
        self.land(taken.number, taken.take);
    }

    /// False for a stale receipt.
    pub(super) fn holds(&self, number: u64, take: u64) -> bool {
        self.in_flight.get(&number).is_some_and(|flight| flight.take == take)
    }

    /// False for a stale receipt.
    pub(super) fn extend(&mut self, number: u64, take: u64, until: Timestamp) -> bool {
        let Some(flight) = self.in_flight.get_mut(&number).filter(|flight| flight.take == take) else {
            return false;
        };
        self.ends.remove(&(flight.until, number));
        flight.until = until;
        self.ends.insert((until, number));
        true
    }

    /// The receive count of what became visible again; `None` for a stale receipt.
    pub(super) fn release(&mut self, number: u64, take: u64) -> Option<(u64, u32)> {
        let flight = self.land(number, take)?;
        Some(self.come_back(number, flight))
    }

    /// False for a stale receipt. Until `left` or `stayed` the message is neither visible nor forgotten. It may be visible again:
    /// its last receipt is stale only once it was taken again.
    pub(super) fn leave(&mut self, number: u64, take: u64) -> bool {
        let Some(flight) = self.land(number, take).or_else(|| self.land_visible(number, take)) else { return false };
        self.leaving.insert(number, flight);
        true
    }

    fn land_visible(&mut self, number: u64, take: u64) -> Option<Flight> {
        let received = *self.received.get(&number).filter(|received| received.take == Some(take))?;
        self.visible.remove(&number).then(|| {
            self.received.remove(&number);
            // Should it stay, it is visible again at once.
            Flight { take, until: Timestamp::MIN, receives: received.receives }
        })
    }

    pub(super) fn left(&mut self, number: u64) {
        self.leaving.remove(&number);
    }

    pub(super) fn stayed(&mut self, number: u64) {
        if let Some(flight) = self.leaving.remove(&number) {
            self.in_flight.insert(number, flight);
            self.ends.insert((flight.until, number));
        }
    }

    pub(super) fn depth(&self) -> Depth {
        Depth {
            visible: self.visible.len() as u64,
            in_flight: (self.in_flight.len() + self.leaving.len()) as u64,
            delayed: self.delayed.len() as u64,
        }
    }

    fn total(&self) -> u64 {
        self.depth().total() + self.reserved
    }

    fn land(&mut self, number: u64, take: u64) -> Option<Flight> {
        self.in_flight.get(&number).filter(|flight| flight.take == take)?;
        let flight = self.in_flight.remove(&number)?;
        self.ends.remove(&(flight.until, number));
        Some(flight)
    }

    fn come_back(&mut self, number: u64, flight: Flight) -> (u64, u32) {
        self.visible.insert(number);
        if flight.receives > 0 {
            self.received.insert(number, Received { receives: flight.receives, take: Some(flight.take) });
        }
        (number, flight.receives)
    }
}

/// `now` plus `wait`; the end of time when that cannot be written down.
pub(in crate::embedded) fn later(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}
