//! The thread of alerts that is made of one evacuation zone [P3, S14]: which message its status asks for next, in CAP's words. Pure;
//! what is durable when, and who may send, is `express::derived`'s.
//!
//! A thread is opened by what asks people to act at once: an order, or shelter in place. A warning or an advisory opens none: who
//! leaves in good time is served by the zone's own record, and a siren that rings for each of them is not heard for the order. Once a
//! thread is open, each other word for the zone, another shape of it and another text are an Update, down to the advisory; *normal*
//! and *lifted*, which the list must say itself, are the Cancel that closes it. A guess (`lifted_unconfirmed`), a text that is not
//! known and a training say nothing; a zone that left the list and comes back is told again, even in the same words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::status::Status;
use crate::limits::{DERIVED_SHAPE_BYTES, DERIVED_TEXT_BYTES};
use crate::record::{ConnectorId, Draft, EventId, Geometry, SourceId, hex};
use crate::sources::WrongField;
use crate::time::{Timestamp, rfc3339};

/// As whom alerts are derived of a stream's zones. Nothing is derived while the connector has no critical grant for the source id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ZoneAlerts")]
pub struct Alerts {
    /// A registered connector; also the alerts' `sender`.
    pub connector: ConnectorId,
    /// What the alerts are published under: it begins with `life_safety_zone_`.
    pub source_id: SourceId,
}

/// Of a zone's and its county's names.
const NAME_BYTES: usize = 200;
/// What source ids of alerts derived of zones begin with.
const PREFIX: &str = "life_safety_zone_";

impl Alerts {
    pub(super) fn check(&self) -> Result<(), WrongField> {
        if self.source_id.as_str().strip_prefix(PREFIX).is_some_and(|rest| !rest.is_empty()) {
            return Ok(());
        }
        let rule = format!("{} does not begin with {PREFIX} and a name behind it", self.source_id);
        Err(WrongField::new("source_id", rule).within(["alerts".into()]))
    }
}

/// What of a zone's record an alert is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Zone {
    #[serde(default)]
    event: Option<EventId>,
    #[serde(default)]
    shape: Option<Value>,
    county: Option<String>,
    zone_id: String,
    zone_name: Option<String>,
    status: Status,
    public_info: Option<String>,
    critical_info: Option<String>,
    /// Something of it is too long for an alert.
    #[serde(default)]
    is_cut: bool,
}

/// What a zone's status asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// People must act at once.
    Act,
    /// Less than that.
    Less,
    /// It is over, by the list's own word.
    Over,
    /// It is not in the list.
    Left,
    /// Nothing that anybody can rely on.
    Nothing,
}

fn means(status: Status) -> Means {
    match status {
        Status::Order | Status::ShelterInPlace => Means::Act,
        Status::Warning | Status::Advisory => Means::Less,
        Status::Normal | Status::Lifted => Means::Over,
        Status::LiftedUnconfirmed => Means::Left,
        Status::Training | Status::Unknown => Means::Nothing,
    }
}

impl Zone {
    /// `None` for a record that is no zone's.
    pub(crate) fn of(draft: &Draft) -> Option<Zone> {
        let zone: Zone = serde_json::from_str(draft.data.json()).ok()?;
        let shape = match &draft.geometry {
            Some(Geometry::GeoJson(text)) => serde_json::from_str::<Value>(text).ok(),
            Some(Geometry::Point(_)) | None => None,
        };
        let is_area = |shape: &Value| matches!(shape["type"].as_str(), Some("Polygon" | "MultiPolygon"));
        Some(Zone { event: Some(draft.event), shape: shape.filter(is_area), ..zone }.bounded())
    }

    /// As much of it as an alert says, and as is stored while one waits.
    fn bounded(mut self) -> Zone {
        let is_long = |shape: &Value| shape.to_string().len() > DERIVED_SHAPE_BYTES;
        if self.shape.as_ref().is_some_and(is_long) {
            (self.shape, self.is_cut) = (None, true);
        }
        let mut cut = |text: &mut String, most: usize| {
            if text.len() > most {
                text.truncate(text.floor_char_boundary(most));
                self.is_cut = true;
            }
        };
        cut(&mut self.zone_id, NAME_BYTES);
        for (text, most) in [
            (&mut self.county, NAME_BYTES),
            (&mut self.zone_name, NAME_BYTES),
            (&mut self.public_info, DERIVED_TEXT_BYTES),
            (&mut self.critical_info, DERIVED_TEXT_BYTES),
        ] {
            if let Some(text) = text {
                cut(text, most);
            }
        }
        self
    }

    /// The same zone has the same name in every stream.
    pub(crate) fn name(&self) -> String {
        self.event.map(|event| event.to_string()).unwrap_or_default()
    }

    /// People must act at once.
    pub(crate) fn is_urgent(&self) -> bool {
        means(self.status) == Means::Act
    }

    /// As people call it.
    pub(crate) fn called(&self) -> String {
        match &self.county {
            Some(county) => format!("zone {} in {county}", self.zone_id),
            None => format!("zone {}", self.zone_id),
        }
    }

    /// A short text that is another one when what an alert says of it is.
    fn said(&self) -> String {
        if means(self.status) == Means::Over {
            return "over".to_owned();
        }
        let said = json!([self.status, self.shape, self.public_info, self.critical_info]).to_string();
        hex(&Sha256::digest(said)[..16])
    }

    /// An identifier that no other message has: the zone in words, its event, and the second.
    fn identifier(&self, now: Timestamp) -> String {
        let words: String =
            self.zone_id.chars().take(48).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let at: String = rfc3339(now)[..19].chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        format!("{words}-{:.8}-{at}Z", self.name())
    }

    fn message(&self, sender: &ConnectorId, kind: &str, references: &[&str], now: Timestamp) -> Message {
        let (identifier, sent) = (self.identifier(now), rfc3339(now));
        let (event, response, urgency, severity) = match self.status {
            Status::Order => ("Evacuation Order", "Evacuate", "Immediate", Some("Extreme")),
            Status::ShelterInPlace => ("Shelter in Place", "Shelter", "Immediate", Some("Extreme")),
            Status::Warning => ("Evacuation Warning", "Prepare", "Expected", Some("Severe")),
            Status::Advisory => ("Evacuation Advisory", "Monitor", "Future", Some("Moderate")),
            _ => ("Evacuation Lifted", "AllClear", "Past", None),
        };
        let called = self.called();
        let description = self.zone_name.as_deref().map_or_else(|| called.clone(), |name| format!("{called} ({name})"));
        let mut area = json!({"description": description, "zones": [self.zone_id]});
        if let Some(shape) = &self.shape {
            area["polygon"] = shape.clone();
        }
        let mut alert = json!({
            "id": identifier, "sender": sender, "sent": sent, "status": "Actual", "msgType": kind, "event": event,
            "headline": format!("{event}: {called}"), "area": area, "references": references, "derived_from": self.name(),
            "language": "en-US", "category": "Safety", "responseType": response, "urgency": urgency, "certainty": "Observed",
            "senderName": "Made of California's list of evacuation zones",
        });
        let told = [
            ("severity", severity),
            ("description", self.public_info.as_deref()),
            ("instruction", self.critical_info.as_deref()),
        ];
        for (field, text) in told {
            if let Some(text) = text {
                alert[field] = text.into();
            }
        }
        if self.is_cut {
            alert["note"] =
                "What of the zone is too long for an alert, its shape or a text, stands in its own record.".into();
        }
        Message {
            body: alert.to_string(),
            reference: format!("{sender},{identifier},{sent}"),
            said: self.said(),
            cancels: kind == "Cancel",
        }
    }
}

/// One message, as it is sent however often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) body: String,
    /// As later messages refer to it.
    reference: String,
    said: String,
    cancels: bool,
}

/// An alert that is in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Open {
    /// References to the thread's first and last message.
    first: String,
    last: String,
    /// What the last one said.
    said: String,
    /// The zone has left the list since.
    left: bool,
}

/// Where a zone's thread stands; the default while there is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Thread {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<Open>,
    /// Durable, and not yet known to be accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<Message>,
    /// The zone as it was told last since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Zone>,
    /// What was not told for want of a grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    withheld: Option<String>,
}

impl Thread {
    /// The thread as the zone's record asks for it, perhaps with a message to be sent. One that is pending goes before.
    pub(crate) fn after(&self, zone: &Zone, sender: &ConnectorId, now: Timestamp) -> Thread {
        if self.pending.is_some() {
            let since = Some(zone.clone()).filter(|zone| means(zone.status) != Means::Nothing);
            return Thread { since: since.or_else(|| self.since.clone()), ..self.clone() };
        }
        let (means, said) = (means(zone.status), zone.said());
        let to_send = |kind: &str, references: &[&str]| Thread {
            pending: Some(zone.message(sender, kind, references, now)),
            ..self.clone()
        };
        match (&self.open, means) {
            (_, Means::Nothing) => self.clone(),
            (None, Means::Act) => to_send("Alert", &[]),
            (None, Means::Less | Means::Over | Means::Left) => Thread { withheld: None, ..self.clone() },
            (Some(open), Means::Left) => Thread { open: Some(Open { left: true, ..open.clone() }), ..self.clone() },
            (Some(open), Means::Act | Means::Less) if open.said == said && !open.left => self.clone(),
            (Some(open), Means::Act | Means::Less) => to_send("Update", &open.references()),
            (Some(open), Means::Over) => to_send("Cancel", &open.references()),
        }
    }

    /// Its message is accepted, or can never be: perhaps there is a next one.
    pub(crate) fn sent(self, sender: &ConnectorId, now: Timestamp) -> Thread {
        let Some(message) = self.pending else { return self };
        let first = self.open.map_or_else(|| message.reference.clone(), |open| open.first);
        let open = Open { first, last: message.reference, said: message.said, left: false };
        let sent = Thread { open: Some(open).filter(|_| !message.cancels), ..Thread::default() };
        match self.since {
            Some(zone) => sent.after(&zone, sender, now),
            None => sent,
        }
    }

    /// Its message may not be sent. `true`: that was said before.
    pub(crate) fn withheld(self) -> (Thread, bool) {
        let Some(message) = self.pending else { return (self, true) };
        let before = self.withheld.as_deref() == Some(&*message.said);
        (Thread { pending: None, since: None, withheld: Some(message.said), ..self }, before)
    }

    /// Nothing is to be remembered.
    pub(crate) fn is_over(&self) -> bool {
        *self == Thread::default()
    }
}

impl Open {
    fn references(&self) -> Vec<&str> {
        if self.first == self.last { vec![&self.first] } else { vec![&self.first, &self.last] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ALERT_BYTES;
    use crate::store::VALUE_BYTES;
    use Status::*;

    fn zone(status: Status, info: &str) -> Zone {
        Zone {
            event: Some(EventId::from_bytes([7; 16])),
            shape: Some(json!({"type": "Polygon", "coordinates": []})),
            county: Some("Testland".into()),
            zone_id: "US-CA-XZZ E,001".into(),
            zone_name: None,
            status,
            public_info: Some(info.into()),
            critical_info: None,
            is_cut: false,
        }
    }

    /// The kinds of messages that a zone's life gives, with what each refers to.
    fn told(life: &[(Status, &str)]) -> Vec<(String, String, usize)> {
        let sender = ConnectorId::new("zones").unwrap();
        let (mut thread, mut told) = (Thread::default(), Vec::new());
        for (n, (status, info)) in life.iter().enumerate() {
            let now = Timestamp::from_second(1_788_000_000 + 60 * n as i64).unwrap();
            thread = thread.after(&zone(*status, info), &sender, now);
            if let Some(message) = &thread.pending {
                let body: Value = serde_json::from_str(&message.body).unwrap();
                let text = |field: &str| body[field].as_str().unwrap().to_owned();
                assert_eq!(
                    body["id"].as_str(),
                    Some(format!("US-CA-XZZ-E-001-07070707-{}Z", &text("sent").replace(['-', ':'], "")[..15]).as_str())
                );
                told.push((text("msgType"), text("event"), body["references"].as_array().unwrap().len()));
            }
            thread = thread.sent(&sender, now);
        }
        told
    }

    fn message(kind: &str, event: &str, references: usize) -> (String, String, usize) {
        (kind.into(), event.into(), references)
    }

    #[test]
    fn s14_an_order_rings_a_lesser_word_updates_and_only_the_lists_own_word_cancels() {
        let order = || message("Alert", "Evacuation Order", 0);
        for (life, expected) in [
            (vec![(Normal, ""), (Advisory, ""), (Warning, ""), (Lifted, "")], vec![]),
            (vec![(Order, "a"), (Order, "a"), (Order, "b")], vec![order(), message("Update", "Evacuation Order", 1)]),
            (
                vec![(Order, ""), (Warning, ""), (Advisory, ""), (Lifted, ""), (Lifted, ""), (Normal, "")],
                vec![
                    order(),
                    message("Update", "Evacuation Warning", 1),
                    message("Update", "Evacuation Advisory", 2),
                    message("Cancel", "Evacuation Lifted", 2),
                ],
            ),
            (
                vec![(Order, ""), (Normal, "x"), (Order, "")],
                vec![order(), message("Cancel", "Evacuation Lifted", 1), order()],
            ),
            // None of these says anything, and none ends anything.
            (vec![(Training, ""), (Unknown, ""), (LiftedUnconfirmed, "")], vec![]),
            (vec![(Order, ""), (Training, ""), (Unknown, ""), (Order, "")], vec![order()]),
            (
                vec![(Order, ""), (LiftedUnconfirmed, ""), (LiftedUnconfirmed, ""), (Order, ""), (Order, "")],
                vec![order(), message("Update", "Evacuation Order", 1)],
            ),
            (
                vec![(Order, ""), (LiftedUnconfirmed, ""), (Lifted, "")],
                vec![order(), message("Cancel", "Evacuation Lifted", 1)],
            ),
            (
                vec![(ShelterInPlace, ""), (Order, "")],
                vec![message("Alert", "Shelter in Place", 0), message("Update", "Evacuation Order", 1)],
            ),
        ] {
            assert_eq!(told(&life), expected, "{life:?}");
        }
    }

    #[test]
    fn e4_what_a_zone_says_while_a_message_waits_comes_behind_it() {
        let (sender, now) = (ConnectorId::new("zones").unwrap(), Timestamp::UNIX_EPOCH);
        let waiting = Thread::default().after(&zone(Order, ""), &sender, now);
        for (life, kind) in [
            (vec![Warning, Lifted], Some("Cancel")),
            (vec![Lifted, Order], None),
            (vec![Warning, Unknown, Training], Some("Update")),
            (vec![Unknown], None),
        ] {
            let thread =
                life.iter().fold(waiting.clone(), |thread, status| thread.after(&zone(*status, ""), &sender, now));
            assert_eq!(thread.pending, waiting.pending, "{life:?}");
            let next = thread.sent(&sender, now).pending;
            let next = next.map(|message| serde_json::from_str::<Value>(&message.body).unwrap()["msgType"].clone());
            assert_eq!(next, kind.map(Value::from), "{life:?}");
        }
    }

    #[test]
    fn a6_what_is_too_long_for_an_alert_is_left_out_and_the_alert_is_not() {
        let sender = ConnectorId::new("zones").unwrap();
        let mut zone = zone(Order, &"ó\u{1}".repeat(100_000));
        zone.shape = Some(json!({"type": "Polygon", "coordinates": [vec![[-120.123_456, 38.123_456]; 20_000]]}));
        let zone = zone.bounded();
        let waiting = Thread::default().after(&zone, &sender, Timestamp::UNIX_EPOCH);
        let message = waiting.pending.clone().unwrap();
        assert!(message.body.len() < ALERT_BYTES && message.body.contains("stands in its own record"));
        let mut largest = zone.clone();
        largest.shape = Some("x".repeat(DERIVED_SHAPE_BYTES - 2).into());
        let largest = largest.bounded();
        assert!(largest.shape.is_some());
        let waiting = Thread::default().after(&largest, &sender, Timestamp::UNIX_EPOCH);
        assert!(waiting.pending.as_ref().is_some_and(|message| message.body.len() < ALERT_BYTES));
        let waiting = waiting.after(&largest, &sender, Timestamp::UNIX_EPOCH);
        assert!(serde_json::to_string(&waiting).unwrap().len() < VALUE_BYTES, "it can be stored");
    }

    #[test]
    fn a2_what_is_withheld_is_said_once_and_told_when_it_may_be() {
        let sender = ConnectorId::new("zones").unwrap();
        let asks = |thread: &Thread, status| thread.after(&zone(status, ""), &sender, Timestamp::UNIX_EPOCH);
        let (thread, before) = asks(&Thread::default(), Order).withheld();
        assert!(!before && !thread.is_over());
        let (thread, before) = asks(&thread, Order).withheld();
        assert!(before);
        assert!(asks(&thread, Warning).is_over(), "there is nothing to be told any more");
        assert!(asks(&thread, Order).pending.is_some());
    }
}
