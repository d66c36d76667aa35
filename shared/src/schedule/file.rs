//! `streams.yaml`, parsed once into valid values [L1]. What is registered of it stands in `streams`. What is wrong with it is told
//! at once, each mistake with its field and where that stands in the text.

mod mistakes;
mod reading;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::mistakes::{Mistake, Mistakes};
use super::lines;
use super::mqtt::{self, MqttSource};
use crate::decode::sensor::{Mappings, SensorMapping};
use crate::record::{SourceId, StreamId, TenantId};
use crate::sources::{self, Polled, Service, Step, WrongField};

/// Streams of one deployment.
pub(super) const STREAMS_MAX: usize = 1_000;

/// Ticks are planned and queued one by one.
const INTERVAL_LEAST: Duration = Duration::from_secs(1);
/// Due times must stay within the calendar.
const INTERVAL_LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StreamsFile {
    /// 1.
    pub version: u32,
    /// In the file's order; each has an id of its own.
    #[schemars(default)]
    pub streams: Vec<StreamSpec>,
    /// How the messages of one's own sensors are read [S18].
    #[schemars(default)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sensors: Vec<SensorMapping>,
    /// Brokers of others, whose messages a host takes as an MQTT client.
    #[schemars(default)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
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
    /// Time between polls as text: `60s`, `5m`, `1h`. What has an end may leave it out: it goes on every minute until then [M1].
    #[schemars(default = "Interval::minute")]
    pub interval: Interval,
}

/// A duration as text, from a second to a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(Duration);

impl Interval {
    /// Of at least a second.
    pub fn seconds(seconds: u32) -> Interval {
        Interval(Duration::from_secs(u64::from(seconds.max(1))))
    }

    /// Of a stream that has an end and names none.
    pub(super) fn minute() -> Interval {
        Interval::seconds(60)
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
    /// What the shape cannot say.
    fn check(&self) -> Vec<WrongField> {
        let mut wrong = Vec::new();
        if self.version != 1 {
            let rule = format!("{} is not known; this program reads version 1", self.version);
            wrong.push(WrongField::new("version", rule));
        }
        if self.streams.len() > STREAMS_MAX {
            let rule = format!("{} streams, {STREAMS_MAX} at most", self.streams.len());
            wrong.push(WrongField::new("streams", rule));
            return wrong;
        }
        for (at, spec) in self.streams.iter().enumerate() {
            let mut here = spec.check();
            if self.streams[..at].iter().any(|other| other.id == spec.id) {
                here.push(WrongField::new("id", format!("another stream has the id {} already", spec.id)));
            }
            wrong.extend(here.into_iter().map(|wrong| wrong.within([Step::from("streams"), Step::Item(at)])));
        }
        if let Err(sensors) = Mappings::new(&self.sensors) {
            wrong.extend(sensors.within([Step::from("sensors")]));
        }
        if let Err(brokers) = mqtt::check(&self.mqtt) {
            wrong.extend(brokers.within([Step::from("mqtt")]));
        }
        for (at, broker) in self.mqtt.iter().enumerate() {
            if self.streams.iter().any(|spec| spec.id == broker.id) {
                let rule = format!("a stream has the id {} already", broker.id);
                wrong.push(WrongField::new("id", rule).within([Step::from("mqtt"), Step::Item(at)]));
            }
        }
        let too_much = |load: &Load| load.a_minute > f64::from(load.service.manners.a_minute);
        let loads = self.loads();
        wrong.extend(
            loads.iter().filter(|load| too_much(load)).map(|load| WrongField::new("streams", load.to_string())),
        );
        wrong
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

impl StreamSpec {
    fn check(&self) -> Vec<WrongField> {
        let mut wrong = Vec::new();
        let (gives, reads) = (self.polled.format().name, sources::format_of(&self.source_id));
        if let Err(reject) = sources::route(&self.source_id, false) {
            wrong.push(WrongField::new("source_id", reject.detail));
        } else if reads.is_none_or(|reads| reads.name != gives) {
            let what = reads.map_or("not read from anything yet".into(), |reads| format!("read from {}", reads.name));
            let (id, connector) = (&self.source_id, self.polled.kind());
            let rule = format!("{id} is {what}, and the connector {connector} gives {gives}");
            wrong.push(WrongField::new("source_id", rule));
        }
        let service = self.polled.service();
        let least = service.manners.least_interval;
        let points = self.polled.points_a_day(self.interval.get());
        if self.interval.get() < least {
            let rule = format!("{} must not be polled more often than every {} s", service.name, least.as_secs());
            wrong.push(WrongField::new("interval", rule));
        } else if let Some((least, may)) = points
            && least > may
        {
            let rule = format!("the calls alone are {least} points a day at this interval, and it may use {may}");
            wrong.push(WrongField::new("interval", rule));
        }
        wrong
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
