//! One segment file of a partition: batches one after another, named by the offset of the first, and a sparse index in memory.
//! Which segments a log has, and what is durable, is the log's business.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::batch::{HEAD, Head, intact, whole};
use super::damage;
use super::limits::INDEX_INTERVAL;
use super::producers::Producers;

pub(super) struct Segment {
    /// Offset of the first batch, also of an empty segment's first to come.
    pub(super) base: i64,
    /// Offset after the last batch.
    pub(super) next: i64,
    pub(super) len: u64,
    pub(super) max_time: i64,
    index: Vec<Entry>,
    file: Arc<File>,
    path: PathBuf,
}

/// A batch that begins a stretch of at least [`INDEX_INTERVAL`] bytes.
struct Entry {
    offset: i64,
    at: u64,
    /// Latest timestamp of the whole stretch.
    max_time: i64,
}

/// Where appended bytes go: the file, or in tests a disk that is full.
pub(super) type WriteAt = fn(&File, &[u8], u64) -> io::Result<()>;

pub(super) fn write_to_disk(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    file.write_all_at(bytes, at)
}

impl Segment {
    pub(super) fn create(folder: &Path, base: i64) -> io::Result<Self> {
        let path = folder.join(format!("{base:020}.log"));
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
        File::open(folder)?.sync_all()?;
        Ok(Self::empty(path, file, base))
    }

    /// Reads the heads of all batches. `checked_tail` bytes at the end must also have valid checksums; what follows the
    /// last good batch is not part of the segment.
    pub(super) fn open(path: PathBuf, base: i64, checked_tail: u64, producers: &mut Producers) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let mut segment = Self::empty(path, file, base);
        segment.scan(checked_tail, producers)?;
        Ok(segment)
    }

    fn empty(path: PathBuf, file: File, base: i64) -> Self {
        Self { base, next: base, len: 0, max_time: -1, index: Vec::new(), file: Arc::new(file), path }
    }

    fn scan(&mut self, checked_tail: u64, producers: &mut Producers) -> io::Result<()> {
        let size = self.file.metadata()?.len();
        let check_from = size.saturating_sub(checked_tail);
        let file = self.file.clone();
        let mut heads = Heads::new(&file, 0, size, 1 << 20);
        while let Some((at, head)) = heads.next()? {
            let end = at + head.size as u64;
            // The offset is not under the checksum, but the log leaves no gaps.
            if head.base != self.next || end > size {
                break;
            }
            if end > check_from && !intact(&self.bytes(at, head.size)?) {
                break;
            }
            self.note(&head);
            producers.note(&head);
        }
        Ok(())
    }

    pub(super) fn append(&mut self, head: &Head, batch: &[u8], write_at: WriteAt) -> io::Result<()> {
        if let Err(error) = write_at(&self.file, batch, self.len) {
            self.cut()?;
            return Err(error);
        }
        self.note(head);
        Ok(())
    }

    fn note(&mut self, head: &Head) {
        match self.index.last_mut() {
            Some(entry) if self.len - entry.at < INDEX_INTERVAL => entry.max_time = entry.max_time.max(head.max_time),
            _ => self.index.push(Entry { offset: head.base, at: self.len, max_time: head.max_time }),
        }
        self.max_time = self.max_time.max(head.max_time);
        self.len += head.size as u64;
        self.next = head.next();
    }

    /// The batch that holds `offset`, or the first one after it.
    fn locate(&self, offset: i64) -> io::Result<Option<(u64, Head)>> {
        let stretch = self.index.partition_point(|entry| entry.offset <= offset).saturating_sub(1);
        let Some(entry) = self.index.get(stretch) else { return Ok(None) };
        let mut heads = Heads::new(&self.file, entry.at, self.len, INDEX_INTERVAL as usize);
        while let Some((at, head)) = heads.next()? {
            if head.last() >= offset {
                return Ok(Some((at, head)));
            }
        }
        Ok(None)
    }

    /// Whole batches from the one that holds `offset`, up to `max` bytes, never beyond `end` of the file. The first batch
    /// comes even if it is larger, if `first_anyway`: else a consumer could never get past it.
    pub(super) fn read(&self, offset: i64, max: usize, first_anyway: bool, end: u64) -> io::Result<Bytes> {
        let Some((at, head)) = self.locate(offset)? else { return Ok(Bytes::new()) };
        if at >= end {
            return Ok(Bytes::new());
        }
        let want = match head.size <= max {
            true => (max as u64).min(end - at) as usize,
            false if first_anyway => head.size,
            false => return Ok(Bytes::new()),
        };
        let mut bytes = self.bytes(at, want)?;
        bytes.truncate(whole(&bytes));
        Ok(bytes.into())
    }

    /// Calls `look` with each batch that may hold a timestamp of at least `time`, in order, until it answers.
    pub(super) fn search_time<T>(
        &self,
        time: i64,
        end: u64,
        mut look: impl FnMut(&Head, &[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        for (nth, entry) in self.index.iter().enumerate().filter(|(_, entry)| entry.max_time >= time) {
            let stretch_end = self.index.get(nth + 1).map_or(self.len, |following| following.at).min(end);
            let mut heads = Heads::new(&self.file, entry.at, stretch_end, INDEX_INTERVAL as usize);
            while let Some((at, head)) = heads.next()? {
                if head.max_time >= time
                    && let Some(found) = look(&head, &self.bytes(at, head.size)?)
                {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Age for retention: the latest record's timestamp, or the last write if its producers set none.
    pub(super) fn newest_ms(&self) -> i64 {
        if self.max_time >= 0 {
            return self.max_time;
        }
        let written = self.file.metadata().and_then(|file| file.modified()).ok();
        let since_epoch = written.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        since_epoch.map_or(i64::MAX, |age| age.as_millis() as i64)
    }

    fn bytes(&self, at: u64, size: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// Keeps a copy of what is not part of the segment if good batches are in it, and answers where.
    pub(super) fn keep_damaged(&self) -> io::Result<Option<PathBuf>> {
        if damage::has_batches(&self.file, self.len, self.base)? {
            damage::set_aside(&self.file, self.len, &self.path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Removes from the file what is not part of the segment.
    pub(super) fn cut(&self) -> io::Result<()> {
        self.file.set_len(self.len)
    }

    /// Forgets everything from byte `len` on.
    pub(super) fn shorten(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        (self.len, self.next, self.max_time) = (0, self.base, -1);
        self.index.clear();
        self.scan(0, &mut Producers::default())
    }

    pub(super) fn note_producers(&self, producers: &mut Producers) -> io::Result<()> {
        let mut heads = Heads::new(&self.file, 0, self.len, 1 << 20);
        while let Some((_, head)) = heads.next()? {
            producers.note(&head);
        }
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    pub(super) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    pub(super) fn remove(self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The batches' heads between two places of a file, read through a window so that small batches do not cost a call each.
struct Heads<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    window_size: usize,
}

impl<'a> Heads<'a> {
    fn new(file: &'a File, at: u64, end: u64, window_size: usize) -> Self {
        Self { file, at, end, window: Vec::new(), window_at: at, window_size: window_size.max(HEAD) }
    }

    fn next(&mut self) -> io::Result<Option<(u64, Head)>> {
        if self.end.saturating_sub(self.at) < HEAD as u64 {
            return Ok(None);
        }
        let windowed = self.window_at + self.window.len() as u64;
        if self.at + HEAD as u64 > windowed {
            self.window.resize((self.end - self.at).min(self.window_size as u64) as usize, 0);
            self.window_at = self.at;
            self.file.read_exact_at(&mut self.window, self.at)?;
        }
        let Some(head) = Head::parse(&self.window[(self.at - self.window_at) as usize..]) else { return Ok(None) };
        let at = self.at;
        self.at += head.size as u64;
        Ok(Some((at, head)))
    }
}
