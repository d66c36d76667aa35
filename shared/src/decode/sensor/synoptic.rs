//! Synoptic's answer for weather stations, RAWS among them: each station has one list of times and one list of values a
//! variable. Each time of a station becomes one object like a pushed reading; what it means is read like any other.

use serde_json::{Map, Value};

use super::measures::shown;
use crate::error::{Reason, Reject};

/// The first sensor of a variable, and where it has none what is derived from others; all else keeps its name and stands in
/// `reported`.
const MEASURED: &str = "_set_1";
const DERIVED: &str = "_set_1d";
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
            super::expandable(stations.iter().map(|station| {
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
    let lists = station.get("OBSERVATIONS").and_then(Value::as_object).and_then(|observations| {
        let measured = |name: &str| observations.contains_key(&format!("{name}{MEASURED}"));
        let list = |(name, values): (&String, &Value)| {
            let variable = match (name.strip_suffix(MEASURED), name.strip_suffix(DERIVED)) {
                (Some(variable), _) => variable,
                (None, Some(variable)) if !measured(variable) => variable,
                _ => name,
            };
            Some((named(variable, units), values.as_array()?.clone()))
        };
        observations.iter().map(list).collect::<Option<Vec<(String, Vec<Value>)>>>()
    });
    let times = lists.iter().flatten().find(|(name, _)| name == "date_time").map_or(0, |(_, times)| times.len());
    let Some(lists) = lists.filter(|lists| times > 0 && lists.iter().all(|(_, values)| values.len() == times)) else {
        return vec![Value::Array(vec![station])];
    };
    let mut own: Map<String, Value> =
        OF_THE_STATION.iter().filter_map(|name| Some(((*name).to_owned(), station.get(name)?.clone()))).collect();
    if let Some(elevation) = station.get("ELEVATION") {
        own.insert(named("elevation", units), elevation.clone());
    }
    let reading = |n: usize| {
        let mut reading = own.clone();
        reading.extend(lists.iter().map(|(name, values)| (name.clone(), values[n].clone())));
        Value::Object(reading)
    };
    (0..times).map(reading).collect()
}

/// A variable's name with its unit, as `measures` knows them: `wind_speed` in mph is `wind_speed_mph`.
fn named(name: &str, units: &Value) -> String {
    let unit = units.get(name).map(shown).unwrap_or_default().to_ascii_lowercase();
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
