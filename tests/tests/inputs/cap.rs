//! CAP with the features that senders use [E4, E5].

use bytes::Bytes;
use serde_json::{Value, json};
use streammanager::decode::{Context, Format, Row};
use streammanager::error::{Reason, Reject};
use streammanager::record::{Draft, Geometry, SourceId};
use streammanager::time::Timestamp;
use streammanager_tests::generated::cap::{SENDER, alert, chain, evacuation, feeds};

fn rows(body: impl Into<Vec<u8>>) -> Result<Vec<Row>, Reject> {
    let source = SourceId::new("evacuation_alert_sample").unwrap();
    let body = Bytes::from(body.into());
    let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
    Format::ALERT.rows(&body, context).map(Iterator::collect)
}

fn one(body: impl Into<Vec<u8>>) -> Draft {
    rows(body).unwrap().remove(0).unwrap()
}

#[test]
fn e4_a_chain_of_both_versions_keeps_its_threads_and_everything_that_it_says() {
    let [order, update, cancel, test, error] = chain().map(one);
    let facts = |draft: &Draft| draft.alert.clone().unwrap();
    let thread = format!("{SENDER},H-001");
    for (draft, kind) in [(&order, "Alert"), (&update, "Update"), (&cancel, "Cancel")] {
        assert_eq!((facts(draft).thread.as_str(), facts(draft).msg_type.as_str()), (thread.as_str(), kind));
        assert!(!facts(draft).is_drill());
    }
    assert!(facts(&test).is_drill());
    assert_eq!((facts(&error).thread, facts(&error).msg_type.as_str()), (facts(&test).thread, "Error"));
    assert_eq!(facts(&order).sent, "2026-08-14T21:05:00Z".parse().unwrap());
    assert_eq!(facts(&order).expires, Some("2026-08-15T03:05:00Z".parse().unwrap()));

    let data: Value = serde_json::from_str(order.data.json()).unwrap();
    assert_eq!(data["info"][0]["parameter"]["EvacZone"], json!(["E012", "E013"]));
    assert_eq!(data["info"][0]["description"], "Zones HUM-E012 & HUM-E013, <2 miles from the fire.");
    assert_eq!(data["info"][1]["event"], "Evacuación inmediata");
    assert_eq!(data["info"][0]["area"][0]["geocode"], json!({"SAME": ["006023"], "UGC": ["CAZ102"]}));
    let Some(Geometry::GeoJson(text)) = &order.geometry else { panic!("no geometry") };
    let geometry: Value = serde_json::from_str(text).unwrap();
    assert_eq!(
        geometry["coordinates"].as_array().unwrap().len(),
        3,
        "two polygons and a circle, once for two languages"
    );
    assert!(order.quality.is_empty(), "{:?}", order.quality);
    assert_eq!(cancel.geometry, None, "a geocode alone is not a shape");
}

#[test]
fn e5_every_alert_of_a_feed_is_read_and_utf_16_too() {
    for (name, text, alerts) in feeds() {
        let read = rows(text.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(read.iter().filter(|row| row.is_ok()).count(), alerts, "{name}");
        let wide: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(rows(wide).unwrap().len(), alerts, "{name} in UTF-16");
    }
}

#[test]
fn e5_a_broken_area_is_named_and_a_message_without_its_fields_is_refused() {
    let broken = evacuation("en-US", "Evacuation Immediate")
        .replace("40.80,-123.90 40.70", "91.00,-123.90 40.70")
        .replace("40.75,-123.85 5.0", "40.75,-123.85 -1");
    let draft = one(alert("1.2", "", "B-1", "Actual", "Alert", "", &broken));
    let fields: Vec<&str> = draft.quality.iter().map(|quality| quality.field.as_str()).collect();
    assert_eq!(fields, ["info[0].area[0].polygon[0]", "info[0].area[0].circle[0]"]);
    assert!(draft.geometry.is_some(), "the other polygon stands");

    let whole = alert("1.2", "", "B-2", "Actual", "Alert", "", "");
    for (body, reason) in [
        (whole.replace("<scope>Public</scope>", ""), Reason::MissingField),
        (whole.replace("Actual", "Certain"), Reason::MissingField),
    ] {
        let row = rows(body.clone()).and_then(|mut rows| rows.remove(0));
        assert!(row.is_err(), "{body}");
        let refused = row.unwrap_err().reason;
        assert!(refused == reason || body.contains("Certain"), "{body}: {refused}");
    }
    let hostile = format!("<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>{whole}");
    assert_eq!(rows(hostile).unwrap_err().reason, Reason::Doctype);
}
