//! An App on this host: the embedded backends in a data folder and the sink that the flags name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use streammanager::app::{App, Seams};
#[cfg(feature = "aws")]
use streammanager::aws::Aws;
use streammanager::embedded::{Commits, Embedded, FileBlobs, FolderProvenance, Options};
use streammanager::error::BackendError;
use streammanager::record::Tier;
use streammanager::settings::Settings;
#[cfg(feature = "up")]
use streammanager::sink::kafka::{KafkaSettings, KafkaSink};
use streammanager::sink::{FileSink, Sink};
use streammanager::time::{Clock, Rng};
#[cfg(feature = "up")]
use streammanager::upstream::http;
use streammanager::upstream::{Request, Response, Unreachable, Upstream};

use crate::exit::Failure;
use crate::folder;

/// An App on this host, and the data folder's queues for counting.
pub struct Host {
    /// The library's world, over the embedded backends.
    pub app: App,
    /// Why the sink does not answer: what is accepted waits in the queues [R5].
    pub sink_away: Option<String>,
    embedded: Embedded,
}

impl Host {
    /// Opens the data folder for a run without a template: local queues, no sources to poll.
    pub async fn open(data: &Path, sink: Arc<dyn Sink>) -> Result<Host, Failure> {
        folder::refuse_demo(data)?;
        let sink_away = match sink.check().await {
            Ok(_) => None,
            Err(BackendError::Retry(problem)) => Some(problem),
            Err(BackendError::Fatal(problem)) => {
                return Err(Failure::new(format!("{problem}; or name another sink with --out or --kafka")));
            }
        };
        let clock = Clock::system();
        let embedded = Embedded::open(data, Options::new(clock.clone()))?;
        let app = App::new(
            Settings::local(),
            Seams {
                queue: Arc::new(embedded.clone()),
                store: Arc::new(embedded.clone()),
                blobs: Arc::new(FileBlobs::open(data, Commits::Grouped, embedded.trust().clone())?),
                sink,
                upstream: Arc::new(NoUpstream),
            },
            clock,
            Rng::from_os().map_err(Failure::new)?,
        );
        let app = App { provenance: Arc::new(FolderProvenance::open(data)?), ..app };
        Ok(Host { app, sink_away, embedded })
    }

    /// As `open`, for what is of no use without the sink.
    pub async fn reaching(data: &Path, sink: Arc<dyn Sink>) -> Result<Host, Failure> {
        let host = Host::open(data, sink).await?;
        match &host.sink_away {
            None => Ok(host),
            Some(problem) => Err(Failure::new(format!("{problem}; start it, or name another with --kafka"))),
        }
    }

    /// Records that wait in the tiers' queues.
    pub async fn queued_records(&self) -> Result<u64, Failure> {
        folder::queued_records(&self.embedded, &self.app.settings).await
    }

    /// Whether nothing waits in the tiers' queues.
    pub async fn is_drained(&self) -> Result<bool, Failure> {
        for tier in Tier::ALL {
            if self.app.queue.depth(self.app.settings.queues.tier(tier)).await?.total() > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Brokers of others; how they are spoken to is in the environment, as for the functions.
#[cfg(feature = "up")]
pub fn kafka_settings(brokers: &str, topic_prefix: &str) -> Result<KafkaSettings, Failure> {
    KafkaSettings::at(brokers, topic_prefix, &std::env::vars().collect()).map_err(Failure::new)
}

/// The sink of such brokers, its topics prefixed.
#[cfg(feature = "up")]
pub fn kafka_sink(brokers: &str, topic_prefix: &str) -> Result<Arc<dyn Sink>, Failure> {
    Ok(Arc::new(KafkaSink::connect(&kafka_settings(brokers, topic_prefix)?)?))
}

/// The sink on Kinesis at `url`, its streams prefixed.
#[cfg(feature = "aws")]
pub(crate) async fn kinesis_sink(url: &str, topic_prefix: &str) -> Result<Arc<dyn Sink>, Failure> {
    let aws = Aws::connect(Some(url), &region()).await;
    Ok(Arc::new(aws.sink(topic_prefix).map_err(Failure::new)?))
}

/// This build has no client of Kinesis.
#[cfg(not(feature = "aws"))]
pub(crate) async fn kinesis_sink(url: &str, _: &str) -> Result<Arc<dyn Sink>, Failure> {
    Err(Failure::new(format!("--kinesis {url}: this build has no AWS clients; build with --features aws")))
}

/// Where AWS is asked, unless `AWS_REGION` says otherwise: where the template says that the stack is.
#[cfg(feature = "aws")]
pub(crate) fn region() -> String {
    let named = std::env::var("AWS_REGION").ok().filter(|region| !region.trim().is_empty());
    named.unwrap_or_else(|| crate::template::REGION.to_owned())
}

/// Serves `app` on a free port of this host until the process ends; `name` is said when it ends before.
#[cfg(feature = "up")]
pub async fn serve(name: &'static str, app: axum::Router) -> Result<std::net::SocketAddr, Failure> {
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

/// An HTTP client of this host.
#[cfg(feature = "up")]
pub fn http_client() -> reqwest::Client {
    http::client(reqwest::Client::builder()).expect("nothing is set that could be wrong")
}

/// The sink of `--out`, `--kafka` or `--kinesis`.
pub async fn sink(out: Option<&Path>, kafka: Option<&str>, kinesis: Option<&str>) -> Result<Arc<dyn Sink>, Failure> {
    match (out, kafka, kinesis) {
        (Some(folder), ..) => Ok(Arc::new(FileSink::open(folder)?)),
        #[cfg(feature = "up")]
        (_, Some(brokers), _) => kafka_sink(brokers, ""),
        #[cfg(not(feature = "up"))]
        (_, Some(_), _) => Err(Failure::new("--kafka: this build has no Kafka client; build with default features")),
        (_, _, Some(url)) => kinesis_sink(url, "").await,
        (None, None, None) => Err(Failure::new("name a sink: --out, --kafka HOST:PORT or --kinesis URL")),
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
