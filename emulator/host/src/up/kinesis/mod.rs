//! A Kinesis stream on this host: as many shards as the template says, a record's shard chosen by its partition key as
//! Kinesis does it, so that one sensor's readings keep their order while the shards are read side by side.

mod batches;
mod block;
mod log;
mod mapping;
mod shard;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use md5::{Digest, Md5};
use streammanager::error::BackendError;
use streammanager::store::{Expect, Key, Store};
use streammanager::time::Clock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use batches::Plan;
pub(crate) use mapping::Mapping;
use mapping::Reader;
use shard::Shard;

/// A stream that nobody reads is looked through for what has expired this often.
const EXPIRES: Duration = Duration::from_secs(60);
/// What AWS gives a new stream on demand.
const SHARDS_ON_DEMAND: u32 = 4;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct KinesisStream {
    shards: Arc<[Shard]>,
    given_up: Arc<AtomicU64>,
}

/// Where records are kept; cheap to clone.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) store: Arc<dyn Store>,
    /// The same store for new records: refused while the disk is full, when reading goes on.
    pub(crate) intake: Arc<dyn Store>,
}

#[cfg(test)]
impl Stores {
    fn both(store: Arc<dyn Store>) -> Stores {
        Stores { intake: store.clone(), store }
    }
}

impl KinesisStream {
    /// Continues where an earlier run stopped. `shards`: as the template says; none for a stream on demand.
    ///
    /// # Errors
    /// `Fatal` when the data folder holds unread records of shards that the template has no more.
    pub(crate) async fn open(
        name: &str,
        shards: Option<u32>,
        stores: Stores,
        clock: &Clock,
    ) -> Result<KinesisStream, BackendError> {
        let wanted = shards.unwrap_or(SHARDS_ON_DEMAND) as usize;
        let before = shards_before(&*stores.store, name).await?;
        let mut opened = Vec::new();
        for number in 0..wanted.max(before) {
            let shard = Shard::open(name, number, stores.clone(), clock.clone()).await?;
            if number < wanted {
                opened.push(shard);
            } else if shard.unread() > 0 {
                return Err(BackendError::Fatal(format!(
                    "the stream {name} holds unread records of {before} shards and has {wanted} now: start once with as many as before"
                )));
            }
        }
        let kept = stores.store.put_if(&shards_key(name), wanted.to_string().into(), Expect::Any, None).await;
        kept.map_err(|e| e.unexpected("a stream's number of shards"))?;
        Ok(KinesisStream { shards: opened.into(), given_up: Arc::default() })
    }

    /// Durable when it returns. Kinesis refuses what is beyond a shard's share; here it waits for room, in its order, and its
    /// publisher hears nothing until then.
    pub(crate) async fn put(&self, partition_key: String, data: Vec<u8>) -> Result<(), BackendError> {
        self.shards[shard_of(&partition_key, self.shards.len())].put(partition_key, data).await
    }

    /// Records put, or being put, and not yet passed by the checkpoints.
    pub(crate) fn unread(&self) -> u64 {
        self.shards.iter().map(Shard::unread).sum()
    }

    /// Records that the mapping gave up since the start, as the template has it.
    pub(crate) fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    /// The event source: every shard by itself. To be called before anything is put: a new mapping begins with what is there
    /// now, or behind it.
    ///
    /// # Errors
    /// When the store cannot say or keep where it begins.
    pub(crate) async fn start(
        &self,
        mapping: Mapping,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<(), BackendError> {
        let mapping = Arc::new(mapping);
        for shard in self.shards.iter() {
            let skipped = shard.log.begin(mapping.start).await?;
            if skipped > 0 {
                let function = &mapping.function;
                tracing::warn!(skipped, function, "a new mapping begins behind records that nobody reads any more");
            }
            let reader = Reader::new(shard.clone(), mapping.clone(), self.given_up.clone());
            tasks.spawn(reader.run(stop.clone()));
        }
        Ok(())
    }

    /// A stream that nobody reads: its records expire.
    pub(crate) fn expire(&self, retention: Duration, tasks: &TaskTracker, stop: &CancellationToken) {
        for shard in self.shards.iter().cloned() {
            let (given_up, stop) = (self.given_up.clone(), stop.clone());
            tasks.spawn(async move {
                while stop.run_until_cancelled(tokio::time::sleep(EXPIRES)).await.is_some() {
                    match shard.log.expire(retention).await {
                        Ok(0) => {}
                        Ok(records) => count_given_up(&given_up, records, "retention"),
                        Err(problem) => tracing::warn!(%problem, shard = shard.id(), "what expired is still kept"),
                    }
                }
            });
        }
    }
}

fn shards_key(stream: &str) -> Key {
    Key::new(format!("kinesis/{stream}"), "shards")
}

/// How many shards it had at the last start; earlier versions did not note it.
async fn shards_before(store: &dyn Store, stream: &str) -> Result<usize, BackendError> {
    let noted = store.get(&shards_key(stream)).await?;
    let noted = noted.and_then(|item| String::from_utf8_lossy(&item.value).parse().ok());
    Ok(noted.unwrap_or(SHARDS_ON_DEMAND as usize))
}

/// Said by whoever gives them up, and counted here: nothing goes in silence [Q1].
fn count_given_up(given_up: &AtomicU64, records: u64, because: &'static str) {
    given_up.fetch_add(records, Ordering::Relaxed);
    metrics::counter!("stream_records_given_up_total", "because" => because).increment(records);
}

/// Kinesis splits the 128 bits of a key's MD5 evenly among the shards of a new stream.
fn shard_of(partition_key: &str, shards: usize) -> usize {
    let hash = u128::from_be_bytes(Md5::digest(partition_key).into());
    let width = u128::MAX / shards as u128;
    ((hash / width) as usize).min(shards - 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use streammanager::embedded::{Commits, Embedded, MemoryDisk, Options};

    fn store() -> Arc<dyn Store> {
        let options = Options { commits: Commits::Inline, ..Options::new(Clock::system()) };
        Arc::new(Embedded::on_disk(&MemoryDisk::new(), options).unwrap())
    }

    #[test]
    fn l5_a_key_has_the_shard_that_kinesis_gives_it() {
        // md5("a") = 0cc1…, md5("b") = 92eb…, md5("c") = 4a8a…, md5("d") = 8277…, md5("e") = e167…
        assert_eq!(["a", "b", "c", "d", "e"].map(|key| shard_of(key, 4)), [0, 2, 1, 2, 3]);
        assert_eq!(shard_of("a", 1), 0);
    }

    #[tokio::test]
    async fn shards_that_still_hold_records_are_not_given_up() {
        let store = store();
        let stream = KinesisStream::open("s", None, Stores::both(store.clone()), &Clock::system()).await.unwrap();
        // The first shard and the last.
        for key in ["a", "e"] {
            stream.put(key.into(), b"1".into()).await.unwrap();
        }
        assert_eq!(stream.unread(), 2);
        let open = async |shards| {
            let opened = KinesisStream::open("s", Some(shards), Stores::both(store.clone()), &Clock::system()).await;
            opened.map(|stream| stream.unread())
        };
        for fewer in [1, 2, 3] {
            assert!(matches!(open(fewer).await, Err(BackendError::Fatal(_))), "{fewer}");
        }
        for enough in [4, 9] {
            assert_eq!(open(enough).await.unwrap(), 2);
        }
    }
}
