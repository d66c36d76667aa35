//! The records that a forecast's documents become, as they are published.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::decode::sensor::measures::Measured;
use crate::record::schema;
use crate::time::{self, Timestamp};

/// One of four kinds of record, told apart by `kind`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Forecast {
    Period(Box<Period>),
    Layer(Box<Layer>),
    Point(Box<Point>),
    Station(Box<Station>),
}

/// What is forecast for one cell or point and one period, half a day, an hour, or of DWML a moment, units in the names. A quantity that is not told is left
/// out; one that is missing or cannot be read is null.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Period {
    /// `period`.
    #[schemars(extend("const" = "period"))]
    pub(super) kind: &'static str,
    /// The centre of the cell, or the point, `latitude,longitude` with four decimals: the document names no cell.
    pub(super) place: String,
    /// When the period begins.
    #[serde(serialize_with = "time::serialize")]
    #[schemars(schema_with = "schema::time")]
    pub(super) start: Timestamp,
    /// When it ends.
    #[serde(serialize_with = "time::serialize")]
    #[schemars(schema_with = "schema::time")]
    pub(super) end: Timestamp,
    /// When the forecast was made.
    #[serde(serialize_with = "time::serialize")]
    #[schemars(schema_with = "schema::time")]
    pub(super) updated_at: Timestamp,
    /// NWS's name of the program that wrote it, which tells hours from half days.
    pub(super) generator: Option<String>,
    /// Such as `Tonight`.
    pub(super) name: Option<String>,
    /// Whether it is a day's period or a night's.
    pub(super) is_daytime: Option<bool>,
    /// Height of the cell above mean sea level in m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) elevation_m: Measured,
    /// Air temperature in °C: a day's highest, a night's lowest, or an hour's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature_c: Measured,
    /// DWML: highest air temperature of the period in °C.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature_max_c: Measured,
    /// DWML: lowest air temperature of the period in °C.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature_min_c: Measured,
    /// `rising` or `falling` when it is not the usual course of the day.
    pub(super) temperature_trend: Option<String>,
    /// Probability of precipitation in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) precipitation_probability_percent: Measured,
    /// Dew point in °C.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dew_point_c: Measured,
    /// Relative humidity in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) relative_humidity_percent: Measured,
    /// Wind speed in m/s, the lowest of the period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wind_speed_min_m_s: Measured,
    /// Wind speed in m/s, the highest of the period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wind_speed_max_m_s: Measured,
    /// Strongest gust in m/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wind_gust_m_s: Measured,
    /// Where the wind comes from: one of sixteen points of the compass, such as `WSW`.
    pub(super) wind_direction: Option<String>,
    /// In a few words.
    pub(super) short_forecast: Option<String>,
    /// In whole sentences.
    pub(super) detailed_forecast: Option<String>,
}

/// One layer of a cell's raw forecast, such as `temperature`, `mixingHeight` or `redFlagThreatIndex`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Layer {
    /// `layer`.
    #[schemars(extend("const" = "layer"))]
    pub(super) kind: &'static str,
    /// The cell, `{office}/{x},{y}`.
    pub(super) place: String,
    /// The layer, by NWS's name.
    pub(super) layer: String,
    /// When the forecast was made.
    #[serde(serialize_with = "time::serialize")]
    #[schemars(schema_with = "schema::time")]
    pub(super) updated_at: Timestamp,
    /// The office whose grid it is.
    pub(super) grid_id: String,
    /// The cell's column.
    pub(super) grid_x: u32,
    /// The cell's row.
    pub(super) grid_y: u32,
    /// Height of the cell above mean sea level in m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) elevation_m: Measured,
    /// Unit of the values, by NWS's code, such as `wmoUnit:degC`; null for a layer without a unit.
    pub(super) unit_code: Option<String>,
    /// In the order of time; empty for a layer that the office does not fill.
    pub(super) values: Vec<LayerValue>,
}

/// A layer's value from one time to another.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct LayerValue {
    #[serde(serialize_with = "time::serialize")]
    #[schemars(schema_with = "schema::time")]
    pub(super) start: Timestamp,
    #[serde(serialize_with = "time::serialize")]
    #[schemars(schema_with = "schema::time")]
    pub(super) end: Timestamp,
    /// A number in the layer's unit; of `weather` and `hazards` a list of NWS's objects; null where nothing is forecast.
    pub(super) value: Option<Told>,
}

/// What a layer tells.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Told {
    Number(f64),
    Text(String),
    Objects(Vec<Map<String, Value>>),
}

/// Which cell and which zones a point lies in.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Point {
    /// `point`.
    #[schemars(extend("const" = "point"))]
    pub(super) kind: &'static str,
    /// The point, `latitude,longitude` with four decimals.
    pub(super) place: String,
    /// The office whose grid it is.
    pub(super) grid_id: String,
    /// The cell's column.
    pub(super) grid_x: u32,
    /// The cell's row.
    pub(super) grid_y: u32,
    /// The office that warns there.
    pub(super) office: Option<String>,
    /// Zone of public forecasts, such as `CAZ508`.
    pub(super) forecast_zone: Option<String>,
    /// County, such as `CAC001`.
    pub(super) county_zone: Option<String>,
    /// Fire weather zone: of the same form as a forecast zone's, and another area.
    pub(super) fire_weather_zone: Option<String>,
    /// Name of its time zone, such as `America/Los_Angeles`.
    pub(super) time_zone: Option<String>,
    pub(super) radar_station: Option<String>,
    /// The next town.
    pub(super) city: Option<String>,
    /// The town's state.
    pub(super) state: Option<String>,
    /// How far the town is, in m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) city_distance_m: Measured,
    /// The point's direction as seen from the town, degrees clockwise from true north.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) city_bearing_deg: Measured,
}

/// A station that observes a cell.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Station {
    /// `station`.
    #[schemars(extend("const" = "station"))]
    pub(super) kind: &'static str,
    /// The station's id, such as `KOAK`.
    pub(super) place: String,
    /// Its name for people.
    pub(super) name: Option<String>,
    /// Height above mean sea level in m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) elevation_m: Measured,
    /// Name of its time zone, such as `America/Los_Angeles`.
    pub(super) time_zone: Option<String>,
    /// Zone of public forecasts, such as `CAZ508`.
    pub(super) forecast_zone: Option<String>,
    /// County, such as `CAC001`.
    pub(super) county_zone: Option<String>,
    /// Fire weather zone: of the same form as a forecast zone's, and another area.
    pub(super) fire_weather_zone: Option<String>,
    /// How far it is from the cell, in m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) distance_m: Measured,
    /// Its direction as seen from the cell, degrees clockwise from true north.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bearing_deg: Measured,
}
