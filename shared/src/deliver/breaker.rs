//! The circuit breaker of one sink and lane [R2], within one process. Failed tries count, refused records never do.

use parking_lot::Mutex;
use serde::Serialize;

use crate::limits::{BREAKER_FAILURES, BREAKER_OPEN};
use crate::sink::Lane;
use crate::time::Timestamp;

/// As the metric shows it: 0 closed, 1 open, 2 half-open [O1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    Closed,
    Open,
    HalfOpen,
}

#[derive(Debug, Clone, Copy)]
enum Inner {
    Closed {
        failures: u32,
    },
    /// One probe is admitted from `until` on.
    Open {
        until: Timestamp,
    },
    /// The probe is under way; one that never reports is replaced from `until` on.
    HalfOpen {
        until: Timestamp,
    },
}

/// One lane's breaker.
#[derive(Debug)]
pub struct Breaker(Mutex<Inner>);

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker(Mutex::new(Inner::Closed { failures: 0 }))
    }
}

impl Breaker {
    /// Whether a try may start now. After the open time exactly one may: the probe.
    pub fn admit(&self, now: Timestamp) -> bool {
        self.with(|inner| match *inner {
            Inner::Closed { .. } => true,
            Inner::Open { until } | Inner::HalfOpen { until } if now >= until => {
                *inner = Inner::HalfOpen { until: now + BREAKER_OPEN };
                true
            }
            Inner::Open { .. } | Inner::HalfOpen { .. } => false,
        })
    }

    /// How a try ended.
    pub fn record(&self, succeeded: bool, now: Timestamp) {
        self.with(|inner| {
            *inner = match (*inner, succeeded) {
                (_, true) => Inner::Closed { failures: 0 },
                (Inner::Closed { failures }, false) if failures + 1 < BREAKER_FAILURES => {
                    Inner::Closed { failures: failures + 1 }
                }
                // A try that started before the breaker opened does not lengthen the open time.
                (Inner::Open { until }, false) => Inner::Open { until },
                (Inner::Closed { .. } | Inner::HalfOpen { .. }, false) => Inner::Open { until: now + BREAKER_OPEN },
            }
        });
    }

    /// A try was given up before its end was known: a probe gives its place to the next.
    pub fn give_back(&self, now: Timestamp) {
        self.with(|inner| {
            if let Inner::HalfOpen { .. } = inner {
                *inner = Inner::Open { until: now };
            }
        });
    }

    /// Its state now.
    pub fn state(&self) -> BreakerState {
        self.with(|inner| match inner {
            Inner::Closed { .. } => BreakerState::Closed,
            Inner::Open { .. } => BreakerState::Open,
            Inner::HalfOpen { .. } => BreakerState::HalfOpen,
        })
    }

    /// Whether the last try that ended was a success; so is none at all.
    pub fn is_well(&self) -> bool {
        self.with(|inner| matches!(inner, Inner::Closed { failures: 0 }))
    }

    /// From when on the next probe may start; `None` while closed.
    pub fn opens_at(&self) -> Option<Timestamp> {
        self.with(|inner| match *inner {
            Inner::Closed { .. } => None,
            Inner::Open { until } | Inner::HalfOpen { until } => Some(until),
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.lock())
    }
}

/// One breaker a lane.
#[derive(Debug, Default)]
pub struct Breakers {
    critical: Breaker,
    bulk: Breaker,
}

impl Breakers {
    /// The lane's own breaker.
    pub fn lane(&self, lane: Lane) -> &Breaker {
        match lane {
            Lane::Critical => &self.critical,
            Lane::Bulk => &self.bulk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn r2_three_failed_tries_in_a_row_open_it_and_a_success_between_starts_anew() {
        let breaker = Breaker::default();
        for ok in [false, false, true, false, false] {
            breaker.record(ok, at(0));
            assert_eq!(breaker.state(), BreakerState::Closed);
        }
        breaker.record(false, at(0));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(!breaker.admit(at(59)));
    }

    #[test]
    fn r2_after_sixty_seconds_one_probe_decides() {
        for (probe_succeeds, state) in [(true, BreakerState::Closed), (false, BreakerState::Open)] {
            let breaker = Breaker::default();
            (0..3).for_each(|_| breaker.record(false, at(0)));
            assert!(breaker.admit(at(60)), "the probe");
            assert!(!breaker.admit(at(60)), "only one");
            breaker.record(probe_succeeds, at(61));
            assert_eq!(breaker.state(), state);
            assert_eq!(breaker.admit(at(62)), probe_succeeds);
        }
    }

    #[test]
    fn a_probe_that_never_reports_is_replaced() {
        let breaker = Breaker::default();
        (0..3).for_each(|_| breaker.record(false, at(0)));
        assert!(breaker.admit(at(60)));
        assert!(!breaker.admit(at(119)));
        assert!(breaker.admit(at(120)));
    }

    #[test]
    fn a_late_failure_of_an_old_try_does_not_lengthen_the_open_time() {
        let breaker = Breaker::default();
        (0..3).for_each(|_| breaker.record(false, at(0)));
        breaker.record(false, at(30));
        assert!(breaker.admit(at(60)));
    }
}
