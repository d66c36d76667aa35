//! Connectors: pure state machines that say what to fetch next and what a response means. No I/O, no clock of their own.

pub(crate) mod politeness;

use bytes::Bytes;

use crate::decode::{Context, Rows};
use crate::error::Reject;
use crate::time::Timestamp;
use crate::upstream::{Request, Response};

/// What a polled stream remembers between fetches; opaque JSON of its connector, kept in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(pub String);

/// A response that is data.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// The answer's body, judged by its header to be data.
    pub body: Bytes,
    /// Remembered once the body's records are in the queue.
    pub cursor: Cursor,
}

/// A response without data; the cursor does not move.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SourceError {
    /// Not modified since the last fetch [S11]: no fault.
    #[error("not modified")]
    NotModified,
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

/// One kind of source as a pure state machine: what to ask next, and what an answer means.
pub trait Connector: Send + Sync {
    /// The request of the next poll.
    fn next(&self, cursor: &Cursor) -> Request;

    /// Judges an answer.
    fn absorb(&self, response: Response, now: Timestamp) -> Result<Fetched, SourceError>;

    /// The rows of a body that `absorb` took.
    ///
    /// # Errors
    /// When the body as a whole turns out to be no data.
    fn rows<'a>(&'a self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject>;
}
