//! Looks into one batch for the record of a timestamp. Unpacking is bounded: a batch comes from outside, and a few bytes
//! may claim to hold gigabytes.

use std::io::Read;

use bytes::{Buf, Bytes};
use kafka_protocol::compression::{Decompressor, Snappy};
use lz4_flex::frame::FrameDecoder;

use super::batch::{HEAD, Head};
use super::limits::MAX_UNPACKED;

/// A record, and its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) offset: i64,
    pub(super) time: i64,
}

/// The first record from offset `start` on that is not older than `time`. A batch that cannot be looked into answers with
/// its first record: reading from too early on is safe, skipping records is not.
pub(super) fn first_not_before(head: &Head, batch: &[u8], time: i64, start: i64) -> Option<Found> {
    let opaque = Found { offset: head.base.max(start), time: head.max_time };
    if head.append_time().is_some() {
        return (head.max_time >= time).then_some(opaque);
    }
    let Some(records) = unpacked(head, batch.get(HEAD..)?) else { return Some(opaque) };
    let mut records = &records[..];
    for _ in 0..head.count {
        let Some((time_delta, offset_delta)) = next_record(&mut records) else { return Some(opaque) };
        let found =
            Found { offset: head.base.saturating_add(offset_delta), time: head.first_time.saturating_add(time_delta) };
        if found.time >= time && found.offset >= start {
            return Some(found);
        }
    }
    None
}

fn unpacked(head: &Head, packed: &[u8]) -> Option<Bytes> {
    match head.codec() {
        0 => Some(Bytes::copy_from_slice(packed)),
        1 => bounded(flate2::read::MultiGzDecoder::new(packed)),
        2 => {
            (snappy_size(packed)? <= MAX_UNPACKED).then_some(())?;
            Snappy::decompress(&mut Bytes::copy_from_slice(packed), |bytes| Ok(bytes.clone())).ok()
        }
        3 => bounded(FrameDecoder::new(packed)),
        4 => bounded(zstd::stream::read::Decoder::with_buffer(packed).ok()?),
        _ => None,
    }
}

fn bounded(from: impl Read) -> Option<Bytes> {
    let mut bytes = Vec::new();
    from.take(MAX_UNPACKED + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= MAX_UNPACKED).then(|| bytes.into())
}

/// What the blocks of a snappy stream claim to unpack to, in Java's framing or plain.
fn snappy_size(packed: &[u8]) -> Option<u64> {
    const JAVA: &[u8] = b"\x82SNAPPY\x00";
    const JAVA_HEAD: usize = 16;
    if !packed.starts_with(JAVA) {
        return varint(&mut &packed[..]);
    }
    let mut at = packed.get(JAVA_HEAD..)?;
    let mut size = 0;
    while at.len() > 4 {
        let block = at.get_u32() as usize;
        size += varint(&mut at.get(..block)?)?;
        at.advance(block);
    }
    Some(size)
}

/// Steps over one record; answers its timestamp's and its offset's distance from the batch's first.
fn next_record(records: &mut &[u8]) -> Option<(i64, i64)> {
    let size = usize::try_from(zigzag(varint(records)?)).ok()?;
    let mut record = records.get(..size)?;
    *records = &records[size..];
    record.try_get_i8().ok()?;
    Some((zigzag(varint(&mut record)?), zigzag(varint(&mut record)?)))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
