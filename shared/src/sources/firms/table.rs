//! A FIRMS table as text: lines, cells, and where each column stands. What the cells mean is not here.

use std::sync::Arc;

use crate::decode::short;
use crate::error::{Reason, Reject};
use crate::limits::COLUMNS_NAMED;

/// Where each column stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) latitude: usize,
    pub(super) longitude: usize,
    pub(super) acq_date: usize,
    pub(super) acq_time: usize,
    pub(super) satellite: usize,
    pub(super) bright_ti4: Option<usize>,
    pub(super) bright_ti5: Option<usize>,
    pub(super) brightness: Option<usize>,
    pub(super) bright_t31: Option<usize>,
    pub(super) frp: Option<usize>,
    pub(super) scan: Option<usize>,
    pub(super) track: Option<usize>,
    pub(super) path: Option<usize>,
    pub(super) row: Option<usize>,
    pub(super) instrument: Option<usize>,
    pub(super) confidence: Option<usize>,
    pub(super) version: Option<usize>,
    pub(super) daynight: Option<usize>,
    pub(super) kind: Option<usize>,
    pub(super) country_id: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Header {
    /// As it came: a row that is refused is read again under it.
    pub(super) line: Arc<[u8]>,
    pub(super) columns: usize,
    pub(super) at: At,
    /// Columns that have a name and no meaning here, the first ones by name.
    pub(super) unknown: Vec<(usize, String)>,
    /// How many more there are of them.
    pub(super) more_unknown: usize,
}

impl Header {
    /// # Errors
    /// `not_data` when the first line does not name the columns of a FIRMS table.
    pub(super) fn read(lines: &mut Lines<'_>) -> Result<Header, Reject> {
        let line = lines.next().ok_or_else(|| Reject::new(Reason::NotData, "the body is empty"))?;
        let mut names = Vec::new();
        split(line, &mut names);
        Header::named(&names, line).ok_or_else(|| {
            Reject::new(Reason::NotData, format!("the first line is not a FIRMS header: {:?}", shorten(line)))
        })
    }

    /// Of columns by name, which a table has in its first line and an object in its members; `None` for those of something else.
    pub(super) fn named(names: &[&[u8]], line: &[u8]) -> Option<Header> {
        let mut known = Vec::new();
        let mut find = |name: &str| {
            let column = names.iter().position(|cell| cell.eq_ignore_ascii_case(name.as_bytes()))?;
            known.push(column);
            Some(column)
        };
        let mut read = || {
            let at = At {
                latitude: find("latitude")?,
                longitude: find("longitude")?,
                acq_date: find("acq_date")?,
                acq_time: find("acq_time")?,
                satellite: find("satellite")?,
                bright_ti4: find("bright_ti4"),
                bright_ti5: find("bright_ti5"),
                brightness: find("brightness"),
                bright_t31: find("bright_t31"),
                frp: find("frp"),
                scan: find("scan"),
                track: find("track"),
                path: find("path"),
                row: find("row"),
                instrument: find("instrument"),
                confidence: find("confidence"),
                version: find("version"),
                daynight: find("daynight"),
                kind: find("type"),
                country_id: find("country_id"),
            };
            at.bright_ti4.or(at.brightness).or(at.frp).or(at.path)?;
            Some(at)
        };
        let at = read()?;
        let mut unknown: Vec<(usize, String)> = names
            .iter()
            .enumerate()
            .filter(|(column, name)| !known.contains(column) && !is_row_number(name))
            .map(|(column, name)| (column, shorten(name)))
            .collect();
        let more_unknown = unknown.len().saturating_sub(COLUMNS_NAMED);
        unknown.truncate(COLUMNS_NAMED);
        Some(Header { line: line.into(), columns: names.len(), at, unknown, more_unknown })
    }
}

/// A table that pandas saved has its rows' numbers in front, in a column without a name of its own.
fn is_row_number(name: &[u8]) -> bool {
    name.is_empty() || name.starts_with(b"Unnamed: ")
}

/// Lines without their ends (LF, CRLF or CR), blank ones left out.
pub(super) struct Lines<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Lines<'a> {
    /// The next line and its cells.
    pub(super) fn next_row(&mut self, columns: usize, cells: &mut Vec<&'a [u8]>) -> Option<&'a [u8]> {
        // What is left of CRLF is a blank line.
        let rest = self.rest.strip_prefix(b"\n").unwrap_or(self.rest);
        if let Some(end) = plain(rest, columns, cells) {
            self.rest = &rest[end + 1..];
            return Some(&rest[..end]);
        }
        let line = self.next()?;
        split(line, cells);
        Some(line)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = memchr::memchr2(b'\n', b'\r', self.rest).unwrap_or(self.rest.len());
            let line = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
        None
    }
}

/// Cells of a line without the blanks and quotes around them. A quoted cell may hold commas; FIRMS writes neither quotes
/// nor commas in cells, exports from spreadsheets do.
fn split<'a>(line: &'a [u8], cells: &mut Vec<&'a [u8]>) {
    cells.clear();
    let mut quoted = false;
    for cell in line.split(|&byte| {
        quoted ^= byte == b'"';
        byte == b',' && !quoted
    }) {
        let cell = cell.trim_ascii();
        cells.push(cell.strip_prefix(b"\"").and_then(|cell| cell.strip_suffix(b"\"")).unwrap_or(cell).trim_ascii());
    }
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// The length of the line that `rest` begins with, and its cells, in one pass over its bytes, if it is plain: as many cells as
/// `columns`, and no quote or blank among them. `None` for any other line, whose cells are those of [`split`].
fn plain<'a>(rest: &'a [u8], columns: usize, cells: &mut Vec<&'a [u8]>) -> Option<usize> {
    cells.clear();
    let mut start = 0;
    for (n, word) in rest.as_chunks().0.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // Commas, ends of lines, quotes and blanks come before `-` in ASCII, and nothing of a number or a word does. A mark is
        // the highest bit of a byte that does.
        let others = ((word & !HIGH) + ONES * u64::from(0x80 - b'-')) | word;
        let mut marks = !others & HIGH;
        while marks != 0 {
            let end = n * 8 + marks.trailing_zeros() as usize / 8;
            let mark = *rest.get(end)?;
            cells.push(rest.get(start..end)?);
            if mark != b',' {
                return (cells.len() == columns && matches!(mark, b'\n' | b'\r')).then_some(end);
            }
            start = end + 1;
            marks &= marks - 1;
        }
    }
    None
}

/// What the last two texts mean: rows are of a few satellites, versions and, within a day's time, two dates.
#[derive(Debug)]
pub(super) struct Last<'a, T>([Option<(&'a [u8], T)>; 2]);

impl<T> Default for Last<'_, T> {
    fn default() -> Self {
        Last([None, None])
    }
}

impl<'a, T: Copy> Last<'a, T> {
    /// `read` is asked for a text that is another one.
    pub(super) fn of(&mut self, text: &'a [u8], read: impl FnOnce(&'a [u8]) -> T) -> T {
        for (last, means) in self.0.iter().flatten() {
            if *last == text {
                return *means;
            }
        }
        self.0.swap(0, 1);
        self.0[0].insert((text, read(text))).1
    }
}

/// Ten to the power of each number of digits behind a point, exactly.
const TENS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// A number of up to 15 digits with or without a point, the same that `str::parse` reads: both parts of the quotient are exact, and
/// it is rounded once. `None` for any other text, which may be a number all the same.
pub(super) fn decimal(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.len() > 16 {
        return None;
    }
    let (mut number, mut count, mut behind) = (0u64, 0usize, None);
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                number = number * 10 + u64::from(byte - b'0');
                count += 1;
            }
            b'.' if behind.is_none() => behind = Some(count),
            _ => return None,
        }
    }
    if !(1..=15).contains(&count) {
        return None;
    }
    let read = number as f64 / TENS[count - behind.unwrap_or(count)];
    Some(if negative { -read } else { read })
}

/// The start of a text that nobody vouches for, for people to read.
pub(super) fn shorten(text: &[u8]) -> String {
    short(&String::from_utf8_lossy(&text[..text.len().min(120)]))
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn a_decimal_is_the_number_that_the_standard_library_reads() {
        let mut texts: Vec<String> = [
            "0",
            "-0",
            "1.",
            ".5",
            "-.5",
            "999999999999999",
            "0.00000000000001",
            "323.3",
            "-114.91283",
            "9007199254740.99",
        ]
        .map(str::to_owned)
        .into();
        let mut seed = 1u64;
        for n in 0..20_000usize {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let digits = (seed >> 14).to_string();
            let digits = &digits[..1 + n % digits.len().min(15)];
            let point = n % (digits.len() + 1);
            texts.push(format!("{}{}.{}", if n % 3 == 0 { "-" } else { "" }, &digits[..point], &digits[point..]));
        }
        for text in texts {
            let read: f64 = text.parse().unwrap();
            assert_eq!(decimal(text.as_bytes()).map(f64::to_bits), Some(read.to_bits()), "{text}");
        }
        for other in ["", "-", ".", "1e5", "nan", "+1", "1.2.3", "1 ", "1234567890123456", "--1"] {
            assert_eq!(decimal(other.as_bytes()), None, "{other}");
        }
    }
}
