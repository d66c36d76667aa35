//! What the sender of an accepted alert is told [E5]: the same over HTTP, as MQTT confirmation and on the command line. It says
//! all that is known, also what of the alert could not be read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::WARNINGS;
use crate::record::{AlertFacts, EventId, Quality, Record, ShapeTold, Topic};
use crate::sink::Written;
use crate::time::Timestamp;

/// Where an accepted alert is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AcknowledgedBy {
    /// The broker, with all replicas.
    Broker,
    /// It waits for the broker, or is a drill on its NORMAL way.
    Queue,
}

/// What one accepted alert became: E5's fields, the same through every door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// The event's id, under which the record is published.
    pub event_id: EventId,
    /// 0 for the first content of this alert, one more for each other one.
    pub revision: u32,
    /// The same content was accepted before: this time nothing was published.
    pub duplicate: bool,
    /// It had expired when it was accepted.
    pub expired: bool,
    /// Whether the shapes that it told stand in the published geometry.
    pub geometry: ShapeTold,
    /// What could not be read or is doubtful, the beginning of the record's `quality`.
    pub warnings: Vec<String>,
    /// What made it durable.
    pub acknowledged_by: AcknowledgedBy,
    /// Where it is published, without a prefix.
    pub topic: String,
    /// `partition` and `offset` in the topic, once the broker has it and says where.
    #[serde(flatten)]
    pub written: Option<Written>,
    /// Any status but `Actual`: it does not reach the critical topic.
    pub drill: bool,
}

impl Accepted {
    pub(super) fn new(
        record: &Record,
        alert: &AlertFacts,
        acknowledged_by: AcknowledgedBy,
        written: Option<Written>,
        now: Timestamp,
    ) -> Accepted {
        Accepted {
            event_id: record.draft.event,
            revision: record.revision,
            duplicate: false,
            expired: alert.expires.is_some_and(|expires| expires < now),
            geometry: alert.shape,
            warnings: warnings(&record.draft.quality),
            acknowledged_by,
            topic: record.topic.name().to_owned(),
            written,
            drill: record.topic == Topic::ALERT_DRILLS,
        }
    }

    /// As the sender of the same content hears it again.
    pub(super) fn again(&self, expired: bool) -> Accepted {
        Accepted { duplicate: true, expired, ..self.clone() }
    }
}

fn warnings(quality: &[Quality]) -> Vec<String> {
    let mut warnings: Vec<String> =
        quality.iter().take(WARNINGS).map(|quality| format!("{}: {}", quality.field, quality.problem)).collect();
    if let Some(more) = quality.len().checked_sub(WARNINGS).filter(|more| *more > 0) {
        warnings.push(format!("and {more} more, which the record's quality lists"));
    }
    warnings
}
