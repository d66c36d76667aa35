//! The record batch (magic 2) as it stands on the wire and on disk: its head, its checksum, what a producer may send.
//! Batches are kept as they came: only their offset and leader epoch are written here.

use bytes::{Buf, BufMut};
use kafka_protocol::ResponseError;

/// Bytes before the first record.
pub(super) const HEAD: usize = 61;
pub(super) const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const SUMMED_FROM: usize = 21;
const MAX_TIME_AT: usize = 35;
/// The attribute of a batch whose records all have the time at which the broker appended them.
const APPEND_TIME: i16 = 0x08;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) base: i64,
    /// The whole batch, head included.
    pub(super) size: usize,
    pub(super) attributes: i16,
    pub(super) last_delta: i32,
    pub(super) first_time: i64,
    pub(super) max_time: i64,
    pub(super) producer: i64,
    pub(super) epoch: i16,
    pub(super) sequence: i32,
    pub(super) count: i32,
}

impl Head {
    /// `None` if these bytes cannot begin a batch of magic 2.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut at = bytes.get(..HEAD)?;
        if at[MAGIC_AT] != 2 {
            return None;
        }
        let base = at.get_i64();
        let size = usize::try_from(at.get_i32()).ok()? + 12;
        at.advance(SUMMED_FROM - 12);
        let head = Self {
            base,
            size,
            attributes: at.get_i16(),
            last_delta: at.get_i32(),
            first_time: at.get_i64(),
            max_time: at.get_i64(),
            producer: at.get_i64(),
            epoch: at.get_i16(),
            sequence: at.get_i32(),
            count: at.get_i32(),
        };
        (size >= HEAD && head.last_delta >= 0 && base >= 0).then_some(head)
    }

    pub(super) fn last(&self) -> i64 {
        self.base.saturating_add(i64::from(self.last_delta))
    }

    pub(super) fn next(&self) -> i64 {
        self.last().saturating_add(1)
    }

    pub(super) fn codec(&self) -> i16 {
        self.attributes & 0b111
    }

    /// The time of all records, if it is the broker's and not the producers'.
    pub(super) fn append_time(&self) -> Option<i64> {
        (self.attributes & APPEND_TIME != 0).then_some(self.max_time)
    }
}

/// Whether the checksum of one whole batch holds.
pub(super) fn intact(batch: &[u8]) -> bool {
    batch.len() >= HEAD && {
        let mut sum = &batch[CRC_AT..SUMMED_FROM];
        sum.get_u32() == crc32c::crc32c(&batch[SUMMED_FROM..])
    }
}

/// Checks what a producer sent for one partition: exactly one batch that Kafka would accept, of at most `max` bytes.
pub(super) fn accept(bytes: &[u8], max: usize) -> Result<Head, ResponseError> {
    if bytes.len() > MAGIC_AT && bytes[MAGIC_AT] < 2 {
        return Err(ResponseError::UnsupportedForMessageFormat);
    }
    let head = Head::parse(bytes).ok_or(ResponseError::CorruptMessage)?;
    if head.size > bytes.len() {
        return Err(ResponseError::CorruptMessage);
    }
    if head.size < bytes.len() {
        return Err(ResponseError::InvalidRecord);
    }
    if head.size > max {
        return Err(ResponseError::MessageTooLarge);
    }
    if !intact(bytes) {
        return Err(ResponseError::CorruptMessage);
    }
    let (transactional, control) = (head.attributes & 0x10 != 0, head.attributes & 0x20 != 0);
    if transactional {
        return Err(ResponseError::TransactionalIdAuthorizationFailed);
    }
    let unnumbered = head.producer >= 0 && head.sequence < 0;
    if control || unnumbered || head.count < 1 || i64::from(head.count) != i64::from(head.last_delta) + 1 {
        return Err(ResponseError::InvalidRecord);
    }
    if head.codec() > 4 {
        return Err(ResponseError::UnsupportedCompressionType);
    }
    Ok(head)
}

/// Gives the batch its place in the log. Neither field is covered by the checksum.
pub(super) fn place(batch: &mut [u8], base: i64) {
    batch[..8].copy_from_slice(&base.to_be_bytes());
    batch[12..16].copy_from_slice(&0i32.to_be_bytes());
}

/// Gives all records of a batch the time at which they were appended, in the bytes and in the head that was read from them.
pub(super) fn stamp(batch: &mut [u8], head: &mut Head, append_time: i64) {
    (head.attributes, head.max_time) = (head.attributes | APPEND_TIME, append_time);
    (&mut batch[SUMMED_FROM..]).put_i16(head.attributes);
    (&mut batch[MAX_TIME_AT..]).put_i64(append_time);
    let sum = crc32c::crc32c(&batch[SUMMED_FROM..]);
    (&mut batch[CRC_AT..]).put_u32(sum);
}

/// How many of these bytes are whole batches with sound checksums that follow each other from offset `base` on. The offset
/// itself is not under the checksum, but a log leaves no gaps.
pub(super) fn sound(bytes: &[u8], mut base: i64) -> usize {
    let mut at = 0;
    while let Some(head) = Head::parse(&bytes[at..])
        && head.size <= bytes.len() - at
        && head.base == base
        && intact(&bytes[at..at + head.size])
    {
        (at, base) = (at + head.size, head.next());
    }
    at
}
