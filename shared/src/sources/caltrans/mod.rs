//! Lane closures on California's state highways, as Caltrans's twelve districts plan and report them [S16]. A row is one window of
//! a closure: what lasts a week has a row a day.
//!
//! What crews report by radio stands above the plan: 1097 that a closure is in place, 1098 that it is removed, 1022 that it is
//! cancelled. Where nothing was reported, the window tells what should be. All values are texts; of a time its seconds since 1970
//! count, and the date beside them, as clocks in California show it, only checks them.

mod poll;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use jiff::civil::{Date, DateTime, Time};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Areas, Id, Join, Records, Source, identify};
use crate::decode::again::Again;
use crate::decode::head::Mark;
use crate::decode::items::Item;
use crate::decode::named::{Named, number};
use crate::decode::{Context, Format, Row, Rows, pacific, salvage, short};
use crate::error::{Reason, Reject};
use crate::record::{Data, Geometry, Observation, Origin, Position, Tier, Topic, schema};
use crate::time::{self, Timestamp};

pub use poll::Config;
pub(super) use poll::{SERVICE, connector};

pub(super) static SOURCE: Source = Source {
    ids: &[Id {
        pattern: "caltrans_closures",
        name: "Caltrans lane closures",
        tier: Tier::Normal,
        topic: Topic::INFRASTRUCTURE,
    }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<Closure>(),
        key: &["data.district", "data.index"],
        in_order: true,
        // A window is told weeks before it begins, so that no time of its own can be when it was observed first.
        lasting: true,
    }),
    service: Some(&SERVICE),
};

/// Most closures are road works: only what was not planned has to do with a fire beside the road.
pub(super) static FIRE: Join =
    Join::Areas(Areas { reach_km: 3.0, name: None, only: Some(("work_type", &["Emergency", "Emergency Work"])) });

/// A district's file of lane closures.
pub const FORMAT: Format =
    Format::new("caltrans-closures", rows).known_by(&[Mark::names("caltrans_closures", &["lcs", "closure", "index"])]);

const LIST: &str = "data";
const OWN: &str = "lcs";

/// One window of a lane closure. `observed_at` is its beginning; when it was read where that is not told, or lies ahead. A field
/// that is empty or `Not Reported` is null. The record's geometry is the line from where it begins to where it ends, or a point
/// where only one end has a position.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "LaneClosure", deny_unknown_fields)]
pub struct Closure {
    /// Caltrans's district, 1 to 12.
    pub district: u8,
    /// The district's own name of the window: closure, log and beginning.
    pub index: String,
    /// What was reported, else what the window says.
    pub status: Status,
    /// The closure that it belongs to; others may have the same.
    pub closure_id: Option<String>,
    /// Its log.
    pub log_number: Option<String>,
    /// Beginning of the window: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub starts_at: Option<Timestamp>,
    /// End of the window: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub ends_at: Option<Timestamp>,
    /// Whether its end is open, so that `ends_at` does not end it.
    pub end_indefinite: Option<bool>,
    /// When it was asked for: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub requested_at: Option<Timestamp>,
    /// When it was reported to be in place (1097): RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub in_place_at: Option<Timestamp>,
    /// When it was reported to be removed (1098): RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub removed_at: Option<Timestamp>,
    /// When it was reported to be cancelled (1022): RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub cancelled_at: Option<Timestamp>,
    /// Such as `North` or `East / West`.
    pub direction: Option<String>,
    /// Where it begins.
    pub begin: End,
    /// Where it ends.
    pub end: End,
    /// Such as `Mainline`, `On Ramp` or `Conventional Hwy`: a ramp that is closed closes no highway.
    pub facility: Option<String>,
    /// Such as `Full`, `Lane`, `One-Way Traffic`, `Alternating Lanes` or `Moving`.
    pub closure_type: Option<String>,
    /// What is done, such as `Emergency`.
    pub work_type: Option<String>,
    /// Such as `Standard` or `Long Term`.
    pub duration: Option<String>,
    /// Such as `All`, `RShoulder` or `1, 2`.
    pub lanes_closed: Option<String>,
    /// Lanes that there are.
    pub lanes_existing: Option<u64>,
    /// Minutes.
    pub estimated_delay_min: Option<u64>,
    /// Whether it is told on the state's highway information network.
    pub chin_reportable: Option<bool>,
}

/// Where a window stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nothing was reported, and the window lies ahead.
    Planned,
    /// The window has begun, and nobody has reported that it is in place.
    Due,
    /// Reported to be in place, and not to be removed, also after the window's end.
    InPlace,
    /// Reported to be removed.
    Removed,
    /// Reported to be cancelled.
    Cancelled,
    /// The window is over, and nothing was ever reported.
    Over,
    /// What was reported, or when the window is, cannot be read.
    Unknown,
}

/// One end of a closure.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "LaneClosureEnd", deny_unknown_fields)]
pub struct End {
    /// Degrees.
    pub latitude: Option<f64>,
    /// Degrees.
    pub longitude: Option<f64>,
    /// Such as `SR-99`, with its suffix.
    pub route: Option<String>,
    /// County.
    pub county: Option<String>,
    /// Mile on its county's part of the route, as Caltrans writes it, with its prefix.
    pub postmile: Option<String>,
    /// The same as a plain number, as Caltrans writes it.
    pub milepost: Option<String>,
    /// Of a road that was moved, which of its courses.
    pub alignment: Option<String>,
    /// Side of the road.
    pub direction: Option<String>,
    /// What it is at.
    pub location_name: Option<String>,
    /// The next town.
    pub nearby_place: Option<String>,
    /// In Caltrans's own words.
    pub description: Option<String>,
    /// Height above mean sea level in feet.
    pub elevation_ft: Option<f64>,
}

fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let of_file = poll::district(body);
    let found = salvage::read(body, LIST, OWN).map_err(|reject| reject.with_raw(body.clone()))?;
    Ok(Box::new(
        found.items.into_iter().zip(1..).map(move |(bytes, n)| {
            closure(&bytes, of_file, context).map_err(|reject| reject.at_row(n).with_raw(bytes))
        }),
    ))
}

fn closure(bytes: &Bytes, of_file: Option<u8>, context: Context<'_>) -> Row {
    let Item { mut values, quality, .. } = Item::read(bytes)?;
    let Some(Value::Object(row)) = values.remove(OWN) else {
        return Err(Reject::new(Reason::BadJson, format!("an item has no object under {OWN}")));
    };
    flatten(row, &mut values, &mut Again::default());
    let mut named = Named::new(values, quality);
    let v = &mut named;
    let index = v.text("index", &["index"]).ok_or_else(|| {
        Reject::new(Reason::MissingField, "index is missing: nothing else tells a window from another")
    })?;
    let district = district(v, of_file)?;
    let (begin_at, begin) = end(v, "begin")?;
    let (end_at, end) = end(v, "end")?;
    let [starts_at, ends_at, requested_at] =
        [("starts_at", "closureStart"), ("ends_at", "closureEnd"), ("requested_at", "closureRequest")]
            .map(|(field, name)| moment(v, field, name));
    let end_indefinite = v.flag("end_indefinite", &["isClosureEndIndefinite"]);
    let [in_place, removed, cancelled] = [("in_place", "1097"), ("removed", "1098"), ("cancelled", "1022")]
        .map(|(field, code)| reported(v, field, code));
    let status = status_reported([cancelled, removed, in_place])
        .unwrap_or_else(|| status_planned(starts_at, ends_at, end_indefinite, context.received_at));
    // The file's, not the window's: the poll judges by it whether the file has stopped.
    for name in ["recordDate", "recordTime", "recordEpoch"] {
        v.take(name, &[name]);
    }
    let data = Closure {
        district,
        index,
        status,
        closure_id: told(v, "closure_id", "closureID"),
        log_number: told(v, "log_number", "logNumber"),
        starts_at,
        ends_at,
        end_indefinite,
        requested_at,
        in_place_at: moment(v, "in_place_at", "code1097"),
        removed_at: moment(v, "removed_at", "code1098"),
        cancelled_at: moment(v, "cancelled_at", "code1022"),
        direction: told(v, "direction", "travelFlowDirection"),
        begin,
        end,
        facility: told(v, "facility", "facility"),
        closure_type: told(v, "closure_type", "typeOfClosure"),
        work_type: told(v, "work_type", "typeOfWork"),
        duration: told(v, "duration", "durationOfClosure"),
        lanes_closed: told(v, "lanes_closed", "lanesClosed"),
        lanes_existing: count(v, "lanes_existing", "totalExistingLanes"),
        estimated_delay_min: count(v, "estimated_delay_min", "estimatedDelay"),
        chin_reportable: v.flag("chin_reportable", &["isCHINReportable"]),
    };
    let geometry = geometry(v, begin_at, end_at);
    identify(Observation {
        origin: Origin::of(bytes.clone()),
        source: context.source.clone(),
        observed_at: starts_at.unwrap_or(context.received_at).min(context.received_at),
        // The file's own time would make a revision of every row whenever it is renewed.
        published_at: None,
        geometry,
        position: begin_at.or(end_at),
        derived_from: None,
        quality: named.finish(),
        alert: None,
        data: Data::of(&data)?,
        rank: 0,
    })
}

/// The members of objects within objects by their own names, of which none stands twice in a sound row.
fn flatten(object: Map<String, Value>, flat: &mut Map<String, Value>, again: &mut Again) {
    for (name, value) in object {
        if let Value::Object(inner) = value {
            flatten(inner, flat, again);
            continue;
        }
        let name = again.free(name, |name| flat.contains_key(name));
        flat.insert(name, value);
    }
}

/// The row's own, else the file's.
fn district(v: &mut Named, of_file: Option<u8>) -> Result<u8, Reject> {
    let of_row = v.take("district", &["beginDistrict", "endDistrict"]);
    let read = of_row.as_ref().and_then(number).filter(|n| n.fract() == 0.0 && (1.0..=12.0).contains(n));
    match (read.map(|district| district as u8), of_file) {
        (Some(district), Some(file)) if district != file => {
            v.note("district", &format!("is not that of its file, {file}"), &district.to_string());
            Ok(district)
        }
        (Some(district), _) => Ok(district),
        (None, Some(file)) => {
            if let Some(sent) = of_row {
                v.note("district", "is not in 1..12: that of its file is taken", &sent.to_string());
            }
            Ok(file)
        }
        (None, None) => {
            let said =
                of_row.map_or("is missing".into(), |sent| format!("{} is not in 1..12", short(&sent.to_string())));
            Err(Reject::new(Reason::MissingField, format!("beginDistrict {said}: an index is one district's")))
        }
    }
}

/// A text that says something.
fn told(v: &mut Named, field: &str, name: &str) -> Option<String> {
    v.text(field, &[name]).filter(|text| !text.eq_ignore_ascii_case("not reported"))
}

fn count(v: &mut Named, field: &str, name: &str) -> Option<u64> {
    let text = told(v, field, name)?;
    let read = text.parse().ok();
    if read.is_none() {
        v.note(field, "is not a whole number", &text);
    }
    read
}

/// Seconds since 1970, as a number or a text.
fn epoch(sent: &Value) -> Option<Timestamp> {
    let seconds = number(sent).filter(|seconds| seconds.fract() == 0.0 && (1.0..1e12).contains(seconds))?;
    Timestamp::from_second(seconds as i64).ok()
}

/// `{name}Epoch`, checked by `{name}Date` and `{name}Time`.
fn moment(v: &mut Named, field: &str, name: &str) -> Option<Timestamp> {
    let [sent, day, clock] = ["Epoch", "Date", "Time"].map(|part| v.take(field, &[&format!("{name}{part}")]));
    let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
    let (day, clock) = (text(day), text(clock));
    let Some(sent) = sent else {
        if let Some(day) = day {
            v.note(field, "has a date and no seconds since 1970: only these are taken", &day);
        }
        return None;
    };
    let Some(at) = epoch(&sent) else {
        v.note(field, "is no number of seconds since 1970", &sent.to_string());
        return None;
    };
    if let (Some(day), Some(clock)) = (day, clock)
        && !shown(&day, &clock).is_some_and(|shown| pacific::shows(at, shown))
    {
        let problem = "has a date in California that says another time: its seconds since 1970 are taken";
        v.note(field, problem, &format!("{day} {clock}"));
    }
    Some(at)
}

fn shown(day: &str, clock: &str) -> Option<DateTime> {
    let (day, clock): (Date, Time) = (day.trim().parse().ok()?, clock.trim().parse().ok()?);
    Some(DateTime::from_parts(day, clock))
}

/// Whether a code was reported; `None`: that cannot be read, or is missing.
fn reported(v: &mut Named, field: &str, code: &str) -> Option<bool> {
    let (name, before) = (format!("isCode{code}"), v.quality.len());
    let reported = v.flag(field, &[&name]);
    if reported.is_none() && v.quality.len() == before {
        v.note(field, &format!("cannot be told: {name} is missing"), "");
    }
    reported
}

/// By the radio codes, the last word first. One that cannot be read leaves open what it would have ended.
fn status_reported(codes: [Option<bool>; 3]) -> Option<Status> {
    let words = [Status::Cancelled, Status::Removed, Status::InPlace];
    codes.into_iter().zip(words).find_map(|(reported, status)| match reported {
        Some(true) => Some(status),
        Some(false) => None,
        None => Some(Status::Unknown),
    })
}

/// By the window, where nothing was reported.
fn status_planned(
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    end_indefinite: Option<bool>,
    now: Timestamp,
) -> Status {
    match (starts_at, ends_at) {
        (Some(starts_at), _) if now < starts_at => Status::Planned,
        (Some(_), _) if end_indefinite == Some(true) => Status::Due,
        (Some(_), Some(ends_at)) if now < ends_at => Status::Due,
        (Some(_), Some(_)) => Status::Over,
        _ => Status::Unknown,
    }
}

/// One end, and its position.
fn end(v: &mut Named, which: &'static str) -> Result<(Option<Position>, End), Reject> {
    let position = position(v, which)?;
    let mut told = |field: &str, name: &str| told(v, &format!("{which}.{field}"), &format!("{which}{name}"));
    let mut joined = |field: &str, first: &str, second: &str| {
        let text = told(field, first).unwrap_or_default() + &told(field, second).unwrap_or_default();
        (!text.is_empty()).then_some(text)
    };
    let (route, postmile) = (joined("route", "Route", "RouteSuffix"), joined("postmile", "PostmilePrefix", "Postmile"));
    let end = End {
        latitude: position.map(Position::latitude),
        longitude: position.map(Position::longitude),
        route,
        county: told("county", "County"),
        postmile,
        milepost: told("milepost", "Milepost"),
        alignment: told("alignment", "Alignment"),
        direction: told("direction", "Direction"),
        location_name: told("location_name", "LocationName"),
        nearby_place: told("nearby_place", "NearbyPlace"),
        description: told("description", "FreeFormDescription"),
        elevation_ft: v.number(&format!("{which}.elevation_ft"), &[&format!("{which}Elevation")]),
    };
    Ok((position, end))
}

fn position(v: &mut Named, which: &str) -> Result<Option<Position>, Reject> {
    let [latitude, longitude] =
        ["Latitude", "Longitude"].map(|name| v.take(&format!("{which}.position"), &[&format!("{which}{name}")]));
    let read = |sent: &Value, name: &str, reason: Reason| {
        number(sent)
            .ok_or_else(|| Reject::new(reason, format!("{which}{name} is not a number: {}", short(&sent.to_string()))))
    };
    match (latitude, longitude) {
        (Some(latitude), Some(longitude)) => {
            let latitude = read(&latitude, "Latitude", Reason::BadLatitude)?;
            let longitude = read(&longitude, "Longitude", Reason::BadLongitude)?;
            if latitude == 0.0 && longitude == 0.0 {
                v.note(&format!("{which}.position"), "is 0, 0, which is none", "0 0");
                return Ok(None);
            }
            let outside = |reject: Reject| Reject::new(reject.reason, format!("{which}: {}", reject.detail));
            Position::new(latitude, longitude).map(Some).map_err(outside)
        }
        (None, None) => Ok(None),
        (latitude, longitude) => {
            let sent = latitude.or(longitude).unwrap_or_default();
            v.note(&format!("{which}.position"), "is half a position", &sent.to_string());
            Ok(None)
        }
    }
}

fn geometry(v: &mut Named, begin: Option<Position>, end: Option<Position>) -> Option<Geometry> {
    match (begin, end) {
        (Some(begin), Some(end)) if begin != end => {
            let line = [begin, end].map(|at| [at.longitude(), at.latitude()]);
            Some(Geometry::GeoJson(json!({"type": "LineString", "coordinates": line}).to_string()))
        }
        (Some(at), Some(_)) => Some(Geometry::Point(at)),
        (Some(at), None) => {
            v.note("geometry", "is where it begins: where it ends has no position", "");
            Some(Geometry::Point(at))
        }
        (None, Some(at)) => {
            v.note("geometry", "is where it ends: where it begins has no position", "");
            Some(Geometry::Point(at))
        }
        (None, None) => {
            v.note("geometry", "is missing: neither end has a position", "");
            None
        }
    }
}
