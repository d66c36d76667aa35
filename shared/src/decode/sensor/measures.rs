//! What sensors measure: one table of quantities with their physical range and the names under which sources report
//! them, units in the names. How a value is read is here; which sensor and when is not.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::record::Quality;

/// A quantity in a reading: absent when the sensor does not report it, null when its value could not be used.
pub type Measured = Option<Option<f64>>;

/// What a source's number has to become.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit {
    /// Already the quantity's unit.
    Same,
    Fahrenheit,
    Pascal,
    InchesOfMercury,
    MilesPerHour,
    KilometresPerHour,
    Knots,
    Millivolt,
    Inches,
    Feet,
}

impl Unit {
    fn convert(self, value: f64) -> f64 {
        match self {
            Unit::Same => value,
            Unit::Fahrenheit => (value - 32.0) / 1.8,
            Unit::Pascal => value / 100.0,
            Unit::InchesOfMercury => value * 33.863_89,
            Unit::MilesPerHour => value * 0.447_04,
            Unit::KilometresPerHour => value / 3.6,
            Unit::Knots => value * 1_852.0 / 3_600.0,
            Unit::Millivolt => value / 1_000.0,
            Unit::Inches => value * 25.4,
            Unit::Feet => value * 0.304_8,
        }
    }
}

struct Alias {
    name: &'static str,
    field: usize,
    unit: Unit,
}

macro_rules! measures {
    ($($(#[$doc:meta])* $field:ident in $low:literal ..= $high:literal: $($name:literal $unit:ident),+;)*) => {
        /// What the sensor measured, units in the names. A quantity that it does not report is absent; one whose value
        /// is a fault code or physically impossible is null, and `quality` says why.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub struct Measures {
            $($(#[$doc])*
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(extend("minimum" = $low, "maximum" = $high))]
            pub $field: Measured,)*
        }

        #[allow(non_camel_case_types)]
        enum Field { $($field,)* }

        const FIELDS: usize = [$(stringify!($field)),*].len();
        const NAMES: [&str; FIELDS] = [$(stringify!($field)),*];
        const RANGES: [(f64, f64); FIELDS] = [$(($low, $high)),*];
        /// In order of preference: of two names for one quantity the earlier counts.
        const ALIASES: &[Alias] =
            &[$($(Alias { name: $name, field: Field::$field as usize, unit: Unit::$unit },)+)*];

        impl Measures {
            fn from_array([$($field),*]: [Measured; FIELDS]) -> Measures {
                Measures { $($field),* }
            }
        }
    };
}

measures! {
    /// Air temperature in °C.
    temperature_c in -90.0 ..= 85.0: "temperature_c" Same, "temp_c" Same, "air_temp_c" Same, "air_temperature_c" Same,
        "temperature" Same, "air_temp" Same, "temp" Same, "temperature_f" Fahrenheit, "temp_f" Fahrenheit,
        "current_temp_f" Fahrenheit, "air_temp_f" Fahrenheit;
    /// Dew point in °C.
    dew_point_c in -100.0 ..= 60.0: "dew_point_c" Same, "dewpoint_c" Same, "dew_point" Same,
        "dew_point_temperature" Same, "dew_point_temperature_f" Fahrenheit,
        "current_dewpoint_f" Fahrenheit, "dew_point_f" Fahrenheit;
    /// Relative humidity in percent.
    relative_humidity_percent in 0.0 ..= 100.0: "relative_humidity_percent" Same, "relative_humidity" Same,
        "rh_pct" Same, "rh" Same, "humidity_percent" Same, "humidity" Same, "current_humidity" Same;
    /// Air pressure at the sensor in hPa.
    pressure_hpa in 300.0 ..= 1100.0: "pressure_hpa" Same, "pressure" Same, "pressure_mbar" Same, "pressure_pa" Pascal,
        "pressure_inhg" InchesOfMercury;
    /// Particles up to 1 µm in µg/m³.
    pm1_0_ug_m3 in 0.0 ..= 3000.0: "pm1_0_ug_m3" Same, "pm1.0_atm" Same, "pm1_0_atm" Same, "pm1.0" Same, "pm1" Same;
    /// Particles up to 2.5 µm in µg/m³: the sensor's own figure, which is channel A alone for PurpleAir's local JSON.
    pm2_5_ug_m3 in 0.0 ..= 3000.0: "pm2_5_ug_m3" Same, "pm2.5_atm" Same, "pm2_5_atm" Same, "pm2.5" Same, "pm2_5" Same,
        "pm25" Same;
    /// Channel A of a sensor with two, in µg/m³.
    pm2_5_a_ug_m3 in 0.0 ..= 3000.0: "pm2_5_a_ug_m3" Same, "pm2.5_atm_a" Same, "pm2_5_atm_a" Same, "pm2.5_a" Same;
    /// Channel B of a sensor with two, in µg/m³.
    pm2_5_b_ug_m3 in 0.0 ..= 3000.0: "pm2_5_b_ug_m3" Same, "pm2.5_atm_b" Same, "pm2_5_atm_b" Same, "pm2.5_b" Same;
    /// Particles up to 10 µm in µg/m³.
    pm10_0_ug_m3 in 0.0 ..= 10000.0: "pm10_0_ug_m3" Same, "pm10.0_atm" Same, "pm10_0_atm" Same, "pm10.0" Same,
        "pm10" Same;
    /// The source's trust in its own channels in percent.
    confidence_percent in 0.0 ..= 100.0: "confidence_percent" Same, "confidence" Same;
    /// Carbon monoxide in ppm.
    carbon_monoxide_ppm in 0.0 ..= 10000.0: "carbon_monoxide_ppm" Same, "co_ppm" Same, "co" Same;
    /// Carbon dioxide in ppm.
    carbon_dioxide_ppm in 0.0 ..= 100000.0: "carbon_dioxide_ppm" Same, "co2_ppm" Same, "co2" Same;
    /// Smoke obscuration in percent a metre.
    smoke_obscuration_percent_m in 0.0 ..= 100.0: "smoke_obscuration_percent_m" Same, "obscuration" Same;
    /// Probability of smoke in percent, as a detector or a camera gives it.
    smoke_probability_percent in 0.0 ..= 100.0: "smoke_probability_percent" Same, "smoke_probability" Same;
    /// Wind speed in m/s.
    wind_speed_ms in 0.0 ..= 115.0: "wind_speed_ms" Same, "wind_mps" Same, "wind_speed_mps" Same, "wind_speed" Same,
        "wind_speed_kmh" KilometresPerHour, "wind_speed_mph" MilesPerHour, "wind_mph" MilesPerHour,
        "wind_speed_kt" Knots;
    /// Strongest gust in m/s.
    wind_gust_ms in 0.0 ..= 150.0: "wind_gust_ms" Same, "gust_mps" Same, "wind_gust_mps" Same, "wind_gust" Same,
        "wind_gust_kmh" KilometresPerHour, "wind_gust_mph" MilesPerHour, "gust_mph" MilesPerHour, "wind_gust_kt" Knots;
    /// Where the wind comes from, degrees clockwise from true north; 0 and 360 are both north.
    wind_direction_deg in 0.0 ..= 360.0: "wind_direction_deg" Same, "wind_dir" Same, "wind_direction" Same,
        "wind_dir_deg" Same;
    /// Precipitation since the last reading in mm.
    precipitation_mm in 0.0 ..= 500.0: "precipitation_mm" Same, "precip_mm" Same, "rain_mm" Same, "precip_in" Inches;
    /// Solar radiation in W/m².
    solar_radiation_w_m2 in 0.0 ..= 1600.0: "solar_radiation_w_m2" Same, "solar_radiation" Same, "solar_wm2" Same;
    /// Moisture of 10-hour dead fuel in percent of its dry weight.
    fuel_moisture_percent in 0.0 ..= 300.0: "fuel_moisture_percent" Same, "fm10_pct" Same, "fuel_moisture" Same,
        "fuel_moisture_pct" Same;
    /// Temperature of the fuel stick in °C.
    fuel_temperature_c in -60.0 ..= 100.0: "fuel_temperature_c" Same, "fuel_temp_c" Same, "fuel_temp" Same,
        "fuel_temp_f" Fahrenheit;
    /// Supply voltage in V.
    battery_v in 0.0 ..= 60.0: "battery_v" Same, "batt_v" Same, "battery_voltage" Same, "battery_mv" Millivolt;
    /// Signal strength at the sensor in dBm.
    signal_dbm in -150.0 ..= 0.0: "signal_dbm" Same, "rssi_dbm" Same, "rssi" Same;
    /// Height above mean sea level in m.
    elevation_m in -500.0 ..= 9000.0: "elevation_m" Same, "elevation" Same, "altitude_m" Same, "elevation_ft" Feet,
        "altitude_ft" Feet;
}

/// Names that one source uses for another unit than everybody else.
const PURPLEAIR: [Alias; 3] = [
    Alias { name: "temperature", field: Field::temperature_c as usize, unit: Unit::Fahrenheit },
    Alias { name: "dew_point", field: Field::dew_point_c as usize, unit: Unit::Fahrenheit },
    Alias { name: "altitude", field: Field::elevation_m as usize, unit: Unit::Feet },
];

/// What loggers write for "no value": far outside any range, so told apart only in the words of `quality`.
const FAULT_CODES: [f64; 7] = [-9999.0, -999.9, -999.0, -99.9, 9999.0, 99999.0, 65535.0];

/// Channels of one sensor that differ by both are not to be trusted (US EPA's rule for PurpleAir).
const DISAGREE_UG_M3: f64 = 5.0;
const DISAGREE_SHARE: f64 = 0.7;

/// The measures among `fields`; faults are listed in `quality` by the quantity's name.
pub(super) fn read<'a>(
    fields: impl Iterator<Item = (&'a String, &'a Value)>,
    purpleair: bool,
    quality: &mut Vec<Quality>,
) -> Measures {
    let mut chosen: [Option<(usize, Unit, &Value)>; FIELDS] = [None; FIELDS];
    for (name, value) in fields {
        let own = purpleair.then(|| PURPLEAIR.iter().find(|alias| alias.name.eq_ignore_ascii_case(name))).flatten();
        let known = match own {
            Some(alias) => Some((0, alias)),
            None => ALIASES.iter().enumerate().find(|(_, alias)| alias.name.eq_ignore_ascii_case(name)),
        };
        if let Some((rank, alias)) = known
            && chosen[alias.field].is_none_or(|(other, ..)| rank < other)
        {
            chosen[alias.field] = Some((rank, alias.unit, value));
        }
    }
    let mut read = [None; FIELDS];
    let mut measures = [None; FIELDS];
    for (field, choice) in chosen.into_iter().enumerate() {
        let Some((_, unit, value)) = choice else { continue };
        measures[field] = Some(None);
        match number(value) {
            Ok(None) => {}
            Ok(Some(number)) => {
                read[field] = Some(number);
                let (low, high) = RANGES[field];
                let converted = (unit.convert(number) * 1e4).round() / 1e4;
                if (low..=high).contains(&converted) {
                    measures[field] = Some(Some(converted))
                } else {
                    quality.push(Quality::new(NAMES[field], &outside(number, low, high), &shown(value)))
                }
            }
            Err(problem) => quality.push(Quality::new(NAMES[field], problem, &shown(value))),
        }
    }
    let channel = |field: Field, otherwise: Field| read[field as usize].or(read[otherwise as usize]);
    let channels =
        (channel(Field::pm2_5_a_ug_m3, Field::pm2_5_ug_m3), channel(Field::pm2_5_b_ug_m3, Field::pm2_5_b_ug_m3));
    if let (Some(a), Some(b)) = channels
        && (a - b).abs() > DISAGREE_UG_M3
        && (a - b).abs() > DISAGREE_SHARE * (a + b) / 2.0
    {
        let field = NAMES[Field::pm2_5_ug_m3 as usize];
        quality.push(Quality::new(field, "its two channels disagree", &format!("{a} and {b}")));
    }
    Measures::from_array(measures)
}

fn outside(number: f64, low: f64, high: f64) -> String {
    if FAULT_CODES.contains(&number) { "is a fault code".into() } else { format!("is not in {low}..{high}") }
}

/// A number, also as text; `None` for null and for an empty text, which says no more than null does.
pub(in crate::decode) fn number(value: &Value) -> Result<Option<f64>, &'static str> {
    match value {
        Value::Null => Ok(None),
        Value::Number(number) => Ok(number.as_f64()),
        Value::String(text) if text.trim().is_empty() => Ok(None),
        Value::String(text) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err("is no number"),
        },
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err("is no number"),
    }
}

/// The value as it came, without the quotes of a text.
pub(in crate::decode) fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(fields: Value, purpleair: bool) -> (Measures, Vec<(String, String)>) {
        let mut quality = Vec::new();
        let measures = read(fields.as_object().unwrap().iter(), purpleair, &mut quality);
        (measures, quality.into_iter().map(|q| (q.field, q.problem)).collect())
    }

    #[test]
    fn units_are_converted_by_name_and_source() {
        let (generic, faults) =
            of(json!({"temperature": 20, "wind_mph": "10", "pressure_pa": 101325, "batt_v": 13.1}), false);
        assert_eq!(generic.temperature_c, Some(Some(20.0)));
        assert_eq!(generic.wind_speed_ms, Some(Some(4.4704)));
        assert_eq!(generic.pressure_hpa, Some(Some(1013.25)));
        assert_eq!(generic.battery_v, Some(Some(13.1)));
        assert!(faults.is_empty());
        assert_eq!(of(json!({"temperature": 68}), true).0.temperature_c, Some(Some(20.0)));
    }

    #[test]
    fn absent_null_and_fault_are_told_apart() {
        let (read, faults) = of(
            json!({"humidity": 255, "temp_c": -9999, "co": null, "pm25": "nan", "wind_dir": {"x": 1}, "rssi": ""}),
            false,
        );
        assert_eq!(read.relative_humidity_percent, Some(None));
        assert_eq!(read.carbon_monoxide_ppm, Some(None));
        assert_eq!(read.carbon_dioxide_ppm, None);
        assert_eq!(
            faults,
            [
                ("temperature_c", "is a fault code"),
                ("relative_humidity_percent", "is not in 0..100"),
                ("pm2_5_ug_m3", "is no number"),
                ("wind_direction_deg", "is no number"),
            ]
            .map(|(field, problem)| (field.to_owned(), problem.to_owned()))
        );
        let text = serde_json::to_string(&read).unwrap();
        assert!(text.contains(r#""carbon_monoxide_ppm":null"#) && !text.contains("dioxide"), "{text}");
    }

    #[test]
    fn the_preferred_of_two_names_counts() {
        let read = of(json!({"pm2.5": 1, "pm2.5_atm": 2, "PM25": 3}), false).0;
        assert_eq!(read.pm2_5_ug_m3, Some(Some(2.0)));
    }

    #[test]
    fn channels_that_disagree_are_named_and_kept() {
        let (read, faults) = of(json!({"pm2_5_atm": 40.0, "pm2_5_atm_b": 4.0}), true);
        assert_eq!((read.pm2_5_ug_m3, read.pm2_5_b_ug_m3), (Some(Some(40.0)), Some(Some(4.0))));
        assert_eq!(faults.len(), 1);
        assert!(of(json!({"pm2_5_atm": 4.0, "pm2_5_atm_b": 0.5}), true).1.is_empty(), "both small");
        assert!(of(json!({"pm2_5_atm": 191.67, "pm2_5_atm_b": 223.62}), true).1.is_empty(), "close enough");
    }

    #[test]
    fn no_name_stands_for_two_quantities() {
        for (n, alias) in ALIASES.iter().enumerate() {
            assert!(!ALIASES[..n].iter().any(|other| other.name.eq_ignore_ascii_case(alias.name)), "{}", alias.name);
        }
    }
}
