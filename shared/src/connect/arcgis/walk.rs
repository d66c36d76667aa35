//! One poll of a layer, step by step: document, count, pages, document again. `mod.rs` says what for.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::{self, LayerDocument, Page};
use super::batches::Batches;
use super::query::{self, Part};
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
    /// The object id behind which the next poll goes on: this one's time was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    above: Option<i64>,
    stale: bool,
    fresh_again: Option<i64>,
    /// The source's own.
    memory: Value,
    /// Of a layer that is read once, from its first row to its last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batches: Option<Batches>,
}

impl Kept {
    fn of<R: Reads>(layer: &Layer<R>, cursor: &Cursor) -> Kept {
        let of = query::count(&layer.url, &layer.query, None, 0);
        let kept = serde_json::from_str(&cursor.0).ok().filter(|kept: &Kept| kept.of == of);
        let kept = kept.unwrap_or_else(|| Kept { of, ..Kept::default() });
        Kept { batches: layer.reads.reads_once().then(|| kept.batches.unwrap_or_default()), ..kept }
    }
}

/// Whether a layer that is read once has been read to its end.
pub(super) fn has_ended<R: Reads>(layer: &Layer<R>, cursor: &Cursor) -> bool {
    Kept::of(layer, cursor).batches.is_some_and(|batches| batches.ended)
}

/// What is asked now.
enum Ask {
    Document,
    Count(LayerDocument),
    /// The rows' object ids, of a layer that gives no pages.
    Ids(LayerDocument),
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
    /// Rows that the pages until now stood for, also those that came twice or not at all.
    passed: u64,
    /// The object ids still to be asked for, in their order, of a layer that gives no pages.
    asked_by_id: VecDeque<i64>,
    last_id: Option<i64>,
    /// All rows are counted, not those behind the last one.
    counts_all: bool,
    ids: HashSet<i64>,
    rows: Vec<Bytes>,
    bytes: usize,
}

const REPEATED: &str = "a page repeats rows of earlier pages: the service does not give the next ones";
/// Room for what stands beside the rows in a body.
const BESIDE_ROWS: usize = 4 * 1024 * 1024;

impl<'a, R: Reads> Steps<'a, R> {
    pub(super) fn new(layer: &'a Layer<R>, cursor: &Cursor, now: Timestamp) -> Steps<'a, R> {
        let kept = Kept::of(layer, cursor);
        Steps {
            layer,
            cursor: cursor.clone(),
            began: now.as_millisecond(),
            ask: Ask::Document,
            counted: kept.batches.as_ref().map_or(0, Batches::left),
            kept,
            pages: 0,
            passed: 0,
            asked_by_id: VecDeque::new(),
            last_id: None,
            counts_all: false,
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
        if let Some(batches) = &self.kept.batches {
            if !document.pages {
                return Err(SourceError::Refused("it gives no pages: it cannot be read batch by batch".into()));
            }
            return Ok(Some(if batches.is_uncounted() { Ask::Count(document) } else { Ask::Page(document) }));
        }
        Ok(match (self.is_unchanged(&document), document.pages) {
            (true, _) => None,
            (false, true) => Some(Ask::Count(document)),
            (false, false) => Some(Ask::Ids(document)),
        })
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

    /// Takes a number of rows of a layer that is read once: of all before its first page, of those behind what may be its last.
    fn counted(&mut self, counted: u64, document: LayerDocument) -> Result<Option<Fetched>, SourceError> {
        let (came, is_first) = (!self.rows.is_empty(), self.pages == 0);
        let Some(batches) = &mut self.kept.batches else { return Ok(None) };
        if is_first {
            batches.begin(counted)?;
            self.counted = counted;
            self.ask = Ask::Page(document);
            return Ok(None);
        }
        if self.counts_all {
            let problem = batches.again(counted)?;
            if problem.is_some() {
                (self.kept.above, self.last_id) = (None, None);
            }
            return Ok(Some(Fetched { problem, ..self.batch(&document)? }));
        }
        if !batches.behind(counted, came)? {
            self.counts_all = true;
            self.ask = Ask::Count(document);
            return Ok(None);
        }
        self.batch(&document).map(Some)
    }

    fn ids(&mut self, mut ids: Vec<i64>, document: LayerDocument) -> Result<Ask, SourceError> {
        ids.retain(|id| self.kept.above.is_none_or(|above| *id > above));
        let counted = ids.len() as u64;
        self.asked_by_id = ids.into();
        self.count(counted, document)
    }

    /// Takes a page; whether it was the last one.
    fn page(&mut self, body: &Bytes, page: &Page<'_>, document: &LayerDocument) -> Result<bool, SourceError> {
        self.pages += 1;
        // Its rows keep the whole page in memory.
        self.bytes += body.len();
        let (before, came) = (self.rows.len(), page.rows.len());
        // Behind an empty page that says that there are more stand those of the next one.
        self.passed += if came == 0 { document.page_size() } else { came as u64 };
        for (id, row) in &page.rows {
            if self.kept.batches.is_some() {
                // What stands behind it could not be asked for.
                let Some(id) = id else {
                    return Err(SourceError::Failed(format!("a row has no {} that is a number", document.object_id)));
                };
                if self.kept.above.is_some_and(|above| *id <= above) {
                    return Err(SourceError::Failed(REPEATED.into()));
                }
            }
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
            return Err(SourceError::Failed(REPEATED.into()));
        }
        if !document.pages {
            self.asked_by_id.drain(..self.asked_by_id.len().min(document.page_size() as usize));
            return Ok(self.asked_by_id.is_empty());
        }
        let enough = self.rows.len() as u64 >= self.counted;
        let last = match came {
            0 => !page.exceeded || self.passed >= self.counted,
            _ => enough && !page.exceeded,
        };
        if !last && self.pages >= LAYER_PAGES {
            return Err(SourceError::Failed(format!("its pages do not end: {} were read", self.pages)));
        }
        Ok(last)
    }

    /// Takes an empty page of a layer that is read once, which says that there are more. Whoever steps over rows that only this answer
    /// lacks would leave them out: the next poll asks again first.
    fn empty(&mut self, document: LayerDocument) -> Result<Option<Fetched>, SourceError> {
        let before = self.pages > 1;
        let Some(batches) = &mut self.kept.batches else { return Ok(None) };
        if batches.is_empty_again() || before {
            self.ask = Ask::Page(document);
            return Ok(None);
        }
        let cursor = Cursor(serde_json::to_string(&self.kept).map_err(written)?);
        let problem = Some("a page came without rows, and says that there are more: it is asked for again".to_owned());
        Ok(Some(Fetched { problem, ..fetched(None, cursor) }))
    }

    /// The rows of one page of a layer that is read once, and what is kept.
    fn batch(&mut self, document: &LayerDocument) -> Result<Fetched, SourceError> {
        let rows = std::mem::take(&mut self.rows);
        let more = self.kept.batches.as_ref().is_some_and(Batches::more);
        let kept = Kept { above: self.last_id.max(self.kept.above), ..self.kept.clone() };
        let beside = Beside { names: document.names.clone(), ..Beside::default() };
        let body = if rows.is_empty() { None } else { Some(self.body(&beside, &rows).map_err(written)?) };
        let cursor = Cursor(serde_json::to_string(&kept).map_err(written)?);
        Ok(Fetched { more, ..fetched(body, cursor) })
    }

    fn body(&self, beside: &Beside, rows: &[Bytes]) -> serde_json::Result<Bytes> {
        let mut body = BytesMut::with_capacity(self.bytes + 1024);
        body.put_slice(format!("{{\"{BESIDE}\":").as_bytes());
        serde_json::to_writer((&mut body).writer(), beside)?;
        body.put_slice(b",\"features\":[");
        for (n, row) in rows.iter().enumerate() {
            if n > 0 {
                body.put_u8(b',');
            }
            body.put_slice(row);
        }
        body.put_slice(b"]}");
        Ok(body.freeze())
    }

    /// The rows as one body, and what is kept.
    fn fetched(&mut self, document: &LayerDocument, read: Read) -> Result<Fetched, SourceError> {
        let (rows, kept) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.kept));
        if rows.is_empty() && self.counted > 0 {
            let said = format!("{} rows were counted and none came", self.counted);
            return Err(SourceError::Failed(said));
        }
        let is_all = read == Read::All && kept.above.is_none();
        let whole = is_all && !rows.is_empty() && rows.len() as u64 == self.counted;
        let answer = Answer { rows: &rows, names: &document.names, whole };
        let Compared { memory, again, rows: said, gone, problem: compared } =
            self.layer.reads.compare(kept.memory, &answer);
        let stale = self.is_stale(document.edited);
        let was_stale = kept.stale;
        let is_stale = stale.unwrap_or(was_stale);
        let fresh_again = if was_stale && !is_stale { document.edited } else { kept.fresh_again };
        let kept = Kept {
            of: kept.of,
            edited: document.edited.filter(|_| whole),
            queried: Some(self.began),
            again,
            above: self.last_id.filter(|_| read == Read::UntilCut),
            stale: is_stale,
            fresh_again,
            memory,
            batches: None,
        };
        let beside = Beside { names: document.names.clone(), stale, fresh_again, rows: said, gone };
        let cursor = serde_json::to_string(&kept).map_err(written)?;
        if cursor.len() > 2 * LAYER_MEMORY_BYTES {
            return Err(SourceError::Failed(format!("{} bytes are to be kept of its rows", cursor.len())));
        }
        let body = self.body(&beside, &rows).map_err(written)?;
        let (came, counted) = (rows.len(), self.counted);
        let problem = match read {
            Read::UntilCut => Some(format!("{came} of {counted} rows came in time: the next poll goes on behind them")),
            Read::WhileChanging => Some("the layer changed while its pages were read".to_owned()),
            Read::All if came as u64 != counted => Some(format!("{came} rows came of the {counted} that were counted")),
            Read::All => None,
        };
        let said: Vec<String> = problem.into_iter().chain(compared).collect();
        let problem = (!said.is_empty()).then(|| said.join("; "));
        Ok(Fetched { problem, ..fetched(Some(body), Cursor(cursor)) })
    }
}

/// How far an answer's rows are all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    All,
    /// The layer was changed before the last page.
    WhileChanging,
    /// There was no time for more.
    UntilCut,
}

fn written(problem: serde_json::Error) -> SourceError {
    SourceError::Failed(problem.to_string())
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
            Ask::Count(document) => {
                let above = self.last_id.max(self.kept.above).filter(|_| !self.counts_all);
                let above = above.map(|above| (document.object_id.as_str(), above));
                query::count(url, query, above, self.began)
            }
            Ask::Ids(_) => query::ids(url, query, self.began),
            Ask::Page(document) => {
                let last = (document.page_size() as usize).min(self.asked_by_id.len()).saturating_sub(1);
                let part = match (self.asked_by_id.front(), self.asked_by_id.get(last)) {
                    (Some(first), Some(last)) => Part::Between(*first, *last),
                    _ => Part::Behind { above: self.kept.above, offset: self.passed },
                };
                query::page(url, query, document, part, self.began)
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
            Ask::Count(document) if self.kept.batches.is_some() => {
                return self.counted(answer::count(&head)?, document);
            }
            Ask::Count(document) => self.count(answer::count(&head)?, document)?,
            Ask::Ids(document) => self.ids(answer::ids(&head)?, document)?,
            Ask::Page(document) => {
                let page = Page::read(&head, &document.object_id)?;
                if self.kept.batches.is_some() {
                    let is_last = self.page(&response.body, &page, &document)?;
                    let came = self.rows.len() as u64;
                    if came == 0 && !is_last {
                        return self.empty(document);
                    }
                    if self.kept.batches.as_mut().is_some_and(|batches| batches.page(came)) {
                        self.ask = Ask::Count(document);
                        return Ok(None);
                    }
                    return self.batch(&document).map(Some);
                }
                if !self.page(&response.body, &page, &document)? {
                    Ask::Page(document)
                } else if self.pages > 1 && document.edited.is_some() {
                    Ask::Again(document)
                } else {
                    return self.fetched(&document, Read::All).map(Some);
                }
            }
            Ask::Again(document) => {
                let same = LayerDocument::read(&head)?.edited == document.edited;
                return self.fetched(&document, if same { Read::All } else { Read::WhileChanging }).map(Some);
            }
        };
        match &self.ask {
            Ask::Page(document) if self.counted == 0 && self.kept.batches.is_none() => {
                let document = document.clone();
                self.fetched(&document, Read::All).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn cut(&mut self) -> Result<Option<Fetched>, SourceError> {
        if self.kept.batches.is_some() {
            let problem = Some("there was no time for the next rows".to_owned());
            return Ok(Some(Fetched { problem, ..fetched(None, self.cursor.clone()) }));
        }
        match std::mem::replace(&mut self.ask, Ask::Document) {
            Ask::Page(document) if self.last_id.is_some() => self.fetched(&document, Read::UntilCut).map(Some),
            // All rows came; whether the layer changed meanwhile was not to be learned any more.
            Ask::Again(document) => self.fetched(&document, Read::WhileChanging).map(Some),
            _ => Ok(None),
        }
    }
}
