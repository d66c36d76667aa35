//! One message as it is handed from a publisher to subscribers. How it looks on the wire is in `encode`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet::{self, Property};
use tokio::time::Instant;

/// The qualities of service, from the weakest to the strongest, under the names that the standard gives them.
#[allow(clippy::enum_variant_names)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Qos {
    AtMostOnce,
    AtLeastOnce,
    ExactlyOnce,
}

impl From<Qos> for u8 {
    fn from(qos: Qos) -> u8 {
        match qos {
            Qos::AtMostOnce => 0,
            Qos::AtLeastOnce => 1,
            Qos::ExactlyOnce => 2,
        }
    }
}

impl From<packet::Qos> for Qos {
    fn from(qos: packet::Qos) -> Qos {
        match qos {
            packet::Qos::AtMostOnce => Qos::AtMostOnce,
            packet::Qos::AtLeastOnce => Qos::AtLeastOnce,
            packet::Qos::ExactlyOnce => Qos::ExactlyOnce,
        }
    }
}

impl From<Qos> for packet::Qos {
    fn from(qos: Qos) -> packet::Qos {
        match qos {
            Qos::AtMostOnce => packet::Qos::AtMostOnce,
            Qos::AtLeastOnce => packet::Qos::AtLeastOnce,
            Qos::ExactlyOnce => packet::Qos::ExactlyOnce,
        }
    }
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// Version 5 properties that travel on to subscribers: format, content type, response topic, correlation data,
    /// user properties.
    pub(super) properties: Vec<Property>,
    /// Version 5 message expiry.
    pub(super) expires_at: Option<Instant>,
}

impl Message {
    pub(super) fn is_expired(&self) -> bool {
        self.expires_at.is_some_and(|at| at <= Instant::now())
    }

    /// What is left of the message expiry, for the copy sent on.
    pub(super) fn expires_in(&self) -> Option<Duration> {
        self.expires_at.map(|at| at.saturating_duration_since(Instant::now()))
    }
}

/// A message on its way to one subscriber, at the lower of both qualities of service.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) message: Arc<Message>,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// Version 5: the identifiers of the subscriptions that cover it.
    pub(super) identifiers: Vec<u32>,
}
