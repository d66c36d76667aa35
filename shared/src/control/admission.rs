//! What this process remembers of who asked: connectors seen lately, so that an alert costs no read of the store, and how
//! many strangers were refused in this minute. A cache only; who uses it reads the store and decides.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::control::connector::Connector;
use crate::limits::CONNECTORS_CACHED;
use crate::record::ConnectorId;
use crate::time::Timestamp;

/// One a process.
#[derive(Debug, Default)]
pub struct Admission {
    connectors: Mutex<BTreeMap<ConnectorId, (Timestamp, Connector)>>,
    strangers: Mutex<Strangers>,
}

/// Refusals within one minute since 1970.
#[derive(Debug, Default)]
struct Strangers {
    minute: i64,
    refused: u64,
}

impl Admission {
    /// The connector as it was last read, and when.
    pub(crate) fn cached(&self, id: &ConnectorId) -> Option<(Timestamp, Connector)> {
        self.connectors.lock().get(id).cloned()
    }

    pub(crate) fn keep(&self, connector: &Connector, read_at: Timestamp) {
        let mut connectors = self.connectors.lock();
        if connectors.len() >= CONNECTORS_CACHED {
            connectors.clear();
        }
        connectors.insert(connector.registration.id.clone(), (read_at, connector.clone()));
    }

    pub(crate) fn forget(&self, id: &ConnectorId) {
        self.connectors.lock().remove(id);
    }

    /// The number of this refusal of a stranger within its minute.
    pub(crate) fn stranger(&self, now: Timestamp) -> u64 {
        let mut strangers = self.strangers.lock();
        let minute = now.as_second().div_euclid(60);
        if strangers.minute != minute {
            *strangers = Strangers { minute, refused: 0 };
        }
        strangers.refused += 1;
        strangers.refused
    }
}
