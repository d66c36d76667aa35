//! Readings of sensors pushed over MQTT [S3]: PurpleAir's API and local JSON, RAWS-like weather stations, Synoptic's answers
//! for them, and a generic reading, told apart by their fields. Out comes one normalised form with the source's own object beside it.
//!
//! A generic reading is a JSON object: `id` (or `sensor_id`, `station`, …), `time` (RFC 3339 or a count since 1970),
//! `latitude` and `longitude`, and any names of `measures`; all but the id may be missing, and the id may stand in the
//! topic. Several readings may come as a list of objects, or in PurpleAir's `fields` and `data`.

pub mod measures;

mod stamp;
mod synoptic;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::decode::{Context, Row, Rows, json};
use crate::error::{Reason, Reject};
use crate::limits::{EXPANDED_BYTES, READING_BYTES, RESPONSE_BYTES};
use crate::record::{Data, Draft, EventId, Geometry, Position, Quality, SourceId, content_hash};
use measures::{Measures, number, shown};

/// One reading of one sensor.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Reading {
    /// The sensor's own id, unique within `source_id`; as text whatever the source has.
    pub sensor_id: String,
    /// A name for people, if the source has one.
    pub sensor_name: Option<String>,
    #[serde(flatten)]
    pub measures: Measures,
    /// The source's own object, every field as it came.
    pub reported: Map<String, Value>,
}

const IDS: [&str; 10] = [
    "sensor_id",
    "sensor_index",
    "sensorid",
    "station_id",
    "stid",
    "station",
    "device_id",
    "deviceid",
    "camera_id",
    "id",
];
const NAMES: [&str; 4] = ["sensor_name", "name", "station_name", "geo"];
const LATITUDES: [&str; 2] = ["latitude", "lat"];
const LONGITUDES: [&str; 4] = ["longitude", "lon", "lng", "long"];

/// The source of a topic `sensors/{kind}/{id}/…`: `iot_{kind}`, in lower case and with `_` for `-`.
pub fn source_of(topic: &str) -> Option<SourceId> {
    let kind = topic.strip_prefix("sensors/")?.split_once('/')?.0;
    SourceId::new(&format!("iot_{}", kind.to_ascii_lowercase().replace('-', "_"))).ok()
}

/// The readings of a body.
///
/// # Errors
/// `bad_json` for what is no JSON (a last will's text, a truncated reading), `not_data` for an API's error object,
/// `too_large`.
pub(super) fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let refused = |reject: Reject| reject.with_raw(body.clone());
    // A pushed reading is small; a recorded file holds many.
    let most = if context.topic.is_some() { READING_BYTES } else { RESPONSE_BYTES };
    let value = serde_json::from_slice(json::bounded(body, most).map_err(refused)?)
        .map_err(|e| refused(Reject::new(Reason::BadJson, e.to_string())))?;
    match value {
        Value::Object(object) if synoptic::is_answer(&object) => {
            Ok(Box::new(numbered(synoptic::readings(object).map_err(refused)?, context)))
        }
        Value::Object(mut object) => match (object.remove("fields"), object.remove("data")) {
            (Some(Value::Array(fields)), Some(Value::Array(data))) => {
                let names: usize = fields.iter().map(|name| shown(name).len()).sum();
                expandable([(data.len(), names)].into_iter()).map_err(refused)?;
                Ok(Box::new(numbered(columns(fields, data, object), context)))
            }
            (None, None) if object.contains_key("api_version") => {
                let said = object.get("description").or(object.get("error")).map_or("it names no error".into(), shown);
                Err(refused(Reject::new(Reason::NotData, format!("an answer of the API without readings: {said}"))))
            }
            (fields, data) => {
                object.extend(fields.map(|fields| ("fields".to_owned(), fields)));
                object.extend(data.map(|data| ("data".to_owned(), data)));
                Ok(Box::new(std::iter::once(row(object, context).map_err(refused))))
            }
        },
        Value::Array(list) => Ok(Box::new(numbered(list.into_iter(), context))),
        other => Err(refused(Reject::new(Reason::BadJson, format!("{} is no reading", short(&other.to_string()))))),
    }
}

/// PurpleAir's answer for many sensors: the names once, then a row of values a sensor.
fn columns(fields: Vec<Value>, data: Vec<Value>, mut head: Map<String, Value>) -> impl Iterator<Item = Value> + Send {
    let names: Vec<String> = fields.iter().map(shown).collect();
    let taken_at = head.remove("data_time_stamp");
    data.into_iter().map(move |row| match row {
        Value::Array(values) if values.len() == names.len() => {
            let mut object: Map<String, Value> = names.iter().cloned().zip(values).collect();
            // Without a time of its own a sensor's reading has the time of the answer's data.
            if let (Some(at), false) = (&taken_at, object.contains_key("last_seen")) {
                object.insert("time_stamp".into(), at.clone());
            }
            object.into()
        }
        other => other,
    })
}

/// Whether lists may become objects: `(rows, bytes that each of them repeats)`. A short message can name few things many times.
///
/// # Errors
/// `too_large`.
fn expandable(lists: impl Iterator<Item = (usize, usize)>) -> Result<(), Reject> {
    let bytes = lists.fold(0_usize, |sum, (rows, repeated)| sum.saturating_add(rows.saturating_mul(repeated)));
    if bytes > EXPANDED_BYTES {
        Err(Reject::new(Reason::TooLarge, format!("{bytes} bytes as single readings, {EXPANDED_BYTES} at most")))
    } else {
        Ok(())
    }
}

fn numbered<'a>(
    values: impl Iterator<Item = Value> + Send + 'a,
    context: Context<'a>,
) -> impl Iterator<Item = Row> + Send + 'a {
    values.enumerate().map(move |(n, value)| {
        let raw = value.to_string();
        let read = match value {
            Value::Object(object) => row(object, context),
            Value::Array(_) => Err(Reject::new(Reason::ShortRow, "a row has as many values as there are fields")),
            _ => Err(Reject::new(Reason::BadJson, format!("{} is no reading", short(&raw)))),
        };
        read.map_err(|reject| reject.at_row(n as u64 + 1).with_raw(raw))
    })
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

fn row(reported: Map<String, Value>, context: Context<'_>) -> Row {
    let mut quality = Vec::new();
    let field = |name: &str| {
        reported.get(name).or_else(|| reported.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v))
    };
    let first = |names: &[&str]| names.iter().find_map(|name| field(name).filter(|value| !value.is_null()));
    let scalar = |value: &&Value| !value.is_object() && !value.is_array();
    let text =
        |names| first(names).filter(scalar).map(|value| shown(value).trim().to_owned()).filter(|text| !text.is_empty());

    let sensor_id = text(&IDS)
        .or_else(|| context.topic.and_then(id_of).map(str::to_owned))
        .ok_or_else(|| Reject::new(Reason::MissingField, "sensor_id is missing, and the topic names none"))?;
    let stamp = stamp::of(field, context.received_at, &mut quality)?;
    let position = position(first(&LATITUDES), first(&LONGITUDES), &mut quality)?;
    let purpleair = context.source.as_str() == "iot_purpleair" || field("sensor_index").is_some();
    let measures = measures::read(reported.iter(), purpleair, &mut quality);
    let source = context.topic.and_then(source_of).unwrap_or_else(|| context.source.clone());
    let event = EventId::of(&source, [&sensor_id, &stamp.text]);
    let content = content_hash(reported.iter().flat_map(|(name, value)| [name.clone(), value.to_string()]));
    let sensor_name = text(&NAMES);
    Ok(Draft {
        source,
        source_name: if purpleair { "PurpleAir" } else { "IoT sensor" },
        event,
        content,
        observed_at: stamp.at,
        published_at: None,
        geometry: position.map(Geometry::Point),
        position,
        derived_from: None,
        quality,
        alert: None,
        data: Data::of(&Reading { sensor_id, sensor_name, measures, reported })?,
    })
}

/// The level after the kind: `sensors/{kind}/{id}/…`, and `{kind}/{id}/…` of other trees.
fn id_of(topic: &str) -> Option<&str> {
    let mut levels = topic.strip_prefix("sensors/").unwrap_or(topic).split('/').skip(1);
    levels.next().filter(|id| !id.is_empty())
}

/// The reading's place: none without both coordinates, and none at (0, 0), where a receiver without a fix believes to be.
///
/// # Errors
/// `bad_latitude`, `bad_longitude` for a coordinate that is there and is none [S9].
fn position(
    latitude: Option<&Value>,
    longitude: Option<&Value>,
    quality: &mut Vec<Quality>,
) -> Result<Option<Position>, Reject> {
    let read = |value: Option<&Value>, reason: Reason| match value.map(|value| (value, number(value))) {
        None => Ok(None),
        Some((_, Ok(read))) => Ok(read),
        Some((value, Err(problem))) => Err(Reject::new(reason, format!("{} {problem}", short(&shown(value))))),
    };
    match (read(latitude, Reason::BadLatitude)?, read(longitude, Reason::BadLongitude)?) {
        (Some(latitude), Some(longitude)) => {
            let position = Position::new(latitude, longitude)?;
            if latitude == 0.0 && longitude == 0.0 {
                quality.push(Quality::new("position", "is (0, 0): the sensor has no fix", "0,0"));
                return Ok(None);
            }
            Ok(Some(position))
        }
        (None, None) => Ok(None),
        (latitude, longitude) => {
            let (missing, other) = if latitude.is_none() { ("latitude", longitude) } else { ("longitude", latitude) };
            quality.push(Quality::new(
                missing,
                "is missing: no place",
                &other.map_or_else(String::new, |n| n.to_string()),
            ));
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn rows_of(text: &str, topic: Option<&str>) -> Result<Vec<Row>, Reject> {
        let source = SourceId::new("iot_generic").unwrap();
        let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic };
        let body = Bytes::from(text.to_owned());
        rows(&body, context).map(Iterator::collect)
    }

    fn one(text: &str) -> Row {
        rows_of(text, Some("sensors/weather-station/w7/state")).unwrap().remove(0)
    }

    #[test]
    fn the_topic_names_source_and_sensor_when_the_reading_does_not() {
        let draft = one(r#"{"time": 1755151620, "temp_c": 20}"#).unwrap();
        assert_eq!(draft.source.as_str(), "iot_weather_station");
        assert_eq!(draft.event, EventId::of(&draft.source, ["w7", "1755151620"]));
        assert_eq!(source_of("sensors/../x/state"), None);
        assert_eq!(source_of("alerts/x"), None);
        let nameless = rows_of(r#"{"temp_c": 20}"#, None).unwrap().remove(0);
        assert_eq!(nameless.unwrap_err().reason, Reason::MissingField);
    }

    #[test]
    fn s9_a_position_is_right_or_absent() {
        assert!(one(r#"{"lat": 40.5, "lon": "-122.25"}"#).unwrap().position.is_some());
        for absent in [
            r#"{}"#,
            r#"{"lat": null, "lon": null}"#,
            r#"{"lat": 0, "lon": 0.0}"#,
            r#"{"lat": 40}"#,
            r#"{"lat": "", "lon": ""}"#,
        ] {
            let draft = one(absent).unwrap();
            assert_eq!((draft.position, draft.geometry), (None, None), "{absent}");
        }
        for (bad, reason) in [
            (r#"{"lat": 91, "lon": 1}"#, Reason::BadLatitude),
            (r#"{"lat": "north", "lon": 1}"#, Reason::BadLatitude),
            (r#"{"lat": 1, "lon": -180.5}"#, Reason::BadLongitude),
            (r#"{"lat": -9999, "lon": -9999}"#, Reason::BadLatitude),
        ] {
            assert_eq!(one(bad).unwrap_err().reason, reason, "{bad}");
        }
    }

    #[test]
    fn synoptics_lists_become_one_reading_a_time_in_the_units_that_it_names() {
        let answer = r#"{"UNITS": {"air_temp": "Fahrenheit", "wind_speed": "mph", "fuel_moisture": "gm", "elevation": "ft"},
            "STATION": [
                {"STID": "TKNC1", "NAME": "KNEELAND", "LATITUDE": "40.72", "LONGITUDE": "-123.93", "ELEVATION": "1000",
                 "OBSERVATIONS": {"date_time": ["2025-08-14T00:00:00Z", "2025-08-14T01:00:00Z"],
                    "air_temp_set_1": [68.0, null], "wind_speed_set_1": [10, 20], "fuel_moisture_set_1": [7.8, 6.8],
                    "wind_speed_set_1d": [99, 99], "fuel_moisture_set_2": [1, 1]}},
                {"STID": "CUT", "OBSERVATIONS": {"date_time": ["2025-08-14T00:00:00Z"], "air_temp_set_1": []}},
                {"STID": "NONE"}]}"#;
        let rows = rows_of(answer, None).unwrap();
        assert_eq!(rows.len(), 4);
        let first = rows[0].as_ref().unwrap();
        let data: Value = serde_json::from_str(first.data.json()).unwrap();
        assert_eq!((&data["sensor_id"], &data["sensor_name"]), (&"TKNC1".into(), &"KNEELAND".into()));
        assert_eq!((&data["temperature_c"], &data["wind_speed_ms"]), (&20.0.into(), &4.4704.into()));
        assert_eq!((&data["fuel_moisture_percent"], &data["elevation_m"]), (&7.8.into(), &304.8.into()));
        assert_eq!(first.event, EventId::of(&first.source, ["TKNC1", "2025-08-14T00:00:00Z"]));
        let second: Value = serde_json::from_str(rows[1].as_ref().unwrap().data.json()).unwrap();
        assert!(second["temperature_c"].is_null() && second.get("temperature_c").is_some());
        for (row, station) in [(2, "CUT"), (3, "NONE")] {
            let reject = rows[row].as_ref().unwrap_err();
            assert_eq!(reject.reason, Reason::ShortRow);
            assert!(String::from_utf8_lossy(&reject.raw).contains(station), "{reject:?}");
        }
        let large = format!(
            r#"{{"STATION": [{{"NAME": "{}", "OBSERVATIONS": {{"date_time": [{}0]}}}}]}}"#,
            "x".repeat(60_000),
            "0,".repeat(30_000)
        );
        let columns = format!(r#"{{"fields": ["{}"], "data": [{}[0]]}}"#, "x".repeat(60_000), "[0],".repeat(15_000));
        for body in [large, columns] {
            assert_eq!(
                rows_of(&body, None).err().unwrap().reason,
                Reason::TooLarge,
                "a short message fills the memory"
            );
        }
        let none = r#"{"SUMMARY": {"RESPONSE_CODE": 2, "RESPONSE_MESSAGE": "No stations found"}}"#;
        let reject = rows_of(none, None).err().unwrap();
        assert!(reject.reason == Reason::NotData && reject.detail.contains("No stations found"), "{reject}");
    }

    #[test]
    fn what_is_no_reading_is_refused_with_its_bytes() {
        for text in ["offline", "", "{\"id\": 1", r#"{"id": NaN}"#, "42", "\"online\"", "null"] {
            let reject = rows_of(text, None).err().unwrap();
            assert_eq!((reject.reason, &reject.raw[..]), (Reason::BadJson, text.as_bytes()), "{text}");
        }
        let error = r#"{"api_version": "V1", "time_stamp": 1, "error": "InvalidApiKey", "description": "wrong key"}"#;
        let reject = rows_of(error, None).err().unwrap();
        assert!(reject.reason == Reason::NotData && reject.detail.contains("wrong key"), "{reject}");
    }

    #[test]
    fn the_same_reading_has_the_same_identity_and_a_changed_one_another_content() {
        let a = one(r#"{"id": "a", "time": 1755151620, "temp_c": 20}"#).unwrap();
        let reordered = one(r#"{"temp_c":20,"time":1755151620,"id":"a"}"#).unwrap();
        let changed = one(r#"{"id": "a", "time": 1755151620, "temp_c": 21}"#).unwrap();
        assert_eq!((a.event, a.content), (reordered.event, reordered.content));
        assert_eq!(a.event, changed.event);
        assert_ne!(a.content, changed.content);
    }

    #[test]
    fn many_readings_in_one_body_are_rows() {
        let columns = r#"{"data_time_stamp": 1667503531, "fields": ["sensor_index", "latitude", "longitude"],
            "data": [[1, 33.5, -117.5], [2, null, null], [3, 99, 0.5], [4]]}"#;
        let rows = rows_of(columns, None).unwrap();
        assert_eq!(rows[0].as_ref().unwrap().observed_at.as_second(), 1667503531);
        assert_eq!(rows[1].as_ref().unwrap().position, None);
        let reject = rows[2].as_ref().unwrap_err();
        assert_eq!((reject.reason, reject.row), (Reason::BadLatitude, Some(3)));
        assert_eq!(rows[3].as_ref().unwrap_err().reason, Reason::ShortRow);
        let list = rows_of(r#"[{"id": 1}, 7, {"id": 2}]"#, None).unwrap();
        assert_eq!(list.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    }
}
