//! Readiness that tells the truth [O5], and the gauges of O1 that are read rather than counted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use streammanager::app::App;
use streammanager::breaker::BreakerState;
use streammanager::embedded::Embedded;
use streammanager::error::BackendError;
use streammanager::record::Tier;
use streammanager::schedule::streams;
use streammanager::sink::Lane;
use streammanager::store::{Expect, Key};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::asynchronous::INVOCATIONS;
use super::brokers::{Brokers, Heard};
use super::kinesis::KinesisStream;

/// Anyone may ask; the store is written to once in this time.
const TRUE_FOR: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Readiness {
    app: App,
    folder: Embedded,
    brokers: Brokers,
    pub(crate) kinesis: Arc<Vec<KinesisStream>>,
    /// How the last write went, and when; held while one is under way.
    written: Arc<Mutex<Option<(Instant, String)>>>,
}

/// Two answers: a load balancer asks whether this system takes in, and it does while Kafka is away (DESIGN 20).
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// As `intake.ready`.
    pub(crate) ready: bool,
    pub(crate) intake: Intake,
    pub(crate) delivery: Delivery,
}

/// Whether what comes is taken in durably: `ok`, or what is wrong.
#[derive(Debug, Serialize)]
pub(crate) struct Intake {
    pub(crate) ready: bool,
    queue: String,
    store: String,
    disk: String,
}

/// Whether what was taken in goes out.
#[derive(Debug, Serialize)]
pub(crate) struct Delivery {
    pub(crate) ready: bool,
    kafka: String,
    /// Whether what goes out can be forgotten: a full disk has a reserve for that, a distrusted one is not written.
    disk: String,
    critical: &'static str,
    bulk: &'static str,
    /// Messages in the tiers' queues.
    pub(crate) waiting: u64,
}

const OK: &str = "ok";

fn words(outcome: Result<(), BackendError>) -> String {
    outcome.map_or_else(|e| e.to_string(), |()| OK.to_owned())
}

impl Intake {
    pub(crate) fn problem(&self) -> Option<String> {
        [&self.disk, &self.store, &self.queue].into_iter().find(|how| *how != OK).cloned()
    }
}

impl Delivery {
    pub(crate) fn problem(&self) -> Option<String> {
        if self.ready {
            return None;
        }
        if self.disk != OK {
            return Some(self.disk.clone());
        }
        Some(match (self.kafka.as_str(), self.critical) {
            (OK, OK) => format!("HIGH, NORMAL and LOW: {}", self.bulk),
            (OK, critical) => format!("CRITICAL: {critical}"),
            (kafka, _) => kafka.to_owned(),
        })
    }
}

impl Readiness {
    pub(crate) fn new(app: App, folder: Embedded, brokers: Brokers, kinesis: Vec<KinesisStream>) -> Readiness {
        Readiness { app, folder, brokers, kinesis: Arc::new(kinesis), written: Arc::default() }
    }

    pub(crate) async fn report(&self) -> Report {
        let intake = self.intake().await;
        Report { ready: intake.ready, intake, delivery: self.delivery().await }
    }

    /// The queues answer, the store takes a write, and the disk has room.
    async fn intake(&self) -> Intake {
        let queue = words(self.app.queue.depth(&self.app.settings.queues.critical).await.map(|_| ()));
        let (store, disk) = (self.store().await, words(self.folder.room()));
        let ready = queue == OK && store == OK && disk == OK;
        Intake { ready, queue, store, disk }
    }

    /// Kafka answers, no breaker holds anything back, and the disk is trusted.
    async fn delivery(&self) -> Delivery {
        let kafka = match self.brokers.heard() {
            Heard::Answers(_) => OK.to_owned(),
            Heard::NothingYet => "Kafka has not answered yet".to_owned(),
            Heard::Away(problem) => problem,
        };
        let breaker = |lane| match self.app.breakers.lane(lane).state() {
            BreakerState::Closed => OK,
            BreakerState::Open => "the circuit breaker is open",
            BreakerState::HalfOpen => "the circuit breaker lets one try through",
        };
        let disk = words(self.folder.trust().check());
        let (critical, bulk) = (breaker(Lane::Critical), breaker(Lane::Bulk));
        let mut waiting = 0;
        for tier in Tier::ALL {
            waiting += self.app.queue.depth(self.app.settings.queues.tier(tier)).await.map_or(0, |depth| depth.total());
        }
        let ready = kafka == OK && disk == OK && critical == OK && bulk == OK;
        Delivery { ready, kafka, disk, critical, bulk, waiting }
    }

    /// Whether the store takes a write: a full disk still reads.
    async fn store(&self) -> String {
        let mut written = self.written.lock().await;
        if let Some((_, how)) = written.as_ref().filter(|(at, _)| at.elapsed() < TRUE_FOR) {
            return how.clone();
        }
        let (key, expires) = (Key::new("health", "ready"), self.app.clock.now() + Duration::from_secs(60));
        let how = match self.app.store.put_if(&key, Bytes::new(), Expect::Any, Some(expires)).await {
            Ok(_) => "ok".to_owned(),
            Err(e) => e.to_string(),
        };
        *written = Some((Instant::now(), how.clone()));
        how
    }

    /// Sets the gauges.
    pub(crate) async fn publish(&self) {
        for tier in Tier::ALL {
            if let Ok(depth) = self.app.queue.depth(self.app.settings.queues.tier(tier)).await {
                metrics::gauge!("stream_queue_depth", "priority" => tier.name()).set(depth.total() as f64);
            }
        }
        for (lane, name) in [(Lane::Critical, "critical"), (Lane::Bulk, "bulk")] {
            let state = self.app.breakers.lane(lane).state().figure();
            metrics::gauge!("stream_circuit_breaker_state", "lane" => name).set(state);
        }
        let connected = matches!(self.brokers.heard(), Heard::Answers(_));
        metrics::gauge!("stream_kafka_connection_status").set(f64::from(u8::from(connected)));
        if let Ok(streams) = streams::list(&*self.app.store).await {
            let (now, mut throttled) = (self.app.clock.now(), 0_u32);
            for registered in &streams {
                let state = streams::poll_state(&*self.app.store, &registered.spec.id).await.unwrap_or_default();
                throttled += u32::from(registered.started && state.is_throttled(now));
                if let Some(at) = state.last_success {
                    let id = registered.spec.id.to_string();
                    metrics::gauge!("stream_last_good_poll_timestamp_seconds", "stream_id" => id)
                        .set(at.as_second() as f64);
                }
            }
            metrics::gauge!("stream_throttling_active").set(throttled);
            let active = streams.iter().filter(|stream| stream.started).count();
            metrics::gauge!("stream_active_streams").set(active as f64);
        }
        let unread: u64 = self.kinesis.iter().map(KinesisStream::unread).sum();
        metrics::gauge!("stream_unread_readings").set(unread as f64);
    }

    /// Messages over MQTT that `express` has not taken: those of this host, and those that failed and are tried again, unless
    /// the endpoint of their queue is away.
    pub(crate) async fn unheard(&self) -> u64 {
        let invocations = self.folder.depths().into_iter().filter(|(queue, _)| queue.as_str().starts_with(INVOCATIONS));
        let retried = self.app.queue.depth(&self.app.settings.queues.express_retry).await;
        invocations.map(|(_, depth)| depth.total()).sum::<u64>() + retried.map_or(0, |depth| depth.total())
    }

    /// Waits until every tier's queue and stream is empty and `express` has all alerts, `within` at most.
    pub(crate) async fn drained(&self, within: Duration) -> bool {
        let drained = async {
            loop {
                let mut waiting: u64 = self.kinesis.iter().map(KinesisStream::unread).sum();
                waiting += self.unheard().await;
                for tier in Tier::ALL {
                    waiting += self.app.queue.depth(self.app.settings.queues.tier(tier)).await.map_or(1, |d| d.total());
                }
                if waiting == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(within, drained).await.is_ok()
    }
}
