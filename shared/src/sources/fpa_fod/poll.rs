//! The database's table at an address of one's own, read once by ranges of bytes [S6, M1]: each is cut behind its last whole row, where
//! the next one begins. A server that gives the whole file instead is taken at its word, if that is no larger than an answer may be.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FORMAT;
use crate::connect::feed::{moved_to, words};
use crate::connect::index;
use crate::connect::politeness::{Manners, busy_until};
use crate::connect::{Connector, Cursor, Fetched, Progress, Rest, Single, SourceError, Walk, one};
use crate::decode::{Context, Rows, form};
use crate::error::Reject;
use crate::record::SourceId;
use crate::sources::config::check_url;
use crate::sources::{Service, Services, WrongField};
use crate::time::Timestamp;
use crate::upstream::{Request, Response, SecretUrl};

/// Each stream names its own address, so that no setting does.
pub(in crate::sources) static SERVICE: Service = Service {
    name: "Tables by config",
    address: "each at its own address",
    address_setting: "",
    address_parameter: "",
    key_setting: None,
    manners: Manners { a_minute: 60, least_interval: Duration::from_secs(60), apart: None },
};

/// Bytes of one request: some thousand rows.
const RANGE: u64 = 2 * 1024 * 1024;
/// Ranges of one poll.
const A_POLL: u64 = 20;
/// The header line is kept with the stream's state.
const HEADER: usize = 16 * 1024;

/// The `config` of a table's stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FpaFodConfig")]
pub struct Config {
    /// The address of the CSV, not packed. It must hold no key: it is shown.
    pub url: String,
}

impl Config {
    /// Requests of one poll at the most.
    pub fn requests(&self) -> usize {
        A_POLL as usize
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongField> {
        check_url(&self.url, "https://HOST/fires.csv")?;
        let path = self.url.split('?').next().unwrap_or_default().to_ascii_lowercase();
        match [".gz", ".zip", ".xz", ".zst", ".sqlite"].iter().find(|end| path.ends_with(**end)) {
            Some(end) => {
                Err(WrongField::new("url", format!("a file that ends in {end} has no rows that can be asked for")))
            }
            None => Ok(()),
        }
    }

    pub(in crate::sources) fn progress(&self, cursor: &Cursor) -> Progress {
        let Place { at, whole, .. } = Place::of(cursor, &self.url);
        let requests = whole.map(|whole| whole.div_ceil(RANGE));
        Progress { done: at, whole, of: "bytes".into(), requests, points: None }
    }
}

/// What the cursor holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Place {
    of: String,
    /// Bytes that were read: a row begins here.
    at: u64,
    /// Bytes of the file.
    whole: Option<u64>,
    /// The table's first line, with its end.
    header: String,
    /// The file's validator: of another file the place means nothing.
    tag: Option<String>,
    ranges: u64,
}

impl Place {
    fn of(cursor: &Cursor, url: &str) -> Place {
        let place: Option<Place> = serde_json::from_str(&cursor.0).ok();
        place.filter(|place| place.of == url).unwrap_or_else(|| Place { of: url.to_owned(), ..Place::default() })
    }

    fn cursor(&self) -> Cursor {
        Cursor(serde_json::to_string(self).unwrap_or_default())
    }

    fn has_ended(&self) -> bool {
        self.whole.is_some_and(|whole| self.at >= whole)
    }
}

/// One stream's connector.
#[derive(Debug)]
pub(in crate::sources) struct Table {
    url: String,
}

pub(in crate::sources) fn connector(config: Config, _: SourceId, _: &Services) -> Result<Table, String> {
    Ok(Table { url: config.url })
}

impl Connector for Table {
    fn host(&self) -> &str {
        index::host(&self.url)
    }

    fn rests(&self, cursor: &Cursor, _: Timestamp) -> Option<Rest> {
        Place::of(cursor, &self.url).has_ended().then_some(Rest::Ended)
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

impl Single for Table {
    fn next(&self, cursor: &Cursor) -> Request {
        let place = Place::of(cursor, &self.url);
        let header = |name: &str, value: String| (name.to_owned(), value);
        let last = place.whole.map_or(u64::MAX, |whole| whole - 1).min(place.at + RANGE - 1);
        // No `if-range`: a file that has changed would be given whole, and may be larger than an answer.
        let headers = vec![
            header("accept", "text/csv, */*".into()),
            // A range of what is packed is no range of rows.
            header("accept-encoding", "identity".into()),
            header("range", format!("bytes={}-{last}", place.at)),
        ];
        Request { url: SecretUrl::new(self.url.clone(), None), headers }
    }

    fn absorb(&self, cursor: &Cursor, response: Response, now: Timestamp) -> Result<Fetched, SourceError> {
        let place = Place::of(cursor, &self.url);
        let said = || format!("status {}: {}", response.status, words(&response.body));
        if let Some(until) = busy_until(&response, now) {
            return Err(SourceError::Busy { until, said: said() });
        }
        let tag = response.header("etag").or_else(|| response.header("last-modified")).map(str::to_owned);
        match response.status {
            206 => {}
            // All of it, from a server that knows no ranges; or the file is another one than that of which a part was read.
            200 if place.at == 0 => {
                let length = response.body.len() as u64;
                let told = response.header("content-length").and_then(|told| told.parse::<u64>().ok());
                // Where nobody says how long it is, only the end of a line says that it is whole.
                if told.map_or(!response.body.ends_with(b"\n"), |told| told != length) {
                    return Err(SourceError::Failed("the answer was cut off".into()));
                }
                return self.taken(Place { tag, ..place }, &response.body, length);
            }
            200 if form::is_page(&response.body) || response.body.is_empty() => {
                return Err(SourceError::Failed(said()));
            }
            200 => return Ok(self.anew()),
            // It has become shorter than what was read of it.
            416 if place.at > 0 => return Ok(self.anew()),
            300..=399 => {
                return Err(SourceError::Failed(format!("status {}: {}", response.status, moved_to(&response))));
            }
            401 | 403 | 404 | 410 => return Err(SourceError::Refused(said())),
            _ => return Err(SourceError::Failed(said())),
        }
        let range = response.header("content-range").and_then(content_range);
        let Some((first, last, whole)) = range.filter(|(first, ..)| *first == place.at) else {
            let got = response.header("content-range").unwrap_or("no range").to_owned();
            return Err(SourceError::Failed(format!("bytes from {} on were asked for, and {got} came", place.at)));
        };
        if last + 1 - first != response.body.len() as u64 {
            return Err(SourceError::Failed("the answer was cut off".into()));
        }
        if place.at > 0 && (place.whole != Some(whole) || place.tag != tag) {
            return Ok(self.anew());
        }
        self.taken(Place { tag, ..place }, &response.body, whole)
    }
}

impl Table {
    /// The file is another one than that of which a part was read.
    fn anew(&self) -> Fetched {
        let anew = Place { of: self.url.clone(), ..Place::default() };
        let problem = Some("the file has changed since its first part was read: it is read anew".to_owned());
        Fetched { body: None, cursor: anew.cursor(), more: false, problem }
    }

    /// The whole rows of a part that begins where a row does.
    fn taken(&self, mut place: Place, part: &Bytes, whole: u64) -> Result<Fetched, SourceError> {
        let failed = |said: &str| SourceError::Failed(said.to_owned());
        let is_last = place.at + part.len() as u64 >= whole;
        let ends = if is_last { part.len() } else { last_row_end(part) };
        if ends == 0 {
            return Err(failed("there is no end of a row in it: it is no table of this kind"));
        }
        let mut body = BytesMut::with_capacity(place.header.len() + ends);
        if place.at == 0 {
            let first = memchr::memchr(b'\n', part).map_or(ends, |end| end + 1);
            let header = std::str::from_utf8(&part[..first]).ok().filter(|header| header.len() <= HEADER);
            place.header = header.ok_or_else(|| failed("its first line is no header of a table"))?.to_owned();
        } else {
            body.extend_from_slice(place.header.as_bytes());
        }
        body.extend_from_slice(&part[..ends]);
        place.at += ends as u64;
        place.whole = Some(whole);
        place.ranges += 1;
        let more = place.has_ended() || !place.ranges.is_multiple_of(A_POLL);
        Ok(Fetched { body: Some(body.freeze()), cursor: place.cursor(), more, problem: None })
    }
}

/// Behind the last line that ends outside of quotes; where a quote is never closed, behind the last line: that costs one row.
fn last_row_end(part: &[u8]) -> usize {
    let (mut end, mut quoted) = (0, false);
    for at in memchr::memchr2_iter(b'"', b'\n', part) {
        match part[at] {
            b'"' => quoted = !quoted,
            _ if !quoted => end = at + 1,
            _ => {}
        }
    }
    if end > 0 { end } else { memchr::memrchr(b'\n', part).map_or(0, |at| at + 1) }
}

/// `bytes 0-99/1000`: first, last, and the file's length.
fn content_range(header: &str) -> Option<(u64, u64, u64)> {
    let (range, whole) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, whole) = (first.parse().ok()?, last.parse().ok()?, whole.parse().ok()?);
    (first <= last && last < whole).then_some((first, last, whole))
}
