//! What a run showed: for people as a table, for programs as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::world::World;
use crate::{Lie, Most, Plan, Soak};

/// The outcome of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Decides everything.
    pub seed: u64,
    /// Simulated days.
    pub days: f64,
    /// The one kind of fault that struck.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
    /// The lie that was planted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lie: Option<Lie>,
    /// What must never happen, and did.
    pub violation: Option<String>,
    /// What was brought, by what its source id begins with.
    pub offered: BTreeMap<&'static str, u64>,
    /// Revisions of events that a backend said were durable.
    pub accepted: u64,
    /// Of these, those that the broker has.
    pub published: u64,
    /// Published a second time, after a fault.
    pub repeated: u64,
    /// Deaths of a process or of the whole host.
    pub crashes: u64,
    /// The most that came twice after one of them, while nothing else was wrong [K6].
    pub repeated_after_a_crash: Most,
    /// In rows that the disk damaged: dead letters [Q1].
    pub set_aside: u64,
    /// Refused by the broker: dead letters.
    pub refused: u64,
    /// The soak report [F12].
    pub soak: Soak,
    /// How often each kind of fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// Of each tier the longest wait while nothing was wrong, in milliseconds.
    pub longest_calm_wait_ms: BTreeMap<&'static str, u64>,
    /// Calls of the seams.
    pub steps: u64,
}

impl Report {
    pub(crate) fn of(plan: &Plan, world: &World) -> Report {
        let counts = world.judge.counts();
        Report {
            seed: plan.seed,
            days: plan.lasts.as_secs_f64() / 86_400.0,
            only: plan.only.clone(),
            lie: plan.lie,
            violation: world.judge.violation(),
            offered: world.offered(),
            accepted: counts.accepted,
            published: counts.stored,
            repeated: counts.repeats,
            crashes: counts.crashes,
            repeated_after_a_crash: counts.most,
            set_aside: counts.set_aside,
            refused: counts.refused,
            soak: world.tally.soak(),
            faults: world.struck.lock().clone(),
            longest_calm_wait_ms: counts
                .slowest
                .into_iter()
                .map(|(tier, wait)| (tier.name(), u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
                .collect(),
            steps: counts.steps,
        }
    }

    /// The command that gives this run again.
    pub fn again(&self) -> String {
        let only = self.only.as_ref().map(|only| format!(" --only '{only}'")).unwrap_or_default();
        format!("streammanager simulate --seed {} --days {}{only}", self.seed, self.days)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} days", self.seed, self.days)?;
        let lines = [
            ("accepted", self.accepted),
            ("published", self.published),
            ("repeated after a fault", self.repeated),
            ("crashes", self.crashes),
            ("most envelopes twice after one", self.repeated_after_a_crash.envelopes as u64),
            ("most records twice after one", self.repeated_after_a_crash.records),
            ("most alerts twice after one", self.repeated_after_a_crash.alerts as u64),
            ("set aside, damaged by the disk", self.set_aside),
            ("refused by the broker", self.refused),
            ("calls", self.steps),
        ];
        for (name, number) in lines {
            writeln!(f, "  {name:<32} {number:>10}")?;
        }
        let share = |part: u64, of: u64| if of == 0 { 0.0 } else { 100.0 * part as f64 / of as f64 };
        let sent: u64 = self.soak.tries.iter().sum();
        let dead = self.refused + self.set_aside;
        writeln!(f, "soak report, %")?;
        for (name, tries) in
            ["at the first try", "at the second", "at the third", "later"].into_iter().zip(self.soak.tries)
        {
            writeln!(f, "  {name:<32} {:>10.3}", share(tries, sent + dead))?;
        }
        writeln!(f, "  {:<32} {:>10.3}", "dead letters", share(dead, sent + dead))?;
        writeln!(f, "  {:<32} {:>10.3}", "ready, of all looks", share(self.soak.ready, self.soak.looks))?;
        writeln!(f, "offered, by source")?;
        for (name, number) in &self.offered {
            writeln!(f, "  {name:<32} {number:>10}")?;
        }
        writeln!(f, "faults")?;
        for (name, number) in &self.faults {
            writeln!(f, "  {name:<32} {number:>10}")?;
        }
        writeln!(f, "longest wait while nothing was wrong, ms")?;
        for (name, number) in &self.longest_calm_wait_ms {
            writeln!(f, "  {name:<32} {number:>10}")?;
        }
        match &self.violation {
            None => write!(f, "nothing was lost, out of order, overlapped or held up"),
            Some(violation) => write!(f, "VIOLATED {violation}\nagain with: {}", self.again()),
        }
    }
}
