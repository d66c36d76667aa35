//! How many dead letters there are and how many bytes they have, of each stream and in all, so that neither grows without
//! bound [Q2]. Letters expire by themselves: a count that has reached its bound, or that cannot be read, is made anew from
//! what is there.

use std::ops::ControlFlow;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Allowance, PARTITION, each};
use crate::error::BackendError;
use crate::limits::{
    DEAD_LETTER_BYTES, DEAD_LETTER_BYTES_OF_STREAM, DEAD_LETTER_BYTES_PUSHED, DEAD_LETTERS, DEAD_LETTERS_OF_STREAM,
    DEAD_LETTERS_PUSHED, DEAD_LETTERS_RECOUNTED, STORED_AHEAD,
};
use crate::record::StreamId;
use crate::store::{Expect, Key, PutError, Store, Version};
use crate::time::{Clock, Timestamp};

pub(super) const COUNTS: &str = "dead-letter-counts";
/// The names of what all streams of an allowance have together.
const ALL_REGISTERED: &str = "registered";
const ALL_PUSHED: &str = "pushed";

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Count {
    letters: u64,
    bytes: u64,
    /// Rejects that were not kept.
    beyond: u64,
    /// One did not fit since the last count.
    full: bool,
    recounted_at: Option<Timestamp>,
}

enum Counted {
    Absent,
    Readable(Count, Version),
    Unreadable(Version),
}

/// Letters that are counted together.
#[derive(Debug)]
struct Share {
    name: String,
    /// Of their keys.
    prefix: String,
    allowance: Allowance,
    letters_most: u64,
    bytes_most: u64,
}

/// A share, and what is left of it.
#[derive(Debug)]
struct Bound {
    share: Share,
    letters: u64,
    bytes: u64,
    /// Rejects that did not fit.
    refused: u64,
}

impl Bound {
    fn fits(&self, bytes: u64) -> bool {
        self.letters > 0 && self.bytes >= bytes
    }
}

#[derive(Debug)]
struct Bounds {
    of_stream: Bound,
    of_all: Bound,
    beyond: u64,
}

/// What may be added. `None`: what was accepted is counted in no share.
#[derive(Debug)]
pub(super) struct Room(Option<Mutex<Bounds>>);

/// What may be added to the letters of `stream`.
pub(super) async fn room(
    store: &dyn Store,
    clock: &Clock,
    stream: &StreamId,
    allowance: Allowance,
) -> Result<Room, BackendError> {
    let (all, letters_most, bytes_most) = match allowance {
        Allowance::Accepted => return Ok(Room(None)),
        Allowance::Registered => (ALL_REGISTERED, DEAD_LETTERS, DEAD_LETTER_BYTES),
        Allowance::Pushed => (ALL_PUSHED, DEAD_LETTERS_PUSHED, DEAD_LETTER_BYTES_PUSHED),
    };
    let of_stream = Share {
        name: format!("{all}/{stream}"),
        prefix: format!("{stream}/"),
        allowance,
        letters_most: DEAD_LETTERS_OF_STREAM,
        bytes_most: DEAD_LETTER_BYTES_OF_STREAM,
    };
    let of_all = Share { name: all.to_owned(), prefix: String::new(), allowance, letters_most, bytes_most };
    let (of_stream, of_all) = (left(store, clock, of_stream).await?, left(store, clock, of_all).await?);
    Ok(Room(Some(Mutex::new(Bounds { of_stream, of_all, beyond: 0 }))))
}

impl Room {
    /// Takes the place of one letter of so many bytes; `false`: there is none.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let Some(bounds) = &self.0 else { return true };
        let mut bounds = bounds.lock();
        let Bounds { of_stream, of_all, beyond } = &mut *bounds;
        let mut both = [of_stream, of_all];
        if both.iter().all(|bound| bound.fits(bytes)) {
            for bound in both {
                bound.letters -= 1;
                bound.bytes -= bytes;
            }
            return true;
        }
        *beyond += 1;
        both.iter_mut().filter(|bound| !bound.fits(bytes)).for_each(|bound| bound.refused += 1);
        false
    }

    /// Rejects for which there was no place.
    pub(super) fn beyond(&self) -> u64 {
        self.0.as_ref().map_or(0, |bounds| bounds.lock().beyond)
    }

    /// Counts letters that were added, with their bytes, and the rejects for which there was no place.
    pub(super) async fn add(self, store: &dyn Store, letters: u64, bytes: u64) -> Result<(), BackendError> {
        let Some(bounds) = self.0 else { return Ok(()) };
        let Bounds { of_stream, of_all, beyond } = bounds.into_inner();
        // Of a made-up stream that has no letter nothing is written: there may be any number of them.
        add(store, &of_stream, letters, bytes, of_stream.refused).await?;
        add(store, &of_all, letters, bytes, beyond).await
    }
}

/// Letters that are gone make room at once.
pub(super) async fn give_back(
    store: &dyn Store,
    stream: &StreamId,
    allowance: Allowance,
    letters: u64,
    bytes: u64,
) -> Result<(), BackendError> {
    let all = match allowance {
        Allowance::Accepted => return Ok(()),
        Allowance::Registered => ALL_REGISTERED,
        Allowance::Pushed => ALL_PUSHED,
    };
    for name in [format!("{all}/{stream}"), all.to_owned()] {
        while let Counted::Readable(before, version) = read(store, &name).await? {
            let (letters, bytes) = (before.letters.saturating_sub(letters), before.bytes.saturating_sub(bytes));
            if write(store, &name, &Count { letters, bytes, full: false, ..before }, Some(version)).await? {
                break;
            }
        }
    }
    Ok(())
}

async fn add(store: &dyn Store, bound: &Bound, letters: u64, bytes: u64, beyond: u64) -> Result<(), BackendError> {
    if letters == 0 && beyond == 0 {
        return Ok(());
    }
    let name = &bound.share.name;
    loop {
        let (before, version) = match read(store, name).await? {
            Counted::Absent => (Count::default(), None),
            Counted::Readable(count, version) => (count, Some(version)),
            // Whoever asks for room next makes it anew.
            Counted::Unreadable(_) => return Ok(()),
        };
        let count = Count {
            letters: before.letters + letters,
            bytes: before.bytes + bytes,
            beyond: before.beyond + beyond,
            full: before.full || bound.refused > 0,
            ..before
        };
        if write(store, name, &count, version).await? {
            if count.full && !before.full {
                let (letters, bytes) = (count.letters, count.bytes);
                tracing::warn!(of = %name, letters, bytes, "no more dead letters are kept of these until some expire");
            }
            return Ok(());
        }
    }
}

async fn left(store: &dyn Store, clock: &Clock, share: Share) -> Result<Bound, BackendError> {
    let (count, version) = match read(store, &share.name).await? {
        Counted::Absent => (Count::default(), None),
        Counted::Readable(count, version) => (count, Some(version)),
        Counted::Unreadable(version) => {
            tracing::warn!(of = %share.name, "the count of dead letters cannot be read and is made anew");
            (Count { full: true, ..Count::default() }, Some(version))
        }
    };
    let reached = |count: &Count| count.letters >= share.letters_most || count.bytes >= share.bytes_most;
    // One that lies ahead was written before the clock was set back.
    let recent = |at: Timestamp| at <= clock.now() + STORED_AHEAD && clock.since(at) < DEAD_LETTERS_RECOUNTED;
    let mut current = count;
    if (current.full || reached(&current)) && !current.recounted_at.is_some_and(recent) {
        let (letters, bytes) = recount(store, &share).await?;
        current = Count { letters, bytes, recounted_at: Some(clock.now()), ..current };
        current.full = current.full && reached(&current);
        // Another's count is as good.
        write(store, &share.name, &current, version).await?;
    }
    let letters = share.letters_most.saturating_sub(current.letters);
    let bytes = share.bytes_most.saturating_sub(current.bytes);
    Ok(Bound { share, letters, bytes, refused: 0 })
}

/// Letters and bytes of this share. A letter that cannot be read takes its place in every share.
async fn recount(store: &dyn Store, share: &Share) -> Result<(u64, u64), BackendError> {
    #[derive(Deserialize)]
    struct Counted {
        allowance: Allowance,
        raw_bytes: u64,
    }
    let (mut letters, mut bytes) = (0, 0);
    each(store, &share.prefix, None, |item| {
        let counted = serde_json::from_slice::<Counted>(&item.value);
        if counted.as_ref().is_ok_and(|counted| counted.allowance != share.allowance) {
            return ControlFlow::Continue(());
        }
        letters += 1;
        bytes += counted.map_or(0, |counted| counted.raw_bytes);
        ControlFlow::Continue(())
    })
    .await?;
    Ok((letters, bytes))
}

/// Rejects that were not kept since the folder was made.
pub(super) async fn beyond(store: &dyn Store) -> Result<u64, BackendError> {
    let mut beyond = 0;
    for all in [ALL_REGISTERED, ALL_PUSHED] {
        if let Counted::Readable(count, _) = read(store, all).await? {
            beyond += count.beyond;
        }
    }
    Ok(beyond)
}

async fn read(store: &dyn Store, name: &str) -> Result<Counted, BackendError> {
    Ok(match store.get(&Key::new(COUNTS, name)).await? {
        None => Counted::Absent,
        Some(item) => match serde_json::from_slice(&item.value) {
            Ok(count) => Counted::Readable(count, item.version),
            Err(_) => Counted::Unreadable(item.version),
        },
    })
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
