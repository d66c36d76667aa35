//! Rows of our own, with all columns of the fourth edition and with few.

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::connect::{Cursor, Single};
use crate::record::Draft;
use crate::sources::Services;
use crate::time::{Timestamp, rfc3339};
use crate::upstream::Response;

fn decode(body: &str) -> Result<Vec<Result<Draft, Reject>>, Reject> {
    let source = SourceId::new("historical_fpa_fod").unwrap();
    let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
    FORMAT.rows(&Bytes::copy_from_slice(body.as_bytes()), context).map(Iterator::collect)
}

const FEW: &str = "STATE,COUNTY,LATITUDE,LONGITUDE,FIRE_SIZE,CAUSE_CODE,CAUSE_DESCR,DISCOVERY_DATE,DISCOVERY_TIME,CONT_DATE,CONT_TIME\n";

fn few(row: &str) -> Result<Draft, Reject> {
    decode(&format!("{FEW}{row}\n")).unwrap().remove(0)
}

fn data(draft: &Draft) -> Value {
    serde_json::from_str(draft.data.json()).unwrap()
}

#[test]
fn s6_a_day_number_is_a_day_and_a_local_time_stays_one() {
    let draft = few("CA, Tulare ,36.5,-118.75,61.0,5.0,Debris Burning,2449773.5,945,2449774.5,1550.0").unwrap();
    let data = data(&draft);
    for (field, value) in [
        ("fire_id", json!("CA,Tulare,36.5,-118.75,2449773.5,945,61.0,5.0")),
        ("discovery_date", json!("1995-02-25")),
        ("discovery_time", json!("0945")),
        ("containment_date", json!("1995-02-26")),
        ("containment_time", json!("1550")),
        ("fire_size_acres", json!(61.0)),
        ("cause_code", json!(5)),
        ("cause", json!("Debris Burning")),
        ("county", json!("Tulare")),
        ("fod_id", json!(null)),
    ] {
        assert_eq!(data[field], value, "{field}");
    }
    assert_eq!(rfc3339(draft.observed_at), "1995-02-25T00:00:00.000Z");
    assert!(draft.quality.is_empty(), "{:?}", draft.quality);
}

#[test]
fn all_columns_with_na_quotes_and_ids() {
    let header = "OBJECTID,FOD_ID,FPA_ID,FIRE_NAME,FIRE_YEAR,DISCOVERY_DATE,DISCOVERY_DOY,FIRE_SIZE,FIRE_SIZE_CLASS,LATITUDE,LONGITUDE,OWNER_CODE,FIPS_NAME,NOTES";
    let body = format!(
        "{header}\n1,7,FS-1,\"SLACK, UPPER\",1999,2451334.5,156,0.37,B,36.4,-115.1,5.0,NA,\n\
         2,8,FS-2,\"\"\"DEER\"\"\",2000,2451632.5,90,NA,F,34.1,-121.4,x,Plumas,late\n"
    );
    let rows: Vec<Draft> = decode(&body).unwrap().into_iter().map(Result::unwrap).collect();
    let [first, second] = [data(&rows[0]), data(&rows[1])];
    assert_eq!(
        [&first["fire_id"], &first["fire_name"], &first["fips_name"]],
        [&json!("7"), &json!("SLACK, UPPER"), &json!(null)]
    );
    assert!(rows[0].quality.is_empty(), "{:?}", rows[0].quality);
    assert_eq!(
        [&second["fire_name"], &second["fire_size_acres"], &second["owner_code"]],
        [&json!("\"DEER\""), &json!(null), &json!(null)]
    );
    let notes: Vec<_> = rows[1].quality.iter().map(|quality| quality.field.as_str()).collect();
    assert_eq!(notes, ["DISCOVERY_DOY", "owner_code", "NOTES"]);
}

#[test]
fn s9_a_fault_costs_its_row_alone_and_a_doubtful_time_is_null() {
    for (row, reason) in [
        ("CA,,91,-118,1,5,x,2449773.5,945,,", Reason::BadLatitude),
        ("CA,,0,0,1,5,x,2449773.5,945,,", Reason::BadLatitude),
        ("CA,,36,W118,1,5,x,2449773.5,945,,", Reason::BadLongitude),
        ("CA,,36,-118,1,5,x,2449773,945,,", Reason::BadTime),
        ("CA,,36,-118,1,5,x,,945,,", Reason::BadTime),
        ("CA,,36,-118,1,5,x,1e300,945,,", Reason::BadTime),
        ("CA,,36,-118,1", Reason::ShortRow),
    ] {
        let refused = few(row).unwrap_err();
        assert_eq!((refused.reason, &refused.raw[..]), (reason, row.as_bytes()), "{row}");
        assert_eq!(refused.header.as_deref(), Some(FEW.trim_end().as_bytes()));
    }
    for (time, read, notes) in
        [("0045", Some("0045"), 0), ("13", None, 1), ("2460", None, 1), ("noon", None, 1), ("", None, 0)]
    {
        let draft = few(&format!("CA,,36,-118,1,5,x,2449773.5,{time},,")).unwrap();
        assert_eq!((data(&draft)["discovery_time"].as_str(), draft.quality.len()), (read, notes), "{time}");
    }
    let dated = few("CA,,36,-118,1,5,x,2/25/1995 0:00:00,945,1995-02-26,").unwrap();
    assert_eq!(
        (&data(&dated)["discovery_date"], &data(&dated)["containment_date"]),
        (&json!("1995-02-25"), &json!("1995-02-26"))
    );
    assert_eq!(decode("latitude,longitude,acq_date\n1,2,3\n").err().unwrap().reason, Reason::NotData);
    assert_eq!(decode(FEW).unwrap().len(), 0);
}

/// Where nobody says how long a whole file is, a line that does not end says that it was cut.
#[test]
fn s6_a_whole_file_of_unknown_length_is_whole_where_its_last_line_ends() {
    let config = serde_json::from_value(json!({"url": "https://files.test/fires.csv"})).unwrap();
    let source = SourceId::new("historical_fpa_fod").unwrap();
    let table = connector(config, source, &Services::default()).unwrap();
    let body = format!("{FEW}CA,Tulare,36.5,-118.75,61.0,5.0,Debris Burning,2449773.5,945,2449774.5,1550.0\n");
    let whole = body.len().to_string();
    for (length, cut, is_whole) in
        [(None, 0, true), (None, 5, false), (Some(&whole), 0, true), (Some(&whole), 1, false)]
    {
        let headers = length.into_iter().map(|length| ("content-length".to_owned(), length.clone())).collect();
        let body = Bytes::from(body[..body.len() - cut].to_owned());
        let response = Response { status: 200, headers, body, elapsed: std::time::Duration::ZERO };
        let fetched = table.absorb(&Cursor::default(), response, Timestamp::UNIX_EPOCH);
        assert_eq!(fetched.is_ok(), is_whole, "{length:?} without {cut}: {fetched:?}");
    }
}

#[test]
fn s9_a_cell_without_a_value_is_none_however_a_program_writes_it() {
    for nothing in ["", "NA", "nan", "NULL", "None"] {
        let draft =
            few(&format!("CA,Tulare,{nothing},{nothing},61.0,5.0,Arson,2449773.5,945,{nothing},{nothing}")).unwrap();
        assert!(draft.position.is_none() && data(&draft)["containment_date"].is_null(), "{nothing}");
    }
}
