//! Alerts in both forms: what is required, what is judged, and what stands in spite of a fault.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::decode::{Context, Format, Row};
use crate::error::{Reason, Reject};
use crate::record::{Draft, EventId, Geometry, SourceId};
use crate::time::Timestamp;

pub(super) const SQUARE: &str = "40.1,-122.2 40.1,-122.1 40.2,-122.1 40.2,-122.2 40.1,-122.2";

pub(super) fn source() -> SourceId {
    SourceId::new("evacuation_alert_butte").unwrap()
}

pub(super) fn rows(body: impl Into<Vec<u8>>) -> Result<Vec<Row>, Reject> {
    let (source, body) = (source(), Bytes::from(body.into()));
    let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
    Format::ALERT.rows(&body, context).map(Iterator::collect)
}

pub(super) fn one(body: impl Into<Vec<u8>>) -> Row {
    let mut rows = rows(body)?;
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

/// A valid JSON alert with `changes` laid over it; null removes a field.
pub(super) fn message(changes: Value) -> String {
    let mut message = json!({
        "id": "A-1", "sender": "oes@butte.example", "sent": "2025-08-14T14:05:00-07:00", "status": "Actual",
        "msgType": "Alert", "event": "Evacuation Order", "place": {"latitude": 39.7, "longitude": -121.6}
    });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(message.as_object_mut().unwrap().remove(name)),
            _ => message[name] = value.clone(),
        }
    }
    message.to_string()
}

/// A CAP alert with `head` and `info` in place of the optional elements.
pub(super) fn cap(head: &str, info: &str) -> String {
    format!(
        "<alert xmlns='urn:oasis:names:tc:emergency:cap:1.2'><identifier>A-1</identifier><sender>oes</sender>\
         <sent>2025-08-14T14:05:00-07:00</sent><status>Actual</status><msgType>Alert</msgType><scope>Public</scope>{head}{info}</alert>"
    )
}

pub(super) fn data(draft: &Draft) -> Value {
    serde_json::from_str(draft.data.json()).unwrap()
}

#[test]
fn e5_a_json_alert_becomes_a_draft() {
    let draft = one(message(json!({
        "expires": "2025-08-14T20:05:00-07:00", "population": 2400, "rate_of_spread": 80.5,
        "derived_from": "28830e2136098655941b7e0102782b71",
        "area": {"description": "Zone 12", "polygon": [[40.1, -122.2], [40.1, -122.1], [40.2, -122.1], [40.2, -122.2]], "zones": ["E012"]}
    })))
    .unwrap();
    let facts = draft.alert.as_deref().unwrap();
    assert_eq!((facts.status.as_str(), facts.msg_type.as_str()), ("Actual", "Alert"));
    assert_eq!(facts.expires, Some("2025-08-15T03:05:00Z".parse().unwrap()));
    assert_eq!(facts.thread, "oes@butte.example,A-1");
    assert_eq!((facts.population, facts.rate_of_spread), (Some(2400), Some(80.5)));
    assert_eq!(draft.observed_at, "2025-08-14T21:05:00Z".parse().unwrap());
    assert_eq!(draft.derived_from, "28830e2136098655941b7e0102782b71".parse().ok());
    assert_eq!(draft.event, EventId::of(&source(), ["oes@butte.example", "A-1", "2025-08-14T14:05:00-07:00"]));
    assert!(matches!(&draft.geometry, Some(Geometry::GeoJson(text)) if text.contains("Polygon")));
    assert_eq!(draft.position.unwrap().latitude(), 39.7, "the named place stands for the area");
    assert_eq!(data(&draft)["info"][0]["area"][0]["geocode"]["zone"], json!(["E012"]));
    assert!(draft.quality.is_empty());
}

#[test]
fn s9_each_required_field_is_named_when_missing() {
    for field in ["id", "sender", "sent", "status", "msgType", "event"] {
        for absent in [json!({field: null}), json!({field: "  "})] {
            let reject = one(message(absent)).unwrap_err();
            assert_eq!(reject.reason, Reason::MissingField);
            assert!(reject.detail.starts_with(field), "{reject}");
            assert!(!reject.raw.is_empty());
        }
    }
    assert_eq!(one(message(json!({"place": null}))).unwrap_err().reason, Reason::MissingField);
    let whole = cap("", "");
    for field in ["identifier", "sender", "sent", "status", "msgType", "scope"] {
        let (start, end) = (format!("<{field}>"), format!("</{field}>"));
        let (before, rest) = whole.split_once(&start).unwrap();
        let without = format!("{before}{}", rest.split_once(&end).unwrap().1);
        let reject = one(without).unwrap_err();
        assert_eq!(reject.reason, Reason::MissingField);
        assert!(reject.detail.starts_with(field), "{reject}");
    }
}

#[test]
fn a_cancel_needs_neither_event_nor_area() {
    let cancel =
        one(message(json!({"msgType": "cancel", "event": null, "place": null, "references": ["A-0"]}))).unwrap();
    let facts = cancel.alert.as_deref().unwrap();
    assert_eq!(facts.msg_type, "Cancel");
    assert_eq!(facts.references, ["oes@butte.example,A-0"]);
    assert_eq!(facts.thread, "oes@butte.example,A-0");
}

#[test]
fn what_decides_over_a_siren_is_never_guessed() {
    assert_eq!(one(message(json!({"status": "actual"}))).unwrap().alert.as_deref().unwrap().status, "Actual");
    for (field, value) in [("status", "Live"), ("msgType", "Alarm")] {
        let reject = one(message(json!({field: value}))).unwrap_err();
        assert!(
            reject.detail.contains(value) && reject.detail.contains("Update") | reject.detail.contains("Test"),
            "{reject}"
        );
    }
    for sent in ["2025-08-14T14:05:00", "14 Aug 2025", "2025-02-30T00:00:00Z"] {
        assert_eq!(one(message(json!({"sent": sent}))).unwrap_err().reason, Reason::BadTime, "{sent}");
    }
    assert_eq!(
        one(message(json!({"place": {"latitude": 91, "longitude": 0}}))).unwrap_err().reason,
        Reason::BadLatitude
    );
}

#[test]
fn a_misspelt_field_is_reported_and_a_wrong_type_refused() {
    let draft = one(message(json!({
        "polgyon": "40,-122 5", "expires": "soon", "derived_from": "x", "area": {"polgyon": []}, "category": "Fire"
    })))
    .unwrap();
    assert_eq!(data(&draft)["info"][0]["category"], json!(["Fire"]));
    let fields: Vec<_> = draft.quality.iter().map(|quality| quality.field.as_str()).collect();
    assert_eq!(fields, ["polgyon", "derived_from", "area[0].polgyon", "info[0].expires"]);
    for (wrong, said) in [
        (json!({"event": 5}), "expected a string at line 1 column"),
        (json!({"references": 5}), "references is neither a text nor a list of texts"),
        (json!({"id": "BUTTE 17"}), "id \"BUTTE 17\" has a blank, a comma or a control character"),
        (json!({"sender": "a,b"}), "sender \"a,b\" has a blank"),
        (json!({"sender": "a\u{1f}b"}), "control character"),
    ] {
        let reject = rows(message(wrong)).and_then(|mut rows| rows.remove(0).map(drop)).unwrap_err();
        assert_eq!(reject.reason, Reason::BadJson);
        assert!(reject.detail.contains(said), "{reject}");
    }
    assert_eq!(rows("{\"id\": \"A-1\"").unwrap_err().reason, Reason::BadJson);
    for nothing in ["", "alert", "[]", "<html><body/></html>", "<rss version='2.0'/>", "<alert xmlns='urn:other'/>"] {
        assert_eq!(rows(nothing).unwrap_err().reason, Reason::NotData, "{nothing:?}");
    }
}

/// S10: a service that answers with its error under the status 200 has told no alert, and none of what it told before has ended.
#[test]
fn s10_an_error_of_a_service_is_no_alert() {
    for error in [
        r#"{"error": {"code": 500, "message": "Unexpected Problem"}}"#,
        r#"{"message": "Endpoint request timed out"}"#,
        r#"{"title": "Unexpected Problem", "status": 500, "detail": "as it says"}"#,
    ] {
        let reject = rows(error).unwrap_err();
        assert_eq!(reject.reason, Reason::NotData, "{reject}");
        assert!(
            ["Unexpected Problem", "timed out", "as it says"].iter().any(|said| reject.detail.contains(said)),
            "{reject}"
        );
    }
    // Whoever names a part of an alert hears which part is missing.
    let half = rows(r#"{"sender": "oes@butte.example", "message": "evacuate"}"#).unwrap().remove(0).unwrap_err();
    assert_eq!(half.reason, Reason::MissingField);
}

/// S9: an evacuation order is not lost for a field that it can do without.
#[test]
fn s9_an_unreadable_optional_field_is_null_with_a_reason_and_the_alert_stands() {
    for (sent, field, published) in [
        (json!({"population": "2400"}), None, json!(2400)),
        (json!({"population": 2400.0}), None, json!(2400)),
        (json!({"population": -1}), Some("population"), Value::Null),
        (json!({"population": {"n": 1}}), Some("population"), Value::Null),
        (json!({"rate_of_spread": "80"}), None, json!(80.0)),
        (json!({"rate_of_spread": [8]}), Some("rate_of_spread"), Value::Null),
        (json!({"place": "here", "area": {"description": "Zone 12"}}), Some("place"), Value::Null),
        (json!({"headline": 5}), Some("headline"), Value::Null),
        (json!({"category": 3}), Some("category"), json!([])),
        (json!({"expires": 5}), Some("expires"), Value::Null),
        (json!({"area": "zone 12"}), Some("area"), json!([])),
        (json!({"area": ["zone 13", {"description": "Zone 12"}]}), Some("area[0]"), json!(1)),
        (json!({"area": {"description": 1}}), Some("area[0].description"), Value::Null),
        (json!({"parameter": {"EvacZone": {"a": 1}}}), Some("parameter.EvacZone"), json!([])),
        (json!({"parameter": 1}), Some("parameter"), json!({})),
    ] {
        let draft = one(message(sent.clone())).unwrap_or_else(|reject| panic!("{sent}: {reject}"));
        let fields: Vec<_> = draft.quality.iter().map(|quality| quality.field.as_str()).collect();
        assert_eq!(fields, field.into_iter().collect::<Vec<_>>(), "{sent}");
        let data = data(&draft);
        let name = sent.as_object().unwrap().keys().next_back().unwrap();
        let read = match (name.as_str(), field) {
            (_, Some("place")) => &data["place"],
            ("population" | "rate_of_spread", _) => &data[name],
            (_, Some("area[0]")) => &json!(data["info"][0]["area"].as_array().unwrap().len()),
            (_, Some("area[0].description")) => &data["info"][0]["area"][0]["areaDesc"],
            (_, Some("parameter.EvacZone")) => &data["info"][0]["parameter"]["EvacZone"],
            _ => &data["info"][0][name],
        };
        assert_eq!(*read, published, "{sent}");
    }
    let second = one(message(json!({"area": ["zone 13", {"description": 1}]}))).unwrap();
    let fields: Vec<_> = second.quality.iter().map(|quality| quality.field.as_str()).collect();
    assert_eq!(fields, ["area[0]", "area[1].description"], "named as the sender counts them");
    let nowhere = rows(message(json!({"place": "here", "area": "zone 12"}))).unwrap().remove(0).unwrap_err();
    assert_eq!(nowhere.reason, Reason::MissingField);
}

#[test]
fn a_broken_shape_is_named_and_the_alert_stands() {
    let areas = format!(
        "<info><area><areaDesc>a</areaDesc><polygon>1,1 2,2</polygon><polygon>{SQUARE}</polygon></area></info>\
         <info><area><areaDesc>b</areaDesc><circle>40.1,-122.1</circle></area><area><polygon>{SQUARE}</polygon></area></info>"
    );
    let draft = one(cap("", &areas)).unwrap();
    let fields: Vec<_> = draft.quality.iter().map(|quality| quality.field.as_str()).collect();
    assert_eq!(fields, ["info[0].area[0].polygon[0]", "info[1].area[0].circle[0]"]);
    assert_eq!(draft.quality[0].raw.as_deref(), Some("1,1 2,2"));
    assert_eq!(data(&draft)["info"][0]["area"][0]["polygon"], json!(["1,1 2,2", SQUARE]));
    let Some(Geometry::GeoJson(text)) = &draft.geometry else { panic!("no geometry") };
    assert!(text.contains(r#""type":"Polygon""#), "one polygon though two blocks have it: {text}");
    assert_eq!(draft.position.map(|at| (at.latitude(), at.longitude())), Some((40.15, -122.15)));
    let json = one(message(json!({"place": null, "area": [{"polygon": "1,1"}, {"circle": {"latitude": 1}}]}))).unwrap();
    assert_eq!((json.quality.len(), &json.geometry, json.position), (2, &None, None));
}

#[test]
fn e4_the_thread_is_that_of_the_oldest_reference() {
    let update =
        one(cap("<references>oes,B,2025-08-14T13:00:00-07:00\n oes,A,2025-08-14T12:00:00-07:00</references>", ""))
            .unwrap();
    let facts = update.alert.as_deref().unwrap();
    assert_eq!(facts.thread, "oes,A");
    assert_eq!(facts.references.len(), 2);
    assert_eq!(one(cap("<references/>", "")).unwrap().alert.as_deref().unwrap().thread, "oes,A-1");
}

#[test]
fn the_latest_expiry_of_all_blocks_counts() {
    let info = |expires: &str| format!("<info><expires>{expires}</expires></info>");
    let infos = info("2025-08-14T20:00:00-07:00") + &info("2025-08-14T22:00:00-07:00") + &info("tomorrow");
    let draft = one(cap("", &infos)).unwrap();
    assert_eq!(draft.alert.as_deref().unwrap().expires, Some("2025-08-15T05:00:00Z".parse().unwrap()));
    assert_eq!(draft.quality[0].field, "info[2].expires");
}

#[test]
fn each_alert_of_an_envelope_is_a_row_and_only_the_bad_one_is_refused() {
    let good = cap("", "");
    let bad = good.replace("<scope>Public</scope>", "");
    let feed = format!(
        "<feed xmlns='http://www.w3.org/2005/Atom'><entry>{good}</entry><entry>{bad}</entry><entry>{good}</entry></feed>"
    );
    let rows_of_feed = rows(feed).unwrap();
    assert_eq!(rows_of_feed.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    let reject = rows_of_feed[1].as_ref().unwrap_err();
    assert_eq!((reject.row, &reject.raw[..]), (Some(2), bad.as_bytes()));
    assert!(rows("<feed xmlns='http://www.w3.org/2005/Atom'/>").unwrap().is_empty(), "a feed without entries is data");
    let index =
        rows("<feed xmlns='http://www.w3.org/2005/Atom'><entry><id>1</id></entry><entry/></feed>").err().unwrap();
    assert_eq!(index.reason, Reason::NotData);
    assert!(index.detail.contains("none of the 2 <entry>"), "an index of alerts is not taken for none: {index}");
}

#[test]
fn texts_are_kept_as_multimaps_and_transcoded() {
    let parameters = "<info><parameter><valueName>EvacZone</valueName><value>E012</value></parameter>\
        <parameter><valueName>EvacZone</valueName><value>E013</value></parameter><event>Evacuaci\u{f3}n</event></info>";
    let latin: Vec<u8> = format!("<?xml version='1.0' encoding='ISO-8859-1'?>{}", cap("", parameters))
        .chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect();
    let draft = one(latin).unwrap();
    assert_eq!(data(&draft)["info"][0]["parameter"], json!({"EvacZone": ["E012", "E013"]}));
    assert_eq!(data(&draft)["info"][0]["event"], "Evacuación");
    assert_eq!(rows(cap("<note>&secret;</note>", "")).unwrap_err().reason, Reason::Doctype);
}
