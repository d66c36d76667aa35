//! Who may read what over MQTT [E5]. Sensors' readings and everything else are for whoever connects. Alerts and their
//! confirmations are for clients that have proved a name, because whoever acts on an alert must be somebody; `up
//! --mqtt-open-alerts` opens them to all. What was refused to a connector is for that connector alone, always.

use streammanager_mqtt_endpoint::{Filter, Identity};

const ALERTS: &str = "alerts";
/// What was refused to a connector is published below this, under its id.
const REFUSALS: &str = "alerts/refused/";

#[derive(Debug, Clone, Copy)]
pub(crate) struct Readers {
    /// Alerts and confirmations need no name.
    pub(crate) alerts_open_to_all: bool,
}

impl Readers {
    /// Whether the subscription is granted. A filter that begins with a wildcard is, and delivers what may be read.
    pub(crate) fn may_subscribe(self, identity: Option<&Identity>, filter: &Filter) -> bool {
        let mut levels = filter.as_str().split('/');
        match (levels.next(), levels.next(), levels.next(), identity) {
            (Some(ALERTS), Some("refused"), Some("+" | "#"), Some(_)) => true,
            (Some(ALERTS), Some("refused"), Some(addressee), Some(identity)) => *addressee == *identity.user,
            (Some(ALERTS), Some("refused"), _, None) => false,
            (Some(ALERTS), .., None) => self.alerts_open_to_all,
            _ => true,
        }
    }

    /// Whether a message of this topic is handed to the client.
    pub(crate) fn may_receive(self, identity: Option<&Identity>, topic: &str) -> bool {
        match (topic.strip_prefix(REFUSALS), identity) {
            (Some(addressee), Some(identity)) => *addressee == *identity.user,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (None, None) => self.alerts_open_to_all || topic.split('/').next() != Some(ALERTS),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn named(user: &str) -> Option<Identity> {
        Some(Identity { user: user.into(), principal: format!("cert-{user}").as_str().into() })
    }

    #[test]
    fn e5_alerts_need_a_name_unless_they_are_opened_and_refusals_their_addressee() {
        let closed = Readers { alerts_open_to_all: false };
        let open = Readers { alerts_open_to_all: true };
        // Filter or topic, read by: anybody, anybody once opened, butte, yuba.
        let subscriptions = [
            ("sensors/#", [true, true, true, true]),
            ("#", [true, true, true, true]),
            ("+/ack/1", [true, true, true, true]),
            ("alertsx", [true, true, true, true]),
            ("alerts", [false, true, true, true]),
            ("alerts/#", [false, true, true, true]),
            ("alerts/+", [false, true, true, true]),
            ("alerts/ack/#", [false, true, true, true]),
            ("alerts/refused/#", [false, false, true, true]),
            ("alerts/refused/butte", [false, false, true, false]),
        ];
        let topics = [
            ("sensors/a/1/state", [true, true, true, true]),
            ("alerts/evacuation_alert_butte", [false, true, true, true]),
            ("alerts/ack/0123", [false, true, true, true]),
            ("alerts/refused/butte", [false, false, true, false]),
        ];
        let (butte, yuba) = (named("butte"), named("yuba"));
        let readers = [(closed, &None), (open, &None), (closed, &butte), (closed, &yuba)];
        for (at, (rule, identity)) in readers.into_iter().enumerate() {
            for (text, granted) in &subscriptions {
                let filter = Filter::parse(text).unwrap();
                assert_eq!(rule.may_subscribe(identity.as_ref(), &filter), granted[at], "{text} for reader {at}");
            }
            for (topic, handed) in &topics {
                assert_eq!(rule.may_receive(identity.as_ref(), topic), handed[at], "{topic} for reader {at}");
            }
        }
    }
}
