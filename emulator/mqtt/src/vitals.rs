//! What health checks ask an MQTT server for: a few retained messages below `$SYS/broker/`, renewed in a steady beat. Who
//! wants figures asks `/metrics`.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Endpoint;
use super::message::{Message, Qos};

/// Health checks wait some seconds; Mosquitto's own beat is 10 s.
const BEAT: Duration = Duration::from_secs(10);

/// Runs until it is dropped.
pub(super) async fn publish(endpoint: &Endpoint) {
    let started = Instant::now();
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        beat.tick().await;
        let vitals = [
            ("$SYS/broker/version", format!("StreamManager {}", env!("CARGO_PKG_VERSION"))),
            ("$SYS/broker/uptime", format!("{} seconds", started.elapsed().as_secs())),
            ("$SYS/broker/clients/connected", endpoint.connections().to_string()),
        ];
        for (topic, payload) in vitals {
            let message = Message {
                topic: topic.into(),
                payload: payload.into(),
                qos: Qos::AtMostOnce,
                retain: true,
                properties: Vec::new(),
                expires_at: None,
            };
            endpoint.shared.broker.publish(None, message);
        }
    }
}
