//! The three forms, from small lists of our own.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::record::Draft;
use crate::time::rfc3339;

fn decode(body: &str) -> Result<Vec<Result<Draft, Reject>>, Reject> {
    let source = SourceId::new("calfire_incidents").unwrap();
    let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
    FORMAT.rows(&Bytes::copy_from_slice(body.as_bytes()), context).map(Iterator::collect)
}

fn one(body: &str) -> Draft {
    let mut rows = decode(body).unwrap();
    assert_eq!(rows.len(), 1);
    rows.remove(0).unwrap()
}

fn data(draft: &Draft) -> Value {
    serde_json::from_str(draft.data.json()).unwrap()
}

fn notes(draft: &Draft) -> Vec<&str> {
    draft.quality.iter().map(|quality| quality.field.as_str()).collect()
}

fn feature(properties: Value) -> String {
    let geometry = json!({"type": "Point", "coordinates": [-120.25, 37.5]});
    json!({"type": "FeatureCollection", "features":
        [{"type": "Feature", "geometry": geometry, "properties": properties}]})
    .to_string()
}

const ID: &str = "0A000000-0000-4000-8000-00000000000b";

#[test]
fn s6_a_feature_is_an_incident_with_its_units() {
    let draft = one(&feature(json!({
        "Name": "Sample Fire ", "Final": false, "Updated": "2026-08-11T15:12:54Z", "Started": "2026-08-10T14:10:00Z",
        "County": "Alameda, Mariposa", "AcresBurned": 19244.0, "PercentContained": null,
        "ControlStatement": "<p>Road A &amp; B<br>closed</p>", "ExtinguishedDate": "", "StartedDateOnly": "2026-08-10",
        "Longitude": -120.25, "Latitude": 37.5, "UniqueId": ID, "IsActive": true, "AdminUnitUrl": null, "Mood": "calm",
    })));
    let (data, position) = (data(&draft), draft.position.unwrap());
    for (field, value) in [
        ("incident_id", json!(ID.to_ascii_lowercase())),
        ("name", json!("Sample Fire")),
        ("is_active", json!(true)),
        ("is_final", json!(false)),
        ("started_on", json!("2026-08-10")),
        ("started_at", json!("2026-08-10T14:10:00.000Z")),
        ("acres_burned", json!(19244.0)),
        ("percent_contained", json!(null)),
        ("counties", json!(["Alameda", "Mariposa"])),
        ("control_statement", json!("Road A & B closed")),
        ("extinguished_at", json!(null)),
        ("fatalities", json!(null)),
    ] {
        assert_eq!(data[field], value, "{field}");
    }
    assert_eq!((position.latitude(), position.longitude()), (37.5, -120.25));
    assert_eq!(rfc3339(draft.observed_at), "2026-08-10T14:10:00.000Z");
    assert_eq!(draft.published_at.map(rfc3339).unwrap(), "2026-08-11T15:12:54.000Z");
    assert_eq!(notes(&draft), ["Mood"], "what is not understood is named");
}

#[test]
fn s12_one_incident_has_one_id_in_every_form() {
    let from_geojson = one(&feature(json!({"UniqueId": ID, "Started": "2026-08-10T14:10:00Z"})));
    let page = json!({"Incidents": [{"UniqueId": ID.to_ascii_lowercase(), "Started": "2026-08-10T14:10:00Z",
        "Latitude": 37.5, "Longitude": -120.25, "AcresBurned": null, "Counties": ["Alameda"], "Fatalities": 2}],
        "AllYearIncidents": [{"UniqueId": "another"}]});
    let from_page = one(&page.to_string());
    let from_table = one(&format!(
        "incident_name,incident_date_created,incident_longitude,incident_latitude,incident_id,incident_acres_burned,is_active\n\
         \" Sample, Upper\",2026-08-10T14:10:00Z,-120.25,37.5,{ID},\"1,250\",N\n"
    ));
    let alone = one(&page["Incidents"][0].to_string());
    for other in [&from_page, &from_table, &alone] {
        assert_eq!(other.event, from_geojson.event);
    }
    assert_eq!((data(&from_page)["fatalities"].clone(), from_page.position), (json!(2), from_geojson.position));
    let table = data(&from_table);
    assert_eq!(
        [&table["name"], &table["acres_burned"], &table["is_active"]],
        [&json!("Sample, Upper"), &json!(1250.0), &json!(false)]
    );
    assert_eq!(from_table.origin.header.as_deref().map(|header| header.starts_with(b"incident_name,")), Some(true));
}

#[test]
fn the_damaged_header_cell_of_the_table_is_read_and_said() {
    let draft = one(&format!(
        "e,incident_date_created,incident_longitude,incident_latitude,incident_id,calfire_incident,incident_dateonly_created\n\
         Sample Fire,2018-10-31T11:22:00Z,38.453,121.999,{ID},TRUE,10/31/2018\n"
    ));
    assert_eq!((&data(&draft)["name"], &data(&draft)["started_on"]), (&json!("Sample Fire"), &json!("2018-10-31")));
    assert_eq!(notes(&draft), ["name", "position"]);
    assert_eq!(draft.position.map(|at| (at.latitude(), at.longitude())), Some((38.453, -121.999)));
    assert_eq!(data(&draft)["latitude"], json!(121.999), "as it was sent");
    let Err(refused) = decode("a,b,c\n1,2,3\n") else { panic!("another table was taken") };
    assert_eq!(refused.reason, Reason::NotData);
}

#[test]
fn s9_a_fault_costs_its_incident_alone_and_keeps_its_bytes() {
    let rows = decode(&format!(
        r#"{{"features": [{{"properties": {{"Name": "no id"}}}}, [1], {{"properties": {{"UniqueId": "{ID}"}}}},
            {{"properties": {{"UniqueId": "{ID}", "Started": "2026-08-10T14:10:00Z", "Latitude": 91, "Longitude": "x"}}}}]}}"#
    ))
    .unwrap();
    let reasons: Vec<_> = rows.iter().map(|row| row.as_ref().err().map(|reject| reject.reason)).collect();
    assert_eq!(reasons, [Some(Reason::MissingField), Some(Reason::BadJson), Some(Reason::BadTime), None]);
    let refused = rows[1].as_ref().unwrap_err();
    assert_eq!((refused.row, &refused.raw[..]), (Some(2), &b"[1]"[..]));
    let kept = rows[3].as_ref().unwrap();
    assert!(kept.geometry.is_none(), "an incident without a place is still one");
    assert_eq!(notes(kept), ["longitude", "position"]);
    for (body, reason) in [
        ("{'type': 'FeatureCollection', 'features': []}", Reason::BadJson),
        (r#"{"error": {"code": 400}}"#, Reason::NotData),
        ("", Reason::NotData),
        ("<html>", Reason::NotData),
    ] {
        let refused = decode(body).err().unwrap();
        assert_eq!((refused.reason, refused.raw.len()), (reason, body.len()), "{body}");
    }
    for empty in [r#"{"Incidents": []}"#, r#"{"type": "FeatureCollection", "features": []}"#, "[]"] {
        assert_eq!(decode(empty).unwrap().len(), 0, "{empty}");
    }
}

#[test]
fn a_day_alone_begins_in_california_and_an_empty_time_is_told() {
    let at = |item: Value| {
        let draft = one(&json!([item]).to_string());
        (rfc3339(draft.observed_at), draft.quality.len())
    };
    let day = |day: &str| at(json!({"UniqueId": ID, "StartedDate": day}));
    assert_eq!(day("2020-02-15"), ("2020-02-15T08:00:00.000Z".to_owned(), 1));
    assert_eq!(day("2020-07-15"), ("2020-07-15T07:00:00.000Z".to_owned(), 1));
    let empty = at(json!({"UniqueId": ID, "Started": "1969-12-31T16:00:00Z"}));
    assert_eq!(empty, ("1969-12-31T16:00:00.000Z".to_owned(), 1));
    let changed = at(json!({"UniqueId": ID, "UpdatedDate": "2020-02-16 09:24:05", "Updated": "2020-02-16T10:00:00Z"}));
    assert_eq!(changed.0, "2020-02-16T10:00:00.000Z");
    // A time without an offset is not made one.
    let local = at(json!({"UniqueId": ID, "StartedDate": "2020-02-15", "UpdatedDate": "2020-02-16 09:24:05"}));
    assert_eq!(local, ("2020-02-15T08:00:00.000Z".to_owned(), 2));
}

#[test]
fn s9_a_geometry_stands_in_for_coordinates_that_are_no_place() {
    for (latitude, longitude) in
        [(json!(0), json!(0)), (json!(null), json!(-120.25)), (json!("37.5 N"), json!(-120.25))]
    {
        let draft = one(&feature(json!({"UniqueId": ID, "Started": "2026-08-10T14:10:00Z", "Latitude": latitude,
            "Longitude": longitude})));
        let at = draft.position.map(|at| (at.latitude(), at.longitude()));
        assert_eq!(at, Some((37.5, -120.25)), "{latitude}, {longitude}");
        assert!(notes(&draft).contains(&"position"), "{:?}", draft.quality);
    }
}

#[test]
fn s9_the_year_one_is_an_empty_time() {
    let draft =
        one(&feature(json!({"UniqueId": ID, "Started": "0001-01-01T00:00:00Z", "Updated": "2026-08-10T14:10:00Z"})));
    assert_eq!(rfc3339(draft.observed_at), "2026-08-10T14:10:00.000Z");
    assert!(notes(&draft).contains(&"started_at"), "{:?}", draft.quality);
}
