//! A template's queues, streams, rules, schedules and HTTP API in memory, around functions that a test plays [L5]: its event
//! sources are those of `up`, on whatever clock the test has, also a paused one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use streammanager::app::{App, Seams};
use streammanager::blobs::MemoryBlobs;
use streammanager::embedded::{Commits, Embedded, MemoryDisk, Options};
use streammanager::error::BackendError;
use streammanager::faults::sink::FaultySink;
use streammanager::faults::{Faults, Faulty};
use streammanager::queue::{Delivery, Queue, QueueRef, Settle};
use streammanager::settings::Settings;
use streammanager::sink::{Kind, Sink};
use streammanager::time::{Clock, Rng};
use streammanager::upstream::http::HttpUpstream;
use streammanager_functions::HandlerError;
use streammanager_functions::events::KinesisEvent;
use streammanager_mqtt_endpoint::{Endpoint, Gate, Publish, Refused, Taken};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::Destination;
use super::backends::queue_options;
use super::brokers::Brokers;
use super::floor::Floor;
use super::functions::Invocation;
use super::http::{self, Api, Rooms};
use super::invoke::Invoke;
use super::kinesis::{KinesisStream, Stores};
use super::processes::Uninvoked;
use super::readers::Readers;
use super::readiness::Readiness;
use super::rules::{self, Rules};
use super::triggers::Triggers;
use crate::exit::Failure;
use crate::template;

/// Plays the template's functions.
#[async_trait]
pub trait Play: Send + Sync {
    /// What the function answers, or the words of its error.
    async fn call(&self, function: &str, event: Value) -> Result<Value, String>;

    /// Whether the next call finds no environment: it does not reach the function.
    fn throttles(&self, _function: &str) -> bool {
        false
    }
}

/// What runs.
pub struct Laboratory {
    rules: Arc<Rules>,
    folder: Embedded,
    http: SocketAddr,
    mqtt: SocketAddr,
    _stop: DropGuard,
    _folder: TempDir,
}

/// The key that stands for a signed request.
pub const CONTROL_KEY: &str = "key";

struct Played(Arc<dyn Play>);

impl Laboratory {
    /// `faults` befall what rules, event sources and destinations do with queues.
    ///
    /// # Errors
    /// For a template that cannot be read, or not be run.
    pub async fn start(text: &str, clock: Clock, faults: Faults, play: Arc<dyn Play>) -> Result<Laboratory, Failure> {
        let template = template::parse(text, Path::new("template.yaml"), &BTreeMap::new()).map_err(Failure::new)?;
        let options =
            Options { commits: Commits::Inline, queues: queue_options(&template), ..Options::new(clock.clone()) };
        let folder = Embedded::on_disk(&MemoryDisk::new(), options)?;
        let (sink, rng): (Arc<dyn Sink>, _) = (Arc::new(FaultySink::memory()), Rng::seeded(1));
        let seams = Seams {
            queue: Arc::new(Faulty::new(folder.clone(), faults)),
            store: Arc::new(folder.clone()),
            blobs: Arc::new(MemoryBlobs::default()),
            sink: sink.clone(),
            upstream: Arc::new(HttpUpstream::new()?),
        };
        let app = App::new(Settings::local(), seams, clock.clone(), rng.clone());
        let mut kinesis = BTreeMap::new();
        for stream in &template.streams {
            let stores = Stores { store: Arc::new(folder.clone()), intake: Arc::new(folder.intake()) };
            let opened = KinesisStream::open(&stream.name, stream.shards, stores, &clock).await?;
            kinesis.insert(stream.name.clone(), opened);
        }
        let (notices, _) = mpsc::channel(rules::NOTICES);
        let readers = Readers { alerts_open_to_all: true };
        let floor = Floor::of(&Destination::Brokers(String::new()), &folder);
        let rules = Arc::new(Rules::new(app.clone(), &template.rules, kinesis.clone(), readers, floor, notices)?);
        let functions: Arc<dyn Invoke> = Arc::new(Played(play));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let triggers =
            Triggers { functions: &functions, app: &app, shared: false, kinesis: &kinesis, intake: &stop, work: &stop };
        let routes = triggers.start(&template, &tasks, &tasks).await?;
        let data = tempfile::tempdir().map_err(Failure::new)?;
        let readiness =
            Readiness::new(app, folder.clone(), Brokers::of(sink), Kind::Kafka, kinesis.into_values().collect());
        let api = Api {
            routes,
            functions,
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            readiness,
            data: data.path().to_owned(),
            folder: folder.clone(),
            control_key: CONTROL_KEY.to_owned(),
            handlers: TaskTracker::new(),
            rooms: Rooms::default(),
            clock,
            rng,
        };
        let (http, mqtt) = (local().await?, local().await?);
        let (http_at, mqtt_at) = (http.local_addr().map_err(Failure::new)?, mqtt.local_addr().map_err(Failure::new)?);
        tasks.spawn(http::serve(api, http, stop.clone()));
        tasks.spawn(Endpoint::new(rules.clone()).serve(mqtt, stop.clone()));
        Ok(Laboratory { rules, folder, http: http_at, mqtt: mqtt_at, _stop: stop.drop_guard(), _folder: data })
    }

    /// The queues, without the faults; what the template calls `NAME` is `local:NAME`.
    pub fn queue(&self) -> &dyn Queue {
        &self.folder
    }

    /// Publishes as an MQTT client without a name.
    ///
    /// # Errors
    /// In the gate's words.
    pub async fn publish(&self, topic: &str, payload: &[u8]) -> Result<Taken, Refused> {
        let publish = Publish {
            topic: topic.to_owned(),
            payload: payload.to_vec().into(),
            client_id: "client".to_owned(),
            identity: None,
            qos: 1,
            retain: false,
            dup: false,
            again: false,
        };
        self.rules.publish(publish).await
    }

    /// The bodies that wait in a queue; they are forgotten.
    ///
    /// # Errors
    /// Of the queue.
    pub async fn take(&self, queue: &QueueRef) -> Result<Vec<Delivery>, BackendError> {
        let mut all = Vec::new();
        loop {
            let came = self.folder.receive(queue, 10, Duration::ZERO).await?;
            let settled: Vec<_> = came.iter().map(|delivery| (delivery.receipt.clone(), Settle::Forget)).collect();
            if came.is_empty() {
                return Ok(all);
            }
            self.folder.settle(queue, &settled).await?;
            all.extend(came);
        }
    }

    /// Of the HTTP API.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// Of the MQTT endpoint.
    pub fn mqtt(&self) -> SocketAddr {
        self.mqtt
    }
}

async fn local() -> Result<TcpListener, Failure> {
    TcpListener::bind("127.0.0.1:0").await.map_err(Failure::new)
}

#[async_trait]
impl Invoke for Played {
    async fn invoke(&self, function: &str, event: Value) -> Result<Value, Invocation> {
        if self.0.throttles(function) {
            return Err(Uninvoked::Throttled(function.to_owned()).into());
        }
        let answer = self.0.call(function, event).await;
        answer.map_err(|words| HandlerError::from(BackendError::Fatal(words)).into())
    }

    async fn invoke_with_records(&self, function: &str, event: KinesisEvent) -> Result<Value, Invocation> {
        self.invoke(function, serde_json::to_value(event).map_err(HandlerError::from)?).await
    }
}
