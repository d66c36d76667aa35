//! The Fire Program Analysis fire-occurrence database (FPA FOD) as CSV: fires of the United States since 1992 [S6], out of
//! files or polled from an address of one's own.

mod poll;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{Id, Records, Source, identify};
use crate::decode::head::Mark;
use crate::decode::named::{Named, date, number};
use crate::decode::sensor::measures::shown;
use crate::decode::table::{Table, TableRow};
use crate::decode::{Context, Format, Row, Rows, short};
use crate::error::{Reason, Reject};
use crate::record::{Data, Geometry, Observation, Origin, Position, SourceId, Tier, Topic};

pub use poll::Config;
pub(super) use poll::{SERVICE, connector};

/// As statistical programs and databases write a cell without a value.
const NOTHING: [&str; 4] = ["NA", "NaN", "NULL", "None"];

pub(super) static SOURCE: Source = Source {
    ids: &[Id {
        pattern: "historical_fpa_fod*",
        name: "FPA fire-occurrence database",
        tier: Tier::Low,
        topic: Topic::HISTORICAL,
    }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<Occurrence>(),
        key: &["data.fire_id"],
        in_order: false,
        lasting: false,
    }),
    service: None,
};

/// FPA FOD's table, whole or with some of its columns.
pub const FORMAT: Format = Format::new("fpa_fod", rows)
    .known_by(&[Mark::names("historical_fpa_fod", &["DISCOVERY_DATE", "LATITUDE", "LONGITUDE", "FIRE_SIZE"])]);

/// One fire that happened. The file tells days and local times without a zone: `observed_at` is the beginning of the day of the
/// discovery in UTC, and the local times stand here as they were told. `NA` and empty cells are null.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "FireOccurrence", deny_unknown_fields)]
pub struct Occurrence {
    /// `FOD_ID`; else `FPA_ID`; else the cells STATE, COUNTY, LATITUDE, LONGITUDE, DISCOVERY_DATE, DISCOVERY_TIME, FIRE_SIZE and
    /// the code of the cause as the file has them, with commas between.
    pub fire_id: String,
    /// `FOD_ID`.
    pub fod_id: Option<String>,
    /// `FPA_ID`.
    pub fpa_id: Option<String>,
    /// Name for people.
    pub fire_name: Option<String>,
    /// The year of the discovery as the file tells it.
    pub fire_year: Option<u64>,
    /// Day of the discovery, YYYY-MM-DD, from the file's Julian day number.
    #[schemars(with = "String")]
    pub discovery_date: Date,
    /// Local time of the discovery, HHMM; null also where fewer than three digits leave open whether they are minutes or hours.
    #[schemars(regex(pattern = "^[0-9]{4}$"))]
    pub discovery_time: Option<String>,
    /// Day of the containment, YYYY-MM-DD.
    #[schemars(with = "Option<String>")]
    pub containment_date: Option<Date>,
    /// Local time of the containment, HHMM, as the time of the discovery.
    #[schemars(regex(pattern = "^[0-9]{4}$"))]
    pub containment_time: Option<String>,
    /// Final size in acres.
    pub fire_size_acres: Option<f64>,
    /// `A` (up to 0.25 acres) to `G` (5,000 acres and more).
    pub fire_size_class: Option<String>,
    /// Number of the statistical cause.
    pub cause_code: Option<u64>,
    /// Statistical cause in words.
    pub cause: Option<String>,
    /// Later editions: `Human`, `Natural` or missing data.
    pub cause_class: Option<String>,
    /// Later editions: cause in words.
    pub general_cause: Option<String>,
    /// Later editions: `Minor` where children caused it.
    pub cause_age: Option<String>,
    /// Two letters.
    pub state: Option<String>,
    /// Name or number of the county, as the reporting agency wrote it.
    pub county: Option<String>,
    /// FIPS code of the county, three digits within its state or five.
    pub fips_code: Option<String>,
    /// Name of the county.
    pub fips_name: Option<String>,
    /// Number of the owner of the land where it began.
    pub owner_code: Option<u64>,
    /// Owner of the land where it began.
    pub owner: Option<String>,
    /// `FED`, `NONFED` or `INTERAGCY`.
    pub source_system_type: Option<String>,
    /// Where it was reported.
    pub source_system: Option<String>,
    /// NWCG's name of the reporting agency.
    pub reporting_agency: Option<String>,
    /// NWCG's id of the reporting unit.
    pub reporting_unit_id: Option<String>,
    /// Name of the reporting unit.
    pub reporting_unit: Option<String>,
    /// The reporting unit by its own agency's code.
    pub source_reporting_unit: Option<String>,
    /// The reporting unit by its own agency's name.
    pub source_reporting_unit_name: Option<String>,
    /// The report's number.
    pub local_fire_report_id: Option<String>,
    /// The incident's number.
    pub local_incident_id: Option<String>,
    /// Code for costs.
    pub fire_code: Option<String>,
    /// Incident number of its ICS-209 report.
    pub ics_209_incident_number: Option<String>,
    /// Name in its ICS-209 report.
    pub ics_209_name: Option<String>,
    /// Id in Monitoring Trends in Burn Severity.
    pub mtbs_id: Option<String>,
    /// Name in Monitoring Trends in Burn Severity.
    pub mtbs_fire_name: Option<String>,
    /// Complex that it was part of.
    pub complex_name: Option<String>,
}

fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let refused = |reject: Reject| reject.with_raw(body.clone());
    let table = Table::read(body).map_err(refused)?;
    if !["DISCOVERY_DATE", "LATITUDE", "LONGITUDE", "FIRE_SIZE"].iter().all(|name| table.has(name)) {
        return Err(refused(table.refused("FPA FOD")));
    }
    Ok(Box::new(table.map(move |row| {
        let TableRow { row, origin, mut values, quality } = row?;
        let is_nothing = |value: &Value| {
            value.as_str().is_some_and(|text| NOTHING.iter().any(|none| none.eq_ignore_ascii_case(text.trim())))
        };
        values.values_mut().filter(|value| is_nothing(value)).for_each(|value| *value = Value::Null);
        let (raw, header) = (origin.raw.clone(), origin.header.clone());
        let read = occurrence(Named::new(values, quality), origin, context.source);
        read.map_err(|reject| Reject { header, ..reject.at_row(row).with_raw(raw) })
    })))
}

fn occurrence(mut values: Named, origin: Origin, source: &SourceId) -> Row {
    let v = &mut values;
    let [state, county, latitude, longitude, discovered, time, size, cause] = [
        &["STATE"][..],
        &["COUNTY"],
        &["LATITUDE"],
        &["LONGITUDE"],
        &["DISCOVERY_DATE"],
        &["DISCOVERY_TIME"],
        &["FIRE_SIZE"],
        &["STAT_CAUSE_CODE", "CAUSE_CODE"],
    ]
    .map(|names| v.take(names[0], names).map(|cell| shown(&cell).trim().to_owned()));
    let fod_id = v.text("fod_id", &["FOD_ID"]).map(|id| without_fraction(&id).to_owned());
    let fpa_id = v.text("fpa_id", &["FPA_ID"]);
    let cells = [&state, &county, &latitude, &longitude, &discovered, &time, &size, &cause];
    let fire_id = fod_id
        .clone()
        .or_else(|| fpa_id.clone())
        .unwrap_or_else(|| cells.map(|cell| cell.as_deref().unwrap_or_default()).join(","));
    let discovery_date = discovered.as_deref().and_then(day).ok_or_else(|| {
        let detail = format!("DISCOVERY_DATE {:?} is not a day", short(discovered.as_deref().unwrap_or_default()));
        Reject::new(Reason::BadTime, detail)
    })?;
    let observed_at = TimeZone::UTC
        .to_timestamp(discovery_date.to_datetime(Time::midnight()))
        .map_err(|_| Reject::new(Reason::BadTime, format!("DISCOVERY_DATE {discovery_date} is not a time")))?;
    let position = position(latitude.as_deref(), longitude.as_deref(), v)?;
    let contained = v.text("containment_date", &["CONT_DATE"]);
    let containment_date = contained.as_deref().and_then(day);
    if let (Some(text), None) = (&contained, containment_date) {
        v.note("containment_date", "is not a day", text);
    }
    for (name, date) in [("DISCOVERY_DOY", Some(discovery_date)), ("CONT_DOY", containment_date)] {
        let told = v.count(name, &[name]);
        let (Some(told), Some(date)) = (told, date) else { continue };
        if u64::try_from(date.day_of_year()) != Ok(told) {
            v.note(name, "is not the day of the year of its date, which is used", &told.to_string());
        }
    }
    let contained_time = v.text("containment_time", &["CONT_TIME"]);
    let code = |text: Option<&str>, field: &str, v: &mut Named| {
        let read: Option<u64> = text.and_then(|text| without_fraction(text).parse().ok());
        if let (Some(text), None) = (text, read) {
            v.note(field, "is not a whole number", text);
        }
        read
    };
    let owner = v.text("owner_code", &["OWNER_CODE"]);
    let data = Occurrence {
        fire_id,
        fod_id,
        fpa_id,
        fire_name: v.text("fire_name", &["FIRE_NAME"]),
        fire_year: v.count("fire_year", &["FIRE_YEAR"]),
        discovery_date,
        discovery_time: time.and_then(|text| time_of_day(&text, "discovery_time", v)),
        containment_date,
        containment_time: contained_time.and_then(|text| time_of_day(&text, "containment_time", v)),
        fire_size_acres: acres(size, v),
        fire_size_class: v.text("fire_size_class", &["FIRE_SIZE_CLASS"]),
        cause_code: code(cause.as_deref(), "cause_code", v),
        cause: v.text("cause", &["STAT_CAUSE_DESCR", "CAUSE_DESCR"]),
        cause_class: v.text("cause_class", &["NWCG_CAUSE_CLASSIFICATION"]),
        general_cause: v.text("general_cause", &["NWCG_GENERAL_CAUSE"]),
        cause_age: v.text("cause_age", &["NWCG_CAUSE_AGE_CATEGORY"]),
        state,
        county,
        fips_code: v.text("fips_code", &["FIPS_CODE"]),
        fips_name: v.text("fips_name", &["FIPS_NAME"]),
        owner_code: code(owner.as_deref(), "owner_code", v),
        owner: v.text("owner", &["OWNER_DESCR"]),
        source_system_type: v.text("source_system_type", &["SOURCE_SYSTEM_TYPE"]),
        source_system: v.text("source_system", &["SOURCE_SYSTEM"]),
        reporting_agency: v.text("reporting_agency", &["NWCG_REPORTING_AGENCY"]),
        reporting_unit_id: v.text("reporting_unit_id", &["NWCG_REPORTING_UNIT_ID"]),
        reporting_unit: v.text("reporting_unit", &["NWCG_REPORTING_UNIT_NAME"]),
        source_reporting_unit: v.text("source_reporting_unit", &["SOURCE_REPORTING_UNIT"]),
        source_reporting_unit_name: v.text("source_reporting_unit_name", &["SOURCE_REPORTING_UNIT_NAME"]),
        local_fire_report_id: v.text("local_fire_report_id", &["LOCAL_FIRE_REPORT_ID"]),
        local_incident_id: v.text("local_incident_id", &["LOCAL_INCIDENT_ID"]),
        fire_code: v.text("fire_code", &["FIRE_CODE"]),
        ics_209_incident_number: v.text("ics_209_incident_number", &["ICS_209_INCIDENT_NUMBER"]),
        ics_209_name: v.text("ics_209_name", &["ICS_209_NAME"]),
        mtbs_id: v.text("mtbs_id", &["MTBS_ID"]),
        mtbs_fire_name: v.text("mtbs_fire_name", &["MTBS_FIRE_NAME"]),
        complex_name: v.text("complex_name", &["COMPLEX_NAME"]),
    };
    // The row's number in the database's table.
    v.take("OBJECTID", &["OBJECTID"]);
    identify(Observation {
        origin,
        source: source.clone(),
        observed_at,
        published_at: None,
        geometry: position.map(Geometry::Point),
        position,
        derived_from: None,
        quality: values.finish(),
        alert: None,
        data: Data::of(&data)?,
        rank: 0,
    })
}

/// # Errors
/// `bad_latitude`, `bad_longitude` for a coordinate that is there and is none, and for (0, 0), where empty ones end up.
fn position(latitude: Option<&str>, longitude: Option<&str>, values: &mut Named) -> Result<Option<Position>, Reject> {
    let (Some(latitude), Some(longitude)) = (latitude, longitude) else {
        values.note("position", "is not told", "");
        return Ok(None);
    };
    let degrees = |text: &str, name: &str, reason| {
        let read = text.parse::<f64>();
        read.map_err(|_| Reject::new(reason, format!("{name} {:?} is not a number", short(text))))
    };
    let position = Position::new(
        degrees(latitude, "LATITUDE", Reason::BadLatitude)?,
        degrees(longitude, "LONGITUDE", Reason::BadLongitude)?,
    )?;
    if position.latitude() == 0.0 && position.longitude() == 0.0 {
        return Err(Reject::new(Reason::BadLatitude, "LATITUDE and LONGITUDE are both 0"));
    }
    Ok(Some(position))
}

fn acres(text: Option<String>, values: &mut Named) -> Option<f64> {
    let text = text?;
    let read = number(&text.as_str().into());
    if read.is_none() {
        values.note("fire_size_acres", "is not a number", &text);
    }
    read
}

/// 1970-01-01 at midnight.
const EPOCH: f64 = 2_440_587.5;

/// A day: a Julian day number of a midnight, which ends with .5, or a date with a midnight behind it or not.
fn day(text: &str) -> Option<Date> {
    if let Ok(julian) = text.parse::<f64>() {
        let days = julian - EPOCH;
        // From 1900 to 2100: what else a number could be is no day of this database.
        let whole = days.fract() == 0.0 && (-25_567.0..47_847.0).contains(&days);
        return whole.then(|| Date::constant(1970, 1, 1).checked_add(jiff::Span::new().days(days as i64)).ok())?;
    }
    let day = ["T00:00:00Z", "T00:00:00", " 00:00:00", " 0:00:00", " 0:00"]
        .iter()
        .find_map(|midnight| text.strip_suffix(midnight))
        .unwrap_or(text);
    date(day)
}

/// HHMM, also with a leading zero missing; a spreadsheet may have made a fraction of it.
fn time_of_day(text: &str, field: &str, values: &mut Named) -> Option<String> {
    let digits = without_fraction(text);
    let read = digits.parse::<u32>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let problem = match read {
        Some(_) if digits.len() < 3 => "has fewer than three digits: minutes or hours, the file does not tell",
        Some(read) if digits.len() <= 4 && read / 100 < 24 && read % 100 < 60 => return Some(format!("{read:04}")),
        _ => "is not a time of day HHMM",
    };
    values.note(field, problem, text);
    None
}

fn without_fraction(number: &str) -> &str {
    number.strip_suffix(".0").unwrap_or(number)
}
