//! The circuit breaker, of which there is one kind: before each lane of the sink [R2] and before each polled source [S10].
//!
//! A breaker is *closed* while all is well: every try may start. Failures in a row are counted, any success sets the count
//! back to zero, and when the count reaches the policy's limit the breaker *opens*. While it is open nothing may start. When
//! its time is over the next one who asks may try, and the breaker is *half-open*: exactly one try, the probe, is under way
//! and everybody else is turned away. A probe that succeeds closes the breaker; one that fails opens it again, for a longer
//! time where the policy says so; one that never reports is replaced once its own time is over. Between opening and probe a
//! *sign of return* (another lane was acknowledged, the broker answered a question) ends the wait early. A sign that proved
//! false, because its probe failed, makes the next sign wait longer, so that a lane whose own topic is away does not probe
//! without a pause while the others are well. A try that began before the breaker opened may still end: its success closes
//! the breaker, its failure changes nothing while the breaker is open, and counts as the probe's while one is under way, which
//! costs one more wait.
//!
//! The type is a pure state machine over any kind of time. A process measures its waits on the monotonic clock
//! (`tokio::time::Instant`); what is stored between invocations has only the wall clock.

pub mod shared;
mod sink;

use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use sink::{LaneBreaker, SinkBreakers};

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open the first time. With every failed probe the time doubles, up to `longest`.
    pub open: Duration,
    /// However many probes fail, it stays open no longer.
    pub longest: Duration,
    /// A probe that has not reported by then is replaced.
    pub probe: Duration,
}

/// The shortest wait that a sign of return leaves; doubled with every sign that proved false.
const SIGN_WAIT: Duration = Duration::from_secs(1);

/// As the metric shows it: 0 closed, 1 open, 2 half-open [O1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Every try may start.
    Closed,
    /// No try may start before the probe's time.
    Open,
    /// One probe is under way, and nothing else may start.
    HalfOpen,
}

impl BreakerState {
    /// The metric's value.
    pub fn figure(self) -> f64 {
        match self {
            BreakerState::Closed => 0.0,
            BreakerState::Open => 1.0,
            BreakerState::HalfOpen => 2.0,
        }
    }
}

/// One breaker, over times of any kind. It never reads a clock: every call says what time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker<At> {
    /// Failures since the last success.
    failures: u32,
    /// Signs of return since the last success whose probe failed.
    false_signs: u32,
    phase: Phase<At>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase<At> {
    Closed,
    Open {
        /// The probe may start.
        until: At,
        /// With a sign of return it may start at this time already.
        earliest: At,
        signed: bool,
    },
    HalfOpen {
        /// The probe is replaced.
        until: At,
        signed: bool,
    },
}

impl<At> Default for Breaker<At> {
    fn default() -> Breaker<At> {
        Breaker { failures: 0, false_signs: 0, phase: Phase::Closed }
    }
}

impl<At: Copy + Ord + Add<Duration, Output = At>> Breaker<At> {
    /// Whether a try may start now. Whoever starts one reports its end with [`record`](Breaker::record).
    pub fn admit(&mut self, now: At, policy: &Policy) -> bool {
        match self.phase {
            Phase::Closed => true,
            Phase::Open { until, signed, .. } | Phase::HalfOpen { until, signed } if now >= until => {
                self.phase = Phase::HalfOpen { until: now + policy.probe, signed };
                true
            }
            Phase::Open { .. } | Phase::HalfOpen { .. } => false,
        }
    }

    /// How a try ended.
    pub fn record(&mut self, succeeded: bool, now: At, policy: &Policy) {
        if succeeded {
            *self = Breaker::default();
            return;
        }
        match self.phase {
            Phase::Open { .. } => return,
            Phase::Closed => {}
            Phase::HalfOpen { signed, .. } => self.false_signs += u32::from(signed),
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= policy.failures {
            let open = doubled(policy.open, self.failures - policy.failures).min(policy.longest);
            let earliest = doubled(SIGN_WAIT, self.false_signs).min(open);
            self.phase = Phase::Open { until: now + open, earliest: now + earliest, signed: false };
        }
    }

    /// Somebody else found what it guards away: until then nothing starts, unless a sign of return comes, and then a probe decides.
    pub fn hear_open(&mut self, now: At, until: At, policy: &Policy) {
        self.failures = self.failures.max(policy.failures.saturating_sub(1));
        self.phase = Phase::Open { until, earliest: now, signed: false };
    }

    /// What it guards may be back: the probe need not wait for its time. Gives whether that changed anything.
    pub fn sign_of_return(&mut self, now: At) -> bool {
        match self.phase {
            Phase::Open { until, earliest, .. } if earliest.max(now) < until => {
                self.phase = Phase::Open { until: earliest.max(now), earliest, signed: true };
                true
            }
            _ => false,
        }
    }

    /// What it would say now, whether or not the probe's time has come.
    pub fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The next try may start at this time, as far as is known; `None` while closed.
    pub fn waits_until(&self) -> Option<At> {
        match self.phase {
            Phase::Closed => None,
            Phase::Open { until, .. } | Phase::HalfOpen { until, .. } => Some(until),
        }
    }

    /// The same breaker on a clock that was set back.
    pub fn shifted(self, shift: impl Fn(At) -> At) -> Breaker<At> {
        let phase = match self.phase {
            Phase::Closed => Phase::Closed,
            Phase::Open { until, earliest, signed } => {
                Phase::Open { until: shift(until), earliest: shift(earliest), signed }
            }
            Phase::HalfOpen { until, signed } => Phase::HalfOpen { until: shift(until), signed },
        };
        Breaker { phase, ..self }
    }
}

fn doubled(time: Duration, times: u32) -> Duration {
    time.saturating_mul(2u32.saturating_pow(times.min(31)))
}

#[cfg(test)]
mod tests;
