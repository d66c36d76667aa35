//! AirNow's three forms, and what each says of a value that is not there.

use bytes::Bytes;
use serde_json::{Value, json};

use super::FORMAT;
use crate::decode::{Context, Row};
use crate::error::{Reason, Reject};
use crate::record::{Draft, SourceId};

fn read(body: &str) -> Result<Vec<Row>, Reject> {
    read_bytes(body.as_bytes().to_vec())
}

fn read_bytes(body: Vec<u8>) -> Result<Vec<Row>, Reject> {
    let source = SourceId::new("airnow_observations").unwrap();
    let received_at = "2026-08-01T21:30:00Z".parse().unwrap();
    FORMAT
        .rows(&Bytes::from(body), Context { source: &source, received_at, topic: None, message: None })
        .map(Iterator::collect)
}

fn drafts(body: &str) -> Vec<Draft> {
    read(body).unwrap().into_iter().map(Result::unwrap).collect()
}

fn data(draft: &Draft) -> Value {
    serde_json::from_str(draft.data.json()).unwrap()
}

fn said(draft: &Draft) -> Vec<String> {
    draft.quality.iter().map(|quality| format!("{}: {}", quality.field, quality.problem)).collect()
}

const HEADER: &str = "\"AQSID\",\"SiteName\",\"Status\",\"EPARegion\",\"Latitude\",\"Longitude\",\"Elevation\",\"GMTOffset\",\"CountryCode\",\
    \"StateName\",\"ValidDate\",\"ValidTime\",\"DataSource\",\"ReportingArea_PipeDelimited\",\"OZONE_AQI\",\"PM10_AQI\",\"PM25_AQI\",\
    \"NO2_AQI\",\"OZONE_Measured\",\"PM10_Measured\",\"PM25_Measured\",\"NO2_Measured\",\"PM25\",\"PM25_Unit\",\"OZONE\",\"OZONE_Unit\",\
    \"NO2\",\"NO2_Unit\",\"CO\",\"CO_Unit\",\"SO2\",\"SO2_Unit\",\"PM10\",\"PM10_Unit\"";

/// A row by its id and status, the four indices, the four flags, and the values with their units.
fn site(id: &str, status: &str, aqi: [&str; 4], measured: [&str; 4], values: [&str; 12]) -> String {
    let head = [
        id,
        "Test, Site",
        status,
        "R9",
        "38.5",
        "-120.25",
        "30.5",
        "-8",
        "US",
        "CA",
        "08/01/2026",
        "20:00",
        "District",
        "A|B",
    ];
    let cells = head.iter().chain(&aqi).chain(&measured).chain(&values);
    cells.map(|cell| format!("\"{cell}\"")).collect::<Vec<_>>().join(",")
}

#[test]
fn s17_an_hours_value_is_one_event_in_each_of_the_three_forms() {
    let by_parameter = drafts("08/01/26|20:00|060999999|Test, Site|-8|PM2.5|UG/M3|12.3|District\n");
    let values = ["12.3", "UG/M3", "", "", "", "", "", "", "", "", "", ""];
    let row = site("840060999999", "Active", ["", "", "57", ""], ["0", "0", "1", "0"], values);
    let by_site = drafts(&format!("{HEADER}\r\n{row}\r\n"));
    let api = drafts(
        r#"[{"Latitude": 38.5, "Longitude": -120.25, "UTC": "2026-08-01T20:00", "Parameter": "PM2.5", "Unit": "UG/M3", "Value": 12.3,
            "RawConcentration": 13.0, "AQI": 57, "Category": 2, "SiteName": "Test, Site", "AgencyName": "District", "FullAQSCode": "060999999",
            "IntlAQSCode": "840060999999"}]"#,
    );
    for (drafts, format) in [(&by_parameter, "hourly-data"), (&by_site, "hourly-aqobs"), (&api, "api")] {
        let [draft] = &drafts[..] else { panic!("{format}: {drafts:?}") };
        assert_eq!(draft.event, by_parameter[0].event, "{format}");
        assert_eq!(draft.observed_at, "2026-08-01T20:00:00Z".parse().unwrap());
        let data = data(draft);
        for (field, value) in [
            ("format", json!(format)),
            ("site_id", json!("060999999")),
            ("parameter", json!("PM2.5")),
            ("state", json!("measured")),
            ("value", json!(12.3)),
            ("unit", json!("ug/m3")),
        ] {
            assert_eq!(data[field], value, "{format}");
        }
        assert_eq!((said(draft), draft.position.is_some()), (Vec::new(), format != "hourly-data"), "{format}");
    }
    assert_eq!((&data(&by_site[0])["aqi"], &data(&by_site[0])["site_status"]), (&json!(57.0), &json!("active")));
    assert_eq!(data(&api[0])["raw_value"], 13.0);
}

/// Nothing, zero, not measured and inactive are four things.
#[test]
fn s17_empty_zero_not_measured_and_inactive_are_told_apart() {
    for empty in ["", " \r\n", "\u{feff}"] {
        let reject = read(empty).unwrap_err();
        assert!(reject.reason == Reason::NotData && reject.detail.contains("says nothing of its hour"), "{reject}");
    }
    assert!(read("[]").unwrap().is_empty() && read(HEADER).unwrap().is_empty());
    let none = [""; 12];
    let zero = ["0.0", "UG/M3", "", "PPB", "", "", "", "", "", "", "", ""];
    let rows = [
        site("060000001", "Active", [""; 4], ["1", "0", "1", "0"], zero),
        site("060000002", "Active", [""; 4], ["0"; 4], none),
        site("060000003", "Inactive", [""; 4], ["0"; 4], none),
        site("060000004", "Odd", ["", "", "5", ""], ["0", "0", "0", "0"], none),
    ];
    let read = drafts(&format!("{HEADER}\n{}\n", rows.join("\n")));
    let told: Vec<Value> = read
        .iter()
        .map(|draft| {
            let data = data(draft);
            json!([data["site_id"], data["site_status"], data["parameter"], data["state"], data["value"]])
        })
        .collect();
    assert_eq!(
        told,
        [
            json!(["060000001", "active", "PM2.5", "measured", 0.0]),
            json!(["060000001", "active", "OZONE", "missing", null]),
            json!(["060000002", "active", null, "not_measured", null]),
            json!(["060000003", "inactive", null, "not_measured", null]),
            json!(["060000004", "unknown", "PM2.5", "missing", null]),
        ]
    );
    let odd =
        ["site_status: is neither Active nor Inactive", "state: a value is told of what the site does not measure"];
    let mut of_odd = said(&read[4]);
    of_odd.sort();
    assert_eq!(of_odd, odd);
    assert_eq!(said(&read[2]), Vec::<String>::new());
}

#[test]
fn s9_values_are_in_one_unit_and_what_stands_for_none_is_null_and_said() {
    let lines = [
        "OZONE|PPB|41",
        "OZONE|PPM|0.041",
        "CO|PPM|0.3",
        "TEMP|C|-3.5",
        "BARPR|MILLIBAR|1013.2",
        "WS|M/S|3.1",
        "PM2.5|UG/M3|-999",
        "PM2.5|UG/M3|-0.4",
        "TEMP|C|-999",
        "PM10|PPB|5",
        "PM10||5",
        "PM10|UG/M3|",
        "PM10|UG/M3|much",
        "CO|PPM|1e306",
        "BC|UG/M3|0.7",
    ];
    let text: String =
        lines.iter().enumerate().map(|(n, line)| format!("08/01/26|{n:02}:00|060999999|T|-8|{line}|D\n")).collect();
    let told: Vec<(Value, Value, Vec<String>)> = drafts(&text)
        .iter()
        .map(|draft| (data(draft)["value"].clone(), data(draft)["unit"].clone(), said(draft)))
        .collect();
    let good = |value: f64, unit: &str| (json!(value), json!(unit), Vec::new());
    let none = |unit: &str, said: &str| (Value::Null, json!(unit), vec![said.to_owned()]);
    assert_eq!(
        told,
        [
            good(41.0, "ppb"),
            good(41.0, "ppb"),
            good(300.0, "ppb"),
            good(-3.5, "degC"),
            good(1013.2, "hPa"),
            good(3.1, "m/s"),
            none("ug/m3", "value: stands for a value that is missing"),
            none("ug/m3", "value: stands for a value that is missing"),
            none("degC", "value: stands for a value that is missing"),
            none("ug/m3", "value: its unit \"PPB\" is not understood"),
            none("ug/m3", "value: its unit is not told"),
            (Value::Null, json!("ug/m3"), Vec::new()),
            none("ug/m3", "value: is not a number"),
            none("ppb", "value: cannot be right"),
            (
                json!(0.7),
                json!("UG/M3"),
                vec!["parameter: is not known here: its value stands in the unit as sent".into()]
            ),
        ]
    );
}

#[test]
fn s9_a_bad_row_costs_itself_and_every_odd_thing_is_named() {
    let mut bytes = b"08/01/26|20:00|060999999|Ca\xf1on|-8|PM2.5|UG/M3|1|D\n".to_vec();
    bytes.extend_from_slice(
        b"08/01/26|20:00|060999999|T|-8|PM2.5|UG/M3\n13/41/26|20:00|060999999|T|-8|PM2.5|UG/M3|1|D\n08/01/26|20:00||T|-8|PM2.5|UG/M3|1|D\n\n\
        08/01/26|20:00|60999999|T|-8|PM2.5|UG/M3|1|D",
    );
    let rows = read_bytes(bytes).unwrap();
    assert_eq!(data(rows[0].as_ref().unwrap())["site_name"], "Cañon");
    let reasons: Vec<_> = rows[1..4].iter().map(|row| row.as_ref().unwrap_err().reason).collect();
    assert_eq!(reasons, [Reason::ShortRow, Reason::BadTime, Reason::MissingField]);
    let short = rows[1].as_ref().unwrap_err();
    assert_eq!((short.row, &short.raw[..]), (Some(2), &b"08/01/26|20:00|060999999|T|-8|PM2.5|UG/M3"[..]));
    let padded = rows[4].as_ref().unwrap();
    assert_eq!(
        (data(padded)["site_id"].clone(), said(padded)),
        (json!("060999999"), vec!["site_id: has lost its leading zero".to_owned()])
    );

    let api = read(
        r#"[{"UTC": "2026-08-01T20:00", "Parameter": "PM2.5", "Unit": "UG/M3", "Value": -999.0, "AQI": -999, "FullAQSCode": 60999999, "surprise": 1},
            {"UTC": "soon", "Parameter": "PM2.5", "FullAQSCode": "060999999"},
            {"UTC": "2026-08-01T20:00", "Parameter": "PM2.5", "FullAQSCode": "060999999", "Latitude": 95, "Longitude": 0}, 5]"#,
    )
    .unwrap();
    let first = said(api[0].as_ref().unwrap());
    assert_eq!(
        first,
        [
            "site_id: has lost its leading zero",
            "surprise: this field is not understood",
            "value: stands for a value that is missing",
            "aqi: stands for a value that is missing",
        ]
    );
    let reasons: Vec<_> = api[1..].iter().map(|row| row.as_ref().unwrap_err().reason).collect();
    assert_eq!(reasons, [Reason::BadTime, Reason::BadLatitude, Reason::BadJson]);

    let row = site("060000001", "Active", [""; 4], ["1", "0", "0", "0"], [""; 12]).replace("38.5", "380.5");
    let table = read(&format!("{HEADER},\"New\"\n{row},\"x\"\n\"1\",\"2\"\n")).unwrap();
    let (far, short) = (table[0].as_ref().unwrap_err(), table[1].as_ref().unwrap_err());
    assert_eq!((far.reason, short.reason), (Reason::BadLatitude, Reason::ShortRow));
    let header = String::from_utf8(far.header.as_ref().unwrap().to_vec()).unwrap();
    let mended = format!("{header}\n{}", String::from_utf8(far.raw.to_vec()).unwrap().replace("380.5", "38.5"));
    assert_eq!(said(&drafts(&mended)[0]), ["New: this field is not understood"], "as a dead letter has it");
    for other in ["a,b,c\n1,2,3\n", "nothing", r#"{"WebServiceError": [{"Message": "no"}]}"#] {
        assert_eq!(read(other).unwrap_err().reason, Reason::NotData, "{other}");
    }
}
