//! Whether the disk keeps what it says it keeps [Q1]. When an fsync fails, the system may drop what it could not write and report
//! success for the next one: its memory then shows what the disk does not hold. So the first failure ends all writing of this
//! process to its folder. Reading goes on, and a mark in the folder makes the next start prove the disk first (`proof.rs`).
//!
//! Nothing that was acknowledged is in doubt: it lies under an earlier fsync that succeeded. What the failed one was for was
//! acknowledged to nobody, so its senders send it again.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

#[cfg(feature = "testing")]
use super::disk::Attached;
use crate::error::BackendError;

/// The mark's name in the folder. It holds what happened, for people.
const MARK: &str = "fsync-failed";

/// The trust in one folder's disk; clones are the same.
#[derive(Debug, Clone)]
pub struct Trust(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: Place,
    /// What ended it, and what to do, in words.
    lost: OnceLock<String>,
}

#[derive(Debug)]
enum Place {
    Folder(PathBuf),
    #[cfg(feature = "testing")]
    Memory(Attached),
}

impl Trust {
    /// In the disk of a folder. An earlier process's mark is not looked at.
    pub fn of(folder: &Path) -> Trust {
        Trust::new(Place::Folder(folder.to_owned()))
    }

    #[cfg(feature = "testing")]
    pub(super) fn of_disk(disk: &Attached) -> Trust {
        Trust::new(Place::Memory(disk.clone()))
    }

    fn new(place: Place) -> Trust {
        Trust(Arc::new(Inner { place, lost: OnceLock::new() }))
    }

    /// Whether anything may be written.
    ///
    /// # Errors
    /// `Retry` once an fsync has failed, with words for people.
    pub fn check(&self) -> Result<(), BackendError> {
        match self.0.lost.get() {
            None => Ok(()),
            Some(why) => Err(BackendError::Retry(why.clone())),
        }
    }

    pub(super) fn lost(&self) -> Option<&str> {
        self.0.lost.get().map(String::as_str)
    }

    /// Runs `sync`, which makes `what` durable. Its failure is the last: nothing is synced after it.
    ///
    /// # Errors
    /// The failure's, or that of an earlier one.
    pub fn sync(&self, what: &dyn fmt::Display, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.writable()?;
        sync().inspect_err(|error| self.lose(what, error))
    }

    /// As [`Trust::check`], where bytes are written.
    pub(super) fn writable(&self) -> io::Result<()> {
        self.lost().map_or(Ok(()), |why| Err(io::Error::other(why)))
    }

    fn lose(&self, what: &dyn fmt::Display, error: &io::Error) {
        let place = &self.0.place;
        let why = format!(
            "an fsync of {what} failed ({error}): nothing more is written to {place}, and what is queued waits; check the disk, \
             then start again"
        );
        if self.0.lost.set(why.clone()).is_err() {
            return;
        }
        tracing::error!("{why}: the start proves what the disk holds, which may be less than was written to it");
        if let Err(problem) = place.mark(&why) {
            tracing::error!(
                %problem,
                "the next start will not know of it, for the mark {MARK} could not be written: before it, run buffer verify"
            );
        }
    }
}

impl Place {
    fn mark(&self, why: &str) -> io::Result<()> {
        match self {
            Place::Folder(folder) => {
                let mut mark = File::create(folder.join(MARK))?;
                writeln!(mark, "{why}")?;
                mark.sync_all()?;
                File::open(folder)?.sync_all()
            }
            #[cfg(feature = "testing")]
            Place::Memory(disk) => disk.mark(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Folder(folder) => write!(f, "{}", folder.display()),
            #[cfg(feature = "testing")]
            Place::Memory(_) => f.write_str("the disk in memory"),
        }
    }
}

/// Whether an fsync failed in this folder and no start has proved it since.
pub fn is_marked(folder: &Path) -> bool {
    folder.join(MARK).exists()
}

/// For whoever has proved the folder.
///
/// # Errors
/// When the mark stays.
pub fn remove_mark(folder: &Path) -> io::Result<()> {
    fs::remove_file(folder.join(MARK))?;
    File::open(folder)?.sync_all()
}
