//! What a start does on a folder in which an fsync had failed: nothing is written to it before the disk has been asked what it
//! holds. The system's memory is written out and let go first, for it may show what never reached the disk (`salvage/pages.rs`).

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::blobs::blobs_folder;
use super::lock::FolderLock;
use super::salvage::{self, Checked, Repaired};
use super::{database_file, trust};
use crate::error::BackendError;
use crate::time::Timestamp;

/// What was found.
#[derive(Debug)]
pub struct Proof {
    /// As the disk had it.
    pub found: Checked,
    /// The database was damaged, and was written anew.
    pub repaired: Option<Repaired>,
}

/// Proves a marked folder, repairs its database if it is damaged, and takes the mark away. `None`: the folder has no mark.
///
/// # Errors
/// `Fatal` while the disk fails, with what to do: the mark stays.
pub fn prove(folder: &Path, lock: &FolderLock, now: Timestamp) -> Result<Option<Proof>, BackendError> {
    // A database that is missing is refused by whoever opens it.
    if !trust::is_marked(folder) || !database_file(folder).exists() {
        return Ok(None);
    }
    tracing::warn!(folder = %folder.display(), "an fsync failed in this folder: before anything is written, its disk is proved");
    let failed = |e: io::Error| {
        BackendError::Fatal(format!(
            "the disk of {} fails again ({e}): replace it, or copy the folder to another one and start there",
            folder.display()
        ))
    };
    sync_all(folder).map_err(failed)?;
    let found = salvage::contents(folder, now, true)?;
    let damaged = found.database.as_ref().is_some_and(|database| !database.is_sound());
    let repaired = if damaged { Some(salvage::repair(folder, lock, now)?) } else { None };
    trust::remove_mark(folder).map_err(failed)?;
    let proof = Proof { found, repaired };
    proof.say(folder);
    Ok(Some(proof))
}

/// Makes the system let go of what it keeps of a file in memory, which may never have reached the disk: what is read next is what
/// the disk holds. Best effort: not every system lets go.
pub fn let_go(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

/// Everything that is written out again, or fails to.
fn sync_all(folder: &Path) -> io::Result<()> {
    File::options().write(true).open(database_file(folder))?.sync_all()?;
    let blobs = blobs_folder(folder);
    for below in fs::read_dir(&blobs).into_iter().flatten() {
        let below = below?.path();
        for blob in fs::read_dir(&below)? {
            File::open(blob?.path())?.sync_all()?;
        }
        File::open(below)?.sync_all()?;
    }
    if blobs.exists() {
        File::open(blobs)?.sync_all()?;
    }
    File::open(folder)?.sync_all()
}

impl Proof {
    fn say(&self, folder: &Path) {
        let folder = folder.display();
        let (lost, bad) = self.found.database.as_ref().map_or((0, 0), |database| {
            (database.lost.len() as u64 + database.lost_unnamed, database.bad.len() as u64 + database.bad_unnamed)
        });
        let unusable = self.found.contents.unusable.len() as u64 + self.found.contents.unusable_unnamed;
        match &self.repaired {
            Some(Repaired { kept_as, .. }) => tracing::error!(
                %folder, lost_ranges = lost, bad_rows = bad, kept_as = %kept_as.display(),
                "the disk did not hold all that was written: what can be read is in a new database, what is damaged becomes \
                 dead letters, and the old file is kept: buffer verify names what it lacks"
            ),
            None if unusable > 0 => tracing::error!(
                %folder, unusable, first = self.found.contents.unusable.first(),
                "the disk does not hold all that was written: buffer verify names what cannot be used"
            ),
            None => {
                tracing::warn!(%folder, "the disk holds everything that was acknowledged: the folder is used as before")
            }
        }
    }
}
