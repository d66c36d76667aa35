//! Synoptic's weather stations, RAWS among them, polled from its API: what they measured last, the last minutes of them, or a
//! bounded range of time, which is a batch [S17, M1]. How its answers are read stands in `decode/sensor`.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{check_area, check_list};
use super::{Id, Records, Service, Services, Source, WrongField, WrongFields, sensors};
use crate::connect::keyed;
use crate::connect::politeness::Manners;
use crate::connect::{Connector, Cursor, Fetched, Progress, Rest, Single, SourceError, Walk, one};
use crate::decode::sensor;
use crate::decode::{Context, Format, Rows, items};
use crate::error::Reject;
use crate::record::{SourceId, Tier, Topic};
use crate::time::Timestamp;
use crate::upstream::{Request, Response, SecretUrl};

/// As every reading.
pub const FORMAT: Format = Format::new("synoptic", sensor::rows);

pub(super) static SERVICE: Service = Service {
    name: "Synoptic Data",
    address: "https://api.synopticdata.com",
    address_setting: "SYNOPTIC_BASE_URL",
    address_parameter: "SynopticBaseUrl",
    key_setting: Some("SYNOPTIC_TOKEN"),
    // Accounts pay by requests and stations a month; RAWS send once an hour, others every five minutes.
    manners: Manners { a_minute: 60, least_interval: Duration::from_secs(60), apart: Some(Duration::from_secs(1)) },
};

pub(super) static SOURCE: Source = Source {
    ids: &[Id {
        pattern: "synoptic_observations",
        name: "Synoptic weather station",
        tier: Tier::Normal,
        topic: Topic::WEATHER,
    }],
    records: Some(Records { format: FORMAT, ..sensors::RECORDS }),
    service: Some(&SERVICE),
};

/// Names in one request.
const STATIONS: usize = 100;
const NETWORKS: usize = 20;
const VARIABLES: usize = 40;
/// Minutes of one request.
const MINUTES: u32 = 24 * 60;
/// A station that was silent for longer is not asked for: RAWS send once an hour.
const WITHIN_MINUTES: u32 = 120;
/// A bounded range is asked for day by day, so that an answer keeps within its bound and its time.
const STEP: Duration = Duration::from_secs(24 * 3600);
/// The longest range.
const RANGE: Duration = Duration::from_secs(366 * 24 * 3600);
/// Steps that fit into one poll.
const STEPS_A_POLL: usize = 30;

/// A moment of a config: RFC 3339 with an offset, to the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub(super) Timestamp);

impl JsonSchema for Moment {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// A Synoptic stream's `config`: stations, and of them what was measured last, in the last minutes, or in a range of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SynopticConfig")]
pub struct Config {
    /// Stations between west, south, east, north in degrees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area: Option<[f64; 4]>,
    /// Stations by their ids, such as `TKNC1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stations: Option<Vec<String>>,
    /// Stations of these networks by their numbers: 2 is RAWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<u32>>,
    /// What they measured, in Synoptic's names; if it is left out, all that is published here in units of its own.
    #[serde(default = "understood")]
    pub variables: Vec<String>,
    /// The latest value of each variable, if it is no older than these minutes; 120 if nothing else is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_minutes: Option<u32>,
    /// All values of the last minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent_minutes: Option<u32>,
    /// All values from then on: with `end` a batch that ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Moment>,
    /// All values until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Moment>,
}

fn understood() -> Vec<String> {
    let names = [
        "air_temp",
        "dew_point_temperature",
        "relative_humidity",
        "wind_speed",
        "wind_gust",
        "wind_direction",
        "pressure",
        "sea_level_pressure",
        "precip_accum_one_hour",
        "solar_radiation",
        "fuel_moisture",
        "fuel_temp",
        "soil_moisture",
        "soil_temp",
    ];
    names.map(str::to_owned).to_vec()
}

/// What is asked of the stations.
#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Latest { within: u32 },
    Recent { minutes: u32 },
    Range { start: Timestamp, end: Timestamp },
}

impl Config {
    fn what(&self) -> What {
        match (self.start, self.end, self.recent_minutes) {
            (Some(Moment(start)), Some(Moment(end)), _) => What::Range { start, end },
            (_, _, Some(minutes)) => What::Recent { minutes },
            _ => What::Latest { within: self.within_minutes.unwrap_or(WITHIN_MINUTES) },
        }
    }

    /// Of a bounded range of time, by its cursor.
    pub(super) fn progress(&self, cursor: &Cursor) -> Option<Progress> {
        let What::Range { start, end } = self.what() else { return None };
        let (done, whole) = (steps(start, Synoptic::read_to(cursor, start, end)), steps(start, end));
        Some(Progress { done, whole: Some(whole), of: "days".into(), requests: Some(whole), points: None })
    }

    /// Requests of one poll, at the most.
    pub fn requests(&self) -> usize {
        match self.what() {
            What::Range { start, end } => {
                usize::try_from(steps(start, end)).map_or(STEPS_A_POLL, |steps| steps.clamp(1, STEPS_A_POLL))
            }
            What::Latest { .. } | What::Recent { .. } => 1,
        }
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongFields> {
        let is_name = |name: &str| {
            (1..=40).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let mut wrong = Vec::new();
        if self.area.is_none() && self.stations.is_none() && self.networks.is_none() {
            wrong.push(WrongField::new("area", "is missing; or give stations or networks"));
        }
        if let Some(area) = &self.area {
            wrong.extend(check_area(area).err());
        }
        if let Some(stations) = &self.stations {
            let is_station = |id: &str| is_name(id.trim_matches('-')) && id.len() <= 20;
            wrong.extend(
                check_list("stations", stations, STATIONS, "a station's id, such as \"TKNC1\"", is_station).err(),
            );
        }
        if let Some(networks) = &self.networks
            && (networks.is_empty() || networks.len() > NETWORKS)
        {
            wrong.push(WrongField::new("networks", format!("{} entries: it takes 1 to {NETWORKS}", networks.len())));
        }
        let form = "a variable, such as \"air_temp\"";
        wrong.extend(check_list("variables", &self.variables, VARIABLES, form, is_name).err());
        let is_range = self.start.is_some() || self.end.is_some();
        let wanted = [self.within_minutes.is_some(), self.recent_minutes.is_some(), is_range];
        if wanted.iter().filter(|wanted| **wanted).count() > 1 {
            let rule = "only one of within_minutes, recent_minutes, and start with end can be given";
            wrong.push(WrongField::new("within_minutes", rule));
        }
        for (field, minutes) in [("within_minutes", self.within_minutes), ("recent_minutes", self.recent_minutes)] {
            if minutes.is_some_and(|minutes| !(1..=MINUTES).contains(&minutes)) {
                wrong.push(WrongField::new(field, format!("is not in 1..{MINUTES}")));
            }
        }
        let range = match (self.start, self.end) {
            (Some(start), Some(end)) if start >= end => Err(WrongField::new("end", "is not after start")),
            (Some(Moment(start)), Some(Moment(end))) if end > start + RANGE => {
                Err(WrongField::new("end", format!("is more than {} days after start", RANGE.as_secs() / 86_400)))
            }
            (Some(_), None) => Err(WrongField::new("end", "is missing: start alone has no bound")),
            (None, Some(_)) => Err(WrongField::new("start", "is missing: end alone has no bound")),
            _ => Ok(()),
        };
        wrong.extend(range.err());
        WrongFields::none_or(wrong, ())
    }

    /// What it asks of which stations, as the service takes it.
    fn query(&self) -> String {
        let mut query = String::new();
        if let Some([west, south, east, north]) = self.area {
            query.push_str(&format!("&bbox={west},{south},{east},{north}"));
        }
        if let Some(stations) = &self.stations {
            query.push_str(&format!("&stid={}", stations.join(",")));
        }
        if let Some(networks) = &self.networks {
            let networks: Vec<String> = networks.iter().map(u32::to_string).collect();
            query.push_str(&format!("&network={}", networks.join(",")));
        }
        query + &format!("&vars={}&units=metric&obtimezone=UTC&qc_flags=on", self.variables.join(","))
    }
}

/// Requests for a range.
fn steps(start: Timestamp, end: Timestamp) -> u64 {
    u64::try_from(end.duration_since(start).as_secs()).unwrap_or_default().div_ceil(STEP.as_secs())
}

/// One stream's connector, with the service's address and token.
pub(super) struct Synoptic {
    config: Config,
    base_url: String,
    /// It stands in the URL and is never shown [A6].
    token: String,
}

/// What the cursor holds of a range: how far it was read, and which it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Place {
    start: Timestamp,
    end: Timestamp,
    read_to: Timestamp,
}

pub(super) fn connector(config: Config, _: SourceId, services: &Services) -> Result<Synoptic, String> {
    let token = keyed::plain(services.key(&SERVICE)?, "SYNOPTIC_TOKEN")?.to_owned();
    Ok(Synoptic { config, base_url: services.address(&SERVICE).to_owned(), token })
}

impl Synoptic {
    /// A range that was changed since is read from its start.
    fn read_to(cursor: &Cursor, start: Timestamp, end: Timestamp) -> Timestamp {
        let place = serde_json::from_str::<Place>(&cursor.0).ok();
        place.filter(|place| (place.start, place.end) == (start, end)).map_or(start, |place| place.read_to)
    }

    /// The cursor behind the answer to this one's request, and whether there is more to ask.
    fn onward(&self, cursor: &Cursor) -> (Cursor, bool) {
        let What::Range { start, end } = self.config.what() else { return (Cursor::default(), false) };
        let read_to = (Synoptic::read_to(cursor, start, end) + STEP).min(end);
        (Cursor(serde_json::to_string(&Place { start, end, read_to }).unwrap_or_default()), true)
    }
}

impl Connector for Synoptic {
    fn host(&self) -> &str {
        &self.base_url
    }

    fn rests(&self, cursor: &Cursor, now: Timestamp) -> Option<Rest> {
        let What::Range { start, end } = self.config.what() else { return None };
        let from = Synoptic::read_to(cursor, start, end);
        if from >= end {
            return Some(Rest::Ended);
        }
        Rest::until_over((from + STEP).min(end), "its next day", now)
    }

    fn walk<'a>(&'a self, cursor: &Cursor, _now: Timestamp) -> Box<dyn Walk + 'a> {
        one(self, cursor)
    }

    fn rows<'a>(&'a self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        FORMAT.rows(body, context)
    }
}

impl Single for Synoptic {
    fn next(&self, cursor: &Cursor) -> Request {
        let (service, time) = match self.config.what() {
            What::Latest { within } => ("latest", format!("within={within}")),
            What::Recent { minutes } => ("timeseries", format!("recent={minutes}")),
            What::Range { start, end } => {
                let from = Synoptic::read_to(cursor, start, end);
                let minute = |at: Timestamp| at.strftime("%Y%m%d%H%M").to_string();
                ("timeseries", format!("start={}&end={}", minute(from), minute((from + STEP).min(end))))
            }
        };
        let (base, token, query) = (&self.base_url, &self.token, self.config.query());
        let url = format!("{base}/v2/stations/{service}?token={token}{query}&{time}");
        let headers = vec![("accept".to_owned(), "application/json".to_owned())];
        Request { url: SecretUrl::new(url, Some(&self.token)), headers }
    }

    fn absorb(&self, cursor: &Cursor, response: Response, now: Timestamp) -> Result<Fetched, SourceError> {
        let Some(told) = Told::of(&response.body) else {
            return Err(keyed::refused(&response, &self.token, now));
        };
        let said = format!("code {}: {}", told.code, keyed::without_key(&told.message, &self.token));
        let (next, more) = self.onward(cursor);
        match told.code {
            // No station has a value there and then.
            2 => Ok(Fetched { body: None, cursor: next, more, problem: None }),
            1 | 200 if response.status == 200 => {
                let body = (!told.is_empty).then_some(response.body);
                Ok(Fetched { body, cursor: next, more, problem: None })
            }
            -1 => Err(SourceError::Refused(format!("{said}: it does not take the stream's config"))),
            401 | 403 => Err(SourceError::Refused(format!("{said}: check SYNOPTIC_TOKEN"))),
            404 => Err(SourceError::Refused(said)),
            429 => Err(keyed::refused(&Response { status: 429, ..response }, &self.token, now)),
            _ => Err(SourceError::Failed(format!("status {}: {said}", response.status))),
        }
    }
}

/// What an answer says of itself, whatever its status.
struct Told {
    code: i64,
    message: String,
    /// It has a list of stations without one.
    is_empty: bool,
}

impl Told {
    fn of(body: &Bytes) -> Option<Told> {
        let members = items::members(body).ok()?;
        let summary: Value = serde_json::from_str(members.get("SUMMARY")?.get()).ok()?;
        let code = &summary["RESPONSE_CODE"];
        let code = code.as_i64().or_else(|| code.as_str()?.trim().parse().ok())?;
        let message = summary["RESPONSE_MESSAGE"].as_str().unwrap_or("no message");
        let is_empty = members.get("STATION").is_some_and(|list| list.get()[1..].trim_start() == "]");
        Some(Told { code, message: message.chars().take(200).collect(), is_empty })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, String> {
        let config: Config = super::super::read(serde_json::from_str(text).unwrap()).map_err(|e| e.to_string())?;
        config.check().map(|()| config).map_err(|e| e.to_string())
    }

    fn stream(text: &str) -> Synoptic {
        Synoptic { config: config(text).unwrap(), base_url: "https://example.test".into(), token: "t0ken".into() }
    }

    fn answer(connector: &Synoptic, cursor: &Cursor, status: u16, body: &str) -> Result<Fetched, SourceError> {
        let body = Bytes::from(body.to_owned());
        let response = Response { status, headers: Vec::new(), body, elapsed: Duration::ZERO };
        connector.absorb(cursor, response, Timestamp::UNIX_EPOCH)
    }

    fn summary(code: i64, message: &str) -> String {
        serde_json::json!({ "SUMMARY": { "RESPONSE_CODE": code, "RESPONSE_MESSAGE": message } }).to_string()
    }

    #[test]
    fn s17_a_config_is_judged_by_field() {
        for (text, says) in [
            ("{}", "area: is missing"),
            (r#"{"area": [1, 2, 0, 3]}"#, "area: west"),
            (r#"{"stations": ["a b"]}"#, "stations: \"a b\" is not"),
            (r#"{"networks": []}"#, "networks: 0 entries"),
            (r#"{"networks": [2], "variables": []}"#, "variables: 0 entries"),
            (r#"{"networks": [2], "within_minutes": 0}"#, "within_minutes: is not in"),
            (r#"{"networks": [2], "within_minutes": 5, "recent_minutes": 5}"#, "within_minutes: only one"),
            (r#"{"networks": [2], "start": "2026-08-01T00:00:00Z"}"#, "end: is missing"),
            (r#"{"networks": [2], "end": "2026-08-01T00:00:00Z"}"#, "start: is missing"),
            (
                r#"{"networks": [2], "start": "2026-08-01T00:00:00Z", "end": "2026-08-01T00:00:00Z"}"#,
                "end: is not after",
            ),
            (
                r#"{"networks": [2], "start": "2020-08-01T00:00:00Z", "end": "2026-08-01T00:00:00Z"}"#,
                "end: is more than",
            ),
            (r#"{"networks": [2], "token": "x"}"#, "token: unknown field"),
        ] {
            let said = config(text).unwrap_err();
            assert!(said.starts_with(says), "{said}");
        }
    }

    #[test]
    fn a6_the_token_is_in_the_address_and_nowhere_else() {
        let connector = stream(r#"{"area": [-124.5, 32.5, -114.1, 42.1], "networks": [2], "variables": ["air_temp"]}"#);
        let request = connector.next(&Cursor::default());
        let address = "https://example.test/v2/stations/latest?token=t0ken&bbox=-124.5,32.5,-114.1,42.1&network=2&vars=air_temp\
            &units=metric&obtimezone=UTC&qc_flags=on&within=120";
        assert_eq!(request.url.reveal(), address);
        assert!(!format!("{request:?}").contains("t0ken"));
        let page = format!("{}t0ken", "x".repeat(117));
        for body in [summary(403, "the token t0ken is unknown"), "<html>t0ken</html>".into(), page] {
            let said = answer(&connector, &Cursor::default(), 403, &body).unwrap_err().to_string();
            assert!(!said.contains("t0"), "{said}");
        }
        let recent = stream(r#"{"stations": ["TKNC1", "CEEC1"], "recent_minutes": 90}"#).next(&Cursor::default());
        let address = recent.url.reveal();
        assert!(address.contains("/timeseries?") && address.contains("&stid=TKNC1,CEEC1&"), "{address}");
        assert!(address.ends_with("&recent=90"), "{address}");
    }

    #[test]
    fn s17_an_answer_is_judged_by_its_own_code() {
        let connector = stream(r#"{"networks": [2]}"#);
        let judged = |status, body: &str| answer(&connector, &Cursor::default(), status, body);
        let data = |stations: &str| format!(r#"{{"STATION": [{stations}], {}"#, &summary(1, "OK")[1..]);
        assert!(judged(200, &data("{}")).unwrap().body.is_some());
        assert!(judged(200, &data(" ")).unwrap().body.is_none());
        let none = Fetched { body: None, cursor: Cursor::default(), more: false, problem: None };
        assert_eq!(judged(200, &summary(2, "No stations found")), Ok(none), "none is no error");
        for (status, body, is_refusal, says) in [
            (200, summary(-1, "Invalid parameter vars"), true, "Invalid parameter vars: it does not take"),
            (200, summary(403, "Invalid token"), true, "check SYNOPTIC_TOKEN"),
            (200, summary(404, "no such service"), true, "no such service"),
            (200, summary(500, "internal"), false, "code 500: internal"),
            (500, summary(1, "OK"), false, "status 500"),
            (502, "<html></html>".to_owned(), false, "it is a web page"),
            (401, String::new(), true, "access refused"),
            (200, "[]".to_owned(), false, "status 200"),
        ] {
            let error = judged(status, &body).unwrap_err();
            assert_eq!(matches!(error, SourceError::Refused(_)), is_refusal, "{error:?}");
            assert!(error.to_string().contains(says), "{error}");
        }
        assert!(matches!(judged(429, "slow down"), Err(SourceError::Busy { .. })));
    }

    #[test]
    fn m1_a_range_is_asked_for_day_by_day_and_ends() {
        let text = r#"{"networks": [2], "start": "2026-08-01T00:00:00Z", "end": "2026-08-02T06:30:00Z"}"#;
        let (connector, mut cursor, mut asked) = (stream(text), Cursor::default(), Vec::new());
        let progress =
            |cursor: &Cursor| connector.config.progress(cursor).map(|progress| (progress.done, progress.whole));
        assert_eq!((progress(&cursor), connector.config.requests()), (Some((0, Some(2))), 2));
        let now = "2026-08-03T00:00:00Z".parse().unwrap();
        while connector.rests(&cursor, now).is_none() {
            let address = connector.next(&cursor).url.reveal().to_owned();
            asked.push(address.split_once("&start=").unwrap().1.to_owned());
            cursor = answer(&connector, &cursor, 200, &summary(2, "none")).unwrap().cursor;
        }
        assert_eq!(asked, ["202608010000&end=202608020000", "202608020000&end=202608020630"]);
        assert_eq!(progress(&cursor), Some((2, Some(2))));
        let longer = stream(&text.replace("06:30", "07:00"));
        assert_eq!(longer.rests(&cursor, now), None, "another range begins anew");
    }
}
