//! `streams.yaml` and the streams it registers: parsed once into valid values, kept in the store, started and stopped there.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::app::App;
use crate::breaker::Breaker;
use crate::control::audit::{self, Action};
use crate::error::BackendError;
use crate::limits::STORED_AHEAD;
use crate::record::{SourceId, StreamId, TenantId};
use crate::schedule::mode::Mode;
use crate::sources::{self, ConnectorKind, Polled};
use crate::store::{self, Expect, Item, Key};
use crate::time::Timestamp;

const SPECS: &str = "streams";
const POLLS: &str = "stream-polls";
/// Streams of one deployment.
const STREAMS_MAX: usize = 1_000;

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
    pub streams: Vec<StreamSpec>,
}

/// One polled stream.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StreamSpec {
    pub id: StreamId,
    /// What its records are published under, unless a row decides otherwise.
    pub source_id: SourceId,
    #[serde(flatten)]
    pub polled: Polled,
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

    pub fn get(self) -> Duration {
        self.0
    }

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

/// A registered stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registered {
    pub spec: StreamSpec,
    pub started: bool,
}

/// What polling knows of a stream between polls; written only under the stream's lease.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PollState {
    /// Due time of the last tick that was worked on; an earlier one is a repeat.
    pub last_due: Option<Timestamp>,
    pub cursor: String,
    /// No poll before this: a wait that the source asked for, or our own full queue.
    pub not_before: Option<Timestamp>,
    /// The source's breaker, which failed and slow polls open [S10].
    pub breaker: Breaker<Timestamp>,
    pub last_poll: Option<Timestamp>,
    pub last_success: Option<Timestamp>,
    pub last_error: Option<String>,
    pub records_processed: u64,
    pub records_failed: u64,
}

impl PollState {
    /// No poll before this time: a wait, or the open breaker.
    pub fn waits_until(&self) -> Option<Timestamp> {
        self.not_before.max(self.breaker.waits_until())
    }

    /// How far ahead of now the clock was by which this was written; zero when it was not.
    pub fn ahead_of(&self, now: Timestamp) -> Duration {
        let ahead = self.last_poll.and_then(|last| Duration::try_from(last.duration_since(now)).ok());
        ahead.filter(|ahead| *ahead > STORED_AHEAD).unwrap_or_default()
    }

    /// The same on a clock that was set back by `ahead`: what it waits for is as far away as it was, and no tick of the new
    /// time is taken for a repeat of the old one [M4].
    pub fn set_back(self, ahead: Duration) -> PollState {
        let back = |time: Timestamp| time.checked_sub(ahead).unwrap_or(Timestamp::MIN);
        PollState {
            last_due: None,
            not_before: self.not_before.map(back),
            breaker: self.breaker.shifted(back),
            last_poll: self.last_poll.map(back),
            last_success: self.last_success.map(back),
            ..self
        }
    }
}

/// A stream as `streams status` shows it [O2].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    pub stream_id: StreamId,
    pub source_id: SourceId,
    pub tenant: TenantId,
    pub is_active: bool,
    pub mode: String,
    /// Why it has its mode [M1].
    pub mode_reason: String,
    pub current_priority: String,
    pub interval: Interval,
    /// When it is polled next; none while it is stopped.
    pub next_poll: Option<Timestamp>,
    /// What is polled, in the connector's own fields.
    pub config: serde_json::Value,
    #[serde(flatten)]
    pub poll: PollState,
}

/// What applying a file changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    pub added: Vec<StreamId>,
    pub changed: Vec<StreamId>,
    pub removed: Vec<StreamId>,
    pub unchanged: Vec<StreamId>,
}

impl Diff {
    pub fn changes_nothing(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// Registers the file's streams, new ones started. `prune` removes what the file does not name. Applying twice changes
/// nothing the second time.
pub async fn apply(app: &App, file: &StreamsFile, prune: bool) -> Result<Diff, BackendError> {
    let mut diff = Diff::default();
    let existing = list(app).await?;
    for spec in &file.streams {
        match existing.iter().find(|registered| registered.spec.id == spec.id) {
            Some(registered) if registered.spec == *spec => diff.unchanged.push(spec.id.clone()),
            Some(registered) => {
                put(app, &Registered { spec: spec.clone(), started: registered.started }).await?;
                diff.changed.push(spec.id.clone());
            }
            None => {
                put(app, &Registered { spec: spec.clone(), started: true }).await?;
                audit::write(app, Action::StreamStarted, "streams apply", spec.id.as_str(), "").await?;
                diff.added.push(spec.id.clone());
            }
        }
    }
    for registered in existing.iter().filter(|r| prune && !file.streams.iter().any(|spec| spec.id == r.spec.id)) {
        let id = &registered.spec.id;
        store::remove(&*app.store, &Key::new(SPECS, id.as_str())).await?;
        audit::write(app, Action::StreamStopped, "streams apply --prune", id.as_str(), "").await?;
        diff.removed.push(id.clone());
    }
    Ok(diff)
}

pub async fn list(app: &App) -> Result<Vec<Registered>, BackendError> {
    app.store.list(SPECS, "", None, STREAMS_MAX).await?.iter().map(parse).collect()
}

pub async fn get(app: &App, id: &StreamId) -> Result<Option<Registered>, BackendError> {
    app.store.get(&Key::new(SPECS, id.as_str())).await?.as_ref().map(parse).transpose()
}

/// `false`: there is no such stream.
pub async fn set_started(app: &App, id: &StreamId, started: bool, by: &str) -> Result<bool, BackendError> {
    let Some(registered) = get(app, id).await? else { return Ok(false) };
    put(app, &Registered { started, ..registered }).await?;
    let action = if started { Action::StreamStarted } else { Action::StreamStopped };
    audit::write(app, action, by, id.as_str(), "").await?;
    Ok(true)
}

pub async fn status(app: &App, registered: &Registered) -> Result<Status, BackendError> {
    let spec = &registered.spec;
    let interval = spec.interval.get();
    let mode = Mode::of(interval);
    let poll = poll_state(app, &spec.id).await?;
    let mut config =
        serde_json::to_value(&spec.polled).map_err(|e| BackendError::Fatal(format!("stream {}: {e}", spec.id)))?;
    let tier = sources::route(&spec.source_id, false).map(|route| route.tier.name()).unwrap_or("none");
    Ok(Status {
        stream_id: spec.id.clone(),
        source_id: spec.source_id.clone(),
        tenant: spec.tenant.clone(),
        is_active: registered.started,
        mode: format!("{mode:?}").to_lowercase(),
        mode_reason: mode.reason(interval),
        current_priority: tier.to_owned(),
        interval: spec.interval,
        next_poll: registered.started.then(|| next_poll(interval, poll.waits_until(), app.clock.now())),
        config: config.get_mut("config").map(serde_json::Value::take).unwrap_or_default(),
        poll,
    })
}

/// Polls are due at the multiples of their interval since 1970; one before `not_before` is left out.
fn next_poll(interval: Duration, not_before: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let step = interval.as_secs().max(1) as i64;
    let earliest = not_before.map_or(now, |until| until.max(now)).as_second();
    Timestamp::from_second((earliest.div_euclid(step) + 1) * step).unwrap_or(Timestamp::MAX)
}

pub async fn poll_state(app: &App, id: &StreamId) -> Result<PollState, BackendError> {
    match app.store.get(&Key::new(POLLS, id.as_str())).await? {
        Some(item) => serde_json::from_slice(&item.value)
            .map_err(|e| BackendError::Fatal(format!("poll state of {id} cannot be read: {e}"))),
        None => Ok(PollState::default()),
    }
}

pub(crate) async fn save_poll_state(app: &App, id: &StreamId, state: &PollState) -> Result<(), BackendError> {
    let value = serde_json::to_vec(state).map_err(|e| BackendError::Fatal(e.to_string()))?;
    app.store
        .put_if(&Key::new(POLLS, id.as_str()), value.into(), Expect::Any, None)
        .await
        .map_err(|e| e.of("stream"))?;
    Ok(())
}

async fn put(app: &App, registered: &Registered) -> Result<(), BackendError> {
    let value = serde_json::to_vec(registered).map_err(|e| BackendError::Fatal(e.to_string()))?;
    let key = Key::new(SPECS, registered.spec.id.as_str());
    app.store.put_if(&key, value.into(), Expect::Any, None).await.map_err(|e| e.of("stream"))?;
    Ok(())
}

fn parse(item: &Item) -> Result<Registered, BackendError> {
    serde_json::from_slice(&item.value).map_err(|e| BackendError::Fatal(format!("stream {}: {e}", item.key.sort)))
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
    fn o2_the_next_poll_is_a_multiple_of_the_interval_and_not_before_a_wait_ends() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let every = Duration::from_secs(60);
        assert_eq!(next_poll(every, None, at(601)), at(660));
        assert_eq!(next_poll(every, Some(at(700)), at(601)), at(720));
        assert_eq!(next_poll(every, Some(at(500)), at(601)), at(660), "a wait that is over");
    }

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
