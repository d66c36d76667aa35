//! METAR reports as aviationweather.gov gives them in JSON: the report itself is read, as it was sent; of what stands beside it only
//! what a report does not tell, the date and the station's place. What the service has read in it is not taken.

use bytes::Bytes;
use memchr::memmem;

use super::metar::{self, Near, Read};
use crate::decode::nws::{Fields, object};
use crate::decode::sensor::measures::number;
use crate::decode::{Context, Row};
use crate::record::{Data, Geometry, Observation, Origin, Position, Quality};
use crate::sources::identify;
use crate::time::Timestamp;

/// Of what the report says itself, and what the service keeps for itself.
const KNOWN: [&str; 29] = [
    "cover",
    "fltCat",
    "metar_id",
    "icaoId",
    "receiptTime",
    "reportTime",
    "temp",
    "dewp",
    "wdir",
    "wspd",
    "wgst",
    "visib",
    "altim",
    "slp",
    "qcField",
    "wxString",
    "presTend",
    "maxT",
    "minT",
    "maxT24",
    "minT24",
    "precip",
    "pcp3hr",
    "pcp6hr",
    "pcp24hr",
    "snow",
    "vertVis",
    "metarType",
    "clouds",
];
/// The same, that tells how it lies among others.
const HOUSEKEEPING: [&str; 2] = ["mostRecent", "prior"];

/// Whether an item of a list is one, not a feature.
pub(super) fn is_report(item: &Bytes) -> bool {
    memmem::find(item, b"\"rawOb\"").is_some() && memmem::find(item, b"\"properties\"").is_none()
}

pub(super) fn row(item: &Bytes, context: Context<'_>) -> Row {
    report(Fields::new(object(item)?), Origin::of(item.clone()), context)
}

/// A report by its fields.
pub(super) fn report(mut of: Fields, origin: Origin, context: Context<'_>) -> Row {
    let text = of.required("rawOb")?;
    let near = match of.take("obsTime").map(|told| (number(&told), told)) {
        None => Near::Received(context.received_at),
        Some((Ok(Some(seconds)), told)) => match Timestamp::from_second(seconds as i64) {
            Ok(at) => Near::Told(at),
            Err(_) => {
                of.fault("obsTime", "is no time", &told);
                Near::Received(context.received_at)
            }
        },
        Some((_, told)) => {
            of.fault("obsTime", "is no time", &told);
            Near::Received(context.received_at)
        }
    };
    let Read { mut report, observed_at, quality } = metar::read(&text, near)?;
    report.station_name = of.text("name");
    let mut degrees = |name: &str| of.take(name).and_then(|told| number(&told).ok().flatten());
    let position = match (degrees("lat"), degrees("lon")) {
        (Some(latitude), Some(longitude)) => Some(Position::new(latitude, longitude)?),
        _ => None,
    };
    report.elevation_m = degrees("elev").map(Some);
    let mut said = of.rest(&[&KNOWN[..], &HOUSEKEEPING[..]].concat());
    said.splice(..0, quality);
    if position.is_none() {
        said.push(Quality::new("geometry", "is missing: the service tells no place of the station", ""));
    }
    let rank = u8::from(report.corrected == Some(true));
    identify(Observation {
        origin,
        source: context.source.clone(),
        observed_at,
        published_at: None,
        geometry: position.map(Geometry::Point),
        position,
        derived_from: None,
        alert: None,
        data: Data::of(&report)?,
        quality: said,
        rank,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decode::Format;
    use crate::error::Reason;
    use crate::record::{Draft, SourceId};
    use crate::sources::noaa_observations::FORMAT;

    fn rows(format: Format, body: &str) -> Vec<Row> {
        let source = SourceId::new("noaa_observations").unwrap();
        let received_at = "2026-07-05T11:05:00Z".parse().unwrap();
        let context = Context { source: &source, received_at, topic: None, message: None };
        let body = Bytes::from(body.to_owned());
        format.rows(&body, context).unwrap().collect()
    }

    const REPORT: &str = "METAR KTST 051056Z 25007KT 10SM FEW002 OVC014 14/11 A2999 RMK AO2 SLP156";

    fn listed(beside: &str) -> String {
        format!(
            r#"[{{"icaoId": "KTST", "obsTime": 1783248960, "rawOb": "{REPORT}", "qcField": 12, "wdir": 250{beside}}}]"#
        )
    }

    #[test]
    fn s12_a_report_has_one_id_as_text_and_as_json_and_here_a_place() {
        let one = |body: &str| -> Draft { rows(FORMAT, body).remove(0).unwrap() };
        let (json, text) = (
            one(&listed(r#", "lat": 37.5, "lon": -122.25, "elev": 2, "name": "Test, CA""#)),
            one(&format!("{REPORT}\n")),
        );
        assert_eq!((json.event, json.observed_at), (text.event, text.observed_at));
        let at = json.position.unwrap();
        assert_eq!((at.latitude(), at.longitude(), text.position), (37.5, -122.25, None));
        let data: serde_json::Value = serde_json::from_str(json.data.json()).unwrap();
        let told = ["station_name", "elevation_m", "raw_message"].map(|name| data[name].clone());
        assert_eq!(told, [json!("Test, CA"), json!(2.0), json!(REPORT)]);
        assert!(json.quality.is_empty(), "{:?}", json.quality);
    }

    #[test]
    fn s9_what_is_missing_or_broken_is_told_and_costs_its_own_report_alone() {
        let read = rows(
            FORMAT,
            r#"[{"rawOb": "KTST 051056Z 25007KT", "obsTime": "soon", "more": 1}, {"rawOb": "nothing"}, 5]"#,
        );
        let said: Vec<_> = read[0].as_ref().unwrap().quality.iter().map(|said| said.field.as_str()).collect();
        assert_eq!(said, ["observed_at", "obsTime", "more", "geometry"]);
        assert_eq!(read[1].as_ref().unwrap_err().reason, Reason::NotData);
        assert!(read[2].is_err());
        let outside = &rows(FORMAT, &listed(r#", "lat": 375, "lon": -122.25"#))[0];
        assert_eq!(outside.as_ref().unwrap_err().reason, Reason::BadLatitude);
        assert!(rows(FORMAT, "[]").is_empty());
        let alone = String::from_utf8(outside.as_ref().unwrap_err().raw.to_vec()).unwrap();
        assert_eq!(rows(FORMAT, &alone.replace("375", "37.5")).len(), 1, "as a dead letter has it");
    }
}
