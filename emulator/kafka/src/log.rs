//! The log of one partition: its segments, what of them is durable, retention, lookup by offset and by time.
//! It knows nothing of requests, topics or threads; who calls it holds a lock.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;

use super::batch::{self, Head};
use super::bounds::{self, Bounds, BoundsFile};
use super::limits::{MAX_DAMAGE_TOLD, MAX_UNSYNCED};
use super::lookup::{Found, first_not_before};
use super::producers::{Producers, Verdict};
use super::segment::{self, Segment, WriteAt, sync_folder, write_to_disk};

/// What of a topic's settings a log goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogSettings {
    pub(super) segment_bytes: u64,
    pub(super) max_batch: usize,
    /// `None` keeps records of any age.
    pub(super) retention_ms: Option<i64>,
    pub(super) retention_bytes: Option<u64>,
    /// Records get the time at which they are appended.
    pub(super) append_time: bool,
}

/// The log of one partition. Invariants: there is always a segment; every segment but the last is durable, and ends where the
/// next one begins unless it is damaged; `start <= synced <= next`; consumers see what is synced.
///
/// A failed sync ends it: the system may have dropped what it could not write, and report success for the next one. What was
/// not durable is taken back, nothing more is appended, and what is durable can be read, until the endpoint starts again.
pub(super) struct Log {
    folder: PathBuf,
    segments: VecDeque<Segment>,
    start: i64,
    synced: i64,
    /// Durable bytes of the last segment.
    synced_len: u64,
    /// A sync failed.
    ended: bool,
    producers: Producers,
    write_at: WriteAt,
    bounds: BoundsFile,
    /// Offsets of damaged batches that the endpoint's own log names already: a consumer asks for one again and again.
    damage_told: RefCell<BTreeSet<i64>>,
}

/// Where an accepted batch stands. It may be acknowledged once the log is synced up to `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Appended {
    pub(super) base: i64,
    pub(super) next: i64,
    /// The time that its records were given, if it is not the producer's.
    pub(super) append_time: Option<i64>,
}

/// What retention removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) records: i64,
    pub(super) bytes: u64,
}

/// Work for a sync outside the lock.
pub(super) struct Unsynced {
    pub(super) file: Arc<File>,
    base: i64,
    next: i64,
    len: u64,
}

impl Log {
    /// Creates an empty log in `folder`, whose name is durable when this returns.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let segment = Segment::create(folder, 0)?;
        sync_folder(folder)?;
        folder.parent().map_or(Ok(()), sync_folder)?;
        Ok(Self::of(folder, VecDeque::from([segment]), 0, Producers::default(), BoundsFile::open(folder)?))
    }

    /// Opens the log in `folder`, and answers which acknowledged records are not in it any more; `start` is the first offset
    /// that was not deleted on request. Offsets that are missing are never given to other records. A log always has a segment:
    /// where there is none, the files were lost, and the error is [`io::ErrorKind::NotFound`].
    pub(super) fn open(folder: &Path, start: i64) -> io::Result<(Self, Vec<Range<i64>>)> {
        let files = segment_files(folder)?;
        let Some(last) = files.len().checked_sub(1) else { return Err(io::ErrorKind::NotFound.into()) };
        let mut producers = Producers::default();
        let mut segments = VecDeque::with_capacity(files.len());
        for (nth, (base, path)) in files.into_iter().enumerate() {
            let checked_tail = if nth == last { MAX_UNSYNCED } else { 0 };
            if nth == last {
                segment::settle(&path)?;
            }
            let segment = Segment::open(path.clone(), base, checked_tail, &mut producers)?;
            let torn = std::fs::metadata(&path)?.len() - segment.len;
            if torn > 0 && nth == last {
                let (at, bytes) = (segment.len, torn);
                match segment.keep_damaged()? {
                    Some(kept) => tracing::error!(
                        path = %path.display(), at, bytes, kept = %kept.display(),
                        "the segment is damaged: the rest of it is cut off, and a copy is kept"
                    ),
                    None => {
                        tracing::warn!(path = %path.display(), at, bytes, "a write that a crash left unfinished is cut off");
                    }
                }
                segment.cut()?;
                segment.sync()?;
            } else if torn > 0 {
                tracing::error!(path = %path.display(), at = segment.len, "the segment is damaged: the rest of it cannot be read");
            }
            segments.push_back(segment);
        }
        let known = bounds::read(folder)?.unwrap_or(Bounds { start: segments[0].base, end: start });
        let begin = start.max(known.start);
        let end = begin.max(known.end);
        let missing = gaps(&segments, begin, end);
        if segments[last].next < end {
            segments.push_back(Segment::create(folder, end)?);
            sync_folder(folder)?;
        }
        // Where no record is left there is nothing that a reader could miss twice: it begins at the end.
        while segments.len() > 1 && segments[0].is_bare()? {
            segments.pop_front().map_or(Ok(()), Segment::remove)?;
        }
        Ok((Self::of(folder, segments, begin, producers, BoundsFile::open(folder)?), missing))
    }

    /// A log of segments that are durable already.
    fn of(folder: &Path, segments: VecDeque<Segment>, start: i64, producers: Producers, bounds: BoundsFile) -> Self {
        let mut log = Self {
            folder: folder.to_owned(),
            start: start.max(segments[0].base),
            segments,
            synced: 0,
            synced_len: 0,
            ended: false,
            producers,
            write_at: write_to_disk,
            bounds,
            damage_told: RefCell::default(),
        };
        log.all_synced();
        log
    }

    /// Bytes of all segments.
    pub(super) fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    pub(super) fn start(&self) -> i64 {
        self.start
    }

    pub(super) fn synced(&self) -> i64 {
        self.synced
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    fn active(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }

    fn next(&self) -> i64 {
        self.active().next
    }

    /// Appends one batch at the time `now_ms`.
    pub(super) fn append(
        &mut self,
        bytes: &[u8],
        settings: &LogSettings,
        now_ms: i64,
    ) -> Result<Appended, ResponseError> {
        if self.ended {
            return Err(ResponseError::KafkaStorageError);
        }
        let mut head = batch::accept(bytes, settings.max_batch)?;
        if head.producer >= 0
            && let Verdict::Duplicate { base, next } = self.producers.check(&head)?
        {
            return Ok(Appended { base, next, append_time: None });
        }
        self.make_room(head.size as u64, settings).map_err(|error| self.refused(&error))?;
        head.base = self.next();
        let mut placed = BytesMut::from(bytes);
        batch::place(&mut placed, head.base);
        if settings.append_time {
            batch::stamp(&mut placed, &mut head, now_ms);
        }
        let last = self.segments.len() - 1;
        self.segments[last].append(&head, &placed, now_ms, self.write_at).map_err(|error| self.refused(&error))?;
        self.producers.note(&head);
        Ok(Appended { base: head.base, next: head.next(), append_time: head.append_time() })
    }

    /// Every client tries again after this error, so that a producer goes on once there is room.
    fn refused(&self, error: &io::Error) -> ResponseError {
        tracing::error!(folder = %self.folder.display(), %error, "cannot write to the log");
        ResponseError::KafkaStorageError
    }

    /// Rolls a full segment, and bounds what a crash could tear.
    fn make_room(&mut self, size: u64, settings: &LogSettings) -> io::Result<()> {
        let len = self.active().len;
        if len > 0 && len + size > settings.segment_bytes {
            return self.roll();
        }
        if len > self.synced_len && len - self.synced_len + size > MAX_UNSYNCED {
            self.sync()?;
        }
        Ok(())
    }

    fn roll(&mut self) -> io::Result<()> {
        self.sync()?;
        let following = Segment::create(&self.folder, self.next())?;
        sync_folder(&self.folder).inspect_err(|error| self.end(error))?;
        self.segments.push_back(following);
        self.synced_len = 0;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.ended {
            return Err(io::Error::other("an earlier sync failed"));
        }
        self.active().sync().inspect_err(|error| self.end(error))?;
        self.all_synced();
        Ok(())
    }

    fn all_synced(&mut self) {
        (self.synced, self.synced_len) = (self.next(), self.active().len);
        self.note_bounds();
    }

    fn bounds(&self) -> Bounds {
        Bounds { start: self.start, end: self.synced }
    }

    fn note_bounds(&mut self) {
        let bounds = self.bounds();
        self.bounds.note(bounds, &self.folder);
    }

    pub(super) fn unsynced(&self) -> Option<Unsynced> {
        let active = self.active();
        (active.len > self.synced_len && !self.ended).then(|| Unsynced {
            file: active.file(),
            base: active.base,
            next: active.next,
            len: active.len,
        })
    }

    pub(super) fn note_synced(&mut self, done: &Unsynced) {
        if self.ended {
            return;
        }
        self.synced = self.synced.max(done.next);
        if done.base == self.active().base {
            self.synced_len = self.synced_len.max(done.len);
        }
        self.note_bounds();
    }

    /// After a failed sync: what was not durable is taken back, its producers hear a retriable error, and so does whoever
    /// appends from now on.
    pub(super) fn end(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        tracing::error!(
            folder = %self.folder.display(), %error,
            "a sync of this log failed: the disk may not keep what it is given, so nothing more is appended; check the disk, then \
             start again"
        );
        let (last, len) = (self.segments.len() - 1, self.synced_len);
        if let Err(error) = self.segments[last].shorten(len) {
            tracing::error!(folder = %self.folder.display(), %error, "cannot cut off what was not durable: the next start does");
        }
    }

    /// Whole, sound, durable batches from `offset` on. A reader that stands at a damaged batch is told so,
    /// as Apache Kafka's consumers tell it, and the endpoint's log names the place where reading can go on.
    pub(super) fn read(&self, offset: i64, max: usize, first_anyway: bool) -> Result<Bytes, ResponseError> {
        if offset < self.start || offset > self.synced {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let first = self.segments.partition_point(|segment| segment.base <= offset).saturating_sub(1);
        for segment in self.segments.range(first..) {
            if offset < segment.base {
                return Err(self.damaged(offset, segment.base));
            }
            let found = segment.read(offset, max, first_anyway, self.durable_len(segment));
            match found.map_err(|error| self.unreadable(&error))? {
                segment::Found::Damaged { next } => return Err(self.damaged(offset, next)),
                segment::Found::Batches(bytes) if !bytes.is_empty() || segment.next > offset => return Ok(bytes),
                segment::Found::Batches(_) => {}
            }
        }
        Ok(Bytes::new())
    }

    fn damaged(&self, offset: i64, next: i64) -> ResponseError {
        let mut told = self.damage_told.borrow_mut();
        if told.len() < MAX_DAMAGE_TOLD && told.insert(offset) {
            tracing::error!(
                folder = %self.folder.display(), offset, next,
                "records are damaged and cannot be read: consumers get an error at this offset; they can go on at the next \
                 one named here, and deleting the records before it ends the error"
            );
        }
        ResponseError::CorruptMessage
    }

    fn unreadable(&self, error: &io::Error) -> ResponseError {
        tracing::error!(folder = %self.folder.display(), %error, "cannot read the log");
        ResponseError::KafkaStorageError
    }

    fn durable_len(&self, segment: &Segment) -> u64 {
        if segment.base == self.active().base { self.synced_len } else { segment.len }
    }

    /// The first record that is not older than `time`.
    pub(super) fn by_time(&self, time: i64) -> Result<Option<Found>, ResponseError> {
        for segment in self.segments.iter().filter(|segment| segment.max_time >= time) {
            let found = segment
                .search_time(time, self.durable_len(segment), |head: &Head, bytes| {
                    (head.last() >= self.start).then(|| first_not_before(head, bytes, time, self.start)).flatten()
                })
                .map_err(|error| self.unreadable(&error))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record with the latest timestamp.
    pub(super) fn latest_time(&self) -> Result<Option<Found>, ResponseError> {
        match self.segments.iter().map(|segment| segment.max_time).max() {
            Some(time) if time >= 0 => self.by_time(time),
            _ => Ok(None),
        }
    }

    /// Nothing before `offset` is read again. The caller stores the new start.
    pub(super) fn delete_before(&mut self, offset: i64) -> Result<i64, ResponseError> {
        if offset < 0 || offset > self.synced {
            return Err(ResponseError::OffsetOutOfRange);
        }
        self.start = self.start.max(offset);
        while self.segments.len() > 1 && self.segments[1].base <= self.start {
            self.remove_oldest().map_err(|error| self.refused(&error))?;
        }
        Ok(self.start)
    }

    /// Removes segments that `settings` no longer keep, and answers what was in them. The active one is rolled first if all of
    /// it is too old, so that the next offset is never forgotten.
    pub(super) fn retain(&mut self, now_ms: i64, settings: &LogSettings) -> io::Result<Dropped> {
        let expired = |segment: &Segment| settings.retention_ms.is_some_and(|keep| segment.is_older(keep, now_ms));
        if self.segments.iter().all(expired) {
            self.roll()?;
        }
        let (before, mut total) = (self.start, self.size());
        let mut bytes = 0;
        while self.segments.len() > 1 {
            let oldest = &self.segments[0];
            let too_much = settings.retention_bytes.is_some_and(|keep| total.saturating_sub(oldest.len) >= keep);
            if !expired(oldest) && !too_much {
                break;
            }
            total -= oldest.len;
            bytes += oldest.len;
            self.remove_oldest()?;
        }
        Ok(Dropped { records: self.start - before, bytes })
    }

    fn remove_oldest(&mut self) -> io::Result<()> {
        if let Some(following) = self.segments.get(1) {
            self.start = self.start.max(following.base);
            let noted = self.bounds.write_durably(self.bounds());
            noted.inspect_err(|error| self.end(error))?;
        }
        self.segments.pop_front().map_or(Ok(()), Segment::remove)
    }
}

/// The offsets from `begin` to `end` that no segment holds.
fn gaps(segments: &VecDeque<Segment>, begin: i64, end: i64) -> Vec<Range<i64>> {
    let mut gaps = Vec::new();
    let mut next = begin;
    let held = segments.iter().filter(|segment| segment.len > 0).map(|segment| segment.base..segment.next);
    for held in held.chain(std::iter::once(end..end)) {
        if held.start > next {
            gaps.push(next..held.start);
        }
        next = next.max(held.end);
    }
    gaps
}

/// The segments' files in `folder`, each with the offset at which it begins, in order. A folder that is missing has none.
pub(super) fn segment_files(folder: &Path) -> io::Result<Vec<(i64, PathBuf)>> {
    let mut files = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let base = path.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse::<i64>().ok());
        files.extend(base.map(|base| (base, path)));
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
