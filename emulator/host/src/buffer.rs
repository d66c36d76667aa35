//! The local buffer as an operator sees it: what a data folder holds and how much room it takes, from the folder itself or
//! from the system that runs on it. What is written to it is the command's business.

use std::fs;
use std::path::Path;

use serde::Serialize;
use streammanager::embedded::salvage::{self, Checked};
use streammanager::embedded::{Embedded, database_file, free_bytes, is_marked};
use streammanager::limits::DISK_RESERVE_BYTES;
use streammanager::time::Timestamp;

use crate::exit::Failure;

/// A folder's contents, and its room on the disk.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The folder.
    pub data: String,
    /// Who read it.
    pub read_by: ReadBy,
    /// Nothing that was read is wrong.
    pub sound: bool,
    /// An fsync failed in it, and no start has proved its disk since.
    pub fsync_failed: bool,
    /// What was read.
    #[serde(flatten)]
    pub checked: Checked,
    /// Room on the disk.
    pub disk: DiskUse,
}

/// Who reads a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadBy {
    /// The command, with the folder's lock: nobody writes meanwhile.
    Command,
    /// The system that runs on it.
    RunningSystem,
    /// The command, while another process may write: what is written meanwhile can look damaged.
    CommandWithoutLock,
}

/// Bytes on the disk.
#[derive(Debug, Serialize)]
pub struct DiskUse {
    /// Queues and state.
    pub state: u64,
    /// Bytes of dead letters that are too large for the state.
    pub blobs: u64,
    /// Topics of the built-in Kafka endpoint.
    pub kafka: u64,
    /// Held for deliveries on a full disk.
    pub reserve: u64,
    /// As many as `reserve` has when it is whole.
    pub reserve_wanted: u64,
    /// Free on the folder's disk.
    pub free: Option<u64>,
}

/// Reads a folder that no system of this process has open.
///
/// # Errors
/// When its database cannot be read at all.
pub fn inspect(data: &Path, read_by: ReadBy, now: Timestamp, thorough: bool) -> Result<Inspection, Failure> {
    Ok(inspection(data, read_by, salvage::contents(data, now, thorough)?))
}

/// Reads the folder that `embedded` has open.
///
/// # Errors
/// When its database cannot be read.
pub fn inspect_open(data: &Path, embedded: &Embedded, thorough: bool) -> Result<Inspection, Failure> {
    Ok(inspection(data, ReadBy::RunningSystem, embedded.contents(data, thorough)?))
}

fn inspection(data: &Path, read_by: ReadBy, checked: Checked) -> Inspection {
    let size = |name: &str| bytes_below(&data.join(name));
    let disk = DiskUse {
        state: bytes_below(&database_file(data)),
        blobs: size("blobs"),
        kafka: size("kafka"),
        reserve: size("reserve"),
        reserve_wanted: DISK_RESERVE_BYTES,
        free: free_bytes(data).ok(),
    };
    let (sound, fsync_failed) = (checked.is_sound(), is_marked(data));
    Inspection { data: data.display().to_string(), read_by, sound, fsync_failed, checked, disk }
}

fn bytes_below(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(file) if file.is_dir() => {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| bytes_below(&entry.path())).sum()
        }
        Ok(file) => file.len(),
        Err(_) => 0,
    }
}
