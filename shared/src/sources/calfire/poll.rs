//! CAL FIRE's list of incidents as GeoJSON, polled from the state's public site [S6]. It has neither a contract nor documents.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FORMAT;
use crate::connect::feed::{Ask, Feed};
use crate::connect::politeness::Manners;
use crate::record::SourceId;
use crate::sources::{Service, Services, WrongField};

pub(in crate::sources) static SERVICE: Service = Service {
    name: "CAL FIRE incidents",
    address: "https://incidents.fire.ca.gov",
    address_setting: "CALFIRE_BASE_URL",
    address_parameter: "CalFireBaseUrl",
    key_setting: None,
    // It is made for the site alone, and renewed every quarter of an hour or when something happens.
    manners: Manners { a_minute: 6, least_interval: Duration::from_secs(60), apart: Some(Duration::from_secs(1)) },
};

/// The first year of its list.
const FIRST_YEAR: i16 = 2013;

/// A CAL FIRE stream's `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CalfireConfig")]
pub struct Config {
    /// Also incidents that are over. Those of a whole year are many: poll them seldom.
    #[serde(default)]
    pub inactive: bool,
    /// Of this year alone; of the current one if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub year: Option<i16>,
}

impl Config {
    /// Requests of one poll.
    pub fn requests(&self) -> usize {
        1
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongField> {
        self.year.map_or(Ok(()), |year| years("year", year))
    }
}

/// A year of the list.
pub(in crate::sources) fn years(field: &str, year: i16) -> Result<(), WrongField> {
    if (FIRST_YEAR..=2100).contains(&year) {
        Ok(())
    } else {
        Err(WrongField::new(field, format!("{year} is not in {FIRST_YEAR}..2100")))
    }
}

pub(in crate::sources) fn connector(config: Config, _: SourceId, services: &Services) -> Result<Feed, String> {
    Ok(list_of(services.address(&SERVICE), config.inactive, config.year))
}

/// The list of a year, or of the current one.
pub(in crate::sources) fn list_of(base_url: &str, inactive: bool, year: Option<i16>) -> Feed {
    let year = year.map_or(String::new(), |year| format!("&year={year}"));
    let path = format!("/umbraco/api/IncidentApi/GeoJsonList?inactive={inactive}{year}");
    let asks = vec![Ask { name: "incidents".into(), path }];
    Feed { base_url: base_url.to_owned(), asks, accept: "application/json", format: FORMAT }
}
