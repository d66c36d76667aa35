use super::*;
use crate::decode::Row;
use crate::record::Draft;
use crate::time::Timestamp;
use serde_json::json;

const TOPIC: &str = "sensors/ridge/dev1/state";

fn mappings(specs: Value) -> Result<Mappings, String> {
    let specs: Vec<SensorMapping> = serde_json::from_value(specs).unwrap();
    Mappings::new(&specs).map_err(|wrong| wrong.to_string())
}

fn rows(spec: Value, body: &str) -> Result<Vec<Row>, Reject> {
    let mut spec = spec;
    spec["topic"] = "sensors/ridge/+/state".into();
    let mappings = mappings(json!([spec])).unwrap();
    let source = SourceId::new("iot_ridge").unwrap();
    let received_at = "2026-11-27T17:20:05Z".parse().unwrap();
    let context = Context { source: &source, received_at, topic: Some(TOPIC), message: Some("1") };
    let body = Bytes::from(body.to_owned());
    mappings.of(TOPIC).unwrap().rows(&body, context).map(Iterator::collect)
}

fn one(spec: Value, body: &str) -> Draft {
    rows(spec, body).unwrap().remove(0).unwrap()
}

fn data(draft: &Draft) -> Value {
    serde_json::from_str(draft.data.json()).unwrap()
}

fn said(draft: &Draft) -> Vec<String> {
    draft.quality.iter().map(|quality| format!("{}: {}", quality.field, quality.problem)).collect()
}

#[test]
fn s18_a_mapping_says_what_their_names_and_units_are() {
    let spec = json!({
        "device": {"path": "unit.serial"}, "time": {"path": "unit.clock"},
        "fields": {"a.t1": {"field": "temperature_c", "unit": "F"}, "pm2.5x": {"field": "pm2_5_ug_m3"},
            "a.press": {"field": "sea_level_pressure_hpa", "unit": "inHg"}, "gy": {"field": "latitude"}, "gx": {"field": "longitude"},
            "nick": {"field": "sensor_name"}},
        "ignore": ["heap", "debug.*"],
    });
    let body = r#"{"unit": {"serial": 7716, "clock": 1795800000}, "a": {"t1": "60.8", "press": 30.05, "q": 1}, "pm2.5x": 35.5, "gy": 39.76,
        "gx": -121.62, "nick": "Ridge", "heap": 1, "debug": {"x": 2}, "humidity": 40, "temp": 99}"#;
    let draft = one(spec, body);
    let published = data(&draft);
    for (field, value) in [
        ("sensor_id", json!("7716")),
        ("sensor_name", json!("Ridge")),
        ("measured_at", json!("2026-11-27T17:20:00.000Z")),
        ("temperature_c", json!(16.0)),
        ("pm2_5_ug_m3", json!(35.5)),
        ("sea_level_pressure_hpa", json!(1017.6098)),
        ("relative_humidity_percent", json!(40.0)),
    ] {
        assert_eq!(published[field], value, "{field}");
    }
    assert_eq!(draft.position.map(|at| (at.latitude(), at.longitude())), Some((39.76, -121.62)));
    assert_eq!(said(&draft), ["reported: not understood, kept here alone: a.q, temp"]);
    assert_eq!(published["reported"]["a"]["t1"], "60.8", "the source's own object stays as it came");
}

#[test]
fn s9_a_mapped_value_that_cannot_be_used_is_null_and_no_other_name_stands_in() {
    let spec = json!({"fields": {"t1": {"field": "temperature_c", "unit": "C"}}});
    for (body, problem) in [
        (r#"{"t1": "broken", "temperature": 20}"#, "temperature_c: is not a number"),
        (r#"{"t1": [1], "temperature": 20}"#, "temperature_c: is not a number"),
        (r#"{"t1": {"value": 70, "unit": "F"}}"#, "temperature_c: its unit is told in two ways, one of them \"F\""),
        (r#"{"t1": 70, "TempUnit": "F"}"#, "temperature_c: its unit is told in two ways, one of them \"F\""),
        (r#"{"t1": 999}"#, "temperature_c: is not in -90..85"),
    ] {
        let draft = one(spec.clone(), body);
        assert_eq!(data(&draft)["temperature_c"], Value::Null, "{body}");
        assert!(data(&draft).as_object().unwrap().contains_key("temperature_c"), "{body}: null, not absent");
        assert!(said(&draft).iter().any(|told| told == problem), "{body}: {:?}", said(&draft));
    }
    let absent = one(spec, r#"{"temperature": 20}"#);
    assert!(!data(&absent).as_object().unwrap().contains_key("temperature_c"), "what the mapping names is not guessed");
    assert!(said(&absent).iter().any(|told| told.ends_with("kept here alone: temperature")), "{:?}", said(&absent));
}

#[test]
fn s18_a_mapping_of_one_coordinate_leaves_the_other_to_its_name() {
    let draft = one(
        json!({"fields": {"y": {"field": "latitude"}}}),
        r#"{"y": 39.76, "lon": -121.62, "temp_c": 20, "ts": 1795800000}"#,
    );
    assert_eq!(draft.position.map(|at| (at.latitude(), at.longitude())), Some((39.76, -121.62)));
    assert_eq!(said(&draft), [""; 0]);
}

#[test]
fn a6_what_opens_a_gateway_is_not_published() {
    let body = r#"{"PASSKEY": "0123", "tempf": 60.8, "gateway": {"Station Key": {"of": "butte"}, "mode": 1}}"#;
    let published = data(&one(json!({"profile": "ecowitt"}), body));
    let shown = json!({"PASSKEY": "***", "tempf": 60.8, "gateway": {"Station Key": "***", "mode": 1}});
    assert_eq!(published["reported"], shown);
}

#[test]
fn s18_device_and_time_come_from_the_topic_or_the_message_is_refused() {
    let spec = json!({"device": {"level": 2}, "time": {"path": "at"}});
    let draft = one(spec.clone(), r#"{"temp_c": 20, "id": "x"}"#);
    assert_eq!(data(&draft)["sensor_id"], "ridge");
    assert_eq!(data(&draft)["measured_at"], Value::Null, "there is no time where the mapping says");
    let bad = rows(spec, r#"{"at": "yesterday"}"#).unwrap().remove(0).unwrap_err();
    assert_eq!((bad.reason, bad.detail.as_str()), (Reason::BadTime, "at \"yesterday\" is not a time"));
    for body in [r#"{"temp_c": 20}"#, r#"{"serial": "", "temp_c": 20}"#, r#"{"serial": {}, "temp_c": 20}"#] {
        let nameless = rows(json!({"device": {"path": "serial"}}), body).unwrap().remove(0).unwrap_err();
        assert_eq!(nameless.reason, Reason::MissingField);
        assert_eq!(nameless.detail, "sensor_id is missing: the mapping takes it from serial");
    }
}

#[test]
fn s18_a_bare_value_is_a_message() {
    let spec = json!({"fields": {"value": {"field": "temperature_c", "unit": "F"}}});
    let draft = one(spec, "60.8");
    assert_eq!(
        (data(&draft)["temperature_c"].clone(), data(&draft)["reported"].clone()),
        (json!(16.0), json!({"value": 60.8}))
    );
}

#[test]
fn s18_a_wrong_mapping_is_refused_with_its_field_and_rule() {
    let ours = |spec: Value| mappings(json!([spec])).map(drop).unwrap_err();
    let fields = |fields: Value| ours(json!({"topic": "sensors/a/+/state", "fields": fields}));
    for (problem, says) in [
        (
            fields(json!({"t": {"field": "temperature"}})),
            "[0].fields.t.field: \"temperature\" is not a field of ours; they are temperature_c, ",
        ),
        (
            fields(json!({"t": {"field": "temperature_c", "unit": "mph"}})),
            "[0].fields.t.unit: \"mph\" is not a unit of temperature_c; known are c, f, k",
        ),
        (
            fields(json!({"lat": {"field": "latitude", "unit": "deg"}})),
            "[0].fields.lat.unit: latitude has no unit to tell: leave it out",
        ),
        (
            fields(json!({"a": {"field": "temperature_c"}, "b.c": {"field": "temperature_c"}})),
            "[0].fields.b.c.field: a is temperature_c already",
        ),
        (fields(json!({"": {"field": "temperature_c"}})), "[0].fields.: a name or path has"),
        (
            ours(json!({"topic": "sensors/a/+", "profile": "ttn"})),
            "[0].topic: no reading comes on a topic of sensors/a/+: the template's rule takes sensors/+/+/state",
        ),
        (ours(json!({"topic": "shellies/#", "profile": "ttn"})), "[0].topic: no reading comes on"),
        (ours(json!({"topic": "sensors/a+/b/state", "profile": "ttn"})), "[0].topic: '+' must stand for a whole level"),
        (
            ours(json!({"topic": "sensors/#", "source_id": "noaa_alerts"})),
            "[0].source_id: noaa_alerts is not an id of sensors: theirs begin with iot_",
        ),
        (ours(json!({"topic": "sensors/#", "device": {}})), "[0].device: name either a path or a level"),
        (
            ours(json!({"topic": "sensors/#", "device": {"level": 5}})),
            "[0].device.level: 5 is not in 1..4, the levels of sensors/+/+/state",
        ),
        (ours(json!({"topic": "sensors/#"})), "[0]: it maps nothing"),
    ] {
        assert!(problem.starts_with(says), "{problem}, not {says}");
    }
}

#[test]
fn s18_the_narrowest_filter_decides_and_an_ambiguous_pair_is_refused() {
    let of = |source: &str, topic: &str| json!({"topic": topic, "source_id": source});
    let all = json!([
        of("iot_all", "sensors/#"),
        of("iot_one", "sensors/a/7/state"),
        of("iot_a", "sensors/a/+/state"),
        of("iot_b", "sensors/b/+/#")
    ]);
    let mappings = mappings(all).unwrap();
    for (topic, source) in [
        ("sensors/a/7/state", "iot_one"),
        ("sensors/a/8/state", "iot_a"),
        ("sensors/b/8/state", "iot_b"),
        ("sensors/c/8/state", "iot_all"),
    ] {
        assert_eq!(mappings.of(topic).unwrap().source().unwrap().as_str(), source, "{topic}");
    }
    assert!(mappings.of("alerts/a").is_none());
    for (one, two, says) in [
        (
            "sensors/a/+/state",
            "sensors/a/+/state",
            "[1].topic: another mapping has the filter sensors/a/+/state already",
        ),
        (
            "sensors/a/+/state",
            "sensors/+/7/state",
            "[1].topic: some topics fit this filter and sensors/a/+/state as well, and neither is the narrower",
        ),
    ] {
        let problem = super::tests::mappings(json!([of("iot_a", one), of("iot_b", two)])).map(drop).unwrap_err();
        assert!(problem.starts_with(says), "{problem}");
    }
}

const PROFILES: [ProfileName; 7] = [
    ProfileName::Ecowitt,
    ProfileName::Tasmota,
    ProfileName::Shelly,
    ProfileName::Rtl433,
    ProfileName::Weatherlink,
    ProfileName::Ttn,
    ProfileName::Senml,
];

#[test]
fn every_line_of_a_profile_names_a_field_of_ours_and_a_unit_of_it() {
    for profile in PROFILES {
        for ProfileLine { path, field, told } in profile.table().lines {
            let target = Target::of(field).unwrap_or_else(|| panic!("{profile:?} {path}: {field}"));
            if let (Told::Unit(text), Target::Measure(named)) = (told, target) {
                assert!(Unit::read(named.dimension(), text).is_some(), "{profile:?} {path}: {text}");
            }
        }
    }
}

/// (profile, message, device, time, measures, what is not understood of it)
type Profiled<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [(&'a str, f64)], &'a str);

#[test]
fn s18_every_profile_reads_what_its_devices_send() {
    let messages: [Profiled<'_>; 14] = [
        // The form that Ecowitt's gateways publish.
        (
            "ecowitt",
            "PASSKEY=0&stationtype=GW3000A_V1.0.6&runtime=61&dateutc=2026-11-27+17:20:00&tempinf=71.6&humidityin=33&baromrelin=30.05&baromabsin=27.605&tempf=86.9&humidity=19&winddir=162&windspeedmph=10&windgustmph=20&maxdailygust=22&solarradiation=348.5&uv=3&rainratein=0.1&eventrainin=0.2&hourlyrainin=0.02&dailyrainin=1&weeklyrainin=1&monthlyrainin=2&yearlyrainin=9&totalrainin=10&soilmoisture1=31&soilad1=177&pm25_ch1=35.5&pm25_avg_24h_ch1=30&vpd=1.1&wh65batt=0&temp2f=50&freq=915M&model=GW3000A&interval=60&heap=2",
            "dev1",
            "2026-11-27T17:20:00Z",
            &[
                ("temperature_c", 30.5),
                ("relative_humidity_percent", 19.0),
                ("sea_level_pressure_hpa", 1017.6098),
                ("pressure_hpa", 934.8126),
                ("wind_direction_deg", 162.0),
                ("wind_speed_m_s", 4.4704),
                ("wind_gust_m_s", 8.9408),
                ("precipitation_rate_mm_h", 2.54),
                ("precipitation_hour_mm", 0.508),
                ("precipitation_day_mm", 25.4),
                ("precipitation_total_mm", 254.0),
                ("solar_radiation_w_m2", 348.5),
                ("uv_index", 3.0),
                ("soil_moisture_percent", 31.0),
                ("pm2_5_ug_m3", 35.5),
            ],
            "temp2f",
        ),
        // A station that measures rain by its drops.
        (
            "ecowitt",
            r#"{"dateutc": "2026-11-27 17:20:00", "tempf": "32", "rrain_piezo": "0.2", "drain_piezo": "0.5", "wh90batt": "3.1", "ws90cap_volt": "5"}"#,
            "dev1",
            "2026-11-27T17:20:00Z",
            &[
                ("temperature_c", 0.0),
                ("precipitation_rate_mm_h", 5.08),
                ("precipitation_day_mm", 12.7),
                ("battery_v", 3.1),
            ],
            "",
        ),
        (
            "tasmota",
            r#"{"Time": "2026-11-27T17:20:00", "Uptime": "1T00:00:01", "Heap": 20, "BME280": {"Temperature": 71.6, "Humidity": 45.2, "DewPoint": 49.1,
                "Pressure": 1003.4}, "PMS5003": {"CF1": 1, "CF2.5": 2, "CF10": 3, "PM1": 4, "PM2.5": 35.5, "PM10": 40, "PB0.3": 9},
                "ESP32": {"Temperature": 130}, "PressureUnit": "hPa", "TempUnit": "F", "Wifi": {"AP": 1, "RSSI": 80, "Signal": -60}}"#,
            "dev1",
            "2026-11-27T17:20:00Z",
            &[
                ("temperature_c", 22.0),
                ("relative_humidity_percent", 45.2),
                ("dew_point_c", 9.5),
                ("pressure_hpa", 1003.4),
                ("pm1_0_ug_m3", 4.0),
                ("pm2_5_ug_m3", 35.5),
                ("pm10_0_ug_m3", 40.0),
                ("signal_dbm", -60.0),
            ],
            "",
        ),
        // Shelly's first generation: `info`, and a single value.
        (
            "shelly",
            r#"{"wifi_sta": {"connected": true, "ssid": "x", "rssi": -51}, "mqtt": {"connected": true}, "time": "", "unixtime": 1795800000, "has_update": false,
                "mac": "AABBCC", "is_valid": true, "tmp": {"value": 76.1, "units": "F", "tC": 24.5, "tF": 76.1, "is_valid": true},
                "hum": {"value": 55.5, "is_valid": true}, "bat": {"value": 87, "voltage": 2.85}, "act_reasons": ["periodic"]}"#,
            "dev1",
            "2026-11-27T17:20:00Z",
            &[
                ("temperature_c", 24.5),
                ("relative_humidity_percent", 55.5),
                ("battery_percent", 87.0),
                ("battery_v", 2.85),
                ("signal_dbm", -51.0),
            ],
            "",
        ),
        (
            "shelly",
            r#"{"tmp": {"value": 76.1, "units": "F", "is_valid": true}}"#,
            "dev1",
            "2026-11-27T17:20:05Z",
            &[("temperature_c", 24.5)],
            "",
        ),
        // The later ones: a notification, and one part's status.
        (
            "shelly",
            r#"{"src": "shellyhtg3-84fce63a", "dst": "shellyhtg3-84fce63a/events", "method": "NotifyFullStatus", "params": {"ts": 1795800000.0, "ble": {},
                "cloud": {"connected": false}, "devicepower:0": {"id": 0, "battery": {"V": 5.46, "percent": 73}, "external": {"present": false}},
                "ht_ui": {}, "humidity:0": {"id": 0, "rh": 83.2}, "temperature:0": {"id": 0, "tC": 8.4, "tF": 47.1},
                "sys": {"mac": "84FCE63A", "uptime": 2}, "wifi": {"ssid": "x", "rssi": -63}}}"#,
            "shellyhtg3-84fce63a",
            "2026-11-27T17:20:00Z",
            &[
                ("temperature_c", 8.4),
                ("relative_humidity_percent", 83.2),
                ("battery_v", 5.46),
                ("battery_percent", 73.0),
                ("signal_dbm", -63.0),
            ],
            "",
        ),
        (
            "shelly",
            r#"{"id": 0, "battery": {"V": 5.46, "percent": 73}, "external": {"present": false}}"#,
            "dev1",
            "2026-11-27T17:20:05Z",
            &[("battery_v", 5.46), ("battery_percent", 73.0)],
            "",
        ),
        (
            "rtl_433",
            r#"{"time": "2026-11-27T17:20:00Z", "model": "Fineoffset-WS80", "id": 77, "battery_ok": 1, "battery_mV": 3100, "temperature_C": 18.2, "humidity": 30,
                "wind_dir_deg": 90, "wind_avg_m_s": 5, "wind_max_m_s": 10, "rain_mm": 812.4, "light_lux": 4000, "uvi": 2.5, "moisture": 44,
                "mic": "CRC", "mod": "FSK", "freq1": 914.9, "rssi": -0.1, "snr": 20.1, "noise": -20.2}"#,
            "dev1/77",
            "2026-11-27T17:20:00Z",
            &[
                ("temperature_c", 18.2),
                ("wind_speed_m_s", 5.0),
                ("wind_gust_m_s", 10.0),
                ("precipitation_total_mm", 812.4),
                ("illuminance_lux", 4000.0),
                ("uv_index", 2.5),
                ("soil_moisture_percent", 44.0),
                ("battery_v", 3.1),
            ],
            "",
        ),
        // WeatherLink Live: rain in tips of the spoon.
        (
            "weatherlink",
            r#"{"data": {"did": "001D0A700002", "ts": 1795800000, "conditions": [{"lsid": 48308, "data_structure_type": 1, "txid": 1, "temp": 62.6, "hum": 41,
                "dew_point": 32, "wind_speed_last": 2, "wind_dir_last": 200, "wind_speed_avg_last_1_min": 10, "wind_speed_hi_last_2_min": 20,
                "rain_size": 1, "rain_rate_last": 10, "rainfall_last_60_min": 2, "rainfall_daily": 100, "rainfall_year": 900, "solar_rad": 747,
                "uv_index": 5.5, "rx_state": 0, "trans_battery_flag": 0, "wet_bulb": null, "heat_index": 60}]}, "error": null}"#,
            "001D0A700002/48308",
            "2026-11-27T17:20:00Z",
            &[
                ("temperature_c", 17.0),
                ("relative_humidity_percent", 41.0),
                ("dew_point_c", 0.0),
                ("wind_speed_m_s", 4.4704),
                ("wind_gust_m_s", 8.9408),
                ("wind_direction_deg", 200.0),
                ("precipitation_rate_mm_h", 2.54),
                ("precipitation_hour_mm", 0.508),
                ("precipitation_day_mm", 25.4),
                ("solar_radiation_w_m2", 747.0),
                ("uv_index", 5.5),
            ],
            "",
        ),
        (
            "weatherlink",
            r#"{"data": {"did": "001D0A700002", "ts": 1795800000, "conditions": [{"lsid": 3, "data_structure_type": 3, "bar_sea_level": 30.05, "bar_trend": null,
                "bar_absolute": 27.605}]}}"#,
            "001D0A700002/3",
            "2026-11-27T17:20:00Z",
            &[("sea_level_pressure_hpa", 1017.6098), ("pressure_hpa", 934.8126)],
            "",
        ),
        (
            "ttn",
            r#"{"end_device_ids": {"device_id": "ridge-7", "dev_eui": "0000000000000001"}, "received_at": "2026-11-27T17:20:00Z",
                "uplink_message": {"f_cnt": 642, "frm_payload": "y5sI", "decoded_payload": {"BatV": 3.05, "TempC_SHT": "23.3", "Hum_SHT": "34.5",
                "Ext_sensor": "none", "leaf": 2}, "rx_metadata": [{"rssi": -101}]}}"#,
            "ridge-7",
            "2026-11-27T17:20:00Z",
            &[("temperature_c", 23.3), ("relative_humidity_percent", 34.5), ("battery_v", 3.05)],
            "leaf",
        ),
        // ChirpStack.
        (
            "ttn",
            r#"{"deviceInfo": {"devEui": "a1b2"}, "time": "2026-11-27T17:20:00Z", "object": {"temp_SOIL": "12.5", "water_SOIL": "28.1", "Bat": 3.3}, "data": "AA=="}"#,
            "a1b2",
            "2026-11-27T17:20:00Z",
            &[("soil_temperature_c", 12.5), ("soil_moisture_percent", 28.1), ("battery_v", 3.3)],
            "",
        ),
        (
            "senml",
            r#"[{"bn": "urn:dev:mac:0024befffe804ff1:", "bt": 1795800000, "n": "temperature", "u": "K", "v": 300}, {"n": "humidity", "u": "%RH", "v": 20}]"#,
            "urn:dev:mac:0024befffe804ff1",
            "2026-11-27T17:20:00Z",
            &[("temperature_c", 26.85), ("relative_humidity_percent", 20.0)],
            "",
        ),
        (
            "senml",
            r#"[{"bn": "urn:dev:ow:10e2073a01080063:", "bt": 1795800000, "n": "wind_speed", "u": "m/s", "v": 3}, {"n": "door", "vb": true}]"#,
            "urn:dev:ow:10e2073a01080063",
            "2026-11-27T17:20:00Z",
            &[("wind_speed_m_s", 3.0)],
            "",
        ),
    ];
    for (profile, message, device, at, measures, unread) in messages {
        let draft = one(json!({"profile": profile}), message);
        let published = data(&draft);
        assert_eq!(published["sensor_id"], device, "{message}");
        assert_eq!(draft.observed_at, at.parse::<Timestamp>().unwrap(), "{message}");
        for (field, value) in measures {
            let read = published[field].as_f64().unwrap_or_else(|| panic!("{field} of {message}: {published}"));
            assert!((read - value).abs() < 1e-3, "{field}: {read}, {value} expected, of {message}");
        }
        let named = said(&draft)
            .into_iter()
            .find_map(|told| told.strip_prefix("reported: not understood, kept here alone: ").map(str::to_owned));
        if profile != "senml" {
            assert_eq!(named.unwrap_or_default(), unread, "{message}");
        }
    }
}

#[test]
fn s18_steps_of_an_unknown_size_and_bytes_that_nobody_decoded_are_told() {
    let weather =
        r#"{"data": {"did": "d", "ts": 1795800000, "conditions": [{"lsid": 1, "rain_size": 9, "rainfall_daily": 3}]}}"#;
    let draft = one(json!({"profile": "weatherlink"}), weather);
    assert_eq!(said(&draft)[0], "precipitation_day_mm: counts steps, and rain_size does not tell their size");
    assert_eq!(data(&draft)["precipitation_day_mm"], Value::Null);
    let raw = r#"{"end_device_ids": {"device_id": "r"}, "uplink_message": {"frm_payload": "y5sI"}}"#;
    let told = said(&one(json!({"profile": "ttn"}), raw));
    assert_eq!(
        told[0],
        "reported: holds the device's bytes alone, in uplink_message.frm_payload: have the network decode them (payload formatter)"
    );
    let other = rows(json!({"profile": "senml"}), r#"{"n": "temperature", "v": 1}"#).map(drop).unwrap_err();
    assert_eq!(other.reason, Reason::NotData);
    let text = rows(json!({"profile": "tasmota"}), "a=1&b=2").map(drop).unwrap_err();
    assert_eq!(text.reason, Reason::BadJson, "a form is none of Tasmota's messages");
}

#[test]
fn a_mapping_comes_back_from_its_own_json() {
    let spec = json!({"topic": "sensors/a/+/state", "source_id": "iot_a", "profile": "rtl_433", "device": {"level": 3}, "fields": {"t": {"field": "temperature_c", "unit": "F"}}});
    let read: SensorMapping = serde_json::from_value(spec.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), spec);
}

#[test]
fn a6_mapped_messages_and_mappings_never_panic() {
    use crate::decode::mutation::mutated;
    use rand::SeedableRng;
    let spec = r#"[{"topic": "sensors/ridge/+/state", "profile": "ecowitt", "device": {"path": "a.0.id"}, "time": {"path": "at"},
        "fields": {"a.1.t1": {"field": "temperature_c", "unit": "F"}, "gy": {"field": "latitude"}}, "ignore": ["x*y", "a.*"]}]"#;
    let bodies = [
        r#"{"a": [{"id": 7}, {"t1": {"value": "60.8", "unit": "F"}, "x": 1}], "at": 1795800000, "gy": 39.7, "gx": -121, "humidity": 3}"#,
        "a=1&tempf=60&dateutc=2026-11-27+17:20:00&humidity=%33%00",
        r#"{"end_device_ids": {"device_id": "e"}, "uplink_message": {"frm_payload": "AA==", "decoded_payload": {"a": [{"id": "b"}], "tempf": 3}}}"#,
        r#"{"data": {"did": "d", "conditions": [{"lsid": 1, "a": [{"id": 1}], "tempf": 9, "rain_size": 2}]}}"#,
        "60.8",
    ];
    let mut rng = rand::rngs::StdRng::seed_from_u64(18);
    let source = SourceId::new("iot_ridge").unwrap();
    let (mut taken, mut refused, mut sound) = (0, 0, 0);
    let fixed: Vec<SensorMapping> = serde_json::from_str(spec).unwrap();
    let fixed = Mappings::new(&fixed).unwrap();
    for n in 0..10_000 {
        let wild: Option<Vec<SensorMapping>> = serde_json::from_slice(&mutated(spec.as_bytes(), &mut rng)).ok();
        let wild = wild.and_then(|specs| Mappings::new(&specs).ok());
        sound += usize::from(wild.is_some());
        let body = Bytes::from(mutated(bodies[n % bodies.len()].as_bytes(), &mut rng));
        let context =
            Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: Some(TOPIC), message: None };
        for mapping in wild.iter().chain([&fixed]).filter_map(|mappings| mappings.of(TOPIC)) {
            match mapping.rows(&body, context) {
                Ok(rows) => rows.for_each(|row| if row.is_ok() { taken += 1 } else { refused += 1 }),
                Err(reject) => {
                    assert!(!reject.detail.is_empty() && reject.raw == body);
                    refused += 1;
                }
            }
        }
    }
    assert!(taken > 100 && refused > 100 && sound > 100, "{taken} taken, {refused} refused, {sound} mappings");
}

#[test]
fn s9_a_list_of_which_everything_is_mapped_is_understood() {
    let spec = json!({"fields": {"pos.0": {"field": "latitude"}, "pos.1": {"field": "longitude"}, "air.0.t": {"field": "temperature_c"}}});
    let body = |more: &str| format!(r#"{{"time": 1795800000, "pos": [39.5, -121{more}], "air": [{{"t": 20}}]}}"#);
    let draft = one(spec.clone(), &body(""));
    assert!(draft.position.is_some() && data(&draft)["temperature_c"] == 20.0);
    assert_eq!(said(&draft), Vec::<String>::new());
    assert_eq!(said(&one(spec, &body(", 250"))), ["reported: not understood, kept here alone: pos"]);
}
