//! METAR reports polled from aviationweather.gov: the same reports, under the same ids, as its text gives, with the station's
//! place [S2]. What they become stands in `noaa_observations`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::check_list;
use super::{Service, Services, Source, WrongField, noaa_observations};
use crate::connect::feed::{Ask, Feed};
use crate::connect::politeness::Manners;
use crate::decode::Format;
use crate::record::SourceId;

/// As every report of a weather station.
pub const FORMAT: Format = noaa_observations::FORMAT;

pub(super) static SERVICE: Service = Service {
    name: "Aviation Weather Center",
    address: "https://aviationweather.gov",
    address_setting: "AVIATION_WEATHER_BASE_URL",
    address_parameter: "AviationWeatherBaseUrl",
    key_setting: None,
    // 100 requests a minute, and no thread more than one a minute of an endpoint.
    manners: Manners {
        a_minute: 100,
        least_interval: Duration::from_secs(60),
        apart: Some(Duration::from_millis(600)),
    },
};

/// A second way to the ids of `noaa_observations`.
pub(super) static SOURCE: Source = Source { ids: &[], records: None, service: Some(&SERVICE) };

/// Entries of one answer: it leaves out further ones without a word.
const STATIONS: usize = 400;

/// A METAR stream's `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MetarConfig")]
pub struct Config {
    /// The airports by their four letters or digits (ICAO), such as `KOAK`: their latest reports.
    pub stations: Vec<String>,
}

impl Config {
    /// Requests of one poll.
    pub fn requests(&self) -> usize {
        1
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongField> {
        let is_station = |id: &str| {
            id.len() == 4
                && id.starts_with(|first: char| first.is_ascii_uppercase())
                && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        };
        check_list("stations", &self.stations, STATIONS, "a station of four letters, such as \"KOAK\"", is_station)
    }
}

pub(super) fn connector(config: Config, _: SourceId, services: &Services) -> Result<Feed, String> {
    let path = format!("/api/data/metar?ids={}&format=json", config.stations.join(","));
    let asks = vec![Ask { name: "METAR".into(), path }];
    Ok(Feed { base_url: services.address(&SERVICE).to_owned(), asks, accept: "application/json", format: FORMAT })
}
