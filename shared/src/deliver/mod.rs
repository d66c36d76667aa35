//! The second half: envelopes → the sink's acknowledgements. Concurrent receives fill bounded hands, CRITICAL has its own
//! strict lane, deficit round robin picks among the rest, and an envelope is forgotten only when every record of it is
//! accounted for. Nothing here knows a source.

pub mod drr;
pub mod duty;
pub mod retry;
pub(crate) mod settle;
pub mod tally;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::app::App;
use crate::breaker::BreakerState;
use crate::error::BackendError;
use crate::limits::{
    ASK_FOR_RETURN, BULK_IN_FLIGHT_ENVELOPES, BULK_IN_FLIGHT_RECORDS, CRITICAL_FLOOD, CRITICAL_PARALLEL, HAND_CRITICAL,
    HAND_ENVELOPES, QUEUE_BATCH, VISIBILITY,
};
use crate::queue::{Body, Delivery, Receipt, Settle};
use crate::record::{Envelope, Tier};
use crate::sink::Lane;
use drr::{Drr, FLOOD_WEIGHTS, WEIGHTS};
use settle::{Held, lane, work};

/// One long poll; short, so that stopping waits no longer than this.
const RECEIVE_WAIT: Duration = Duration::from_secs(1);
/// Pause of a tier whose queue could not be reached.
const RECEIVE_PAUSE: Duration = Duration::from_secs(1);

/// Delivers until `stop`; then takes nothing new, ends what is in flight and releases what is in hand.
///
/// # Errors
/// Only when a queue is unknown or broken for good; a backend that is away is waited for.
pub async fn deliver(app: &App, stop: &CancellationToken) -> Result<(), BackendError> {
    let mut desk = Desk::new(app);
    let mut stopping = stop.is_cancelled();
    loop {
        // Listening begins before looking, or a change in between would be missed.
        let mut changed = std::pin::pin!(app.breakers.changed());
        changed.as_mut().enable();
        if !stopping {
            desk.receive();
        }
        desk.release_behind_open_breakers().await;
        if !stopping {
            desk.dispatch();
            desk.ask_for_return();
        }
        if stopping && desk.working.is_empty() && desk.receiving.is_empty() {
            desk.release_all().await;
            return Ok(());
        }
        let wake = desk.wake_at();
        tokio::select! { biased;
            () = stop.cancelled(), if !stopping => stopping = true,
            Some(done) = desk.working.next(), if !desk.working.is_empty() => desk.done(done),
            Some((tier, received)) = desk.receiving.next(), if !desk.receiving.is_empty() => desk.take(tier, received).await?,
            Some(answers) = desk.asking.next(), if !desk.asking.is_empty() => if answers { app.breakers.sign_of_return() },
            () = changed => {}
            () = tokio::time::sleep_until(wake) => desk.keep_hidden().await,
        }
    }
}

type Received = (Tier, Result<Vec<Delivery>, BackendError>);

struct Done {
    number: u64,
    /// The envelope, when it is to be tried later.
    result: Result<Option<Held>, BackendError>,
}

/// An envelope that is being sent.
struct InWork {
    id: Ulid,
    tier: Tier,
    records: usize,
    receipt: Receipt,
    /// CRITICAL: the alert thread, of which only one message is in work at a time [E4].
    thread: Option<String>,
}

/// Everything that one delivery has before it: what it holds, receives and sends.
struct Desk<'a> {
    app: &'a App,
    hands: BTreeMap<Tier, VecDeque<Held>>,
    receiving: FuturesUnordered<BoxFuture<'a, Received>>,
    polled: BTreeSet<Tier>,
    working: FuturesUnordered<BoxFuture<'a, Done>>,
    in_work: BTreeMap<u64, InWork>,
    /// The question whether the sink answers, while the bulk lane's breaker is open: one at most.
    asking: FuturesUnordered<BoxFuture<'a, bool>>,
    next_number: u64,
    calm: Drr<3>,
    flood: Drr<4>,
    hidden_until: Instant,
}

impl<'a> Desk<'a> {
    fn new(app: &'a App) -> Desk<'a> {
        Desk {
            app,
            hands: Tier::ALL.into_iter().map(|tier| (tier, VecDeque::new())).collect(),
            receiving: FuturesUnordered::new(),
            polled: BTreeSet::new(),
            working: FuturesUnordered::new(),
            in_work: BTreeMap::new(),
            asking: FuturesUnordered::new(),
            next_number: 0,
            calm: Drr::new(WEIGHTS),
            flood: Drr::new(FLOOD_WEIGHTS),
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
        self.in_work.values().filter(|work| work.tier == tier).count()
    }

    /// One outstanding receive a tier, while its hand has room. Behind an open breaker one envelope of a bulk tier is enough,
    /// which the probe is made with. Of CRITICAL all are taken: the first may wait for an older one of its thread, and then
    /// only another one can be the probe [R2, E4].
    fn receive(&mut self) {
        let app = self.app;
        for tier in Tier::ALL {
            let (room, max) = match tier {
                Tier::Critical => (HAND_CRITICAL, QUEUE_BATCH),
                _ if app.breakers.lane(lane(tier)).state() != BreakerState::Closed => (1, 1),
                Tier::High | Tier::Normal | Tier::Low => (HAND_ENVELOPES, QUEUE_BATCH),
            };
            let held = self.in_hand(tier) + if max == 1 { self.in_work_of(tier) } else { 0 };
            if self.polled.contains(&tier) || held + max > room {
                continue;
            }
            self.polled.insert(tier);
            self.receiving.push(Box::pin(async move {
                let received = app.queue.receive(app.settings.queues.tier(tier), max, RECEIVE_WAIT).await;
                if received.is_err() {
                    tokio::time::sleep(RECEIVE_PAUSE).await;
                }
                (tier, received)
            }));
        }
    }

    /// Alerts probe every second while one waits. Without any, only a question tells that the broker is back [R2].
    fn ask_for_return(&mut self) {
        let app = self.app;
        if self.asking.is_empty() && app.breakers.lane(Lane::Bulk).holds_back() {
            self.asking.push(Box::pin(async move {
                tokio::time::sleep(ASK_FOR_RETURN).await;
                app.sink.answers().await
            }));
        }
    }

    async fn take(&mut self, tier: Tier, received: Result<Vec<Delivery>, BackendError>) -> Result<(), BackendError> {
        let app = self.app;
        self.polled.remove(&tier);
        let deliveries = match received {
            Ok(deliveries) => deliveries,
            Err(BackendError::Retry(problem)) => {
                tracing::warn!(%tier, problem, "the queue cannot be reached");
                return Ok(());
            }
            Err(fatal @ BackendError::Fatal(_)) => return Err(fatal),
        };
        for Delivery { body, receipt, receives, .. } in deliveries {
            let bytes = match body {
                Body::Binary(bytes) => bytes,
                Body::Text(text) => text.into_bytes().into(),
            };
            match Envelope::decode(&bytes) {
                Ok(envelope) => {
                    let thread = (tier == Tier::Critical).then(|| thread_of(&envelope)).flatten();
                    let now = Instant::now();
                    self.keep(Held { envelope, receipt, receives, thread, taken_at: now, due: now });
                }
                Err(e) => {
                    let queue = app.settings.queues.tier(tier);
                    let buried = settle::bury_unreadable(app, queue, bytes, &e.to_string()).await;
                    let settled = match buried {
                        Ok(()) => app.queue.settle(queue, &[(receipt, Settle::Forget)]).await,
                        Err(e) => Err(e),
                    };
                    warn_if_away(settled);
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, held: Held) {
        match self.kept(&held.envelope) {
            // Received again, because it could not be kept hidden: only the latest receipt settles it.
            Some(before) => before.receipt = held.receipt,
            None => self.insert(held),
        }
    }

    fn kept(&mut self, envelope: &Envelope) -> Option<&mut Held> {
        self.hand(envelope.tier).iter_mut().find(|held| held.envelope.id == envelope.id)
    }

    /// By age, so that of one thread the older message is always found first, and what was given back goes first again.
    fn insert(&mut self, held: Held) {
        let hand = self.hand(held.envelope.tier);
        let at = hand.partition_point(|other| other.envelope.id <= held.envelope.id);
        hand.insert(at, held);
    }

    /// Starts what may start: CRITICAL first and always, then the bulk tiers within their bounds.
    fn dispatch(&mut self) {
        // While the bulk lane is away there is nothing to share: CRITICAL then goes by itself.
        let flooded = self.app.breakers.lane(Lane::Bulk).state() == BreakerState::Closed
            && self.in_hand(Tier::Critical) as u64 > CRITICAL_FLOOD.min(HAND_CRITICAL as u64 - QUEUE_BATCH as u64);
        if !flooded {
            while let Some(at) = self.next_critical() {
                self.start(Tier::Critical, at);
            }
        }
        while self.bulk_has_room() {
            let head = |tier| self.hands.get(&tier)?.front().map(|held| held.envelope.count);
            let [high, normal, low] = Tier::BULK.map(head);
            let critical = if flooded { self.next_critical() } else { None };
            let tier = if flooded {
                self.flood.next([critical.map(|_| 1), high, normal, low]).map(|class| Tier::ALL[class])
            } else {
                self.calm.next([high, normal, low]).map(|class| Tier::BULK[class])
            };
            match tier {
                Some(Tier::Critical) => self.start(Tier::Critical, critical.unwrap_or_default()),
                Some(tier) => self.start(tier, 0),
                None => break,
            }
        }
    }

    /// Where in its hand the oldest CRITICAL lies that is due and the first of its thread: none in work, none before it.
    fn next_critical(&self) -> Option<usize> {
        let mut threads: BTreeSet<&str> = self.in_work.values().filter_map(|work| work.thread.as_deref()).collect();
        let probing = self.app.breakers.lane(Lane::Critical).state() != BreakerState::Closed;
        let parallel = if probing { 1 } else { CRITICAL_PARALLEL };
        if self.in_work_of(Tier::Critical) >= parallel || self.app.breakers.lane(Lane::Critical).holds_back() {
            return None;
        }
        let now = Instant::now();
        self.hands.get(&Tier::Critical)?.iter().position(|held| {
            let first = held.thread.as_deref().is_none_or(|thread| threads.insert(thread));
            first && held.due <= now
        })
    }

    fn bulk_has_room(&self) -> bool {
        let bulk = || self.in_work.values().filter(|work| work.tier != Tier::Critical);
        match self.app.breakers.lane(Lane::Bulk).state() {
            BreakerState::Closed => {
                bulk().count() < BULK_IN_FLIGHT_ENVELOPES
                    && bulk().map(|work| work.records).sum::<usize>() < BULK_IN_FLIGHT_RECORDS
            }
            // The probe goes alone.
            BreakerState::Open | BreakerState::HalfOpen => {
                bulk().count() == 0 && !self.app.breakers.lane(Lane::Bulk).holds_back()
            }
        }
    }

    fn start(&mut self, tier: Tier, at: usize) {
        let app = self.app;
        let Some(held) = self.hand(tier).remove(at) else { return };
        let number = self.next_number;
        self.next_number += 1;
        let in_work = InWork {
            id: held.envelope.id,
            tier,
            records: held.envelope.count as usize,
            receipt: held.receipt.clone(),
            thread: held.thread.clone(),
        };
        self.in_work.insert(number, in_work);
        let critical_here = if tier == Tier::Critical { self.critical_here() } else { 0 };
        self.working.push(Box::pin(async move { Done { number, result: work(app, held, critical_here).await } }));
    }

    /// Messages of the CRITICAL queue that are in hand or in work, each once.
    fn critical_here(&self) -> usize {
        let in_hand = self.hands.get(&Tier::Critical).into_iter().flatten().map(|held| held.envelope.id);
        let in_work = self.in_work.values().filter(|work| work.tier == Tier::Critical).map(|work| work.id);
        in_hand.chain(in_work).collect::<BTreeSet<Ulid>>().len()
    }

    fn done(&mut self, done: Done) {
        self.in_work.remove(&done.number);
        match done.result {
            // Received again in the meantime, it is in hand already, with the receipt that settles it.
            Ok(Some(waits)) if self.kept(&waits.envelope).is_some() => {}
            Ok(Some(waits)) => self.insert(waits),
            Ok(None) => {}
            Err(problem) => warn_if_away(Err(problem)),
        }
    }

    /// Nothing burns its receive count behind an open breaker [R2]: of each bulk tier one envelope stays in hand for the
    /// probe. CRITICAL stays in hand, within its bound, and is received once however long the outage is.
    async fn release_behind_open_breakers(&mut self) {
        for tier in Tier::BULK {
            if self.app.breakers.lane(lane(tier)).holds_back() {
                self.release(tier, 1).await;
            }
        }
    }

    async fn release_all(&mut self) {
        for tier in Tier::ALL {
            self.release(tier, 0).await;
        }
    }

    /// Gives back what is in hand but for the first `kept`.
    async fn release(&mut self, tier: Tier, kept: usize) {
        let hand = self.hand(tier);
        let released = hand.drain(kept.min(hand.len())..);
        let receipts: Vec<_> = released.map(|held| (held.receipt, Settle::Release)).collect();
        if !receipts.is_empty() {
            let app = self.app;
            let released = app.queue.settle(app.settings.queues.tier(tier), &receipts).await;
            warn_if_away(released);
        }
    }

    /// Extends what is in hand and in work well before it would come back [Q5].
    async fn keep_hidden(&mut self) {
        if Instant::now() + VISIBILITY / 2 < self.hidden_until {
            return;
        }
        self.hidden_until = Instant::now() + VISIBILITY;
        for tier in Tier::ALL {
            let held = self.hands.get(&tier).into_iter().flatten().map(|held| &held.receipt);
            let in_work = self.in_work.values().filter(|work| work.tier == tier).map(|work| &work.receipt);
            let receipts: Vec<_> = held.chain(in_work).map(|r| (r.clone(), Settle::Extend(VISIBILITY))).collect();
            if !receipts.is_empty() {
                let app = self.app;
                let extended = app.queue.settle(app.settings.queues.tier(tier), &receipts).await;
                warn_if_away(extended);
            }
        }
    }

    /// The next thing that happens by time alone: a breaker's probe, an extension, or an alert that waits for its elder.
    fn wake_at(&self) -> Instant {
        let extend = self.hidden_until - VISIBILITY / 2;
        // Once a probe's time has come, what it waits for wakes.
        let probes = [Lane::Critical, Lane::Bulk].into_iter().filter_map(|lane| {
            let breaker = self.app.breakers.lane(lane);
            breaker.waits_until().filter(|_| breaker.holds_back())
        });
        let now = Instant::now();
        let waiting = self.hands.get(&Tier::Critical).into_iter().flatten().map(|held| held.due);
        probes.chain(waiting.filter(|due| *due > now)).fold(extend, Instant::min)
    }
}

/// A CRITICAL envelope holds one alert; its key is the thread.
fn thread_of(envelope: &Envelope) -> Option<String> {
    envelope.unpack().ok()?.into_iter().next().map(|record| record.key)
}

/// The envelope comes back by itself when its visibility ends.
fn warn_if_away(result: Result<(), BackendError>) {
    if let Err(problem) = result {
        tracing::warn!(%problem, "an envelope could not be settled and will come back");
    }
}
