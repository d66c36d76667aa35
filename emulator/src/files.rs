//! Recorded input: files, gzip and standard input, read whole within a bound.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use streammanager::decode::{Format, encoding, form};
use streammanager::record::SourceId;
use streammanager::sources;

use streammanager_host::exit::Failure;

/// One file's content, unpacked; larger archives are split by their year or region anyway.
const FILE_BYTES: u64 = 1 << 30;

/// Reads `path`, unpacked if it is gzip by content; `-` is standard input.
///
/// # Errors
/// In plain words and without the path: what cannot be read or unpacked, and what some other program has to open first.
pub(crate) fn read(path: &Path) -> Result<Bytes, String> {
    let raw = if path.as_os_str() == "-" { bounded(io::stdin().lock()) } else { File::open(path).and_then(bounded) };
    let raw = raw.map_err(|e| plain(&e))?;
    let unpacked = if raw.starts_with(&[0x1f, 0x8b]) {
        bounded(MultiGzDecoder::new(&raw[..])).map_err(|e| format!("is damaged gzip: {}", plain(&e)))?
    } else {
        raw
    };
    match form::packed(&unpacked) {
        Some(problem) => Err(problem),
        None => Ok(unpacked.into()),
    }
}

/// Reads `path` as [`read`] does, as text that `format` takes: UTF-16 becomes UTF-8.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_as(format: Format, path: &Path) -> Result<Bytes, String> {
    taken(format, read(path)?)
}

/// Reads `path` as [`read_as`] does, with the format that it is in and the source id for it.
///
/// # Errors
/// As [`read`], and in plain words what it looks like when it is in no format that is known, or might be in several.
pub(crate) fn recognised(path: &Path) -> Result<(SourceId, Format, Bytes), String> {
    let body = read(path)?;
    let known = match encoding::utf16(&body) {
        Some(text) => sources::recognise(text.map_err(|reject| reject.detail)?.as_bytes()),
        None => sources::recognise(&body),
    };
    let (format, source) = known.map_err(|words| format!("{words}: name its format with --source or --format"))?;
    Ok((source, format, taken(format, body)?))
}

fn taken(format: Format, body: Bytes) -> Result<Bytes, String> {
    // XML tells its encoding itself.
    if format.name == Format::ALERT.name || format.name == Format::SENSOR.name {
        return Ok(body);
    }
    match encoding::utf16(&body) {
        Some(text) => Ok(Bytes::from(text.map_err(|reject| reject.detail)?)),
        None => Ok(body),
    }
}

/// Whether every file is there, before anything is done with the first.
///
/// # Errors
/// Each one that is not.
pub(crate) fn all_there(paths: &[PathBuf]) -> Result<(), Failure> {
    let missing: Vec<String> = paths.iter().filter_map(|path| missing(path)).collect();
    if missing.is_empty() { Ok(()) } else { Err(Failure::new(missing.join("; "))) }
}

/// Whether any of the files is there: enough where a missing one costs itself alone.
///
/// # Errors
/// As [`all_there`], when none is.
pub(crate) fn some_there(paths: &[PathBuf]) -> Result<(), Failure> {
    if paths.iter().any(|path| missing(path).is_none()) { Ok(()) } else { all_there(paths) }
}

fn missing(path: &Path) -> Option<String> {
    let there = if path.as_os_str() == "-" { Ok(()) } else { std::fs::metadata(path).map(drop) };
    there.err().map(|e| format!("{}: {}", path.display(), plain(&e)))
}

/// The failure of a command that needs this file.
pub(crate) fn unreadable(path: &Path) -> impl FnOnce(String) -> Failure {
    move |problem| Failure::new(format!("{}: {problem}", path.display()))
}

/// What the system said, in words for a person.
fn plain(e: &io::Error) -> String {
    match e.kind() {
        ErrorKind::NotFound => "there is no such file".into(),
        ErrorKind::PermissionDenied => "this user may not read it".into(),
        ErrorKind::IsADirectory => "is a folder: name the files in it".into(),
        ErrorKind::UnexpectedEof => "it ends too early: copy it again".into(),
        _ => {
            let text = e.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_owned()
        }
    }
}

/// A key as `connectors register` gave it; `flag` names another file.
pub(crate) fn key(path: &Path, flag: &str) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path);
    let text =
        text.map_err(|e| Failure::new(format!("key file {}: {}; name it with {flag}", path.display(), plain(&e))))?;
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
