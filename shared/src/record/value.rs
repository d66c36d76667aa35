//! The published form of a record [K5]: the JSON value, one schema a topic. Headers are the envelope's `Outgoing`.

use bytes::{Bytes, BytesMut};
use schemars::JsonSchema;
use serde::Serialize;
use serde::ser::Serializer;
use serde_json::value::RawValue;

use crate::error::{Reason, Reject};
use crate::limits::RECORD_VALUE_BYTES;
use crate::record::{California, EventId, Geometry, Position, Quality, Record, SourceId, TenantId, Tier, schema};
use crate::time::{self, TimeText, Timestamp};

/// One record as a topic carries it. Field order is the published order.
// For its schema, of which this is the description. `write_text` writes it, at a third of what a serializer costs; tests hold one
// against the other.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // made by tests alone
pub(crate) struct Value<'a> {
    /// The first 128 bits of SHA-256 over `source_id` and the natural key's texts, separated by 0x1f.
    event_id: EventId,
    /// 0 for the first, one more for every changed content under the same `event_id`.
    revision: u32,
    /// `{event_id}-{revision - 1}`, the `ce_id` of what this replaces.
    revises: Option<String>,
    source_id: &'a SourceId,
    /// The source in words.
    source_name: &'a str,
    /// The installation that published it.
    producer_id: &'a str,
    tenant: &'a TenantId,
    priority: Tier,
    /// When it was observed, measured or sent: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize")]
    #[schemars(schema_with = "schema::time")]
    observed_at: Timestamp,
    /// When the source published it, if it says so.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    published_at: Option<Timestamp>,
    /// When it was accepted here; also the Kafka timestamp.
    #[serde(serialize_with = "time::serialize")]
    #[schemars(schema_with = "schema::time")]
    ingested_at: Timestamp,
    /// GeoJSON (WGS 84, longitude first), or null without a place.
    #[schemars(schema_with = "schema::geometry")]
    geometry: Option<GeoJson<'a>>,
    /// Degrees, for points only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>", range(min = -90, max = 90))]
    latitude: Option<f64>,
    /// Degrees, for points only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>", range(min = -180, max = 180))]
    longitude: Option<f64>,
    /// H3 cell of resolution 5, the Kafka key of records other than alerts; null without a place.
    #[schemars(regex(pattern = "^[0-9a-f]{15}$"))]
    h3: Option<&'a str>,
    /// Null without a place. An alert without a readable shape is `inside` when it names a county or zone of California by its code.
    california: Option<California>,
    /// `event_id` of the record that this one was made from.
    derived_from: Option<EventId>,
    /// What the records of one fire have in common, whichever source they came from: an id of the source that told of it first. It is
    /// left out where no fire is known; a record is not published again because its fire has become known.
    #[serde(skip_serializing_if = "Option::is_none")]
    incident: Option<&'a str>,
    /// Optional values that could not be used: they are null or left out.
    quality: &'a [Quality],
    /// The source's own fields, numbers as numbers, units in the names or here.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    data: &'a RawValue,
}

#[derive(Serialize)]
#[serde(untagged)]
#[allow(dead_code)] // as above
enum GeoJson<'a> {
    Point {
        #[serde(rename = "type")]
        kind: &'static str,
        #[serde(serialize_with = "longitude_first")]
        coordinates: Position,
    },
    Other(&'a RawValue),
}

fn longitude_first<S: Serializer>(position: &Position, serializer: S) -> Result<S::Ok, S::Error> {
    [position.longitude(), position.latitude()].serialize(serializer)
}

/// Values that share an allocation: those of some dozen records.
const SHARED: usize = 64 * 1024;

/// Where values are written, one behind the other.
#[derive(Debug, Default)]
pub struct Room {
    /// The value that is being written: JSON comes in many small pieces, for which a plain vector is the fastest.
    text: Vec<u8>,
    written: BytesMut,
}

impl Room {
    fn keep(&mut self) -> Bytes {
        if self.written.capacity() < self.text.len() {
            self.written.reserve(self.text.len().max(SHARED));
        }
        self.written.extend_from_slice(&self.text);
        self.written.split().freeze()
    }
}

/// The record's JSON text.
///
/// # Errors
/// As [`write`].
pub fn json(record: &Record, producer_id: &str) -> Result<String, Reject> {
    let mut room = Room::default();
    write_text(record, producer_id, &mut room.text)?;
    String::from_utf8(room.text).map_err(|e| Reject::new(Reason::BadJson, e.to_string()))
}

/// The record's JSON text, in `room`, which many records share.
///
/// # Errors
/// `too_large` beyond [`RECORD_VALUE_BYTES`]; `bad_json` when a connector made data or geometry that is no JSON.
pub fn write(record: &Record, producer_id: &str, room: &mut Room) -> Result<Bytes, Reject> {
    write_text(record, producer_id, &mut room.text)?;
    Ok(room.keep())
}

fn write_text(record: &Record, producer_id: &str, text: &mut Vec<u8>) -> Result<(), Reject> {
    let draft = &record.draft;
    text.clear();
    put(text, "{\"event_id\":\"");
    text.extend_from_slice(&draft.event.digits());
    put(text, "\",\"revision\":");
    json_of(text, &record.revision)?;
    put(text, ",\"revises\":");
    match record.revision.checked_sub(1) {
        Some(before) => plain(text, &ce_id(draft.event, before)),
        None => put(text, NULL),
    }
    put(text, ",\"source_id\":");
    plain(text, draft.source.as_str());
    put(text, ",\"source_name\":");
    json_of(text, record.source_name)?;
    put(text, ",\"producer_id\":");
    json_of(text, producer_id)?;
    put(text, ",\"tenant\":");
    plain(text, record.tenant.as_str());
    put(text, ",\"priority\":");
    plain(text, record.tier.name());
    put(text, ",\"observed_at\":");
    plain(text, TimeText::of(draft.observed_at).as_str());
    put(text, ",\"published_at\":");
    match draft.published_at {
        Some(at) => plain(text, TimeText::of(at).as_str()),
        None => put(text, NULL),
    }
    put(text, ",\"ingested_at\":");
    plain(text, TimeText::of(record.ingested_at).as_str());
    put(text, ",\"geometry\":");
    match &draft.geometry {
        Some(Geometry::Point(at)) => point(text, *at)?,
        Some(Geometry::GeoJson(shape)) => {
            serde_json::from_str::<&RawValue>(shape).map_err(bad_json)?;
            put(text, shape);
        }
        None => put(text, NULL),
    }
    put(text, ",\"h3\":");
    match record.place {
        Some(place) => plain(text, place.cell().as_str()),
        None => put(text, NULL),
    }
    put(text, ",\"california\":");
    let named = draft.alert.as_ref().and_then(|alert| alert.california);
    json_of(text, &record.place.map(|place| place.california).or(named))?;
    put(text, ",\"derived_from\":");
    json_of(text, &draft.derived_from)?;
    if let Some(incident) = &record.incident {
        put(text, ",\"incident\":");
        json_of(text, &**incident)?;
    }
    put(text, ",\"quality\":");
    json_of(text, &draft.quality)?;
    put(text, ",\"data\":");
    put(text, draft.data.json());
    text.push(b'}');
    if text.len() <= RECORD_VALUE_BYTES {
        Ok(())
    } else {
        Err(Reject::new(Reason::TooLarge, format!("the value has {} bytes, {RECORD_VALUE_BYTES} at most", text.len())))
    }
}

const NULL: &str = "null";

fn put(text: &mut Vec<u8>, json: &str) {
    text.extend_from_slice(json.as_bytes());
}

/// A string in which nothing needs to be escaped, by its type: an id, a time.
fn plain(text: &mut Vec<u8>, string: &str) {
    text.push(b'"');
    text.extend_from_slice(string.as_bytes());
    text.push(b'"');
}

fn json_of<T: Serialize + ?Sized>(text: &mut Vec<u8>, value: &T) -> Result<(), Reject> {
    serde_json::to_writer(text, value).map_err(bad_json)
}

fn bad_json(problem: serde_json::Error) -> Reject {
    Reject::new(Reason::BadJson, problem.to_string())
}

/// As GeoJSON, and behind it as the fields that only a point has.
fn point(text: &mut Vec<u8>, at: Position) -> Result<(), Reject> {
    put(text, "{\"type\":\"Point\",\"coordinates\":[");
    let from = text.len();
    json_of(text, &at.longitude())?;
    let comma = text.len();
    text.push(b',');
    json_of(text, &at.latitude())?;
    let to = text.len();
    put(text, "]},\"latitude\":");
    text.extend_from_within(comma + 1..to);
    put(text, ",\"longitude\":");
    text.extend_from_within(from..comma);
    Ok(())
}

/// CloudEvents id: one revision of one event [K5].
pub fn ce_id(event: EventId, revision: u32) -> String {
    format!("{event}-{revision}")
}

#[cfg(test)]
mod tests;
