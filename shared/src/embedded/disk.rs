//! A disk in memory for simulation: what was not synced may be torn or lost in a crash, and writes fail on demand. It
//! knows bytes only, nothing of redb's format.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use redb::StorageBackend;

use super::salvage;
use crate::error::BackendError;
use crate::time::Rng;

/// Unit in which an unsynced write survives a crash or does not: a disk's sector.
const SECTOR: usize = 512;

/// redb's head: damaged, the file is refused as a whole.
const FILE_HEAD: u64 = 4096;

/// Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// What is on the platter: the bytes at the last sync.
    synced: Vec<u8>,
    /// Sectors written since, in no particular order on a real disk.
    dirty: Sectors,
    /// Writes and syncs that still succeed; `None`: all.
    left: Option<u64>,
    /// Syncs that fail from now on, and never write what they were to write.
    failing_syncs: u32,
    /// Syncs are acknowledged and not done: a disk that lies.
    lies: bool,
    /// Sectors that were ever written: only these take up room.
    taken: Sectors,
    /// Bytes of the whole disk; `None`: no end of them.
    size: Option<u64>,
    /// Bytes that somebody holds beside what was written.
    reserved: u64,
    /// Handles of before a crash reach nothing.
    generation: u64,
    /// A sync failed, and no start has proved the disk since.
    marked: bool,
    /// Bits were turned over behind everybody's back.
    turned: bool,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// As `kill -9` and a power cut at once: of the sectors written since the last sync, each survives by chance. Whoever
    /// still has the disk open gets errors.
    pub fn crash(&self, rng: &Rng) {
        let mut state = self.state();
        let State { bytes, synced, dirty, .. } = &mut *state;
        if synced.len() < bytes.len() {
            synced.resize(bytes.len(), 0);
        }
        for sector in dirty.iter() {
            let range = sector * SECTOR..bytes.len().min((sector + 1) * SECTOR);
            if range.start < range.end && rng.bytes::<1>()[0] & 1 == 1 {
                synced[range.clone()].copy_from_slice(&bytes[range]);
            }
        }
        dirty.clear();
        state.read_the_platter();
        state.left = None;
        state.generation += 1;
    }

    /// As `kill -9`: the system still has what was written. Whoever still has the disk open gets errors.
    pub fn kill(&self) {
        let mut state = self.state();
        state.left = None;
        state.generation += 1;
    }

    /// After `writes` more, every write fails, as on a disk without space; `None` ends that.
    pub fn fail_after(&self, writes: Option<u64>) {
        self.state().left = writes;
    }

    /// The next `syncs` syncs fail. As on Linux, what they were to write is never written and can be read all the same, until a
    /// crash or until the system lets go of it; and the sync after them succeeds.
    pub fn fail_syncs(&self, syncs: u32) {
        self.state().failing_syncs = syncs;
    }

    /// From now on syncs are acknowledged and nothing is on the platter.
    pub fn lie(&self) {
        self.state().lies = true;
    }

    /// From now on the disk has this size: what finds no room fails.
    pub fn set_size(&self, bytes: u64) {
        self.state().size = Some(bytes);
    }

    pub(crate) fn free(&self) -> u64 {
        self.state().free()
    }

    /// Holds so many bytes, instead of those held before.
    pub(crate) fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.free().saturating_add(state.reserved) < bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.reserved = bytes;
        Ok(())
    }

    /// Turns `bits` of the disk over, as failing hardware does: drawn from `rng`, behind the file's head.
    pub fn flip(&self, rng: &Rng, bits: usize) {
        let mut state = self.state();
        let len = state.bytes.len() as u64;
        for _ in 0..bits {
            let drawn = u64::from_le_bytes(rng.bytes());
            let at = (FILE_HEAD + drawn % (len - FILE_HEAD)) as usize;
            state.bytes[at] ^= 1 << (drawn >> 61);
        }
        state.synced = state.bytes.clone();
    }

    /// Puts `to` wherever `from` stands, behind everybody's back; they have the same length. `false`: it stands nowhere.
    pub fn turn(&self, from: &[u8], to: &[u8]) -> bool {
        let mut state = self.state();
        let State { bytes, synced, .. } = &mut *state;
        let mut found = false;
        for medium in [bytes, synced] {
            let places: Vec<usize> = memchr::memmem::find_iter(medium, from).collect();
            places.iter().for_each(|&at| medium[at..at + to.len()].copy_from_slice(to));
            found |= !places.is_empty();
        }
        state.turned |= found;
        found
    }

    /// As `proof.rs` proves a folder: what is not on the platter is let go of, and the rest is read.
    pub(super) fn prove(&self) -> Result<(), BackendError> {
        let mut state = self.state();
        if !state.marked {
            return Ok(());
        }
        let failed =
            |problem: &dyn fmt::Display| BackendError::Fatal(format!("the disk in memory fails again: {problem}"));
        state.sync().map_err(|e| failed(&e))?;
        state.read_the_platter();
        // Where bits were turned over, a folder would be repaired here (`proof.rs`). Of this disk the rows themselves are still
        // read, and set aside by whoever meets a damaged one.
        if !state.turned && !salvage::read_bytes(state.bytes.clone(), &mut |_| {})?.is_sound() {
            return Err(failed(&"it does not hold what was written"));
        }
        state.marked = false;
        Ok(())
    }

    pub(crate) fn attach(&self) -> Attached {
        Attached { disk: self.clone(), generation: self.state().generation }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    fn count_write(&mut self) -> io::Result<()> {
        match &mut self.left {
            None => Ok(()),
            Some(0) => Err(io::Error::from(io::ErrorKind::StorageFull)),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn free(&self) -> u64 {
        let used = (self.taken.count * SECTOR) as u64 + self.reserved;
        self.size.map_or(u64::MAX, |size| size.saturating_sub(used))
    }

    fn take(&mut self, from: usize, to: usize) -> io::Result<()> {
        let sectors = from / SECTOR..to.div_ceil(SECTOR);
        if (self.taken.missing(sectors.clone()) * SECTOR) as u64 > self.free() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.taken.add(sectors);
        Ok(())
    }

    fn touch(&mut self, from: usize, to: usize) {
        self.dirty.add(from / SECTOR..to.div_ceil(SECTOR));
    }

    /// What was read so far is forgotten.
    fn read_the_platter(&mut self) {
        self.bytes.clone_from(&self.synced);
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.lies {
            return Ok(());
        }
        if self.failing_syncs > 0 {
            self.failing_syncs -= 1;
            self.dirty.clear();
            return Err(io::Error::other("the disk could not write its pages"));
        }
        let State { bytes, synced, dirty, .. } = self;
        synced.resize(bytes.len(), 0);
        for sector in dirty.iter() {
            let range = sector * SECTOR..bytes.len().min((sector + 1) * SECTOR);
            if range.start < range.end {
                synced[range.clone()].copy_from_slice(&bytes[range]);
            }
        }
        dirty.clear();
        Ok(())
    }
}

/// A set of sectors, a bit each: a simulated week writes hundreds of millions.
#[derive(Default)]
struct Sectors {
    words: Vec<u64>,
    count: usize,
}

impl Sectors {
    const BITS: usize = u64::BITS as usize;

    /// The bits of a range, word by word.
    fn masks(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
        // A file that shrinks touches nothing.
        let words =
            if range.is_empty() { 0..0 } else { range.start / Sectors::BITS..range.end.div_ceil(Sectors::BITS) };
        words.map(move |word| {
            let first = word * Sectors::BITS;
            let (from, to) = (range.start.max(first) - first, range.end.min(first + Sectors::BITS) - first);
            (word, (u64::MAX >> (Sectors::BITS - (to - from))) << from)
        })
    }

    fn missing(&self, range: Range<usize>) -> usize {
        let missing = |(word, mask): (usize, u64)| (mask & !self.words.get(word).unwrap_or(&0)).count_ones() as usize;
        Sectors::masks(range).map(missing).sum()
    }

    fn add(&mut self, range: Range<usize>) {
        self.count += self.missing(range.clone());
        if self.words.len() * Sectors::BITS < range.end {
            self.words.resize(range.end.div_ceil(Sectors::BITS), 0);
        }
        Sectors::masks(range).for_each(|(word, mask)| self.words[word] |= mask);
    }

    fn clear(&mut self) {
        self.words.fill(0);
        self.count = 0;
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(word, bits)| {
            let mut bits = *bits;
            std::iter::from_fn(move || {
                let at = bits.trailing_zeros();
                bits &= bits.checked_sub(1)?;
                Some(word * Sectors::BITS + at as usize)
            })
        })
    }
}

/// The disk as reached by whoever attached it before its next crash.
#[derive(Clone)]
pub(crate) struct Attached {
    disk: MemoryDisk,
    generation: u64,
}

impl Attached {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.generation == self.generation {
            Ok(state)
        } else {
            Err(io::Error::other("the disk crashed since it was opened"))
        }
    }

    pub(super) fn mark(&self) -> io::Result<()> {
        self.state()?.marked = true;
        Ok(())
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryDisk")
    }
}

impl StorageBackend for Attached {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        let from = offset as usize;
        let bytes = state.bytes.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.count_write()?;
        let before = state.bytes.len();
        state.bytes.resize(len as usize, 0);
        state.touch(before, len as usize);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state()?.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        state.count_write()?;
        let from = offset as usize;
        let to = from + data.len();
        state.take(from, to)?;
        state.bytes.get_mut(from..to).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        state.touch(from, to);
        Ok(())
    }
}
