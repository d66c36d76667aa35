//! Perimeters and places under every year's names, from small documents of our own.

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::record::{Draft, Geometry};
use crate::time::rfc3339;

fn decode(source: &str, body: &Value) -> Result<Vec<Result<Draft, Reject>>, Reject> {
    let source = SourceId::new(source).unwrap();
    let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
    FORMAT.rows(&Bytes::from(body.to_string()), context).map(Iterator::collect)
}

fn one(source: &str, feature: Value) -> Draft {
    decode(source, &json!({"type": "FeatureCollection", "features": [feature]})).unwrap().remove(0).unwrap()
}

fn data(draft: &Draft) -> Value {
    serde_json::from_str(draft.data.json()).unwrap()
}

fn perimeter(properties: Value) -> Value {
    json!({"type": "Feature", "id": 3, "properties": properties, "geometry": {"type": "Polygon", "coordinates":
        [[[-120.0, 38.0, 5.0], [-120.0, 39.0, 5.0], [-119.0, 39.0, 5.0], [-119.0, 38.0, 5.0], [-120.0, 38.0, 5.0]]]}})
}

const IRWIN: &str = "{00000000-0000-4000-8000-0000000000AA}";
const SHAPE: &str = "{10000000-0000-4000-8000-0000000000BB}";

#[test]
fn s6_a_years_prefixes_and_times_do_not_change_a_perimeter() {
    let now = one(
        "wfigs_perimeters",
        perimeter(json!({
            "OBJECTID": 35836, "poly_IRWINID": IRWIN, "poly_SourceGlobalID": SHAPE.to_lowercase(), "poly_IncidentName": "SAMPLE ",
            "attr_IrwinID": IRWIN, "attr_IncidentName": "SAMPLE", "poly_GISAcres": 8346.25, "attr_IncidentSize": 8346,
            "attr_FireDiscoveryDateTime": 1_734_226_260_000_i64, "attr_ModifiedOnDateTime_dt": 1_737_760_845_000_i64,
            "poly_PolygonDateTime": 1_736_639_700_000_i64, "attr_POOState": "US-CA", "attr_FinalAcres": null,
            "attr_PrimaryFuelModel": "Chaparral (6 feet)", "Shape__Area": 0.0033,
        })),
    );
    let earlier = one(
        "wfigs_perimeters",
        perimeter(json!({
            "OBJECTID": 1, "irwin_IrwinID": IRWIN.trim_matches(['{', '}']), "poly_GlobalID": SHAPE, "irwin_IncidentName": "SAMPLE",
            "irwin_DailyAcres": 8346.0, "irwin_FireDiscoveryDateTime": "2024-12-15T01:31:00Z",
        })),
    );
    assert_eq!((now.event, now.observed_at), (earlier.event, earlier.observed_at));
    assert_eq!(rfc3339(now.observed_at), "2024-12-15T01:31:00.000Z");
    assert_eq!(now.published_at.map(rfc3339).unwrap(), "2025-01-24T23:20:45.000Z");
    let data = data(&now);
    for (field, value) in [
        ("id", json!(SHAPE)),
        ("irwin_id", json!(IRWIN)),
        ("perimeter_id", json!(SHAPE)),
        ("incident_name", json!("SAMPLE")),
        ("perimeter_name", json!(null)),
        ("incident_acres", json!(8346.0)),
        ("perimeter_acres", json!(8346.25)),
        ("mapped_at", json!("2025-01-11T23:55:00.000Z")),
        ("state", json!("US-CA")),
        ("attributes", json!({"attr_PrimaryFuelModel": "Chaparral (6 feet)"})),
    ] {
        assert_eq!(data[field], value, "{field}");
    }
    assert_eq!(now.position.map(|at| (at.latitude(), at.longitude())), Some((38.5, -119.5)));
    assert!(matches!(&now.geometry, Some(Geometry::GeoJson(text)) if text.contains("Polygon")));
    assert_eq!(now.quality.len(), 1, "heights: {:?}", now.quality);
}

#[test]
fn an_incidents_place_is_read_by_the_same_names_without_a_prefix() {
    let draft = one(
        "wfigs_incidents",
        json!({"type": "Feature", "id": 11, "geometry": {"type": "Point", "coordinates": [-120.5, 39.1]}, "properties": {
            "OBJECTID": 11, "IrwinID": IRWIN, "UniqueFireIdentifier": "2026-CATST-000123", "IncidentName": "TEST",
            "IncidentTypeCategory": "WF", "IncidentSize": 12.5, "PercentContained": null,
            "FireDiscoveryDateTime": 1_790_000_000_000_i64, "ActiveFireCandidate": 1, "POOFips": "06999"}}),
    );
    let data = data(&draft);
    assert_eq!(
        [&data["incident_acres"], &data["percent_contained"], &data["fips"]],
        [&json!(12.5), &json!(null), &json!("06999")]
    );
    assert_eq!(data["attributes"], json!({"ActiveFireCandidate": 1}));
    assert!(draft.quality.is_empty() && draft.position.is_some());
}

#[test]
fn s9_a_fault_costs_its_feature_alone() {
    let rows = decode(
        "wfigs_perimeters",
        &json!({"features": [
            {"type": "Feature", "properties": {"poly_GISAcres": 1}, "geometry": null},
            {"type": "Feature", "properties": {"poly_IRWINID": IRWIN}, "geometry": null},
            {"type": "Feature", "properties": {"poly_IRWINID": IRWIN, "poly_CreateDate": 1_735_776_672_000_i64}, "geometry": null},
            {"attributes": {"poly_IRWINID": "{00000000-0000-0000-0000-000000000000}"}, "geometry": {"rings": []}},
        ]}),
    )
    .unwrap();
    let reasons: Vec<_> = rows.iter().map(|row| row.as_ref().err().map(|reject| reject.reason)).collect();
    assert_eq!(reasons, [Some(Reason::MissingField), Some(Reason::BadTime), None, Some(Reason::MissingField)]);
    let kept = rows[2].as_ref().unwrap();
    assert!(kept.geometry.is_none() && kept.quality.len() == 1, "{:?}", kept.quality);
    assert_eq!(decode("wfigs_perimeters", &json!({"features": []})).unwrap().len(), 0);
    let error = decode("wfigs_perimeters", &json!({"error": {"code": 400, "message": "x"}})).err().unwrap();
    assert_eq!(error.reason, Reason::NotData);
}
