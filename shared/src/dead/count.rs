//! How many dead letters there are, of each stream and in all, so that neither grows without bound [Q2]. Letters expire by
//! themselves: a count that has reached its bound is made anew from what is there.

use serde::{Deserialize, Serialize};

use super::{PARTITION, each};
use crate::error::BackendError;
use crate::limits::{DEAD_LETTERS, DEAD_LETTERS_OF_STREAM, DEAD_LETTERS_RECOUNTED, STORED_AHEAD};
use crate::record::StreamId;
use crate::store::{Expect, Key, PutError, Store, Version};
use crate::time::{Clock, Timestamp};

const COUNTS: &str = "dead-letter-counts";
/// No stream is called so.
const ALL: &str = "*";

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Count {
    letters: u64,
    /// Rejects that were not kept.
    beyond: u64,
    recounted_at: Option<Timestamp>,
}

/// How many letters of `stream` may be added.
pub(super) async fn room(store: &dyn Store, clock: &Clock, stream: &StreamId) -> Result<u64, BackendError> {
    let of_stream = left(store, clock, stream.as_str(), &format!("{stream}/"), DEAD_LETTERS_OF_STREAM).await?;
    Ok(of_stream.min(left(store, clock, ALL, "", DEAD_LETTERS).await?))
}

async fn left(store: &dyn Store, clock: &Clock, name: &str, prefix: &str, most: u64) -> Result<u64, BackendError> {
    let (count, version) = read(store, name).await?;
    if count.letters < most {
        return Ok(most - count.letters);
    }
    // One that lies ahead was written before the clock was set back.
    let recent = |at: Timestamp| at <= clock.now() + STORED_AHEAD && clock.since(at) < DEAD_LETTERS_RECOUNTED;
    if count.recounted_at.is_some_and(recent) {
        return Ok(0);
    }
    let mut letters = 0;
    each(store, prefix, |_| letters += 1).await?;
    let recounted = Count { letters, recounted_at: Some(clock.now()), ..count };
    // Another's count is as good.
    write(store, name, &recounted, version).await?;
    Ok(most.saturating_sub(letters))
}

/// Counts letters that were added, and rejects that were not kept.
pub(super) async fn add(store: &dyn Store, stream: &StreamId, letters: u64, beyond: u64) -> Result<(), BackendError> {
    if letters == 0 && beyond == 0 {
        return Ok(());
    }
    for name in [stream.as_str(), ALL] {
        loop {
            let (count, version) = read(store, name).await?;
            let count = Count { letters: count.letters + letters, beyond: count.beyond + beyond, ..count };
            if write(store, name, &count, version).await? {
                break;
            }
        }
    }
    Ok(())
}

/// Rejects that were not kept since the folder was made.
pub(super) async fn beyond(store: &dyn Store) -> Result<u64, BackendError> {
    Ok(read(store, ALL).await?.0.beyond)
}

async fn read(store: &dyn Store, name: &str) -> Result<(Count, Option<Version>), BackendError> {
    match store.get(&Key::new(COUNTS, name)).await? {
        // A count that cannot be read is made anew.
        Some(item) => Ok((serde_json::from_slice(&item.value).unwrap_or_default(), Some(item.version))),
        None => Ok((Count::default(), None)),
    }
}

/// `false`: somebody else wrote first.
async fn write(store: &dyn Store, name: &str, count: &Count, version: Option<Version>) -> Result<bool, BackendError> {
    let value = serde_json::to_vec(count).map_err(|e| BackendError::Fatal(format!("{PARTITION}: {e}")))?;
    let expect = version.map_or(Expect::Absent, Expect::Version);
    match store.put_if(&Key::new(COUNTS, name), value.into(), expect, None).await {
        Ok(_) => Ok(true),
        Err(PutError::Conflict) => Ok(false),
        Err(e) => Err(e.unexpected("dead letters")),
    }
}
