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

use super::kinesis::Shard;

#[derive(Clone)]
pub(crate) struct Readiness {
    pub(crate) app: App,
    pub(crate) shards: Arc<Vec<Shard>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) ready: bool,
    pub(crate) queue: String,
    pub(crate) store: String,
    pub(crate) sink: String,
}

impl Readiness {
    /// Ready: the queues answer, the store takes a write, and the critical lane's last try reached the sink.
    pub(crate) async fn report(&self) -> Report {
        let queue = self.app.queue.depth(&self.app.settings.queues.critical).await.map(drop);
        let expires = self.app.clock.now() + Duration::from_secs(60);
        // A full disk still reads.
        let key = Key::new("health", "ready");
        let written = self.app.store.put_if(&key, Bytes::new(), Expect::Any, Some(expires));
        let shown = |result: Result<(), String>| result.err().unwrap_or_else(|| "ok".to_owned());
        let queue = shown(queue.map_err(|e| e.to_string()));
        let store = shown(written.await.map(drop).map_err(|e| e.to_string()));
        let critical = self.app.breakers.lane(Lane::Critical);
        let sink = match critical.state() {
            BreakerState::Closed if critical.is_well() => "ok",
            BreakerState::Closed => "the last try failed",
            BreakerState::Open => "the circuit breaker is open",
            BreakerState::HalfOpen => "the circuit breaker is half-open",
        };
        Report { ready: queue == "ok" && store == "ok" && sink == "ok", queue, store, sink: sink.into() }
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
        let unread: u64 = self.shards.iter().map(Shard::unread).sum();
        metrics::gauge!("stream_unread_readings").set(unread as f64);
    }

    /// Waits until every tier's queue and stream is empty, `within` at most.
    pub(crate) async fn drained(&self, within: Duration) -> bool {
        let drained = async {
            loop {
                let mut waiting: u64 = self.shards.iter().map(Shard::unread).sum();
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
