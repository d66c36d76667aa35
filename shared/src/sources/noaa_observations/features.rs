//! Observations of api.weather.gov: a collection of features, or the latest one alone. Lists of METAR reports as JSON are told from
//! them report by report.

use bytes::Bytes;
use serde_json::Value;

use super::{CloudLayer, Weather, WeatherReport, aviation};
use crate::decode::items::Document;
use crate::decode::nws::{Dimension, Fields, Place, feature};
use crate::decode::sensor::measures::Measured;
use crate::decode::{Context, Row, Rows};
use crate::error::{Reason, Reject};
use crate::record::{Data, Observation, Origin, Quality};
use crate::sources::identify;

/// What is understood and not published: a picture's address.
const KNOWN: [&str; 1] = ["icon"];

/// Beyond these no weather goes: the value stands, for NWS's word is not overruled, and `quality` says so.
const POSSIBLE: [(&str, f64, f64); 6] = [
    ("temperature_c", -90.0, 60.0),
    ("dew_point_c", -100.0, 40.0),
    ("relative_humidity_percent", 0.0, 105.0),
    ("wind_direction_deg", 0.0, 360.0),
    ("wind_speed_m_s", 0.0, 115.0),
    ("wind_gust_m_s", 0.0, 150.0),
];

pub(super) fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    match Document::read(body, &["features"]) {
        Ok(document) => {
            Ok(Box::new(document.enumerate().map(move |(n, item)| {
                row(&item, context).map_err(|reject| reject.at_row(n as u64 + 1).with_raw(item))
            })))
        }
        Err(reject) if reject.reason == Reason::NotData && (is_feature(body) || aviation::is_report(body)) => {
            Ok(Box::new(std::iter::once(row(body, context).map_err(|reject| reject.with_raw(body.clone())))))
        }
        Err(reject) => Err(reject),
    }
}

/// `/observations/latest` gives the feature itself.
fn is_feature(body: &Bytes) -> bool {
    feature(body).is_ok()
}

fn row(item: &Bytes, context: Context<'_>) -> Row {
    if aviation::is_report(item) {
        return aviation::row(item, context);
    }
    let (mut of, geometry) = feature(item)?;
    let observed_at = of.time("timestamp")?;
    let Place { geometry, position } = Place::read(&geometry, &mut of.quality)?;
    let station = of.text("station");
    let station_id = of.text("stationId").or(station.as_deref().and_then(last).map(str::to_owned));
    let station_id = station_id.ok_or_else(|| Reject::new(Reason::MissingField, "station is missing"))?;
    let mut report = WeatherReport {
        format: "nws-geojson",
        station_id: station_id.trim().to_owned(),
        station_name: of.text("stationName"),
        elevation_m: of.quantity("elevation", "elevation_m", Dimension::Length),
        temperature_c: of.quantity("temperature", "temperature_c", Dimension::Temperature),
        dew_point_c: of.quantity("dewpoint", "dew_point_c", Dimension::Temperature),
        relative_humidity_percent: of.quantity("relativeHumidity", "relative_humidity_percent", Dimension::Share),
        wind_direction_deg: of.quantity("windDirection", "wind_direction_deg", Dimension::Angle),
        wind_speed_m_s: of.quantity("windSpeed", "wind_speed_m_s", Dimension::Speed),
        wind_gust_m_s: of.quantity("windGust", "wind_gust_m_s", Dimension::Speed),
        barometric_pressure_hpa: of.quantity("barometricPressure", "barometric_pressure_hpa", Dimension::Pressure),
        sea_level_pressure_hpa: of.quantity("seaLevelPressure", "sea_level_pressure_hpa", Dimension::Pressure),
        visibility_m: of.quantity("visibility", "visibility_m", Dimension::Length),
        temperature_max_24h_c: of.quantity(
            "maxTemperatureLast24Hours",
            "temperature_max_24h_c",
            Dimension::Temperature,
        ),
        temperature_min_24h_c: of.quantity(
            "minTemperatureLast24Hours",
            "temperature_min_24h_c",
            Dimension::Temperature,
        ),
        precipitation_1h_mm: of.quantity("precipitationLastHour", "precipitation_1h_mm", Dimension::Rain),
        precipitation_3h_mm: of.quantity("precipitationLast3Hours", "precipitation_3h_mm", Dimension::Rain),
        precipitation_6h_mm: of.quantity("precipitationLast6Hours", "precipitation_6h_mm", Dimension::Rain),
        wind_chill_c: of.quantity("windChill", "wind_chill_c", Dimension::Temperature),
        heat_index_c: of.quantity("heatIndex", "heat_index_c", Dimension::Temperature),
        weather: weather(&mut of),
        cloud_layers: cloud_layers(&mut of),
        description: of.text("textDescription"),
        raw_message: of.text("rawMessage"),
        ..WeatherReport::default()
    };
    of.note_marks();
    report.quality_control = std::mem::take(&mut of.marks);
    note_impossible(&report, &mut of.quality);
    identify(Observation {
        origin: Origin::of(item.clone()),
        source: context.source.clone(),
        observed_at,
        published_at: None,
        geometry,
        position,
        derived_from: None,
        alert: None,
        data: Data::of(&report)?,
        quality: of.rest(&KNOWN),
        rank: 0,
    })
}

/// The last part of an address.
fn last(address: &str) -> Option<&str> {
    address.trim_end_matches('/').rsplit('/').next().filter(|id| !id.trim().is_empty())
}

fn note_impossible(report: &WeatherReport, quality: &mut Vec<Quality>) {
    let values: [Measured; POSSIBLE.len()] = [
        report.temperature_c,
        report.dew_point_c,
        report.relative_humidity_percent,
        report.wind_direction_deg,
        report.wind_speed_m_s,
        report.wind_gust_m_s,
    ];
    for ((field, low, high), value) in POSSIBLE.into_iter().zip(values) {
        if let Some(Some(value)) = value
            && !(low..=high).contains(&value)
        {
            quality.push(Quality::new(
                field,
                &format!("is not in {low}..{high}: it cannot be right"),
                &value.to_string(),
            ));
        }
    }
}

/// The objects of a list, each with its place in words.
fn objects(of: &mut Fields, name: &str) -> Vec<(String, Fields)> {
    let list = match of.take(name) {
        None => return Vec::new(),
        Some(Value::Array(list)) => list,
        Some(other) => {
            of.fault(name, "is no list", &other);
            return Vec::new();
        }
    };
    let mut objects = Vec::new();
    for (n, value) in list.into_iter().enumerate() {
        let place = format!("{name}[{n}]");
        match value {
            Value::Object(object) => objects.push((place, Fields::new(object))),
            other => of.fault(&place, "is no object", &other),
        }
    }
    objects
}

/// What was wrong inside of one of a list's objects, by its place.
fn said(of: &mut Fields, place: &str, inside: Fields) {
    of.quality
        .extend(inside.rest(&[]).into_iter().map(|said| Quality { field: format!("{place}.{}", said.field), ..said }));
}

fn weather(of: &mut Fields) -> Vec<Weather> {
    let read = |(place, mut one): (String, Fields), of: &mut Fields| {
        let weather = Weather {
            intensity: one.text("intensity"),
            modifier: one.text("modifier"),
            weather: one.text("weather"),
            in_vicinity: one.boolean("inVicinity"),
            code: one.text("rawString"),
        };
        said(of, &place, one);
        weather
    };
    objects(of, "presentWeather").into_iter().map(|one| read(one, of)).collect()
}

fn cloud_layers(of: &mut Fields) -> Vec<CloudLayer> {
    let read = |(place, mut one): (String, Fields), of: &mut Fields| {
        let layer = CloudLayer {
            amount: one.text("amount").unwrap_or_default(),
            base_m: one.quantity("base", "base_m", Dimension::Length).flatten(),
            kind: None,
        };
        said(of, &place, one);
        layer
    };
    objects(of, "cloudLayers").into_iter().map(|one| read(one, of)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::FORMAT;
    use super::*;
    use crate::record::{Position, SourceId};
    use crate::time::Timestamp;

    fn rows(body: &Value) -> Result<Vec<Row>, Reject> {
        let source = SourceId::new("noaa_observations").unwrap();
        let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
        let body = Bytes::from(body.to_string());
        FORMAT.rows(&body, context).map(Iterator::collect)
    }

    fn observation() -> Value {
        json!({
            "id": "https://api.weather.gov/stations/KTST/observations/2026-03-04T21:18:00+00:00", "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [-122.25, 37.83]},
            "properties": {
                "@type": "wx:ObservationStation", "station": "https://api.weather.gov/stations/KTST",
                "timestamp": "2026-03-04T21:18:00+00:00", "rawMessage": "", "textDescription": "Smoke", "icon": null,
                "elevation": {"unitCode": "wmoUnit:m", "value": 29},
                "temperature": {"unitCode": "wmoUnit:degC", "value": 17.78, "qualityControl": "V"},
                "windSpeed": {"unitCode": "wmoUnit:km_h-1", "value": 36, "qualityControl": "V"},
                "windGust": {"unitCode": "wmoUnit:km_h-1", "value": null, "qualityControl": "Z"},
                "barometricPressure": {"unitCode": "wmoUnit:Pa", "value": 102030, "qualityControl": "V"},
                "presentWeather": [{"intensity": "light", "modifier": null, "weather": "smoke", "rawString": "-FU"}],
                "cloudLayers": [{"base": {"unitCode": "wmoUnit:m", "value": 1430}, "amount": "BKN"}]
            }
        })
    }

    #[test]
    fn s2_an_observation_is_read_in_our_units() {
        let draft = rows(&json!({"features": [observation()]})).unwrap().remove(0).unwrap();
        let data: Value = serde_json::from_str(draft.data.json()).unwrap();
        assert_eq!(draft.observed_at, "2026-03-04T21:18:00Z".parse().unwrap());
        assert_eq!((draft.position, draft.quality.len()), (Position::new(37.83, -122.25).ok(), 0));
        for (field, value) in [
            ("station_id", json!("KTST")),
            ("temperature_c", json!(17.78)),
            ("wind_speed_m_s", json!(10.0)),
            ("wind_gust_m_s", Value::Null),
            ("barometric_pressure_hpa", json!(1020.3)),
            ("raw_message", Value::Null),
            ("description", json!("Smoke")),
        ] {
            assert_eq!(data[field], value, "{field}");
        }
        assert!(data.get("dew_point_c").is_none(), "what is not reported is not null");
        assert_eq!(
            (&data["weather"][0]["weather"], &data["cloud_layers"][0]["base_m"]),
            (&json!("smoke"), &json!(1430.0))
        );
        assert_eq!(data["quality_control"]["wind_gust_m_s"], "Z");
        let alone = rows(&observation()).unwrap().remove(0).unwrap();
        assert_eq!((alone.event, alone.content), (draft.event, draft.content), "the latest one alone");
    }

    #[test]
    fn s9_what_cannot_be_right_is_said_and_a_bad_one_costs_itself() {
        let mut odd = observation();
        odd["properties"]["windSpeed"]["value"] = json!(804.67);
        odd["properties"]["surprise"] = json!(true);
        odd["properties"]["cloudLayers"][0]["base"]["unitCode"] = json!("wmoUnit:stone");
        let mut timeless = observation();
        timeless["properties"]["timestamp"] = json!("yesterday");
        let mut elsewhere = observation();
        elsewhere["geometry"]["coordinates"] = json!([0, 91]);
        let read = rows(&json!({"features": [odd, timeless, elsewhere, 5]})).unwrap();
        let said: Vec<_> = read[0].as_ref().unwrap().quality.iter().map(|said| said.field.as_str()).collect();
        assert_eq!(said, ["cloudLayers[0].base_m", "wind_speed_m_s", "surprise"]);
        let reasons: Vec<_> = read[1..].iter().map(|row| row.as_ref().unwrap_err().reason).collect();
        assert_eq!(reasons, [Reason::BadTime, Reason::BadLatitude, Reason::BadJson]);
        assert!(rows(&json!({"type": "FeatureCollection", "features": []})).unwrap().is_empty());
        let problem = rows(&json!({"title": "Not Found", "status": 404, "detail": "no such station"})).unwrap_err();
        assert_eq!(problem.reason, Reason::NotData);
        assert!(problem.detail.contains("no such station"), "{}", problem.detail);
    }
}
