//! Who a record is [S12], worked out from what is published and nothing else, in one place for every source: the natural key's
//! values as the record's JSON writes them. Anybody who has the record and its schema's `x-natural-key` can do the same.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{DRILL_KEY, find};
use crate::error::{Reason, Reject};
use crate::record::{Draft, EventId, Geometry, Observation, content_hash};
use crate::time::rfc3339;

/// A value that is null or missing.
const NULL: &str = "null";

/// Gives what a decoder read its identity.
///
/// # Errors
/// `unauthorised_source` for a source that no line of the table reads, `bad_json` for data that is not a JSON object.
pub fn identify(read: Observation) -> Result<Draft, Reject> {
    match event(&read) {
        Ok(event) => {
            let content = content(&read);
            Ok(Draft::new(read, event, content))
        }
        Err(reject) => Err(read.origin.refused(&read.data, reject)),
    }
}

fn event(read: &Observation) -> Result<EventId, Reject> {
    let records = find(&read.source).and_then(|(source, _)| source.records.as_ref()).ok_or_else(|| {
        Reject::new(Reason::UnauthorisedSource, format!("{} is not a source that is read here", read.source))
    })?;
    // A drill that reuses the id of a real alert must not become its revision.
    let drill = read.alert.as_ref().is_some_and(|alert| alert.is_drill());
    let key = if drill { DRILL_KEY } else { records.key };
    let data = fields(read.data.json(), key).map_err(|e| Reject::new(Reason::BadJson, e.to_string()))?;
    let texts: Vec<Cow<'_, str>> = key
        .iter()
        .zip(&data)
        .map(|(path, raw)| match (*path, &read.geometry) {
            ("latitude", Some(Geometry::Point(at))) => number(at.latitude()).into(),
            ("longitude", Some(Geometry::Point(at))) => number(at.longitude()).into(),
            ("observed_at", _) => rfc3339(read.observed_at).into(),
            _ => raw.map_or(NULL.into(), |raw| text(raw.get())),
        })
        .collect();
    Ok(EventId::of(&read.source, texts.iter().map(|text| text.as_bytes())))
}

/// A hash of what is published of the observation. `quality` only comments on it, and `observed_at` either repeats a time of the
/// data or is the time of receipt, which differs between deliveries.
fn content(read: &Observation) -> u32 {
    let place = match &read.geometry {
        Some(Geometry::Point(at)) => format!("{},{}", number(at.latitude()), number(at.longitude())),
        Some(Geometry::GeoJson(shape)) => shape.clone(),
        None => String::new(),
    };
    let published_at = read.published_at.map(rfc3339).unwrap_or_default();
    let parent = read.derived_from.map(|event| event.to_string()).unwrap_or_default();
    content_hash([place.as_str(), &published_at, &parent, read.data.json()])
}

/// As the published JSON writes a number.
fn number(degrees: f64) -> String {
    serde_json::Number::from_f64(degrees).map_or_else(String::new, |number| number.to_string())
}

/// A string by its characters, anything else by its JSON text.
fn text(json: &str) -> Cow<'_, str> {
    match json.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => plain.into(),
        Some(_) => serde_json::from_str::<String>(json).map_or(json.into(), Cow::from),
        None => json.into(),
    }
}

/// The JSON texts of the key's `data.…` paths, in the key's order; `None` where the path is another one, or the field is missing.
fn fields<'a>(data: &'a str, key: &[&str]) -> Result<Vec<Option<&'a RawValue>>, serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_str(data);
    parser.deserialize_map(Wanted(key))
}

struct Wanted<'k>(&'k [&'k str]);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = vec![None; self.0.len()];
        while let Some(Name(name)) = map.next_key()? {
            let place = self.0.iter().position(|path| path.strip_prefix("data.") == Some(&*name));
            match place {
                Some(place) => found[place] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}
