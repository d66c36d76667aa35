//! One file of notes and what finds a record in it. Notes follow one another, each behind its length and its checksum. An open
//! volume knows its records in memory. A closed one has them in an index file, sorted by event: event ids are hashes, so that
//! a place is guessed from the id alone and found in two or three reads.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::embedded::database::PRIVATE;
use crate::embedded::sealed;
use crate::provenance::{Note, Step};
use crate::record::EventId;

/// The length of a sealed note, little endian, before it.
const LENGTH: usize = 4;
/// A note is smaller: what claims to be larger is damaged.
const LARGEST: usize = 64 * 1024 * 1024;
/// An entry of the index: event, offset of the note, place of the record in it.
const ENTRY: usize = 16;
/// Entries read at once where an event is guessed to be: a page.
const GUESSED: u64 = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// [`EventId::short`]
    event: u64,
    offset: u32,
    record: u32,
}

enum Index {
    /// In the order in which they came.
    Open(Vec<Entry>),
    Closed(File, u64),
}

pub(super) struct Volume {
    number: u64,
    path: PathBuf,
    file: File,
    bytes: u64,
    index: Index,
}

/// Of a file that is a volume's notes.
pub(super) fn number(name: &OsStr) -> Option<u64> {
    name.to_str()?.strip_suffix(".notes")?.parse().ok()
}

impl Volume {
    pub(super) fn create(folder: &Path, number: u64) -> io::Result<Volume> {
        let path = folder.join(format!("{number:08}.notes"));
        let file = File::options().read(true).write(true).create_new(true).mode(PRIVATE).open(&path)?;
        Ok(Volume { number, path, file, bytes: 0, index: Index::Open(Vec::new()) })
    }

    /// A volume of before. One without an index is read, up to the first note that is not whole, and goes on there.
    pub(super) fn open(folder: &Path, number: u64) -> io::Result<Volume> {
        let path = folder.join(format!("{number:08}.notes"));
        let file = File::options().read(true).write(true).open(&path)?;
        let bytes = file.metadata()?.len();
        if let Ok(index) = File::open(index_of(&path)) {
            let entries = index.metadata()?.len() / ENTRY as u64;
            return Ok(Volume { number, path, file, bytes, index: Index::Closed(index, entries) });
        }
        let mut entries = Vec::new();
        let mut whole = 0;
        while let Some((note, next)) = read(&file, whole, bytes)? {
            entries.extend(entries_of(&note, whole as u32));
            whole = next;
        }
        file.set_len(whole)?;
        Ok(Volume { number, path, file, bytes: whole, index: Index::Open(entries) })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// On the disk, with its index.
    pub(super) fn size(&self) -> u64 {
        let entries = match &self.index {
            Index::Open(entries) => entries.len() as u64,
            Index::Closed(_, entries) => *entries,
        };
        self.bytes + entries * ENTRY as u64
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.index, Index::Open(_))
    }

    /// Writes a note behind the others; one that was not written whole is written over by the next.
    pub(super) fn append(&mut self, note: &Note) -> io::Result<()> {
        let Index::Open(entries) = &mut self.index else { return Err(io::Error::other("the volume is closed")) };
        let sealed = sealed::seal(&[], &postcard::to_allocvec(note).map_err(io::Error::other)?);
        let mut whole = (sealed.len() as u32).to_le_bytes().to_vec();
        whole.extend_from_slice(&sealed);
        self.file.write_all_at(&whole, self.bytes)?;
        entries.extend(entries_of(note, self.bytes as u32));
        self.bytes += whole.len() as u64;
        Ok(())
    }

    /// Writes the index; from then on memory knows nothing of the volume.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let Index::Open(entries) = &mut self.index else { return Ok(()) };
        entries.sort_unstable();
        let (path, part) = (index_of(&self.path), self.path.with_extension("part"));
        let mut file =
            io::BufWriter::new(File::options().write(true).create(true).truncate(true).mode(PRIVATE).open(&part)?);
        for entry in &*entries {
            file.write_all(&entry.bytes())?;
        }
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        // An index that is there is whole, and so are the notes that it names.
        self.file.sync_all()?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        self.index = Index::Closed(File::open(&path)?, entries.len() as u64);
        Ok(())
    }

    pub(super) fn remove(self) -> io::Result<()> {
        // Notes without an index are read again at the next start; an index without notes would be nobody's.
        if !self.is_open() {
            fs::remove_file(index_of(&self.path))?;
        }
        fs::remove_file(&self.path)
    }

    /// Adds the steps of an event, in the order in which they were noted.
    pub(super) fn find(&self, event: EventId, steps: &mut Vec<Step>) -> io::Result<()> {
        let wanted = event.short();
        let mut found: Vec<Entry> = match &self.index {
            Index::Open(entries) => entries.iter().copied().filter(|entry| entry.event == wanted).collect(),
            Index::Closed(index, entries) => of_event(index, *entries, wanted)?,
        };
        found.sort_unstable_by_key(|entry| (entry.offset, entry.record));
        for entry in found {
            let note = read(&self.file, u64::from(entry.offset), self.bytes)?;
            let damaged = || io::Error::other(format!("{} is damaged at {}", self.path.display(), entry.offset));
            let (note, _) = note.ok_or_else(damaged)?;
            steps.extend(note.step(entry.record as usize));
        }
        Ok(())
    }
}

impl Entry {
    fn bytes(self) -> [u8; ENTRY] {
        let whole = u128::from(self.event) << 64 | u128::from(self.offset) << 32 | u128::from(self.record);
        whole.to_be_bytes()
    }

    fn read(bytes: [u8; ENTRY]) -> Entry {
        let whole = u128::from_be_bytes(bytes);
        Entry { event: (whole >> 64) as u64, offset: (whole >> 32) as u32, record: whole as u32 }
    }
}

fn index_of(notes: &Path) -> PathBuf {
    notes.with_extension("index")
}

fn entries_of(note: &Note, offset: u32) -> impl Iterator<Item = Entry> {
    note.records.iter().zip(0..).map(move |(noted, record)| Entry { event: noted.event, offset, record })
}

/// The note at `at` and where the next one begins; `None`: there is none that is whole.
fn read(file: &File, at: u64, end: u64) -> io::Result<Option<(Note, u64)>> {
    let mut length = [0; LENGTH];
    if at + LENGTH as u64 > end {
        return Ok(None);
    }
    file.read_exact_at(&mut length, at)?;
    let length = u32::from_le_bytes(length) as usize;
    let next = at + (LENGTH + length) as u64;
    if length > LARGEST || next > end {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at + LENGTH as u64)?;
    let note = sealed::open(&[], &bytes).and_then(|plain| postcard::from_bytes(plain).ok());
    Ok(note.map(|note| (note, next)))
}

/// The entries of an event in a sorted index of `count`.
fn of_event(index: &File, count: u64, event: u64) -> io::Result<Vec<Entry>> {
    let mut at = first_of(index, count, event)?;
    let mut found = Vec::new();
    while at < count {
        let page = entries(index, at, GUESSED.min(count - at))?;
        found.extend(page.iter().copied().filter(|entry| entry.event == event));
        if page.last().is_none_or(|last| last.event > event) {
            break;
        }
        at += page.len() as u64;
    }
    Ok(found)
}

/// Before this place every event is smaller, from [`GUESSED`] behind it on none is. Every second guess halves what is left, for
/// ids that are no hashes after all.
fn first_of(index: &File, count: u64, event: u64) -> io::Result<u64> {
    let (mut from, mut to) = (0, count);
    let (mut lowest, mut highest) = (0, u64::MAX);
    let mut halve = false;
    while to - from > GUESSED {
        let share = if halve { 0.5 } else { (event - lowest) as f64 / ((highest - lowest) as f64).max(1.0) };
        halve = !halve;
        let guess = from + ((to - from) as f64 * share) as u64;
        let begin = guess.saturating_sub(GUESSED / 2).clamp(from, to - GUESSED);
        let page = entries(index, begin, GUESSED)?;
        let (Some(first), Some(last)) = (page.first(), page.last()) else { break };
        if first.event >= event {
            (to, highest) = (begin, first.event);
        } else if last.event < event {
            (from, lowest) = (begin + GUESSED, last.event);
        } else {
            return Ok(begin + page.partition_point(|entry| entry.event < event) as u64);
        }
    }
    Ok(from)
}

fn entries(index: &File, from: u64, count: u64) -> io::Result<Vec<Entry>> {
    let mut bytes = vec![0; count as usize * ENTRY];
    index.read_exact_at(&mut bytes, from * ENTRY as u64)?;
    Ok(bytes.as_chunks::<ENTRY>().0.iter().map(|entry| Entry::read(*entry)).collect())
}
