//! Whether a tier takes new records at all: none that would wait too long [P6]. How many it holds, its queue knows itself [Q2].

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::deliver::report::{self, Report};
use crate::limits::LONGEST_EXPECTED_WAIT;
use crate::record::Tier;
use crate::store::Store;
use crate::time::Clock;

/// An older report says nothing of now: nobody is on duty.
const VALID: Duration = Duration::from_secs(60);
/// A report is looked up this often at most: a new one comes as often.
const LOOKED_UP: Duration = report::EVERY;

/// What this process knows of it.
#[derive(Debug, Default)]
pub struct Room {
    known: Mutex<Option<(Instant, Option<Report>)>>,
}

impl Room {
    /// Whether a record that comes now is likely to be served in time; it is while nothing is known. Alerts are never held back.
    pub(crate) async fn takes(&self, tier: Tier, store: &dyn Store, clock: &Clock) -> bool {
        if tier == Tier::Critical {
            return true;
        }
        let now = Instant::now();
        let is_known = self.known.lock().as_ref().is_some_and(|(at, _)| now - *at < LOOKED_UP);
        if !is_known {
            let report = report::last(store).await.unwrap_or_else(|problem| {
                tracing::debug!(%problem, "how long a record would wait is not known");
                None
            });
            *self.known.lock() = Some((now, report));
        }
        let known = self.known.lock();
        let report = known.as_ref().and_then(|(_, report)| report.as_ref());
        expected(report, tier, clock).is_none_or(|seconds| seconds < LONGEST_EXPECTED_WAIT.as_secs_f64())
    }
}

/// How many seconds a record that comes now is likely to wait, if somebody who delivers has said so lately.
pub(super) fn expected(report: Option<&Report>, tier: Tier, clock: &Clock) -> Option<f64> {
    report.filter(|report| clock.since(report.at) < VALID)?.waits.get(&tier)?.expected_s
}
