//! The published schemas: checked in as generated, and true of what the decoders and the value writer really make.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use streammanager::app::{App, Seams};
use streammanager::dead::{self, Rejected};
use streammanager::decode::{Context, Format};
use streammanager::embedded::FileBlobs;
use streammanager::embedded::{Commits, Embedded, Options};
use streammanager::error::{Reason, Reject};
use streammanager::faults::sink::FaultySink;
use streammanager::ingest;
use streammanager::queue::Body;
use streammanager::record::Topic;
use streammanager::record::{Envelope, SourceId, Stream, StreamId, TenantId, WhenFull, value};
use streammanager::schemas;
use streammanager::settings::Settings;
use streammanager::sources::{
    self, airnow, calfire, caltrans, chp, firis, firms, fpa_fod, noaa_forecast, noaa_observations, outages, synoptic,
    wfigs, zones,
};
use streammanager::time::{Clock, Rng, Timestamp};
use streammanager::upstream::{Request, Response, Unreachable, Upstream};
use streammanager_tests::published::{self, validator};
use streammanager_tests::workspace;

fn stream(source: &SourceId) -> Stream {
    Stream {
        id: StreamId::new("s").unwrap(),
        source: source.clone(),
        tenant: TenantId::new("calfire").unwrap(),
        granted: source.as_str().starts_with("evacuation"),
        when_full: WhenFull::Wait,
    }
}

/// The published values of a body, with the topic that each goes to.
fn values(format: Format, source: &str, body: &str) -> Vec<(Topic, Value)> {
    let source = SourceId::new(source).unwrap();
    let stream = stream(&source);
    let body = Bytes::from(body.to_owned());
    let context =
        Context { source: &source, received_at: "2025-08-14T06:00:00Z".parse().unwrap(), topic: None, message: None };
    let now: Timestamp = "2025-08-15T00:00:00Z".parse().unwrap();
    let rows = format.rows(&body, context).unwrap();
    rows.map(|row| {
        let record = ingest::enrich(row.unwrap(), 0, &stream, now).unwrap();
        (record.topic, serde_json::from_str(&value::json(&record, "test").unwrap()).unwrap())
    })
    .collect()
}

const ALERT: &str = r#"{"id": "A", "sender": "s", "sent": "2025-08-14T14:05:00-07:00", "status": "Actual",
    "msgType": "Alert", "event": "Evacuation", "references": ["B"], "population": 5, "rate_of_spread": 1.5,
    "expires": "soon", "derived_from": "28830e2136098655941b7e0102782b71", "parameter": {"k": ["v", "w"]},
    "area": [{"polygon": [[40.1, -122.2], [40.1, -122.1], [40.2, -122.1]], "zones": ["E012"]}, {"circle": "40,-122 5"}]}"#;

const CAP: &str = "<alert xmlns='urn:oasis:names:tc:emergency:cap:1.2'><identifier>A</identifier><sender>s</sender>\
    <sent>2025-08-14T14:05:00-07:00</sent><status>Test</status><msgType>Alert</msgType><scope>Public</scope><info>\
    <event>Fire</event><resource><uri>u</uri></resource><area><areaDesc>a</areaDesc><polygon>1,1</polygon>\
    <circle>40,-122 0</circle><geocode><valueName>SAME</valueName><value>006023</value></geocode></area></info></alert>";

const READINGS: &str = r#"[
    {"sensor_index": 1, "latitude": 40.7, "longitude": -122.9, "last_seen": 1755151200, "humidity": 255, "temperature": 66,
     "pm2.5_atm": "12.85", "pm2.5_atm_b": null},
    {"stid": "TKNC1", "time": "2025-08-14T06:07Z", "air_temp_c": 27.2, "fm10_pct": 4.1, "extra": {"deep": [1]}}]"#;

const FIRMS: &str = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight
40.7229,-122.95821,367,0.4,0.4,2025-08-14,5,N20,VIIRS,h,2.0NRT,,nan,D
";

const NWS_ALERTS: &str = r#"{"features": [{"geometry": null, "properties": {"id": "A", "sender": "s",
    "sent": "2025-08-14T14:05:00-07:00", "status": "Actual", "messageType": "Alert", "event": "Red Flag Warning",
    "ends": "2025-08-15T14:05:00-07:00", "geocode": {"UGC": ["CAZ203"]}}}]}"#;

const METAR: &str =
    "2025/08/14 05:53\nMETAR KTST 140553Z AUTO 15013G19KT 250V320 1/4SM FU VV002 28/// A2936 RMK AO2 SLP125\n";

const OBSERVATION: &str = r#"{"features": [{"geometry": {"type": "Point", "coordinates": [-122.25, 37.83]}, "properties": {
    "station": "https://api.weather.gov/stations/KTST", "timestamp": "2025-08-14T05:53:00+00:00",
    "temperature": {"unitCode": "wmoUnit:degC", "value": 17.78, "qualityControl": "V"}, "presentWeather": [{"weather": "smoke"}],
    "cloudLayers": [{"base": {"unitCode": "wmoUnit:m", "value": null}, "amount": "CLR"}]}}]}"#;

const CELL: &str =
    r#""geometry": {"type": "Polygon", "coordinates": [[[-122, 40], [-121, 40], [-121, 41], [-122, 41], [-122, 40]]]}"#;

/// The four documents of a forecast.
fn forecasts() -> [String; 4] {
    let made = r#""updateTime": "2025-08-14T05:28:04+00:00""#;
    [
        format!(
            r#"{{{CELL}, "properties": {{{made}, "periods": [{{"startTime": "2025-08-14T15:00:00+00:00",
            "endTime": "2025-08-15T01:00:00+00:00", "temperature": 64, "temperatureUnit": "F", "windSpeed": "3 to 9 mph"}}]}}}}"#
        ),
        format!(
            r#"{{{CELL}, "properties": {{{made}, "gridId": "MTR", "gridX": 90, "gridY": 105, "windSpeed":
            {{"uom": "wmoUnit:km_h-1", "values": [{{"validTime": "2025-08-14T02:00:00+00:00/P1DT2H", "value": 14.8}}]}},
            "weather": {{"values": [{{"validTime": "2025-08-14T02:00:00+00:00/PT2H", "value": [{{"weather": "smoke"}}]}}]}}}}}}"#
        ),
        r#"{"geometry": {"type": "Point", "coordinates": [-87.5, 33.2]}, "properties": {"gridId": "BMX", "gridX": 32, "gridY": 69,
            "forecastGridData": "a"}}"#
            .to_owned(),
        r#"{"features": [{"geometry": {"type": "Point", "coordinates": [-87.5, 33.2]}, "properties": {"stationIdentifier": "KOAK"}}]}"#
            .to_owned(),
    ]
}

const SYNOPTIC: &str = r#"{"UNITS": {"air_temp": "Celsius"}, "STATION": [{"STID": "TEST1", "LATITUDE": "38.0", "LONGITUDE": "-120.0",
    "ELEVATION": "1000", "OBSERVATIONS": {"air_temp_value_1": {"value": 25.0, "date_time": "2025-08-14T04:00:00Z", "qc": [105]}}}]}"#;

const AIRNOW: &str = "08/14/25|04:00|060999999|Test Site|-8|PM2.5|UG/M3|12.3|Test Air District\n";

const CALFIRE: &str =
    r#"[{"UniqueId": "a1", "Started": "2025-08-10T14:10:00Z", "Latitude": 37.5, "Longitude": -120.25}]"#;

const WFIGS: &str = r#"{"features": [{"type": "Feature", "properties": {"poly_IRWINID": "{A}", "poly_CreateDate": 1735776672000,
    "poly_MapMethod": "GPS", "attr_GACC": "OSCC"}, "geometry": {"type": "Polygon", "coordinates": [[[-122, 40], [-121, 40], [-121, 41]]]}}]}"#;

const ZONES: &str = r#"{"features": [{"attributes": {"ZONE_ID": "US-CA-XZZ-E001", "COUNTY": "Testland", "STATUS": "Evacuation Order",
    "EditDate": 1755151200000, "EXTRA": 1}, "geometry": {"rings": [[[-122, 40], [-122, 41], [-121, 41], [-122, 40]]]}}]}"#;

const FIRIS: &str = r#"{"features": [{"attributes": {"mission": "CA-TST-SAMPLE-N57B", "poly_DateCurrent": 1755151200000},
    "geometry": {"paths": [[[-122, 40], [-122, 41]]]}}]}"#;

const OUTAGES: &str = r#"{"features": [{"attributes": {"UtilityCompany": "TEST", "IncidentId": "T1", "StartDate": 1755151200000,
    "ImpactedCustomers": 41}, "geometry": {"x": -120.0, "y": 38.0}}]}"#;

const CLOSURES: &str = r#"{"data": [{"lcs": {"index": "C1TB-0002", "location": {"begin": {"beginDistrict": "3", "beginLatitude": "38.0",
    "beginLongitude": "-120.0"}, "end": {"endLatitude": "38.1", "endLongitude": "-120.0"}}, "closure": {"code1097": {"isCode1097": "?"}}}},
    {"lcs": {"index": "C1TB-0003", "location": {"end": {"endDistrict": "3", "endLatitude": "38.1", "endLongitude": "-120.0"}}}}]}"#;

const DISPATCH: &str = "<State><Center ID = \"A\"><Dispatch ID = \"B\"><Log ID = \"250814TS0001\"><LogTime>\"Aug 14 2025  1:30AM\"</LogTime>\
    <LATLON>\"38000000:120000000\"</LATLON><LogDetails><details/></LogDetails></Log></Dispatch></Center></State>";

const FPA_FOD: &str =
    "FOD_ID,DISCOVERY_DATE,DISCOVERY_TIME,LATITUDE,LONGITUDE,FIRE_SIZE\n7,2449773.5,945,36.5,-118.7,NA\n";

/// Real records of every topic that has a schema here, by topic.
fn real_records() -> BTreeMap<&'static str, Vec<Value>> {
    let mut by_topic: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (topic, value) in [
        values(firms::FORMAT, "firms_viirs_noaa20", FIRMS),
        values(Format::ALERT, "evacuation_alert_x", ALERT),
        values(Format::ALERT, "evacuation_alert_x", CAP),
        values(Format::ALERT, "noaa_alerts", ALERT),
        values(Format::SENSOR, "iot_purpleair", READINGS),
        values(synoptic::FORMAT, "synoptic_observations", SYNOPTIC),
        values(Format::ALERT, "noaa_alerts", NWS_ALERTS),
        values(airnow::FORMAT, "airnow_observations", AIRNOW),
        values(noaa_observations::FORMAT, "noaa_observations", METAR),
        values(noaa_observations::FORMAT, "noaa_observations", OBSERVATION),
        forecasts().iter().flat_map(|body| values(noaa_forecast::FORMAT, "noaa_forecast", body)).collect(),
        values(calfire::FORMAT, "calfire_incidents", CALFIRE),
        values(wfigs::FORMAT, "wfigs_perimeters", WFIGS),
        values(zones::FORMAT, "evacuation_zones", ZONES),
        values(firis::FORMAT, "firis_perimeters", FIRIS),
        values(outages::FORMAT, "power_outages", OUTAGES),
        values(caltrans::FORMAT, "caltrans_closures", CLOSURES),
        values(chp::FORMAT, "chp_incidents", DISPATCH),
        values(fpa_fod::FORMAT, "historical_fpa_fod", FPA_FOD),
        values(firms::FORMAT, "historical_firms", FIRMS),
    ]
    .concat()
    {
        by_topic.entry(topic.name()).or_default().push(value);
    }
    by_topic
}

#[test]
fn k5_the_checked_in_schemas_are_the_generated_ones() {
    let folder = workspace().join("infra/schemas");
    let update = std::env::var_os("UPDATE_SCHEMAS").is_some();
    for (name, schema) in schemas::published() {
        let path = folder.join(&name);
        let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if update {
            fs::create_dir_all(&folder).and_then(|()| fs::write(&path, &generated)).unwrap();
        }
        let checked_in = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(checked_in == generated, "{name} differs from its types: UPDATE_SCHEMAS=1 cargo test --test schemas");
    }
}

#[test]
fn the_documents_list_the_sources_of_the_table() {
    let path = workspace().join("docs/sources.md");
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        fs::write(&path, sources::listing()).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert!(checked_in == sources::listing(), "docs/sources.md differs: UPDATE_SCHEMAS=1 cargo test --test schemas");
}

#[test]
fn k5_real_records_validate_and_broken_ones_do_not() {
    let records = real_records();
    let topics: Vec<_> = records.keys().copied().collect();
    assert_eq!(
        topics,
        [
            "wildfire-alert-drills",
            "wildfire-critical-alerts",
            "wildfire-evacuation-zones",
            "wildfire-historical",
            "wildfire-incidents",
            "wildfire-infrastructure",
            "wildfire-iot-sensors",
            "wildfire-nasa-firms",
            "wildfire-weather"
        ]
    );
    for (topic, values) in records {
        let validator = validator(&schemas::schema_for(Topic::named(topic).unwrap()).unwrap());
        for value in &values {
            published::assert_valid(topic, value);
            let problems: Vec<_> =
                validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
            assert!(problems.is_empty(), "{topic}: {problems:#?}\n{value:#}");
            for field in
                value.as_object().unwrap().keys().filter(|name| !["latitude", "longitude"].contains(&name.as_str()))
            {
                let mut broken = value.clone();
                broken.as_object_mut().unwrap().remove(field);
                assert!(!validator.is_valid(&broken), "{topic} is valid without {field}");
            }
            for (field, wrong) in [
                ("event_id", json!("ABC")),
                ("observed_at", json!("2025-08-14T14:05:00")),
                ("ingested_at", json!("yesterday at 10.000Z")),
                ("priority", json!("URGENT")),
                ("geometry", json!({"type": "Point", "coordinates": [40.7, -122.9]})),
                ("geometry", json!({"type": "Polygon", "coordinates": [[[1, 1], [2, 2]]]})),
                ("california", json!("maybe")),
                ("latitude", json!(91)),
                ("revision", json!(-1)),
                ("quality", json!([{"field": 1}])),
                ("unknown", json!(1)),
                ("data", json!({})),
            ] {
                let mut broken = value.clone();
                broken[field] = wrong.clone();
                assert!(!validator.is_valid(&broken), "{topic} is valid with {field} = {wrong}");
            }
            let mut broken = value.clone();
            broken["data"]["unknown"] = json!(1);
            assert!(!validator.is_valid(&broken), "{topic}: unknown data field");
        }
    }
}

struct NoUpstream;

#[async_trait::async_trait]
impl Upstream for NoUpstream {
    async fn call(&self, _: &Request, _: Duration) -> Result<Response, Unreachable> {
        panic!("nothing is fetched here")
    }
}

#[tokio::test]
async fn k2_a_dead_letters_announcement_validates() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let embedded = Embedded::open(folder.path(), Options::new(clock.clone())).unwrap();
    let app = App::new(
        Settings { announce_dead_letters: true, ..Settings::local() },
        Seams {
            queue: Arc::new(embedded.clone()),
            store: Arc::new(embedded.clone()),
            blobs: Arc::new(FileBlobs::open(folder.path(), Commits::Grouped, embedded.trust().clone()).unwrap()),
            sink: Arc::new(FaultySink::memory()),
            upstream: Arc::new(NoUpstream),
        },
        clock,
        Rng::seeded(1),
    );
    let source = SourceId::new("iot_purpleair").unwrap();
    let reject = Reject::new(Reason::BadJson, "line 1").at_row(3);
    dead::bury_rejects(&app, &stream(&source), vec![Rejected::new(source, reject, &"{".into())]).await.unwrap();
    let received = app.queue.receive(&app.settings.queues.low, 1, Duration::ZERO).await.unwrap();
    let Body::Binary(bytes) = &received[0].body else { panic!("an envelope is binary") };
    let records = Envelope::decode(bytes).unwrap().unpack().unwrap();
    let validator = validator(&schemas::schema_for(Topic::DEAD_LETTERS).unwrap());
    let mut value: Value = serde_json::from_slice(&records[0].value).unwrap();
    assert_eq!((records[0].topic.name(), &value["reason"]), ("wildfire-dead-letters", &json!("bad_json")));
    assert!(validator.is_valid(&value), "{value:#}");
    value["reason"] = json!("bad_luck");
    assert!(!validator.is_valid(&value));
}

#[test]
fn a_sensor_value_outside_its_range_is_no_record() {
    let validator = validator(&schemas::schema_for(Topic::IOT_SENSORS).unwrap());
    let mut value = real_records().remove("wildfire-iot-sensors").unwrap().remove(0);
    assert_eq!(value["data"]["relative_humidity_percent"], Value::Null);
    assert!(validator.is_valid(&value));
    value["data"]["relative_humidity_percent"] = json!(255);
    assert!(!validator.is_valid(&value));
}

#[test]
fn e5_what_the_alert_schema_takes_the_decoder_takes() {
    let schema = schemas::alert_message();
    let validator = validator(&schema);
    let mut messages: Vec<Value> = schema["examples"].as_array().unwrap().clone();
    messages.push(serde_json::from_str::<Value>(ALERT).unwrap());
    messages[1]["expires"] = json!("2025-08-14T20:05:00-07:00");
    for message in &messages {
        assert!(
            validator.is_valid(message),
            "{:?}",
            validator.iter_errors(message).map(|e| e.to_string()).collect::<Vec<_>>()
        );
        assert_eq!(values(Format::ALERT, "evacuation_alert_x", &message.to_string())[0].1["quality"], json!([]));
    }
    for (field, wrong) in [
        ("id", Value::Null),
        ("status", json!("Live")),
        ("msgType", json!(1)),
        ("area", json!({"polygon": 5})),
        ("place", json!({"latitude": 91, "longitude": 1})),
        ("population", json!(-1)),
    ] {
        let mut broken = messages[0].clone();
        broken[field] = wrong;
        assert!(!validator.is_valid(&broken), "valid with another {field}");
    }
    for field in ["id", "sender", "sent", "status", "msgType", "event", "area"] {
        let mut broken = messages[0].clone();
        broken.as_object_mut().unwrap().remove(field);
        assert!(!validator.is_valid(&broken), "valid without {field}");
    }
}
