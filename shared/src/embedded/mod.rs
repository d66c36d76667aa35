//! The durable backends of one host: a data folder with one redb database that queue and store share, written by one
//! group-committing writer. The seams that they fill are here too: `queue`, `store`, `blobs`.

mod blobs;
mod damaged;
mod database;
#[cfg(feature = "testing")]
mod disk;
#[cfg(feature = "testing")]
mod flips;
mod guard;
mod living;
mod lock;
mod proof;
mod provenance;
pub(crate) mod queue;
mod room;
pub mod salvage;
pub(crate) mod sealed;
mod store;
#[cfg(all(test, feature = "testing"))]
#[allow(clippy::unwrap_used)]
mod tests;
#[cfg(all(test, feature = "testing"))]
#[allow(clippy::unwrap_used)]
mod trouble_tests;
mod trust;
#[cfg(all(test, feature = "testing"))]
#[allow(clippy::unwrap_used)]
mod trust_tests;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::BackendError;
use crate::limits;
use crate::queue::QueueRef;
use crate::time::{Clock, Timestamp};

pub use blobs::FileBlobs;
pub use damaged::Damaged;
pub(crate) use damaged::Place;
pub(crate) use database::{BODIES, DAMAGED, EXPIRIES, Failed, ITEMS, Moment, QUEUED, Queued, RECEIVED, next_number};
use database::{Database, Medium};
pub use database::{create_whole, database_file, missing, without_panic};
#[cfg(feature = "testing")]
pub use disk::MemoryDisk;
pub use guard::open_database;
use living::Living;
pub use lock::FolderLock;
pub use proof::{Proof, let_go, prove};
pub use provenance::FolderProvenance;
use queue::Queues;
pub use room::free_bytes;
use room::{Disk, Folder, Room};
pub use store::Intake;
pub use trust::{Trust, is_marked, remove_mark};
pub(crate) use writer::Op;
use writer::Writer;

/// redb's default page cache is 1 GiB, and stays in memory after a flood: with this, 25,000 pushed rejects leave less than 64 MiB
/// resident.
const CACHE_BYTES: usize = 12 * 1024 * 1024;

/// How writes reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    /// A thread of its own; whatever waits shares one transaction and one fsync.
    Grouped,
    /// On the calling task, one by one: nothing happens behind a paused clock's back.
    Inline,
    /// In a task of the runtime: whatever comes within this time after the first shares its transaction. For simulation,
    /// where a crash must be able to fall between a write and its commit.
    #[cfg(feature = "testing")]
    Stepped(Duration),
}

/// How one queue behaves; the defaults are those of the tiers' queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueOptions {
    /// A received message is hidden for this long unless its receiver extends it [Q5].
    pub visibility: Duration,
    /// For messages that name none.
    pub delay: Duration,
    /// Older messages are dropped when they would be received; `None`: however long it takes, nothing is [Q1].
    pub retention: Option<Duration>,
    /// Messages: visible, in flight and delayed.
    pub capacity: u64,
    /// Where a message goes instead of being received more often than this.
    pub dead_letters: Option<(QueueRef, u32)>,
}

impl Default for QueueOptions {
    fn default() -> QueueOptions {
        QueueOptions {
            visibility: limits::VISIBILITY,
            delay: Duration::ZERO,
            retention: None,
            capacity: limits::QUEUE_CAPACITY,
            dead_letters: None,
        }
    }
}

/// How a data folder is used.
#[derive(Debug, Clone)]
pub struct Options {
    /// The clock that expiry and delays go by.
    pub clock: Clock,
    /// How writes reach the disk.
    pub commits: Commits,
    /// The database's page cache.
    pub cache_bytes: usize,
    /// Queues exist from their first use; one that is not named here has the default options.
    pub queues: BTreeMap<QueueRef, QueueOptions>,
}

impl Options {
    /// Group commits, a cache of 64 MiB, and every queue with the default options.
    pub fn new(clock: Clock) -> Options {
        Options { clock, commits: Commits::Grouped, cache_bytes: CACHE_BYTES, queues: BTreeMap::new() }
    }
}

/// Queue and store of one data folder; cheap to clone. The last clone's drop waits until everything submitted is
/// written, closes the database and gives up the folder.
#[derive(Clone)]
pub struct Embedded(Arc<Inner>);

// Fields drop in order: the writer drains before the folder is given up.
struct Inner {
    writer: Writer,
    shared: Arc<Shared>,
    _lock: Option<FolderLock>,
}

/// What the writer's thread and the callers both hold.
pub(crate) struct Shared {
    database: Database,
    queues: Queues,
    living: Living,
    room: Room,
    clock: Clock,
    /// When the folder was opened, by both clocks.
    opened: (Timestamp, Instant),
}

impl Embedded {
    /// Opens or creates the data folder, which is its owner's alone. A second opener gets an error that names the folder and
    /// its holder. Where an fsync had failed, the disk is proved first.
    pub fn open(folder: &Path, options: Options) -> Result<Embedded, BackendError> {
        lock::own_folder(folder).map_err(|e| {
            let folder = folder.display();
            BackendError::Fatal(format!("cannot use {folder} as data folder: {e}; name one that this user may write"))
        })?;
        let lock = FolderLock::take(folder)?;
        prove(folder, &lock, options.clock.now())?;
        let database = database_file(folder);
        Embedded::on(
            Medium::File(database.clone()),
            Trust::of(folder),
            || Disk::Folder(Folder::of(folder, &database)),
            Some(lock),
            options,
        )
    }

    /// On a simulated disk, which crashes and fails on demand.
    #[cfg(feature = "testing")]
    pub fn on_disk(disk: &MemoryDisk, options: Options) -> Result<Embedded, BackendError> {
        disk.prove()?;
        let disk = disk.clone();
        let attached = disk.attach();
        let trust = Trust::of_disk(&attached);
        Embedded::on(Medium::Memory(attached), trust, || Disk::Memory(disk), None, options)
    }

    fn on(
        medium: Medium,
        trust: Trust,
        disk: impl FnOnce() -> Disk,
        lock: Option<FolderLock>,
        options: Options,
    ) -> Result<Embedded, BackendError> {
        let database = Database::open(medium, trust, options.cache_bytes)?;
        let opens = database.count_open()?;
        let queues = Queues::new(options.queues, opens, database.received()?);
        let opened = (options.clock.now(), Instant::now());
        let shared = Arc::new(Shared {
            database,
            queues,
            living: Living::default(),
            room: Room::new(disk()),
            clock: options.clock,
            opened,
        });
        shared.queues.reconcile(&shared.database.queued()?, &shared);
        let writer = Writer::start(shared.clone(), options.commits)?;
        Ok(Embedded(Arc::new(Inner { writer, shared, _lock: lock })))
    }

    /// Whether something new is taken in: the disk is trusted and has room. While only the room is missing, deliveries go on
    /// all the same [Q2].
    ///
    /// # Errors
    /// `Retry`, with words for people.
    pub fn room(&self) -> Result<(), BackendError> {
        self.trust().check()?;
        self.shared().room.check()
    }

    /// In the folder's disk. Once it is lost nothing is written, and no message is given out: it could not be forgotten.
    pub fn trust(&self) -> &Trust {
        self.shared().database.trust()
    }

    /// What queues, state and streams take on the disk; room that a drained queue gave back is taken again, and counts until then.
    ///
    /// # Errors
    /// When the file cannot be asked.
    pub fn bytes(&self) -> std::io::Result<u64> {
        self.shared().database.bytes()
    }

    /// The same store for what comes from outside: it is refused while the disk has too little room.
    pub fn intake(&self) -> Intake {
        Intake::new(self.clone())
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    pub(crate) fn submit(&self, op: Box<dyn Op>) {
        self.0.writer.submit(op);
    }
}

impl Shared {
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    fn living(&self) -> &Living {
        &self.living
    }

    pub(crate) fn queues(&self) -> &Queues {
        &self.queues
    }

    /// The time that delays and visibilities are measured by: it runs on from the opening whatever becomes of the host's
    /// clock.
    pub(crate) fn steady(&self) -> Timestamp {
        let (at, instant) = self.opened;
        queue::later(at, instant.elapsed())
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }
}
