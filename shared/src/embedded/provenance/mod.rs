//! Notes of records' ways in files of a data folder [O4, O7]. A thread of its own writes them, so that a disk that stalls holds
//! up no record. Nothing is synced as it comes: a power cut may take the last seconds' notes, and no record with them.

mod volume;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::time::sleep;
use volume::Volume;

use super::room::free_bytes;
use crate::error::BackendError;
use crate::limits::{DISK_FLOOR_BYTES, PROVENANCE_BYTES, PROVENANCE_VOLUME_BYTES, PROVENANCE_WAITING};
use crate::provenance::{Note, Provenance, Step};
use crate::record::EventId;

/// Notes need this many times the room that intake needs: they end long before it does.
const FLOORS: u64 = 16;
/// A question that finds the thread busy is put again after this, so often.
const ASK_AGAIN: Duration = Duration::from_millis(2);
const ASKED: usize = 1_000;

enum Job {
    Note(Note),
    Find(EventId, oneshot::Sender<io::Result<Vec<Step>>>),
}

/// The notes of a data folder, whose lock the caller holds.
pub struct FolderProvenance {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Notes were dropped since the last one that was kept.
    behind: AtomicBool,
}

impl FolderProvenance {
    /// Opens or creates `provenance` within the data folder, on the thread: nobody's start waits for it, or fails with it.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn open(data_folder: &Path) -> Result<FolderProvenance, BackendError> {
        FolderProvenance::sized(data_folder, PROVENANCE_VOLUME_BYTES, PROVENANCE_BYTES)
    }

    fn sized(data_folder: &Path, volume: u64, all: u64) -> Result<FolderProvenance, BackendError> {
        let folder = data_folder.join("provenance");
        let (jobs, waiting) = sync_channel(PROVENANCE_WAITING);
        let run = move || match Kept::open(&folder, volume, all) {
            Ok(kept) => kept.run(&waiting),
            Err(problem) => without(&folder, &problem, &waiting),
        };
        let thread = std::thread::Builder::new()
            .name("provenance".into())
            .spawn(run)
            .map_err(|e| BackendError::Fatal(format!("the thread of notes cannot be started: {e}")))?;
        Ok(FolderProvenance { jobs: Some(jobs), thread: Some(thread), behind: AtomicBool::new(false) })
    }
}

#[async_trait]
impl Provenance for FolderProvenance {
    fn note(&self, note: Note) {
        let Some(jobs) = &self.jobs else { return };
        match jobs.try_send(Job::Note(note)) {
            Ok(()) => self.behind.store(false, Ordering::Relaxed),
            Err(TrySendError::Full(Job::Note(note)) | TrySendError::Disconnected(Job::Note(note))) => {
                dropped(&note);
                if !self.behind.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "the notes of records' ways cannot be written as fast as they come: some are missing"
                    );
                }
            }
            Err(_) => {}
        }
    }

    async fn way(&self, event: EventId) -> Result<Option<Vec<Step>>, BackendError> {
        let (tell, heard) = oneshot::channel();
        let mut job = Job::Find(event, tell);
        for _ in 0..ASKED {
            let Some(jobs) = &self.jobs else { break };
            match jobs.try_send(job) {
                Ok(()) => {
                    let found = heard.await.map_err(|_| BackendError::Fatal("the thread of notes has died".into()))?;
                    return found.map(Some).map_err(|e| BackendError::Retry(format!("provenance: {e}")));
                }
                Err(TrySendError::Full(back)) => job = back,
                Err(TrySendError::Disconnected(_)) => break,
            }
            sleep(ASK_AGAIN).await;
        }
        Err(BackendError::Retry("the notes of records' ways cannot be asked now".into()))
    }
}

impl Drop for FolderProvenance {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// A record without its note is not lost: it is delivered all the same.
fn dropped(note: &Note) {
    metrics::counter!("stream_provenance_dropped_total").increment(note.records.len() as u64);
}

/// The folder cannot be used: everything goes on without notes.
fn without(folder: &Path, problem: &io::Error, waiting: &Receiver<Job>) {
    tracing::warn!(folder = %folder.display(), %problem, "no notes of records' ways are kept");
    while let Ok(job) = waiting.recv() {
        match job {
            Job::Note(note) => dropped(&note),
            Job::Find(_, tell) => {
                let problem = io::Error::new(problem.kind(), format!("{}: {problem}", folder.display()));
                // Whoever asked may have gone.
                drop(tell.send(Err(problem)));
            }
        }
    }
}

/// What the thread has: the volumes, oldest first; the last one is written.
struct Kept {
    folder: PathBuf,
    volumes: Vec<Volume>,
    volume_bytes: u64,
    all_bytes: u64,
    /// Why the last note could not be kept; said once.
    trouble: Option<String>,
}

impl Kept {
    fn open(folder: &Path, volume_bytes: u64, all_bytes: u64) -> io::Result<Kept> {
        fs::create_dir_all(folder)?;
        let mut numbers: Vec<u64> = fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| volume::number(&entry.file_name())))
            .filter_map(Result::transpose)
            .collect::<io::Result<_>>()?;
        numbers.sort_unstable();
        let mut volumes = Vec::with_capacity(numbers.len() + 1);
        for number in numbers {
            volumes.push(Volume::open(folder, number)?);
        }
        Ok(Kept { folder: folder.to_owned(), volumes, volume_bytes, all_bytes, trouble: None })
    }

    fn run(mut self, waiting: &Receiver<Job>) {
        while let Ok(job) = waiting.recv() {
            match job {
                Job::Note(note) => match self.keep(&note) {
                    Ok(()) => self.trouble = None,
                    Err(problem) => {
                        dropped(&note);
                        if self.trouble.replace(problem.to_string()).is_none() {
                            tracing::warn!(%problem, "a note of records' ways could not be kept; records go on without");
                        }
                    }
                },
                // Whoever asked may have gone.
                Job::Find(event, tell) => drop(tell.send(self.find(event))),
            }
        }
    }

    fn keep(&mut self, note: &Note) -> io::Result<()> {
        let is_open = self.volumes.last().is_some_and(|last| last.is_open() && last.bytes() < self.volume_bytes);
        if !is_open {
            self.next_volume()?;
        }
        match self.volumes.last_mut() {
            Some(last) => last.append(note),
            None => Ok(()),
        }
    }

    /// Closes the last volume, forgets the oldest ones that are too many, and begins a new one.
    fn next_volume(&mut self) -> io::Result<()> {
        if free_bytes(&self.folder)? < FLOORS * DISK_FLOOR_BYTES {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk has little room left"));
        }
        if let Some(last) = self.volumes.last_mut() {
            last.close()?;
        }
        // The next one with its index, which is about as large as its notes.
        let next = 2 * self.volume_bytes;
        while self.volumes.iter().map(Volume::size).sum::<u64>() + next > self.all_bytes && !self.volumes.is_empty() {
            self.volumes.remove(0).remove()?;
        }
        let number = self.volumes.last().map_or(1, |last| last.number() + 1);
        self.volumes.push(Volume::create(&self.folder, number)?);
        Ok(())
    }

    fn find(&self, event: EventId) -> io::Result<Vec<Step>> {
        let mut steps = Vec::new();
        for volume in &self.volumes {
            volume.find(event, &mut steps)?;
        }
        Ok(steps)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
