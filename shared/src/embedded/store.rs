//! The store on this host: rows of the data folder's database, and in memory what ends with the process anyway (`living.rs`).
//! Conditions are tested inside the writer's transaction, so that of many writers one wins.

use std::ops::Bound;

use async_trait::async_trait;
use bytes::Bytes;
use redb::{ReadableTable, Table, WriteTransaction};
use tokio::sync::oneshot;

use super::living::Living;
use crate::embedded::{EXPIRIES, Embedded, ITEMS, Moment, Op, Place, next_number, sealed};
use crate::error::BackendError;
use crate::store::{Expect, Item, Key, PutError, Store, VALUE_BYTES, Version};
use crate::time::Timestamp;

/// The counter that gives versions, over all items.
const VERSION: &str = "version";

/// Expired items that one write takes along: more than it can add, so that they never pile up.
const SWEEP: usize = 8;

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &Key) -> Result<Option<Item>, BackendError> {
        let now = self.shared().clock().now();
        if Living::keeps(&key.partition) {
            return Ok(self.shared().living().get(key, now));
        }
        let found = self.shared().database().read(|tx| {
            let row = tx.open_table(ITEMS)?.get((key.partition.as_str(), key.sort.as_str()))?;
            Ok(row.map(|row| item(key.clone(), row.value())))
        })?;
        Ok(found.and_then(|found| self.sound(found)).filter(|item| lives(item.expires, now)))
    }

    async fn list(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<Item>, BackendError> {
        let now = self.shared().clock().now();
        if Living::keeps(partition) {
            return Ok(self.shared().living().list(partition, prefix, after, max, now));
        }
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded((partition, after)),
            _ => Bound::Included((partition, prefix)),
        };
        let found = self.shared().database().read(|tx| {
            let table = tx.open_table(ITEMS)?;
            let (mut items, mut living) = (Vec::new(), 0);
            for row in table.range::<(&str, &str)>((from, Bound::Unbounded))? {
                if living == max {
                    break;
                }
                let (key, row) = row?;
                let (found, sort) = key.value();
                if found != partition || !sort.starts_with(prefix) {
                    break;
                }
                let item = item(Key::new(found, sort), row.value());
                let lives = item.as_ref().map(|item| lives(item.expires, now));
                living += usize::from(lives == Ok(true));
                if lives != Ok(false) {
                    items.push(item);
                }
            }
            Ok(items)
        })?;
        Ok(found.into_iter().filter_map(|item| self.sound(item)).collect())
    }

    async fn put_if(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        expires: Option<Timestamp>,
    ) -> Result<Version, PutError> {
        if value.len() > VALUE_BYTES {
            return Err(PutError::TooLarge(value.len()));
        }
        let row = Some((value, expires));
        self.write(key, expect, row).await
    }

    async fn delete_if(&self, key: &Key, expect: Expect) -> Result<(), PutError> {
        self.write(key, expect, None).await.map(|_| ())
    }
}

/// See [`Embedded::intake`].
pub struct Intake(Embedded);

impl Intake {
    pub(super) fn new(embedded: Embedded) -> Intake {
        Intake(embedded)
    }
}

#[async_trait]
impl Store for Intake {
    async fn get(&self, key: &Key) -> Result<Option<Item>, BackendError> {
        self.0.get(key).await
    }

    async fn list(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<Item>, BackendError> {
        self.0.list(partition, prefix, after, max).await
    }

    async fn put_if(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        expires: Option<Timestamp>,
    ) -> Result<Version, PutError> {
        self.0.room()?;
        self.0.put_if(key, value, expect, expires).await
    }

    async fn delete_if(&self, key: &Key, expect: Expect) -> Result<(), PutError> {
        self.0.delete_if(key, expect).await
    }
}

impl Embedded {
    /// A damaged item counts as absent: what it said is not known.
    fn sound(&self, item: Result<Item, Key>) -> Option<Item> {
        let set_aside = |Key { partition, sort }: Key| self.set_aside(Place::Item { partition, sort });
        item.map_err(set_aside).ok()
    }

    async fn write(
        &self,
        key: &Key,
        expect: Expect,
        row: Option<(Bytes, Option<Timestamp>)>,
    ) -> Result<Version, PutError> {
        let now = self.shared().clock().now();
        if Living::keeps(&key.partition) {
            return self.shared().living().write(key, expect, row, now);
        }
        self.done(|reply| Box::new(Write { key: key.clone(), expect, row, now, won: None, reply }))
            .await?
            .ok_or(PutError::Conflict)
    }
}

/// A put, or a delete where there is no row.
struct Write {
    key: Key,
    expect: Expect,
    row: Option<(Bytes, Option<Timestamp>)>,
    now: Timestamp,
    /// The version written, if the condition held.
    won: Option<Version>,
    reply: oneshot::Sender<Result<Option<Version>, BackendError>>,
}

impl Op for Write {
    fn bytes(&self) -> usize {
        self.row.as_ref().map_or(0, |(value, _)| value.len())
    }

    fn apply(&mut self, tx: &WriteTransaction) -> Result<bool, redb::Error> {
        // It may have run before, in a transaction that failed.
        self.won = None;
        let mut items = tx.open_table(ITEMS)?;
        let key = (self.key.partition.as_str(), self.key.sort.as_str());
        let old = items.get(key)?.map(|row| (row.value().0, row.value().1));
        let living = old.filter(|&(_, expires)| lives(from_moment(expires), self.now)).map(|(version, _)| version);
        let holds = match (self.expect, &self.row) {
            (Expect::Any, _) => true,
            (Expect::Absent, _) => living.is_none(),
            (Expect::Version(version), _) => living == Some(version.0),
        };
        if !holds {
            return Ok(false);
        }
        let mut expiries = tx.open_table(EXPIRIES)?;
        if let Some((_, expires)) = old.filter(|&(_, expires)| expires != Moment::MAX) {
            expiries.remove((expires, key.0, key.1))?;
        }
        let version = match &self.row {
            None => {
                items.remove(key)?;
                Version(0)
            }
            Some((value, expires)) => {
                let version = next_number(tx, VERSION, 1)?;
                let expires = expires.map_or(Moment::MAX, Timestamp::as_millisecond);
                let value = seal(key, expires, value);
                items.insert(key, (version, expires, &value[..]))?;
                if expires != Moment::MAX {
                    expiries.insert((expires, key.0, key.1), ())?;
                }
                Version(version)
            }
        };
        self.won = Some(version);
        sweep(&mut items, &mut expiries, self.now)?;
        Ok(true)
    }

    fn finish(self: Box<Self>, outcome: Result<(), BackendError>) {
        // Whoever asked may have gone.
        let _ = self.reply.send(outcome.map(|()| self.won));
    }
}

fn sweep(
    items: &mut Table<(&str, &str), (u64, Moment, &[u8])>,
    expiries: &mut Table<(Moment, &str, &str), ()>,
    now: Timestamp,
) -> Result<(), redb::Error> {
    for _ in 0..SWEEP {
        let due = match expiries.first()? {
            Some((key, _)) if key.value().0 <= now.as_millisecond() => {
                let (expires, partition, sort) = key.value();
                (expires, partition.to_owned(), sort.to_owned())
            }
            _ => break,
        };
        let (expires, partition, sort) = (due.0, due.1.as_str(), due.2.as_str());
        expiries.remove((expires, partition, sort))?;
        items.remove((partition, sort))?;
    }
    Ok(())
}

pub(super) fn seal(key: (&str, &str), expires: Moment, value: &[u8]) -> Vec<u8> {
    sealed::seal(&[key.0.as_bytes(), key.1.as_bytes(), &expires.to_le_bytes()], value)
}

/// What was written; `None` when it, its key or its end is not what was.
pub(super) fn open<'a>(key: (&str, &str), expires: Moment, value: &'a [u8]) -> Option<&'a [u8]> {
    sealed::open(&[key.0.as_bytes(), key.1.as_bytes(), &expires.to_le_bytes()], value)
}

/// An error is the key of a damaged row.
fn item(key: Key, (version, expires, value): (u64, Moment, &[u8])) -> Result<Item, Key> {
    match open((&key.partition, &key.sort), expires, value) {
        Some(value) => {
            let value = Bytes::copy_from_slice(value);
            Ok(Item { key, value, version: Version(version), expires: from_moment(expires) })
        }
        None => Err(key),
    }
}

pub(super) fn lives(expires: Option<Timestamp>, now: Timestamp) -> bool {
    expires.is_none_or(|expires| expires > now)
}

fn from_moment(moment: Moment) -> Option<Timestamp> {
    (moment != Moment::MAX).then(|| Timestamp::from_millisecond(moment).unwrap_or(Timestamp::MAX))
}
