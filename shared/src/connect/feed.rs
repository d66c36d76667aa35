//! The connector of every source that is a list of addresses on one host: a poll goes through the list, and of each address
//! through its pages. What an address says of itself alone (no such station, one error of its own) costs that address; what the host
//! says (later, not for you, errors one after another) ends the poll, and the next one begins behind the address that failed, so that
//! none is ever the only one asked.
//!
//! The cursor holds the place in the list and, of every address, the validators of its last answer; a poll that was cut short
//! goes on from there. Validators are kept only of what came as one page: an unchanged first page says nothing of the others.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::politeness::{Validators, busy_until};
use super::{Connector, Cursor, Fetched, Single, SourceError, Walk, one};
use crate::decode::{Context, Format, Rows, form, items, short};
use crate::error::{Reason, Reject};
use crate::limits::FEED_PAGES;
use crate::time::Timestamp;
use crate::upstream::{Request, Response, SecretUrl};

/// The part of a body in which its words are looked for.
const WORDS_BYTES: usize = 4096;

/// One address that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    /// For people, such as a station's id.
    pub(crate) name: String,
    /// What stands behind the service's address, from the slash on. It holds no key: the cursor shows it.
    pub(crate) path: String,
}

/// One stream's connector. `asks` is not empty.
#[derive(Debug)]
pub(crate) struct Feed {
    /// The service's address, without a slash at the end.
    pub(crate) base_url: String,
    pub(crate) asks: Vec<Ask>,
    /// The `Accept` header.
    pub(crate) accept: &'static str,
    pub(crate) format: Format,
}

/// What the cursor holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Place {
    /// The address that is asked next, by its place in the list.
    #[serde(default)]
    at: usize,
    /// Its next page, behind the service's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page: Option<Page>,
    /// By the addresses' paths.
    #[serde(default)]
    known: BTreeMap<String, Validators>,
    /// The address before this one answered with an error of the server's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    after_error: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Page {
    /// The path of the address whose page it is.
    of: String,
    path: String,
    /// Pages that came before it.
    number: usize,
}

impl Feed {
    /// A list that was changed since makes a place behind its end the first one, and its pages are not asked for.
    fn place(&self, cursor: &Cursor) -> Place {
        let mut place: Place = serde_json::from_str(&cursor.0).unwrap_or_default();
        if place.at >= self.asks.len() {
            place.at = 0;
        }
        place.page = place.page.filter(|page| page.of == self.asks[place.at].path);
        place
    }

    fn cursor(&self, mut place: Place) -> Cursor {
        place.known.retain(|path, validators| !validators.is_none() && self.asks.iter().any(|ask| ask.path == *path));
        Cursor(serde_json::to_string(&place).unwrap_or_default())
    }

    /// Behind the address at which `place` stands; `true` when there is another one.
    fn onward(&self, place: Place) -> (Place, bool) {
        let at = (place.at + 1) % self.asks.len();
        (Place { at, page: None, after_error: false, ..place }, at > 0)
    }

    fn fetched(&self, place: Place, body: Option<Bytes>, problem: Option<String>) -> Fetched {
        let name = &self.asks[place.at].name;
        let problem = problem.map(|problem| format!("{name}: {problem}"));
        let (place, more) = self.onward(place);
        Fetched { body, cursor: self.cursor(place), more, problem }
    }

    fn data(&self, place: Place, response: &Response) -> Result<Fetched, SourceError> {
        let body = response.body.clone();
        if body.trim_ascii().is_empty() {
            return Err(self.error(&place, response, "an empty body"));
        }
        if form::is_page(&body) {
            return Err(self.error(&place, response, &words(&body)));
        }
        let mut place = place;
        let path = self.asks[place.at].path.clone();
        let number = place.page.as_ref().map_or(0, |page| page.number);
        let next = match next_page(response) {
            None => {
                let validators = if number == 0 { Validators::of(response) } else { Validators::default() };
                place.known.insert(path, validators);
                return Ok(self.fetched(place, Some(body), None));
            }
            Some(next) => next,
        };
        place.known.remove(&path);
        let asked = place.page.as_ref().map_or(&path, |page| &page.path);
        match self.on_this_host(&next) {
            None => {
                let problem = format!("its next page is on another host and was not asked for: {:?}", short(&next));
                Ok(self.fetched(place, Some(body), Some(problem)))
            }
            Some(next) if next == *asked => Ok(self.fetched(
                place,
                Some(body),
                Some("its next page is the page itself: the rest is missing".into()),
            )),
            Some(_) if number + 1 >= FEED_PAGES => {
                let problem = format!("it has more than {FEED_PAGES} pages: the rest was not asked for");
                Ok(self.fetched(place, Some(body), Some(problem)))
            }
            Some(path) => {
                place.page = Some(Page { of: self.asks[place.at].path.clone(), path, number: number + 1 });
                place.after_error = false;
                Ok(Fetched { body: Some(body), cursor: self.cursor(place), more: true, problem: None })
            }
        }
    }

    /// What stands behind the service's address; `None` for an address elsewhere, which could be anybody's.
    fn on_this_host(&self, address: &str) -> Option<String> {
        let path = match address.strip_prefix(&self.base_url) {
            Some(path) => path,
            None if !address.starts_with("//") => address,
            None => return None,
        };
        let is_path =
            path.starts_with('/') && !path.starts_with("//") && path.bytes().all(|byte| byte.is_ascii_graphic());
        (is_path && !path.contains('\\')).then(|| path.to_owned())
    }

    fn error(&self, place: &Place, response: &Response, what: &str) -> SourceError {
        SourceError::Failed(format!("{}: status {}: {what}", self.asks[place.at].name, response.status))
    }
}

impl Connector for Feed {
    fn host(&self) -> &str {
        &self.base_url
    }

    fn failed(&self, cursor: &Cursor, _: Timestamp) -> Cursor {
        self.cursor(self.onward(self.place(cursor)).0)
    }

    fn walk<'a>(&'a self, cursor: &Cursor, _now: Timestamp) -> Box<dyn Walk + 'a> {
        one(self, cursor)
    }

    fn rows<'a>(&'a self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        self.format.rows(body, context)
    }
}

impl Single for Feed {
    fn next(&self, cursor: &Cursor) -> Request {
        let place = self.place(cursor);
        let ask = &self.asks[place.at];
        let mut headers = vec![("accept".to_owned(), self.accept.to_owned())];
        let path = match &place.page {
            Some(page) => &page.path,
            None => {
                headers.extend(place.known.get(&ask.path).map(Validators::headers).unwrap_or_default());
                &ask.path
            }
        };
        Request { url: SecretUrl::new(format!("{}{path}", self.base_url), None), headers }
    }

    fn absorb(&self, cursor: &Cursor, response: Response, now: Timestamp) -> Result<Fetched, SourceError> {
        let place = self.place(cursor);
        let is_conditional = place.page.is_none() && place.known.contains_key(&self.asks[place.at].path);
        let words = || words(&response.body);
        if let Some(until) = busy_until(&response, now) {
            return Err(SourceError::Busy { until, said: format!("status {}: {}", response.status, words()) });
        }
        match response.status {
            200 => self.data(place, &response),
            // Nothing is there: what was told before stands as it is.
            204 => Ok(self.fetched(place, None, None)),
            304 if is_conditional => Ok(self.fetched(place, None, None)),
            304 => Err(self.error(&place, &response, "not modified, although it was asked without a condition")),
            300..400 => Err(self.error(&place, &response, &moved_to(&response))),
            401 | 403 | 407 | 451 => {
                let said =
                    format!("{}: status {}: access refused: {}", self.asks[place.at].name, response.status, words());
                Err(SourceError::Refused(said))
            }
            // The address's own fault; of a source with one address it is the source's.
            400..500 if self.asks.len() > 1 => {
                let problem = format!("status {}: {}", response.status, words());
                Ok(self.fetched(place, None, Some(problem)))
            }
            500.. if self.asks.len() > 1 && !place.after_error => {
                let problem = format!("{}: status {}: {}", self.asks[place.at].name, response.status, words());
                let (next, more) = self.onward(place);
                let cursor = self.cursor(Place { after_error: more, ..next });
                Ok(Fetched { body: None, cursor, more, problem: Some(problem) })
            }
            _ => Err(self.error(&place, &response, &words())),
        }
    }
}

/// What a redirect says.
pub(crate) fn moved_to(response: &Response) -> String {
    let to = short(response.header("location").unwrap_or("nowhere"));
    format!("it has moved to {to:?}, and redirects are not followed")
}

/// What a body that is no data says, shortened: a problem document's own words, what a page is, or how it begins.
pub(crate) fn words(body: &Bytes) -> String {
    if let Some(problem) = items::problem(body) {
        return problem.detail;
    }
    let start = body.slice(..body.len().min(WORDS_BYTES));
    let text = String::from_utf8_lossy(&start);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = Reject::new(Reason::NotData, format!("{:?}", text.chars().take(120).collect::<String>()));
    form::told(said, &start).detail
}

/// Where the next page is, by the body's `pagination.next` or the `Link` header. A page without items is the last one, whatever it
/// says: NWS names a next page there too.
fn next_page(response: &Response) -> Option<String> {
    let members = items::members(&response.body).unwrap_or_default();
    let is_empty = |list: &&serde_json::value::RawValue| {
        list.get().bytes().all(|byte| matches!(byte, b'[' | b']') || byte.is_ascii_whitespace())
    };
    if members.get("features").is_some_and(is_empty) {
        return None;
    }
    let told: Option<serde_json::Value> =
        members.get("pagination").and_then(|raw| serde_json::from_str(raw.get()).ok());
    let next = told.as_ref().and_then(|told| told["next"].as_str()).filter(|next| !next.is_empty());
    next.map(str::to_owned).or_else(|| response.header("link").and_then(linked))
}

/// `<https://host/page?2>; rel="next"`, among others.
fn linked(header: &str) -> Option<String> {
    let mut links = header.split(",").filter_map(|link| link.trim().strip_prefix('<')?.split_once('>'));
    let is_next = |parameter: &str| {
        parameter.trim().strip_prefix("rel=").is_some_and(|rel| rel.trim_matches('"').eq_ignore_ascii_case("next"))
    };
    links.find(|(_, parameters)| parameters.split(';').any(is_next)).map(|(address, _)| address.to_owned())
}

#[cfg(test)]
mod tests;
