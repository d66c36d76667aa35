//! A bounded range that is asked for part by part [M1]: what stands in the cursor of its stream.

use serde::{Deserialize, Serialize};

use super::{Cursor, Progress};

/// How many parts were read, and of which range.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Parts {
    /// The range: of another one nothing here is true, and it is read from its beginning.
    of: String,
    /// Parts that were read.
    pub(crate) done: u64,
}

impl Parts {
    pub(crate) fn of(cursor: &Cursor, range: String) -> Parts {
        let parts: Option<Parts> = serde_json::from_str(&cursor.0).ok();
        parts.filter(|parts| parts.of == range).unwrap_or(Parts { of: range, done: 0 })
    }

    /// Behind one more.
    pub(crate) fn onward(mut self) -> Parts {
        self.done += 1;
        self
    }

    /// Whether a poll of so many parts asks on, `whole` being the number of all.
    pub(crate) fn more(&self, whole: u64, a_poll: u64) -> bool {
        self.done >= whole || !self.done.is_multiple_of(a_poll)
    }

    pub(crate) fn cursor(&self) -> Cursor {
        Cursor(serde_json::to_string(self).unwrap_or_default())
    }

    /// With a request for each part.
    pub(crate) fn progress(&self, whole: u64, of: &str) -> Progress {
        let (done, requests) = (self.done.min(whole), Some(whole));
        Progress { done, whole: Some(whole), of: of.to_owned(), requests, points: None }
    }
}
