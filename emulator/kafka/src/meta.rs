//! What the endpoint remembers beside the logs, in one redb file: topics, committed offsets, log starts, producer ids.
//! The file is made once; where it is missing or empty later it was lost, and whoever opens it must say so.
//! Every write is durable when it returns; after a failed sync there is none until the next start. Calls block; they are made off
//! the async threads.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use redb::{Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use streammanager::embedded::{Trust, is_marked, open_database, remove_mark};
use uuid::Uuid;

use super::limits::META_CACHE;
use super::segment::settle;

/// name → (id, partitions, settings as `key=value` lines)
const TOPICS: TableDefinition<&str, (u128, i32, &str)> = TableDefinition::new("topics");
/// (group, topic, partition) → (offset, metadata)
const OFFSETS: TableDefinition<(&str, &str, i32), (i64, &str)> = TableDefinition::new("offsets");
/// (topic id, partition) → first offset that DeleteRecords left
const STARTS: TableDefinition<(u128, i32), i64> = TableDefinition::new("starts");
/// Ids of deleted topics whose logs may still stand.
const DELETED: TableDefinition<u128, ()> = TableDefinition::new("deleted");
/// name → value of what was set on the node itself
const BROKER: TableDefinition<&str, &str> = TableDefinition::new("broker");
const COUNTERS: TableDefinition<&str, i64> = TableDefinition::new("counters");
const NEXT_PRODUCER: &str = "next-producer-id";

/// redb refuses all work after one I/O error (a full disk) until it is opened anew, so that is done at the next use.
pub(super) struct Meta {
    path: PathBuf,
    trust: Trust,
    open: Mutex<Option<Database>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicRow {
    pub(super) name: String,
    pub(super) id: Uuid,
    pub(super) partitions: i32,
    pub(super) settings: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) offset: i64,
    pub(super) metadata: String,
}

pub(super) type PartitionKey = (String, i32);

impl Meta {
    pub(super) fn open(path: &Path) -> Result<Self, redb::Error> {
        let folder = path.parent().unwrap_or(Path::new("."));
        if is_marked(folder) {
            prove(path)?;
            remove_mark(folder)?;
        }
        let trust = Trust::of(folder);
        let open = Mutex::new(Some(open_database(path, META_CACHE, &trust)?));
        let meta = Self { path: path.to_owned(), trust, open };
        meta.write(|w| {
            w.open_table(TOPICS)?;
            w.open_table(OFFSETS)?;
            w.open_table(STARTS)?;
            w.open_table(DELETED)?;
            w.open_table(BROKER)?;
            w.open_table(COUNTERS)?;
            Ok(())
        })?;
        Ok(meta)
    }

    pub(super) fn topics(&self) -> Result<Vec<TopicRow>, redb::Error> {
        self.read(|r| {
            let table = r.open_table(TOPICS)?;
            let rows = table.iter()?.map(|row| {
                let (name, row) = row?;
                let (id, partitions, settings) = row.value();
                let settings = settings.lines().filter_map(|line| line.split_once('='));
                Ok(TopicRow {
                    name: name.value().to_owned(),
                    id: Uuid::from_u128(id),
                    partitions,
                    settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
                })
            });
            rows.collect()
        })
    }

    pub(super) fn put_topic(&self, row: &TopicRow) -> Result<(), redb::Error> {
        let settings: String = row.settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        self.write(|w| {
            w.open_table(TOPICS)?.insert(&*row.name, (row.id.as_u128(), row.partitions, &*settings))?;
            Ok(())
        })
    }

    /// What was set on the node itself.
    pub(super) fn broker_settings(&self) -> Result<BTreeMap<String, String>, redb::Error> {
        self.read(|r| {
            let table = r.open_table(BROKER)?;
            let rows = table.iter()?.map(|row| {
                let (name, value) = row?;
                Ok((name.value().to_owned(), value.value().to_owned()))
            });
            rows.collect()
        })
    }

    /// Takes the place of everything that was set on the node before.
    pub(super) fn put_broker_settings(&self, settings: &BTreeMap<String, String>) -> Result<(), redb::Error> {
        self.write(|w| {
            let mut table = w.open_table(BROKER)?;
            table.retain(|_, _| false)?;
            for (name, value) in settings {
                table.insert(&**name, &**value)?;
            }
            Ok(())
        })
    }

    /// The topic counts as deleted until [`Meta::forget_deleted`], so that its logs go also after a crash.
    pub(super) fn delete_topic(&self, name: &str, id: Uuid) -> Result<(), redb::Error> {
        self.write(|w| {
            w.open_table(TOPICS)?.remove(name)?;
            w.open_table(DELETED)?.insert(id.as_u128(), ())?;
            w.open_table(STARTS)?.retain(|(of, _), _| of != id.as_u128())?;
            w.open_table(OFFSETS)?.retain(|(_, topic, _), _| topic != name)?;
            Ok(())
        })
    }

    pub(super) fn deleted(&self) -> Result<Vec<Uuid>, redb::Error> {
        self.read(|r| {
            let table = r.open_table(DELETED)?;
            let ids = table.iter()?.map(|row| Ok(Uuid::from_u128(row?.0.value())));
            ids.collect()
        })
    }

    pub(super) fn forget_deleted(&self, id: Uuid) -> Result<(), redb::Error> {
        self.write(|w| {
            w.open_table(DELETED)?.remove(id.as_u128())?;
            Ok(())
        })
    }

    pub(super) fn log_start(&self, topic: Uuid, partition: i32) -> Result<i64, redb::Error> {
        self.read(|r| {
            let start = r.open_table(STARTS)?.get((topic.as_u128(), partition))?;
            Ok(start.map_or(0, |start| start.value()))
        })
    }

    pub(super) fn set_log_start(&self, topic: Uuid, partition: i32, start: i64) -> Result<(), redb::Error> {
        self.write(|w| {
            w.open_table(STARTS)?.insert((topic.as_u128(), partition), start)?;
            Ok(())
        })
    }

    pub(super) fn commit(&self, group: &str, offsets: &[(PartitionKey, Committed)]) -> Result<(), redb::Error> {
        self.write(|w| {
            let mut table = w.open_table(OFFSETS)?;
            for ((topic, partition), committed) in offsets {
                table.insert((group, &**topic, *partition), (committed.offset, &*committed.metadata))?;
            }
            Ok(())
        })
    }

    pub(super) fn committed(&self, group: &str) -> Result<BTreeMap<PartitionKey, Committed>, redb::Error> {
        self.read(|r| {
            let table = r.open_table(OFFSETS)?;
            let mut found = BTreeMap::new();
            for row in table.range((group, "", i32::MIN)..)? {
                let (key, value) = row?;
                let ((of, topic, partition), (offset, metadata)) = (key.value(), value.value());
                if of != group {
                    break;
                }
                found.insert((topic.to_owned(), partition), Committed { offset, metadata: metadata.to_owned() });
            }
            Ok(found)
        })
    }

    /// Groups with a committed offset.
    pub(super) fn groups(&self) -> Result<BTreeSet<String>, redb::Error> {
        self.read(|r| {
            let table = r.open_table(OFFSETS)?;
            let names = table.iter()?.map(|row| Ok(row?.0.value().0.to_owned()));
            names.collect()
        })
    }

    /// Forgets the group's offsets for which `forget` holds; answers how many.
    pub(super) fn forget(&self, group: &str, forget: impl Fn(&str, i32) -> bool) -> Result<usize, redb::Error> {
        self.write(|w| {
            let mut forgotten = 0;
            w.open_table(OFFSETS)?.retain(|(of, topic, partition), _| {
                let keep = of != group || !forget(topic, partition);
                forgotten += usize::from(!keep);
                keep
            })?;
            Ok(forgotten)
        })
    }

    /// The first of `count` producer ids that nobody has been given.
    pub(super) fn take_producer_ids(&self, count: i64) -> Result<i64, redb::Error> {
        self.write(|w| {
            let mut table = w.open_table(COUNTERS)?;
            let first = table.get(NEXT_PRODUCER)?.map_or(1, |next| next.value());
            table.insert(NEXT_PRODUCER, first + count)?;
            Ok(first)
        })
    }

    fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        self.with(|db| work(&db.begin_read()?))
    }

    fn write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        self.trust.check().map_err(|distrusted| redb::Error::Io(io::Error::other(distrusted.to_string())))?;
        self.with(|db| {
            let mut transaction = db.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            transaction.set_quick_repair(true);
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        let mut slot = self.open.lock();
        let db = match slot.take() {
            Some(db) => db,
            None => open_database(&self.path, META_CACHE, &self.trust)?,
        };
        let result = work(&db);
        match &result {
            Err(redb::Error::Io(_) | redb::Error::PreviousIo) => drop(db),
            _ => *slot = Some(db),
        }
        result
    }
}

/// Whether the disk holds the file, in whose folder a sync had failed: every page is read from it.
fn prove(path: &Path) -> Result<(), redb::Error> {
    settle(path)?;
    let whole = Database::builder().set_cache_size(META_CACHE).open(path)?.check_integrity()?;
    tracing::warn!(path = %path.display(), whole, "a sync failed in this folder: the file was read from the disk, and is used");
    Ok(())
}
