//! CAL FIRE's incidents, from the state's public lists and their history [S6]: GeoJSON, the incident page's JSON, and the table of
//! all years. One incident has one id in all of them.

mod poll;
mod position;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{Id, Join, Names, Records, Source, State, identify};
use crate::decode::head::Mark;
use crate::decode::items::{Document, Item};
use crate::decode::named::Named;
use crate::decode::table::{Table, TableRow};
use crate::decode::{Context, Format, Row, Rows, encoding};
use crate::error::{Reason, Reject};
use crate::record::{Data, Geometry, Observation, Origin, Quality, SourceId, Tier, Topic, schema};
use crate::time::{self, Timestamp};

pub use poll::Config;
pub(super) use poll::{SERVICE, connector, list_of, years};

pub(super) static SOURCE: Source = Source {
    ids: &[Id {
        pattern: "calfire_incidents",
        name: "CAL FIRE incidents",
        tier: Tier::Normal,
        topic: Topic::INCIDENTS,
    }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<Incident>(),
        key: &["data.incident_id"],
        in_order: true,
        lasting: true,
    }),
    service: Some(&SERVICE),
};

pub(super) static FIRE: Join = Join::Named(Names {
    ids: &[("calfire", "incident_id")],
    complex: None,
    name: "name",
    counties: "counties",
    state: State::Is("ca"),
    acres: &["acres_burned"],
    out: &["extinguished_at"],
    kinds: Some(("incident_type", &["Wildfire", "Fire"])),
    reach_km: 6.0,
});

/// CAL FIRE's lists of incidents in their three forms.
pub const FORMAT: Format = Format::new("calfire", rows).known_by(&[
    Mark::names("calfire_incidents", &["UniqueId", "AcresBurned"]),
    Mark::names("calfire_incidents", &["incident_id", "incident_date_created", "incident_longitude"]),
]);

/// One incident as CAL FIRE tells it. `observed_at` is when it started, and `published_at` when CAL FIRE last changed it. A field
/// that a list does not have, or that is empty in it, is null.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "CalFireIncident", deny_unknown_fields)]
pub struct Incident {
    /// CAL FIRE's `UniqueId`, a UUID in lower case.
    pub incident_id: String,
    /// Name for people.
    pub name: Option<String>,
    /// `Wildfire`, `Flood` and others.
    pub incident_type: Option<String>,
    /// Whether it still burns or is worked at.
    pub is_active: Option<bool>,
    /// Whether CAL FIRE will change it no more.
    pub is_final: Option<bool>,
    /// Whether CAL FIRE is responsible for it, not another agency.
    pub calfire_incident: Option<bool>,
    /// As CAL FIRE sends it.
    pub notification_desired: Option<bool>,
    /// Of the incident page: among the large ones.
    pub major_incident: Option<bool>,
    /// Start, as sent: RFC 3339 in UTC, milliseconds. CAL FIRE marks its times as UTC; some are local times all the same.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub started_at: Option<Timestamp>,
    /// Local day of the start, YYYY-MM-DD.
    #[schemars(with = "Option<String>")]
    pub started_on: Option<Date>,
    /// The list's own last change of this incident: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub updated_at: Option<Timestamp>,
    /// When it was out: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub extinguished_at: Option<Timestamp>,
    /// Local day on which it was out, YYYY-MM-DD.
    #[schemars(with = "Option<String>")]
    pub extinguished_on: Option<Date>,
    /// Burned area in acres, as sent; null is unknown, not zero.
    pub acres_burned: Option<f64>,
    /// Contained part of the perimeter in percent.
    pub percent_contained: Option<f64>,
    /// Counties that it touches.
    pub counties: Vec<String>,
    /// Place in words.
    pub location: Option<String>,
    /// Degrees, as sent. The record's own position may be mended, or null: then `quality` says so.
    pub latitude: Option<f64>,
    /// Degrees, as sent. The record's own position may be mended, or null: then `quality` says so.
    pub longitude: Option<f64>,
    /// Unit in charge.
    pub admin_unit: Option<String>,
    /// Its page.
    pub admin_unit_url: Option<String>,
    /// Agencies that help, in words.
    pub agencies: Option<String>,
    /// State of control and road closures; markup is removed.
    pub control_statement: Option<String>,
    /// Of the incident page: the situation; markup is removed.
    pub condition_statement: Option<String>,
    /// Of the incident page.
    pub fuel_type: Option<String>,
    /// Of the incident page: what its search shows.
    pub search_description: Option<String>,
    /// Of the incident page: what its search finds it by.
    pub search_keywords: Option<String>,
    /// Of the incident page: `Active`, `Inactive` and others.
    pub status: Option<String>,
    /// The incident's page; of the incident page without its host.
    pub url: Option<String>,
    /// Another agency's page for it.
    pub external_url: Option<String>,
    /// Buildings.
    pub structures_destroyed: Option<u64>,
    /// Buildings.
    pub structures_damaged: Option<u64>,
    /// Buildings.
    pub structures_threatened: Option<u64>,
    /// Buildings.
    pub structures_evacuated: Option<u64>,
    /// People at work.
    pub personnel: Option<u64>,
    /// Crews at work.
    pub crews: Option<u64>,
    /// People hurt.
    pub injuries: Option<u64>,
    /// People killed.
    pub fatalities: Option<u64>,
    /// At work.
    pub helicopters: Option<u64>,
    /// At work.
    pub engines: Option<u64>,
    /// At work.
    pub dozers: Option<u64>,
    /// At work.
    pub water_tenders: Option<u64>,
    /// At work.
    pub air_tankers: Option<u64>,
}

/// Of the incident page's document only its incidents: the year's list beside them is another endpoint's.
const LISTS: [&str; 2] = ["features", "Incidents"];
/// What an incident alone has.
const OWN: [&str; 2] = ["properties", "UniqueId"];
const NAMES: [&str; 2] = ["Name", "incident_name"];

fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let refused = |reject: Reject| reject.with_raw(body.clone());
    if let Some(b'{' | b'[') = encoding::without_mark(body).trim_ascii_start().first() {
        let items = Document::read_or_one(body, &LISTS, &OWN).and_then(Document::in_degrees).map_err(refused)?;
        return Ok(Box::new(items.zip(1..).map(move |(bytes, n)| {
            let origin = Origin::of(bytes.clone());
            let read = Item::read(&bytes).and_then(|item| {
                incident(Named::new(item.values, item.quality), &item.geometry, origin, context.source)
            });
            read.map_err(|reject| reject.at_row(n).with_raw(bytes))
        })));
    }
    let mut table = Table::read(body).map_err(refused)?;
    if !["incident_id", "incident_date_created", "incident_longitude"].iter().all(|name| table.has(name)) {
        return Err(refused(table.refused("CAL FIRE incidents")));
    }
    // Seen since 2020: of the first cell's text only its last letter is left.
    let damaged = (!table.has(NAMES[1]) && "incident_name".ends_with(&table.columns[0].to_ascii_lowercase()))
        .then(|| std::mem::replace(&mut table.columns[0], NAMES[1].to_owned()));
    Ok(Box::new(table.map(move |row| {
        let TableRow { row, origin, values, mut quality } = row?;
        if let Some(cell) = &damaged {
            quality.push(Quality::new("name", "the column's name is damaged: it is taken for incident_name", cell));
        }
        let (raw, header) = (origin.raw.clone(), origin.header.clone());
        let read = incident(Named::new(values, quality), &Value::Null, origin, context.source);
        read.map_err(|reject| Reject { header, ..reject.at_row(row).with_raw(raw) })
    })))
}

fn incident(mut values: Named, geometry: &Value, origin: Origin, source: &SourceId) -> Row {
    let v = &mut values;
    let incident_id = v.text("incident_id", &["UniqueId", "incident_id"]).ok_or_else(|| {
        Reject::new(Reason::MissingField, "UniqueId is missing: nothing else tells an incident from another")
    })?;
    let started_at = v.time("started_at", &["Started", "incident_date_created"]);
    let started_on = v.date("started_on", &["StartedDateOnly", "StartedDate", "incident_dateonly_created"]);
    let updated_at = v.time("updated_at", &["Updated", "UpdatedDate", "incident_date_last_update"]);
    let (position, [latitude, longitude]) = position::read(v, geometry);
    let data = Incident {
        incident_id: incident_id.to_ascii_lowercase(),
        name: v.text("name", &NAMES),
        incident_type: v.text("incident_type", &["Type", "IncidentTypeDisplay", "incident_type"]),
        is_active: v.flag("is_active", &["IsActive", "is_active", "Active"]),
        is_final: v.flag("is_final", &["Final", "incident_is_final"]),
        calfire_incident: v.flag("calfire_incident", &["CalFireIncident", "calfire_incident"]),
        notification_desired: v.flag("notification_desired", &["NotificationDesired", "notification_desired"]),
        major_incident: v.flag("major_incident", &["MajorIncident"]),
        started_at,
        started_on,
        updated_at,
        extinguished_at: v.time("extinguished_at", &["ExtinguishedDate", "Extinguished", "incident_date_extinguished"]),
        extinguished_on: v.date("extinguished_on", &["ExtinguishedDateOnly", "incident_dateonly_extinguished"]),
        acres_burned: v.number("acres_burned", &["AcresBurned", "AcresBurnedDisplay", "incident_acres_burned"]),
        percent_contained: v
            .number("percent_contained", &["PercentContained", "PercentContainedDisplay", "incident_containment"]),
        counties: counties(v),
        location: v.text("location", &["Location", "incident_location"]),
        latitude,
        longitude,
        admin_unit: v.text("admin_unit", &["AdminUnit", "incident_administrative_unit"]),
        admin_unit_url: v.text("admin_unit_url", &["AdminUnitUrl", "incident_administrative_unit_url"]),
        agencies: v.text("agencies", &["AgencyNames", "incident_cooperating_agencies"]),
        control_statement: v.plain("control_statement", &["ControlStatement", "incident_control"]),
        condition_statement: v.plain("condition_statement", &["ConditionStatement"]),
        fuel_type: v.text("fuel_type", &["FuelType"]),
        search_description: v.text("search_description", &["SearchDescription"]),
        search_keywords: v.text("search_keywords", &["SearchKeywords"]),
        status: v.text("status", &["Status"]),
        url: v.text("url", &["Url", "CanonicalUrl", "incident_url"]),
        external_url: v.text("external_url", &["ExternalIncidentLink"]),
        structures_destroyed: v.count("structures_destroyed", &["StructuresDestroyed"]),
        structures_damaged: v.count("structures_damaged", &["StructuresDamaged"]),
        structures_threatened: v.count("structures_threatened", &["StructuresThreatened"]),
        structures_evacuated: v.count("structures_evacuated", &["StructuresEvacuated"]),
        personnel: v.count("personnel", &["PersonnelInvolved"]),
        crews: v.count("crews", &["CrewsInvolved"]),
        injuries: v.count("injuries", &["Injuries"]),
        fatalities: v.count("fatalities", &["Fatalities"]),
        helicopters: v.count("helicopters", &["Helicopters"]),
        engines: v.count("engines", &["Engines"]),
        dozers: v.count("dozers", &["Dozers"]),
        water_tenders: v.count("water_tenders", &["WaterTenders"]),
        air_tankers: v.count("air_tankers", &["AirTankers"]),
    };
    // What the page needs for itself: numbers of its database, and what the other fields say already.
    for name in ["IncidentId", "CountyIds", "ArchiveYear", "Public", "Featured"] {
        v.take(name, &[name]);
    }
    let observed_at = began(&data, v)?;
    identify(Observation {
        origin,
        source: source.clone(),
        observed_at,
        published_at: updated_at,
        geometry: position.map(Geometry::Point),
        position,
        derived_from: None,
        quality: values.finish(),
        alert: None,
        data: Data::of(&data)?,
        rank: 0,
    })
}

/// One text with commas, or a list.
fn counties(values: &mut Named) -> Vec<String> {
    match values.take("counties", &["County", "Counties", "CountiesList", "incident_county"]) {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(|name| name.trim().to_owned()).collect(),
        Some(Value::String(text)) => {
            text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
        }
        Some(other) => {
            values.note("counties", "are not names", &other.to_string());
            Vec::new()
        }
        None => Vec::new(),
    }
}

/// 1900, in seconds from 1970.
const EMPTY_BEFORE: i64 = -2_208_988_800;

/// When it started, by the surest that the list tells of it.
fn began(data: &Incident, values: &mut Named) -> Result<Timestamp, Reject> {
    // .NET's empty time is the year 1.
    let is_told = |at: &Timestamp| at.as_second() > EMPTY_BEFORE;
    if let Some(at) = data.started_at.filter(|at| !is_told(at)) {
        values.note("started_at", "is where an empty time ends up: the start is not known", &at.to_string());
    }
    if let Some(at) = data.started_at.filter(is_told) {
        // Midnight of 1970 in UTC, written as a Californian's clock showed it.
        if (at.as_second() == -8 * 3600 || at.as_second() == 0) && data.updated_at != Some(at) {
            values.note("observed_at", "is where an empty time ends up: the start is not known", &at.to_string());
        }
        return Ok(at);
    }
    if let Some(at) = data.started_on.and_then(midnight) {
        values.note("observed_at", "is midnight in California: the list tells the day alone", "");
        return Ok(at);
    }
    if let Some(at) = data.updated_at {
        values.note("observed_at", "is the time of the last change: the list does not tell the start", "");
        return Ok(at);
    }
    Err(Reject::new(Reason::BadTime, "neither Started nor a day nor Updated can be read"))
}

/// The moment at which a day begins in California, by the rule in force since 2007.
fn midnight(day: Date) -> Option<Timestamp> {
    let zone = TimeZone::posix("PST8PDT,M3.2.0,M11.1.0").ok()?;
    zone.to_timestamp(day.to_datetime(Time::midnight())).ok()
}
