//! The whole second half in simulated time: embedded queue and store on a simulated disk, a sink in memory, and a fault
//! switch at each of them. One seed decides a run.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use streammanager::app::{App, Seams};
use streammanager::control::connector::Registration;
use streammanager::control::{caller, connectors};
use streammanager::deliver::deliver;
use streammanager::embedded::FileBlobs;
use streammanager::embedded::{Commits, Embedded, MemoryDisk, Options};
use streammanager::error::BackendError;
use streammanager::express::{Incoming, Verdict, express};
use streammanager::faults::sink::FaultySink;
use streammanager::faults::upstream::Scripted;
use streammanager::faults::{Faults, Faulty};
use streammanager::ingest::dedup::Seen;
use streammanager::ingest::{IngestError, Ledger, ingest};
use streammanager::queue::Depth;
use streammanager::record::{
    ConnectorId, Data, Draft, EventId, Observation, Origin, Outgoing, SourceId, Stream, StreamId, TenantId, Tier,
    WhenFull,
};
use streammanager::settings::Settings;
use streammanager::sink::Lane;
use streammanager::sources::identify;
use streammanager::time::{Clock, Rng, Timestamp, WallClock};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A body is offered so often, a fiftieth of a second apart: longer than any fault of the tests lasts.
const OFFERS: usize = 500_000;

/// One process's world, and what outlives it: the disk and the sink.
pub struct Simulated {
    pub app: App,
    pub sink: Arc<FaultySink>,
    pub queue_faults: Faults,
    pub store_faults: Faults,
    /// The host's clock, to be set.
    pub wall: WallClock,
    disk: MemoryDisk,
    rng: Rng,
    folder: TempDir,
}

impl Simulated {
    pub fn new(seed: u64) -> Simulated {
        let (disk, folder, sink) = (MemoryDisk::new(), tempfile::tempdir().unwrap(), Arc::new(FaultySink::memory()));
        let rng = Rng::seeded(seed);
        let (clock, wall) = Clock::settable("2026-09-01T19:00:00Z".parse().unwrap());
        let (queue_faults, store_faults) = (Faults::none(), Faults::none());
        let app = process(&disk, &folder, &sink, &queue_faults, &store_faults, clock, &rng);
        Simulated { app, sink, queue_faults, store_faults, wall, disk, rng, folder }
    }

    /// `kill -9` and a power cut, and a new process. The old one's tries at the broker end with it; whoever still holds its
    /// `App` reaches nothing durable.
    pub fn crash(&mut self) {
        self.app.tries.kill();
        self.disk.crash(&self.rng);
        let clock = self.app.clock.clone();
        self.app =
            process(&self.disk, &self.folder, &self.sink, &self.queue_faults, &self.store_faults, clock, &self.rng);
    }

    /// The data folder.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Delivers in the background until it is stopped or aborted.
    pub fn deliver(&self) -> Delivering {
        let (app, stop) = (self.app.clone(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move { deliver(&app, &stopped).await });
        Delivering { task, stop }
    }

    /// A body of `records` numbered records of `source`, offered until all are accepted.
    pub async fn ingest(&self, source: &str, numbers: std::ops::Range<usize>) -> Vec<EventId> {
        let stream = stream(source);
        let drafts: Vec<Draft> = numbers.map(|n| draft(&stream.source, n, self.app.clock.now())).collect();
        for _ in 0..OFFERS {
            let (mut seen, mut ledger) = (Seen::of_tenant(&stream.tenant), Ledger::default());
            match ingest(&self.app, &stream, &mut seen, &mut ledger, drafts.iter().cloned().map(Ok)).await {
                Ok(()) => return drafts.into_iter().map(|draft| draft.event).collect(),
                Err(IngestError::Backend(BackendError::Fatal(problem))) => panic!("{problem}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        panic!("{source}: {OFFERS} offers were not taken")
    }

    /// Registers a sender with a critical grant; gives its key.
    pub async fn sender(&self, id: &str) -> String {
        let registration = Registration {
            id: ConnectorId::new(id).unwrap(),
            tenant: TenantId::new("test").unwrap(),
            sources: vec![SourceId::new(&format!("evacuation_alert_{id}")).unwrap()],
            critical: true,
            principal: None,
        };
        let key = connectors::register(&self.app, registration, "a test").await.unwrap();
        key.reveal().to_owned()
    }

    pub async fn alert(&self, key: &str, body: String) -> Verdict {
        send_alert(&self.app, key, body).await
    }

    /// As three failed tries in a row open it [R2].
    pub fn open_breaker(&self, lane: Lane) {
        for _ in 0..3 {
            self.app.breakers.lane(lane).record(false);
        }
    }

    pub async fn depth(&self, tier: Tier) -> Depth {
        self.app.queue.depth(self.app.settings.queues.tier(tier)).await.unwrap()
    }

    pub async fn queued(&self) -> u64 {
        let mut queued = 0;
        for tier in Tier::ALL {
            queued += self.depth(tier).await.total();
        }
        queued
    }

    /// Waits until nothing is queued.
    ///
    /// # Panics
    /// When that takes longer than `within`.
    pub async fn drained(&self, within: Duration) {
        let until = tokio::time::Instant::now() + within;
        while self.queued().await > 0 {
            assert!(tokio::time::Instant::now() < until, "{} messages are still queued", self.queued().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the sink stored of one topic, in order.
    pub fn stored(&self, topic: &str) -> Vec<Outgoing> {
        self.sink.stored().into_iter().filter(|record| record.topic.name() == topic).collect()
    }
}

/// A delivery that runs.
pub struct Delivering {
    task: JoinHandle<Result<(), BackendError>>,
    stop: CancellationToken,
}

impl Delivering {
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// As a crash ends it: between any two steps.
    pub async fn abort(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub async fn send_alert(app: &App, key: &str, body: String) -> Verdict {
    let (body, received_at) = (Bytes::from(body), app.clock.now());
    match caller::by_key(app, key).await {
        Ok(caller) => {
            express(app, Incoming { caller: &caller, source: None, body, received_at, sender: None, lineage: None })
                .await
        }
        Err(problem) => Verdict::Unavailable { accepted: Vec::new(), problem },
    }
}

fn stream(source: &str) -> Stream {
    Stream {
        id: StreamId::new(source).unwrap(),
        source: SourceId::new(source).unwrap(),
        tenant: TenantId::new("test").unwrap(),
        granted: false,
        when_full: WhenFull::Wait,
    }
}

fn draft(source: &SourceId, n: usize, observed_at: Timestamp) -> Draft {
    let number = n.to_string();
    let read = Observation {
        origin: Origin::default(),
        source: source.clone(),
        observed_at,
        published_at: None,
        geometry: None,
        position: None,
        derived_from: None,
        quality: Vec::new(),
        alert: None,
        // Of every natural key a part is the number.
        data: Data::of(&json!({ "n": n, "satellite": number, "sensor_id": number, "identifier": number })).unwrap(),
        rank: 0,
    };
    identify(read).unwrap()
}

fn process(
    disk: &MemoryDisk,
    folder: &TempDir,
    sink: &Arc<FaultySink>,
    queue_faults: &Faults,
    store_faults: &Faults,
    clock: Clock,
    rng: &Rng,
) -> App {
    let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
    let embedded = Embedded::on_disk(disk, options).unwrap();
    App::new(
        Settings::local(),
        Seams {
            queue: Arc::new(Faulty::new(embedded.clone(), queue_faults.clone())),
            store: Arc::new(Faulty::new(embedded.clone(), store_faults.clone())),
            blobs: Arc::new(FileBlobs::open(folder.path(), Commits::Inline, embedded.trust().clone()).unwrap()),
            sink: sink.clone(),
            upstream: Arc::new(Scripted::new([])),
        },
        clock,
        rng.clone(),
    )
}
