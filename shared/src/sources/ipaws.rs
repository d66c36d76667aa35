//! FEMA's IPAWS-OPEN: the nation's public alerts of the last half hour, polled as one list a feed [S17]. It is asked for what is newer
//! than a time; what lies further back than its window is gone there for good.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Id, Records, Service, Services, Source, WrongField};
use crate::connect::feed::words;
use crate::connect::politeness::{Manners, busy_until};
use crate::connect::{Connector, Cursor, Fetched, SourceError, Walk};
use crate::decode::alert::{Alert, feed};
use crate::decode::{Context, Format, Rows, form, short};
use crate::error::Reject;
use crate::record::{SourceId, Tier, Topic};
use crate::time::{Timestamp, rfc3339};
use crate::upstream::{Request, Response, SecretUrl};

pub(super) static SERVICE: Service = Service {
    name: "IPAWS-OPEN",
    address: "https://apps.fema.gov/IPAWSOPEN_EAS_SERVICE",
    address_setting: "IPAWS_BASE_URL",
    address_parameter: "IpawsBaseUrl",
    key_setting: None,
    // FEMA asks its clients for two minutes between two polls of a feed; there are five feeds.
    manners: Manners { a_minute: 3, least_interval: Duration::from_secs(120), apart: Some(Duration::from_secs(1)) },
};

/// CAP in IPAWS's wrapper.
pub const FORMAT: Format = Format::ALERT;

pub(super) static SOURCE: Source = Source {
    // HIGH: whatever is called an alert is [P2].
    ids: &[Id { pattern: "ipaws_alerts", name: "FEMA IPAWS alert", tier: Tier::High, topic: Topic::INCIDENTS }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<Alert>(),
        key: &["data.sender", "data.identifier", "data.sent"],
        in_order: true,
        lasting: false,
    }),
    service: Some(&SERVICE),
};

/// What the service still has, and each poll asks for: an alert may be listed some time after it was sent, clocks differ, and a list
/// that has stood still looks like one in which nothing is new.
const WINDOW: Duration = Duration::from_secs(30 * 60);

/// A stream's `config`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "IpawsConfig")]
pub struct Config {
    /// Which alerts; without it `public`.
    #[serde(default)]
    pub feed: Channel,
}

/// IPAWS's feeds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// All public alerts, whatever channels they are meant for.
    #[default]
    Public,
    /// Those without the Emergency Alert System's.
    PublicNonEas,
    /// Of the Emergency Alert System.
    Eas,
    /// Wireless Emergency Alerts.
    Wea,
    /// Non-weather emergency messages for NOAA Weather Radio.
    Nwem,
}

impl Channel {
    /// As the service's addresses have it.
    fn path(self) -> &'static str {
        match self {
            Channel::Public => "public",
            Channel::PublicNonEas => "public_non_eas",
            Channel::Eas => "eas",
            Channel::Wea => "PublicWEA",
            Channel::Nwem => "nwem",
        }
    }
}

impl Config {
    /// Requests of one poll.
    pub fn requests(&self) -> usize {
        1
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongField> {
        Ok(())
    }
}

pub(super) fn connector(config: Config, _: SourceId, services: &Services) -> Result<Recent, String> {
    Ok(Recent { base_url: services.address(&SERVICE).to_owned(), channel: config.feed })
}

/// One stream's connector.
#[derive(Debug)]
pub(super) struct Recent {
    base_url: String,
    channel: Channel,
}

/// What the cursor holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Place {
    /// When the last poll whose alerts were accepted was begun.
    polled: Option<Timestamp>,
}

impl Recent {
    fn request(&self, from: Timestamp) -> Request {
        // The service knows whole seconds.
        let from = &rfc3339(from)[..19];
        let url = format!("{}/rest/{}/recent/{from}Z", self.base_url, self.channel.path());
        Request { url: SecretUrl::new(url, None), headers: vec![("accept".to_owned(), "application/xml".to_owned())] }
    }
}

impl Connector for Recent {
    fn host(&self) -> &str {
        &self.base_url
    }

    fn rows<'a>(&'a self, body: &'a bytes::Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        feed::rows(body, context)
    }

    fn walk<'a>(&'a self, cursor: &Cursor, now: Timestamp) -> Box<dyn Walk + 'a> {
        let Place { polled } = serde_json::from_str(&cursor.0).unwrap_or_default();
        // A time that lies ahead was written before the clock was set back.
        let polled = polled.filter(|polled| *polled <= now);
        let from = now - WINDOW;
        Box::new(Ask { of: self, from, now, missed: polled.filter(|polled| *polled < from) })
    }
}

/// One poll.
struct Ask<'a> {
    of: &'a Recent,
    from: Timestamp,
    now: Timestamp,
    /// The last poll lies so far back that the service does not have all that came since.
    missed: Option<Timestamp>,
}

impl Walk for Ask<'_> {
    fn next(&self) -> Request {
        self.of.request(self.from)
    }

    fn absorb(&mut self, response: Response, now: Timestamp) -> Result<Option<Fetched>, SourceError> {
        let (status, body) = (response.status, &response.body);
        let said = || format!("status {status}: {}", words(body));
        if let Some(until) = busy_until(&response, now) {
            return Err(SourceError::Busy { until, said: said() });
        }
        match status {
            200 if body.trim_ascii().is_empty() => Err(SourceError::Failed("status 200: an empty body".into())),
            200 if form::is_page(body) => Err(SourceError::Failed(said())),
            200 => {
                let problem = self.missed.map(|last| {
                    let minutes = WINDOW.as_secs() / 60;
                    format!("the service has the last {minutes} minutes, and the last poll was at {}: alerts between are missing", rfc3339(last))
                });
                let cursor = serde_json::to_string(&Place { polled: Some(self.now) });
                let cursor = Cursor(cursor.map_err(|e| SourceError::Failed(e.to_string()))?);
                Ok(Some(Fetched { body: Some(body.clone()), cursor, more: false, problem }))
            }
            300..=399 => {
                let to = short(response.header("location").unwrap_or("nowhere"));
                Err(SourceError::Failed(format!(
                    "status {status}: it has moved to {to:?}, and redirects are not followed"
                )))
            }
            401 | 403 | 407 | 451 => Err(SourceError::Refused(format!("access refused: {}", said()))),
            _ => Err(SourceError::Failed(said())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address that a poll at this time asks, and what it says is missing.
    fn asked(cursor: &str, now: &str) -> (String, bool) {
        let recent =
            connector(Config::default(), SourceId::new("ipaws_alerts").unwrap(), &Services::default()).unwrap();
        let mut walk = recent.walk(&Cursor(cursor.into()), now.parse().unwrap());
        let url = walk.next().url.reveal().to_owned();
        let body = bytes::Bytes::from_static(b"<ns1:alerts xmlns:ns1='urn:x'/>");
        let response = Response { status: 200, headers: Vec::new(), body, elapsed: Duration::ZERO };
        let fetched = walk.absorb(response, now.parse().unwrap()).unwrap().unwrap();
        assert_eq!(fetched.cursor.0, format!("{{\"polled\":\"{now}\"}}"));
        (url, fetched.problem.is_some())
    }

    #[test]
    fn s17_each_poll_asks_for_all_that_the_service_has_and_knows_what_it_has_no_more() {
        let base = "https://apps.fema.gov/IPAWSOPEN_EAS_SERVICE/rest/public/recent";
        let polled = |at: &str| format!("{{\"polled\": \"{at}\"}}");
        let now = "2026-08-01T20:00:00Z";
        for (cursor, is_missing) in [
            (String::new(), false),
            (polled("2026-08-01T19:58:00Z"), false),
            (polled("2026-08-01T19:31:00Z"), false),
            (polled("2026-08-01T19:00:00Z"), true),
            (polled("2026-08-01T23:00:00Z"), false),
            ("nonsense".into(), false),
        ] {
            assert_eq!(asked(&cursor, now), (format!("{base}/2026-08-01T19:30:00Z"), is_missing), "{cursor}");
        }
    }
}
