//! NWS's alerts as GeoJSON, as `/alerts/active` gives them: each feature one row, with the fields that CAP has under NWS's
//! names [S2]. Most features have no geometry and name zones instead; nothing is joined to them here.

use bytes::Bytes;
use serde_json::Value;

use super::references::one_line;
use super::{Alert, Area, Beside, Info, NWS, NWS_IDS, draft};
use crate::decode::items::Document;
use crate::decode::nws::{Fields, feature};
use crate::decode::{Context, Row, Rows};
use crate::record::{Origin, Quality};

/// What stands in front of a zone's kind and id.
const ZONES: &str = "https://api.weather.gov/zones/";
/// When another message took an alert's place, which that message says itself.
const REPLACED: [&str; 2] = ["replacedBy", "replacedAt"];

pub(super) fn rows<'a>(document: Document<'a>, context: Context<'a>) -> Rows<'a> {
    Box::new(document.enumerate().map(move |(n, item)| match row(&item, context) {
        Ok(mut draft) => {
            draft.origin = Origin::of(item);
            Ok(draft)
        }
        Err(reject) => Err(reject.at_row(n as u64 + 1).with_raw(item)),
    }))
}

pub(super) fn row(item: &Bytes, context: Context<'_>) -> Row {
    let (mut of, geometry) = feature(item)?;
    let info = info(&mut of, geometry);
    let identifier = one_line(&of.required("id")?);
    let sender = if of.has("sender") || !identifier.starts_with(NWS_IDS) {
        one_line(&of.required("sender")?)
    } else {
        of.fault("sender", "is missing: NWS's own stands for it, whose id this is", &Value::Null);
        NWS.to_owned()
    };
    let alert = Alert {
        format: "nws-geojson",
        identifier,
        sender,
        sent: of.required("sent")?,
        status: of.required("status")?,
        msg_type: of.required("messageType")?,
        scope: of.text("scope"),
        code: of.texts("code"),
        note: of.text("note"),
        references: references(&mut of),
        info: vec![info],
        ..Alert::default()
    };
    draft(alert, Beside { quality: of.rest(&REPLACED), ..Beside::default() }, context)
}

fn info(of: &mut Fields, geometry: Value) -> Info {
    let mut geocode = of.multimap("geocode");
    let zones: Vec<String> = of.texts("affectedZones");
    if !zones.is_empty() {
        // County, forecast and fire zones share their codes: the kind stays with it.
        let short = |zone: &String| zone.strip_prefix(ZONES).unwrap_or(zone).to_owned();
        geocode.insert("affectedZones".into(), zones.iter().map(short).collect());
    }
    let area = Area {
        area_desc: of.text("areaDesc"),
        polygon: Some(geometry).filter(|geometry| !geometry.is_null()).into_iter().collect(),
        geocode,
        ..Area::default()
    };
    Info {
        language: of.text("language"),
        category: of.texts("category"),
        event: of.text("event"),
        response_type: of.texts("response"),
        urgency: of.text("urgency"),
        severity: of.text("severity"),
        certainty: of.text("certainty"),
        event_code: of.multimap("eventCode"),
        effective: of.text("effective"),
        onset: of.text("onset"),
        expires: of.text("expires"),
        ends: of.text("ends"),
        sender_name: of.text("senderName"),
        headline: of.text("headline"),
        description: of.text("description"),
        instruction: of.text("instruction"),
        web: of.text("web"),
        parameter: of.multimap("parameters"),
        area: vec![area],
        ..Info::default()
    }
}

/// Objects with sender, identifier and time; as CAP has them: `sender,identifier,sent`.
fn references(of: &mut Fields) -> Vec<String> {
    let told = match of.take("references") {
        None => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(other) => vec![other],
    };
    let mut references = Vec::new();
    for (n, reference) in told.into_iter().enumerate() {
        let part = |name: &str| reference.get(name).and_then(Value::as_str).map(one_line);
        match (part("sender"), part("identifier"), part("sent"), reference.as_str()) {
            (Some(sender), Some(identifier), Some(sent), _) => references.push(format!("{sender},{identifier},{sent}")),
            (.., Some(text)) => references.push(one_line(text)),
            _ => of.quality.push(Quality::new(
                &format!("references[{n}]"),
                "has no sender, identifier and time",
                &reference.to_string(),
            )),
        }
    }
    references
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::decode::{Format, Row};
    use crate::error::Reason;
    use crate::record::{Draft, Geometry, SourceId};
    use crate::time::Timestamp;

    use super::*;

    fn properties() -> Value {
        json!({
            "@id": "https://api.weather.gov/alerts/urn:oid:2.1", "@type": "wx:Alert", "id": "urn:oid:2.1",
            "areaDesc": "North Coast", "geocode": {"SAME": ["006023"], "UGC": ["CAZ203"]},
            "affectedZones": ["https://api.weather.gov/zones/fire/CAZ203"],
            "references": [{"@id": "x", "identifier": "urn:oid:1.1", "sender": "w-nws@noaa.example", "sent": "2026-08-01T03:00:00-07:00"}],
            "sent": "2026-08-01T10:00:00-07:00", "effective": "2026-08-01T10:00:00-07:00", "onset": null,
            "expires": "2026-08-01T18:00:00-07:00", "ends": "2026-08-02T20:00:00-07:00", "status": "Actual",
            "messageType": "Update", "category": "Met", "severity": "Severe", "certainty": "Likely", "urgency": "Expected",
            "event": "Red Flag Warning", "sender": "w-nws@noaa.example", "senderName": "NWS Test", "response": "Prepare",
            "headline": "h", "description": "d", "instruction": null, "parameters": {"VTEC": ["/O.CON/"], "n": [1]},
            "eventCode": {"SAME": ["FWW"]}, "scope": "Public", "code": "IPAWSv1.0"
        })
    }

    fn feature_of(properties: Value, geometry: Value) -> Value {
        json!({"id": "https://api.weather.gov/alerts/urn:oid:2.1", "type": "Feature", "geometry": geometry, "properties": properties})
    }

    fn rows(body: &str) -> Result<Vec<Row>, crate::error::Reject> {
        let source = SourceId::new("noaa_alerts").unwrap();
        let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
        let body = Bytes::from(body.to_owned());
        Format::ALERT.rows(&body, context).map(Iterator::collect)
    }

    fn one(properties: Value, geometry: Value) -> (Draft, Value) {
        let body = json!({"type": "FeatureCollection", "features": [feature_of(properties, geometry)]});
        let draft = rows(&body.to_string()).unwrap().remove(0).unwrap();
        let data = serde_json::from_str(draft.data.json()).unwrap();
        (draft, data)
    }

    #[test]
    fn s2_a_feature_is_the_alert_that_cap_would_tell() {
        let (draft, data) = one(properties(), Value::Null);
        assert_eq!(
            (draft.geometry.clone(), draft.position, draft.quality.len()),
            (None, None, 0),
            "{:?}",
            draft.quality
        );
        let alert = draft.alert.as_deref().unwrap();
        assert_eq!((alert.thread.as_str(), alert.msg_type.as_str()), ("w-nws@noaa.example,urn:oid:1.1", "Update"));
        assert_eq!(alert.expires, "2026-08-02T01:00:00Z".parse().ok());
        assert!(!alert.is_drill());
        let info = &data["info"][0];
        assert_eq!(data["format"], "nws-geojson");
        assert_eq!(data["references"], json!(["w-nws@noaa.example,urn:oid:1.1,2026-08-01T03:00:00-07:00"]));
        assert_eq!(info["area"][0]["geocode"], {
            json!({"SAME": ["006023"], "UGC": ["CAZ203"], "affectedZones": ["fire/CAZ203"]})
        });
        assert_eq!(info["parameter"], json!({"VTEC": ["/O.CON/"], "n": ["1"]}));
        assert_eq!((&info["ends"], &info["onset"]), (&json!("2026-08-02T20:00:00-07:00"), &Value::Null));
        assert_eq!(info["responseType"], json!(["Prepare"]));
    }

    #[test]
    fn e4_a_test_is_a_drill_and_the_geometry_the_alerts() {
        let mut test = properties();
        test["status"] = json!("Test");
        let square = json!([[[-122, 40], [-121, 40], [-121, 41], [-122, 41], [-122, 40]]]);
        let (draft, _) = one(test, json!({"type": "Polygon", "coordinates": square}));
        assert!(draft.alert.as_deref().unwrap().is_drill());
        assert!(matches!(draft.geometry, Some(Geometry::GeoJson(_))) && draft.position.is_some());
    }

    #[test]
    fn s17_one_bad_feature_costs_itself_alone() {
        let mut nameless = properties();
        nameless.as_object_mut().unwrap().remove("sender");
        let mut odd = properties();
        odd["references"] = json!([{"identifier": 1}]);
        odd["surprise"] = json!(1);
        let features = [feature_of(nameless, Value::Null), feature_of(odd, Value::Null), json!(5)];
        let read = rows(&json!({"features": features}).to_string()).unwrap();
        let reject = read[0].as_ref().unwrap_err();
        assert_eq!((reject.reason, reject.row, reject.detail.as_str()), {
            (Reason::MissingField, Some(1), "sender is missing")
        });
        assert_eq!(reject.raw, features[0].to_string(), "its own bytes");
        let said: Vec<_> = read[1].as_ref().unwrap().quality.iter().map(|said| said.field.as_str()).collect();
        assert_eq!(said, ["references[0]", "surprise"]);
        assert_eq!(read[2].as_ref().unwrap_err().reason, Reason::BadJson);
    }

    #[test]
    fn s2_an_alert_of_nws_needs_no_sender() {
        let mut properties = properties();
        properties.as_object_mut().unwrap().remove("sender");
        properties["id"] = json!("urn:oid:2.49.0.1.840.0.0000");
        let (draft, data) = one(properties, Value::Null);
        assert_eq!(data["sender"], NWS);
        assert_eq!(draft.quality[0].field, "sender");
    }

    #[test]
    fn s9_no_alerts_are_none_and_a_problem_is_told_in_its_own_words() {
        assert!(rows(r#"{"type": "FeatureCollection", "features": [], "title": "none"}"#).unwrap().is_empty());
        assert_eq!(rows(&feature_of(properties(), Value::Null).to_string()).unwrap().len(), 1, "a single alert");
        let problem =
            r#"{"title": "Not Found", "type": "urn:noaa:nws:api:NotFound", "status": 404, "detail": "no such zone"}"#;
        let reject = rows(problem).unwrap_err();
        assert_eq!((reject.reason, reject.raw.as_ref()), (Reason::NotData, problem.as_bytes()));
        assert!(reject.detail.contains("no such zone"), "{}", reject.detail);
    }
}
