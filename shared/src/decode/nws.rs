//! What documents of the National Weather Service share, whatever they tell of: features with properties, values with a
//! `unitCode`, places and intervals [S2]. Which fields a source has is in its own module.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::{Span, SpanRelativeTo};
use serde_json::{Map, Value};

use super::alert::geometry;
use super::sensor::measures::{Measured, number, shown};
use super::{json, short};
use crate::error::{Reason, Reject};
use crate::limits::{ALERT_BYTES, UNREAD_NAME_CHARS, UNREAD_NAMED};
use crate::record::{Geometry, Position, Quality};
use crate::time::Timestamp;

/// What a value is measured in when it is published; NWS's code for its own unit means something only within one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dimension {
    /// °C.
    Temperature,
    /// m/s.
    Speed,
    /// hPa.
    Pressure,
    /// m.
    Length,
    /// mm of water.
    Rain,
    /// Percent.
    Share,
    /// Degrees.
    Angle,
}

/// What a unit's code says: `(value + before) * factor` is the value in the published unit.
fn unit(of: Dimension, code: &str) -> Option<(f64, f64)> {
    // `wmoUnit:degC`, `unit:degC` of 2019, or the address of the code.
    let name = code.rsplit([':', '/']).next().unwrap_or(code);
    Some(match (of, name) {
        (Dimension::Temperature, "degC" | "C" | "Cel") => (0.0, 1.0),
        (Dimension::Temperature, "degF" | "F") => (-32.0, 1.0 / 1.8),
        (Dimension::Temperature, "K") => (-273.15, 1.0),
        (Dimension::Speed, "km_h-1" | "km/h") => (0.0, 1.0 / 3.6),
        (Dimension::Speed, "m_s-1" | "m/s") => (0.0, 1.0),
        (Dimension::Speed, "kt") => (0.0, 1_852.0 / 3_600.0),
        (Dimension::Speed, "mi_h-1" | "mph") => (0.0, 0.447_04),
        (Dimension::Pressure, "Pa") => (0.0, 0.01),
        (Dimension::Pressure, "hPa") => (0.0, 1.0),
        (Dimension::Length, "m") => (0.0, 1.0),
        (Dimension::Length, "km") => (0.0, 1_000.0),
        (Dimension::Length, "ft") => (0.0, 0.304_8),
        (Dimension::Rain, "mm" | "kg_m-2") => (0.0, 1.0),
        (Dimension::Rain, "m") => (0.0, 1_000.0),
        (Dimension::Rain, "in") => (0.0, 25.4),
        (Dimension::Share, "percent") => (0.0, 1.0),
        (Dimension::Angle, "degree_(angle)" | "degree") => (0.0, 1.0),
        _ => return None,
    })
}

/// `value` in the published unit, with four decimals; `None` for a unit that is not understood.
pub(crate) fn convert(of: Dimension, value: f64, code: &str) -> Option<f64> {
    let (before, factor) = unit(of, code)?;
    Some(((value + before) * factor * 1e4).round() / 1e4)
}

/// One object's fields, each taken once: what is left in the end was not understood.
#[derive(Default)]
pub(crate) struct Fields {
    of: Map<String, Value>,
    /// What could not be read.
    pub(crate) quality: Vec<Quality>,
    /// NWS's own judgement of a value, by our field's name.
    pub(crate) marks: BTreeMap<String, String>,
}

/// A feature's properties, and its geometry.
pub(crate) fn feature(item: &Bytes) -> Result<(Fields, Value), Reject> {
    let mut feature = object(item)?;
    let geometry = feature.remove("geometry").unwrap_or_default();
    match feature.remove("properties") {
        Some(Value::Object(properties)) => Ok((Fields::new(properties), geometry)),
        _ => Err(Reject::new(Reason::MissingField, "the feature has no properties")),
    }
}

/// # Errors
/// `too_large`; `bad_json` for what is no object.
pub(crate) fn object(item: &Bytes) -> Result<Map<String, Value>, Reject> {
    match serde_json::from_slice(json::bounded(item, ALERT_BYTES)?) {
        Ok(json::Every(Value::Object(object))) => Ok(object),
        Ok(json::Every(other)) => {
            Err(Reject::new(Reason::BadJson, format!("{} is no object", short(&other.to_string()))))
        }
        Err(e) => Err(Reject::new(Reason::BadJson, e.to_string())),
    }
}

impl Fields {
    pub(crate) fn new(of: Map<String, Value>) -> Fields {
        Fields { of, ..Fields::default() }
    }

    pub(crate) fn fault(&mut self, field: &str, problem: &str, value: &Value) {
        self.quality.push(Quality::new(&short(field), problem, &shown(value)));
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.of.contains_key(name)
    }

    /// `None` for null too.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.of.remove(name).filter(|value| !value.is_null())
    }

    /// An empty text says nothing.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text).filter(|text| !text.trim().is_empty()),
            other => {
                self.fault(name, "is no text", &other);
                None
            }
        }
    }

    /// # Errors
    /// `missing_field`.
    pub(crate) fn required(&mut self, name: &str) -> Result<String, Reject> {
        self.text(name).ok_or_else(|| Reject::new(Reason::MissingField, format!("{name} is missing")))
    }

    /// # Errors
    /// `missing_field`, and `bad_time` for what is no time with an offset.
    pub(crate) fn time(&mut self, name: &str) -> Result<Timestamp, Reject> {
        let text = self.required(name)?;
        text.trim()
            .parse()
            .map_err(|_| Reject::new(Reason::BadTime, format!("{name} {:?} is no time with an offset", short(&text))))
    }

    /// A list of texts; a single text is a list of one.
    pub(crate) fn texts(&mut self, name: &str) -> Vec<String> {
        self.take(name).map_or_else(Vec::new, |value| self.texts_of(name, value))
    }

    fn texts_of(&mut self, name: &str, value: Value) -> Vec<String> {
        let Value::Array(list) = value else {
            return match value {
                Value::Null => Vec::new(),
                Value::Object(_) => {
                    self.fault(name, "is neither a text nor a list of texts", &value);
                    Vec::new()
                }
                single => vec![shown(&single)],
            };
        };
        let mut texts = Vec::new();
        for (n, value) in list.into_iter().enumerate() {
            if value.is_object() || value.is_array() {
                self.fault(&format!("{name}[{n}]"), "is no text", &value);
            } else {
                texts.push(shown(&value));
            }
        }
        texts
    }

    /// Name → values.
    pub(crate) fn multimap(&mut self, name: &str) -> BTreeMap<String, Vec<String>> {
        match self.take(name) {
            None => BTreeMap::new(),
            Some(Value::Object(map)) => map
                .into_iter()
                .map(|(key, value)| {
                    let texts = self.texts_of(&format!("{name}.{}", short(&key)), value);
                    (key, texts)
                })
                .collect(),
            Some(other) => {
                self.fault(name, "is no object", &other);
                BTreeMap::new()
            }
        }
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(told) => Some(told),
            other => {
                self.fault(name, "is neither true nor false", &other);
                None
            }
        }
    }

    /// A whole number from 0 on, also as text.
    pub(crate) fn count(&mut self, name: &str) -> Option<u32> {
        let value = self.take(name)?;
        let count = shown(&value).parse().ok();
        if count.is_none() {
            self.fault(name, "is no whole number", &value);
        }
        count
    }

    /// A value with its unit, under the name that the record has for it: absent, null, or in the published unit.
    pub(crate) fn quantity(&mut self, name: &str, field: &str, of: Dimension) -> Measured {
        let value = self.of.remove(name)?;
        Some(self.converted(&value, field, of))
    }

    pub(crate) fn converted(&mut self, value: &Value, field: &str, of: Dimension) -> Option<f64> {
        let Value::Object(told) = value else {
            if !value.is_null() {
                self.fault(field, "is no value with a unit", value);
            }
            return None;
        };
        if let Some(mark) = told.get("qualityControl").and_then(Value::as_str) {
            self.marks.insert(field.to_owned(), short(mark));
        }
        let plain = match number(told.get("value").unwrap_or(&Value::Null)) {
            Ok(plain) => plain?,
            Err(problem) => {
                self.fault(field, problem, value);
                return None;
            }
        };
        let code = told.get("unitCode").or(told.get("uom")).and_then(Value::as_str).unwrap_or_default();
        let converted = convert(of, plain, code);
        if converted.is_none() {
            let problem = match code {
                "" => "names no unit".to_owned(),
                _ => format!("is in the unit {}, which is not understood", short(code)),
            };
            self.fault(field, &problem, value);
        }
        converted
    }

    /// A null value is what NWS writes for what a station did not measure, so that only a bad mark is a note [S9].
    pub(crate) fn note_marks(&mut self) {
        for (field, mark) in &self.marks {
            let problem = match mark.as_str() {
                "X" => "was rejected by NWS's own quality control",
                "Q" => "is questioned by NWS's own quality control",
                "B" => "was judged bad by NWS's own quality control",
                _ => continue,
            };
            self.quality.push(Quality::new(field, problem, mark));
        }
    }

    /// What is wrong with the object, what is left of it included. `known`: what is understood and stands in other words in
    /// the record, or says nothing of its own.
    pub(crate) fn rest(mut self, known: &[&str]) -> Vec<Quality> {
        // JSON-LD's names, links to the document itself.
        let housekeeping = |name: &str| name.starts_with('@') || known.contains(&name);
        let left: Vec<(String, Value)> =
            std::mem::take(&mut self.of).into_iter().filter(|(name, _)| !housekeeping(name)).collect();
        for (name, value) in left.iter().take(UNREAD_NAMED) {
            let name: String = name.chars().take(UNREAD_NAME_CHARS).collect();
            self.fault(&name, "is not understood", value);
        }
        if let Some(more @ 1..) = left.len().checked_sub(UNREAD_NAMED) {
            self.quality.push(Quality::new("fields", &format!("{more} more fields are not understood"), ""));
        }
        self.quality
    }
}

/// Where a document's subject is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Place {
    pub(crate) geometry: Option<Geometry>,
    /// The point itself, or the area's centre.
    pub(crate) position: Option<Position>,
}

impl Place {
    /// # Errors
    /// `bad_latitude` and `bad_longitude` for a point that is none.
    pub(crate) fn read(told: &Value, quality: &mut Vec<Quality>) -> Result<Place, Reject> {
        let mut broken = |problem: &str| {
            quality.push(Quality::new("geometry", problem, &told.to_string()));
            Ok(Place::default())
        };
        match told["type"].as_str() {
            None if told.is_null() => Ok(Place::default()),
            Some("Point") => {
                let degrees = |n: usize| told["coordinates"].get(n).and_then(Value::as_f64);
                let (Some(longitude), Some(latitude)) = (degrees(0), degrees(1)) else {
                    let detail = format!("{} is not [longitude, latitude]", short(&told["coordinates"].to_string()));
                    return Err(Reject::new(Reason::BadLatitude, detail));
                };
                let at = Position::new(latitude, longitude)?;
                Ok(Place { geometry: Some(Geometry::Point(at)), position: Some(at) })
            }
            Some("Polygon" | "MultiPolygon") => match geometry::geojson(told, &mut Vec::new()) {
                Ok(shape) => Ok(Place { position: geometry::centre(&shape), geometry: geometry::geometry(&[shape]) }),
                Err(problem) => broken(&problem),
            },
            _ => broken("is neither a Point nor a polygon"),
        }
    }
}

/// An ISO 8601 interval as NWS writes it, `2024-03-26T15:00:00+00:00/P1DT6H`, or with its end instead of its length. A day has 24
/// hours.
pub(crate) fn interval(text: &str) -> Option<(Timestamp, Timestamp)> {
    let (start, end) = text.split_once('/')?;
    let start: Timestamp = start.parse().ok()?;
    if !end.starts_with('P') {
        return Some((start, end.parse().ok()?));
    }
    let length = end.parse::<Span>().ok()?.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Some((start, start.checked_add(length).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(of: Value) -> Fields {
        Fields::new(of.as_object().unwrap().clone())
    }

    fn problems(quality: &[Quality]) -> Vec<(&str, &str)> {
        quality.iter().map(|said| (&*said.field, &*said.problem)).collect()
    }

    #[test]
    fn s2_values_are_converted_by_their_own_unit() {
        for (of, code, value, read) in [
            (Dimension::Temperature, "wmoUnit:degC", 11.1, Some(11.1)),
            (Dimension::Temperature, "unit:degF", 50.0, Some(10.0)),
            (Dimension::Temperature, "http://codes.wmo.int/common/unit/K", 273.15, Some(0.0)),
            (Dimension::Speed, "wmoUnit:km_h-1", 36.0, Some(10.0)),
            (Dimension::Speed, "wmoUnit:m_s-1", 3.0, Some(3.0)),
            (Dimension::Pressure, "wmoUnit:Pa", 101_900.0, Some(1019.0)),
            (Dimension::Length, "wmoUnit:m", 16_090.0, Some(16_090.0)),
            (Dimension::Share, "wmoUnit:percent", 86.25, Some(86.25)),
            (Dimension::Angle, "wmoUnit:degree_(angle)", 350.0, Some(350.0)),
            (Dimension::Speed, "wmoUnit:degC", 3.0, None),
            (Dimension::Speed, "furlong", 3.0, None),
        ] {
            assert_eq!(convert(of, value, code), read, "{code}");
        }
    }

    #[test]
    fn s9_absent_null_and_unreadable_are_three_things() {
        let mut of = fields(json!({
            "a": {"unitCode": "wmoUnit:degC", "value": null, "qualityControl": "Z"},
            "b": {"unitCode": "wmoUnit:stone", "value": 1},
            "c": {"unitCode": "wmoUnit:degC", "value": "warm"},
            "d": {"value": 3},
            "e": {"unitCode": "wmoUnit:degC", "value": 3, "qualityControl": "X"},
            "f": 5, "g": null, "@id": "x", "more": [1]
        }));
        let mut read = |name: &str| of.quantity(name, name, Dimension::Temperature);
        assert_eq!(["z", "a", "g", "b", "c", "d", "f"].map(&mut read), {
            [None, Some(None), Some(None), Some(None), Some(None), Some(None), Some(None)]
        });
        assert_eq!(read("e"), Some(Some(3.0)));
        of.note_marks();
        assert_eq!(
            problems(&of.rest(&[])),
            [
                ("b", "is in the unit wmoUnit:stone, which is not understood"),
                ("c", "is not a number"),
                ("d", "names no unit"),
                ("f", "is no value with a unit"),
                ("e", "was rejected by NWS's own quality control"),
                ("more", "is not understood"),
            ]
        );
    }

    #[test]
    fn intervals_end_where_their_length_says() {
        let read = |text| interval(text).map(|(start, end)| format!("{start} {end}"));
        let at = |end: &str| Some(format!("2024-03-26T15:00:00Z {end}"));
        assert_eq!(read("2024-03-26T15:00:00+00:00/PT3H"), at("2024-03-26T18:00:00Z"));
        assert_eq!(read("2024-03-26T15:00:00+00:00/P1DT6H"), at("2024-03-27T21:00:00Z"));
        assert_eq!(read("2024-03-26T15:00:00Z/P7D"), at("2024-04-02T15:00:00Z"));
        assert_eq!(read("2024-03-26T15:00:00Z/2024-03-26T16:00:00Z"), at("2024-03-26T16:00:00Z"));
        for text in
            ["", "/", "2024-03-26T15:00:00Z", "2024-03-26T15:00:00Z/P", "x/PT1H", "2024-03-26T15:00:00Z/P99999Y"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_place_is_a_point_or_an_area_with_its_centre() {
        let read = |told: Value| {
            let mut quality = Vec::new();
            Place::read(&told, &mut quality).map(|place| (place.position, quality.len()))
        };
        let at = |latitude, longitude| Position::new(latitude, longitude).ok();
        assert_eq!(read(json!({"type": "Point", "coordinates": [-122.25, 37.83]})), Ok((at(37.83, -122.25), 0)));
        let square = json!([[[-122, 40], [-121, 40], [-121, 41], [-122, 41], [-122, 40]]]);
        assert_eq!(read(json!({"type": "Polygon", "coordinates": square})), Ok((at(40.5, -121.5), 0)));
        assert_eq!(read(Value::Null), Ok((None, 0)));
        assert_eq!(read(json!({"type": "Polygon", "coordinates": [[1]]})), Ok((None, 1)));
        assert_eq!(read(json!("here")), Ok((None, 1)));
        assert_eq!(
            read(json!({"type": "Point", "coordinates": [37.8, -122.2]})).unwrap_err().reason,
            Reason::BadLatitude
        );
        assert_eq!(read(json!({"type": "Point"})).unwrap_err().reason, Reason::BadLatitude);
    }
}
