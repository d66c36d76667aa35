//! What an MQTT topic `sensors/{kind}/{id}/…` says of a reading.

use crate::record::SourceId;

/// The source of a topic `sensors/{kind}/{id}/…`: `iot_{kind}`, in lower case and with `_` for `-`.
pub fn source_of(topic: &str) -> Option<SourceId> {
    let kind = topic.strip_prefix("sensors/")?.split_once('/')?.0;
    SourceId::new(&format!("iot_{}", kind.to_ascii_lowercase().replace('-', "_"))).ok()
}

/// The sensor that a topic `sensors/{kind}/{id}/…` names.
pub fn sensor_of(topic: &str) -> Option<&str> {
    topic.starts_with("sensors/").then(|| id_of(topic)).flatten()
}

/// The level after the kind: `sensors/{kind}/{id}/…`, and `{kind}/{id}/…` of other trees.
pub(super) fn id_of(topic: &str) -> Option<&str> {
    let mut levels = topic.strip_prefix("sensors/").unwrap_or(topic).split('/').skip(1);
    levels.next().filter(|id| !id.is_empty())
}
