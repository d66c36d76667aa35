//! Connectors: pure state machines that say what to fetch next and what a response means. No I/O, no clock of their own.

pub mod firms;
pub mod politeness;

use bytes::Bytes;

use crate::decode::Format;
use crate::record::SourceId;
use crate::time::Timestamp;
use crate::upstream::{Request, Response};

/// What a polled stream remembers between fetches; opaque JSON of its connector, kept in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(pub String);

/// What a connector wants now.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Fetch(Request),
    /// Nothing before this time: a rate limit, a `Retry-After`.
    NotBefore(Timestamp),
    /// A bounded range is read to its end [M1].
    Done,
}

/// A response that is data.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    pub body: Bytes,
    pub format: Format,
    pub source: SourceId,
    pub cursor: Cursor,
    /// The same invocation asks `next` again at once [M2].
    pub more: bool,
}

/// A response that is no data; the cursor does not move.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SourceError {
    /// Not modified since the last fetch [S11]: no fault.
    #[error("not modified")]
    NotModified,
    /// The source's own trouble; counts for its breaker [S10].
    #[error("{0}")]
    Failed(String),
    /// Told to come back later [S11].
    #[error("told to wait until {0}")]
    Busy(Timestamp),
    /// Wrong key or configuration: a person has to act.
    #[error("{0}")]
    Refused(String),
}

pub trait Connector: Send + Sync {
    fn next(&self, cursor: &Cursor, now: Timestamp) -> Step;
    fn absorb(&self, cursor: &Cursor, response: Response, now: Timestamp) -> Result<Fetched, SourceError>;
}
