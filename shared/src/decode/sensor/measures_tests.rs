use super::*;
use crate::decode::sensor::names::compact;
use serde_json::json;

fn of(reading: Value, system: System) -> (Measures, Vec<(String, String)>) {
    let mut quality = Vec::new();
    let measures = read(&mut Fields::of(reading.as_object().unwrap(), None), system, &mut quality);
    (measures, quality.into_iter().map(|q| (q.field, q.problem)).collect())
}

#[test]
fn units_are_converted_by_name_and_source() {
    let (generic, faults) =
        of(json!({"temperature": 20, "wind_mph": "10", "pressure_pa": 101325, "batt_v": 13.1}), System::Metric);
    assert_eq!(generic.temperature_c, Some(Some(20.0)));
    assert_eq!(generic.wind_speed_m_s, Some(Some(4.4704)));
    assert_eq!(generic.pressure_hpa, Some(Some(1013.25)));
    assert_eq!(generic.battery_v, Some(Some(13.1)));
    assert!(faults.is_empty());
    assert_eq!(of(json!({"temperature": 68}), System::PurpleAir).0.temperature_c, Some(Some(20.0)));
}

#[test]
fn absent_null_and_fault_are_told_apart() {
    let (read, faults) = of(
        json!({"humidity": 255, "temp_c": -9999, "co": null, "pm25": "nan", "wind_dir": true, "rssi": ""}),
        System::Metric,
    );
    assert_eq!(read.relative_humidity_percent, Some(None));
    assert_eq!(read.carbon_monoxide_ppm, Some(None));
    assert_eq!(read.carbon_dioxide_ppm, None);
    assert_eq!(
        faults,
        [
            ("temperature_c", "is a fault code"),
            ("relative_humidity_percent", "is not in 0..100"),
            ("pm2_5_ug_m3", "is not a number"),
            ("wind_direction_deg", "is not a number"),
        ]
        .map(|(field, problem)| (field.to_owned(), problem.to_owned()))
    );
    let text = serde_json::to_string(&read).unwrap();
    assert!(text.contains(r#""carbon_monoxide_ppm":null"#) && !text.contains("dioxide"), "{text}");
}

#[test]
fn the_preferred_of_two_names_counts() {
    let read = of(json!({"pm2.5": 1, "pm2.5_atm": 2, "PM25": 3}), System::Metric).0;
    assert_eq!(read.pm2_5_ug_m3, Some(Some(2.0)));
}

#[test]
fn channels_that_disagree_are_named_and_kept() {
    let (read, faults) = of(json!({"pm2_5_atm": 40.0, "pm2_5_atm_b": 4.0}), System::PurpleAir);
    assert_eq!((read.pm2_5_ug_m3, read.pm2_5_b_ug_m3), (Some(Some(40.0)), Some(Some(4.0))));
    assert_eq!(faults.len(), 1);
    assert!(of(json!({"pm2_5_atm": 4.0, "pm2_5_atm_b": 0.5}), System::PurpleAir).1.is_empty(), "both small");
    assert!(of(json!({"pm2_5_atm": 191.67, "pm2_5_atm_b": 223.62}), System::PurpleAir).1.is_empty(), "close enough");
}

#[test]
fn a_name_stands_for_a_quantity_with_any_unit_of_it_behind() {
    for (name, field) in [
        ("tempf", "temperature_c"),
        ("tempF", "temperature_c"),
        ("temperature_C", "temperature_c"),
        ("tC", "temperature_c"),
        ("windspeedmph", "wind_speed_m_s"),
        ("wind_avg_km_h", "wind_speed_m_s"),
        ("wind_avg_m_s", "wind_speed_m_s"),
        ("windSpeedKts", "wind_speed_m_s"),
        ("wind_max_km_h", "wind_gust_m_s"),
        ("windgustmph", "wind_gust_m_s"),
        ("baromrelin", "sea_level_pressure_hpa"),
        ("baromabsin", "pressure_hpa"),
        ("pressure_hPa", "pressure_hpa"),
        ("Pressure (mbar)", "pressure_hpa"),
        ("co2", "carbon_dioxide_ppm"),
        ("co_ppm", "carbon_monoxide_ppm"),
        ("PM10", "pm10_0_ug_m3"),
        ("PM1.0", "pm1_0_ug_m3"),
        ("pm_2p5", "pm2_5_ug_m3"),
        ("battery_mV", "battery_v"),
        ("battery_percent", "battery_percent"),
        ("rainratein", "precipitation_rate_mm_h"),
        ("fm10_pct", "fuel_moisture_percent"),
    ] {
        let named = named(&compact(name)).unwrap_or_else(|| panic!("{name} is not understood"));
        assert_eq!(QUANTITIES[named.field].field, field, "{name}");
    }
    for name in ["tempinf", "humidityin", "temp1f", "t", "wind", "battery", "pm2.5_10minute", "f", "windspeedf"] {
        assert_eq!(named(&compact(name)), None, "{name} is not a measure of the air outside");
    }
}

#[test]
fn what_is_published_is_read_as_itself_and_no_name_stands_for_two_quantities() {
    let mut names: Vec<&str> = QUANTITIES.iter().flat_map(|quantity| quantity.names).copied().collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    for (field, quantity) in QUANTITIES.iter().enumerate() {
        assert_eq!(named(&compact(quantity.field)).map(|named| named.field), Some(field), "{}", quantity.field);
        for name in quantity.names {
            assert_eq!(compact(name), *name);
        }
    }
}

#[test]
fn a_unit_beside_the_value_counts_or_the_value_is_null() {
    let temperature = |reading: Value| of(reading, System::Metric).0.temperature_c;
    for fahrenheit in [
        json!({"temp": 60.8, "temp_unit": "°F"}),
        json!({"temp": 60.8, "TempUnit": "F"}),
        json!({"temperature": "60.8", "unit": "degF"}),
        json!({"temperature": "60.8 °F"}),
        json!({"temperature": 60.8, "units": {"temperature": "fahrenheit"}}),
        json!({"temperature": 60.8, "units": "imperial"}),
        json!({"temperature": 60.8, "unit_of_temperature": "F"}),
        json!({"temperature": {"value": 60.8, "unit": "ºF"}}),
        json!({"type": "temperature", "value": 60.8, "unit": "°F"}),
        json!({"measurements": [{"name": "temperature", "value": 60.8, "unit": "F"}]}),
        json!({"t": {"value": 60.8, "unit": "F"}}),
    ] {
        assert_eq!(temperature(fahrenheit.clone()), Some(Some(16.0)), "{fahrenheit}");
    }
    for (unclear, problem) in [
        (json!({"temp": 60.8, "temp_unit": "X"}), "its unit \"X\" is not understood"),
        (json!({"temp": 60.8, "unit": "degrees"}), "its unit \"degrees\" is not understood"),
        (json!({"temp_c": 60.8, "temp_unit": "F"}), "its unit is told in two ways, one of them \"F\""),
        (json!({"temp_c": "60.8 °F"}), "its unit is told in two ways, one of them \"°F\""),
    ] {
        let (read, faults) = of(unclear.clone(), System::Metric);
        assert_eq!(read.temperature_c, Some(None), "{unclear}");
        assert_eq!(faults, [("temperature_c".to_owned(), problem.to_owned())], "{unclear}");
    }
    let (read, faults) = of(json!({"temp": 60.8, "temp_unit": "F", "windspeed": 9.17, "humidity": 59}), System::Metric);
    assert_eq!((read.wind_speed_m_s, read.relative_humidity_percent), (Some(None), Some(Some(59.0))));
    assert_eq!(faults, [("wind_speed_m_s".to_owned(), "its unit is not told, and the temperature's is °F".to_owned())]);
}

#[test]
fn a_value_counts_before_a_null_and_the_reading_itself_before_what_is_nested() {
    let read =
        of(json!({"temperature": null, "temp_f": 50, "inner": {"temperature": 1}, "humidity": 5}), System::Metric).0;
    assert_eq!(read.temperature_c, Some(Some(10.0)));
    let nested =
        of(json!({"outdoor": {"temperature": 21}, "indoor": {"temperature": 25, "humidity": 40}}), System::Metric).0;
    assert_eq!((nested.temperature_c, nested.relative_humidity_percent), (Some(Some(21.0)), None));
}
