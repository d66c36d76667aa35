//! Which faults come when: a function of the seed alone, so that a run can be repeated.

use std::fmt;
use std::time::Duration;

/// What is done to the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of `up` wherever it is.
    Kill,
    /// The same while records are queued or in flight; a broker beside it stands still until then.
    KillInFlight,
    /// `kill -9` of `up` and of the broker, which comes back later than `up`.
    KillBoth,
    /// `kill -9` of the broker, which comes back later.
    KillBroker,
    /// SIGSTOP and later SIGCONT.
    FreezeUp,
    /// The same for the broker.
    FreezeBroker,
    /// The connections to the broker break and cannot be made again for a while.
    CutConnections,
    /// What is sent to the broker and back does not arrive for a while.
    Silence,
    /// The disk of the data folder is full for a while.
    FillDisk,
    /// Every core computes something else for a while.
    BurnCpu,
    /// `kill -9` of the bulk load.
    KillIngest,
}

impl Fault {
    pub const ALL: [Fault; 11] = [
        Fault::Kill,
        Fault::KillInFlight,
        Fault::KillBoth,
        Fault::KillBroker,
        Fault::FreezeUp,
        Fault::FreezeBroker,
        Fault::CutConnections,
        Fault::Silence,
        Fault::FillDisk,
        Fault::BurnCpu,
        Fault::KillIngest,
    ];

    /// How often it comes in one round of all but the first; most of them are kills [Q1].
    fn times(self) -> usize {
        match self {
            Fault::Kill => 5,
            Fault::KillInFlight => 4,
            _ => 1,
        }
    }

    /// Whether `up` is killed.
    pub fn kills_up(self) -> bool {
        matches!(self, Fault::Kill | Fault::KillInFlight | Fault::KillBoth)
    }

    /// Whether sends to the broker can time out, and may have been written nevertheless [R1].
    pub fn hits_broker(self) -> bool {
        use Fault::*;
        matches!(
            self,
            KillInFlight | KillBoth | KillBroker | FreezeUp | FreezeBroker | CutConnections | Silence | BurnCpu
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Fault::Kill => "kill -9 of up",
            Fault::KillInFlight => "kill -9 of up with records in flight",
            Fault::KillBoth => "kill -9 of up and broker",
            Fault::KillBroker => "kill -9 of the broker, late return",
            Fault::FreezeUp => "up stands still",
            Fault::FreezeBroker => "the broker stands still",
            Fault::CutConnections => "connections cut",
            Fault::Silence => "connections silent",
            Fault::FillDisk => "full disk",
            Fault::BurnCpu => "CPU burnt",
            Fault::KillIngest => "kill -9 of the bulk load",
        })
    }
}

/// One fault of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Undisturbed before it.
    pub flow: Duration,
    pub fault: Fault,
    /// How long it lasts, or the process stays away.
    pub hold: Duration,
}

/// The steps of one seed, without an end. The first round has each fault once, every later one has more kills; each has an
/// order of its own.
pub struct Plan {
    dice: Dice,
    first: bool,
    faults: Vec<Fault>,
    round: Vec<Fault>,
    longest: Duration,
}

impl Plan {
    /// Of `faults`, each of which lasts `longest` at most.
    ///
    /// # Panics
    /// Without any fault.
    pub fn new(seed: u64, faults: &[Fault], longest: Duration) -> Plan {
        assert!(!faults.is_empty(), "a plan without faults");
        Plan { dice: Dice(seed), first: true, faults: faults.to_vec(), round: Vec::new(), longest }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.round.is_empty() {
            let first = std::mem::take(&mut self.first);
            let times = |fault: &Fault| if first { 1 } else { fault.times() };
            self.round = self.faults.iter().flat_map(|fault| std::iter::repeat_n(*fault, times(fault))).collect();
            for last in (1..self.round.len()).rev() {
                self.round.swap(last, self.dice.below(last as u64 + 1) as usize);
            }
        }
        let fault = self.round.pop()?;
        let flow = Duration::from_millis(200 + self.dice.below(1_300));
        let hold = Duration::from_millis(100 + self.dice.below(self.longest.as_millis() as u64));
        Some(Step { flow, fault, hold })
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_plan_and_every_round_has_every_fault() {
        let round: usize = Fault::ALL.iter().map(|fault| fault.times()).sum();
        let plan =
            |seed| Plan::new(seed, &Fault::ALL, Duration::from_secs(4)).take(11 + 2 * round).collect::<Vec<Step>>();
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        let steps = plan(7);
        let (first, later) = steps.split_at(Fault::ALL.len());
        let count = |steps: &[Step], fault| steps.iter().filter(|step| step.fault == fault).count();
        for fault in Fault::ALL {
            assert_eq!(count(first, fault), 1, "{fault}");
            later.chunks(round).for_each(|steps| assert_eq!(count(steps, fault), fault.times(), "{fault}"));
        }
        assert!(later.iter().filter(|step| step.fault.kills_up()).count() * 2 > later.len());
    }
}
