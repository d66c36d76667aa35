#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::connect::{Connector, Cursor, Fetched, Single};
use crate::record::{Draft, SourceId};
use crate::sources::Services;
use crate::upstream::Response;

const SECRET: &str = "WHI FORD 7ABC123 RP JOHN DOE 530 555 0100";

fn decode(body: &[u8]) -> Vec<Row> {
    let source = SourceId::new("chp_incidents").unwrap();
    let received_at = "2026-08-01T21:00:00Z".parse().unwrap();
    let context = Context { source: &source, received_at, topic: None, message: None };
    FORMAT.rows(&body.to_vec().into(), context).unwrap().collect()
}

fn log(id: &str, time: &str, latlon: &str, beside: &str) -> String {
    format!(
        "\n\t<Log ID = \"{id}\">\n\t<LogTime>\"{time}\"</LogTime>\n<LogType>\"1125-Traffic Hazard\"</LogType>\
         <Location>\"Sr999 N / Test Rd\"</Location><LocationDesc>\"\"</LocationDesc><Area>\"Testland\"</Area>\
         <ThomasBrothers>\"\"</ThomasBrothers><LATLON>\"{latlon}\"</LATLON>{beside}</Log>\n"
    )
}

fn file(logs: &str) -> String {
    format!(
        "<?xml version=\"1.0\" ?>\n<State><Center ID = \"TEST\">\n<Dispatch ID = \"TSTC\">{logs}</Dispatch></Center></State>\n"
    )
}

/// As many notes, each with what must not be seen.
fn noted(notes: usize) -> String {
    let note = format!(
        "<details><DetailTime>\"Aug  1 2026  1:31PM\"</DetailTime><IncidentDetail>\"{SECRET} < & \"</IncidentDetail></details>"
    );
    let unit = "<units><UnitTime>\"Aug  1 2026  1:32PM\"</UnitTime><UnitDetail>\"Unit Assigned\"</UnitDetail></units>";
    format!("<LogDetails>{}{unit}</LogDetails>", note.repeat(notes))
}

const TIME: &str = "Aug  1 2026  1:30PM";
const PLACE: &str = "38000000:120000000";

fn sound(id: &str) -> String {
    log(id, TIME, PLACE, &noted(2))
}

fn one(log: &str) -> Draft {
    decode(file(log).as_bytes()).remove(0).unwrap()
}

fn data(draft: &Draft) -> Value {
    serde_json::from_str(draft.data.json()).unwrap()
}

fn notes(draft: &Draft) -> Vec<String> {
    draft.quality.iter().map(|note| format!("{} {}", note.field, note.problem)).collect()
}

#[test]
fn s16_an_incident_is_read_and_its_notes_are_only_counted() {
    let draft = one(&sound("260801TS0001"));
    let expected = json!({"incident_id": "260801TS0001", "center": "TEST", "dispatch": "TSTC",
        "incident_type": "1125-Traffic Hazard", "location": "Sr999 N / Test Rd", "location_description": null, "area": "Testland",
        "logged_at": "2026-08-01T20:30:00.000Z", "notes": 2});
    assert_eq!(data(&draft), expected);
    assert_eq!(draft.geometry, Position::new(38.0, -120.0).ok().map(Geometry::Point));
    assert_eq!(notes(&draft), ["LogDetails are left out: they may name people, number plates and telephone numbers"]);
    assert!(one(&log("260801TS0001", TIME, PLACE, "<LogDetails></LogDetails>")).quality.is_empty());
    let more = one(&log("260801TS0001", TIME, PLACE, &noted(3)));
    assert_eq!((more.event, data(&more)["notes"].clone()), (draft.event, json!(3)));
    assert_ne!(more.content, draft.content, "one note more is a revision");
}

/// Whatever is wrong with a log, nothing of its notes is in its record, or in what is kept of it.
#[test]
fn a6_notes_are_nowhere() {
    let whole = sound("260801TS0001");
    let beside = |more: &str| log("260801TS0001", TIME, PLACE, &format!("{}{more}", noted(1)));
    for broken in [
        whole.clone(),
        whole.replace("</LogDetails>", ""),
        whole.replace("<LogDetails>", "<LogNotes>").replace("</LogDetails>", "</LogNotes>"),
        whole.replace("<LogDetails>", "<LOGDETAILS>").replace("</LogDetails>", "</LOGDETAILS>"),
        whole.replace("<LogDetails>", ""),
        whole.replace("</LATLON>", ""),
        whole.replace("</Log>", ""),
        whole.replace(TIME, "soon"),
        whole.replace(PLACE, "95000000:120000000"),
        whole.replace("260801TS0001", ""),
        whole.replace("Testland", &format!("Testland{}", noted(1))),
        beside(&format!("<Comment>{SECRET}</Comment>")),
        beside(&noted(1)),
        beside(SECRET),
    ] {
        for row in decode(file(&format!("{broken}{}", sound("260801TS0002"))).as_bytes()) {
            let shown = match row {
                Ok(draft) => {
                    let reject = draft.refused(Reject::new(Reason::FutureTime, "ahead"));
                    assert!(!reject.raw.is_empty());
                    format!("{} {:?} {}", draft.data.json(), draft.quality, String::from_utf8_lossy(&reject.raw))
                }
                Err(reject) => format!("{reject:?}"),
            };
            assert!(!shown.contains("7ABC123"), "{broken}\n{shown}");
        }
    }
    for body in [
        format!("<Status>{}</Status>", sound("260801TS0001")),
        file(&sound("x")).replace("<State>", "<!DOCTYPE a><State>"),
    ] {
        let source = SourceId::new("chp_incidents").unwrap();
        let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
        let refused = FORMAT.rows(&body.into(), context).err().unwrap();
        assert!(refused.raw.is_empty() && !refused.detail.contains("7ABC123"), "{refused}");
    }
}

#[test]
fn s9_one_damaged_log_costs_itself_and_can_be_read_again_from_what_is_kept() {
    let logs = [
        sound("260801TS0001"),
        log("260801TS0002", "soon", PLACE, &noted(3)),
        log("260801TS0003", TIME, "95000000:120000000", ""),
        sound("260801TS0004").replace("</Area>", ""),
        sound("260801TS0005").replace("</Log>", ""),
        sound("260801 b"),
        sound("260801TS0006").replace("<LogTime>", "<Time>").replace("</LogTime>", "</Time>"),
        sound("260801TS0007").replace("Sr999 N / Test Rd", "A & B &lt;Rd>"),
    ];
    let rows = decode(file(&logs.concat()).as_bytes());
    let reasons: Vec<Option<Reason>> = rows.iter().map(|row| row.as_ref().err().map(|reject| reject.reason)).collect();
    let refused = [
        Reason::BadTime,
        Reason::BadLatitude,
        Reason::BadXml,
        Reason::BadXml,
        Reason::MissingField,
        Reason::MissingField,
    ];
    let expected: Vec<_> = [None].into_iter().chain(refused.map(Some)).chain([None]).collect();
    assert_eq!(reasons, expected);
    assert_eq!(
        data(rows[7].as_ref().unwrap())["location"],
        "A & B &lt;Rd>",
        "an ampersand of nothing stands for itself"
    );
    let kept = rows[1].as_ref().unwrap_err();
    let mended = String::from_utf8(kept.raw.to_vec()).unwrap().replace("soon", TIME);
    let again = decode(mended.as_bytes()).remove(0).unwrap();
    assert_eq!(
        (kept.row, data(&again)["notes"].clone(), data(&again)["dispatch"].clone()),
        (Some(2), json!(3), json!("TSTC"))
    );
    let mut bytes = file(&[sound("260801TS0001"), sound("260801TS0002")].concat()).into_bytes();
    let at = memchr::memmem::find(&bytes, b"Testland").unwrap();
    bytes[at] = 0xff;
    let rows = decode(&bytes);
    assert!(rows[0].as_ref().unwrap_err().detail.contains("not UTF-8") && rows[1].is_ok());
}

#[test]
fn s16_times_are_californias_with_both_hours_of_a_night() {
    for (text, at, says) in [
        ("Aug  1 2026  1:30PM", "2026-08-01T20:30:00Z", ""),
        ("Aug 1 2026 12:05 AM", "2026-08-01T07:05:00Z", ""),
        ("DEC 25 2026 12:05PM", "2026-12-25T20:05:00Z", ""),
        ("8/1/2026 1:30:15 PM", "2026-08-01T20:30:15Z", ""),
        ("08/01/2026 13:30", "2026-08-01T20:30:00Z", ""),
        ("Nov  1 2026  1:30AM", "2026-11-01T08:30:00Z", "came twice"),
        ("Mar  8 2026  2:30AM", "2026-03-08T10:30:00Z", "did not come"),
    ] {
        let draft = one(&log("260801TS0001", text, PLACE, ""));
        assert_eq!(draft.observed_at, at.parse().unwrap(), "{text}");
        assert_eq!(draft.quality.len(), usize::from(!says.is_empty()), "{text}");
        assert!(notes(&draft).join(" ").contains(says), "{text}: {:?}", notes(&draft));
    }
    for text in [
        "Aug 1 26 1:30PM",
        "Agosto 1 2026 1:30PM",
        "Feb 30 2026 1:30PM",
        "Aug 1 2026 13:30PM",
        "Aug 1 2026 0:30AM",
        "Aug 1 2026",
        "13/1/2026 1:30PM",
        "Aug 1 2026 1:30:00:00PM",
        "Aug 1 2026 1:75PM",
        "2026-08-01T13:30",
        "Aug 1 2026 +1:30PM",
    ] {
        let refused = decode(file(&log("260801TS0001", text, PLACE, "")).as_bytes()).remove(0).unwrap_err();
        assert_eq!(refused.reason, Reason::BadTime, "{text}");
    }
}

#[test]
fn s16_positions_are_millionths_of_degrees_west() {
    for (sent, at, notes_of_it) in [
        ("37730000:122400000", Some((37.73, -122.4)), 0),
        ("37730000:-122400000", Some((37.73, -122.4)), 0),
        ("0:0", None, 0),
        ("", None, 0),
        ("37730000:0", None, 1),
        ("37.73:122.4", None, 1),
        ("37730000", None, 1),
        ("north:west", None, 1),
    ] {
        let draft = one(&log("260801TS0001", TIME, sent, ""));
        assert_eq!(draft.position.map(|at| (at.latitude(), at.longitude())), at, "{sent}");
        assert_eq!(draft.quality.len(), notes_of_it, "{sent}");
    }
    for (sent, reason) in [("90000001:120000000", Reason::BadLatitude), ("38000000:180000001", Reason::BadLongitude)] {
        let refused = decode(file(&log("260801TS0001", TIME, sent, "")).as_bytes()).remove(0).unwrap_err();
        assert_eq!(refused.reason, reason);
    }
}

#[test]
fn s16_a_file_cut_anywhere_gives_its_whole_logs_and_no_other() {
    let whole = file(&["260801TS0001", "260801TS0002", "260801TS0003"].map(sound).concat());
    let all: Vec<Draft> = decode(whole.as_bytes()).into_iter().map(Result::unwrap).collect();
    let ends: Vec<usize> = memchr::memmem::find_iter(whole.as_bytes(), b"</Log>").map(|at| at + 6).collect();
    for length in memchr::memmem::find(whole.as_bytes(), b"<State>").unwrap() + 7..=whole.trim_end().len() {
        let cut = Bytes::from(whole[..length].to_owned());
        let drafts: Vec<Draft> = decode(&cut).into_iter().map(Result::unwrap).collect();
        assert_eq!(drafts, all[..ends.iter().filter(|end| **end <= length).count()], "{length}");
        let mut logs = Logs::read(&cut).unwrap();
        logs.by_ref().for_each(drop);
        assert_eq!(logs.is_cut(), length < whole.trim_end().len(), "{length}");
    }
}

// ---- The poll ----

fn absorbed(cursor: &Cursor, status: u16, body: &str, now: &str) -> Fetched {
    let headers = vec![("etag".to_owned(), "\"a\"".to_owned())];
    let response = Response { status, headers, body: body.to_owned().into(), elapsed: Duration::ZERO };
    polls().absorb(cursor, response, now.parse().unwrap()).unwrap()
}

fn polls() -> impl Connector + Single {
    connector(Config {}, SourceId::new("chp_incidents").unwrap(), &Services::default()).unwrap()
}

#[test]
fn s16_a_cut_file_is_told_and_asked_for_again_without_a_condition() {
    let (now, whole) = ("2026-08-01T21:00:00Z", file(&["260801TS0001", "260801TS0002"].map(sound).concat()));
    let cut = &whole[..whole.len() - 60];
    for (body, says, published) in [
        (&*whole, None, true),
        (cut, Some("1 incidents came, and nothing is known of the others"), true),
        (&whole[..100], Some("cut before its first incident"), false),
        (&file(""), Some("no incident at all, which is no all-clear"), false),
        ("<error>down</error>", Some("no element State"), false),
        (r#"{"title": "Down", "status": 500, "detail": "An error."}"#, Some("An error."), false),
    ] {
        let fetched = absorbed(&Cursor::default(), 200, body, now);
        assert_eq!((fetched.body.is_some(), fetched.problem.is_some()), (published, says.is_some()), "{body:.60}");
        let said = fetched.problem.unwrap_or_default();
        assert!(said.contains(says.unwrap_or_default()) && !said.contains("7ABC123"), "{said}");
        let headers = polls().next(&fetched.cursor).headers;
        assert_eq!(headers.iter().any(|(name, _)| name == "if-none-match"), says.is_none(), "{said}");
    }
    let first = absorbed(&Cursor::default(), 200, &whole, now);
    for (later, says) in [("2026-08-01T22:30:00Z", false), ("2026-08-01T22:30:01Z", true)] {
        for (status, body) in [(304, ""), (200, &*whole)] {
            let fetched = absorbed(&first.cursor, status, body, later);
            let said = fetched.problem.unwrap_or_default();
            assert_eq!(
                said.contains("has not been renewed since 2026-08-01T20:30:00.000Z"),
                says,
                "{status} {later}: {said}"
            );
        }
    }
}
