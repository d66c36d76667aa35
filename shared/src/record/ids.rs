//! Names and identities, valid from construction on. An `EventId` can be recomputed by anyone [S12].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// A text that is not a valid id, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not valid: {rule}")]
pub struct BadId {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $extra:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// 1 to 64 characters, a letter or digit first.
            ///
            /// # Errors
            /// The rule that the text breaks.
            pub fn new(text: &str) -> Result<$name, BadId> {
                let valid = (1..=64).contains(&text.len())
                    && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || $extra.contains(&b))
                    && text.as_bytes()[0].is_ascii_alphanumeric();
                if valid { Ok($name(text.into())) } else { Err(BadId { kind: $kind, text: text.chars().take(80).collect(), rule: $rule }) }
            }

            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<$name, BadId> {
                $name::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                $name::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "minLength": 1, "maxLength": 64 })
            }
        }
    };
}

id!(
    /// What a record is published under, such as `firms_viirs_snpp`: decides its tier and topic [P2].
    SourceId, "source id", [b'_'], "1 to 64 of a-z, 0-9 and _, beginning with a letter or digit"
);
id!(
    /// One running (connector, configuration) pair.
    StreamId, "stream id", [b'_', b'-', b'.'], "1 to 64 of a-z, 0-9, _, - and ., beginning with a letter or digit"
);
id!(
    /// A fire agency or unit [D4].
    TenantId, "tenant", [b'_', b'-'], "1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit"
);
id!(
    /// A registered sender or poller that holds a key [A1].
    ConnectorId, "connector id", [b'_', b'-', b'.'], "1 to 64 of a-z, 0-9, _, - and ., beginning with a letter or digit"
);

/// The first 128 bits of SHA-256 over the source id and the natural-key fields, separated by 0x1f [S12].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId([u8; 16]);

impl EventId {
    /// `fields` are the natural key's texts as the source wrote them, blanks around them removed.
    pub fn of<F: AsRef<[u8]>>(source: &SourceId, fields: impl IntoIterator<Item = F>) -> EventId {
        let mut hash = EventHash::of(source);
        fields.into_iter().for_each(|field| hash.field(field.as_ref()));
        hash.id()
    }

    /// An id from its 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> EventId {
        EventId(bytes)
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The part that stands in the seen-set: 8 bytes.
    pub fn short(&self) -> u64 {
        (u128::from_be_bytes(self.0) >> 64) as u64
    }

    /// 32 lower-case hex digits. Each record is named by them several times, and the formatter of integers is slow.
    pub(crate) fn digits(&self) -> [u8; 32] {
        let mut text = [0; 32];
        for (two, byte) in text.chunks_exact_mut(2).zip(self.0) {
            two.copy_from_slice(&hex_digits(byte));
        }
        text
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EventId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<EventId, BadId> {
        let bad =
            || BadId { kind: "event id", text: text.chars().take(80).collect(), rule: "32 lower-case hex digits" };
        if text.len() != 32 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad());
        }
        u128::from_str_radix(text, 16).map(|n| EventId(n.to_be_bytes())).map_err(|_| bad())
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.digits()).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EventId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for EventId {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EventId".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{32}$" })
    }
}

/// An event id in the making: the natural key's texts one after the other, hashed at once, since a hash takes many small texts slowly.
pub(crate) struct EventHash(Vec<u8>);

impl EventHash {
    pub(crate) fn of(source: &SourceId) -> EventHash {
        let mut texts = Vec::with_capacity(192);
        texts.extend_from_slice(source.as_str().as_bytes());
        EventHash(texts)
    }

    pub(crate) fn field(&mut self, text: &[u8]) {
        self.0.push(0x1f);
        self.0.extend_from_slice(text);
    }

    pub(crate) fn id(self) -> EventId {
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(&self.0)[..16]);
        EventId(id)
    }
}

/// Lower-case hex, two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| hex_digits(*byte)).map(char::from).collect()
}

fn hex_digits(byte: u8) -> [u8; 2] {
    [hex_digit(byte >> 4), hex_digit(byte & 15)]
}

/// Of a number below 16.
pub(super) fn hex_digit(number: u8) -> u8 {
    b"0123456789abcdef"[usize::from(number & 15)]
}

/// First 4 bytes of SHA-256 over the content fields, each given in parts, separated by 0x1f: tells a revised record from a repeated one [S12].
pub(crate) fn content_hash<'a>(fields: impl IntoIterator<Item = &'a [&'a [u8]]>) -> u32 {
    let mut hash = Sha256::new();
    for field in fields {
        field.iter().for_each(|part| hash.update(part));
        hash.update([0x1f]);
    }
    let digest = hash.finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_is_what_any_sha256_tool_gives() {
        // printf 'firms_viirs_snpp\x1f38.5\x1f-121.25\x1f2020-09-28\x1f930\x1fN' | sha256sum
        let source = SourceId::new("firms_viirs_snpp").unwrap();
        let id = EventId::of(&source, ["38.5", "-121.25", "2020-09-28", "930", "N"]);
        assert_eq!(id.to_string(), "28830e2136098655941b7e0102782b71");
        assert_eq!(id.to_string().parse::<EventId>().unwrap(), id);
    }

    #[test]
    fn ids_refuse_what_could_not_be_a_header_or_a_path() {
        for bad in ["", "Firms", "a b", "../x", "_x", "x\n", &"x".repeat(65)] {
            assert!(SourceId::new(bad).is_err(), "{bad:?} was taken");
        }
        assert!(StreamId::new("firms.viirs-1").is_ok());
        assert!("00".parse::<EventId>().is_err());
    }
}
