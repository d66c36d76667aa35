//! How a shard's records lie in the store: those that came together are one item, so that a commit, a read and a deletion cost
//! a few rows however many records they are of.
//!
//! A block begins with the mark of a dated one and the time when it was stored; those of earlier versions begin with their first
//! record.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use streammanager::time::Timestamp;
use tokio::time::Instant;

use crate::up::limits::BLOCK_BYTES;

/// Before each record: the length of its partition key and that of its data.
const LENGTHS: usize = 8;
/// Stands where an undated block has the length of its first partition key, which is never so large.
const DATED: u32 = u32::MAX;

/// Records under consecutive numbers, as they are written.
#[derive(Default)]
pub(super) struct Block {
    value: Vec<u8>,
    records: u64,
}

impl Block {
    /// Whether one more record belongs here; the first always does.
    pub(super) fn has_room(&self, key: &str, data: &[u8]) -> bool {
        self.records == 0 || self.value.len() + LENGTHS + key.len() + data.len() <= BLOCK_BYTES
    }

    pub(super) fn push(&mut self, key: &str, data: &[u8]) {
        self.value.put_u32_le(key.len() as u32);
        self.value.put_u32_le(data.len() as u32);
        self.value.put_slice(key.as_bytes());
        self.value.put_slice(data);
        self.records += 1;
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn into_value(self, stored_at: Timestamp) -> Bytes {
        let mut value = Vec::with_capacity(self.value.len() + 12);
        value.put_u32_le(DATED);
        value.put_i64_le(stored_at.as_millisecond());
        value.put_slice(&self.value);
        value.into()
    }
}

/// When a record came into the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) at: Timestamp,
    /// By the clock of this process, from the shard's opening at the earliest: it stands still while the host is off, and is
    /// never set.
    pub(super) since: Instant,
}

impl Arrival {
    /// How long it was here for somebody to read.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

/// One record as it was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) number: u64,
    /// Its partition key.
    pub(super) key: Bytes,
    pub(super) data: Bytes,
    pub(super) arrival: Arrival,
}

/// When a block was stored; `None` for a block that does not say.
pub(super) fn stored_at(mut value: &[u8]) -> Option<Timestamp> {
    if value.try_get_u32_le().ok()? != DATED {
        return None;
    }
    Timestamp::from_millisecond(value.try_get_i64_le().ok()?).ok()
}

/// The records of a block whose first one has the number `first`; `None` when the value is not a block.
pub(super) fn records(first: u64, mut value: Bytes, arrival: Arrival) -> Option<Vec<Record>> {
    if value.starts_with(&DATED.to_le_bytes()) {
        value.advance(4);
        value.try_get_i64_le().ok()?;
    }
    let mut records = Vec::new();
    while !value.is_empty() {
        let (key, data) = (value.try_get_u32_le().ok()? as usize, value.try_get_u32_le().ok()? as usize);
        if value.len() < key.checked_add(data)? {
            return None;
        }
        let number = first + records.len() as u64;
        records.push(Record { number, key: value.split_to(key), data: value.split_to(data), arrival });
    }
    (!records.is_empty()).then_some(records)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_block_gives_what_was_put_into_it_and_a_part_of_one_gives_nothing() {
        let arrival = Arrival { at: Timestamp::UNIX_EPOCH, since: Instant::now() };
        let mut block = Block::default();
        for (key, data) in [("a", &b"1"[..]), ("", b""), ("b", b"\0\xff")] {
            block.push(key, data);
        }
        assert_eq!(block.records(), 3);
        let stored = Timestamp::from_millisecond(1_780_000_000_123).unwrap();
        let value = block.into_value(stored);
        assert_eq!(stored_at(&value), Some(stored));
        let read = |value: Bytes| {
            let records = records(7, value, arrival)?;
            Some(records.into_iter().map(|record| (record.number, record.key, record.data)).collect::<Vec<_>>())
        };
        let text = Bytes::from_static;
        let whole = vec![(7, text(b"a"), text(b"1")), (8, text(b""), text(b"")), (9, text(b"b"), text(b"\0\xff"))];
        assert_eq!(read(value.clone()), Some(whole.clone()));
        let ends = (0..value.len()).filter(|end| read(value.slice(..*end)).is_some());
        // After a whole record only.
        assert_eq!(ends.collect::<Vec<_>>(), [22, 30]);
        // As earlier versions wrote it.
        let undated = value.slice(12..);
        assert_eq!((stored_at(&undated), read(undated)), (None, Some(whole)));
    }
}
