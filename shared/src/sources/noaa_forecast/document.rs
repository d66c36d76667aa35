//! Which of api.weather.gov's documents a body is, by what it holds, and how its parts are read. Each part keeps its own bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::record::{Forecast, Layer, LayerValue, Period, Point, Station, Told};
use crate::decode::items::{self, Document};
use crate::decode::nws::{Dimension, Fields, Place, convert, feature, interval, object};
use crate::decode::sensor::measures::{Measured, number};
use crate::decode::{Context, Row, Rows, short};
use crate::error::{Reason, Reject};
use crate::record::{Data, Observation, Origin, Position, Quality};
use crate::sources::identify;
use crate::time::Timestamp;

/// What is understood of a period and not published: a picture's address, and its place in the list, from which periods that are over
/// drop out, so that it is another one every hour.
const OF_PERIOD: [&str; 2] = ["icon", "number"];
/// Of a raw grid, beside its layers: when it holds, which its values say, and addresses that are made of the cell's name.
const OF_GRID: [&str; 2] = ["validTimes", "forecastOffice"];
/// Of a point: addresses that are made of the cell's name, and what the point is.
const OF_POINT: [&str; 6] =
    ["forecast", "forecastHourly", "forecastGridData", "observationStations", "forecastOffice", "type"];
/// Values of one layer that cannot be read are named so often.
const NAMED: usize = 5;

type Members<'a> = BTreeMap<String, &'a RawValue>;

pub(super) fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let features = match Document::read(body, &["features"]) {
        Ok(document) => return Ok(stations(document, context)),
        Err(reject) if reject.reason == Reason::NotData => reject,
        Err(reject) => return Err(reject),
    };
    let document = items::members(body)?;
    let Some(properties) = document.get("properties") else {
        return Err(items::problem(body).unwrap_or(features));
    };
    let mut properties: Members<'a> = serde_json::from_str(properties.get())
        .map_err(|e| Reject::new(Reason::BadJson, format!("properties is no object: {e}")))?;
    let geometry = read(document.get("geometry").copied());
    if let Some(periods) = properties.remove("periods") {
        return self::periods(body, &properties, periods, &geometry, context);
    }
    let one = |row: Row| -> Rows<'a> { Box::new(std::iter::once(row.map_err(|reject| reject.with_raw(body.clone())))) };
    if properties.contains_key("forecastGridData") {
        return Ok(one(point(body, context)));
    }
    if properties.contains_key("stationIdentifier") {
        return Ok(one(station(body, context)));
    }
    if properties.contains_key("gridX") {
        return grid(body, properties, &geometry, context);
    }
    let names: Vec<&str> = properties.keys().map(String::as_str).take(10).collect();
    let detail =
        format!("neither a forecast with periods nor a grid, a point or stations; it has {}", names.join(", "));
    Err(Reject::new(Reason::NotData, detail))
}

fn read(raw: Option<&RawValue>) -> Value {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

/// The members as fields, those apart that are read otherwise.
fn fields(members: &Members<'_>) -> Fields {
    Fields::new(members.iter().map(|(name, raw)| (name.clone(), read(Some(raw)))).collect())
}

/// A document's time: that of its making, which is another one at each request, is not published.
fn updated(of: &mut Fields) -> Result<Timestamp, Reject> {
    of.time(if of.has("updateTime") { "updateTime" } else { "updated" })
}

/// What the parts of one document share.
struct Shared {
    updated_at: Timestamp,
    elevation_m: Measured,
    place: Place,
    quality: Vec<Quality>,
}

impl Shared {
    fn read(of: &mut Fields, geometry: &Value) -> Result<Shared, Reject> {
        let updated_at = updated(of)?;
        let elevation_m = of.quantity("elevation", "elevation_m", Dimension::Length);
        let mut quality = std::mem::take(&mut of.quality);
        let place = Place::read(geometry, &mut quality)?;
        Ok(Shared { updated_at, elevation_m, place, quality })
    }

    fn draft(&self, raw: Bytes, data: Forecast, mut quality: Vec<Quality>, context: Context<'_>) -> Row {
        quality.extend(self.quality.iter().cloned());
        draft(raw, self.place.clone(), (self.updated_at, Some(self.updated_at)), &data, quality, context)
    }
}

pub(super) fn draft(
    raw: Bytes,
    place: Place,
    (observed_at, published_at): (Timestamp, Option<Timestamp>),
    data: &Forecast,
    quality: Vec<Quality>,
    context: Context<'_>,
) -> Row {
    identify(Observation {
        origin: Origin::of(raw),
        source: context.source.clone(),
        observed_at,
        published_at,
        geometry: place.geometry,
        position: place.position,
        derived_from: None,
        alert: None,
        data: Data::of(data)?,
        quality,
        rank: 0,
    })
}

pub(super) fn decimal(at: Position) -> String {
    format!("{:.4},{:.4}", at.latitude(), at.longitude())
}

/// A collection of stations; each is read for itself.
fn stations<'a>(document: Document<'a>, context: Context<'a>) -> Rows<'a> {
    Box::new(
        document
            .enumerate()
            .map(move |(n, item)| station(&item, context).map_err(|reject| reject.at_row(n as u64 + 1).with_raw(item))),
    )
}

fn station(item: &Bytes, context: Context<'_>) -> Row {
    let (mut of, geometry) = feature(item)?;
    let place = Place::read(&geometry, &mut of.quality)?;
    let station = Station {
        kind: "station",
        place: of.required("stationIdentifier")?.trim().to_owned(),
        name: of.text("name"),
        elevation_m: of.quantity("elevation", "elevation_m", Dimension::Length),
        time_zone: of.text("timeZone"),
        forecast_zone: zone(&mut of, "forecast"),
        county_zone: zone(&mut of, "county"),
        fire_weather_zone: zone(&mut of, "fireWeatherZone"),
        distance_m: of.quantity("distance", "distance_m", Dimension::Length),
        bearing_deg: of.quantity("bearing", "bearing_deg", Dimension::Angle),
    };
    timeless(item, place, &Forecast::Station(Box::new(station)), of.rest(&[]), context)
}

/// What is true until it is told otherwise: the document has no time.
fn timeless(raw: &Bytes, place: Place, data: &Forecast, mut quality: Vec<Quality>, context: Context<'_>) -> Row {
    quality.push(Quality::new("observed_at", "is the time of receipt: the document tells none", ""));
    draft(raw.clone(), place, (context.received_at, None), data, quality, context)
}

/// The zone's own id at the end of its address.
fn zone(of: &mut Fields, name: &str) -> Option<String> {
    let address = of.text(name)?;
    Some(address.rsplit('/').next().unwrap_or(&address).to_owned())
}

fn point(body: &Bytes, context: Context<'_>) -> Row {
    let (mut of, geometry) = feature(body)?;
    let place = Place::read(&geometry, &mut of.quality)?;
    let at = place.position.ok_or_else(|| Reject::new(Reason::MissingField, "the point has no geometry"))?;
    let (grid_id, grid_x, grid_y) = cell(&mut of)?;
    let mut town = Fields::default();
    if let Some(mut location) = of.take("relativeLocation") {
        match location.get_mut("properties").map(Value::take) {
            Some(Value::Object(told)) => town = Fields::new(told),
            _ => of.fault("relativeLocation", "has no properties", &location),
        }
    }
    let point = Point {
        kind: "point",
        place: decimal(at),
        grid_id,
        grid_x,
        grid_y,
        office: of.text("cwa"),
        forecast_zone: zone(&mut of, "forecastZone"),
        county_zone: zone(&mut of, "county"),
        fire_weather_zone: zone(&mut of, "fireWeatherZone"),
        time_zone: of.text("timeZone"),
        radar_station: of.text("radarStation"),
        city: town.text("city"),
        state: town.text("state"),
        city_distance_m: town.quantity("distance", "city_distance_m", Dimension::Length),
        city_bearing_deg: town.quantity("bearing", "city_bearing_deg", Dimension::Angle),
    };
    let mut quality = of.rest(&OF_POINT);
    quality.extend(town.rest(&[]));
    timeless(body, place, &Forecast::Point(Box::new(point)), quality, context)
}

fn cell(of: &mut Fields) -> Result<(String, u32, u32), Reject> {
    let grid_id = of.required("gridId")?;
    let [x, y] = ["gridX", "gridY"].map(|name| {
        of.count(name).ok_or_else(|| Reject::new(Reason::MissingField, format!("{name} is missing or no whole number")))
    });
    Ok((grid_id, x?, y?))
}

fn periods<'a>(
    body: &'a Bytes,
    properties: &Members<'a>,
    periods: &'a RawValue,
    geometry: &Value,
    context: Context<'a>,
) -> Result<Rows<'a>, Reject> {
    let periods: Vec<&'a RawValue> = serde_json::from_str(periods.get())
        .map_err(|e| Reject::new(Reason::BadJson, format!("periods is no list: {e}")))?;
    let mut of = fields(properties);
    let mut shared = Shared::read(&mut of, geometry)?;
    let generator = of.text("forecastGenerator");
    // `units` tells of the words; each number names its own unit.
    shared.quality.extend(of.rest(&["units", "generatedAt", "updated", "validTimes"]));
    let at = shared.place.position;
    let at = at.ok_or_else(|| Reject::new(Reason::MissingField, "geometry is missing: nothing says where it holds"))?;
    Ok(Box::new(periods.into_iter().enumerate().map(move |(n, raw)| {
        let item = body.slice_ref(raw.get().as_bytes());
        let read = period(&item, decimal(at), generator.clone(), &shared);
        let row = read.and_then(|(period, quality)| {
            shared.draft(item.clone(), Forecast::Period(Box::new(period)), quality, context)
        });
        row.map_err(|reject| reject.at_row(n as u64 + 1).with_raw(item))
    })))
}

fn period(
    item: &Bytes,
    place: String,
    generator: Option<String>,
    shared: &Shared,
) -> Result<(Period, Vec<Quality>), Reject> {
    let mut of = Fields::new(object(item)?);
    let wind = wind(&mut of);
    let period = Period {
        kind: "period",
        place,
        start: of.time("startTime")?,
        end: of.time("endTime")?,
        updated_at: shared.updated_at,
        generator,
        name: of.text("name"),
        is_daytime: of.boolean("isDaytime"),
        elevation_m: shared.elevation_m,
        temperature_c: temperature(&mut of),
        temperature_max_c: None,
        temperature_min_c: None,
        temperature_trend: of.text("temperatureTrend"),
        precipitation_probability_percent: of.quantity(
            "probabilityOfPrecipitation",
            "precipitation_probability_percent",
            Dimension::Share,
        ),
        dew_point_c: of.quantity("dewpoint", "dew_point_c", Dimension::Temperature),
        relative_humidity_percent: of.quantity("relativeHumidity", "relative_humidity_percent", Dimension::Share),
        wind_speed_min_m_s: wind.0,
        wind_speed_max_m_s: wind.1,
        wind_gust_m_s: gust(&mut of),
        wind_direction: of.text("windDirection"),
        short_forecast: of.text("shortForecast"),
        detailed_forecast: of.text("detailedForecast"),
    };
    Ok((period, of.rest(&OF_PERIOD)))
}

/// A number with its unit beside it, or a value with its unit in it.
fn temperature(of: &mut Fields) -> Measured {
    const FIELD: &str = "temperature_c";
    let unit = of.text("temperatureUnit");
    if !of.has("temperature") {
        return None;
    }
    let Some(value) = of.take("temperature") else { return Some(None) };
    if value.is_object() {
        return Some(of.converted(&value, FIELD, Dimension::Temperature));
    }
    let problem = match (number(&value), unit) {
        (Ok(None), _) => return Some(None),
        (Ok(Some(plain)), Some(unit)) => match convert(Dimension::Temperature, plain, &unit) {
            Some(converted) => return Some(Some(converted)),
            None => format!("is in the unit {}, which is not understood", short(&unit)),
        },
        (Ok(Some(_)), None) => "names no unit".to_owned(),
        (Err(problem), _) => problem.to_owned(),
    };
    of.fault(FIELD, &problem, &value);
    Some(None)
}

/// Lowest and highest speed: `5 mph`, `3 to 9 mph`, or values with a unit.
fn wind(of: &mut Fields) -> (Measured, Measured) {
    if !of.has("windSpeed") {
        return (None, None);
    }
    let Some(value) = of.take("windSpeed") else { return (Some(None), Some(None)) };
    if let Value::Object(told) = &value {
        let mut bound = |name: &str, field: &str| {
            let mut one = told.clone();
            if let Some(bound) = told.get(name).filter(|bound| !bound.is_null()) {
                one.insert("value".into(), bound.clone());
            }
            Some(of.converted(&Value::Object(one), field, Dimension::Speed))
        };
        return (bound("minValue", "wind_speed_min_m_s"), bound("maxValue", "wind_speed_max_m_s"));
    }
    let read = value.as_str().and_then(speeds);
    if read.is_none() {
        of.fault("wind_speed_max_m_s", "is no speed that is understood", &value);
    }
    (Some(read.map(|(low, _)| low)), Some(read.map(|(_, high)| high)))
}

fn gust(of: &mut Fields) -> Measured {
    const FIELD: &str = "wind_gust_m_s";
    if !of.has("windGust") {
        return None;
    }
    let Some(value) = of.take("windGust") else { return Some(None) };
    if value.is_object() {
        return Some(of.converted(&value, FIELD, Dimension::Speed));
    }
    let read = value.as_str().and_then(speeds);
    if read.is_none() {
        of.fault(FIELD, "is no speed that is understood", &value);
    }
    Some(read.map(|(_, high)| high))
}

fn speeds(text: &str) -> Option<(f64, f64)> {
    let (numbers, unit) = text.trim().rsplit_once(' ')?;
    let (low, high) = numbers.split_once(" to ").unwrap_or((numbers, numbers));
    let speed =
        |text: &str| convert(Dimension::Speed, text.trim().parse().ok().filter(|speed: &f64| speed.is_finite())?, unit);
    Some((speed(low)?, speed(high)?))
}

fn grid<'a>(
    body: &'a Bytes,
    properties: Members<'a>,
    geometry: &Value,
    context: Context<'a>,
) -> Result<Rows<'a>, Reject> {
    let is_layer = |raw: &RawValue| matches!(read(Some(raw)), Value::Object(told) if told.contains_key("values"));
    let (layers, others): (Members<'a>, Members<'a>) = properties.into_iter().partition(|(_, raw)| is_layer(raw));
    let mut of = fields(&others);
    let mut shared = Shared::read(&mut of, geometry)?;
    let (grid_id, grid_x, grid_y) = cell(&mut of)?;
    shared.quality.extend(of.rest(&OF_GRID));
    Ok(Box::new(layers.into_iter().enumerate().map(move |(n, (name, raw))| {
        let item = body.slice_ref(raw.get().as_bytes());
        let read = values(&item).and_then(|Values { unit_code, values, quality }| {
            let layer = Layer {
                kind: "layer",
                place: format!("{grid_id}/{grid_x},{grid_y}"),
                layer: name,
                updated_at: shared.updated_at,
                grid_id: grid_id.clone(),
                grid_x,
                grid_y,
                elevation_m: shared.elevation_m,
                unit_code,
                values,
            };
            shared.draft(item.clone(), Forecast::Layer(Box::new(layer)), quality, context)
        });
        read.map_err(|reject| reject.at_row(n as u64 + 1).with_raw(item))
    })))
}

/// What a layer's object tells.
struct Values {
    unit_code: Option<String>,
    values: Vec<LayerValue>,
    quality: Vec<Quality>,
}

/// A value whose time cannot be read costs itself.
fn values(item: &Bytes) -> Result<Values, Reject> {
    let mut of = Fields::new(object(item)?);
    let unit_code = of.text("uom").or(of.text("unitCode"));
    let list = match of.take("values") {
        None => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(other) => {
            return Err(Reject::new(Reason::BadJson, format!("values is no list: {}", short(&other.to_string()))));
        }
    };
    let (mut values, mut unread) = (Vec::with_capacity(list.len()), 0_usize);
    for (n, mut told) in list.into_iter().enumerate() {
        let valid = told.get("validTime").and_then(Value::as_str).and_then(interval);
        let value = told.get_mut("value").map(Value::take).unwrap_or_default();
        match (valid, self::told(value)) {
            (Some((start, end)), Ok(value)) => values.push(LayerValue { start, end, value }),
            (valid, value) => {
                unread += 1;
                if unread <= NAMED {
                    let problem = match valid {
                        None => "has a validTime that is no interval",
                        Some(_) => "has a value that is not understood",
                    };
                    let raw = value.map_or_else(|value| value, |_| told);
                    of.fault(&format!("values[{n}]"), problem, &raw);
                }
            }
        }
    }
    if unread > NAMED {
        of.quality.push(Quality::new("values", &format!("{} more could not be read", unread - NAMED), ""));
    }
    Ok(Values { unit_code, values, quality: of.rest(&[]) })
}

/// A value of a layer, or what is none.
fn told(value: Value) -> Result<Option<Told>, Value> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(Told::Text(text))),
        Value::Array(list) if list.iter().all(Value::is_object) => {
            let objects = list.into_iter().filter_map(|one| match one {
                Value::Object(object) => Some(object),
                _ => None,
            });
            Ok(Some(Told::Objects(objects.collect())))
        }
        Value::Number(_) => match number(&value) {
            Ok(Some(number)) => Ok(Some(Told::Number(number))),
            _ => Err(value),
        },
        other => Err(other),
    }
}

#[cfg(test)]
mod tests;
