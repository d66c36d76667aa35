//! Recorded input: files, gzip and standard input, read whole within a bound.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use streammanager::decode::{Format, encoding};

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
    match other_form(&unpacked) {
        Some(problem) => Err(problem),
        None => Ok(unpacked.into()),
    }
}

/// Reads `path` as [`read`] does, as text that `format` takes: UTF-16 becomes UTF-8, and a table in another form than
/// FIRMS's is told what it is.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_as(format: Format, path: &Path) -> Result<Bytes, String> {
    let body = read(path)?;
    // XML tells its encoding itself.
    if format.name == Format::ALERT.name || format.name == Format::SENSOR.name {
        return Ok(body);
    }
    let body = match encoding::utf16(&body) {
        Some(text) => Bytes::from(text.map_err(|reject| reject.detail)?),
        None => body,
    };
    let header = encoding::without_mark(&body).split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    let separated =
        [(b';', "semicolons"), (b'\t', "tabs"), (b'|', "bars")].into_iter().find(|(byte, _)| header.contains(byte));
    match separated {
        Some((_, by)) if !header.contains(&b',') => Err(format!(
            "line 1: its columns are separated by {by}, FIRMS's by commas: save it with commas, and with points in numbers"
        )),
        _ => Ok(body),
    }
}

/// What a file is that has to be opened by another program first; by its first bytes.
fn other_form(bytes: &[u8]) -> Option<String> {
    if bytes.starts_with(b"PK\x03\x04") {
        let names = names_in_zip(bytes);
        return Some(if names.iter().any(|name| name.starts_with("xl/")) {
            "is an Excel workbook: save it as CSV".into()
        } else {
            format!("is a zip archive of {}: unpack it and name the file in it", names.join(", "))
        });
    }
    let forms: [(&[u8], &str); 6] = [
        (b"BZh", "is packed by bzip2: unpack it first"),
        (b"\xfd7zXZ\0", "is packed by xz: unpack it first"),
        (b"\x28\xb5\x2f\xfd", "is packed by zstd: unpack it first"),
        (b"7z\xbc\xaf", "is a 7-Zip archive: unpack it first"),
        (b"PAR1", "is Parquet, which is not read here: export it as CSV"),
        (b"%PDF", "is a PDF: nothing reads data from it"),
    ];
    forms.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, words)| (*words).to_owned())
}

/// Names from the directory at a zip archive's end, the first few.
fn names_in_zip(bytes: &[u8]) -> Vec<String> {
    const ENTRY: &[u8] = b"PK\x01\x02";
    const SHOWN: usize = 5;
    let entries = bytes.windows(ENTRY.len()).enumerate().filter(|(_, window)| *window == ENTRY);
    let name = |at: usize| {
        let length = u16::from_le_bytes(bytes.get(at + 28..at + 30)?.try_into().ok()?);
        Some(String::from_utf8_lossy(bytes.get(at + 46..at + 46 + usize::from(length))?).into_owned())
    };
    entries.filter_map(|(at, _)| name(at)).take(SHOWN).collect()
}

/// Whether every file is there, before anything is done with the first.
pub(crate) fn all_there(paths: &[PathBuf]) -> Result<(), Failure> {
    for path in paths.iter().filter(|path| path.as_os_str() != "-") {
        std::fs::metadata(path).map_err(|e| unreadable(path)(plain(&e)))?;
    }
    Ok(())
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
