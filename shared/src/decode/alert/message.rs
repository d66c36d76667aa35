//! An alert as the JSON that `POST /alerts` and MQTT `alerts/{source_id}` take [E5]. The types here are the published
//! schema `alert-1`; CAP is read elsewhere.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::references::split;
use super::{Alert, Area, Beside, Info, Multimap, draft, required, short};
use crate::decode::sensor::measures::{number, shown};
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
pub(crate) struct AlertMessage {
    /// Unique among the sender's alerts; no blanks or commas.
    #[schemars(required, extend("pattern" = NAME))]
    id: Option<String>,
    /// Who issues it: a name that is unique in the world, no blanks or commas.
    #[schemars(required, extend("pattern" = NAME))]
    sender: Option<String>,
    /// When it is issued: RFC 3339 with an offset.
    #[schemars(required, extend("format" = "date-time"))]
    sent: Option<String>,
    /// `Actual` rings; `Test`, `Exercise`, `System` and `Draft` go to `wildfire-alert-drills`.
    #[schemars(required, extend("enum" = ["Actual", "Exercise", "System", "Test", "Draft"]))]
    status: Option<String>,
    /// An `Update` or `Cancel` names the earlier messages in `references`.
    #[schemars(required, extend("enum" = ["Alert", "Update", "Cancel", "Ack", "Error"]))]
    msg_type: Option<String>,
    /// What happens, such as `Evacuation Order`.
    event: Option<String>,
    area: Option<Told<OneOrMany>>,
    place: Option<Told<Place>>,
    /// RFC 3339 with an offset; an alert delivered later is marked `expired`, never dropped.
    expires: Option<Told<String>>,
    effective: Option<Told<String>>,
    onset: Option<Told<String>>,
    /// Earlier messages of the thread, oldest first: `sender,id,sent`, or the id alone for one of the same sender.
    #[serde(default)]
    references: Texts,
    /// `event_id` of the record that this alert was made from.
    #[serde(rename = "derived_from")]
    derived_from: Option<Told<String>>,
    /// People in the area.
    population: Option<Told<u64>>,
    /// Forward rate of spread in chains an hour.
    #[serde(rename = "rate_of_spread")]
    rate_of_spread: Option<Told<f64>>,
    /// Of the texts; en-US when absent.
    language: Option<Told<String>>,
    #[serde(default)]
    category: Texts,
    /// `Evacuate`, `Shelter`, `AllClear`, …
    #[serde(default)]
    response_type: Texts,
    /// `Immediate`, `Expected`, `Future`, `Past` or `Unknown`.
    urgency: Option<Told<String>>,
    /// `Extreme`, `Severe`, `Moderate`, `Minor` or `Unknown`.
    severity: Option<Told<String>>,
    /// `Observed`, `Likely`, `Possible`, `Unlikely` or `Unknown`.
    certainty: Option<Told<String>>,
    sender_name: Option<Told<String>>,
    headline: Option<Told<String>>,
    description: Option<Told<String>>,
    instruction: Option<Told<String>>,
    web: Option<Told<String>>,
    contact: Option<Told<String>>,
    note: Option<Told<String>>,
    /// Anything else by name; a name may have several values.
    parameter: Option<Told<BTreeMap<String, Texts>>>,
    /// Fields that this schema does not know are reported in the record's `quality`: a misspelt one must not get lost.
    #[serde(flatten)]
    #[schemars(skip)]
    unknown: BTreeMap<String, Value>,
}

impl AlertMessage {
    /// CAP's own form in JSON, which names its parts otherwise.
    pub(super) fn is_cap(&self) -> bool {
        self.id.is_none() && self.unknown.contains_key("identifier")
    }

    /// Nothing of it says whose alert it is, or which: a service's error, if it tells of one.
    pub(super) fn is_nameless(&self) -> bool {
        [&self.sender, &self.id, &self.sent, &self.msg_type].into_iter().all(Option::is_none)
    }

    /// A GeoJSON feature, as NWS gives a single alert.
    pub(super) fn is_feature(&self) -> bool {
        self.sender.is_none() && self.unknown.contains_key("properties")
    }
}

/// A point in degrees (WGS 84).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
pub(crate) struct Place {
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
    Many(Vec<Told<AreaMessage>>),
}

/// Where the alert holds. A shape that cannot be read does not stop the alert: the record's `quality` names it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct AreaMessage {
    description: Option<Told<String>>,
    #[schemars(with = "Option<Polygon>")]
    polygon: Option<Value>,
    #[schemars(with = "Option<Circle>")]
    circle: Option<Value>,
    /// Evacuation zones by name.
    #[serde(default)]
    zones: Texts,
    /// Code system → codes, such as `SAME` → `006023`.
    geocodes: Option<Told<BTreeMap<String, Texts>>>,
    /// As in the message.
    #[serde(flatten)]
    #[schemars(skip)]
    unknown: BTreeMap<String, Value>,
}

/// A list of texts; a single text is a list of one, null an empty one.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Texts {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
    #[schemars(skip)]
    Unreadable(Value),
}

/// A field that an alert can do without: unreadable, it costs itself alone, and the record's `quality` names it [S9].
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Told<T> {
    Read(T),
    Unreadable(Value),
}

/// What is published is the field as it should be.
impl<T: JsonSchema> JsonSchema for Told<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Reads fields and lists the faults of those that cannot be read.
#[derive(Default)]
struct Reader {
    quality: Vec<Quality>,
    /// An area or the place was told and cannot be read.
    place_lost: bool,
}

impl Reader {
    fn fault(&mut self, field: &str, problem: &str, value: &Value) {
        self.quality.push(Quality::new(field, problem, &shown(value)));
    }

    fn told<T>(&mut self, field: &str, told: Option<Told<T>>) -> Option<T> {
        match told? {
            Told::Read(value) => Some(value),
            Told::Unreadable(value) => {
                self.fault(field, "has another type than the schema says", &value);
                None
            }
        }
    }

    /// As `told`, for a field that says where the alert holds.
    fn placed<T>(&mut self, field: &str, told: Option<Told<T>>) -> Option<T> {
        self.place_lost |= matches!(told, Some(Told::Unreadable(ref value)) if !value.is_null());
        self.told(field, told)
    }

    /// A number, also as text.
    fn number(&mut self, field: &str, told: Option<Told<f64>>) -> Option<f64> {
        match told? {
            Told::Read(number) => Some(number),
            Told::Unreadable(value) => number(&value).unwrap_or_else(|problem| {
                self.fault(field, problem, &value);
                None
            }),
        }
    }

    fn count(&mut self, field: &str, told: Option<Told<u64>>) -> Option<u64> {
        match told? {
            Told::Read(count) => Some(count),
            Told::Unreadable(value) => match number(&value) {
                Ok(None) => None,
                Ok(Some(number)) if (0.0..1e15).contains(&number) && number.fract() == 0.0 => Some(number as u64),
                _ => {
                    self.fault(field, "is no count", &value);
                    None
                }
            },
        }
    }

    fn texts(&mut self, field: &str, texts: Texts) -> Vec<String> {
        match texts {
            Texts::None => Vec::new(),
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
            Texts::Unreadable(value) => {
                self.fault(field, "is neither a text nor a list of texts", &value);
                Vec::new()
            }
        }
    }

    fn multimap(&mut self, field: &str, map: BTreeMap<String, Texts>) -> Multimap {
        map.into_iter()
            .map(|(name, texts)| {
                let texts = self.texts(&format!("{field}.{}", short(&name)), texts);
                (name, texts)
            })
            .collect()
    }

    fn unknown(&mut self, within: &str, fields: &BTreeMap<String, Value>) {
        for (field, value) in fields {
            self.fault(&format!("{within}{}", short(field)), "is no field of an alert", value);
        }
    }

    /// `n`: its place in the sender's list.
    fn area(&mut self, n: usize, area: AreaMessage) -> Area {
        let within = format!("area[{n}].");
        let field = |name: &str| format!("{within}{name}");
        self.unknown(&within, &area.unknown);
        let geocodes = self.told(&field("geocodes"), area.geocodes).unwrap_or_default();
        let mut geocode = self.multimap(&field("geocodes"), geocodes);
        let zones = self.texts(&field("zones"), area.zones);
        if !zones.is_empty() {
            geocode.entry("zone".to_owned()).or_default().extend(zones);
        }
        Area {
            area_desc: self.told(&field("description"), area.description),
            polygon: area.polygon.into_iter().collect(),
            circle: area.circle.into_iter().collect(),
            geocode,
            ..Area::default()
        }
    }
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
    let sender = name(message.sender.as_deref(), "sender")?;
    let msg_type = required(message.msg_type.as_deref(), "msgType")?;
    let mut reader = Reader::default();
    reader.unknown("", &message.unknown);
    let areas = match reader.placed("area", message.area) {
        None => Vec::new(),
        Some(OneOrMany::One(area)) => vec![(0, *area)],
        Some(OneOrMany::Many(areas)) => {
            let read = |(n, area)| Some((n, reader.placed(&format!("area[{n}]"), Some(area))?));
            areas.into_iter().enumerate().filter_map(read).collect()
        }
    };
    let place = reader.placed("place", message.place);
    let informs = !["Cancel", "Ack", "Error"].iter().any(|known| known.eq_ignore_ascii_case(&msg_type));
    if informs {
        required(message.event.as_deref(), "event")?;
        if areas.is_empty() && place.is_none() {
            return Err(Reject::new(Reason::MissingField, "area or place is missing, or cannot be read"));
        }
    }
    let derived_from = reader
        .told("derived_from", message.derived_from)
        .and_then(|text| text.parse().map_err(|_| reader.fault("derived_from", "is no event id", &text.into())).ok());
    let parameter = reader.told("parameter", message.parameter).unwrap_or_default();
    let info = Info {
        language: reader.told("language", message.language),
        category: reader.texts("category", message.category),
        event: message.event,
        response_type: reader.texts("responseType", message.response_type),
        urgency: reader.told("urgency", message.urgency),
        severity: reader.told("severity", message.severity),
        certainty: reader.told("certainty", message.certainty),
        effective: reader.told("effective", message.effective),
        onset: reader.told("onset", message.onset),
        expires: reader.told("expires", message.expires),
        sender_name: reader.told("senderName", message.sender_name),
        headline: reader.told("headline", message.headline),
        description: reader.told("description", message.description),
        instruction: reader.told("instruction", message.instruction),
        web: reader.told("web", message.web),
        contact: reader.told("contact", message.contact),
        parameter: reader.multimap("parameter", parameter),
        area: areas.into_iter().map(|(n, area)| reader.area(n, area)).collect(),
        ..Info::default()
    };
    let references = match message.references {
        // It decides the thread, and with it the order: nothing is guessed.
        Texts::Unreadable(_) => {
            return Err(Reject::new(Reason::BadJson, "references is neither a text nor a list of texts"));
        }
        texts => reader.texts("references", texts),
    };
    let alert = Alert {
        format: "json",
        identifier: name(message.id.as_deref(), "id")?,
        sent: required(message.sent.as_deref(), "sent")?,
        status: required(message.status.as_deref(), "status")?,
        msg_type,
        note: reader.told("note", message.note),
        references: references
            .iter()
            .flat_map(|text| split(text))
            .map(|text| if text.contains(',') { text } else { format!("{sender},{text}") })
            .collect(),
        sender,
        population: reader.count("population", message.population),
        rate_of_spread: reader.number("rate_of_spread", message.rate_of_spread),
        place,
        info: vec![info],
        ..Alert::default()
    };
    Ok((alert, Beside { derived_from, quality: reader.quality, place_lost: reader.place_lost }))
}

/// What `references` can name.
const NAME: &str = r"^[^\s,\x00-\x1f]+$";

fn name(text: Option<&str>, field: &str) -> Result<String, Reject> {
    let name = required(text, field)?;
    if name.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',') {
        Err(Reject::new(
            Reason::BadJson,
            format!(
                "{field} {:?} has a blank, a comma or a control character: no reference could name it",
                short(&name)
            ),
        ))
    } else {
        Ok(name)
    }
}
