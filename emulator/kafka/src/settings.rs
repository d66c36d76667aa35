//! Settings of a topic under Kafka's own names: which exist here, their defaults, what a value may be.
//! A setting that this endpoint would not honour is refused, never stored and ignored.

use std::collections::BTreeMap;

use super::limits::MAX_FRAME;
use super::log::LogSettings;

pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    allowed: Allowed,
}

enum Allowed {
    Only(&'static str),
    Between(i64, i64),
}

/// Kafka's types of a setting, as DescribeConfigs numbers them.
#[derive(Clone, Copy)]
pub(super) enum SettingType {
    String = 2,
    Long = 5,
}

const fn only(name: &'static str, value: &'static str) -> Setting {
    Setting { name, default: value, allowed: Allowed::Only(value) }
}

const fn between(name: &'static str, default: &'static str, least: i64, most: i64) -> Setting {
    Setting { name, default, allowed: Allowed::Between(least, most) }
}

const RETENTION_MS: &str = "retention.ms";
const RETENTION_BYTES: &str = "retention.bytes";
const SEGMENT_BYTES: &str = "segment.bytes";
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

pub(super) const SETTINGS: &[Setting] = &[
    only("cleanup.policy", "delete"),
    only("compression.type", "producer"),
    between("flush.messages", "1", 1, i64::MAX),
    between(MAX_MESSAGE_BYTES, "1048588", 0, MAX_FRAME as i64 - (64 << 10)),
    only("message.timestamp.type", "CreateTime"),
    only("min.insync.replicas", "1"),
    between(RETENTION_BYTES, "-1", -1, i64::MAX),
    between(RETENTION_MS, "604800000", -1, i64::MAX),
    between(SEGMENT_BYTES, "67108864", 1 << 10, 1 << 30),
];

impl Setting {
    pub(super) fn kind(&self) -> SettingType {
        match self.allowed {
            Allowed::Only(_) => SettingType::String,
            Allowed::Between(..) => SettingType::Long,
        }
    }
}

/// `Err` says what to do, for the client's eyes.
pub(super) fn check(settings: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in settings {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
            return Err(format!("the embedded Kafka endpoint has no setting {name:?}"));
        };
        match setting.allowed {
            Allowed::Only(only) if value == only => {}
            Allowed::Only(only) => return Err(format!("{name} can only be {only:?} on the embedded Kafka endpoint")),
            Allowed::Between(least, most) => {
                if !value.parse().is_ok_and(|value: i64| (least..=most).contains(&value)) {
                    return Err(format!("{name} must be a number from {least} to {most}, not {value:?}"));
                }
            }
        }
    }
    Ok(())
}

pub(super) fn log_settings(settings: &BTreeMap<String, String>) -> LogSettings {
    let number = |name: &str| -> i64 {
        let default = SETTINGS.iter().find(|setting| setting.name == name).map_or("", |setting| setting.default);
        settings.get(name).map_or(default, String::as_str).parse().unwrap_or(-1)
    };
    LogSettings {
        segment_bytes: number(SEGMENT_BYTES).max(0) as u64,
        max_batch: usize::try_from(number(MAX_MESSAGE_BYTES)).unwrap_or(0),
        retention_ms: Some(number(RETENTION_MS)).filter(|ms| *ms >= 0),
        retention_bytes: u64::try_from(number(RETENTION_BYTES)).ok(),
    }
}
