//! Life-safety alerts [S7, E4, E5]: the published form of an alert's data, and what makes a draft of it whichever way
//! it came. `message` reads our JSON, `cap` reads CAP as XML or JSON, `atom` entries of a feed, `nws` NWS's GeoJSON; all only fill in
//! `Alert`. `feed` says what a polled feed names and carries.

pub(crate) mod feed;
pub(crate) mod message;

mod atom;
mod cap;
mod cap_json;
mod codes;
pub(in crate::decode) mod geometry;
mod nws;
pub(crate) mod references;
mod shapes;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_cap;

use std::collections::BTreeMap;

use bytes::Bytes;
use memchr::memmem;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::decode::head::Mark;
use crate::decode::items::{self, Document};
use crate::decode::{Context, Row, Rows, encoding};
use crate::error::{Reason, Reject};
use crate::limits::PREFACE_BYTES;
use crate::record::{AlertFacts, Data, EventId, Geometry, Observation, Origin, Position, Quality, ShapeTold};
use crate::sources::identify;
use crate::time::Timestamp;
use shapes::{Shapes, shapes};

/// What alerts are known by: NWS's, CAP's and our own. Whose they are no mark tells.
pub(super) const MARKS: &[Mark] = &[
    Mark::names("noaa_alerts", &["messageType", "sent", "status"]),
    Mark::names("life_safety_*", &["msgType", "sent", "sender"]),
    Mark::text("life_safety_*", "urn:oasis:names:tc:emergency:cap:"),
];

/// An alert's own fields, by CAP's names and texts whichever way it came. Times and shapes stand as the sender wrote
/// them; the record's `observed_at` and `geometry` are what was read from them.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Alert {
    /// How it came: `cap-1.2`, `cap-1.1`, `cap-atom`, `cap-json`, `nws-geojson` or `json`.
    pub format: &'static str,
    /// Unique among the sender's alerts.
    pub identifier: String,
    pub sender: String,
    /// When the sender issued it, RFC 3339 with the sender's offset.
    pub sent: String,
    /// `Actual`, `Exercise`, `System`, `Test` or `Draft`. Only `Actual` asks anyone to act.
    pub status: String,
    /// `Alert`, `Update`, `Cancel`, `Ack` or `Error`.
    pub msg_type: String,
    /// `Public`, `Restricted` or `Private`; null when the alert came as JSON.
    pub scope: Option<String>,
    pub source: Option<String>,
    pub restriction: Option<String>,
    pub addresses: Option<String>,
    pub code: Vec<String>,
    pub note: Option<String>,
    /// Earlier messages of the thread, each `sender,identifier,sent`.
    pub references: Vec<String>,
    pub incidents: Option<String>,
    /// People in the area, if the sender told.
    pub population: Option<u64>,
    /// Forward rate of spread in chains an hour, if the sender told.
    #[serde(rename = "rate_of_spread")]
    pub rate_of_spread: Option<f64>,
    /// Where it is about, if the sender named a point.
    pub place: Option<message::Place>,
    /// One block a language or audience.
    pub info: Vec<Info>,
}

/// What an alert says in one language.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Info {
    /// RFC 3066 tag; null means en-US.
    pub language: Option<String>,
    pub category: Vec<String>,
    pub event: Option<String>,
    /// What to do: `Evacuate`, `Shelter`, `AllClear`, …
    pub response_type: Vec<String>,
    /// `Immediate`, `Expected`, `Future`, `Past` or `Unknown`.
    pub urgency: Option<String>,
    /// `Extreme`, `Severe`, `Moderate`, `Minor` or `Unknown`.
    pub severity: Option<String>,
    /// `Observed`, `Likely`, `Possible`, `Unlikely` or `Unknown`.
    pub certainty: Option<String>,
    pub audience: Option<String>,
    /// Code system → codes, such as `SAME` → `EVI`.
    pub event_code: Multimap,
    pub effective: Option<String>,
    pub onset: Option<String>,
    pub expires: Option<String>,
    /// When the hazard itself ends, as NWS tells it; left out where nothing is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends: Option<String>,
    pub sender_name: Option<String>,
    pub headline: Option<String>,
    pub description: Option<String>,
    pub instruction: Option<String>,
    pub web: Option<String>,
    pub contact: Option<String>,
    /// Name → values, in the sender's order: a name may repeat.
    pub parameter: Multimap,
    pub resource: Vec<Resource>,
    pub area: Vec<Area>,
}

/// A file that goes with an alert.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Resource {
    pub resource_desc: Option<String>,
    pub mime_type: Option<String>,
    /// Bytes.
    pub size: Option<String>,
    pub uri: Option<String>,
    pub digest: Option<String>,
}

/// One of the areas that an alert is for.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Area {
    pub area_desc: Option<String>,
    /// As the sender wrote them: CAP's `lat,lon lat,lon …`, or what a JSON alert had. Unreadable ones too: they are
    /// listed in the record's `quality` and missing from its `geometry`.
    pub polygon: Vec<Value>,
    /// CAP's `lat,lon radius` (km), or what a JSON alert had; unreadable ones too.
    pub circle: Vec<Value>,
    /// Code system → codes, such as `SAME` → `006023`.
    pub geocode: Multimap,
    /// Feet above mean sea level.
    pub altitude: Option<String>,
    /// Feet above mean sea level.
    pub ceiling: Option<String>,
}

/// Name → values in the sender's order.
pub(crate) type Multimap = BTreeMap<String, Vec<String>>;

/// NWS as a sender, and what its messages' ids begin with (WMO's register of alerting authorities).
const NWS: &str = "w-nws.webmaster@noaa.gov";
const NWS_IDS: &str = "urn:oid:2.49.0.1.840.0.";

/// CAP's statuses; nothing else is guessed, because it decides whether a siren rings.
const STATUSES: [&str; 5] = ["Actual", "Exercise", "System", "Test", "Draft"];
const MESSAGE_TYPES: [&str; 5] = ["Alert", "Update", "Cancel", "Ack", "Error"];

/// The alerts of a body: one as our JSON or as CAP's, every CAP alert of an XML text, or NWS's features.
///
/// # Errors
/// `not_data` for neither JSON nor XML with alerts, or for a service's error, else what makes the whole text unreadable.
pub(super) fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let refused = |reject: Reject| reject.with_raw(body.clone());
    let unmarked = encoding::without_mark(body);
    let one = |row: Row| -> Rows<'a> { Box::new(std::iter::once(row.map_err(refused))) };
    match unmarked.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'<' | 0xff | 0xfe) => cap::rows(body, None, context),
        Some(b'{') => {
            if memmem::find(unmarked, b"\"features\"").is_some() {
                match Document::read(body, &["features"]) {
                    Ok(document) => return Ok(nws::rows(document, context)),
                    // The word stands elsewhere in an alert.
                    Err(reject) if reject.reason == Reason::NotData => {}
                    Err(reject) => return Err(refused(reject)),
                }
            }
            let message = message::parse(body).map_err(|reject| refused(items::problem(body).unwrap_or(reject)))?;
            Ok(one(if message.is_feature() {
                nws::row(body, context)
            } else if message.is_cap() {
                cap_json::row(body, context)
            } else if let Some(complaint) = message.is_nameless().then(|| items::complaint(body)).flatten() {
                return Err(refused(complaint));
            } else {
                message::row(message, context)
            }))
        }
        _ => match unmarked.iter().take(PREFACE_BYTES).position(|&byte| byte == b'<') {
            // A wire service's header, such as NOAA Weather Wire's before IPAWS alerts.
            Some(at) => cap::rows(body, Some(body.len() - unmarked.len() + at), context),
            None => Err(refused(Reject::new(Reason::NotData, "neither a JSON object nor XML"))),
        },
    }
}

/// What is known beside the alert when its texts are read.
#[derive(Debug, Default)]
struct Beside {
    derived_from: Option<EventId>,
    quality: Vec<Quality>,
    /// The sender told of an area or a place that cannot be read at all.
    place_lost: bool,
}

/// The draft of an alert whose texts are read. Judges what E4 needs: status, type, times, thread; then its shapes.
fn draft(mut alert: Alert, beside: Beside, context: Context<'_>) -> Row {
    let Beside { derived_from, mut quality, place_lost } = beside;
    alert.status = one_of(&alert.status, "status", &STATUSES)?;
    alert.msg_type = one_of(&alert.msg_type, "msgType", &MESSAGE_TYPES)?;
    let sent = time(&alert.sent).ok_or_else(|| {
        Reject::new(Reason::BadTime, format!("sent {:?} is no time with an offset", short(&alert.sent)))
    })?;
    let expires = latest_expiry(&alert, sent, &mut quality);
    let place = match alert.place {
        Some(place) => Some(Position::new(place.latitude, place.longitude)?),
        None => None,
    };
    let Shapes { read: shapes, broken } = shapes(&alert, &mut quality);
    let geometry = geometry::geometry(&shapes).or(place.map(Geometry::Point));
    let shape = match &geometry {
        _ if broken || place_lost => ShapeTold::Broken,
        Some(_) => ShapeTold::Ok,
        None => ShapeTold::None,
    };
    let facts = AlertFacts {
        status: alert.status.clone(),
        msg_type: alert.msg_type.clone(),
        sent,
        expires,
        references: alert.references.clone(),
        name: format!("{},{}", alert.sender, alert.identifier),
        thread: thread(&alert),
        shape,
        california: codes::california(&alert),
        population: alert.population,
        rate_of_spread: alert.rate_of_spread,
    };
    identify(Observation {
        origin: Origin::default(),
        source: context.source.clone(),
        observed_at: sent,
        published_at: Some(sent),
        geometry,
        position: place.or_else(|| shapes.first().and_then(geometry::centre)),
        derived_from,
        quality,
        alert: Some(Box::new(facts)),
        data: Data::of(&alert)?,
        rank: 0,
    })
}

/// The value, spelled as CAP does.
fn one_of(text: &str, field: &str, known: &[&str]) -> Result<String, Reject> {
    let known_as = known.iter().find(|known| known.eq_ignore_ascii_case(text));
    known_as.map(|known| (*known).to_owned()).ok_or_else(|| {
        Reject::new(Reason::MissingField, format!("{field} {:?} is none of {}", short(text), known.join(", ")))
    })
}

/// A required text, trimmed; the field is missing too when it is empty.
fn required(text: Option<&str>, field: &str) -> Result<String, Reject> {
    match text.map(str::trim) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(Reject::new(Reason::MissingField, format!("{field} is missing"))),
    }
}

/// RFC 3339: a time without an offset is none. `Z` is not CAP's own spelling, but occurs.
fn time(text: &str) -> Option<Timestamp> {
    text.trim().parse().ok()
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The last `expires` of all blocks: an alert is in force as long as one of its languages says so.
fn latest_expiry(alert: &Alert, sent: Timestamp, quality: &mut Vec<Quality>) -> Option<Timestamp> {
    let mut latest = None;
    for (n, info) in alert.info.iter().enumerate() {
        let Some(text) = &info.expires else { continue };
        let mut fault = |problem| quality.push(Quality::new(&format!("info[{n}].expires"), problem, text));
        match time(text) {
            Some(at) => {
                if at < sent {
                    fault("is before the time at which the alert was sent");
                }
                latest = latest.max(Some(at));
            }
            None => fault("is no time with an offset"),
        }
    }
    latest
}

/// Sender and identifier of the oldest message it refers to, else its own. That message may have been a later one of its
/// thread, which `express::thread` knows.
fn thread(alert: &Alert) -> String {
    let named = alert.references.iter().filter_map(|reference| references::parse(reference));
    let oldest = named.min_by_key(|reference| reference.sent.unwrap_or(Timestamp::MAX));
    oldest.map_or_else(|| format!("{},{}", alert.sender, alert.identifier), |reference| reference.name.to_owned())
}
