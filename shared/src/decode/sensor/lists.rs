//! Bodies that hold many readings: each becomes one object like a pushed reading, and is read like any other.

use serde_json::{Map, Value};

use super::measures::shown;
use crate::error::{Reason, Reject};
use crate::limits::EXPANDED_BYTES;

/// Whether lists may become objects: `(rows, bytes that each of them repeats)`. A short message can name few things many times.
///
/// # Errors
/// `too_large`.
pub(super) fn expandable(lists: impl Iterator<Item = (usize, usize)>) -> Result<(), Reject> {
    let bytes = lists.fold(0_usize, |sum, (rows, repeated)| sum.saturating_add(rows.saturating_mul(repeated)));
    if bytes > EXPANDED_BYTES {
        Err(Reject::new(Reason::TooLarge, format!("{bytes} bytes as single readings, {EXPANDED_BYTES} at most")))
    } else {
        Ok(())
    }
}

/// PurpleAir's answer for many sensors, and for the history of one: the names once, then a row of values.
///
/// # Errors
/// `too_large`.
pub(super) fn columns(
    fields: Vec<Value>,
    data: Vec<Value>,
    head: Map<String, Value>,
) -> Result<impl Iterator<Item = Value> + Send, Reject> {
    let names: Vec<String> = fields.iter().map(shown).collect();
    expandable([(data.len(), names.iter().map(String::len).sum())].into_iter())?;
    Ok(data.into_iter().map(move |row| match row {
        Value::Array(values) if values.len() == names.len() => {
            let mut object: Map<String, Value> = names.iter().cloned().zip(values).collect();
            // Without a time of its own a sensor's reading has the time of the answer's data.
            let timed = ["last_seen", "time_stamp"].iter().any(|name| object.contains_key(*name));
            if let (Some(at), false) = (head.get("data_time_stamp"), timed) {
                object.insert("time_stamp".into(), at.clone());
            }
            if let (Some(index), false) = (head.get("sensor_index"), object.contains_key("sensor_index")) {
                object.insert("sensor_index".into(), index.clone());
            }
            object.into()
        }
        other => other,
    }))
}

/// Davis's WeatherLink: a station has sensors, and each of them one object or several a time, in °F, mph and inches. Its
/// answers over the internet keep them under `sensors`, those of the device itself under `data.conditions`.
pub(super) fn weatherlink(message: &Map<String, Value>) -> Option<Vec<Value>> {
    let of = |station: String, at: Option<&Value>, sensor: &Map<String, Value>, conditions: &Map<String, Value>| {
        let mut reading = conditions.clone();
        let lsid = sensor.get("lsid").map(shown).unwrap_or_default();
        reading.insert("sensor_id".into(), format!("{station}/{lsid}").into());
        reading.insert("units".into(), "imperial".into());
        if let (Some(at), false) = (at, reading.contains_key("ts")) {
            reading.insert("ts".into(), at.clone());
        }
        Value::Object(reading)
    };
    if let (Some(station), Some(sensors)) =
        (message.get("station_id"), message.get("sensors").and_then(Value::as_array))
    {
        let sensors = sensors.iter().filter_map(Value::as_object);
        let readings = sensors.flat_map(|sensor| {
            let data = sensor.get("data").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
            data.map(move |conditions| of(shown(station), message.get("generated_at"), sensor, conditions))
        });
        return Some(readings.collect());
    }
    let data = message.get("data")?.as_object()?;
    let (station, conditions) = (data.get("did")?, data.get("conditions")?.as_array()?);
    let conditions = conditions.iter().filter_map(Value::as_object);
    Some(conditions.map(|conditions| of(shown(station), data.get("ts"), conditions, conditions)).collect())
}
