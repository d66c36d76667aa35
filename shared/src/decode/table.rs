//! Tables as comma-separated text: rows by the names of their columns, each with its own bytes, so that a broken one costs
//! itself alone [S9]. No source's rules live here.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use csv::{ByteRecord, Reader, ReaderBuilder};
use serde_json::{Map, Value};

use super::again::Again;
use super::{encoding, short};
use crate::error::{Reason, Reject};
use crate::limits::{COLUMN_NAME_BYTES, TABLE_MENDS};
use crate::record::{Origin, Quality};

/// A table behind its header line.
pub(crate) struct Table<'a> {
    body: &'a Bytes,
    /// The columns' names without blanks around them, as they stand in the header line or as a decoder mended them.
    pub(crate) columns: Vec<String>,
    header: Arc<[u8]>,
    reader: Reader<&'a [u8]>,
    /// Where the reader began in the body.
    start: usize,
    row: u64,
    mends: usize,
}

/// One row: its values by name, and what it was read from.
pub(crate) struct TableRow {
    /// From 1, the header not counted.
    pub(crate) row: u64,
    pub(crate) origin: Origin,
    pub(crate) values: Map<String, Value>,
    pub(crate) quality: Vec<Quality>,
}

impl<'a> Table<'a> {
    /// # Errors
    /// `not_data` for a body without a line, and for one whose first line cannot be a header. A large one costs nothing: its rows are
    /// read one by one.
    pub(crate) fn read(body: &'a Bytes) -> Result<Table<'a>, Reject> {
        Table::read_from(body, body.len() - encoding::without_mark(body).len())
    }

    /// The same of a body whose table begins there.
    pub(crate) fn read_from(body: &'a Bytes, start: usize) -> Result<Table<'a>, Reject> {
        let mut table = Table {
            body,
            columns: Vec::new(),
            header: Arc::default(),
            reader: reader(&body[start..]),
            start,
            row: 0,
            mends: 0,
        };
        let Some((names, line)) = table.record() else {
            return Err(Reject::new(Reason::NotData, "the body is empty"));
        };
        let line = body.slice(line);
        if let Some(name) = names.iter().find(|name| name.len() > COLUMN_NAME_BYTES) {
            let detail =
                format!("a column's name has {} bytes, {COLUMN_NAME_BYTES} at most: this is no table", name.len());
            return Err(Reject::new(Reason::NotData, detail));
        }
        table.columns = names.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        table.header = Arc::from(&line[..]);
        Ok(table)
    }

    /// Whether a column has this name, letters of either case.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.eq_ignore_ascii_case(name))
    }

    /// That the first line is not a header of this kind.
    pub(crate) fn refused(&self, kind: &str) -> Reject {
        let line = short(&String::from_utf8_lossy(&self.header[..self.header.len().min(400)]));
        Reject::new(Reason::NotData, format!("the first line is not a header of {kind}: {line:?}"))
    }

    /// Where the next record begins in the body.
    fn at(&self) -> usize {
        self.start + usize::try_from(self.reader.position().byte()).unwrap_or(usize::MAX)
    }

    /// The next record's cells, and where it stands without the ends of lines around it.
    fn record(&mut self) -> Option<(ByteRecord, Range<usize>)> {
        let (mut cells, before) = (ByteRecord::new(), self.at());
        // Reading a slice never fails, and rows may have any number of cells.
        if !self.reader.read_byte_record(&mut cells).unwrap_or(false) {
            return None;
        }
        let raw = self.body.get(before..self.at()).unwrap_or_default();
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let first = raw.iter().position(|byte| !is_end(byte)).unwrap_or(raw.len());
        let last = raw.iter().rposition(|byte| !is_end(byte)).map_or(first, |last| last + 1);
        Some((cells, before + first..before + last))
    }

    /// A quote that nobody closed takes the lines behind it into its row: only its own line is lost, and the next one is read
    /// again. A body of nothing else would be read many times: so that is done a bounded number of times.
    fn line_alone(&mut self, record: &Range<usize>) -> Option<Bytes> {
        let lines = &self.body[record.clone()];
        let end = record.start + memchr::memchr2(b'\n', b'\r', lines).filter(|_| self.mends < TABLE_MENDS)?;
        self.mends += 1;
        self.start = end;
        self.reader = reader(&self.body[end..]);
        Some(self.body.slice(record.start..end))
    }
}

fn reader(body: &[u8]) -> Reader<&[u8]> {
    ReaderBuilder::new().has_headers(false).flexible(true).from_reader(body)
}

impl Iterator for Table<'_> {
    type Item = Result<TableRow, Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        let (cells, record) = loop {
            let (cells, record) = self.record()?;
            if !self.body[record.clone()].trim_ascii().is_empty() {
                break (cells, record);
            }
        };
        let raw = self.body.slice(record.clone());
        self.row += 1;
        let (row, columns) = (self.row, self.columns.len());
        let refused = |reason, detail: String, raw: Bytes, header| {
            Reject::new(reason, detail).at_row(row).with_raw(raw).under(header)
        };
        let is_open = raw.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
        if (is_open || cells.len() != columns)
            && let Some(line) = self.line_alone(&record)
        {
            let detail = format!("{} cells of {columns} columns: a quote is not closed", cells.len());
            return Some(Err(refused(Reason::ShortRow, detail, line, &self.header)));
        }
        if cells.len() < columns {
            let detail = format!("{} of {columns} columns", cells.len());
            return Some(Err(refused(Reason::ShortRow, detail, raw, &self.header)));
        }
        // Behind a comma that is not quoted every cell is another column's.
        if cells.iter().skip(columns).any(|cell| !cell.trim_ascii().is_empty()) {
            let detail = format!("{} cells of {columns} columns: a comma is not quoted", cells.len());
            return Some(Err(refused(Reason::ShortRow, detail, raw, &self.header)));
        }
        let mut quality = Vec::new();
        let (mut values, mut again) = (Map::new(), Again::default());
        for (name, cell) in self.columns.iter().zip(cells.iter()) {
            let text = String::from_utf8_lossy(cell);
            if matches!(text, std::borrow::Cow::Owned(_)) {
                quality.push(Quality::new(name, "is not UTF-8: what cannot be read is marked", &text));
            }
            // A table that pandas saved has its rows' numbers in front, in a column without a name of its own.
            if name.is_empty() || name.starts_with("Unnamed: ") {
                continue;
            }
            let name = again.free(name.clone(), |name| values.contains_key(name));
            values.insert(name, text.into_owned().into());
        }
        let origin = Origin::of(raw).under(&self.header);
        Some(Ok(TableRow { row, origin, values, quality }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Vec<Result<(Bytes, Value), (Reason, Bytes)>> {
        let body = Bytes::from_static(text.as_bytes());
        let rows = Table::read(&body).unwrap();
        rows.map(|row| match row {
            Ok(row) => Ok((row.origin.raw, row.values.into())),
            Err(reject) => Err((reject.reason, reject.raw)),
        })
        .collect()
    }

    #[test]
    fn s9_rows_keep_their_own_bytes_and_quotes_their_commas() {
        let rows = read("\u{feff}a,b\r\n1,\"x, \"\"y\"\"\"\r\n\r\n2,\"two\nlines\"\r\n");
        let [Ok((first, values)), Ok((second, _))] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(first, "1,\"x, \"\"y\"\"\"");
        assert_eq!(values, &serde_json::json!({"a": "1", "b": "x, \"y\""}));
        assert_eq!(second, "2,\"two\nlines\"");
    }

    #[test]
    fn s9_a_quote_that_is_not_closed_costs_its_own_line() {
        let rows = read("a,b\n1,x\n2,\"y\n3,z\n4\n5,v,w\n6,u, ,\n");
        let told: Vec<_> =
            rows.iter().map(|row| row.as_ref().map(|(raw, _)| &raw[..]).map_err(|(_, raw)| &raw[..])).collect();
        assert_eq!(told, [Ok(&b"1,x"[..]), Err(&b"2,\"y"[..]), Ok(b"3,z"), Err(b"4"), Err(b"5,v,w"), Ok(b"6,u, ,")]);
    }

    #[test]
    fn a_body_without_a_line_is_no_table() {
        let body = Bytes::from_static(b"\n \n");
        // A line of blanks is a header without names, for the decoder to refuse.
        assert!(Table::read(&body).is_ok_and(|table| !table.has("a")));
        assert!(Table::read(&Bytes::new()).is_err());
    }
}
