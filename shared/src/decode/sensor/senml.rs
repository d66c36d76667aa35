//! SenML (RFC 8428) in JSON: a list of single values that share their device, time and unit by "base" fields. The values of
//! one device and time become one reading.

use serde_json::{Map, Value};

use super::measures::{number, shown};

/// What `base` fields say until a later record says otherwise.
#[derive(Default)]
struct Base {
    name: String,
    time: f64,
    unit: Option<Value>,
    value: f64,
}

/// Values of time below this are relative to now (RFC 8428, section 4.5.3).
const ABSOLUTE: f64 = 268_435_456.0;

pub(super) fn is_senml(list: &[Value]) -> bool {
    let has = |record: &Map<String, Value>, names: &[&str]| names.iter().any(|name| record.contains_key(*name));
    let mut records = list.iter().map(Value::as_object);
    let all_named = records.all(|record| record.is_some_and(|record| has(record, &["n", "bn"])));
    !list.is_empty()
        && all_named
        && list.iter().filter_map(Value::as_object).any(|r| has(r, &["v", "vs", "vb", "s", "bv"]))
}

/// The readings in the order of their first values.
pub(super) fn readings(records: Vec<Value>) -> Vec<Value> {
    let mut base = Base::default();
    let mut readings: Vec<(String, f64, Map<String, Value>)> = Vec::new();
    for record in records {
        let Value::Object(record) = record else { continue };
        let of = |name: &str| record.get(name).and_then(|value| number(value).ok().flatten());
        if let Some(name) = record.get("bn") {
            base.name = shown(name)
        }
        base.time = of("bt").unwrap_or(base.time);
        base.value = of("bv").unwrap_or(base.value);
        base.unit = record.get("bu").cloned().or(base.unit);

        let (device, measure) = split(&base.name, &record.get("n").map(shown).unwrap_or_default());
        let value = match of("v").or_else(|| record.contains_key("bv").then_some(0.0)) {
            Some(value) => Some(Value::from(value + base.value)),
            None => ["vs", "vb", "vd", "s"].iter().find_map(|name| record.get(*name).cloned()),
        };
        let Some(value) = value else { continue };
        let time = base.time + of("t").unwrap_or(0.0);
        let at = readings.iter().position(|(known, when, _)| *known == device && *when == time);
        let at = at.unwrap_or_else(|| {
            readings.push((device.clone(), time, head(&device, time)));
            readings.len() - 1
        });
        let told = match record.get("u").or(base.unit.as_ref()) {
            // A coordinate is a plain number.
            Some(unit) if !["lat", "lon"].contains(&shown(unit).as_str()) => {
                Value::from_iter([("value".to_owned(), value), ("unit".to_owned(), unit.clone())])
            }
            _ => value,
        };
        readings[at].2.insert(measure, told);
    }
    readings.into_iter().map(|(_, _, reading)| Value::Object(reading)).collect()
}

fn head(device: &str, time: f64) -> Map<String, Value> {
    let mut reading = Map::new();
    if !device.is_empty() {
        reading.insert("sensor_id".into(), device.into());
    }
    if time >= ABSOLUTE {
        reading.insert("time".into(), time.into());
    } else if time != 0.0 {
        reading.insert("seconds_after_receipt".into(), time.into());
    }
    reading
}

/// Device and measure of a full name: the base is the device; without one the name's last part is the measure.
fn split(base: &str, name: &str) -> (String, String) {
    let ends = ['/', ':'];
    if name.is_empty() {
        let (device, measure) = base.rsplit_once(ends).unwrap_or(("", base));
        return (device.to_owned(), measure.to_owned());
    }
    let (inner, measure) = name.rsplit_once(ends).map_or(("", name), |(inner, measure)| (inner, measure));
    let device = format!("{base}{inner}");
    (device.trim_end_matches(ends).to_owned(), measure.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_of_one_device_and_time_are_one_reading() {
        let list = json!([
            {"bn": "urn:dev:mac:0024befffe804ff1:", "bt": 1795800000, "n": "temperature", "u": "Cel", "v": 23.1},
            {"n": "humidity", "u": "%RH", "v": 20},
            {"n": "temperature", "u": "Cel", "v": 23.2, "t": 60},
            {"n": "door", "vb": true, "t": 60}]);
        let list = list.as_array().unwrap().clone();
        assert!(is_senml(&list));
        assert_eq!(
            Value::from(readings(list)),
            json!([
                {"sensor_id": "urn:dev:mac:0024befffe804ff1", "time": 1795800000.0,
                 "temperature": {"value": 23.1, "unit": "Cel"}, "humidity": {"value": 20.0, "unit": "%RH"}},
                {"sensor_id": "urn:dev:mac:0024befffe804ff1", "time": 1795800060.0,
                 "temperature": {"value": 23.2, "unit": "Cel"}, "door": true}])
        );
    }

    #[test]
    fn base_values_units_and_relative_times_hold_until_changed() {
        let list = json!([{"bn": "a/", "bu": "Cel", "bv": 20, "n": "temperature", "v": 1.5}, {"n": "dew_point", "v": -30, "t": -5},
            {"bn": "b/", "n": "lat", "u": "lat", "bv": 0, "v": 39.5}]);
        assert_eq!(
            Value::from(readings(list.as_array().unwrap().clone())),
            json!([
                {"sensor_id": "a", "temperature": {"value": 21.5, "unit": "Cel"}},
                {"sensor_id": "a", "seconds_after_receipt": -5.0, "dew_point": {"value": -10.0, "unit": "Cel"}},
                {"sensor_id": "b", "lat": 39.5}])
        );
        assert!(!is_senml(json!([{"n": "x"}, {"id": 1}]).as_array().unwrap()));
    }
}
