//! Settings of a topic under Kafka's own names: which ones are honoured, which ones are accepted although they change
//! nothing on one node, and which ones are refused. Whatever a client sets is stored and described back to it.

use std::collections::BTreeMap;

use super::limits::MAX_FRAME;
use super::log::LogSettings;

/// One setting that a topic may have.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    allowed: Allowed,
    effect: Effect,
}

/// What setting it changes here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Honoured,
    /// Nothing, for the reason given.
    Nothing(&'static str),
}

/// Which values are accepted.
enum Allowed {
    Between(i64, i64),
    /// A number from 0 to 1.
    Fraction,
    Bool,
    OneOf(&'static [&'static str]),
    /// One or more of these, separated by commas.
    SomeOf(&'static [&'static str]),
    AnyList,
    /// Only this value; any other one is refused for the reason given.
    Only(&'static str, &'static str),
}

/// Kafka's types of a setting, as DescribeConfigs numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SettingType {
    Boolean = 1,
    String = 2,
    Long = 5,
    Double = 6,
    List = 7,
}

const CLEANUP_POLICY: &str = "cleanup.policy";
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
const RETENTION_BYTES: &str = "retention.bytes";
const RETENTION_MS: &str = "retention.ms";
const SEGMENT_BYTES: &str = "segment.bytes";
const TIMESTAMP_TYPE: &str = "message.timestamp.type";

const DELETE: &str = "delete";
const COMPACT: &str = "compact";
const LOG_APPEND_TIME: &str = "LogAppendTime";
const LONGEST: &str = "9223372036854775807";

const ONE_NODE: &str = "the one node holds every record, and there is no replication";
const NOT_TIERED: &str = "all records stay on this disk";
const AS_SENT: &str = "batches stay as their producer packed them";
const SYNCED: &str = "every batch is synced before it is acknowledged";
const KEPT: &str = "a compacted topic keeps every record";
const ROLLED: &str = "segments are rolled by size, and their index is in memory";
const ANY_TIME: &str = "records of any time are accepted";

const fn honoured(name: &'static str, default: &'static str, allowed: Allowed) -> Setting {
    Setting { name, default, allowed, effect: Effect::Honoured }
}

const fn harmless(name: &'static str, default: &'static str, allowed: Allowed, why: &'static str) -> Setting {
    Setting { name, default, allowed, effect: Effect::Nothing(why) }
}

use Allowed::{AnyList, Between, Bool, Fraction, OneOf, Only, SomeOf};
const NATURAL: Allowed = Between(0, i64::MAX);
const POSITIVE: Allowed = Between(1, i64::MAX);

/// What a client may ask the node itself about. None of it can be changed.
pub(super) const OF_BROKER: &[(&str, &str)] = &[
    ("auto.create.topics.enable", "true"),
    ("broker.id", "1"),
    ("default.replication.factor", "1"),
    ("delete.topic.enable", "true"),
    ("log.cleanup.policy", "delete"),
    ("log.message.timestamp.type", "CreateTime"),
    ("log.retention.check.interval.ms", "300000"),
    ("log.retention.ms", "604800000"),
    ("min.insync.replicas", "1"),
    ("node.id", "1"),
    ("num.partitions", "1"),
    ("offsets.topic.replication.factor", "1"),
];

/// Settings by which operators and tools tune the threads and the throttles of a cluster: they are accepted, kept and described
/// back, and change nothing on one node.
const TUNING: &[&str] = &[
    "background.threads",
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.io.buffer.size",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.threads",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

/// `Err` says why the node's own settings cannot be these.
pub(super) fn check_broker(settings: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in settings {
        if !TUNING.contains(&name.as_str()) {
            return Err(format!("{name} of this node cannot be changed; a topic's own settings can"));
        }
        if !value.parse::<f64>().is_ok_and(|number| number.is_finite() && number >= 0.0) {
            return Err(format!("{name} must be a number that is not negative, not {value:?}"));
        }
    }
    Ok(())
}

/// Every setting that Apache Kafka 4.1 has for a topic.
pub(super) const SETTINGS: &[Setting] = &[
    honoured(CLEANUP_POLICY, DELETE, SomeOf(&[DELETE, COMPACT])),
    harmless("compression.gzip.level", "-1", Between(-1, 9), AS_SENT),
    harmless("compression.lz4.level", "9", Between(1, 17), AS_SENT),
    harmless(
        "compression.type",
        "producer",
        OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        AS_SENT,
    ),
    harmless("compression.zstd.level", "3", Between(-131_072, 22), AS_SENT),
    harmless("delete.retention.ms", "86400000", NATURAL, KEPT),
    harmless("file.delete.delay.ms", "60000", NATURAL, "deleted files go at once"),
    harmless("flush.messages", "1", POSITIVE, SYNCED),
    harmless("flush.ms", LONGEST, NATURAL, SYNCED),
    harmless("follower.replication.throttled.replicas", "", AnyList, ONE_NODE),
    harmless("index.interval.bytes", "4096", NATURAL, ROLLED),
    harmless("leader.replication.throttled.replicas", "", AnyList, ONE_NODE),
    harmless("local.retention.bytes", "-2", Between(-2, i64::MAX), NOT_TIERED),
    harmless("local.retention.ms", "-2", Between(-2, i64::MAX), NOT_TIERED),
    harmless("max.compaction.lag.ms", LONGEST, POSITIVE, KEPT),
    honoured(MAX_MESSAGE_BYTES, "1048588", Between(0, MAX_FRAME as i64 - (64 << 10))),
    harmless("message.timestamp.after.max.ms", LONGEST, NATURAL, ANY_TIME),
    harmless("message.timestamp.before.max.ms", LONGEST, NATURAL, ANY_TIME),
    honoured(TIMESTAMP_TYPE, "CreateTime", OneOf(&["CreateTime", LOG_APPEND_TIME])),
    harmless("min.cleanable.dirty.ratio", "0.5", Fraction, KEPT),
    harmless("min.compaction.lag.ms", "0", NATURAL, KEPT),
    harmless("min.insync.replicas", "1", POSITIVE, ONE_NODE),
    harmless("preallocate", "false", Bool, "segments grow as records come"),
    harmless("remote.copy.disable", "false", Bool, NOT_TIERED),
    harmless("remote.log.delete.on.disable", "false", Bool, NOT_TIERED),
    honoured("remote.storage.enable", "false", Only("false", "this endpoint has no remote storage")),
    honoured(RETENTION_BYTES, "-1", Between(-1, i64::MAX)),
    honoured(RETENTION_MS, "604800000", Between(-1, i64::MAX)),
    honoured(SEGMENT_BYTES, "67108864", Between(1 << 10, i32::MAX as i64)),
    harmless("segment.index.bytes", "10485760", NATURAL, ROLLED),
    harmless("segment.jitter.ms", "0", NATURAL, ROLLED),
    harmless("segment.ms", "604800000", POSITIVE, ROLLED),
    harmless("unclean.leader.election.enable", "false", Bool, ONE_NODE),
];

impl Setting {
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    pub(super) fn kind(&self) -> SettingType {
        match self.allowed {
            Between(..) => SettingType::Long,
            Fraction => SettingType::Double,
            Bool | Only("false", _) => SettingType::Boolean,
            OneOf(_) | Only(..) => SettingType::String,
            SomeOf(_) | AnyList => SettingType::List,
        }
    }

    /// What DescribeConfigs says about it to a client that asks for documentation.
    pub(super) fn documentation(&self) -> String {
        match self.effect {
            Effect::Honoured => "Honoured.".to_owned(),
            Effect::Nothing(why) => format!("Accepted without effect: {why}."),
        }
    }

    /// `Err` says which values there are.
    fn check(&self, value: &str) -> Result<(), String> {
        let name = self.name;
        match &self.allowed {
            Between(least, most) => match value.parse::<i64>() {
                Ok(number) if (*least..=*most).contains(&number) => Ok(()),
                _ => Err(format!("{name} must be a number from {least} to {most}, not {value:?}")),
            },
            Fraction => match value.parse::<f64>() {
                Ok(number) if (0.0..=1.0).contains(&number) => Ok(()),
                _ => Err(format!("{name} must be a number from 0 to 1, not {value:?}")),
            },
            Bool if matches!(value, "true" | "false") => Ok(()),
            Bool => Err(format!("{name} must be true or false, not {value:?}")),
            OneOf(values) if values.contains(&value) => Ok(()),
            OneOf(values) => Err(format!("{name} must be one of {}, not {value:?}", values.join(", "))),
            SomeOf(values) if list(value).all(|part| values.contains(&part)) => Ok(()),
            SomeOf(values) => Err(format!("{name} must be one or more of {}, not {value:?}", values.join(", "))),
            // Settings are stored as lines.
            AnyList if !value.contains(char::is_control) => Ok(()),
            AnyList => Err(format!("{name} must be one line, not {value:?}")),
            Only(only, _) if value == *only => Ok(()),
            Only(only, why) => Err(format!("{name} must be {only}, not {value:?}: {why}")),
        }
    }
}

/// The parts of a setting that is a list.
pub(super) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

/// `Err` says what to do, for the client's eyes.
pub(super) fn check(settings: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in settings {
        let setting = Setting::find(name).ok_or_else(|| format!("Kafka 4.1 has no topic setting {name:?}"))?;
        setting.check(value)?;
    }
    Ok(())
}

/// The names of those that change nothing here.
pub(super) fn without_effect(settings: &BTreeMap<String, String>) -> Vec<&str> {
    let changes_nothing = |setting: &Setting| matches!(setting.effect, Effect::Nothing(_));
    settings.keys().map(String::as_str).filter(|name| Setting::find(name).is_some_and(changes_nothing)).collect()
}

fn value<'a>(settings: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    let default = Setting::find(name).map_or("", |setting| setting.default);
    settings.get(name).map_or(default, String::as_str)
}

/// Whether records may be deleted, by retention or on request. A topic that is only compacted keeps them, as in Apache Kafka.
pub(super) fn deletes(settings: &BTreeMap<String, String>) -> bool {
    list(value(settings, CLEANUP_POLICY)).any(|policy| policy == DELETE)
}

/// What of a topic's settings its logs go by.
pub(super) fn log_settings(settings: &BTreeMap<String, String>) -> LogSettings {
    let value = |name: &str| -> &str { value(settings, name) };
    let number = |name: &str| -> i64 { value(name).parse().unwrap_or(-1) };
    let deletes = deletes(settings);
    LogSettings {
        segment_bytes: number(SEGMENT_BYTES).max(0) as u64,
        max_batch: usize::try_from(number(MAX_MESSAGE_BYTES)).unwrap_or(0),
        retention_ms: Some(number(RETENTION_MS)).filter(|ms| deletes && *ms >= 0),
        retention_bytes: u64::try_from(number(RETENTION_BYTES)).ok().filter(|_| deletes),
        append_time: value(TIMESTAMP_TYPE) == LOG_APPEND_TIME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &[(&str, &str)]) -> BTreeMap<String, String> {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_default_is_a_value_that_may_be_set() {
        for setting in SETTINGS {
            assert_eq!(setting.check(setting.default), Ok(()), "{}", setting.name);
        }
        assert!(SETTINGS.is_sorted_by_key(|setting| setting.name));
    }

    #[test]
    fn a_value_that_cannot_be_meant_is_refused_with_the_values_that_can() {
        for (name, value, says) in [
            ("cleanup.policy", "compact,archive", "delete, compact"),
            ("cleanup.policy", "", "delete, compact"),
            ("retention.ms", "soon", "from -1"),
            ("min.cleanable.dirty.ratio", "2", "from 0 to 1"),
            ("min.cleanable.dirty.ratio", "NaN", "from 0 to 1"),
            ("preallocate", "yes", "true or false"),
            ("leader.replication.throttled.replicas", "*\nretention.ms=1", "one line"),
            ("message.timestamp.type", "Now", "CreateTime, LogAppendTime"),
            ("remote.storage.enable", "true", "no remote storage"),
            ("retention", "1", "no topic setting"),
        ] {
            let refused = check(&of(&[(name, value)])).unwrap_err();
            assert!(refused.contains(name) && refused.contains(says), "{refused:?} does not say {says:?}");
        }
    }

    #[test]
    fn only_a_policy_that_deletes_has_retention() {
        let kept = |policy: &str| {
            let settings = of(&[(CLEANUP_POLICY, policy), (RETENTION_MS, "1000"), (RETENTION_BYTES, "2000")]);
            let settings = (check(&settings), log_settings(&settings));
            (settings.0, settings.1.retention_ms, settings.1.retention_bytes)
        };
        assert_eq!(kept("compact"), (Ok(()), None, None));
        for policy in ["delete", "compact,delete", "delete, compact"] {
            assert_eq!(kept(policy), (Ok(()), Some(1_000), Some(2_000)), "{policy}");
        }
    }

    #[test]
    fn settings_without_effect_are_known_by_name() {
        let settings = of(&[("min.insync.replicas", "2"), ("retention.ms", "1"), ("segment.ms", "60000")]);
        assert_eq!(check(&settings), Ok(()));
        assert_eq!(without_effect(&settings), ["min.insync.replicas", "segment.ms"]);
    }
}
