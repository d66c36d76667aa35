//! One record's whole way [O7]: by its event, or an alert by `sender,identifier`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use streammanager::control::connectors::{self, ControlError};
use streammanager::dead;
use streammanager::express::known;
use streammanager::provenance::{Outcome, Step};
use streammanager::record::{EventId, SourceId, Topic};

use super::{Answer, Asked, named};
use crate::events::HttpResponse;

pub(super) async fn trace(asked: Asked<'_>) -> Answer {
    let events = match (asked.query("event"), asked.query("alert")) {
        (Some(event), None) => vec![(named(event)?, Value::Null)],
        (None, Some(name)) => alerts_named(&asked, name).await?,
        _ => return Err(ControlError::Refused("name one: event, or alert as sender,identifier".into())),
    };
    let mut ways = Vec::new();
    for (event, accepted) in events {
        if let Some(way) = way(&asked, event, accepted).await? {
            ways.push(way);
        }
    }
    if ways.is_empty() {
        let asked_for = asked.query("event").or(asked.query("alert")).unwrap_or_default();
        let kept = asked.app.provenance.way(EventId::from_bytes([0; 16])).await?.is_some();
        let why = if kept { "" } else { " (no record's steps are kept here)" };
        return Err(ControlError::Unknown(format!("trace of {asked_for}{why}")));
    }
    Ok(HttpResponse::json(200, &json!({ "ways": ways })))
}

/// The events that messages of this name became, with what their senders were told: an actual one and drills are different events.
async fn alerts_named(asked: &Asked<'_>, name: &str) -> Result<Vec<(EventId, Value)>, ControlError> {
    if !name.contains(',') {
        return Err(ControlError::Refused(format!("alert {name:?} is not sender,identifier")));
    }
    let connectors = connectors::list(asked.store()).await?;
    let sources: BTreeSet<SourceId> =
        connectors.into_iter().flat_map(|connector| connector.registration.sources).collect();
    let mut events: Vec<(EventId, Vec<Value>)> = Vec::new();
    for source in sources {
        for accepted in known::accepted(asked.store(), &source, name).await? {
            let told = json!(accepted);
            match events.iter_mut().find(|(event, _)| *event == accepted.event_id) {
                Some((_, all)) => all.push(told),
                None => events.push((accepted.event_id, vec![told])),
            }
        }
    }
    Ok(events.into_iter().map(|(event, told)| (event, json!(told))).collect())
}

/// `None`: nothing is known of it. `accepted`: what the senders of an alert were told, null where that is not known.
async fn way(asked: &Asked<'_>, event: EventId, accepted: Value) -> Result<Option<Value>, ControlError> {
    let steps = asked.app.provenance.way(event).await?;
    // The sink refused it, or its announcement went out under the same id.
    let refused = |step: &Step| {
        let announced = |topic| topic == Topic::DEAD_LETTERS.name();
        step.sent.as_ref().is_some_and(|sent| announced(sent.topic) || matches!(sent.outcome, Outcome::Refused(_)))
    };
    let steps_taken = steps.as_deref().unwrap_or_default();
    // Letters are many, and their ids are not sorted: they are looked through only for what may be one.
    let letter = if steps_taken.is_empty() || steps_taken.iter().any(refused) {
        dead::find(asked.store(), event).await?
    } else {
        None
    };
    if steps_taken.is_empty() && letter.is_none() && accepted.is_null() {
        return Ok(None);
    }
    Ok(Some(json!({ "event_id": event, "steps": steps, "accepted": accepted, "dead_letter": letter })))
}
