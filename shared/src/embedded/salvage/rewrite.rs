//! A new database beside a damaged one: everything readable, each page written and synced anew. The old file keeps all of its
//! bytes under another name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use redb::{Durability, ReadableTable as _, WriteTransaction};
use serde::Serialize;

use super::{ItemRow, MessageRow, Report, Row, read};
use crate::embedded::database::{LAYOUT, NUMBERS, PRIVATE, database_file, without_panic};
use crate::embedded::lock::FolderLock;
use crate::embedded::proof::prove;
use crate::embedded::{
    BODIES, DAMAGED, EXPIRIES, ITEMS, Moment, QUEUED, Queued, RECEIVED, Trust, open_database, queue, store,
};
use crate::error::BackendError;
use crate::time::{Timestamp, rfc3339};

/// Bytes of rows that are written in one transaction.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// The page cache of a removal, whose rows are small.
const REMOVING_CACHE: usize = 4 * 1024 * 1024;
/// The new file until it is whole.
const UNFINISHED: &str = "state.redb.repair";

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// The old file under its new name, with all of its bytes.
    pub kept_as: PathBuf,
    /// What was read of it.
    pub found: Report,
}

/// Writes what is readable of a folder's database into a new one, reads that again from the disk, and only then gives it the
/// name. What is not what was written is kept with its bytes, and becomes a dead letter at the next start.
///
/// # Errors
/// When a file cannot be read or written: then the old file stands as it was.
pub fn repair(folder: &Path, _lock: &FolderLock, now: Timestamp) -> Result<Repaired, BackendError> {
    let (old, new) = (database_file(folder), folder.join(UNFINISHED));
    let failed = |e: &dyn std::fmt::Display| BackendError::Fatal(format!("cannot write {}: {e}", new.display()));
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(&e)),
        _ => {}
    }
    let mut writer = Writer::create(&new).map_err(|e| failed(&e))?;
    let mut problem = None;
    let found = read(&old, &mut |row| {
        if problem.is_none() {
            problem = writer.row(&row).err();
        }
    })?;
    if let Some(e) = problem {
        return Err(failed(&e));
    }
    let rows = writer.close(&found, now).map_err(|e| failed(&e))?;
    File::open(&new).and_then(|file| file.sync_all()).map_err(|e| failed(&e))?;
    let mut again = 0;
    let written = read(&new, &mut |_| again += 1)?;
    if !written.is_sound() || again != rows {
        return Err(failed(&"what was written is not what is read from the disk: look at the disk"));
    }
    let stamp = rfc3339(now).replace(':', "");
    let kept_as = folder.join(format!("state.redb.before-{stamp}"));
    // A name more, before the old one names the new file: at no moment is there none of both.
    fs::hard_link(&old, &kept_as)
        .and_then(|()| fs::rename(&new, &old))
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|e| failed(&e))?;
    Ok(Repaired { kept_as, found })
}

/// Takes messages out of a folder's queues that somebody else has delivered. Where an fsync had failed, the disk is proved first.
///
/// # Errors
/// When its database cannot be written.
pub fn remove(
    folder: &Path,
    lock: &FolderLock,
    messages: &[(String, u64)],
    now: Timestamp,
) -> Result<(), BackendError> {
    prove(folder, lock, now)?;
    let path = database_file(folder);
    let failed = |e: redb::Error| BackendError::Fatal(format!("cannot write {}: {e}", path.display()));
    let removed = without_panic(|| {
        let database = open_database(&path, REMOVING_CACHE, &Trust::of(folder))?;
        let tx = begin(&database)?;
        {
            let (mut queued, mut bodies) = (tx.open_table(QUEUED)?, tx.open_table(BODIES)?);
            for (queue, number) in messages {
                queued.remove((queue.as_str(), *number))?;
                bodies.remove((queue.as_str(), *number))?;
            }
        }
        tx.commit()?;
        Ok(())
    });
    removed.unwrap_or_else(|| Err(redb::Error::Corrupted("a page holds what was never written".into()))).map_err(failed)
}

fn begin(database: &redb::Database) -> Result<WriteTransaction, redb::Error> {
    let mut tx = database.begin_write()?;
    tx.set_durability(Durability::Immediate)?;
    tx.set_quick_repair(true);
    Ok(tx)
}

/// A row on its way into the new file.
enum Put {
    Message { key: (String, u64), row: Queued, body: Vec<u8> },
    Item { key: (String, String), version: u64, expires: Moment, value: Vec<u8> },
    Aside { what: String, bytes: Vec<u8> },
}

struct Writer {
    database: redb::Database,
    batch: Vec<Put>,
    bytes: usize,
    rows: u64,
    set_aside: u64,
    highest_version: u64,
    /// By queue its highest message.
    queues: BTreeMap<String, u64>,
}

impl Writer {
    fn create(path: &Path) -> Result<Writer, redb::Error> {
        let database = redb::Database::create(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(PRIVATE))?;
        let (batch, queues) = (Vec::new(), BTreeMap::new());
        Ok(Writer { database, batch, bytes: 0, rows: 0, set_aside: 0, highest_version: 0, queues })
    }

    fn row(&mut self, row: &Row<'_>) -> Result<(), redb::Error> {
        let put = match *row {
            Row::Message(MessageRow { queue, number, sent_at, visible_at, receives, binary, body }) => {
                self.seen(queue, number);
                let body = queue::seal((queue, number), sent_at, binary, body);
                Put::Message { key: (queue.to_owned(), number), row: (sent_at, visible_at, receives, binary), body }
            }
            Row::Item(ItemRow { partition, sort, version, expires, value }) => {
                self.highest_version = self.highest_version.max(version);
                let value = store::seal((partition, sort), expires, value);
                Put::Item { key: (partition.to_owned(), sort.to_owned()), version, expires, value }
            }
            Row::BadMessage { queue, number, bytes } => {
                self.seen(queue, number);
                Put::Aside { what: format!("message {number} of the queue {queue}"), bytes: bytes.to_vec() }
            }
            Row::BadItem { partition, sort, bytes } => {
                Put::Aside { what: format!("stored item {partition}/{sort}"), bytes: bytes.to_vec() }
            }
            Row::SetAside { what, bytes } => Put::Aside { what: what.to_owned(), bytes: bytes.to_vec() },
        };
        self.bytes += match &put {
            Put::Message { body: bytes, .. } | Put::Item { value: bytes, .. } | Put::Aside { bytes, .. } => bytes.len(),
        };
        self.batch.push(put);
        if self.bytes < BATCH_BYTES { Ok(()) } else { self.flush() }
    }

    fn seen(&mut self, queue: &str, number: u64) {
        let highest = self.queues.entry(queue.to_owned()).or_default();
        *highest = number.max(*highest);
    }

    fn flush(&mut self) -> Result<(), redb::Error> {
        let tx = begin(&self.database)?;
        {
            let (mut queued, mut bodies) = (tx.open_table(QUEUED)?, tx.open_table(BODIES)?);
            let (mut items, mut expiries) = (tx.open_table(ITEMS)?, tx.open_table(EXPIRIES)?);
            let mut damaged = tx.open_table(DAMAGED)?;
            for put in self.batch.drain(..) {
                match put {
                    Put::Message { key: (queue, number), row, body } => {
                        let key = (queue.as_str(), number);
                        let again = queued.insert(key, row)?.is_some();
                        bodies.insert(key, &body[..])?;
                        self.rows += u64::from(!again);
                    }
                    Put::Item { key: (partition, sort), version, expires, value } => {
                        let key = (partition.as_str(), sort.as_str());
                        let before = items.get(key)?.map(|row| (row.value().0, row.value().1));
                        // An old page can hold an item as it once was.
                        if before.is_some_and(|(newer, _)| newer > version) {
                            continue;
                        }
                        if let Some((_, expired)) = before {
                            expiries.remove((expired, key.0, key.1))?;
                        }
                        items.insert(key, (version, expires, &value[..]))?;
                        if expires != Moment::MAX {
                            expiries.insert((expires, key.0, key.1), ())?;
                        }
                        self.rows += u64::from(before.is_none());
                    }
                    Put::Aside { what, bytes } => {
                        self.set_aside += 1;
                        self.rows += 1;
                        damaged.insert(self.set_aside, (what.as_str(), &bytes[..]))?;
                    }
                }
            }
        }
        self.bytes = 0;
        Ok(tx.commit()?)
    }

    /// Gives how many rows were written.
    fn close(mut self, found: &Report, now: Timestamp) -> Result<u64, redb::Error> {
        self.flush()?;
        let tx = begin(&self.database)?;
        {
            let mut numbers = tx.open_table(NUMBERS)?;
            for (name, number) in &found.numbers {
                numbers.insert(name.as_str(), number)?;
            }
            // No number is ever used again, whichever counter is lost; the next is one more than the highest.
            let next = |name: &str, highest: u64| found.numbers.get(name).copied().unwrap_or(1).max(highest + 1);
            // Receipts of earlier openings are stale: no opening has the number of an earlier one.
            let opens = found.numbers.get("opens").copied().unwrap_or(now.as_millisecond().unsigned_abs());
            let highest_message = self.queues.values().copied().max().unwrap_or_default();
            for (name, number) in [
                ("layout", LAYOUT),
                ("opens", opens),
                ("message", next("message", highest_message)),
                ("version", next("version", self.highest_version)),
                ("damaged", next("damaged", self.set_aside)),
            ] {
                numbers.insert(name, number)?;
            }
            // Without its mark a message counts as received: a repeat is known as one [K6].
            let mut received = tx.open_table(RECEIVED)?;
            for (queue, highest) in &self.queues {
                received.insert(queue.as_str(), found.received.get(queue).copied().unwrap_or(*highest))?;
            }
        }
        tx.commit()?;
        Ok(self.rows)
    }
}
