//! One event, from the valid values that a connector read (`Draft`) to the record that is published (`Record`).

pub mod envelope;
pub mod ids;
mod origin;
pub mod schema;
mod stream;
mod topic;
pub mod value;

use serde::{Deserialize, Serialize};

pub use envelope::{Envelope, Outgoing};
pub(crate) use ids::content_hash;
pub use ids::{ConnectorId, EventId, SourceId, StreamId, TenantId, hex};
pub use origin::Origin;
pub use stream::{Stream, WhenFull};
pub use topic::{SCHEMAS, Topic};

use crate::error::{Reason, Reject};
use crate::limits::{LARGEST_SEND_CRITICAL, LARGEST_SEND_HIGH, LARGEST_SEND_LOW, LARGEST_SEND_NORMAL};
use crate::time::Timestamp;

/// A priority level [P1]. The order is the order of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Tier {
    Critical,
    High,
    Normal,
    Low,
}

impl Tier {
    /// In the order of service.
    pub const ALL: [Tier; 4] = [Tier::Critical, Tier::High, Tier::Normal, Tier::Low];
    /// The tiers that deficit round robin serves, by weight [P4].
    pub const BULK: [Tier; 3] = [Tier::High, Tier::Normal, Tier::Low];

    /// Records that are sent together at most [P5].
    pub const fn largest_send(self) -> usize {
        match self {
            Tier::Critical => LARGEST_SEND_CRITICAL,
            Tier::High => LARGEST_SEND_HIGH,
            Tier::Normal => LARGEST_SEND_NORMAL,
            Tier::Low => LARGEST_SEND_LOW,
        }
    }

    /// In capitals, as records name it.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Critical => "CRITICAL",
            Tier::High => "HIGH",
            Tier::Normal => "NORMAL",
            Tier::Low => "LOW",
        }
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A point on Earth in degrees (WGS 84), in range by construction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    latitude: f64,
    longitude: f64,
}

impl Position {
    /// Refuses a latitude outside ±90 and a longitude outside ±180; NaN and infinities too [S9].
    pub fn new(latitude: f64, longitude: f64) -> Result<Position, Reject> {
        if !(-90.0..=90.0).contains(&latitude) {
            return Err(Reject::new(Reason::BadLatitude, format!("latitude {latitude} is not in -90..90")));
        }
        if !(-180.0..=180.0).contains(&longitude) {
            return Err(Reject::new(Reason::BadLongitude, format!("longitude {longitude} is not in -180..180")));
        }
        // -0 is 0: one place is written in one way.
        Ok(Position { latitude: latitude + 0.0, longitude: longitude + 0.0 })
    }

    pub fn latitude(self) -> f64 {
        self.latitude
    }

    pub fn longitude(self) -> f64 {
        self.longitude
    }
}

/// Where a record stands against California's border.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum California {
    Inside,
    Near,
    Outside,
}

/// A position with what is derived from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    pub position: Position,
    /// H3 cell of resolution 5 [K3].
    pub h3: h3o::CellIndex,
    pub california: California,
}

/// The shape of a record: a point, or GeoJSON text of any other valid geometry.
#[derive(Debug, Clone, PartialEq)]
pub enum Geometry {
    Point(Position),
    GeoJson(String),
}

/// An optional value that could not be read: it is null in the record, and this says why [S9].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Quality {
    pub field: String,
    pub problem: String,
    /// The text as it came, shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
}

impl Quality {
    pub fn new(field: &str, problem: &str, raw: &str) -> Quality {
        Quality { field: field.into(), problem: problem.into(), raw: Some(raw.chars().take(80).collect()) }
    }
}

/// The source's own fields as JSON object text, made from a typed struct so that its schema is known [K5].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data(String);

impl Data {
    /// Fails only for a type that is no JSON object, which is a programming error of the connector.
    pub fn of<T: Serialize>(fields: &T) -> Result<Data, Reject> {
        match serde_json::to_string(fields) {
            Ok(text) if text.starts_with('{') => Ok(Data(text)),
            Ok(_) => Err(Reject::new(Reason::BadJson, "data is not an object")),
            Err(e) => Err(Reject::new(Reason::BadJson, format!("data does not serialise: {e}"))),
        }
    }

    pub fn json(&self) -> &str {
        &self.0
    }
}

/// What became of the shapes that an alert told [E5].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ShapeTold {
    /// All of them stand in the record's geometry.
    Ok,
    /// It told none.
    None,
    /// One at least could not be read: the geometry is smaller than the sender meant, or missing.
    Broken,
}

/// What an alert says of itself beside its data: how it is routed, keyed and ordered [E4].
#[derive(Debug, Clone, PartialEq)]
pub struct AlertFacts {
    /// `Actual`, `Exercise`, `System`, `Test` or `Draft`.
    pub status: String,
    /// `Alert`, `Update`, `Cancel`, `Ack` or `Error`.
    pub msg_type: String,
    pub sent: Timestamp,
    pub expires: Option<Timestamp>,
    pub references: Vec<String>,
    /// Sender and identifier, as later messages refer to it.
    pub name: String,
    /// Sender and first identifier of the thread: the key, so that a thread keeps its order.
    pub thread: String,
    pub shape: ShapeTold,
    /// People in the area, if told [P7].
    pub population: Option<u64>,
    /// Chains an hour or as told by the sender, if told [P7].
    pub rate_of_spread: Option<f64>,
}

impl AlertFacts {
    /// Test, Exercise, System and Draft go everywhere but the critical topic [E4].
    pub fn is_drill(&self) -> bool {
        self.status != "Actual"
    }
}

/// What a decoder read: valid values, nobody's identity yet. `sources::identify` makes the draft of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Kept for the case that it must be refused.
    pub origin: Origin,
    /// May differ from the stream's id: the row's satellite decides [S1].
    pub source: SourceId,
    pub observed_at: Timestamp,
    pub published_at: Option<Timestamp>,
    pub geometry: Option<Geometry>,
    /// The point that stands for the geometry: itself, or an area's centre.
    pub position: Option<Position>,
    pub derived_from: Option<EventId>,
    pub quality: Vec<Quality>,
    pub alert: Option<Box<AlertFacts>>,
    pub data: Data,
    /// Among versions of one event a higher rank replaces a lower one, and never the other way round [S1]. 0 where a source
    /// has no such order: then the later one replaces the earlier.
    pub rank: u8,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Identified;

/// An observation with its identity, not yet judged against time and the seen-set.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Kept for the case that it must be refused.
    pub origin: Origin,
    pub source: SourceId,
    pub event: EventId,
    /// Tells a revised record from a repeated one: a hash of what is published.
    pub content: u32,
    pub observed_at: Timestamp,
    pub published_at: Option<Timestamp>,
    pub geometry: Option<Geometry>,
    pub position: Option<Position>,
    pub derived_from: Option<EventId>,
    pub quality: Vec<Quality>,
    pub alert: Option<Box<AlertFacts>>,
    pub data: Data,
    pub rank: u8,
    /// Nobody but `sources::identify` gives a record its identity.
    _identified: Identified,
}

impl Draft {
    pub(crate) fn new(read: Observation, event: EventId, content: u32) -> Draft {
        Draft {
            origin: read.origin,
            source: read.source,
            event,
            content,
            observed_at: read.observed_at,
            published_at: read.published_at,
            geometry: read.geometry,
            position: read.position,
            derived_from: read.derived_from,
            quality: read.quality,
            alert: read.alert,
            data: read.data,
            rank: read.rank,
            _identified: Identified,
        }
    }

    /// A reject of this draft, with what it was read from and who pushed it.
    pub fn refused(&self, reject: Reject) -> Reject {
        self.origin.refused(&self.data, reject)
    }
}

/// A W3C trace context, `00-{trace}-{span}-01` [O5].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traceparent(String);

impl Traceparent {
    pub fn new(trace: [u8; 16], span: [u8; 8]) -> Traceparent {
        Traceparent(format!("00-{:032x}-{:016x}-01", u128::from_be_bytes(trace), u64::from_be_bytes(span)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A record that is accepted: with identity, tier, place and times. Serialised by `value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub draft: Draft,
    /// 0 for the first, one more for every changed content under the same event id [S12].
    pub revision: u32,
    pub tenant: TenantId,
    /// The source in words, such as `NASA FIRMS VIIRS S-NPP`.
    pub source_name: &'static str,
    pub tier: Tier,
    pub topic: Topic,
    pub place: Option<Place>,
    pub ingested_at: Timestamp,
}

impl Record {
    /// The Kafka key: alerts by thread, else the H3 cell, else the source id [K3, E4].
    pub fn key(&self) -> String {
        match (&self.draft.alert, &self.place) {
            (Some(alert), _) => alert.thread.clone(),
            (None, Some(place)) => place.h3.to_string(),
            (None, None) => self.draft.source.to_string(),
        }
    }
}
