//! CAL FIRE's incidents of past years, polled year by year from the state's public site [S6, M1].

use bytes::Bytes;
use jiff::civil::{Date, Time};
use jiff::tz::{Offset, TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::calfire::{self, list_of, years};
use super::{Id, Records, Services, Source, WrongField, WrongFields};
use crate::connect::parts::Parts;
use crate::connect::{Connector, Cursor, Fetched, Progress, Rest, Single, SourceError, Walk, one};
use crate::decode::{Context, Format, Rows, items};
use crate::error::Reject;
use crate::record::{SourceId, Tier, Topic};
use crate::time::Timestamp;
use crate::upstream::{Request, Response};

pub(super) use super::calfire::{FIRE, SERVICE};

/// As today's.
pub const FORMAT: Format = calfire::FORMAT;

pub(super) static SOURCE: Source = Source {
    ids: &[Id { pattern: "historical_calfire*", name: "CAL FIRE history", tier: Tier::Low, topic: Topic::HISTORICAL }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<calfire::Incident>(),
        key: &["data.incident_id"],
        in_order: true,
        lasting: true,
    }),
    service: Some(&SERVICE),
};

/// A CAL FIRE history's `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CalfireHistoryConfig")]
pub struct Config {
    /// First year; the list begins with 2013.
    pub first_year: i16,
    /// Last year, which is read too.
    pub last_year: i16,
}

impl Config {
    fn years(&self) -> u64 {
        u64::try_from(i32::from(self.last_year) - i32::from(self.first_year) + 1).unwrap_or(0)
    }

    fn range(&self) -> String {
        format!("{}/{}", self.first_year, self.last_year)
    }

    /// Requests of one poll at the most.
    pub fn requests(&self) -> usize {
        A_POLL.min(self.years()) as usize
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongFields> {
        let last = years("last_year", self.last_year).and_then(|()| match self.last_year < self.first_year {
            true => Err(WrongField::new("last_year", "is before first_year")),
            false => Ok(()),
        });
        WrongFields::all([years("first_year", self.first_year), last])
    }

    pub(super) fn progress(&self, cursor: &Cursor) -> Progress {
        Parts::of(cursor, self.range()).progress(self.years(), "years")
    }
}

/// California's time in winter.
const PACIFIC_STANDARD: Offset = Offset::constant(-8);
/// Years of one poll, of the six requests that the site is asked for in a minute.
const A_POLL: u64 = 5;

/// One stream's connector.
pub(super) struct Years {
    config: Config,
    base_url: String,
}

pub(super) fn connector(config: Config, _: SourceId, services: &Services) -> Result<Years, String> {
    Ok(Years { config, base_url: services.address(&SERVICE).to_owned() })
}

impl Years {
    fn parts(&self, cursor: &Cursor) -> Parts {
        Parts::of(cursor, self.config.range())
    }

    fn year(&self, parts: &Parts) -> i16 {
        self.config.first_year.saturating_add(i16::try_from(parts.done).unwrap_or(i16::MAX)).min(self.config.last_year)
    }
}

/// When a year is over in California.
fn end_of(year: i16) -> Option<Timestamp> {
    let first = Date::new(year.checked_add(1)?, 1, 1).ok()?.to_datetime(Time::midnight());
    TimeZone::fixed(PACIFIC_STANDARD).to_timestamp(first).ok()
}

/// # Errors
/// It was cut off, or has no incident: no year of the list is without one.
fn whole(year: i16, body: &Bytes) -> Result<(), SourceError> {
    let failed = |said: &str| SourceError::Failed(format!("{year}: {said}"));
    let members =
        items::members(body).map_err(|reject| failed(&format!("the answer is not whole: {}", reject.detail)))?;
    let list: Option<Vec<&serde_json::value::RawValue>> =
        members.get("features").and_then(|raw| serde_json::from_str(raw.get()).ok());
    match list {
        None => Err(failed("the answer has no list of incidents")),
        Some(list) if list.is_empty() => {
            Err(failed("its list is empty: that is not taken for a year without incidents"))
        }
        Some(_) => Ok(()),
    }
}

impl Connector for Years {
    fn host(&self) -> &str {
        &self.base_url
    }

    fn rests(&self, cursor: &Cursor, now: Timestamp) -> Option<Rest> {
        let parts = self.parts(cursor);
        if parts.done >= self.config.years() {
            return Some(Rest::Ended);
        }
        let year = self.year(&parts);
        Rest::until_over(end_of(year)?, &format!("the year {year}"), now)
    }

    fn look(&self) -> usize {
        1
    }

    fn walk<'a>(&'a self, cursor: &Cursor, _now: Timestamp) -> Box<dyn Walk + 'a> {
        one(self, cursor)
    }

    fn rows<'a>(&'a self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        FORMAT.rows(body, context)
    }
}

impl Single for Years {
    fn next(&self, cursor: &Cursor) -> Request {
        list_of(&self.base_url, true, Some(self.year(&self.parts(cursor)))).next(&Cursor::default())
    }

    fn absorb(&self, cursor: &Cursor, response: Response, now: Timestamp) -> Result<Fetched, SourceError> {
        let parts = self.parts(cursor);
        let year = self.year(&parts);
        let list = list_of(&self.base_url, true, Some(year)).absorb(&Cursor::default(), response, now)?;
        let body = list.body.ok_or_else(|| SourceError::Failed(format!("{year}: the answer has no content")))?;
        whole(year, &body)?;
        let parts = parts.onward();
        let more = parts.more(self.config.years(), A_POLL);
        Ok(Fetched { body: Some(body), cursor: parts.cursor(), more, problem: list.problem })
    }
}
