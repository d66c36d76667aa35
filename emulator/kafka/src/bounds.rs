//! What a partition's log holds, written beside its segments: where it begins, and where what was acknowledged ends. A log
//! that is shorter at the next start has lost records, and its offsets must not be given out again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Buf;

/// Not the name of a segment.
const NAME: &str = "bounds";
const OFFSETS: usize = 16;
/// Two offsets and the checksum of their bytes.
const SIZE: usize = OFFSETS + 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) start: i64,
    pub(super) end: i64,
}

/// What was written last; `None` if nothing was, or if it is damaged.
pub(super) fn read(folder: &Path) -> io::Result<Option<Bounds>> {
    let bytes = match std::fs::read(folder.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() == SIZE {
        let (checksum, mut rest) = (crc32c::crc32c(&bytes[..OFFSETS]), &bytes[..]);
        let bounds = Bounds { start: rest.get_i64(), end: rest.get_i64() };
        if rest.get_u32() == checksum {
            return Ok(Some(bounds));
        }
    }
    tracing::warn!(folder = %folder.display(), "the file {NAME} is damaged: whether records are missing cannot be told");
    Ok(None)
}

/// The file, open for writing.
pub(super) struct BoundsFile {
    file: File,
    /// The last write failed, and that was said.
    fails: bool,
}

impl BoundsFile {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(NAME))
            .map(|file| Self { file, fails: false })
    }

    /// As [`BoundsFile::write`]. Only a loss would not be noticed without it: what was written stays acknowledged, and a
    /// failure is said once.
    pub(super) fn note(&mut self, bounds: Bounds, folder: &Path) {
        let written = self.write(bounds);
        if let Err(error) = &written
            && !self.fails
        {
            tracing::warn!(folder = %folder.display(), %error, "cannot note where the log ends");
        }
        self.fails = written.is_err();
    }

    /// The end is written after what it counts is durable, and costs no sync of its own: after a power cut it may be too
    /// low, and never too high.
    fn write(&self, bounds: Bounds) -> io::Result<()> {
        let mut bytes = [0; SIZE];
        bytes[..8].copy_from_slice(&bounds.start.to_be_bytes());
        bytes[8..OFFSETS].copy_from_slice(&bounds.end.to_be_bytes());
        let checksum = crc32c::crc32c(&bytes[..OFFSETS]);
        bytes[OFFSETS..].copy_from_slice(&checksum.to_be_bytes());
        self.file.write_all_at(&bytes, 0)
    }

    /// Before records are removed on purpose, so that nobody misses them afterwards.
    pub(super) fn write_durably(&self, bounds: Bounds) -> io::Result<()> {
        self.write(bounds)?;
        self.file.sync_data()
    }
}
