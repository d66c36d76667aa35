//! The world of this host: the embedded backends in a data folder and the sink that the flags name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use streammanager::app::{App, Seams};
use streammanager::embedded::FileBlobs;
use streammanager::embedded::{Commits, Embedded, Options};
use streammanager::express::marks;
use streammanager::record::{Envelope, Tier};
use streammanager::settings::Settings;
use streammanager::sink::{FileSink, Sink};
use streammanager::time::{Clock, Rng};
use streammanager::upstream::{Request, Response, Unreachable, Upstream};

use crate::exit::Failure;

/// An App on this host, and the data folder's queues for counting.
pub struct Host {
    pub app: App,
    embedded: Embedded,
}

/// Marks a data folder that holds the made-up records of a demo.
const DEMO: &str = "demo";

pub(crate) fn is_demo(data: &Path) -> bool {
    data.join(DEMO).exists()
}

/// # Errors
/// For a demo's folder: what is queued there must not reach real brokers, nor real records its topics.
pub(crate) fn refuse_demo(data: &Path) -> Result<(), Failure> {
    if is_demo(data) {
        Err(Failure::new(format!(
            "{} holds the made-up records of a demo; name another folder with --data, or delete this one",
            data.display()
        )))
    } else {
        Ok(())
    }
}

#[cfg(feature = "up")]
pub(crate) fn mark_demo(data: &Path) -> Result<(), Failure> {
    let mark = data.join(DEMO);
    std::fs::write(&mark, "").map_err(|e| Failure::new(format!("{}: {e}", mark.display())))
}

impl Host {
    /// Opens the data folder for a run without a template: local queues, no sources to poll.
    pub async fn open(data: &Path, sink: Arc<dyn Sink>) -> Result<Host, Failure> {
        refuse_demo(data)?;
        sink.check().await.map_err(|e| {
            Failure::new(format!("the sink cannot be reached: {e}; start it, or name another with --out or --kafka"))
        })?;
        let clock = Clock::system();
        let embedded = Embedded::open(data, Options::new(clock.clone()))?;
        let app = App::new(
            Settings::local(),
            Seams {
                queue: Arc::new(embedded.clone()),
                store: Arc::new(embedded.clone()),
                blobs: Arc::new(FileBlobs::open(data, Commits::Grouped)?),
                sink,
                upstream: Arc::new(NoUpstream),
            },
            clock,
            Rng::from_os().map_err(Failure::new)?,
        );
        Ok(Host { app, embedded })
    }

    /// Records that wait in the tiers' queues.
    pub async fn queued_records(&self) -> Result<u64, Failure> {
        queued_records(&self.embedded, &self.app.settings).await
    }

    pub async fn is_drained(&self) -> Result<bool, Failure> {
        for tier in Tier::ALL {
            if self.app.queue.depth(self.app.settings.queues.tier(tier)).await?.total() > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Counted from the envelopes' heads: a counter beside the queue could differ from it. The copy of an alert that the broker
/// acknowledged is no record more.
pub async fn queued_records(embedded: &Embedded, settings: &Settings) -> Result<u64, Failure> {
    let (mut records, mut copies) = (0, Vec::new());
    for tier in Tier::ALL {
        embedded.each_body(settings.queues.tier(tier), |body| {
            match Envelope::decode(&Bytes::copy_from_slice(body)) {
                Ok(envelope) if tier == Tier::Critical => copies.push(envelope.id),
                Ok(envelope) => records += u64::from(envelope.count),
                Err(_) => records += 1,
            }
        })?;
    }
    // A CRITICAL envelope holds one alert.
    for id in copies {
        records += u64::from(!marks::is_void(embedded, id).await);
    }
    Ok(records)
}

/// The Kafka sink, its topics prefixed.
#[cfg(feature = "up")]
pub fn kafka_sink(brokers: &str, topic_prefix: &str) -> Result<Arc<dyn Sink>, Failure> {
    use streammanager::sink::kafka::{KafkaSettings, KafkaSink};
    let settings =
        KafkaSettings::plaintext(brokers, topic_prefix).map_err(|e| Failure::new(format!("--kafka: {e}")))?;
    Ok(Arc::new(KafkaSink::connect(&settings)?))
}

/// Serves `app` on a free port of this host until the process ends; `name` is said when it ends before.
#[cfg(feature = "up")]
pub(crate) async fn serve(name: &'static str, app: axum::Router) -> Result<std::net::SocketAddr, Failure> {
    let failed = |e| Failure::new(format!("{name}: {e}"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move {
        if let Err(e) = axum::serve(listener, app).await {
            tracing::error!(%e, "{name} ended");
        }
    });
    Ok(at)
}

/// The sink of `--out` or `--kafka`.
pub fn sink(out: Option<&Path>, kafka: Option<&str>) -> Result<Arc<dyn Sink>, Failure> {
    match (out, kafka) {
        (Some(folder), _) => Ok(Arc::new(FileSink::open(folder)?)),
        #[cfg(feature = "up")]
        (None, Some(brokers)) => kafka_sink(brokers, ""),
        #[cfg(not(feature = "up"))]
        (None, Some(_)) => Err(Failure::new("--kafka: this build has no Kafka client; build with default features")),
        (None, None) => Err(Failure::new("name a sink: --out DIR or --kafka HOST:PORT")),
    }
}

/// `ingest` reads files only.
struct NoUpstream;

#[async_trait]
impl Upstream for NoUpstream {
    async fn call(&self, request: &Request, _: Duration) -> Result<Response, Unreachable> {
        Err(Unreachable::Failed(format!("{} is not called: this command reads files only", request.url)))
    }
}
