//! The records of one shard, durable in the store: put in the order in which they come, read from a durable checkpoint on, and
//! deleted once the checkpoint has passed them.
//!
//! Everybody's records go through one queue, and one block of them is written at a time. What is offered while a block is being
//! written goes into the next one, so that many publishers share a commit, and an earlier record never becomes visible after a
//! later one. While the shard is full or the store is away, those who put wait, in their order: nobody overtakes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use streammanager::error::BackendError;
use streammanager::store::{self, Expect, Item, Key, PutError, Store};
use streammanager::time::Clock;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Stores;
use super::block::{self, Arrival, Block, Record};
use crate::template::StartAt;
use crate::up::limits::{BLOCK_BYTES, SHARD_BYTES, SHARD_OPENED};

/// A block that the store did not take is offered again after this; publishers who have left meanwhile are forgotten.
const WRITE_AGAIN: Duration = Duration::from_millis(250);
/// What an event says of a record beside its data, about.
const EVENT_RECORD_BYTES: usize = 500;
/// What a block takes beside its value, in memory and on disk, about.
const BLOCK_COST: usize = 128;

/// Cheap to clone; its last clone's end is the end of its writer.
#[derive(Clone)]
pub(super) struct Log {
    shared: Arc<Shared>,
    _writer: Arc<DropGuard>,
}

struct Shared {
    partition: String,
    checkpoint: Key,
    store: Arc<dyn Store>,
    clock: Clock,
    state: Mutex<State>,
    /// For the writer: a record is offered, or there is room.
    offered: Notify,
    /// For the reader: a block is stored.
    arrived: Notify,
}

struct State {
    /// The number of the next record.
    next: u64,
    /// The checkpoint: the number of the last record that is done with.
    read: u64,
    /// No reader has begun here: there is no checkpoint.
    is_new: bool,
    unread: Blocks,
    offered: VecDeque<Offered>,
    /// Records of the block that is being written.
    writing: u64,
    /// It has been said that publishers wait.
    is_full: bool,
}

impl State {
    /// Clients that come back and send again would fill the memory while nothing is written.
    fn forget_who_left(&mut self) {
        self.offered.retain(|offered| !offered.reply.is_closed());
    }
}

type Reply = oneshot::Sender<Result<(), BackendError>>;

/// A record whose publisher waits.
struct Offered {
    key: String,
    data: Vec<u8>,
    reply: Reply,
}

/// A block to be written, and those who wait for it.
struct Taken {
    first: u64,
    block: Block,
    waiting: Vec<Reply>,
}

/// The stored blocks that the checkpoint has not passed, by the number of their first record.
#[derive(Default)]
struct Blocks {
    by_first: BTreeMap<u64, Stored>,
    bytes: usize,
}

struct Stored {
    /// The number of its last record.
    last: u64,
    bytes: usize,
    arrival: Arrival,
}

impl Blocks {
    fn insert(&mut self, first: u64, last: u64, value_bytes: usize, arrival: Arrival) {
        let bytes = value_bytes + BLOCK_COST;
        self.bytes += bytes;
        self.by_first.insert(first, Stored { last, bytes, arrival });
    }

    /// Gives the number of its last record.
    fn remove(&mut self, first: u64) -> Option<u64> {
        let stored = self.by_first.remove(&first)?;
        self.bytes -= stored.bytes;
        Some(stored.last)
    }

    /// Takes out the oldest block if `read` has passed all of it.
    fn pop_passed(&mut self, read: u64) -> Option<u64> {
        let first =
            self.by_first.first_key_value().filter(|(_, stored)| stored.last <= read).map(|(first, _)| *first)?;
        self.remove(first);
        Some(first)
    }

    /// The oldest blocks, until they hold `records` after `read` or fill an event of `bytes`.
    fn oldest(&self, read: u64, records: usize, bytes: usize) -> Vec<(u64, Arrival)> {
        let (mut counted, mut filled, mut firsts) = (0, 0, Vec::new());
        let holds_next = self.by_first.range(..=read + 1).next_back().map_or(0, |(first, _)| *first);
        for (first, stored) in self.by_first.range(holds_next..).filter(|(_, stored)| stored.last > read) {
            let more = stored.last - read.max(first - 1);
            counted += more;
            filled += stored.bytes / 3 * 4 + more as usize * EVENT_RECORD_BYTES;
            firsts.push((*first, stored.arrival));
            if counted >= records as u64 || filled >= bytes {
                break;
            }
        }
        firsts
    }

    fn records_after(&self, read: u64) -> u64 {
        self.by_first.iter().map(|(first, stored)| stored.last - read.max(first - 1)).sum()
    }
}

/// What was read of a shard.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) records: Vec<Record>,
    /// Records on the way to these that cannot be read any more, nor will be.
    pub(super) damaged: u64,
}

impl Log {
    /// Continues where an earlier run stopped. `shard`: such as `shardId-000000000000`.
    ///
    /// # Errors
    /// When the store cannot be read, or holds something else under the shard's name.
    pub(super) async fn open(stream: &str, shard: &str, stores: Stores, clock: Clock) -> Result<Log, BackendError> {
        let Stores { store, intake } = stores;
        let partition = format!("kinesis/{stream}/{shard}");
        let checkpoint = Key::new(format!("kinesis/{stream}"), format!("checkpoint/{shard}"));
        let passed = store.get(&checkpoint).await?;
        let is_new = passed.is_none();
        let read = passed.map_or(0, |item| String::from_utf8_lossy(&item.value).parse().unwrap_or(0));
        let (opened_at, since) = (clock.now(), Instant::now());
        let (mut unread, mut end, mut after) = (Blocks::default(), read, None);
        loop {
            let items = store.list(&partition, "", after.as_deref(), SHARD_OPENED).await?;
            let Some(item) = items.last() else { break };
            after = Some(item.key.sort.clone());
            for item in items {
                let first = number_of(&item);
                let arrival = Arrival { at: block::stored_at(&item.value).unwrap_or(opened_at), since };
                let records = block::records(first, item.value.clone(), arrival)
                    .ok_or_else(|| BackendError::Fatal(format!("{partition}/{} is not a block", item.key.sort)))?;
                let last = first + records.len() as u64 - 1;
                if last > read {
                    unread.insert(first, last, item.value.len(), arrival);
                    end = last;
                } else {
                    // A kill came before its deletion.
                    store::remove(&*store, &item.key).await?;
                }
            }
        }
        let state = State { next: end + 1, read, is_new, unread, offered: VecDeque::new(), writing: 0, is_full: false };
        let (state, offered, arrived) = (Mutex::new(state), Notify::new(), Notify::new());
        let shared = Arc::new(Shared { partition, checkpoint, store, clock, state, offered, arrived });
        let ended = CancellationToken::new();
        let (writer, ends) = (shared.clone(), ended.clone());
        tokio::spawn(async move { ends.run_until_cancelled(writer.write_blocks(&*intake)).await });
        Ok(Log { shared, _writer: Arc::new(ended.drop_guard()) })
    }

    /// Durable when it returns. It waits while the shard is full or the store is away; whoever stops waiting has not put it, or
    /// is not sure.
    pub(super) async fn put(&self, key: String, data: Vec<u8>) -> Result<(), BackendError> {
        let (reply, answer) = oneshot::channel();
        self.shared.state.lock().offered.push_back(Offered { key, data, reply });
        self.shared.offered.notify_one();
        answer.await.unwrap_or_else(|_| Err(BackendError::Retry("the shard is being closed".into())))
    }

    /// Records put, or being put, and not yet passed by the checkpoint.
    pub(super) fn unread(&self) -> u64 {
        let state = self.shared.state.lock();
        state.unread.records_after(state.read) + state.writing + state.offered.len() as u64
    }

    /// Ends when a block was stored since this was called.
    pub(super) fn arrived(&self) -> Notified<'_> {
        self.shared.arrived.notified()
    }

    /// Where a reader begins that has no checkpoint yet; once it has begun, its checkpoint decides. Gives how many records it
    /// passes over.
    pub(super) async fn begin(&self, start: StartAt) -> Result<u64, BackendError> {
        let (before, unread) = {
            let state = self.shared.state.lock();
            if !state.is_new {
                return Ok(0);
            }
            let is_before = |stored: &Stored| match start {
                StartAt::Oldest => false,
                StartAt::Latest => true,
                StartAt::Time(seconds) => (stored.arrival.at.as_millisecond() as f64) < seconds * 1_000.0,
            };
            let skipped = state.unread.by_first.values().take_while(|stored| is_before(stored)).last();
            let before = skipped.map_or(state.read, |stored| stored.last);
            (before, state.unread.records_after(state.read))
        };
        self.moved(before).await?;
        let mut passed = self.popped(before);
        self.delete(&mut passed).await;
        let state = self.shared.state.lock();
        Ok(unread - state.unread.records_after(state.read))
    }

    /// The number of the last record that is done with.
    pub(super) fn read(&self) -> u64 {
        self.shared.state.lock().read
    }

    /// The records after that with the number `read`. As on AWS there are `most` of them, or they end before an event that would
    /// be larger than `bytes`, whichever comes first.
    pub(super) async fn next(&self, read: u64, most: usize, bytes: usize) -> Result<Given, BackendError> {
        let mut given = Given::default();
        let firsts = self.shared.state.lock().unread.oldest(read, most, bytes);
        let Some((first, _)) = firsts.first() else { return Ok(given) };
        let before = sort_key(first - 1);
        let items = self.shared.store.list(&self.shared.partition, "", Some(&before), firsts.len()).await?;
        // The block that is being written may be there as well, and is nobody's yet.
        let mut found: BTreeMap<u64, Bytes> = items.into_iter().map(|item| (number_of(&item), item.value)).collect();
        let mut filled = 0;
        for (first, arrival) in firsts {
            let value = match found.remove(&first) {
                Some(value) => Some(value),
                None => self.shared.store.get(&self.shared.key(first)).await?.map(|item| item.value),
            };
            let Some(records) = value.and_then(|value| block::records(first, value, arrival)) else {
                // The store has set its bytes aside.
                let last = self.shared.state.lock().unread.remove(first);
                let records = last.map_or(0, |last| last - read.max(first - 1));
                let shard = &self.shared.partition;
                tracing::error!(shard, first, records, "a damaged block of records is passed over");
                given.damaged += records;
                continue;
            };
            for record in records.into_iter().filter(|record| record.number > read) {
                filled += event_bytes(&record);
                if given.records.len() == most || (filled > bytes && !given.records.is_empty()) {
                    return Ok(given);
                }
                given.records.push(record);
            }
        }
        Ok(given)
    }

    /// Moves the checkpoint to `done`; gives the blocks that it has passed now, which are still stored.
    pub(super) async fn pass(&self, done: u64) -> Result<Vec<u64>, BackendError> {
        if done <= self.read() {
            return Ok(Vec::new());
        }
        self.moved(done).await?;
        Ok(self.popped(done))
    }

    async fn moved(&self, done: u64) -> Result<(), BackendError> {
        let moved = self.shared.store.put_if(&self.shared.checkpoint, done.to_string().into(), Expect::Any, None).await;
        moved.map_err(|e| e.unexpected("a Kinesis checkpoint"))?;
        Ok(())
    }

    fn popped(&self, done: u64) -> Vec<u64> {
        let mut state = self.shared.state.lock();
        (state.read, state.is_new) = (done, false);
        let passed = std::iter::from_fn(|| state.unread.pop_passed(done)).collect();
        self.shared.offered.notify_one();
        passed
    }

    /// Passes over what is here for longer than `retention`; gives how many records that were.
    pub(super) async fn expire(&self, retention: Duration) -> Result<u64, BackendError> {
        let (now, read) = (Instant::now(), self.read());
        let expired = {
            let state = self.shared.state.lock();
            let stored = state.unread.by_first.values();
            stored.take_while(|stored| stored.arrival.waited(now) >= retention).last().map(|stored| stored.last)
        };
        let Some(expired) = expired else { return Ok(0) };
        let mut passed = self.pass(expired).await?;
        self.delete(&mut passed).await;
        let records = expired - read;
        tracing::error!(shard = self.shared.partition, records, "records that nobody read have expired");
        Ok(records)
    }

    /// What cannot be deleted now stays in `passed` for the next time, or is deleted when the shard is opened again.
    pub(super) async fn delete(&self, passed: &mut Vec<u64>) {
        let keys: Vec<Key> = passed.iter().map(|first| self.shared.key(*first)).collect();
        let removed = join_all(keys.iter().map(|key| store::remove(&*self.shared.store, key))).await;
        let mut removed = removed.into_iter();
        passed.retain(|first| match removed.next() {
            Some(Err(problem)) => {
                tracing::warn!(%problem, shard = self.shared.partition, first, "a block that was read could not be deleted");
                true
            }
            _ => false,
        });
    }
}

impl Shared {
    fn key(&self, first: u64) -> Key {
        Key::new(self.partition.clone(), sort_key(first))
    }

    async fn write_blocks(&self, intake: &dyn Store) {
        loop {
            let offered = self.offered.notified();
            let Some(Taken { first, block, waiting }) = self.take() else {
                let _ = tokio::time::timeout(WRITE_AGAIN, offered).await;
                continue;
            };
            let arrival = Arrival { at: self.clock.now(), since: Instant::now() };
            let (records, value) = (block.records(), block.into_value(arrival.at));
            let outcome = self.write(intake, &self.key(first), &value).await;
            {
                let mut state = self.state.lock();
                state.writing = 0;
                if outcome.is_ok() {
                    state.unread.insert(first, first + records - 1, value.len(), arrival);
                }
            }
            self.arrived.notify_one();
            for reply in waiting {
                // Whoever left sends it again.
                let _ = reply.send(outcome.clone());
            }
        }
    }

    /// What is offered, as far as one block takes it and the shard has room.
    fn take(&self) -> Option<Taken> {
        let mut state = self.state.lock();
        state.forget_who_left();
        let is_full = state.unread.bytes + BLOCK_BYTES > SHARD_BYTES;
        if is_full && !state.is_full {
            tracing::warn!(shard = self.partition, "the shard is full: publishers wait until its reader has caught up");
        }
        state.is_full = is_full;
        if is_full || state.offered.is_empty() {
            return None;
        }
        let (mut block, mut waiting) = (Block::default(), Vec::new());
        while state.offered.front().is_some_and(|offered| block.has_room(&offered.key, &offered.data)) {
            let Some(Offered { key, data, reply }) = state.offered.pop_front() else { break };
            block.push(&key, &data);
            waiting.push(reply);
        }
        let first = state.next;
        state.writing = block.records();
        state.next += block.records();
        Some(Taken { first, block, waiting })
    }

    /// Writes a block, again and again while the store is away: its publishers wait, and it is the same block under the same
    /// numbers, so that an answer which was lost costs nothing.
    async fn write(&self, intake: &dyn Store, key: &Key, value: &Bytes) -> Result<(), BackendError> {
        let mut is_away = false;
        loop {
            match intake.put_if(key, value.clone(), Expect::Any, None).await {
                Ok(_) => return Ok(()),
                Err(PutError::Backend(BackendError::Retry(problem))) => {
                    if !std::mem::replace(&mut is_away, true) {
                        tracing::warn!(problem, shard = self.partition, "the store is away: publishers wait");
                    }
                    tokio::time::sleep(WRITE_AGAIN).await;
                    self.state.lock().forget_who_left();
                }
                Err(e) => return Err(e.unexpected("records of a Kinesis shard")),
            }
        }
    }
}

/// What the record takes of an event, about.
pub(super) fn event_bytes(record: &Record) -> usize {
    record.data.len().div_ceil(3) * 4 + record.key.len() + EVENT_RECORD_BYTES
}

fn sort_key(number: u64) -> String {
    format!("{number:020}")
}

/// Of the block's first record.
fn number_of(item: &Item) -> u64 {
    item.key.sort.parse().unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
