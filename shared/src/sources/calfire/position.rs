//! Where an incident is. CAL FIRE's lists hold swapped axes, lost signs and lost decimal points: what is provable is mended and
//! said, and nothing is guessed.

use serde_json::Value;

use crate::decode::named::Named;
use crate::record::Position;

/// Degrees that hold all of California [south, west, north, east]: no other reading of a Californian place lies in it.
const STATE: [f64; 4] = [32.4, -124.6, 42.1, -114.0];
/// CAL FIRE lists neighbours' fires near the border too: within so many degrees a place is taken as it was sent.
const BESIDE: f64 = 1.0;

/// The position, and latitude and longitude as they were sent.
pub(super) fn read(values: &mut Named, geometry: &Value) -> (Option<Position>, [Option<f64>; 2]) {
    let mut sent = [
        values.number("latitude", &["Latitude", "incident_latitude"]),
        values.number("longitude", &["Longitude", "incident_longitude"]),
    ];
    let coordinates = &geometry["coordinates"];
    let told = [coordinates[1].as_f64(), coordinates[0].as_f64()];
    // Only one that nothing has to be mended of.
    let of_geometry = || match told {
        [Some(latitude), Some(longitude)] => match judged(latitude, longitude) {
            (position, None) => position,
            _ => None,
        },
        _ => None,
    };
    if told.iter().all(Option::is_some) {
        if sent.iter().all(Option::is_none) {
            sent = told;
        } else if sent != told {
            values.note("geometry", "differs from latitude and longitude, which are used", &coordinates.to_string());
        }
    } else if !geometry.is_null() {
        values.note("geometry", "is not a point", &geometry.to_string());
    }
    let raw = || format!("{},{}", shown(sent[0]), shown(sent[1]));
    match sent {
        [None, None] => (None, sent),
        [Some(latitude), Some(longitude)] => {
            let (position, problem) = judged(latitude, longitude);
            if position.is_none()
                && let Some(position) = of_geometry()
            {
                values.note("position", "is not in California: the geometry's is used", &raw());
                return (Some(position), sent);
            }
            if let Some(problem) = problem {
                values.note("position", problem, &raw());
            }
            (position, sent)
        }
        _ => {
            let position = of_geometry();
            let problem = match position {
                Some(_) => "has one coordinate alone: the geometry's is used",
                None => "has one coordinate alone: no place",
            };
            values.note("position", problem, &raw());
            (position, sent)
        }
    }
}

fn shown(degrees: Option<f64>) -> String {
    degrees.map_or(String::new(), |degrees| degrees.to_string())
}

fn lies_in([south, west, north, east]: [f64; 4], latitude: f64, longitude: f64) -> bool {
    (south..=north).contains(&latitude) && (west..=east).contains(&longitude)
}

/// A position, and what was wrong with it.
fn judged(latitude: f64, longitude: f64) -> (Option<Position>, Option<&'static str>) {
    let [south, west, north, east] = STATE;
    let around = [south - BESIDE, west - BESIDE, north + BESIDE, east + BESIDE];
    if lies_in(around, latitude, longitude) {
        return (Position::new(latitude, longitude).ok(), None);
    }
    let readings = [
        (longitude, latitude, "latitude and longitude were swapped: they are put right"),
        (latitude, -longitude, "the longitude's sign was missing: it is put right"),
        (longitude, -latitude, "latitude and longitude were swapped and a sign was missing: they are put right"),
    ];
    let mut provable = readings.into_iter().filter(|(latitude, longitude, _)| lies_in(STATE, *latitude, *longitude));
    match (provable.next(), provable.next()) {
        (Some((latitude, longitude, problem)), None) => (Position::new(latitude, longitude).ok(), Some(problem)),
        _ => (None, Some("is not in California, and no reading of it is: no place")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_mended_where_one_reading_alone_lies_in_california() {
        for (latitude, longitude, read, says) in [
            (37.5, -119.9, Some((37.5, -119.9)), None),
            // Just across the border.
            (42.29896, -123.95405, Some((42.29896, -123.95405)), None),
            (121.999, 38.453, Some((38.453, -121.999)), Some("swapped and a sign")),
            (-120.5, 38.0, Some((38.0, -120.5)), Some("swapped")),
            (34.913, 118.9082, Some((34.913, -118.9082)), Some("sign was missing")),
            (-120.258, -120.258, None, Some("no place")),
            (1.0, 1.0, None, Some("no place")),
            (0.0, 0.0, None, Some("no place")),
            (5487.0, -120.841536, None, Some("no place")),
            (37.0, -1191414610.0, None, Some("no place")),
            (55.23, -122.0, None, Some("no place")),
            (f64::NAN, -120.0, None, Some("no place")),
        ] {
            let (position, problem) = judged(latitude, longitude);
            let at = position.map(|at| (at.latitude(), at.longitude()));
            assert_eq!(at, read, "{latitude}, {longitude}");
            assert_eq!(problem.is_some(), says.is_some(), "{problem:?}");
            assert!(problem.unwrap_or_default().contains(says.unwrap_or_default()), "{problem:?}");
        }
    }
}
