//! Settings: data, parsed once into valid values from an environment-like lookup. Components are built from them elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::Serialize;

use crate::queue::QueueRef;
use crate::record::{SCHEMAS, Tier};
use crate::sink;
use crate::sources::Services;

/// A setting that is missing or wrong: names the variable and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {rule}")]
pub struct BadSetting {
    /// The environment variable, such as `HIGH_QUEUE_URL`.
    pub name: String,
    /// What the variable must be, as a clause that follows its name.
    pub rule: String,
}

/// A variable of an environment without blanks around it; an empty one counts as not set.
pub fn variable<'a>(environment: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    environment.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
}

/// A text that is never shown; absent when it was not given.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Option<String>);

impl Secret {
    /// A secret that was given.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(Some(text.into()))
    }

    /// The text, for whoever sends it.
    pub fn reveal(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Secret(***)" } else { "Secret(none)" })
    }
}

/// The queues of the template, as the backend addresses them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queues {
    /// Alerts that the broker did not acknowledge in time [E2].
    pub critical: QueueRef,
    /// Envelopes of tier HIGH [P1].
    pub high: QueueRef,
    /// Envelopes of tier NORMAL [P1].
    pub normal: QueueRef,
    /// Envelopes of tier LOW [P1].
    pub low: QueueRef,
    /// Ticks of streams polled less often than hourly [M1].
    pub batch_ticks: QueueRef,
    /// Ticks of streams polled every 30 s to every hour [M1].
    pub realtime_ticks: QueueRef,
    /// Ticks of streams polled more often than every 30 s [M1].
    pub stream_ticks: QueueRef,
    /// Alerts over MQTT that express could not take at once; express reads it [E5].
    pub express_retry: QueueRef,
}

impl Queues {
    /// The queue of a tier.
    pub fn tier(&self, tier: Tier) -> &QueueRef {
        match tier {
            Tier::Critical => &self.critical,
            Tier::High => &self.high,
            Tier::Normal => &self.normal,
            Tier::Low => &self.low,
        }
    }

    /// The names on a host without a template: those of the built-in one, so that `up` delivers what `ingest` left queued in a
    /// data folder, and the reverse.
    pub fn local() -> Queues {
        let local = |name| QueueRef::new(&format!("local:streammanager-dev-{name}"));
        Queues {
            critical: local("critical"),
            high: local("high"),
            normal: local("normal"),
            low: local("low"),
            batch_ticks: local("batch-ticks"),
            realtime_ticks: local("realtime-ticks"),
            stream_ticks: local("stream-ticks"),
            express_retry: local("express-retry"),
        }
    }
}

/// Queues of messages that other queues gave up, as an operator calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GivenUp {
    /// Alerts that deliver could not settle.
    Critical,
    /// Envelopes of tier HIGH.
    High,
    /// Envelopes of tier NORMAL.
    Normal,
    /// Envelopes of tier LOW.
    Low,
    /// Ticks of polls that failed, of any mode.
    Ticks,
    /// Alerts over MQTT that express could not take.
    ExpressRetry,
    /// Readings that their rule could not put into the stream, and records of the stream that were given up.
    SensorFailures,
}

impl GivenUp {
    /// Each of them.
    pub const ALL: [GivenUp; 7] = [
        GivenUp::Critical,
        GivenUp::High,
        GivenUp::Normal,
        GivenUp::Low,
        GivenUp::Ticks,
        GivenUp::ExpressRetry,
        GivenUp::SensorFailures,
    ];

    /// As it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            GivenUp::Critical => "critical",
            GivenUp::High => "high",
            GivenUp::Normal => "normal",
            GivenUp::Low => "low",
            GivenUp::Ticks => "ticks",
            GivenUp::ExpressRetry => "express-retry",
            GivenUp::SensorFailures => "sensor-failures",
        }
    }

    /// The variable that names its queue, such as `EXPRESS_RETRY_DEAD_LETTERS_URL`; only who reads it has one.
    fn variable(self) -> String {
        format!("{}_DEAD_LETTERS_URL", self.name().to_uppercase().replace('-', "_"))
    }
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for GivenUp {
    type Err = String;

    fn from_str(text: &str) -> Result<GivenUp, String> {
        let names = GivenUp::ALL.map(GivenUp::name).join(", ");
        GivenUp::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| format!("{text:?} is none of {names}"))
    }
}

/// What a process is told, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Deployment stage; part of `producer_id`.
    pub stage: String,
    /// Who wrote a record: `streammanager/{version}/{stage}` [K5].
    pub producer_id: String,
    /// Which version of its function this process runs; on a host there are none [D2].
    pub version: Option<String>,
    /// Where ticks, envelopes and alerts wait.
    pub queues: Queues,
    /// What records go to, told to those too that leave it to others [K1].
    pub sink: sink::Kind,
    /// Put before every topic's name [K2].
    pub topic_prefix: String,
    /// Begins every MQTT topic of this stage, with its slash; empty for a stage that shares its MQTT broker with no other [D1].
    pub mqtt_prefix: String,
    /// Where consumers find the schemas: with a schema's file name behind it, an absolute URI [K5].
    pub schemas_url: String,
    /// Addresses and keys of the polled services.
    pub services: Services,
    /// Whether rejects are also announced on `wildfire-dead-letters` (metadata only) [K2].
    pub announce_dead_letters: bool,
    /// Alerts a second over HTTP that this process takes of each sender; of a host, where one process takes all, not limited.
    pub sender_pace: Option<NonZeroU32>,
    /// Queues of messages that were given up, as far as this process reads them.
    pub given_up: BTreeMap<GivenUp, QueueRef>,
}

impl Settings {
    /// Settings of a host without a template: `streammanager ingest`.
    pub fn local() -> Settings {
        Settings {
            stage: "local".into(),
            producer_id: producer_id("local"),
            version: None,
            queues: Queues::local(),
            sink: sink::Kind::Kafka,
            topic_prefix: String::new(),
            mqtt_prefix: String::new(),
            schemas_url: SCHEMAS.into(),
            services: Services::default(),
            announce_dead_letters: false,
            sender_pace: None,
            given_up: BTreeMap::new(),
        }
    }

    /// From a function's environment, as the template sets it.
    pub fn parse(environment: &BTreeMap<String, String>) -> Result<Settings, BadSetting> {
        let get = |name: &str| variable(environment, name);
        let queue = |name: &str| {
            let rule = || BadSetting { name: name.into(), rule: "is not set; it must name a queue's URL".into() };
            get(name).map(QueueRef::new).ok_or_else(rule)
        };
        let stage = get("STAGE").unwrap_or("dev").to_owned();
        let schemas_url = get("SCHEMAS_URL").unwrap_or(SCHEMAS).to_owned();
        if !["https://", "http://", "urn:"].iter().any(|scheme| schemas_url.starts_with(scheme)) {
            let rule = format!("{schemas_url:?} is not an absolute URI: it begins with https://, http:// or urn:");
            return Err(BadSetting { name: "SCHEMAS_URL".into(), rule });
        }
        Ok(Settings {
            producer_id: producer_id(&stage),
            stage,
            version: get("AWS_LAMBDA_FUNCTION_VERSION").map(str::to_owned),
            queues: Queues {
                critical: queue("CRITICAL_QUEUE_URL")?,
                high: queue("HIGH_QUEUE_URL")?,
                normal: queue("NORMAL_QUEUE_URL")?,
                low: queue("LOW_QUEUE_URL")?,
                batch_ticks: queue("BATCH_TICKS_QUEUE_URL")?,
                realtime_ticks: queue("REALTIME_TICKS_QUEUE_URL")?,
                stream_ticks: queue("STREAM_TICKS_QUEUE_URL")?,
                express_retry: queue("EXPRESS_RETRY_QUEUE_URL")?,
            },
            sink: sink(get("SINK"))?,
            topic_prefix: get("TOPIC_PREFIX").unwrap_or_default().to_owned(),
            mqtt_prefix: get("MQTT_PREFIX").unwrap_or_default().to_owned(),
            schemas_url,
            services: Services::parse(environment)?,
            announce_dead_letters: true,
            sender_pace: pace(get("SENDER_ALERTS_PER_SECOND"))?,
            given_up: GivenUp::ALL
                .into_iter()
                .filter_map(|one| Some((one, QueueRef::new(get(&one.variable())?))))
                .collect(),
        })
    }
}

/// Kafka, where nothing is said.
fn sink(text: Option<&str>) -> Result<sink::Kind, BadSetting> {
    let wrong = |rule| BadSetting { name: "SINK".into(), rule };
    text.map_or(Ok(sink::Kind::Kafka), str::parse).map_err(wrong)
}

/// Nothing and zero are no limit.
fn pace(text: Option<&str>) -> Result<Option<NonZeroU32>, BadSetting> {
    let wrong = |_| BadSetting { name: "SENDER_ALERTS_PER_SECOND".into(), rule: "is not a whole number".into() };
    Ok(text.map(str::parse::<u32>).transpose().map_err(wrong)?.and_then(NonZeroU32::new))
}

fn producer_id(stage: &str) -> String {
    format!("streammanager/{}/{stage}", env!("CARGO_PKG_VERSION"))
}
