//! AirNow's three forms: the hourly file by parameter, bars between its columns and no header; the hourly file by site, a table;
//! and the API's JSON. Each becomes one record a site, hour and parameter, so that an hour's value is one event whichever way
//! it came [S12, S17].

use bytes::Bytes;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::{AirQuality, SiteStatus, State};
use crate::decode::items::{Document, Item};
use crate::decode::named::{Named, number};
use crate::decode::sensor::measures::shown;
use crate::decode::sensor::units::{Dimension, Unit};
use crate::decode::table::Table;
use crate::decode::{Context, Row, Rows, encoding, short};
use crate::error::{Reason, Reject};
use crate::record::{Data, Draft, Geometry, Observation, Origin, Position, Quality};
use crate::sources::identify;
use crate::time::Timestamp;

/// Columns of the file by parameter.
const COLUMNS: [&str; 9] =
    ["ValidDate", "ValidTime", "AQSID", "SiteName", "GMTOffset", "Parameter", "Unit", "Value", "DataSource"];

/// Parameters that the file by site has columns for, as these name them.
const OF_A_SITE: [&str; 6] = ["PM25", "PM10", "OZONE", "NO2", "CO", "SO2"];

/// What AirNow writes for no value.
const MISSING: f64 = -900.0;
/// Beyond this nothing is measured, in any unit.
const POSSIBLE: f64 = 1e9;

/// A parameter: its names as letters and digits, that of our records, what it is measured in, and our unit with its factor.
struct Parameter {
    names: &'static [&'static str],
    name: &'static str,
    dimension: Dimension,
    unit: &'static str,
    factor: f64,
    /// Below zero it is no value.
    is_amount: bool,
}

const fn amount(
    names: &'static [&'static str],
    name: &'static str,
    dimension: Dimension,
    unit: &'static str,
) -> Parameter {
    Parameter { names, name, dimension, unit, factor: 1.0, is_amount: true }
}

/// Gases are published in ppb.
const fn gas(names: &'static [&'static str], name: &'static str) -> Parameter {
    Parameter { factor: 1_000.0, ..amount(names, name, Dimension::Gas, "ppb") }
}

static PARAMETERS: [Parameter; 15] = [
    amount(&["PM25"], "PM2.5", Dimension::Particles, "ug/m3"),
    amount(&["PM10"], "PM10", Dimension::Particles, "ug/m3"),
    gas(&["OZONE", "O3"], "OZONE"),
    gas(&["NO2"], "NO2"),
    gas(&["NO"], "NO"),
    gas(&["NOX"], "NOX"),
    gas(&["NOY"], "NOY"),
    gas(&["SO2"], "SO2"),
    gas(&["CO"], "CO"),
    amount(&["RHUM", "RH"], "RHUM", Dimension::Share, "percent"),
    amount(&["WS"], "WS", Dimension::Speed, "m/s"),
    amount(&["WD"], "WD", Dimension::Direction, "deg"),
    amount(&["PRECIP"], "PRECIP", Dimension::Rain, "mm"),
    Parameter { is_amount: false, ..amount(&["TEMP"], "TEMP", Dimension::Temperature, "degC") },
    amount(&["BARPR", "PRESSURE"], "BARPR", Dimension::Pressure, "hPa"),
];

/// The rows of any of the three forms, of sites in these states alone if there are some.
///
/// # Errors
/// `not_data` for a body without anything, or of another form; `bad_json`.
pub(in crate::sources) fn rows<'a>(
    body: &'a Bytes,
    context: Context<'a>,
    states: Option<&'a [String]>,
) -> Result<Rows<'a>, Reject> {
    let is_wanted = move |site: &str| states.is_none_or(|states| states.iter().any(|state| site.starts_with(state)));
    let refused = |reject: Reject| reject.with_raw(body.clone());
    let text = encoding::without_mark(body).trim_ascii_start();
    let line = text.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    match text.first() {
        None => {
            let detail = "the file is empty: it says nothing of its hour, not that nothing was measured";
            Err(refused(Reject::new(Reason::NotData, detail)))
        }
        Some(b'[' | b'{') => {
            let items = Document::read_or_one(body, &["data"], &["Parameter"]).map_err(|reject| {
                let detail =
                    format!("{}: {}", reject.detail, short(&String::from_utf8_lossy(&text[..text.len().min(400)])));
                refused(Reject { detail, ..reject })
            })?;
            Ok(Box::new(items.enumerate().filter_map(move |(n, item)| {
                let row = of_api(&item, context, is_wanted).transpose()?;
                Some(row.map_err(|reject| reject.at_row(n as u64 + 1).with_raw(item)))
            })))
        }
        Some(_) if line.iter().filter(|byte| **byte == b'|').count() > 2 => {
            Ok(Box::new(lines(body.slice_ref(text)).enumerate().filter_map(move |(n, line)| {
                let row = of_line(&line, context, is_wanted).transpose()?;
                Some(row.map_err(|reject| reject.at_row(n as u64 + 1).with_raw(line)))
            })))
        }
        Some(_) => {
            let table = Table::read(body).map_err(refused)?;
            if !["AQSID", "ValidDate", "ValidTime"].iter().all(|name| table.has(name)) {
                return Err(refused(
                    table.refused("AirNow's hourly file by site, nor does it have the bars of that by parameter"),
                ));
            }
            Ok(Box::new(table.flat_map(move |row| match row {
                Err(reject) => vec![Err(reject)],
                Ok(row) => {
                    let (number, origin) = (row.row, row.origin.clone());
                    let values = Named::new(row.values, row.quality);
                    let records =
                        of_site(values, &origin, context, is_wanted).unwrap_or_else(|reject| vec![Err(reject)]);
                    let told = |reject: Reject| {
                        let reject = reject.at_row(number).with_raw(origin.raw.clone());
                        origin.header.as_ref().map_or(reject.clone(), |header| reject.under(header))
                    };
                    records.into_iter().map(|record| record.map_err(&told)).collect()
                }
            })))
        }
    }
}

/// The lines of a text that hold something.
fn lines(mut text: Bytes) -> impl Iterator<Item = Bytes> + Send {
    let lines = std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', &text).map_or(text.len(), |end| end + 1);
        let line = text.split_to(end);
        Some(line.slice_ref(line.trim_ascii()))
    });
    lines.filter(|line| !line.is_empty())
}

/// One value before it is judged.
struct Told {
    site: Site,
    at: Timestamp,
    parameter: String,
    value: Option<f64>,
    unit: Option<String>,
    aqi: Option<f64>,
    raw_value: Option<f64>,
}

/// What is told of a site.
#[derive(Debug, Clone, Default)]
struct Site {
    format: &'static str,
    id: String,
    name: Option<String>,
    agency: Option<String>,
    status: Option<SiteStatus>,
    position: Option<Position>,
    elevation_m: Option<f64>,
    gmt_offset_h: Option<f64>,
    country: Option<String>,
    state_name: Option<String>,
    reporting_areas: Option<String>,
}

impl Site {
    fn record(&self) -> AirQuality {
        let Site { name, agency, country, state_name, reporting_areas, .. } = self.clone();
        AirQuality {
            format: self.format,
            site_id: self.id.clone(),
            site_name: name,
            site_status: self.status,
            agency,
            country,
            state_name,
            reporting_areas,
            elevation_m: self.elevation_m,
            gmt_offset_h: self.gmt_offset_h,
            parameter: None,
            state: State::NotMeasured,
            value: None,
            unit: None,
            raw_value: None,
            aqi: None,
        }
    }
}

/// A line of the file by parameter; `None` for a site that is not asked for.
fn of_line(line: &Bytes, context: Context<'_>, is_wanted: impl Fn(&str) -> bool) -> Result<Option<Draft>, Reject> {
    let text: String = match std::str::from_utf8(line) {
        Ok(text) => text.to_owned(),
        // It is written so for names in Spanish and French.
        Err(_) => line.iter().map(|byte| char::from(*byte)).collect(),
    };
    let cells: Vec<&str> = text.split('|').collect();
    if cells.len() != COLUMNS.len() {
        return Err(Reject::new(Reason::ShortRow, format!("{} of {} columns", cells.len(), COLUMNS.len())));
    }
    let values: Map<String, Value> =
        COLUMNS.iter().zip(cells).map(|(name, cell)| ((*name).to_owned(), cell.into())).collect();
    let mut v = Named::new(values, Vec::new());
    let id = site_id(&mut v, &["AQSID"])?;
    if !is_wanted(&id) {
        return Ok(None);
    }
    let at = hour(&mut v)?;
    let site = Site {
        format: "hourly-data",
        id,
        name: v.text("site_name", &["SiteName"]),
        agency: v.text("agency", &["DataSource"]),
        gmt_offset_h: v.number("gmt_offset_h", &["GMTOffset"]),
        ..Site::default()
    };
    let told = Told {
        site,
        at,
        parameter: parameter_name(&mut v)?,
        value: v.number("value", &["Value"]),
        unit: v.text("unit", &["Unit"]),
        aqi: None,
        raw_value: None,
    };
    record(told, v.finish(), &Origin::of(line.clone()), context).map(Some)
}

/// An item of the API; `None` for a site that is not asked for.
fn of_api(item: &Bytes, context: Context<'_>, is_wanted: impl Fn(&str) -> bool) -> Result<Option<Draft>, Reject> {
    let Item { values, quality, .. } = Item::read(item)?;
    let mut v = Named::new(values, quality);
    let id = match site_id(&mut v, &["FullAQSCode"]) {
        Ok(id) => {
            v.take("site_id", &["IntlAQSCode"]);
            id
        }
        Err(_) => site_id(&mut v, &["IntlAQSCode"])?,
    };
    if !is_wanted(&id) {
        return Ok(None);
    }
    let told_at = v.text("observed_at", &["UTC"]).ok_or_else(|| Reject::new(Reason::MissingField, "UTC is missing"))?;
    let at = format!("{}Z", told_at.trim_end_matches('Z')).parse();
    let at = at.map_err(|_| Reject::new(Reason::BadTime, format!("UTC {:?} is not a time", short(&told_at))))?;
    v.take("category", &["Category"]);
    let site = Site {
        format: "api",
        id,
        name: v.text("site_name", &["SiteName"]),
        agency: v.text("agency", &["AgencyName"]),
        position: position(&mut v)?,
        ..Site::default()
    };
    let told = Told {
        site,
        at,
        parameter: parameter_name(&mut v)?,
        value: v.number("value", &["Value"]),
        unit: v.text("unit", &["Unit"]),
        aqi: v.number("aqi", &["AQI"]),
        raw_value: v.number("raw_value", &["RawConcentration"]),
    };
    record(told, v.finish(), &Origin::of(item.clone()), context).map(Some)
}

/// A row of the file by site: a record of each parameter that it measures, or one that says that it measures none.
fn of_site(
    mut v: Named,
    origin: &Origin,
    context: Context<'_>,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Row>, Reject> {
    let id = site_id(&mut v, &["AQSID"])?;
    if !is_wanted(&id) {
        return Ok(Vec::new());
    }
    let at = hour(&mut v)?;
    v.take("epa_region", &["EPARegion"]);
    let status = v.text("site_status", &["Status"]).map(|status| match status.to_ascii_lowercase().as_str() {
        "active" => SiteStatus::Active,
        "inactive" => SiteStatus::Inactive,
        _ => {
            v.note("site_status", "is neither Active nor Inactive", &status);
            SiteStatus::Unknown
        }
    });
    let site = Site {
        format: "hourly-aqobs",
        id,
        name: v.text("site_name", &["SiteName"]),
        agency: v.text("agency", &["DataSource"]),
        status,
        position: position(&mut v)?,
        elevation_m: v.number("elevation_m", &["Elevation"]),
        gmt_offset_h: v.number("gmt_offset_h", &["GMTOffset"]),
        country: v.text("country", &["CountryCode"]),
        state_name: v.text("state_name", &["StateName"]),
        reporting_areas: v.text("reporting_areas", &["ReportingArea_PipeDelimited"]),
    };
    let mut told: Vec<(Told, Vec<Quality>)> = Vec::new();
    for name in OF_A_SITE {
        // What is wrong with a parameter's cells stands in its own record.
        let of_row = std::mem::take(&mut v.quality);
        let [unit, aqi, measured] = ["Unit", "AQI", "Measured"].map(|what| format!("{name}_{what}"));
        let measures = v.flag("state", &[measured.as_str()]);
        let given = v.take("value", &[name]);
        let value = given.as_ref().and_then(number);
        if let (Some(given), None) = (&given, value) {
            v.note("value", "is not a number", &shown(given));
        }
        let (unit, aqi) = (v.text("unit", &[unit.as_str()]), v.number("aqi", &[aqi.as_str()]));
        let is_told = given.is_some() || aqi.is_some();
        if is_told && measures == Some(false) {
            v.note("state", "a value is told of what the site does not measure", "0");
        }
        let own = std::mem::replace(&mut v.quality, of_row);
        if measures == Some(true) || is_told {
            let parameter = name.to_owned();
            told.push((Told { site: site.clone(), at, parameter, value, unit, aqi, raw_value: None }, own));
        }
    }
    let quality = v.finish();
    if told.is_empty() {
        return Ok(vec![published(site.record(), site.position, at, quality, origin, context)]);
    }
    let with_rows = |mut own: Vec<Quality>| {
        own.extend(quality.iter().cloned());
        own
    };
    Ok(told.into_iter().map(|(told, own)| record(told, with_rows(own), origin, context)).collect())
}

/// A value in our unit, or null with the reason.
fn record(told: Told, mut quality: Vec<Quality>, origin: &Origin, context: Context<'_>) -> Row {
    let plain: String = told.parameter.chars().filter(char::is_ascii_alphanumeric).collect();
    let known = PARAMETERS.iter().find(|known| known.names.contains(&plain.to_ascii_uppercase().as_str()));
    let missing = |value: f64| value <= MISSING || (value < 0.0 && known.is_none_or(|known| known.is_amount));
    let mut read = |field: &str, value: Option<f64>| match value {
        Some(value) if missing(value) => {
            quality.push(Quality::new(field, "stands for a value that is missing", &value.to_string()));
            None
        }
        Some(value) if value.abs() > POSSIBLE => {
            quality.push(Quality::new(field, "cannot be right", &value.to_string()));
            None
        }
        other => other,
    };
    let (value, raw_value, aqi) = (read("value", told.value), read("raw_value", told.raw_value), read("aqi", told.aqi));
    let mut data = told.site.record();
    data.aqi = aqi;
    let stated = told.unit.as_deref();
    let unit = known.map(|known| (known, stated.and_then(|text| Unit::read(known.dimension, text))));
    match unit {
        Some((known, Some(unit))) => {
            let converted = |value: f64| (unit.convert(value) * known.factor * 1e4).round() / 1e4;
            data.parameter = Some(known.name.into());
            data.unit = Some(known.unit.into());
            data.value = value.map(converted);
            data.raw_value = raw_value.map(converted);
        }
        Some((known, None)) => {
            data.parameter = Some(known.name.into());
            data.unit = Some(known.unit.into());
            if let Some(value) = value {
                let problem = match stated {
                    Some(unit) => format!("its unit {:?} is not understood", short(unit)),
                    None => "its unit is not told".to_owned(),
                };
                quality.push(Quality::new("value", &problem, &value.to_string()));
            }
        }
        None => {
            let problem = "is not known here: its value stands in the unit as sent";
            quality.push(Quality::new("parameter", problem, &told.parameter));
            data.parameter = Some(told.parameter.clone());
            (data.value, data.raw_value, data.unit) = (value, raw_value, told.unit.clone());
        }
    }
    data.state = if data.value.is_some() { State::Measured } else { State::Missing };
    published(data, told.site.position, told.at, quality, origin, context)
}

fn published(
    data: AirQuality,
    position: Option<Position>,
    at: Timestamp,
    quality: Vec<Quality>,
    origin: &Origin,
    context: Context<'_>,
) -> Row {
    identify(Observation {
        origin: origin.clone(),
        source: context.source.clone(),
        observed_at: at,
        published_at: None,
        geometry: position.map(Geometry::Point),
        position,
        derived_from: None,
        quality,
        alert: None,
        data: Data::of(&data)?,
        // The file by parameter tells of no site where it lies: what it says too must not take the place of a record that does [S12].
        rank: 1 + u8::from(position.is_some()),
    })
}

fn parameter_name(v: &mut Named) -> Result<String, Reject> {
    v.text("parameter", &["Parameter"]).ok_or_else(|| Reject::new(Reason::MissingField, "the parameter is missing"))
}

/// A site's id as text in its shortest form: nine digits in the United States, whose country code 840 the longer form puts before
/// them. A program that took it for a number has lost its leading zero.
fn site_id(v: &mut Named, names: &[&str]) -> Result<String, Reject> {
    let missing = || Reject::new(Reason::MissingField, format!("{} is missing", names.join(" or ")));
    let id = v.text("site_id", names).ok_or_else(missing)?;
    let is_number = id.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && id.len() == 12 && id.starts_with("840") {
        return Ok(id[3..].to_owned());
    }
    if is_number && id.len() == 8 {
        v.note("site_id", "has lost its leading zero", &id);
        return Ok(format!("0{id}"));
    }
    Ok(id)
}

/// The hour's start in UTC: `MM/DD/YY` or `MM/DD/YYYY`, and `HH:MM`.
fn hour(v: &mut Named) -> Result<Timestamp, Reject> {
    let told = [v.text("observed_at", &["ValidDate"]), v.text("observed_at", &["ValidTime"])];
    let [Some(date), Some(time)] = told else {
        return Err(Reject::new(Reason::MissingField, "ValidDate or ValidTime is missing"));
    };
    let read = || {
        let numbers =
            |text: &str, by: char| text.split(by).map(|part| part.parse::<i16>().ok()).collect::<Option<Vec<_>>>();
        let (day, clock) = (numbers(&date, '/')?, numbers(&time, ':')?);
        let ([month, day, year], [hour, minute]) = (&day[..], &clock[..]) else { return None };
        let year = if (0..100).contains(year) { 2000 + year } else { *year };
        let small = |number: i16| i8::try_from(number).ok();
        let date = Date::new(year, small(*month)?, small(*day)?).ok()?;
        let time = Time::new(small(*hour)?, small(*minute)?, 0, 0).ok()?;
        TimeZone::UTC.to_timestamp(date.to_datetime(time)).ok()
    };
    read().ok_or_else(|| {
        Reject::new(Reason::BadTime, format!("{:?} is not a date and time", short(&format!("{date} {time}"))))
    })
}

/// Where a site is; none at (0, 0), which AirNow writes for a site without a place.
fn position(v: &mut Named) -> Result<Option<Position>, Reject> {
    let mut read = |name: &str, reason: Reason| match v.take(name, &[name]) {
        None => Ok(None),
        Some(value) => number(&value)
            .map(Some)
            .ok_or_else(|| Reject::new(reason, format!("{} is not a number", short(&shown(&value))))),
    };
    match (read("Latitude", Reason::BadLatitude)?, read("Longitude", Reason::BadLongitude)?) {
        (Some(latitude), Some(longitude)) if latitude != 0.0 || longitude != 0.0 => {
            Position::new(latitude, longitude).map(Some)
        }
        (None, None) => Ok(None),
        (latitude, longitude) => {
            let told =
                [latitude, longitude].map(|degrees| degrees.map_or("none".into(), |degrees| degrees.to_string()));
            v.note("geometry", "no place without both degrees, and none at (0, 0)", &told.join(", "));
            Ok(None)
        }
    }
}
