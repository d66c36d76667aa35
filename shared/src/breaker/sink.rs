//! The breakers before the sink's lanes, one each, shared by express and deliver within one process. What other processes
//! say of the same lanes comes in through [`shared`](super::shared).

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::{Breaker, BreakerState, Policy};
use crate::limits::{ASK_AGAIN, BREAKER_FAILURES, BREAKER_OPEN, BREAKER_OPEN_CRITICAL, BREAKER_SHARED, PROBE};
use crate::sink::Lane;

const CRITICAL: Policy =
    Policy { failures: BREAKER_FAILURES, open: BREAKER_OPEN_CRITICAL, longest: BREAKER_OPEN_CRITICAL, probe: PROBE };
const BULK: Policy = Policy { failures: BREAKER_FAILURES, open: BREAKER_OPEN, longest: BREAKER_OPEN, probe: PROBE };

/// One breaker a lane. Both lanes lead to the same broker, so that a success of one is a sign of return for the other.
#[derive(Debug, Default)]
pub struct SinkBreakers {
    critical: Mutex<Watched>,
    bulk: Mutex<Watched>,
    changed: Notify,
    exchange_began: Mutex<Option<Instant>>,
}

/// A breaker, and what this process has to tell the others of it.
#[derive(Debug, Default)]
struct Watched {
    breaker: Breaker<Instant>,
    /// When a try last succeeded here, and when one last kept or made the breaker open.
    succeeded: Option<Instant>,
    opened: Option<Instant>,
    /// Times that it opened or closed by what this process saw, and how many of them the others were told of.
    news: u64,
    told: u64,
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
        self.sign(Lane::ALL);
    }

    /// Completes when a breaker closes, or may be probed earlier than was known. It listens from its first poll on.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// From then on what is known of the lanes is to be exchanged with the other processes: at once when there is news, and else
    /// every [`BREAKER_SHARED`]. `None` before the first time: at once.
    pub(crate) fn exchange_due(&self) -> Option<Instant> {
        let pause = if Lane::ALL.iter().any(|&lane| self.lane(lane).has_news()) { ASK_AGAIN } else { BREAKER_SHARED };
        self.exchange_began.lock().map(|began| began + pause)
    }

    /// Whether that time has come.
    pub(crate) fn is_exchange_due(&self) -> bool {
        self.exchange_due().is_none_or(|due| due <= Instant::now())
    }

    /// An exchange begins, successful or not.
    pub(super) fn begin_exchange(&self) {
        *self.exchange_began.lock() = Some(Instant::now());
    }

    fn sign(&self, lanes: impl IntoIterator<Item = Lane>) {
        for lane in lanes {
            if self.watched(lane).lock().breaker.sign_of_return(Instant::now()) {
                self.changed.notify_waiters();
            }
        }
    }

    fn watched(&self, lane: Lane) -> &Mutex<Watched> {
        match lane {
            Lane::Critical => &self.critical,
            Lane::Bulk => &self.bulk,
        }
    }
}

impl<'a> LaneBreaker<'a> {
    /// Whether a try may start now. Whoever starts one reports its end with [`record`](LaneBreaker::record).
    pub fn admit(self) -> bool {
        self.watched().lock().breaker.admit(Instant::now(), self.policy())
    }

    /// How a try ended. Only what the broker did counts: a refused record is a success, for the broker answered.
    pub fn record(self, succeeded: bool) {
        let now = Instant::now();
        let was_closed = {
            let mut watched = self.watched().lock();
            let before = watched.breaker.state();
            watched.breaker.record(succeeded, now, self.policy());
            let opens = before != BreakerState::Open && watched.breaker.state() == BreakerState::Open;
            if succeeded {
                watched.succeeded = Some(now);
            }
            if opens {
                watched.opened = Some(now);
            }
            let closes = succeeded && before != BreakerState::Closed;
            watched.news += u64::from(opens || closes);
            before == BreakerState::Closed
        };
        if !succeeded {
            return;
        }
        if !was_closed {
            self.of.changed.notify_waiters();
        }
        self.of.sign([self.lane.other()]);
    }

    /// As the metric shows it [O1].
    pub fn state(self) -> BreakerState {
        self.watched().lock().breaker.state()
    }

    /// The next try may start at this time; `None` while closed.
    pub fn waits_until(self) -> Option<Instant> {
        self.watched().lock().breaker.waits_until()
    }

    /// Nothing may start now: the breaker is open and its probe's time has not come, or the probe is under way.
    pub fn holds_back(self) -> bool {
        self.waits_until().is_some_and(|until| Instant::now() < until)
    }

    /// Whether it has opened or closed since the others were last told.
    pub(super) fn has_news(self) -> bool {
        let watched = self.watched().lock();
        watched.news != watched.told
    }

    /// What the others are to be told, with a number for [`told`](LaneBreaker::told); `None` when there is nothing new.
    /// `said`: what was said last, `age` ago: whether the lane is away.
    pub(super) fn news(self, said: bool, age: Duration) -> Option<(bool, u64)> {
        let watched = self.watched().lock();
        let away = watched.breaker.state() != BreakerState::Closed;
        let knows_better = said && !away && is_within(watched.succeeded, age);
        (watched.news != watched.told || knows_better).then_some((away, watched.news))
    }

    /// The others know of the first `news` changes.
    pub(super) fn told(self, news: u64) {
        let mut watched = self.watched().lock();
        watched.told = watched.told.max(news);
    }

    /// Another process said `age` ago that the lane is away, or back. The later word counts, whoever says it.
    pub(super) fn hear(self, away: bool, age: Duration) {
        let now = Instant::now();
        let is_back = {
            let mut watched = self.watched().lock();
            match (away, watched.breaker.state()) {
                (true, BreakerState::Closed) if !is_within(watched.succeeded, age) => {
                    let left = self.policy().open.saturating_sub(age);
                    if left > Duration::ZERO {
                        watched.breaker.hear_open(now, now + left, self.policy());
                    }
                    false
                }
                (false, BreakerState::Open) => !is_within(watched.opened, age),
                _ => false,
            }
        };
        if is_back {
            self.of.sign_of_return();
        }
    }

    fn watched(self) -> &'a Mutex<Watched> {
        self.of.watched(self.lane)
    }

    fn policy(self) -> &'static Policy {
        match self.lane {
            Lane::Critical => &CRITICAL,
            Lane::Bulk => &BULK,
        }
    }
}

/// Whether `at` is no longer ago than `age`.
fn is_within(at: Option<Instant>, age: Duration) -> bool {
    at.is_some_and(|at| at.elapsed() <= age)
}
