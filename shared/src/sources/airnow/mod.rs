//! AirNow: what the monitors of the United States, Canada and Mexico measure in an hour, polled from its API, or from the
//! hourly files that need no key (`airnow_files`), or read from either as files [S17].
//!
//! Nothing, zero, not measured and inactive are four things: an empty file is refused, a zero is a value, a site that does not
//! measure a parameter has no value of it, and an inactive site says so in `site_status`.

mod poll;
pub(super) mod rows;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Id, Records, Source};
use crate::decode::{Format, Rows};
use crate::error::Reject;
use crate::record::{Tier, Topic};

pub use poll::Config;
pub(super) use poll::{HOUR, SERVICE, check_hours, connector, hour_of, hours};

/// AirNow's hourly files and its API's JSON.
pub const FORMAT: Format =
    Format::new("airnow", |body, context| -> Result<Rows<'_>, Reject> { rows::rows(body, context, None) });

pub(super) static SOURCE: Source = Source {
    ids: &[Id {
        pattern: "airnow_observations",
        name: "AirNow air quality",
        tier: Tier::Normal,
        topic: Topic::WEATHER,
    }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<AirQuality>(),
        key: &["data.site_id", "data.parameter", "observed_at"],
        in_order: true,
        lasting: false,
    }),
    service: Some(&SERVICE),
};

/// What became of a parameter in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It has a value, which may be zero.
    Measured,
    /// The site measures it, and there is no value of this hour.
    Missing,
    /// The site measures nothing of what is told of it.
    NotMeasured,
}

/// What AirNow says of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SiteStatus {
    /// It reports.
    Active,
    /// It has been switched off.
    Inactive,
    /// Another text, which `quality` shows.
    Unknown,
}

/// One parameter of one site in one hour, preliminary: a value that AirNow revises later is a revision. `observed_at` is the
/// hour's start.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct AirQuality {
    /// How it came: `api`, `hourly-data` or `hourly-aqobs`.
    pub format: &'static str,
    /// The site's AQS id as text: nine digits in the United States, of which the first two name the state.
    pub site_id: String,
    /// Its name for people.
    pub site_name: Option<String>,
    /// Whether it reports; null where the form does not tell.
    pub site_status: Option<SiteStatus>,
    /// Who runs it.
    pub agency: Option<String>,
    /// The country's code, where the form tells it.
    pub country: Option<String>,
    /// The state's or province's code, where the form tells it.
    pub state_name: Option<String>,
    /// Reporting areas that it stands for, with bars between them, where the form tells them.
    pub reporting_areas: Option<String>,
    /// Height of the site above mean sea level in m.
    pub elevation_m: Option<f64>,
    /// Local standard time less UTC in hours.
    pub gmt_offset_h: Option<f64>,
    /// `PM2.5`, `PM10`, `OZONE`, `NO2`, `CO`, `SO2` and others; null for a site that measures nothing of what is told of it.
    pub parameter: Option<String>,
    /// Whether there is a value, and if not, why.
    pub state: State,
    /// The hour's value; null unless `state` is `measured`.
    pub value: Option<f64>,
    /// Its unit: `ug/m3` for particles, `ppb` for gases, `degC`, `percent`, `hPa`, `m/s`, `deg`, `mm`; of a parameter that is not
    /// known here as sent.
    pub unit: Option<String>,
    /// The hour's value before AirNow's own averaging, where the API tells it.
    pub raw_value: Option<f64>,
    /// The air quality index, where the form tells it.
    pub aqi: Option<f64>,
}

#[cfg(test)]
mod tests;
