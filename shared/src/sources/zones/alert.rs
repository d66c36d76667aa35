//! The thread of alerts that is made of one evacuation zone [P3, S14]: which message its status asks for next, in CAP's words. Pure;
//! what is durable when, and who may send, is `express::derived`'s.
//!
//! A thread is opened by what asks people to act at once: an order, or shelter in place. A warning or an advisory opens none: who
//! leaves in good time is served by the zone's own record, and a siren that rings for each of them is not heard for the order. Once a
//! thread is open, each other word for the zone, another shape of it and another text are an Update, down to the advisory; *normal*
//! and *lifted*, which the list must say itself, are the Cancel that closes it. A text that is not known and a training say nothing. A
//! zone that left the list (`lifted_unconfirmed`) is one Update, in the words and with the shape that were told last, whose note says
//! that it is no longer listed and not confirmed lifted: that ends nothing. When it comes back it is told again, even in the same words.
//!
//! A message that may not be sent, or is refused for good, was not told: it is held, and told anew at each poll until it is taken or the
//! zone says something else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
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
    /// The fire that its record tells of.
    #[serde(default)]
    incident: Option<String>,
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

    /// With the fire that its record tells of.
    pub(crate) fn of_fire(self, incident: Option<&Arc<str>>) -> Zone {
        Zone { incident: incident.map(|incident| incident.to_string()), ..self }
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
    fn is_urgent(&self) -> bool {
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
        match means(self.status) {
            Means::Over => "over".to_owned(),
            Means::Left => LEFT.to_owned(),
            Means::Act | Means::Less | Means::Nothing => {
                let said = json!([self.status, self.shape, self.public_info, self.critical_info]).to_string();
                hex(&Sha256::digest(said)[..16])
            }
        }
    }

    /// Its message but for what tells one from another.
    fn message(&self, sender: &ConnectorId, kind: &str, references: &[&str]) -> Draught {
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
            "sender": sender, "status": "Actual", "msgType": kind, "event": event,
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
        Draught {
            alert,
            incident: self.incident.clone(),
            said: self.said(),
            cancels: kind == "Cancel",
            urgent: self.is_urgent(),
        }
    }
}

/// What the last message of a zone says that has left the list.
const LEFT: &str = "left";
const LEFT_NOTE: &str = "no longer listed, not confirmed lifted";

/// A message without its identifier and time.
struct Draught {
    alert: Value,
    incident: Option<String>,
    said: String,
    cancels: bool,
    urgent: bool,
}

impl Draught {
    /// As it is sent, under an identifier that no other message has: the zone in words, its event, and the millisecond.
    fn at(mut self, now: Timestamp) -> Message {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let words: String = text(&self.alert["area"]["zones"][0])
            .chars()
            .take(48)
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let (event, sender) = (text(&self.alert["derived_from"]), text(&self.alert["sender"]));
        let before: Vec<String> = self.alert["references"].as_array().into_iter().flatten().map(text).collect();
        let mut at = now;
        let (identifier, sent) = loop {
            let sent = rfc3339(at);
            let digits: String = sent.chars().filter(char::is_ascii_alphanumeric).collect();
            let identifier = format!("{words}-{event:.8}-{digits}");
            if !before.iter().any(|reference| reference.split(',').nth(1) == Some(&identifier)) {
                break (identifier, sent);
            }
            at += Duration::from_millis(1);
        };
        let reference = format!("{sender},{identifier},{sent}");
        self.alert["id"] = identifier.into();
        self.alert["sent"] = sent.into();
        let Draught { alert, incident, said, cancels, urgent } = self;
        Message { body: alert.to_string(), incident, reference, said, cancels, urgent }
    }
}

/// One message, as it is sent however often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) body: String,
    /// The fire that the zone's record tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) incident: Option<String>,
    /// As later messages refer to it.
    reference: String,
    said: String,
    cancels: bool,
    /// People must act at once.
    #[serde(default)]
    urgent: bool,
}

impl Message {
    /// What it says, without what tells it from another message that says the same.
    pub(crate) fn content(&self) -> Bytes {
        let mut alert: Value = serde_json::from_str(&self.body).unwrap_or_default();
        if let Some(fields) = alert.as_object_mut() {
            fields.retain(|name, _| name != "id" && name != "sent");
        }
        alert.to_string().into()
    }

    /// The same words once more, as a message of its own. `None`: what is stored is no alert.
    fn again(self, now: Timestamp) -> Option<Message> {
        let alert = serde_json::from_str(&self.body).ok()?;
        let Message { incident, said, cancels, urgent, .. } = self;
        Some(Draught { alert, incident, said, cancels, urgent }.at(now))
    }
}

/// An alert that is in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Open {
    /// References to the thread's first and last message.
    first: String,
    last: String,
    /// What the last one said.
    said: String,
    /// The last one itself; a thread that an earlier version stored has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<Told>,
}

/// What a message told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Told {
    body: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incident: Option<String>,
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
    /// What could not be told: it may not be sent, or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<Message>,
}

impl Thread {
    /// The thread as the zone's record asks for it, perhaps with a message to be sent. One that is pending goes before; one that is held
    /// and says the same stays held.
    pub(crate) fn after(&self, zone: &Zone, sender: &ConnectorId, now: Timestamp) -> Thread {
        if self.pending.is_some() {
            let since = Some(zone.clone()).filter(|zone| means(zone.status) != Means::Nothing);
            return Thread { since: since.or_else(|| self.since.clone()), ..self.clone() };
        }
        let (means, said) = (means(zone.status), zone.said());
        if means == Means::Nothing || self.held.as_ref().is_some_and(|held| held.said == said) {
            return self.clone();
        }
        let to_send = |draught: Draught| Thread { pending: Some(draught.at(now)), held: None, ..self.clone() };
        let nothing = Thread { held: None, ..self.clone() };
        match (&self.open, means) {
            (None, Means::Act) => to_send(zone.message(sender, "Alert", &[])),
            (None, _) => nothing,
            (Some(open), _) if open.said == said => nothing,
            (Some(open), Means::Left) => open.left().map_or(nothing, to_send),
            (Some(open), Means::Over) => to_send(zone.message(sender, "Cancel", &open.references())),
            (Some(open), _) => to_send(zone.message(sender, "Update", &open.references())),
        }
    }

    /// Its message is accepted: perhaps there is a next one.
    pub(crate) fn sent(self, sender: &ConnectorId, now: Timestamp) -> Thread {
        let Some(message) = self.pending else { return self };
        let first = self.open.map_or_else(|| message.reference.clone(), |open| open.first);
        let told = Some(Told { body: message.body, incident: message.incident });
        let open = Open { first, last: message.reference, said: message.said, told };
        let sent = Thread { open: Some(open).filter(|_| !message.cancels), ..Thread::default() };
        match self.since {
            Some(zone) => sent.after(&zone, sender, now),
            None => sent,
        }
    }

    /// Its message may not be sent, or can never be taken: perhaps there is another one.
    pub(crate) fn held(self, sender: &ConnectorId, now: Timestamp) -> Thread {
        let held = Thread { open: self.open, pending: None, since: None, held: self.pending.or(self.held) };
        match self.since {
            Some(zone) => held.after(&zone, sender, now),
            None => held,
        }
    }

    /// With what was held as the message to be sent, anew.
    pub(crate) fn again(self, now: Timestamp) -> Thread {
        match self.pending {
            Some(_) => self,
            None => Thread { pending: self.held.and_then(|held| held.again(now)), held: None, ..self },
        }
    }

    /// How soon what waits is to be sent, the smaller the sooner: who must act hears of it first, then who waits longest. `None`: nothing
    /// waits.
    pub(crate) fn turn(&self) -> Option<(bool, &str)> {
        let message = self.pending.as_ref().or(self.held.as_ref())?;
        Some((!message.urgent, message.reference.rsplit(',').next().unwrap_or_default()))
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

    /// What is said when the zone has left the list; `None` where it is not known what was told.
    fn left(&self) -> Option<Draught> {
        let Told { body, incident } = self.told.clone()?;
        let mut alert: Value = serde_json::from_str(&body).ok()?;
        let headline = format!("{} ({LEFT_NOTE})", alert["headline"].as_str().unwrap_or_default());
        for (field, value) in
            [("msgType", "Update"), ("certainty", "Unknown"), ("note", LEFT_NOTE), ("headline", &headline)]
        {
            alert[field] = value.into();
        }
        alert["references"] = json!(self.references());
        Some(Draught { alert, incident, said: LEFT.to_owned(), cancels: false, urgent: false })
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
            incident: None,
            is_cut: false,
        }
    }

    /// The kinds of messages that a zone's life gives, what each says, and to how many it refers.
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
                    Some(
                        format!("US-CA-XZZ-E-001-07070707-{}Z", &text("sent").replace(['-', ':', '.'], "")[..18])
                            .as_str()
                    )
                );
                let left = if body["note"] == LEFT_NOTE { ", left" } else { "" };
                told.push((text("msgType"), text("event") + left, body["references"].as_array().unwrap().len()));
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
                vec![order(), message("Update", "Evacuation Order, left", 1), message("Update", "Evacuation Order", 2)],
            ),
            (
                vec![(Order, ""), (LiftedUnconfirmed, ""), (Lifted, "")],
                vec![
                    order(),
                    message("Update", "Evacuation Order, left", 1),
                    message("Cancel", "Evacuation Lifted", 2),
                ],
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
        let open = waiting.sent(&sender, Timestamp::UNIX_EPOCH);
        let mut shorter = largest.clone();
        shorter.shape = Some("y".repeat(DERIVED_SHAPE_BYTES - 2).into());
        let waiting = open.after(&shorter, &sender, Timestamp::UNIX_EPOCH);
        let waiting = waiting.after(&largest, &sender, Timestamp::UNIX_EPOCH);
        assert!(waiting.pending.is_some() && waiting.since.is_some() && waiting.open.is_some());
        assert!(serde_json::to_string(&waiting).unwrap().len() < VALUE_BYTES, "it can be stored");
    }

    #[test]
    fn a2_what_is_held_is_told_anew_until_the_zone_says_something_else() {
        let sender = ConnectorId::new("zones").unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let asks = |thread: &Thread, status| thread.after(&zone(status, ""), &sender, at(1));
        let held = asks(&Thread::default(), Order).held(&sender, at(1));
        assert!(held.pending.is_none() && !held.is_over());
        assert_eq!(asks(&held, Order), held, "it is held already");
        assert!(asks(&held, Warning).is_over(), "there is nothing to be told any more");
        assert_eq!(asks(&held, ShelterInPlace).held, None, "other words are tried by themselves");
        let again = held.clone().again(at(60)).pending.unwrap();
        let body: Value = serde_json::from_str(&again.body).unwrap();
        assert_eq!((&body["sent"], &body["event"]), (&json!(rfc3339(at(60))), &json!("Evacuation Order")));
        assert_ne!(again.reference, held.held.unwrap().reference);
        let open = asks(&Thread::default(), Order).sent(&sender, at(1));
        let held = asks(&open, Warning).held(&sender, at(1));
        assert_eq!(asks(&held, Order), open, "what is in force holds again");
    }

    /// A thread as it was stored before messages said how urgent they are, and were held.
    #[test]
    fn p3_threads_of_earlier_versions_are_read() {
        let open = json!({"first": "a,b,c", "last": "a,b,c", "said": "x", "left": true});
        let pending = json!({"body": "{}", "reference": "a,b,c", "said": "x", "cancels": false});
        let stored = json!({"open": open, "pending": pending, "withheld": "x"});
        let thread: Thread = serde_json::from_value(stored).unwrap();
        assert!(thread.open.is_some() && thread.pending.is_some());
        let stored = json!({"open": open});
        let thread: Thread = serde_json::from_value(stored).unwrap();
        let sender = ConnectorId::new("zones").unwrap();
        let after = |status| thread.after(&zone(status, ""), &sender, Timestamp::UNIX_EPOCH);
        assert!(after(LiftedUnconfirmed).pending.is_none(), "what was told is not known");
        assert!(after(Lifted).pending.is_some());
    }
}
