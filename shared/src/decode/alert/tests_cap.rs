//! CAP as the field sends it: wrapped, behind headers, as JSON, with elements that stand twice or that nobody knows.

use serde_json::{Value, json};

use super::tests::{SQUARE, cap, data, message, one, rows, source};
use crate::error::Reason;
use crate::record::{Draft, EventId, ShapeTold};

fn said(draft: &Draft) -> Vec<(&str, &str)> {
    draft.quality.iter().map(|quality| (quality.field.as_str(), quality.problem.as_str())).collect()
}

fn shape(draft: &Draft) -> ShapeTold {
    draft.alert.as_ref().unwrap().shape
}

fn cap_json(changes: &str) -> String {
    format!(
        r#"{{"identifier": "A-1", "sender": "oes", "sent": "2025-08-14T14:05:00-07:00", "status": "Actual", "msgType": "Alert",
            "scope": "Public", "code": ["DVN:1", "DVN:2"], {changes}
            "info": [{{"event": "Evacuation", "category": ["Fire"], "certainty": null, "parameter": {{"valueName": "a", "value": 1}},
              "area": [{{"areaDesc": "Zone 12", "polygon": ["{SQUARE}"], "geocode": [{{"valueName": "SAME", "value": "006007"}}]}}]}}]}}"#
    )
}

#[test]
fn what_cap_allows_once_and_decides_is_refused_when_it_stands_twice() {
    for name in ["identifier", "sender", "sent", "status", "msgType", "scope"] {
        // Once the same again, once another one; JSON's duplicates are refused too.
        for second in ["Actual", "Test"] {
            let reject = one(cap(&format!("<{name}>{second}</{name}>"), "")).unwrap_err();
            assert_eq!(reject.reason, Reason::BadXml, "{name}");
            assert!(reject.detail.contains(name) && !reject.raw.is_empty(), "{reject}");
        }
    }
    let twice = message(json!({})).replacen("\"status\"", "\"status\":\"Test\",\"status\"", 1);
    assert_eq!(rows(twice).err().map(|reject| reject.reason), Some(Reason::BadJson));
    for twice in [r#""identifier": "B","#, r#""status": "Test","#] {
        let reject = rows(cap_json(twice)).and_then(|mut rows| rows.remove(0).map(drop)).unwrap_err();
        assert!(reject.detail.contains("status") || reject.detail.contains("identifier"), "{reject}");
    }
}

#[test]
fn s9_other_elements_that_stand_twice_or_are_not_known_are_named() {
    let info = "<info><event>a</event><event>b</event><colour>red</colour><resource><uri>u</uri><derefUri>AAAA</derefUri></resource>\
        <area><areaDesc>x</areaDesc><areaDesc>y</areaDesc><zone>12</zone></area></info>";
    let draft = one(cap("<note>n</note><note>m</note><severity>Extreme</severity>", info)).unwrap();
    let fields: Vec<&str> = said(&draft).iter().map(|(field, _)| *field).collect();
    assert_eq!(
        fields,
        [
            "note",
            "severity",
            "info[0].event",
            "info[0].colour",
            "info[0].resource[0].derefUri",
            "info[0].area[0].areaDesc",
            "info[0].area[0].zone"
        ]
    );
    assert_eq!(data(&draft)["info"][0]["event"], "a");
    let signed = "<s:Signature xmlns:s='http://www.w3.org/2000/09/xmldsig#'><s:x/></s:Signature>";
    assert_eq!(said(&one(cap(signed, "")).unwrap()), [], "another vocabulary is not CAP's");
}

#[test]
fn e4_blanks_in_names_tear_no_reference_and_only_actual_is_no_drill() {
    let alert = cap("", "").replace("A-1", "\n A \n 1 ").replace("<sender>oes</sender>", "<sender>Butte  OES</sender>");
    let facts = one(alert).unwrap().alert.clone().unwrap();
    assert_eq!((facts.name.as_str(), facts.thread.as_str()), ("Butte OES,A 1", "Butte OES,A 1"));
    let references = "Butte OES,A 1,2025-08-14T14:05:00-07:00 oes,B,2025-08-14T15:05:00-07:00";
    for cancel in [
        one(cap(&format!("<references>{references}</references>"), "")),
        one(message(json!({"msgType": "Cancel", "references": references}))),
        one(message(json!({"msgType": "Cancel", "references": references.rsplit_once(' ').map(|(one, _)| one)}))),
    ] {
        let facts = cancel.unwrap().alert.clone().unwrap();
        assert_eq!(facts.thread, "Butte OES,A 1");
        assert_eq!(facts.references[0], "Butte OES,A 1,2025-08-14T14:05:00-07:00");
    }
    for status in ["Exercise", "System", "Test", "Draft"] {
        let facts = one(cap("", "").replace("Actual", status)).unwrap().alert.clone().unwrap();
        assert!(facts.is_drill(), "{status}");
    }
    assert!(!one(cap("", "")).unwrap().alert.as_deref().unwrap().is_drill());
}

/// S12: recomputable from the record alone, and a drill never meets what means it.
#[test]
fn s12_a_drill_has_a_key_of_its_own() {
    let key = ["oes", "A-1", "2025-08-14T14:05:00-07:00"];
    assert_eq!(one(cap("", "")).unwrap().event, EventId::of(&source(), key));
    let drill = one(cap("", "").replace("Actual", "Test")).unwrap();
    assert_eq!(drill.event, EventId::of(&source(), key.into_iter().chain(["Test"])));
}

#[test]
fn line_breaks_around_values_are_no_part_of_them() {
    let area = format!("<info><area><polygon>\n{}\n</polygon></area></info>", SQUARE.replace(' ', "\n   "));
    let draft = one(cap("<code>\nprofile:1\n</code>", &area)).unwrap();
    assert_eq!((data(&draft)["code"].clone(), said(&draft).len()), (json!(["profile:1"]), 0));
    assert!(draft.geometry.is_some());
}

/// E5: what became of the shapes is known before anything is published.
#[test]
fn e5_a_shape_that_was_told_and_is_lost_is_broken_and_a_mended_one_is_named() {
    let open = SQUARE.rsplit_once(' ').unwrap().0;
    let crossing = "39.7,-121.7 39.9,-121.5 39.9,-121.7 39.7,-121.5 39.7,-121.7";
    let swapped = "-121.7,39.7 -121.5,39.7 -121.5,39.9 -121.7,39.7";
    for (polygons, told, quality) in [
        (vec![], ShapeTold::None, vec![]),
        (vec![SQUARE], ShapeTold::Ok, vec![]),
        (vec![open], ShapeTold::Ok, vec!["is not closed: it was closed by its first point"]),
        (vec![SQUARE, crossing], ShapeTold::Broken, vec!["crosses itself: which side is inside cannot be told"]),
        (vec![""], ShapeTold::Broken, vec!["is empty"]),
        (
            vec![swapped],
            ShapeTold::Broken,
            vec!["latitude -121.7 is not in -90..90; latitude and longitude seem to be swapped"],
        ),
    ] {
        let area: String = polygons.iter().map(|text| format!("<polygon>{text}</polygon>")).collect();
        let draft = one(cap("", &format!("<info><area>{area}</area></info>"))).unwrap();
        assert_eq!((shape(&draft), said(&draft).iter().map(|(_, problem)| *problem).collect()), (told, quality));
    }
    for (sent, told) in [
        (json!({}), ShapeTold::Ok),
        (json!({"place": null, "area": {"description": "Zone 12"}}), ShapeTold::None),
        (json!({"area": {"polygon": "garbage"}}), ShapeTold::Broken),
        (json!({"area": "zone 12"}), ShapeTold::Broken),
        (json!({"place": "here", "area": {"description": "Zone 12"}}), ShapeTold::Broken),
        (json!({"msgType": "Cancel", "place": null}), ShapeTold::None),
    ] {
        assert_eq!(shape(&one(message(sent.clone())).unwrap()), told, "{sent}");
    }
}

#[test]
fn a_wire_services_header_is_named_and_the_alert_read() {
    let bulletin = format!(
        "\x01\r\r\n152 \r\r\nXOUS56 KWBC 281000\r\r\nCAPLOX\r\r\n<?xml version='1.0'?>{}\r\r\n\x03",
        cap("", "")
    );
    let draft = one(bulletin).unwrap();
    assert_eq!(draft.quality[0].field, "body");
    assert_eq!(draft.quality[0].raw.as_deref(), Some("152 XOUS56 KWBC 281000 CAPLOX"));
    assert_eq!(rows(format!("{}{}", "x".repeat(2_000), cap("", ""))).err().unwrap().reason, Reason::NotData);
    assert_eq!(rows("503 Service Unavailable <br>").err().unwrap().reason, Reason::BadXml);
}

#[test]
fn a_wrapper_without_alerts_is_none_and_one_with_unreadable_ones_is_not() {
    for none in ["<alerts/>", "<ns1:alerts xmlns:ns1='http://gov.fema.ipaws.services/feed'></ns1:alerts>"] {
        assert!(rows(none).unwrap().is_empty(), "{none}");
    }
    let good = cap("", "");
    assert_eq!(rows(format!("<alerts>{good}{good}</alerts>")).unwrap().len(), 2);
    let old = rows("<alerts><alert xmlns='http://www.incident.com/cap/1.0'/></alerts>").err().unwrap();
    assert_eq!((old.reason, old.detail.contains("none of the 1 <alert>")), (Reason::NotData, true), "{old}");
}

#[test]
fn an_alert_that_expires_before_it_was_sent_stands_and_says_so() {
    let draft = one(cap("", "<info><expires>2025-07-01T00:00:00-07:00</expires></info>")).unwrap();
    assert_eq!(said(&draft), [("info[0].expires", "is before the time at which the alert was sent")]);
    assert_eq!(draft.alert.as_deref().unwrap().expires, Some("2025-07-01T07:00:00Z".parse().unwrap()));
}

#[test]
fn cap_as_json_is_read_like_cap_as_xml() {
    let draft = one(cap_json("")).unwrap();
    assert_eq!(said(&draft), []);
    assert_eq!(draft.event, one(cap("", "")).unwrap().event, "one message, however it was written");
    let data = data(&draft);
    assert_eq!((&data["format"], &data["code"]), (&json!("cap-json"), &json!(["DVN:1", "DVN:2"])));
    assert_eq!(data["info"][0]["parameter"], json!({"a": ["1"]}));
    assert_eq!(data["info"][0]["area"][0]["geocode"], json!({"SAME": ["006007"]}));
    assert_eq!((shape(&draft), &data["info"][0]["certainty"]), (ShapeTold::Ok, &Value::Null));
    assert_eq!(said(&one(cap_json(r#""colour": "red","#)).unwrap())[0].0, "colour");
    let missing = one(cap_json("").replace("\"scope\": \"Public\",", "")).unwrap_err();
    assert_eq!((missing.reason, missing.raw.is_empty()), (Reason::MissingField, false));
}
