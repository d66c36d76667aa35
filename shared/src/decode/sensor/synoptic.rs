//! Synoptic's answers for weather stations, RAWS among them. A time series has one list of times and one list of values a
//! variable; "latest" and "nearest time" have one object of value and time a variable. Each time of a station, or its one
//! latest, becomes one object like a pushed reading; what it means is read like any other.

use serde_json::{Map, Value};

use super::lists::expandable;
use super::measures::shown;
use crate::error::{Reason, Reject};

/// The first sensor of a variable, and where it has none what is derived from others; all else keeps its name and stands in
/// `reported`.
const SERIES: [&str; 2] = ["_set_1", "_set_1d"];
const LATEST: [&str; 2] = ["_value_1", "_value_1d"];
/// What of a station describes every reading of it.
const OF_THE_STATION: [&str; 6] = ["STID", "NAME", "LATITUDE", "LONGITUDE", "STATE", "MNET_ID"];

pub(super) fn is_answer(object: &Map<String, Value>) -> bool {
    object.get("STATION").is_some_and(Value::is_array) || object.get("SUMMARY").is_some_and(Value::is_object)
}

/// One object a reading; of a station whose lists differ in length the station itself, as a list, which is no reading.
///
/// # Errors
/// `not_data` for an answer without stations, `too_large` for one that would become too much.
pub(super) fn readings(mut answer: Map<String, Value>) -> Result<impl Iterator<Item = Value> + Send, Reject> {
    let units = answer.remove("UNITS").unwrap_or_default();
    match answer.remove("STATION") {
        Some(Value::Array(stations)) if !stations.is_empty() => {
            expandable(stations.iter().map(|station| {
                let observations = station.get("OBSERVATIONS").and_then(Value::as_object);
                let names: usize = observations.into_iter().flatten().map(|(name, _)| name.len()).sum();
                let times = observations.and_then(|lists| lists.get("date_time")?.as_array()).map_or(0, Vec::len);
                let own: usize = OF_THE_STATION.iter().filter_map(|name| Some(shown(station.get(*name)?).len())).sum();
                (times, own + names)
            }))?;
            Ok(stations.into_iter().flat_map(move |station| of_station(station, &units)))
        }
        _ => {
            let said = answer.get("SUMMARY").and_then(|summary| summary.get("RESPONSE_MESSAGE")).map(shown);
            Err(Reject::new(Reason::NotData, format!("no stations: {}", said.unwrap_or_default())))
        }
    }
}

fn of_station(station: Value, units: &Value) -> Vec<Value> {
    let mut own: Map<String, Value> =
        OF_THE_STATION.iter().filter_map(|name| Some(((*name).to_owned(), station.get(name)?.clone()))).collect();
    if let Some(elevation) = station.get("ELEVATION") {
        own.insert(named("elevation", units), elevation.clone());
    }
    let Some(observations) = station.get("OBSERVATIONS").and_then(Value::as_object) else {
        return vec![unread(station)];
    };
    let read = if observations.contains_key("date_time") {
        series(&own, observations, units)
    } else {
        latest(own, observations, units).map(|reading| vec![reading])
    };
    read.unwrap_or_else(|| vec![unread(station)])
}

/// A list is not a reading: the row is refused with the station's bytes.
fn unread(station: Value) -> Value {
    Value::Array(vec![station])
}

/// What a list or value is of: the variable for the first sensor, else for what is derived; all others keep their own names.
fn variable<'a>(name: &'a str, ends: [&str; 2], observations: &Map<String, Value>) -> &'a str {
    let [measured, derived] = ends;
    let has = |variable: &str| observations.contains_key(&format!("{variable}{measured}"));
    name.strip_suffix(measured).or(name.strip_suffix(derived).filter(|variable| !has(variable))).unwrap_or(name)
}

fn series(own: &Map<String, Value>, observations: &Map<String, Value>, units: &Value) -> Option<Vec<Value>> {
    let list = |(name, values): (&String, &Value)| {
        Some((named(variable(name, SERIES, observations), units), values.as_array()?.clone()))
    };
    let lists = observations.iter().map(list).collect::<Option<Vec<(String, Vec<Value>)>>>()?;
    let times = observations.get("date_time")?.as_array()?.len();
    if times == 0 || lists.iter().any(|(_, values)| values.len() != times) {
        return None;
    }
    let reading = |n: usize| {
        let mut reading = own.clone();
        reading.extend(lists.iter().map(|(name, values)| (name.clone(), values[n].clone())));
        Value::Object(reading)
    };
    Some((0..times).map(reading).collect())
}

/// The latest of the variables' times is the reading's; a variable measured earlier keeps its own beside it.
fn latest(mut reading: Map<String, Value>, observations: &Map<String, Value>, units: &Value) -> Option<Value> {
    // All in one form, so that the greatest text is the latest.
    let time = observations.values().filter_map(|observed| observed.get("date_time")?.as_str()).max()?;
    reading.insert("date_time".into(), time.into());
    for (name, observed) in observations {
        reading.insert(named(variable(name, LATEST, observations), units), observed.clone());
    }
    Some(Value::Object(reading))
}

/// A variable's name with its unit, as `measures` knows them: `wind_speed` in mph is `wind_speed_mph`.
fn named(name: &str, units: &Value) -> String {
    let told = units.get(name).map(shown).unwrap_or_default().to_ascii_lowercase();
    // Heights are in feet, also in the metric answers.
    let unit = if told.is_empty() && name == "elevation" { "ft".to_owned() } else { told };
    let suffix = match unit.as_str() {
        "" | "celsius" | "m/s" | "%" | "gm" | "degrees" | "w/m**2" => "",
        "fahrenheit" => "_f",
        "mph" => "_mph",
        "kph" | "km/h" => "_kmh",
        "kts" | "kt" | "knots" => "_kt",
        "pascals" => "_pa",
        "ft" => "_ft",
        // Nothing is guessed of another unit: the name says it, and `measures` knows it or not.
        other => return format!("{name}_{other}"),
    };
    format!("{name}{suffix}")
}
