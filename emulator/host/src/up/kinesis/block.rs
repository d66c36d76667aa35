//! How a shard's records lie in the store: those that came together are one item, so that a commit, a read and a deletion cost
//! a few rows however many records they are of.

use bytes::{Buf, BufMut, Bytes};

use crate::up::limits::BLOCK_BYTES;

/// Before each record: the length of its partition key and that of its data.
const LENGTHS: usize = 8;

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

    pub(super) fn into_value(self) -> Bytes {
        self.value.into()
    }
}

/// One record as it was put.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) number: u64,
    /// Its partition key.
    pub(super) key: Bytes,
    pub(super) data: Bytes,
}

/// The records of a block whose first one has the number `first`; `None` when the value is not a block.
pub(super) fn records(first: u64, mut value: Bytes) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !value.is_empty() {
        let (key, data) = (value.try_get_u32_le().ok()? as usize, value.try_get_u32_le().ok()? as usize);
        if value.len() < key.checked_add(data)? {
            return None;
        }
        let number = first + records.len() as u64;
        records.push(Record { number, key: value.split_to(key), data: value.split_to(data) });
    }
    (!records.is_empty()).then_some(records)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_block_gives_what_was_put_into_it_and_a_part_of_one_gives_nothing() {
        let mut block = Block::default();
        for (key, data) in [("a", &b"1"[..]), ("", b""), ("b", b"\0\xff")] {
            block.push(key, data);
        }
        assert_eq!(block.records(), 3);
        let value = block.into_value();
        let read = records(7, value.clone()).unwrap();
        let read: Vec<_> = read.iter().map(|record| (record.number, &record.key[..], &record.data[..])).collect();
        assert_eq!(read, [(7, &b"a"[..], &b"1"[..]), (8, b"", b""), (9, b"b", b"\0\xff")]);
        let ends = (0..value.len()).filter(|end| records(7, value.slice(..*end)).is_some());
        // After a whole record only.
        assert_eq!(ends.collect::<Vec<_>>(), [10, 18]);
    }
}
