//! `streams.yaml`, parsed once into valid values [L1]. What is registered of it stands in `streams`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::record::{SourceId, StreamId, TenantId};
use crate::sources::{self, ConnectorKind, Polled};

/// Streams of one deployment.
pub(super) const STREAMS_MAX: usize = 1_000;

/// Ticks are planned and queued one by one.
const INTERVAL_LEAST: Duration = Duration::from_secs(1);
/// Due times must stay within the calendar.
const INTERVAL_LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamsFile {
    /// 1.
    pub version: u32,
    /// In the file's order; each has an id of its own.
    pub streams: Vec<StreamSpec>,
}

/// One polled stream.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StreamSpec {
    /// Unique in a deployment.
    pub id: StreamId,
    /// What its records are published under, unless a row decides otherwise.
    pub source_id: SourceId,
    /// Which connector polls it, and what it asks for.
    #[serde(flatten)]
    pub polled: Polled,
    /// Whose records they are.
    pub tenant: TenantId,
    /// Time between polls as text: `60s`, `5m`, `1h`.
    pub interval: Interval,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Id,
    SourceId,
    Connector,
    Tenant,
    Interval,
    Config,
}

/// By hand, because a `config` must be read by its own connector's type while the parser still knows the line.
impl<'de> Deserialize<'de> for StreamSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StreamSpec, D::Error> {
        deserializer.deserialize_map(SpecVisitor)
    }
}

struct SpecVisitor;

impl<'de> Visitor<'de> for SpecVisitor {
    type Value = StreamSpec;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a stream with id, source_id, connector, tenant, interval and config")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StreamSpec, A::Error> {
        let (mut id, mut source_id, mut tenant, mut interval) = (None, None, None, None);
        let (mut connector, mut polled, mut unread) = (None, None, None);
        while let Some(field) = map.next_key()? {
            let repeated = match field {
                Field::Id => id.replace(map.next_value()?).is_some(),
                Field::SourceId => source_id.replace(map.next_value()?).is_some(),
                Field::Tenant => tenant.replace(map.next_value()?).is_some(),
                Field::Interval => interval.replace(map.next_value()?).is_some(),
                Field::Connector => connector.replace(map.next_value()?).is_some(),
                Field::Config => match connector {
                    Some(kind) => polled.replace(map.next_value_seed(ConfigOf(kind))?).is_some(),
                    // It stands before its connector: kept until that is known.
                    None => unread.replace(map.next_value::<serde_json::Value>()?).is_some(),
                },
            };
            if repeated {
                return Err(A::Error::custom("a field of the stream stands twice"));
            }
        }
        let kind: ConnectorKind = connector.ok_or_else(|| A::Error::missing_field("connector"))?;
        let polled = match (polled, unread) {
            (Some(polled), None) => polled,
            (None, Some(unread)) => kind.read(unread).map_err(A::Error::custom)?,
            (None, None) => return Err(A::Error::missing_field("config")),
            (Some(_), Some(_)) => return Err(A::Error::duplicate_field("config")),
        };
        Ok(StreamSpec {
            id: id.ok_or_else(|| A::Error::missing_field("id"))?,
            source_id: source_id.ok_or_else(|| A::Error::missing_field("source_id"))?,
            polled,
            tenant: tenant.ok_or_else(|| A::Error::missing_field("tenant"))?,
            interval: interval.ok_or_else(|| A::Error::missing_field("interval"))?,
        })
    }
}

struct ConfigOf(ConnectorKind);

impl<'de> DeserializeSeed<'de> for ConfigOf {
    type Value = Polled;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Polled, D::Error> {
        self.0.read(deserializer)
    }
}

/// A duration as text, from a second to a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(Duration);

impl Interval {
    /// Of at least a second.
    pub fn seconds(seconds: u32) -> Interval {
        Interval(Duration::from_secs(u64::from(seconds.max(1))))
    }

    /// The time between two polls.
    pub fn get(self) -> Duration {
        self.0
    }

    /// Reads `60s`, `5m`, `1h` or `2d`, from a second to a year.
    ///
    /// # Errors
    /// What is wrong with the text, for people.
    pub fn parse(text: &str) -> Result<Interval, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(format!("interval {text:?} is not a duration; write it as 60s, 5m or 1h")),
        };
        match number.parse::<u32>().map(|n| Duration::from_secs(u64::from(n) * seconds)) {
            Ok(interval) if (INTERVAL_LEAST..=INTERVAL_LONGEST).contains(&interval) => Ok(Interval(interval)),
            _ => Err(format!("interval {text:?} must be at least 1s and at most 366d")),
        }
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}s", self.0.as_secs()))
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Interval, D::Error> {
        Interval::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Interval {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Interval".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[1-9][0-9]*(s|m|h|d)$" })
    }
}

impl StreamsFile {
    /// # Errors
    /// The text says line and column for what YAML or its shape breaks, and stream and field for what a rule forbids.
    pub fn parse(text: &str) -> Result<StreamsFile, String> {
        let file: StreamsFile = yaml_serde::from_str(text).map_err(|e| placed(&e))?;
        file.check()?;
        Ok(file)
    }

    /// What the shape cannot say.
    pub fn check(&self) -> Result<(), String> {
        if self.version != 1 {
            return Err(format!("version: {} is not known; this program reads version 1", self.version));
        }
        if self.streams.len() > STREAMS_MAX {
            return Err(format!("streams: {} streams, {STREAMS_MAX} at most", self.streams.len()));
        }
        for (at, spec) in self.streams.iter().enumerate() {
            let wrong = |text: String| format!("streams[{at}] ({}): {text}", spec.id);
            if self.streams[..at].iter().any(|other| other.id == spec.id) {
                return Err(wrong("id: another stream has it already".into()));
            }
            sources::route(&spec.source_id, false).map_err(|e| wrong(format!("source_id: {}", e.detail)))?;
        }
        Ok(())
    }
}

/// The parser names no place for what is wrong at the very first one.
fn placed(problem: &yaml_serde::Error) -> String {
    let text = problem.to_string();
    if text.contains(" at line ") { text } else { format!("{text} at line 1 column 1") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "version: 1
streams:
  - id: viirs-snpp
    source_id: firms_viirs_snpp
    connector: firms
    tenant: cal-fire
    interval: 60s
    config: {product: VIIRS_SNPP_NRT, area: [-124.5, 32.5, -114.1, 42.1]}
";

    #[test]
    fn a_good_file_is_read_and_bad_ones_say_where() {
        let file = StreamsFile::parse(GOOD).unwrap();
        assert_eq!(file.streams[0].interval.get(), Duration::from_secs(60));
        let Polled::Firms(config) = &file.streams[0].polled;
        assert_eq!(config.days, 1);
        for (from, to, says) in [
            ("interval: 60s", "interval: 60", "interval"),
            ("interval: 60s", "interval: 0s", "at least 1s"),
            ("interval: 60s", "interval: 4294967295d", "at most 366d"),
            ("tenant: cal-fire", "tenant: cal-fire\n    colour: red", "line 7"),
            ("version: 1", "colour: red\nversion: 1", "`colour`, expected `version` or `streams` at line 1"),
            ("source_id: firms_viirs_snpp", "source_id: evacuation_alert_x", "critical grant"),
            ("source_id: firms_viirs_snpp", "source_id: tweets", "route table"),
            ("version: 1", "version: 2", "version"),
            ("area: [-124.5, 32.5, -114.1, 42.1]", "area: [-124.5, 32.5, -114.1, 42.1], days: 9", "config.days"),
            ("connector: firms", "connector: fax", "fax"),
        ] {
            let error = StreamsFile::parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(says), "{to:?} said {error:?}, not {says:?}");
        }
        let twice = format!("{GOOD}{}", GOOD.split_once("streams:\n").unwrap().1);
        assert!(StreamsFile::parse(&twice).unwrap_err().contains("another stream has it"));
    }
}
