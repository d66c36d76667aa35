//! The embedded Kafka endpoint: one development node that Kafka's own clients can use. Record batches are appended as they
//! come to segment files; names and offsets are in redb. Here: opening, serving, stopping. What a request means is in the
//! file named after it; the wire is in `wire`.
//!
//! What it refuses on purpose, always with an error and never in silence:
//! - transactions, and with them exactly-once Kafka Streams and Connect sources (TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
//! - more than one replica of a topic (INVALID_REPLICATION_FACTOR), and remote storage (INVALID_CONFIG);
//! - TLS, SASL, ACLs, quotas and delegation tokens: it listens on this host alone;
//! - `group.protocol=consumer` and share groups: groups are coordinated by the classic protocol;
//! - record formats that are older than Kafka 0.11, and fetch sessions;
//! - changes of its broker settings that would change something; the limits of `limits.rs`.
//!
//! What differs and is accepted: `cleanup.policy=compact` keeps every record; a topic's settings without a meaning on one
//! node change nothing, and DescribeConfigs says so of each; the age of a record is counted from its writing for five
//! minutes, whatever its timestamp.

mod apis;
mod batch;
mod bounds;
mod cluster;
mod configs;
mod connections;
mod damage;
mod fetch;
mod group;
mod groups;
mod limits;
mod list_offsets;
mod log;
mod lookup;
mod meta;
mod offsets;
mod partition;
mod produce;
mod producers;
mod room;
#[cfg(test)]
mod sample_requests;
mod segment;
mod settings;
mod topics;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use streammanager::embedded::{create_whole, missing, without_panic};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connections::{Admission, Connections, Counted, Flood};
use self::groups::Groups;
use self::meta::Meta;
use self::partition::Syncer;
use self::room::Room;
use self::topics::Topics;

/// The endpoint with its folder open. Clones share it.
#[derive(Clone)]
pub struct Broker(Arc<Node>);

/// Why the endpoint cannot run, and what its operator does next.
#[allow(missing_docs)] // each text says what its parts are
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A file or folder cannot be used.
    #[error("Kafka endpoint: {path}: {cause}. Is it writable, and is there room?")]
    Folder { path: PathBuf, cause: io::Error },
    /// Another process has the folder open.
    #[error("Kafka endpoint: {path} is in use by another process: stop it, or take another data folder")]
    InUse { path: PathBuf },
    /// The names of the topics are gone, their records are not.
    #[error(
        "Kafka endpoint: {path} is missing or empty, but {logs} has the topics' records: bring it back from a copy, or move \
         {folder} away to begin anew"
    )]
    Lost { path: PathBuf, logs: PathBuf, folder: PathBuf },
    /// The records of topics are gone, their names are not.
    #[error(
        "Kafka endpoint: {logs} has no records of {topics} any more, although these topics exist: bring the folder back from a \
         copy, or move {folder} away to begin anew"
    )]
    LostLogs { topics: String, logs: PathBuf, folder: PathBuf },
    /// The database of names is damaged.
    #[error("Kafka endpoint: {path}: {cause}; bring it back from a copy, or move its folder away to begin anew")]
    Store { path: PathBuf, cause: Box<redb::Error> },
    /// The listener or a thread failed.
    #[error("Kafka endpoint: cannot serve: {0}")]
    Serve(io::Error),
}

struct Node {
    advertised: SocketAddr,
    meta: Meta,
    topics: Topics,
    groups: Groups,
    syncer: Arc<Syncer>,
    /// Producer ids taken from the store and not given out yet.
    producer_ids: Mutex<std::ops::Range<i64>>,
    request_room: Room,
    answer_room: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Broker {
    /// Opens or creates the logs under `folder`; what a crash left unfinished is cut off. Clients are told to connect to
    /// `advertised`.
    pub fn open(folder: &Path, advertised: SocketAddr) -> Result<Self, BrokerError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |cause| BrokerError::Folder { path, cause }
        };
        std::fs::create_dir_all(folder).map_err(at(folder))?;
        let store = folder.join("meta.redb");
        let store_error = |cause| match cause {
            redb::Error::DatabaseAlreadyOpen => BrokerError::InUse { path: folder.to_owned() },
            redb::Error::Io(cause) => BrokerError::Folder { path: store.clone(), cause },
            cause => BrokerError::Store { path: store.clone(), cause: Box::new(cause) },
        };
        let logs = folder.join("logs");
        if missing(&store).map_err(at(&store))?.is_some() {
            // The first topic's logs are made after this file: where there are some, it was there.
            if holds_anything(&logs).map_err(at(&logs))? {
                return Err(BrokerError::Lost { path: store, logs, folder: folder.to_owned() });
            }
            create_whole(&store).map_err(|e| store_error(e.into()))?;
        }
        let open = || {
            let meta = Meta::open(&store)?;
            let (rows, deleted) = (meta.topics()?, meta.deleted()?);
            Ok((meta, rows, deleted))
        };
        let damaged = || Err(redb::Error::Corrupted("the file is damaged".to_owned()));
        let (meta, rows, deleted) = without_panic(open).unwrap_or_else(damaged).map_err(store_error)?;
        let lost = topics::lost(&logs, &rows).map_err(at(&logs))?;
        if !lost.is_empty() {
            return Err(BrokerError::LostLogs { topics: lost.join(", "), logs, folder: folder.to_owned() });
        }
        let log_start = |id, partition| meta.log_start(id, partition).map_err(io::Error::other);
        let topics = Topics::open(&logs, rows, &deleted, log_start).map_err(at(&logs))?;
        let node = Node {
            advertised,
            meta,
            topics,
            groups: Groups::default(),
            syncer: Arc::default(),
            producer_ids: Mutex::new(0..0),
            request_room: Room::new(limits::REQUEST_ROOM_KIB),
            answer_room: Arc::new(Semaphore::new(limits::ANSWER_ROOM_KIB as usize)),
            stop: CancellationToken::new(),
        };
        deleted.into_iter().for_each(|id| node.finish_deletion(id));
        Ok(Self(Arc::new(node)))
    }

    /// Serves clients until `stop`; everything acknowledged is durable then. It may be called once. The endpoint reads and
    /// writes files on threads of its own, as if it were another process, so that a slow disk delays nobody else.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> Result<(), BrokerError> {
        let listener = listener.into_std().map_err(BrokerError::Serve)?;
        let (done, finished) = oneshot::channel();
        let node = self.0;
        let stop_with_caller = node.stop.clone().drop_guard();
        std::thread::Builder::new()
            .name("kafka-endpoint".to_owned())
            .spawn(move || done.send(serve_here(node, listener, stop)))
            .map_err(BrokerError::Serve)?;
        let result = finished.await.unwrap_or_else(|_| Err(io::Error::other("the endpoint's thread panicked")));
        drop(stop_with_caller);
        result.map_err(BrokerError::Serve)
    }
}

fn holds_anything(folder: &Path) -> io::Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn serve_here(node: Arc<Node>, listener: std::net::TcpListener, stop: CancellationToken) -> io::Result<()> {
    let syncing = node.syncer.start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4)))
        .thread_name("kafka-endpoint")
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let upkeep = tokio::spawn(upkeep(node.clone(), now_ms));
        let connections = TaskTracker::new();
        let accepting = accept(&node, TcpListener::from_std(listener)?, &connections);
        let result = tokio::select! {
            result = accepting => result,
            () = stop.cancelled() => Ok(()),
            () = node.stop.cancelled() => Ok(()),
        };
        node.stop.cancel();
        connections.close();
        if tokio::time::timeout(limits::STOP_WAIT, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "closing Kafka connections that did not finish");
        }
        upkeep.abort();
        result
    });
    runtime.shutdown_timeout(limits::STOP_WAIT);
    drop(syncing);
    result
}

async fn accept(node: &Arc<Node>, listener: TcpListener, connections: &TaskTracker) -> io::Result<()> {
    let places = Connections::new(limits::MAX_CONNECTIONS);
    let mut flood = Flood::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = flood.due() => {
                report(&mut flood);
                continue;
            }
        };
        let now = Instant::now();
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a peer that left at once: neither ends the endpoint.
                flood.count(now, |counted| {
                    counted.failed += 1;
                    counted.error = Some(error.to_string());
                });
                places.make_room(now);
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                continue;
            }
        };
        let seat = match places.admit(now) {
            Admission::Seated { seat, displaced } => {
                if displaced {
                    flood.count(now, |counted| counted.displaced += 1);
                }
                seat
            }
            Admission::Full => {
                flood.count(now, |counted| counted.refused += 1);
                continue;
            }
        };
        let node = node.clone();
        connections.spawn(async move {
            if let Err(error) = wire::serve(node, stream, peer, &seat).await {
                tracing::debug!(%peer, %error, "a Kafka connection was closed");
            }
        });
    }
}

fn report(flood: &mut Flood) {
    let Some(Counted { refused, displaced, failed, error }) = flood.report(Instant::now()) else { return };
    tracing::warn!(
        refused,
        displaced,
        failed,
        error,
        limit = limits::MAX_CONNECTIONS,
        "more Kafka connections than the endpoint has places for: some were refused, or took the place of a silent one"
    );
}

/// What happens without a request: group members that fell silent are removed, and records that are no longer kept.
async fn upkeep(node: Arc<Node>, now_ms: impl Fn() -> i64) {
    let mut ticks = tokio::time::interval(limits::GROUP_TICK);
    let mut retained = Instant::now();
    loop {
        ticks.tick().await;
        node.groups.tick(Instant::now());
        if retained.elapsed() >= limits::RETENTION_TICK {
            retained = Instant::now();
            let (node, now) = (node.clone(), now_ms());
            if blocking(move || node.topics.retain(now)).await.is_err() {
                tracing::error!("removing old Kafka records failed");
            }
        }
    }
}

/// Does work of the store off the async threads. It fails only if it panicked, or if the endpoint is being shut down.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ResponseError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ResponseError::UnknownServerError)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// A failure of the store is one of the disk: clients try again, as they do when a log cannot be written.
fn store_failed(error: redb::Error) -> ResponseError {
    tracing::error!(%error, "the Kafka endpoint's store failed");
    ResponseError::KafkaStorageError
}

fn code(result: Result<(), ResponseError>) -> i16 {
    result.map_or_else(|error| error.code(), |()| 0)
}

fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod open_tests;
