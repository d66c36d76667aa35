//! How much a tier can still take, how far behind its readers are, and how long polled sources wait for either [Q3, Q4, P6].
//! Nothing is dropped: a source that waits is read later.

use std::time::Duration;

use super::room::expected;
use crate::app::App;
use crate::deliver::{lag, report};
use crate::error::BackendError;
use crate::limits::{LONGEST_EXPECTED_WAIT, QUEUE_CAPACITY};
use crate::record::{Tier, Topic};

/// Above this use a source waits, and for how long; the fuller first [Q3].
const BY_USE: [(f64, Duration); 2] = [(0.8, Duration::from_secs(120)), (0.6, Duration::from_secs(60))];
/// From so many seconds that a consumer group is behind a source waits, and for how long; the longer first [Q4].
const BY_LAG: [(f64, Duration); 3] =
    [(300.0, Duration::from_secs(240)), (120.0, Duration::from_secs(120)), (60.0, Duration::from_secs(60))];

/// Why a source is not asked now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pause {
    pub(crate) length: Duration,
    /// In words that name the tier or the group.
    pub(crate) because: String,
}

/// How long a source that feeds this tier and topic waits before it is asked: the longer of what use and lag say.
pub(crate) async fn pause(app: &App, tier: Tier, topic: Topic) -> Result<Option<Pause>, BackendError> {
    let depth = app.queue.depth(app.settings.queues.tier(tier)).await?;
    let report = report::last(&*app.store).await?;
    let used = used(depth.total(), expected(report.as_ref(), tier, &app.clock));
    let by_use = by_use(used).map(|length| Pause { length, because: format!("{tier} is {:.0} % used", 100.0 * used) });
    let lags = lag::last(&*app.store).await?;
    let by_lag = lags.worst(topic, &app.clock).and_then(|lag| {
        let because = format!("consumer group {} is {:.0} s behind on {}", lag.group, lag.seconds, lag.topic);
        by_lag(lag.seconds).map(|length| Pause { length, because })
    });
    Ok(by_use.into_iter().chain(by_lag).max_by_key(|pause| pause.length))
}

/// The used part of a tier: of its queue's capacity, or of the time that its records may wait, whichever is more.
fn used(messages: u64, expected_s: Option<f64>) -> f64 {
    let by_count = messages as f64 / QUEUE_CAPACITY as f64;
    by_count.max(expected_s.unwrap_or(0.0) / LONGEST_EXPECTED_WAIT.as_secs_f64())
}

fn by_use(used: f64) -> Option<Duration> {
    BY_USE.into_iter().find(|(above, _)| used > *above).map(|(_, pause)| pause)
}

fn by_lag(seconds: f64) -> Option<Duration> {
    BY_LAG.into_iter().find(|(from, _)| seconds >= *from).map(|(_, pause)| pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q3_the_fuller_of_room_and_time_decides() {
        let pause_of = |messages, expected| by_use(used(messages, expected)).map(|pause| pause.as_secs());
        assert_eq!(pause_of(6_000, None), None);
        assert_eq!(pause_of(6_001, None), Some(60));
        assert_eq!(pause_of(8_001, Some(0.0)), Some(120));
        assert_eq!(pause_of(0, Some(359.0)), None);
        assert_eq!(pause_of(0, Some(361.0)), Some(60));
        assert_eq!(pause_of(6_001, Some(481.0)), Some(120));
    }

    #[test]
    fn q4_the_further_behind_the_longer_the_wait() {
        let pause_of = |seconds| by_lag(seconds).map(|pause| pause.as_secs());
        let want = [(0.0, None), (59.9, None), (60.0, Some(60)), (119.9, Some(60)), (120.0, Some(120))];
        for (seconds, pause) in want.into_iter().chain([(299.9, Some(120)), (300.0, Some(240)), (9e9, Some(240))]) {
            assert_eq!(pause_of(seconds), pause, "{seconds} s behind");
        }
    }
}
