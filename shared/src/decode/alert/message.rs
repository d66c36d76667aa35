//! An alert as the JSON that `POST /alerts` and MQTT `alerts/{source_id}` take [E5]. The types here are the published
//! schema `alert-1`; CAP is read elsewhere.

use std::collections::BTreeMap;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Alert, Area, Beside, Info, Multimap, draft, required, short};
use crate::decode::{Context, Row, json};
use crate::error::{Reason, Reject};
use crate::limits::ALERT_BYTES;
use crate::record::Quality;

/// A life-safety alert. Names and meanings are CAP's, flattened to one language and one event.
///
/// `event` and one of `area` and `place` are required unless `msgType` is `Cancel`, `Ack` or `Error`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend(
    "if" = { "properties": { "msgType": { "enum": ["Alert", "Update"] } } },
    "then" = { "required": ["event"], "anyOf": [{ "required": ["area"] }, { "required": ["place"] }] }
))]
#[schemars(extend("examples" = [{
    "id": "BUTTE-2025-017", "sender": "oes@butte.example", "sent": "2025-08-14T14:05:00-07:00", "status": "Actual",
    "msgType": "Alert", "event": "Evacuation Order", "headline": "Evacuate zone 12 now",
    "expires": "2025-08-14T20:05:00-07:00", "severity": "Extreme", "urgency": "Immediate", "certainty": "Observed",
    "area": { "description": "Zone 12", "polygon": [[39.7, -121.7], [39.7, -121.5], [39.9, -121.5], [39.9, -121.7]] },
    "population": 2400, "rate_of_spread": 80.0
}]))]
pub struct AlertMessage {
    /// Unique among the sender's alerts; no blanks or commas.
    #[schemars(required)]
    id: Option<String>,
    /// Who issues it: a name that is unique in the world, no blanks or commas.
    #[schemars(required)]
    sender: Option<String>,
    /// When it is issued: RFC 3339 with an offset.
    #[schemars(required, extend("format" = "date-time"))]
    sent: Option<String>,
    /// `Actual` rings; `Test`, `Exercise` and `Draft` go to `wildfire-alert-drills`.
    #[schemars(required, extend("enum" = ["Actual", "Exercise", "System", "Test", "Draft"]))]
    status: Option<String>,
    /// An `Update` or `Cancel` names the earlier messages in `references`.
    #[schemars(required, extend("enum" = ["Alert", "Update", "Cancel", "Ack", "Error"]))]
    msg_type: Option<String>,
    /// What happens, such as `Evacuation Order`.
    event: Option<String>,
    area: Option<OneOrMany>,
    place: Option<Place>,
    /// RFC 3339 with an offset; an alert delivered later is marked `expired`, never dropped.
    expires: Option<String>,
    effective: Option<String>,
    onset: Option<String>,
    /// Earlier messages of the thread, oldest first: `sender,id,sent`, or the id alone for one of the same sender.
    #[serde(default)]
    references: Texts,
    /// `event_id` of the record that this alert was made from.
    #[serde(rename = "derived_from")]
    derived_from: Option<String>,
    /// People in the area.
    population: Option<u64>,
    /// Forward rate of spread in chains an hour.
    #[serde(rename = "rate_of_spread")]
    rate_of_spread: Option<f64>,
    /// Of the texts; en-US when absent.
    language: Option<String>,
    #[serde(default)]
    category: Texts,
    /// `Evacuate`, `Shelter`, `AllClear`, …
    #[serde(default)]
    response_type: Texts,
    /// `Immediate`, `Expected`, `Future`, `Past` or `Unknown`.
    urgency: Option<String>,
    /// `Extreme`, `Severe`, `Moderate`, `Minor` or `Unknown`.
    severity: Option<String>,
    /// `Observed`, `Likely`, `Possible`, `Unlikely` or `Unknown`.
    certainty: Option<String>,
    sender_name: Option<String>,
    headline: Option<String>,
    description: Option<String>,
    instruction: Option<String>,
    web: Option<String>,
    contact: Option<String>,
    note: Option<String>,
    /// Anything else by name; a name may have several values.
    #[serde(default)]
    parameter: BTreeMap<String, Texts>,
    /// Fields that this schema does not know are reported in the record's `quality`: a misspelt one must not get lost.
    #[serde(flatten)]
    #[schemars(skip)]
    unknown: BTreeMap<String, Value>,
}

/// A point in degrees (WGS 84).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Place {
    #[schemars(range(min = -90, max = 90))]
    pub latitude: f64,
    #[schemars(range(min = -180, max = 180))]
    pub longitude: f64,
}

/// One area, or a list of them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected an area or a list of areas")]
enum OneOrMany {
    One(Box<AreaMessage>),
    Many(Vec<AreaMessage>),
}

/// Where the alert holds. A shape that cannot be read does not stop the alert: the record's `quality` names it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct AreaMessage {
    description: Option<String>,
    #[schemars(with = "Option<Polygon>")]
    polygon: Option<Value>,
    #[schemars(with = "Option<Circle>")]
    circle: Option<Value>,
    /// Evacuation zones by name.
    #[serde(default)]
    zones: Texts,
    /// Code system → codes, such as `SAME` → `006023`.
    #[serde(default)]
    geocodes: BTreeMap<String, Texts>,
    /// As in the message.
    #[serde(flatten)]
    #[schemars(skip)]
    unknown: BTreeMap<String, Value>,
}

/// A list of texts; a single text is a list of one, null an empty one.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum Texts {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Texts {
    fn list(self) -> Vec<String> {
        match self {
            Texts::None => Vec::new(),
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
        }
    }
}

fn multimap(map: BTreeMap<String, Texts>) -> Multimap {
    map.into_iter().map(|(name, texts)| (name, texts.list())).collect()
}

/// The three ways to write a polygon.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code)] // read by hand, so that a broken polygon costs that polygon only
enum Polygon {
    /// `[[latitude, longitude], …]`, closed here if the sender left it open.
    Pairs(Vec<[f64; 2]>),
    /// CAP's text `lat,lon lat,lon …`, closed.
    Text(String),
    /// A GeoJSON Polygon or MultiPolygon: longitude first.
    GeoJson {
        #[serde(rename = "type")]
        #[schemars(extend("enum" = ["Polygon", "MultiPolygon"]))]
        kind: String,
        coordinates: Vec<Value>,
    },
}

/// The two ways to write a circle.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code)] // read by hand, as Polygon
enum Circle {
    /// CAP's text `lat,lon radius`, the radius in km.
    Text(String),
    Object {
        latitude: f64,
        longitude: f64,
        radius_km: f64,
    },
}

/// # Errors
/// `bad_json` and `too_large`: nothing of the text can be read.
pub(super) fn parse(body: &Bytes) -> Result<AlertMessage, Reject> {
    let text = json::bounded(body, ALERT_BYTES)?;
    serde_json::from_slice(text).map_err(|e| Reject::new(Reason::BadJson, e.to_string()))
}

pub(super) fn row(message: AlertMessage, context: Context<'_>) -> Row {
    let (alert, beside) = published(message)?;
    draft(alert, beside, context)
}

fn published(message: AlertMessage) -> Result<(Alert, Beside), Reject> {
    let sender = required(message.sender.as_deref(), "sender")?;
    let msg_type = required(message.msg_type.as_deref(), "msgType")?;
    let informs = !["Cancel", "Ack", "Error"].iter().any(|known| known.eq_ignore_ascii_case(&msg_type));
    if informs {
        required(message.event.as_deref(), "event")?;
        if message.area.is_none() && message.place.is_none() {
            return Err(Reject::new(Reason::MissingField, "area or place is missing"));
        }
    }
    let mut quality = unknown("", &message.unknown);
    let derived_from = match message.derived_from.as_deref().map(str::parse) {
        Some(Err(_)) => {
            quality.push(Quality::new("derived_from", "is no event id", message.derived_from.as_deref().unwrap_or("")));
            None
        }
        parsed => parsed.and_then(Result::ok),
    };
    let areas = match message.area {
        None => Vec::new(),
        Some(OneOrMany::One(area)) => vec![*area],
        Some(OneOrMany::Many(areas)) => areas,
    };
    quality.extend(areas.iter().enumerate().flat_map(|(n, area)| unknown(&format!("area[{n}]."), &area.unknown)));
    let info = Info {
        language: message.language,
        category: message.category.list(),
        event: message.event,
        response_type: message.response_type.list(),
        urgency: message.urgency,
        severity: message.severity,
        certainty: message.certainty,
        effective: message.effective,
        onset: message.onset,
        expires: message.expires,
        sender_name: message.sender_name,
        headline: message.headline,
        description: message.description,
        instruction: message.instruction,
        web: message.web,
        contact: message.contact,
        parameter: multimap(message.parameter),
        area: areas.into_iter().map(AreaMessage::published).collect(),
        ..Info::default()
    };
    let references = message.references.list();
    let alert = Alert {
        format: "json",
        identifier: required(message.id.as_deref(), "id")?,
        sent: required(message.sent.as_deref(), "sent")?,
        status: required(message.status.as_deref(), "status")?,
        msg_type,
        note: message.note,
        references: references
            .iter()
            .flat_map(|text| text.split_whitespace())
            .map(|text| if text.contains(',') { text.to_owned() } else { format!("{sender},{text}") })
            .collect(),
        sender,
        population: message.population,
        rate_of_spread: message.rate_of_spread,
        place: message.place,
        info: vec![info],
        ..Alert::default()
    };
    Ok((alert, Beside { derived_from, quality }))
}

fn unknown(within: &str, fields: &BTreeMap<String, Value>) -> Vec<Quality> {
    let fault = |(field, value): (&String, &Value)| {
        Quality::new(&format!("{within}{}", short(field)), "is no field of an alert", &value.to_string())
    };
    fields.iter().map(fault).collect()
}

impl AreaMessage {
    fn published(self) -> Area {
        let mut geocode = multimap(self.geocodes);
        let zones = self.zones.list();
        if !zones.is_empty() {
            geocode.entry("zone".to_owned()).or_default().extend(zones);
        }
        Area {
            area_desc: self.description,
            polygon: self.polygon.into_iter().collect(),
            circle: self.circle.into_iter().collect(),
            geocode,
            ..Area::default()
        }
    }
}
