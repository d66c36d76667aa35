//! What the double of `feeds.rs` tells of roads: a file of Caltrans's lane closures a district, and the file of the California
//! Highway Patrol's incidents, as they were at noon UTC on 2026-08-01.

use serde_json::{Value, json};

/// When the files were made.
pub const MADE: i64 = 1_785_585_600;

/// What dispatchers noted of an incident: nobody must see it.
pub const NOTE: &str = "WHI FORD 7ABC123 RP JOHN DOE 530 555 0100";

pub const INCIDENTS: &str = "/sa_xml/sa.xml";

/// The path of a district's file.
pub fn district_file(district: u8) -> String {
    format!("/data/d{district}/lcs/lcsStatusD{district:02}.json")
}

pub(crate) fn content(path: &str, version: u32) -> Option<String> {
    if path == INCIDENTS {
        return Some(incidents(&[incident("260801TS0001", version + 1), incident("260801TS0002", 0)]));
    }
    let district = (1..=12).find(|district| district_file(*district) == path)?;
    Some(closures(&[closure(district, 1, version > 0, MADE), closure(district, 2, false, MADE)]))
}

/// A file without anything in it.
pub(crate) fn empty(path: &str) -> Option<&'static str> {
    match path {
        INCIDENTS => Some("<?xml version=\"1.0\" ?>\n<State></State>\n"),
        _ => path.starts_with("/data/d").then_some("{\"data\": []}"),
    }
}

/// A district's file.
pub fn closures(rows: &[Value]) -> String {
    json!({ "data": rows }).to_string()
}

/// The first window of a district has begun, the others lie ahead.
pub fn closure(district: u8, number: u32, in_place: bool, made: i64) -> Value {
    let start = MADE - 3600 + 86_400 * i64::from(number - 1);
    let code = |code: &str, at: Option<i64>| {
        let text = at.map_or(String::new(), |at| at.to_string());
        json!({ format!("isCode{code}"): at.is_some().to_string(), format!("code{code}Timestamp"): { format!("code{code}Epoch"): text } })
    };
    json!({ "lcs": {
        "index": format!("C1TB-{number:04}-2026-08-01-04:00:00"),
        "recordTimestamp": { "recordDate": "2026-08-01", "recordTime": "05:00:00", "recordEpoch": made.to_string() },
        "location": { "travelFlowDirection": "North / South",
            "begin": { "beginDistrict": district.to_string(), "beginLatitude": "38.0", "beginLongitude": "-120.0",
                "beginRoute": "SR-999", "beginCounty": "Testland" },
            "end": { "endLatitude": "38.1", "endLongitude": "-120.0", "endRoute": "SR-999" } },
        "closure": { "closureID": "C1TB", "logNumber": number.to_string(), "closureTimestamp": {
                "closureStartEpoch": start.to_string(), "closureEndEpoch": "", "isClosureEndIndefinite": "true" },
            "facility": "Conventional Hwy", "typeOfClosure": "Full", "typeOfWork": "Emergency", "lanesClosed": "All",
            "totalExistingLanes": "2", "estimatedDelay": "",
            "code1097": code("1097", in_place.then_some(MADE - 1800)), "code1098": code("1098", None), "code1022": code("1022", None) }
    } })
}

/// The file of all centres.
pub fn incidents(logs: &[String]) -> String {
    let logs = logs.concat();
    format!(
        "<?xml version=\"1.0\" ?>\n<State><Center ID = \"TEST\">\n<Dispatch ID = \"TSTC\">\n{logs}</Dispatch>\n</Center>\n</State>\n"
    )
}

/// One incident, of which so much was noted.
pub fn incident(id: &str, notes: u32) -> String {
    let note = format!(
        "<details><DetailTime>\"Aug  1 2026  4:51AM\"</DetailTime><IncidentDetail>\"{NOTE}\"</IncidentDetail></details>"
    );
    let notes = note.repeat(notes as usize);
    format!(
        "\t<Log ID = \"{id}\">\n\t<LogTime>\"Aug  1 2026  4:50AM\"</LogTime>\n\t<LogType>\"FIRE-Report of Fire\"</LogType>\n\
         \t<Location>\"Sr999 N / Test Rd\"</Location>\n\t<LocationDesc>\"\"</LocationDesc>\n\t<Area>\"Testland\"</Area>\n\
         \t<ThomasBrothers>\"\"</ThomasBrothers>\n\t<LATLON>\"38000000:120000000\"</LATLON>\n\
         \t<LogDetails>{notes}</LogDetails></Log>\n"
    )
}
