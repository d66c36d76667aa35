//! What came twice after a crash, and how much of it there may be [K6]. A record counts for the first crash after its last copy,
//! and only while nothing but crashes is wrong: a lost acknowledgement or a queue that is away repeats records, too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use streammanager::limits::{BULK_IN_FLIGHT_ENVELOPES, CRITICAL_PARALLEL, TRY};
use streammanager::record::Tier;
use tokio::time::Instant;
use ulid::Ulid;

use super::Published;

/// An alert whose try was under way when the broker was well again may be in its queue as well [E2].
const BROKER_SETTLES: Duration = Duration::from_secs(10);

/// What the broker had been given when its sender died is stored within a try.
const ON_ITS_WAY: Duration = TRY;

/// What came twice after one crash, at the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Most {
    /// Envelopes of the bulk tiers of which something came twice.
    pub envelopes: usize,
    /// Their records.
    pub records: u64,
    /// Alerts.
    pub alerts: usize,
}

struct Crash {
    at: Instant,
    /// Bodies that were on their way into the queues, and alerts that were not answered.
    under_way: UnderWay,
    envelopes: BTreeSet<Ulid>,
    records: u64,
    alerts: BTreeSet<Published>,
}

/// What callers of the system had under way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UnderWay {
    pub bodies: usize,
    pub alerts: usize,
}

#[derive(Default)]
pub(super) struct Repeats {
    /// Of each record the envelope that has had it last.
    envelopes: BTreeMap<Published, Ulid>,
    crashes: Vec<Crash>,
    /// Faults under way that repeat records.
    others: u32,
    /// When the last of these was over with all that came of it.
    undisturbed_from: Option<Instant>,
    broker_is_ill: bool,
    /// What it stored from then on it acknowledged.
    broker_well_from: Option<Instant>,
    most: Most,
}

impl Repeats {
    pub(super) fn queued(&mut self, record: Published, envelope: Ulid) {
        self.envelopes.insert(record, envelope);
    }

    pub(super) fn crashed(&mut self, under_way: UnderWay) {
        let (envelopes, alerts) = (BTreeSet::new(), BTreeSet::new());
        self.crashes.push(Crash { at: Instant::now(), under_way, envelopes, records: 0, alerts });
    }

    pub(super) fn other_begins(&mut self) {
        self.others += 1;
    }

    pub(super) fn other_ends(&mut self, aftermath: Duration) {
        self.others = self.others.saturating_sub(1);
        self.disturbed_until(Instant::now() + aftermath);
    }

    pub(super) fn mended(&mut self, aftermath: Duration) {
        self.others = 0;
        self.disturbed_until(Instant::now() + aftermath);
    }

    pub(super) fn broker_is_ill(&mut self, ill: bool) {
        if self.broker_is_ill && !ill {
            self.broker_well_from = Some(Instant::now());
        }
        self.broker_is_ill = ill;
    }

    fn disturbed_until(&mut self, until: Instant) {
        self.undisturbed_from = self.undisturbed_from.max(Some(until));
    }

    /// Crashes so far, and the most that came twice after one of them.
    pub(super) fn most(&self) -> (u64, Most) {
        (self.crashes.len() as u64, self.most)
    }

    /// A record came once more; its last copy came `before`. What is wrong with that, in words.
    pub(super) fn came_again(&mut self, record: Published, tier: Tier, before: Instant) -> Option<String> {
        let settles = if tier == Tier::Critical { BROKER_SETTLES } else { Duration::ZERO };
        let disturbed = self.others > 0
            || self.broker_is_ill
            || self.undisturbed_from.is_some_and(|from| from > before)
            || self.broker_well_from.is_some_and(|from| from + settles > before);
        if disturbed {
            return None;
        }
        let first = self.crashes.partition_point(|crash| crash.at + ON_ITS_WAY < before);
        let crash = self.crashes.get_mut(first)?;
        if tier == Tier::Critical {
            crash.alerts.insert(record);
            // In work, one whose send had ended and was not forgotten, and those whose senders heard nothing.
            let most = CRITICAL_PARALLEL + 1 + crash.under_way.alerts;
            self.most.alerts = self.most.alerts.max(crash.alerts.len());
            return (crash.alerts.len() > most)
                .then(|| format!("repeats: {} alerts came twice after a crash, {most} may", crash.alerts.len()));
        }
        crash.envelopes.extend(self.envelopes.get(&record));
        crash.records += 1;
        // In flight, and of each body on its way one that the queue had and the seen-set had not.
        let most = BULK_IN_FLIGHT_ENVELOPES + crash.under_way.bodies;
        self.most.envelopes = self.most.envelopes.max(crash.envelopes.len());
        self.most.records = self.most.records.max(crash.records);
        (crash.envelopes.len() > most)
            .then(|| format!("repeats: {} envelopes came twice after a crash, {most} may", crash.envelopes.len()))
    }
}
