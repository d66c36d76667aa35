//! How much a tier can still take, and how long polled sources wait for it [Q3, P6]. Nothing is dropped: a source that waits is
//! read later.

use std::time::Duration;

use crate::app::App;
use crate::deliver::report::{self, Report};
use crate::error::BackendError;
use crate::limits::QUEUE_CAPACITY;
use crate::record::Tier;

/// A record that would wait this long finds its tier fully used, whatever its queue's capacity.
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);
/// An older report says nothing of now: nobody is on duty.
const REPORT_VALID: Duration = Duration::from_secs(60);
/// Above this use a source waits, and for how long; the fuller first.
const PAUSES: [(f64, Duration); 2] = [(0.8, Duration::from_secs(120)), (0.6, Duration::from_secs(60))];

/// The used part of a tier: of its queue's capacity, or of the time that its records may wait, whichever is more.
pub(crate) async fn utilisation(app: &App, tier: Tier) -> Result<f64, BackendError> {
    let depth = app.queue.depth(app.settings.queues.tier(tier)).await?;
    let report = report::last(&*app.store).await?.filter(|report| app.clock.since(report.at) < REPORT_VALID);
    Ok(used(depth.total(), expected(report.as_ref(), tier)))
}

fn expected(report: Option<&Report>, tier: Tier) -> Option<f64> {
    report?.waits.get(&tier)?.expected_s
}

fn used(messages: u64, expected_s: Option<f64>) -> f64 {
    let by_count = messages as f64 / QUEUE_CAPACITY as f64;
    by_count.max(expected_s.unwrap_or(0.0) / LONGEST_WAIT.as_secs_f64())
}

/// How long a source that feeds a tier of this use waits before it is asked.
pub(crate) fn pause(utilisation: f64) -> Option<Duration> {
    PAUSES.into_iter().find(|(above, _)| utilisation > *above).map(|(_, pause)| pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q3_the_fuller_of_room_and_time_decides() {
        let pause_of = |messages, expected| pause(used(messages, expected)).map(|pause| pause.as_secs());
        assert_eq!(pause_of(6_000, None), None);
        assert_eq!(pause_of(6_001, None), Some(60));
        assert_eq!(pause_of(8_001, Some(0.0)), Some(120));
        assert_eq!(pause_of(0, Some(359.0)), None);
        assert_eq!(pause_of(0, Some(361.0)), Some(60));
        assert_eq!(pause_of(6_001, Some(481.0)), Some(120));
    }
}
