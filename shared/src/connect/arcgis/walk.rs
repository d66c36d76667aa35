//! One poll of a layer, step by step: document, count, pages, document again. `mod.rs` says what for.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::{self, LayerDocument, Page};
use super::query::{self, From};
use super::{Answer, BESIDE, Beside, Compared, Layer, Reads, request};
use crate::connect::{Cursor, Fetched, SourceError, Walk};
use crate::limits::{LAYER_MEMORY_BYTES, LAYER_PAGES, LAYER_REREAD, RESPONSE_BYTES};
use crate::time::Timestamp;
use crate::upstream::{Request, Response};

/// What a stream keeps of a layer between polls. It moves only when an answer's records are accepted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// What was asked; of another layer or other rows nothing here is true.
    of: String,
    /// The layer's last change by its own word, when the last whole answer began.
    edited: Option<i64>,
    /// When rows were asked for last, in milliseconds since 1970.
    queried: Option<i64>,
    /// Whether they are to be read again in any case.
    again: bool,
    stale: bool,
    fresh_again: Option<i64>,
    /// The source's own.
    memory: Value,
}

/// What is asked now.
enum Ask {
    Document,
    Count(LayerDocument),
    Page(LayerDocument),
    /// The document again; this is the one that the poll began with.
    Again(LayerDocument),
}

pub(super) struct Steps<'a, R> {
    layer: &'a Layer<R>,
    cursor: Cursor,
    kept: Kept,
    /// In milliseconds since 1970; it is part of every address.
    began: i64,
    ask: Ask,
    counted: u64,
    pages: u64,
    /// Rows of all pages, also those that came twice.
    received: u64,
    last_id: Option<i64>,
    ids: HashSet<i64>,
    rows: Vec<Bytes>,
    bytes: usize,
}

/// Room for what stands beside the rows in a body.
const BESIDE_ROWS: usize = 4 * 1024 * 1024;

impl<'a, R: Reads> Steps<'a, R> {
    pub(super) fn new(layer: &'a Layer<R>, cursor: &Cursor, now: Timestamp) -> Steps<'a, R> {
        let of = query::count(&layer.url, &layer.query, 0);
        let kept = serde_json::from_str(&cursor.0).ok().filter(|kept: &Kept| kept.of == of);
        Steps {
            layer,
            cursor: cursor.clone(),
            kept: kept.unwrap_or_else(|| Kept { of, ..Kept::default() }),
            began: now.as_millisecond(),
            ask: Ask::Document,
            counted: 0,
            pages: 0,
            received: 0,
            last_id: None,
            ids: HashSet::new(),
            rows: Vec::new(),
            bytes: 0,
        }
    }

    /// Whether a layer that was changed last then is stale; `None` where it does not say when, or nobody asks.
    fn is_stale(&self, edited: Option<i64>) -> Option<bool> {
        let age = Duration::from_millis(u64::try_from(self.began - edited?).unwrap_or(0));
        Some(age > self.layer.reads.stale_after()?)
    }

    /// The layer says that its rows are those of the last answer, and nothing stands against believing it.
    fn is_unchanged(&self, document: &LayerDocument) -> bool {
        let Kept { edited, queried, again, stale, .. } = &self.kept;
        // A time that lies ahead was written by a clock that was set back since.
        let age = queried.and_then(|at| u64::try_from(self.began - at).ok()).map(Duration::from_millis);
        edited.is_some()
            && *edited == document.edited
            && !again
            && age.is_some_and(|age| age < LAYER_REREAD)
            && self.is_stale(document.edited).unwrap_or(*stale) == *stale
    }

    /// Takes the layer's document; `None`: nothing has changed.
    fn document(&mut self, head: &BTreeMap<String, &RawValue>) -> Result<Option<Ask>, SourceError> {
        let document = LayerDocument::read(head)?;
        for (setting, field) in self.layer.reads.needs() {
            if !document.fields.iter().any(|has| has.eq_ignore_ascii_case(field)) {
                let has = document.fields.iter().take(40).cloned().collect::<Vec<_>>().join(", ");
                let said = format!("the layer has no field {field}; it has {has}");
                let named = if setting.is_empty() { said } else { format!("config.{setting}: {said}") };
                return Err(SourceError::Refused(named));
            }
        }
        Ok((!self.is_unchanged(&document)).then_some(Ask::Count(document)))
    }

    fn count(&mut self, counted: u64, document: LayerDocument) -> Result<Ask, SourceError> {
        let most = document.page_size() * LAYER_PAGES;
        if counted > most {
            let said =
                format!("{counted} rows are more than the {most} that one poll reads: narrow them by where or area");
            return Err(SourceError::Refused(said));
        }
        self.counted = counted;
        Ok(Ask::Page(document))
    }

    /// Takes a page; whether it was the last one.
    fn page(&mut self, body: &Bytes, page: &Page<'_>, document: &LayerDocument) -> Result<bool, SourceError> {
        self.pages += 1;
        // Its rows keep the whole page in memory.
        self.bytes += body.len();
        let (before, came) = (self.rows.len(), page.rows.len());
        self.received += came as u64;
        if !document.pages && page.rows.iter().any(|(id, _)| id.is_none()) {
            return Err(SourceError::Failed(format!(
                "a row has no {}, by which the next ones are asked",
                document.object_id
            )));
        }
        for (id, row) in &page.rows {
            self.last_id = self.last_id.max(*id);
            // A row that came already was moved to another page while pages were read.
            if id.is_some_and(|id| !self.ids.insert(id)) {
                continue;
            }
            self.rows.push(answer::bytes_of(body, row));
        }
        if self.bytes > RESPONSE_BYTES - BESIDE_ROWS {
            let said = format!(
                "its answers have more than {} bytes: narrow them by where, area or simplify",
                RESPONSE_BYTES - BESIDE_ROWS
            );
            return Err(SourceError::Refused(said));
        }
        if came > 0 && self.rows.len() == before {
            return Err(SourceError::Failed(
                "a page repeats rows of earlier pages: the service does not give the next ones".into(),
            ));
        }
        let enough = self.rows.len() as u64 >= self.counted;
        // An empty page ends a walk by object ids: the next one would be asked for in the same words.
        let last = !page.exceeded && (enough || came == 0) || (came == 0 && !document.pages);
        if !last && self.pages >= LAYER_PAGES {
            return Err(SourceError::Failed(format!("its pages do not end: {} were read", self.pages)));
        }
        Ok(last)
    }

    /// The rows as one body, and what is kept. `same`: the layer did not change while pages were read.
    fn fetched(&mut self, document: &LayerDocument, same: bool) -> Result<Fetched, SourceError> {
        let (rows, kept) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.kept));
        if rows.is_empty() && self.counted > 0 {
            let said = format!("{} rows were counted and none came", self.counted);
            return Err(SourceError::Failed(said));
        }
        let whole = same && !rows.is_empty() && rows.len() as u64 == self.counted;
        let answer = Answer { rows: &rows, names: &document.names, whole };
        let Compared { memory, again, rows: said, gone } = self.layer.reads.compare(kept.memory, &answer);
        let stale = self.is_stale(document.edited);
        let was_stale = kept.stale;
        let is_stale = stale.unwrap_or(was_stale);
        let fresh_again = if was_stale && !is_stale { document.edited } else { kept.fresh_again };
        let kept = Kept {
            of: kept.of,
            edited: document.edited.filter(|_| whole),
            queried: Some(self.began),
            again,
            stale: is_stale,
            fresh_again,
            memory,
        };
        let beside = Beside { names: document.names.clone(), stale, fresh_again, rows: said, gone };
        let written = |e: serde_json::Error| SourceError::Failed(e.to_string());
        let cursor = serde_json::to_string(&kept).map_err(written)?;
        if cursor.len() > 2 * LAYER_MEMORY_BYTES {
            return Err(SourceError::Failed(format!("{} bytes are to be kept of its rows", cursor.len())));
        }
        let mut body = BytesMut::with_capacity(self.bytes + 1024);
        body.put_slice(format!("{{\"{BESIDE}\":").as_bytes());
        serde_json::to_writer((&mut body).writer(), &beside).map_err(written)?;
        body.put_slice(b",\"features\":[");
        for (n, row) in rows.iter().enumerate() {
            if n > 0 {
                body.put_u8(b',');
            }
            body.put_slice(row);
        }
        body.put_slice(b"]}");
        let problem = if !same {
            Some("the layer changed while its pages were read".to_owned())
        } else if rows.len() as u64 != self.counted {
            Some(format!("{} rows came of the {} that were counted", rows.len(), self.counted))
        } else {
            None
        };
        Ok(Fetched { problem, ..fetched(Some(body.freeze()), Cursor(cursor)) })
    }
}

/// `None`: there is nothing newer.
fn fetched(body: Option<Bytes>, cursor: Cursor) -> Fetched {
    Fetched { body, cursor, more: false, problem: None }
}

impl<R: Reads> Walk for Steps<'_, R> {
    fn next(&self) -> Request {
        let Layer { url, query, .. } = self.layer;
        request(match &self.ask {
            Ask::Document => query::layer(url, self.began),
            // Of another time than the first: what a cache gave out then is of no use now.
            Ask::Again(_) => query::layer(url, self.began + 1),
            Ask::Count(_) => query::count(url, query, self.began),
            Ask::Page(document) => {
                let from = if document.pages { From::Offset(self.received) } else { From::Id(self.last_id) };
                query::page(url, query, document, from, self.began)
            }
        })
    }

    fn absorb(&mut self, response: Response, now: Timestamp) -> Result<Option<Fetched>, SourceError> {
        let head = answer::members(&response, now)?;
        self.ask = match std::mem::replace(&mut self.ask, Ask::Document) {
            Ask::Document => match self.document(&head)? {
                Some(ask) => ask,
                None => return Ok(Some(fetched(None, self.cursor.clone()))),
            },
            Ask::Count(document) => match self.count(answer::count(&head)?, document)? {
                Ask::Page(document) if self.counted == 0 => return self.fetched(&document, true).map(Some),
                ask => ask,
            },
            Ask::Page(document) => {
                let page = Page::read(&head, &document.object_id)?;
                if !self.page(&response.body, &page, &document)? {
                    Ask::Page(document)
                } else if self.pages > 1 && document.edited.is_some() {
                    Ask::Again(document)
                } else {
                    return self.fetched(&document, true).map(Some);
                }
            }
            Ask::Again(document) => {
                let same = LayerDocument::read(&head)?.edited == document.edited;
                return self.fetched(&document, same).map(Some);
            }
        };
        Ok(None)
    }
}
