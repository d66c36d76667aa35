//! What a queue carries: a packed, compressed batch of records of one stream, one tenant and one tier. Packing is done
//! once at ingest; deliver only unpacks and sends.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};
use ulid::Ulid;
use zstd::bulk::{Compressor, Decompressor};

use crate::error::Reason;
use crate::limits::{ENVELOPE_UNPACKED_BYTES, ENVELOPE_ZSTD_LEVEL};
use crate::record::{EventId, SourceId, StreamId, TenantId, Tier, Topic, Traceparent};
use crate::time::{TimeText, Timestamp, rfc3339};

/// One record ready for a sink: key, value and what its headers say.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Where it is published, before any prefix [K2].
    pub topic: Topic,
    /// Keeps records that belong together in their order [K3].
    pub key: String,
    /// The published JSON, serialised once [K5].
    pub value: Bytes,
    /// Which event it tells of [S12].
    pub event: EventId,
    /// 0 for the first, one more for each change of the event.
    pub revision: u32,
    /// What it is published under.
    pub source: SourceId,
    /// Whose it is [D4].
    pub tenant: TenantId,
    /// The tier that was decided once, at ingest [P3].
    pub tier: Tier,
    /// Absolute URI of the value's schema.
    pub dataschema: Arc<str>,
    /// When it happened, by the source; `ce_time`.
    pub observed_at: Timestamp,
    /// When the source published it, if it says so [O4].
    pub published_at: Option<Timestamp>,
    /// Also the Kafka timestamp [K5].
    pub ingested_at: Timestamp,
    /// The trace that it belongs to [O5].
    pub traceparent: Traceparent,
    /// Headers that only some records have: an alert's `status`, `msgType`, `sent`, `expires`, `references` [E4].
    pub extra: Vec<(String, String)>,
}

impl Outgoing {
    /// Marks an alert that has expired by `now`, and is delivered all the same [E4].
    pub fn mark_expired(&mut self, now: Timestamp) {
        let header = |name| self.extra.iter().find(|(other, _)| other == name);
        // One form, UTC with milliseconds: the texts compare as the times do.
        let expired = header("expires").is_some_and(|(_, expires)| *expires < rfc3339(now));
        if expired && header("expired").is_none() {
            self.extra.push(("expired".to_owned(), "true".to_owned()));
        }
    }

    /// CloudEvents 1.0 binary mode, and what it has no name for; each fact once [K5], in published order. A record has a dozen:
    /// whoever sends many takes them as they are written.
    pub fn each_header<'a>(&'a self, mut each: impl FnMut(&'a str, &str)) {
        let mut text = String::with_capacity(80);
        each("content-type", "application/json");
        each("ce_specversion", "1.0");
        let digits = self.event.digits();
        let event = std::str::from_utf8(&digits).unwrap_or_default();
        text.push_str(event);
        // A String takes what is written.
        let _ = write!(text, "-{}", self.revision);
        each("ce_id", &text);
        text.clear();
        text.push_str("/streammanager/");
        text.push_str(self.source.as_str());
        each("ce_source", &text);
        each("ce_type", self.topic.event_type());
        each("ce_time", TimeText::of(self.observed_at).as_str());
        each("ce_subject", event);
        each("ce_dataschema", &self.dataschema);
        each("priority", self.tier.name());
        each("tenant", self.tenant.as_str());
        each("traceparent", self.traceparent.as_str());
        self.extra.iter().for_each(|(name, value)| each(name, value));
    }

    /// All of them.
    pub fn headers(&self) -> Vec<(&str, String)> {
        let mut headers = Vec::new();
        self.each_header(|name, value| headers.push((name, value.to_owned())));
        headers
    }

    /// How many there are.
    pub fn header_count(&self) -> usize {
        11 + self.extra.len()
    }
}

/// An envelope whose head is read and whose body is still packed.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// Names it in queues and marks; sorts by the time at which it was packed.
    pub id: Ulid,
    /// The stream that all of its records came in.
    pub stream: StreamId,
    /// Whose records they are [D4].
    pub tenant: TenantId,
    /// The tier of all of its records, and so its queue.
    pub tier: Tier,
    /// When the records were in our hands: the age clock of P1 and P6, kept over remainders.
    pub accepted_at: Timestamp,
    /// The trace that all of its records belong to [O5].
    pub traceparent: Traceparent,
    /// The sink must have all of it before the stream's next envelope begins: its records supersede each other [K3].
    pub in_order: bool,
    /// Records in the body.
    pub count: u32,
    /// Bytes of the body once it is unpacked.
    plain_bytes: u32,
    body: Bytes,
}

/// A body that cannot be read: corrupt, or written by a newer version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("envelope cannot be read: {0}")]
pub struct Unreadable(pub String);

#[derive(Serialize, Deserialize)]
struct Head<'a> {
    id: u128,
    stream: &'a str,
    tenant: &'a str,
    tier: Tier,
    accepted_ms: i64,
    traceparent: &'a str,
    in_order: bool,
    count: u32,
    plain_bytes: u32,
}

#[derive(Serialize, Deserialize)]
struct Packed<'a> {
    topic: u8,
    dataschema: &'a str,
    source: &'a str,
    key: &'a str,
    #[serde(serialize_with = "at_once")]
    event: &'a [u8],
    revision: u32,
    observed_ms: i64,
    published_ms: Option<i64>,
    ingested_ms: i64,
    #[serde(borrow)]
    extra: Vec<(&'a str, &'a str)>,
    #[serde(serialize_with = "at_once")]
    value: &'a [u8],
}

/// A slice is otherwise written byte by byte.
fn at_once<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

thread_local! {
    // Their tables are large and are kept for the next envelope.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn compress(plain: &[u8], level: i32) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let mut compressor = kept.take().map_or_else(|| Compressor::new(level), Ok)?;
        compressor.set_compression_level(level)?;
        let packed = compressor.compress(plain)?;
        *kept = Some(compressor);
        Ok(packed)
    })
}

fn decompress(packed: &[u8], plain_bytes: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let mut decompressor = kept.take().map_or_else(Decompressor::new, Ok)?;
        let plain = decompressor.decompress(packed, plain_bytes)?;
        *kept = Some(decompressor);
        Ok(plain)
    })
}

/// How many bytes the records have before they are packed, and the packed ones.
fn packed(records: &[Outgoing], level: i32) -> Result<(u32, Bytes), Unreadable> {
    let mut plain = Vec::with_capacity(records.iter().map(|r| r.value.len() + 160).sum());
    for record in records {
        let packed = Packed {
            topic: record.topic.code(),
            dataschema: &record.dataschema,
            source: record.source.as_str(),
            key: &record.key,
            event: record.event.as_bytes(),
            revision: record.revision,
            observed_ms: record.observed_at.as_millisecond(),
            published_ms: record.published_at.map(Timestamp::as_millisecond),
            ingested_ms: record.ingested_at.as_millisecond(),
            extra: record.extra.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            value: &record.value,
        };
        plain = postcard::to_extend(&packed, plain).map_err(|e| Unreadable(e.to_string()))?;
    }
    if plain.len() > ENVELOPE_UNPACKED_BYTES {
        return Err(Unreadable(format!("{} bytes are more than an envelope holds", plain.len())));
    }
    let body = compress(&plain, level).map_err(|e| Unreadable(e.to_string()))?.into();
    Ok((plain.len() as u32, body))
}

/// Layout version, the first byte of an encoded envelope. The CRC-32C of everything behind it follows in four bytes, little
/// endian: bytes that a disk or a wire damaged are known as such before anything is read from them [Q1].
const VERSION: u8 = 5;
/// Bytes before what the checksum covers.
const PREAMBLE: usize = 5;
/// Room for a head: ids of 64 characters at most, a trace of 55, numbers.
const HEAD: usize = 256;

impl Envelope {
    /// Packs `records`, all of the head's stream, tenant and tier, with zstd at `level`.
    #[allow(clippy::too_many_arguments)] // the head's fields, each once
    pub fn pack(
        id: Ulid,
        stream: StreamId,
        tenant: TenantId,
        tier: Tier,
        accepted_at: Timestamp,
        traceparent: Traceparent,
        records: &[Outgoing],
        level: i32,
    ) -> Result<Envelope, Unreadable> {
        let (plain_bytes, body) = packed(records, level)?;
        let count = records.len() as u32;
        Ok(Envelope { id, stream, tenant, tier, accepted_at, traceparent, in_order: false, count, plain_bytes, body })
    }

    /// The same, to be kept in its stream's order or not.
    #[must_use]
    pub fn in_order(self, in_order: bool) -> Envelope {
        Envelope { in_order, ..self }
    }

    /// The same envelope with these of its records alone: what a sink has not taken yet [Q1].
    pub fn remainder(&self, records: &[Outgoing]) -> Result<Envelope, Unreadable> {
        let (plain_bytes, body) = packed(records, ENVELOPE_ZSTD_LEVEL)?;
        Ok(Envelope { count: records.len() as u32, plain_bytes, body, ..self.clone() })
    }

    /// Compressed size of the body in bytes.
    pub fn packed_bytes(&self) -> usize {
        self.body.len()
    }

    /// Size of the body in bytes once it is unpacked.
    pub(crate) fn unpacked_bytes(&self) -> usize {
        self.plain_bytes as usize
    }

    /// The records inside, in the order in which they were packed.
    pub fn unpack(&self) -> Result<Vec<Outgoing>, Unreadable> {
        let bad = |e: &dyn std::fmt::Display| Unreadable(format!("{} of {}: {e}", self.id, self.stream));
        let plain_bytes = self.plain_bytes as usize;
        if plain_bytes > ENVELOPE_UNPACKED_BYTES {
            return Err(bad(&format_args!("{plain_bytes} bytes are more than an envelope holds")));
        }
        let plain: Bytes = decompress(&self.body, plain_bytes).map_err(|e| bad(&e))?.into();
        let mut records: Vec<Outgoing> = Vec::with_capacity(self.count.min(16_384) as usize);
        let mut rest = &plain[..];
        while !rest.is_empty() {
            let (packed, after) = postcard::take_from_bytes::<Packed<'_>>(rest).map_err(|e| bad(&e))?;
            rest = after;
            // Records of one envelope have these in common, nearly always.
            let (source, dataschema) = match records.last() {
                Some(last) if last.source.as_str() == packed.source && *last.dataschema == *packed.dataschema => {
                    (last.source.clone(), last.dataschema.clone())
                }
                _ => (SourceId::new(packed.source).map_err(|e| bad(&e))?, packed.dataschema.into()),
            };
            records.push(Outgoing {
                topic: Topic::of_code(packed.topic)
                    .ok_or_else(|| bad(&format_args!("no topic has the number {}", packed.topic)))?,
                key: packed.key.into(),
                value: plain.slice_ref(packed.value),
                event: EventId::from_bytes(packed.event.try_into().map_err(|e| bad(&e))?),
                revision: packed.revision,
                source,
                tenant: self.tenant.clone(),
                tier: self.tier,
                dataschema,
                observed_at: Timestamp::from_millisecond(packed.observed_ms).map_err(|e| bad(&e))?,
                published_at: packed.published_ms.map(Timestamp::from_millisecond).transpose().map_err(|e| bad(&e))?,
                ingested_at: Timestamp::from_millisecond(packed.ingested_ms).map_err(|e| bad(&e))?,
                traceparent: self.traceparent.clone(),
                extra: packed.extra.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            });
        }
        if records.len() == self.count as usize {
            Ok(records)
        } else {
            Err(bad(&format_args!("{} records, the head says {}", records.len(), self.count)))
        }
    }

    /// The bytes that a queue carries.
    pub fn encode(&self) -> Result<Bytes, Unreadable> {
        let head = Head {
            id: self.id.into(),
            stream: self.stream.as_str(),
            tenant: self.tenant.as_str(),
            tier: self.tier,
            accepted_ms: self.accepted_at.as_millisecond(),
            traceparent: self.traceparent.as_str(),
            in_order: self.in_order,
            count: self.count,
            plain_bytes: self.plain_bytes,
        };
        let mut preamble = Vec::with_capacity(PREAMBLE + HEAD + self.body.len());
        preamble.extend([VERSION, 0, 0, 0, 0]);
        let mut bytes = postcard::to_extend(&head, preamble).map_err(|e| Unreadable(e.to_string()))?;
        bytes.extend_from_slice(&self.body);
        let checksum = crc32c::crc32c(&bytes[PREAMBLE..]).to_le_bytes();
        bytes[1..PREAMBLE].copy_from_slice(&checksum);
        Ok(bytes.into())
    }

    /// # Errors
    /// For another layout, and for bytes that are not the ones that were encoded.
    pub fn decode(bytes: &Bytes) -> Result<Envelope, Unreadable> {
        let bad = |e: &dyn std::fmt::Display| Unreadable(e.to_string());
        match bytes.first() {
            Some(&VERSION) => {}
            Some(other) => return Err(Unreadable(format!("it has layout {other}, this program reads {VERSION}"))),
            None => return Err(Unreadable("it is empty".into())),
        }
        let checked = bytes.get(PREAMBLE..).ok_or_else(|| Unreadable("it ends within its checksum".into()))?;
        if crc32c::crc32c(checked).to_le_bytes() != bytes[1..PREAMBLE] {
            return Err(Unreadable("its bytes were damaged: the checksum differs".into()));
        }
        let (head, body) = postcard::take_from_bytes::<Head<'_>>(checked).map_err(|e| bad(&e))?;
        Ok(Envelope {
            id: Ulid::from(head.id),
            stream: StreamId::new(head.stream).map_err(|e| bad(&e))?,
            tenant: TenantId::new(head.tenant).map_err(|e| bad(&e))?,
            tier: head.tier,
            accepted_at: Timestamp::from_millisecond(head.accepted_ms).map_err(|e| bad(&e))?,
            traceparent: Traceparent::read(head.traceparent),
            in_order: head.in_order,
            count: head.count,
            plain_bytes: head.plain_bytes,
            body: bytes.slice_ref(body),
        })
    }
}

/// What became of one record at a sink [Q1].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// Durable, and where; `None` when the sink does not know where, as after a repeat that a broker left out.
    Acked(Option<Written>),
    /// May succeed later; the text is for people. A timed-out record may have been written: a possible duplicate.
    Retry(String),
    /// Never will; goes to the dead letters.
    Refused(Reason, String),
}

impl Sent {
    /// Whether the sink has the record.
    pub fn is_acked(&self) -> bool {
        matches!(self, Sent::Acked(_))
    }
}

/// Where an acknowledged record lies in its topic [E5]. A file has the partition 0, and its offsets are bytes: there the
/// record's line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Written {
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        let record = Outgoing {
            topic: Topic::CRITICAL_ALERTS,
            key: "thread".into(),
            value: Bytes::from_static(b"{\"note\":\"leave by Highway 70\"}"),
            event: EventId::from_bytes([7; 16]),
            revision: 0,
            source: SourceId::new("evacuation_alert_butte").unwrap(),
            tenant: TenantId::new("butte").unwrap(),
            tier: Tier::Critical,
            dataschema: Topic::CRITICAL_ALERTS.schema_uri("urn:x:").into(),
            observed_at: at,
            published_at: Some(at),
            ingested_at: at,
            traceparent: Traceparent::new([1; 16], [2; 8]),
            extra: vec![("status".into(), "Actual".into())],
        };
        let (stream, tenant) = (StreamId::new("butte").unwrap(), record.tenant.clone());
        let trace = record.traceparent.clone();
        Envelope::pack(Ulid::from(5u128), stream, tenant, Tier::Critical, at, trace, &[record], 1).unwrap()
    }

    #[test]
    fn q1_an_envelope_comes_back_as_it_was() {
        let packed = envelope();
        let read = Envelope::decode(&packed.encode().unwrap()).unwrap();
        assert_eq!(read, packed);
        assert_eq!(read.unpack().unwrap(), packed.unpack().unwrap());
    }

    #[test]
    fn q1_one_flipped_bit_anywhere_or_a_missing_end_is_known() {
        let sound = envelope().encode().unwrap();
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Envelope::decode(&bytes.into()).is_err(), "bit {bit} of {}", sound.len() * 8);
        }
        for end in 0..sound.len() {
            assert!(Envelope::decode(&sound.slice(..end)).is_err(), "{end} of {} bytes", sound.len());
        }
    }
}
