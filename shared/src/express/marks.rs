//! Marks in the store by which express and deliver agree on an alert's place [E4]: which threads have a message in the
//! CRITICAL queue, and which copies there are void because the broker has the record.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use ulid::Ulid;

use crate::error::BackendError;
use crate::record::hex;
use crate::store::{self, Expect, Item, Key, PutError, Store};
use crate::time::{Clock, Timestamp};

/// Queued threads and void copies are remembered this long; the queue itself keeps messages 14 days.
const REMEMBERED: Duration = Duration::from_secs(14 * 24 * 3600);
const QUEUED: &str = "express/queued";
const VOID: &str = "express/void";

/// The thread has this message in the queue from now on.
pub(super) async fn mark_queued(store: &dyn Store, clock: &Clock, thread: &str, id: Ulid) -> Result<(), BackendError> {
    put(store, clock, Key::new(QUEUED, queued_key(thread, id))).await
}

/// The copy that an item of the store makes void, where it is such a mark.
pub fn void_copy(partition: &str, sort: &str) -> Option<Ulid> {
    if partition == VOID { sort.parse().ok() } else { None }
}

pub(super) fn thread_hash(thread: &str) -> String {
    hex(&Sha256::digest(thread)[..16])
}

fn queued_key(thread: &str, id: Ulid) -> String {
    format!("{}/{id}", thread_hash(thread))
}

pub(super) async fn thread_is_queued(store: &dyn Store, thread: &str) -> Result<bool, BackendError> {
    Ok(!marks(store, thread, 1).await?.is_empty())
}

/// The oldest marks of a thread, in order.
async fn marks(store: &dyn Store, thread: &str, max: usize) -> Result<Vec<Item>, BackendError> {
    store::list_all(store, QUEUED, &format!("{}/", thread_hash(thread)), max).await
}

async fn put(store: &dyn Store, clock: &Clock, key: Key) -> Result<(), BackendError> {
    match store.put_if(&key, Bytes::from_static(b"1"), Expect::Any, Some(clock.now() + REMEMBERED)).await {
        Ok(_) | Err(PutError::Conflict) => Ok(()),
        Err(e) => Err(e.unexpected(&key.partition)),
    }
}

/// The broker has the record: its copy in the queue is to be forgotten unsent. `false`: the store could not note that, and the
/// copy becomes a visible duplicate [K6]. Its thread's mark then stays, and keeps the next message behind the copy.
pub(super) async fn make_void(store: &dyn Store, clock: &Clock, id: Ulid, thread: &str) -> bool {
    if let Err(problem) = put(store, clock, Key::new(VOID, id.to_string())).await {
        tracing::warn!(%problem, "the queue's copy of an alert could not be made void: it will be published twice");
        return false;
    }
    if let Err(problem) = unmark(store, thread, id).await {
        tracing::warn!(%problem, "an alert's mark could not be removed");
    }
    true
}

pub(super) async fn unmark(store: &dyn Store, thread: &str, id: Ulid) -> Result<(), BackendError> {
    store::remove(store, &Key::new(QUEUED, queued_key(thread, id))).await
}

/// Whether this envelope of the CRITICAL queue is a copy of what the broker has: it is never sent, and counts nowhere.
pub async fn is_void(store: &dyn Store, id: Ulid) -> bool {
    store.get(&Key::new(VOID, id.to_string())).await.is_ok_and(|item| item.is_some())
}

/// Deliver asks whether an older message of the thread is still queued. With the store away nothing holds an alert back.
pub(crate) async fn elder(store: &dyn Store, thread: &str, id: Ulid) -> Option<Timestamp> {
    let oldest = marks(store, thread, 1).await.ok()?.pop()?;
    let elder: Ulid = oldest.key.sort.rsplit('/').next()?.parse().ok()?;
    (elder < id).then(|| Timestamp::from_millisecond(elder.timestamp_ms() as i64).unwrap_or_default())
}

/// A CRITICAL envelope is forgotten: nothing waits for it any more, nor for a mark of before, which stands for nothing now.
pub(crate) async fn left_queue(store: &dyn Store, thread: &str, id: Ulid) -> Result<(), BackendError> {
    let upto = queued_key(thread, id);
    for mark in marks(store, thread, usize::MAX).await?.iter().take_while(|mark| mark.key.sort <= upto) {
        store::remove(store, &mark.key).await?;
    }
    Ok(())
}
