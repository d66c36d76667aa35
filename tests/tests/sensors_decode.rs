//! Recorded sensor messages against what their recorder expected of them.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use flate2::read::GzDecoder;
use serde_json::Value;
use streammanager::decode::{Context, Format, Row};
use streammanager::error::{Reason, Reject};
use streammanager::record::{Draft, SourceId};
use streammanager::time::Timestamp;
use streammanager_tests::samples;

struct Message {
    expect: String,
    dup: bool,
    received_at: Timestamp,
    row: Row,
}

/// The capture, each message decoded as it would be when pushed.
fn capture(samples: &Path) -> Vec<Message> {
    let file = fs::File::open(samples.join("iot_mqtt/synthetic_mqtt_capture.jsonl.gz")).unwrap();
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let topic = line["topic"].as_str().unwrap();
            let source = SourceId::new(if topic.starts_with("raws/") { "iot_raws" } else { "iot_purpleair" }).unwrap();
            let received_at = line["received"].as_str().unwrap().parse().unwrap();
            let body = Bytes::from(line["payload"].as_str().unwrap().to_owned());
            let context = Context { source: &source, received_at, topic: Some(topic), message: None };
            let row = match Format::SENSOR.rows(&body, context) {
                Ok(mut rows) => rows.next().unwrap(),
                Err(reject) => Err(reject),
            };
            Message {
                expect: line["_expect"].as_str().unwrap().to_owned(),
                dup: line["dup"].as_bool().unwrap(),
                received_at,
                row,
            }
        })
        .collect()
}

fn data(draft: &Draft) -> Value {
    serde_json::from_str(draft.data.json()).unwrap()
}

fn faults(draft: &Draft) -> Vec<&str> {
    draft.quality.iter().map(|quality| quality.field.as_str()).collect()
}

#[test]
fn s3_the_capture_is_read_as_its_recorder_expected() {
    let Some(samples) = samples("recorded sensor messages") else { return };
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for message in capture(&samples) {
        let Message { expect, row, received_at, .. } = message;
        *seen.entry(expect.clone()).or_default() += 1;
        if ["truncated JSON", "NaN token (not JSON)", "LWT text"].contains(&expect.as_str()) {
            let reject = row.unwrap_err();
            assert_eq!(reject.reason, Reason::BadJson, "{expect}");
            assert!(!reject.raw.is_empty(), "{expect}");
            continue;
        }
        let draft = row.unwrap_or_else(|reject| panic!("{expect}: {reject}"));
        let data = data(&draft);
        let late_s = received_at.duration_since(draft.observed_at).as_secs();
        assert_eq!(draft.position.is_some(), expect != "no position", "{expect}");
        assert_eq!(
            (72 * 3600 - 60..72 * 3600 + 60).contains(&late_s),
            expect == "late by 3 days",
            "{expect}: {late_s} s"
        );
        assert!(expect == "late by 3 days" || (0..60).contains(&late_s), "{expect}: {late_s} s late");
        match expect.as_str() {
            "sensor fault values" => {
                assert_eq!(faults(&draft), ["temperature_c", "relative_humidity_percent"]);
                assert_eq!((&data["temperature_c"], &data["relative_humidity_percent"]), (&Value::Null, &Value::Null));
                assert!(data["pm2_5_ug_m3"].is_number());
                assert_eq!(data["reported"]["humidity"], 255);
            }
            "channels disagree" => {
                assert_eq!(faults(&draft), ["pm2_5_b_ug_m3", "pm2_5_ug_m3"]);
                assert!(data["pm2_5_ug_m3"].is_number() && data["pm2_5_b_ug_m3"].is_null());
            }
            "null channel" => {
                assert!(data["pm2_5_b_ug_m3"].is_null() && data.get("pm2_5_b_ug_m3").is_some());
                assert!(faults(&draft).is_empty());
            }
            _ => {
                assert!(faults(&draft).is_empty(), "{expect}: {:?}", draft.quality);
                assert!(
                    data["pm2_5_ug_m3"].is_number() || data["fuel_moisture_percent"].is_number(),
                    "{expect}: {data}"
                );
            }
        }
    }
    let facts: Value = serde_json::from_slice(&fs::read(samples.join("facts.json")).unwrap()).unwrap();
    let facts = &facts["files"]["iot_mqtt/synthetic_mqtt_capture.jsonl.gz"]["facts"];
    assert_eq!(facts["by_expectation"], serde_json::to_value(&seen).unwrap());
    assert_eq!(seen.values().sum::<usize>(), 300);
}

#[test]
fn s12_a_message_delivered_twice_is_one_event() {
    let Some(samples) = samples("recorded duplicate messages") else { return };
    let (mut events, mut repeats, mut dups) = (HashMap::new(), 0, 0);
    for message in capture(&samples) {
        let Ok(draft) = message.row else { continue };
        dups += usize::from(message.dup);
        match events.insert(draft.event, draft.content) {
            Some(content) => {
                assert_eq!(content, draft.content, "a repeat is not a revision");
                assert!(message.dup);
                repeats += 1;
            }
            None => assert!(!message.dup, "the first delivery is not marked as a repeat"),
        }
    }
    assert_eq!((repeats, dups, events.len()), (12, 12, 252));
}

#[test]
fn s3_clean_values_add_up_to_the_recorders_sum() {
    let Some(samples) = samples("recorded sensor sums") else { return };
    let clean: Vec<Value> = capture(&samples)
        .into_iter()
        .filter(|message| message.expect == "ok")
        .map(|message| data(&message.row.unwrap()))
        .collect();
    let (raws, purpleair): (Vec<_>, Vec<_>) = clean.into_iter().partition(|data| data["sensor_id"] == "TKNC1");
    let sum: f64 = purpleair.iter().map(|data| data["pm2_5_ug_m3"].as_f64().unwrap()).sum();
    assert_eq!(purpleair.len(), 156);
    assert!((sum - 5732.4).abs() < 0.01, "{sum}");
    let first = &raws[0];
    for (field, value) in
        [("temperature_c", 27.2), ("wind_gust_m_s", 12.4), ("fuel_moisture_percent", 4.1), ("battery_v", 13.1)]
    {
        assert_eq!(first[field], value, "{field}");
    }
}

#[test]
fn s3_purpleair_answers_and_its_local_object_are_read() {
    let Some(samples) = samples("recorded PurpleAir answers") else { return };
    let source = SourceId::new("iot_purpleair").unwrap();
    let read = |name: &str| -> Result<Vec<Row>, Reject> {
        let body = Bytes::from(fs::read(samples.join("iot_purpleair").join(name)).unwrap());
        let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
        Format::SENSOR.rows(&body, context).map(Iterator::collect)
    };
    let local = read("local_json_smoke.json").unwrap().remove(0).unwrap();
    assert_eq!(local.observed_at, "2021-08-20T03:15:12Z".parse().unwrap());
    assert_eq!(local.position.map(|at| (at.latitude(), at.longitude())), Some((38.5775, -121.4944)));
    let fields = data(&local);
    for (field, value) in [
        ("temperature_c", 23.3333),
        ("dew_point_c", 14.4444),
        ("pressure_hpa", 1016.88),
        ("pm2_5_ug_m3", 191.67),
        ("pm2_5_b_ug_m3", 223.62),
        ("pm10_0_ug_m3", 203.83),
        ("signal_dbm", -56.0),
    ] {
        assert_eq!(fields[field], value, "{field}");
    }
    assert_eq!((&fields["sensor_id"], &fields["sensor_name"]), (&"84:f3:eb:00:00:01".into(), &"PurpleAir-0001".into()));
    assert_eq!(faults(&local), ["reported"], "counts of particles and colours are named, and nothing is wrong");

    let many: Vec<Draft> = read("get_sensors_response.json").unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(many.len(), 5);
    assert_eq!(many.iter().filter(|draft| draft.position.is_none()).count(), 1);
    assert!(many.iter().all(|draft| draft.observed_at.as_second() == 1_667_503_531));
    assert_eq!(data(&many[4])["sensor_name"], "아가페_실내");
    for name in ["error_invalid_api_key_response.json", "error_not_found_response.json", "get_keys_response.json"] {
        assert_eq!(read(name).unwrap_err().reason, Reason::NotData, "{name}");
    }
}

/// Counts, places, times and sums that an independent reader found in Synoptic's lists.
#[test]
fn s3_synoptics_lists_are_read_to_the_recorders_sums() {
    let Some(samples) = samples("recorded answers of Synoptic") else { return };
    let facts: Value = serde_json::from_slice(&fs::read(samples.join("facts.json")).unwrap()).unwrap();
    let source = SourceId::new("iot_raws").unwrap();
    for file in ["synthetic_synoptic_raws_CA.json", "synoptic_BKCU1_fuel_moisture_2018.json.gz"] {
        let path = samples.join("iot_raws").join(file);
        let mut body = Vec::new();
        if file.ends_with(".gz") {
            GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut body).unwrap()
        } else {
            fs::File::open(path).unwrap().read_to_end(&mut body).unwrap()
        };
        let (body, context) = (
            Bytes::from(body),
            Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None },
        );
        let readings: Vec<Draft> = Format::SENSOR.rows(&body, context).unwrap().map(Result::unwrap).collect();
        let fact = &facts["files"][format!("iot_raws/{file}")]["facts"];
        assert_eq!(fact["observations"], readings.len(), "{file}");
        let said: Vec<&str> = readings.iter().flat_map(faults).collect();
        let flagged = if file.starts_with("synthetic") { vec!["temperature_c"; 2] } else { Vec::new() };
        assert_eq!(said, flagged, "{file}: what the source's own checks found is told, and nothing else is wrong");
        let events: BTreeSet<_> = readings.iter().map(|reading| reading.event).collect();
        assert_eq!(events.len(), readings.len(), "{file}: one event a reading");
        let latitudes = readings.iter().map(|reading| reading.position.unwrap().latitude());
        assert_eq!(fact["min_lat"], latitudes.fold(f64::MAX, f64::min), "{file}");
        let latest = readings.iter().map(|reading| reading.observed_at).max().unwrap();
        assert_eq!(fact["latest_utc"], latest.to_string(), "{file}");
        for (variable, expected) in fact["variables"].as_object().unwrap() {
            let measure = match variable.as_str() {
                "air_temp_set_1" => "temperature_c",
                "relative_humidity_set_1" => "relative_humidity_percent",
                "wind_speed_set_1" => "wind_speed_m_s",
                "wind_direction_set_1" => "wind_direction_deg",
                "wind_gust_set_1" => "wind_gust_m_s",
                "fuel_moisture_set_1" => "fuel_moisture_percent",
                other => panic!("{file}: {other}"),
            };
            let values: Vec<f64> = readings.iter().filter_map(|reading| data(reading)[measure].as_f64()).collect();
            assert_eq!(expected["valid"], values.len(), "{file}: {variable}");
            let (sum, wanted) = (values.iter().sum::<f64>(), expected["sum"].as_f64().unwrap());
            assert!((sum - wanted).abs() < 0.01, "{file}: {variable}: {sum}, the recorder found {wanted}");
        }
    }
}
