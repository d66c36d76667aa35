//! api.weather.gov as a polled service: where it is, and what it asks of its clients [S2, S11]. What is asked of it stands with
//! each of its sources.

use std::time::Duration;

use super::{Service, Services};
use crate::connect::feed::{Ask, Feed};
use crate::connect::politeness::Manners;
use crate::decode::Format;

pub(super) static SERVICE: Service = Service {
    name: "National Weather Service",
    address: "https://api.weather.gov",
    address_setting: "NWS_BASE_URL",
    address_parameter: "NwsBaseUrl",
    key_setting: None,
    // Its limit is not published ("generous"; whoever exceeds it is asked to wait some seconds). Its users ask for alerts every 30 s
    // at the most, and ours go easy on the rest.
    manners: Manners {
        a_minute: 120,
        least_interval: Duration::from_secs(30),
        apart: Some(Duration::from_millis(200)),
    },
};

pub(super) fn feed(services: &Services, asks: Vec<Ask>, format: Format) -> Feed {
    Feed { base_url: services.address(&SERVICE).to_owned(), asks, accept: "application/geo+json", format }
}
