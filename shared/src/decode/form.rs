//! What bytes are that no decoder reads: archives, workbooks, tables in another form. Told in words for whoever has to open
//! them first, whichever door they came through [S9].

use crate::error::{Reason, Reject};

/// What only another program opens, by its first bytes; as words behind "it" or a file's name.
pub fn packed(bytes: &[u8]) -> Option<String> {
    if bytes.starts_with(b"PK\x03\x04") {
        let names = names_in_zip(bytes);
        return Some(if names.iter().any(|name| name.starts_with("xl/")) {
            "is an Excel workbook: save it as CSV".into()
        } else if names.is_empty() {
            "begins as a zip archive, but its directory is missing: it may have been cut off".into()
        } else {
            format!("is a zip archive of {}: unpack it first", names.join(", "))
        });
    }
    let forms: [(&[u8], &str); 7] = [
        (b"\x1f\x8b", "is packed by gzip: unpack it first"),
        (b"BZh", "is packed by bzip2: unpack it first"),
        (b"\xfd7zXZ\0", "is packed by xz: unpack it first"),
        (b"\x28\xb5\x2f\xfd", "is packed by zstd: unpack it first"),
        (b"7z\xbc\xaf", "is a 7-Zip archive: unpack it first"),
        (b"PAR1", "is Parquet, which is not read here: export it as CSV"),
        (b"%PDF", "is a PDF: nothing reads data from it"),
    ];
    forms.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, words)| (*words).to_owned())
}

/// What bytes are that no decoder reads, also of the forms that decoders for others might; as words behind "it".
pub(crate) fn unread(body: &[u8]) -> Option<String> {
    let forms: [(&[u8], &str); 6] = [
        (b"CDF", "is NetCDF"),
        (b"\x89HDF", "is HDF5 or NetCDF-4"),
        (b"GRIB", "is GRIB"),
        (b"II*\0", "is TIFF"),
        (b"MM\0*", "is TIFF"),
        (b"\x0e\x03\x13\x01", "is HDF4"),
    ];
    let of_grid = || forms.iter().find(|(start, _)| body.starts_with(start));
    packed(body)
        .or_else(|| of_grid().map(|(_, words)| format!("{words}, which is not read yet")))
        .or_else(|| text(body, &[]))
}

/// A reject of a whole body, with what the body is instead of data of this format.
pub(crate) fn told(reject: Reject, body: &[u8]) -> Reject {
    let words = match reject.reason {
        Reason::NotData | Reason::BadXml => packed(body).or_else(|| text(body, &[])),
        Reason::BadJson => packed(body).or_else(|| text(body, &[(b',', "commas")])),
        _ => None,
    };
    match words {
        Some(words) => Reject { detail: format!("it {words}; {}", reject.detail), ..reject },
        None => reject,
    }
}

/// Whether a body begins as HTML.
pub(crate) fn is_page(body: &[u8]) -> bool {
    let start = super::encoding::without_mark(body).trim_ascii_start();
    let begins = |with: &str| start.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()));
    begins("<!doctype html") || begins("<html")
}

/// What a text is, by its first line. `also`: separators by which this format does not separate anything either.
fn text(body: &[u8], also: &[(u8, &str)]) -> Option<String> {
    if matches!(body, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return Some("is UTF-16: save it as UTF-8".into());
    }
    if is_page(body) {
        return Some("is a web page".into());
    }
    let body = super::encoding::without_mark(body).trim_ascii_start();
    let line = body.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    let lower = String::from_utf8_lossy(&line[..line.len().min(100)]).to_lowercase();
    if lower.starts_with(['{', '[', '<']) {
        return None;
    }
    // A name of a column, a separator, a name of a column, and so on.
    let separators = [(b';', "semicolons"), (b'\t', "tabs"), (b'|', "bars")];
    let by = separators.iter().chain(also).find(|(byte, _)| {
        let columns = line.split(|at| at == byte);
        columns.clone().count() > 2 && columns.clone().all(|name| name.len() < 40)
    });
    by.map(|(_, words)| format!("is a table whose columns are separated by {words}"))
}

/// Names from the directory at a zip archive's end, the first few; each may have 64 KB and is shortened.
fn names_in_zip(bytes: &[u8]) -> Vec<String> {
    const ENTRY: &[u8] = b"PK\x01\x02";
    const SHOWN: usize = 5;
    let name = |at: usize| {
        let length = u16::from_le_bytes(bytes.get(at + 28..at + 30)?.try_into().ok()?);
        Some(super::short(&String::from_utf8_lossy(bytes.get(at + 46..at + 46 + usize::from(length))?)))
    };
    memchr::memmem::find_iter(bytes, ENTRY).filter_map(name).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s9_a_packed_body_is_told_so_whatever_it_was_taken_for() {
        for reason in [Reason::NotData, Reason::BadJson, Reason::BadXml] {
            let told = told(Reject::new(reason, "at byte 6"), b"\x1f\x8b\x08<");
            assert_eq!(told.detail, "it is packed by gzip: unpack it first; at byte 6");
        }
    }
}
