//! What the delivery on duty says of itself, a few seconds ago at most, for `status` and for whoever decides whether there is
//! room; and the age clock that it leaves to its successor, which is durable.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::age::AgeClock;
use super::scheduler::{Scheduler, weight};
use crate::breaker::BreakerState;
use crate::breaker::shared::Known;
use crate::error::BackendError;
use crate::limits::CRITICAL_FLOOD;
use crate::record::Tier;
use crate::sink::Lane;
use crate::store::{self, Key, REPORTS, Store};
use crate::time::Timestamp;

/// A report is written this often.
pub(crate) const EVERY: Duration = Duration::from_secs(5);
/// While something waits, the age clock is kept this often: the successor of a delivery that died counts up to so much of a
/// record's wait as an interruption.
pub(crate) const KEPT_EVERY: Duration = Duration::from_secs(30);

/// The last report of whoever is on duty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When it was made.
    pub at: Timestamp,
    /// Each tier's waits.
    pub waits: BTreeMap<Tier, Wait>,
    /// Its breakers. Of a probe that is under way nobody else knows.
    #[serde(default)]
    pub breakers: BTreeMap<Lane, BreakerState>,
}

/// The age clock as it was at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptAge {
    pub(crate) at: Timestamp,
    pub(crate) age: AgeClock,
}

/// How long a tier's records wait, in seconds of the sink's time [O8].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Wait {
    /// How long the oldest in hand has waited.
    pub oldest_s: f64,
    /// How long a record that comes now is likely to wait; `None` before the sink's pace is known.
    pub expected_s: Option<f64>,
    /// No record that waits now, or comes now, waits longer in all as long as the sink keeps the pace of its slowest seconds in
    /// the last minute of work.
    pub longest_possible_s: Option<f64>,
    /// The longest wait that ended since this process went on duty.
    pub longest_seen_s: f64,
}

/// What waits and how fast it goes, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Backlog {
    /// The state of who is served next.
    pub scheduler: Scheduler,
    /// Of each tier.
    pub tiers: BTreeMap<Tier, TierBacklog>,
    /// Records given to the sink over the bulk tiers and not acknowledged.
    pub in_flight: u64,
    /// Records a second on the bulk lane: on average, and in the slowest seconds.
    pub bulk: Option<(f64, f64)>,
    /// The same on the CRITICAL lane.
    pub critical: Option<(f64, f64)>,
}

/// What waits of one tier.
#[derive(Debug, Clone, Copy, Default)]
pub struct TierBacklog {
    /// Envelopes in hand and in work.
    pub held: u64,
    /// Records of those in hand, and of CRITICAL of those in work; the other tiers' are in `in_flight`.
    pub records: u64,
    /// Records of an envelope on average.
    pub usual: f64,
    /// How long the oldest in hand has waited.
    pub oldest: Duration,
    /// The longest wait that ended.
    pub seen: Duration,
}

impl Backlog {
    /// What it means for each tier, when the queues hold so many envelopes in all.
    pub fn waits(&self, envelopes: &BTreeMap<Tier, u64>) -> BTreeMap<Tier, Wait> {
        let of = |tier: Tier| self.tiers.get(&tier).copied().unwrap_or_default();
        let queued = |tier: Tier| envelopes.get(&tier).copied().unwrap_or(0).saturating_sub(of(tier).held);
        let expected = self.expected(|tier| of(tier).records as f64 + queued(tier) as f64 * of(tier).usual);
        let wait = |tier: Tier| {
            let TierBacklog { records, oldest, seen, .. } = of(tier);
            // And of one that comes now.
            let at_most = records + (queued(tier) + 1) * tier.largest_send() as u64;
            let longest = self.longest(tier, at_most).map(|left| oldest.as_secs_f64() + left);
            Wait {
                oldest_s: oldest.as_secs_f64(),
                expected_s: expected.get(&tier).copied(),
                longest_possible_s: longest,
                longest_seen_s: seen.as_secs_f64(),
            }
        };
        Tier::ALL.into_iter().map(|tier| (tier, wait(tier))).collect()
    }

    /// Seconds until `records` of a tier are acknowledged, at the longest (docs/scheduling.md).
    fn longest(&self, tier: Tier, records: u64) -> Option<f64> {
        let alone = self.critical.map(|(_, slow)| records as f64 / slow);
        // What is in flight is acknowledged before or beside it.
        let shared = self.bulk.map(|(_, slow)| (self.scheduler.ahead(tier, records) + self.in_flight) as f64 / slow);
        match tier {
            Tier::Critical if records <= CRITICAL_FLOOD => alone,
            Tier::Critical => alone.zip(shared).map(|(alone, shared)| alone.max(shared)),
            Tier::High | Tier::Normal | Tier::Low => shared,
        }
    }

    /// Seconds until what waits is acknowledged, when the bulk tiers share by their weights and nothing more comes.
    fn expected(&self, records: impl Fn(Tier) -> f64) -> BTreeMap<Tier, f64> {
        let mut expected = BTreeMap::new();
        if let Some((mean, _)) = self.critical {
            expected.insert(Tier::Critical, records(Tier::Critical) / mean);
        }
        let Some((mean, _)) = self.bulk else { return expected };
        let mut left: Vec<(Tier, f64)> = Tier::BULK.into_iter().map(|tier| (tier, records(tier))).collect();
        let mut passed = self.in_flight as f64 / mean;
        while !left.is_empty() {
            let weights: u64 = left.iter().map(|(tier, _)| weight(*tier)).sum();
            let rate = |tier: Tier| mean * weight(tier) as f64 / weights as f64;
            let first = left.iter().map(|(tier, records)| records / rate(*tier)).fold(f64::INFINITY, f64::min);
            passed += first;
            let rest: Vec<_> = left.iter().map(|(tier, records)| (*tier, records - first * rate(*tier))).collect();
            // Rounding must not keep one that is through.
            let (through, waiting) = rest.into_iter().partition(|(_, records)| *records < 1e-6 * mean);
            let through: Vec<(Tier, f64)> = through;
            expected.extend(through.into_iter().map(|(tier, _)| (tier, passed)));
            left = waiting;
        }
        expected
    }
}

/// A report that is older says nothing of now: two were left out.
const VALID: Duration = Duration::from_secs(3 * EVERY.as_secs());

/// What is known of each lane, in the order of [`Lane::ALL`], and that one is half-open, where the delivery on duty says so.
pub fn probing(mut known: [Known; 2], report: Option<&Report>, now: Timestamp) -> [Known; 2] {
    let report = report.filter(|report| now.duration_since(report.at).unsigned_abs() <= VALID);
    for (lane, known) in Lane::ALL.into_iter().zip(&mut known) {
        let said = report.and_then(|report| report.breakers.get(&lane));
        if known.state == BreakerState::Open && said == Some(&BreakerState::HalfOpen) {
            known.state = BreakerState::HalfOpen;
        }
    }
    known
}

/// The last report; `None` before there was any.
///
/// # Errors
/// When the store is away.
pub async fn last(store: &dyn Store) -> Result<Option<Report>, BackendError> {
    // One that another version wrote is as good as none: the next comes within seconds.
    store::get_json(store, &report_key()).await
}

/// Replaces the last report; whoever is on duty writes it alone.
pub(crate) async fn keep(store: &dyn Store, report: &Report) -> Result<(), BackendError> {
    store::put_json(store, &report_key(), report, "the delivery's report").await
}

/// The age clock that the last delivery left; `None` before there was any.
pub(crate) async fn last_age(store: &dyn Store) -> Result<Option<KeptAge>, BackendError> {
    store::get_json(store, &age_key()).await
}

/// Replaces the age clock that is kept.
pub(crate) async fn keep_age(store: &dyn Store, kept: &KeptAge) -> Result<(), BackendError> {
    store::put_json(store, &age_key(), kept, "the delivery's age clock").await
}

fn report_key() -> Key {
    Key::new(REPORTS, "deliver")
}

fn age_key() -> Key {
    Key::new("deliver", "age")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_a_probe_of_the_delivery_on_duty_is_told_apart_from_an_open_breaker_while_its_report_is_fresh() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let report = |state: BreakerState| Report {
            at: at(100),
            waits: BTreeMap::new(),
            breakers: BTreeMap::from([(Lane::Critical, BreakerState::Closed), (Lane::Bulk, state)]),
        };
        let known = |state| [Known { state: BreakerState::Closed, since: None }, Known { state, since: None }];
        use BreakerState::{Closed, HalfOpen, Open};
        for (said, reported, now, told) in [
            (Open, Some(HalfOpen), 105, HalfOpen),
            (Open, Some(HalfOpen), 116, Open),
            (Open, Some(Closed), 105, Open),
            (Closed, Some(HalfOpen), 105, Closed),
            (Open, None, 105, Open),
        ] {
            let [critical, bulk] = probing(known(said), reported.map(report).as_ref(), at(now));
            assert_eq!((critical.state, bulk.state), (Closed, told), "{said:?}, {reported:?} at {now}");
        }
    }
}
