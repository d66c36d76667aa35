//! Leases over the store: one holder a name at a time, until it lets go or its time is over. The store's version is the
//! epoch: a holder that was replaced finds its next renewal refused.

use std::time::Duration;

use bytes::Bytes;

use crate::app::App;
use crate::error::BackendError;
use crate::limits::LEASE;
use crate::store::{self, Expect, Key, PutError, Version};

const PARTITION: &str = "leases";
/// The turns of the seen-set (`ingest::dedup`): held too, and for a shorter time.
pub(crate) const TURNS: &str = "seen-turns";

/// Held until `release`, or until `ttl` after the last renewal.
#[derive(Debug)]
pub struct Lease {
    key: Key,
    epoch: Version,
    owner: String,
    ttl: Duration,
}

/// `None`: somebody else holds it. `owner` is for people.
pub async fn acquire(app: &App, name: &str, owner: &str, ttl: Duration) -> Result<Option<Lease>, BackendError> {
    let key = Key::new(PARTITION, name);
    match put(app, &key, owner, ttl, Expect::Absent).await {
        Ok(epoch) => Ok(Some(Lease { key, epoch, owner: owner.to_owned(), ttl })),
        Err(PutError::Conflict) => Ok(None),
        Err(e) => Err(e.of("lease")),
    }
}

impl Lease {
    /// `false`: the lease was lost; what it guards must stop.
    pub async fn renew(&mut self, app: &App) -> Result<bool, BackendError> {
        match put(app, &self.key, &self.owner, self.ttl, Expect::Version(self.epoch)).await {
            Ok(epoch) => {
                self.epoch = epoch;
                Ok(true)
            }
            Err(PutError::Conflict) => Ok(false),
            Err(e) => Err(e.of("lease")),
        }
    }

    /// Lets the next one in at once. One that was lost stays with its new holder.
    pub async fn release(self, app: &App) -> Result<(), BackendError> {
        match app.store.delete_if(&self.key, Expect::Version(self.epoch)).await {
            Ok(()) | Err(PutError::Conflict) => Ok(()),
            Err(e) => Err(e.of("lease")),
        }
    }
}

/// For a host whose data folder's lock proves that every earlier holder is dead.
pub async fn clear_all(app: &App) -> Result<(), BackendError> {
    for partition in [PARTITION, TURNS] {
        for item in store::list_all(&*app.store, partition, "", usize::MAX).await? {
            store::remove(&*app.store, &item.key).await?;
        }
    }
    Ok(())
}

/// For a host that shares its state and may have died before: returns when every lease held now has ended, or was renewed
/// by somebody alive.
pub async fn outlive(app: &App) -> Result<(), BackendError> {
    let held = store::list_all(&*app.store, PARTITION, "", usize::MAX).await?;
    if let Some(last) = held.iter().filter_map(|item| item.expires).max() {
        let left = Duration::try_from(last.duration_since(app.clock.now())).unwrap_or_default();
        // Another host's clock may be wrong.
        tokio::time::sleep(left.min(LEASE)).await;
    }
    Ok(())
}

async fn put(app: &App, key: &Key, owner: &str, ttl: Duration, expect: Expect) -> Result<Version, PutError> {
    app.store.put_if(key, Bytes::copy_from_slice(owner.as_bytes()), expect, Some(app.clock.now() + ttl)).await
}
