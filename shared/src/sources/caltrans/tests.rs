#![allow(clippy::unwrap_used)]

use super::*;
use crate::connect::{Connector, Cursor, Fetched, Single, SourceError};
use crate::record::{Draft, SourceId};
use crate::sources::Services;
use crate::upstream::Response;
use std::time::Duration;

/// 2026-08-01 at 13:00 in California.
const NOW: i64 = 1_785_614_400;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn decode(body: &str) -> Vec<Row> {
    let source = SourceId::new("caltrans_closures").unwrap();
    let context = Context { source: &source, received_at: now(), topic: None, message: None };
    FORMAT.rows(&body.to_owned().into(), context).unwrap().collect()
}

/// A window from 07:01 to 17:01 that day, as a district's file has it.
fn window() -> Value {
    let code = |code: &str| {
        json!({format!("isCode{code}"): "false", format!("code{code}Timestamp"):
            {format!("code{code}Date"): "", format!("code{code}Time"): "", format!("code{code}Epoch"): ""}})
    };
    json!({"lcs": {"index": "C1TB-0002-2026-08-01-07:01:00",
        "recordTimestamp": {"recordDate": "2026-08-01", "recordTime": "13:00:00", "recordEpoch": NOW.to_string()},
        "location": {"travelFlowDirection": "North / South",
            "begin": {"beginDistrict": "3", "beginLatitude": "38.0", "beginLongitude": "-120.0", "beginRoute": "SR-999",
                "beginRouteSuffix": "", "beginCounty": "Testland", "beginPostmilePrefix": "R", "beginPostmile": "1.5",
                "beginMilepost": "1.5", "beginAlignment": "", "beginElevation": "1000", "beginDirection": "North",
                "beginLocationName": "Test Rd", "beginNearbyPlace": "Test", "beginFreeFormDescription": ""},
            "end": {"endLatitude": "38.1", "endLongitude": "-120.0", "endRoute": "SR-999", "endDistrict": "3"}},
        "closure": {"closureID": "C1TB", "logNumber": "2", "closureTimestamp": {
                "closureStartDate": "2026-08-01", "closureStartTime": "07:01:00", "closureStartEpoch": "1785592860",
                "closureEndDate": "2026-08-01", "closureEndTime": "17:01:00", "closureEndEpoch": "1785628860",
                "isClosureEndIndefinite": "false"},
            "facility": "Conventional Hwy", "typeOfClosure": "Full", "typeOfWork": "Emergency", "durationOfClosure": "Standard",
            "lanesClosed": "All", "totalExistingLanes": "2", "estimatedDelay": "Not Reported", "isCHINReportable": "true",
            "code1097": code("1097"), "code1098": code("1098"), "code1022": code("1022")}}})
}

/// The window with another value at some places, each by its JSON pointer below `lcs`; null takes it away.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut row = window();
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = row.pointer_mut(&format!("/lcs{parent}")).unwrap().as_object_mut().unwrap();
        if value.is_null() { drop(parent.remove(name)) } else { drop(parent.insert(name.to_owned(), value.clone())) }
    }
    row
}

fn file(rows: &[Value]) -> String {
    json!({ "data": rows }).to_string()
}

fn one(row: &Value) -> Draft {
    decode(&file(std::slice::from_ref(row))).remove(0).unwrap()
}

fn data(draft: &Draft) -> Value {
    serde_json::from_str(draft.data.json()).unwrap()
}

fn notes(draft: &Draft) -> Vec<String> {
    draft.quality.iter().map(|note| format!("{} {}", note.field, note.problem)).collect()
}

#[test]
fn s16_a_window_is_read_with_both_its_ends() {
    let draft = one(&window());
    assert_eq!(notes(&draft), [""; 0]);
    let read = data(&draft);
    for (field, value) in [
        ("district", json!(3)),
        ("index", json!("C1TB-0002-2026-08-01-07:01:00")),
        ("status", json!("due")),
        ("starts_at", json!("2026-08-01T14:01:00.000Z")),
        ("ends_at", json!("2026-08-02T00:01:00.000Z")),
        ("end_indefinite", json!(false)),
        ("in_place_at", json!(null)),
        ("direction", json!("North / South")),
        ("lanes_closed", json!("All")),
        ("lanes_existing", json!(2)),
        ("estimated_delay_min", json!(null)),
        ("chin_reportable", json!(true)),
    ] {
        assert_eq!(read[field], value, "{field}");
    }
    let begin = &read["begin"];
    assert_eq!(
        (&begin["route"], &begin["county"], &begin["postmile"]),
        (&json!("SR-999"), &json!("Testland"), &json!("R1.5"))
    );
    assert_eq!((&begin["elevation_ft"], &read["end"]["latitude"]), (&json!(1000.0), &json!(38.1)));
    let line = r#"{"coordinates":[[-120.0,38.0],[-120.0,38.1]],"type":"LineString"}"#;
    assert_eq!(draft.geometry, Some(Geometry::GeoJson(line.into())));
    assert_eq!(draft.position.unwrap().latitude(), 38.0);
    assert_eq!((draft.observed_at.as_second(), draft.lasting), (1_785_592_860, true));
}

#[test]
fn s16_codes_beat_the_clock() {
    let code = |code: &str, value: &str| (format!("/closure/code{code}/isCode{code}"), json!(value));
    let status = |codes: &[(&str, &str)], start: i64, end: i64| {
        let codes: Vec<_> = codes.iter().map(|(name, value)| code(name, value)).collect();
        let mut changes: Vec<(&str, Value)> =
            codes.iter().map(|(path, value)| (path.as_str(), value.clone())).collect();
        changes.push(("/closure/closureTimestamp/closureStartEpoch", json!((NOW + start).to_string())));
        changes.push(("/closure/closureTimestamp/closureEndEpoch", json!((NOW + end).to_string())));
        data(&one(&with(&changes)))["status"].as_str().unwrap().to_owned()
    };
    for (codes, start, end, expected) in [
        (&[][..], 1, 60, "planned"),
        (&[], 0, 60, "due"),
        (&[], -60, 1, "due"),
        (&[], -60, 0, "over"),
        (&[("1097", "true")], 60, 120, "in_place"),
        (&[("1097", "true")], -60_000, -50_000, "in_place"),
        (&[("1097", "true"), ("1098", "true")], -60, 60, "removed"),
        (&[("1098", "true")], 60, 120, "removed"),
        (&[("1022", "true")], -60, 60, "cancelled"),
        (&[("1097", "true"), ("1098", "true"), ("1022", "true")], -60, 60, "cancelled"),
        (&[("1097", "perhaps")], -60, 60, "unknown"),
        (&[("1097", "true"), ("1098", "?")], -60, 60, "unknown"),
        (&[("1097", "?"), ("1098", "true")], -60, 60, "removed"),
        (&[("1022", "?"), ("1098", "true")], -60, 60, "unknown"),
    ] {
        assert_eq!(status(codes, start, end), expected, "{codes:?} {start} {end}");
    }
    let renamed = one(&with(&[("/closure/code1098", Value::Null)]));
    assert_eq!(data(&renamed)["status"], "unknown", "a code that is missing was not denied");
    assert!(notes(&renamed)[0].contains("isCode1098 is missing"), "{:?}", notes(&renamed));
    let open = with(&[
        ("/closure/closureTimestamp/isClosureEndIndefinite", json!("true")),
        ("/closure/closureTimestamp/closureEndEpoch", json!("1785592900")),
    ]);
    assert_eq!(data(&one(&open))["status"], "due", "an open end is no end");
}

#[test]
fn s16_seconds_count_and_dates_only_check_them() {
    let start = |changes: &[(&str, Value)]| {
        let draft = one(&with(changes));
        (data(&draft)["starts_at"].clone(), notes(&draft).join("; "))
    };
    let at = "/closure/closureTimestamp/closureStart";
    let (epoch, day, clock) = (format!("{at}Epoch"), format!("{at}Date"), format!("{at}Time"));
    let told = json!("2026-08-01T14:01:00.000Z");
    assert_eq!(start(&[(&epoch, json!(1_785_592_860))]), (told.clone(), String::new()), "a number is one too");
    assert_eq!(start(&[(&day, json!("")), (&clock, json!(""))]), (told.clone(), String::new()));
    for (name, other) in [(&clock, "08:01:00"), (&day, "2026-08-02"), (&clock, "noon")] {
        let (at, said) = start(&[(name, json!(other))]);
        assert!(at == told && said.contains("says another time"), "{said}");
    }
    for wrong in ["soon", "0", "-5", "1785592860000000", "1.5"] {
        let (at, said) = start(&[(&epoch, json!(wrong))]);
        assert!(at.is_null() && said.contains("no number of seconds"), "{wrong}: {said}");
    }
    let (at, said) = start(&[(&epoch, json!(""))]);
    assert!(at.is_null() && said.contains("only these are taken"), "{said}");
    // 01:30 comes twice that night, and either is what the clocks show.
    for seconds in [1_793_521_800, 1_793_525_400] {
        let changes = [(&*epoch, json!(seconds)), (&*day, json!("2026-11-01")), (&*clock, json!("01:30:00"))];
        assert_eq!(start(&changes).1, "", "{seconds}");
    }
}

#[test]
fn s9_positions_are_in_range_or_missing() {
    let at = |which: &str, latitude: &str, longitude: &str| {
        let name = |axis: &str| format!("/location/{which}/{which}{axis}");
        let changes = [(name("Latitude"), json!(latitude)), (name("Longitude"), json!(longitude))];
        let changes: Vec<(&str, Value)> = changes.iter().map(|(path, value)| (path.as_str(), value.clone())).collect();
        decode(&file(&[with(&changes)])).remove(0)
    };
    for (latitude, longitude, reason) in [
        ("91", "-120", Reason::BadLatitude),
        ("north", "-120", Reason::BadLatitude),
        ("38", "-181", Reason::BadLongitude),
        ("38", "nan", Reason::BadLongitude),
    ] {
        for which in ["begin", "end"] {
            let refused = at(which, latitude, longitude).unwrap_err();
            assert_eq!((refused.reason, refused.row), (reason, Some(1)));
            assert!(refused.detail.starts_with(which) && !refused.raw.is_empty(), "{}", refused.detail);
        }
    }
    for (which, says) in [("begin", "is where it ends"), ("end", "is where it begins")] {
        for (latitude, longitude) in [("", ""), ("0", "0.0"), ("38", "")] {
            let draft = at(which, latitude, longitude).unwrap();
            assert!(matches!(draft.geometry, Some(Geometry::Point(_))), "{which}");
            assert!(notes(&draft).iter().any(|note| note.contains(says)), "{:?}", notes(&draft));
        }
    }
    assert_eq!(at("end", "38.0", "-120.0").unwrap().geometry, Position::new(38.0, -120.0).ok().map(Geometry::Point));
    let nowhere = one(&with(&[("/location", json!({"begin": {"beginDistrict": 3}}))]));
    assert!(nowhere.geometry.is_none() && notes(&nowhere).iter().any(|note| note.contains("neither end")));
}

fn refused(row: &Value) -> Reject {
    decode(&file(std::slice::from_ref(row))).remove(0).unwrap_err()
}

#[test]
fn s9_one_damaged_window_costs_itself_alone() {
    let (sound, missing) = (window().to_string(), with(&[("/index", Value::Null)]));
    assert_eq!(refused(&missing).reason, Reason::MissingField);
    assert_eq!(refused(&json!({"lcs": "closed"})).reason, Reason::BadJson);
    let lost = sound.replacen("\"location\"", "location", 1);
    let rows = decode(&format!("{{\"data\": [{sound}, {lost}, {missing}, {sound} {sound}]}}"));
    let read: Vec<Option<Reason>> = rows.iter().map(|row| row.as_ref().err().map(|reject| reject.reason)).collect();
    assert_eq!(read, [None, Some(Reason::BadJson), Some(Reason::MissingField), None, None]);
    let reject = rows[1].as_ref().unwrap_err();
    assert_eq!((&*reject.raw, reject.row), (lost.as_bytes(), Some(2)));
    let wrong = one(&with(&[("/closure/totalExistingLanes", json!({"a": [1]})), ("/closure/extra", json!("x"))]));
    assert_eq!(notes(&wrong).len(), 2, "what is not understood is named: {:?}", notes(&wrong));
    let alone = decode(&sound).remove(0).unwrap();
    assert_eq!(alone.event, one(&window()).event, "as a dead letter has it");
}

#[test]
fn s12_one_window_is_one_event_whatever_is_reported_of_it() {
    let (first, reported) = (one(&window()), one(&with(&[("/closure/code1097/isCode1097", json!("true"))])));
    assert_eq!(first.event, reported.event);
    assert_ne!(first.content, reported.content);
    let renewed = one(&with(&[("/recordTimestamp/recordEpoch", json!("1785614700"))]));
    assert_eq!(first.content, renewed.content, "a renewed file is no revision");
    let other = one(&with(&[("/location/begin/beginDistrict", json!("4")), ("/location/end/endDistrict", json!("4"))]));
    assert_ne!(first.event, other.event);
}

// ---- The poll ----

fn polls(districts: &[u8]) -> impl Connector + Single {
    let config = Config { districts: districts.to_vec() };
    config.check().unwrap();
    connector(config, SourceId::new("caltrans_closures").unwrap(), &Services::default()).unwrap()
}

fn answer(status: u16, body: String) -> Response {
    let headers = vec![("etag".to_owned(), "\"a\"".to_owned())];
    Response { status, headers, body: body.into(), elapsed: Duration::ZERO }
}

fn made(ago: i64) -> String {
    file(&[with(&[("/recordTimestamp/recordEpoch", json!((NOW - ago).to_string()))])])
}

fn is_conditional(connector: &(impl Connector + Single), cursor: &Cursor) -> bool {
    connector.next(cursor).headers.iter().any(|(name, _)| name == "if-none-match")
}

fn absorbed(connector: &(impl Connector + Single), cursor: &Cursor, response: Response, after: i64) -> Fetched {
    let at = Timestamp::from_second(NOW + after).unwrap();
    connector.absorb(cursor, response, at).unwrap()
}

#[test]
fn s16_a_frozen_an_empty_and_a_quiet_file_are_told_apart() {
    let one = polls(&[3]);
    let quiet = file(&[with(&[("/closure/code1098/isCode1098", json!("true"))])]);
    let first = absorbed(&one, &Cursor::default(), answer(200, quiet), 0);
    assert!(first.body.is_some() && first.problem.is_none(), "a file of closures that are over is a good one");
    assert!(is_conditional(&one, &first.cursor));
    for (body, says, published) in [
        (made(30 * 60), None, true),
        (made(30 * 60 + 1), Some("has not been renewed since 2026-08-01T19:29:59.000Z"), false),
        (made(-400), Some("lies ahead"), true),
        (file(&[]), Some("it is empty, which no district's file is: it is broken"), false),
        (file(&[with(&[("/recordTimestamp", Value::Null)])]), Some("does not say when it was made"), true),
        (r#"{"error": "none"}"#.into(), Some("error: \"none\""), false),
        (made(0).replacen("\"location\"", "location", 1), Some("it is damaged"), true),
    ] {
        let fetched = absorbed(&one, &Cursor::default(), answer(200, body.clone()), 0);
        assert_eq!((fetched.body.is_some(), fetched.problem.is_some()), (published, says.is_some()), "{body:.80}");
        let said = fetched.problem.unwrap_or_default();
        assert!(said.contains(says.unwrap_or_default()) && (says.is_none() || said.starts_with("D03: ")), "{said}");
        assert_eq!(
            is_conditional(&one, &fetched.cursor),
            says.is_none(),
            "{said}: a bad answer's validator is not kept"
        );
    }
    // As it is, for so long that it has stopped.
    for (after, says) in [(30 * 60, false), (30 * 60 + 1, true)] {
        let unchanged = absorbed(&one, &first.cursor, answer(304, String::new()), after);
        assert_eq!(unchanged.problem.is_some_and(|said| said.contains("D03: it has not been renewed")), says);
    }
    let older = absorbed(&one, &first.cursor, answer(200, made(60)), 0);
    assert!(older.body.is_none() && older.problem.unwrap().contains("an older copy"));
    let ahead = absorbed(&one, &Cursor::default(), answer(200, made(-4000)), 0);
    assert!(absorbed(&one, &ahead.cursor, answer(200, made(-60)), 60).body.is_some(), "a wrong time does not last");
}

#[test]
fn s10_each_district_costs_itself_and_is_known_by_its_address() {
    let both = polls(&[3, 11]);
    assert!(both.next(&Cursor::default()).url.reveal().ends_with("/data/d3/lcs/lcsStatusD03.json"));
    let gone = absorbed(&both, &Cursor::default(), answer(404, "none".into()), 0);
    assert!(gone.more && gone.problem.unwrap().starts_with("D03: status 404"));
    assert!(both.next(&gone.cursor).url.reveal().ends_with("/data/d11/lcs/lcsStatusD11.json"));
    let row = with(&[("/location/begin/beginDistrict", Value::Null), ("/location/end/endDistrict", Value::Null)]);
    assert_eq!(refused(&row).reason, Reason::MissingField, "a file alone does not tell it");
    let fetched = absorbed(&both, &gone.cursor, answer(200, format!("\u{feff} {}", file(&[row, window()]))), 0);
    assert!(!fetched.more && fetched.problem.is_none());
    let (source, body) = (SourceId::new("caltrans_closures").unwrap(), fetched.body.unwrap());
    let context = Context { source: &source, received_at: now(), topic: None, message: None };
    let drafts: Vec<Draft> = both.rows(&body, context).unwrap().map(Result::unwrap).collect();
    assert_eq!(drafts.iter().map(|draft| data(draft)["district"].clone()).collect::<Vec<_>>(), [json!(11), json!(3)]);
    assert!(notes(&drafts[1])[0].contains("is not that of its file, 11"), "{:?}", notes(&drafts[1]));
    let down = absorbed(&both, &Cursor::default(), answer(500, String::new()), 0);
    assert!(down.more && down.problem.unwrap().starts_with("D03: status 500"));
    let failed = both.absorb(&down.cursor, answer(500, String::new()), now()).unwrap_err();
    assert!(matches!(failed, SourceError::Failed(said) if said.starts_with("D11")));
    assert!(both.next(&both.failed(&Cursor::default(), Timestamp::UNIX_EPOCH)).url.reveal().ends_with("D11.json"));
}

#[test]
fn s9_a_file_that_was_cut_gives_its_whole_rows_and_says_so() {
    let one = polls(&[3]);
    let whole = file(&[window(), window(), window()]);
    let cut = absorbed(&one, &Cursor::default(), answer(200, whole[..whole.len() - 40].to_owned()), 0);
    assert!(cut.problem.unwrap().contains("it is cut after 2 whole closures"));
    assert!(!is_conditional(&one, &cut.cursor));
    let source = SourceId::new("caltrans_closures").unwrap();
    let context = Context { source: &source, received_at: now(), topic: None, message: None };
    assert_eq!(one.rows(&cut.body.unwrap(), context).unwrap().filter(Result::is_ok).count(), 2);
}

#[test]
fn a_config_names_districts_once_each() {
    for (districts, says) in
        [(&[][..], "is empty"), (&[0], "0 is not in 1..12"), (&[13], "13"), (&[4, 4], "given twice")]
    {
        let wrong = Config { districts: districts.to_vec() }.check().unwrap_err();
        assert!(wrong.to_string().starts_with("districts: ") && wrong.to_string().contains(says), "{wrong}");
    }
}
