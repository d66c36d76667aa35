//! The confirmation of an alert that came over MQTT [E5]: where it is published and what it says. Who publishes it is its
//! caller: the Lambda binary through AWS IoT, the emulator at its own endpoint.

use bytes::Bytes;
use streammanager::express::Accepted;

/// One message to publish at QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// `alerts/ack/{event_id}`.
    pub topic: String,
    /// The accepted alert as JSON, as `POST /alerts` lists it.
    pub payload: Bytes,
}

impl Confirmation {
    /// The confirmation of this alert.
    pub fn of(accepted: &Accepted) -> Confirmation {
        let payload = serde_json::json!(accepted).to_string();
        Confirmation { topic: format!("alerts/ack/{}", accepted.event_id), payload: payload.into() }
    }
}
