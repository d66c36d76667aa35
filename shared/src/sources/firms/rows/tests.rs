#![allow(clippy::unwrap_used)]

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::sources;
use crate::time::rfc3339;

const VIIRS: &str = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight\n";

fn decode(source: &str, body: &str) -> Result<Vec<Result<Draft, Reject>>, Reject> {
    let source = SourceId::new(source).unwrap();
    let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
    rows(&Bytes::copy_from_slice(body.as_bytes()), context).map(Iterator::collect)
}

fn viirs(row: &str) -> Result<Draft, Reject> {
    decode("firms_viirs_snpp", &format!("{VIIRS}{row}\n")).unwrap().remove(0)
}

fn data(draft: &Draft) -> serde_json::Value {
    serde_json::from_str(draft.data.json()).unwrap()
}

#[test]
fn a_row_keeps_the_sources_fields_with_numbers_as_numbers() {
    let draft = viirs("36.35636,-114.91283,323.3,0.65,0.73,2020-09-26,5,N,VIIRS,n,2.0NRT,293.5,1.2e2,N").unwrap();
    assert_eq!(rfc3339(draft.observed_at), "2020-09-26T00:05:00.000Z");
    assert_eq!(draft.position, Some(Position::new(36.35636, -114.91283).unwrap()));
    assert_eq!(draft.source.as_str(), "firms_viirs_snpp");
    assert_eq!(
        data(&draft),
        serde_json::json!({
            "bright_ti4": 323.3, "bright_ti5": 293.5, "frp": 120.0, "scan": 0.65, "track": 0.73,
            "acq_date": "2020-09-26", "acq_time": "0005", "satellite": "N", "instrument": "VIIRS", "confidence": "n",
            "version": "2.0NRT", "daynight": "N",
        })
    );
    assert!(draft.quality.is_empty());
}

#[test]
fn s12_the_event_id_is_the_published_key_and_the_content_is_what_is_published() {
    let draft = viirs(" 36.35636 ,-114.91283,323.3,0.65,0.73,2020-09-26, 0005,N,VIIRS,n,2.0NRT,293.5,3.1,N").unwrap();
    // printf 'firms_viirs_snpp\x1f36.35636\x1f-114.91283\x1f2020-09-26\x1f0005\x1fN' | sha256sum
    assert_eq!(draft.event.to_string(), "80549fdb1a3513b23105417b54dd1a63");
    let revised = viirs("36.35636,-114.91283,323.3,0.65,0.73,2020-09-26,0005,N,VIIRS,h,2.0NRT,293.5,3.1,N").unwrap();
    assert_eq!(revised.event, draft.event);
    assert_ne!(revised.content, draft.content);
    let repeated = viirs("36.35636,-114.91283,323.3,0.65,0.73,2020-09-26,0005,N,VIIRS,n,2.0NRT,293.5,3.1,N").unwrap();
    assert_eq!(repeated.content, draft.content);
}

#[test]
fn s9_a_fault_costs_its_row_alone_and_keeps_its_bytes() {
    let faults = [
        ("91.5,-119,300,1,1,2020-09-26,1006,N,VIIRS,n,2,280,1,N", Reason::BadLatitude),
        (",-119,300,1,1,2020-09-26,1006,N,VIIRS,n,2,280,1,N", Reason::BadLatitude),
        ("nan,-119,300,1,1,2020-09-26,1006,N,VIIRS,n,2,280,1,N", Reason::BadLatitude),
        ("36,-190.25,300,1,1,2020-09-26,1006,N,VIIRS,n,2,280,1,N", Reason::BadLongitude),
        ("36,W119,300,1,1,2020-09-26,1006,N,VIIRS,n,2,280,1,N", Reason::BadLongitude),
        ("36,-119,300,1,1,2020-02-30,1006,N,VIIRS,n,2,280,1,N", Reason::BadTime),
        ("36,-119,300,1,1,26/09/2020,1006,N,VIIRS,n,2,280,1,N", Reason::BadTime),
        ("36,-119,300,1,1,2020-09-26,2460,N,VIIRS,n,2,280,1,N", Reason::BadTime),
        ("36,-119,300,1,1,2020-09-26,2400,N,VIIRS,n,2,280,1,N", Reason::BadTime),
        ("36,-119,300,1,1,2020-09-26,,N,VIIRS,n,2,280,1,N", Reason::BadTime),
        ("36,-119,300,1,1,2020-09-26,00005,N,VIIRS,n,2,280,1,N", Reason::BadTime),
        ("36,-119,300,1,1,2020-09-26,659.5,N,VIIRS,n,2,280,1,N", Reason::BadTime),
        ("36,-119,300,1,1,2020-09-26 10:00:00,659,N,VIIRS,n,2,280,1,N", Reason::BadTime),
        ("0.0,-0.0,300,1,1,2020-09-26,659,N,VIIRS,n,2,280,1,N", Reason::BadLatitude),
        ("36,-119,300,1,1,2020-09-26,1006,N,VIIRS", Reason::ShortRow),
        ("\"36,-119,300,1,1,2020-09-26,1006,N,VIIRS,n,2,280,1,N", Reason::ShortRow),
    ];
    let good = "36,-119,300,1,1,2020-09-26,1006,N,VIIRS,n,2,280,1,N";
    let body: String = faults.iter().map(|(row, _)| format!("{row}\r\n{good}\r\n\r\n")).collect();
    let rows = decode("firms_viirs_snpp", &format!("\u{feff}{}\r\n{body}", VIIRS.trim_end())).unwrap();
    assert_eq!(rows.len(), 2 * faults.len());
    for (i, (raw, reason)) in faults.iter().enumerate() {
        let reject = rows[2 * i].as_ref().unwrap_err();
        let seen = (reject.reason, reject.row, std::str::from_utf8(&reject.raw).unwrap());
        assert_eq!(seen, (*reason, Some(2 * i as u64 + 1), *raw));
        assert!(rows[2 * i + 1].is_ok(), "the row after {raw}");
    }
}

#[test]
fn s9_an_unreadable_optional_number_is_null_with_a_reason_and_never_zero() {
    let draft = viirs("36,-119,,1,1,2020-09-26,1006,N,VIIRS,n,2.0NRT,x,nan,").unwrap();
    let data = data(&draft);
    for field in ["bright_ti4", "bright_ti5", "frp", "daynight"] {
        assert!(data[field].is_null() && data.get(field).is_some(), "{field} in {data}");
    }
    let quality: Vec<_> = draft.quality.iter().map(|q| (q.field.as_str(), q.problem.as_str())).collect();
    let expected =
        [("bright_ti4", "empty"), ("bright_ti5", "not a number"), ("frp", "not a number"), ("daynight", "empty")];
    assert_eq!(quality, expected);
}

#[test]
fn a_column_that_the_product_lacks_is_left_out() {
    let body = "path,row,latitude,longitude,scan,track,acq_date,acq_time,satellite,confidence,daynight\n\
                108,212,40.722322,-73.206394,756,2664,2026-10-06,232,L9,M,D\n";
    let draft = decode("landsat_nrt", body).unwrap().remove(0).unwrap();
    let data = data(&draft);
    assert_eq!((&data["path"], &data["row"]), (&108.into(), &212.into()));
    assert!(data.get("frp").is_none() && data.get("bright_ti4").is_none(), "{data}");
    assert_eq!(draft.source.as_str(), "landsat_nrt");
}

#[test]
fn s1_the_rows_satellite_decides_the_source() {
    let of = |stream: &str, satellite: &str| {
        let row = format!("{VIIRS}36,-119,300,1,1,2020-09-26,1006,{satellite},VIIRS,n,2,280,1,N\n");
        decode(stream, &row).unwrap().remove(0).map(|draft| (draft.source.to_string(), draft.quality.len()))
    };
    for (satellites, id) in [
        ("N|Suomi NPP|S-NPP|SNPP", "firms_viirs_snpp"),
        ("N20|1|NOAA-20", "firms_viirs_noaa20"),
        ("N21|NOAA 21", "firms_viirs_noaa21"),
        ("T|Terra", "firms_modis_terra"),
        ("A|AQUA", "firms_modis_aqua"),
        ("L8|L9|Landsat 9", "landsat_nrt"),
    ] {
        for satellite in satellites.split('|') {
            assert_eq!(of("firms_modis", satellite), Ok((id.to_owned(), 0)), "{satellite}");
        }
    }
    assert_eq!(of("firms_viirs_noaa20", "GOES-18"), Ok(("firms_viirs_noaa20".to_owned(), 1)));
    assert_eq!(of("firms_viirs_noaa20", ""), Ok(("firms_viirs_noaa20".to_owned(), 1)));
    assert_eq!(of("historical_firms", "N"), Ok(("historical_firms".to_owned(), 0)));
    assert_eq!(sources::format_of(&SourceId::new("historical_firms").unwrap()).unwrap().name, "firms");
    assert_eq!(of("iot_smoke", "GOES-18").unwrap_err().reason, Reason::MissingField);
}

#[test]
fn modis_confidence_is_also_a_number() {
    let body = "latitude,longitude,brightness,scan,track,acq_date,acq_time,satellite,confidence,version,bright_t31,frp\n\
                46.483,-81.032,305.5,2.8,1.6,2015-09-17, 0230,T,31,5.0,286,55.3\n";
    let draft = decode("firms_modis", body).unwrap().remove(0).unwrap();
    assert_eq!(data(&draft)["confidence_percent"], 31.0);
    assert_eq!(rfc3339(draft.observed_at), "2015-09-17T02:30:00.000Z");
}

/// The event id of one row of a table with these columns.
fn event(source: &str, columns: &str, row: &str) -> (String, String) {
    let draft = decode(source, &format!("{columns}\n{row}\n")).unwrap().remove(0).unwrap();
    (draft.source.to_string(), draft.event.to_string())
}

#[test]
fn s12_one_detection_has_one_id_through_every_door() {
    let area = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight";
    let archive = "latitude,longitude,brightness,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_t31,frp,daynight,type";
    let daily = "latitude,longitude,brightness,scan,track,acq_date,acq_time,satellite,confidence,version,bright_t31,frp,daynight";
    let snpp = event("firms_viirs_snpp", area, "39.5,-121.1,340.1,0.4,0.4,2024-07-26,659,N,VIIRS,n,2.0NRT,300.1,5.1,D");
    for (columns, row) in [
        (area, "39.50,-121.10,340.1,0.4,0.4,2024-07-26,0659,N,VIIRS,n,2.0NRT,300.1,5.1,D"),
        (area, "39.5,-121.1,340.1,0.4,0.4,2024-07-26,06:59,Suomi NPP,VIIRS,n,2.0NRT,300.1,5.1,D"),
        (area, "39.5,-121.1,340.1,0.4,0.4,2024-07-26 00:00:00,659.0,NPP,VIIRS,n,2.0NRT,300.1,5.1,D"),
        (archive, "39.5,-121.1,340.1,0.4,0.4,2024-07-26,0659,N,VIIRS,n,2,300.1,5.1,D,0"),
        (daily, "39.5,-121.1,340.1,0.4,0.4,2024-07-26, 06:59,N,nominal,2.0NRT,300.1,5.1,D"),
    ] {
        assert_eq!(event("firms_viirs_noaa20", columns, row), snpp, "{row}");
    }
    let terra = event("firms_modis", daily, "46.483,-81.032,305.5,2.8,1.6,2015-09-17, 0230,T,31,5.0,286,55.3,N");
    for satellite in ["T", "Terra", "TERRA"] {
        let row = format!("46.483,-81.032,305.5,2.8,1.6,2015-09-17,02:30,{satellite},31,5.0,286,55.3,N");
        assert_eq!(event("firms_modis_aqua", daily, &row), terra, "{satellite}");
    }
    for satellite in ["1", "1.0", "N20", "J1", "NOAA-20"] {
        let row = format!("39.5,-121.1,340.1,0.4,0.4,2024-07-26,659,{satellite},VIIRS,n,2.0NRT,300.1,5.1,D");
        let first = event("firms_viirs_noaa20", area, &row.replace(&format!(",{satellite},"), ",N20,"));
        assert_eq!(event("firms_viirs_noaa20", area, &row), first, "{satellite}");
    }
}

#[test]
fn s1_the_instrument_says_what_a_column_means_whatever_its_name() {
    let archive = "latitude,longitude,brightness,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_t31,frp,daynight,type\n\
        39.7,-121.6,341.7,0.4,0.4,2018-11-08,1006,N,VIIRS,n,2,295.4,14.7,N,0\n\
        39.7,-121.6,341.7,0.4,0.4,2018-11-08,1006,Aqua,MODIS,81,6.03,295.4,14.7,N,0\n";
    let rows: Vec<_> = decode("firms_viirs_snpp", archive).unwrap().into_iter().map(Result::unwrap).collect();
    assert!(rows.iter().all(|row| row.quality.is_empty()), "{rows:?}");
    let (viirs, modis) = (data(&rows[0]), data(&rows[1]));
    assert_eq!((&viirs["bright_ti4"], &viirs["bright_ti5"]), (&341.7.into(), &295.4.into()));
    assert!(["brightness", "bright_t31", "confidence_percent"].iter().all(|name| viirs.get(name).is_none()), "{viirs}");
    assert_eq!((&modis["brightness"], &modis["confidence_percent"]), (&341.7.into(), &81.0.into()));
    assert!(modis.get("bright_ti4").is_none(), "{modis}");
}

#[test]
fn s1_a_versions_letters_rank_it() {
    let ranks = ["2.0URT", "2.0RT", "2.0NRT", "2", "6.03", "2.0XYZ", ""].map(rank);
    assert_eq!(ranks, [1, 2, 3, 4, 4, 0, 4]);
}

#[test]
fn s9_what_is_not_understood_is_named_and_a_row_number_is_not_content() {
    let table = |number: u32, more: &str, cell: &str| {
        let columns = VIIRS.trim_end();
        let row = "36.5,-119.5,300,1,1,2020-09-26,1006,N,VIIRS,n,2,280,1,N";
        decode("firms_viirs_snpp", &format!(",{columns}{more}\n{number},{row}{cell}\n")).unwrap().remove(0).unwrap()
    };
    let plain = table(0, "", "");
    assert!(plain.quality.is_empty(), "{:?}", plain.quality);
    assert_eq!(plain.content, table(7, "", "").content, "the number of a row made a revision");
    let more = table(0, ",colour", ",red");
    assert_eq!((more.quality[0].field.as_str(), more.quality[0].raw.as_deref()), ("colour", Some("red")));
    assert_eq!(more.content, plain.content, "what is not published made a revision");
    let beyond = table(0, "", ",5,6");
    assert!(beyond.quality[0].problem.contains("17 cells"), "{:?}", beyond.quality);
}

#[test]
fn s1_the_header_line_alone_says_what_is_data() {
    for text in [
        "",
        "\r\n",
        "Invalid MAP_KEY.",
        "Exceeding allowed transaction limit.",
        "<html><body>latitude,longitude,acq_date,acq_time,satellite,frp</body></html>",
        "data_id,min_date,max_date\nMODIS_NRT,2024-01-01,2024-01-15\n",
        "latitude,longitude,acq_date,acq_time,satellite\n1,2,2020-01-01,5,N\n",
    ] {
        assert_eq!(decode("firms_viirs_snpp", text).unwrap_err().reason, Reason::NotData, "{text}");
    }
    assert_eq!(decode("firms_viirs_snpp", VIIRS).unwrap().len(), 0, "a header alone means no fires");
}

#[test]
fn cells_may_be_quoted_and_hold_commas() {
    let row = viirs("\"36\",\"-119\",300,1,1,2020-09-26,1006,N,\"VIIRS, band I\",n,2,280,1,N").unwrap();
    assert_eq!(data(&row)["instrument"], "VIIRS, band I");
}

const ODD: [&[u8]; 26] = [
    b",",
    b"\"",
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"\r\n",
    b"\xff",
    b"\xc3\xa9",
    b"\0",
    b"-",
    b"+",
    b".",
    b"/",
    b":",
    b"e5",
    b"nan",
    b"-0.0",
    b"1e999",
    b"12345678901234567",
    b"\"a,b\"",
    b"NOAA-21",
    b"Terra",
    b"MODIS",
    b"URT",
    b" 00:00:00",
];

/// A line with up to three odd things in it, in a cell's place or lost from it.
fn odd(line: &str, rng: &mut StdRng) -> Vec<u8> {
    let mut line = line.as_bytes().to_vec();
    for _ in 0..rng.random_range(0..4) {
        let at = rng.random_range(0..=line.len());
        let odd = ODD[rng.random_range(0..ODD.len())].iter().copied();
        match rng.random_range(0..4) {
            0 => drop(line.splice(at..at, odd)),
            1 => drop(line.drain(at..(at + 5).min(line.len()))),
            2 => drop(line.splice(at..(at + 1).min(line.len()), [rng.random()])),
            _ => {
                let is_comma = |byte: &u8| *byte == b',';
                let start = line[..at].iter().rposition(is_comma).map_or(0, |comma| comma + 1);
                let end = line[start..].iter().position(is_comma).map_or(line.len(), |cell| start + cell);
                line.splice(start..end, odd);
            }
        }
    }
    line
}

/// What a plain line is read for in one pass, and what is known of the rows before, changes nothing: a row is the same alone and with
/// a blank behind it, which makes it none.
#[test]
fn s9_a_row_is_the_same_among_others_and_alone() {
    let tables = [
        (VIIRS.trim_end(), "36.35636,-114.91283,323.3,0.65,0.73,2020-09-26,5,N,VIIRS,n,2.0NRT,293.5,1.25,N"),
        (VIIRS.trim_end(), "-36.3,114.9,300,0.6,0.7,2020-09-27,2359,N20,VIIRS,h,2.0URT,293.51,-3.1,D"),
        (
            "latitude,longitude,brightness,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_t31,frp,type",
            "46.483,-81.032,305.5,2.8,1.6,2015-09-17,0230,Terra,MODIS,31,6.03,286,55.3,0",
        ),
        (
            "path,row,latitude,longitude,scan,track,acq_date,acq_time,satellite,confidence,daynight",
            "108,212,40.722322,-73.206394,756,2664,2026-10-06,232,L9,M,D",
        ),
    ];
    let (mut rng, source) = (StdRng::seed_from_u64(9), SourceId::new("firms_viirs_snpp").unwrap());
    let read = |body: Vec<u8>| -> Vec<_> {
        let body = Bytes::from(body);
        let read = Readings::new(&body, &source).unwrap();
        read.map(|row| match row {
            Ok(reading) => Ok(format!("{reading:?}")),
            Err(reject) => Err((reject.reason, reject.detail.clone(), reject.raw.trim_ascii_end().to_vec())),
        })
        .collect()
    };
    let (mut sound, mut refused) = (0, 0);
    for n in 0..400 {
        let (header, line) = tables[n % tables.len()];
        let end: &[u8] = [b"\n" as &[u8], b"\r\n", b"\r"][n % 3];
        let lines: Vec<Vec<u8>> = (0..20).map(|_| odd(line, &mut rng)).collect();
        let body = [header.as_bytes(), end, &lines.join(end), &end[n % 2..]].concat();
        let alone = lines.join(&b'\n');
        let alone = alone
            .split(|byte| matches!(byte, b'\n' | b'\r'))
            .flat_map(|line| read([header.as_bytes(), b"\n", line, b" \n"].concat()));
        let (together, alone): (_, Vec<_>) = (read(body.clone()), alone.collect());
        assert_eq!(together, alone, "{}", String::from_utf8_lossy(&body));
        refused += alone.iter().filter(|row| row.is_err()).count();
        sound += alone.iter().filter(|row| row.is_ok()).count();
    }
    assert!(sound > 3_000 && refused > 1_500, "{sound} were read and {refused} refused");
}
