//! What senders over MQTT are told of their alerts [E5]: where it is published and what it says. Who publishes it is its
//! caller: the Lambda binary through AWS IoT, the emulator at its own endpoint.

use bytes::Bytes;
use serde_json::json;
use streammanager::error::Reject;
use streammanager::express::Accepted;
use streammanager::record::{ConnectorId, SourceId};

/// One message to publish at QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// The MQTT topic that it is published on.
    pub topic: String,
    /// One JSON object.
    pub payload: Bytes,
}

impl Confirmation {
    /// On `alerts/ack/{event_id}`: the accepted alert as JSON, as `POST /alerts` lists it.
    pub fn accepted(accepted: &Accepted) -> Confirmation {
        let payload = json!(accepted).to_string();
        Confirmation { topic: format!("alerts/ack/{}", accepted.event_id), payload: payload.into() }
    }

    /// On `alerts/refused/{connector}`: why an alert was refused, and which of several.
    pub fn refused(connector: &ConnectorId, source: Option<&SourceId>, reject: &Reject) -> Confirmation {
        let payload =
            json!({ "reason": reject.reason, "detail": reject.detail, "row": reject.row, "source_id": source });
        Confirmation { topic: format!("alerts/refused/{connector}"), payload: payload.to_string().into() }
    }
}
