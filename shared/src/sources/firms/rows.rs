//! NASA FIRMS rows of any product → drafts [S1, S9, S12]: CSV here, JSON in `json.rs`. What is data is judged by the header line
//! alone; columns are found by name; one line is one row, so that damage never reaches the next. No source is polled here.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::json;
use super::satellite::{Instrument, Satellites};
use super::table::{Header, Last, Lines, decimal, shorten};
use super::when::{Calendar, TimeOfDay};
use crate::decode::encoding::without_mark;
use crate::decode::{Context, Rows};
use crate::error::{Reason, Reject};
use crate::record::{Data, Draft, Geometry, Observation, Origin, Position, Quality, SourceId};
use crate::sources::identify;
use crate::time::Timestamp;

/// A column's cell: a file without the column is told from a row whose cell is empty or unreadable [S9].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<T> {
    /// The file has no such column: the field is left out.
    Absent,
    /// Empty or unreadable: the field is null.
    Null,
    /// What was read.
    Value(T),
}

impl<T> Cell<T> {
    fn is_absent(&self) -> bool {
        matches!(self, Cell::Absent)
    }
}

impl<T: Serialize> Serialize for Cell<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Cell::Value(value) => value.serialize(serializer),
            Cell::Absent | Cell::Null => serializer.serialize_none(),
        }
    }
}

/// One fire detection as FIRMS wrote it, under FIRMS's column names. A column that the product lacks is left out; an empty
/// or unreadable cell is null. Latitude and longitude stand beside it in the record.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "FireDetection", deny_unknown_fields)]
pub struct Detection<'a> {
    /// VIIRS: brightness temperature of the I-4 channel (3.74 µm) in kelvin; saturates at 367.
    #[serde(skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<f64>")]
    pub bright_ti4: Cell<f64>,
    /// VIIRS: brightness temperature of the I-5 channel (11.45 µm) in kelvin.
    #[serde(skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<f64>")]
    pub bright_ti5: Cell<f64>,
    /// MODIS: brightness temperature of channel 21 or 22 (4 µm) in kelvin.
    #[serde(skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<f64>")]
    pub brightness: Cell<f64>,
    /// MODIS: brightness temperature of channel 31 (11 µm) in kelvin.
    #[serde(skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<f64>")]
    pub bright_t31: Cell<f64>,
    /// Fire radiative power of the pixel in megawatts; zero and negative values occur.
    #[serde(skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<f64>")]
    pub frp: Cell<f64>,
    /// Pixel size along the scan in kilometres; Landsat: the pixel's index.
    #[serde(skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<f64>")]
    pub scan: Cell<f64>,
    /// Pixel size along the track in kilometres; Landsat: the pixel's index.
    #[serde(skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<f64>")]
    pub track: Cell<f64>,
    /// Landsat: path of the World Reference System 2.
    #[serde(skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<u32>")]
    pub path: Cell<u32>,
    /// Landsat: row of the World Reference System 2.
    #[serde(skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<u32>")]
    pub row: Cell<u32>,
    /// Date of the observation in UTC, YYYY-MM-DD.
    pub acq_date: &'a str,
    /// Time of the observation in UTC, HHMM, whichever way the file wrote it.
    #[schemars(with = "String", regex(pattern = "^[0-9]{4}$"))]
    pub acq_time: TimeOfDay,
    /// The satellite: `N` (S-NPP), `N20`, `N21`, `Terra`, `Aqua`, `L8` or `L9`, whichever way the file spelled it; another one
    /// as written.
    #[schemars(with = "Option<&str>")]
    pub satellite: Cell<&'a str>,
    /// `VIIRS` or `MODIS`.
    #[serde(skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<&str>")]
    pub instrument: Cell<&'a str>,
    /// As written: `l`, `n`, `h`, `low`, `nominal`, `high` (VIIRS), `L`, `M`, `H` (Landsat), 0 to 100 (MODIS).
    #[serde(skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<&str>")]
    pub confidence: Cell<&'a str>,
    /// MODIS: the confidence as a number in percent.
    #[serde(skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<f64>")]
    pub confidence_percent: Cell<f64>,
    /// Collection and processing, such as `2.0NRT`, `2.0URT`, `6.1NRT`; without letters: standard product.
    #[serde(skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<&str>")]
    pub version: Cell<&'a str>,
    /// `D` day or `N` night.
    #[serde(skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<&str>")]
    pub daynight: Cell<&'a str>,
    /// Standard product: 0 presumed vegetation fire, 1 active volcano, 2 other static land source, 3 offshore.
    #[serde(rename = "type", skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<u32>")]
    pub kind: Cell<u32>,
    /// Country files: ISO 3166-1 alpha-3 code.
    #[serde(skip_serializing_if = "Cell::is_absent")]
    #[schemars(with = "Option<&str>")]
    pub country_id: Cell<&'a str>,
}

/// A row that is read: valid position and time, and the source that its satellite stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading<'a> {
    /// The pixel's centre.
    pub position: Position,
    /// `acq_date` and `acq_time`, in UTC.
    pub observed_at: Timestamp,
    /// From the row's satellite, which decides it [S1].
    pub source: SourceId,
    /// The row's own columns.
    pub detection: Detection<'a>,
    /// Of its version: see `Observation::rank`.
    pub rank: u8,
    /// What could not be read.
    pub quality: Vec<Quality>,
}

/// The drafts of `body`, row by row.
///
/// # Errors
/// `not_data` when the first line is no FIRMS header: an error text, a log-in page, another table [S1].
pub fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    // No name of a column begins so.
    if let Some(b'{' | b'[') = without_mark(body).trim_ascii_start().first() {
        return json::rows(body, context);
    }
    let mut readings = Readings::new(body, context.source)?;
    Ok(Box::new(std::iter::from_fn(move || {
        let reading = readings.next()?;
        let origin = Origin::of(body.slice_ref(readings.line)).under(&readings.header.line);
        Some(reading.and_then(|reading| draft(reading, origin)))
    })))
}

/// Judges the header line alone: is `body` FIRMS data?
///
/// # Errors
/// `not_data`, with the text shortened.
pub fn check_header(body: &[u8]) -> Result<(), Reject> {
    Header::read(&mut Lines { rest: without_mark(body) }).map(drop)
}

/// The rows of a body, typed and not yet identified.
pub struct Readings<'a> {
    body: &'a Bytes,
    header: Header,
    lines: Lines<'a>,
    /// The current row.
    line: &'a [u8],
    /// The current row's cells, blanks around them removed.
    cells: Vec<&'a [u8]>,
    row: u64,
    reader: Reader<'a>,
}

/// What neighbouring rows share.
pub(super) struct Reader<'a> {
    calendar: Calendar<'a>,
    satellites: Satellites<'a>,
    instruments: Last<'a, (Option<&'a str>, Option<Instrument>)>,
    versions: Last<'a, (Option<&'a str>, u8)>,
}

impl<'a> Readings<'a> {
    /// `source` is the stream's: it stands for a row whose satellite says nothing.
    pub fn new(body: &'a Bytes, source: &'a SourceId) -> Result<Readings<'a>, Reject> {
        let mut lines = Lines { rest: without_mark(body) };
        let header = Header::read(&mut lines).map_err(|reject| reject.with_raw(body.clone()))?;
        Ok(Readings { body, header, lines, line: &[], cells: Vec::new(), row: 0, reader: Reader::new(source) })
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a SourceId) -> Reader<'a> {
        Reader {
            calendar: Calendar::default(),
            satellites: Satellites::new(source),
            instruments: Last::default(),
            versions: Last::default(),
        }
    }

    // Into its callers: what it makes is large, and would be moved once more.
    #[inline(always)]
    pub(super) fn read(&mut self, cells: &[&'a [u8]], header: &Header) -> Result<Reading<'a>, Reject> {
        let at = &header.at;
        if cells.len() < header.columns {
            let detail = format!("{} of {} columns", cells.len(), header.columns);
            return Err(Reject::new(Reason::ShortRow, detail));
        }
        let degrees = |cell, name: &str, reason| match number(cell) {
            Some(read) => Ok(read),
            None => Err(Reject::new(reason, format!("{name} {:?} is not a number", shorten(cell)))),
        };
        let position = Position::new(
            degrees(cells[at.latitude], "latitude", Reason::BadLatitude)?,
            degrees(cells[at.longitude], "longitude", Reason::BadLongitude)?,
        )?;
        if position.latitude() == 0.0 && position.longitude() == 0.0 {
            let detail = "latitude and longitude are both 0: open sea, where empty coordinates end up";
            return Err(Reject::new(Reason::BadLatitude, detail));
        }
        let when = self.calendar.when(cells[at.acq_date], cells[at.acq_time])?;

        let mut row = Row { cells, quality: Vec::new() };
        let (known, source) = self.satellites.of_row(cells[at.satellite], &mut row.quality)?;
        let named = at
            .instrument
            .map(|column| self.instruments.of(cells[column], |cell| (text(cell), Instrument::named(cell))));
        let version = at.version.map(|column| {
            self.versions.of(cells[column], |cell| {
                let text = text(cell);
                (text, text.map_or(0, rank))
            })
        });
        let by_columns = match (at.bright_ti4, at.brightness) {
            (Some(_), _) => Some(Instrument::Viirs),
            (None, Some(_)) => Some(Instrument::Modis),
            (None, None) => None,
        };
        let instrument =
            named.and_then(|(_, instrument)| instrument).or(known.map(|satellite| satellite.instrument)).or(by_columns);
        // An archive has VIIRS's temperatures under MODIS's names: the instrument says what they are.
        let hot = row.either(at.bright_ti4, at.brightness);
        let cool = row.either(at.bright_ti5, at.bright_t31);
        let of = |whose: Instrument, column: Option<usize>| column.filter(|_| instrument == Some(whose));
        let detection = Detection {
            bright_ti4: row.number(of(Instrument::Viirs, hot), "bright_ti4"),
            bright_ti5: row.number(of(Instrument::Viirs, cool), "bright_ti5"),
            brightness: row.number(of(Instrument::Modis, hot), "brightness"),
            bright_t31: row.number(of(Instrument::Modis, cool), "bright_t31"),
            frp: row.number(at.frp, "frp"),
            scan: row.number(at.scan, "scan"),
            track: row.number(at.track, "track"),
            path: row.count(at.path, "path"),
            row: row.count(at.row, "row"),
            acq_date: when.date,
            acq_time: when.time,
            satellite: match known {
                Some(satellite) => Cell::Value(satellite.name),
                None => row.text(Some(at.satellite), "satellite"),
            },
            instrument: row.cell(at.instrument, "instrument", UNREADABLE, |_| named?.0),
            confidence: row.text(at.confidence, "confidence"),
            confidence_percent: row.number(of(Instrument::Modis, at.confidence), "confidence_percent"),
            version: row.cell(at.version, "version", UNREADABLE, |_| version?.0),
            daynight: row.text(at.daynight, "daynight"),
            kind: row.count(at.kind, "type"),
            country_id: row.text(at.country_id, "country_id"),
        };
        if !matches!(instrument, Some(Instrument::Viirs | Instrument::Modis)) {
            for (column, name) in [(hot, "brightness"), (cool, "bright_t31")] {
                if let Some(column) = column {
                    row.not_understood(column, name);
                }
            }
        }
        if cells.len() > header.columns {
            let more = format!("the row has {} cells and its header {} columns", cells.len(), header.columns);
            row.quality.push(Quality::new("columns", &more, ""));
        }
        for (column, name) in &header.unknown {
            row.not_understood(*column, name);
        }
        if header.more_unknown > 0 {
            let more = format!("{} more columns are not understood", header.more_unknown);
            row.quality.push(Quality::new("columns", &more, ""));
        }
        let rank = match (detection.version, version) {
            (Cell::Value(_), Some((_, rank))) => rank,
            _ => 0,
        };
        Ok(Reading { position, observed_at: when.at, source, detection, rank, quality: row.quality })
    }
}

pub(super) fn draft(reading: Reading<'_>, origin: Origin) -> Result<Draft, Reject> {
    identify(Observation {
        origin,
        observed_at: reading.observed_at,
        published_at: None,
        geometry: Some(Geometry::Point(reading.position)),
        position: Some(reading.position),
        derived_from: None,
        alert: None,
        data: Data::of(&reading.detection)?,
        quality: reading.quality,
        source: reading.source,
        rank: reading.rank,
    })
}

/// Ultra real-time, real-time, near real-time, standard: each replaces the ones before it [S1]. 0 for a version of another kind.
fn rank(version: &str) -> u8 {
    let mut letters = [0; 3];
    for (n, byte) in version.bytes().filter(u8::is_ascii_alphabetic).enumerate() {
        match letters.get_mut(n) {
            Some(letter) => *letter = byte.to_ascii_uppercase(),
            None => return 0,
        }
    }
    match &letters {
        b"URT" => 1,
        b"RT\0" => 2,
        b"NRT" => 3,
        b"\0\0\0" | b"SP\0" => 4,
        _ => 0,
    }
}

impl<'a> Iterator for Readings<'a> {
    type Item = Result<Reading<'a>, Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next_row(self.header.columns, &mut self.cells)?;
        self.row += 1;
        self.line = line;
        let row = self.row;
        let read = self.reader.read(&self.cells, &self.header);
        Some(read.map_err(|reject| reject.at_row(row).with_raw(self.body.slice_ref(line)).under(&self.header.line)))
    }
}

const UNREADABLE: &str = "not readable";

fn text(cell: &[u8]) -> Option<&str> {
    std::str::from_utf8(cell).ok()
}

/// As `str::parse` reads it; not every number is finite.
fn number(cell: &[u8]) -> Option<f64> {
    decimal(cell).or_else(|| text(cell)?.parse().ok())
}

/// The cells of one row beside what is wrong with them.
struct Row<'r, 'a> {
    cells: &'r [&'a [u8]],
    quality: Vec<Quality>,
}

impl<'a> Row<'_, 'a> {
    /// Of two columns that say the same, the one that says something here; a second one that does is named.
    fn either(&mut self, first: Option<usize>, second: Option<usize>) -> Option<usize> {
        let says = |column: &usize| !self.cells[*column].is_empty();
        match (first.filter(says), second.filter(says)) {
            (Some(first), Some(second)) => {
                self.not_understood(second, "a second temperature of the same channel");
                Some(first)
            }
            (says, None) | (None, says) => says.or(first).or(second),
        }
    }

    /// What stands in a column that has no meaning here is named, not dropped in silence [S9].
    fn not_understood(&mut self, column: usize, name: &str) {
        let cell = self.cells[column];
        if !cell.is_empty() {
            self.quality.push(Quality::new(name, "this column is not understood", &String::from_utf8_lossy(cell)));
        }
    }

    fn number(&mut self, column: Option<usize>, field: &str) -> Cell<f64> {
        self.cell(column, field, "not a number", |cell| number(cell).filter(|read| read.is_finite()))
    }

    fn count(&mut self, column: Option<usize>, field: &str) -> Cell<u32> {
        self.cell(column, field, "not a whole number", |cell| text(cell)?.parse().ok())
    }

    fn text(&mut self, column: Option<usize>, field: &str) -> Cell<&'a str> {
        self.cell(column, field, UNREADABLE, text)
    }

    // A column that is not there costs no call.
    #[inline(always)]
    fn cell<T>(
        &mut self,
        column: Option<usize>,
        field: &str,
        problem: &str,
        read: impl FnOnce(&'a [u8]) -> Option<T>,
    ) -> Cell<T> {
        let Some(column) = column else { return Cell::Absent };
        let cell = self.cells[column];
        match Some(cell).filter(|cell| !cell.is_empty()).and_then(read) {
            Some(value) => Cell::Value(value),
            None => {
                self.unreadable(cell, field, problem);
                Cell::Null
            }
        }
    }

    #[cold]
    fn unreadable(&mut self, cell: &[u8], field: &str, problem: &str) {
        let problem = if cell.is_empty() { "empty" } else { problem };
        self.quality.push(Quality::new(field, problem, &String::from_utf8_lossy(cell)));
    }
}

#[cfg(test)]
mod tests;
