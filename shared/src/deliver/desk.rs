//! Everything that one delivery has before it: what it holds, receives and sends.

mod order;
mod receiving;
mod reporting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use order::{Next, Parked};
use reporting::{Keep, Kept, write_report};
use tokio::time::Instant;
use ulid::Ulid;

use super::age::AgeClock;
use super::pace::Pace;
use super::report;
use super::scheduler::{Front, Scheduler, served_as};
use super::settle::{self, Held, Worked};
use crate::app::App;
use crate::breaker::{BreakerState, shared};
use crate::error::BackendError;
use crate::limits::{
    ASK_AGAIN, BULK_IN_FLIGHT_ENVELOPES, BULK_IN_FLIGHT_RECORDS, CRITICAL_FLOOD, CRITICAL_PARALLEL, HAND_CRITICAL,
    QUEUE_BATCH, TRY, VISIBILITY,
};
use crate::queue::{Delivery, Receipt, Settle};
use crate::record::{Envelope, StreamId, Tier};
use crate::sink::Lane;
use crate::time::Timestamp;

type Received = (Tier, Result<Vec<Delivery>, BackendError>);

pub(super) struct Done {
    number: u64,
    /// One an envelope.
    results: Vec<Result<Worked, BackendError>>,
}

/// Envelopes of one tier that are being sent together; several only of a stream that keeps its order.
struct InWork {
    envelopes: Vec<(Ulid, Receipt)>,
    tier: Tier,
    records: usize,
    /// Of the oldest.
    accepted_at: Timestamp,
    /// CRITICAL: the alert thread, of which only one message is in work at a time [E4].
    thread: Option<String>,
    /// The stream that waits for it to keep its order.
    stream: Option<StreamId>,
    /// So long other tiers wait for it when it is the turn of what comes next in its stream.
    turn_ends: Instant,
}

pub(super) struct Desk<'a> {
    app: &'a App,
    hands: BTreeMap<Tier, VecDeque<Held>>,
    pub(super) receiving: FuturesUnordered<BoxFuture<'a, Received>>,
    polled: BTreeSet<Tier>,
    /// Tiers whose last receive brought nothing.
    idle: BTreeSet<Tier>,
    pub(super) working: FuturesUnordered<BoxFuture<'a, Done>>,
    in_work: BTreeMap<u64, InWork>,
    /// What is received of streams whose head waits to be tried again, and behind an open breaker of those that have a probe.
    parked: BTreeMap<(Tier, StreamId), Parked>,
    here: settle::Here,
    /// The question whether the sink answers, while the bulk lane's breaker is open: one at most.
    pub(super) asking: FuturesUnordered<BoxFuture<'a, bool>>,
    /// What is being exchanged with other processes about the sink: once at most at a time [R2].
    pub(super) exchanging: FuturesUnordered<BoxFuture<'a, ()>>,
    /// The report that is being written: one at most.
    pub(super) reporting: FuturesUnordered<BoxFuture<'a, Option<Kept>>>,
    report_due: Instant,
    /// The age clock that a successor would find.
    kept: Option<Kept>,
    /// The look at the consumer groups that is being taken: one at most [Q4].
    pub(super) looking: FuturesUnordered<BoxFuture<'a, ()>>,
    look_due: Instant,
    next_number: u64,
    scheduler: Scheduler,
    age: AgeClock,
    critical_away_since: Option<Instant>,
    critical_pace: Pace,
    bulk_pace: Pace,
    /// Of each tier the longest wait that ended, in the sink's time.
    longest_seen: BTreeMap<Tier, Duration>,
    /// Of each tier the records of an envelope, the latest ones counting most.
    usual: BTreeMap<Tier, f64>,
    hidden_until: Instant,
}

impl<'a> Desk<'a> {
    /// Takes over the age clock of whoever was on duty before; the time in between counts as an interruption.
    pub(super) async fn open(app: &'a App) -> Desk<'a> {
        let last = report::last_age(&*app.store).await.unwrap_or_else(|problem| {
            tracing::warn!(%problem, "the last delivery's age clock cannot be read: ages count as if the sink had never been away");
            None
        });
        let age = last.map_or_else(AgeClock::default, |last| {
            let mut age = last.age;
            age.stood_still(last.at, app.clock.now());
            age
        });
        Desk {
            app,
            hands: Tier::ALL.into_iter().map(|tier| (tier, VecDeque::new())).collect(),
            idle: BTreeSet::new(),
            exchanging: FuturesUnordered::new(),
            reporting: FuturesUnordered::new(),
            report_due: Instant::now() + report::EVERY,
            kept: None,
            looking: FuturesUnordered::new(),
            look_due: Instant::now(),
            scheduler: Scheduler::default(),
            age,
            critical_away_since: None,
            critical_pace: Pace::default(),
            bulk_pace: Pace::default(),
            longest_seen: BTreeMap::new(),
            usual: BTreeMap::new(),
            receiving: FuturesUnordered::new(),
            polled: BTreeSet::new(),
            working: FuturesUnordered::new(),
            in_work: BTreeMap::new(),
            parked: BTreeMap::new(),
            here: settle::Here::default(),
            asking: FuturesUnordered::new(),
            next_number: 0,
            hidden_until: Instant::now() + VISIBILITY,
        }
    }

    fn hand(&mut self, tier: Tier) -> &mut VecDeque<Held> {
        self.hands.entry(tier).or_default()
    }

    fn in_hand(&self, tier: Tier) -> usize {
        self.hands.get(&tier).map_or(0, VecDeque::len)
    }

    fn in_work_of(&self, tier: Tier) -> usize {
        self.in_work.values().filter(|work| work.tier == tier).map(|work| work.envelopes.len()).sum()
    }

    /// The age clock stands still while the bulk lane is away [P6], and so does the patience of alerts with their lane.
    pub(super) fn look_at_breakers(&mut self) {
        let now = self.app.clock.now();
        match self.app.breakers.lane(Lane::Bulk).state() {
            BreakerState::Closed => self.age.go_on(now),
            BreakerState::Open | BreakerState::HalfOpen => self.age.stop(now),
        }
        let now = Instant::now();
        match self.app.breakers.lane(Lane::Critical).state() {
            // Nobody was overtaken while nobody went [P7].
            BreakerState::Closed => {
                if let Some(since) = self.critical_away_since.take() {
                    for held in self.hand(Tier::Critical) {
                        held.overtaken_since = (held.overtaken_since + (now - since)).min(now);
                    }
                }
            }
            BreakerState::Open | BreakerState::HalfOpen => {
                self.critical_away_since.get_or_insert(now);
            }
        }
    }

    /// Alerts probe every second while one waits. Without any, only a question tells that the broker is back [R2].
    pub(super) fn ask_for_return(&mut self) {
        let app = self.app;
        if self.asking.is_empty() && app.breakers.lane(Lane::Bulk).holds_back() {
            self.asking.push(Box::pin(async move {
                tokio::time::sleep(ASK_AGAIN).await;
                app.sink.answers().await
            }));
        }
    }

    /// Tells other processes what is new about the sink, and hears what they say.
    pub(super) fn exchange(&mut self) {
        let app = self.app;
        if self.exchanging.is_empty() && app.breakers.is_exchange_due() {
            self.exchanging.push(Box::pin(shared::exchange(&app.breakers, &*app.store, &app.clock)));
        }
    }

    fn kept(&mut self, envelope: &Envelope) -> Option<&mut Held> {
        self.hand(envelope.tier).iter_mut().find(|held| held.envelope.id == envelope.id)
    }

    /// By id, which grows wherever the clock is set to: of one thread the older message is always found first, and what was
    /// given back goes first again.
    fn insert(&mut self, held: Held) {
        let hand = self.hand(held.envelope.tier);
        let at = hand.partition_point(|other| other.envelope.id <= held.envelope.id);
        hand.insert(at, held);
    }

    /// Starts what may start: CRITICAL first and always, then the bulk tiers within their bounds.
    pub(super) fn dispatch(&mut self) {
        // While the bulk lane is away there is nothing to share: CRITICAL then goes by itself.
        let flooded = self.app.breakers.lane(Lane::Bulk).state() == BreakerState::Closed
            && self.in_hand(Tier::Critical) as u64 > CRITICAL_FLOOD.min(HAND_CRITICAL as u64 - QUEUE_BATCH as u64);
        // In a flood alerts share the bulk lane's room, and take what time it has none.
        if !flooded || !self.bulk_has_room() {
            while let Some(at) = self.next_critical() {
                self.start(Tier::Critical, vec![at]);
            }
        }
        while self.bulk_has_room() {
            let critical = if flooded { self.next_critical() } else { None };
            let next = Tier::ALL.map(|tier| if tier == Tier::Critical { Next::Nothing } else { self.next_bulk(tier) });
            let front = |tier: Tier| match tier {
                Tier::Critical => match critical {
                    Some(_) => Front::Ready { records: 1, served_as: tier },
                    // As many as may be are in work, and others wait.
                    None if flooded => Front::Awaited,
                    None => Front::Empty,
                },
                Tier::High | Tier::Normal | Tier::Low => self.front(tier, &next[tier as usize]),
            };
            let fronts = Tier::ALL.map(front);
            // Nothing that is waited for keeps an alert.
            let Some(tier) = self.scheduler.next(fronts).or(critical.map(|_| Tier::Critical)) else { break };
            match next.into_iter().nth(tier as usize) {
                Some(Next::Run(run)) => self.start(tier, run),
                _ => self.start(tier, critical.into_iter().collect()),
            }
        }
    }

    /// What a bulk tier has to offer.
    fn front(&self, tier: Tier, next: &Next) -> Front {
        let hand = self.hands.get(&tier);
        let of = |at: &[usize]| {
            let run = at.iter().filter_map(|&at| hand?.get(at));
            let (records, oldest) = run.fold((0, None), |(records, oldest), held| {
                (records + held.envelope.count, oldest.or(Some(held.envelope.accepted_at)))
            });
            let age = oldest.map_or(Duration::ZERO, |oldest| self.age.age(oldest, self.app.clock.now()));
            (records, served_as(tier, age))
        };
        match next {
            Next::Run(run) => {
                let (records, served_as) = of(run);
                Front::Ready { records, served_as }
            }
            Next::Busy(at) => {
                let (records, served_as) = of(&[*at]);
                Front::Busy { records, served_as }
            }
            Next::Nothing if self.idle.contains(&tier) && self.in_hand(tier) == 0 => Front::Empty,
            Next::Nothing => Front::Awaited,
        }
    }

    /// Where in its hand the most urgent CRITICAL lies that is due and the first of its thread: none in work, none before it
    /// [P7, E4].
    fn next_critical(&self) -> Option<usize> {
        let mut threads: BTreeSet<&str> = self.in_work.values().filter_map(|work| work.thread.as_deref()).collect();
        let probing = self.app.breakers.lane(Lane::Critical).state() != BreakerState::Closed;
        let parallel = if probing { 1 } else { CRITICAL_PARALLEL };
        if self.in_work_of(Tier::Critical) >= parallel || self.app.breakers.lane(Lane::Critical).holds_back() {
            return None;
        }
        let now = Instant::now();
        let startable = self.hands.get(&Tier::Critical)?.iter().enumerate().filter(|(_, held)| {
            let first = held.thread.as_deref().is_none_or(|thread| threads.insert(thread));
            first && held.due <= now
        });
        let urgent = |held: &Held| held.urgency.rank(now.saturating_duration_since(held.overtaken_since));
        // Of equals the first, which is the oldest.
        let most = startable.reduce(|most, next| if urgent(next.1) > urgent(most.1) { next } else { most });
        most.map(|(at, _)| at)
    }

    fn bulk_in_work(&self) -> impl Iterator<Item = &InWork> {
        self.in_work.values().filter(|work| work.tier != Tier::Critical)
    }

    /// Envelopes of the bulk tiers in work.
    fn bulk_in_flight(&self) -> usize {
        self.bulk_in_work().map(|work| work.envelopes.len()).sum()
    }

    fn bulk_has_room(&self) -> bool {
        match self.app.breakers.lane(Lane::Bulk).state() {
            BreakerState::Closed => {
                self.bulk_in_flight() < BULK_IN_FLIGHT_ENVELOPES
                    && self.bulk_in_work().map(|work| work.records).sum::<usize>() < BULK_IN_FLIGHT_RECORDS
            }
            // The probe goes alone.
            BreakerState::Open | BreakerState::HalfOpen => {
                self.bulk_in_flight() == 0 && !self.app.breakers.lane(Lane::Bulk).holds_back()
            }
        }
    }

    /// Starts what lies at these places of a hand, in their order.
    fn start(&mut self, tier: Tier, places: Vec<usize>) {
        let app = self.app;
        let hand = self.hand(tier);
        let mut run: Vec<Held> = places.iter().rev().filter_map(|&at| hand.remove(at)).collect();
        run.reverse();
        let Some(first) = run.first() else { return };
        let number = self.next_number;
        self.next_number += 1;
        let in_work = InWork {
            envelopes: run.iter().map(|held| (held.envelope.id, held.receipt.clone())).collect(),
            tier,
            records: run.iter().map(|held| held.envelope.count as usize).sum(),
            accepted_at: first.envelope.accepted_at,
            thread: first.thread.clone(),
            stream: order::stream_of(&first.envelope).cloned(),
            // The first try of a broker that is well; what was tried before keeps nobody waiting.
            turn_ends: Instant::now() + if first.failed == 0 { TRY } else { Duration::ZERO },
        };
        self.in_work.insert(number, in_work);
        self.pace(tier).began(Instant::now());
        self.working.push(Box::pin(async move {
            let results = match tier {
                Tier::Critical => join_all(run.into_iter().map(|held| settle::alert(app, held))).await,
                Tier::High | Tier::Normal | Tier::Low => settle::send(app, run).await,
            };
            Done { number, results }
        }));
    }

    pub(super) fn done(&mut self, done: Done) {
        let Some(work) = self.in_work.remove(&done.number) else { return };
        let goes_on = self.in_work.values().any(|other| Lane::of(other.tier) == Lane::of(work.tier));
        let taken: u64 = done.results.iter().flatten().map(Worked::records).sum();
        // What had to be tried again says nothing of the sink's pace.
        let is_whole = done.results.iter().all(|result| matches!(result, Ok(Worked::Settled { .. })));
        if taken > 0 && is_whole {
            // What is in hand and may not go says nothing of the sink.
            let waited = match Lane::of(work.tier) {
                Lane::Critical => self.in_hand(Tier::Critical) > 0,
                Lane::Bulk => Tier::BULK.into_iter().any(|tier| matches!(self.next_bulk(tier), Next::Run(_))),
            };
            self.pace(work.tier).took(taken, goes_on, waited, Instant::now());
            let age = self.age.age(work.accepted_at, self.app.clock.now());
            let seen = self.longest_seen.entry(work.tier).or_default();
            *seen = age.max(*seen);
        } else {
            // Nothing was taken now; the broker may have had it for long, and this was a copy.
            self.pace(work.tier).failed(goes_on);
        }
        for ((id, _), result) in work.envelopes.iter().zip(done.results) {
            if !matches!(result, Ok(Worked::Waits { .. })) {
                self.here.leaves(*id);
            }
            match result {
                // Received again in the meantime, it is in hand already, with the receipt that settles it.
                Ok(Worked::Waits { held, .. }) if self.kept(&held.envelope).is_none() => self.insert(*held),
                Ok(_) => {}
                Err(problem) => warn_if_away(Err(problem)),
            }
        }
        if let Some(stream) = work.stream {
            self.park_behind_head(work.tier, &stream);
        }
    }

    fn pace(&mut self, tier: Tier) -> &mut Pace {
        match Lane::of(tier) {
            Lane::Critical => &mut self.critical_pace,
            Lane::Bulk => &mut self.bulk_pace,
        }
    }

    /// Ends the duty: gives back what is in hand, and leaves the age clock to the successor.
    pub(super) async fn close(mut self) -> Result<(), BackendError> {
        self.release_all().await;
        write_report(self.app, self.backlog(), self.age, Keep::Now).await;
        Ok(())
    }

    /// Nothing burns its receive count behind an open breaker [R2]: of each bulk tier some envelopes stay in hand for the
    /// probe. CRITICAL stays in hand, within its bound, and is received once however long the outage is.
    pub(super) async fn give_back(&mut self) {
        for tier in Tier::BULK {
            let lane = self.app.breakers.lane(Lane::of(tier));
            if lane.holds_back() {
                let receipts = self.drain(tier, self.probes(tier));
                self.release(tier, receipts).await;
            } else if lane.state() == BreakerState::Closed {
                let receipts = self.unpark(tier);
                self.release(tier, receipts).await;
            }
        }
    }

    async fn release_all(&mut self) {
        for tier in Tier::ALL {
            let mut receipts = self.drain(tier, 0);
            receipts.extend(self.parked_of(tier).cloned());
            self.release(tier, receipts).await;
        }
    }

    /// Takes out of the hand what is in it but for the first `kept`.
    fn drain(&mut self, tier: Tier, kept: usize) -> Vec<Receipt> {
        let hand = self.hand(tier);
        hand.drain(kept.min(hand.len())..).map(|held| held.receipt).collect()
    }

    async fn release(&mut self, tier: Tier, receipts: Vec<Receipt>) {
        if !receipts.is_empty() {
            let app = self.app;
            let receipts: Vec<_> = receipts.into_iter().map(|receipt| (receipt, Settle::Release)).collect();
            warn_if_away(app.queue.settle(app.settings.queues.tier(tier), &receipts).await);
        }
    }

    /// Extends what is in hand and in work well before it would come back [Q5].
    pub(super) async fn keep_hidden(&mut self) {
        if Instant::now() + VISIBILITY / 2 < self.hidden_until {
            return;
        }
        self.hidden_until = Instant::now() + VISIBILITY;
        for tier in Tier::ALL {
            let held = self.hands.get(&tier).into_iter().flatten().map(|held| &held.receipt);
            let in_work = self.in_work.values().filter(|work| work.tier == tier);
            let in_work = in_work.flat_map(|work| work.envelopes.iter().map(|(_, receipt)| receipt));
            let receipts: Vec<_> = held
                .chain(in_work)
                .chain(self.parked_of(tier))
                .map(|r| (r.clone(), Settle::Extend(VISIBILITY)))
                .collect();
            if !receipts.is_empty() {
                let app = self.app;
                let extended = app.queue.settle(app.settings.queues.tier(tier), &receipts).await;
                warn_if_away(extended);
            }
        }
    }

    /// The next thing that happens by time alone: a breaker's probe, an extension, a report, the end of a turn, or of the wait of
    /// what is in hand.
    pub(super) fn wake_at(&self) -> Instant {
        let due = (self.hidden_until - VISIBILITY / 2).min(self.report_due);
        let exchange = self.app.breakers.exchange_due().filter(|_| self.exchanging.is_empty());
        let due = exchange.map_or(due, |exchange| due.min(exchange));
        // Once a probe's time has come, what it waits for wakes.
        let probes = Lane::ALL.into_iter().filter_map(|lane| {
            let breaker = self.app.breakers.lane(lane);
            breaker.waits_until().filter(|_| breaker.holds_back())
        });
        let now = Instant::now();
        let waiting = self.hands.values().flatten().map(|held| held.due);
        let turns = self.in_work.values().filter(|work| work.stream.is_some()).map(|work| work.turn_ends);
        probes.chain(waiting.chain(turns).filter(|due| *due > now)).fold(due, Instant::min)
    }
}

/// The envelope comes back by itself when its visibility ends.
fn warn_if_away(result: Result<(), BackendError>) {
    if let Err(problem) = result {
        tracing::warn!(%problem, "an envelope could not be settled and will come back");
    }
}
