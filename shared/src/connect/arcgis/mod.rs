//! ArcGIS Feature and Map services [S13]: one layer as a polled source. What a source makes of the rows it says itself (`Reads`).
//!
//! A poll asks for the layer's own document first. If that says that nothing has changed since the last answer, the poll ends.
//! Otherwise it asks how many rows there are, then for page after page of them in the order of their object ids (of a layer that
//! gives no pages: which object ids there are, then for range after range of them), and, when there was more than one, for the
//! document again: pages are no snapshot. A poll whose time is over ends with what came, and the next one goes on behind it. An answer is *whole* when all rows that were counted
//! came and the layer did not change meanwhile. Rows are published in any case; only a whole answer that has rows says that
//! others have gone, and only a whole one lets the next poll end early. Each query has an address of its own, so that no cache
//! answers it. A layer of many years is read once instead, in batches: `batches.rs`.

mod answer;
mod batches;
mod query;
#[cfg(all(test, feature = "testing"))]
mod tests;
mod walk;

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use answer::Names;
pub(crate) use batches::progress;
pub use query::{Form, Query};
pub(crate) use query::{check_url, services_of};

use super::politeness::Manners;
use super::{Connector, Cursor, Rest, Walk};
use crate::decode::items::{Document, Item};
use crate::decode::{Context, Row, Rows};
use crate::error::Reject;
use crate::limits::PROBE_REQUESTS;
use crate::record::Origin;
use crate::time::Timestamp;
use crate::upstream::{Request, SecretUrl};
use walk::{Steps, has_ended};

/// A host serves thousands of readers a minute out of its caches; layers are renewed every few minutes.
pub(crate) const MANNERS: Manners = Manners { a_minute: 60, least_interval: Duration::from_secs(30), apart: None };

/// What a source makes of a layer.
pub(crate) trait Reads: Send + Sync {
    /// Fields that the layer must have, each with the setting of `config` that names it, which is empty where none does.
    fn needs(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    /// Whether the layer is read once, batch by batch from its first row to its last, and then no more [M1].
    fn reads_once(&self) -> bool {
        false
    }

    /// A layer whose last change is older than this is stale; `None`: that is not told.
    fn stale_after(&self) -> Option<Duration> {
        None
    }

    /// What is kept of an answer's rows for the next poll, and what it says of the rows beside what stands in them.
    fn compare(&self, memory: Value, _answer: &Answer<'_>) -> Compared {
        Compared { memory, ..Compared::default() }
    }

    /// One row as a record.
    fn row(&self, row: LayerRow<'_>, context: Context<'_>) -> Row;

    /// A record of a row that has gone, of which `compare` said this.
    fn gone(&self, said: &Value, _context: Context<'_>) -> Option<Row> {
        let _ = said;
        None
    }
}

/// An answer's rows.
pub(crate) struct Answer<'a> {
    /// The rows' own bytes.
    pub(crate) rows: &'a [Bytes],
    /// Names of coded values.
    pub(crate) names: &'a Names,
    /// Whether it says that rows have gone: all rows came, and there are some.
    pub(crate) whole: bool,
}

/// What comparing an answer with what was kept gave.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Kept for the next poll once the records are accepted.
    pub(crate) memory: Value,
    /// The next poll reads the rows although the layer says that nothing has changed.
    pub(crate) again: bool,
    /// What is said of each row, in their order; empty for nothing. `false`: another row stands for it, and it is not published.
    pub(crate) rows: Vec<Value>,
    /// What is said of rows that have gone.
    pub(crate) gone: Vec<Value>,
    /// What the stream's status is to say.
    pub(crate) problem: Option<String>,
}

/// One row, read.
pub(crate) struct LayerRow<'a> {
    pub(crate) item: Item,
    pub(crate) origin: Origin,
    /// What `compare` said of it.
    pub(crate) said: &'a Value,
    /// Whether the layer has not changed for too long; `None` where that is not known.
    pub(crate) stale: Option<bool>,
    /// The layer's first change after it was stale last.
    pub(crate) fresh_again: Option<Timestamp>,
}

impl LayerRow<'_> {
    /// A row out of a file, of which nothing else is known.
    pub(crate) fn alone(item: Item, origin: Origin) -> LayerRow<'static> {
        LayerRow { item, origin, said: &Value::Null, stale: None, fresh_again: None }
    }
}

/// A layer, and what a source makes of it.
pub(crate) struct Layer<R> {
    /// Without a slash at its end.
    pub(crate) url: String,
    pub(crate) query: Query,
    pub(crate) reads: R,
}

/// What stands beside the rows in a fetched body.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Beside {
    names: Names,
    stale: Option<bool>,
    fresh_again: Option<i64>,
    rows: Vec<Value>,
    gone: Vec<Value>,
}

/// Requests for a layer's document, the number of its rows, the first of them, and the number of those behind.
const FIRST_BATCH: usize = 4;

/// The name of that in the body.
const BESIDE: &str = "streammanager";

impl<R: Reads> Connector for Layer<R> {
    fn host(&self) -> &str {
        query::services_of(&self.url)
    }

    fn look(&self) -> usize {
        if self.reads.reads_once() { FIRST_BATCH } else { PROBE_REQUESTS }
    }

    fn rests(&self, cursor: &Cursor, _: Timestamp) -> Option<Rest> {
        has_ended(self, cursor).then_some(Rest::Ended)
    }

    fn rows<'a>(&'a self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        let document = Document::read(body, &["features"])?;
        let Beside { names, stale, fresh_again, rows: said, gone } =
            serde_json::from_value(document.head(BESIDE)).unwrap_or_default();
        let fresh_again = fresh_again.and_then(|at| Timestamp::from_millisecond(at).ok());
        let mut said = said.into_iter();
        let present = document.zip(1..).filter_map(move |(bytes, n)| {
            let said = said.next().unwrap_or_default();
            if said == Value::Bool(false) {
                return None;
            }
            let read = Item::read(&bytes).and_then(|mut item| {
                names.apply(&mut item.values);
                let origin = Origin::of(bytes.clone());
                self.reads.row(LayerRow { item, origin, said: &said, stale, fresh_again }, context)
            });
            Some(read.map_err(|reject| reject.at_row(n).with_raw(bytes)))
        });
        let gone = gone.into_iter().filter_map(move |said| self.reads.gone(&said, context));
        Ok(Box::new(present.chain(gone)))
    }

    fn walk<'a>(&'a self, cursor: &Cursor, now: Timestamp) -> Box<dyn Walk + 'a> {
        Box::new(Steps::new(self, cursor, now))
    }
}

/// Rows of a file in either form, as a service gives them or one alone, each read by `read`.
pub(crate) fn rows_of_file<'a>(
    body: &'a Bytes,
    context: Context<'a>,
    read: impl Fn(LayerRow<'_>, Context<'_>) -> Row + Send + 'a,
) -> Result<Rows<'a>, Reject> {
    let items = Document::read_or_one(body, &["features"], &["properties", "attributes"])
        .and_then(Document::in_degrees)
        .map_err(|reject| reject.with_raw(body.clone()))?;
    Ok(Box::new(items.zip(1..).map(move |(bytes, n)| {
        let row = Item::read(&bytes).map(|item| LayerRow::alone(item, Origin::of(bytes.clone())));
        row.and_then(|row| read(row, context)).map_err(|reject| reject.at_row(n).with_raw(bytes))
    })))
}

fn request(url: String) -> Request {
    Request { url: SecretUrl::new(url, None), headers: Vec::new() }
}
