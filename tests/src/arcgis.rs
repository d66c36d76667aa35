//! What polls layers in tests: a process whose only source is a double of an ArcGIS server, and the double over HTTP.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use streammanager::app::{App, Seams};
use streammanager::embedded::{Commits, Embedded, FileBlobs, MemoryDisk, Options};
use streammanager::faults::arcgis::{LayerDouble, LayerFault};
use streammanager::faults::sink::FaultySink;
use streammanager::queue::{Body, Settle};
use streammanager::record::{Envelope, StreamId, Tier};
use streammanager::schedule::file::StreamsFile;
use streammanager::schedule::streams::{self, PollState};
use streammanager::schedule::ticks::Tick;
use streammanager::settings::Settings;
use streammanager::time::{Clock, Rng, Timestamp};
use streammanager::upstream::Upstream;
use streammanager_functions::realtime;
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
}

/// One process with streams, whose polls ask `upstream`.
pub struct LayerWorld {
    pub app: App,
    pub double: Arc<LayerDouble>,
    _folder: TempDir,
}

impl LayerWorld {
    pub async fn new(streams_file: &str, double: LayerDouble) -> LayerWorld {
        let double = Arc::new(double);
        LayerWorld::asking(streams_file, double.clone(), double).await
    }

    /// The same, whose upstream reaches the double in another way.
    pub async fn asking(streams_file: &str, double: Arc<LayerDouble>, upstream: Arc<dyn Upstream>) -> LayerWorld {
        let clock = Clock::simulated("2026-09-01T19:00:00Z".parse().unwrap());
        let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
        let embedded = Arc::new(Embedded::on_disk(&MemoryDisk::new(), options).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let app = App::new(
            Settings::local(),
            Seams {
                queue: embedded.clone(),
                store: embedded.clone(),
                blobs: Arc::new(FileBlobs::open(folder.path(), Commits::Inline, embedded.trust().clone()).unwrap()),
                sink: Arc::new(FaultySink::memory()),
                upstream,
            },
            clock,
            Rng::seeded(1),
        );
        streams::apply(&app, &StreamsFile::parse(streams_file).unwrap(), false).await.unwrap();
        LayerWorld { app, double, _folder: folder }
    }

    pub fn now(&self) -> Timestamp {
        self.app.clock.now()
    }

    /// The layer says that it has changed now.
    pub fn edited(&self) {
        let now = self.now().as_millisecond();
        self.double.set(|layer| layer.edited = Some(now));
    }

    /// A tick of the only stream through the function that polls; what it put into the queues, each record held against its topic's
    /// published schema. A minute passes then.
    ///
    /// # Panics
    /// When a record breaks its schema.
    pub async fn poll(&self) -> Vec<Published> {
        let stream = streams::list(&*self.app.store).await.unwrap().remove(0).spec.id;
        let tick = serde_json::to_string(&Tick { stream, due_at: self.now() }).unwrap();
        let event = json!({"Records": [{"messageId": "1", "body": tick}]});
        let answer = realtime::handle(&self.app, event).await.unwrap();
        assert_eq!(answer, json!({"batchItemFailures": []}));
        let records = self.queued().await;
        tokio::time::advance(Duration::from_secs(60)).await;
        records
    }

    /// What is known of the only stream's polls.
    pub async fn state(&self) -> PollState {
        let stream: StreamId = streams::list(&*self.app.store).await.unwrap().remove(0).spec.id;
        streams::poll_state(&*self.app.store, &stream).await.unwrap()
    }

    async fn queued(&self) -> Vec<Published> {
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

/// Serves the double over HTTP until the test's process ends; gives its address.
pub fn serve(double: Arc<LayerDouble>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("127.0.0.1 has a free port");
    let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let double = double.clone();
            std::thread::spawn(move || answer(&connection, &double));
        }
    });
    url
}

/// The client may hang up at any time.
fn answer(mut connection: &TcpStream, double: &LayerDouble) -> Option<()> {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next()?.ok()?;
    lines.map_while(Result::ok).find(String::is_empty)?;
    let (delay, response) = double.answer(first.split(' ').nth(1)?);
    std::thread::sleep(delay);
    let headers: String = response.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let endless = double.fault() == Some(LayerFault::Endless);
    let length = if endless { String::new() } else { format!("content-length: {}\r\n", response.body.len()) };
    let head = format!("HTTP/1.1 {} x\r\n{headers}{length}connection: close\r\n\r\n", response.status);
    connection.write_all(head.as_bytes()).ok()?;
    connection.write_all(&response.body).ok()?;
    if !endless {
        return Some(());
    }
    loop {
        connection.write_all(&[b' '; 65_536]).ok()?;
    }
}
