//! NASA FIRMS CSV of any product → drafts [S1, S9, S12]. What is data is judged by the header line alone; columns are found
//! by name; one line is one row, so that damage never reaches the next. No source is polled here.

use std::ops::Range;

use bytes::Bytes;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::decode::encoding::without_mark;
use crate::decode::{Context, Rows, short};
use crate::error::{Reason, Reject};
use crate::record::{Data, Draft, EventId, Geometry, Position, Quality, SourceId, content_hash};
use crate::time::Timestamp;

/// A column's cell: a file without the column is told from a row whose cell is empty or unreadable [S9].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<T> {
    /// The file has no such column: the field is left out.
    Absent,
    /// Empty or unreadable: the field is null.
    Null,
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
    /// Date of the observation in UTC, as written.
    pub acq_date: &'a str,
    /// Time of the observation in UTC as HHMM, as written: leading zeros may be missing.
    pub acq_time: &'a str,
    /// The satellite as written: `N`, `N20`, `1`, `Terra`, `L8` and others.
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
    pub position: Position,
    pub observed_at: Timestamp,
    pub source: SourceId,
    pub detection: Detection<'a>,
    pub quality: Vec<Quality>,
}

/// The drafts of `body`, row by row.
///
/// # Errors
/// `not_data` when the first line is no FIRMS header: an error text, a log-in page, another table [S1].
pub fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let mut readings = Readings::new(body, context.source)?;
    Ok(Box::new(std::iter::from_fn(move || {
        let reading = readings.next()?;
        Some(reading.and_then(|reading| readings.draft(reading)))
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
    /// The current row's cells, blanks around them removed.
    cells: Vec<&'a [u8]>,
    row: u64,
    calendar: Calendar<'a>,
    satellites: Satellites<'a>,
}

impl<'a> Readings<'a> {
    /// `source` is the stream's: it stands for a row whose satellite says nothing.
    pub fn new(body: &'a Bytes, source: &'a SourceId) -> Result<Readings<'a>, Reject> {
        let mut lines = Lines { rest: without_mark(body) };
        let header = Header::read(&mut lines).map_err(|reject| reject.with_raw(body.clone()))?;
        Ok(Readings {
            body,
            header,
            lines,
            cells: Vec::new(),
            row: 0,
            calendar: Calendar::default(),
            satellites: Satellites { stream: source, last: None },
        })
    }

    /// Identity and content over the texts of the row just read, as the source wrote them [S12].
    fn draft(&self, reading: Reading<'a>) -> Result<Draft, Reject> {
        let at = &self.header.at;
        let key = [at.latitude, at.longitude, at.acq_date, at.acq_time, at.satellite];
        let event = EventId::of(&reading.source, key.map(|column| self.cells[column]));
        Ok(Draft {
            source_name: name_of(&reading.source),
            event,
            content: content_hash(&self.cells[..self.header.columns]),
            observed_at: reading.observed_at,
            published_at: None,
            geometry: Some(Geometry::Point(reading.position)),
            position: Some(reading.position),
            derived_from: None,
            alert: None,
            data: Data::of(&reading.detection)?,
            quality: reading.quality,
            source: reading.source,
        })
    }

    fn read(&mut self) -> Result<Reading<'a>, Reject> {
        let (cells, at) = (&self.cells, &self.header.at);
        if cells.len() < self.header.columns {
            let detail = format!("{} of {} columns", cells.len(), self.header.columns);
            return Err(Reject::new(Reason::ShortRow, detail));
        }
        let text = |column: usize| std::str::from_utf8(cells[column]).unwrap_or_default();
        let degrees = |column: usize, name: &str, reason| {
            let read = text(column).parse::<f64>();
            read.map_err(|_| Reject::new(reason, format!("{name} {:?} is not a number", shorten(cells[column]))))
        };
        let position = Position::new(
            degrees(at.latitude, "latitude", Reason::BadLatitude)?,
            degrees(at.longitude, "longitude", Reason::BadLongitude)?,
        )?;
        let observed_at = self.calendar.time(cells[at.acq_date], cells[at.acq_time])?;

        let mut row = Row { cells, quality: Vec::new() };
        let source = self.satellites.source(&mut row, at.satellite)?;
        let detection = Detection {
            bright_ti4: row.number(at.bright_ti4, "bright_ti4"),
            bright_ti5: row.number(at.bright_ti5, "bright_ti5"),
            brightness: row.number(at.brightness, "brightness"),
            bright_t31: row.number(at.bright_t31, "bright_t31"),
            frp: row.number(at.frp, "frp"),
            scan: row.number(at.scan, "scan"),
            track: row.number(at.track, "track"),
            path: row.count(at.path, "path"),
            row: row.count(at.row, "row"),
            acq_date: text(at.acq_date),
            acq_time: text(at.acq_time),
            satellite: row.text(Some(at.satellite), "satellite"),
            instrument: row.text(at.instrument, "instrument"),
            confidence: row.text(at.confidence, "confidence"),
            confidence_percent: match at.brightness {
                Some(_) => row.number(at.confidence, "confidence_percent"),
                None => Cell::Absent,
            },
            version: row.text(at.version, "version"),
            daynight: row.text(at.daynight, "daynight"),
            kind: row.count(at.kind, "type"),
            country_id: row.text(at.country_id, "country_id"),
        };
        Ok(Reading { position, observed_at, source, detection, quality: row.quality })
    }
}

impl<'a> Iterator for Readings<'a> {
    type Item = Result<Reading<'a>, Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next()?;
        self.row += 1;
        split(line, &mut self.cells);
        let row = self.row;
        Some(self.read().map_err(|reject| reject.at_row(row).with_raw(self.body.slice_ref(line))))
    }
}

/// The cells of one row beside what is wrong with them.
struct Row<'r, 'a> {
    cells: &'r [&'a [u8]],
    quality: Vec<Quality>,
}

impl<'a> Row<'_, 'a> {
    fn number(&mut self, column: Option<usize>, field: &str) -> Cell<f64> {
        self.cell(column, field, "not a number", |text| text.parse().ok().filter(|n: &f64| n.is_finite()))
    }

    fn count(&mut self, column: Option<usize>, field: &str) -> Cell<u32> {
        self.cell(column, field, "not a whole number", |text| text.parse().ok())
    }

    fn text(&mut self, column: Option<usize>, field: &str) -> Cell<&'a str> {
        self.cell(column, field, "not readable", Some)
    }

    fn cell<T>(
        &mut self,
        column: Option<usize>,
        field: &str,
        problem: &str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Cell<T> {
        let Some(column) = column else { return Cell::Absent };
        let cell = self.cells[column];
        let problem = match cell {
            [] => "empty",
            _ => match std::str::from_utf8(cell).ok().and_then(read) {
                Some(value) => return Cell::Value(value),
                None => problem,
            },
        };
        self.quality.push(Quality::new(field, problem, &String::from_utf8_lossy(cell)));
        Cell::Null
    }
}

/// Where each column stands.
#[derive(Debug, Clone, Copy)]
struct At {
    latitude: usize,
    longitude: usize,
    acq_date: usize,
    acq_time: usize,
    satellite: usize,
    bright_ti4: Option<usize>,
    bright_ti5: Option<usize>,
    brightness: Option<usize>,
    bright_t31: Option<usize>,
    frp: Option<usize>,
    scan: Option<usize>,
    track: Option<usize>,
    path: Option<usize>,
    row: Option<usize>,
    instrument: Option<usize>,
    confidence: Option<usize>,
    version: Option<usize>,
    daynight: Option<usize>,
    kind: Option<usize>,
    country_id: Option<usize>,
}

#[derive(Debug)]
struct Header {
    columns: usize,
    at: At,
}

impl Header {
    fn read(lines: &mut Lines<'_>) -> Result<Header, Reject> {
        let line = lines.next().ok_or_else(|| Reject::new(Reason::NotData, "the body is empty"))?;
        let mut names = Vec::new();
        split(line, &mut names);
        let find = |name: &str| names.iter().position(|cell| cell.eq_ignore_ascii_case(name.as_bytes()));
        let columns = names.len();
        let read = || {
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
            Some(Header { columns, at })
        };
        read().ok_or_else(|| Reject::new(Reason::NotData, format!("no FIRMS header line: {:?}", shorten(line))))
    }
}

/// Lines without their ends (LF, CRLF or CR), blank ones left out.
struct Lines<'a> {
    rest: &'a [u8],
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
    if !line.contains(&b'"') {
        let mut start = 0;
        for comma in memchr::memchr_iter(b',', line) {
            cells.push(line[start..comma].trim_ascii());
            start = comma + 1;
        }
        cells.push(line[start..].trim_ascii());
        return;
    }
    let mut quoted = false;
    for cell in line.split(|&byte| {
        quoted ^= byte == b'"';
        byte == b',' && !quoted
    }) {
        let cell = cell.trim_ascii();
        cells.push(cell.strip_prefix(b"\"").and_then(|cell| cell.strip_suffix(b"\"")).unwrap_or(cell).trim_ascii());
    }
}

/// Dates and times of day → moments in UTC. Neighbouring rows share their date, so that its conversion is kept.
#[derive(Debug, Default)]
pub struct Calendar<'a> {
    last: Option<(&'a [u8], i64)>,
}

impl<'a> Calendar<'a> {
    /// `date` as YYYY-MM-DD, `time` as HHMM with leading zeros missing or not.
    ///
    /// # Errors
    /// `bad_time` for what is neither a day of the calendar nor a time of day.
    pub fn time(&mut self, date: &'a [u8], time: &[u8]) -> Result<Timestamp, Reject> {
        let bad = |name: &str, text: &[u8], rule: &str| {
            Reject::new(Reason::BadTime, format!("{name} {:?} is {rule}", shorten(text)))
        };
        let midnight = match self.last {
            Some((known, seconds)) if known == date => seconds,
            _ => {
                let seconds = midnight(date).ok_or_else(|| bad("acq_date", date, "no date YYYY-MM-DD"))?;
                self.last = Some((date, seconds));
                seconds
            }
        };
        let minutes = minutes(time).ok_or_else(|| bad("acq_time", time, "no time of day HHMM"))?;
        Timestamp::from_second(midnight + i64::from(minutes) * 60).map_err(|_| bad("acq_date", date, "out of range"))
    }
}

fn midnight(date: &[u8]) -> Option<i64> {
    let &[_, _, _, _, b'-', _, _, b'-', _, _] = date else { return None };
    let part = |range: Range<usize>| digits(&date[range]).and_then(|n| i16::try_from(n).ok());
    let (month, day) = (part(5..7)?, part(8..10)?);
    let date = Date::new(part(0..4)?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    TimeZone::UTC.to_timestamp(date.to_datetime(Time::midnight())).ok().map(Timestamp::as_second)
}

/// Minutes since midnight of one to four digits.
fn minutes(time: &[u8]) -> Option<u32> {
    let number = digits(time).filter(|_| time.len() <= 4)?;
    let (hour, minute) = (number / 100, number % 100);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

fn digits(text: &[u8]) -> Option<u32> {
    let fits = (1..=9).contains(&text.len());
    (fits && text.iter().all(u8::is_ascii_digit)).then(|| text.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')))
}

/// The ids that a satellite's rows are published under, with the names in words.
const SOURCES: [(&str, &str); 6] = [
    ("firms_viirs_snpp", "NASA FIRMS VIIRS S-NPP"),
    ("firms_viirs_noaa20", "NASA FIRMS VIIRS NOAA-20"),
    ("firms_viirs_noaa21", "NASA FIRMS VIIRS NOAA-21"),
    ("firms_modis_terra", "NASA FIRMS MODIS Terra"),
    ("firms_modis_aqua", "NASA FIRMS MODIS Aqua"),
    ("landsat_nrt", "NASA FIRMS Landsat"),
];

/// A bulk archive is published as one source of its own, whatever satellites it holds [S6, P2].
const ARCHIVE: &str = "historical_";

fn name_of(source: &SourceId) -> &'static str {
    if source.as_str().starts_with(ARCHIVE) {
        return "NASA FIRMS archive";
    }
    SOURCES.iter().find(|(id, _)| *id == source.as_str()).map_or("NASA FIRMS", |(_, name)| name)
}

/// The id that a satellite's text stands for, however it is spelled.
fn id_of(satellite: &[u8]) -> Option<&'static str> {
    let mut plain = [0; 12];
    let mut length = 0;
    for byte in satellite.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
        *plain.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    match &plain[..length] {
        b"n" | b"npp" | b"snpp" | b"suominpp" => Some("firms_viirs_snpp"),
        b"n20" | b"1" | b"j1" | b"jpss1" | b"noaa20" => Some("firms_viirs_noaa20"),
        b"n21" | b"2" | b"j2" | b"jpss2" | b"noaa21" => Some("firms_viirs_noaa21"),
        b"t" | b"terra" => Some("firms_modis_terra"),
        b"a" | b"aqua" => Some("firms_modis_aqua"),
        b"l8" | b"l9" | b"landsat8" | b"landsat9" => Some("landsat_nrt"),
        _ => None,
    }
}

/// Satellite → source id [S1]; neighbouring rows share their satellite.
struct Satellites<'a> {
    stream: &'a SourceId,
    last: Option<(&'a [u8], SourceId)>,
}

impl<'a> Satellites<'a> {
    fn source(&mut self, row: &mut Row<'_, 'a>, column: usize) -> Result<SourceId, Reject> {
        let satellite = row.cells[column];
        if self.stream.as_str().starts_with(ARCHIVE) {
            return Ok(self.stream.clone());
        }
        if let Some((known, source)) = &self.last
            && *known == satellite
        {
            return Ok(source.clone());
        }
        if let Some(source) = id_of(satellite).and_then(|id| SourceId::new(id).ok()) {
            self.last = Some((satellite, source.clone()));
            return Ok(source);
        }
        let id = self.stream.as_str();
        if !id.starts_with("firms_") && id != "landsat_nrt" {
            let detail = format!("satellite {:?} is not known, and {id} is no FIRMS source", shorten(satellite));
            return Err(Reject::new(Reason::MissingField, detail));
        }
        if !satellite.is_empty() {
            let text = String::from_utf8_lossy(satellite);
            row.quality.push(Quality::new("satellite", "not a known satellite: the stream's source is kept", &text));
        }
        Ok(self.stream.clone())
    }
}

/// The start of a text that nobody vouches for, for people to read.
fn shorten(text: &[u8]) -> String {
    short(&String::from_utf8_lossy(&text[..text.len().min(120)]))
}

#[cfg(test)]
mod tests;
