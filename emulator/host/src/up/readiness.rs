//! Readiness that tells the truth [O5], and the gauges of O1 that are read rather than counted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use streammanager::app::App;
use streammanager::deliver::breaker::BreakerState;
use streammanager::record::Tier;
use streammanager::schedule::streams;
use streammanager::sink::Lane;
use streammanager::store::{Expect, Key};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::kinesis::KinesisStream;

/// Anyone may ask; the store is written to once in this time.
const TRUE_FOR: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Readiness {
    app: App,
    pub(crate) kinesis: Arc<Vec<KinesisStream>>,
    /// How the last write went, and when; held while one is under way.
    written: Arc<Mutex<Option<(Instant, String)>>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) ready: bool,
    pub(crate) queue: String,
    pub(crate) store: String,
    pub(crate) sink: String,
}

impl Readiness {
    pub(crate) fn new(app: App, kinesis: Vec<KinesisStream>) -> Readiness {
        Readiness { app, kinesis: Arc::new(kinesis), written: Arc::default() }
    }

    /// Ready: the queues answer, the store takes a write, and the critical lane's last try reached the sink.
    pub(crate) async fn report(&self) -> Report {
        let queue = match self.app.queue.depth(&self.app.settings.queues.critical).await {
            Ok(_) => "ok".to_owned(),
            Err(e) => e.to_string(),
        };
        let store = self.store().await;
        let critical = self.app.breakers.lane(Lane::Critical);
        let sink = match critical.state() {
            BreakerState::Closed if critical.is_well() => "ok",
            BreakerState::Closed => "the last try failed",
            BreakerState::Open => "the circuit breaker is open",
            BreakerState::HalfOpen => "the circuit breaker is half-open",
        };
        Report { ready: queue == "ok" && store == "ok" && sink == "ok", queue, store, sink: sink.into() }
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
            let state = match self.app.breakers.lane(lane).state() {
                BreakerState::Closed => 0.0,
                BreakerState::Open => 1.0,
                BreakerState::HalfOpen => 2.0,
            };
            metrics::gauge!("stream_circuit_breaker_state", "lane" => name).set(state);
        }
        let connected = [Lane::Critical, Lane::Bulk].iter().all(|lane| self.app.breakers.lane(*lane).is_well());
        metrics::gauge!("stream_kafka_connection_status").set(f64::from(u8::from(connected)));
        if let Ok(streams) = streams::list(&self.app).await {
            let active = streams.iter().filter(|stream| stream.started).count();
            metrics::gauge!("stream_active_streams").set(active as f64);
        }
        let unread: u64 = self.kinesis.iter().map(KinesisStream::unread).sum();
        metrics::gauge!("stream_unread_readings").set(unread as f64);
    }

    /// Waits until every tier's queue and stream is empty, `within` at most.
    pub(crate) async fn drained(&self, within: Duration) -> bool {
        let drained = async {
            loop {
                let mut waiting: u64 = self.kinesis.iter().map(KinesisStream::unread).sum();
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
