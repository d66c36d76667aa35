//! The redb database of a data folder: its tables, its transactions, and opening it again after a failed write, which
//! redb demands; after a failed sync only for reading. What the rows mean is the business of the queue and the store.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Once;

use parking_lot::{RwLock, RwLockReadGuard};
use redb::{Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

#[cfg(feature = "testing")]
use super::disk::Attached;
use super::guard::open_database;
#[cfg(feature = "testing")]
use super::guard::open_guarded;
use super::trust::Trust;
use crate::error::BackendError;

/// Milliseconds since 1970 (UTC).
pub(crate) type Moment = i64;

/// (sent at, not received before, receives, binary): small rows, so that opening reads no bodies.
pub(crate) type Queued = (Moment, Moment, u32, bool);

/// Messages by queue and number; numbers grow over all queues and are never used again.
pub(crate) const QUEUED: TableDefinition<(&str, u64), Queued> = TableDefinition::new("queued");
/// Checked bodies under the same keys.
pub(crate) const BODIES: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("bodies");
/// By queue the number up to which its messages may have been received.
pub(crate) const RECEIVED: TableDefinition<&str, u64> = TableDefinition::new("received");
/// (version, expires or `Moment::MAX`, checked value) by partition and sort key.
pub(crate) const ITEMS: TableDefinition<(&str, &str), (u64, Moment, &[u8])> = TableDefinition::new("items");
/// The items that expire, by when.
pub(crate) const EXPIRIES: TableDefinition<(Moment, &str, &str), ()> = TableDefinition::new("expiries");
/// What was found damaged, by number: what it was, and the bytes as they are on disk.
pub(crate) const DAMAGED: TableDefinition<u64, (&str, &[u8])> = TableDefinition::new("damaged");
/// Named counters.
pub(super) const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");

/// The database of a data folder.
pub fn database_file(folder: &Path) -> PathBuf {
    folder.join("state.redb")
}

/// What is made in a data folder only after its database: where one of these is, the folder is not new.
const MADE_LATER: [&str; 3] = ["blobs", "kafka", "control.key"];

/// The layout of the tables above; a folder of another layout is refused.
pub(super) const LAYOUT: u64 = 3;

/// Read and written by the owner alone: queues and state hold keys' hashes, alerts and readings.
pub(super) const PRIVATE: u32 = 0o600;

/// Why a transaction could not be done; what its caller does next is the variant.
#[derive(Debug, Clone)]
pub(crate) enum Failed {
    /// The disk has no room: what makes room may go on from the reserve.
    Full(String),
    /// The bytes on the disk are not what was written: other rows may still be sound.
    Damaged(String),
    /// A sync failed, now or before: nothing is written any more.
    Distrusted(String),
    Other(String),
}

impl From<Failed> for BackendError {
    fn from(failed: Failed) -> BackendError {
        match failed {
            Failed::Full(text) | Failed::Damaged(text) | Failed::Distrusted(text) | Failed::Other(text) => {
                BackendError::Retry(text)
            }
        }
    }
}

pub(crate) enum Medium {
    File(PathBuf),
    #[cfg(feature = "testing")]
    Memory(Attached),
}

pub(crate) struct Database {
    medium: Medium,
    trust: Trust,
    cache_bytes: usize,
    /// `None` after a failure, until it could be opened again.
    open: RwLock<Option<redb::Database>>,
}

impl Database {
    pub(crate) fn open(medium: Medium, trust: Trust, cache_bytes: usize) -> Result<Database, BackendError> {
        match &medium {
            Medium::File(path) => create_if_new(path)?,
            #[cfg(feature = "testing")]
            Medium::Memory(_) => {}
        }
        let database = Database { medium, trust, cache_bytes, open: RwLock::new(None) };
        database.reopen().map_err(|e| {
            BackendError::Fatal(format!(
                "{e}; take another data folder, or bring this file back from a copy (with its folder moved away, the next start is an empty one)"
            ))
        })?;
        database.write(|tx| {
            tx.open_table(QUEUED)?;
            tx.open_table(BODIES)?;
            tx.open_table(RECEIVED)?;
            tx.open_table(ITEMS)?;
            tx.open_table(EXPIRIES)?;
            tx.open_table(DAMAGED)?;
            tx.open_table(NUMBERS)?;
            Ok(true)
        })?;
        Ok(database)
    }

    /// Counts this opening: receipts of earlier ones are stale.
    pub(crate) fn count_open(&self) -> Result<u64, BackendError> {
        let mut opens = 0;
        let mut layout = LAYOUT;
        self.write(|tx| {
            layout = tx.open_table(NUMBERS)?.get("layout")?.map_or(LAYOUT, |number| number.value());
            if layout == LAYOUT {
                tx.open_table(NUMBERS)?.insert("layout", LAYOUT)?;
                opens = next_number(tx, "opens", 1)?;
            }
            Ok(layout == LAYOUT)
        })?;
        match layout {
            LAYOUT => Ok(opens),
            other => {
                Err(BackendError::Fatal(format!("{} has layout {other}, this program reads {LAYOUT}", self.name())))
            }
        }
    }

    /// Every message's queue, number and row.
    pub(crate) fn queued(&self) -> Result<Vec<(String, u64, Queued)>, Failed> {
        self.read(|tx| {
            let table = tx.open_table(QUEUED)?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (key, row) = row?;
                let (queue, number) = key.value();
                rows.push((queue.to_owned(), number, row.value()));
            }
            Ok(rows)
        })
    }

    /// By queue, up to which number its messages may have been received.
    pub(crate) fn received(&self) -> Result<BTreeMap<String, u64>, Failed> {
        self.read(|tx| {
            let mut marks = BTreeMap::new();
            for row in tx.open_table(RECEIVED)?.iter()? {
                let (queue, mark) = row?;
                marks.insert(queue.value().to_owned(), mark.value());
            }
            Ok(marks)
        })
    }

    /// After damage was met, the database is opened anew: redb's locks do not outlive a panic.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, Failed> {
        let outcome = {
            let open = self.opened();
            let database = open.as_ref().ok_or_else(|| self.closed())?;
            guarded(|| read(&database.begin_read()?))
        };
        let failed = match outcome {
            Ok(found) => return Ok(found),
            Err(error) => self.failed("read", error),
        };
        if let Failed::Damaged(_) = failed
            && let Err(problem) = self.reopen()
        {
            tracing::error!(%problem, "the database stays closed until the next write");
        }
        Err(failed)
    }

    /// One transaction, durable when this returns. `write` says whether it changed anything; a transaction that did not
    /// costs no fsync. After a failure the database is closed; after a failed sync there is no further transaction.
    pub(crate) fn write(
        &self,
        write: impl FnOnce(&WriteTransaction) -> Result<bool, redb::Error>,
    ) -> Result<(), Failed> {
        self.distrusted()?;
        let outcome = {
            let open = self.opened();
            let database = open.as_ref().ok_or_else(|| self.closed())?;
            guarded(|| {
                let mut tx = database.begin_write()?;
                tx.set_durability(Durability::Immediate)?;
                tx.set_quick_repair(true);
                if write(&tx)? {
                    tx.commit()?
                } else {
                    tx.abort()?
                }
                Ok(())
            })
        };
        outcome.map_err(|error| {
            self.close();
            self.distrusted().err().unwrap_or_else(|| self.failed("write", error))
        })
    }

    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    fn distrusted(&self) -> Result<(), Failed> {
        self.trust.lost().map_or(Ok(()), |why| Err(Failed::Distrusted(why.to_owned())))
    }

    fn failed(&self, verb: &str, error: redb::Error) -> Failed {
        let text = format!("cannot {verb} {}: {error}", self.name());
        match error {
            redb::Error::Corrupted(_) => {
                Failed::Damaged(format!("{} is damaged: bring it back from a copy ({error})", self.name()))
            }
            redb::Error::Io(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                Failed::Full(text)
            }
            _ => Failed::Other(text),
        }
    }

    pub(crate) fn close(&self) {
        let open = self.open.write().take();
        // Closing writes, too.
        let _ = without_panic(|| drop(open));
    }

    pub(crate) fn is_open(&self) -> bool {
        self.opened().is_some()
    }

    pub(crate) fn reopen(&self) -> Result<(), BackendError> {
        // The file is locked by redb itself: close before opening.
        let mut open = self.open.write();
        // Another thread may have opened it meanwhile, and met damage too.
        let before = open.take();
        let _ = without_panic(|| drop(before));
        let opening = || match &self.medium {
            Medium::File(path) => open_database(path, self.cache_bytes, &self.trust),
            #[cfg(feature = "testing")]
            Medium::Memory(disk) => open_guarded(disk.clone(), self.name(), self.cache_bytes, &self.trust),
        };
        let database = match without_panic(opening) {
            Some(opened) => opened.map_err(|e| e.to_string()),
            None => Err("the file is damaged".to_owned()),
        };
        *open = Some(database.map_err(|e| BackendError::Retry(format!("cannot open {}: {e}", self.name())))?);
        Ok(())
    }

    fn opened(&self) -> RwLockReadGuard<'_, Option<redb::Database>> {
        self.open.read()
    }

    fn closed(&self) -> Failed {
        Failed::Other(format!("{} is closed after a failed write", self.name()))
    }

    /// Of its file.
    pub(crate) fn bytes(&self) -> std::io::Result<u64> {
        match &self.medium {
            Medium::File(path) => Ok(std::fs::metadata(path)?.len()),
            #[cfg(feature = "testing")]
            Medium::Memory(disk) => redb::StorageBackend::len(disk),
        }
    }

    fn name(&self) -> String {
        match &self.medium {
            Medium::File(path) => path.display().to_string(),
            #[cfg(feature = "testing")]
            Medium::Memory(_) => "the disk in memory".into(),
        }
    }
}

impl Drop for Database {
    /// Closing writes, too, and meets damage as every write does.
    fn drop(&mut self) {
        self.close();
    }
}

/// Makes the database of a new folder. An empty file is none, and a folder that is not new has lost its own: made anew,
/// nobody would see what is gone.
fn create_if_new(path: &Path) -> Result<(), BackendError> {
    let failed = |e: io::Error| BackendError::Fatal(format!("cannot create {}: {e}", path.display()));
    let Some(missing) = missing(path).map_err(failed)? else { return Ok(()) };
    let folder = path.parent().unwrap_or(Path::new("."));
    if let Some(other) = MADE_LATER.iter().find(|other| folder.join(other).exists()) {
        return Err(BackendError::Fatal(format!(
            "{} {missing}, but {other} beside it shows that the folder is not new: bring the file back from a copy, or \
             take another data folder to begin anew",
            path.display()
        )));
    }
    create_whole(path).map_err(failed)
}

/// How a database's file is missing; `None` when it is there. An empty one is none: `create_whole` never leaves one.
pub fn missing(path: &Path) -> io::Result<Option<&'static str>> {
    match std::fs::metadata(path) {
        Ok(file) if file.len() > 0 => Ok(None),
        Ok(_) => Ok(Some("is empty")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Some("is missing")),
        Err(e) => Err(e),
    }
}

/// A new redb file, whole before it has its name: what a crash leaves of the making is begun again, and is never taken for
/// a damaged file. Its owner alone reads it.
pub fn create_whole(path: &Path) -> io::Result<()> {
    let unfinished = path.with_extension("redb.new");
    File::options().write(true).create(true).truncate(true).mode(PRIVATE).open(&unfinished)?;
    drop(redb::Database::create(&unfinished).map_err(io::Error::other)?);
    std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(PRIVATE))?;
    std::fs::rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// A damaged page is an error like any other.
fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    without_panic(work).unwrap_or_else(|| Err(redb::Error::Corrupted("a page holds what was never written".into())))
}

/// `None` if `work` panics, as redb does on some damaged pages; nothing of it is printed. Panics elsewhere are reported as
/// ever.
pub fn without_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                before(panic);
            }
        }));
    });
    let before = QUIET.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work)).ok();
    QUIET.set(before);
    outcome
}

/// Takes `count` numbers of the counter `name` and gives the first; the counter starts at 1.
pub(crate) fn next_number(tx: &WriteTransaction, name: &str, count: u64) -> Result<u64, redb::Error> {
    let mut table = tx.open_table(NUMBERS)?;
    let first = table.get(name)?.map_or(1, |number| number.value());
    table.insert(name, first + count)?;
    Ok(first)
}
