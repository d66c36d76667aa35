//! Every request that this endpoint answers: its versions, and the shape of its body. The shape is walked before a body
//! is decoded, because the decoder reserves memory for as many elements as an array claims to have.
//! The highest versions of Produce, Fetch and of the committed offsets stay below those that name topics by id.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

use super::limits::MAX_ELEMENTS;

/// One kind of request.
pub(super) struct Api {
    pub(super) key: ApiKey,
    pub(super) min: i16,
    pub(super) max: i16,
    /// From this version on lengths are varints and every structure ends with tagged fields.
    flexible: i16,
    body: &'static [Field],
}

struct Field {
    from: i16,
    to: i16,
    kind: Kind,
}

enum Kind {
    Fixed(usize),
    Text,
    Blob,
    /// An array of structures.
    Many(&'static [Field]),
    /// An array of values.
    List(&'static Kind),
}

const fn all(kind: Kind) -> Field {
    Field { from: 0, to: i16::MAX, kind }
}

const fn from(from: i16, kind: Kind) -> Field {
    Field { from, to: i16::MAX, kind }
}

const fn until(to: i16, kind: Kind) -> Field {
    Field { from: 0, to, kind }
}

const fn between(from: i16, to: i16, kind: Kind) -> Field {
    Field { from, to, kind }
}

use Kind::{Blob, Fixed, List, Many, Text};
const I8: Kind = Fixed(1);
const I16: Kind = Fixed(2);
const I32: Kind = Fixed(4);
const I64: Kind = Fixed(8);
const UUID: Kind = Fixed(16);

macro_rules! apis {
    ($($key:ident $min:literal ..= $max:literal, flexible $flexible:literal, [$($field:expr),* $(,)?];)*) => {
        &[$(Api { key: ApiKey::$key, min: $min, max: $max, flexible: $flexible, body: &[$($field),*] }),*]
    };
}

pub(super) const APIS: &[Api] = apis! {
    Produce 3..=9, flexible 9, [
        all(Text), all(I16), all(I32),
        all(Many(&[all(Text), all(Many(&[all(I32), all(Blob)]))])),
    ];
    Fetch 4..=12, flexible 12, [
        all(I32), all(I32), all(I32), all(I32), all(I8), from(7, I32), from(7, I32),
        all(Many(&[all(Text), all(Many(&[all(I32), from(9, I32), all(I64), from(12, I32), from(5, I64), all(I32)]))])),
        from(7, Many(&[all(Text), all(List(&I32))])),
        from(11, Text),
    ];
    ListOffsets 1..=10, flexible 6, [
        all(I32), from(2, I8),
        all(Many(&[all(Text), all(Many(&[all(I32), from(4, I32), all(I64)]))])),
        from(10, I32),
    ];
    Metadata 0..=12, flexible 9, [
        all(Many(&[from(10, UUID), all(Text)])), from(4, I8), between(8, 10, I8), from(8, I8),
    ];
    OffsetCommit 2..=8, flexible 8, [
        all(Text), all(I32), all(Text), from(7, Text), until(4, I64),
        all(Many(&[all(Text), all(Many(&[all(I32), all(I64), from(6, I32), all(Text)]))])),
    ];
    OffsetFetch 1..=8, flexible 6, [
        until(7, Text),
        until(7, Many(&[all(Text), all(List(&I32))])),
        from(8, Many(&[all(Text), all(Many(&[all(Text), all(List(&I32))]))])),
        from(7, I8),
    ];
    FindCoordinator 0..=4, flexible 3, [until(3, Text), from(1, I8), from(4, List(&Text))];
    JoinGroup 0..=9, flexible 6, [
        all(Text), all(I32), from(1, I32), all(Text), from(5, Text), all(Text), all(Many(&[all(Text), all(Blob)])),
        from(8, Text),
    ];
    Heartbeat 0..=4, flexible 4, [all(Text), all(I32), all(Text), from(3, Text)];
    LeaveGroup 0..=5, flexible 4, [
        all(Text), until(2, Text), from(3, Many(&[all(Text), all(Text), from(5, Text)])),
    ];
    SyncGroup 0..=5, flexible 4, [
        all(Text), all(I32), all(Text), from(3, Text), from(5, Text), from(5, Text), all(Many(&[all(Text), all(Blob)])),
    ];
    DescribeGroups 0..=5, flexible 5, [all(List(&Text)), from(3, I8)];
    ListGroups 0..=5, flexible 3, [from(4, List(&Text)), from(5, List(&Text))];
    ApiVersions 0..=4, flexible 3, [from(3, Text), from(3, Text)];
    CreateTopics 2..=7, flexible 5, [
        all(Many(&[
            all(Text), all(I32), all(I16),
            all(Many(&[all(I32), all(List(&I32))])),
            all(Many(&[all(Text), all(Text)])),
        ])),
        all(I32), all(I8),
    ];
    DeleteTopics 1..=6, flexible 4, [from(6, Many(&[all(Text), all(UUID)])), until(5, List(&Text)), all(I32)];
    DeleteRecords 0..=2, flexible 2, [all(Many(&[all(Text), all(Many(&[all(I32), all(I64)]))])), all(I32)];
    InitProducerId 0..=4, flexible 2, [all(Text), all(I32), from(3, I64), from(3, I16)];
    OffsetForLeaderEpoch 2..=4, flexible 4, [
        from(3, I32), all(Many(&[all(Text), all(Many(&[all(I32), all(I32), all(I32)]))])),
    ];
    DescribeLogDirs 1..=4, flexible 2, [all(Many(&[all(Text), all(List(&I32))]))];
    DescribeConfigs 1..=4, flexible 4, [
        all(Many(&[all(I8), all(Text), all(List(&Text))])), all(I8), from(3, I8),
    ];
    AlterConfigs 0..=2, flexible 2, [
        all(Many(&[all(I8), all(Text), all(Many(&[all(Text), all(Text)]))])), all(I8),
    ];
    CreatePartitions 0..=3, flexible 2, [
        all(Many(&[all(Text), all(I32), all(Many(&[all(List(&I32))]))])), all(I32), all(I8),
    ];
    DeleteGroups 0..=2, flexible 2, [all(List(&Text))];
    IncrementalAlterConfigs 0..=1, flexible 1, [
        all(Many(&[all(I8), all(Text), all(Many(&[all(Text), all(I8), all(Text)]))])), all(I8),
    ];
    OffsetDelete 0..=0, flexible 1, [all(Text), all(Many(&[all(Text), all(Many(&[all(I32)]))]))];
    DescribeCluster 0..=1, flexible 0, [all(I8), from(1, I8)];
};

pub(super) fn find(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key as i16 == key)
}

/// What stands before a body.
pub(super) struct Header {
    pub(super) key: i16,
    pub(super) version: i16,
    pub(super) correlation: i32,
    pub(super) client_id: StrBytes,
    pub(super) body: Bytes,
}

impl Header {
    pub(super) fn parse(frame: &Bytes) -> Option<Self> {
        let mut at = &frame[..];
        let (key, version) = (at.try_get_i16().ok()?, at.try_get_i16().ok()?);
        let correlation = at.try_get_i32().ok()?;
        let client_id = match usize::try_from(at.try_get_i16().ok()?) {
            Ok(size) => {
                let client_id = frame.slice_ref(at.get(..size)?);
                at.advance(size);
                StrBytes::from_utf8(client_id).ok()?
            }
            Err(_) => StrBytes::default(),
        };
        if find(key).is_some_and(|api| version >= api.flexible) {
            let mut walk = Walk { version, flexible: true, left: at, elements: MAX_ELEMENTS };
            walk.tagged_fields()?;
            at = walk.left;
        }
        Some(Self { key, version, correlation, client_id, body: frame.slice_ref(at) })
    }
}

impl Api {
    /// Whether the body holds all that its lengths claim, in no more than [`MAX_ELEMENTS`] array elements. Answers the
    /// bytes left over.
    pub(super) fn check(&self, version: i16, body: &[u8]) -> Option<usize> {
        let mut walk = Walk { version, flexible: version >= self.flexible, left: body, elements: MAX_ELEMENTS };
        walk.structure(self.body)?;
        Some(walk.left.len())
    }
}

struct Walk<'a> {
    version: i16,
    flexible: bool,
    left: &'a [u8],
    elements: usize,
}

impl Walk<'_> {
    fn structure(&mut self, fields: &[Field]) -> Option<()> {
        for field in fields {
            if (field.from..=field.to).contains(&self.version) {
                self.value(&field.kind)?;
            }
        }
        if self.flexible { self.tagged_fields() } else { Some(()) }
    }

    fn tagged_fields(&mut self) -> Option<()> {
        let count = self.varint()? as usize;
        self.elements = self.elements.checked_sub(count)?;
        for _ in 0..count {
            self.varint()?;
            let size = self.varint()?;
            self.skip(size as usize)?;
        }
        Some(())
    }

    fn value(&mut self, kind: &Kind) -> Option<()> {
        match kind {
            Fixed(size) => self.skip(*size),
            Text if !self.flexible => {
                let size = self.left.try_get_i16().ok()?;
                self.skip(usize::try_from(size).unwrap_or(0))
            }
            Text | Blob => {
                let size = self.count()?;
                self.skip(size)
            }
            Many(fields) => {
                for _ in 0..self.elements()? {
                    self.structure(fields)?;
                }
                Some(())
            }
            List(kind) => {
                for _ in 0..self.elements()? {
                    self.value(kind)?;
                }
                Some(())
            }
        }
    }

    fn elements(&mut self) -> Option<usize> {
        let count = self.count()?;
        self.elements = self.elements.checked_sub(count)?;
        Some(count)
    }

    /// The length of an array or of bytes; that of a null one is 0.
    fn count(&mut self) -> Option<usize> {
        if self.flexible {
            return Some((self.varint()? as usize).saturating_sub(1));
        }
        let count = self.left.try_get_i32().ok()?;
        Some(usize::try_from(count).unwrap_or(0))
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.left.try_get_u8().ok()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn skip(&mut self, size: usize) -> Option<()> {
        self.left = self.left.get(size..)?;
        Some(())
    }
}

#[cfg(test)]
#[path = "apis_tests.rs"]
mod tests;
