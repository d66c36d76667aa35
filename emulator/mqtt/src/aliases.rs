//! Topic aliases of version 5, each way for one connection. They end with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;

use super::frame::{Fault, fault};
use super::limits::TOPIC_ALIASES;

/// What the client's aliases stand for.
pub(super) struct TheirAliases {
    topics: Vec<Option<String>>,
}

impl TheirAliases {
    pub(super) fn new() -> TheirAliases {
        TheirAliases { topics: vec![None; usize::from(TOPIC_ALIASES)] }
    }

    /// Learns an alias, or gives the topic that it stands for when the packet itself names none.
    pub(super) fn resolve(&mut self, alias: u16, topic: String) -> Result<String, Fault> {
        let invalid = fault(DisconnectReasonCode::TopicAliasInvalid, "an unknown topic alias");
        let slot = usize::from(alias).checked_sub(1).and_then(|at| self.topics.get_mut(at)).ok_or(invalid)?;
        if topic.is_empty() {
            return slot.clone().ok_or(invalid);
        }
        *slot = Some(topic.clone());
        Ok(topic)
    }
}

/// How the topic of a delivery is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// By name.
    Topic,
    /// By name, and with the alias that it has from now on.
    Introduced(u16),
    /// By its alias alone.
    Alias(u16),
}

/// The aliases that the client was given.
pub(super) struct OurAliases {
    bound: u16,
    known: BTreeMap<Arc<str>, u16>,
}

impl OurAliases {
    /// `allowed` is what the client takes.
    pub(super) fn new(allowed: u16) -> OurAliases {
        OurAliases { bound: allowed.min(TOPIC_ALIASES), known: BTreeMap::new() }
    }

    /// The first topics of a connection get the aliases, and keep them.
    pub(super) fn naming(&self, topic: &str) -> Naming {
        match self.known.get(topic) {
            Some(alias) => Naming::Alias(*alias),
            None if self.known.len() < usize::from(self.bound) => Naming::Introduced(self.known.len() as u16 + 1),
            None => Naming::Topic,
        }
    }

    /// The delivery was written so: from now on the client knows the alias.
    pub(super) fn written(&mut self, topic: &Arc<str>, naming: Naming) {
        if let Naming::Introduced(alias) = naming {
            self.known.insert(topic.clone(), alias);
        }
    }
}
