//! Whose turn it is to judge a tenant's source: streams with overlapping areas publish what they share once. A turn is an item of
//! the store that is held or free; its version says whether somebody else had a turn since ours, so that what was read then still
//! holds. A holder that died is waited for until its turn expires, by the store's time or by the time that this process has
//! seen it held.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::error::BackendError;
use crate::limits::{SEEN_KEPT, SEEN_TURN};
use crate::store::{Expect, Key, PutError, Store, TURNS, Version};
use crate::time::Clock;

const HELD: &[u8] = b"held";
const FREE: &[u8] = b"free";
/// Between two looks at a turn that is held: a judgement and its commit take milliseconds.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A turn that is ours.
#[derive(Debug)]
pub(super) struct Turn {
    key: Key,
    version: Version,
}

/// Waits for the turn of `name`. `last` is what `free` gave at the end of our last one; `true`: nobody had one since.
pub(super) async fn wait_for(
    store: &dyn Store,
    clock: &Clock,
    name: &str,
    last: Option<Version>,
) -> Result<(Turn, bool), BackendError> {
    let key = Key::new(TURNS, name);
    let until = Instant::now() + 2 * SEEN_TURN;
    // The holder's turn as it was first seen. Its end was written by a clock that may have been ahead of this one.
    let mut held: Option<(Version, Instant)> = None;
    loop {
        let expect = match store.get(&key).await? {
            None => Some(Expect::Absent),
            Some(item) if item.value == FREE => Some(Expect::Version(item.version)),
            Some(item) => match held {
                Some((version, since)) if version == item.version => {
                    (since.elapsed() > SEEN_TURN).then_some(Expect::Version(version))
                }
                _ => {
                    held = Some((item.version, Instant::now()));
                    None
                }
            },
        };
        if let Some(expect) = expect {
            let expires = clock.now() + SEEN_TURN;
            match store.put_if(&key, Bytes::from_static(HELD), expect, Some(expires)).await {
                Ok(version) => {
                    let alone = last.is_some_and(|last| expect == Expect::Version(last));
                    return Ok((Turn { key, version }, alone));
                }
                Err(PutError::Conflict) => {}
                Err(e) => return Err(e.unexpected("turn of the seen-set")),
            }
        }
        if Instant::now() > until {
            return Err(BackendError::Retry(format!("other streams keep the turn of {name}")));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

impl Turn {
    /// Keeps it for as long again. `false`: it took too long, and somebody else has had it meanwhile.
    pub(super) async fn renew(&mut self, store: &dyn Store, clock: &Clock) -> Result<bool, BackendError> {
        let expires = clock.now() + SEEN_TURN;
        // Expired, and nobody came: whoever has had one leaves it behind as free.
        for expect in [Expect::Version(self.version), Expect::Absent] {
            match store.put_if(&self.key, Bytes::from_static(HELD), expect, Some(expires)).await {
                Ok(version) => {
                    self.version = version;
                    return Ok(true);
                }
                Err(PutError::Conflict) => {}
                Err(e) => return Err(e.unexpected("turn of the seen-set")),
            }
        }
        Ok(false)
    }

    /// The next one may come. `None`: it took too long, and somebody else has had a turn already.
    pub(super) async fn free(self, store: &dyn Store, clock: &Clock) -> Result<Option<Version>, BackendError> {
        let kept = clock.now() + SEEN_KEPT;
        match store.put_if(&self.key, Bytes::from_static(FREE), Expect::Version(self.version), Some(kept)).await {
            Ok(version) => Ok(Some(version)),
            Err(PutError::Conflict) => Ok(None),
            Err(e) => Err(e.unexpected("turn of the seen-set")),
        }
    }
}
