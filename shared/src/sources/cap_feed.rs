//! Alerts of any feed of CAP documents by its stream's `config`: an index as ATOM or RSS whose entries name documents on its host or
//! carry their alerts, a list of alerts, or one document [S17].

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::check_url;
use super::{Id, Records, Service, Services, Source, WrongField};
use crate::connect::index::Index;
use crate::connect::politeness::Manners;
use crate::decode::Format;
use crate::decode::alert::Alert;
use crate::limits::FEED_DOCUMENTS;
use crate::record::{SourceId, Tier, Topic};

/// Each stream names its own address, so that no setting does.
pub(super) static SERVICE: Service = Service {
    name: "CAP feeds by config",
    address: "each at its own address",
    address_setting: "",
    address_parameter: "",
    key_setting: None,
    // Feeds are made anew every minute or two; a poll asks for few documents as a rule, one by one.
    manners: Manners {
        a_minute: 120,
        least_interval: Duration::from_secs(30),
        apart: Some(Duration::from_millis(200)),
    },
};

/// CAP, alone or in a feed.
pub const FORMAT: Format = Format::ALERT;

pub(super) static SOURCE: Source = Source {
    // HIGH: whatever is called an alert is [P2].
    ids: &[Id { pattern: "cap_alerts_*", name: "CAP alert", tier: Tier::High, topic: Topic::INCIDENTS }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<Alert>(),
        key: &["data.sender", "data.identifier", "data.sent"],
        in_order: true,
        lasting: false,
    }),
    service: None,
};

/// A feed's `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CapFeedConfig")]
pub struct Config {
    /// The address of the index, list or document. It must hold no key: it is shown.
    pub url: String,
}

impl Config {
    /// Requests of one poll at the most: the index and the documents that one poll asks for.
    pub fn requests(&self) -> usize {
        1 + FEED_DOCUMENTS
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongField> {
        check_url(&self.url, "https://HOST/alerts.atom")
    }
}

pub(super) fn connector(config: Config, source: SourceId, _: &Services) -> Result<Index, String> {
    Ok(Index { url: config.url, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_judged_before_it_is_asked() {
        for (url, is_good) in [
            ("https://cap.test/alerts.atom?area=CA", true),
            ("http://127.0.0.1:8080/", true),
            ("https://", false),
            ("ftp://cap.test/", false),
            ("https://user@cap.test/", false),
            ("https://cap.test/a b", false),
            ("https://cap.test/#a", false),
            ("cap.test/a", false),
        ] {
            assert_eq!(Config { url: url.into() }.check().is_ok(), is_good, "{url}");
        }
    }
}
