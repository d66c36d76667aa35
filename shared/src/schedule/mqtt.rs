//! Brokers of others, from which a host that runs for long takes messages as an MQTT client [S18, E5]: what `streams.yaml`
//! says of them, what is registered of it, and how each connection stands. Who connects is elsewhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decode::Format;
use crate::decode::sensor::TopicFilter;
use crate::error::BackendError;
use crate::record::{ConnectorId, SourceId, StreamId};
use crate::sources::{self, Step, WrongField, WrongFields};
use crate::store::{self, Key, Store};
use crate::time::{self, Timestamp};

/// Brokers of one deployment: each is a connection of its own.
const SOURCES_MAX: usize = 20;
/// Subscriptions at one broker.
const TOPICS_MAX: usize = 100;
/// Brokers take no longer ones.
const CLIENT_ID_BYTES: usize = 65_535;

/// Another's broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttSource {
    /// Unique among the streams and brokers of a deployment.
    pub id: StreamId,
    /// `mqtts://HOST:PORT`, or `mqtt://HOST:PORT` without encryption.
    pub url: String,
    /// PEM file with the authorities that are trusted, instead of those of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// User name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The environment variable that holds the password, which itself stands in no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_setting: Option<String>,
    /// Under which the broker keeps the session; `streammanager-` and the id if it is left out. No two systems may share one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The registered sender under whose grant alerts are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<ConnectorId>,
    /// The environment variable that holds that sender's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_setting: Option<String>,
    /// What is subscribed, and what its messages are.
    pub topics: Vec<Subscription>,
}

/// Messages of a broker: readings, or alerts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// Their topics, as an MQTT filter.
    pub filter: String,
    /// They are readings, taken as messages on `sensors/{kind}/{device}/state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The level of their topics that names the device, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<usize>,
    /// They are alerts, taken under this source id. It needs `connector` and `key_setting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts_as: Option<SourceId>,
}

/// Checks all brokers of a file.
///
/// # Errors
/// The fields that break a rule, each on its way from the list.
pub(super) fn check(brokers: &[MqttSource]) -> Result<(), WrongFields> {
    if brokers.len() > SOURCES_MAX {
        return Err(WrongField::whole(format!("{} brokers, {SOURCES_MAX} at most", brokers.len())).into());
    }
    let mut wrong = Vec::new();
    for (at, source) in brokers.iter().enumerate() {
        let mut here = source.check();
        let same = |other: &MqttSource| {
            other.id == source.id || (&other.url, other.client_id()) == (&source.url, source.client_id())
        };
        if brokers[..at].iter().any(same) {
            let rule = format!("another broker has the id {} or its client id already", source.id);
            here.push(WrongField::new("id", rule));
        }
        wrong.extend(here.into_iter().map(|wrong| wrong.within([Step::Item(at)])));
    }
    WrongFields::none_or(wrong, ())
}

impl MqttSource {
    /// Whether it is encrypted, host, port.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn address(&self) -> Result<(bool, &str, u16), String> {
        let rule = || format!("{:?} is not mqtts://HOST:PORT or mqtt://HOST:PORT", self.url);
        let (scheme, address) = self.url.split_once("://").ok_or_else(rule)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(rule)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(rule)?;
        let is_host = !host.is_empty() && !host.contains(['/', '@', ' ']);
        match scheme {
            "mqtts" | "mqtt" if is_host => Ok((scheme == "mqtts", host, port)),
            _ => Err(rule()),
        }
    }

    /// Under which the broker keeps the session.
    pub fn client_id(&self) -> String {
        self.client_id.clone().unwrap_or_else(|| format!("streammanager-{}", self.id))
    }

    fn check(&self) -> Vec<WrongField> {
        let mut all = Vec::new();
        let mut wrong = |field: &str, rule: &str| all.push(WrongField::new(field, rule));
        match self.address() {
            Err(rule) => wrong("url", &rule),
            Ok((false, ..)) if self.ca_file.is_some() => {
                wrong("ca_file", "mqtt:// is not encrypted: write mqtts:// or leave it out");
            }
            Ok(_) => {}
        }
        if self.password_setting.is_some() && self.user.is_none() {
            wrong("password_setting", "a password needs a user");
        }
        if self.connector.is_some() != self.key_setting.is_some() {
            wrong("connector", "connector and key_setting go together");
        }
        for (field, setting) in [("password_setting", &self.password_setting), ("key_setting", &self.key_setting)] {
            let is_name = |text: &String| {
                !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            };
            if setting.as_ref().is_some_and(|text| !is_name(text)) {
                wrong(
                    field,
                    "it names an environment variable in upper case, which holds the secret; the secret itself stands in no file",
                );
            }
        }
        // Without a name a broker keeps no session [MQTT-3.1.3-8].
        if self.client_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > CLIENT_ID_BYTES || id.contains('\0')) {
            wrong("client_id", &format!("a client id has 1 to {CLIENT_ID_BYTES} bytes and no U+0000"));
        }
        if self.topics.is_empty() || self.topics.len() > TOPICS_MAX {
            wrong("topics", &format!("{} topics: it takes 1 to {TOPICS_MAX}", self.topics.len()));
            return all;
        }
        let alerts = self.topics.iter().filter(|topic| topic.alerts_as.is_some()).count();
        if !(alerts == 0 || alerts == self.topics.len()) {
            wrong(
                "topics",
                "some are readings and some alerts, which would wait behind the readings: give the alerts an entry of their own, with another id",
            );
        }
        let mut filters: Vec<TopicFilter> = Vec::new();
        for (at, topic) in self.topics.iter().enumerate() {
            let checked = topic.check(self.connector.is_some()).and_then(|filter| {
                if filters.iter().any(|other| other.meets(&filter)) {
                    let rule = "some topics fit this filter and an earlier one: each message must be one thing";
                    return Err(WrongField::new("filter", rule));
                }
                Ok(filter)
            });
            match checked {
                Ok(filter) => filters.push(filter),
                Err(problem) => all.push(problem.within([Step::from("topics"), Step::Item(at)])),
            }
        }
        all
    }
}

impl Subscription {
    fn check(&self, has_connector: bool) -> Result<TopicFilter, WrongField> {
        let filter = TopicFilter::parse(&self.filter).map_err(|rule| WrongField::new("filter", rule))?;
        if self.filter.starts_with("$share/") {
            let rule = "a shared subscription's messages come to one of several readers, and this one must have them all: leave $share and the group out";
            return Err(WrongField::new("filter", rule));
        }
        match (&self.kind, self.device, &self.alerts_as) {
            (Some(kind), Some(device), None) => {
                let source =
                    SourceId::new(&format!("iot_{kind}")).map_err(|e| WrongField::new("kind", e.to_string()))?;
                if sources::format_of(&source).is_none() {
                    return Err(WrongField::new("kind", format!("nothing reads {source}")));
                }
                let named = self.filter.split('/').filter(|level| *level != "#").count();
                if !(1..=named).contains(&device) {
                    let rule = format!("{device} is not in 1..{named}, the levels that every topic of the filter has");
                    return Err(WrongField::new("device", rule));
                }
            }
            (None, None, Some(source)) if sources::format_of(source).is_none_or(|f| f.name != Format::ALERT.name) => {
                return Err(WrongField::new("alerts_as", format!("{source} is not an id of alerts")));
            }
            (None, None, Some(_)) if has_connector => {}
            (None, None, Some(source)) => {
                let rule = format!(
                    "alerts as {source} are taken from another's broker only under a granted sender: name it with connector and key_setting"
                );
                return Err(WrongField::new("alerts_as", rule));
            }
            _ => {
                return Err(WrongField::whole(
                    "it is either readings, with kind and device, or alerts, with alerts_as",
                ));
            }
        }
        Ok(filter)
    }

    /// The topic under which a message is taken here; `None` for one that the filter does not cover.
    pub fn taken_as(&self, topic: &str) -> Option<String> {
        TopicFilter::parse(&self.filter).ok().filter(|filter| filter.matches(topic))?;
        match (&self.alerts_as, &self.kind, self.device) {
            (Some(source), ..) => Some(format!("alerts/{source}")),
            (None, Some(kind), Some(level)) => {
                let device = topic.split('/').nth(level.checked_sub(1)?)?;
                Some(format!("sensors/{kind}/{device}/state"))
            }
            _ => None,
        }
    }
}

fn key() -> Key {
    Key::new("mqtt-sources", "all")
}

/// Every registered broker, as the file had them.
pub async fn list(store: &dyn Store) -> Result<Vec<MqttSource>, BackendError> {
    let Some(item) = store.get(&key()).await? else { return Ok(Vec::new()) };
    serde_json::from_slice(&item.value).map_err(|e| BackendError::Fatal(format!("the registered brokers: {e}")))
}

/// Registers these instead of all others.
pub(crate) async fn put(store: &dyn Store, brokers: &[MqttSource]) -> Result<(), BackendError> {
    store::put_json(store, &key(), &brokers, "the registered brokers").await
}

/// How a connection to a broker stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// Of the broker.
    pub id: StreamId,
    /// Whether it is up.
    pub connected: bool,
    /// Since when that is so, by our clock.
    #[serde(serialize_with = "time::serialize")]
    pub since: Timestamp,
    /// Why it is not, in the broker's words where it has some.
    pub problem: Option<String>,
}

fn connection_key(id: &StreamId) -> Key {
    Key::new(store::REPORTS, format!("mqtt/{id}"))
}

/// Notes how a connection stands.
pub async fn note(store: &dyn Store, connection: &Connection) -> Result<(), BackendError> {
    store::put_json(store, &connection_key(&connection.id), connection, "an MQTT connection").await
}

/// How the connections to the registered brokers stand; nothing of one that nobody has tried yet.
pub async fn connections(store: &dyn Store) -> Result<Vec<Connection>, BackendError> {
    let mut connections = Vec::new();
    for source in list(store).await? {
        connections.extend(store::get_json(store, &connection_key(&source.id)).await?);
    }
    Ok(connections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn broker(with: Value) -> Value {
        let mut broker = json!({"id": "butte", "url": "mqtts://mqtt.butte.example:8883",
            "topics": [{"filter": "tele/+/SENSOR", "kind": "butte_tasmota", "device": 2}]});
        for (field, value) in with.as_object().unwrap() {
            broker[field] = value.clone();
        }
        broker
    }

    fn refused(brokers: &[Value]) -> String {
        let brokers: Vec<MqttSource> = serde_json::from_value(json!(brokers)).unwrap();
        check(&brokers).unwrap_err().to_string()
    }

    #[test]
    fn s18_a_wrong_broker_is_refused_with_its_field_and_rule() {
        let sound: Vec<MqttSource> = serde_json::from_value(json!([broker(json!({}))])).unwrap();
        assert_eq!(check(&sound), Ok(()));
        assert_eq!(sound[0].address(), Ok((true, "mqtt.butte.example", 8883)));
        assert_eq!(sound[0].client_id(), "streammanager-butte");
        let topic = |topic: Value| broker(json!({"topics": [topic]}));
        for (with, says) in [
            (broker(json!({"url": "https://x:1"})), "[0].url: \"https://x:1\" is not mqtts://HOST:PORT"),
            (broker(json!({"url": "mqtts://x"})), "[0].url: \"mqtts://x\" is not"),
            (broker(json!({"url": "mqtt://user:secret@x:1"})), "[0].url: "),
            (broker(json!({"url": "mqtt://x:1", "ca_file": "a.pem"})), "[0].ca_file: mqtt:// is not encrypted"),
            (broker(json!({"password_setting": "P"})), "[0].password_setting: a password needs a user"),
            (
                broker(json!({"user": "u", "password_setting": "hunter2"})),
                "[0].password_setting: it names an environment variable",
            ),
            (broker(json!({"connector": "butte"})), "[0].connector: connector and key_setting go together"),
            (broker(json!({"topics": []})), "[0].topics: 0 topics: it takes 1 to 100"),
            (
                topic(json!({"filter": "a/#/b", "kind": "x", "device": 1})),
                "[0].topics[0].filter: '#' must stand alone and last",
            ),
            (
                topic(json!({"filter": "a/#", "kind": "x", "device": 2})),
                "[0].topics[0].device: 2 is not in 1..1, the levels",
            ),
            (topic(json!({"filter": "a/+", "kind": "No Kind", "device": 2})), "[0].topics[0].kind: "),
            (
                topic(json!({"filter": "a/+", "kind": "x"})),
                "[0].topics[0]: it is either readings, with kind and device, or alerts",
            ),
            (
                topic(json!({"filter": "a", "alerts_as": "evacuation_alert_butte"})),
                "[0].topics[0].alerts_as: alerts as evacuation_alert_butte are taken",
            ),
            (
                topic(json!({"filter": "a", "alerts_as": "iot_x"})),
                "[0].topics[0].alerts_as: iot_x is not an id of alerts",
            ),
        ] {
            let problem = refused(&[with]);
            assert!(problem.starts_with(says), "{problem}, not {says}");
        }
        for client_id in ["", "a\0b"] {
            let problem = refused(&[broker(json!({ "client_id": client_id }))]);
            assert!(problem.starts_with("[0].client_id: a client id has 1 to 65535 bytes"), "{problem}");
        }
        let shared = refused(&[topic(json!({"filter": "$share/us/a/+", "kind": "x", "device": 4}))]);
        assert!(shared.starts_with("[0].topics[0].filter: a shared subscription's messages"), "{shared}");
        let both = json!([{"filter": "a/+", "kind": "x", "device": 2}, {"filter": "e/+", "alerts_as": "evacuation_alert_butte"}]);
        let both = broker(json!({"connector": "butte", "key_setting": "BUTTE_KEY", "topics": both}));
        assert!(refused(&[both]).starts_with("[0].topics: some are readings and some alerts"));
        let twice = json!([{"filter": "a/+", "kind": "x", "device": 2}, {"filter": "a/b", "kind": "y", "device": 2}]);
        assert!(refused(&[broker(json!({"topics": twice}))]).starts_with("[0].topics[1].filter: some topics fit"));
        let same = [broker(json!({})), broker(json!({"id": "other", "client_id": "streammanager-butte"}))];
        assert!(refused(&same).starts_with("[1].id: another broker has the id other or its client id already"));
    }

    #[test]
    fn s18_a_message_is_taken_under_a_topic_of_ours() {
        let of = |subscription: Value| serde_json::from_value::<Subscription>(subscription).unwrap();
        let readings = of(json!({"filter": "tele/+/SENSOR", "kind": "butte", "device": 2}));
        assert_eq!(readings.taken_as("tele/ridge/SENSOR").as_deref(), Some("sensors/butte/ridge/state"));
        assert_eq!(readings.taken_as("tele/ridge/STATE"), None);
        let alerts = of(json!({"filter": "evac/#", "alerts_as": "evacuation_alert_butte"}));
        assert_eq!(alerts.taken_as("evac/zone/12").as_deref(), Some("alerts/evacuation_alert_butte"));
    }
}
