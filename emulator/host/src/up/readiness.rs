//! Readiness that tells the truth [O5], and the gauges of O1 that are read rather than counted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use streammanager::app::App;
use streammanager::embedded::Embedded;
use streammanager::record::Tier;
use streammanager::sink::{Kind, Lane};
use streammanager::store::{Expect, Key};
use streammanager_functions::ready::{self, Delivery, Intake, OK, Report, words};
use streammanager_functions::watch;
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
    /// What records go to.
    sink: Kind,
    pub(crate) kinesis: Arc<Vec<KinesisStream>>,
    /// How the last write went, and when; held while one is under way.
    written: Arc<Mutex<Option<(Instant, String)>>>,
}

impl Readiness {
    pub(crate) fn new(
        app: App,
        folder: Embedded,
        brokers: Brokers,
        sink: Kind,
        kinesis: Vec<KinesisStream>,
    ) -> Readiness {
        Readiness { app, folder, brokers, sink, kinesis: Arc::new(kinesis), written: Arc::default() }
    }

    pub(crate) async fn report(&self) -> Report {
        Report::new(self.intake().await, self.delivery().await)
    }

    /// The queues answer, the store takes a write, and the disk has room.
    async fn intake(&self) -> Intake {
        let queue = words(self.app.queue.depth(&self.app.settings.queues.critical).await.map(|_| ()));
        Intake::new(queue, self.store().await, Some(words(self.folder.room())))
    }

    /// The sink answers, no breaker holds anything back, and the disk is trusted.
    async fn delivery(&self) -> Delivery {
        let answers = match self.brokers.heard() {
            Heard::Answers(_) => OK.to_owned(),
            Heard::NothingYet => format!("{} has not answered yet", self.sink.proper_name()),
            Heard::Away(problem) => problem,
        };
        let disk = words(self.folder.trust().check());
        let breakers = Lane::ALL.map(|lane| self.app.breakers.lane(lane).state());
        Delivery::new(self.sink, Some(answers), Some(disk), Ok(breakers), ready::waiting(&self.app).await)
    }

    /// Whether the store takes a write: a full disk still reads.
    async fn store(&self) -> String {
        let mut written = self.written.lock().await;
        if let Some((_, how)) = written.as_ref().filter(|(at, _)| at.elapsed() < TRUE_FOR) {
            return how.clone();
        }
        let (key, expires) = (Key::new("health", "ready"), self.app.clock.now() + Duration::from_secs(60));
        let how = match self.app.store.put_if(&key, Bytes::new(), Expect::Any, Some(expires)).await {
            Ok(_) => OK.to_owned(),
            Err(e) => e.to_string(),
        };
        *written = Some((Instant::now(), how.clone()));
        how
    }

    /// Sets the gauges.
    pub(crate) async fn publish(&self) {
        watch::tell(&self.app).await;
        let connected = matches!(self.brokers.heard(), Heard::Answers(_));
        metrics::gauge!("stream_kafka_connection_status").set(f64::from(u8::from(connected)));
        let unread: u64 = self.kinesis.iter().map(KinesisStream::unread).sum();
        metrics::gauge!("stream_unread_readings").set(unread as f64);
        match self.folder.bytes() {
            Ok(bytes) => metrics::gauge!("stream_buffer_size_bytes").set(bytes as f64),
            Err(problem) => tracing::warn!(%problem, "how large the buffer is cannot be told"),
        }
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
