//! Exactly once, inbound: which publishes of QoS 2 a session has taken whose packet ids its client has not released yet.
//! A publish that comes again is answered again, and neither the gate nor a subscriber sees it twice.
//!
//! It is kept in memory: over a restart of the endpoint QoS 2 is at least once, as any crash repeats what was in flight.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::limits::UNRELEASED_PUBLISHES;

/// Tells a publish that is sent again from another one under the same packet id: a client that has lost its memory begins
/// with id 1 anew, and what it has to say is new. Equal content under an id that is not released counts as the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn of(topic: &str, payload: &[u8]) -> Fingerprint {
        let mut hasher = DefaultHasher::new();
        (topic, payload).hash(&mut hasher);
        Fingerprint(hasher.finish())
    }
}

/// Oldest first.
#[derive(Default)]
pub(super) struct Unreleased {
    publishes: VecDeque<(u16, Fingerprint)>,
}

impl Unreleased {
    pub(super) fn holds(&self, packet_id: u16, fingerprint: Fingerprint) -> bool {
        self.publishes.contains(&(packet_id, fingerprint))
    }

    pub(super) fn len(&self) -> usize {
        self.publishes.len()
    }

    /// The oldest is forgotten at the bound: sent again it would be taken twice, but nothing is lost.
    pub(super) fn insert(&mut self, packet_id: u16, fingerprint: Fingerprint) {
        self.release(packet_id);
        if self.publishes.len() >= UNRELEASED_PUBLISHES {
            self.publishes.pop_front();
        }
        self.publishes.push_back((packet_id, fingerprint));
    }

    /// Whether the packet id was held.
    pub(super) fn release(&mut self, packet_id: u16) -> bool {
        let held = self.publishes.len();
        self.publishes.retain(|(id, _)| *id != packet_id);
        self.publishes.len() < held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_unreleased_publishes_forgets_the_oldest_and_stays_bounded() {
        let mut unreleased = Unreleased::default();
        let print = Fingerprint::of("t", b"x");
        for id in 1..=u16::MAX {
            unreleased.insert(id, print);
        }
        assert_eq!(unreleased.len(), UNRELEASED_PUBLISHES);
        assert!(unreleased.holds(u16::MAX, print) && !unreleased.holds(1, print));
        assert!(!unreleased.holds(u16::MAX, Fingerprint::of("t", b"y")), "another message under the same id");
        assert!(unreleased.release(u16::MAX) && !unreleased.release(u16::MAX));
    }
}
