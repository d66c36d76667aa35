//! Dead letters by stream and reason, for people [R4]: read page by page, so that the report costs the same memory however
//! many there are.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;

use super::{bounds, each, parse};
use crate::error::{BackendError, Reason};
use crate::record::StreamId;
use crate::store::Store;
use crate::time::Timestamp;

/// Dead letters of one stream and one reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pattern {
    /// The stream that the letters came in.
    pub stream: StreamId,
    /// The reason that they share.
    pub reason: Reason,
    /// Letters that are stored now.
    pub letters: u64,
    /// Readings of the same faults, first ones included.
    pub attempts: u64,
    /// When one of the faults was met last.
    #[serde(serialize_with = "crate::time::serialize")]
    pub last_seen: Timestamp,
    /// One of them, in words.
    pub example: String,
}

/// All dead letters, grouped by stream and reason [R4].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PatternReport {
    /// Letters that are stored now, those of the groups that are not listed too.
    pub letters: u64,
    /// Of these, the ones that cannot be read any more and stand in no pattern.
    pub unreadable: u64,
    /// Rejects beyond what may be kept: counted at each reading, not stored.
    pub beyond: u64,
    /// Most letters first, a few hundred at most.
    pub patterns: Vec<Pattern>,
}

/// Of more streams than this only the letters are counted: anybody can make up the name of a sensor's kind.
const PATTERNS: usize = 500;

/// Every dead letter, grouped.
pub async fn patterns(store: &dyn Store) -> Result<PatternReport, BackendError> {
    let mut grouped: BTreeMap<(StreamId, Reason), Pattern> = BTreeMap::new();
    let (mut letters, mut unreadable) = (0, 0);
    each(store, "", |item| {
        letters += 1;
        let Ok(letter) = parse(&item.value) else {
            unreadable += 1;
            return ControlFlow::Continue(());
        };
        let key = (letter.stream.clone(), letter.reason);
        if grouped.len() >= PATTERNS && !grouped.contains_key(&key) {
            return ControlFlow::Continue(());
        }
        let pattern = grouped.entry(key).or_insert_with(|| Pattern {
            stream: letter.stream,
            reason: letter.reason,
            letters: 0,
            attempts: 0,
            last_seen: letter.last_seen,
            example: letter.detail,
        });
        pattern.letters += 1;
        pattern.attempts += letter.attempts;
        pattern.last_seen = pattern.last_seen.max(letter.last_seen);
        ControlFlow::Continue(())
    })
    .await?;
    let mut patterns: Vec<Pattern> = grouped.into_values().collect();
    patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.letters));
    Ok(PatternReport { letters, unreadable, beyond: bounds::beyond(store).await?, patterns })
}
