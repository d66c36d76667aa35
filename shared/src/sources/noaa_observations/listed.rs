//! METAR reports as aviationweather.gov lists them in tables and as XML, also in the files that it makes for everybody: the same
//! reports as in its JSON, under its names of them [S2, S8].

use bytes::Bytes;
use memchr::memmem;
use serde_json::{Map, Value, json};

use super::aviation;
use crate::decode::nws::Fields;
use crate::decode::table::{Table, TableRow};
use crate::decode::{Context, Row, Rows, xml};
use crate::error::{Reason, Reject};
use crate::record::Origin;
use crate::time::Timestamp;

/// The column that such a table begins with.
const FIRST: &[u8] = b"raw_text,";
/// Its name of a report, and JSON's.
const NAMES: [(&str, &str); 5] = [
    ("raw_text", "rawOb"),
    ("observation_time", "obsTime"),
    ("latitude", "lat"),
    ("longitude", "lon"),
    ("elevation_m", "elev"),
];
/// What the report says itself, as the service has read it.
const READ: [&str; 36] = [
    "station_id",
    "temp_c",
    "dewpoint_c",
    "wind_dir_degrees",
    "wind_speed_kt",
    "wind_gust_kt",
    "visibility_statute_mi",
    "altim_in_hg",
    "sea_level_pressure_mb",
    "quality_control_flags",
    "corrected",
    "auto",
    "auto_station",
    "maintenance_indicator",
    "maintenance_indicator_on",
    "no_signal",
    "lightning_sensor_off",
    "freezing_rain_sensor_off",
    "present_weather_sensor_off",
    "wx_string",
    "sky_condition",
    "sky_cover",
    "cloud_base_ft_agl",
    "flight_category",
    "three_hr_pressure_tendency_mb",
    "maxT_c",
    "minT_c",
    "maxT24hr_c",
    "minT24hr_c",
    "precip_in",
    "pcp3hr_in",
    "pcp6hr_in",
    "pcp24hr_in",
    "snow_in",
    "vert_vis_ft",
    "metar_type",
];

/// Where a table's header line begins; before it the service may tell in lines of their own that nothing went wrong.
pub(super) fn header(body: &[u8]) -> Option<usize> {
    memmem::find_iter(body, FIRST).find(|at| *at == 0 || matches!(body[at - 1], b'\n' | b'\r' | 0xbf))
}

/// A table whose header line begins there.
pub(super) fn table<'a>(body: &'a Bytes, header: usize, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let rows = Table::read_from(body, header)?.map(move |row| {
        let TableRow { row, origin, values, quality } = row?;
        let (raw, header) = (origin.raw.clone(), origin.header.clone());
        let mut fields = fields(values);
        fields.quality = quality;
        let read = aviation::report(fields, origin, context);
        read.map_err(|reject| Reject { header, ..reject.at_row(row).with_raw(raw) })
    });
    Ok(Box::new(rows))
}

/// Whether XML may be the service's, or a report of it, as a dead letter has it.
pub(super) fn is_response(body: &[u8]) -> bool {
    [&b"<response"[..], b"<METAR"].iter().any(|tag| memmem::find(body, tag).is_some())
}

/// # Errors
/// `bad_xml`, `doctype`; `not_data` for XML of another kind.
pub(super) fn elements<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let text = xml::text(body)?;
    let document = xml::read(&text, |_, name| name == "METAR")?;
    if document.found.is_empty() && document.root != "response" {
        let detail = format!("neither METAR reports nor a response: its root is {:?}", document.root);
        return Err(Reject::new(Reason::NotData, detail));
    }
    let row = |(n, found): (u64, xml::Found)| {
        let raw = Bytes::from(text[found.span].to_owned());
        let value = |child: &xml::Element| (child.name.clone(), Value::from(child.text.trim()));
        let values: Map<String, Value> = found.element.children.iter().map(value).collect();
        let read = aviation::report(fields(values), Origin::of(raw.clone()), context);
        read.map_err(|reject| reject.at_row(n).with_raw(raw))
    };
    let rows: Vec<Row> = (1..).zip(document.found).map(row).collect();
    Ok(Box::new(rows.into_iter()))
}

/// The values under JSON's names, without those that say nothing or repeat the report.
fn fields(values: Map<String, Value>) -> Fields {
    let named = values.into_iter().filter_map(|(name, value)| {
        let plain = name.split(" given again").next().unwrap_or_default();
        let text = value.as_str().unwrap_or_default().trim();
        if text.is_empty() || READ.contains(&plain) {
            return None;
        }
        Some(match NAMES.iter().find(|(theirs, _)| *theirs == name) {
            Some((_, "obsTime")) => {
                let at = text.parse::<Timestamp>().map_or(Value::from(text), |at| json!(at.as_second()));
                ("obsTime".to_owned(), at)
            }
            Some((_, ours)) => ((*ours).to_owned(), text.into()),
            None => (name, text.into()),
        })
    });
    let mut named: Map<String, Value> = named.collect();
    // No place has these: the service writes them where it knows none.
    if ["lat", "lon"].iter().all(|axis| named.get(*axis).is_some_and(|degrees| degrees == "-99.99")) {
        named.remove("lat");
        named.remove("lon");
    }
    Fields::new(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Draft, SourceId};
    use crate::sources::noaa_observations::FORMAT;

    const REPORT: &str = "KTST 051056Z 25007KT 10SM FEW002 OVC014 14/11 A2999 RMK AO2 SLP156";
    const HEADER: &str = "raw_text,station_id,observation_time,latitude,longitude,temp_c,sky_cover,cloud_base_ft_agl,sky_cover,cloud_base_ft_agl,elevation_m";

    fn rows(body: &str) -> Result<Vec<Row>, Reject> {
        let source = SourceId::new("noaa_observations").unwrap();
        let received_at = "2026-07-05T11:05:00Z".parse().unwrap();
        let context = Context { source: &source, received_at, topic: None, message: None };
        FORMAT.rows(&body.to_owned().into(), context).map(Iterator::collect)
    }

    fn one(body: &str) -> Draft {
        rows(body).unwrap().remove(0).unwrap()
    }

    fn element(report: &str, beside: &str) -> String {
        format!(
            "<METAR><raw_text>{report}</raw_text><station_id>KTST</station_id><observation_time>2026-07-05T10:56:00Z</observation_time>\
             <latitude>37.5</latitude><longitude>-122.25</longitude><temp_c>14</temp_c><sky_condition sky_cover=\"FEW\"/>{beside}\
             <elevation_m>2</elevation_m></METAR>"
        )
    }

    fn response(inner: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><response version=\"1.3\"><errors/><warnings/><data num_results=\"1\">{inner}</data></response>"
        )
    }

    #[test]
    fn s12_a_report_has_one_id_as_json_as_a_table_and_as_xml() {
        let json =
            format!(r#"[{{"rawOb": "{REPORT}", "obsTime": 1783248960, "lat": 37.5, "lon": -122.25, "elev": 2}}]"#);
        let line = format!("{REPORT},KTST,2026-07-05T10:56:00Z,37.5,-122.25,14,FEW,200,OVC,1400,2");
        let table = format!("No errors\nNo warnings\n4 ms\ndata source=metars\n1 results\n{HEADER}\n{line}\n");
        let first = one(&json);
        assert!(first.quality.is_empty(), "{:?}", first.quality);
        for body in [table, format!("{HEADER}\r\n{line}\r\n"), response(&element(REPORT, ""))] {
            let read = one(&body);
            assert_eq!(
                (read.event, read.content, &read.quality),
                (first.event, first.content, &first.quality),
                "{body}"
            );
            assert_eq!((read.observed_at, &read.geometry), (first.observed_at, &first.geometry));
        }
    }

    #[test]
    fn s9_a_report_that_is_damaged_costs_itself_and_can_be_read_again() {
        let good = format!("{REPORT},KTST,2026-07-05T10:56:00Z,37.5,-122.25,14,FEW,200,,,2");
        let nowhere = format!("{REPORT},KTST,,-99.99,-99.99,14,,,,,");
        let outside = good.replace("37.5", "375");
        let read = rows(&format!("{HEADER}\n{good}\nnothing,KTST\n{outside}\n{nowhere}\n")).unwrap();
        let refused = |at: usize| read[at].as_ref().unwrap_err();
        assert!(read[0].is_ok());
        assert_eq!((refused(1).reason, refused(2).reason), (Reason::ShortRow, Reason::BadLatitude));
        let again = format!("{}\n{}", HEADER, String::from_utf8_lossy(&refused(2).raw).replace("375", "37.5"));
        assert_eq!(refused(2).header.as_deref(), Some(HEADER.as_bytes()));
        assert_eq!(one(&again).event, read[0].as_ref().unwrap().event);
        let said: Vec<_> = read[3].as_ref().unwrap().quality.iter().map(|said| said.field.as_str()).collect();
        assert_eq!(said, ["observed_at", "geometry"]);
        let listed = response(&[element("nothing", ""), element(REPORT, "<more>1</more>")].concat());
        let read = rows(&listed).unwrap();
        assert_eq!(read[1].as_ref().unwrap().quality[0].field, "more");
        let raw = String::from_utf8(read[0].as_ref().unwrap_err().raw.to_vec()).unwrap();
        assert!(one(&raw.replace("nothing", REPORT)).position.is_some(), "as a dead letter has it");
        assert!(rows(&response("")).unwrap().is_empty());
        for (body, reason) in [
            ("<error>down</error>", Reason::NotData),
            ("<response><data><METAR>", Reason::BadXml),
            ("<!DOCTYPE a><response/>", Reason::Doctype),
        ] {
            assert_eq!(rows(body).unwrap_err().reason, reason, "{body}");
        }
    }
}
