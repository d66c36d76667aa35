//! The disk below a redb database, as [`Trust`] lets it be used: a failed sync ends all writing. Opened again after that, the
//! database can still be read: what redb writes while it opens stays in memory, beside the file.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::ops::{Bound, Range};
use std::path::Path;

use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use super::trust::Trust;

/// Opens a database file that is there.
///
/// # Errors
/// When redb cannot open it.
pub fn open_database(path: &Path, cache_bytes: usize, trust: &Trust) -> Result<redb::Database, redb::Error> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    // redb would begin an empty file anew.
    if file.metadata()?.len() == 0 {
        return Err(io::Error::other("the file is empty").into());
    }
    open_guarded(FileBackend::new(file)?, path.display().to_string(), cache_bytes, trust)
}

/// As [`open_database`], on any disk; `name` is what a failed sync is said to be of.
pub(super) fn open_guarded(
    disk: impl StorageBackend,
    name: String,
    cache_bytes: usize,
    trust: &Trust,
) -> Result<redb::Database, redb::Error> {
    let aside = match trust.lost() {
        None => None,
        Some(_) => Some(Mutex::new(Aside { len: disk.len()?, below: disk.len()?, blocks: BTreeMap::new() })),
    };
    let guarded = Guarded { disk, name, trust: trust.clone(), aside };
    Ok(redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(guarded)?)
}

#[derive(Debug)]
struct Guarded<D> {
    disk: D,
    name: String,
    trust: Trust,
    /// Of a disk that is not trusted any more: it is read only.
    aside: Option<Mutex<Aside>>,
}

const BLOCK: u64 = 4096;

/// What was written beside the disk.
#[derive(Debug)]
struct Aside {
    /// Bytes of the file as its reader sees it.
    len: u64,
    /// Up to here a block that is not in `blocks` is the disk's; from here on it is zeros.
    below: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Aside {
    /// The pieces of a range, block by block.
    fn pieces(range: Range<u64>) -> impl Iterator<Item = (u64, Range<usize>)> {
        (range.start / BLOCK..range.end.div_ceil(BLOCK)).map(move |block| {
            let at = block * BLOCK;
            let (from, to) = (range.start.max(at) - at, range.end.min(at + BLOCK) - at);
            (block, from as usize..to as usize)
        })
    }

    fn on_disk(&self, disk: &impl StorageBackend, block: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; BLOCK as usize];
        let here = self.below.saturating_sub(block * BLOCK).min(BLOCK) as usize;
        if here > 0 {
            disk.read(block * BLOCK, &mut bytes[..here])?;
        }
        Ok(bytes)
    }

    fn read(&self, disk: &impl StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let range = offset..offset + out.len() as u64;
        if range.end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = 0;
        for (block, piece) in Aside::pieces(range) {
            let to = at + piece.len();
            match self.blocks.get(&block) {
                Some(bytes) => out[at..to].copy_from_slice(&bytes[piece]),
                None => out[at..to].copy_from_slice(&self.on_disk(disk, block)?[piece]),
            }
            at = to;
        }
        Ok(())
    }

    fn write(&mut self, disk: &impl StorageBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut at = 0;
        for (block, piece) in Aside::pieces(offset..offset + data.len() as u64) {
            let mut bytes = match self.blocks.remove(&block) {
                Some(bytes) => bytes,
                None => self.on_disk(disk, block)?,
            };
            let to = at + piece.len();
            bytes[piece].copy_from_slice(&data[at..to]);
            self.blocks.insert(block, bytes);
            at = to;
        }
        self.len = self.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn set_len(&mut self, len: u64) {
        self.len = len;
        self.below = self.below.min(len);
        self.blocks.retain(|block, _| block * BLOCK < len);
        if let Some(last) = self.blocks.get_mut(&(len / BLOCK)) {
            last[(len % BLOCK) as usize..].fill(0);
        }
    }
}

impl<D: StorageBackend> StorageBackend for Guarded<D> {
    fn len(&self) -> io::Result<u64> {
        match &self.aside {
            None => self.disk.len(),
            Some(aside) => Ok(aside.lock().len),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match &self.aside {
            None => self.disk.read(offset, out),
            Some(aside) => aside.lock().read(&self.disk, offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if let Some(aside) = &self.aside {
            aside.lock().set_len(len);
            return Ok(());
        }
        self.trust.writable()?;
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.aside.is_some() {
            return Ok(());
        }
        self.trust.sync(&self.name, || self.disk.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(aside) = &self.aside {
            return aside.lock().write(&self.disk, offset, data);
        }
        self.trust.writable()?;
        self.disk.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.disk.close()
    }

    fn try_lock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<bool, BackendError> {
        self.disk.try_lock_range(from, to)
    }

    fn try_lock_shared_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<bool, BackendError> {
        self.disk.try_lock_shared_range(from, to)
    }

    fn lock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<(), BackendError> {
        self.disk.lock_range(from, to)
    }

    fn lock_shared_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<(), BackendError> {
        self.disk.lock_shared_range(from, to)
    }

    fn unlock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<(), BackendError> {
        self.disk.unlock_range(from, to)
    }

    fn query_lock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<bool, BackendError> {
        self.disk.query_lock_range(from, to)
    }
}
