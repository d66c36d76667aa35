//! NOAA's active alerts as files: api.weather.gov's GeoJSON, CAP, and the feeds that carry it [S2, S7]. Nothing polls them yet.

use super::{Id, Records, Source};
use crate::decode::Format;
use crate::decode::alert::Alert;
use crate::record::{Tier, Topic};

pub(super) static SOURCE: Source = Source {
    // HIGH, although other weather is NORMAL: whatever is called an alert is [P2].
    ids: &[Id { pattern: "noaa_alerts", name: "NOAA weather alert", tier: Tier::High, topic: Topic::WEATHER }],
    records: Some(Records {
        format: Format::ALERT,
        data: |generator| generator.subschema_for::<Alert>(),
        key: &["data.sender", "data.identifier", "data.sent"],
        in_order: true,
    }),
    service: None,
};
