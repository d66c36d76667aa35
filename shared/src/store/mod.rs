//! The store seam: small items under a partition and a sort key with conditional writes, as DynamoDB has them. Cursors,
//! seen-sets, leases, breakers, connectors, audit entries and dead letters live here. Every write is a condition.

#[cfg(feature = "testing")]
pub mod conformance;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::BackendError;
use crate::time::Timestamp;

/// `partition` groups what is listed together; `sort` orders it bytewise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What is listed together.
    pub partition: String,
    /// Orders a partition's items, by its bytes.
    pub sort: String,
}

impl Key {
    /// A key of two texts.
    pub fn new(partition: impl Into<String>, sort: impl Into<String>) -> Key {
        Key { partition: partition.into(), sort: sort.into() }
    }
}

/// Opaque: differs after every write of an item, also after delete and re-creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(pub u64);

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Where it stands.
    pub key: Key,
    /// What was written, at most [`VALUE_BYTES`].
    pub value: Bytes,
    /// For the condition of the next write.
    pub version: Version,
    /// From then on the item counts as absent, whether or not it was deleted yet.
    pub expires: Option<Timestamp>,
}

/// The condition of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is there.
    Any,
    /// Nothing is there, or what is there has expired.
    Absent,
    /// Exactly this version is there.
    Version(Version),
}

/// Leases of duties and streams.
pub const LEASES: &str = "leases";
/// Turns of the seen-set.
pub const TURNS: &str = "seen-turns";
/// When hosts may be asked again.
pub const HOSTS: &str = "hosts";
/// What processes say of themselves every few seconds.
pub const REPORTS: &str = "reports";

/// Partitions whose items mean something only while a process lives that shares them: who holds what, and how things are now. A
/// store that ends with the last of these processes may keep them in memory.
pub const OF_THE_LIVING: [&str; 4] = [LEASES, TURNS, HOSTS, REPORTS];

/// Why a write was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PutError {
    /// The condition did not hold: somebody else wrote.
    #[error("the condition did not hold")]
    Conflict,
    /// The value has more than [`VALUE_BYTES`]; nothing was written.
    #[error("the item has {0} bytes, more than the store takes")]
    TooLarge(usize),
    /// The backend could not do it; whether it was done is not known.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl PutError {
    /// What it means for a writer that expects neither a conflict nor a value too large; `what` names the item.
    pub fn unexpected(self, what: &str) -> BackendError {
        match self {
            PutError::Backend(e) => e,
            e => BackendError::Fatal(format!("{what}: {e}")),
        }
    }
}

/// Deletes whatever stands under `key`; nothing there is no error.
pub async fn remove(store: &dyn Store, key: &Key) -> Result<(), BackendError> {
    match store.delete_if(key, Expect::Any).await {
        Ok(()) | Err(PutError::Conflict) => Ok(()),
        Err(e) => Err(e.unexpected(&key.partition)),
    }
}

/// Puts `value` under `key` as JSON, whatever stands there; `what` names it in an error.
pub(crate) async fn put_json(
    store: &dyn Store,
    key: &Key,
    value: &(impl Serialize + Sync),
    what: &str,
) -> Result<(), BackendError> {
    let value = serde_json::to_vec(value).map_err(|e| BackendError::Fatal(format!("{what}: {e}")))?;
    store.put_if(key, value.into(), Expect::Any, None).await.map(drop).map_err(|e| e.unexpected(what))
}

/// What [`put_json`] put; `None` also for what another version wrote, where that is as good as nothing.
pub(crate) async fn get_json<T: DeserializeOwned>(store: &dyn Store, key: &Key) -> Result<Option<T>, BackendError> {
    Ok(store.get(key).await?.and_then(|item| serde_json::from_slice(&item.value).ok()))
}

/// Items of `partition` whose sort key begins with `prefix`, in order, `max` at most, read page by page.
pub async fn list_all(store: &dyn Store, partition: &str, prefix: &str, max: usize) -> Result<Vec<Item>, BackendError> {
    const PAGE: usize = 500;
    let mut items: Vec<Item> = Vec::new();
    while items.len() < max {
        let wanted = PAGE.min(max - items.len());
        let after = items.last().map(|item| item.key.sort.clone());
        let page = store.list(partition, prefix, after.as_deref(), wanted).await?;
        let last = page.len() < wanted;
        items.extend(page);
        if last {
            break;
        }
    }
    Ok(items)
}

/// Largest value; DynamoDB's item bound is 400 KB with its keys.
pub const VALUE_BYTES: usize = 380 * 1024;

/// Keys and values with conditional writes.
#[async_trait]
pub trait Store: Send + Sync {
    /// The item; `None` when nothing is there, or it has expired.
    async fn get(&self, key: &Key) -> Result<Option<Item>, BackendError>;

    /// Items of `partition` whose sort key begins with `prefix` and stands after `after`, in order, `max` at most.
    async fn list(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<Item>, BackendError>;

    /// Writes if the expectation holds; an `Ok` is durable, for [`OF_THE_LIVING`] as long as they live.
    async fn put_if(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        expires: Option<Timestamp>,
    ) -> Result<Version, PutError>;

    /// Deleting what is absent is a conflict only under `Expect::Version`.
    async fn delete_if(&self, key: &Key, expect: Expect) -> Result<(), PutError>;
}
