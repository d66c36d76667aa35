//! The registered streams: kept in the store, started and stopped there, and what polling knows of each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::breaker::{Breaker, BreakerState};
use crate::connect::{Cursor, Progress};
use crate::control::audit::{self, Action};
use crate::error::BackendError;
use crate::limits::STORED_AHEAD;
use crate::record::{SourceId, StreamId, TenantId};
use crate::schedule::file::{Interval, STREAMS_MAX, StreamSpec, StreamsFile};
use crate::schedule::mode::Mode;
use crate::schedule::{mappings, mqtt};
use crate::sources;
use crate::store::{self, Item, Key, Store};
use crate::time::{Clock, Timestamp};

const SPECS: &str = "streams";
const POLLS: &str = "stream-polls";

/// A registered stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registered {
    /// As the file has it.
    pub spec: StreamSpec,
    /// Whether it is polled.
    pub started: bool,
    /// When it was started or changed last: from then on its polls are waited for [O3], also where it had ended before [M1].
    #[serde(default)]
    pub since: Timestamp,
}

/// What polling knows of a stream between polls; written only under the stream's lease.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PollState {
    /// Due time of the last tick that was worked on; an earlier one is a repeat.
    pub last_due: Option<Timestamp>,
    /// The connector's own, as JSON: what it asks with next.
    pub cursor: String,
    /// No poll before this: a wait that the source asked for, or our own full queue.
    pub not_before: Option<Timestamp>,
    /// Until when our own full queues or slow consumers make it wait, the last time they did [Q3, Q4].
    pub throttled_until: Option<Timestamp>,
    /// The source's breaker, which failed and slow polls open [S10].
    pub breaker: Breaker<Timestamp>,
    /// When it was polled last, by our clock.
    pub last_poll: Option<Timestamp>,
    /// When a poll gave data, or the word that there is nothing newer.
    pub last_success: Option<Timestamp>,
    /// When a poll gave something that was not known: a list that a source has stopped to renew looks like a quiet one.
    pub last_new: Option<Timestamp>,
    /// Why the last poll failed, in the source's own words; none after a good one.
    pub last_error: Option<String>,
    /// What the last good poll went without, such as one station of many, in the source's own words.
    pub missing: Option<String>,
    /// When a stream of a bounded range had read it to its end [M1].
    #[serde(default)]
    pub completed_at: Option<Timestamp>,
    /// Until when there is nothing that it may ask for.
    #[serde(default)]
    pub rests_until: Option<Timestamp>,
    /// Records accepted since the stream was registered.
    pub records_processed: u64,
    /// Rows rejected since then; one that comes at every poll counts once.
    pub records_failed: u64,
}

impl PollState {
    /// No poll before this time: a wait, or the open breaker.
    pub fn waits_until(&self) -> Option<Timestamp> {
        self.not_before.max(self.breaker.waits_until())
    }

    /// Whether it has read a bounded range to its end, and nobody has started or changed it since.
    pub fn has_ended(&self, registered: &Registered) -> bool {
        self.completed_at.is_some() && self.last_poll.is_some_and(|last| last >= registered.since)
    }

    /// While its breaker is open: the seconds since the last good answer, which is all that there is [S10].
    pub fn stale_s(&self, now: Timestamp) -> Option<u64> {
        let last = self.last_success.filter(|_| self.breaker.state() != BreakerState::Closed)?;
        u64::try_from(now.duration_since(last).as_secs()).ok()
    }

    /// Whether our own full queues or slow consumers make it wait now [O2].
    pub fn is_throttled(&self, now: Timestamp) -> bool {
        self.throttled_until.is_some_and(|until| now < until)
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
            throttled_until: self.throttled_until.map(back),
            breaker: self.breaker.shifted(back),
            last_poll: self.last_poll.map(back),
            last_success: self.last_success.map(back),
            last_new: self.last_new.map(back),
            rests_until: None,
            ..self
        }
    }
}

/// A stream as `streams status` shows it [O2].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Its id.
    pub stream_id: StreamId,
    /// What its records are published under, unless a row decides otherwise.
    pub source_id: SourceId,
    /// Whose records they are.
    pub tenant: TenantId,
    /// Whether it is polled.
    pub is_active: bool,
    /// `batch`, `realtime` or `streaming` [M1].
    pub mode: String,
    /// Why it has its mode [M1].
    pub mode_reason: String,
    /// The tier of its source id [P2].
    pub current_priority: String,
    /// The time between two polls.
    pub interval: Interval,
    /// When it is polled next; none while it is stopped.
    pub next_poll: Option<Timestamp>,
    /// Whether our own full queues or slow consumers make it wait now [Q3, Q4].
    pub throttling_active: bool,
    /// While the source's breaker is open: the seconds since its last good answer, which was published then and is not published
    /// again [S10].
    pub stale_s: Option<u64>,
    /// How far a bounded range has been read [M1]; none for what has no end.
    #[serde(default)]
    pub progress: Option<Progress>,
    /// What is polled, in the connector's own fields.
    pub config: serde_json::Value,
    /// What is known of its polls.
    #[serde(flatten)]
    pub poll: PollState,
}

/// What applying a file changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// In the file and not registered.
    pub added: Vec<StreamId>,
    /// Registered otherwise than in the file.
    pub changed: Vec<StreamId>,
    /// Registered and not in the file; applied only by `--prune`.
    pub removed: Vec<StreamId>,
    /// The same in both.
    pub unchanged: Vec<StreamId>,
    /// So many mappings of sensors instead of those that are registered; none when they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensors: Option<usize>,
    /// So many brokers of others instead of those that are registered; none when they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<usize>,
}

impl Diff {
    /// Whether file and registry say the same.
    pub fn changes_nothing(&self) -> bool {
        let streams = self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty();
        streams && self.sensors.is_none() && self.mqtt.is_none()
    }
}

/// Registers the file's streams, new ones started, and its mappings of sensors and its brokers, if it has any, instead of
/// those that were registered. `prune` removes what the file does not name. Applying twice changes
/// nothing the second time.
pub async fn apply(app: &App, file: &StreamsFile, prune: bool) -> Result<Diff, BackendError> {
    let mut diff = Diff::default();
    let existing = list(&*app.store).await?;
    for spec in &file.streams {
        match existing.iter().find(|registered| registered.spec.id == spec.id) {
            Some(registered) if registered.spec == *spec => diff.unchanged.push(spec.id.clone()),
            Some(registered) => {
                put(&*app.store, &Registered { spec: spec.clone(), since: app.clock.now(), ..registered.clone() })
                    .await?;
                diff.changed.push(spec.id.clone());
            }
            None => {
                put(&*app.store, &Registered { spec: spec.clone(), started: true, since: app.clock.now() }).await?;
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
    if (prune || !file.sensors.is_empty()) && mappings::list(&*app.store).await? != file.sensors {
        mappings::put(&*app.store, &file.sensors).await?;
        let detail = format!("{} mappings", file.sensors.len());
        audit::write(app, Action::MappingsChanged, "streams apply", "sensors", &detail).await?;
        diff.sensors = Some(file.sensors.len());
    }
    if (prune || !file.mqtt.is_empty()) && mqtt::list(&*app.store).await? != file.mqtt {
        mqtt::put(&*app.store, &file.mqtt).await?;
        let detail = format!("{} brokers", file.mqtt.len());
        audit::write(app, Action::BrokersChanged, "streams apply", "mqtt", &detail).await?;
        diff.mqtt = Some(file.mqtt.len());
    }
    Ok(diff)
}

/// Every registered stream, in the order of the ids.
pub async fn list(store: &dyn Store) -> Result<Vec<Registered>, BackendError> {
    store.list(SPECS, "", None, STREAMS_MAX).await?.iter().map(parse).collect()
}

/// The stream with this id; `None` when there is none.
pub async fn get(store: &dyn Store, id: &StreamId) -> Result<Option<Registered>, BackendError> {
    store.get(&Key::new(SPECS, id.as_str())).await?.as_ref().map(parse).transpose()
}

/// Whether a stream of this name is registered.
pub(crate) async fn is_registered(store: &dyn Store, id: &StreamId) -> Result<bool, BackendError> {
    Ok(store.get(&Key::new(SPECS, id.as_str())).await?.is_some())
}

/// `false`: there is no such stream.
pub async fn set_started(app: &App, id: &StreamId, started: bool, by: &str) -> Result<bool, BackendError> {
    let Some(registered) = get(&*app.store, id).await? else { return Ok(false) };
    // Who starts one that had ended wants to know whether there is more.
    let ended = poll_state(&*app.store, id).await?.has_ended(&registered);
    let since = if registered.started == started && !ended { registered.since } else { app.clock.now() };
    put(&*app.store, &Registered { started, since, ..registered }).await?;
    let action = if started { Action::StreamStarted } else { Action::StreamStopped };
    audit::write(app, action, by, id.as_str(), "").await?;
    Ok(true)
}

/// What `streams status` says of one stream [O2].
pub async fn status(store: &dyn Store, clock: &Clock, registered: &Registered) -> Result<Status, BackendError> {
    let spec = &registered.spec;
    let interval = spec.interval.get();
    let mode = Mode::of_stream(spec);
    let poll = poll_state(store, &spec.id).await?;
    let mut config =
        serde_json::to_value(&spec.polled).map_err(|e| BackendError::Fatal(format!("stream {}: {e}", spec.id)))?;
    let tier = sources::route(&spec.source_id, false).map(|route| route.tier.name()).unwrap_or("none");
    Ok(Status {
        stream_id: spec.id.clone(),
        source_id: spec.source_id.clone(),
        tenant: spec.tenant.clone(),
        is_active: registered.started,
        mode: format!("{mode:?}").to_lowercase(),
        mode_reason: mode.reason(spec),
        current_priority: tier.to_owned(),
        interval: spec.interval,
        next_poll: (registered.started && !poll.has_ended(registered))
            .then(|| next_poll(interval, poll.waits_until(), clock.now())),
        throttling_active: poll.is_throttled(clock.now()),
        stale_s: poll.stale_s(clock.now()),
        progress: spec.polled.progress(&Cursor(poll.cursor.clone())),
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

/// What polling knows of a stream; the default before its first poll.
pub async fn poll_state(store: &dyn Store, id: &StreamId) -> Result<PollState, BackendError> {
    match store.get(&Key::new(POLLS, id.as_str())).await? {
        Some(item) => serde_json::from_slice(&item.value)
            .map_err(|e| BackendError::Fatal(format!("poll state of {id} cannot be read: {e}"))),
        None => Ok(PollState::default()),
    }
}

pub(crate) async fn save_poll_state(store: &dyn Store, id: &StreamId, state: &PollState) -> Result<(), BackendError> {
    store::put_json(store, &Key::new(POLLS, id.as_str()), state, "stream").await
}

async fn put(store: &dyn Store, registered: &Registered) -> Result<(), BackendError> {
    store::put_json(store, &Key::new(SPECS, registered.spec.id.as_str()), registered, "stream").await
}

fn parse(item: &Item) -> Result<Registered, BackendError> {
    serde_json::from_slice(&item.value).map_err(|e| BackendError::Fatal(format!("stream {}: {e}", item.key.sort)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o2_the_next_poll_is_a_multiple_of_the_interval_and_not_before_a_wait_ends() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let every = Duration::from_secs(60);
        assert_eq!(next_poll(every, None, at(601)), at(660));
        assert_eq!(next_poll(every, Some(at(700)), at(601)), at(720));
        assert_eq!(next_poll(every, Some(at(500)), at(601)), at(660), "a wait that is over");
    }
}
