use std::collections::{BTreeMap, HashSet, VecDeque};

use super::*;
use crate::time::Rng;

const BULK: [usize; 3] = [1, 2, 3];

fn ready(tier: Tier, records: u32) -> Front {
    Front::Ready { records, served_as: tier }
}

fn busy(tier: Tier, records: u32) -> Front {
    Front::Busy { records, served_as: tier }
}

/// Records served of each tier while every queue has an endless backlog of envelopes of these sizes.
fn served(sizes: [Option<u32>; 4], promoted: [Tier; 4], in_all: u64) -> [u64; 4] {
    let mut scheduler = Scheduler::default();
    let mut records = [0; 4];
    while records.iter().sum::<u64>() < in_all {
        let front = |i: usize| sizes[i].map_or(Front::Empty, |records| ready(promoted[i], records));
        let tier = scheduler.next(std::array::from_fn(front)).unwrap();
        let class = CLASSES.iter().position(|c| *c == tier).unwrap();
        records[class] += u64::from(sizes[class].unwrap());
    }
    records
}

fn assert_shares(records: [u64; 4], weights: [u64; 4]) {
    let (total, whole) = (records.iter().sum::<u64>() as f64, weights.iter().sum::<u64>() as f64);
    for (class, weight) in weights.into_iter().enumerate() {
        let (got, share) = (records[class] as f64 / total, weight as f64 / whole);
        assert!((got - share).abs() < 0.01, "{}: got {got:.4}, its share is {share:.4}", CLASSES[class]);
    }
}

#[test]
fn p4_shares_are_counted_in_records_whatever_the_envelopes_sizes() {
    for [high, normal, low] in [[500, 500, 500], [500, 1000, 5000], [1, 1000, 5000], [500, 3, 7]] {
        let records = served([None, Some(high), Some(normal), Some(low)], CLASSES, 6_000_000);
        assert_shares(records, [0, 3, 2, 1]);
    }
}

#[test]
fn p4_in_a_flood_low_keeps_a_twelfth() {
    assert_shares(served([Some(1), Some(500), Some(1000), Some(5000)], CLASSES, 6_000_000), [6, 3, 2, 1]);
}

#[test]
fn p6_an_aged_queue_is_served_with_the_higher_tiers_credit() {
    use Tier::{Critical, High, Low, Normal};
    let age = |minutes: u64| Duration::from_secs(minutes * 60);
    let served_at = |tier, minutes| served_as(tier, age(minutes) + Duration::from_millis(1));
    let by_minutes = |minutes| CLASSES.map(|tier| served_at(tier, minutes));
    assert_eq!(by_minutes(4), [Critical, High, Normal, Low]);
    assert_eq!(by_minutes(5), [Critical, High, Normal, Normal]);
    assert_eq!(by_minutes(10), [Critical, High, High, High]);
    assert_eq!(served_as(Low, age(5)), Low, "over five minutes, not at five");
    let sizes = [None, Some(500), Some(1000), Some(5000)];
    assert_shares(served(sizes, by_minutes(5), 6_000_000), [0, 3, 2, 2]);
    assert_shares(served(sizes, by_minutes(10), 6_000_000), [0, 1, 1, 1]);
    for tier in CLASSES {
        for minutes in [0, 4, 5, 9, 10, 60] {
            let weight = weight(served_at(tier, minutes));
            assert!((super::weight(tier)..=largest_weight(tier)).contains(&weight), "{tier} after {minutes} min");
        }
    }
}

#[test]
fn p4_is_work_conserving_and_an_idle_tier_hoards_nothing() {
    let mut scheduler = Scheduler::default();
    assert_eq!(scheduler.next([Front::Empty; 4]), None);
    assert_eq!(scheduler.next([Front::Awaited; 4]), None);
    let mut fronts = [Front::Empty; 4];
    fronts[3] = ready(Tier::Low, 5000);
    for _ in 0..100 {
        assert_eq!(scheduler.next(fronts), Some(Tier::Low), "the only one in hand is served");
    }
    let (fronts, mut high) = ([Front::Empty, ready(Tier::High, 100), Front::Empty, ready(Tier::Low, 100)], 0);
    for _ in 0..12 {
        high += usize::from(scheduler.next(fronts) == Some(Tier::High));
    }
    assert_eq!(high, 9, "HIGH and LOW share 3 : 1 from its return on");
}

#[test]
fn p4_a_tier_whose_stream_is_in_work_keeps_its_share() {
    let (mut scheduler, mut records, mut in_work) = (Scheduler::default(), [0; 4], false);
    while records.iter().sum::<u64>() < 6_000_000 {
        // NORMAL has one stream, and each of its envelopes lasts until nothing else may go.
        let normal = if in_work { busy(Tier::Normal, 1000) } else { ready(Tier::Normal, 1000) };
        match scheduler.next([Front::Empty, ready(Tier::High, 500), normal, ready(Tier::Low, 5000)]) {
            Some(tier) => {
                in_work |= tier == Tier::Normal;
                records[tier as usize] += [0, 500, 1000, 5000][tier as usize];
            }
            None => in_work = false,
        }
    }
    assert_shares(records, [0, 3, 2, 1]);
}

#[test]
fn p4_a_tier_whose_receive_is_under_way_keeps_its_credit_of_one_round_at_most() {
    let mut scheduler = Scheduler::new(10);
    // HIGH gets 30 and uses 1; then its hand is empty for a while.
    let bulk = |high| [Front::Empty, high, Front::Empty, ready(Tier::Low, 10)];
    assert_eq!(scheduler.next(bulk(ready(Tier::High, 1))), Some(Tier::High));
    for _ in 0..5 {
        assert_eq!(scheduler.next(bulk(Front::Awaited)), Some(Tier::Low));
    }
    // 29 are left and 30 are new.
    let mut high = 0;
    while scheduler.next(bulk(ready(Tier::High, 1))) == Some(Tier::High) {
        high += 1;
    }
    assert_eq!(high, 29 + 30);
    for _ in 0..100 {
        scheduler.next(bulk(ready(Tier::High, 1)));
        scheduler.next(bulk(Front::Awaited));
    }
    assert!(scheduler.credits[1] <= 2 * 30, "{scheduler:?}");
}

/// Queues of whole envelopes, each with the number of records served before it was queued and the bound of that moment.
struct Backlog {
    scheduler: Scheduler,
    queues: [VecDeque<(u32, u64, u64)>; 4],
    largest: [u32; 4],
    served: u64,
}

impl Backlog {
    fn new(quantum: u64, largest: [u32; 4]) -> Backlog {
        Backlog { scheduler: Scheduler::new(quantum), queues: Default::default(), largest, served: 0 }
    }

    fn send(&mut self, class: usize, records: u32) {
        let waiting: u64 = self.queues[class].iter().map(|(records, ..)| u64::from(*records)).sum();
        let backlog = waiting + u64::from(records);
        let bound = self.scheduler.ahead(CLASSES[class], backlog);
        self.queues[class].push_back((records, self.served, bound));
    }

    /// Serves one envelope; `served_as`: of each queue the tier whose credit serves it.
    fn serve(&mut self, served_as: [Tier; 4]) {
        let front = |class: usize| match self.queues[class].front() {
            Some((records, ..)) => ready(served_as[class], *records),
            None => Front::Empty,
        };
        let tier = self.scheduler.next(std::array::from_fn(front));
        let Some(class) = tier.and_then(|tier| CLASSES.iter().position(|c| *c == tier)) else {
            assert!(self.queues.iter().all(VecDeque::is_empty), "P4: something waits and nothing is served");
            return;
        };
        let (records, served_before, bound) = self.queues[class].pop_front().expect("what is served was in hand");
        self.served += u64::from(records);
        let waited = self.served - served_before;
        assert!(waited <= bound, "{}: {waited} records were served, the bound is {bound}", CLASSES[class]);
    }
}

fn drawn(rng: &Rng, below: u64) -> u64 {
    u64::from_be_bytes(rng.bytes()) % below
}

/// The bound holds in 10,000 adversarial runs: bursts into any queue at any time, envelopes of every size, promotions that
/// come and go, and floods of alerts.
#[test]
fn p6_the_starvation_bound_is_never_exceeded() {
    for seed in 0..10_000 {
        let rng = Rng::seeded(seed);
        let largest = [1, 500, 1_000, 5_000].map(|most: u64| 1 + drawn(&rng, most) as u32);
        let mut backlog = Backlog::new([1, QUANTUM, 500][drawn(&rng, 3) as usize], largest);
        let classes: &[usize] = if drawn(&rng, 4) == 0 { &[0, 1, 2, 3] } else { &BULK };
        for _ in 0..drawn(&rng, 60) {
            let class = classes[drawn(&rng, classes.len() as u64) as usize];
            for _ in 0..drawn(&rng, 12) {
                let records = if drawn(&rng, 2) == 0 {
                    backlog.largest[class]
                } else {
                    1 + drawn(&rng, u64::from(backlog.largest[class])) as u32
                };
                backlog.send(class, records);
            }
            let served_as = CLASSES.map(|tier| served_as(tier, Duration::from_secs(drawn(&rng, 900))));
            for _ in 0..drawn(&rng, 12) {
                backlog.serve(served_as);
            }
        }
        while backlog.queues.iter().any(|queue| !queue.is_empty()) {
            backlog.serve(CLASSES);
        }
    }
}

/// Every state that a small scheduler can reach, whatever each tier offers at each step: it always serves, no credit grows
/// without end, and a tier that always has an envelope is served within the bound.
#[test]
fn p4_every_reachable_state_of_a_small_scheduler_keeps_the_laws() {
    const LARGEST: u32 = 5;
    const SMALL_QUANTUM: u64 = 2;
    let mut fronts = vec![Front::Empty, Front::Awaited];
    fronts.extend((1..=LARGEST).map(|records| ready(Tier::Normal, records)));
    fronts.extend((1..=LARGEST).map(|records| ready(Tier::High, records)));
    fronts.extend([1, LARGEST].map(|records| busy(Tier::High, records)));
    let offers: Vec<[Front; 4]> = (0..fronts.len().pow(3))
        .map(|n| {
            [
                Front::Empty,
                fronts[n % fronts.len()],
                fronts[n / fronts.len() % fronts.len()],
                fronts[n / fronts.len().pow(2)],
            ]
        })
        .collect();
    let mut seen = HashSet::new();
    let mut open = vec![Scheduler::new(SMALL_QUANTUM)];
    while let Some(state) = open.pop() {
        if !seen.insert(state.clone()) {
            continue;
        }
        for (tier, credit) in CLASSES.into_iter().zip(state.credits) {
            // Never more than a round's credit, one that was kept, and what the largest envelope just missed.
            assert!(credit <= 2 * largest_weight(tier) * SMALL_QUANTUM + u64::from(LARGEST), "{state:?}");
        }
        for offer in &offers {
            let mut next = state.clone();
            let anything = offer.iter().any(|front| matches!(front, Front::Ready { .. }));
            let waited_for = offer.iter().any(|front| matches!(front, Front::Busy { .. }));
            match next.next(*offer) {
                Some(tier) => assert!(matches!(offer[tier as usize], Front::Ready { .. }), "{tier} had nothing"),
                None => assert!(!anything || waited_for, "{state:?} serves nothing of {offer:?}"),
            }
            open.push(next);
        }
    }
    assert!(seen.len() > 500, "{} states", seen.len());
    // From each of them, the worst that the others can do to one tier while it has an envelope of each size waiting.
    let mut reached = BTreeMap::new();
    for state in &seen {
        for (class, tier) in CLASSES.into_iter().enumerate().skip(1) {
            for records in 1..=LARGEST {
                let bound = state.ahead(tier, u64::from(records));
                let mut fronts = [ready(Tier::High, 1); 4];
                fronts[0] = ready(Tier::Critical, 1);
                fronts[class] = ready(tier, records);
                let (mut scheduler, mut served) = (state.clone(), u64::from(records));
                while scheduler.next(fronts).unwrap() != tier {
                    served += 1;
                }
                // What it waits for in its own stream costs it nothing.
                let (mut waiting, mut others) = (state.clone(), u64::from(records));
                let mut behind = fronts;
                behind[class] = busy(tier, records);
                while waiting.next(behind).is_some() {
                    others += 1;
                }
                assert_eq!(waiting.next(fronts), Some(tier), "{state:?}");
                assert_eq!(others, served, "{state:?}");
                assert!(served <= bound, "{state:?}: {served} served with {records} of {tier}, the bound is {bound}");
                *reached.entry(tier).or_insert(false) |= served == bound;
            }
        }
    }
    assert_eq!(reached, Tier::BULK.map(|tier| (tier, true)).into(), "the bound is as low as it can be");
}

#[test]
fn the_same_fronts_give_the_same_order() {
    let run = || {
        let mut scheduler = Scheduler::default();
        let fronts =
            |i: u32| [Front::Empty, ready(Tier::High, 400 + i), ready(Tier::Normal, 900), ready(Tier::Low, 100)];
        (0..100).map(|i| scheduler.next(fronts(i))).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
