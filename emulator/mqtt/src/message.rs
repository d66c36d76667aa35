//! One message as it is handed from a publisher to subscribers. How it looks on the wire is in `encode`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet::Property;
use tokio::time::Instant;

/// The two qualities of service that are served; QoS 2 is refused where packets are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Qos {
    AtMostOnce,
    AtLeastOnce,
}

impl From<Qos> for u8 {
    fn from(qos: Qos) -> u8 {
        match qos {
            Qos::AtMostOnce => 0,
            Qos::AtLeastOnce => 1,
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
}
