//! The published form of a record [K5]: the JSON value, one schema a topic. Headers are the envelope's `Outgoing`.

use serde::Serialize;
use serde::ser::Serializer;
use serde_json::value::RawValue;

use crate::error::{Reason, Reject};
use crate::limits::RECORD_VALUE_BYTES;
use crate::record::{California, EventId, Geometry, Position, Quality, Record, SourceId, TenantId, Tier};
use crate::time::{self, Timestamp};

/// Field order is the published order.
#[derive(Serialize)]
struct Value<'a> {
    event_id: EventId,
    revision: u32,
    /// `{event_id}-{revision - 1}`, the `ce_id` of what this replaces.
    revises: Option<String>,
    source_id: &'a SourceId,
    source_name: &'a str,
    producer_id: &'a str,
    tenant: &'a TenantId,
    priority: Tier,
    #[serde(serialize_with = "time::serialize")]
    observed_at: Timestamp,
    #[serde(serialize_with = "time::serialize_optional")]
    published_at: Option<Timestamp>,
    #[serde(serialize_with = "time::serialize")]
    ingested_at: Timestamp,
    geometry: Option<GeoJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latitude: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    longitude: Option<f64>,
    h3: Option<String>,
    california: Option<California>,
    derived_from: Option<EventId>,
    quality: &'a [Quality],
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

/// The record's JSON text.
///
/// # Errors
/// `too_large` beyond [`RECORD_VALUE_BYTES`]; `bad_json` when a connector made data or geometry that is no JSON.
pub fn json(record: &Record, producer_id: &str) -> Result<String, Reject> {
    let draft = &record.draft;
    let raw = |text| serde_json::from_str::<&RawValue>(text).map_err(|e| Reject::new(Reason::BadJson, e.to_string()));
    let (geometry, point) = match &draft.geometry {
        Some(Geometry::Point(at)) => (Some(GeoJson::Point { kind: "Point", coordinates: *at }), Some(*at)),
        Some(Geometry::GeoJson(text)) => (Some(GeoJson::Other(raw(text)?)), None),
        None => (None, None),
    };
    let value = Value {
        event_id: draft.event,
        revision: record.revision,
        revises: record.revision.checked_sub(1).map(|before| ce_id(draft.event, before)),
        source_id: &draft.source,
        source_name: draft.source_name,
        producer_id,
        tenant: &record.tenant,
        priority: record.tier,
        observed_at: draft.observed_at,
        published_at: draft.published_at,
        ingested_at: record.ingested_at,
        geometry,
        latitude: point.map(Position::latitude),
        longitude: point.map(Position::longitude),
        h3: record.place.map(|place| place.h3.to_string()),
        california: record.place.map(|place| place.california),
        derived_from: draft.derived_from,
        quality: &draft.quality,
        data: raw(draft.data.json())?,
    };
    let text = serde_json::to_string(&value).map_err(|e| Reject::new(Reason::BadJson, e.to_string()))?;
    match text.len() <= RECORD_VALUE_BYTES {
        true => Ok(text),
        false => Err(Reject::new(
            Reason::TooLarge,
            format!("the value has {} bytes, {RECORD_VALUE_BYTES} at most", text.len()),
        )),
    }
}

/// CloudEvents id: one revision of one event [K5].
pub fn ce_id(event: EventId, revision: u32) -> String {
    format!("{event}-{revision}")
}
