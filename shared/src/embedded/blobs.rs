//! Blobs as files of a data folder, named by their content.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use crate::blobs::{BlobRef, Blobs};
use crate::embedded::{Commits, Trust};
use crate::error::BackendError;

/// Reads and writes at once, each on a thread of its own for its time.
const PARALLEL: usize = 4;

/// `FOLDER/ab/cdef…`: complete and synced before the name exists.
#[derive(Clone)]
pub struct FileBlobs {
    folder: Arc<Path>,
    commits: Commits,
    trust: Trust,
    places: Arc<Semaphore>,
    /// Names unfinished files apart; what a crash left of them is written over.
    parts: Arc<AtomicU64>,
}

/// The blobs of a data folder.
pub(super) fn blobs_folder(data_folder: &Path) -> PathBuf {
    data_folder.join("blobs")
}

/// Where a blob lies in their folder.
pub(super) fn blob_file(blobs_folder: &Path, blob: &BlobRef) -> PathBuf {
    let (head, tail) = blob.as_str().split_at(2);
    blobs_folder.join(head).join(tail)
}

impl FileBlobs {
    /// Opens or creates `blobs` within the data folder, in whose disk `trust` is.
    pub fn open(data_folder: &Path, commits: Commits, trust: Trust) -> Result<FileBlobs, BackendError> {
        let folder = blobs_folder(data_folder);
        fs::create_dir_all(&folder)
            .map_err(|e| BackendError::Fatal(format!("cannot create {}: {e}", folder.display())))?;
        Ok(FileBlobs {
            folder: folder.into(),
            commits,
            trust,
            places: Arc::new(Semaphore::new(PARALLEL)),
            parts: Arc::default(),
        })
    }

    fn path(&self, blob: &BlobRef) -> PathBuf {
        blob_file(&self.folder, blob)
    }

    /// Keeps the runtime's threads free of the disk, unless a paused clock must see nothing happen elsewhere.
    async fn aside<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, BackendError> {
        let outcome = match self.commits {
            Commits::Grouped => {
                let place = self.places.clone().acquire_owned().await;
                let (reply, answer) = oneshot::channel();
                std::thread::Builder::new()
                    .name("blobs".into())
                    .spawn(move || {
                        // Whoever asked may have gone.
                        let _ = reply.send(work());
                        drop(place);
                    })
                    .map_err(|e| BackendError::Retry(format!("cannot start a thread: {e}")))?;
                answer.await.unwrap_or_else(|_| Err(io::Error::other("the thread died")))
            }
            Commits::Inline => work(),
            #[cfg(feature = "testing")]
            Commits::Stepped(_) => work(),
        };
        outcome.map_err(|e| BackendError::Retry(format!("{}: {e}", path.display())))
    }
}

#[async_trait]
impl Blobs for FileBlobs {
    async fn put(&self, bytes: Bytes) -> Result<BlobRef, BackendError> {
        let blob = BlobRef::of(&bytes);
        let path = self.path(&blob);
        self.trust.check()?;
        let (target, trust) = (path.clone(), self.trust.clone());
        let part = format!("part-{}", self.parts.fetch_add(1, Ordering::Relaxed));
        self.aside(&path, move || write(&target, &part, &bytes, &trust)).await?;
        Ok(blob)
    }

    async fn get(&self, blob: &BlobRef) -> Result<Option<Bytes>, BackendError> {
        let path = self.path(blob);
        let target = path.clone();
        let found = self
            .aside(&path, move || match fs::read(&target) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                read => read.map(Some),
            })
            .await?;
        match found {
            Some(bytes) if BlobRef::of(&bytes) != *blob => {
                Err(BackendError::Fatal(format!("{} was damaged: its content has another hash", path.display())))
            }
            found => Ok(found.map(Bytes::from)),
        }
    }

    async fn delete(&self, blob: &BlobRef) -> Result<(), BackendError> {
        self.trust.check()?;
        let path = self.path(blob);
        let (target, trust) = (path.clone(), self.trust.clone());
        self.aside(&path, move || match fs::remove_file(&target) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
            Ok(()) => sync_folder(target.parent().ok_or(io::ErrorKind::NotFound)?, &trust),
        })
        .await
    }
}

fn write(path: &Path, part: &str, bytes: &[u8], trust: &Trust) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
    let above = folder.parent().ok_or(io::ErrorKind::NotFound)?;
    if !path.exists() {
        fs::create_dir_all(folder)?;
        let part = folder.join(part);
        let file = File::create(&part)?;
        let sync = || trust.sync(&path.display(), || file.sync_all());
        let written = (&file).write_all(bytes).and_then(|()| sync()).and_then(|()| fs::rename(&part, path));
        if let Err(e) = written {
            let _ = fs::remove_file(&part);
            return Err(e);
        }
    }
    // Also when it was there: whoever wrote it may not have come this far.
    sync_folder(folder, trust)?;
    sync_folder(above, trust)
}

fn sync_folder(folder: &Path, trust: &Trust) -> io::Result<()> {
    let opened = File::open(folder)?;
    trust.sync(&folder.display(), || opened.sync_all())
}
