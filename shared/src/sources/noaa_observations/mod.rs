//! What weather stations observe: api.weather.gov's observations as GeoJSON, and METAR reports as text, JSON, tables and XML [S2].
//! All become one form, so that a station's report of one minute is one event whichever way it came [S12].

mod aviation;
mod features;
mod listed;
mod metar;
mod poll;

use std::collections::BTreeMap;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;

pub(super) use super::nws::SERVICE;
use super::{Id, Records, Source};
use crate::decode::head::Mark;
use crate::decode::sensor::measures::Measured;
use crate::decode::{Context, Format, Rows, encoding};
use crate::error::Reject;
use crate::record::{Tier, Topic};

pub use poll::Config;
pub(super) use poll::connector;

/// api.weather.gov's observations and METAR.
pub const FORMAT: Format = Format::new("nws-observation", rows).known_by(&[
    Mark::names("noaa_observations", &["station", "timestamp", "unitCode"]),
    Mark::names("noaa_observations", &["rawOb"]),
    Mark::looks("noaa_observations", |head| metar::begins(head.text) || listed::header(head.text).is_some()),
    Mark::text("noaa_observations", "<METAR"),
]);

pub(super) static SOURCE: Source = Source {
    ids: &[Id {
        pattern: "noaa_observations",
        name: "NOAA weather observation",
        tier: Tier::Normal,
        topic: Topic::WEATHER,
    }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<WeatherReport>(),
        key: &["data.station_id", "observed_at"],
        in_order: true,
        lasting: false,
    }),
    service: Some(&SERVICE),
};

/// One report of one weather station, units in the names. A quantity that is not reported is left out; one that is missing or
/// cannot be read is null.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct WeatherReport {
    /// How it came: `nws-geojson` or `metar`.
    pub format: &'static str,
    /// The station's id, such as `KOAK`.
    pub station_id: String,
    /// Its name for people, if told.
    pub station_name: Option<String>,
    /// METAR: `METAR` for a routine report, `SPECI` for a special one; null where the report does not say.
    pub report_type: Option<String>,
    /// METAR: made without an observer (`AUTO`); null where the form cannot tell.
    pub automatic: Option<bool>,
    /// METAR: replaces an earlier report of the same time (`COR`); null where the form cannot tell.
    pub corrected: Option<bool>,
    /// Height of the station above mean sea level in m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elevation_m: Measured,
    /// Air temperature in °C.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_c: Measured,
    /// Dew point in °C.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dew_point_c: Measured,
    /// Relative humidity in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_humidity_percent: Measured,
    /// Where the wind comes from, degrees clockwise from true north. METAR: null for a calm and for a variable wind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wind_direction_deg: Measured,
    /// METAR: the wind's direction varies from here, clockwise, in degrees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wind_direction_from_deg: Measured,
    /// METAR: to here, in degrees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wind_direction_to_deg: Measured,
    /// METAR: the direction is variable (`VRB`); null where the form cannot tell.
    pub wind_is_variable: Option<bool>,
    /// Wind speed in m/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wind_speed_m_s: Measured,
    /// Strongest gust in m/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wind_gust_m_s: Measured,
    /// What NWS calls the barometric pressure, in hPa: of an airport its altimeter setting, of others mostly the pressure reduced to
    /// sea level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barometric_pressure_hpa: Measured,
    /// METAR: altimeter setting (QNH) in hPa.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub altimeter_hpa: Measured,
    /// Air pressure reduced to mean sea level in hPa.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sea_level_pressure_hpa: Measured,
    /// Horizontal visibility in m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility_m: Measured,
    /// METAR: `below` when it is less than `visibility_m`, `above` when it is more; else null.
    pub visibility_bound: Option<&'static str>,
    /// Highest temperature of the last 24 hours in °C.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_max_24h_c: Measured,
    /// Lowest temperature of the last 24 hours in °C.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_min_24h_c: Measured,
    /// Precipitation of the last hour in mm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precipitation_1h_mm: Measured,
    /// Precipitation of the last 3 hours in mm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precipitation_3h_mm: Measured,
    /// Precipitation of the last 6 hours in mm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precipitation_6h_mm: Measured,
    /// What the air feels like in wind, in °C.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wind_chill_c: Measured,
    /// What the air feels like in heat, in °C.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heat_index_c: Measured,
    /// Rain, smoke, haze and so on, the station's first; empty when none was reported.
    pub weather: Vec<Weather>,
    /// From the lowest on; empty when none was reported.
    pub cloud_layers: Vec<CloudLayer>,
    /// In a few words, as NWS puts it.
    pub description: Option<String>,
    /// The METAR report as it was sent, if there is one.
    pub raw_message: Option<String>,
    /// METAR: what stands behind `RMK`.
    pub remarks: Option<String>,
    /// Field → NWS's judgement of its value: `V` verified, `S` screened, `C` coarse check passed, `Z` not checked, `Q` questioned,
    /// `X` rejected, `G` and `B` judged good or bad by a person.
    pub quality_control: BTreeMap<String, String>,
}

/// One phenomenon, in NWS's words whichever way the report came.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Weather {
    /// `light` or `heavy`; null for moderate.
    pub intensity: Option<String>,
    /// Such as `showers`, `patches`, `blowing`, `freezing`.
    pub modifier: Option<String>,
    /// Such as `smoke`, `haze`, `rain`, `thunderstorms`.
    pub weather: Option<String>,
    /// Near the station, not at it; null where that is not told.
    pub in_vicinity: Option<bool>,
    /// The report's code, such as `-SN`.
    pub code: Option<String>,
}

/// One layer of clouds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct CloudLayer {
    /// `FEW`, `SCT`, `BKN`, `OVC`, `VV` (sky obscured, its base is the vertical visibility), or `CLR`, `SKC`, `NSC`, `NCD` for none.
    pub amount: String,
    /// Base above the ground in m.
    pub base_m: Option<f64>,
    /// METAR: `CB` or `TCU`.
    pub kind: Option<String>,
}

fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let first = encoding::without_mark(body).iter().find(|byte| !byte.is_ascii_whitespace());
    let read = match first {
        Some(b'{' | b'[') => features::rows(body, context),
        Some(b'<') if listed::is_response(body) => listed::elements(body, context),
        _ => match listed::header(body) {
            Some(header) => listed::table(body, header, context),
            None => metar::rows(body, context),
        },
    };
    read.map_err(|reject| reject.with_raw(body.clone()))
}
