//! How far behind the configured consumer groups are, in seconds [Q4]: measured by whoever is on duty, and kept where those
//! who poll look it up.
//!
//! A record's timestamp says when it was taken in, which after an outage is long before anybody could read it. So the age of what
//! a group has not read is counted from the look at which it was first there.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::BackendError;
use crate::record::Topic;
use crate::sink::Position;
use crate::store::{self, Key, Store};
use crate::time::{Clock, Timestamp};

/// A look is taken this often: a lag is known to this, and the shortest that makes a source wait is a minute.
pub(crate) const EVERY: Duration = Duration::from_secs(10);
/// An older look says nothing of now.
const VALID: Duration = Duration::from_secs(60);
/// Ends of one partition that are remembered: what they reach back to is longer than the longest lag that makes a difference, and
/// those of all partitions fit into one item of the store.
const ENDS: usize = 32;

/// One group on one topic: its most backward partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    /// The group's id.
    pub group: String,
    /// The topic's name, without a stage's prefix.
    pub topic: String,
    /// Records that it has not read, over all partitions.
    pub records: u64,
    /// For how long the oldest of them has been there, to [`EVERY`] exactly. What was unread at the first look of all counts
    /// from then on.
    pub seconds: f64,
}

/// The last look at the groups.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lags {
    /// When it was taken; `None` before there was any.
    pub at: Option<Timestamp>,
    /// Every configured group on every topic of which it has read anything.
    pub lags: Vec<Lag>,
    ends: Ends,
}

/// Of each topic's partitions what their ends were, at the looks that are still needed; the oldest first.
type Ends = BTreeMap<String, BTreeMap<i32, Vec<(Timestamp, i64)>>>;

impl Lags {
    /// What is known after this look. `positions` are those of all groups.
    pub(crate) fn after(mut self, positions: &[Position], clock: &Clock) -> Lags {
        let now = clock.now();
        self.go_along(now);
        let mut ends = Ends::new();
        let mut lags: BTreeMap<(String, String), Lag> = BTreeMap::new();
        for position in positions {
            let Position { group, topic, partition, committed, end } = position;
            let topic = topic.name().to_owned();
            let partitions = ends.entry(topic.clone()).or_default();
            let known = partitions.entry(*partition).or_insert_with(|| {
                let before = self.ends.get_mut(&topic).and_then(|partitions| partitions.remove(partition));
                let mut known = before.unwrap_or_default();
                // A topic that was made anew ends before where it ended.
                known.retain(|(_, earlier)| *earlier <= *end);
                known.push((now, *end));
                known
            });
            let unread = end.saturating_sub(*committed).max(0) as u64;
            let there_since = known.iter().find(|(_, end)| end > committed).map_or(now, |(at, _)| *at);
            let seconds = if unread == 0 { 0.0 } else { clock.since(there_since).as_secs_f64() };
            let lag = lags.entry((group.clone(), topic.clone())).or_insert_with(|| Lag {
                group: group.clone(),
                topic,
                records: 0,
                seconds: 0.0,
            });
            lag.records += unread;
            lag.seconds = lag.seconds.max(seconds);
        }
        for (topic, partitions) in &mut ends {
            for (partition, known) in partitions {
                let of_this = |position: &&Position| position.topic.name() == topic && position.partition == *partition;
                let read_by_all = positions.iter().filter(of_this).map(|position| position.committed).min();
                forget(known, read_by_all.unwrap_or_default());
            }
        }
        Lags { at: Some(now), lags: lags.into_values().collect(), ends }
    }

    /// A clock that was set, or looks that were left out, make no lag: what was known stands as if the last look had been the
    /// usual time ago.
    fn go_along(&mut self, now: Timestamp) {
        let Some(at) = self.at else { return };
        let passed = now.duration_since(at);
        let passed_since = Duration::try_from(passed).ok();
        if passed_since.is_some_and(|passed| passed <= VALID) {
            return;
        }
        let by = passed - SignedDuration::from_secs(EVERY.as_secs() as i64);
        for (at, _) in self.ends.values_mut().flat_map(|partitions| partitions.values_mut()).flatten() {
            *at = at.checked_add(by).unwrap_or(now);
        }
    }

    /// The group that is furthest behind on a topic, when that is known of now.
    pub(crate) fn worst(&self, topic: Topic, clock: &Clock) -> Option<&Lag> {
        self.at.filter(|at| clock.since(*at) < VALID)?;
        let on_it = self.lags.iter().filter(|lag| lag.topic == topic.name());
        on_it.max_by(|a, b| a.seconds.total_cmp(&b.seconds))
    }
}

/// Drops the ends that nobody needs: those that every group has read up to, but for the last. Of too many one goes,
/// so that a lag is known to a fraction of itself.
fn forget(known: &mut Vec<(Timestamp, i64)>, read_by_all: i64) {
    let last = last_of(known);
    let mut at = 0;
    known.retain(|(_, end)| {
        at += 1;
        *end > read_by_all || at > last
    });
    // Several looks at the same end: the first one says since when it has been there.
    known.dedup_by_key(|(_, end)| *end);
    // What is missed least: a short gap, long ago.
    if known.len() > ENDS {
        let now = known[last_of(known)].0;
        let missed = |at: usize| {
            let seconds = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64();
            seconds(known[at - 1].0, known[at + 1].0) / seconds(known[at].0, now)
        };
        let least = (1..last_of(known)).min_by(|a, b| missed(*a).total_cmp(&missed(*b)));
        if let Some(at) = least {
            known.remove(at);
        }
    }
}

fn last_of(known: &[(Timestamp, i64)]) -> usize {
    known.len().saturating_sub(1)
}

/// The last look; none of one that another version wrote.
///
/// # Errors
/// When the store is away.
pub async fn last(store: &dyn Store) -> Result<Lags, BackendError> {
    Ok(store::get_json(store, &key()).await?.unwrap_or_default())
}

/// Takes a look and keeps it; whoever is on duty does so alone.
pub(crate) async fn look(app: &App) {
    if let Err(problem) = try_look(app).await {
        // The next one comes within seconds, and what is out of date makes nobody wait.
        tracing::debug!(%problem, "no look at the consumer groups");
    }
}

async fn try_look(app: &App) -> Result<(), BackendError> {
    let positions = app.sink.positions().await?;
    if positions.is_empty() {
        return Ok(());
    }
    let lags = last(&*app.store).await?.after(&positions, &app.clock);
    for Lag { group, topic, seconds, .. } in &lags.lags {
        let labels = [("group", group.clone()), ("topic", topic.clone())];
        metrics::gauge!("stream_consumer_lag_seconds", &labels).set(*seconds);
    }
    keep(&*app.store, &lags).await
}

pub(crate) async fn keep(store: &dyn Store, lags: &Lags) -> Result<(), BackendError> {
    store::put_json(store, &key(), lags, "the consumers' lag").await
}

fn key() -> Key {
    Key::new("deliver", "lag")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(group: &str, partition: i32, committed: i64, end: i64) -> Position {
        Position { group: group.into(), topic: Topic::NASA_FIRMS, partition, committed, end }
    }

    fn clock() -> (Clock, crate::time::WallClock) {
        Clock::settable("2026-08-01T00:00:00Z".parse().unwrap())
    }

    async fn later(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn q4_a_lag_is_the_time_for_which_the_oldest_unread_record_has_been_there() {
        let (clock, _) = clock();
        let seconds = |lags: &Lags| lags.worst(Topic::NASA_FIRMS, &clock).map(|lag| (lag.records, lag.seconds as u64));
        let lags = Lags::default();
        assert_eq!(seconds(&lags), None);
        let lags = lags.after(&[at("desk", 0, 100, 100), at("desk", 1, 7, 7)], &clock);
        assert_eq!(seconds(&lags), Some((0, 0)));
        later(10).await;
        // 50 records come at once and are read by and by: however old their timestamps are, the lag begins now.
        let lags = lags.after(&[at("desk", 0, 100, 150), at("desk", 1, 7, 7)], &clock);
        assert_eq!(seconds(&lags), Some((50, 0)));
        later(30).await;
        let lags = lags.after(&[at("desk", 0, 149, 180), at("desk", 1, 7, 9)], &clock);
        assert_eq!(seconds(&lags), Some((33, 30)), "one of the 50 is unread");
        later(10).await;
        let lags = lags.after(&[at("desk", 0, 150, 180), at("desk", 1, 9, 9)], &clock);
        assert_eq!(seconds(&lags), Some((30, 10)), "the next one came with the look before");
        later(10).await;
        let lags = lags.after(&[at("desk", 0, 180, 180), at("desk", 1, 9, 9)], &clock);
        assert_eq!(seconds(&lags), Some((0, 0)));
        later(61).await;
        assert_eq!(seconds(&lags), None, "a look of a minute ago says nothing of now");
    }

    #[tokio::test(start_paused = true)]
    async fn q4_the_slowest_of_several_groups_counts_and_the_history_stays_small() {
        let (clock, _) = clock();
        let mut lags = Lags::default();
        for look in 0..1_000 {
            let end = 100 + look;
            lags = lags.after(&[at("slow", 0, 100, end), at("fast", 0, end, end)], &clock);
            let kept = lags.ends["wildfire-nasa-firms"][&0].len();
            assert!(kept <= ENDS, "{kept} ends after {look} looks");
            let slow = lags.worst(Topic::NASA_FIRMS, &clock).cloned();
            let want = 10.0 * (look - 1).max(0) as f64;
            assert_eq!(slow.map(|lag| (lag.group, lag.seconds)), Some(("slow".to_owned(), want)), "look {look}");
            later(10).await;
        }
        let of_fast = lags.lags.iter().find(|lag| lag.group == "fast").map(|lag| lag.records);
        assert_eq!(of_fast, Some(0));
        // It catches up to 500 records before the end.
        let lags = lags.after(&[at("slow", 0, 600, 1_100)], &clock);
        let seconds = lags.worst(Topic::NASA_FIRMS, &clock).map_or(0.0, |lag| lag.seconds);
        assert!(
            (3_500.0..=5_000.0).contains(&seconds),
            "{seconds}: what lies far back is known roughly, never too old"
        );
        // A topic that was made anew.
        let lags = lags.after(&[at("slow", 0, 0, 3)], &clock);
        assert_eq!(lags.worst(Topic::NASA_FIRMS, &clock).map(|lag| (lag.records, lag.seconds)), Some((3, 0.0)));
    }

    #[tokio::test(start_paused = true)]
    async fn q4_a_clock_that_is_set_makes_no_lag() {
        let (clock, wall) = clock();
        let lags = Lags::default().after(&[at("desk", 0, 1, 5)], &clock);
        later(60).await;
        let lags = lags.after(&[at("desk", 0, 1, 9)], &clock);
        for day in [-86_400, 86_400] {
            wall.step(day);
            let lags = lags.clone().after(&[at("desk", 0, 1, 9)], &clock);
            let seconds = lags.worst(Topic::NASA_FIRMS, &clock).map(|lag| lag.seconds);
            assert_eq!(seconds, Some(70.0), "as if the last look had been ten seconds ago");
            wall.step(-day);
        }
    }
}
