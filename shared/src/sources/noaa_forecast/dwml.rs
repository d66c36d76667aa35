//! Forecasts of the National Digital Forecast Database as DWML, an XML of parameters whose values refer to layouts of time [S2, S8].
//! A record is one period of one place, with what all parameters tell of it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::document::{decimal, draft};
use super::record::{Forecast, Period};
use crate::decode::nws::{Dimension, Place, convert};
use crate::decode::sensor::measures::Measured;
use crate::decode::xml::{self, Element};
use crate::decode::{Context, Row, Rows, short};
use crate::error::{Reason, Reject};
use crate::limits::UNREAD_NAMED;
use crate::record::{Geometry, Position, Quality};
use crate::time::Timestamp;

/// From when to when a value holds; a layout without ends tells moments.
type Interval = (Timestamp, Timestamp);

/// The periods of one place, and what is wrong with each.
type Periods = BTreeMap<Interval, (Period, Vec<Quality>)>;

/// What all records of a document share.
struct Made {
    updated_at: Timestamp,
    generator: Option<String>,
}

pub(super) fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let text = xml::text(body)?;
    let mut document = xml::read_all(&text, |_, name| name == "dwml")?;
    let Some(dwml) = document.found.pop().map(|found| found.element) else {
        let detail = format!("no forecast in DWML: its root is {:?}", short(&document.root));
        return Err(Reject::new(Reason::NotData, detail));
    };
    let product = child(&dwml, "head").and_then(|head| child(head, "product"));
    let created = product.and_then(|product| product.value("creation-date"));
    let created = created.ok_or_else(|| Reject::new(Reason::MissingField, "creation-date is missing"))?;
    let updated_at = created.parse().map_err(|_| {
        Reject::new(Reason::BadTime, format!("creation-date {:?} is no time with an offset", short(created)))
    })?;
    let generator = product.and_then(|product| product.attributes.get("concise-name").cloned());
    let made = Made { updated_at, generator };
    let mut rows: Vec<Row> = Vec::new();
    for data in dwml.all("data") {
        let layouts: BTreeMap<&str, Result<Vec<Interval>, String>> = data
            .all("time-layout")
            .filter_map(|layout| Some((layout.value("layout-key")?, intervals(layout))))
            .collect();
        for parameters in data.all("parameters") {
            match point(data, parameters).and_then(|at| read(parameters, &layouts, at, &made, context)) {
                Ok(read) => rows.extend(read),
                Err(reject) => rows.push(Err(reject.with_raw(body.clone()))),
            }
        }
    }
    Ok(Box::new(rows.into_iter()))
}

fn child<'e>(of: &'e Element, name: &'e str) -> Option<&'e Element> {
    of.all(name).next()
}

/// The place that a block of parameters applies to.
fn point(data: &Element, parameters: &Element) -> Result<Position, Reject> {
    let key = parameters.attributes.get("applicable-location").map(String::as_str).unwrap_or_default();
    let location = data.all("location").find(|location| location.value("location-key") == Some(key));
    let point = location.and_then(|location| child(location, "point")).ok_or_else(|| {
        Reject::new(Reason::MissingField, format!("the location {:?} of its parameters has no point", short(key)))
    })?;
    let degrees = |name: &str, reason: Reason| {
        let told = point.attributes.get(name).map(String::as_str).unwrap_or_default();
        let read = told.trim().parse::<f64>();
        read.map_err(|_| Reject::new(reason, format!("{name} {:?} is not a number", short(told))))
    };
    Position::new(degrees("latitude", Reason::BadLatitude)?, degrees("longitude", Reason::BadLongitude)?)
}

fn intervals(layout: &Element) -> Result<Vec<Interval>, String> {
    let times = |name: &str| -> Result<Vec<Timestamp>, String> {
        let read = |text: &str| text.parse().map_err(|_| format!("{name} {:?} is no time with an offset", short(text)));
        layout.values(name).map(read).collect()
    };
    let (starts, ends) = (times("start-valid-time")?, times("end-valid-time")?);
    if ends.is_empty() {
        return Ok(starts.iter().map(|at| (*at, *at)).collect());
    }
    if starts.len() != ends.len() {
        return Err(format!("it has {} starts and {} ends", starts.len(), ends.len()));
    }
    Ok(starts.into_iter().zip(ends).collect())
}

/// The records of one place.
fn read(
    parameters: &Element,
    layouts: &BTreeMap<&str, Result<Vec<Interval>, String>>,
    at: Position,
    made: &Made,
    context: Context<'_>,
) -> Result<Vec<Row>, Reject> {
    let (mut periods, mut shared) = (Periods::new(), Vec::new());
    for parameter in &parameters.children {
        if let Err(problem) = take(parameter, layouts, at, made, &mut periods)
            && shared.len() < UNREAD_NAMED
        {
            shared.push(Quality::new(&named(parameter), &problem, ""));
        }
    }
    if periods.is_empty() {
        let told: Vec<String> = shared.iter().map(|note| format!("{} {}", note.field, note.problem)).collect();
        return Err(Reject::new(
            Reason::NotData,
            format!("none of its parameters tells of a period; {}", told.join("; ")),
        ));
    }
    let place = Place { geometry: Some(Geometry::Point(at)), position: Some(at) };
    let row = |(period, mut quality): (Period, Vec<Quality>)| {
        quality.extend(shared.iter().cloned());
        let times = (made.updated_at, Some(made.updated_at));
        draft(Bytes::new(), place.clone(), times, &Forecast::Period(Box::new(period)), quality, context)
    };
    Ok(periods.into_values().map(row).collect())
}

/// As the document names it.
fn named(parameter: &Element) -> String {
    match parameter.attributes.get("type") {
        Some(kind) => format!("{} ({})", short(&parameter.name), short(kind)),
        None => short(&parameter.name),
    }
}

/// A place for a parameter's values in a period.
type Field = fn(&mut Period) -> &mut Measured;

/// Where a parameter's numbers go: the field's name, the field, and what they measure.
fn number_field(name: &str, kind: &str) -> Option<(&'static str, Field, Dimension)> {
    use Dimension::{Share, Speed, Temperature};
    Some(match (name, kind) {
        ("temperature", "maximum") => ("temperature_max_c", |period| &mut period.temperature_max_c, Temperature),
        ("temperature", "minimum") => ("temperature_min_c", |period| &mut period.temperature_min_c, Temperature),
        ("temperature", "hourly") => ("temperature_c", |period| &mut period.temperature_c, Temperature),
        ("temperature", "dew point") => ("dew_point_c", |period| &mut period.dew_point_c, Temperature),
        ("probability-of-precipitation", _) => {
            ("precipitation_probability_percent", |period| &mut period.precipitation_probability_percent, Share)
        }
        ("humidity", "relative") => {
            ("relative_humidity_percent", |period| &mut period.relative_humidity_percent, Share)
        }
        ("wind-speed", "sustained") => ("wind_speed_max_m_s", |period| &mut period.wind_speed_max_m_s, Speed),
        ("wind-speed", "gust") => ("wind_gust_m_s", |period| &mut period.wind_gust_m_s, Speed),
        _ => return None,
    })
}

/// Takes a parameter's values into the periods of its layout.
///
/// # Errors
/// What is wrong with the parameter as a whole, as a clause.
fn take(
    parameter: &Element,
    layouts: &BTreeMap<&str, Result<Vec<Interval>, String>>,
    at: Position,
    made: &Made,
    periods: &mut Periods,
) -> Result<(), String> {
    let attribute = |name: &str| parameter.attributes.get(name).map(String::as_str).unwrap_or_default();
    let number = number_field(&parameter.name, attribute("type"));
    let tells = |value: &&Element| value.name != "name";
    let values: Vec<&Element> = parameter.children.iter().filter(tells).collect();
    let is_wind = parameter.name == "direction" && attribute("type") == "wind";
    if number.is_none() && !is_wind && parameter.name != "weather" {
        // Nothing is lost of what says nothing.
        let says = values.iter().any(|value| !is_nil(value));
        return if says { Err("is not understood".into()) } else { Ok(()) };
    }
    let layout = attribute("time-layout");
    let intervals = match layouts.get(layout) {
        Some(Ok(intervals)) => intervals,
        Some(Err(problem)) => return Err(format!("cannot be placed in time: of its layout {layout:?}, {problem}")),
        None => return Err(format!("cannot be placed in time: its layout {layout:?} is missing")),
    };
    if values.len() != intervals.len() {
        return Err(format!("has {} values for {} times: none can be placed", values.len(), intervals.len()));
    }
    for (interval, value) in intervals.iter().zip(values) {
        let (period, quality) = periods.entry(*interval).or_insert_with(|| (blank(*interval, at, made), Vec::new()));
        let told = value.text.trim();
        if let Some((name, field, dimension)) = number {
            let read = measured(value, dimension, attribute("units"));
            if let Err(problem) = &read {
                quality.push(Quality::new(name, problem, told));
            }
            let read = read.unwrap_or_default();
            *field(period) = Some(read);
            if name == "wind_speed_max_m_s" {
                period.wind_speed_min_m_s = Some(read);
            }
        } else if is_wind {
            match told.parse::<f64>() {
                Ok(degrees) if (0.0..=360.0).contains(&degrees) => {
                    period.wind_direction = Some(compass(degrees).into())
                }
                _ if is_nil(value) => {}
                _ => quality.push(Quality::new("wind_direction", "is no direction in degrees", told)),
            }
        } else {
            period.short_forecast = value.attributes.get("weather-summary").filter(|text| !text.is_empty()).cloned();
        }
    }
    Ok(())
}

fn is_nil(value: &Element) -> bool {
    value.attributes.get("nil").is_some_and(|nil| nil == "true")
}

/// A value in the published unit; `None` for none.
fn measured(value: &Element, dimension: Dimension, units: &str) -> Result<Option<f64>, String> {
    if is_nil(value) {
        return Ok(None);
    }
    let number = value.text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    let number = number.ok_or("is not a number")?;
    let code = match units {
        "Fahrenheit" => "degF",
        "Celsius" => "degC",
        "knots" => "kt",
        "miles/hour" => "mph",
        "meters/second" => "m/s",
        other => other,
    };
    let converted = convert(dimension, number, code);
    converted.map(Some).ok_or_else(|| format!("is in the unit {:?}, which is not understood", short(units)))
}

/// One of sixteen points.
fn compass(degrees: f64) -> &'static str {
    const POINTS: [&str; 16] =
        ["N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE", "S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW"];
    POINTS[(degrees / 22.5).round() as usize % 16]
}

fn blank((start, end): Interval, at: Position, made: &Made) -> Period {
    Period {
        kind: "period",
        place: decimal(at),
        start,
        end,
        updated_at: made.updated_at,
        generator: made.generator.clone(),
        name: None,
        is_daytime: None,
        elevation_m: None,
        temperature_c: None,
        temperature_max_c: None,
        temperature_min_c: None,
        temperature_trend: None,
        precipitation_probability_percent: None,
        dew_point_c: None,
        relative_humidity_percent: None,
        wind_speed_min_m_s: None,
        wind_speed_max_m_s: None,
        wind_gust_m_s: None,
        wind_direction: None,
        short_forecast: None,
        detailed_forecast: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::record::{Draft, SourceId};
    use crate::sources::noaa_forecast::FORMAT;

    fn rows(body: &str) -> Result<Vec<Row>, Reject> {
        let source = SourceId::new("noaa_forecast").unwrap();
        let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
        FORMAT.rows(&body.to_owned().into(), context).map(Iterator::collect)
    }

    fn read(body: &str) -> Vec<(Draft, Value)> {
        let with_data = |row: Row| {
            let draft = row.unwrap();
            let data = serde_json::from_str(draft.data.json()).unwrap();
            (draft, data)
        };
        rows(body).unwrap().into_iter().map(with_data).collect()
    }

    fn document(parameters: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><dwml xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><head>\
             <product concise-name=\"time-series\"><creation-date refresh-frequency=\"PT1H\">2026-08-01T03:47:26Z</creation-date></product>\
             </head><data><location><location-key>p</location-key><point latitude=\"38.0\" longitude=\"-120.0\"/></location>\
             <time-layout><layout-key>days</layout-key><start-valid-time>2026-08-01T06:00:00-07:00</start-valid-time>\
             <end-valid-time>2026-08-02T06:00:00-07:00</end-valid-time><start-valid-time>2026-08-02T06:00:00-07:00</start-valid-time>\
             <end-valid-time>2026-08-03T06:00:00-07:00</end-valid-time></time-layout><time-layout><layout-key>hours</layout-key>\
             <start-valid-time>2026-08-01T06:00:00-07:00</start-valid-time></time-layout>\
             <parameters applicable-location=\"p\">{parameters}</parameters></data></dwml>"
        )
    }

    fn days(kind: &str, units: &str, values: &str) -> String {
        format!(
            "<temperature type=\"{kind}\" units=\"{units}\" time-layout=\"days\"><name>T</name>{values}</temperature>"
        )
    }

    #[test]
    fn s8_values_stand_in_their_periods_and_their_units() {
        let highest = days("maximum", "Fahrenheit", "<value>86</value><value xsi:nil=\"true\"/>");
        let wind = "<wind-speed type=\"sustained\" units=\"knots\" time-layout=\"hours\"><value>10</value></wind-speed>\
             <direction type=\"wind\" units=\"degrees true\" time-layout=\"hours\"><value>355</value></direction>\
             <humidity type=\"relative\" units=\"percent\" time-layout=\"hours\"><value>12</value></humidity>";
        let weather = "<weather time-layout=\"days\"><name>W</name><weather-conditions weather-summary=\"Sunny\"/><weather-conditions/></weather>";
        let records = read(&document(&[&highest, wind, weather].concat()));
        let field = |name: &str| records.iter().map(|(_, data)| data[name].clone()).collect::<Vec<_>>();
        let none = Value::Null;
        assert_eq!(field("temperature_max_c"), [none.clone(), json!(30.0), none.clone()]);
        assert!(records[2].1.get("temperature_max_c").is_some() && records[0].1.get("temperature_max_c").is_none());
        assert_eq!(field("short_forecast"), [none.clone(), json!("Sunny"), none.clone()]);
        assert_eq!(field("wind_direction"), [json!("N"), none.clone(), none]);
        let (moment, data) = &records[0];
        assert_eq!(
            (&data["start"], &data["end"]),
            (&json!("2026-08-01T13:00:00.000Z"), &json!("2026-08-01T13:00:00.000Z"))
        );
        assert_eq!((&data["wind_speed_min_m_s"], &data["wind_speed_max_m_s"]), (&json!(5.1444), &json!(5.1444)));
        assert_eq!((&data["place"], &data["generator"]), (&json!("38.0000,-120.0000"), &json!("time-series")));
        assert_eq!((moment.observed_at.to_string(), moment.quality.len()), ("2026-08-01T03:47:26Z".into(), 0));
        let events: std::collections::BTreeSet<_> = records.iter().map(|(draft, _)| draft.event).collect();
        assert_eq!(events.len(), 3);
    }

    #[test]
    fn s9_what_cannot_be_placed_or_read_is_told() {
        let good = days("minimum", "Celsius", "<value>5</value><value>cold</value>");
        let notes = |more: &str| {
            let records = read(&document(&format!("{good}{more}")));
            assert_eq!(records[0].1["temperature_min_c"], 5.0);
            records[0].0.quality.iter().map(|note| note.problem.clone()).collect::<Vec<_>>()
        };
        assert!(notes("").is_empty());
        assert!(
            notes("<hazards time-layout=\"days\"><name>H</name><hazard-conditions xsi:nil=\"true\"/></hazards>")
                .is_empty()
        );
        for (more, says) in [
            (
                "<hazards time-layout=\"days\"><hazard-conditions><hazard/></hazard-conditions></hazards>",
                "is not understood",
            ),
            (&*days("apparent", "Celsius", "<value>5</value><value>5</value>"), "is not understood"),
            (&*days("maximum", "Celsius", "<value>5</value>"), "has 1 values for 2 times"),
            (&*days("maximum", "Rankine", "<value>5</value><value>5</value>"), "\"Rankine\", which is not understood"),
            (
                &*days("maximum", "Celsius", "<value>5</value><value>5</value>").replace("\"days\"", "\"no\""),
                "\"no\" is missing",
            ),
        ] {
            assert!(notes(more).join("; ").contains(says), "{says}: {:?}", notes(more));
        }
        let records = read(&document(&good));
        assert!(records[1].0.quality[0].problem.contains("not a number"));
        let reason = |body: &str| match rows(body) {
            Ok(mut rows) => rows.remove(0).unwrap_err().reason,
            Err(reject) => reject.reason,
        };
        for (from, to, expected) in [
            ("latitude=\"38.0\"", "latitude=\"91\"", Reason::BadLatitude),
            ("longitude=\"-120.0\"", "", Reason::BadLongitude),
            ("applicable-location=\"p\"", "applicable-location=\"q\"", Reason::MissingField),
            ("2026-08-01T03:47:26Z", "today", Reason::BadTime),
            ("</dwml>", "", Reason::BadXml),
        ] {
            assert_eq!(reason(&document(&good).replace(from, to)), expected, "{from}");
        }
        assert_eq!(reason("<error>down</error>"), Reason::NotData);
        let odd = document(&good).replacen("<end-valid-time>2026-08-02T06:00:00-07:00</end-valid-time>", "", 1);
        assert_eq!(reason(&odd), Reason::NotData, "no period can be told");
    }
}
