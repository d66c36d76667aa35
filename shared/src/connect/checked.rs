//! A feed whose files say of themselves how old they are and where they end. What is said of an address's file alone costs that
//! address. A file that is damaged or has stopped is not asked for with a condition: the answer that nothing has changed would
//! hide it. Whether a file has stopped is also asked when nothing newer came.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::feed::{Ask, Feed};
use super::{Connector, Cursor, Fetched, Single, SourceError, Walk, one};
use crate::decode::{Context, Rows};
use crate::error::Reject;
use crate::limits::CLOCK_SKEW;
use crate::time::{Timestamp, rfc3339};
use crate::upstream::{Request, Response};

/// What a source knows of its files.
pub(crate) trait Check: Send + Sync {
    /// A file whose newest time is older has stopped.
    fn frozen_after(&self) -> Duration;

    /// Whether what has stopped is published all the same.
    fn publishes_frozen(&self) -> bool;

    /// Judges a body.
    fn file(&self, ask: &Ask, body: &Bytes) -> File;
}

/// What a file says of itself.
#[derive(Debug, Default)]
pub(crate) struct File {
    /// Its rows, where it has some.
    pub(crate) body: Option<Bytes>,
    /// Its own time, or its newest row's.
    pub(crate) newest: Option<Timestamp>,
    /// What is wrong with it, for people.
    pub(crate) problem: Option<String>,
    /// It ends before its end.
    pub(crate) cut: bool,
}

/// One stream's connector.
pub(crate) struct Checked<C> {
    pub(crate) feed: Feed,
    pub(crate) check: C,
}

/// What the cursor holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// The feed's own.
    #[serde(default)]
    feed: String,
    /// By the addresses' paths: the newest time of the last file, in seconds since 1970.
    #[serde(default)]
    newest: BTreeMap<String, i64>,
}

impl Kept {
    fn of(cursor: &Cursor) -> Kept {
        serde_json::from_str(&cursor.0).unwrap_or_default()
    }

    fn cursor(&self) -> Cursor {
        Cursor(serde_json::to_string(self).unwrap_or_default())
    }

    fn feed(&self) -> Cursor {
        Cursor(self.feed.clone())
    }
}

impl<C: Check> Checked<C> {
    fn asked(&self, cursor: &Cursor) -> Option<&Ask> {
        let request = self.feed.next(cursor);
        let path = request.url.reveal().strip_prefix(&self.feed.base_url)?;
        self.feed.asks.iter().find(|ask| ask.path == path)
    }

    fn frozen(&self, newest: Option<Timestamp>, now: Timestamp) -> Option<String> {
        let (newest, bound) = (newest?, self.check.frozen_after());
        (newest + bound < now).then(|| format!("it has not been renewed since {}", rfc3339(newest)))
    }

    /// The file with what its age adds to its problems; nothing of it where it is not to be published.
    fn judged(&self, mut file: File, last: Option<Timestamp>, now: Timestamp) -> File {
        let Some(newest) = file.newest else { return file };
        let age = if newest > now + CLOCK_SKEW {
            Some(format!("its own time {} lies ahead: how old it is cannot be told", rfc3339(newest)))
        } else if let Some(frozen) = self.frozen(Some(newest), now) {
            file.body = file.body.filter(|_| self.check.publishes_frozen());
            Some(frozen)
        } else if last.is_some_and(|last| newest < last) && !self.check.publishes_frozen() {
            file.body = None;
            Some(format!("an older copy of it came, of {}", rfc3339(newest)))
        } else {
            None
        };
        let problems: Vec<String> = file.problem.take().into_iter().chain(age).collect();
        file.problem = (!problems.is_empty()).then(|| problems.join("; "));
        file
    }
}

impl<C: Check> Connector for Checked<C> {
    fn host(&self) -> &str {
        self.feed.host()
    }

    fn failed(&self, cursor: &Cursor, now: Timestamp) -> Cursor {
        let kept = Kept::of(cursor);
        Kept { feed: self.feed.failed(&kept.feed(), now).0, ..kept }.cursor()
    }

    fn walk<'a>(&'a self, cursor: &Cursor, _now: Timestamp) -> Box<dyn Walk + 'a> {
        one(self, cursor)
    }

    fn rows<'a>(&'a self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        self.feed.rows(body, context)
    }
}

impl<C: Check> Single for Checked<C> {
    fn next(&self, cursor: &Cursor) -> Request {
        self.feed.next(&Kept::of(cursor).feed())
    }

    fn absorb(&self, cursor: &Cursor, mut response: Response, now: Timestamp) -> Result<Fetched, SourceError> {
        let mut kept = Kept::of(cursor);
        let ask = self.asked(&kept.feed());
        let path = ask.map(|ask| ask.path.clone()).unwrap_or_default();
        let last = kept.newest.get(&path).and_then(|at| Timestamp::from_second(*at).ok());
        let file = ask
            .filter(|_| response.status == 200)
            .map(|ask| self.judged(self.check.file(ask, &response.body), last, now));
        if file.as_ref().is_some_and(|file| file.problem.is_some()) {
            response.headers.retain(|(name, _)| name != "etag" && name != "last-modified");
        }
        let mut fetched = self.feed.absorb(&kept.feed(), response, now)?;
        let problem = match file {
            Some(file) if fetched.body.is_some() => {
                if file.cut {
                    metrics::counter!("stream_answers_cut_total").increment(1);
                }
                // A time that lies ahead must not make all that follow older.
                if let Some(newest) = file.newest.map(|newest| newest.min(now)) {
                    kept.newest.insert(path, last.map_or(newest, |last| last.max(newest)).as_second());
                }
                fetched.body = file.body;
                file.problem
            }
            _ if fetched.body.is_none() && fetched.problem.is_none() => self.frozen(last, now),
            _ => None,
        };
        if let Some((problem, ask)) = problem.zip(ask) {
            let said = format!("{}: {problem}", ask.name);
            fetched.problem = Some(fetched.problem.map_or(said.clone(), |before| format!("{before}; {said}")));
        }
        kept.feed = fetched.cursor.0;
        kept.newest.retain(|path, _| self.feed.asks.iter().any(|ask| ask.path == *path));
        fetched.cursor = kept.cursor();
        Ok(fetched)
    }
}
