//! What a delivery says of its waits.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::Desk;
use crate::app::App;
use crate::breaker::BreakerState;
use crate::deliver::age::AgeClock;
use crate::deliver::lag;
use crate::deliver::report::{self, Backlog, KeptAge, Report, TierBacklog};
use crate::record::Tier;
use crate::sink::Lane;

impl Desk<'_> {
    /// Writes a report when one is due; none while the last one is still being written.
    pub(in crate::deliver) fn report(&mut self) {
        let now = Instant::now();
        if now < self.report_due {
            return;
        }
        self.report_due = now + report::EVERY;
        if self.reporting.is_empty() {
            let app = self.app;
            let keep = match &self.kept {
                Some((_, age)) if !self.age.remembers_as(age) => Keep::Now,
                Some((at, _)) if now - *at < report::KEPT_EVERY => Keep::Not,
                _ => Keep::IfAnythingWaits,
            };
            self.reporting.push(Box::pin(write_report(app, self.backlog(), self.age.clone(), keep)));
        }
    }

    /// A report is written, and with it the age clock, or not.
    pub(in crate::deliver) fn reported(&mut self, kept: Option<Kept>) {
        self.kept = kept.or(self.kept.take());
    }

    /// Takes a look at the consumer groups when one is due; none while the sink is away.
    pub(in crate::deliver) fn look_at_consumers(&mut self) {
        let now = Instant::now();
        let is_away = self.app.breakers.lane(Lane::Bulk).state() != BreakerState::Closed;
        if now >= self.look_due && self.looking.is_empty() && !is_away {
            self.look_due = now + lag::EVERY;
            self.looking.push(Box::pin(lag::look(self.app)));
        }
    }

    pub(super) fn backlog(&self) -> Backlog {
        let now = self.app.clock.now();
        let of = |tier: Tier| {
            let held = self.hands.get(&tier).into_iter().flatten();
            let in_work = self.in_work.values().filter(|work| work.tier == tier);
            let records = held.clone().map(|held| u64::from(held.envelope.count)).sum::<u64>();
            let critical = if tier == Tier::Critical { in_work.clone().count() as u64 } else { 0 };
            let accepted = held.clone().map(|held| held.envelope.accepted_at);
            let accepted = accepted.chain(in_work.clone().map(|work| work.accepted_at));
            TierBacklog {
                held: (held.count() + in_work.map(|work| work.envelopes.len()).sum::<usize>()) as u64,
                records: records + critical,
                usual: self.usual.get(&tier).copied().unwrap_or(tier.largest_send() as f64),
                oldest: accepted.map(|at| self.age.age(at, now)).max().unwrap_or_default(),
                seen: self.longest_seen.get(&tier).copied().unwrap_or_default(),
            }
        };
        let bulk = self.in_work.values().filter(|work| Lane::of(work.tier) == Lane::Bulk);
        Backlog {
            scheduler: self.scheduler.clone(),
            tiers: Tier::ALL.into_iter().map(|tier| (tier, of(tier))).collect(),
            in_flight: bulk.map(|work| work.records as u64).sum(),
            bulk: self.bulk_pace.mean().zip(self.bulk_pace.slowest()),
            critical: self.critical_pace.mean().zip(self.critical_pace.slowest()),
        }
    }
}

/// Whether the age clock is made durable with a report. While nothing waits nothing ages, and a system that has nothing to do
/// writes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Not,
    IfAnythingWaits,
    Now,
}

/// When the age clock was kept, and as what.
pub(in crate::deliver) type Kept = (Instant, AgeClock);

pub(super) async fn write_report(app: &App, backlog: Backlog, age: AgeClock, keep: Keep) -> Option<Kept> {
    let mut envelopes = BTreeMap::new();
    for tier in Tier::ALL {
        match app.queue.depth(app.settings.queues.tier(tier)).await {
            Ok(depth) => _ = envelopes.insert(tier, depth.total()),
            // The next one comes within seconds.
            Err(problem) => {
                tracing::debug!(%problem, "no report: a queue cannot be reached");
                return None;
            }
        };
    }
    let now = app.clock.now();
    let breakers = Lane::ALL.into_iter().map(|lane| (lane, app.breakers.lane(lane).state())).collect();
    let report = Report { at: now, waits: backlog.waits(&envelopes), breakers };
    if let Err(problem) = report::keep(&*app.store, &report).await {
        tracing::debug!(%problem, "a report of the delivery was not written");
    }
    if keep == Keep::Not || (keep == Keep::IfAnythingWaits && envelopes.values().all(|waiting| *waiting == 0)) {
        return None;
    }
    let kept = KeptAge { at: now, age: age.clone().handed_over(now) };
    match report::keep_age(&*app.store, &kept).await {
        Ok(()) => Some((Instant::now(), age)),
        Err(problem) => {
            tracing::debug!(%problem, "the age clock was not kept");
            None
        }
    }
}
