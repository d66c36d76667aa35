//! The breakers before the sink's lanes, one each, shared by express and deliver within one process.

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::{Breaker, BreakerState, Policy};
use crate::limits::{BREAKER_FAILURES, BREAKER_OPEN, BREAKER_OPEN_CRITICAL, PROBE};
use crate::sink::Lane;

const CRITICAL: Policy =
    Policy { failures: BREAKER_FAILURES, open: BREAKER_OPEN_CRITICAL, longest: BREAKER_OPEN_CRITICAL, probe: PROBE };
const BULK: Policy = Policy { failures: BREAKER_FAILURES, open: BREAKER_OPEN, longest: BREAKER_OPEN, probe: PROBE };

/// One breaker a lane. Both lanes lead to the same broker, so that a success of one is a sign of return for the other.
#[derive(Debug, Default)]
pub struct SinkBreakers {
    critical: Mutex<Breaker<Instant>>,
    bulk: Mutex<Breaker<Instant>>,
    changed: Notify,
}

/// The breaker of one lane.
#[derive(Debug, Clone, Copy)]
pub struct LaneBreaker<'a> {
    of: &'a SinkBreakers,
    lane: Lane,
}

impl SinkBreakers {
    /// The breaker before this lane.
    pub fn lane(&self, lane: Lane) -> LaneBreaker<'_> {
        LaneBreaker { of: self, lane }
    }

    /// The broker answered: no lane's probe waits for its time any more.
    pub fn sign_of_return(&self) {
        self.sign([Lane::Critical, Lane::Bulk]);
    }

    /// Completes when a breaker closes, or may be probed earlier than was known. It listens from its first poll on.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    fn sign(&self, lanes: impl IntoIterator<Item = Lane>) {
        for lane in lanes {
            if self.breaker(lane).lock().sign_of_return(Instant::now()) {
                self.changed.notify_waiters();
            }
        }
    }

    fn breaker(&self, lane: Lane) -> &Mutex<Breaker<Instant>> {
        match lane {
            Lane::Critical => &self.critical,
            Lane::Bulk => &self.bulk,
        }
    }
}

impl<'a> LaneBreaker<'a> {
    /// Whether a try may start now. Whoever starts one reports its end with [`record`](LaneBreaker::record).
    pub fn admit(self) -> bool {
        self.breaker().lock().admit(Instant::now(), self.policy())
    }

    /// How a try ended. Only what the broker did counts: a refused record is a success, for the broker answered.
    pub fn record(self, succeeded: bool) {
        let was_closed = {
            let mut breaker = self.breaker().lock();
            let was_closed = breaker.state() == BreakerState::Closed;
            breaker.record(succeeded, Instant::now(), self.policy());
            was_closed
        };
        if !succeeded {
            return;
        }
        if !was_closed {
            self.of.changed.notify_waiters();
        }
        match self.lane {
            Lane::Critical => self.of.sign([Lane::Bulk]),
            Lane::Bulk => self.of.sign([Lane::Critical]),
        }
    }

    /// As the metric shows it [O1].
    pub fn state(self) -> BreakerState {
        self.breaker().lock().state()
    }

    /// The next try may start at this time; `None` while closed.
    pub fn waits_until(self) -> Option<Instant> {
        self.breaker().lock().waits_until()
    }

    /// Nothing may start now: the breaker is open and its probe's time has not come, or the probe is under way.
    pub fn holds_back(self) -> bool {
        self.waits_until().is_some_and(|until| Instant::now() < until)
    }

    fn breaker(self) -> &'a Mutex<Breaker<Instant>> {
        self.of.breaker(self.lane)
    }

    fn policy(self) -> &'static Policy {
        match self.lane {
            Lane::Critical => &CRITICAL,
            Lane::Bulk => &BULK,
        }
    }
}
