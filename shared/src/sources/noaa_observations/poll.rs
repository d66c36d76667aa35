//! The latest observation of each of a list of stations, polled from api.weather.gov [S2].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FORMAT;
use crate::connect::feed::{Ask, Feed};
use crate::record::SourceId;
use crate::sources::config::check_list;
use crate::sources::{Services, WrongField, nws};

/// Stations of one stream: each is a request, and a poll of so many ends within its time.
const STATIONS: usize = 60;

/// An observation stream's `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NwsObservationsConfig")]
pub struct Config {
    /// The stations' ids, such as `KOAK`; `/points/{latitude},{longitude}` leads to those around a place.
    pub stations: Vec<String>,
}

impl Config {
    /// Requests of one poll.
    pub fn requests(&self) -> usize {
        self.stations.len()
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongField> {
        let is_station = |id: &str| {
            (3..=12).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        };
        check_list("stations", &self.stations, STATIONS, "a station's id, such as \"KOAK\"", is_station)
    }
}

pub(in crate::sources) fn connector(config: Config, _: SourceId, services: &Services) -> Result<Feed, String> {
    let ask = |id: String| Ask { path: format!("/stations/{id}/observations/latest"), name: id };
    Ok(nws::feed(services, config.stations.into_iter().map(ask).collect(), FORMAT))
}
