//! A partition shared by connections and the syncer: the log behind its lock, and what waits for progress.
//! Group commit: appends only mark the partition; one sync makes everything appended before it durable.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use kafka_protocol::ResponseError;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::limits::SYNC_THREADS;
use super::log::{Appended, Log, LogSettings};

/// One partition: its log, and who waits for it.
pub(super) struct Partition {
    log: Mutex<Log>,
    progress: watch::Sender<Progress>,
    queued: AtomicBool,
    /// One sync at a time: the system reports a write error to one of them only.
    syncing: Mutex<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    synced: i64,
    ended: bool,
}

/// An accepted batch on its way to the disk.
pub(super) struct Ticket {
    pub(super) base: i64,
    next: i64,
    /// The time that its records were given, if it is not the producer's.
    pub(super) append_time: Option<i64>,
    progress: watch::Receiver<Progress>,
}

impl Ticket {
    /// Waits for the disk; answers the offset of the first record.
    pub(super) async fn durable(mut self) -> Result<i64, ResponseError> {
        let seen = self.progress.wait_for(|now| now.ended || now.synced >= self.next).await;
        match seen {
            Ok(now) if now.synced >= self.next => Ok(self.base),
            _ => Err(ResponseError::KafkaStorageError),
        }
    }
}

impl Partition {
    /// Creates an empty partition.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        Log::create(folder).map(Self::of)
    }

    /// Opens a partition as [`Log::open`] does.
    pub(super) fn open(folder: &Path, start: i64) -> io::Result<(Self, Vec<Range<i64>>)> {
        Log::open(folder, start).map(|(log, missing)| (Self::of(log), missing))
    }

    fn of(log: Log) -> Self {
        let progress = watch::Sender::new(Progress { synced: log.synced(), ended: log.has_ended() });
        Self { log: Mutex::new(log), progress, queued: AtomicBool::new(false), syncing: Mutex::new(()) }
    }

    /// Appends one batch at the time `now_ms`; it is durable when its ticket says so.
    pub(super) fn append(&self, bytes: &[u8], settings: &LogSettings, now_ms: i64) -> Result<Ticket, ResponseError> {
        let progress = self.progress.subscribe();
        self.with(|log| {
            let Appended { base, next, append_time } = log.append(bytes, settings, now_ms)?;
            Ok(Ticket { base, next, append_time, progress })
        })
    }

    /// Works on the log under its lock and tells the waiters what became durable or was lost.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Log) -> T) -> T {
        let mut log = self.log.lock();
        let result = work(&mut log);
        let now = Progress { synced: log.synced(), ended: log.has_ended() };
        self.progress.send_if_modified(|known| std::mem::replace(known, now) != now);
        result
    }

    /// Woken by every record that becomes readable.
    pub(super) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Wakes everyone, for the last time: the topic is gone.
    pub(super) fn close(&self) {
        self.progress.send_modify(|_| {});
    }

    /// Makes durable what was appended before.
    pub(super) fn sync(&self) {
        let _alone = self.syncing.lock();
        let Some(unsynced) = self.with(|log| log.unsynced()) else { return };
        match unsynced.file.sync_data() {
            Ok(()) => self.with(|log| log.note_synced(&unsynced)),
            Err(error) => self.with(|log| log.end(&error)),
        }
    }
}

/// Partitions with something to sync, and the threads that do it. A partition is in the queue at most once: appends that
/// come while its sync runs share the next one.
#[derive(Default)]
pub(super) struct Syncer {
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Default)]
struct Queue {
    dirty: VecDeque<Arc<Partition>>,
    stopped: bool,
}

impl Syncer {
    pub(super) fn mark(&self, partition: &Arc<Partition>) {
        if !partition.queued.swap(true, Ordering::SeqCst) {
            self.queue.lock().dirty.push_back(partition.clone());
            self.ready.notify_one();
        }
    }

    pub(super) fn start(self: &Arc<Self>) -> io::Result<SyncThreads> {
        self.queue.lock().stopped = false;
        let threads = (0..SYNC_THREADS).map(|nth| {
            let syncer = self.clone();
            std::thread::Builder::new().name(format!("kafka-sync-{nth}")).spawn(move || syncer.work())
        });
        Ok(SyncThreads { syncer: self.clone(), threads: threads.collect::<Result<_, _>>()? })
    }

    fn work(&self) {
        while let Some(partition) = self.next_dirty() {
            // This comes before the sync looks at the log: what is appended from here on must queue again.
            partition.queued.store(false, Ordering::SeqCst);
            partition.sync();
        }
    }

    fn next_dirty(&self) -> Option<Arc<Partition>> {
        let waiting = |queue: &mut Queue| queue.dirty.is_empty() && !queue.stopped;
        let mut queue = self.queue.lock();
        self.ready.wait_while(&mut queue, waiting);
        queue.dirty.pop_front()
    }
}

/// Ends the threads when dropped, after everything queued is synced.
pub(super) struct SyncThreads {
    syncer: Arc<Syncer>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for SyncThreads {
    fn drop(&mut self) {
        self.syncer.queue.lock().stopped = true;
        self.syncer.ready.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a sync thread of the Kafka endpoint panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::super::sample_requests::one_record;
    use super::super::settings::log_settings;
    use super::*;

    #[test]
    fn a_batch_is_acknowledged_after_its_sync_and_one_sync_serves_all_in_flight() {
        let folder = tempfile::tempdir().unwrap();
        let partition = Partition::create(folder.path()).unwrap();
        let settings = log_settings(&Default::default());
        let mut tickets: Vec<_> = (0..3)
            .map(|_| partition.append(&one_record(), &settings, 0).unwrap())
            .map(|ticket| Box::pin(ticket.durable()))
            .collect();
        for ticket in &mut tickets {
            assert_eq!(ticket.now_or_never(), None, "nothing is durable yet");
        }
        partition.sync();
        let answers: Vec<_> = tickets.into_iter().map(|ticket| ticket.now_or_never()).collect();
        assert_eq!(answers, [Some(Ok(0)), Some(Ok(1)), Some(Ok(2))]);
    }

    #[test]
    fn q1_after_a_failed_sync_a_partition_acknowledges_nothing_until_it_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let partition = Partition::create(folder.path()).unwrap();
        let settings = log_settings(&Default::default());
        let mut durable = partition.append(&one_record(), &settings, 0).unwrap().durable().boxed();
        partition.sync();
        assert_eq!(durable.as_mut().now_or_never(), Some(Ok(0)));
        let lost = partition.append(&one_record(), &settings, 0).unwrap().durable();
        partition.with(|log| log.end(&io::Error::other("the disk fails")));
        assert_eq!(lost.now_or_never(), Some(Err(ResponseError::KafkaStorageError)));
        for _ in 0..2 {
            // The disk says that all is well again.
            partition.sync();
            let refused = partition.append(&one_record(), &settings, 0).err();
            assert_eq!(refused, Some(ResponseError::KafkaStorageError), "the disk is not trusted again");
        }
        drop(partition);
        let (partition, missing) = Partition::open(folder.path(), 0).unwrap();
        assert_eq!(missing, []);
        assert_eq!(partition.append(&one_record(), &settings, 0).unwrap().base, 1, "its place is free again");
    }
}
