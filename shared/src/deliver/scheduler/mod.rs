//! Which tier is served next: deficit round robin with credits in records [P4] and promotion by age [P6], as a pure function
//! over what each tier has to offer. `docs/scheduling.md` derives the bound that [`Scheduler::ahead`] computes; the tests
//! beside it check it against every state of a small scheduler and against adversarial backlogs of a large one.
//!
//! In calm CRITICAL does not take part: it has its own lane and never waits for a turn. In a flood of alerts it is a class
//! like the others, so that LOW keeps its share.

use std::time::Duration;

use crate::record::Tier;

/// Credits of one round for a weight of one, in records: less than most envelopes have, so that tiers take turns after every few
/// envelopes however small these are; a large one waits for some rounds, each a few additions.
pub const QUANTUM: u64 = 100;
/// LOW waiting longer is served with NORMAL's credit [P6].
pub const LOW_AS_NORMAL: Duration = Duration::from_secs(5 * 60);
/// NORMAL and LOW waiting longer are served with HIGH's credit [P6].
pub const AS_HIGH: Duration = Duration::from_secs(10 * 60);

/// The tiers in the order in which a round visits them.
const CLASSES: [Tier; 4] = Tier::ALL;

/// A tier's share of the credits: 3 : 2 : 1 in calm, 6 : 3 : 2 : 1 while CRITICAL floods [P4].
pub const fn weight(tier: Tier) -> u64 {
    match tier {
        Tier::Critical => 6,
        Tier::High => 3,
        Tier::Normal => 2,
        Tier::Low => 1,
    }
}

/// The tier whose credit serves a queue, by how long its oldest records wait [P6]. The queue itself stays what it is: nothing
/// is received and sent again.
pub fn served_as(tier: Tier, age: Duration) -> Tier {
    match tier {
        Tier::Normal | Tier::Low if age > AS_HIGH => Tier::High,
        Tier::Low if age > LOW_AS_NORMAL => Tier::Normal,
        tier => tier,
    }
}

/// The largest weight that a tier's queue can have: age promotes it.
const fn largest_weight(tier: Tier) -> u64 {
    match tier {
        Tier::Critical => weight(Tier::Critical),
        Tier::High | Tier::Normal | Tier::Low => weight(Tier::High),
    }
}

/// What a tier has to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// Nothing waits. What credit it had is gone: an idle tier hoards nothing.
    Empty,
    /// Nothing in hand may go, or a receive that may bring something is under way: it loses this turn and keeps its credit, of
    /// one round at the most.
    Awaited,
    /// What goes next may not go yet, for what was before it in its stream is in work. When its turn comes the others wait for
    /// it: they would take its share.
    Busy {
        /// Records of what goes next.
        records: u32,
        /// The tier whose credit serves it.
        served_as: Tier,
    },
    /// What goes next.
    Ready {
        /// Records of what goes next.
        records: u32,
        /// The tier whose credit serves it.
        served_as: Tier,
    },
}

/// Deficit round robin over the tiers. Work-conserving: while a tier is `Ready` and no other is `Busy`, some envelope is served.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scheduler {
    quantum: u64,
    credits: [u64; 4],
    at: usize,
    /// The tier at `at` already has this round's credit.
    credited: bool,
}

impl Default for Scheduler {
    fn default() -> Scheduler {
        Scheduler::new(QUANTUM)
    }
}

impl Scheduler {
    /// No tier has any credit; `quantum`: records that a round gives for a weight of one.
    pub fn new(quantum: u64) -> Scheduler {
        assert!(quantum > 0, "without credits nothing would ever be served");
        Scheduler { quantum, credits: [0; 4], at: 0, credited: false }
    }

    /// The tier whose envelope is served now, paid from its credit; `None` when no tier has one that may go, or when it is the
    /// turn of one that is `Busy`.
    pub fn next(&mut self, fronts: [Front; 4]) -> Option<Tier> {
        if !fronts.iter().any(|front| matches!(front, Front::Ready { .. })) {
            return None;
        }
        loop {
            let tier = CLASSES[self.at];
            match fronts[self.at] {
                front @ (Front::Ready { records, served_as } | Front::Busy { records, served_as }) => {
                    if !self.credited {
                        self.credits[self.at] += weight(served_as) * self.quantum;
                        self.credited = true;
                    }
                    if let Some(rest) = self.credits[self.at].checked_sub(u64::from(records)) {
                        if matches!(front, Front::Busy { .. }) {
                            return None;
                        }
                        self.credits[self.at] = rest;
                        return Some(tier);
                    }
                }
                Front::Awaited => {
                    self.credits[self.at] = self.credits[self.at].min(weight(tier) * self.quantum);
                }
                Front::Empty => self.credits[self.at] = 0,
            }
            self.at = (self.at + 1) % CLASSES.len();
            self.credited = false;
        }
    }

    /// The starvation bound: at most so many records are served until `backlog` records of `tier`'s queue are, these
    /// included, whatever comes to the other tiers meanwhile. It holds as long as the tier is never `Awaited`; every such
    /// visit costs it one turn.
    pub fn ahead(&self, tier: Tier, backlog: u64) -> u64 {
        if backlog == 0 {
            return 0;
        }
        let visits = backlog.div_ceil(weight(tier) * self.quantum);
        let others = CLASSES.iter().zip(self.credits).filter(|(other, _)| **other != tier);
        backlog + others.map(|(other, credit)| credit + visits * largest_weight(*other) * self.quantum).sum::<u64>()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
