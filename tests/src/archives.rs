//! What archives tell, for the double of `stations.rs`: days of FIRMS, years of CAL FIRE, a table by ranges of bytes, and the history
//! of PurpleAir's sensors.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use streammanager::time::Timestamp;

use crate::stations::{KEY, Measured};

/// A status, headers and a body.
pub(crate) type Answer = (u16, Vec<(String, String)>, String);

/// The last day that FIRMS has of its standard products.
pub const FIRMS_LAST: &str = "2026-05-31";

/// A fire each day at noon.
pub(crate) fn firms(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    let (Some(key), Some(product)) = (parts.get(4), parts.get(5)) else { return "Invalid API call.".into() };
    if *key != KEY {
        return "Invalid MAP_KEY.".into();
    }
    if parts.get(2) == Some(&"data_availability") {
        return format!("data_id,min_date,max_date\n{product},2012-01-20,{FIRMS_LAST}\n");
    }
    let (Some(days), Some(first)) = (parts.get(7), parts.get(8)) else { return "Invalid day range.".into() };
    let (days, first): (i64, Timestamp) =
        (days.parse().expect("days"), format!("{first}T12:00:00Z").parse().expect("a day"));
    if !(1..=5).contains(&days) {
        return "Invalid day range. Expects [1..5].".into();
    }
    let mut text = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight,type\n".to_owned();
    for day in 0..days {
        let at = first + std::time::Duration::from_secs(86_400 * day as u64);
        text += &format!("38.5,-120.25,331.2,0.4,0.4,{},1200,N,VIIRS,n,2,290.1,5.5,D,0\n", at.strftime("%Y-%m-%d"));
    }
    text
}

/// Three incidents of a year.
pub(crate) fn calfire(query: &BTreeMap<&str, &str>) -> String {
    let year = query.get("year").copied().unwrap_or("2026");
    let incident = |n: u32| {
        json!({ "type": "Feature", "geometry": { "type": "Point", "coordinates": [-120.25, 37.5] }, "properties": {
            "Name": format!("Test {year} {n} Fire"), "Final": true, "Updated": format!("{year}-09-01T10:00:00Z"), "Started": format!("{year}-07-10T14:10:00Z"),
            "County": "Mariposa", "AcresBurned": 900.0, "Longitude": -120.25, "Latitude": 37.5, "Type": "Wildfire",
            "UniqueId": format!("fec1972c-dcdf-4a1c-a6ae-{year}0000000{n}"), "IsActive": false, "ExtinguishedDate": format!("{year}-08-10T14:10:00Z") } })
    };
    json!({ "type": "FeatureCollection", "features": [incident(1), incident(2), incident(3)] }).to_string()
}

/// So many fires, each of twenty thousand bytes, with line breaks in quotes.
pub fn table(rows: usize) -> String {
    let mut text =
        "FOD_ID,FIRE_NAME,DISCOVERY_DATE,FIRE_SIZE,LATITUDE,LONGITUDE,STATE,COUNTY,COMPLEX_NAME\n".to_owned();
    for n in 1..=rows {
        let long = "a, line\n".repeat(2_500);
        text += &format!("{n},TEST {n},{}.5,12.5,39.5,-121.5,CA,Butte,\"{long}\"\n", 2_451_334 + n);
    }
    text
}

/// The part of a file that was asked for.
pub(crate) fn range(body: &str, headers: &BTreeMap<String, String>, is_cut: bool) -> Answer {
    let tag = format!("\"{}\"", body.len());
    let header = |name: &str, value: String| (name.to_owned(), value);
    let asked = headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let fits = headers.get("if-range").is_none_or(|known| *known == tag);
    let Some((first, last)) = asked.filter(|_| fits) else {
        return (200, vec![header("etag", tag), header("content-length", body.len().to_string())], body.to_owned());
    };
    let (first, last): (usize, usize) = (first.parse().expect("a number"), last.parse().expect("a number"));
    if first >= body.len() {
        return (
            416,
            vec![header("etag", tag), header("content-range", format!("bytes */{}", body.len()))],
            String::new(),
        );
    }
    let last = last.min(body.len() - 1);
    let part = &body[first..=last];
    let range = header("content-range", format!("bytes {first}-{last}/{}", body.len()));
    (206, vec![header("etag", tag), range], if is_cut { &part[..part.len() / 2] } else { part }.to_owned())
}

/// What a sensor has measured, the newest first, the end not included.
pub(crate) fn purpleair(path: &str, query: &BTreeMap<&str, &str>, measured: &[Measured]) -> String {
    let sensor = path.trim_end_matches("/history").rsplit('/').next().unwrap_or_default();
    let bound = |name: &str| query[name].parse::<i64>().expect("seconds since 1970");
    let (from, to) = (bound("start_timestamp"), bound("end_timestamp"));
    assert!(to - from <= 30 * 86_400, "more than thirty days were asked for");
    let fields: Vec<&str> = std::iter::once("time_stamp").chain(query["fields"].split(',')).collect();
    let mut rows: Vec<&Measured> =
        measured.iter().filter(|one| one.id == sensor && (from..to).contains(&one.at.as_second())).collect();
    rows.sort_by_key(|one| (one.at.as_second() / 600 % 7, std::cmp::Reverse(one.at)));
    let value = |one: &Measured, field: &str| match field {
        "time_stamp" => one.at.as_second().into(),
        "latitude" => 38.5.into(),
        "longitude" => (-120.25).into(),
        "pm2.5_atm" | "pm2.5_atm_a" | "pm2.5_atm_b" => one.value.into(),
        "temperature" => 86.into(),
        _ => Value::Null,
    };
    let rows: Vec<Value> = rows.iter().map(|one| fields.iter().map(|field| value(one, field)).collect()).collect();
    json!({"api_version": "V1.0.11-0.0.41", "time_stamp": to + 60, "sensor_index": sensor.parse::<u64>().expect("an index"),
        "start_timestamp": from, "end_timestamp": to, "average": bound("average"), "fields": fields, "data": rows})
    .to_string()
}
