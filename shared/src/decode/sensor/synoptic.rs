//! Synoptic's answers for weather stations, RAWS among them. A time series has one list of times and one list of values a
//! variable; "latest" and "nearest time" have one object of value and time a variable. Each time of a station, or its one
//! latest, becomes one object like a pushed reading; what it means is read like any other.

use serde_json::{Map, Value};

use super::lists::expandable;
use super::measures::{self, shown};
use super::names::compact;
use crate::error::{Reason, Reject};
use crate::record::Quality;

/// The first sensor of a variable, and where it has none what is derived from others; all else keeps its name and stands in
/// `reported`.
const SERIES: [&str; 2] = ["_set_1", "_set_1d"];
const LATEST: [&str; 2] = ["_value_1", "_value_1d"];
/// What of a station describes every reading of it.
const OF_THE_STATION: [&str; 6] = ["STID", "NAME", "LATITUDE", "LONGITUDE", "STATE", "MNET_ID"];

/// Where a reading keeps which checks of Synoptic's its values failed, by the values' names.
pub(super) const FLAGS: &str = "qc_flags";

/// Its checks by their numbers, as docs.synopticdata.com lists them.
const CHECKS: [(u64, &str); 13] = [
    (1, "range"),
    (3, "temporal persistence"),
    (10, "wind speed against gust"),
    (13, "MADIS range"),
    (14, "MADIS position consistency"),
    (81, "rate of change"),
    (86, "wind gust factor"),
    (87, "secondary range"),
    (88, "secondary persistence"),
    (100, "percentile, high"),
    (101, "percentile, high outlier"),
    (102, "percentile, low"),
    (105, "spatial value"),
];

/// Says in `quality` which measures failed which checks: the values stand as they came.
pub(super) fn note_flags(reading: &Map<String, Value>, quality: &mut Vec<Quality>) {
    let flagged = reading.get(FLAGS).and_then(Value::as_object).into_iter().flatten();
    for (name, flags) in flagged {
        let named = measures::named(&compact(name));
        let field = named.as_ref().map_or(name.as_str(), |named| named.field());
        let said = flags.as_array().into_iter().flatten().map(|flag| {
            let known = CHECKS.iter().find(|(id, _)| flag.as_u64() == Some(*id));
            known.map_or_else(|| shown(flag), |(id, check)| format!("{id} ({check})"))
        });
        let checks = said.collect::<Vec<_>>().join(", ");
        quality.push(Quality::new(field, &format!("failed the source's own checks {checks}"), &flags.to_string()));
    }
}

/// Flags of one value: a list of checks, or an object that has one.
fn flags(told: Option<&Value>) -> Option<Value> {
    let list = match told? {
        Value::Object(told) => told.get("qc_flags")?.as_array()?,
        other => other.as_array()?,
    };
    (!list.is_empty()).then(|| list.clone().into())
}

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
        // A station may name the unit of its own height.
        let units = station.get("UNITS").filter(|own| own.get("elevation").is_some()).unwrap_or(units);
        own.insert(named("elevation", units), elevation.clone());
    }
    let Some(observations) = station.get("OBSERVATIONS").and_then(Value::as_object) else {
        return vec![unread(station)];
    };
    let read = if observations.contains_key("date_time") {
        series(&own, observations, station.get("QC").and_then(Value::as_object), units)
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

fn series(
    own: &Map<String, Value>,
    observations: &Map<String, Value>,
    checked: Option<&Map<String, Value>>,
    units: &Value,
) -> Option<Vec<Value>> {
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
        let failed = checked
            .into_iter()
            .flatten()
            .filter_map(|(name, all)| Some((named(variable(name, SERIES, observations), units), flags(all.get(n))?)));
        with_flags(reading, failed.collect())
    };
    Some((0..times).map(reading).collect())
}

fn with_flags(mut reading: Map<String, Value>, failed: Map<String, Value>) -> Value {
    if !failed.is_empty() {
        reading.insert(FLAGS.into(), failed.into());
    }
    Value::Object(reading)
}

/// The latest of the variables' times is the reading's; a variable measured earlier keeps its own beside it.
fn latest(mut reading: Map<String, Value>, observations: &Map<String, Value>, units: &Value) -> Option<Value> {
    // All in one form, so that the greatest text is the latest.
    let time = observations.values().filter_map(|observed| observed.get("date_time")?.as_str()).max()?;
    reading.insert("date_time".into(), time.into());
    let mut failed = Map::new();
    for (name, observed) in observations {
        let name = named(variable(name, LATEST, observations), units);
        failed.extend(flags(observed.get("qc")).map(|flags| (name.clone(), flags)));
        // What was measured at the reading's own time stands as a series has it.
        let value = observed.get("value").filter(|_| observed.get("date_time").is_some_and(|at| at == time));
        reading.insert(name, value.unwrap_or(observed).clone());
    }
    Some(with_flags(reading, failed))
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
