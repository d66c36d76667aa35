//! `streams.yaml`, parsed once into valid values [L1]. What is registered of it stands in `streams`. What is wrong with it is told with its field, and where that stands in the
//! text.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::lines;
use super::mqtt::{self, MqttSource};
use crate::decode::sensor::{Mappings, SensorMapping};
use crate::record::{SourceId, StreamId, TenantId};
use crate::sources::{self, ConnectorKind, Polled, Service, Step, WrongField};

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
    #[serde(default)]
    pub streams: Vec<StreamSpec>,
    /// How the messages of one's own sensors are read [S18].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensors: Vec<SensorMapping>,
    /// Brokers of others, whose messages a host takes as an MQTT client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mqtt: Vec<MqttSource>,
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

/// The file before the streams' `config` was read by their connectors.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "version, streams, sensors and mqtt")]
struct UnreadFile {
    version: u32,
    #[serde(default)]
    streams: Vec<UnreadSpec>,
    #[serde(default)]
    sensors: Vec<SensorMapping>,
    #[serde(default)]
    mqtt: Vec<MqttSource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a stream with id, source_id, connector, tenant, interval and config")]
struct UnreadSpec {
    id: StreamId,
    source_id: SourceId,
    connector: ConnectorKind,
    tenant: TenantId,
    interval: Interval,
    config: Value,
}

impl TryFrom<UnreadSpec> for StreamSpec {
    type Error = WrongField;

    fn try_from(unread: UnreadSpec) -> Result<StreamSpec, WrongField> {
        let UnreadSpec { id, source_id, connector, tenant, interval, config } = unread;
        let polled = connector.read(config).map_err(|wrong| wrong.within([Step::from("config")]))?;
        Ok(StreamSpec { id, source_id, polled, tenant, interval })
    }
}

impl<'de> Deserialize<'de> for StreamSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StreamSpec, D::Error> {
        UnreadSpec::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
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
    fn schema_name() -> Cow<'static, str> {
        "Interval".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[1-9][0-9]*(s|m|h|d)$" })
    }
}

impl StreamsFile {
    /// # Errors
    /// The text says the field and what is wrong with it, with line and column.
    pub fn parse(text: &str) -> Result<StreamsFile, String> {
        let value = lines::unique(text).map_err(|e| match e.location() {
            Some(_) => e.to_string(),
            None => format!("{e} at line 1 column 1"),
        })?;
        let read = StreamsFile::read(value).and_then(|file| file.check().map(|()| file));
        read.map_err(|wrong| {
            let (line, column) = lines::find(text, wrong.path());
            format!("{wrong} at line {line} column {column}")
        })
    }

    fn read(value: Value) -> Result<StreamsFile, WrongField> {
        if value.is_array() {
            return Err(WrongField::whole("it is a list, expected version, streams, sensors and mqtt"));
        }
        let UnreadFile { version, streams, sensors, mqtt } = sources::read(value)?;
        let spec = |(at, unread): (usize, UnreadSpec)| {
            StreamSpec::try_from(unread).map_err(|wrong| wrong.within([Step::from("streams"), Step::Item(at)]))
        };
        let streams: Result<Vec<StreamSpec>, WrongField> = streams.into_iter().enumerate().map(spec).collect();
        Ok(StreamsFile { version, streams: streams?, sensors, mqtt })
    }

    /// What the shape cannot say.
    pub fn check(&self) -> Result<(), WrongField> {
        if self.version != 1 {
            let rule = format!("{} is not known; this program reads version 1", self.version);
            return Err(WrongField::new("version", rule));
        }
        if self.streams.len() > STREAMS_MAX {
            let rule = format!("{} streams, {STREAMS_MAX} at most", self.streams.len());
            return Err(WrongField::new("streams", rule));
        }
        for (at, spec) in self.streams.iter().enumerate() {
            let wrong = |field: &str, rule: String| {
                Err(WrongField::new(field, rule).within([Step::from("streams"), Step::Item(at)]))
            };
            if self.streams[..at].iter().any(|other| other.id == spec.id) {
                return wrong("id", format!("another stream has the id {} already", spec.id));
            }
            if let Err(reject) = sources::route(&spec.source_id, false) {
                return wrong("source_id", reject.detail);
            }
            let (gives, reads) = (spec.polled.format().name, sources::format_of(&spec.source_id));
            if reads.is_none_or(|reads| reads.name != gives) {
                let what =
                    reads.map_or("not read from anything yet".into(), |reads| format!("read from {}", reads.name));
                let (id, connector) = (&spec.source_id, spec.polled.kind());
                return wrong("source_id", format!("{id} is {what}, and the connector {connector} gives {gives}"));
            }
            let service = spec.polled.service();
            let least = service.manners.least_interval;
            if spec.interval.get() < least {
                let rule = format!("{} must not be polled more often than every {} s", service.name, least.as_secs());
                return wrong("interval", rule);
            }
            if let Some((least, may)) = spec.polled.points_a_day(spec.interval.get())
                && least > may
            {
                let rule = format!("the calls alone are {least} points a day at this interval, and it may use {may}");
                return wrong("interval", rule);
            }
        }
        Mappings::new(&self.sensors).map_err(|wrong| wrong.within([Step::from("sensors")]))?;
        mqtt::check(&self.mqtt).map_err(|wrong| wrong.within([Step::from("mqtt")]))?;
        if let Some(at) = self.mqtt.iter().position(|broker| self.streams.iter().any(|spec| spec.id == broker.id)) {
            let rule = format!("a stream has the id {} already", self.mqtt[at].id);
            return Err(WrongField::new("id", rule).within([Step::from("mqtt"), Step::Item(at)]));
        }
        match self.loads().iter().find(|load| load.a_minute > f64::from(load.service.manners.a_minute)) {
            Some(load) => Err(WrongField::new("streams", load.to_string())),
            None => Ok(()),
        }
    }

    /// How often the file's streams ask each service [S11].
    pub fn loads(&self) -> Vec<Load> {
        let mut loads: Vec<Load> = Vec::new();
        for spec in &self.streams {
            let (service, address) = (spec.polled.service(), spec.polled.address());
            let a_minute = spec.polled.requests() as f64 * 60.0 / spec.interval.get().as_secs_f64();
            let at = loads.iter().position(|load| load.address == address).unwrap_or_else(|| {
                loads.push(Load {
                    service,
                    address: address.to_owned(),
                    streams: 0,
                    a_minute: 0.0,
                    points_a_day: None,
                });
                loads.len() - 1
            });
            let load = &mut loads[at];
            load.streams += 1;
            load.a_minute += a_minute;
            if let Some((least, may)) = spec.polled.points_a_day(spec.interval.get()) {
                let (all_least, all_may) = load.points_a_day.unwrap_or_default();
                load.points_a_day = Some((all_least + least, all_may + may));
            }
        }
        loads
    }
}

/// What all streams of a file together ask of one service.
#[derive(Debug, Clone)]
pub struct Load {
    /// Who is asked.
    pub service: &'static Service,
    /// Where: the service's own address, or that of a layer's server.
    pub address: String,
    /// By so many streams.
    pub streams: usize,
    /// So often.
    pub a_minute: f64,
    /// What the calls alone cost in a day, and what all may cost; `None` where asking is free.
    pub points_a_day: Option<(u64, u64)>,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (service, streams, most) = (self.service, self.streams, self.service.manners.a_minute);
        let plural = if streams == 1 { "" } else { "s" };
        write!(
            f,
            "{} ({}): {streams} stream{plural}, {:.1} requests a minute of {most}",
            service.name, self.address, self.a_minute
        )?;
        match self.points_a_day {
            Some((least, may)) => write!(f, "; {least} points a day for the calls alone, {may} at the most"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
