//! The disk's room [Q2]. Below a floor of free bytes nothing new is taken in, while deliveries go on: they write, too, before
//! they make room. Should the disk fill up nevertheless (others write to it as well), a reserve held in a file is given up
//! for them. It is made again, and the intake opened, once there is room for both.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

#[cfg(feature = "testing")]
use super::disk::MemoryDisk;
use crate::error::BackendError;
use crate::limits::{DISK_FLOOR_BYTES, DISK_RESERVE_BYTES};

pub(crate) enum Disk {
    Folder(Folder),
    #[cfg(feature = "testing")]
    Memory(MemoryDisk),
}

/// A data folder whose database is open.
pub(crate) struct Folder {
    path: PathBuf,
    database: PathBuf,
    /// Device and number of the file that was opened.
    opened: Option<(u64, u64)>,
}

pub(crate) struct Room {
    disk: Disk,
    /// Whether the reserve is there; held while it is made or given up.
    reserve: Mutex<bool>,
}

impl Room {
    pub(crate) fn new(disk: Disk) -> Room {
        let room = Room { disk, reserve: Mutex::new(false) };
        // Without room there is none: then nothing is taken in, and that is said to whoever brings something.
        let _ = room.check();
        room
    }

    /// Whether something new may be taken in.
    ///
    /// # Errors
    /// `Retry` while the disk has too little room.
    pub(crate) fn check(&self) -> Result<(), BackendError> {
        let mut reserve = self.reserve.lock();
        if !self.disk.is_there() {
            return Err(BackendError::Retry(format!(
                "{} was removed or replaced while it is in use: nothing new is taken in; stop, and bring the folder back from a copy",
                self.disk.name()
            )));
        }
        // A disk that does not say is found full by the write that fails.
        let Ok(free) = self.disk.free() else { return Ok(()) };
        if !*reserve {
            *reserve = free >= DISK_RESERVE_BYTES + 2 * DISK_FLOOR_BYTES && self.disk.make_reserve().is_ok();
        }
        if *reserve && free >= DISK_FLOOR_BYTES {
            return Ok(());
        }
        const MIB: u64 = 1024 * 1024;
        Err(BackendError::Retry(format!(
            "the disk of {} is full ({} MiB are left): nothing new is taken in, what is queued is still delivered; free {} MiB",
            self.disk.name(),
            free / MIB,
            (DISK_RESERVE_BYTES + 2 * DISK_FLOOR_BYTES).div_ceil(MIB),
        )))
    }

    /// Gives the reserve to whoever could not write; `false` when that was done before.
    pub(crate) fn give_up(&self) -> bool {
        let mut reserve = self.reserve.lock();
        if !*reserve || self.disk.drop_reserve().is_err() {
            return false;
        }
        tracing::error!(disk = self.disk.name(), "the disk is full: deliveries go on from the reserve");
        *reserve = false;
        true
    }
}

impl Folder {
    pub(crate) fn of(path: &Path, database: &Path) -> Folder {
        Folder { path: path.to_owned(), database: database.to_owned(), opened: file(database) }
    }
}

/// Free bytes of the disk that a folder is on.
///
/// # Errors
/// When the disk does not say.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail * disk.f_frsize)
}

fn file(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

impl Disk {
    /// A file that has no name any more is still written, and gone with this process.
    fn is_there(&self) -> bool {
        match self {
            Disk::Folder(folder) => file(&folder.database) == folder.opened,
            #[cfg(feature = "testing")]
            Disk::Memory(_) => true,
        }
    }

    fn free(&self) -> io::Result<u64> {
        match self {
            Disk::Folder(folder) => free_bytes(&folder.path),
            #[cfg(feature = "testing")]
            Disk::Memory(disk) => Ok(disk.free()),
        }
    }

    /// Real bytes: a file with holes reserves nothing. What a crash left of one is written over; a whole one stays.
    fn make_reserve(&self) -> io::Result<()> {
        match self {
            Disk::Folder(folder)
                if fs::metadata(folder.path.join(RESERVE)).is_ok_and(|file| file.len() == DISK_RESERVE_BYTES) =>
            {
                Ok(())
            }
            Disk::Folder(folder) => {
                let mut file = File::create(folder.path.join(RESERVE))?;
                let block = [0x5a; 64 * 1024];
                (0..DISK_RESERVE_BYTES / block.len() as u64).try_for_each(|_| file.write_all(&block))?;
                file.sync_all()
            }
            #[cfg(feature = "testing")]
            Disk::Memory(disk) => disk.reserve(DISK_RESERVE_BYTES),
        }
    }

    fn drop_reserve(&self) -> io::Result<()> {
        match self {
            Disk::Folder(folder) => File::options().write(true).open(folder.path.join(RESERVE))?.set_len(0),
            #[cfg(feature = "testing")]
            Disk::Memory(disk) => disk.reserve(0),
        }
    }

    fn name(&self) -> String {
        match self {
            Disk::Folder(folder) => folder.path.display().to_string(),
            #[cfg(feature = "testing")]
            Disk::Memory(_) => "the simulation".into(),
        }
    }
}

const RESERVE: &str = "reserve";
