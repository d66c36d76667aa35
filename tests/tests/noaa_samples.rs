//! Recorded documents of the National Weather Service against what independent parsers found in them [S2, S9]. The samples'
//! facts are the judge; what was compared is printed file by file.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Value, json};
use streammanager::decode::{Context, Format, Row};
use streammanager::error::{Reason, Reject};
use streammanager::record::{Draft, SourceId};
use streammanager::sources::{noaa_forecast, noaa_observations};
use streammanager::time::{Timestamp, rfc3339};
use streammanager_tests::{samples, unpacked};

/// A file's rows; METAR without a date is near this time.
const RECEIVED: &str = "2025-08-15T00:00:00Z";

fn rows(format: Format, source: &str, body: &Bytes) -> Result<Vec<Row>, Reject> {
    let source = SourceId::new(source).unwrap();
    let context = Context { source: &source, received_at: RECEIVED.parse().unwrap(), topic: None, message: None };
    format.rows(body, context).map(Iterator::collect)
}

/// One record with its data.
struct One {
    draft: Draft,
    data: Value,
}

fn records(path: &str, format: Format, source: &str, body: &Bytes) -> Vec<One> {
    let rows = rows(format, source, body).unwrap_or_else(|reject| panic!("{path}: {reject}"));
    let read = |row: Row| {
        let draft = row.unwrap_or_else(|reject| panic!("{path}: {reject}"));
        let data = serde_json::from_str(draft.data.json()).unwrap();
        One { draft, data }
    };
    rows.into_iter().map(read).collect()
}

/// What a file's facts were held against.
struct Compared<'f> {
    path: &'f str,
    facts: &'f Value,
    done: BTreeSet<String>,
}

impl Compared<'_> {
    fn same(&mut self, fact: &str, found: impl Into<Value>) {
        assert_eq!(found.into(), self.facts[fact], "{}: {fact}", self.path);
        self.done.insert(fact.to_owned());
    }

    fn near(&mut self, fact: &str, found: f64) {
        let told = self.facts[fact].as_f64().unwrap();
        assert!((found - told).abs() < 1e-3, "{}: {fact} is {told}, found {found}", self.path);
        self.done.insert(fact.to_owned());
    }

    /// The facts name the commonest of them.
    fn counts(&mut self, fact: &str, found: &BTreeMap<String, u64>) {
        for (name, n) in self.facts[fact].as_object().unwrap() {
            assert_eq!(found.get(name).map(|n| json!(n)).as_ref(), Some(n), "{}: {fact} {name}", self.path);
        }
        self.done.insert(fact.to_owned());
    }

    fn line(&self, records: usize, what: &str) {
        let left: Vec<&str> = self
            .facts
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .filter(|fact| !self.done.contains(*fact))
            .collect();
        let left = if left.is_empty() { String::new() } else { format!(", not held against: {}", left.join(" ")) };
        println!("{:<50} {records:>4} records  {what}: {} facts agree{left}", self.path, self.done.len());
    }
}

fn utc(at: Timestamp) -> String {
    rfc3339(at).replace(".000Z", "Z")
}

fn count_by(all: impl Iterator<Item = Value>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    all.for_each(|value| *counts.entry(value.as_str().unwrap().to_owned()).or_default() += 1);
    counts
}

/// What is counted of an alert, read or refused.
struct Counted {
    name: String,
    msg_type: Value,
    event: Value,
    severity: Value,
    references: usize,
    ends: Value,
    zones: Value,
}

impl Counted {
    fn read(one: &One) -> Counted {
        let (alert, info) = (one.draft.alert.clone().unwrap(), &one.data["info"][0]);
        Counted {
            name: alert.name,
            msg_type: one.data["msgType"].clone(),
            event: info["event"].clone(),
            severity: info["severity"].clone(),
            references: alert.references.len(),
            ends: info["ends"].clone(),
            zones: info["area"][0]["geocode"]["UGC"].clone(),
        }
    }

    /// The recorder wrote `date:today` where NWS has a time: no time with an offset, and refused for that alone.
    fn refused(path: &str, reject: &Reject) -> Counted {
        assert_eq!(reject.reason, Reason::BadTime, "{path}: {reject}");
        assert!(reject.detail.contains("date:today"), "{path}: {reject}");
        let feature: Value = serde_json::from_slice(&reject.raw).unwrap();
        let told = |name: &str| feature["properties"][name].clone();
        Counted {
            name: format!("{},{}", told("sender").as_str().unwrap(), told("id").as_str().unwrap()),
            msg_type: told("messageType"),
            event: told("event"),
            severity: told("severity"),
            references: told("references").as_array().unwrap().len(),
            ends: told("ends"),
            zones: told("geocode")["UGC"].clone(),
        }
    }
}

fn alerts(path: &str, facts: &Value, body: &Bytes) {
    let rows = rows(Format::ALERT, "noaa_alerts", body).unwrap_or_else(|reject| panic!("{path}: {reject}"));
    let mut compared = Compared { path, facts, done: BTreeSet::new() };
    compared.same("features", rows.len());
    let (mut records, mut counted) = (Vec::new(), Vec::new());
    for row in rows {
        match row {
            Ok(draft) => {
                let one = One { data: serde_json::from_str(draft.data.json()).unwrap(), draft };
                counted.push(Counted::read(&one));
                records.push(one);
            }
            Err(reject) => counted.push(Counted::refused(path, &reject)),
        }
    }
    let of_area = |one: &One| one.data["info"][0]["area"][0]["polygon"].as_array().unwrap().clone();
    let shapes: Vec<Value> = records.iter().flat_map(of_area).collect();
    compared.same("polygons", shapes.len());
    let kinds = count_by(shapes.iter().map(|shape| shape["type"].clone()));
    let without = counted.len() - shapes.len();
    compared.counts("geometry_types", &kinds.into_iter().chain([("null".to_owned(), without as u64)]).collect());
    let rings: Vec<&Value> = shapes.iter().flat_map(|shape| shape["coordinates"].as_array().unwrap()).collect();
    compared.same("rings", rings.len());
    let points: Vec<[f64; 2]> = rings
        .iter()
        .flat_map(|ring| ring.as_array().unwrap())
        .map(|point| [0, 1].map(|n| point[n].as_f64().unwrap()))
        .collect();
    compared.same("vertices", points.len());
    let drawn = records.iter().filter(|one| one.draft.geometry.is_some()).count();
    assert_eq!(drawn, shapes.len(), "{path}: every polygon can be read");
    if !points.is_empty() {
        for (fact, n, sign) in [("min_lon", 0, -1.0), ("max_lon", 0, 1.0), ("min_lat", 1, -1.0), ("max_lat", 1, 1.0)] {
            let furthest = points.iter().map(|point| point[n] * sign).fold(f64::MIN, f64::max);
            compared.near(fact, furthest * sign);
        }
    }
    let touches = |one: &&One| {
        let rings = of_area(one).into_iter().flat_map(|shape| shape["coordinates"].as_array().unwrap().clone());
        let mut points = rings.flat_map(|ring| ring.as_array().unwrap().clone());
        points.any(|at| {
            let [longitude, latitude] = [0, 1].map(|n| at[n].as_f64().unwrap());
            (-124.5..=-114.1).contains(&longitude) && (32.5..=42.1).contains(&latitude)
        })
    };
    compared.same("features_touching_ca_bbox", records.iter().filter(touches).count());
    compared.counts("message_types", &count_by(counted.iter().map(|one| one.msg_type.clone())));
    compared.counts("events", &count_by(counted.iter().map(|one| one.event.clone())));
    compared.counts("severity", &count_by(counted.iter().map(|one| one.severity.clone())));
    compared.same("references", counted.iter().map(|one| one.references).sum::<usize>());
    compared.same("unique_ids", counted.iter().map(|one| &one.name).collect::<BTreeSet<_>>().len());
    compared.same("null_ends", counted.iter().filter(|one| one.ends.is_null()).count());
    let in_california = |one: &&Counted| {
        one.zones.as_array().is_some_and(|zones| zones.iter().any(|zone| zone.as_str().unwrap().starts_with("CA")))
    };
    compared.same("ca_ugc", counted.iter().filter(in_california).count());
    let of_fires = |one: &&Counted| ["Red Flag", "Fire"].iter().any(|word| one.event.as_str().unwrap().contains(word));
    compared.same("fire_events", counted.iter().filter(of_fires).count());
    if !records.is_empty() {
        let sent = || records.iter().map(|one| one.draft.observed_at);
        compared.same("earliest_sent_utc", utc(sent().min().unwrap()));
        compared.same("latest_sent_utc", utc(sent().max().unwrap()));
        let expires = || records.iter().filter_map(|one| one.draft.alert.as_ref().unwrap().expires);
        compared.same("earliest_expires_utc", utc(expires().min().unwrap()));
        compared.same("latest_expires_utc", utc(expires().max().unwrap()));
    }
    let noted = records.iter().filter(|one| !one.draft.quality.is_empty()).count();
    let refused = counted.len() - records.len();
    compared.line(records.len(), &format!("{drawn} drawn, {refused} refused, {noted} with a note"));
}

/// NWS's name, ours, and what NWS's unit is in ours.
const QUANTITIES: [(&str, &str, f64); 17] = [
    ("elevation", "elevation_m", 1.0),
    ("temperature", "temperature_c", 1.0),
    ("dewpoint", "dew_point_c", 1.0),
    ("windDirection", "wind_direction_deg", 1.0),
    ("windSpeed", "wind_speed_m_s", 1.0 / 3.6),
    ("windGust", "wind_gust_m_s", 1.0 / 3.6),
    ("barometricPressure", "barometric_pressure_hpa", 0.01),
    ("seaLevelPressure", "sea_level_pressure_hpa", 0.01),
    ("visibility", "visibility_m", 1.0),
    ("maxTemperatureLast24Hours", "temperature_max_24h_c", 1.0),
    ("minTemperatureLast24Hours", "temperature_min_24h_c", 1.0),
    ("precipitationLastHour", "precipitation_1h_mm", 1.0),
    ("precipitationLast3Hours", "precipitation_3h_mm", 1.0),
    ("precipitationLast6Hours", "precipitation_6h_mm", 1.0),
    ("relativeHumidity", "relative_humidity_percent", 1.0),
    ("windChill", "wind_chill_c", 1.0),
    ("heatIndex", "heat_index_c", 1.0),
];

fn observations(path: &str, facts: &Value, body: &Bytes) {
    let records = records(path, noaa_observations::FORMAT, "noaa_observations", body);
    let mut compared = Compared { path, facts, done: BTreeSet::new() };
    compared.same("records", records.len());
    let mut notes = Vec::new();
    for One { draft, data } in &records {
        compared.same("station", data["station_id"].clone());
        compared.same("timestamp_utc", utc(draft.observed_at));
        compared.near("lat", draft.position.unwrap().latitude());
        compared.near("lon", draft.position.unwrap().longitude());
        let told: Vec<&Value> = QUANTITIES.iter().filter_map(|(_, ours, _)| data.get(ours)).collect();
        compared.same("quantities", told.len());
        compared.same("null_quantities", told.iter().filter(|value| value.is_null()).count());
        compared.same("raw_message", data["raw_message"].as_str().unwrap_or_default());
        for (theirs, told) in facts["values"].as_object().unwrap() {
            let (_, ours, factor) = QUANTITIES.iter().find(|(name, ..)| name == theirs).unwrap();
            let (found, told_value) = (data[ours].as_f64().unwrap(), told[0].as_f64().unwrap() * factor);
            assert!((found - told_value).abs() < 1e-3, "{path}: {ours} is {told_value}, found {found}");
            assert_eq!(data["quality_control"][ours], told[2], "{path}: {ours}");
        }
        compared.done.insert("values".to_owned());
        notes.extend(draft.quality.iter().map(|said| format!("{} {}", said.field, said.problem)));
    }
    compared.line(records.len(), &format!("notes {notes:?}"));
}

fn forecasts(path: &str, facts: &Value, body: &Bytes) {
    let records = records(path, noaa_forecast::FORMAT, "noaa_forecast", body);
    let mut compared = Compared { path, facts, done: ["kind".to_owned()].into() };
    match facts["kind"].as_str().unwrap() {
        "forecast" => {
            compared.same("periods", records.len());
            let short = |time: &Value| time.as_str().unwrap().replace(".000Z", "Z");
            compared.same("first_start_utc", short(&records[0].data["start"]));
            compared.same("last_end_utc", short(&records[records.len() - 1].data["end"]));
            for (one, told) in records.iter().zip(facts["temperatures"].as_array().unwrap()) {
                let fahrenheit = one.data["temperature_c"].as_f64().unwrap() * 1.8 + 32.0;
                assert!((fahrenheit - told.as_f64().unwrap()).abs() < 1e-3, "{path}: {fahrenheit}, told {told}");
            }
            for (one, told) in records.iter().zip(facts["wind"].as_array().unwrap()) {
                let mph = |field: &str| (one.data[field].as_f64().unwrap() / 0.447_04).round();
                let (low, high) = (mph("wind_speed_min_m_s"), mph("wind_speed_max_m_s"));
                let text = if low == high { format!("{low} mph") } else { format!("{low} to {high} mph") };
                assert_eq!(*told, text, "{path}");
            }
            compared.done.extend(["temperatures", "wind", "units"].map(str::to_owned));
        }
        "gridpoint" => {
            compared.same("layers", records.len());
            let values = |one: &One| one.data["values"].as_array().unwrap().clone();
            compared.same("layer_values", records.iter().map(|one| values(one).len()).sum::<usize>());
            let empty: Vec<Value> =
                records.iter().filter(|one| values(one).is_empty()).map(|one| one.data["layer"].clone()).collect();
            compared.same("empty_layers", empty);
            let all: Vec<Value> = records.iter().flat_map(&values).map(|value| value["value"].clone()).collect();
            compared.same("null_values", all.iter().filter(|value| value.is_null()).count());
            let of = |layer: &str| values(records.iter().find(|one| one.data["layer"] == layer).unwrap());
            let temperature = of("temperature");
            compared.same("temperature_values", temperature.len());
            let first = &facts["first_temperature"];
            assert_eq!(first["value"], temperature[0]["value"], "{path}");
            let start: Timestamp = first["validTime"].as_str().unwrap().split('/').next().unwrap().parse().unwrap();
            assert_eq!(temperature[0]["start"], rfc3339(start), "{path}");
            compared.done.insert("first_temperature".to_owned());
            let humidity = || of("relativeHumidity").into_iter().map(|value| value["value"].as_f64().unwrap());
            compared.near("rh_min", humidity().fold(f64::MAX, f64::min));
            compared.near("rh_max", humidity().fold(f64::MIN, f64::max));
        }
        "point" => {
            let [one] = &records[..] else { panic!("{path}: {} points", records.len()) };
            compared.same("grid", json!([one.data["grid_id"], one.data["grid_x"], one.data["grid_y"]]));
            compared.same("timezone", one.data["time_zone"].clone());
        }
        "stations" => {
            compared.same("stations", records.len());
            for (one, told) in records.iter().zip(facts["ids"].as_array().unwrap()) {
                assert_eq!(one.data["place"], *told, "{path}");
            }
            compared.done.insert("ids".to_owned());
        }
        other => panic!("{path}: {other}"),
    }
    let notes: BTreeSet<String> = records
        .iter()
        .flat_map(|one| &one.draft.quality)
        .map(|said| format!("{} {}", said.field, said.problem))
        .collect();
    compared.line(records.len(), &format!("notes {notes:?}"));
}

fn reports(path: &str, facts: &Value, body: &Bytes) {
    let rows = rows(noaa_observations::FORMAT, "noaa_observations", body).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut compared = Compared { path, facts, done: BTreeSet::new() };
    compared.same(if facts.get("lines").is_some() { "lines" } else { "reports" }, rows.len());
    let (read, refused): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(Result::is_ok);
    let read: Vec<One> = read
        .into_iter()
        .flatten()
        .map(|draft| One { data: serde_json::from_str(draft.data.json()).unwrap(), draft })
        .collect();
    if facts.get("reports").is_some() {
        assert!(refused.is_empty(), "{path}: {refused:?}");
        compared.same("first_utc", utc(read.iter().map(|one| one.draft.observed_at).min().unwrap()));
        compared.same("last_utc", utc(read.iter().map(|one| one.draft.observed_at).max().unwrap()));
        let stations: BTreeSet<&str> = read.iter().map(|one| one.data["station_id"].as_str().unwrap()).collect();
        compared.same("stations", stations.len());
        compared.same("auto", read.iter().filter(|one| one.data["automatic"] == true).count());
        compared.same("with_gust", read.iter().filter(|one| one.data["wind_gust_m_s"].is_number()).count());
    }
    assert!(read.iter().all(|one| one.draft.position.is_none()), "{path}: no report tells its place");
    let notes: BTreeSet<String> =
        read.iter().flat_map(|one| &one.draft.quality).map(|said| format!("{} {}", said.field, said.problem)).collect();
    let refused: Vec<String> = refused.into_iter().filter_map(Result::err).map(|reject| reject.to_string()).collect();
    compared.line(read.len(), &format!("refused {refused:?}, notes {notes:?}"));
}

/// Periods of DWML: a day's have its highest and lowest temperature, half a day's the probability of rain.
fn dwml(path: &str, facts: &Value, body: &Bytes) {
    let records = records(path, noaa_forecast::FORMAT, "noaa_forecast", body);
    let mut compared = Compared { path, facts, done: ["time_layouts".to_owned()].into() };
    let told = |field: &str, fahrenheit: bool| -> Value {
        let has = records.iter().filter(|one| one.data.get(field).is_some());
        let text = |value: &Value| {
            let number = value.as_f64().map(|number| if fahrenheit { number * 1.8 + 32.0 } else { number });
            number.map_or(Value::Null, |number| (number.round() as i64).to_string().into())
        };
        has.map(|one| text(&one.data[field])).collect()
    };
    compared.same("max_F", told("temperature_max_c", true));
    compared.same("min_F", told("temperature_min_c", true));
    compared.same("pop", told("precipitation_probability_percent", false));
    let at = records[0].draft.position.unwrap();
    compared.same("point", vec![at.latitude(), at.longitude()]);
    let times = |field: &str| -> BTreeSet<String> {
        records.iter().map(|one| one.data[field].as_str().unwrap().replace(".000Z", "Z")).collect()
    };
    compared.same("first_start_utc", times("start").first().unwrap().as_str());
    compared.same("last_end_utc", times("end").last().unwrap().as_str());
    compared.line(records.len(), "");
}

#[test]
fn every_file_agrees_with_its_facts() {
    let Some(samples) = samples("NWS samples") else { return };
    let facts: Value = serde_json::from_slice(&unpacked(&samples.join("facts.json"))).unwrap();
    let mut files = 0;
    for (path, fact) in facts["files"].as_object().unwrap() {
        let compare = match path.split('/').next().unwrap() {
            "nws_alerts" => alerts,
            "nws_observations" => observations,
            "nws_forecast" => forecasts,
            "metar" => reports,
            "ndfd" if path.ends_with(".xml") => dwml,
            _ => continue,
        };
        compare(path, &fact["facts"], &unpacked(&samples.join(path)));
        files += 1;
    }
    assert!(files >= 27, "only {files} files were compared");
}

#[test]
fn one_station_and_minute_is_one_event_whichever_way_it_came() {
    let body = Bytes::from_static(
        br#"{"features": [{"geometry": null, "properties": {"station": "https://api.weather.gov/stations/KTST",
            "timestamp": "2025-08-14T14:53:00+00:00"}}]}"#,
    );
    let report = Bytes::from_static(b"METAR KTST 141453Z 00000KT 10SM CLR 11/09 A3009");
    let event = |body: &Bytes| records("", noaa_observations::FORMAT, "noaa_observations", body).remove(0).draft.event;
    assert_eq!(event(&body), event(&report));
    let nothing = rows(noaa_observations::FORMAT, "noaa_observations", &Bytes::from_static(b"Too Many Requests"));
    assert_eq!(nothing.unwrap_err().reason, Reason::NotData);
}
