//! The connector of a feed of alerts: an index whose entries name CAP documents on the same host, or alerts that stand in the
//! answer itself [S17]. A poll asks for the index first, then for the documents of entries that it does not know yet, one by one and
//! the oldest first, so that an update comes after what it updates. What is left when the poll's number is full comes with the next.
//!
//! The cursor holds which entries are known and what is still to be asked for. An entry is known once its document's alerts are
//! accepted, and stays known when it leaves the index for a while. A document that cannot be had is asked for
//! again after minutes that double, as long as the index names it; what the host itself says (later, down) ends the poll.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::feed::words;
use super::politeness::{Validators, busy_until};
use super::{Connector, Cursor, Fetched, Single, SourceError, Walk, one};
use crate::decode::alert::feed::{self, Entry};
use crate::decode::{Context, Rows, form, short};
use crate::error::{Reason, Reject};
use crate::limits::{FEED_DOCUMENTS, FEED_ENTRIES, FEED_NEWEST};
use crate::record::{SourceId, hex};
use crate::time::Timestamp;
use crate::upstream::{Request, Response, SecretUrl};

const ACCEPT: &str =
    "application/cap+xml, application/atom+xml, application/rss+xml, application/xml;q=0.9, text/xml;q=0.9";

/// One stream's connector.
#[derive(Debug)]
pub(crate) struct Index {
    /// The index's whole address.
    pub(crate) url: String,
    pub(crate) source: SourceId,
}

/// What the cursor holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Place {
    /// The index that all else is of.
    of: String,
    /// Of the index, once nothing of it is left to ask for.
    validators: Validators,
    /// Documents whose alerts are accepted, the longest ago first.
    known: Vec<Known>,
    /// Documents that this poll still asks for.
    ahead: Vec<Ahead>,
    /// Documents that were asked for and not had, by their names.
    tries: BTreeMap<String, Tried>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    document: String,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Ahead {
    #[serde(flatten)]
    of: Known,
    url: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Tried {
    times: u32,
    /// The last time, in seconds since 1970.
    at: i64,
}

impl Tried {
    /// Minutes, twice as many after each time.
    fn is_due(self, now: Timestamp) -> bool {
        let pause = if self.times == 0 { 0 } else { 60 << self.times.min(LONGEST_PAUSE) };
        // A time that lies ahead was written before the clock was set back.
        !(self.at..self.at + pause).contains(&now.as_second())
    }
}

/// An hour, as a power of two in minutes.
const LONGEST_PAUSE: u32 = 6;
/// Characters of an address that is asked for.
const ADDRESS: usize = 2_000;

/// A list of alerts in which there is none.
const NO_ALERTS: &[u8] = b"<alerts/>";

/// A short name for a text that nobody else has.
fn name_of(text: &str) -> String {
    hex(&Sha256::digest(text)[..8])
}

impl Index {
    fn place(&self, cursor: &Cursor) -> Place {
        let place: Option<Place> = serde_json::from_str(&cursor.0).ok();
        place.filter(|place| place.of == self.url).unwrap_or_else(|| Place { of: self.url.clone(), ..Place::default() })
    }

    fn fetched(place: &Place, body: Option<Bytes>, problem: Option<String>) -> Fetched {
        let cursor = Cursor(serde_json::to_string(place).unwrap_or_default());
        Fetched { body, cursor, more: !place.ahead.is_empty(), problem }
    }

    /// The index itself was answered.
    fn index(&self, mut place: Place, response: &Response, now: Timestamp) -> Result<Fetched, SourceError> {
        let body = &response.body;
        let failed = |what: String| SourceError::Failed(format!("status {}: {what}", response.status));
        if body.trim_ascii().is_empty() {
            return Err(failed("an empty body".into()));
        }
        if form::is_page(body) {
            return Err(failed(words(body)));
        }
        let feed::Index { carries, mut entries } = feed::index(body).map_err(|reject| failed(reject.to_string()))?;
        if carries {
            let context = Context { source: &self.source, received_at: now, topic: None, message: None };
            feed::rows(body, context).map(drop).map_err(|reject| failed(reject.to_string()))?;
        }
        let mut problems = Vec::new();
        if let Some(more @ 1..) = entries.len().checked_sub(FEED_ENTRIES) {
            entries.truncate(FEED_ENTRIES);
            problems.push(format!("{more} entries beyond the first {FEED_ENTRIES} were not looked at"));
        }
        let is_all = self.plan(&mut place, &entries, now, &mut problems);
        place.validators = if is_all && problems.is_empty() { Validators::of(response) } else { Validators::default() };
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        let told = match carries {
            true => Some(body.clone()),
            // It is data all the same: a poll that can say what it goes without has not failed.
            false => problem.is_some().then(|| Bytes::from_static(NO_ALERTS)),
        };
        Ok(Index::fetched(&place, told, problem))
    }

    /// Decides which documents this poll asks for: those never had go first, the oldest of them before the others, but for the newest
    /// ones of a backlog; then those whose entries say that they have changed, the longest known first. `true`: nothing is left for
    /// later polls.
    fn plan(&self, place: &mut Place, entries: &[Entry], now: Timestamp, problems: &mut Vec<String>) -> bool {
        let mut planned: Vec<(Option<usize>, Option<Timestamp>, Ahead)> = Vec::new();
        let (mut present, mut astray) = (BTreeSet::new(), Vec::new());
        // The newest entry stands first, also of several that name one document.
        for entry in entries {
            let link = entry.link.as_deref().unwrap_or_default();
            let Some(url) = self.resolve(link) else {
                astray.push(link);
                continue;
            };
            let of = Known { document: name_of(&url), version: name_of(&entry.version) };
            let known = place.known.iter().position(|known| known.document == of.document);
            if present.insert(of.document.clone()) && known.is_none_or(|at| place.known[at].version != of.version) {
                planned.push((known, entry.updated, Ahead { of, url }));
            }
        }
        planned.reverse();
        if let Some(first) = astray.first() {
            let (count, first) = (astray.len(), short(first));
            problems.push(format!(
                "{count} entries name no document on this host, such as {first:?}: they are not asked for"
            ));
        }
        place.keep(&present);
        let found = planned.len();
        planned.retain(|(.., ahead)| place.tries.get(&ahead.of.document).is_none_or(|tried| tried.is_due(now)));
        planned.sort_by_key(|(known, updated, ahead)| {
            let times = place.tries.get(&ahead.of.document).map_or(0, |tried| tried.times);
            (times, *known, *updated)
        });
        let is_new = |(known, _, ahead): &(Option<usize>, Option<Timestamp>, Ahead)| {
            known.is_none() && !place.tries.contains_key(&ahead.of.document)
        };
        let new = planned.iter().take_while(|one| is_new(one)).count();
        if new > FEED_DOCUMENTS {
            planned[..new].rotate_right(FEED_NEWEST);
        }
        let more = planned.len().saturating_sub(FEED_DOCUMENTS);
        if more > 0 {
            problems.push(format!("{more} more documents are asked for at the next polls"));
        }
        place.ahead = planned.into_iter().map(|(.., ahead)| ahead).take(FEED_DOCUMENTS).collect();
        for Ahead { of, .. } in &place.ahead {
            place.tries.entry(of.document.clone()).or_default().at = now.as_second();
        }
        place.ahead.len() == found
    }

    /// An address that an entry names, if it is on the index's own host: elsewhere could be anybody's.
    fn resolve(&self, link: &str) -> Option<String> {
        let (origin, path) = split(&self.url)?;
        let link = link.split('#').next().unwrap_or_default().trim();
        if link.is_empty()
            || link.len() > ADDRESS
            || !link.bytes().all(|byte| byte.is_ascii_graphic())
            || link.contains('\\')
        {
            return None;
        }
        let at = |path: &str| Some(format!("{origin}{path}"));
        match split(link) {
            Some((other, path)) if other.eq_ignore_ascii_case(origin) => at(path),
            Some(_) => None,
            None if link.starts_with("//")
                || link.split(['/', '?']).next().is_some_and(|first| first.contains(':')) =>
            {
                None
            }
            None if link.starts_with('/') => at(link),
            None if link.starts_with('?') => at(&format!("{}{link}", path.split('?').next().unwrap_or_default())),
            None => {
                let folder = path.split('?').next().unwrap_or_default();
                let folder = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
                at(&format!("{folder}/{link}"))
            }
        }
    }

    /// A document was answered.
    fn document(&self, mut place: Place, response: &Response, now: Timestamp) -> Result<Fetched, SourceError> {
        let asked = place.ahead.remove(0);
        let body = &response.body;
        let said = |what: String| format!("{}: status {}: {what}", shown(&asked.url), response.status);
        let problem = match response.status {
            200 if body.trim_ascii().is_empty() => "an empty body".to_owned(),
            200 if form::is_page(body) => words(body),
            200 => {
                let context = Context { source: &self.source, received_at: now, topic: None, message: None };
                let read = feed::rows(body, context).and_then(|mut rows| {
                    rows.next().unwrap_or_else(|| Err(Reject::new(Reason::NotData, "there is no alert in it")))
                });
                match read {
                    Ok(_) => {
                        place.tries.remove(&asked.of.document);
                        place.know(asked.of);
                        return Ok(Index::fetched(&place, Some(body.clone()), None));
                    }
                    // It may have been asked for while it was written. What came is kept once.
                    Err(reject) => {
                        let problem = said(reject.to_string());
                        let is_first = place.tries.get(&asked.of.document).is_none_or(|tried| tried.times == 0);
                        place.missed(asked.of.document);
                        return Ok(Index::fetched(&place, is_first.then(|| body.clone()), Some(problem)));
                    }
                }
            }
            300..=399 => "it has moved, and redirects are not followed".to_owned(),
            400..=499 => words(body),
            _ => return Err(SourceError::Failed(said(words(body)))),
        };
        let problem = said(problem);
        place.missed(asked.of.document);
        Ok(Index::fetched(&place, None, Some(problem)))
    }
}

impl Place {
    fn know(&mut self, of: Known) {
        self.known.retain(|known| known.document != of.document);
        self.known.push(of);
    }

    /// Forgets what the index no longer names, the longest known first, as far as there is no room for it.
    fn keep(&mut self, present: &BTreeSet<String>) {
        let mut spare = self.known.len().saturating_sub(2 * FEED_ENTRIES);
        self.known.retain(|known| {
            let goes = spare > 0 && !present.contains(&known.document);
            spare -= usize::from(goes);
            !goes
        });
        self.tries.retain(|document, _| present.contains(document));
    }

    /// A document could not be had: the index is to be read again.
    fn missed(&mut self, document: String) {
        self.validators = Validators::default();
        self.tries.entry(document).or_default().times += 1;
    }
}

/// What all addresses on the host of this one begin with.
pub(crate) fn host(url: &str) -> &str {
    split(url).map_or(url, |(host, _)| host)
}

/// Scheme with host, and what stands behind them from the slash on; `None` for an address without them.
fn split(url: &str) -> Option<(&str, &str)> {
    let scheme = ["https://", "http://"]
        .into_iter()
        .find(|scheme| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))?;
    let host = url[scheme.len()..].find(['/', '?']).unwrap_or(url.len() - scheme.len());
    Some(url.split_at(scheme.len() + host))
}

/// The end of an address, in which documents differ.
fn shown(url: &str) -> String {
    let start = url.char_indices().rev().nth(79).map_or(0, |(at, _)| at);
    if start > 0 { format!("…{}", &url[start..]) } else { url.to_owned() }
}

impl Connector for Index {
    fn host(&self) -> &str {
        host(&self.url)
    }

    /// The document that failed counts as missed, and the next poll begins with the index.
    fn failed(&self, cursor: &Cursor, _: Timestamp) -> Cursor {
        let mut place = self.place(cursor);
        if place.ahead.is_empty() {
            return cursor.clone();
        }
        let asked = place.ahead.remove(0);
        place.missed(asked.of.document);
        place.ahead.clear();
        Index::fetched(&place, None, None).cursor
    }

    fn walk<'a>(&'a self, cursor: &Cursor, _now: Timestamp) -> Box<dyn Walk + 'a> {
        one(self, cursor)
    }

    /// A document that is no CAP at all costs itself alone; an index was judged before.
    fn rows<'a>(&'a self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        Ok(feed::rows(body, context)
            .unwrap_or_else(|reject| Box::new(std::iter::once(Err(reject.with_raw(body.clone()))))))
    }
}

impl Single for Index {
    fn next(&self, cursor: &Cursor) -> Request {
        let place = self.place(cursor);
        let mut headers = vec![("accept".to_owned(), ACCEPT.to_owned())];
        let url = match place.ahead.first() {
            Some(ahead) => ahead.url.clone(),
            None => {
                headers.extend(place.validators.headers());
                self.url.clone()
            }
        };
        Request { url: SecretUrl::new(url, None), headers }
    }

    fn absorb(&self, cursor: &Cursor, response: Response, now: Timestamp) -> Result<Fetched, SourceError> {
        let place = self.place(cursor);
        if let Some(until) = busy_until(&response, now) {
            let said = format!("status {}: {}", response.status, words(&response.body));
            return Err(SourceError::Busy { until, said });
        }
        if !place.ahead.is_empty() {
            return self.document(place, &response, now);
        }
        let said = || format!("status {}: {}", response.status, words(&response.body));
        match response.status {
            200 => self.index(place, &response, now),
            304 if !place.validators.is_none() => Ok(Index::fetched(&place, None, None)),
            300..=399 => {
                let to = short(response.header("location").unwrap_or("nowhere"));
                let status = response.status;
                Err(SourceError::Failed(format!(
                    "status {status}: it has moved to {to:?}, and redirects are not followed"
                )))
            }
            401 | 403 | 407 | 451 => Err(SourceError::Refused(format!("access refused: {}", said()))),
            _ => Err(SourceError::Failed(said())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Index {
        Index { url: url.into(), source: SourceId::new("cap_alerts_test").unwrap() }
    }

    #[test]
    fn s11_only_addresses_on_the_indexs_own_host_are_asked_for() {
        let index = at("https://cap.test/feeds/index.atom?all=1");
        for (link, url) in [
            ("https://cap.test/a.xml?x=1#y", Some("https://cap.test/a.xml?x=1")),
            ("HTTPS://CAP.test/a.xml", Some("https://cap.test/a.xml")),
            ("/a.xml", Some("https://cap.test/a.xml")),
            ("a.xml", Some("https://cap.test/feeds/a.xml")),
            ("?id=1", Some("https://cap.test/feeds/index.atom?id=1")),
            ("http://cap.test/a.xml", None),
            ("https://cap.test.evil/a.xml", None),
            ("https://cap.test@evil/a.xml", None),
            ("https://cap.test:8443/a.xml", None),
            ("//evil/a.xml", None),
            ("file:///etc/passwd", None),
            ("/\\evil/a", None),
            ("/a b", None),
            ("", None),
        ] {
            assert_eq!(index.resolve(link).as_deref(), url, "{link}");
        }
        assert!(at("https://cap.test").resolve("a.xml").is_some_and(|url| url == "https://cap.test/a.xml"));
    }

    #[test]
    fn a_document_that_failed_is_asked_for_again_after_minutes_that_double() {
        let tried = |times| Tried { times, at: 1_000 };
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(tried(0).is_due(at(1_000)));
        assert!(!tried(1).is_due(at(1_119)) && tried(1).is_due(at(1_120)));
        assert!(!tried(9).is_due(at(1_000 + 3_839)) && tried(9).is_due(at(1_000 + 3_840)));
        assert!(tried(9).is_due(at(10)), "the clock was set back");
    }
}
