//! A disk in memory for simulation: what was not synced may be torn or lost in a crash, and writes fail on demand. It
//! knows bytes only, nothing of redb's format.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use redb::StorageBackend;

use crate::time::Rng;

/// Unit in which an unsynced write survives a crash or does not: a disk's sector.
const SECTOR: usize = 512;

/// Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// What is on the platter: the bytes at the last sync.
    synced: Vec<u8>,
    /// Sectors written since, in no particular order on a real disk.
    dirty: BTreeSet<usize>,
    /// Writes and syncs that still succeed; `None`: all.
    left: Option<u64>,
    /// Handles of before a crash reach nothing.
    generation: u64,
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
        let mut left = synced.clone();
        if left.len() < bytes.len() {
            left.resize(bytes.len(), 0);
        }
        for &sector in dirty.iter() {
            let range = sector * SECTOR..bytes.len().min((sector + 1) * SECTOR);
            if range.start < range.end && rng.bytes::<1>()[0] & 1 == 1 {
                left[range.clone()].copy_from_slice(&bytes[range]);
            }
        }
        state.bytes.clone_from(&left);
        state.synced = left;
        state.dirty.clear();
        state.left = None;
        state.generation += 1;
    }

    /// After `writes` more, every write and sync fails, as on a disk without space; `None` ends that.
    pub fn fail_after(&self, writes: Option<u64>) {
        self.state().left = writes;
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

    fn touch(&mut self, from: usize, to: usize) {
        self.dirty.extend(from / SECTOR..to.div_ceil(SECTOR));
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
        let mut state = self.state()?;
        state.count_write()?;
        let State { bytes, synced, dirty, .. } = &mut *state;
        synced.resize(bytes.len(), 0);
        for &sector in dirty.iter() {
            let range = sector * SECTOR..bytes.len().min((sector + 1) * SECTOR);
            if range.start < range.end {
                synced[range.clone()].copy_from_slice(&bytes[range]);
            }
        }
        dirty.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        state.count_write()?;
        let from = offset as usize;
        let to = from + data.len();
        state.bytes.get_mut(from..to).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        state.touch(from, to);
        Ok(())
    }
}
