//! Life-safety alerts, pushed by senders with a critical grant [S7].

use super::{Id, Records, Source};
use crate::decode::Format;
use crate::decode::alert::Alert;
use crate::record::{Tier, Topic};

pub(super) static SOURCE: Source = Source {
    ids: &[critical("evacuation_alert_*"), critical("emergency_broadcast_*"), critical("life_safety_*")],
    records: Some(Records {
        format: Format::ALERT,
        data: |generator| generator.subschema_for::<Alert>(),
        key: &["data.sender", "data.identifier", "data.sent"],
        in_order: true,
        lasting: false,
    }),
    service: None,
};

const fn critical(pattern: &'static str) -> Id {
    Id { pattern, name: "Life-safety alert", tier: Tier::Critical, topic: Topic::CRITICAL_ALERTS }
}
