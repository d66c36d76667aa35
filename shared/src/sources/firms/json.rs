//! FIRMS rows as JSON: an array of objects, as its archive gives them, or GeoJSON features. An object's members are a row's columns and
//! its values the cells, so that a detection is the same as from CSV: how a row is read is in `rows.rs`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::rows::{Reader, Reading, draft};
use super::table::{Header, shorten};
use crate::decode::items::Document;
use crate::decode::{Context, Rows};
use crate::error::{Reason, Reject};
use crate::record::{Origin, Quality};

/// What a row alone has.
const OWN: [&str; 2] = ["properties", "latitude"];

/// The drafts of `body`, object by object.
///
/// # Errors
/// `bad_json`; `not_data` for an object without features.
pub(super) fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let items = Document::read_or_one(body, &["features"], &OWN)
        .and_then(Document::in_degrees)
        .map_err(|reject| reject.with_raw(body.clone()))?;
    let (mut reader, mut header) = (Reader::new(context.source), None);
    Ok(Box::new(items.texts().zip(1..).map(move |((text, bytes), n)| {
        let read = reading(text, &mut reader, &mut header);
        let read = read.and_then(|reading| draft(reading, Origin::of(bytes.clone())));
        read.map_err(|reject| reject.at_row(n).with_raw(bytes))
    })))
}

type Members<'a> = BTreeMap<&'a str, &'a RawValue>;

fn members(text: &str) -> Result<Members<'_>, Reject> {
    serde_json::from_str(text).map_err(|e| {
        Reject::new(Reason::BadJson, format!("a row is no object of values: {:?}: {e}", shorten(text.as_bytes())))
    })
}

fn reading<'a>(
    text: &'a str,
    reader: &mut Reader<'a>,
    header: &mut Option<(Vec<&'a str>, Header)>,
) -> Result<Reading<'a>, Reject> {
    let mut row = members(text)?;
    let (mut quality, mut coordinates) = (Vec::new(), None);
    if let Some(properties) = row.get("properties").copied() {
        coordinates = row.get("geometry").copied().and_then(point);
        row = members(properties.get())?;
    }
    if let Some([longitude, latitude]) = coordinates {
        for (name, told) in [("latitude", latitude), ("longitude", longitude)] {
            let own = row.entry(name).or_insert(told);
            if degrees(own) != degrees(told) {
                quality.push(Quality::new("geometry", &format!("differs from {name}, which is used"), told.get()));
            }
        }
    }
    let names = || row.keys().copied();
    // Neighbouring rows have the same members.
    if !header.as_ref().is_some_and(|(known, _)| known.iter().copied().eq(names())) {
        let columns: Vec<&[u8]> = names().map(str::as_bytes).collect();
        let of_row = Header::named(&columns, b"").ok_or_else(|| {
            let names: Vec<&str> = names().take(20).collect();
            Reject::new(
                Reason::MissingField,
                format!("not the members of a detection: {}", shorten(names.join(", ").as_bytes())),
            )
        })?;
        *header = Some((names().collect(), of_row));
    }
    let Some((_, columns)) = header else {
        return Err(Reject::new(Reason::MissingField, "not the members of a detection"));
    };
    let cells: Vec<&[u8]> = row.values().map(|value| cell(value)).collect();
    let mut read = reader.read(&cells, columns)?;
    read.quality.append(&mut quality);
    Ok(read)
}

/// A point's longitude and latitude.
fn point(geometry: &RawValue) -> Option<[&RawValue; 2]> {
    let members = members(geometry.get()).ok()?;
    let coordinates: Vec<&RawValue> = serde_json::from_str(members.get("coordinates")?.get()).ok()?;
    match coordinates[..] {
        [longitude, latitude, ..] => Some([longitude, latitude]),
        _ => None,
    }
}

fn degrees(value: &RawValue) -> Option<f64> {
    std::str::from_utf8(cell(value)).ok()?.parse().ok()
}

/// A value as a table's cell: a text by its characters, null as an empty one, anything else as it is written.
fn cell(value: &RawValue) -> &[u8] {
    match value.get() {
        "null" => b"",
        text => {
            let plain = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            plain.unwrap_or(text).trim().as_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::FORMAT;
    use super::*;
    use crate::record::{Draft, SourceId};
    use crate::time::Timestamp;

    fn decode(body: &str) -> Result<Vec<Result<Draft, Reject>>, Reject> {
        let source = SourceId::new("firms_modis").unwrap();
        let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
        FORMAT.rows(&Bytes::copy_from_slice(body.as_bytes()), context).map(Iterator::collect)
    }

    const TABLE: &str = "latitude,longitude,acq_date,acq_time,bright_t31,brightness,confidence,daynight,frp,instrument,satellite,scan,track,version\n\
        31.3283,-93.92654,2025-06-01,0306,291.62,303.7,56,N,7.09,MODIS,Terra,1.19,1.08,6.1NRT\n";
    const OBJECT: &str = r#"{"latitude": 31.3283, "longitude": -93.92654, "acq_date": "2025-06-01", "acq_time": "0306",
        "track": 1.08, "version": "6.1NRT", "bright_t31": 291.62, "confidence": "56", "frp": 7.09, "satellite": "Terra",
        "instrument": "MODIS", "brightness": 303.7, "scan": 1.19, "daynight": "N"}"#;
    const FEATURE: &str = r#"{"geometry": {"coordinates": [-93.92654, 31.3283, 2], "type": "Point"}, "type": "Feature", "properties":
        {"acq_date": "2025-06-01", "acq_time": "0306", "track": "1.08", "version": "6.1NRT", "bright_t31": "291.62",
        "confidence": "56", "frp": "7.09", "satellite": "Terra", "instrument": "MODIS", "brightness": "303.7", "scan": "1.19",
        "daynight": "N"}}"#;

    #[test]
    fn s12_a_detection_is_the_same_through_every_door() {
        let table = decode(TABLE).unwrap().remove(0).unwrap();
        for body in [
            format!("[{OBJECT}]"),
            OBJECT.to_owned(),
            format!(r#"{{"type": "FeatureCollection", "features": [{FEATURE}]}}"#),
            FEATURE.to_owned(),
        ] {
            let draft = decode(&body).unwrap().remove(0).unwrap();
            assert_eq!((draft.event, draft.content, &draft.data), (table.event, table.content, &table.data), "{body}");
            assert!(draft.quality.is_empty(), "{:?}", draft.quality);
        }
    }

    #[test]
    fn s9_a_fault_costs_its_row_alone() {
        let null = OBJECT.replace("7.09", "null").replace("\"version\"", "\"odd\": true, \"version\"");
        let rows =
            decode(&format!("[{OBJECT}, [{OBJECT}], 5, {{\"a\": 1}}, {null}, {}]", OBJECT.replace("31.3283", "91")))
                .unwrap();
        let reasons: Vec<_> = rows.iter().map(|row| row.as_ref().err().map(|reject| reject.reason)).collect();
        let bad = Some(Reason::BadJson);
        assert_eq!(reasons, [None, bad, bad, Some(Reason::MissingField), None, Some(Reason::BadLatitude)]);
        assert_eq!((rows[2].as_ref().unwrap_err().row, &rows[2].as_ref().unwrap_err().raw[..]), (Some(3), &b"5"[..]));
        let notes: Vec<_> = rows[4].as_ref().unwrap().quality.iter().map(|quality| quality.field.as_str()).collect();
        assert_eq!(notes, ["frp", "odd"]);
        let elsewhere = FEATURE.replace("\"acq_date\"", "\"latitude\": \"31.4\", \"acq_date\"");
        assert_eq!(decode(&elsewhere).unwrap()[0].as_ref().unwrap().quality.len(), 1);
        assert_eq!(decode("[]").unwrap().len() + decode(r#"{"features": []}"#).unwrap().len(), 0);
        assert_eq!(decode("{'features': []}").err().unwrap().reason, Reason::BadJson);
    }
}
