//! Recorded CAP files against what an independent parser found in them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use serde_json::Value;
use streammanager::decode::{Context, Format, Row};
use streammanager::error::{Reason, Reject};
use streammanager::ingest::enrich;
use streammanager::record::{Draft, Geometry, SourceId, Stream, StreamId, TenantId, WhenFull, value};
use streammanager::time::Timestamp;
use streammanager_tests::samples;

fn rows(path: &Path) -> Result<Vec<Row>, Reject> {
    let source = SourceId::new("evacuation_alert_sample").unwrap();
    let body = Bytes::from(fs::read(path).unwrap());
    let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
    Format::ALERT.rows(&body, context).map(Iterator::collect)
}

fn data(draft: &Draft) -> Value {
    serde_json::from_str(draft.data.json()).unwrap()
}

/// All values of `name` in every info block, or in every area of them.
fn count(data: &Value, name: &str) -> usize {
    let areas = data["info"].as_array().unwrap().iter().flat_map(|info| info["area"].as_array().unwrap());
    areas.map(|area| area[name].as_array().map_or(0, Vec::len)).sum()
}

fn check(file: &str, draft: &Draft, fact: &Value) {
    let (data, alert) = (data(draft), draft.alert.as_deref().unwrap());
    for name in ["identifier", "sender", "sent", "status", "msgType", "scope"] {
        assert_eq!(data[name], fact[name], "{file}: {name}");
    }
    assert_eq!(fact["status"], alert.status.as_str(), "{file}");
    assert_eq!(alert.sent, fact["sent_utc"].as_str().unwrap().parse().unwrap(), "{file}");
    assert_eq!(draft.observed_at, alert.sent, "{file}");
    assert_eq!(fact["infos"], data["info"].as_array().unwrap().len(), "{file}");
    assert_eq!(fact["references"], alert.references.len(), "{file}");
    assert_eq!(fact["circles"], count(&data, "circle"), "{file}: circles");
    let infos = data["info"].as_array().unwrap();
    let multimap = |value: &Value| -> usize {
        value.as_object().unwrap().values().map(|values| values.as_array().unwrap().len()).sum()
    };
    assert_eq!(fact["parameters"], infos.iter().map(|info| multimap(&info["parameter"])).sum::<usize>(), "{file}");
    let areas = infos.iter().flat_map(|info| info["area"].as_array().unwrap());
    assert_eq!(fact["areas"], areas.clone().count(), "{file}: areas");
    assert_eq!(fact["geocodes"], areas.clone().map(|area| multimap(&area["geocode"])).sum::<usize>(), "{file}");
    // The facts leave empty polygons out.
    let written = areas.flat_map(|area| area["polygon"].as_array().unwrap()).filter(|polygon| **polygon != "").count();
    assert_eq!(fact["polygons"], written, "{file}: polygons");
    let events: Vec<_> = infos.iter().map(|info| info["event"].clone()).collect();
    assert_eq!(fact["events"], Value::from(events), "{file}");
}

#[test]
fn e5_every_recorded_alert_is_a_record_with_its_status_or_refused_by_reason() {
    let Some(samples) = samples("recorded alerts") else { return };
    let facts: Value = serde_json::from_slice(&fs::read(samples.join("facts.json")).unwrap()).unwrap();
    let (mut alerts, mut refused) = (0, BTreeMap::new());
    for (file, entry) in facts["files"].as_object().unwrap().iter().filter(|(file, _)| file.starts_with("cap_xml/")) {
        let expected = entry["facts"]["alerts"].as_array().unwrap();
        match rows(&samples.join(file)) {
            Err(reject) => drop(refused.insert(file.as_str(), (reject.reason, reject.detail))),
            // The facts know alert elements alone; this feed tells its alerts without one.
            Ok(rows) if file == "cap_xml/synthetic_nws_active_CA_open.atom.xml" => {
                let drafts: Vec<Draft> = rows.into_iter().map(Result::unwrap).collect();
                let placed = drafts.iter().filter(|draft| draft.geometry.is_some()).count();
                assert_eq!(entry["facts"]["entries_with_polygon"], placed);
                assert_eq!(entry["facts"]["feed_entries"], drafts.len());
                alerts += drafts.len();
            }
            Ok(rows) => {
                assert_eq!(rows.len(), expected.len(), "{file}");
                for (row, fact) in rows.into_iter().zip(expected) {
                    match row {
                        Ok(draft) => {
                            check(file, &draft, fact);
                            alerts += 1;
                        }
                        Err(reject) => drop(refused.insert(file.as_str(), (reject.reason, reject.detail))),
                    }
                }
            }
        }
    }
    let refused: Vec<_> = refused.iter().map(|(file, (reason, detail))| (*file, *reason, detail.as_str())).collect();
    assert_eq!(
        refused,
        [
            ("cap_xml/invalid.cap.xml", Reason::MissingField, "scope is missing"),
            ("cap_xml/ny_index.rss.xml", Reason::NotData, "<rss> holds no CAP 1.1 or 1.2 alert"),
            (
                "cap_xml/weather_index.atom.xml",
                Reason::NotData,
                "none of the 2 <entry> of this <feed> holds a CAP 1.1 or 1.2 alert"
            ),
            ("cap_xml/xee.cap.xml", Reason::Doctype, "a document type declaration is refused unread"),
        ]
    );
    assert_eq!(alerts, 51, "all but the invalid and the hostile one, and 30 that a feed tells itself");
}

#[test]
fn e4_the_evacuation_chain_keeps_its_threads() {
    let Some(samples) = samples("the recorded evacuation chain") else { return };
    let one = |name: &str| rows(&samples.join("cap_xml").join(name)).unwrap().remove(0).unwrap();
    let order = one("synthetic_evac_humtest_1_alert.cap.xml");
    let facts = |draft: &Draft| draft.alert.clone().unwrap();
    let thread = "oes.test@humboldt.example.invalid,HUMTEST-001";
    assert_eq!(facts(&order).thread, thread);
    assert_eq!(facts(&one("synthetic_evac_humtest_2_update.cap.xml")).thread, thread);
    assert_eq!(facts(&one("synthetic_evac_humtest_3_cancel.cap.xml")).thread, thread);
    let drill = one("synthetic_evac_humtest_4_test.cap.xml");
    assert!(facts(&drill).is_drill() && !facts(&order).is_drill());
    let error = one("synthetic_evac_humtest_5_error.cap.xml");
    assert_eq!((facts(&error).thread, facts(&error).msg_type.as_str()), (facts(&drill).thread, "Error"));

    assert_eq!(facts(&order).expires, Some("2025-08-15T03:05:00Z".parse().unwrap()));
    let data = data(&order);
    assert_eq!(data["info"][0]["parameter"]["EvacZone"], serde_json::json!(["E012", "E013"]));
    assert_eq!(data["info"][0]["description"], "A wildfire threatens zones HUM-E012 & HUM-E013. Leave now.");
    assert_eq!(data["info"][1]["event"], "Evacuación inmediata");
    let Some(Geometry::GeoJson(text)) = &order.geometry else { panic!("no geometry") };
    let geometry: Value = serde_json::from_str(text).unwrap();
    assert_eq!(
        geometry["coordinates"].as_array().unwrap().len(),
        3,
        "two polygons and a circle, once for two languages"
    );
    let centre = order.position.unwrap();
    assert!((40.75..40.80).contains(&centre.latitude()) && (-123.87..-123.81).contains(&centre.longitude()));
}

#[test]
fn e5_a_broken_area_is_listed_and_the_alert_stands() {
    let Some(samples) = samples("recorded broken areas") else { return };
    let broken = |file: &str| {
        let draft = rows(&samples.join("cap_xml").join(file)).unwrap().remove(0).unwrap();
        let fields: Vec<_> = draft.quality.iter().map(|quality| quality.field.clone()).collect();
        (fields, draft.geometry.is_some())
    };
    let area = |names: &[&str]| names.iter().map(|name| format!("info[0].area[0].{name}")).collect::<Vec<_>>();
    let all = ["polygon[0]", "polygon[1]", "polygon[2]", "polygon[3]", "circle[0]", "circle[1]"];
    // The first ring is only open: it is closed, and `quality` says so.
    assert_eq!(broken("synthetic_bad_polygon.cap.xml"), (area(&all), true));
    assert_eq!(broken("noaa_errors.cap.xml"), (area(&["polygon[0]", "polygon[1]"]), false));
    assert_eq!(broken("canada.cap.xml"), (vec![], true));
}

/// K5: a code says in which state an area is, and no shape is made of it.
#[test]
fn k5_an_alert_that_names_only_zones_of_california_is_inside_it_and_has_no_shape() {
    let json = |geocodes: Value, polygon: Value| {
        let mut area = serde_json::json!({"description": "a", "geocodes": geocodes});
        if !polygon.is_null() {
            area["polygon"] = polygon;
        }
        serde_json::json!({"id": "1", "sender": "s", "sent": "2025-08-14T14:05:00-07:00", "status": "Actual",
            "msgType": "Alert", "event": "Red Flag Warning", "area": area})
    };
    let feature = |geocode: Value, zones: Value| {
        serde_json::json!({"features": [{"geometry": null, "properties": {"id": "urn:oid:2.49.0.1.840.0.1", "sender": "s",
            "sent": "2025-08-14T14:05:00-07:00", "status": "Actual", "messageType": "Alert", "event": "Red Flag Warning",
            "geocode": geocode, "affectedZones": zones}}]})
    };
    let nevada = serde_json::json!([[39.5, -119.8], [39.5, -119.7], [39.6, -119.7]]);
    for (body, california) in [
        (json(serde_json::json!({"SAME": ["006023"]}), Value::Null), "inside"),
        (json(serde_json::json!({"SAME": "106037"}), Value::Null), "inside"),
        (json(serde_json::json!({"SAME": "000000"}), Value::Null), "inside"),
        (json(serde_json::json!({"FIPS6": ["032031", "006057"]}), Value::Null), "inside"),
        (json(serde_json::json!({"UGC": "CAZ285"}), Value::Null), "inside"),
        (json(serde_json::json!({"UGC": "CAC023"}), "39.5,-121.5 39.5".into()), "inside"),
        (json(serde_json::json!({"SAME": "006057"}), nevada), "near"),
        (feature(serde_json::json!({"SAME": ["006023"]}), serde_json::json!([])), "inside"),
        (feature(serde_json::json!({}), serde_json::json!(["https://api.weather.gov/zones/fire/CAZ285"])), "inside"),
        // Of the neighbours' counties nobody knows how near they are; the others are no codes of a state.
        (json(serde_json::json!({"SAME": "032031", "UGC": ["NVZ003", "PZZ450"]}), Value::Null), ""),
        (
            json(
                serde_json::json!({"SAME": ["060", "6023", "x06023"], "UGC": ["CA", "CAZ", "CAZ28x", "CAN"]}),
                Value::Null,
            ),
            "",
        ),
        (json(serde_json::json!({"ZIP": "06023", "EvacZone": "CAZ285"}), Value::Null), ""),
    ] {
        let source = SourceId::new("cap_alerts_test").unwrap();
        let text = Bytes::from(body.to_string());
        let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
        let draft = Format::ALERT.rows(&text, context).unwrap().next().unwrap().unwrap();
        let has_shape = draft.geometry.is_some();
        let (id, tenant) = (StreamId::new("s").unwrap(), TenantId::new("t").unwrap());
        let stream = Stream { id, source: source.clone(), tenant, granted: false, when_full: WhenFull::Wait };
        let record = enrich(draft, 0, &stream, Timestamp::UNIX_EPOCH).unwrap();
        let value: Value = serde_json::from_str(&value::json(&record, "p").unwrap()).unwrap();
        assert_eq!(value["california"].as_str().unwrap_or_default(), california, "{body}");
        assert_eq!((value["geometry"].is_null(), value["h3"].is_null()), (!has_shape, !has_shape), "{body}");
        assert_eq!(has_shape, california == "near", "{body}");
    }
}
