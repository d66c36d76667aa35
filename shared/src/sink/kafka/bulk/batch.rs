//! Record batches (magic 2) as they stand on the wire. A call's records are encoded once, by the call, without what depends on their
//! place in a batch; batches are made of what waits when a partition is free, so that they are large where much is sent.

use std::cell::RefCell;
use std::io;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use crate::record::Outgoing;
use crate::time::TimeText;

/// Records of one batch, before compression. Below the smallest sensible `max.message.bytes` of a topic, so that a batch is hardly
/// ever too large where its records alone are not.
pub(super) const BATCH_BYTES: usize = 256 << 10;
/// What a topic gains from it is in K4.
const ZSTD_LEVEL: i32 = 3;
/// What zstd is called in a batch's attributes.
const ZSTD: i16 = 4;
/// Bytes before the first record.
pub(super) const HEAD: usize = 61;
const SUM_AT: usize = 17;
const SUMMED_FROM: usize = 21;

thread_local! {
    // Its tables are large and are kept for the next batch.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// Records repeat each other for long stretches: looking for these alone, in tables that stay in a core's cache, is a seventh
/// faster, and packs no worse [K4].
fn compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(ZSTD_LEVEL)?;
    for parameter in [CParameter::MinMatch(7), CParameter::HashLog(14), CParameter::ChainLog(13)] {
        compressor.set_parameter(parameter)?;
    }
    Ok(compressor)
}

/// Who sends a batch and where it stands in what they send to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) producer: i64,
    pub(super) epoch: i16,
    pub(super) first: i32,
}

/// Encoded records of one call for one partition, in order: what of them does not depend on their place in a batch.
#[derive(Debug, Clone, Default)]
pub(super) struct Bodies {
    bytes: Vec<u8>,
    /// Where each one ends, and its time.
    records: Vec<(usize, i64)>,
    last: Option<Last>,
}

/// A record whose headers the next one takes over, with its own event and time in them: eleven headers one by one cost three times as
/// much.
#[derive(Debug, Clone)]
struct Last {
    record: Outgoing,
    time: TimeText,
    /// All of its headers.
    headers: Range<usize>,
    /// Where the values that are the record's own begin, counted from the first header.
    id_at: usize,
    time_at: usize,
    subject_at: usize,
}

impl Last {
    /// Whether the record's headers are these, but for its event and its time, which take as much room: so it is within an envelope,
    /// nearly always. What [`Outgoing::each_header`] writes stands here too.
    fn fits(&self, record: &Outgoing, time: &TimeText) -> bool {
        let last = &self.record;
        last.topic == record.topic
            && last.tier == record.tier
            && last.revision == record.revision
            && last.source == record.source
            && last.tenant == record.tenant
            && last.dataschema == record.dataschema
            && last.traceparent == record.traceparent
            && last.extra == record.extra
            && self.time.as_str().len() == time.as_str().len()
    }

    fn write(to: &mut Vec<u8>, record: &Outgoing, time: TimeText) -> Last {
        let (from, [mut id_at, mut time_at, mut subject_at]) = (to.len(), [0; 3]);
        record.each_header(|name, value| {
            put_text(to, name.as_bytes());
            put_text(to, value.as_bytes());
            let at = to.len() - value.len() - from;
            match name {
                "ce_id" => id_at = at,
                "ce_time" => time_at = at,
                "ce_subject" => subject_at = at,
                _ => {}
            }
        });
        // Its value is not needed, and would be kept as long as the batch.
        let record = Outgoing { value: Bytes::new(), ..record.clone() };
        Last { record, time, headers: from..to.len(), id_at, time_at, subject_at }
    }

    fn write_again(&mut self, to: &mut Vec<u8>, record: &Outgoing, time: TimeText) {
        let from = to.len();
        to.extend_from_within(self.headers.clone());
        self.headers = from..to.len();
        let headers = &mut to[from..];
        let event = record.event.digits();
        for (at, text) in
            [(self.id_at, &event[..]), (self.time_at, time.as_str().as_bytes()), (self.subject_at, &event[..])]
        {
            headers[at..at + text.len()].copy_from_slice(text);
        }
        self.time = time;
    }
}

/// Room for what is beside a record's value: its key and its headers.
const BESIDE: usize = 640;

impl Bodies {
    /// Room for some more like `record`.
    pub(super) fn reserve(&mut self, records: usize, record: &Outgoing) {
        self.bytes.reserve((records * (record.value.len() + BESIDE)).min(BATCH_BYTES + BATCH_BYTES / 8));
        self.records.reserve(records);
    }

    pub(super) fn add(&mut self, record: &Outgoing) {
        put_text(&mut self.bytes, record.key.as_bytes());
        put_text(&mut self.bytes, &record.value);
        put_varint(&mut self.bytes, record.header_count() as i64);
        let time = TimeText::of(record.observed_at);
        match self.last.as_mut().filter(|last| last.fits(record, &time)) {
            Some(last) => last.write_again(&mut self.bytes, record, time),
            None => self.last = Some(Last::write(&mut self.bytes, record, time)),
        }
        self.records.push((self.bytes.len(), record.ingested_at.as_millisecond()));
    }

    pub(super) fn count(&self) -> usize {
        self.records.len()
    }

    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The first `count` records, and the others.
    pub(super) fn split(&self, count: usize) -> [Bodies; 2] {
        let mut halves = [Bodies::default(), Bodies::default()];
        for (n, (body, time)) in self.each().enumerate() {
            let half = &mut halves[usize::from(n >= count)];
            half.bytes.extend_from_slice(body);
            half.records.push((half.bytes.len(), time));
        }
        halves
    }

    fn each(&self) -> impl Iterator<Item = (&[u8], i64)> {
        let mut from = 0;
        self.records.iter().map(move |&(to, time)| (&self.bytes[std::mem::replace(&mut from, to)..to], time))
    }
}

/// The whole batch, ready to be sent.
///
/// # Errors
/// When there is no memory to compress it.
pub(super) fn encode<'a>(parts: impl Iterator<Item = &'a Bodies>, sequence: Sequence) -> io::Result<Bytes> {
    let mut plain = Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 8);
    let mut times = Times::default();
    for (body, time) in parts.flat_map(Bodies::each) {
        let after_first = times.add(time);
        let offset = i64::from(times.count - 1);
        // One byte of attributes.
        let size = 1 + varint_bytes(after_first) + varint_bytes(offset) + body.len();
        put_varint(&mut plain, size as i64);
        plain.push(0);
        put_varint(&mut plain, after_first);
        put_varint(&mut plain, offset);
        plain.extend_from_slice(body);
    }
    let packed = COMPRESSOR.with_borrow_mut(|kept| {
        let mut compressor = kept.take().map_or_else(compressor, Ok)?;
        let packed = compressor.compress(&plain)?;
        *kept = Some(compressor);
        io::Result::Ok(packed)
    })?;
    let mut batch = BytesMut::with_capacity(HEAD + packed.len());
    // The offset is the broker's to give; the length does not count these first twelve bytes.
    batch.put_i64(0);
    batch.put_i32((HEAD - 12 + packed.len()) as i32);
    // No leader's epoch, the magic, and room for the checksum.
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(0);
    batch.put_i16(ZSTD);
    batch.put_i32(times.count - 1);
    batch.put_i64(times.first);
    batch.put_i64(times.last);
    batch.put_i64(sequence.producer);
    batch.put_i16(sequence.epoch);
    batch.put_i32(sequence.first);
    batch.put_i32(times.count);
    batch.put_slice(&packed);
    let sum = crc32c::crc32c(&batch[SUMMED_FROM..]);
    (&mut batch[SUM_AT..]).put_u32(sum);
    Ok(batch.freeze())
}

/// The times of a batch's records, and how many there are.
#[derive(Default)]
struct Times {
    first: i64,
    last: i64,
    count: i32,
}

impl Times {
    /// How long after the first one.
    fn add(&mut self, time: i64) -> i64 {
        if self.count == 0 {
            (self.first, self.last) = (time, time);
        }
        self.last = self.last.max(time);
        self.count += 1;
        time - self.first
    }
}

fn put_text(to: &mut Vec<u8>, text: &[u8]) {
    put_varint(to, text.len() as i64);
    to.extend_from_slice(text);
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn varint_bytes(number: i64) -> usize {
    (64 - (zigzag(number) | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_varint(to: &mut Vec<u8>, number: i64) {
    let mut left = zigzag(number);
    while left > 0x7f {
        to.push(left as u8 | 0x80);
        left >>= 7;
    }
    to.push(left as u8);
}

impl Sequence {
    /// Where the batch after one of `count` records stands: sequences run from 0 to `i32::MAX` and begin again.
    pub(super) fn after(self, count: usize) -> Sequence {
        let first = (i64::from(self.first) + count as i64) % (i64::from(i32::MAX) + 1);
        Sequence { first: first as i32, ..self }
    }

    /// The first one of a new epoch; none when there is no newer one.
    pub(super) fn next_epoch(self) -> Option<Sequence> {
        Some(Sequence { epoch: self.epoch.checked_add(1)?, first: 0, ..self })
    }
}
