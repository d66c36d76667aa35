//! The published form of a record [K5]: the JSON value, one schema a topic. Headers are the envelope's `Outgoing`.

use bytes::{Bytes, BytesMut};
use schemars::JsonSchema;
use serde::Serialize;
use serde::ser::Serializer;
use serde_json::value::RawValue;

use crate::error::{Reason, Reject};
use crate::limits::RECORD_VALUE_BYTES;
use crate::record::{California, Cell, EventId, Geometry, Position, Quality, Record, SourceId, TenantId, Tier, schema};
use crate::time::{self, Timestamp};

/// One record as a topic carries it. Field order is the published order.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
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
    let cell = record.place.map(|place| place.cell());
    let raw = |text| serde_json::from_str::<&RawValue>(text).map_err(|e| Reject::new(Reason::BadJson, e.to_string()));
    let (geometry, point) = match &draft.geometry {
        Some(Geometry::Point(at)) => (Some(GeoJson::Point { kind: "Point", coordinates: *at }), Some(*at)),
        Some(Geometry::GeoJson(text)) => (Some(GeoJson::Other(raw(text)?)), None),
        None => (None, None),
    };
    let named = draft.alert.as_ref().and_then(|alert| alert.california);
    let value = Value {
        event_id: draft.event,
        revision: record.revision,
        revises: record.revision.checked_sub(1).map(|before| ce_id(draft.event, before)),
        source_id: &draft.source,
        source_name: record.source_name,
        producer_id,
        tenant: &record.tenant,
        priority: record.tier,
        observed_at: draft.observed_at,
        published_at: draft.published_at,
        ingested_at: record.ingested_at,
        geometry,
        latitude: point.map(Position::latitude),
        longitude: point.map(Position::longitude),
        h3: cell.as_ref().map(Cell::as_str),
        california: record.place.map(|place| place.california).or(named),
        derived_from: draft.derived_from,
        incident: record.incident.as_deref(),
        quality: &draft.quality,
        data: draft.data.raw(),
    };
    text.clear();
    serde_json::to_writer(&mut *text, &value).map_err(|e| Reject::new(Reason::BadJson, e.to_string()))?;
    if text.len() <= RECORD_VALUE_BYTES {
        Ok(())
    } else {
        Err(Reject::new(Reason::TooLarge, format!("the value has {} bytes, {RECORD_VALUE_BYTES} at most", text.len())))
    }
}

/// CloudEvents id: one revision of one event [K5].
pub fn ce_id(event: EventId, revision: u32) -> String {
    format!("{event}-{revision}")
}
