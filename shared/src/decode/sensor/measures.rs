//! What sensors measure: one table of quantities with their physical range and the names under which sources report
//! them. How a value and its unit are read is here; which sensor and when is not.

use std::collections::HashMap;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::fields::Fields;
use super::units::{Dimension, System, Unit};
use crate::record::Quality;

/// A quantity in a reading: absent when the sensor does not report it, null when its value could not be used.
pub type Measured = Option<Option<f64>>;

macro_rules! measures {
    ($($(#[$doc:meta])* $field:ident $dimension:ident in $low:literal ..= $high:literal:
        $($name:literal)* $(, with a unit: $($short:literal)+)?;)*) => {
        /// What the sensor measured, units in the names. A quantity that it does not report is absent; one whose value
        /// is a fault code, physically impossible or in a unit that is not understood is null, and `quality` says why.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub struct Measures {
            $($(#[$doc])*
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(extend("minimum" = $low, "maximum" = $high))]
            pub $field: Measured,)*
        }

        const FIELDS: usize = [$(stringify!($field)),*].len();
        const QUANTITIES: [Quantity; FIELDS] = [$(Quantity {
            field: stringify!($field),
            dimension: Dimension::$dimension,
            low: $low,
            high: $high,
            names: &[$($name),*],
            short: &[$($($short),+)?],
        }),*];

        impl Measures {
            fn from_array([$($field),*]: [Measured; FIELDS]) -> Measures {
                Measures { $($field),* }
            }
        }
    };
}

struct Quantity {
    field: &'static str,
    dimension: Dimension,
    low: f64,
    high: f64,
    /// Names that stand for the quantity with a unit behind them or without, in order of preference.
    names: &'static [&'static str],
    /// Names that say what is measured only together with a unit behind them.
    short: &'static [&'static str],
}

// Names as `names::compact` gives them.
measures! {
    /// Air temperature in °C.
    temperature_c Temperature in -90.0 ..= 85.0: "temperature" "airtemperature" "airtemp" "temp" "outdoortemperature"
        "outdoortemp" "temperatureoutdoor" "tempout" "currenttemp" "currenttemperature" "ambienttemperature" "ambienttemp" "tmp",
        with a unit: "t" "airt";
    /// Dew point in °C.
    dew_point_c Temperature in -100.0 ..= 60.0: "dewpoint" "dewpointtemperature" "dewpointtemp" "currentdewpoint" "dewpt";
    /// Relative humidity in percent.
    relative_humidity_percent Share in 0.0 ..= 100.0: "relativehumidity" "humidity" "rh" "hum" "currenthumidity"
        "outdoorhumidity" "humidityoutdoor" "humout" "outhumidity" "airhumidity" "relhum";
    /// Air pressure at the sensor in hPa.
    pressure_hpa Pressure in 300.0 ..= 1100.0: "pressure" "stationpressure" "baromabs" "absolutepressure" "pressureabsolute"
        "barabsolute" "airpressure" "barometricpressure" "barometer" "baro", with a unit: "p";
    /// Air pressure reduced to mean sea level in hPa.
    sea_level_pressure_hpa Pressure in 800.0 ..= 1100.0: "sealevelpressure" "baromrel" "relativepressure" "pressurerelative"
        "barsealevel" "pressuresealevel" "seapressure" "mslp";
    /// Particles up to 1 µm in µg/m³.
    pm1_0_ug_m3 Particles in 0.0 ..= 3000.0: "pm1.0" "pm1.0atm" "pm1";
    /// Particles up to 2.5 µm in µg/m³: the sensor's own figure, which is channel A alone for PurpleAir's local JSON.
    pm2_5_ug_m3 Particles in 0.0 ..= 3000.0: "pm2.5atm" "pm2.5" "pm25" "pm2p5";
    /// Channel A of a sensor with two, in µg/m³.
    pm2_5_a_ug_m3 Particles in 0.0 ..= 3000.0: "pm2.5atma" "pm2.5a";
    /// Channel B of a sensor with two, in µg/m³.
    pm2_5_b_ug_m3 Particles in 0.0 ..= 3000.0: "pm2.5atmb" "pm2.5b";
    /// Particles up to 10 µm in µg/m³.
    pm10_0_ug_m3 Particles in 0.0 ..= 10000.0: "pm10.0" "pm10.0atm" "pm10";
    /// The source's trust in its own channels in percent.
    confidence_percent Share in 0.0 ..= 100.0: "confidence";
    /// Carbon monoxide in ppm.
    carbon_monoxide_ppm Gas in 0.0 ..= 10000.0: "carbonmonoxide" "co";
    /// Carbon dioxide in ppm.
    carbon_dioxide_ppm Gas in 0.0 ..= 100000.0: "carbondioxide" "co2";
    /// Smoke obscuration in percent a metre.
    smoke_obscuration_percent_m Obscuration in 0.0 ..= 100.0: "smokeobscuration" "obscuration";
    /// Probability of smoke in percent, as a detector or a camera gives it.
    smoke_probability_percent Share in 0.0 ..= 100.0: "smokeprobability";
    /// Wind speed in m/s.
    wind_speed_m_s Speed in 0.0 ..= 115.0: "windspeed" "windspeedavg" "avgwindspeed" "windavg" "windspeedavglast1min"
        "windspeedlast" "windvelocity", with a unit: "wind" "ws";
    /// Strongest gust in m/s.
    wind_gust_m_s Speed in 0.0 ..= 150.0: "windgust" "gust" "gustspeed" "windgustspeed" "windspeedgust" "windmax"
        "windspeedhilast2min" "windgust10min" "windspeedmax", with a unit: "wg";
    /// Where the wind comes from, degrees clockwise from true north; 0 and 360 are both north.
    wind_direction_deg Direction in 0.0 ..= 360.0: "winddirection" "winddir" "winddirlast" "winddeg" "windbearing" "wdir";
    /// Precipitation since the last reading in mm.
    precipitation_mm Rain in 0.0 ..= 500.0: "precipitation" "precip" "rain" "rainfall";
    /// Rate of precipitation in mm/h.
    precipitation_rate_mm_h RainRate in 0.0 ..= 1000.0: "precipitationrate" "preciprate" "rainrate" "raininrate";
    /// Precipitation of the last hour in mm.
    precipitation_hour_mm Rain in 0.0 ..= 500.0: "precipitationhour" "hourlyrain" "rain1h" "preciponehour" "precipaccumonehour";
    /// Precipitation since local midnight in mm.
    precipitation_day_mm Rain in 0.0 ..= 2000.0: "precipitationday" "dailyrain" "rainday" "raindaily";
    /// Precipitation on the station's own counter, from its last reset on, in mm.
    precipitation_total_mm Rain in 0.0 ..= 100000.0: "precipitationtotal" "totalrain" "raintotal";
    /// Solar radiation in W/m².
    solar_radiation_w_m2 Radiation in 0.0 ..= 1600.0: "solarradiation" "solarrad" "solarirradiance" "ghi", with a unit: "solar" "radiation";
    /// Ultraviolet index.
    uv_index Index in 0.0 ..= 25.0: "uvindex" "uv" "uvi";
    /// Light in lux.
    illuminance_lux Light in 0.0 ..= 200000.0: "illuminance" "lux" "ambientlight", with a unit: "light";
    /// Moisture of 10-hour dead fuel in percent of its dry weight.
    fuel_moisture_percent Share in 0.0 ..= 300.0: "fuelmoisture" "fm10";
    /// Temperature of the fuel stick in °C.
    fuel_temperature_c Temperature in -60.0 ..= 100.0: "fueltemperature" "fueltemp";
    /// Water in the soil in percent of its volume.
    soil_moisture_percent Share in 0.0 ..= 100.0: "soilmoisture" "soilhumidity";
    /// Temperature of the soil in °C.
    soil_temperature_c Temperature in -60.0 ..= 85.0: "soiltemperature" "soiltemp";
    /// Supply voltage in V.
    battery_v Voltage in 0.0 ..= 60.0: "batteryvoltage" "batvoltage" "battvoltage", with a unit: "battery" "batt" "bat";
    /// Charge of the battery in percent.
    battery_percent Share in 0.0 ..= 100.0: "batterylevel" "batterycharge", with a unit: "battery" "batt" "bat";
    /// Signal strength at the sensor in dBm.
    signal_dbm Signal in -150.0 ..= 0.0: "signal" "rssi" "signalstrength";
    /// Height above mean sea level in m.
    elevation_m Height in -500.0 ..= 9000.0: "elevation" "altitude" "alt";
}

/// What a name says: the quantity, its place among the quantity's names, and the unit if one stands behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Named {
    field: usize,
    rank: usize,
    pub(super) unit: Option<Unit>,
}

impl Named {
    pub(super) fn dimension(self) -> Dimension {
        QUANTITIES[self.field].dimension
    }

    /// As a record names it.
    pub(super) fn field(self) -> &'static str {
        QUANTITIES[self.field].field
    }

    pub(super) fn in_unit(self, unit: Option<Unit>) -> Named {
        Named { unit, ..self }
    }

    pub(super) fn is_same_quantity(self, other: Named) -> bool {
        self.field == other.field
    }
}

/// A quantity that a name may stand for.
struct Meaning {
    field: usize,
    rank: usize,
    /// Also without a unit behind the name.
    bare: bool,
}

static NAMES: LazyLock<HashMap<&str, Vec<Meaning>>> = LazyLock::new(|| {
    let mut names: HashMap<&str, Vec<Meaning>> = HashMap::new();
    for (field, quantity) in QUANTITIES.iter().enumerate() {
        for (rank, name) in quantity.names.iter().chain(quantity.short).enumerate() {
            names.entry(name).or_default().push(Meaning { field, rank, bare: rank < quantity.names.len() });
        }
    }
    names
});

static LONGEST_NAME: LazyLock<usize> = LazyLock::new(|| NAMES.keys().map(|name| name.len()).max().unwrap_or_default());

/// The quantity that a name in compact form stands for.
pub(super) fn named(compact: &str) -> Option<Named> {
    let alone = NAMES.get(compact).and_then(|meanings| meanings.iter().find(|meaning| meaning.bare));
    if let Some(&Meaning { field, rank, .. }) = alone {
        return Some(Named { field, rank, unit: None });
    }
    // A device may send a name of a hundred kilobytes: beyond the longest that is known, nothing is looked up.
    let mut ends = compact.char_indices().skip(1).map(|(end, _)| end).take_while(|end| *end <= *LONGEST_NAME);
    ends.find_map(|end| {
        let (name, unit) = compact.split_at(end);
        NAMES.get(name)?.iter().find_map(|&Meaning { field, rank, .. }| {
            let unit = Unit::read(QUANTITIES[field].dimension, unit)?;
            Some(Named { field, rank, unit: Some(unit) })
        })
    })
}

/// The quantity of one of our fields.
pub(super) fn of_field(name: &str) -> Option<Named> {
    let field = QUANTITIES.iter().position(|quantity| quantity.field == name)?;
    Some(Named { field, rank: 0, unit: None })
}

/// Our fields, in the order of the table.
pub(super) fn fields() -> impl Iterator<Item = &'static str> {
    QUANTITIES.iter().map(|quantity| quantity.field)
}

/// What loggers write for "no value": far outside any range, so told apart only in the words of `quality`.
const FAULT_CODES: [f64; 7] = [-9999.0, -999.9, -999.0, -99.9, 9999.0, 99999.0, 65535.0];

/// Channels of one sensor that differ by both are not to be trusted (US EPA's rule for PurpleAir).
const DISAGREE_UG_M3: f64 = 5.0;
const DISAGREE_SHARE: f64 = 0.7;

/// The measures among `fields`, in the units of `system` where the message tells none; faults are listed in `quality` by the quantity's name. Of two names for one quantity the
/// better counts: one that holds a value, the less deeply nested, the earlier in the table. The others are marked unused.
pub(super) fn read(fields: &mut Fields<'_>, system: System, quality: &mut Vec<Quality>) -> Measures {
    let system = fields.system.unwrap_or(system);
    let mut chosen: [Option<usize>; FIELDS] = [None; FIELDS];
    for (n, candidate) in fields.candidates.iter().enumerate() {
        let order = |n: usize| {
            let candidate = &fields.candidates[n];
            (
                !candidate.mapped,
                candidate.value.is_null(),
                candidate.depth,
                candidate.named.rank,
                candidate.named.unit.is_some_and(|unit| unit != Unit::OWN),
            )
        };
        let best = &mut chosen[candidate.named.field];
        if best.is_none_or(|best| order(n) < order(best)) {
            *best = Some(n);
        }
    }
    let mut plain = [None; FIELDS];
    let mut measures = [None; FIELDS];
    for (field, candidate) in chosen.into_iter().enumerate() {
        let Some(candidate) = candidate.map(|n| &fields.candidates[n]) else { continue };
        let quantity = &QUANTITIES[field];
        let read = number_with_unit(candidate.value).and_then(|read| match read {
            None => Ok(None),
            Some((number, behind)) => {
                let unit = fields.unit_of(candidate, behind, system)?;
                Ok(Some((number, (unit.convert(number) * 1e4).round() / 1e4)))
            }
        });
        measures[field] = Some(None);
        match read {
            Ok(None) => {}
            Ok(Some((number, converted))) => {
                plain[field] = Some(converted);
                if (quantity.low..=quantity.high).contains(&converted) {
                    measures[field] = Some(Some(converted))
                } else {
                    quality.push(Quality::new(quantity.field, &outside(number, quantity), &shown(candidate.value)))
                }
            }
            Err(problem) => quality.push(Quality::new(quantity.field, &problem, &shown(candidate.value))),
        }
        if let Some(older) = candidate.taken_at {
            quality.push(Quality::new(quantity.field, "was measured at another time than the reading", older));
        }
    }
    fields.leave_unused(&chosen);
    let of = |name: &str| QUANTITIES.iter().position(|quantity| quantity.field == name).and_then(|field| plain[field]);
    let channels = (of("pm2_5_a_ug_m3").or(of("pm2_5_ug_m3")), of("pm2_5_b_ug_m3"));
    if let (Some(a), Some(b)) = channels
        && (a - b).abs() > DISAGREE_UG_M3
        && (a - b).abs() > DISAGREE_SHARE * (a + b) / 2.0
    {
        quality.push(Quality::new("pm2_5_ug_m3", "its two channels disagree", &format!("{a} and {b}")));
    }
    Measures::from_array(measures)
}

fn outside(number: f64, quantity: &Quantity) -> String {
    if FAULT_CODES.contains(&number) {
        "is a fault code".into()
    } else {
        format!("is not in {}..{}", quantity.low, quantity.high)
    }
}

/// A number, also as text and with its unit behind it (`60.8 °F`); `None` for null and for an empty text.
fn number_with_unit(value: &Value) -> Result<Option<(f64, Option<&str>)>, String> {
    let plain = number(value);
    if let (Err(_), Value::String(text)) = (plain, value)
        && text.trim().parse::<f64>().is_err()
    {
        let text = text.trim();
        let end = text.find(|letter: char| !matches!(letter, '0'..='9' | '.' | '-' | '+')).unwrap_or(text.len());
        let (number, unit) = (text[..end].parse::<f64>(), text[end..].trim());
        if let (Ok(number), false) = (number, unit.is_empty()) {
            return Ok(Some((number, Some(unit))));
        }
    }
    plain.map(|number| number.map(|number| (number, None))).map_err(str::to_owned)
}

/// A number, also as text; `None` for null and for an empty text, which says no more than null does.
pub(crate) fn number(value: &Value) -> Result<Option<f64>, &'static str> {
    match value {
        Value::Null => Ok(None),
        Value::Number(number) => Ok(number.as_f64()),
        Value::String(text) if text.trim().is_empty() => Ok(None),
        Value::String(text) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err("is not a number"),
        },
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err("is not a number"),
    }
}

/// The value as it came, without the quotes of a text.
pub(crate) fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
#[path = "measures_tests.rs"]
mod tests;
