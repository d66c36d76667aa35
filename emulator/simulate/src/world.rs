//! The simulated world: a host with its disk and two processes of the program, what invokes their handlers, and what they are
//! brought.

mod audit;
mod damage;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use streammanager::app::{App, Seams};
use streammanager::blobs::MemoryBlobs;
use streammanager::control::connector::Registration;
use streammanager::control::connectors;
use streammanager::decode::Context;
use streammanager::embedded::{Commits, Embedded, MemoryDisk, Options};
use streammanager::faults::Faults;
use streammanager::ingest::dedup::Seen;
use streammanager::ingest::{Ledger, ingest};
use streammanager::limits::DELIVER_MARGIN;
use streammanager::queue::{Body, Settle};
use streammanager::record::{ConnectorId, SourceId, Stream, StreamId, TenantId, Tier, WhenFull};
use streammanager::schedule::file::StreamsFile;
use streammanager::schedule::streams;
use streammanager::settings::{Secret, Settings};
use streammanager::sources::{self, Services};
use streammanager::store::{Expect, Key, Store as _};
use streammanager::time::{Clock, WallClock};
use streammanager_functions::events::BatchResponse;
use streammanager_functions::{deliver, express, realtime, redrive, schedule, stream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::damage::Turned;
use crate::Plan;
use crate::broker::{Broker, Client};
use crate::dice::Dice;
use crate::judge::{Judge, UnderWay};
use crate::lies::Lie;
use crate::seams::{Surroundings, WatchedQueue, WatchedStore};
use crate::soak::Tally;
use crate::traffic::{self, Firms, Offered, Shard, Thread};
use crate::weather::Struck;

/// Processes that share the host's backends, as Lambda's instances share AWS's.
const PROCESSES: usize = 2;
const SHARDS: usize = 2;
/// How long a deliver invocation may run, as the template has it.
const DELIVER_TIMEOUT: Duration = Duration::from_secs(900);
/// Tries of starting a host whose disk has just failed.
const STARTS: usize = 1_000;
/// A retried body is offered again after this.
const OFFERED_AGAIN: Duration = Duration::from_secs(2);
/// Times that it is: a day.
const OFFERS: usize = 40_000;

const STREAMS: &str = "version: 1\nstreams:\n  - id: snpp\n    source_id: firms_viirs_snpp\n    connector: firms\n    \
     tenant: cal-fire\n    interval: 60s\n    config: {product: VIIRS_SNPP_NRT, area: [-124.5, 32.5, -114.1, 42.1]}\n";

pub(crate) struct World {
    pub judge: Judge,
    pub dice: Dice,
    pub broker: Arc<Broker>,
    pub tally: Arc<Tally>,
    pub disk: MemoryDisk,
    pub wall: WallClock,
    pub queue_faults: Faults,
    pub store_faults: Faults,
    /// Messages that are still given a second time.
    pub repeats: Arc<Mutex<u32>>,
    pub source: Arc<Firms>,
    pub struck: Mutex<Struck>,
    pub clock: Clock,
    plan: Plan,
    settings: Settings,
    blobs: MemoryBlobs,
    host: Mutex<Host>,
    shards: Mutex<Vec<Shard>>,
    key: Mutex<String>,
    offered: Mutex<Offered>,
    /// Senders that are still at it.
    sending: Mutex<u64>,
    /// Calls of handlers that take something in and have not ended.
    under_way: Mutex<UnderWay>,
    /// Rows that the disk damaged, in every state.
    turned: Mutex<Vec<Turned>>,
    /// The one kind of fault that strikes.
    pub only: Option<String>,
    quiet: CancellationToken,
}

#[derive(Default)]
struct Host {
    embedded: Option<Embedded>,
    processes: Vec<Process>,
    started: u64,
}

#[derive(Clone)]
struct Process {
    app: App,
    dead: CancellationToken,
}

impl World {
    /// A world at its beginning: the streams are registered, and one sender.
    pub(crate) async fn new(plan: &Plan) -> Arc<World> {
        let judge = Judge::new();
        let (clock, wall) = Clock::settable("2026-09-01T00:00:00Z".parse().expect("a time"));
        let disk = MemoryDisk::new();
        if plan.lie == Some(Lie::DiskAcknowledgesUnsynced) {
            disk.lie();
        }
        let mut services = Services::default();
        services.set_key("FIRMS_MAP_KEY", Secret::new("simulated"));
        let tally = Arc::new(Tally::default());
        let world = Arc::new(World {
            broker: Broker::new(judge.clone(), Dice::new(plan.seed, 2), plan.lie, tally.clone()),
            tally,
            dice: Dice::new(plan.seed, 1),
            source: Arc::new(Firms::new(judge.clone(), Dice::new(plan.seed, 3))),
            judge,
            disk,
            wall,
            queue_faults: Faults::none(),
            store_faults: Faults::none(),
            repeats: Arc::default(),
            struck: Mutex::default(),
            clock,
            plan: plan.clone(),
            settings: Settings { services, announce_dead_letters: true, ..Settings::local() },
            blobs: MemoryBlobs::default(),
            host: Mutex::default(),
            shards: Mutex::new((0..SHARDS).map(|_| Shard::default()).collect()),
            key: Mutex::default(),
            offered: Mutex::default(),
            sending: Mutex::default(),
            under_way: Mutex::default(),
            turned: Mutex::default(),
            only: plan.only.clone(),
            quiet: CancellationToken::new(),
        });
        world.start().await;
        world.register().await;
        world
    }

    async fn register(&self) {
        let Some(process) = self.process() else { return };
        let file = StreamsFile::parse(STREAMS).expect("a valid file");
        let registration = Registration {
            id: ConnectorId::new("butte").expect("an id"),
            tenant: TenantId::new("butte").expect("an id"),
            sources: vec![SourceId::new("evacuation_alert_butte").expect("an id")],
            critical: true,
            principal: None,
        };
        let registered = async {
            streams::apply(&process.app, &file, false).await?;
            connectors::register(&process.app, registration, "the simulation").await
        };
        match registered.await {
            Ok(key) => *self.key.lock() = key.reveal().to_owned(),
            Err(problem) => self.judge.violated(format!("the world could not be set up: {problem}")),
        }
    }

    /// Starts the host: whatever its disk has is all that it knows.
    async fn start(&self) {
        for _ in 0..STARTS {
            let wait = Duration::from_millis(1 + self.dice.below(15));
            let options = Options { commits: Commits::Stepped(wait), ..Options::new(self.clock.clone()) };
            match Embedded::on_disk(&self.disk, options) {
                Ok(embedded) => {
                    self.judge.off_duty();
                    let mut host = self.host.lock();
                    host.processes = (0..PROCESSES).map(|_| self.begin(&embedded, &mut host.started)).collect();
                    host.embedded = Some(embedded);
                    return;
                }
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
        self.judge.violated("the host does not start from its own disk");
    }

    fn begin(&self, embedded: &Embedded, started: &mut u64) -> Process {
        *started += 1;
        let process = *started;
        let around = Surroundings {
            judge: self.judge.clone(),
            dice: Dice::new(self.plan.seed, 1_000 + process),
            lie: self.plan.lie,
            process,
        };
        let queue = WatchedQueue::new(
            around.clone(),
            embedded.clone(),
            self.queue_faults.clone(),
            &self.settings.queues,
            self.repeats.clone(),
        );
        let seams = Seams {
            queue,
            store: WatchedStore::new(around.clone(), embedded.clone(), self.store_faults.clone()),
            blobs: Arc::new(self.blobs.clone()),
            sink: Arc::new(Client { broker: self.broker.clone(), process }),
            upstream: self.source.clone(),
        };
        let app = App::new(self.settings.clone(), seams, self.clock.clone(), around.dice.rng().clone());
        Process { app, dead: CancellationToken::new() }
    }

    fn process(&self) -> Option<Process> {
        let host = self.host.lock();
        let at = self.dice.below(host.processes.len() as u64) as usize;
        host.processes.get(at).cloned()
    }

    fn embedded(&self) -> Option<Embedded> {
        self.host.lock().embedded.clone()
    }

    /// Runs `work` in one of the processes; `None`: it died meanwhile, or there is none.
    async fn invoke<T, F: Future<Output = T>>(&self, work: impl FnOnce(App) -> F) -> Option<T> {
        let Some(Process { app, dead }) = self.process() else {
            sleep(Duration::from_secs(1)).await;
            return None;
        };
        tokio::select! { biased;
            () = dead.cancelled() => None,
            answer = work(app) => Some(answer),
        }
    }

    /// One process dies between any two steps, and another one takes its place.
    pub(crate) fn kill_one(&self) {
        let mut host = self.host.lock();
        let at = self.dice.below(host.processes.len() as u64) as usize;
        let Some(embedded) = host.embedded.clone() else { return };
        let new = self.begin(&embedded, &mut host.started);
        if let Some(process) = host.processes.get_mut(at) {
            self.judge.crashed(*self.under_way.lock());
            process.kill();
            *process = new;
        }
    }

    /// The host dies with everything that was not synced, and comes back after `down`.
    pub(crate) async fn power_cut(&self, down: Duration) {
        self.dies(|| self.disk.crash(&self.dice.rng().clone()), down).await;
    }

    /// The program dies with everything that it had not written, and is started again.
    pub(crate) async fn restart(&self) {
        self.dies(|| self.disk.kill(), Duration::ZERO).await;
    }

    async fn dies(&self, disk: impl FnOnce(), down: Duration) {
        {
            let mut host = self.host.lock();
            host.processes.drain(..).for_each(|process| process.kill());
            if host.embedded.take().is_none() {
                // It is down already: another fault cut it off.
                return;
            }
            self.judge.crashed(*self.under_way.lock());
            disk();
        }
        sleep(down).await;
        // Writes that another fault made fail meanwhile belong to a commit of the host that is gone.
        self.disk.fail_after(None);
        self.start().await;
    }

    /// Somebody else writes itself into the lease of the duty, and does nothing.
    pub(crate) async fn steal_duty(&self) {
        let Some(embedded) = self.embedded() else { return };
        let thief = bytes::Bytes::from(format!("thief {}", self.dice.below(u64::MAX)));
        let expires = Some(self.clock.now() + Duration::from_secs(5));
        let stolen = embedded.put_if(&Key::new("leases", "deliver/duty"), thief.clone(), Expect::Any, expires).await;
        if stolen.is_ok() {
            self.judge.on_duty(0, &thief);
            sleep(Duration::from_secs(6)).await;
            self.judge.off_duty();
        }
    }

    /// After an outage of the broker alone, alerts that waited are there within seconds [R2].
    pub(crate) async fn critical_goes_first(&self) {
        let returned = Instant::now();
        let waited = self.judge.waiting(Tier::Critical, returned - Duration::from_secs(1).min(returned - self.began()));
        if waited.is_empty() || waited.len() > 20 || !self.judge.only_the_broker_is_away() {
            return;
        }
        sleep(Duration::from_secs(10)).await;
        let waits = self.judge.waiting(Tier::Critical, returned);
        if self.judge.only_the_broker_is_away() && waited.iter().any(|one| waits.contains(one)) {
            self.judge.violated("outage: an alert still waits 10 s after the broker's return");
        }
    }

    fn began(&self) -> Instant {
        self.judge.began()
    }

    // ---- What invokes the handlers ----

    /// Everything that goes on by itself, until the run's end.
    pub(crate) fn run(self: &Arc<World>) {
        type Going = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
        let mut going: Vec<Going> = vec![
            Box::pin(self.clone().minutes()),
            Box::pin(self.clone().ticks()),
            Box::pin(self.clone().hours()),
            Box::pin(self.clone().damage()),
            Box::pin(self.clone().audits()),
            Box::pin(self.clone().looks()),
            Box::pin(self.clone().bounds()),
            Box::pin(self.clone().passes()),
            Box::pin(self.clone().devices()),
            Box::pin(self.clone().threads()),
            Box::pin(self.clone().archives()),
        ];
        for shard in 0..SHARDS {
            going.push(Box::pin(self.clone().shard(shard)));
        }
        for one in going {
            tokio::spawn(one);
        }
    }

    async fn minutes(self: Arc<World>) {
        loop {
            let world = self.clone();
            tokio::spawn(
                async move { world.invoke(|app| async move { schedule::handle(&app, json!({})).await }).await },
            );
            let world = self.clone();
            tokio::spawn(async move {
                let stop = CancellationToken::new();
                let ends = stop.clone();
                tokio::spawn(async move {
                    sleep(DELIVER_TIMEOUT - DELIVER_MARGIN).await;
                    ends.cancel();
                });
                world.invoke(|app| async move { deliver::handle(&app, json!({}), stop).await }).await
            });
            sleep(Duration::from_secs(60)).await;
        }
    }

    async fn ticks(self: Arc<World>) {
        loop {
            let world = &self;
            let done = self.invoke(|app| async move {
                let queue = app.settings.queues.realtime_ticks.clone();
                let Ok(given) = app.queue.receive(&queue, 1, Duration::from_secs(20)).await else { return false };
                for delivery in given {
                    let Body::Text(body) = &delivery.body else { continue };
                    let event = json!({ "Records": [{ "messageId": delivery.id, "body": body }] });
                    let taking = world.takes(|under_way| &mut under_way.bodies);
                    let answer = realtime::handle(&app, event).await.ok();
                    drop(taking);
                    let answer: Option<BatchResponse> = answer.and_then(|answer| serde_json::from_value(answer).ok());
                    if answer.is_some_and(|answer| answer.batch_item_failures.is_empty()) {
                        // Otherwise it comes again.
                        let _ = app.queue.settle(&queue, &[(delivery.receipt, Settle::Forget)]).await;
                    }
                }
                true
            });
            if done.await != Some(true) {
                sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn hours(self: Arc<World>) {
        loop {
            sleep(Duration::from_secs(3_600)).await;
            self.invoke(|app| async move { redrive::handle(&app, json!({})).await }).await;
        }
    }

    /// Counts a body, or an alert, as under way until this is dropped.
    fn takes(&self, what: fn(&mut UnderWay) -> &mut usize) -> Taking<'_> {
        *what(&mut self.under_way.lock()) += 1;
        Taking(self, what)
    }

    async fn shard(self: Arc<World>, at: usize) {
        loop {
            sleep(Duration::from_millis(1_000 + self.dice.below(500))).await;
            let batch: Vec<(u64, Value)> = {
                let shards = self.shards.lock();
                let shard = &shards[at];
                let again = if *self.repeats.lock() > 0 { shard.last.clone() } else { Vec::new() };
                again.into_iter().chain(shard.waiting.iter().take(100).cloned()).collect()
            };
            let Some(last) = batch.last().map(|(number, _)| *number) else { continue };
            let records: Vec<Value> = batch.into_iter().map(|(_, record)| record).collect();
            let taking = self.takes(|under_way| &mut under_way.bodies);
            let answer =
                self.invoke(|app| async move { stream::handle(&app, json!({ "Records": records })).await }).await;
            drop(taking);
            let Some(Ok(answer)) = answer else { continue };
            let Ok(answer) = serde_json::from_value::<BatchResponse>(answer) else { continue };
            let failed = answer.batch_item_failures.first().and_then(|item| item.item_identifier.parse().ok());
            let skips = self.plan.lie == Some(Lie::StreamSkipsReadings) && self.dice.once_in(50);
            self.shards.lock()[at].check_off(failed.unwrap_or(last + 1) + u64::from(skips));
        }
    }

    // ---- What is brought ----

    async fn passes(self: Arc<World>) {
        while !self.quiet.is_cancelled() {
            for _ in 0..1 + self.dice.below(8) {
                if self.quiet.is_cancelled() {
                    return;
                }
                self.source.pass(5 + self.dice.below(60), self.clock.now());
                sleep(self.dice.between(Duration::from_secs(30), Duration::from_secs(600))).await;
            }
            sleep(self.dice.between(Duration::from_secs(3_600), Duration::from_secs(4 * 3_600))).await;
        }
    }

    async fn devices(self: Arc<World>) {
        while !self.quiet.is_cancelled() {
            let device = self.dice.below(40);
            let shard = device as usize % SHARDS;
            self.shards.lock()[shard].put(shard, device, self.clock.now());
            sleep(Duration::from_millis(1 + self.dice.below(30_000))).await;
        }
    }

    async fn threads(self: Arc<World>) {
        let mut number = 0;
        while !self.quiet.is_cancelled() {
            sleep(self.dice.between(Duration::from_secs(1), Duration::from_secs(1_200))).await;
            if self.quiet.is_cancelled() {
                return;
            }
            for _ in 0..1 + self.dice.below(3) {
                number += 1;
                let ids = (0..1 + self.dice.below(4)).map(|at| format!("T{number}-{at}")).collect();
                let thread = Thread { ids, sent: self.clock.now(), drill: self.dice.once_in(5) };
                *self.sending.lock() += 1;
                tokio::spawn(self.clone().send(thread));
            }
        }
    }

    /// One sender, who goes on with the next message when the last one is accepted, and repeats what was not.
    async fn send(self: Arc<World>, thread: Thread) {
        for at in 0..thread.ids.len() {
            let body = thread.message(at);
            let offer = traffic::post(&self.key.lock(), &body);
            let mut taken = false;
            for _ in 0..OFFERS {
                let offer = offer.clone();
                let taking = self.takes(|under_way| &mut under_way.alerts);
                let answer = self.invoke(|app| async move { express::handle(&app, offer).await }).await;
                drop(taking);
                if let Some(Ok(answer)) = answer
                    && answer.response["statusCode"] == 200
                {
                    for (event, revision, drill) in traffic::accepted(&answer.response) {
                        self.judge.accepted((event, revision), if drill { Tier::Normal } else { Tier::Critical });
                    }
                    taken = true;
                    break;
                }
                sleep(OFFERED_AGAIN).await;
            }
            if !taken {
                self.judge.violated(format!("stuck: alert {} is not taken for a day", thread.ids[at]));
            }
            *self.offered.lock().entry("evacuation").or_default() += 1;
            // Some follow at once, others after minutes.
            let pause = if self.dice.once_in(2) { 100 } else { 300_000 };
            sleep(Duration::from_millis(1 + self.dice.below(pause))).await;
        }
        *self.sending.lock() -= 1;
    }

    async fn archives(self: Arc<World>) {
        let mut file = 0;
        while !self.quiet.is_cancelled() {
            sleep(self.dice.between(Duration::from_secs(1_200), Duration::from_secs(12 * 3_600))).await;
            if self.quiet.is_cancelled() {
                return;
            }
            let rows = 200 + self.dice.below(2_500);
            let body = traffic::archive(file, rows);
            file += 1;
            *self.sending.lock() += 1;
            let source = SourceId::new("historical_firms").expect("an id");
            let taken = self.load(&source, &body).await;
            *self.sending.lock() -= 1;
            if !taken {
                self.judge.violated("stuck: an archive is not taken for a day");
            }
            *self.offered.lock().entry("historical").or_default() += rows;
        }
    }

    async fn load(&self, source: &SourceId, body: &bytes::Bytes) -> bool {
        for _ in 0..OFFERS {
            let taking = self.takes(|under_way| &mut under_way.bodies);
            let taken = self.invoke(|app| async move {
                let stream = Stream {
                    id: StreamId::new("archive").expect("an id"),
                    source: source.clone(),
                    tenant: TenantId::new("research").expect("an id"),
                    granted: false,
                    when_full: WhenFull::Wait,
                };
                let context = Context { source, received_at: app.clock.now(), topic: None, message: None };
                let format = sources::format_of(source).expect("a format");
                let rows = format.rows(body, context).expect("a table");
                let (mut seen, mut ledger) = (Seen::of_tenant(&stream.tenant), Ledger::default());
                ingest(&app, &stream, &mut seen, &mut ledger, rows).await.is_ok()
            });
            let taken = taken.await;
            drop(taking);
            if taken == Some(true) {
                return true;
            }
            sleep(OFFERED_AGAIN).await;
        }
        false
    }

    /// Nothing new comes and nothing is wrong any more.
    pub(crate) async fn mend(&self) {
        self.quiet.cancel();
        self.broker.set(|health| *health = Default::default());
        self.queue_faults.quiet();
        self.store_faults.quiet();
        self.disk.fail_after(None);
        self.disk.fail_syncs(0);
        *self.repeats.lock() = 0;
        self.source.set_away(false);
        self.source.is_to_answer();
        self.judge.mended();
        match self.embedded() {
            None => self.start().await,
            Some(embedded) if embedded.trust().check().is_err() => self.restart().await,
            Some(_) => {}
        }
    }

    /// Whether everything is where it belongs.
    pub(crate) fn is_done(&self) -> bool {
        self.source.has_answered()
            && self.judge.outstanding().is_empty()
            && *self.sending.lock() == 0
            && self.shards.lock().iter().all(|shard| shard.waiting.is_empty())
    }

    /// What is still under way, in words.
    pub(crate) fn left(&self) -> String {
        let waiting: usize = self.shards.lock().iter().map(|shard| shard.waiting.len()).sum();
        let source = if self.source.has_answered() { "" } else { "the polled source, " };
        format!(
            "{source}{} records, {} senders, {waiting} readings",
            self.judge.outstanding().len(),
            *self.sending.lock()
        )
    }

    /// What was offered, by what its source id begins with.
    pub(crate) fn offered(&self) -> BTreeMap<&'static str, u64> {
        let mut offered = self.offered.lock().clone();
        offered.insert("firms", self.source.made());
        offered.insert("iot", self.shards.lock().iter().map(Shard::put_so_far).sum());
        offered
    }
}

/// See [`World::takes`].
struct Taking<'a>(&'a World, fn(&mut UnderWay) -> &mut usize);

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        *self.1(&mut self.0.under_way.lock()) -= 1;
    }
}

impl Process {
    fn kill(&self) {
        self.dead.cancel();
        self.app.tries.kill();
    }
}
