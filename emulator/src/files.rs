//! Recorded input: files, gzip and standard input, read whole within a bound.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;

use streammanager_host::exit::Failure;

/// One file's content, unpacked; larger archives are split by their year or region anyway.
const FILE_BYTES: u64 = 1 << 30;

/// Reads `path`, unpacked if it is gzip by content; `-` is standard input.
///
/// # Errors
/// What cannot be read or unpacked, without the path.
pub fn read(path: &Path) -> io::Result<Bytes> {
    let raw = if path.as_os_str() == "-" { bounded(io::stdin().lock())? } else { bounded(File::open(path)?)? };
    if raw.starts_with(&[0x1f, 0x8b]) { Ok(bounded(MultiGzDecoder::new(&raw[..]))?.into()) } else { Ok(raw.into()) }
}

/// Whether every file is there, before anything is done with the first.
pub fn all_there(paths: &[PathBuf]) -> Result<(), Failure> {
    for path in paths.iter().filter(|path| path.as_os_str() != "-") {
        std::fs::metadata(path).map_err(unreadable(path))?;
    }
    Ok(())
}

/// The failure of a command that needs this file.
pub fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |e| Failure::new(format!("{}: {e}", path.display()))
}

/// A key as `connectors register` gave it; `flag` names another file.
pub fn key(path: &Path, flag: &str) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|e| Failure::new(format!("key file {}: {e}; name it with {flag}", path.display())))?;
    Ok(text.trim().to_owned())
}

fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES {
        Err(io::Error::other(format!("larger than {FILE_BYTES} bytes unpacked: split it")))
    } else {
        Ok(bytes)
    }
}
