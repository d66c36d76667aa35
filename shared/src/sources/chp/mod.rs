//! Traffic incidents as the dispatch centres of the California Highway Patrol log them [S16]: collisions, hazards, fires beside the
//! road, closures. An incident that is gone from the file is not over for that, and a file that was cut says nothing of the others.
//!
//! What dispatchers note is left out, of records and of what is kept of refused logs alike: `logs.rs`.

mod logs;
mod poll;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use jiff::civil::{Date, DateTime, Time};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Areas, Id, Join, Records, Source, identify};
use crate::decode::head::Mark;
use crate::decode::named;
use crate::decode::pacific::{self, Doubt};
use crate::decode::{Context, Format, Row, Rows, short};
use crate::error::{Reason, Reject};
use crate::record::{Data, Geometry, Observation, Origin, Position, Quality, Tier, Topic, schema};
use crate::time::{self, Timestamp};
use logs::{Log, Logs};

pub use poll::Config;
pub(super) use poll::{SERVICE, connector};

pub(super) static SOURCE: Source = Source {
    ids: &[Id { pattern: "chp_incidents", name: "CHP incidents", tier: Tier::Normal, topic: Topic::INCIDENTS }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<Incident>(),
        key: &["data.incident_id"],
        in_order: true,
        // There are thousands a day, each gone within hours, and the time of its log does not change.
        lasting: false,
    }),
    service: Some(&SERVICE),
};

pub(super) static FIRE: Join =
    Join::Areas(Areas { reach_km: 3.0, name: None, only: Some(("incident_type", &["FIRE-Report of Fire"])) });

/// The file of all centres.
pub const FORMAT: Format = Format::new("chp-incidents", rows).known_by(&[Mark::text("chp_incidents", "<LogTime>")]);

/// One incident as its dispatch centre logs it. `observed_at` is when it was logged. What dispatchers noted of it, which may name
/// people, is left out but for the number of notes: a change of it makes a revision.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ChpIncident", deny_unknown_fields)]
pub struct Incident {
    /// The log's id: day, centre and number.
    pub incident_id: String,
    /// The communications centre.
    pub center: Option<String>,
    /// The dispatch area.
    pub dispatch: Option<String>,
    /// What it is, as sent, such as `1125-Traffic Hazard` or `FIRE-Report of Fire`.
    pub incident_type: Option<String>,
    /// Road and cross street.
    pub location: Option<String>,
    /// More of the place, in the centre's own words.
    pub location_description: Option<String>,
    /// CHP's area.
    pub area: Option<String>,
    /// When it was logged: RFC 3339 in UTC, milliseconds. Sent as clocks in California show it.
    #[serde(serialize_with = "time::serialize")]
    #[schemars(schema_with = "schema::time")]
    pub logged_at: Timestamp,
    /// Notes of dispatchers that were left out.
    pub notes: u64,
}

fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let logs = Logs::read(body)?;
    Ok(Box::new(
        logs.zip(1..)
            .map(move |(log, n)| incident(&log, context).map_err(|reject| reject.at_row(n).with_raw(log.kept()))),
    ))
}

fn incident(log: &Log, context: Context<'_>) -> Row {
    if let Some(fault) = log.fault {
        return Err(Reject::new(
            Reason::BadXml,
            format!("log {}: {fault}", log.id.as_deref().unwrap_or("without an ID")),
        ));
    }
    if log.is_unreadable() {
        return Err(Reject::new(Reason::BadXml, "an element is not UTF-8"));
    }
    let incident_id = log.id.clone().ok_or_else(|| {
        Reject::new(Reason::MissingField, "the log has no ID that can be read: nothing else tells it from another")
    })?;
    let sent = log.time().ok_or_else(|| Reject::new(Reason::MissingField, "LogTime is missing"))?;
    let (logged_at, doubt) = logged(&sent).ok_or_else(|| {
        let detail = format!("LogTime is no time such as \"Aug  1 2026  1:30PM\": {:?}", short(&sent));
        Reject::new(Reason::BadTime, detail)
    })?;
    let mut quality = Vec::new();
    if let Some(doubt) = doubt {
        quality.push(Quality::new("logged_at", doubt.words(), &sent));
    }
    let position = position(log, &mut quality)?;
    if log.notes > 0 {
        let problem = "are left out: they may name people, number plates and telephone numbers";
        quality.push(Quality { field: "LogDetails".into(), problem: problem.into(), raw: None });
    }
    // Without their values: nobody knows whom they name.
    for name in &log.unread {
        quality.push(Quality { field: name.clone(), problem: "is not understood, and left out".into(), raw: None });
    }
    let data = Incident {
        incident_id,
        center: log.center.clone(),
        dispatch: log.dispatch.clone(),
        incident_type: log.text("LogType"),
        location: log.text("Location"),
        location_description: log.text("LocationDesc"),
        area: log.text("Area"),
        logged_at,
        notes: log.notes,
    };
    identify(Observation {
        origin: Origin::of(log.kept()),
        source: context.source.clone(),
        observed_at: logged_at,
        published_at: None,
        geometry: position.map(Geometry::Point),
        position,
        derived_from: None,
        quality,
        alert: None,
        data: Data::of(&data)?,
        rank: 0,
    })
}

/// `{latitude}:{longitude}` in millionths of degrees, the longitude without its sign; `0:0` is none.
fn position(log: &Log, quality: &mut Vec<Quality>) -> Result<Option<Position>, Reject> {
    let Some(sent) = log.text("LATLON") else { return Ok(None) };
    let mut none = |problem: &str| {
        quality.push(Quality::new("geometry", problem, &sent));
        Ok(None)
    };
    let parts = sent.split_once(':').and_then(|(latitude, longitude)| {
        Some((latitude.trim().parse::<i64>().ok()?, longitude.trim().parse::<i64>().ok()?))
    });
    match parts {
        None => none("is not two numbers of millionths of degrees"),
        Some((0, 0)) => Ok(None),
        Some((0, _) | (_, 0)) => none("is half a position"),
        Some((latitude, longitude)) => {
            let degrees = |millionths: i64| millionths as f64 / 1e6;
            Position::new(degrees(latitude), -degrees(longitude).abs()).map(Some)
        }
    }
}

/// `Sep 25 2026  5:30PM`, formerly `9/25/2026 5:30:00 PM`, as clocks in California show it.
fn logged(text: &str) -> Option<(Timestamp, Option<Doubt>)> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let mut words = text.split_whitespace();
    let first = words.next()?;
    let day = if first.contains('/') {
        named::date(first)?
    } else {
        let name = first.to_ascii_lowercase();
        let month = MONTHS.iter().position(|month| *month == name)? + 1;
        let (day, year) = (words.next()?.parse().ok()?, words.next()?);
        // Two digits of a year could be of any century.
        let year = year.parse().ok().filter(|_| year.len() == 4)?;
        Date::new(year, i8::try_from(month).ok()?, day).ok()?
    };
    let clock = clock(&words.collect::<String>())?;
    pacific::moment(DateTime::from_parts(day, clock))
}

/// `5:30PM`, `5:30:00PM` or `17:30`.
fn clock(text: &str) -> Option<Time> {
    let upper = text.to_ascii_uppercase();
    let (digits, noon) = match (upper.strip_suffix("AM"), upper.strip_suffix("PM")) {
        (Some(digits), _) => (digits, Some(0)),
        (_, Some(digits)) => (digits, Some(12)),
        _ => (upper.as_str(), None),
    };
    let mut parts = digits.split(':').map(|part| {
        let is_number = matches!(part.len(), 1 | 2) && part.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| part.parse::<i8>().ok()).flatten()
    });
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    let hour = match noon {
        Some(noon) if (1..=12).contains(&hour) => hour % 12 + noon,
        Some(_) => return None,
        None => hour,
    };
    let is_all = parts.next().is_none();
    is_all.then(|| Time::new(hour, minute, second, 0).ok())?
}
