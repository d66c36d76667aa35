//! One event, from the valid values that a connector read (`Draft`) to the record that is published (`Record`).

pub(crate) mod envelope;
pub(crate) mod fresh;
pub mod ids;
mod lineage;
mod origin;
mod position;
pub(crate) mod schema;
mod stream;
mod topic;
pub mod value;

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use envelope::{Envelope, Outgoing};
pub use ids::{ConnectorId, EventId, SourceId, StreamId, TenantId, hex};
pub(crate) use ids::{EventHash, content_hash};
pub use lineage::Lineage;
pub use origin::Origin;
pub use position::{California, Geometry, Place, Position};
pub use stream::{Stream, WhenFull};
pub use topic::{SCHEMAS, Topic};

use crate::error::{Reason, Reject};
use crate::limits::{LARGEST_SEND_CRITICAL, LARGEST_SEND_HIGH, LARGEST_SEND_LOW, LARGEST_SEND_NORMAL};
use crate::time::Timestamp;

/// A priority level [P1]. The order is the order of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)] // each by its time in P1; a schema lists them by their names alone
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

/// An optional value that could not be read: it is null in the record, and this says why [S9].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Quality {
    /// The field as the record names it, or as the source did where the record has none.
    pub field: String,
    /// What is wrong with it, as a clause that follows the field.
    pub problem: String,
    /// The text as it came, shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
}

impl Quality {
    /// Of one field; `raw` is what came, of which 80 characters are kept.
    pub fn new(field: &str, problem: &str, raw: &str) -> Quality {
        Quality { field: field.into(), problem: problem.into(), raw: Some(raw.chars().take(80).collect()) }
    }
}

/// The source's own fields as JSON object text, made from a typed struct so that its schema is known [K5].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data(Box<str>);

thread_local! {
    /// Where data is written before it is kept in as many bytes as it has.
    static TEXT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A larger text gives its room back.
const TEXT_KEPT: usize = 64 * 1024;

impl Data {
    /// Fails only for a type that is no JSON object, which is a programming error of the connector.
    pub fn of<T: Serialize>(fields: &T) -> Result<Data, Reject> {
        let mut text = TEXT.take();
        text.clear();
        let written = serde_json::to_writer(&mut text, fields);
        let data = match (written, std::str::from_utf8(&text)) {
            (Ok(()), Ok(json)) if json.starts_with('{') => Ok(Data(json.into())),
            (Ok(()), _) => Err(Reject::new(Reason::BadJson, "data is not an object")),
            (Err(e), _) => Err(Reject::new(Reason::BadJson, format!("data does not serialise: {e}"))),
        };
        if text.capacity() <= TEXT_KEPT {
            TEXT.set(text);
        }
        data
    }

    /// The JSON text of one object.
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
    /// When the sender issued it.
    pub sent: Timestamp,
    /// From then on it is marked `expired`, and delivered all the same [E4].
    pub expires: Option<Timestamp>,
    /// Earlier messages that it refers to, each by the name that it has in `name`.
    pub references: Vec<String>,
    /// Sender and identifier, as later messages refer to it.
    pub name: String,
    /// Sender and first identifier of the thread: the key, so that a thread keeps its order.
    pub thread: String,
    /// What became of the shapes that it told.
    pub shape: ShapeTold,
    /// Where it lies by the codes of the counties and zones that it names: what is known of one without a shape [K5].
    pub california: Option<California>,
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
    /// When it happened, by the source; when it came, for a source without a clock.
    pub observed_at: Timestamp,
    /// When the source published it, if it says so.
    pub published_at: Option<Timestamp>,
    /// Where, in full.
    pub geometry: Option<Geometry>,
    /// The point that stands for the geometry: itself, or an area's centre.
    pub position: Option<Position>,
    /// The event that this one was made from [P3].
    pub derived_from: Option<EventId>,
    /// What could not be read, or was not understood [S9].
    pub quality: Vec<Quality>,
    /// For alerts alone.
    pub alert: Option<Box<AlertFacts>>,
    /// The source's own fields.
    pub data: Data,
    /// Among versions of one event, better ones or those of a door that tells more, a higher rank replaces a lower one, and never
    /// the other way round [S1, S12]. 0 where a source
    /// has no such order: then the later one replaces the earlier.
    pub rank: u8,
}

/// An observation with its identity, not yet judged against time and the seen-set. Nobody but `sources::identify` makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    read: Observation,
    /// Which event it tells of [S12].
    pub event: EventId,
    /// Tells a revised record from a repeated one: a hash of what is published.
    pub content: u32,
    /// The seen-set knows it by its key alone, not by the hour of observation.
    pub(crate) lasting: bool,
}

impl Draft {
    pub(crate) fn new(read: Observation, event: EventId, content: u32, lasting: bool) -> Draft {
        Draft { read, event, content, lasting }
    }

    /// A reject of this draft, with what it was read from and who pushed it.
    pub fn refused(&self, reject: Reject) -> Reject {
        self.origin.refused(&self.data, reject)
    }
}

/// What was read.
impl Deref for Draft {
    type Target = Observation;

    fn deref(&self) -> &Observation {
        &self.read
    }
}

impl DerefMut for Draft {
    fn deref_mut(&mut self) -> &mut Observation {
        &mut self.read
    }
}

/// A W3C trace context, `00-{trace}-{span}-01` [O5].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traceparent(Arc<str>);

impl Traceparent {
    /// From random bytes: the trace's name and the name of this part of it.
    pub fn new(trace: [u8; 16], span: [u8; 8]) -> Traceparent {
        let (trace, span) = (u128::from_be_bytes(trace), u64::from_be_bytes(span));
        Traceparent(format!("00-{trace:032x}-{span:016x}-01").into())
    }

    /// As an envelope's head has it.
    pub(crate) fn read(text: &str) -> Traceparent {
        Traceparent(text.into())
    }

    /// The header's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A record that is accepted: with identity, tier, place and times. Serialised by `value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What was read, with its identity.
    pub draft: Draft,
    /// 0 for the first, one more for every changed content under the same event id [S12].
    pub revision: u32,
    /// Whose record it is [D4].
    pub tenant: TenantId,
    /// The source in words, such as `NASA FIRMS VIIRS S-NPP`.
    pub source_name: &'static str,
    /// How urgent it is, decided once [P3].
    pub tier: Tier,
    /// Where it is published.
    pub topic: Topic,
    /// Its cell and California, for a record with a position.
    pub place: Option<Place>,
    /// The fire that it tells of, where one is known: no part of its identity or its content [S12].
    pub incident: Option<Arc<str>>,
    /// When it was accepted; the Kafka timestamp [K5].
    pub ingested_at: Timestamp,
}

impl Record {
    /// The Kafka key: alerts by thread, else the H3 cell, else the source id [K3, E4].
    pub fn key(&self) -> String {
        match (&self.draft.alert, &self.place) {
            (Some(alert), _) => alert.thread.clone(),
            (None, Some(place)) => place.cell().as_str().to_owned(),
            (None, None) => self.draft.source.to_string(),
        }
    }
}
