//! One process whose streams are polled from a double of their sources, in simulated time.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use streammanager::app::{App, Seams};
use streammanager::embedded::{Commits, Embedded, FileBlobs, MemoryDisk, Options};
use streammanager::faults::sink::FaultySink;
use streammanager::queue::{Body, Settle};
use streammanager::record::{Envelope, StreamId, Tier};
use streammanager::schedule::file::StreamsFile;
use streammanager::schedule::streams::{self, PollState, Status};
use streammanager::schedule::ticks::Tick;
use streammanager::settings::Settings;
use streammanager::sink::Sink;
use streammanager::time::{Clock, Rng, Timestamp};
use streammanager::upstream::Upstream;
use streammanager_functions::{batch, realtime};
use tempfile::TempDir;

use crate::published;

/// A record as a topic gets it.
#[derive(Debug, Clone)]
pub struct Published {
    pub topic: &'static str,
    pub tier: Tier,
    pub key: String,
    pub value: Value,
}

impl Published {
    pub fn data(&self, field: &str) -> &Value {
        &self.value["data"][field]
    }

    /// What a consumer tells records apart by.
    pub fn identity(&self) -> (String, u64) {
        let event = self.value["event_id"].as_str().expect("every record has an id").to_owned();
        (event, self.value["revision"].as_u64().expect("every record has a revision"))
    }

    /// The fields that `quality` names, with what it says of them.
    pub fn said(&self) -> Vec<String> {
        let said = self.value["quality"].as_array().into_iter().flatten();
        let text = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
        said.map(|one| format!("{}: {}", text(one, "field"), text(one, "problem"))).collect()
    }
}

/// One process with streams, whose polls ask `upstream`.
pub struct PolledWorld {
    pub app: App,
    disk: MemoryDisk,
    folder: TempDir,
}

impl PolledWorld {
    pub async fn new(streams_file: &str, start: &str, settings: Settings, upstream: Arc<dyn Upstream>) -> PolledWorld {
        PolledWorld::into(Arc::new(FaultySink::memory()), streams_file, start, settings, upstream).await
    }

    /// The same before this sink, for those who deliver what is queued.
    pub async fn into(
        sink: Arc<dyn Sink>,
        streams_file: &str,
        start: &str,
        settings: Settings,
        upstream: Arc<dyn Upstream>,
    ) -> PolledWorld {
        let (disk, folder) = (MemoryDisk::new(), tempfile::tempdir().unwrap());
        let app = opened(&disk, &folder, Clock::simulated(start.parse().unwrap()), settings, sink, upstream);
        streams::apply(&app, &StreamsFile::parse(streams_file).unwrap(), false).await.unwrap();
        PolledWorld { app, disk, folder }
    }

    /// A tick of the first stream whose poll is killed eight seconds after it began, and the process with it; another one starts on the
    /// same disk.
    ///
    /// # Panics
    /// When the poll has ended by then.
    pub async fn killed(self) -> PolledWorld {
        let stream = streams::list(&*self.app.store).await.unwrap().remove(0).spec.id;
        let tick = Tick { stream, due_at: self.now() };
        let event = json!({"Records": [{"messageId": "1", "body": serde_json::to_string(&tick).unwrap()}]});
        let poll = tokio::time::timeout(Duration::from_secs(8), batch::handle(&self.app, event)).await;
        assert!(poll.is_err(), "the poll ended before it was killed: {poll:?}");
        self.disk.kill();
        let PolledWorld { app, disk, folder } = self;
        let App { settings, clock, sink, upstream, .. } = app;
        let app = opened(&disk, &folder, clock, (*settings).clone(), sink, upstream);
        tokio::time::advance(Duration::from_secs(60)).await;
        PolledWorld { app, disk, folder }
    }

    pub fn now(&self) -> Timestamp {
        self.app.clock.now()
    }

    /// The other streams and intervals of a file.
    pub async fn apply(&self, streams_file: &str) {
        streams::apply(&self.app, &StreamsFile::parse(streams_file).unwrap(), true).await.unwrap();
    }

    /// A tick of the first stream through the function that polls; what it put into the queues, each record held against its topic's
    /// published schema. A minute passes then.
    ///
    /// # Panics
    /// When a record breaks its schema.
    pub async fn poll(&self) -> Vec<Published> {
        let stream = streams::list(&*self.app.store).await.unwrap().remove(0).spec.id;
        self.poll_of(stream.as_str()).await
    }

    /// The same of the stream of this id.
    ///
    /// # Panics
    /// When a record breaks its schema.
    pub async fn poll_of(&self, stream: &str) -> Vec<Published> {
        let tick = Tick { stream: StreamId::new(stream).unwrap(), due_at: self.now() };
        let tick = serde_json::to_string(&tick).unwrap();
        let event = json!({"Records": [{"messageId": "1", "body": tick}]});
        let answer = match self.status_of(stream).await.mode.as_str() {
            "batch" => batch::handle(&self.app, event).await.unwrap(),
            _ => realtime::handle(&self.app, event).await.unwrap(),
        };
        assert_eq!(answer, json!({"batchItemFailures": []}));
        let records = self.queued().await;
        tokio::time::advance(Duration::from_secs(60)).await;
        records
    }

    /// What is known of the first stream's polls.
    pub async fn state(&self) -> PollState {
        self.status().await.poll
    }

    /// The first stream as `streams status` shows it.
    pub async fn status(&self) -> Status {
        let stream = streams::list(&*self.app.store).await.unwrap().remove(0).spec.id;
        self.status_of(stream.as_str()).await
    }

    async fn status_of(&self, stream: &str) -> Status {
        let stream = StreamId::new(stream).unwrap();
        let registered = streams::get(&*self.app.store, &stream).await.unwrap().unwrap();
        streams::status(&*self.app.store, &self.app.clock, &registered).await.unwrap()
    }

    /// What waits in the queues, taken out of them, each record held against its topic's published schema.
    ///
    /// # Panics
    /// When a record breaks its schema.
    pub async fn queued(&self) -> Vec<Published> {
        let mut records = Vec::new();
        for tier in Tier::ALL {
            let queue = self.app.settings.queues.tier(tier);
            loop {
                let received = self.app.queue.receive(queue, 10, Duration::ZERO).await.unwrap();
                if received.is_empty() {
                    break;
                }
                for delivery in received {
                    let Body::Binary(bytes) = &delivery.body else { panic!("an envelope is binary") };
                    for record in Envelope::decode(bytes).unwrap().unpack().unwrap() {
                        let value: Value = serde_json::from_slice(&record.value).unwrap();
                        published::assert_valid(record.topic.name(), &value);
                        records.push(Published { topic: record.topic.name(), tier, key: record.key, value });
                    }
                    self.app.queue.settle(queue, &[(delivery.receipt, Settle::Forget)]).await.unwrap();
                }
            }
        }
        records
    }
}

/// A process on this disk.
fn opened(
    disk: &MemoryDisk,
    folder: &TempDir,
    clock: Clock,
    settings: Settings,
    sink: Arc<dyn Sink>,
    upstream: Arc<dyn Upstream>,
) -> App {
    let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
    let embedded = Arc::new(Embedded::on_disk(disk, options).unwrap());
    let blobs = Arc::new(FileBlobs::open(folder.path(), Commits::Inline, embedded.trust().clone()).unwrap());
    let seams = Seams { queue: embedded.clone(), store: embedded, blobs, sink, upstream };
    App::new(settings, seams, clock, Rng::seeded(1))
}
