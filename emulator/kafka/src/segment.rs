//! One segment file of a partition: batches one after another, named by the offset of the first, and a sparse index in memory.
//! Which segments a log has, and what is durable, is the log's business.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use streammanager::embedded::let_go;

use super::batch::{HEAD, Head, intact, sound};
use super::damage;
use super::limits::{INDEX_INTERVAL, LEAST_KEPT_MS};
use super::producers::Producers;

/// One segment, open for reading and writing.
pub(super) struct Segment {
    /// Offset of the first batch; in an empty segment, of the first one to come.
    pub(super) base: i64,
    /// Offset after the last batch.
    pub(super) next: i64,
    pub(super) len: u64,
    pub(super) max_time: i64,
    /// When the last batch was appended, by the clock of this host.
    written_ms: i64,
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

/// What reading a segment found.
pub(super) enum Found {
    /// Whole batches; none if there is nothing to read yet, or if the first one is larger than asked for.
    Batches(Bytes),
    /// The batch that should hold the offset is damaged; reading can go on at offset `next`.
    Damaged { next: i64 },
}

/// Where appended bytes go: the file, or in tests a disk that is full.
pub(super) type WriteAt = fn(&File, &[u8], u64) -> io::Result<()>;

pub(super) fn write_to_disk(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    file.write_all_at(bytes, at)
}

impl Segment {
    /// Its name is durable once the folder is synced.
    pub(super) fn create(folder: &Path, base: i64) -> io::Result<Self> {
        let path = folder.join(format!("{base:020}.log"));
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
        Ok(Self::empty(path, file, base))
    }

    /// Reads the heads of all batches. `checked_tail` bytes at the end must also have valid checksums; what follows the
    /// last good batch is not part of the segment.
    pub(super) fn open(path: PathBuf, base: i64, checked_tail: u64, producers: &mut Producers) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let mut segment = Self::empty(path, file, base);
        segment.written_ms = written_ms(&segment.file)?;
        segment.scan(checked_tail, producers)?;
        Ok(segment)
    }

    fn empty(path: PathBuf, file: File, base: i64) -> Self {
        Self { base, next: base, len: 0, max_time: -1, written_ms: 0, index: Vec::new(), file: Arc::new(file), path }
    }

    fn scan(&mut self, checked_tail: u64, producers: &mut Producers) -> io::Result<()> {
        let size = self.file.metadata()?.len();
        self.scan_to(size, checked_tail, producers)
    }

    fn scan_to(&mut self, size: u64, checked_tail: u64, producers: &mut Producers) -> io::Result<()> {
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

    pub(super) fn append(&mut self, head: &Head, batch: &[u8], now_ms: i64, write_at: WriteAt) -> io::Result<()> {
        if let Err(error) = write_at(&self.file, batch, self.len) {
            self.cut()?;
            return Err(error);
        }
        self.note(head);
        self.written_ms = now_ms;
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

    /// The batch that holds `offset`, which lies in this segment, and an offset after it that the index knows. `Err` is that
    /// offset alone if the heads before the batch are damaged.
    fn locate(&self, offset: i64) -> io::Result<Result<(u64, Head, i64), i64>> {
        let following = self.index.partition_point(|entry| entry.offset <= offset);
        let readable = self.index.get(following).map_or(self.next, |entry| entry.offset);
        let Some(entry) = following.checked_sub(1).and_then(|stretch| self.index.get(stretch)) else {
            return Ok(Err(readable));
        };
        let mut heads = Heads::new(&self.file, entry.at, self.len, INDEX_INTERVAL as usize);
        let mut base = entry.offset;
        while let Some((at, head)) = heads.next()?
            && head.base == base
        {
            if head.last() >= offset {
                return Ok(Ok((at, head, readable)));
            }
            base = head.next();
        }
        Ok(Err(readable))
    }

    /// Whole batches from the one that holds `offset`, up to `max` bytes, never beyond `end` of the file. If `first_anyway`,
    /// the first batch comes even if it is larger: otherwise a consumer could never get past it. Every checksum is verified,
    /// because what a disk has spoilt must not reach a consumer as if it were sound.
    pub(super) fn read(&self, offset: i64, max: usize, first_anyway: bool, end: u64) -> io::Result<Found> {
        let nothing = Ok(Found::Batches(Bytes::new()));
        if offset >= self.next {
            return nothing;
        }
        let (at, head, readable) = match self.locate(offset)? {
            Ok(found) => found,
            Err(next) => return Ok(Found::Damaged { next }),
        };
        if at >= end || (head.size > max && !first_anyway) {
            return nothing;
        }
        let mut bytes = self.bytes(at, (end - at).min(max.max(head.size) as u64) as usize)?;
        bytes.truncate(sound(&bytes, head.base));
        if bytes.is_empty() {
            // What a damaged head says of its end may be wrong too.
            return Ok(Found::Damaged { next: head.next().min(readable) });
        }
        Ok(Found::Batches(bytes.into()))
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

    /// Whether every record is older than `keep_ms`. The age is that of the latest timestamp, or that of the last write if
    /// no record has a timestamp. Whatever the timestamps say, what was written less than [`LEAST_KEPT_MS`] ago stays.
    pub(super) fn is_older(&self, keep_ms: i64, now_ms: i64) -> bool {
        let newest = if self.max_time >= 0 { self.max_time } else { self.written_ms };
        self.len > 0
            && newest < now_ms.saturating_sub(keep_ms)
            && self.written_ms < now_ms.saturating_sub(LEAST_KEPT_MS)
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

    /// Not a byte is in its file.
    pub(super) fn is_bare(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() == 0)
    }

    /// Removes from the file what is not part of the segment.
    pub(super) fn cut(&self) -> io::Result<()> {
        self.file.set_len(self.len)
    }

    /// Forgets everything from byte `len` on, also when the file cannot be cut off there.
    pub(super) fn shorten(&mut self, len: u64) -> io::Result<()> {
        let cut = self.file.set_len(len);
        (self.len, self.next, self.max_time) = (0, self.base, -1);
        self.index.clear();
        self.scan_to(len, 0, &mut Producers::default())?;
        cut
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

/// What survived a crash of the process may stand only in the system's memory; after a failed sync, it may never reach the disk
/// from there. It is written, and let go of: what is read then is what the disk holds.
pub(super) fn settle(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    let_go(&file);
    Ok(())
}

/// Makes the names in `folder` durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn written_ms(file: &File) -> io::Result<i64> {
    let written = file.metadata()?.modified()?.duration_since(UNIX_EPOCH);
    Ok(written.map_or(0, |since| since.as_millis() as i64))
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
