//! PurpleAir's sensors in an area, polled from its API: only those that have measured anew since the last answer, for each
//! answer is paid for in points [S11, S17]. How its answers are read, and those for one sensor, for its history and what a
//! sensor pushes itself, stands in `decode/sensor`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::config::{check_area, check_list};
use super::{Service, Services, Source, WrongField, WrongFields, sensors};
use crate::connect::keyed;
use crate::connect::politeness::Manners;
use crate::connect::{Connector, Cursor, Fetched, Rest, Single, SourceError, Walk, one};
use crate::decode::{Context, Format, Rows, items, short};
use crate::error::Reject;
use crate::record::SourceId;
use crate::time::Timestamp;
use crate::upstream::{Request, Response, SecretUrl};

/// As every reading.
pub const FORMAT: Format = Format::SENSOR;

pub(super) static SERVICE: Service = Service {
    name: "PurpleAir",
    address: "https://api.purpleair.com",
    address_setting: "PURPLEAIR_BASE_URL",
    address_parameter: "PurpleAirBaseUrl",
    key_setting: Some("PURPLEAIR_API_KEY"),
    // A sensor sends every two minutes; its users are asked for no more than one request of a kind a minute.
    manners: Manners { a_minute: 10, least_interval: Duration::from_secs(60), apart: Some(Duration::from_secs(1)) },
};

pub(super) static SOURCE: Source = Source {
    ids: &[sensors::sensor("iot_purpleair", "PurpleAir")],
    records: Some(sensors::RECORDS),
    service: Some(&SERVICE),
};

/// Points of one call, whatever it answers.
pub(super) const CALL: u64 = 5;
pub(super) const FIELDS: usize = 40;
/// Without them nothing tells a sensor's readings apart, or where it is.
const NEEDED: [&str; 3] = ["last_seen", "latitude", "longitude"];
/// The first answer holds sensors that have measured within this.
const MAX_AGE_S: u32 = 3600;
/// Errors that a person has to mend: of the key, of the account's points, of the request.
const FOR_A_PERSON: [&str; 5] = ["ApiKey", "Token", "Payment", "Invalid", "Missing"];

/// A PurpleAir stream's `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PurpleairConfig")]
pub struct Config {
    /// West, south, east, north in degrees.
    pub area: [f64; 4],
    /// Points that it may use in a day, in UTC: 5 a call, and for each sensor in its answer one a field, two for a field of
    /// PM2.5. When they are used up it waits until the day ends.
    pub points_a_day: u64,
    /// In PurpleAir's names, `last_seen`, `latitude` and `longitude` among them.
    #[serde(default = "fields")]
    pub fields: Vec<String>,
    /// Also sensors inside of buildings.
    #[serde(default)]
    pub indoor: bool,
}

fn fields() -> Vec<String> {
    let names = [
        "name",
        "last_seen",
        "latitude",
        "longitude",
        "humidity",
        "temperature",
        "pressure",
        "confidence",
        "pm2.5_atm_a",
        "pm2.5_atm_b",
        "pm2.5_atm",
    ];
    names.map(str::to_owned).to_vec()
}

impl Config {
    /// Requests of one poll.
    pub fn requests(&self) -> usize {
        1
    }

    /// What the calls alone cost.
    pub fn least_points_a_day(&self, interval: Duration) -> u64 {
        CALL * (86_400 / interval.as_secs().max(1))
    }

    /// What an answer with so many sensors costs: an estimate that is rather too high.
    fn points(&self, rows: u64) -> u64 {
        CALL + rows * points_of_row(&self.fields)
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongFields> {
        let fields = check_fields(&self.fields).and_then(|()| {
            let lacks = NEEDED.iter().find(|needed| !self.fields.iter().any(|field| field == *needed));
            lacks.map_or(Ok(()), |needed| Err(WrongField::new("fields", format!("{needed:?} is missing"))))
        });
        let points = if self.points_a_day < CALL {
            Err(WrongField::new("points_a_day", format!("{} is less than one call costs", self.points_a_day)))
        } else {
            Ok(())
        };
        WrongFields::all([check_area(&self.area), fields, points])
    }
}

/// What a sensor's row costs.
pub(super) fn points_of_row(fields: &[String]) -> u64 {
    fields.iter().map(|field| if field.starts_with("pm2.5") { 2 } else { 1 }).sum()
}

pub(super) fn check_fields(fields: &[String]) -> Result<(), WrongField> {
    let is_field = |name: &str| {
        (1..=40).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
    };
    check_list("fields", fields, FIELDS, "a field, such as \"pm2.5_atm\"", is_field)
}

/// One stream's connector, with the service's address and key.
pub(super) struct Purpleair {
    config: Config,
    base_url: String,
    /// It stands in a header and is never shown [A6].
    key: String,
}

/// What the cursor holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Place {
    /// The last answer's `data_time_stamp`: sensors that have measured since are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
    #[serde(flatten)]
    paid: Paid,
}

/// What was paid in a day, as it stands in a cursor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Paid {
    /// The day of the points, in UTC; `None` until something was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    day: Option<Date>,
    /// Points of that day.
    #[serde(default)]
    points: u64,
}

impl Paid {
    /// The points of the day on which this is.
    pub(super) fn at(&self, now: Timestamp) -> u64 {
        if self.day == Some(day(now)) { self.points } else { 0 }
    }

    /// With so many more; those of another day are over.
    pub(super) fn and(&self, points: u64, now: Timestamp) -> Paid {
        Paid { day: Some(day(now)), points: self.at(now).saturating_add(points) }
    }

    /// Whether what comes next costs more than what is left of the day's points.
    pub(super) fn rests(&self, next: u64, may: u64, now: Timestamp) -> Option<Rest> {
        let used = self.at(now);
        let tomorrow = TimeZone::UTC.to_timestamp(day(now).tomorrow().ok()?.to_datetime(Time::midnight())).ok()?;
        let because = format!("its points of the day are used up ({used} of {may})");
        (used + next > may).then_some(Rest::Until { until: tomorrow, because })
    }
}

impl Place {
    fn of(cursor: &Cursor) -> Place {
        serde_json::from_str(&cursor.0).unwrap_or_default()
    }

    fn cursor(&self) -> Cursor {
        Cursor(serde_json::to_string(self).unwrap_or_default())
    }
}

fn day(at: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(at).date()
}

pub(super) fn connector(config: Config, _: SourceId, services: &Services) -> Result<Purpleair, String> {
    let key = keyed::plain(services.key(&SERVICE)?, "PURPLEAIR_API_KEY")?.to_owned();
    Ok(Purpleair { config, base_url: services.address(&SERVICE).to_owned(), key })
}

impl Connector for Purpleair {
    fn host(&self) -> &str {
        &self.base_url
    }

    fn rests(&self, cursor: &Cursor, now: Timestamp) -> Option<Rest> {
        Place::of(cursor).paid.rests(CALL, self.config.points_a_day, now)
    }

    /// A call that failed is paid for too.
    fn failed(&self, cursor: &Cursor, now: Timestamp) -> Cursor {
        let place = Place::of(cursor);
        Place { paid: place.paid.and(CALL, now), ..place }.cursor()
    }

    fn walk<'a>(&'a self, cursor: &Cursor, _now: Timestamp) -> Box<dyn Walk + 'a> {
        one(self, cursor)
    }

    fn rows<'a>(&'a self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        FORMAT.rows(body, context)
    }
}

impl Single for Purpleair {
    fn next(&self, cursor: &Cursor) -> Request {
        let [west, south, east, north] = self.config.area;
        let (base, fields) = (&self.base_url, self.config.fields.join(","));
        let mut url = format!(
            "{base}/v1/sensors?fields={fields}&nwlng={west}&nwlat={north}&selng={east}&selat={south}&max_age={MAX_AGE_S}"
        );
        if !self.config.indoor {
            url.push_str("&location_type=0");
        }
        if let Some(since) = Place::of(cursor).since {
            url.push_str(&format!("&modified_since={since}"));
        }
        request(url, &self.key)
    }

    fn absorb(&self, cursor: &Cursor, response: Response, now: Timestamp) -> Result<Fetched, SourceError> {
        let Columns { members, fields: given, rows } = Columns::of(&response, &self.key, now)?;
        let problem = lacking(&self.config.fields, &given);
        let stamp: Option<i64> = members.get("data_time_stamp").and_then(|raw| serde_json::from_str(raw.get()).ok());
        let place = Place::of(cursor);
        let paid = place.paid.and(self.config.points(rows), now);
        // A stamp that lies ahead would leave out what is measured until then.
        let since = stamp.filter(|stamp| *stamp <= now.as_second()).or(place.since);
        let place = Place { since, paid };
        Ok(Fetched { cursor: place.cursor(), more: false, problem, body: Some(response.body) })
    }
}

/// A request, with the key in its header.
pub(super) fn request(url: String, key: &str) -> Request {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Request {
        url: SecretUrl::new(url, None),
        headers: vec![header("accept", "application/json"), header("x-api-key", key)],
    }
}

/// Which of the fields that were asked for an answer does not have.
pub(super) fn lacking(asked: &[String], given: &BTreeSet<String>) -> Option<String> {
    let lacking: Vec<&str> = asked.iter().map(String::as_str).filter(|field| !given.contains(*field)).collect();
    (!lacking.is_empty()).then(|| format!("its answer lacks the fields {}", lacking.join(", ")))
}

/// An answer with rows of values.
pub(super) struct Columns<'a> {
    pub(super) members: BTreeMap<String, &'a RawValue>,
    /// The names of the values.
    pub(super) fields: BTreeSet<String>,
    pub(super) rows: u64,
}

/// Whether it does not know what was asked for by its number, by its own word.
pub(super) fn is_unknown(response: &Response) -> bool {
    let members = items::members(&response.body).unwrap_or_default();
    let name = members.get("error").and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    response.status == 404 && name.as_deref() == Some("NotFoundError")
}

impl<'a> Columns<'a> {
    /// # Errors
    /// What its error says, or that it is no such answer.
    pub(super) fn of(response: &'a Response, key: &str, now: Timestamp) -> Result<Columns<'a>, SourceError> {
        let members = items::members(&response.body).unwrap_or_default();
        let text = |name: &str| {
            let text = members.get(name).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
            text.map(|text| keyed::without_key(&text, key))
        };
        if let Some(name) = text("error") {
            let said = short(&text("description").unwrap_or_default());
            return Err(error(response, key, &short(&name), &said, now));
        }
        let list =
            |name: &str| members.get(name).and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok());
        let (Some(fields), Some(data), 200) = (list("fields"), list("data"), response.status) else {
            return Err(keyed::refused(response, key, now));
        };
        let fields = fields.iter().filter_map(|raw| serde_json::from_str(raw.get()).ok()).collect();
        Ok(Columns { members, fields, rows: data.len() as u64 })
    }
}

/// What its error of this name means, in its words.
fn error(response: &Response, key: &str, name: &str, description: &str, now: Timestamp) -> SourceError {
    let said = format!("status {}: {name}: {description}", response.status);
    if response.status == 429 || name.starts_with("RateLimit") {
        return match keyed::refused(&Response { status: 429, ..response.clone() }, key, now) {
            SourceError::Busy { until, .. } => SourceError::Busy { until, said },
            other => other,
        };
    }
    if FOR_A_PERSON.iter().any(|kind| name.contains(kind)) || matches!(response.status, 401..=403) {
        return SourceError::Refused(format!("{said}: check PURPLEAIR_API_KEY, its points, and the stream's config"));
    }
    SourceError::Failed(said)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn config(text: &str) -> Result<Config, String> {
        let config: Config = super::super::read(serde_json::from_str(text).unwrap()).map_err(|e| e.to_string())?;
        config.check().map(|()| config).map_err(|e| e.to_string())
    }

    const AREA: &str = r#""area": [-124.5, 32.5, -114.1, 42.1]"#;

    fn stream(points_a_day: u64) -> Purpleair {
        let fields = r#"["last_seen", "latitude", "longitude", "pm2.5_atm"]"#;
        let config = config(&format!(r#"{{{AREA}, "points_a_day": {points_a_day}, "fields": {fields}}}"#)).unwrap();
        Purpleair { config, base_url: "https://example.test".into(), key: "k3y-1".into() }
    }

    fn noon() -> Timestamp {
        "2026-08-01T12:00:00Z".parse().unwrap()
    }

    fn answer(connector: &Purpleair, cursor: &Cursor, status: u16, body: &str) -> Result<Fetched, SourceError> {
        let body = Bytes::from(body.to_owned());
        connector.absorb(cursor, Response { status, headers: Vec::new(), body, elapsed: Duration::ZERO }, noon())
    }

    fn sensors(rows: usize, stamp: i64) -> String {
        let rows: Vec<Value> = (0..rows).map(|n| serde_json::json!([n + 1, stamp, 38.0, -120.0, 12.3])).collect();
        serde_json::json!({
            "api_version": "V1", "time_stamp": stamp + 60, "data_time_stamp": stamp,
            "fields": ["sensor_index", "last_seen", "latitude", "longitude", "pm2.5_atm"], "data": rows
        })
        .to_string()
    }

    #[test]
    fn s17_a_config_is_judged_by_field() {
        for (more, says) in [
            (r#""points_a_day": 4"#, "points_a_day: 4 is less"),
            (r#""points_a_day": 50000, "fields": ["last_seen", "latitude"]"#, "fields: \"longitude\" is missing"),
            (r#""points_a_day": 50000, "fields": ["a,b"]"#, "fields: \"a,b\" is not"),
            (r#""key": "x""#, "key: unknown field"),
        ] {
            let said = config(&format!("{{{AREA}, {more}}}")).unwrap_err();
            assert!(said.starts_with(says), "{said}");
        }
        assert!(config(&format!("{{{AREA}}}")).unwrap_err().contains("points_a_day"), "nobody pays unasked");
    }

    #[test]
    fn a6_the_key_is_in_a_header_and_nowhere_else() {
        let request = stream(50_000).next(&Cursor::default());
        let address = "https://example.test/v1/sensors?fields=last_seen,latitude,longitude,pm2.5_atm\
            &nwlng=-124.5&nwlat=42.1&selng=-114.1&selat=32.5&max_age=3600&location_type=0";
        assert_eq!(request.url.reveal(), address);
        assert!(request.headers.contains(&("x-api-key".into(), "k3y-1".into())));
        assert!(!format!("{request:?}").contains("k3y"), "{request:?}");
        let error = r#"{"error": "ApiKeyInvalidError", "description": "k3y-1 was not valid."}"#;
        let said = answer(&stream(50_000), &Cursor::default(), 403, error).unwrap_err().to_string();
        assert!(!said.contains("k3y"), "{said}");
    }

    #[test]
    fn s17_the_next_answer_holds_what_was_measured_since() {
        let connector = stream(50_000);
        let stamp = noon().as_second() - 60;
        let fetched = answer(&connector, &Cursor::default(), 200, &sensors(2, stamp)).unwrap();
        assert!(fetched.body.is_some() && fetched.problem.is_none());
        let address = connector.next(&fetched.cursor).url.reveal().to_owned();
        assert!(address.ends_with(&format!("&modified_since={stamp}")), "{address}");
        let ahead = answer(&connector, &fetched.cursor, 200, &sensors(0, stamp + 3600)).unwrap();
        assert_eq!(connector.next(&ahead.cursor), connector.next(&fetched.cursor), "nothing is left out");
        let other = sensors(1, stamp).replace("pm2.5_atm", "pm2.5");
        let problem = answer(&connector, &Cursor::default(), 200, &other).unwrap().problem.unwrap();
        assert_eq!(problem, "its answer lacks the fields pm2.5_atm");
    }

    #[test]
    fn s11_points_are_counted_and_when_they_are_used_up_it_waits_until_the_day_ends() {
        let connector = stream(40);
        let paid = |cursor: &Cursor| Place::of(cursor).paid.points;
        let once = answer(&connector, &Cursor::default(), 200, &sensors(3, 1_785_000_000)).unwrap().cursor;
        assert_eq!(paid(&once), 20, "5 and 3 rows of 1 + 1 + 1 + 2");
        let failed = connector.failed(&once, noon());
        assert_eq!(paid(&failed), 25, "a failed call is paid for");
        assert_eq!(connector.rests(&failed, noon()), None);
        let twice = answer(&connector, &failed, 200, &sensors(3, 1_785_000_000)).unwrap().cursor;
        let Some(Rest::Until { until, because }) = connector.rests(&twice, noon()) else { panic!("it goes on") };
        assert_eq!(until, "2026-08-02T00:00:00Z".parse().unwrap());
        assert_eq!(because, "its points of the day are used up (45 of 40)");
        assert_eq!(connector.rests(&twice, until), None, "another day");
        let first = connector.failed(&Cursor::default(), noon());
        assert_eq!(paid(&answer(&connector, &first, 200, &sensors(0, 1)).unwrap().cursor), 10, "of the day it is");
        assert_eq!(connector.config.least_points_a_day(Duration::from_secs(60)), 7200);
    }

    #[test]
    fn s17_errors_are_told_in_its_words_and_by_what_is_to_be_done() {
        let connector = stream(50_000);
        for (status, error, is_refusal) in [
            (402, "PaymentRequiredError", true),
            (403, "ApiKeyInvalidError", true),
            (403, "InvalidTokenError", true),
            (400, "InvalidFieldValueError", true),
            (200, "ApiKeyRestrictedError", true),
            (404, "NotFoundError", false),
            (500, "InternalError", false),
        ] {
            let body = serde_json::json!({ "error": error, "description": "as it says." }).to_string();
            let told = answer(&connector, &Cursor::default(), status, &body).unwrap_err();
            assert_eq!(matches!(told, SourceError::Refused(_)), is_refusal, "{told:?}");
            assert!(told.to_string().contains(&format!("{error}: as it says.")), "{told}");
        }
        let busy = r#"{"error": "RateLimitExceededError", "description": "slow down"}"#;
        assert!(matches!(answer(&connector, &Cursor::default(), 429, busy), Err(SourceError::Busy { .. })));
        for body in ["", "<html></html>", "[]", r#"{"api_version": "V1", "fields": ["a"], "data": 5}"#] {
            let told = answer(&connector, &Cursor::default(), 200, body).unwrap_err();
            assert!(matches!(told, SourceError::Failed(_)), "{body}: {told:?}");
        }
    }
}
