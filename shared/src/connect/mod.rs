//! Connectors: pure state machines that say what to fetch next and what a response means. No I/O, no clock of their own.

pub mod arcgis;
pub(crate) mod checked;
pub(crate) mod feed;
pub(crate) mod index;
pub(crate) mod keyed;
pub(crate) mod parts;
pub(crate) mod politeness;
pub mod probe;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::decode::{Context, Rows};
use crate::error::Reject;
use crate::limits::PROBE_REQUESTS;
use crate::time::Timestamp;
use crate::upstream::{Request, Response};

/// What a polled stream remembers between fetches; opaque JSON of its connector, kept in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(pub String);

/// What an answer is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// Judged to be data; `None`: the source has nothing newer [S11], or `problem` says why there is none.
    pub body: Option<Bytes>,
    /// Remembered once the body's records are in the queue.
    pub cursor: Cursor,
    /// The same poll asks on, with the new cursor.
    pub more: bool,
    /// What was asked for alone is in trouble, such as one station of many: the others go on [S10].
    pub problem: Option<String>,
}

/// An answer that ends the poll.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SourceError {
    /// The source's own trouble; counts for its breaker [S10].
    #[error("{0}")]
    Failed(String),
    /// Told to come back later [S11], in the source's own words.
    #[error("{said}")]
    Busy {
        /// Not asked again before this.
        until: Timestamp,
        /// Status and text of the answer.
        said: String,
    },
    /// Wrong key or configuration: a person has to act.
    #[error("{0}")]
    Refused(String),
}

/// Why a stream does not ask now, although it is due.
#[derive(Debug, Clone, PartialEq)]
pub enum Rest {
    /// It has asked for all that it was to ask for [M1].
    Ended,
    /// It may not before this.
    Until {
        /// When it may again.
        until: Timestamp,
        /// What it has used up, or what is not over yet, as a clause for people.
        because: String,
    },
}

impl Rest {
    /// What is measured until `end` is not asked for before then: what has not happened yet would be taken for nothing.
    pub(crate) fn until_over(end: Timestamp, what: &str, now: Timestamp) -> Option<Rest> {
        (now < end).then(|| Rest::Until { until: end, because: format!("{what} is not over") })
    }
}

/// How far a bounded range has been read, and what reading it to its end takes [M1].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// So many of `whole`.
    pub done: u64,
    /// `None` until the source has said how many there are.
    pub whole: Option<u64>,
    /// What is counted, in the plural.
    pub of: String,
    /// Requests from its beginning to its end, without those that fail; `None` as long as `whole` is.
    pub requests: Option<u64>,
    /// Points that it costs at the most; `None` where asking is free.
    pub points: Option<u64>,
}

/// One kind of source, as pure state machines.
pub trait Connector: Send + Sync {
    /// The address that all its requests begin with: what it tells one stream to wait holds for all that ask there.
    fn host(&self) -> &str;

    /// Why nothing is to be asked now; `None`: ask.
    fn rests(&self, _cursor: &Cursor, _now: Timestamp) -> Option<Rest> {
        None
    }

    /// Where the next poll begins when the request of this cursor failed.
    fn failed(&self, cursor: &Cursor, _now: Timestamp) -> Cursor {
        cursor.clone()
    }

    /// Requests of a look at it before it runs.
    fn look(&self) -> usize {
        PROBE_REQUESTS
    }

    /// The rows of a body that was taken.
    ///
    /// # Errors
    /// When the body as a whole turns out to be no data.
    fn rows<'a>(&'a self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject>;

    /// What a poll asks from this cursor on, until it has something.
    fn walk<'a>(&'a self, cursor: &Cursor, now: Timestamp) -> Box<dyn Walk + 'a>;
}

/// What to ask next and what the answer means, where each answer is judged alone.
pub trait Single: Send + Sync {
    /// The next request.
    fn next(&self, cursor: &Cursor) -> Request;

    /// Judges the answer to the request that `next` made of this cursor.
    fn absorb(&self, cursor: &Cursor, response: Response, now: Timestamp) -> Result<Fetched, SourceError>;
}

/// One request and its answer, as a walk.
pub(crate) fn one<'a>(single: &'a dyn Single, cursor: &Cursor) -> Box<dyn Walk + 'a> {
    Box::new(One { single, cursor: cursor.clone() })
}

struct One<'a> {
    single: &'a dyn Single,
    cursor: Cursor,
}

impl Walk for One<'_> {
    fn next(&self) -> Request {
        self.single.next(&self.cursor)
    }

    fn absorb(&mut self, response: Response, now: Timestamp) -> Result<Option<Fetched>, SourceError> {
        self.single.absorb(&self.cursor, response, now).map(Some)
    }
}

/// Requests whose answers are judged together, as a pure state machine. It ends with what it fetched, or with the first error.
pub trait Walk: Send {
    /// What is asked now.
    fn next(&self) -> Request;

    /// Judges an answer; `None`: there is more to ask.
    fn absorb(&mut self, response: Response, now: Timestamp) -> Result<Option<Fetched>, SourceError>;

    /// The poll's time is over: what came until now, with a cursor from which the next poll goes on. `None`: nothing can be used.
    fn cut(&mut self) -> Result<Option<Fetched>, SourceError> {
        Ok(None)
    }
}
