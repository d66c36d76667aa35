//! A layer of many years, read once from its first row to its last [M1, M2]: a walk asks for its document and one page behind the
//! last object id, and, where the rows seem to be at their end, for the number of those behind it. An empty page alone does not end it,
//! nor does a layer that says for a moment that it has no rows, whose numbers do not agree with what came. One that says that there are
//! more is asked for again by the next poll, and if it is still empty, what stands behind it. Where rows are left and none of them is
//! behind the last object id, as after a renewal that numbers them anew, it is read anew, once. What is kept is that object id and how
//! far it is.

use serde::{Deserialize, Serialize};

use crate::connect::{Cursor, Progress, SourceError};
use crate::limits::{LAYER_BATCHES, LAYER_PAGE};

/// How far a layer has been read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Batches {
    /// Rows that came.
    done: u64,
    /// Rows that were counted last.
    whole: Option<u64>,
    pages: u64,
    /// The next page came empty, although there are more rows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    empty: bool,
    /// It is read for the second time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    anew: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) ended: bool,
}

impl Batches {
    /// Whether its rows are to be counted before any is read.
    pub(super) fn is_uncounted(&self) -> bool {
        self.whole.is_none()
    }

    /// Rows that have not come, as they were counted last.
    pub(super) fn left(&self) -> u64 {
        self.whole.unwrap_or(0).saturating_sub(self.done)
    }

    /// Takes an empty page behind which there are more; whether it was empty before.
    pub(super) fn is_empty_again(&mut self) -> bool {
        std::mem::replace(&mut self.empty, true)
    }

    /// Takes a page of so many rows; whether their number has to say now that they are all.
    pub(super) fn page(&mut self, came: u64) -> bool {
        self.done += came;
        self.pages += 1;
        self.empty = false;
        came == 0 || self.whole.is_some_and(|whole| self.done >= whole)
    }

    /// Takes the number of all rows before the first of them is read.
    ///
    /// # Errors
    /// There is none: a layer that has no rows for a moment is not read to its end.
    pub(super) fn begin(&mut self, whole: u64) -> Result<(), SourceError> {
        if whole == 0 {
            let said = "its rows are counted as none: what has no rows is not taken for read to its end";
            return Err(SourceError::Failed(said.into()));
        }
        self.whole = Some(whole);
        Ok(())
    }

    /// Takes the number of rows behind the last page; `came`: that had some. Whether that says all; otherwise all rows are to be
    /// counted again, for fewer came than there were.
    ///
    /// # Errors
    /// The page and the number cannot both be true.
    pub(super) fn behind(&mut self, rows: u64, came: bool) -> Result<bool, SourceError> {
        if rows > 0 && !came {
            let said = format!("{rows} rows are counted behind the {} that came, and the page has none", self.done);
            return Err(SourceError::Failed(said));
        }
        if rows > 0 {
            self.whole = Some(self.done + rows);
        }
        self.ended = rows == 0 && self.whole.is_some_and(|whole| self.done >= whole);
        Ok(rows > 0 || self.ended)
    }

    /// Takes the number of all rows where there is none behind the last page and fewer came than there were; what is to be told
    /// where it has to be read anew, for they have not gone.
    ///
    /// # Errors
    /// The service gave no rows for a moment, or leaves some out again.
    pub(super) fn again(&mut self, whole: u64) -> Result<Option<String>, SourceError> {
        let said = format!("{} rows came of {whole}, and none is behind them", self.done);
        if whole == 0 || (whole > self.done && self.anew) {
            return Err(SourceError::Failed(said));
        }
        if whole > self.done {
            *self = Batches { whole: Some(whole), anew: true, ..Batches::default() };
            return Ok(Some(format!("{said}: its rows are numbered otherwise than before, and it is read anew")));
        }
        self.ended = true;
        Ok(None)
    }

    /// Whether the same poll asks on.
    pub(super) fn more(&self) -> bool {
        self.ended || !self.pages.is_multiple_of(LAYER_BATCHES)
    }
}

/// How far a layer that is read once has been read, by its stream's cursor.
pub(crate) fn progress(cursor: &Cursor) -> Progress {
    #[derive(Default, Deserialize)]
    struct Kept {
        #[serde(default)]
        batches: Batches,
    }
    let Batches { done, whole, ended, .. } = serde_json::from_str::<Kept>(&cursor.0).unwrap_or_default().batches;
    // Rows that have gone since they were counted are not waited for.
    let whole = if ended { Some(done) } else { whole };
    // Its document and a page of each, and two counts.
    let requests = whole.map(|whole| 2 * whole.div_ceil(LAYER_PAGE) + 2);
    Progress { done, whole, of: "rows".into(), requests, points: None }
}
