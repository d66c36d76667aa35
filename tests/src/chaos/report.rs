//! What a run comes to: the outside ledger against the topics and the dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use streammanager::limits::{BATCH_RECORDS, BULK_IN_FLIGHT_RECORDS, CRITICAL_PARALLEL, TRY, TRY_ENDS_LATE, TRY_WAITS};
use streammanager::record::Tier;

use super::ledger::{Accepted, Door, Item};
use super::plan::Fault;
use super::topics::Arrivals;

/// Shards of the template's stream, which is on demand: of each one batch may be on its way into the queues at a kill.
const SHARDS: usize = 4;
/// Batches of one polled stream or bulk load that a crash may repeat.
const BATCHES: usize = 2;

/// A fault, from its beginning to its end.
#[derive(Debug, Clone, Copy)]
pub struct Disturbance {
    pub fault: Fault,
    pub began: Instant,
    pub ended: Instant,
}

impl Disturbance {
    /// How many records of the bulk tiers it may repeat [K6]: what was in flight and what was not marked as known; what was
    /// sent to a broker that did not answer may have been written by each try, from `up` and from the bulk load.
    fn may_repeat(&self) -> usize {
        let crash = BULK_IN_FLIGHT_RECORDS + (SHARDS + BATCHES) * BATCH_RECORDS;
        let crashes = usize::from(self.fault.kills_up()) + usize::from(self.fault == Fault::KillIngest);
        let tries = if self.fault.hits_broker() { 2 * TRY_WAITS.len() } else { 0 };
        crashes * crash + tries * BULK_IN_FLIGHT_RECORDS
    }

    /// Whether an alert that was accepted then may have been on two ways.
    fn covers(&self, at: Instant) -> bool {
        let around = TRY + TRY_ENDS_LATE;
        at + around >= self.began && at <= self.ended + around
    }
}

#[derive(Debug, Default)]
pub struct Line {
    pub accepted: usize,
    pub delivered: usize,
    pub dead: usize,
    pub lost: usize,
    pub duplicated: usize,
    pub out_of_order: u64,
}

/// The whole of a run.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub lasted: Duration,
    pub lines: BTreeMap<Door, Line>,
    pub faults: BTreeMap<Fault, usize>,
    pub kills: u64,
    /// Kills that found records queued.
    pub hits: u64,
    /// Of them, those that waited for some.
    pub hits_in_flight: u64,
    pub longest_gap: BTreeMap<Tier, Duration>,
    pub flowing_again: Vec<Duration>,
    pub tries: [u64; 4],
    /// Looks at the readiness of the intake, and those that found it ready.
    pub looks: (u64, u64),
    /// Alerts that came after one which refers to them and says that it waited for them in vain [E4].
    pub said_late: u64,
    /// What `up` said of repeats, where it lived long enough to be asked.
    pub redelivered: u64,
    /// The longest time in which everything accepted was delivered once nobody sent.
    pub settling: Duration,
    /// What is wrong: without it the run is a success.
    pub violations: Vec<String>,
}

/// What the run knows besides the ledger and the topics.
pub struct Run {
    pub seed: u64,
    pub began: Instant,
    pub disturbances: Vec<Disturbance>,
    pub hits: u64,
    pub hits_in_flight: u64,
    pub looks: (u64, u64),
    pub redelivered: u64,
    pub settling: Duration,
    /// Numbers of the bad readings that are in the dead letters, and every other letter.
    pub letters: (BTreeSet<u32>, Vec<String>),
    pub violations: Vec<String>,
}

impl Report {
    pub fn of(run: Run, accepted: &Accepted, arrivals: Arrivals) -> Report {
        let mut violations = run.violations;
        let mut lines: BTreeMap<Door, Line> = BTreeMap::new();
        for item in &accepted.items {
            let line = lines.entry(item.door).or_default();
            line.accepted += 1;
            let there = match item.door {
                Door::BadReading => run.letters.0.contains(&item.number),
                _ => arrivals.found.contains_key(item),
            };
            if !there {
                line.lost += 1;
                if line.lost <= 3 {
                    violations.push(format!("lost: {item:?}"));
                }
            }
        }
        for item in arrivals.found.keys() {
            lines.entry(item.door).or_default().delivered += 1;
        }
        lines.entry(Door::BadReading).or_default().dead = run.letters.0.len();
        for (door, out_of_order) in &arrivals.out_of_order {
            lines.entry(*door).or_default().out_of_order = *out_of_order;
        }
        for (_, Item { door, .. }) in &arrivals.repeats {
            lines.entry(*door).or_default().duplicated += 1;
        }
        violations.extend(arrivals.examples);
        let strange = arrivals.strange.len();
        violations.extend(arrivals.strange.into_iter().take(5));
        let (others, refused) = (run.letters.1.len(), accepted.refused.len());
        violations.extend(run.letters.1.into_iter().take(5).map(|letter| format!("dead letter: {letter}")));
        violations.extend(accepted.refused.iter().take(5).map(|answer| format!("a good alert was refused: {answer}")));
        for (what, count) in
            [("strange records", strange), ("dead letters of good records", others), ("refused", refused)]
        {
            if count > 0 {
                violations.push(format!("{count} {what}"));
            }
        }

        let is_alert = |door: &Door| door.tier() == Tier::Critical;
        let sum = |of: &dyn Fn(&Door) -> bool| -> usize {
            lines.iter().filter(|(door, _)| of(door)).map(|(_, line)| line.duplicated).sum()
        };
        let (alerts, bulk) = (sum(&is_alert), sum(&|door| !is_alert(door)));
        let kills = run.disturbances.iter().filter(|disturbance| disturbance.fault.kills_up()).count();
        let on_two_ways = |at: &&Instant| run.disturbances.iter().any(|disturbance| disturbance.covers(**at));
        let alerts_may =
            accepted.hedged + accepted.over_mqtt.iter().filter(on_two_ways).count() + kills * (CRITICAL_PARALLEL + 1);
        let bulk_may: usize = run.disturbances.iter().map(Disturbance::may_repeat).sum();
        for (what, twice, may) in [("alerts", alerts, alerts_may), ("other records", bulk, bulk_may)] {
            if twice > may {
                violations.push(format!("{twice} {what} twice, {may} were on two ways or in flight [K6]"));
            }
        }
        let mut faults: BTreeMap<Fault, usize> = BTreeMap::new();
        run.disturbances.iter().for_each(|disturbance| *faults.entry(disturbance.fault).or_default() += 1);
        let mut flowing_again = arrivals.flowing_again;
        flowing_again.sort();
        Report {
            seed: run.seed,
            lasted: run.began.elapsed(),
            lines,
            faults,
            kills: kills as u64,
            hits: run.hits,
            hits_in_flight: run.hits_in_flight,
            longest_gap: arrivals.longest_gap,
            flowing_again,
            tries: accepted.tries,
            looks: run.looks,
            said_late: arrivals.said,
            redelivered: run.redelivered,
            settling: run.settling,
            violations,
        }
    }

    pub fn accepted(&self) -> usize {
        self.lines.values().map(|line| line.accepted).sum()
    }
}

fn share(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = ["accepted", "delivered", "dead", "lost", "duplicated", "out of order"];
        write!(f, "{:<20}", format!("seed {}", self.seed))?;
        columns.iter().try_for_each(|column| write!(f, "{column:>14}"))?;
        writeln!(f)?;
        let mut sum = [0; 6];
        for (door, line) in &self.lines {
            let Line { accepted, delivered, dead, lost, duplicated, out_of_order } = line;
            let figures = [*accepted, *delivered, *dead, *lost, *duplicated, *out_of_order as usize];
            row(f, door.name(), &figures)?;
            sum.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
        }
        row(f, "all", &sum)?;
        for (tier, gap) in &self.longest_gap {
            writeln!(f, "longest gap {:<8} {:>8.2} s", tier.name(), gap.as_secs_f64())?;
        }
        for (fault, count) in &self.faults {
            writeln!(f, "{count:>6} × {fault}")?;
        }
        writeln!(
            f,
            "{} of {} kills of up found records queued; up counted {} as redelivered",
            self.hits, self.kills, self.redelivered
        )?;
        if self.said_late > 0 {
            writeln!(
                f,
                "{} alerts came after one that had waited 2 s for them, and says so in its quality",
                self.said_late
            )?;
        }
        if let [fastest, .., slowest] = &self.flowing_again[..] {
            let median = self.flowing_again[self.flowing_again.len() / 2];
            let [fastest, median, slowest] = [*fastest, median, *slowest].map(|time| time.as_secs_f64());
            writeln!(
                f,
                "kill -9 to the next new record on a topic, broker there: {fastest:.2} s at least, median {median:.2} s, {slowest:.2} s at most"
            )?;
        }
        let [first, second, third, more] = self.tries;
        let all = self.tries.iter().sum();
        writeln!(
            f,
            "accepted at a sender's first try {:.2} %, second {:.3} %, third {:.3} %, later {:.3} %; intake ready at {:.2} % of {} looks",
            share(first, all),
            share(second, all),
            share(third, all),
            share(more, all),
            share(self.looks.1, self.looks.0),
            self.looks.0
        )?;
        let (lasted, settling) = (self.lasted.as_secs_f64(), self.settling.as_secs_f64());
        writeln!(f, "{lasted:.0} s; once nobody sent, everything was delivered after {settling:.1} s at most")?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "VIOLATION {violation}"))
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, figures: &[usize]) -> fmt::Result {
    write!(f, "{name:<20}")?;
    figures.iter().try_for_each(|figure| write!(f, "{figure:>14}"))?;
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device whose readings 0, 1 and 2 were accepted and came in this order under these ids, after these faults.
    fn judged(came: &[(u32, u64)], faults: &[Fault]) -> Report {
        let (now, mut accepted, mut arrivals) = (Instant::now(), Accepted::default(), Arrivals::default());
        let item = |number| Item { door: Door::Reading, line: 7, number };
        (0..3).for_each(|number| accepted.add(item(number), 1));
        came.iter().for_each(|(number, id)| arrivals.note(item(*number), *id, now));
        let disturbance = |fault: &Fault| Disturbance { fault: *fault, began: now, ended: now };
        let run = Run {
            seed: 1,
            began: now,
            disturbances: faults.iter().map(disturbance).collect(),
            hits: 0,
            hits_in_flight: 0,
            looks: (0, 0),
            redelivered: 1,
            settling: Duration::ZERO,
            letters: (BTreeSet::new(), Vec::new()),
            violations: Vec::new(),
        };
        Report::of(run, &accepted, arrivals)
    }

    #[test]
    fn q1_what_is_lost_out_of_order_or_repeated_without_a_cause_is_a_violation() {
        let good = judged(&[(0, 10), (1, 11), (2, 12)], &[]);
        assert!(good.violations.is_empty(), "{good}");
        let said = |came: &[(u32, u64)], faults: &[Fault], what: &str| {
            let report = judged(came, faults);
            assert!(report.violations.iter().any(|violation| violation.contains(what)), "{what}: {report}");
        };
        said(&[(0, 10), (2, 12)], &[], "lost");
        said(&[(0, 10), (2, 12), (1, 11)], &[Fault::Kill], "first appears after");
        said(&[(0, 10), (1, 11), (2, 12), (1, 11)], &[], "twice");
        said(&[(0, 10), (1, 11), (2, 12), (1, 99)], &[Fault::Kill], "differ in event_id");
        let crash = judged(&[(0, 10), (1, 11), (2, 12), (1, 11)], &[Fault::Kill]);
        assert!(crash.violations.is_empty() && crash.lines[&Door::Reading].duplicated == 1, "{crash}");
    }
}
