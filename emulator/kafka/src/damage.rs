//! What stands in a segment's file after its last good batch: the write that a crash left unfinished, or damage with good
//! batches behind it, whose bytes are kept. Where the good batches end is the segment's business.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::batch::{HEAD, Head, MAGIC_AT, intact};
use super::limits::{MAX_FRAME, MAX_SEARCH_SUMMED};

/// Read at once while searching.
const WINDOW: u64 = 1 << 20;

/// Whether a batch with a sound checksum, of offset `base` or later, stands anywhere from byte `from` on. If finding out
/// takes too long the answer is yes, because the bytes are worth keeping then.
pub(super) fn has_batches(file: &File, from: u64, base: i64) -> io::Result<bool> {
    let end = file.metadata()?.len();
    let (mut window_at, mut summed) = (from, 0);
    while end.saturating_sub(window_at) >= HEAD as u64 {
        let window = bytes(file, window_at, (end - window_at).min(WINDOW) as usize)?;
        for start in 0..=window.len() - HEAD {
            let Some(size) = plausible(&window[start..], base) else { continue };
            let at = window_at + start as u64;
            if size as u64 > end - at {
                continue;
            }
            summed += size as u64;
            if summed > MAX_SEARCH_SUMMED || intact(&bytes(file, at, size)?) {
                return Ok(true);
            }
        }
        // A head may begin in one window and end in the next.
        window_at += (window.len() - HEAD + 1) as u64;
    }
    Ok(false)
}

/// The size of the batch that these bytes may begin, as the log writes them: its leader epoch is 0, and it counts right.
fn plausible(bytes: &[u8], base: i64) -> Option<usize> {
    if bytes[MAGIC_AT] != 2 || bytes[MAGIC_AT - 4..MAGIC_AT] != [0; 4] {
        return None;
    }
    let head = Head::parse(bytes)?;
    let counts = i64::from(head.count) == i64::from(head.last_delta) + 1;
    (counts && head.base >= base && head.size <= MAX_FRAME).then_some(head.size)
}

/// Copies everything from byte `from` on into a new file beside `path`, durable when this returns.
pub(super) fn set_aside(file: &File, from: u64, path: &Path) -> io::Result<PathBuf> {
    let size = file.metadata()?.len();
    let (kept, mut copy) = unused_name(path)?;
    let mut at = from;
    while at < size {
        let part = bytes(file, at, (size - at).min(WINDOW) as usize)?;
        io::Write::write_all(&mut copy, &part)?;
        at += part.len() as u64;
    }
    copy.sync_all()?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
    Ok(kept)
}

fn unused_name(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut number = 1;
    loop {
        let kept = path.with_extension(format!("log.damaged.{number}"));
        match File::create_new(&kept) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            created => return Ok((kept, created?)),
        }
    }
}

fn bytes(file: &File, at: u64, size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}
