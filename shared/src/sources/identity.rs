//! Who a record is [S12], worked out from what is published and nothing else, in one place for every source: the natural key's
//! values as the record's JSON writes them. Anybody who has the record and its schema's `x-natural-key` can do the same.

use std::borrow::Cow;

use super::{DRILL_KEY, find};
use crate::error::{Reason, Reject};
use crate::record::{Draft, EventHash, EventId, Geometry, Observation, content_hash};
use crate::time::TimeText;

/// A value that is null or missing.
const NULL: &str = "null";

/// Gives what a decoder read its identity.
///
/// # Errors
/// `unauthorised_source` for a source that no line of the table reads.
pub fn identify(read: Observation) -> Result<Draft, Reject> {
    let point = match &read.geometry {
        Some(Geometry::Point(at)) => Some([Number::of(at.latitude()), Number::of(at.longitude())]),
        _ => None,
    };
    match event(&read, point.as_ref()) {
        Ok((event, lasting)) => {
            let content = content(&read, point.as_ref());
            Ok(Draft::new(read, event, content, lasting))
        }
        Err(reject) => Err(read.origin.refused(&read.data, reject)),
    }
}

/// The event, and whether it is known by its key alone; `point` is the geometry's, if it is one.
fn event(read: &Observation, point: Option<&[Number; 2]>) -> Result<(EventId, bool), Reject> {
    let records = find(&read.source).and_then(|(source, _)| source.records.as_ref()).ok_or_else(|| {
        Reject::new(Reason::UnauthorisedSource, format!("{} is not a source that is read here", read.source))
    })?;
    // A drill that reuses the id of a real alert must not become its revision.
    let drill = read.alert.as_ref().is_some_and(|alert| alert.is_drill());
    let key = if drill { DRILL_KEY } else { records.key };
    let mut hash = EventHash::of(&read.source);
    for (path, value) in key.iter().zip(values(read.data.json(), key)) {
        match (*path, point) {
            ("latitude", Some([latitude, _])) => hash.field(latitude.text()),
            ("longitude", Some([_, longitude])) => hash.field(longitude.text()),
            ("observed_at", _) => hash.field(TimeText::of(read.observed_at).as_str().as_bytes()),
            _ => hash.field(value.map_or(Cow::Borrowed(NULL), text).as_bytes()),
        }
    }
    Ok((hash.id(), records.lasting))
}

/// A hash of what is published of the observation. `quality` only comments on it, and `observed_at` either repeats a time of the
/// data or is the time of receipt, which differs between deliveries.
fn content(read: &Observation, point: Option<&[Number; 2]>) -> u32 {
    let place = match (&read.geometry, point) {
        (_, Some([latitude, longitude])) => [latitude.text(), b",", longitude.text()],
        (Some(Geometry::GeoJson(shape)), None) => [shape.as_bytes(), b"", b""],
        (_, None) => [&b""[..]; 3],
    };
    let (published_at, parent) = (read.published_at.map(TimeText::of), read.derived_from.map(|event| event.digits()));
    let published_at = published_at.as_ref().map_or("", TimeText::as_str);
    let parent = parent.as_ref().map_or(&[][..], |digits| digits);
    content_hash([&place[..], &[published_at.as_bytes()], &[parent], &[read.data.json().as_bytes()]])
}

/// A number as the published JSON writes it.
struct Number {
    bytes: [u8; 32],
    length: usize,
}

impl Number {
    fn of(degrees: f64) -> Number {
        let mut bytes = [0; 32];
        let mut rest = &mut bytes[..];
        // No number is longer than 24 bytes.
        let _ = serde_json::to_writer(&mut rest, &degrees);
        let length = 32 - rest.len();
        Number { bytes, length }
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A string by its characters, anything else by its JSON text.
fn text(json: Token<'_>) -> Cow<'_, str> {
    match json.text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(plain) if !json.has_escapes => plain.into(),
        Some(_) => serde_json::from_str::<String>(json.text).map_or(json.text.into(), Cow::from),
        None => json.text.into(),
    }
}

/// The JSON texts of the key's `data.…` paths, in the key's order; `None` where the path is another one, or the field is missing.
fn values<'a>(data: &'a str, key: &[&str]) -> Vec<Option<Token<'a>>> {
    let mut found = vec![None; key.len()];
    for (name, value) in Members::of(data) {
        let name = text(name);
        let is_it = |path: &&str| path.len() == name.len() + 5 && path.strip_prefix("data.") == Some(&*name);
        if let Some(place) = key.iter().position(is_it) {
            found[place] = Some(value);
        }
    }
    found
}

/// A name or a value as it is written.
#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    has_escapes: bool,
}

/// The members of an object, names and values as they are written. The text is known to be an object's: nothing is checked again.
struct Members<'a>(&'a str);

impl<'a> Members<'a> {
    fn of(object: &'a str) -> Members<'a> {
        Members(object.trim_start().strip_prefix('{').unwrap_or_default())
    }

    /// Takes what stands before a comma, a colon or the end of the object.
    fn take(&mut self) -> Token<'a> {
        let (bytes, mut at, mut depth, mut has_escapes) = (self.0.as_bytes(), 0, 0u32, false);
        while let Some(byte) = bytes.get(at) {
            if MEANS[usize::from(*byte)] {
                match byte {
                    b'"' => {
                        let (end, escapes) = end_of_string(bytes, at);
                        (at, has_escapes) = (end, has_escapes | escapes);
                    }
                    b'{' | b'[' => depth += 1,
                    b',' | b':' | b'}' if depth == 0 => break,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
            }
            at += 1;
        }
        let taken = self.0.get(..at).unwrap_or(self.0);
        self.0 = self.0.get(at + 1..).unwrap_or_default();
        Token { text: taken.trim_ascii(), has_escapes }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (Token<'a>, Token<'a>);

    fn next(&mut self) -> Option<(Token<'a>, Token<'a>)> {
        let name = self.take();
        (!name.text.is_empty()).then(|| (name, self.take()))
    }
}

/// Bytes that mean something outside of strings: most are a number's digits.
const MEANS: [bool; 256] = {
    let (mut means, mut n) = ([false; 256], 0);
    while n < BYTES.len() {
        means[BYTES[n] as usize] = true;
        n += 1;
    }
    means
};
const BYTES: &[u8] = b"\"{}[],:";

/// Where the string that begins at `at` has its closing quote, and whether anything in it is escaped.
fn end_of_string(bytes: &[u8], mut at: usize) -> (usize, bool) {
    let mut has_escapes = false;
    loop {
        at += 1;
        match bytes.get(at) {
            Some(b'\\') => (at, has_escapes) = (at + 1, true),
            Some(b'"') | None => return (at, has_escapes),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s12_members_are_what_any_parser_finds() {
        for object in [
            "{}",
            r#"{"a":1,"b":"x"}"#,
            r#" { "a" : -1.5e3 , "b\"{" : { "a" : [ 1, { "b" : "}]," } ] } , "c": [ ] , "":null } "#,
            r#"{"a":"\\","b":"\\\"","ü":"\u00fc: {","a":"again"}"#,
        ] {
            let read: serde_json::Map<String, serde_json::Value> = serde_json::from_str(object).unwrap();
            let mut found = serde_json::Map::new();
            for (name, value) in Members::of(object) {
                found.insert(text(name).into_owned(), serde_json::from_str(value.text).unwrap());
            }
            assert_eq!(found, read, "{object}");
        }
    }
}
