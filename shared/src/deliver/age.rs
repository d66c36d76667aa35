//! How long records wait in the sink's time [P6]: the age clock stands still while the sink is away, and while nobody was on
//! duty. An outage of two hours promotes nothing, so that recovery goes by priority.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::STORED_AHEAD;
use crate::time::Timestamp;

/// Interruptions that are remembered: far more than a record can have lived through, since none waits longer than minutes of
/// the sink's time.
const INTERRUPTIONS: usize = 64;
/// A shorter one changes no promotion, and every change of duty is one.
const SHORTEST: Duration = Duration::from_secs(10);

/// When deliveries stood still, by the wall clock, for records that were accepted by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgeClock {
    /// Oldest first, none overlapping another.
    stood: VecDeque<(Timestamp, Timestamp)>,
    #[serde(skip)]
    stands_since: Option<Timestamp>,
}

impl AgeClock {
    /// Stands still from `now` on, unless it does already.
    pub fn stop(&mut self, now: Timestamp) {
        self.forget_after(now);
        self.stands_since.get_or_insert(now);
    }

    /// Runs from `now` on.
    pub fn go_on(&mut self, now: Timestamp) {
        self.forget_after(now);
        if let Some(since) = self.stands_since.take() {
            self.stood_still(since, now);
        }
    }

    /// An interruption that ends later than now was noted before the clock was set back: what it says of this hour is wrong.
    fn forget_after(&mut self, now: Timestamp) {
        self.stood.retain(|(_, until)| *until <= now + STORED_AHEAD);
        self.stands_since = self.stands_since.map(|since| since.min(now));
    }

    /// Nothing was delivered in this time.
    pub fn stood_still(&mut self, since: Timestamp, until: Timestamp) {
        let since = self.stood.back().map_or(since, |(_, last)| since.max(*last));
        if between(since, until) < SHORTEST {
            return;
        }
        self.stood.push_back((since, until));
        if self.stood.len() > INTERRUPTIONS {
            self.stood.pop_front();
        }
    }

    /// Whether it remembers the interruptions that `other` does.
    pub(crate) fn remembers_as(&self, other: &AgeClock) -> bool {
        self.stood == other.stood
    }

    /// As a successor takes it over: what stands still now has stood still until `now`.
    pub fn handed_over(mut self, now: Timestamp) -> AgeClock {
        self.go_on(now);
        self
    }

    /// The sink's time that has passed since `accepted_at`.
    pub fn age(&self, accepted_at: Timestamp, now: Timestamp) -> Duration {
        let standing = self.stands_since.map(|since| (since, now));
        let still = |(since, until): (Timestamp, Timestamp)| between(since.max(accepted_at), until.min(now));
        let stood: Duration = self.stood.iter().copied().chain(standing).map(still).sum();
        between(accepted_at, now).saturating_sub(stood)
    }
}

/// Zero when `until` is not later: clocks are set back.
fn between(since: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(since)).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        "2026-09-01T19:00:00Z".parse::<Timestamp>().unwrap() + Duration::from_secs(minutes as u64 * 60)
    }

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(minutes * 60)
    }

    #[test]
    fn p6_it_stands_still_while_the_sink_is_away() {
        let mut clock = AgeClock::default();
        clock.stop(at(10));
        clock.stop(at(60));
        assert_eq!(clock.age(at(8), at(100)), minutes(2), "it stands");
        assert_eq!(clock.clone().handed_over(at(100)).age(at(8), at(101)), minutes(3), "it stood");
        clock.go_on(at(130));
        clock.go_on(at(140));
        assert_eq!(clock.age(at(8), at(133)), minutes(5));
        assert_eq!(clock.age(at(20), at(133)), minutes(3), "accepted in the outage");
        assert_eq!(clock.age(at(131), at(133)), minutes(2), "accepted after it");
        clock.stood_still(at(140), at(150));
        assert_eq!(clock.age(at(8), at(151)), minutes(2 + 10 + 1));
    }

    #[test]
    fn interruptions_that_overlap_count_once() {
        let mut clock = AgeClock::default();
        clock.stood_still(at(10), at(20));
        clock.stood_still(at(15), at(30));
        clock.stood_still(at(12), at(13));
        assert_eq!(clock.age(at(0), at(40)), minutes(20));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_old() {
        let mut clock = AgeClock::default();
        clock.stop(at(100));
        assert_eq!(clock.age(at(50), at(40)), Duration::ZERO);
        clock.go_on(at(40));
        assert_eq!(clock.age(at(0), at(50)), minutes(50));
        clock.stood_still(at(60), at(180));
        clock.stop(at(120));
        assert_eq!(clock.age(at(90), at(120)), minutes(30), "set back into an interruption, it forgets that one");
        clock.go_on(at(140));
        assert_eq!(clock.age(at(110), at(150)), minutes(20), "and remembers what comes");
    }

    #[test]
    fn it_remembers_so_much_and_no_more() {
        let mut clock = AgeClock::default();
        for hour in 0..1_000 {
            clock.stood_still(at(hour * 60), at(hour * 60 + 1));
        }
        assert_eq!(clock.stood.len(), INTERRUPTIONS);
        let text = serde_json::to_string(&clock).unwrap();
        assert_eq!(serde_json::from_str::<AgeClock>(&text).unwrap(), clock);
    }
}
