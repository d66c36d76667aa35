//! AirNow's hourly files, which need no key [S11, S17]: of every hour one, of all sites. A file comes half an hour to an hour and a
//! half after its hour, and is written anew when values come late or are revised: so the last hours are asked for again, each on the
//! condition that it has changed. What they become stands in `airnow`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::airnow::rows;
use super::airnow::{check_hours, hour_of, hours};
use super::config::check_list;
use super::{Service, Services, Source, WrongFields, airnow};
use crate::connect::keyed;
use crate::connect::politeness::{Manners, Validators};
use crate::connect::{Connector, Cursor, Fetched, SourceError, Walk};
use crate::decode::{Context, Format, Rows, form};
use crate::error::Reject;
use crate::record::SourceId;
use crate::time::Timestamp;
use crate::upstream::{Request, Response, SecretUrl};

/// As every value of AirNow's.
pub const FORMAT: Format = airnow::FORMAT;

pub(super) static SERVICE: Service = Service {
    name: "AirNow files",
    address: "https://files.airnowtech.org",
    address_setting: "AIRNOW_FILES_BASE_URL",
    address_parameter: "AirNowFilesBaseUrl",
    key_setting: None,
    // Files on a content delivery network, renewed twice an hour.
    manners: Manners { a_minute: 60, least_interval: Duration::from_secs(60), apart: Some(Duration::from_secs(1)) },
};

/// A second way to the ids of `airnow`.
pub(super) static SOURCE: Source = Source { ids: &[], records: None, service: Some(&SERVICE) };

/// A file that is not there this long after the end of its hour is missing.
const LATE: Duration = Duration::from_secs(2 * 3600);
/// States and territories.
const STATES: usize = 60;

/// Which of the hourly files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum File {
    /// `HourlyAQObs_….dat`: a row a site, with its place, its status and the air quality index.
    #[default]
    BySite,
    /// `HourlyData_….dat`: a row a value, also of the weather at the site, without a place.
    ByParameter,
}

/// An AirNow files stream's `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AirnowFilesConfig")]
pub struct Config {
    /// Which of the hourly files.
    #[serde(default)]
    pub file: File,
    /// Sites in these states alone, by the first two digits of their ids: `06` is California.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub states: Option<Vec<String>>,
    /// Hours back from now whose files are asked for: 1 to 48.
    #[serde(default = "hours")]
    pub hours: u8,
}

impl Config {
    /// Requests of one poll.
    pub fn requests(&self) -> usize {
        self.hours.into()
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongFields> {
        let is_state = |code: &str| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_digit());
        let of_list = |states: &Vec<String>| {
            check_list("states", states, STATES, "a state's two digits, such as \"06\"", is_state)
        };
        WrongFields::all([self.states.as_ref().map_or(Ok(()), of_list), check_hours(self.hours)])
    }
}

/// One stream's connector.
pub(super) struct AirnowFiles {
    config: Config,
    base_url: String,
}

/// What the cursor holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Place {
    /// The hour that is asked for next, where a poll was cut short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Timestamp>,
    /// The first hour failed: the next poll begins behind it, so that none is ever the only one asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    first_failed: bool,
    /// By the hours' starts in seconds.
    #[serde(default)]
    known: BTreeMap<i64, Validators>,
}

pub(super) fn connector(config: Config, _: SourceId, services: &Services) -> Result<AirnowFiles, String> {
    Ok(AirnowFiles { config, base_url: services.address(&SERVICE).to_owned() })
}

impl AirnowFiles {
    fn place(cursor: &Cursor) -> Place {
        serde_json::from_str(&cursor.0).unwrap_or_default()
    }

    /// The first and the last hour that are over and wanted.
    fn window(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        let last = hour_of(now) - airnow::HOUR;
        (last - airnow::HOUR * u32::from(self.config.hours.saturating_sub(1)), last)
    }

    fn name(&self, hour: Timestamp) -> String {
        let name = match self.config.file {
            File::BySite => "HourlyAQObs",
            File::ByParameter => "HourlyData",
        };
        format!("{name}_{}.dat", hour.strftime("%Y%m%d%H"))
    }
}

/// The request for one hour's file.
struct OneHour<'a> {
    files: &'a AirnowFiles,
    place: Place,
    hour: Timestamp,
    first: Timestamp,
    last: Timestamp,
}

impl OneHour<'_> {
    fn fetched(&self, validators: Option<Validators>, body: Option<Bytes>, problem: Option<String>) -> Fetched {
        let mut place = self.place.clone();
        let known = validators.filter(|validators| !validators.is_none());
        place.known.remove(&self.hour.as_second());
        place.known.extend(known.map(|validators| (self.hour.as_second(), validators)));
        place.known.retain(|second, _| (self.first.as_second()..=self.last.as_second()).contains(second));
        let more = self.hour < self.last;
        place.next = more.then(|| self.hour + airnow::HOUR);
        place.first_failed = false;
        let problem = problem.map(|problem| format!("{} {problem}", self.files.name(self.hour)));
        let cursor = Cursor(serde_json::to_string(&place).unwrap_or_default());
        Fetched { body, cursor, more, problem }
    }

    fn known(&self) -> Option<&Validators> {
        self.place.known.get(&self.hour.as_second())
    }
}

impl Walk for OneHour<'_> {
    fn next(&self) -> Request {
        let (base, name) = (&self.files.base_url, self.files.name(self.hour));
        let url = format!("{base}/airnow/{}/{name}", self.hour.strftime("%Y/%Y%m%d"));
        let mut headers = vec![("accept".to_owned(), "*/*".to_owned())];
        headers.extend(self.known().map(Validators::headers).unwrap_or_default());
        Request { url: SecretUrl::new(url, None), headers }
    }

    fn absorb(&mut self, response: Response, now: Timestamp) -> Result<Option<Fetched>, SourceError> {
        // What lies in a bucket and is not there is answered by either.
        let is_absent = response.status == 404
            || (response.status == 403 && memchr::memmem::find(&response.body, b"<Code>").is_some());
        match response.status {
            200 if response.body.trim_ascii().is_empty() => {
                let problem = "is empty: it says nothing of its hour, not that nothing was measured";
                Ok(Some(self.fetched(None, None, Some(problem.into()))))
            }
            200 if !form::is_page(&response.body) => {
                Ok(Some(self.fetched(Some(Validators::of(&response)), Some(response.body), None)))
            }
            304 if self.known().is_some() => Ok(Some(self.fetched(self.known().cloned(), None, None))),
            _ if is_absent => {
                let is_late = now > self.hour + airnow::HOUR + LATE;
                Ok(Some(self.fetched(None, None, is_late.then(|| "is not there".to_owned()))))
            }
            _ => Err(keyed::refused(&response, "", now)),
        }
    }
}

impl Connector for AirnowFiles {
    fn host(&self) -> &str {
        &self.base_url
    }

    /// Behind the hour that failed.
    fn failed(&self, cursor: &Cursor, _: Timestamp) -> Cursor {
        let place = AirnowFiles::place(cursor);
        let next = place.next.map(|hour| hour + airnow::HOUR);
        let first_failed = next.is_none() && !place.first_failed;
        Cursor(serde_json::to_string(&Place { next, first_failed, ..place }).unwrap_or_default())
    }

    fn rows<'a>(&'a self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        let rows = rows::rows(body, context, self.config.states.as_deref());
        rows.map_err(|reject| form::told(reject, body))
    }

    fn walk<'a>(&'a self, cursor: &Cursor, now: Timestamp) -> Box<dyn Walk + 'a> {
        let ((first, last), place) = (self.window(now), AirnowFiles::place(cursor));
        let begin = if place.first_failed { (first + airnow::HOUR).min(last) } else { first };
        let hour = place.next.filter(|hour| (first..=last).contains(hour)).unwrap_or(begin);
        Box::new(OneHour { files: self, place, hour, first, last })
    }
}
