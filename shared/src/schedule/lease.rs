//! Leases over the store: one holder a name at a time, until it lets go or its time is over. The store's version is the
//! epoch: a holder that was replaced finds its next renewal refused. A lease is over when its stored end has passed, or when
//! this process has seen it unchanged for all its time by the monotonic clock: the end may have been written by a clock that
//! was ahead.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::BackendError;
use crate::limits::LEASE;
use crate::store::{self, Expect, Item, Key, LEASES, PutError, Store, Version};
use crate::time::Clock;

/// Held until `release`, or until `ttl` after the last renewal.
#[derive(Debug)]
pub struct Lease {
    key: Key,
    epoch: Version,
    owner: String,
    ttl: Duration,
    since: Instant,
}

/// Leases of others as this process last saw them, and since when they are unchanged. One entry a name.
#[derive(Debug, Default)]
pub struct Leases(Mutex<BTreeMap<Key, (Version, Instant)>>);

impl Leases {
    /// `None`: somebody else holds it. `owner` is for people, and for who asks whether its holder makes way.
    pub async fn acquire(
        &self,
        store: &dyn Store,
        clock: &Clock,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, BackendError> {
        self.acquire_from(store, clock, name, owner, ttl, |_| false).await
    }

    /// Also from a holder that makes way, as its owner says: it finds its next renewal refused.
    pub async fn acquire_from(
        &self,
        store: &dyn Store,
        clock: &Clock,
        name: &str,
        owner: &str,
        ttl: Duration,
        makes_way: impl Fn(&str) -> bool,
    ) -> Result<Option<Lease>, BackendError> {
        let key = Key::new(LEASES, name);
        // Asked first: on AWS a write costs five reads, also one that is refused, and who stands by tries for ever.
        let free = match store.get(&key).await? {
            Some(held) if held.expires.is_none_or(|end| end > clock.now()) => {
                if self.unchanged(&key, held.version) < ttl && !makes_way(&owner_of(&held)) {
                    return Ok(None);
                }
                Expect::Version(held.version)
            }
            _ => Expect::Absent,
        };
        let since = Instant::now();
        match put(store, clock, &key, owner, ttl, free).await {
            Ok(epoch) => {
                self.forget(&key);
                Ok(Some(Lease { key, epoch, owner: owner.to_owned(), ttl, since }))
            }
            Err(PutError::Conflict) => Ok(None),
            Err(e) => Err(e.unexpected("lease")),
        }
    }

    /// How long this version has been seen.
    fn unchanged(&self, key: &Key, version: Version) -> Duration {
        let mut seen = self.0.lock();
        match seen.get(key) {
            Some((known, since)) if *known == version => since.elapsed(),
            _ => {
                seen.insert(key.clone(), (version, Instant::now()));
                Duration::ZERO
            }
        }
    }

    fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}

impl Lease {
    /// `false`: the lease was lost; what it guards must stop.
    pub async fn renew(&mut self, store: &dyn Store, clock: &Clock) -> Result<bool, BackendError> {
        let since = Instant::now();
        match put(store, clock, &self.key, &self.owner, self.ttl, Expect::Version(self.epoch)).await {
            Ok(epoch) => {
                (self.epoch, self.since) = (epoch, since);
                Ok(true)
            }
            Err(PutError::Conflict) => Ok(false),
            Err(e) => Err(e.unexpected("lease")),
        }
    }

    /// When the last time that it runs from was asked for: it ends that much earlier than an answer that took long suggests.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Lets the next one in at once. One that was lost stays with its new holder.
    pub async fn release(self, store: &dyn Store) -> Result<(), BackendError> {
        match store.delete_if(&self.key, Expect::Version(self.epoch)).await {
            Ok(()) | Err(PutError::Conflict) => Ok(()),
            Err(e) => Err(e.unexpected("lease")),
        }
    }
}

/// Whose the lease is now.
pub async fn owner(store: &dyn Store, clock: &Clock, name: &str) -> Result<Option<String>, BackendError> {
    let held = store.get(&Key::new(LEASES, name)).await?;
    Ok(held.filter(|held| held.expires > Some(clock.now())).map(|held| owner_of(&held)))
}

fn owner_of(held: &Item) -> String {
    String::from_utf8_lossy(&held.value).into_owned()
}

/// For a host that shares its state and may have died before: returns when every lease held now has ended, or was renewed
/// by somebody alive.
pub async fn outlive(store: &dyn Store, clock: &Clock) -> Result<(), BackendError> {
    let held = store::list_all(store, LEASES, "", usize::MAX).await?;
    if let Some(last) = held.iter().filter_map(|item| item.expires).max() {
        let left = Duration::try_from(last.duration_since(clock.now())).unwrap_or_default();
        // Another host's clock may be wrong.
        tokio::time::sleep(left.min(LEASE)).await;
    }
    Ok(())
}

async fn put(
    store: &dyn Store,
    clock: &Clock,
    key: &Key,
    owner: &str,
    ttl: Duration,
    expect: Expect,
) -> Result<Version, PutError> {
    store.put_if(key, Bytes::copy_from_slice(owner.as_bytes()), expect, Some(clock.now() + ttl)).await
}

#[cfg(all(test, feature = "embedded", feature = "testing"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::embedded::{Commits, Embedded, MemoryDisk, Options};

    /// Two processes over one store.
    #[tokio::test(start_paused = true)]
    async fn d3_a_lease_that_another_took_over_is_neither_renewed_nor_released_by_its_old_holder() {
        let clock = Clock::simulated("2026-09-01T19:00:00Z".parse().unwrap());
        let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
        let store = Embedded::on_disk(&MemoryDisk::new(), options).unwrap();
        let (one, other) = (Leases::default(), Leases::default());
        let acquire = async |leases: &Leases| leases.acquire(&store, &clock, "duty", "somebody", LEASE).await.unwrap();
        let mut first = acquire(&one).await.unwrap();
        assert!(first.renew(&store, &clock).await.unwrap());
        assert!(acquire(&other).await.is_none());
        tokio::time::advance(LEASE).await;
        let mut second = acquire(&other).await.unwrap();
        assert!(!first.renew(&store, &clock).await.unwrap());
        assert!(second.renew(&store, &clock).await.unwrap());
        first.release(&store).await.unwrap();
        assert!(acquire(&one).await.is_none(), "it was not the first one's to release");
        second.release(&store).await.unwrap();
        assert!(acquire(&one).await.is_some());
    }
}
