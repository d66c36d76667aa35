//! What must never happen, checked while a run goes on: the judge hears of everything that is accepted, sent, stored and
//! refused, and keeps what it finds wrong. The first violation ends the run, and so does a run that does not get on.

mod repeats;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use streammanager::record::{EventId, Outgoing, Tier, Topic};
use streammanager::sink::Lane;
use tokio::sync::Notify;
use tokio::time::Instant;
use ulid::Ulid;

pub use repeats::Most;
use repeats::Repeats;
pub(crate) use repeats::UnderWay;

/// One revision of one event.
pub(crate) type Published = (EventId, u32);

/// Calls of seams within one second: a week's busiest has a tenth of it. Beyond, something spins.
const STEPS_A_SECOND: u64 = 100_000;
/// A fault's consequences have ended by then: a visibility, a lease, an alert's patience.
const AFTERMATH: Duration = Duration::from_secs(180);
/// Behind an open breaker: three tries in a row open it, those under way end, and then one probe a minute goes.
const BREAKER_SETTLES: Duration = Duration::from_secs(45);
/// Bulk sends of one process in a minute of an outage: its probe, and one more that a sign of return allows.
const PROBES_A_MINUTE: usize = 3;
/// A report tells of a moment that has passed by so much, and the broker takes what it is given within as much.
const SAID_LATE: Duration = Duration::from_secs(1);
/// Whoever lost the duty has noticed and ended its tries by then: LEASE, and three tries of a send with their waits.
const DUTY_ENDS: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(crate) struct Judge(Arc<Inner>);

struct Inner {
    started: Instant,
    state: Mutex<State>,
    over: Notify,
}

struct Told {
    tier: Tier,
    at: Instant,
    /// How many were accepted before.
    nth: u64,
    /// The shortest time that the delivery said to be the longest possible wait, while it waited [O8].
    at_most: Option<Duration>,
    /// Nobody had set the clock, which envelopes are numbered by.
    clock_was_right: bool,
}

struct Stored {
    first: Instant,
    last: Instant,
    /// Of its content.
    hash: u64,
}

/// What a fault puts in doubt while it lasts and for a while after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Doubts {
    /// The order of threads is a best effort.
    pub threads: bool,
    /// So is that of a device's readings.
    pub readings: bool,
    /// Records come twice without a crash.
    pub repeats: bool,
}

#[derive(Default)]
struct State {
    violation: Option<String>,
    steps: u64,
    second: u64,
    steps_in_second: u64,
    /// Accepted and not yet stored or refused.
    outstanding: BTreeMap<Published, Told>,
    accepted: u64,
    /// What the broker has.
    stored: BTreeMap<Published, Stored>,
    /// By what its source id begins with.
    events: BTreeMap<String, BTreeSet<EventId>>,
    repeats: u64,
    after_crashes: Repeats,
    refused: BTreeSet<EventId>,
    /// In rows that the disk damaged: each is published nevertheless, or set aside.
    damaged: BTreeSet<Published>,
    set_aside: u64,
    /// Of each kind, since when what was published before may be published again: its seen-set was damaged.
    forgot: BTreeMap<String, Instant>,
    /// Faults under way, and from when on nothing of them is left.
    faults: u32,
    calm_from: Option<Instant>,
    away_since: Option<Instant>,
    /// In the outage that lasts, by process: its first bulk send, and those of the last minute.
    first_sends: BTreeMap<u64, Instant>,
    bulk_sends: BTreeMap<u64, VecDeque<Instant>>,
    /// Process, owner of the lease, since when.
    duty: Option<(u64, Bytes, Instant)>,
    former: BTreeSet<Bytes>,
    polling: BTreeSet<String>,
    /// Of each alert thread, when its last published message was sent.
    threads: BTreeMap<(Topic, String), String>,
    /// They keep their order: it is a best effort while the store is in trouble.
    threads_ordered: Ordered,
    /// Of each sensor, how many were accepted before the last of its readings that was published.
    readings: BTreeMap<(String, String), u64>,
    readings_ordered: Ordered,
    clock_right: Ordered,
    slowest: BTreeMap<Tier, Duration>,
}

/// Since when an order holds; not while faults of it last.
#[derive(Default)]
struct Ordered {
    faults: u32,
    from: Option<Instant>,
}

impl Ordered {
    fn since(from: Option<Instant>) -> Ordered {
        Ordered { faults: 0, from }
    }

    fn doubted(&mut self) {
        self.faults += 1;
        self.from = None;
    }

    fn again(&mut self, from: Option<Instant>) {
        self.faults -= 1;
        if self.faults == 0 {
            self.from = from;
        }
    }

    fn holds(&self) -> bool {
        self.from.is_some_and(|from| from <= Instant::now())
    }
}

/// What a run counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub accepted: u64,
    pub stored: u64,
    pub repeats: u64,
    pub crashes: u64,
    pub most: Most,
    pub set_aside: u64,
    pub refused: u64,
    pub steps: u64,
    pub slowest: BTreeMap<Tier, Duration>,
}

impl Judge {
    pub(crate) fn new() -> Judge {
        Judge(Arc::new(Inner {
            started: Instant::now(),
            state: Mutex::new(State {
                calm_from: Some(Instant::now()),
                threads_ordered: Ordered::since(Some(Instant::now())),
                readings_ordered: Ordered::since(Some(Instant::now())),
                clock_right: Ordered::since(Some(Instant::now())),
                ..State::default()
            }),
            over: Notify::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    /// When the run began.
    pub(crate) fn began(&self) -> Instant {
        self.0.started
    }

    /// Ends the run; only the first one counts.
    pub(crate) fn violated(&self, what: impl Into<String>) {
        self.state().violated(what.into());
        self.0.over.notify_waiters();
        self.0.over.notify_one();
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.state().violation.clone()
    }

    /// Completes at the first violation.
    pub(crate) async fn over(&self) {
        while self.violation().is_none() {
            self.0.over.notified().await;
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.state();
        let (crashes, most) = state.after_crashes.most();
        Counts {
            accepted: state.accepted,
            stored: state.stored.len() as u64,
            repeats: state.repeats,
            crashes,
            most,
            set_aside: state.set_aside,
            refused: state.refused.len() as u64,
            steps: state.steps,
            slowest: state.slowest.clone(),
        }
    }

    /// Every call of a seam begins here. After the end nothing goes on.
    pub(crate) async fn step(&self) {
        let ended = {
            let mut state = self.state();
            state.steps += 1;
            let second = Instant::now().duration_since(self.0.started).as_secs();
            if second != state.second {
                (state.second, state.steps_in_second) = (second, 0);
            }
            state.steps_in_second += 1;
            if state.steps_in_second > STEPS_A_SECOND {
                state.violated(format!("{STEPS_A_SECOND} calls within a second: something spins"));
                self.0.over.notify_one();
            }
            state.violation.is_some()
        };
        if ended {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn fault_begins(&self, doubts: Doubts) {
        let mut state = self.state();
        state.faults += 1;
        if doubts.threads {
            state.threads_ordered.doubted();
        }
        if doubts.readings {
            state.readings_ordered.doubted();
        }
        if doubts.repeats {
            state.after_crashes.other_begins();
        }
    }

    pub(crate) fn fault_ends(&self, doubts: Doubts) {
        let mut state = self.state();
        state.faults -= 1;
        state.calm_from = Some(Instant::now() + AFTERMATH);
        let calm = state.calm_from;
        if doubts.threads {
            state.threads_ordered.again(calm);
        }
        if doubts.readings {
            state.readings_ordered.again(calm);
        }
        if doubts.repeats {
            state.after_crashes.other_ends(AFTERMATH);
        }
    }

    /// Somebody sets the clock. Each process numbers its envelopes by it and never goes back; two of them need not agree.
    pub(crate) fn clock_is_set(&self) {
        self.state().clock_right.doubted();
    }

    /// It is right again; what was numbered meanwhile may be ahead of it `by` so much.
    pub(crate) fn clock_is_right(&self, by: Duration) {
        self.state().clock_right.again(Some(Instant::now() + by));
    }

    /// A process, or all of them, died.
    pub(crate) fn crashed(&self, under_way: UnderWay) {
        self.state().after_crashes.crashed(under_way);
    }

    /// The broker loses acknowledgements, is slow, busy or away; or it is well.
    pub(crate) fn broker_is_ill(&self, ill: bool) {
        self.state().after_crashes.broker_is_ill(ill);
    }

    /// Everything is mended at once.
    pub(crate) fn mended(&self) {
        let mut state = self.state();
        state.faults = 0;
        state.calm_from = Some(Instant::now() + AFTERMATH);
        state.threads_ordered = Ordered::since(state.calm_from);
        state.readings_ordered = Ordered::since(state.calm_from);
        state.after_crashes.mended(AFTERMATH);
    }

    /// The broker's outage is all that is wrong, and somebody is on duty.
    pub(crate) fn only_the_broker_is_away(&self) -> bool {
        let state = self.state();
        let since = Instant::now() - Duration::from_secs(60).min(Instant::now() - self.0.started);
        state.faults == 1 && state.threads_ordered.holds() && state.duty.as_ref().is_some_and(|(_, _, on)| *on <= since)
    }

    pub(crate) fn broker_is_away(&self, away: bool) {
        let mut state = self.state();
        state.away_since = away.then(Instant::now);
        state.bulk_sends.clear();
        state.first_sends.clear();
    }

    /// A backend told the engine that this is durable.
    pub(crate) fn accepted(&self, published: Published, tier: Tier) {
        let mut state = self.state();
        // What the disk damaged may be accepted once more, from a source that says it again.
        if state.stored.contains_key(&published) || state.outstanding.contains_key(&published) {
            return;
        }
        state.accepted += 1;
        if !state.refused.contains(&published.0) {
            let (nth, clock_was_right) = (state.accepted, state.clock_right.holds());
            let told = Told { tier, at: Instant::now(), nth, at_most: None, clock_was_right };
            state.outstanding.insert(published, told);
        }
    }

    /// The delivery says that nothing of this tier that waits now waits longer in all.
    pub(crate) fn said(&self, tier: Tier, at_most: Duration) {
        let mut state = self.state();
        for told in state.outstanding.values_mut().filter(|told| told.tier == tier) {
            told.at_most = Some(told.at_most.map_or(at_most, |before| before.min(at_most)));
        }
    }

    /// The queue has this record in this envelope.
    pub(crate) fn queued(&self, published: Published, envelope: Ulid) {
        self.state().after_crashes.queued(published, envelope);
    }

    /// The disk damaged a row that holds these.
    pub(crate) fn damaged(&self, records: impl IntoIterator<Item = Published>) {
        self.state().damaged.extend(records);
    }

    /// The damaged row is a dead letter: what it held and was not published otherwise goes no further.
    pub(crate) fn set_aside(&self, records: &[(Published, String)]) {
        let mut state = self.state();
        for (published, kind) in records {
            if state.outstanding.remove(published).is_some() {
                state.set_aside += 1;
                state.events.entry(kind.clone()).or_default().insert(published.0);
            }
        }
    }

    /// What was known of sources of this kind is damaged.
    pub(crate) fn forgot(&self, kind: &str) {
        self.state().forgot.insert(kind.to_owned(), Instant::now());
    }

    /// The broker said so: a dead letter is all that remains of it.
    pub(crate) fn refused(&self, record: &Outgoing) {
        let mut state = self.state();
        state.refused.insert(record.event);
        state.events.entry(kind(record)).or_default().insert(record.event);
        state.outstanding.retain(|(other, _), _| *other != record.event);
    }

    pub(crate) fn was_refused(&self, event: EventId) -> bool {
        self.state().refused.contains(&event)
    }

    pub(crate) fn stored(&self, record: &Outgoing) {
        let now = Instant::now();
        let mut state = self.state();
        let key = (record.event, record.revision);
        let told = state.outstanding.remove(&key);
        let calm = state.calm_from().filter(|from| *from <= now);
        if serde_json::from_slice::<serde::de::IgnoredAny>(&record.value).is_err() {
            state.violated(format!("a value that is no JSON was published for {}", record.event));
        }
        if let Some(told) = &told {
            let waited = now - told.at;
            if calm.is_some_and(|from| from <= told.at) {
                let slowest = state.slowest.entry(told.tier).or_default();
                *slowest = waited.max(*slowest);
                if let Some(at_most) = told.at_most.filter(|at_most| waited > *at_most + SAID_LATE) {
                    state.violated(format!(
                        "bound: {} {} waited {waited:?}, and {at_most:?} were said to be the longest possible",
                        told.tier, record.event
                    ));
                }
                if waited > patience(told.tier) {
                    state.violated(format!(
                        "starvation: {} {} waited {waited:?} although nothing was wrong",
                        told.tier, record.event
                    ));
                }
            }
        }
        let is_new = !state.stored.contains_key(&key);
        // Drills go the NORMAL way, where nothing keeps threads together.
        let sent = record.extra.iter().find(|(name, _)| name == "sent");
        if let Some((_, sent)) = sent.filter(|_| is_new && record.topic == Topic::CRITICAL_ALERTS) {
            let last = state.threads.get(&(record.topic, record.key.clone())).cloned().unwrap_or_default();
            if *sent < last && state.threads_ordered.holds() {
                state.violated(format!("order: {} of {sent} was published after one of {last}", record.event));
            }
            state.threads.insert((record.topic, record.key.clone()), last.max(sent.clone()));
        }
        let mut hasher = DefaultHasher::new();
        let value = serde_json::from_slice::<serde_json::Value>(&record.value).unwrap_or_default();
        value["data"].to_string().hash(&mut hasher);
        let hash = hasher.finish();
        if let Some(told) = told.filter(|told| is_new && told.clock_was_right && record.topic == Topic::IOT_SENSORS) {
            let sensor = (record.source.to_string(), value["data"]["sensor_id"].to_string());
            let last = state.readings.entry(sensor.clone()).or_default();
            let overtaken = told.nth < *last;
            *last = told.nth.max(*last);
            if overtaken && state.readings_ordered.holds() {
                state.violated(format!("order: a reading of {sensor:?} was published after a later one"));
            }
        }
        match state.stored.get(&key).map(|stored| (stored.first, stored.last, stored.hash)) {
            Some((first, last, before)) => {
                state.repeats += 1;
                let forgotten = state.forgot.get(&kind(record)).is_some_and(|at| first < *at);
                if calm.is_some_and(|from| from <= first) && !forgotten {
                    state.violated(format!("repeat: {key:?} was published twice although nothing was wrong"));
                }
                if before != hash && calm.is_some() && !forgotten {
                    state.violated(format!("identity: {key:?} was published with two contents"));
                }
                let too_many = state.after_crashes.came_again(key, record.tier, last).filter(|_| !forgotten);
                too_many.into_iter().for_each(|problem| state.violated(problem));
                state.stored.insert(key, Stored { first, last: now, hash: before });
            }
            None => {
                state.stored.insert(key, Stored { first: now, last: now, hash });
                state.events.entry(kind(record)).or_default().insert(record.event);
            }
        }
        let over = state.violation.is_some();
        drop(state);
        if over {
            self.0.over.notify_one();
        }
    }

    /// A process begins a send.
    pub(crate) fn sends(&self, process: u64, lane: Lane) {
        let now = Instant::now();
        let mut state = self.state();
        if lane == Lane::Bulk {
            let other = state.duty.as_ref().filter(|(holder, _, since)| *holder != process && now - *since > DUTY_ENDS);
            if let Some(holder) = other.map(|(holder, _, _)| *holder) {
                state.violated(format!("overlap: process {process} delivers although {holder} is on duty"));
            }
            // A process that began in the outage has to find it out.
            let known_since = state.away_since.map(|_| *state.first_sends.entry(process).or_insert(now));
            if known_since.is_some_and(|since| now - since > BREAKER_SETTLES) {
                let sends = state.bulk_sends.entry(process).or_default();
                sends.push_back(now);
                sends.retain(|at| now - *at < Duration::from_secs(60));
                if sends.len() > PROBES_A_MINUTE {
                    state.violated(format!("breaker: process {process} goes on sending to a broker that is away"));
                }
            }
        }
        if state.violation.is_some() {
            self.0.over.notify_one();
        }
    }

    /// A process took the duty to deliver, or renewed it; each time that it is taken it has another owner.
    pub(crate) fn on_duty(&self, process: u64, owner: &Bytes) {
        let mut state = self.state();
        if state.duty.as_ref().is_some_and(|(_, holder, _)| holder == owner) {
            return;
        }
        if state.former.contains(owner) {
            state.violated(format!("overlap: process {process} renewed a duty that it had lost"));
            self.0.over.notify_one();
        }
        if let Some((_, before, _)) = state.duty.replace((process, owner.clone(), Instant::now())) {
            state.former.insert(before);
        }
    }

    /// Nobody holds it any more.
    pub(crate) fn off_duty(&self) {
        self.state().duty = None;
    }

    pub(crate) fn polls(&self, url: &str) {
        if !self.state().polling.insert(url.to_owned()) {
            self.violated(format!("overlap: {url} is polled twice at once"));
        }
    }

    pub(crate) fn polled(&self, url: &str) {
        self.state().polling.remove(url);
    }

    /// What was accepted of a tier before `at` and is not stored.
    pub(crate) fn waiting(&self, tier: Tier, before: Instant) -> BTreeSet<Published> {
        let state = self.state();
        let waits = state.outstanding.iter().filter(|(_, told)| told.tier == tier && told.at < before);
        let sound = waits.filter(|(published, _)| !state.damaged.contains(*published));
        sound.map(|(published, _)| *published).collect()
    }

    pub(crate) fn outstanding(&self) -> BTreeSet<Published> {
        self.state().outstanding.keys().copied().collect()
    }

    /// Of these, what must be somewhere, for no row that holds it was damaged.
    pub(crate) fn sound(&self, mut records: BTreeSet<Published>) -> BTreeSet<Published> {
        let state = self.state();
        records.retain(|published| !state.damaged.contains(published));
        records
    }

    /// Distinct events whose source id begins so, published or refused.
    pub(crate) fn events_of(&self, kind: &str) -> u64 {
        self.state().events.get(kind).map_or(0, |events| events.len() as u64)
    }

    /// Refused by the broker, and never published otherwise.
    pub(crate) fn only_refused(&self) -> BTreeSet<EventId> {
        let state = self.state();
        state.refused.iter().copied().filter(|event| !state.is_stored(*event)).collect()
    }
}

/// What its source id begins with.
pub(crate) fn kind(record: &Outgoing) -> String {
    if record.topic == Topic::DEAD_LETTERS {
        // It tells of a record, and is none of its source.
        return "announcement".to_owned();
    }
    record.source.as_str().split('_').next().unwrap_or_default().to_owned()
}

impl State {
    fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    fn is_stored(&self, event: EventId) -> bool {
        self.stored.range((event, 0)..=(event, u32::MAX)).next().is_some()
    }

    /// Since when nothing is wrong; `None` while something is.
    fn calm_from(&self) -> Option<Instant> {
        self.calm_from.filter(|_| self.faults == 0)
    }
}

/// Longer than anything waits that nothing holds up.
fn patience(tier: Tier) -> Duration {
    Duration::from_secs(match tier {
        Tier::Critical => 5,
        Tier::High => 10,
        Tier::Normal => 20,
        Tier::Low => 60,
    })
}
