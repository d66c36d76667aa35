//! Readings of sensors pushed over MQTT or recorded [S3, S17, S18]: PurpleAir's answers and local JSON, weather stations and
//! Synoptic's answers for them, SenML, and a generic reading, bare or in the envelopes that networks and devices put around
//! it; told apart by their fields. Out comes one normalised form with the source's own object beside it.
//!
//! A generic reading is a JSON object: `id` (or `sensor_id`, `station`, …), `time` (RFC 3339 or a count since 1970),
//! `latitude` and `longitude`, and any names of `measures` with their units in the name or beside it; all but the id may be
//! missing, and the id may stand in the topic. Several readings may come as a list of objects, one a line, or in
//! PurpleAir's `fields` and `data`.
//!
//! Nothing falls away in silence [S9]: what is not understood is named in `quality` and kept in `reported`.

pub mod measures;

mod envelope;
mod fields;
mod identity;
mod lists;
mod mapping;
mod names;
mod senml;
mod stamp;
mod synoptic;
mod topic;
pub(crate) mod units;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::decode::head::Mark;
use crate::decode::{Context, Row, Rows, encoding, json, short};
use crate::error::{Reason, Reject};
use crate::limits::{ANSWER_VALUES, READING_BYTES, RESPONSE_BYTES};
use crate::record::{Data, Draft, Geometry, Observation, Origin, Position, Quality, schema};
use crate::sources::identify;
use crate::time::{self, Timestamp};
use fields::Fields;
pub(crate) use mapping::TopicFilter;
pub use mapping::{Mapping, Mappings, Meaning, ProfileName, SensorMapping, TOPICS, Whence};
use measures::{Measures, number, shown};
use names::{is_key, reads_as};
pub use topic::{sensor_of, source_of};
use units::System;

/// One reading of one sensor.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Reading {
    /// The sensor's own id, unique within `source_id`; as text whatever the source has, with the digits as sent.
    pub sensor_id: String,
    /// A name for people, if the source has one.
    pub sensor_name: Option<String>,
    /// When it was measured by the sensor's own clock: RFC 3339 in UTC, milliseconds. Null when the sensor tells no time;
    /// then `observed_at` is the time of receipt and `message_id` tells its readings apart.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub measured_at: Option<Timestamp>,
    /// The message that brought a reading without a time of its own, and the reading's place in it; else null.
    pub message_id: Option<String>,
    /// What it measured, in our units.
    #[serde(flatten)]
    pub measures: Measures,
    /// The source's own object, every field as it came; integers beyond 2^53 as text, so that no reader rounds them. Of a key or
    /// password that stands in it only the name is shown.
    pub reported: Map<String, Value>,
}

/// What readings are known by where nothing else is: the envelopes' own names, or those of a sensor and of something measured.
pub(super) const MARKS: &[Mark] = &[
    Mark::names("iot_*", &["fields", "data", "api_version"]).weak(),
    Mark::names("iot_*", &["STATION", "STID"]).weak(),
    Mark::names("iot_*", &["end_device_ids", "uplink_message"]).weak(),
    Mark::names("iot_*", &["n", "u", "v"]).weak(),
    Mark::looks("iot_*", |head| {
        let names: Vec<String> = head.written.iter().map(|name| names::compact(name)).collect();
        let is_of_sensor = |name: &String| IDS.contains(&name.as_str());
        names.iter().any(is_of_sensor) && names.iter().any(|name| measures::named(name).is_some())
    })
    .weak(),
];

/// Names in compact form, in order of preference.
const IDS: [&str; 19] = [
    "sensorid",
    "sensorindex",
    "stationid",
    "stid",
    "station",
    "deviceid",
    "deveui",
    "cameraid",
    "nodeid",
    "uniqueid",
    "id",
    "device",
    "sensor",
    "node",
    "mac",
    "serialnumber",
    "serial",
    "ieee",
    "src",
];
const SENSOR_NAMES: [&str; 7] = ["sensorname", "name", "stationname", "devicename", "friendlyname", "label", "geo"];
const LATITUDES: [&str; 3] = ["latitude", "lat", "gpslat"];
const LONGITUDES: [&str; 6] = ["longitude", "lon", "lng", "long", "gpslon", "gpslng"];
/// Objects that hold a place.
const PLACES: [&str; 8] = ["location", "position", "gps", "coordinates", "coords", "geo", "geometry", "loc"];

/// What `quality` calls the measures as a whole.
const MEASURES: &str = "measures";

/// Whether a draft is a reading of which no measure was understood; `quality` says so.
pub fn is_without_measure(draft: &Draft) -> bool {
    draft.quality.iter().any(|quality| quality.field == MEASURES)
}

/// The fields of a draft that were not understood, as far as `quality` names them.
pub fn not_understood(draft: &Draft) -> impl Iterator<Item = &str> {
    let told = draft.quality.iter().filter_map(|quality| quality.problem.strip_prefix(fields::UNREAD));
    told.flat_map(|names| names.split(" and ").next().unwrap_or(names).split(", "))
}

/// The readings of a body.
///
/// # Errors
/// `bad_json` for what is no JSON (a last will's text, a truncated reading), `not_data` for an API's error object,
/// `too_large`.
pub(crate) fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    mapped_rows(body, context, None)
}

fn mapped_rows<'a>(body: &'a Bytes, context: Context<'a>, mapping: Option<&'a Mapping>) -> Result<Rows<'a>, Reject> {
    let refused = |reject: Reject| reject.with_raw(body.clone());
    let utf8 = match encoding::utf16(body) {
        Some(text) => Bytes::from(text.map_err(refused)?),
        None => body.clone(),
    };
    // A pushed reading is small; a recorded file holds many.
    let most = if context.topic.is_some() { READING_BYTES } else { RESPONSE_BYTES };
    let text = json::bounded(&utf8, most).map_err(refused)?;
    json::few_values(text, ANSWER_VALUES).map_err(refused)?;
    let message = identity::message(context.message, body);
    let found = match parsed(text) {
        Ok(value) => found(value, mapping).map_err(refused)?,
        Err(_) if is_one_a_line(text) => Found::Many(lines(utf8.slice_ref(text), mapping)),
        Err(reject) => match mapping.and_then(|mapping| mapping.form(text)) {
            Some(form) => Found::One(form),
            None => return Err(refused(reject)),
        },
    };
    Ok(match found {
        Found::One(value) => {
            Box::new(std::iter::once(row(value, &format!("{message}/1"), context, mapping).map_err(refused)))
        }
        Found::Many(readings) => Box::new(readings.enumerate().map(move |(n, read)| {
            let place = n as u64 + 1;
            let (raw, read) = match read {
                Ok(value) => {
                    (Bytes::from(value.to_string()), row(value, &format!("{message}/{place}"), context, mapping))
                }
                Err(reject) => (reject.raw.clone(), Err(reject)),
            };
            match read {
                Ok(mut draft) => {
                    draft.origin = Origin::of(raw);
                    Ok(draft)
                }
                Err(reject) => Err(reject.at_row(place).with_raw(raw)),
            }
        })),
    })
}

/// The readings of one JSON text; each is an object unless it is none.
enum Found<'a> {
    One(Value),
    Many(Box<dyn Iterator<Item = Result<Value, Reject>> + Send + 'a>),
}

impl Found<'static> {
    fn many(readings: impl Iterator<Item = Value> + Send + 'static) -> Found<'static> {
        Found::Many(Box::new(readings.map(Ok)))
    }
}

/// # Errors
/// `bad_json`, with the place in the text as it was sent.
fn parsed(text: &[u8]) -> Result<Value, Reject> {
    serde_json::from_slice(&json::exact_numbers(text))
        .or_else(|_| serde_json::from_slice(text))
        .map(|json::Every(value)| value)
        .map_err(|e| Reject::new(Reason::BadJson, e.to_string()))
}

fn found(value: Value, mapping: Option<&Mapping>) -> Result<Found<'static>, Reject> {
    let value = match mapping {
        Some(mapping) => mapping.message(value)?,
        None => value,
    };
    let object = match value {
        Value::Object(object) => object,
        Value::Array(list) if senml::is_senml(&list) => return Ok(Found::many(senml::readings(list).into_iter())),
        Value::Array(list) => return Ok(Found::many(list.into_iter())),
        other => return Err(Reject::new(Reason::BadJson, format!("{} is not a reading", short(&other.to_string())))),
    };
    if synoptic::is_answer(&object) {
        return Ok(Found::many(synoptic::readings(object)?));
    }
    if let Some(readings) = lists::weatherlink(&object) {
        return Ok(Found::many(readings.into_iter()));
    }
    match (object.get("fields"), object.get("data")) {
        (Some(Value::Array(fields)), Some(Value::Array(data))) => {
            Ok(Found::many(lists::columns(fields.clone(), data.clone(), object)?))
        }
        (None, None) if object.contains_key("api_version") && !object.contains_key("sensor") => {
            let said = object.get("description").or(object.get("error")).map_or("it names no error".into(), shown);
            Err(Reject::new(Reason::NotData, format!("an answer of the API without readings: {said}")))
        }
        _ => Ok(Found::One(Value::Object(object))),
    }
}

/// Whether each line is a text of its own: there are several, and the first can be read.
fn is_one_a_line(text: &[u8]) -> bool {
    let mut lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    lines.next().is_some_and(|line| line.starts_with(b"{") && parsed(line).is_ok()) && lines.next().is_some()
}

/// The readings of texts one a line; what cannot be read costs its own line.
fn lines<'a>(text: Bytes, mapping: Option<&'a Mapping>) -> Box<dyn Iterator<Item = Result<Value, Reject>> + Send + 'a> {
    let mut rest = text;
    let lines = std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', &rest).map_or(rest.len(), |end| end + 1);
        Some(rest.split_to(end))
    });
    let lines = lines.filter(|line| !line.trim_ascii().is_empty());
    Box::new(lines.flat_map(move |line| match parsed(&line).and_then(|value| found(value, mapping)) {
        Ok(Found::One(value)) => Box::new(std::iter::once(Ok(value))) as Box<dyn Iterator<Item = _> + Send>,
        Ok(Found::Many(readings)) => readings,
        Err(reject) => Box::new(std::iter::once(Err(reject.with_raw(line)))),
    }))
}

/// The first of `names`, in compact form, under which a value is told.
fn find<'a>(fields: &'a Map<String, Value>, names: &[&str]) -> Option<(&'a str, &'a Value)> {
    let told = |name: &str| {
        let mut all = fields.iter().filter(|(_, value)| !value.is_null());
        all.find(|(key, _)| reads_as(key, name))
    };
    names.iter().find_map(|name| told(name)).map(|(key, value)| (key.as_str(), value))
}

fn row(message: Value, message_id: &str, context: Context<'_>, mapping: Option<&Mapping>) -> Row {
    let form = envelope::form(&message);
    let taken = match mapping.filter(|_| message.is_object()) {
        Some(mapping) => Some(mapping.take(&message, form.reading(), context.topic)?),
        None => None,
    };
    let taken = taken.as_ref();
    let rest = taken.map_or(&message, |taken| &taken.rest);
    let mut quality = Vec::new();
    if let Some(pointer) = form.undecoded(&message) {
        let place = pointer.trim_start_matches('/').replace('/', ".");
        let problem =
            format!("holds the device's bytes alone, in {place}: have the network decode them (payload formatter)");
        quality.push(Quality { field: "reported".into(), problem, raw: None });
    }
    let opened = form.opened(rest);
    let unopened = match rest {
        Value::Object(object) => object,
        Value::Array(_) => return Err(Reject::new(Reason::ShortRow, "a row has as many values as there are fields")),
        other => return Err(Reject::new(Reason::BadJson, format!("{} is not a reading", short(&other.to_string())))),
    };
    let reading = opened.as_ref().unwrap_or(unopened);

    let sensor_id = match taken.and_then(|taken| taken.device.clone()) {
        Some(device) => device,
        None => identity::sensor_id(reading, context.topic)?,
    };
    let its_time = taken.and_then(|taken| taken.time.as_ref());
    let its_time = its_time.map(|told| told.as_ref().map(|(name, value)| (name.as_str(), value)));
    let stamp = stamp::of(reading, its_time, context.received_at, &mut quality)?;
    let message_id = stamp.own().is_none().then_some(message_id);
    let place = taken.map(|taken| taken.place.clone()).unwrap_or_default();
    let position = position(reading, place, &mut quality)?;
    let purpleair = context.source.as_str() == "iot_purpleair" || find(reading, &["sensorindex"]).is_some();
    let mut fields = Fields::of(reading, taken);
    // Its history tells less of a reading than its answers of today: the sensor's name and what they think of it are missing.
    let rank = match purpleair {
        true if find(reading, &["lastseen"]).is_some() => 2,
        true => 1,
        false => 0,
    };
    let system = if purpleair { System::PurpleAir } else { System::Metric };
    let measures = measures::read(&mut fields, system, &mut quality);
    if measures == Measures::default() {
        let problem = "no measure was understood; the source's own object stands in reported";
        quality.push(Quality { field: MEASURES.into(), problem: problem.into(), raw: None });
    }
    fields.name_unread(&mut quality);
    synoptic::note_flags(reading, &mut quality);

    let names = SENSOR_NAMES.iter().filter_map(|name| find(reading, &[name])?.1.as_str());
    let names = taken.and_then(|taken| taken.name.as_deref()).into_iter().chain(names);
    let sensor_name = names.map(str::trim).find(|name| !name.is_empty()).map(str::to_owned);
    identify(Observation {
        origin: Origin::default(),
        source: context.source.clone(),
        observed_at: stamp.at(),
        published_at: None,
        geometry: position.map(Geometry::Point),
        position,
        derived_from: None,
        quality,
        alert: None,
        data: Data::of(&Reading {
            sensor_id,
            sensor_name,
            measured_at: stamp.own(),
            message_id: message_id.map(str::to_owned),
            measures,
            reported: if let Value::Object(reported) = message { without_keys(reported) } else { Map::new() },
        })?,
        rank,
    })
}

/// The message as it came, but for what opens something: of that only the name is shown.
fn without_keys(mut message: Map<String, Value>) -> Map<String, Value> {
    for (name, value) in &mut message {
        if is_key(name) {
            *value = "***".into();
        } else if let Value::Object(inner) = value {
            *inner = without_keys(std::mem::take(inner));
        }
    }
    message
}

/// Degrees of a reading, its own or those of an object that holds its place.
fn degrees(reading: &Map<String, Value>) -> [Option<Value>; 2] {
    let own = |fields: &Map<String, Value>| {
        [&LATITUDES[..], &LONGITUDES[..]].map(|names| find(fields, names).map(|(_, value)| value.clone()))
    };
    let read = own(reading);
    if read.iter().any(Option::is_some) {
        return read;
    }
    let places = PLACES.iter().filter_map(|name| find(reading, &[name]).map(|(_, place)| place));
    let found = places.filter_map(|place| match place {
        Value::Object(place) => match place.get("coordinates").and_then(Value::as_array).map(Vec::as_slice) {
            // GeoJSON: longitude first.
            Some([longitude, latitude, ..]) => Some([Some(latitude.clone()), Some(longitude.clone())]),
            _ => Some(own(place)),
        },
        _ => None,
    });
    found.into_iter().find(|degrees| degrees.iter().any(Option::is_some)).unwrap_or_default()
}

/// The reading's place: none without both coordinates, and none at (0, 0), where a receiver without a fix believes to be.
///
/// # Errors
/// `bad_latitude`, `bad_longitude` for a coordinate that is there and is none [S9].
fn position(
    reading: &Map<String, Value>,
    mapped: [Option<Value>; 2],
    quality: &mut Vec<Quality>,
) -> Result<Option<Position>, Reject> {
    let [latitude, longitude] = match mapped {
        [Some(latitude), Some(longitude)] => [Some(latitude), Some(longitude)],
        [latitude, longitude] => {
            let [own_latitude, own_longitude] = degrees(reading);
            [latitude.or(own_latitude), longitude.or(own_longitude)]
        }
    };
    let read = |value: Option<Value>, reason: Reason| match value.as_ref().map(|value| (value, number(value))) {
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
mod tests;
