//! The readings of every profile, and what is said of what is not understood.

use super::*;
use crate::record::SourceId;
use crate::time::Timestamp;

fn rows_of(text: &str, topic: Option<&str>) -> Result<Vec<Row>, Reject> {
    let source = SourceId::new("iot_generic").unwrap();
    let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic, message: None };
    let body = Bytes::from(text.to_owned());
    rows(&body, context).map(Iterator::collect)
}

fn data(draft: &Draft) -> Value {
    serde_json::from_str(draft.data.json()).unwrap()
}

/// What `quality` says, as `field: problem`.
fn said(draft: &Draft) -> Vec<String> {
    draft.quality.iter().map(|quality| format!("{}: {}", quality.field, quality.problem)).collect()
}

fn one(text: &str) -> Row {
    rows_of(text, Some("sensors/weather-station/w7/state")).unwrap().remove(0)
}

#[test]
fn the_topic_names_the_sensor_when_the_reading_does_not() {
    assert_eq!(source_of("sensors/weather-station/w7/state").unwrap().as_str(), "iot_weather_station");
    assert_eq!(source_of("sensors/../x/state"), None);
    assert_eq!(source_of("alerts/x"), None);
    assert_eq!(data(&one(r#"{"time": 1755151620, "temp_c": 20}"#).unwrap())["sensor_id"], "w7");
    let nameless = rows_of(r#"{"temp_c": 20}"#, None).unwrap().remove(0);
    assert_eq!(nameless.unwrap_err().reason, Reason::MissingField);
}

#[test]
fn s9_a_position_is_right_or_absent() {
    assert!(one(r#"{"lat": 40.5, "lon": "-122.25"}"#).unwrap().position.is_some());
    for absent in [
        r#"{}"#,
        r#"{"lat": null, "lon": null}"#,
        r#"{"lat": 0, "lon": 0.0}"#,
        r#"{"lat": 40}"#,
        r#"{"lat": "", "lon": ""}"#,
    ] {
        let draft = one(absent).unwrap();
        assert_eq!((draft.position, &draft.geometry), (None, &None), "{absent}");
    }
    for (bad, reason) in [
        (r#"{"lat": 91, "lon": 1}"#, Reason::BadLatitude),
        (r#"{"lat": "north", "lon": 1}"#, Reason::BadLatitude),
        (r#"{"lat": 1, "lon": -180.5}"#, Reason::BadLongitude),
        (r#"{"lat": -9999, "lon": -9999}"#, Reason::BadLatitude),
    ] {
        assert_eq!(one(bad).unwrap_err().reason, reason, "{bad}");
    }
}

#[test]
fn synoptics_lists_become_one_reading_a_time_in_the_units_that_it_names() {
    let answer = r#"{"UNITS": {"air_temp": "Fahrenheit", "wind_speed": "mph", "fuel_moisture": "gm", "elevation": "ft"},
        "STATION": [
            {"STID": "TKNC1", "NAME": "KNEELAND", "LATITUDE": "40.72", "LONGITUDE": "-123.93", "ELEVATION": "1000",
             "OBSERVATIONS": {"date_time": ["2025-08-14T00:00:00Z", "2025-08-14T01:00:00Z"],
                "air_temp_set_1": [68.0, null], "wind_speed_set_1": [10, 20], "fuel_moisture_set_1": [7.8, 6.8],
                "wind_speed_set_1d": [99, 99], "fuel_moisture_set_2": [1, 1]}},
            {"STID": "CUT", "OBSERVATIONS": {"date_time": ["2025-08-14T00:00:00Z"], "air_temp_set_1": []}},
            {"STID": "NONE"}]}"#;
    let rows = rows_of(answer, None).unwrap();
    assert_eq!(rows.len(), 4);
    let first = rows[0].as_ref().unwrap();
    let data: Value = serde_json::from_str(first.data.json()).unwrap();
    assert_eq!((&data["sensor_id"], &data["sensor_name"]), (&"TKNC1".into(), &"KNEELAND".into()));
    assert_eq!((&data["temperature_c"], &data["wind_speed_m_s"]), (&20.0.into(), &4.4704.into()));
    assert_eq!((&data["fuel_moisture_percent"], &data["elevation_m"]), (&7.8.into(), &304.8.into()));
    assert_eq!(data["measured_at"], "2025-08-14T00:00:00.000Z");
    let second: Value = serde_json::from_str(rows[1].as_ref().unwrap().data.json()).unwrap();
    assert!(second["temperature_c"].is_null() && second.get("temperature_c").is_some());
    for (row, station) in [(2, "CUT"), (3, "NONE")] {
        let reject = rows[row].as_ref().unwrap_err();
        assert_eq!(reject.reason, Reason::ShortRow);
        assert!(String::from_utf8_lossy(&reject.raw).contains(station), "{reject:?}");
    }
    let large = format!(
        r#"{{"STATION": [{{"NAME": "{}", "OBSERVATIONS": {{"date_time": [{}0]}}}}]}}"#,
        "x".repeat(60_000),
        "0,".repeat(30_000)
    );
    let columns = format!(r#"{{"fields": ["{}"], "data": [{}[0]]}}"#, "x".repeat(60_000), "[0],".repeat(15_000));
    for body in [large, columns] {
        assert_eq!(rows_of(&body, None).err().unwrap().reason, Reason::TooLarge, "a short message fills the memory");
    }
    let none = r#"{"SUMMARY": {"RESPONSE_CODE": 2, "RESPONSE_MESSAGE": "No stations found"}}"#;
    let reject = rows_of(none, None).err().unwrap();
    assert!(reject.reason == Reason::NotData && reject.detail.contains("No stations found"), "{reject}");
}

#[test]
fn what_is_no_reading_is_refused_with_its_bytes() {
    for text in ["offline", "", "{\"id\": 1", r#"{"id": NaN}"#, "42", "\"online\"", "null"] {
        let reject = rows_of(text, None).err().unwrap();
        assert_eq!((reject.reason, &reject.raw[..]), (Reason::BadJson, text.as_bytes()), "{text}");
    }
    let error = r#"{"api_version": "V1", "time_stamp": 1, "error": "InvalidApiKey", "description": "wrong key"}"#;
    let reject = rows_of(error, None).err().unwrap();
    assert!(reject.reason == Reason::NotData && reject.detail.contains("wrong key"), "{reject}");
}

#[test]
fn the_same_reading_has_the_same_identity_and_a_changed_one_another_content() {
    let a = one(r#"{"id": "a", "time": 1755151620, "temp_c": 20}"#).unwrap();
    let reordered = one(r#"{"temp_c":20,"time":1755151620,"id":"a"}"#).unwrap();
    let changed = one(r#"{"id": "a", "time": 1755151620, "temp_c": 21}"#).unwrap();
    assert_eq!((a.event, a.content), (reordered.event, reordered.content));
    assert_eq!(a.event, changed.event);
    assert_ne!(a.content, changed.content);
}

#[test]
fn many_readings_in_one_body_are_rows() {
    let columns = r#"{"data_time_stamp": 1667503531, "fields": ["sensor_index", "latitude", "longitude"],
        "data": [[1, 33.5, -117.5], [2, null, null], [3, 99, 0.5], [4]]}"#;
    let rows = rows_of(columns, None).unwrap();
    assert_eq!(rows[0].as_ref().unwrap().observed_at.as_second(), 1667503531);
    assert_eq!(rows[1].as_ref().unwrap().position, None);
    let reject = rows[2].as_ref().unwrap_err();
    assert_eq!((reject.reason, reject.row), (Reason::BadLatitude, Some(3)));
    assert_eq!(rows[3].as_ref().unwrap_err().reason, Reason::ShortRow);
    let list = rows_of(r#"[{"id": 1}, 7, {"id": 2}]"#, None).unwrap();
    assert_eq!(list.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
}

/// A message of a pushed stream, received on 2026-11-27 at 17:00 UTC.
fn pushed(message: &str, text: &str) -> Vec<Draft> {
    let source = SourceId::new("iot_generic").unwrap();
    let received_at = "2026-11-27T17:00:00Z".parse().unwrap();
    let context =
        Context { source: &source, received_at, topic: Some("sensors/generic/dev1/state"), message: Some(message) };
    rows(&Bytes::from(text.to_owned()), context).unwrap().map(Result::unwrap).collect()
}

fn of_message(text: &str) -> Draft {
    pushed("1", text).remove(0)
}

#[test]
fn s12_a_reading_without_a_time_is_keyed_by_its_message_and_never_by_its_receipt() {
    let list = r#"[{"temperature": 20.5}, {"temperature": 21.5}, {"temperature": 20.5}]"#;
    let first = pushed("4951", list);
    let mut events: Vec<_> = first.iter().chain(&pushed("4952", list)).map(|draft| draft.event).collect();
    let again: Vec<_> = pushed("4951", list).iter().map(|draft| draft.event).collect();
    assert_eq!(events[..3], again, "a redelivered message is the same events");
    events.sort_unstable();
    events.dedup();
    assert_eq!(events.len(), 6, "each place of each message is an event");
    let published = data(&first[1]);
    assert_eq!((&published["message_id"], &published["measured_at"]), (&"4951/2".into(), &Value::Null));
    assert_eq!(said(&first[1]), ["observed_at: the reading tells no time: this is the time of receipt"]);

    let clock_not_set = of_message(r#"{"time": 84213, "temperature": 20.5}"#);
    assert_eq!(data(&clock_not_set)["message_id"], "1/1");
    let timed = of_message(r#"{"time": 1795800000, "temperature": 20.5}"#);
    assert_eq!(data(&timed)["message_id"], Value::Null);
    assert_eq!(data(&timed)["measured_at"], "2026-11-27T17:20:00.000Z");
    let written_otherwise = of_message(r#"{"temperature": 20.5, "time": "2026-11-27T09:20:00-0800"}"#);
    assert_eq!(timed.event, written_otherwise.event, "one moment, however it is written");
}

#[test]
fn s12_a_recorded_file_names_its_own_messages() {
    let read = |text: &str| rows_of(text, Some("sensors/x/w1/state")).unwrap().remove(0).unwrap().event;
    assert_eq!(read(r#"{"temp_c": 20}"#), read(r#"{"temp_c": 20}"#));
    assert_ne!(read(r#"{"temp_c": 20}"#), read(r#"{"temp_c": 21}"#));
}

#[test]
fn ids_keep_every_digit() {
    let rows = rows_of(
        r#"[{"device_id":89012601234567890123,"time":1795800000},{"device_id":89012601234567890124,"time":1795800000},
            {"device_id":2882429806056571124,"time":1795800000}]"#,
        None,
    );
    let drafts: Vec<Draft> = rows.unwrap().into_iter().map(Result::unwrap).collect();
    let ids: Vec<Value> = drafts.iter().map(|draft| data(draft)["sensor_id"].clone()).collect();
    assert_eq!(ids, ["89012601234567890123", "89012601234567890124", "2882429806056571124"]);
    assert_eq!(data(&drafts[0])["reported"]["device_id"], "89012601234567890123");
    assert_ne!(drafts[0].event, drafts[1].event);
    let overflow = of_message(r#"{"time": 1795800000, "temperature": 1e999, "humidity": 5}"#);
    assert_eq!(data(&overflow)["relative_humidity_percent"], 5.0);
    assert_eq!(said(&overflow), ["temperature_c: is not a number"]);
}

#[test]
fn s9_a_name_that_is_given_again_loses_no_value() {
    let draft = of_message(r#"{"time": 1795800000, "humidity": 3, "humidity": 99, "x": {"y": 1, "y": 2, "y": 3}}"#);
    assert_eq!(data(&draft)["relative_humidity_percent"], 3.0);
    let reported = &data(&draft)["reported"];
    assert_eq!(reported["humidity given again"], 99);
    assert_eq!(reported["x"], serde_json::json!({"y": 1, "y given again": 2, "y given again, 2": 3}));
    assert!(said(&draft)[0].contains("humidity given again"), "{:?}", said(&draft));
}

#[test]
fn s9_what_is_not_understood_is_named_and_counted() {
    let draft = of_message(
        r#"{"time": 1795800000, "temp_c": 20, "flux_capacitor": 1.21, "model": "X", "extra": {"deep": [1]}}"#,
    );
    assert_eq!(said(&draft), ["reported: not understood, kept here alone: extra.deep, flux_capacitor"]);
    assert!(!is_without_measure(&draft));
    let none = of_message(r#"{"time": 1795800000, "flux": 1.21}"#);
    assert!(is_without_measure(&none));
    assert_eq!(said(&none)[0], "measures: no measure was understood; the source's own object stands in reported");
    assert!(said(&none)[1].ends_with("flux"));
    let many: Map<String, Value> = (0..40).map(|n| (format!("odd{n:02}"), Value::from(n))).collect();
    let draft = of_message(&Value::Object(many).to_string());
    let said = said(&draft).pop().unwrap();
    assert!(said.contains("odd00") && said.contains("odd15 and 24 more") && !said.contains("odd16"), "{said}");
}

/// What a profile's message has to become: (payload, sensor, time, place, measures).
type Profile<'a> = (&'a str, &'a str, &'a str, Option<(f64, f64)>, &'a [(&'a str, f64)]);

#[test]
fn s18_the_envelopes_and_names_that_people_have_are_read() {
    let profiles: [Profile<'_>; 15] = [
        // Ecowitt: a customized upload as JSON.
        (
            r#"{"PASSKEY": "0", "stationtype": "GW2000A", "dateutc": "2026-11-27 16:20:46", "tempinf": "71.68", "humidityin": "33",
                "baromrelin": "29.605", "baromabsin": "27.605", "tempf": "86.90", "humidity": "19", "winddir": "162",
                "windspeedmph": "2.68", "windgustmph": "13.65", "rainratein": "0.1", "solarradiation": "348.54", "uv": "3"}"#,
            "dev1",
            "2026-11-27T16:20:46Z",
            None,
            &[
                ("temperature_c", 30.5),
                ("relative_humidity_percent", 19.0),
                ("sea_level_pressure_hpa", 1002.54),
                ("pressure_hpa", 934.81),
                ("wind_direction_deg", 162.0),
                ("wind_speed_m_s", 1.198),
                ("wind_gust_m_s", 6.102),
                ("precipitation_rate_mm_h", 2.54),
                ("solar_radiation_w_m2", 348.54),
                ("uv_index", 3.0),
            ],
        ),
        // Ecowitt's API: units beside the values.
        (
            r#"{"code": 0, "time": "1795800000", "data": {"outdoor": {"temperature": {"time": "1795800000", "unit": "ºF", "value": "54.0"},
                "humidity": {"unit": "%", "value": "89"}}, "indoor": {"temperature": {"unit": "ºF", "value": "70"}},
                "wind": {"wind_speed": {"unit": "mph", "value": "10"}}}}"#,
            "dev1",
            "2026-11-27T17:20:00Z",
            None,
            &[("temperature_c", 12.2222), ("relative_humidity_percent", 89.0), ("wind_speed_m_s", 4.4704)],
        ),
        // Tasmota: values under the sensor's name, local time, units for all.
        (
            r#"{"Time": "2026-11-27T07:17:52", "BME280": {"Temperature": 71.6, "Humidity": 45.2, "DewPoint": 49.1, "Pressure": 1003.4},
                "ESP32": {"Temperature": 130.1}, "PressureUnit": "hPa", "TempUnit": "F"}"#,
            "dev1",
            "2026-11-27T07:17:52Z",
            None,
            &[
                ("temperature_c", 22.0),
                ("relative_humidity_percent", 45.2),
                ("dew_point_c", 9.5),
                ("pressure_hpa", 1003.4),
            ],
        ),
        // The Things Stack.
        (
            r#"{"end_device_ids": {"device_id": "ridge-7", "dev_eui": "0000000000000001"}, "received_at": "2026-11-27T16:16:30.899243333Z",
                "uplink_message": {"f_cnt": 642, "decoded_payload": {"temperature": 23.3, "humidity": 34, "pm2_5": 88.2},
                "rx_metadata": [{"rssi": -101, "location": {"latitude": 1, "longitude": 2}}],
                "locations": {"user": {"latitude": 39.2, "longitude": -121.2}}}}"#,
            "ridge-7",
            "2026-11-27T16:16:30.899243333Z",
            Some((39.2, -121.2)),
            &[("temperature_c", 23.3), ("relative_humidity_percent", 34.0), ("pm2_5_ug_m3", 88.2)],
        ),
        // Cayenne LPP numbers its channels.
        (
            r#"{"deviceInfo": {"devEui": "a1b2"}, "time": "2026-11-27T16:00:00+00:00",
                "object": {"temperature_1": 21.5, "temperature_2": 9, "relative_humidity_1": 40, "gps_4": {"latitude": 39, "longitude": -121, "altitude": 700}}}"#,
            "a1b2",
            "2026-11-27T16:00:00Z",
            Some((39.0, -121.0)),
            &[("temperature_c", 21.5), ("relative_humidity_percent", 40.0)],
        ),
        // Shelly, second generation: one part's status, and a notification.
        (
            r#"{"id": 0, "tC": 23.3, "tF": 73.9, "ts": 1795800000}"#,
            "dev1",
            "2026-11-27T17:20:00Z",
            None,
            &[("temperature_c", 23.3)],
        ),
        (
            r#"{"src": "shellyhtg3-84fce63a", "method": "NotifyFullStatus", "params": {"ts": 1795800000.02,
                "temperature:0": {"id": 0, "tC": 8.4, "tF": 47.1}, "humidity:0": {"id": 0, "rh": 83.2}}}"#,
            "shellyhtg3-84fce63a",
            "2026-11-27T17:20:00.02Z",
            None,
            &[("temperature_c", 8.4), ("relative_humidity_percent", 83.2)],
        ),
        // Shelly, first generation.
        (
            r#"{"ts": 1795800000, "tmp": {"value": 76.1, "units": "F", "tC": 24.5, "tF": 76.1}, "hum": {"value": 55.5}}"#,
            "dev1",
            "2026-11-27T17:20:00Z",
            None,
            &[("temperature_c", 24.5), ("relative_humidity_percent", 55.5)],
        ),
        // rtl_433: the rain is the station's counter.
        (
            r#"{"time": "2026-11-27T16:00:00Z", "model": "Fineoffset-WH24", "id": 77, "battery_ok": 1, "temperature_C": 18.2, "humidity": 30,
                "wind_dir_deg": 90, "wind_avg_km_h": 18, "wind_max_km_h": 36, "rain_mm": 812.4, "light_lux": 4000, "mic": "CRC"}"#,
            "dev1/77",
            "2026-11-27T16:00:00Z",
            None,
            &[
                ("temperature_c", 18.2),
                ("wind_speed_m_s", 5.0),
                ("wind_gust_m_s", 10.0),
                ("precipitation_total_mm", 812.4),
                ("illuminance_lux", 4000.0),
            ],
        ),
        // Davis WeatherLink: over the internet, and the device itself.
        (
            r#"{"station_id": 374964, "generated_at": 1795800100, "sensors": [{"lsid": 3187671, "sensor_type": 45,
                "data": [{"ts": 1795800000, "temp": 72.3, "hum": 44, "wind_speed_last": 10, "wind_dir_last": 200, "bar_sea_level": 30.05}]}]}"#,
            "374964/3187671",
            "2026-11-27T17:20:00Z",
            None,
            &[
                ("temperature_c", 22.3889),
                ("relative_humidity_percent", 44.0),
                ("wind_speed_m_s", 4.4704),
                ("wind_direction_deg", 200.0),
                ("sea_level_pressure_hpa", 1017.61),
            ],
        ),
        (
            r#"{"data": {"did": "001D0A700002", "ts": 1795800000, "conditions": [{"lsid": 48308, "temp": 62.7, "dew_point": 32}]}, "error": null}"#,
            "001D0A700002/48308",
            "2026-11-27T17:20:00Z",
            None,
            &[("temperature_c", 17.0556), ("dew_point_c", 0.0)],
        ),
        // SenML.
        (
            r#"[{"bn": "urn:dev:mac:0024befffe804ff1:", "bt": 1795800000, "n": "temperature", "u": "Cel", "v": 23.1},
                {"n": "humidity", "u": "%RH", "v": 20}]"#,
            "urn:dev:mac:0024befffe804ff1",
            "2026-11-27T17:20:00Z",
            None,
            &[("temperature_c", 23.1), ("relative_humidity_percent", 20.0)],
        ),
        // zigbee2mqtt.
        (
            r#"{"battery": 97, "humidity": 61.85, "last_seen": "2026-11-27T17:10:43+01:00", "linkquality": 204, "pressure": 995.6, "temperature": 19.34}"#,
            "dev1",
            "2026-11-27T16:10:43Z",
            None,
            &[("temperature_c", 19.34), ("pressure_hpa", 995.6)],
        ),
        // PurpleAir's answer for one sensor.
        (
            r#"{"api_version": "V1.0.10", "data_time_stamp": 1795800008, "sensor": {"sensor_index": 131075, "last_seen": 1795800000,
                "latitude": 39.76, "longitude": -121.62, "altitude": 1780, "temperature": 103, "pm2.5": 9.5, "pm2.5_atm": 9.5,
                "stats": {"pm2.5": 99, "time_stamp": 1}}}"#,
            "131075",
            "2026-11-27T17:20:00Z",
            Some((39.76, -121.62)),
            &[("pm2_5_ug_m3", 9.5), ("temperature_c", 39.4444), ("elevation_m", 542.544)],
        ),
        // GeoJSON.
        (
            r#"{"type": "Feature", "id": "cam-3", "geometry": {"type": "Point", "coordinates": [-121.5, 39.5]},
                "properties": {"observed_at": "2026-11-27T16:00:00Z", "smoke_probability": 97}}"#,
            "cam-3",
            "2026-11-27T16:00:00Z",
            Some((39.5, -121.5)),
            &[("smoke_probability_percent", 97.0)],
        ),
    ];
    for (payload, sensor, observed_at, place, measures) in profiles {
        let draft = of_message(payload);
        let published = data(&draft);
        assert_eq!(published["sensor_id"], sensor, "{payload}");
        assert_eq!(draft.observed_at, observed_at.parse::<Timestamp>().unwrap(), "{payload}");
        assert_eq!(draft.position.map(|at| (at.latitude(), at.longitude())), place, "{payload}");
        for (field, value) in measures {
            let read = published[field].as_f64().unwrap_or_else(|| panic!("{field} of {payload}: {published}"));
            assert!((read - value).abs() < 0.01, "{field}: {read}, {value} expected, of {payload}");
        }
    }
}

#[test]
fn a_local_time_is_flagged_and_second_probes_are_named() {
    let draft =
        of_message(r#"{"Time": "2026-11-27T07:17:52", "AM2301": {"Temperature": 22}, "DS18B20": {"Temperature": 5}}"#);
    assert_eq!(
        said(&draft),
        ["observed_at: has no offset: read as UTC", "reported: not understood, kept here alone: DS18B20.Temperature"]
    );
    assert_eq!(data(&draft)["temperature_c"], 22.0);
}

#[test]
fn s17_every_form_of_synoptics_and_purpleairs_answers_is_read() {
    let latest = r#"{"STATION": [{"STID": "CEEC1", "LATITUDE": "39.5432", "LONGITUDE": "-121.2147", "ELEVATION": "3215",
        "OBSERVATIONS": {"air_temp_value_1": {"date_time": "2026-11-27T23:25:00Z", "value": 70.7},
            "wind_gust_value_1": {"date_time": "2026-11-27T23:20:00Z", "value": 11.3},
            "dew_point_temperature_value_1d": {"date_time": "2026-11-27T23:25:00Z", "value": -3.4}}}],
        "UNITS": {"air_temp": "Fahrenheit", "wind_gust": "m/s"}}"#;
    let draft = rows_of(latest, None).unwrap().remove(0).unwrap();
    assert_eq!(draft.observed_at, "2026-11-27T23:25:00Z".parse::<Timestamp>().unwrap());
    assert_eq!(draft.position.map(|at| (at.latitude(), at.longitude())), Some((39.5432, -121.2147)));
    let published = data(&draft);
    for (field, value) in
        [("temperature_c", 21.5), ("wind_gust_m_s", 11.3), ("dew_point_c", -3.4), ("elevation_m", 979.932)]
    {
        assert_eq!(published[field], value, "{field}");
    }
    assert_eq!(said(&draft), ["wind_gust_m_s: was measured at another time than the reading"]);

    let history = r#"{"api_version": "V1", "sensor_index": 7, "fields": ["time_stamp", "temperature"], "data": [[1795800000, 68], [1795800600, 70]]}"#;
    let rows = rows_of(history, None).unwrap();
    let times: Vec<i64> = rows.iter().map(|row| row.as_ref().unwrap().observed_at.as_second()).collect();
    assert_eq!(times, [1_795_800_000, 1_795_800_600]);
    assert_eq!(data(rows[1].as_ref().unwrap())["sensor_id"], "7");
}

#[test]
fn readings_one_a_line_and_in_utf_16_are_read() {
    let body = "{\"id\": 1, \"temp_c\": 20}\r\n\n[{\"id\": 2}, {\"id\": 3}]\nbroken\n{\"id\": 4}";
    let rows = rows_of(body, None).unwrap();
    assert_eq!(rows.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, true, false, true]);
    let reject = rows[3].as_ref().unwrap_err();
    assert_eq!((reject.row, &reject.raw[..]), (Some(4), &b"broken\n"[..]));
    let source = SourceId::new("iot_generic").unwrap();
    let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
    let wide: Vec<u8> = "\u{feff}{\"id\": \"Höhe\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let draft = super::rows(&Bytes::from(wide), context).unwrap().next().unwrap().unwrap();
    assert_eq!(data(&draft)["sensor_id"], "Höhe");
}

#[test]
fn s17_synoptics_own_checks_and_heights_and_local_times_are_told_reading_by_reading() {
    let series = r#"{"UNITS": {"air_temp": "Celsius", "elevation": "ft"}, "STATION": [{"STID": "A", "ELEVATION": 1000, "UNITS": {"elevation": "m"},
        "QC_FLAGGED": true, "QC": {"air_temp_set_1": [null, [105, 7]], "wind_speed_set_1": [[], null]},
        "OBSERVATIONS": {"date_time": ["2026-07-13T19:47:00-0700", "2026-07-13T20:47:00-0700"],
            "air_temp_set_1": [22, 10], "wind_speed_set_1": [1, 2]}}]}"#;
    let drafts: Vec<Draft> = rows_of(series, None).unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!((said(&drafts[0]), data(&drafts[0])["elevation_m"].clone()), (Vec::new(), 1000.0.into()));
    assert_eq!(said(&drafts[1]), ["temperature_c: failed the source's own checks 105 (spatial value), 7"]);
    assert_eq!(data(&drafts[1])["temperature_c"], 10.0, "the value stands as it came");
    assert_eq!(data(&drafts[1])["measured_at"], "2026-07-14T03:47:00.000Z");

    let latest = r#"{"UNITS": {"air_temp": "Celsius"}, "STATION": [{"STID": "A", "OBSERVATIONS": {
        "air_temp_value_1": {"value": 10, "date_time": "2026-07-14T03:47:00Z", "qc": {"status": "failed", "qc_flags": [105]}},
        "fuel_moisture_value_1": {"value": null, "date_time": "2026-07-14T03:47:00Z", "qc": []}}}]}"#;
    let draft = rows_of(latest, None).unwrap().remove(0).unwrap();
    assert_eq!(said(&draft), ["temperature_c: failed the source's own checks 105 (spatial value)"]);
    assert_eq!(draft.event, drafts[1].event, "one reading has one id through either service");
    let published = data(&draft);
    assert_eq!(published["reported"]["air_temp"], 10, "as a series has it");
    assert!(published["fuel_moisture_percent"].is_null() && published.get("fuel_moisture_percent").is_some());
}

/// By the square of its length it would take hours.
#[test]
fn a6_a_name_of_two_megabytes_is_told_of_and_costs_no_more_than_its_length() {
    let name = "t".repeat(2_000_000);
    let draft = rows_of(&format!(r#"{{"id": "w7", "time": 1755151620, "temp_c": 20, "{name}": 1}}"#), None)
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!(data(&draft)["temperature_c"], 20.0);
    assert!(said(&draft).iter().any(|told| told.starts_with("reported: not understood, kept here alone: ttt")));
}
