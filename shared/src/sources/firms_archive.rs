//! The archive of NASA FIRMS, polled day by day from a first day to a last one [S6, M1]: standard products, which replace those of
//! the day after about three months. Which days there are the service says before the first of them is asked for: those that it
//! does not have yet it gives out as days without fires.

use bytes::Bytes;
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::firms::{self, told};
use super::{Services, Source, WrongField, WrongFields, check_area};
use crate::connect::parts::Parts;
use crate::connect::{Connector, Cursor, Fetched, Progress, Rest, Single, SourceError, Walk, one};
use crate::decode::{Context, Format, Rows, encoding};
use crate::error::Reject;
use crate::record::SourceId;
use crate::time::Timestamp;
use crate::upstream::{Request, Response, SecretUrl};

pub(super) use super::firms::SERVICE;

/// As that of every detection.
pub const FORMAT: Format = firms::FORMAT;

/// A second way to `historical_firms*` of `firms`.
pub(super) static SOURCE: Source = Source { ids: &[], records: None, service: Some(&SERVICE) };

/// Days of one request; the service answers "Expects [1..5]" beyond.
const DAYS: u64 = 5;
/// Requests of one poll: each may cost ten of the 5,000 transactions that a key has in ten minutes.
const A_POLL: u64 = 20;
/// The first day of MODIS.
const FIRST: Date = Date::constant(2000, 11, 1);

/// A standard product as the service names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(non_camel_case_types, missing_docs)] // the service's own names
#[schemars(rename = "FirmsArchiveProduct")]
pub enum Product {
    VIIRS_SNPP_SP,
    VIIRS_NOAA20_SP,
    MODIS_SP,
}

impl Product {
    fn name(self) -> &'static str {
        match self {
            Product::VIIRS_SNPP_SP => "VIIRS_SNPP_SP",
            Product::VIIRS_NOAA20_SP => "VIIRS_NOAA20_SP",
            Product::MODIS_SP => "MODIS_SP",
        }
    }
}

/// The `config` of a stream of the archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FirmsArchiveConfig")]
pub struct Config {
    /// Which instrument and satellite.
    pub product: Product,
    /// West, south, east, north in degrees.
    pub area: [f64; 4],
    /// First day in UTC, YYYY-MM-DD.
    #[schemars(with = "String")]
    pub start: Date,
    /// Last day in UTC, which is read too.
    #[schemars(with = "String")]
    pub end: Date,
}

impl Config {
    fn days(&self) -> u64 {
        self.start.until(self.end).map_or(0, |span| u64::try_from(span.get_days()).unwrap_or(0) + 1)
    }

    /// Which days there are, and then windows of days.
    fn parts(&self) -> u64 {
        1 + self.days().div_ceil(DAYS)
    }

    fn range(&self) -> String {
        let (Config { area: [west, south, east, north], start, end, .. }, product) = (self, self.product.name());
        format!("{product}/{west},{south},{east},{north}/{start}/{end}")
    }

    /// Requests of one poll at the most.
    pub fn requests(&self) -> usize {
        self.parts().min(A_POLL) as usize
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongFields> {
        let days = if self.start < FIRST {
            Err(WrongField::new("start", format!("is before {FIRST}, the archive's first day")))
        } else if self.end < self.start {
            Err(WrongField::new("end", "is before start"))
        } else {
            Ok(())
        };
        WrongFields::all([check_area(&self.area), days])
    }

    pub(super) fn progress(&self, cursor: &Cursor) -> Progress {
        let (parts, days) = (Parts::of(cursor, self.range()), self.days());
        let done = (parts.done.saturating_sub(1) * DAYS).min(days);
        Progress { done, whole: Some(days), ..parts.progress(self.parts(), "days") }
    }
}

/// One stream's connector, with the service's address and key.
pub(super) struct Archive {
    config: Config,
    base_url: String,
    /// It stands in the URL and is never shown [A6].
    map_key: String,
}

pub(super) fn connector(config: Config, _: SourceId, services: &Services) -> Result<Archive, String> {
    let (base_url, map_key) = (services.address(&SERVICE).to_owned(), services.key(&SERVICE)?.to_owned());
    Ok(Archive { config, base_url, map_key })
}

impl Archive {
    fn parts(&self, cursor: &Cursor) -> Parts {
        Parts::of(cursor, self.config.range())
    }

    /// Whether the archive has all days that are asked for, by its table of products with their first and last day.
    fn has_days(&self, response: &Response, now: Timestamp) -> Result<(), SourceError> {
        let (text, product) = (String::from_utf8_lossy(&response.body), self.config.product.name());
        let mut lines = text.lines().map(|line| line.split(',').map(str::trim).collect::<Vec<_>>());
        if lines.next().as_deref() != Some(&["data_id", "min_date", "max_date"]) {
            return Err(told(response, &self.map_key, now));
        }
        let days = lines.find_map(|cells| match &cells[..] {
            [id, first, last] if *id == product => Some((first.parse::<Date>().ok()?, last.parse::<Date>().ok()?)),
            _ => None,
        });
        match days {
            Some((first, last)) if first <= self.config.start && self.config.end <= last => Ok(()),
            Some((first, last)) => Err(SourceError::Refused(format!(
                "{product} is there from {first} to {last}: start and end must lie within"
            ))),
            None => Err(SourceError::Failed(format!("the service does not say which days it has of {product}"))),
        }
    }
}

/// Whether the last line has as many cells as the first: an answer that ends early looks like one with fewer fires.
fn is_whole(body: &Bytes) -> bool {
    let text = encoding::without_mark(body).trim_ascii_end();
    let cells = |line: Option<&[u8]>| line.map(|line| line.iter().filter(|byte| **byte == b',').count());
    let mut lines = text.split(|byte| *byte == b'\n');
    let first = cells(lines.next());
    cells(lines.next_back()).is_none_or(|last| Some(last) == first)
}

impl Connector for Archive {
    fn host(&self) -> &str {
        &self.base_url
    }

    fn rests(&self, cursor: &Cursor, _: Timestamp) -> Option<Rest> {
        (self.parts(cursor).done >= self.config.parts()).then_some(Rest::Ended)
    }

    fn look(&self) -> usize {
        2
    }

    fn walk<'a>(&'a self, cursor: &Cursor, _now: Timestamp) -> Box<dyn Walk + 'a> {
        one(self, cursor)
    }

    fn rows<'a>(&'a self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        FORMAT.rows(body, context)
    }
}

impl Single for Archive {
    fn next(&self, cursor: &Cursor) -> Request {
        let (base, key, product) = (&self.base_url, &self.map_key, self.config.product.name());
        let url = match self.parts(cursor).done.checked_sub(1) {
            None => format!("{base}/api/data_availability/csv/{key}/{product}"),
            Some(window) => {
                let [west, south, east, north] = self.config.area;
                let behind = window * DAYS;
                let first =
                    jiff::Span::new().try_days(behind as i64).and_then(|span| self.config.start.checked_add(span));
                let (first, days) = (first.unwrap_or(self.config.end), DAYS.min(self.config.days() - behind));
                // Commas stay literal: the service refuses percent-encoded ones.
                format!("{base}/api/area/csv/{key}/{product}/{west},{south},{east},{north}/{days}/{first}")
            }
        };
        Request { url: SecretUrl::new(url, Some(&self.map_key)), headers: Vec::new() }
    }

    fn absorb(&self, cursor: &Cursor, response: Response, now: Timestamp) -> Result<Fetched, SourceError> {
        let parts = self.parts(cursor);
        let body = if parts.done == 0 {
            self.has_days(&response, now)?;
            None
        } else if firms::rows::check_header(&response.body).is_err() {
            return Err(told(&response, &self.map_key, now));
        } else if !is_whole(&response.body) {
            return Err(SourceError::Failed("the answer was cut off within its last row".into()));
        } else {
            Some(response.body)
        };
        let parts = parts.onward();
        Ok(Fetched { body, cursor: parts.cursor(), more: parts.more(self.config.parts(), A_POLL), problem: None })
    }
}
