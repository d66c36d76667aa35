//! What this process remembers of who asked: connectors seen lately, so that an alert costs no read of the store, and how
//! many audit entries who has caused in this minute. A cache only; who uses it reads the store and decides. How long ago
//! something was read is told by the monotonic clock: a host's clock that is set neither keeps a revoked key nor ends a good one.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::control::connector::Connector;
use crate::control::pace::{Paces, Turn};
use crate::limits::{AUDIT_COUNTERS, CONNECTORS_CACHED};
use crate::record::ConnectorId;
use crate::time::Timestamp;

/// One a process.
#[derive(Debug, Default)]
pub struct Admission {
    connectors: Mutex<BTreeMap<ConnectorId, (Instant, Connector)>>,
    /// By the principal of an MQTT connection; asked only while the store is away.
    principals: Mutex<BTreeMap<String, (Instant, Connector)>>,
    /// What is being read from the store.
    reads: Mutex<BTreeSet<String>>,
    /// Entries of the audit log that each name has caused in the minute, counted since 1970, that stands beside.
    audited: Mutex<BTreeMap<String, (i64, u64)>>,
    paces: Paces,
}

impl Admission {
    /// The connector as it was last read, and when.
    pub(crate) fn cached(&self, id: &ConnectorId) -> Option<(Instant, Connector)> {
        self.connectors.lock().get(id).cloned()
    }

    pub(crate) fn keep(&self, connector: &Connector) {
        let mut connectors = self.connectors.lock();
        if connectors.len() >= CONNECTORS_CACHED {
            connectors.clear();
        }
        connectors.insert(connector.registration.id.clone(), (Instant::now(), connector.clone()));
    }

    pub(crate) fn forget(&self, id: &ConnectorId) {
        self.connectors.lock().remove(id);
        self.principals.lock().retain(|_, (_, connector)| connector.registration.id != *id);
    }

    /// Whom the principal named when the store last answered, and when that was.
    pub(crate) fn named(&self, principal: &str) -> Option<(Instant, Connector)> {
        self.principals.lock().get(principal).cloned()
    }

    pub(crate) fn keep_named(&self, principal: &str, found: Option<&Connector>) {
        let mut principals = self.principals.lock();
        if principals.len() >= CONNECTORS_CACHED {
            principals.clear();
        }
        match found {
            Some(connector) => drop(principals.insert(principal.to_owned(), (Instant::now(), connector.clone()))),
            None => drop(principals.remove(principal)),
        }
    }

    /// `false`: it is being read already.
    pub(crate) fn begin_read(&self, name: &str) -> bool {
        self.reads.lock().insert(name.to_owned())
    }

    pub(crate) fn end_read(&self, name: &str) {
        self.reads.lock().remove(name);
    }

    /// Takes the turn of a sender that may send so much a second, if it has one now.
    pub fn turn(&self, sender: &ConnectorId, a_second: NonZeroU32) -> Turn {
        self.paces.turn(sender, a_second)
    }

    /// Takes its next turn, and tells how long it is until then.
    pub(crate) fn next_turn(&self, sender: &ConnectorId, a_second: NonZeroU32) -> (Turn, Duration) {
        self.paces.next_turn(sender, a_second)
    }

    /// Gives back a turn that was not waited for.
    pub(crate) fn give_back(&self, sender: &ConnectorId) {
        self.paces.give_back(sender);
    }

    /// The number of this audit entry within its minute, counted under the name `whose`.
    pub(crate) fn next_entry(&self, whose: &str, now: Timestamp) -> u64 {
        let minute = now.as_second().div_euclid(60);
        let mut counts = self.audited.lock();
        if counts.len() >= AUDIT_COUNTERS && !counts.contains_key(whose) {
            counts.retain(|_, (counted_in, _)| *counted_in == minute);
        }
        let count = counts.entry(whose.to_owned()).or_default();
        *count = if count.0 == minute { (minute, count.1 + 1) } else { (minute, 1) };
        count.1
    }
}
