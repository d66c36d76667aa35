#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::super::FORMAT;
use super::*;
use crate::record::{Draft, SourceId};

fn rows(body: &Value) -> Result<Vec<Row>, Reject> {
    let source = SourceId::new("noaa_forecast").unwrap();
    let received_at = "2026-03-04T22:00:00Z".parse().unwrap();
    let context = Context { source: &source, received_at, topic: None, message: None };
    let body = Bytes::from(body.to_string());
    FORMAT.rows(&body, context).map(Iterator::collect)
}

fn drafts(body: &Value) -> Vec<(Draft, Value)> {
    let rows = rows(body).unwrap().into_iter();
    rows.map(|row| row.map(|draft| (draft.clone(), serde_json::from_str(draft.data.json()).unwrap())).unwrap())
        .collect()
}

fn square() -> Value {
    json!({"type": "Polygon", "coordinates": [[[-122.29, 37.78], [-122.25, 37.78], [-122.25, 37.8], [-122.29, 37.8], [-122.29, 37.78]]]})
}

fn forecast() -> Value {
    json!({"type": "Feature", "geometry": square(), "properties": {
        "units": "us", "forecastGenerator": "HourlyForecastGenerator", "generatedAt": "2026-03-04T21:59:00+00:00",
        "updateTime": "2026-03-04T20:28:04+00:00", "validTimes": "2026-03-04T14:00:00+00:00/P7DT11H",
        "elevation": {"unitCode": "wmoUnit:m", "value": 0.9144},
        "periods": [{
            "number": 1, "name": "", "startTime": "2026-03-05T15:00:00+00:00", "endTime": "2026-03-05T16:00:00+00:00",
            "isDaytime": true, "temperature": 50, "temperatureUnit": "F", "temperatureTrend": null, "icon": "x",
            "probabilityOfPrecipitation": {"unitCode": "wmoUnit:percent", "value": null},
            "dewpoint": {"unitCode": "wmoUnit:degC", "value": 7.25}, "windSpeed": "5 to 10 mph", "windDirection": "NW",
            "shortForecast": "Smoke", "detailedForecast": ""
        }]
    }})
}

#[test]
fn s2_a_period_is_one_record_seen_when_it_was_made() {
    let (draft, data) = drafts(&forecast()).remove(0);
    assert_eq!(draft.observed_at, "2026-03-04T20:28:04Z".parse().unwrap(), "never in the future");
    assert!(draft.geometry.is_some() && draft.quality.is_empty(), "{:?}", draft.quality);
    for (field, value) in [
        ("kind", json!("period")),
        ("place", json!("37.7900,-122.2700")),
        ("start", json!("2026-03-05T15:00:00.000Z")),
        ("temperature_c", json!(10.0)),
        ("wind_speed_min_m_s", json!(2.2352)),
        ("wind_speed_max_m_s", json!(4.4704)),
        ("precipitation_probability_percent", Value::Null),
        ("name", Value::Null),
    ] {
        assert_eq!(data[field], value, "{field}");
    }
    let mut later = forecast();
    later["properties"]["generatedAt"] = json!("2026-03-04T23:00:00+00:00");
    let later = drafts(&later).remove(0).0;
    assert_eq!((later.event, later.content), (draft.event, draft.content), "asked for again, it is the same");
    later_issue_is_another(&draft);
}

fn later_issue_is_another(draft: &Draft) {
    let mut issue = forecast();
    issue["properties"]["updateTime"] = json!("2026-03-04T21:28:04+00:00");
    assert_ne!(drafts(&issue).remove(0).0.event, draft.event);
}

#[test]
fn s9_a_bad_period_costs_itself_and_odd_values_are_named() {
    let mut body = forecast();
    let mut odd = body["properties"]["periods"][0].clone();
    odd["temperature"] = json!({"unitCode": "wmoUnit:degC", "value": 10});
    odd["windSpeed"] = json!({"unitCode": "wmoUnit:km_h-1", "minValue": 18, "maxValue": 36});
    let mut worse = odd.clone();
    worse["temperature"] = json!("warm");
    worse["windSpeed"] = json!("a breeze");
    worse["surprise"] = json!(1);
    let mut endless = odd.clone();
    endless.as_object_mut().unwrap().remove("endTime");
    body["properties"]["periods"] = json!([odd, worse, endless]);
    let read = rows(&body).unwrap();
    let data: Value = serde_json::from_str(read[0].as_ref().unwrap().data.json()).unwrap();
    assert_eq!((&data["temperature_c"], &data["wind_speed_max_m_s"]), (&json!(10.0), &json!(10.0)));
    let said: Vec<_> = read[1].as_ref().unwrap().quality.iter().map(|said| said.field.as_str()).collect();
    assert_eq!(said, ["wind_speed_max_m_s", "temperature_c", "surprise"]);
    assert_eq!(read[2].as_ref().unwrap_err().reason, Reason::MissingField);
}

#[test]
fn s2_a_grid_gives_one_record_a_layer() {
    let body = json!({"geometry": square(), "properties": {
        "updateTime": "2026-03-04T20:28:04+00:00", "validTimes": "x", "gridId": "MTR", "gridX": "90", "gridY": 105,
        "temperature": {"uom": "wmoUnit:degC", "values": [
            {"validTime": "2026-03-05T02:00:00+00:00/PT1H", "value": 13.25},
            {"validTime": "2026-03-05T03:00:00+00:00/P1D", "value": null},
            {"validTime": "soon", "value": 1}]},
        "redFlagThreatIndex": {"values": []},
        "weather": {"values": [{"validTime": "2026-03-05T02:00:00+00:00/PT6H", "value": [{"weather": "smoke"}]}]},
        "surprise": 1
    }});
    let layers = drafts(&body);
    let names: Vec<_> = layers.iter().map(|(_, data)| data["layer"].as_str().unwrap()).collect();
    assert_eq!(names, ["redFlagThreatIndex", "temperature", "weather"]);
    let (draft, temperature) = &layers[1];
    assert_eq!((&temperature["place"], &temperature["unit_code"]), (&json!("MTR/90,105"), &json!("wmoUnit:degC")));
    assert_eq!(
        temperature["values"],
        json!([
            {"start": "2026-03-05T02:00:00.000Z", "end": "2026-03-05T03:00:00.000Z", "value": 13.25},
            {"start": "2026-03-05T03:00:00.000Z", "end": "2026-03-06T03:00:00.000Z", "value": null}
        ])
    );
    let said: Vec<_> = draft.quality.iter().map(|said| said.field.as_str()).collect();
    assert_eq!(said, ["values[2]", "surprise"]);
    assert_eq!(layers[2].1["values"][0]["value"], json!([{"weather": "smoke"}]));
    assert_eq!(layers[0].1["values"], json!([]), "a layer that is not filled is a record all the same");
}

#[test]
fn s2_points_and_stations_are_known_by_their_names() {
    let point = json!({"geometry": {"type": "Point", "coordinates": [-87.566, 33.211]}, "properties": {
        "gridId": "BMX", "gridX": 32, "gridY": 69, "forecastGridData": "https://a/gridpoints/BMX/32,69", "timeZone": "America/Chicago",
        "fireWeatherZone": "https://a/zones/fire/ALZ023", "relativeLocation": {"properties": {
            "city": "Tuscaloosa", "distance": {"unitCode": "wmoUnit:m", "value": 4366.98}}}
    }});
    let (draft, data) = drafts(&point).remove(0);
    assert_eq!(
        (&data["place"], &data["grid_x"], &data["fire_weather_zone"]),
        (&json!("33.2110,-87.5660"), &json!(32), &json!("ALZ023"))
    );
    assert_eq!((draft.quality.len(), draft.quality[0].field.as_str()), (1, "observed_at"));
    let station = json!({"geometry": {"type": "Point", "coordinates": [-122.2, 37.7]}, "properties": {
        "stationIdentifier": "KOAK", "name": "Oakland", "elevation": {"unitCode": "wmoUnit:m", "value": 0.9144}}});
    let alone = drafts(&station).remove(0).0;
    let stations = rows(&json!({"features": [station, {"properties": {}}]})).unwrap();
    assert_eq!(stations[0].as_ref().unwrap().event, alone.event);
    assert_eq!(stations[0].as_ref().unwrap().position, Position::new(37.7, -122.2).ok());
    assert_eq!(stations[1].as_ref().unwrap_err().reason, Reason::MissingField);
}

#[test]
fn s9_what_is_no_forecast_says_what_it_is() {
    let said = |body: Value| rows(&body).map(|rows| rows.len()).map_err(|reject| (reject.reason, reject.detail));
    let (reason, detail) = said(json!({"title": "Not Found", "status": 404, "detail": "no such point"})).unwrap_err();
    assert_eq!(reason, Reason::NotData);
    assert!(detail.contains("no such point"), "{detail}");
    assert_eq!(said(json!({"properties": {"a": 1}})).unwrap_err().0, Reason::NotData);
    assert_eq!(said(json!({"properties": {"periods": [1]}})).unwrap_err().0, Reason::MissingField);
    assert_eq!(said(json!({"features": []})), Ok(0));
}
