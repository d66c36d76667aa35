//! Which shapes of an alert can be read, which were mended, and which are broken [E5].

use serde_json::Value;

use super::Alert;
use super::geometry::{self, Notes, Shape};
use crate::record::{Position, Quality};

/// What was read of an alert's areas.
pub(super) struct Shapes {
    /// The readable ones of all areas in their order.
    pub(super) read: Vec<Shape>,
    /// One at least could not be read.
    pub(super) broken: bool,
}

/// Each broken or mended shape is named in `quality`, and the alert stands.
pub(super) fn shapes(alert: &Alert, quality: &mut Vec<Quality>) -> Shapes {
    let mut shapes = Shapes { read: Vec::new(), broken: false };
    for (i, info) in alert.info.iter().enumerate() {
        for (a, area) in info.area.iter().enumerate() {
            let polygons = area.polygon.iter().enumerate().map(|(n, value)| ("polygon", n, value));
            let circles = area.circle.iter().enumerate().map(|(n, value)| ("circle", n, value));
            for (kind, n, value) in polygons.chain(circles) {
                let mut notes = Notes::new();
                let read = if kind == "circle" { circle(value) } else { polygon(value, &mut notes) };
                let raw = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let mut say = |what: &str| {
                    quality.push(Quality::new(&format!("info[{i}].area[{a}].{kind}[{n}]"), what, &raw()));
                };
                match read {
                    Ok(shape) => {
                        notes.into_iter().for_each(&mut say);
                        shapes.read.push(shape);
                    }
                    Err(problem) => {
                        say(&problem);
                        shapes.broken = true;
                    }
                }
            }
        }
    }
    shapes
}

fn polygon(value: &Value, notes: &mut Notes) -> Result<Shape, String> {
    match value {
        Value::String(text) => geometry::polygon(text, notes),
        Value::Array(_) => match serde_json::from_value::<Vec<[f64; 2]>>(value.clone()) {
            Ok(points) => geometry::pairs(&points),
            Err(_) => Err("is no list of [lat, lon] pairs".into()),
        },
        _ => geometry::geojson(value, notes),
    }
}

fn circle(value: &Value) -> Result<Shape, String> {
    if let Value::String(text) = value {
        return geometry::circle(text);
    }
    match ["latitude", "longitude", "radius_km"].map(|field| value[field].as_f64()) {
        [Some(latitude), Some(longitude), Some(radius_km)] => {
            geometry::around(Position::new(latitude, longitude).map_err(|reject| reject.detail)?, radius_km)
        }
        _ => Err("has no latitude, longitude and radius_km".into()),
    }
}
