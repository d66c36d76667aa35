//! One owner for a data folder: an exclusive lock on a file that says who holds it.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use crate::error::BackendError;

/// Nobody else lists or reads what a data folder holds.
const OWNER_ONLY: u32 = 0o700;

/// Makes the data folder, or takes an empty one over. One that holds something already keeps its permissions: it may be
/// more than a data folder.
pub(super) fn own_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(folder)?;
    let others = std::fs::metadata(folder)?.permissions().mode() & 0o077;
    if others != 0 && std::fs::read_dir(folder)?.next().is_none() {
        return std::fs::set_permissions(folder, Permissions::from_mode(OWNER_ONLY));
    }
    if others != 0 {
        tracing::warn!(folder = %folder.display(), "other users may look into the data folder: chmod 700 it");
    }
    Ok(())
}

/// Held as long as this lives; the operating system gives it up when the process dies.
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock of a folder that is there.
    ///
    /// # Errors
    /// `Fatal`, with its holder, while another process has the lock.
    pub fn take(folder: &Path) -> Result<FolderLock, BackendError> {
        let path = folder.join("LOCK");
        let failed = |what: &str, e: &dyn std::fmt::Display| {
            BackendError::Fatal(format!("cannot {what} {}: {e}", path.display()))
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| failed("open", &e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
                return Err(BackendError::Fatal(format!(
                    "the data folder {} is in use by {holder}: stop it or choose another folder",
                    folder.display()
                )));
            }
            Err(TryLockError::Error(e)) => return Err(failed("lock", &e)),
        }
        let command = std::env::args().collect::<Vec<_>>().join(" ");
        file.set_len(0).map_err(|e| failed("write", &e))?;
        writeln!(file, "process {} ({command})", std::process::id()).map_err(|e| failed("write", &e))?;
        Ok(FolderLock { _file: file })
    }
}
