//! JSON made harmless: a size and a depth bound before the parser sees it, and numbers that no reader can round. No
//! format's rules live here.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::again::Again;
use super::encoding;
use crate::error::{Reason, Reject};
use crate::limits::INPUT_DEPTH;

/// Integers beyond this lose digits in every reader that keeps numbers as 64-bit floats.
const EXACT: u64 = 1 << 53;

/// A value in which a name that is given again keeps its value too, under a name that nothing understands: so it is told of, not lost
/// [S9].
pub(super) struct Every(pub(super) Value);

impl<'de> Deserialize<'de> for Every {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Every, D::Error> {
        deserializer.deserialize_any(EveryName).map(Every)
    }
}

struct EveryName;

impl<'de> Visitor<'de> for EveryName {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let (mut object, mut again) = (Map::new(), Again::default());
        while let Some((name, Every(value))) = map.next_entry::<String, Every>()? {
            let name = again.free(name, |name| object.contains_key(name));
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Every(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// The text to parse, without a byte order mark.
///
/// # Errors
/// `too_large` beyond `bytes`, `bad_json` beyond [`INPUT_DEPTH`] levels.
pub(crate) fn bounded(body: &Bytes, bytes: usize) -> Result<&[u8], Reject> {
    if body.len() > bytes {
        return Err(Reject::new(Reason::TooLarge, format!("{} bytes, {bytes} at most", body.len())));
    }
    let text = encoding::without_mark(body);
    if depth(text) <= INPUT_DEPTH {
        Ok(text)
    } else {
        Err(Reject::new(Reason::BadJson, format!("nested deeper than {INPUT_DEPTH}")))
    }
}

/// Whether `text` has so few values that all of them may be in memory at once.
///
/// # Errors
/// `too_large` beyond `most`.
pub(super) fn few_values(text: &[u8], most: usize) -> Result<(), Reject> {
    // Each value but the first has a comma or a bracket before it; those in texts are few.
    let values = memchr::memchr3_iter(b',', b'[', b'{', text).count();
    if values <= most {
        return Ok(());
    }
    Err(Reject::new(Reason::TooLarge, format!("{values} values, {most} at most: ask for fewer at once")))
}

/// `text` with every number in quotes that a 64-bit float cannot hold: integers beyond 2^53, such as the ids of SIM cards,
/// and what overflows. So their digits stay as they were sent, here and at every reader of what is published.
pub(super) fn exact_numbers(text: &[u8]) -> Cow<'_, [u8]> {
    let mut exact: Vec<u8> = Vec::new();
    let (mut copied, mut at) = (0, 0);
    let mut quoted = false;
    while at < text.len() {
        match text[at] {
            b'\\' if quoted => at += 2,
            b'"' => {
                quoted = !quoted;
                at += 1;
            }
            b'-' | b'0'..=b'9' if !quoted => {
                let length = text[at..].iter().take_while(|byte| is_of_a_number(**byte)).count();
                let number = &text[at..at + length];
                if loses_digits(number) {
                    exact.extend_from_slice(&text[copied..at]);
                    exact.push(b'"');
                    exact.extend_from_slice(number);
                    exact.push(b'"');
                    copied = at + length;
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    exact.extend_from_slice(&text[copied..]);
    Cow::Owned(exact)
}

fn is_of_a_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// What is not a number at all stays as it is, for the parser to refuse.
fn loses_digits(number: &[u8]) -> bool {
    let digits = number.strip_prefix(b"-").unwrap_or(number);
    let well_formed = matches!(digits, [b'1'..=b'9', ..]);
    // Shorter than 16 characters it is below 2^53, and without an exponent nothing overflows.
    if !well_formed || (digits.len() < 16 && !digits.iter().any(|byte| matches!(byte, b'e' | b'E'))) {
        return false;
    }
    let Ok(text) = std::str::from_utf8(digits) else { return false };
    if digits.iter().all(u8::is_ascii_digit) {
        text.parse().map_or(true, |number: u64| number > EXACT)
    } else {
        text.parse().is_ok_and(f64::is_infinite)
    }
}

/// Deepest nesting of brackets outside strings.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    for &byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_but_not_those_in_strings() {
        assert_eq!(depth(br#"{"a":[1,{"b":"}]\"[[["}]}"#), 3);
        assert_eq!(depth(b""), 0);
    }

    #[test]
    fn both_bounds_hold_at_their_edge() {
        let nested = |n: usize| Bytes::from(format!("{}{}", "[".repeat(n), "]".repeat(n)));
        assert!(bounded(&nested(INPUT_DEPTH), 1000).is_ok());
        assert_eq!(bounded(&nested(INPUT_DEPTH + 1), 1000).unwrap_err().reason, Reason::BadJson);
        assert!(bounded(&nested(5), 10).is_ok());
        assert_eq!(bounded(&nested(5), 9).unwrap_err().reason, Reason::TooLarge);
    }

    #[test]
    fn a6_too_many_values_are_refused_before_they_are_in_memory() {
        assert!(few_values(b"[{},{}]", 4).is_ok());
        assert_eq!(few_values(b"[{},{}]", 3).unwrap_err().reason, Reason::TooLarge);
    }

    #[test]
    fn a6_a_name_given_a_thousand_times_makes_short_names() {
        let text = format!("{{{}}}", vec![r#""a":0"#; 1_000].join(","));
        let Every(value) = serde_json::from_str(&text).unwrap();
        let names: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(names.len(), 1_000);
        assert!(names.iter().all(|name| name.len() < 24), "{:?}", names.last());
    }

    #[test]
    fn numbers_that_would_lose_digits_become_text_and_no_others() {
        for (sent, kept) in [
            ("[89012601234567890123]", r#"["89012601234567890123"]"#),
            ("[-9007199254740993,9007199254740992]", r#"["-9007199254740993",9007199254740992]"#),
            (r#"{"a":1e999,"b":2.5e3}"#, r#"{"a":"1e999","b":2.5e3}"#),
            (
                r#"{"89012601234567890123":"x\"89012601234567890123"}"#,
                r#"{"89012601234567890123":"x\"89012601234567890123"}"#,
            ),
            ("[39.543212345678901234]", "[39.543212345678901234]"),
            ("[00012345678901234567890]", "[00012345678901234567890]"),
            ("[1234567890123456-1", "[1234567890123456-1"),
        ] {
            assert_eq!(String::from_utf8_lossy(&exact_numbers(sent.as_bytes())), kept);
        }
    }
}
