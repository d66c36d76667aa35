//! The file sink: one `TOPIC.ndjson` a topic, one value a line, synced before it acknowledges [K1]. Keys, headers and
//! times are not kept: what a reader needs stands in the value. Writing happens on one thread of its own, so that a slow
//! disk never holds up a runtime's threads; sends that wait together share one sync a file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::error::BackendError;
use crate::limits::TRY;
use crate::record::Outgoing;
use crate::record::Topic;
use crate::sink::{Lane, Position, Sent, Sink, TopicReport, TopicState, Written, refusal};

/// Sends that wait for the writer; more wait for a place, within their own time.
const WAITING_SENDS: usize = 32;

/// Files of one folder. A file appears with its first record; a torn last line, left by a crash, is cut off.
pub struct FileSink {
    folder: PathBuf,
    topic_prefix: String,
    /// `None` only while dropping.
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl FileSink {
    /// # Errors
    /// `Fatal` when the folder cannot be made or written, `Retry` when another process writes its files.
    pub fn open(folder: impl AsRef<Path>) -> Result<FileSink, BackendError> {
        FileSink::open_prefixed(folder, "")
    }

    /// As [`FileSink::open`], with a stage's prefix before every topic's name [K2].
    pub fn open_prefixed(folder: impl AsRef<Path>, topic_prefix: &str) -> Result<FileSink, BackendError> {
        let folder = folder.as_ref().to_owned();
        let fatal = |e: io::Error| {
            BackendError::Fatal(format!("{}: {e}; name a folder that this user may write", folder.display()))
        };
        fs::create_dir_all(&folder).map_err(fatal)?;
        try_writing(&folder).map_err(fatal)?;
        let mut files = Files { folder: folder.clone(), open: BTreeMap::new() };
        for topic in Topic::ALL {
            let name = format!("{topic_prefix}{}", topic.name());
            let path = files.path(&name);
            if path.exists()
                && let Err(e) = files.get(&name)
            {
                let text = format!("{}: {e}", path.display());
                return Err(match e.kind() {
                    io::ErrorKind::WouldBlock => BackendError::Retry(text),
                    _ => BackendError::Fatal(text),
                });
            }
        }
        let (jobs, waiting) = mpsc::channel(WAITING_SENDS);
        let writer = std::thread::Builder::new()
            .name("file-sink".into())
            .spawn(move || write_all(files, waiting))
            .map_err(|e| BackendError::Fatal(format!("no thread for the file sink: {e}")))?;
        Ok(FileSink { folder, topic_prefix: topic_prefix.into(), jobs: Some(jobs), writer: Some(writer) })
    }
}

impl Drop for FileSink {
    /// Waits for the writer, so that the files' locks are free when this returns.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Sink for FileSink {
    async fn send(&self, _lane: Lane, records: &[Outgoing]) -> Vec<Sent> {
        let mut batch = Batch::default();
        let places: Vec<Result<Place, Sent>> = records.iter().map(|record| self.place(record, &mut batch)).collect();
        let outcomes = self.write(batch.lines).await;
        let outcome = |place: Place| match &outcomes {
            Ok(files) => match files.get(place.slot) {
                Some(Ok(from)) => Sent::Acked(Some(Written { partition: 0, offset: (from + place.start) as i64 })),
                Some(Err(problem)) => Sent::Retry(problem.clone()),
                None => Sent::Retry("the writer gave no answer for the file".into()),
            },
            Err(problem) => Sent::Retry(problem.clone()),
        };
        places.into_iter().map(|place| place.map_or_else(|refused| refused, outcome)).collect()
    }

    async fn answers(&self) -> bool {
        self.writable().await.is_ok()
    }

    async fn check(&self) -> Result<Vec<TopicReport>, BackendError> {
        self.writable().await.map_err(|e| BackendError::Retry(format!("{}: {e}", self.folder.display())))?;
        let report = |topic: &Topic| TopicReport {
            topic: format!("{}{}", self.topic_prefix, topic.name()),
            state: TopicState::Ready,
        };
        Ok(Topic::ALL.iter().map(report).collect())
    }

    async fn positions(&self) -> Result<Vec<Position>, BackendError> {
        Ok(Vec::new())
    }
}

/// The lines of one send, by file.
#[derive(Default)]
struct Batch {
    slots: BTreeMap<Topic, usize>,
    lines: Vec<(String, Vec<u8>)>,
}

/// Where a record's line stands in its batch.
struct Place {
    /// The file's number in the batch.
    slot: usize,
    /// In bytes, within what the batch writes to this file.
    start: u64,
}

/// Where in its file what a job wrote begins, or why nothing of it is there.
type Appending = Result<u64, String>;

impl FileSink {
    /// On a thread where a slow disk holds nobody up.
    async fn writable(&self) -> io::Result<()> {
        let (folder, (done, answer)) = (self.folder.clone(), oneshot::channel());
        // Whoever asked may have gone.
        let asking = move || drop(done.send(try_writing(&folder)));
        std::thread::Builder::new().name("file-sink-question".into()).spawn(asking)?;
        answer.await.map_err(io::Error::other)?
    }

    /// Appends the record's line to its file's lines.
    fn place(&self, record: &Outgoing, batch: &mut Batch) -> Result<Place, Sent> {
        if let Some(refused) = refusal(record) {
            return Err(refused);
        }
        let slot = match batch.slots.get(&record.topic) {
            Some(&slot) => slot,
            None => {
                batch.lines.push((format!("{}{}", self.topic_prefix, record.topic.name()), Vec::new()));
                batch.slots.insert(record.topic, batch.lines.len() - 1);
                batch.lines.len() - 1
            }
        };
        let lines = &mut batch.lines[slot].1;
        let start = lines.len();
        lines.extend_from_slice(&record.value);
        // JSON knows a raw line break only as blank between tokens; here it would end the record.
        for byte in &mut lines[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        lines.push(b'\n');
        Ok(Place { slot, start: start as u64 })
    }

    /// One outcome a file. A job that has not begun within the time never begins; one that has is waited for, so that
    /// nothing is written after the return.
    async fn write(&self, lines: Vec<(String, Vec<u8>)>) -> Result<Vec<Appending>, String> {
        const GONE: &str = "the file sink's writer has ended";
        let Some(jobs) = &self.jobs else { return Err(GONE.into()) };
        let claimed = Arc::new(AtomicBool::new(false));
        let (done, mut answer) = oneshot::channel();
        let job = Job { lines, claimed: claimed.clone(), done };
        let in_time = tokio::time::timeout(TRY, async {
            jobs.send(job).await.map_err(|_| GONE.to_owned())?;
            (&mut answer).await.map_err(|_| GONE.to_owned())
        });
        match in_time.await {
            Ok(outcome) => outcome,
            Err(_) if claimed.swap(true, Ordering::AcqRel) => answer.await.map_err(|_| GONE.to_owned()),
            Err(_) => Err(format!("the disk took longer than {TRY:?}")),
        }
    }
}

struct Job {
    lines: Vec<(String, Vec<u8>)>,
    /// Set by whoever comes first: the writer that begins, or the sender that gives up.
    claimed: Arc<AtomicBool>,
    done: oneshot::Sender<Vec<Appending>>,
}

/// The writer's thread: takes the jobs that wait together, appends them, syncs each touched file once, answers.
fn write_all(mut files: Files, mut waiting: mpsc::Receiver<Job>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut jobs = vec![first];
        while jobs.len() < WAITING_SENDS
            && let Ok(job) = waiting.try_recv()
        {
            jobs.push(job);
        }
        jobs.retain(|job| !job.done.is_closed() && !job.claimed.swap(true, Ordering::AcqRel));
        let mut together: BTreeMap<&str, Vec<&[u8]>> = BTreeMap::new();
        for (topic, lines) in jobs.iter().flat_map(|job| &job.lines) {
            together.entry(topic).or_default().push(lines);
        }
        let mut outcomes: BTreeMap<String, Appending> = together
            .into_iter()
            .map(|(topic, parts)| {
                let written = files.get(topic).and_then(|file| file.append(&parts));
                (topic.to_owned(), written.map_err(|e| format!("{}: {e}", files.path(topic).display())))
            })
            .collect();
        for job in jobs {
            let answer = job.lines.iter().map(|(topic, lines)| begins(&mut outcomes, topic, lines.len())).collect();
            let _ = job.done.send(answer); // the sender may have been dropped: then nobody asks
        }
    }
}

/// Where the next `length` bytes of those that were written together to a topic's file begin.
fn begins(outcomes: &mut BTreeMap<String, Appending>, topic: &str, length: usize) -> Appending {
    match outcomes.get_mut(topic) {
        Some(Ok(next)) => Ok(std::mem::replace(next, *next + length as u64)),
        Some(Err(problem)) => Err(problem.clone()),
        None => Err("the writer left the file out".into()),
    }
}

struct Files {
    folder: PathBuf,
    open: BTreeMap<String, Appended<File>>,
}

impl Files {
    fn path(&self, topic: &str) -> PathBuf {
        self.folder.join(format!("{topic}.ndjson"))
    }

    /// The topic's file, made when it is not there, without a torn last line.
    fn get(&mut self, topic: &str) -> io::Result<&mut Appended<File>> {
        let path = self.path(topic);
        match self.open.entry(topic.to_owned()) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(vacant) => {
                let is_new = !path.exists();
                let mut file = OpenOptions::new().create(true).append(true).read(true).open(&path)?;
                file.try_lock().map_err(|e| match e {
                    TryLockError::WouldBlock => {
                        io::Error::new(io::ErrorKind::WouldBlock, "another process writes this file")
                    }
                    TryLockError::Error(e) => e,
                })?;
                let whole = whole_lines(&mut file)?;
                if file.metadata()?.len() > whole {
                    file.set_len(whole)?;
                    file.sync_data()?;
                }
                if is_new {
                    File::open(&self.folder)?.sync_all()?;
                }
                Ok(vacant.insert(Appended { file, cut_to: None }))
            }
        }
    }
}

/// What appending needs of a file.
trait Tail: Write {
    fn length(&self) -> io::Result<u64>;
    fn cut(&mut self, length: u64) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

impl Tail for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

struct Appended<F> {
    file: F,
    /// A failed append left bytes beyond this length that could not be cut off yet.
    cut_to: Option<u64>,
}

impl<F: Tail> Appended<F> {
    /// All parts, synced, or none of them: where in the file they begin.
    fn append(&mut self, parts: &[&[u8]]) -> io::Result<u64> {
        if let Some(length) = self.cut_to {
            self.file.cut(length)?;
            self.cut_to = None;
        }
        let before = self.file.length()?;
        let written = parts.iter().try_for_each(|part| self.file.write_all(part)).and_then(|()| self.file.sync());
        if written.is_err() && self.file.cut(before).is_err() {
            self.cut_to = Some(before);
        }
        written.map(|()| before)
    }
}

/// Length of the file up to and with its last line break.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut chunk = [0; 8192];
    while end > 0 {
        let start = end.saturating_sub(chunk.len() as u64);
        let part = &mut chunk[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Tells a folder that can't be written at once rather than with the first record.
fn try_writing(folder: &Path) -> io::Result<()> {
    let probe = folder.join(format!(".writable-{}", std::process::id()));
    File::create(&probe)?;
    fs::remove_file(&probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that takes `room` bytes, and no sync while `sick`.
    #[derive(Default)]
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
        sick: bool,
        stuck: bool,
    }

    impl Write for Disk {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            match part.len().min(self.room) {
                0 => Err(io::ErrorKind::StorageFull.into()),
                taken => {
                    self.bytes.extend_from_slice(&part[..taken]);
                    self.room -= taken;
                    Ok(taken)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Tail for Disk {
        fn length(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }

        fn cut(&mut self, length: u64) -> io::Result<()> {
            if self.stuck {
                Err(io::ErrorKind::Other.into())
            } else {
                self.bytes.truncate(length as usize);
                Ok(())
            }
        }

        fn sync(&mut self) -> io::Result<()> {
            if self.sick { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
        }
    }

    #[test]
    fn a_full_disk_leaves_no_part_of_a_line() {
        let mut file = Appended { file: Disk { room: 10, ..Disk::default() }, cut_to: None };
        file.append(&[b"one\n"]).unwrap();
        assert!(file.append(&[b"two\n", b"three\n"]).is_err());
        assert_eq!(file.file.bytes, b"one\n");
        file.file.room = 100;
        file.append(&[b"two\n"]).unwrap();
        assert_eq!(file.file.bytes, b"one\ntwo\n");
    }

    #[test]
    fn what_could_not_be_synced_is_cut_off_again_before_the_next_append() {
        let mut file = Appended { file: Disk { room: 100, ..Disk::default() }, cut_to: None };
        file.append(&[b"one\n"]).unwrap();
        file.file.sick = true;
        file.file.stuck = true;
        assert!(file.append(&[b"two\n"]).is_err());
        assert!(file.append(&[b"two\n"]).is_err(), "nothing is appended behind what could not be cut off");
        file.file.sick = false;
        file.file.stuck = false;
        file.append(&[b"three\n"]).unwrap();
        assert_eq!(file.file.bytes, b"one\nthree\n");
    }

    #[test]
    fn a_torn_last_line_is_found_over_any_length() {
        let folder = tempfile::tempdir().unwrap();
        let torn = "x".repeat(20_000);
        for (text, whole) in [("", 0), ("torn", 0), ("a\n", 2), ("a\nb", 2), (&torn, 0), (&format!("a\n{torn}"), 2)] {
            let path = folder.path().join("file");
            fs::write(&path, text).unwrap();
            assert_eq!(whole_lines(&mut File::open(&path).unwrap()).unwrap(), whole);
        }
    }
}
