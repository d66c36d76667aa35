//! Sensors that push their readings over MQTT [S3], and the form of every reading, whichever way it came.

use super::{Id, Records, Source};
use crate::decode::Format;
use crate::decode::sensor::Reading;
use crate::record::{Tier, Topic};

pub(super) static SOURCE: Source =
    Source { ids: &[sensor("iot_*", "IoT sensor")], records: Some(RECORDS), service: None };

/// One reading of one sensor.
pub(super) const RECORDS: Records = Records {
    format: Format::SENSOR,
    data: |generator| generator.subschema_for::<Reading>(),
    key: &["data.sensor_id", "data.measured_at", "data.message_id"],
    in_order: true,
    lasting: false,
};

pub(super) const fn sensor(pattern: &'static str, name: &'static str) -> Id {
    Id { pattern, name, tier: Tier::Normal, topic: Topic::IOT_SENSORS }
}
