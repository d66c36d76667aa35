//! Polygons and circles of an alert → rings, a GeoJSON geometry and the point that stands for it. A shape that cannot
//! be read says why, and one that was mended says how; what that means for the alert is decided in `shapes.rs`.

use serde_json::Value;

use crate::decode::geometry::{centre_of, doubled_area, geojson_of, rounded};
use crate::record::{Geometry, Position};

/// Corners of the polygon that stands for a circle.
const CIRCLE_CORNERS: usize = 32;
const EARTH_RADIUS_KM: f64 = 6371.0088;
/// Edges are compared each with each: with more points than this an alert would take noticeable time. Evacuation zones have
/// some hundreds.
const CROSSING_POINTS: usize = 2_000;
/// Half the way around the Earth: a larger circle is a slip of the unit.
const LARGEST_RADIUS_KM: f64 = 20_000.0;

#[derive(Debug, Clone, PartialEq)]
pub(in crate::decode) enum Shape {
    /// Closed, encloses an area, counter-clockwise as GeoJSON has it.
    Ring(Vec<Position>),
    /// Several polygons, or polygons with holes, as GeoJSON's MultiPolygon has them: outer ring first.
    Rings(Vec<Vec<Vec<Position>>>),
    /// A circle of radius 0, or one that no polygon of GeoJSON can stand for.
    Point(Position),
}

/// What was mended in a shape, for the record's `quality`.
pub(super) type Notes = Vec<&'static str>;

/// CAP's polygon: `lat,lon lat,lon …`, at least four points, the last equal to the first.
pub(super) fn polygon(text: &str, notes: &mut Notes) -> Result<Shape, String> {
    let points = joined(text).split_whitespace().map(pair).collect::<Result<Vec<_>, _>>()?;
    ring(points, notes).map(Shape::Ring)
}

/// A blank beside a comma does not end a pair: some senders write `lat, lon`.
fn joined(text: &str) -> String {
    text.split(',').map(str::trim).collect::<Vec<_>>().join(",")
}

/// CAP's circle: `lat,lon radius`, the radius in km. A polygon of [`CIRCLE_CORNERS`] corners around it stands for it.
pub(super) fn circle(text: &str) -> Result<Shape, String> {
    let joined = joined(text);
    let mut parts = joined.split_whitespace();
    let (Some(centre), Some(radius), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err("is not 'lat,lon radius'".into());
    };
    around(pair(centre)?, number(radius)?)
}

pub(super) fn around(centre: Position, radius_km: f64) -> Result<Shape, String> {
    if !(0.0..=LARGEST_RADIUS_KM).contains(&radius_km) {
        return Err(format!("radius {radius_km} km is not in 0..{LARGEST_RADIUS_KM}"));
    }
    if radius_km == 0.0 {
        return Ok(Shape::Point(centre));
    }
    // Around the circle, not inside it: nobody within the radius is left out.
    let angle = radius_km / EARTH_RADIUS_KM / (std::f64::consts::PI / CIRCLE_CORNERS as f64).cos();
    let (latitude, longitude) = (centre.latitude().to_radians(), centre.longitude().to_radians());
    let corner = |n: usize| {
        // Counter-clockwise from north.
        let bearing = -std::f64::consts::TAU * n as f64 / CIRCLE_CORNERS as f64;
        let to = (latitude.sin() * angle.cos() + latitude.cos() * angle.sin() * bearing.cos()).clamp(-1.0, 1.0).asin();
        let east = (bearing.sin() * angle.sin() * latitude.cos()).atan2(angle.cos() - latitude.sin() * to.sin());
        Position::new(rounded(to.to_degrees()), rounded((longitude + east).to_degrees()))
            .map_err(|reject| reject.detail)
    };
    // A corner beyond ±180° or a pole inside: GeoJSON would need the polygon cut, so the centre stands for it.
    let Ok(mut corners) = (0..CIRCLE_CORNERS).map(corner).collect::<Result<Vec<_>, _>>() else {
        return Ok(Shape::Point(centre));
    };
    if angle >= std::f64::consts::FRAC_PI_2 - latitude.abs() {
        return Ok(Shape::Point(centre));
    }
    corners.push(corners[0]);
    Ok(Shape::Ring(corners))
}

/// `[[lat, lon], …]`; our own schema lets the sender leave it open.
pub(super) fn pairs(points: &[[f64; 2]]) -> Result<Shape, String> {
    let points = points.iter().map(|&[latitude, longitude]| position(latitude, longitude));
    ring(points.collect::<Result<_, _>>()?, &mut Notes::new()).map(Shape::Ring)
}

/// A GeoJSON Polygon or MultiPolygon: longitude first.
pub(in crate::decode) fn geojson(geometry: &Value, notes: &mut Notes) -> Result<Shape, String> {
    let coordinates = &geometry["coordinates"];
    let polygons = match geometry["type"].as_str() {
        Some("Polygon") => vec![rings(coordinates, notes)?],
        Some("MultiPolygon") => {
            list(coordinates)?.iter().map(|polygon| rings(polygon, notes)).collect::<Result<_, _>>()?
        }
        _ => return Err("is neither a GeoJSON Polygon nor a MultiPolygon".into()),
    };
    if polygons.is_empty() { Err("has no polygon".into()) } else { Ok(Shape::Rings(polygons)) }
}

fn rings(coordinates: &Value, notes: &mut Notes) -> Result<Vec<Vec<Position>>, String> {
    let read = |ring_of: &Value| {
        let point = |point: &Value| match (point[0].as_f64(), point[1].as_f64()) {
            (Some(longitude), Some(latitude)) => position(latitude, longitude),
            _ => Err(format!("{point} is not [longitude, latitude]")),
        };
        ring(list(ring_of)?.iter().map(point).collect::<Result<_, _>>()?, notes)
    };
    let mut rings = list(coordinates)?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    rings.iter_mut().skip(1).for_each(|hole| hole.reverse());
    if rings.is_empty() { Err("has no ring".into()) } else { Ok(rings) }
}

fn list(value: &Value) -> Result<&Vec<Value>, String> {
    value.as_array().ok_or_else(|| "coordinates are no list".to_owned())
}

fn pair(text: &str) -> Result<Position, String> {
    let (latitude, longitude) = text.split_once(',').ok_or_else(|| format!("{text:?} is not 'lat,lon'"))?;
    position(number(latitude)?, number(longitude)?)
}

/// The commonest fault of all is named: no latitude of California is a longitude, nor the reverse.
fn position(latitude: f64, longitude: f64) -> Result<Position, String> {
    Position::new(latitude, longitude).map_err(|reject| {
        if Position::new(longitude, latitude).is_ok() {
            format!("{}; latitude and longitude seem to be swapped", reject.detail)
        } else {
            reject.detail
        }
    })
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

/// The ring, closed, without points that repeat the one before, turned counter-clockwise.
fn ring(mut points: Vec<Position>, notes: &mut Notes) -> Result<Vec<Position>, String> {
    if points.is_empty() {
        return Err("is empty".into());
    }
    points.dedup();
    if points.len() > 2 && points.first() != points.last() {
        notes.push("is not closed: it was closed by its first point");
        points.push(points[0]);
    }
    if points.len() < 4 {
        let different = points.len() - usize::from(points.len() > 1 && points.first() == points.last());
        return Err(format!("has {different} different points, 3 at least"));
    }
    if points.len() > CROSSING_POINTS {
        notes.push("has too many points to be checked for edges that cross");
    } else if crosses_itself(&points) {
        return Err("crosses itself: which side is inside cannot be told".into());
    }
    let area = doubled_area(&points);
    if area == 0.0 {
        return Err("encloses no area".into());
    }
    if area < 0.0 {
        points.reverse();
    }
    Ok(points)
}

/// Whether two edges cross in their middles. Edges that only touch leave inside and outside clear.
fn crosses_itself(ring: &[Position]) -> bool {
    let side = |a: Position, b: Position, of: Position| {
        (b.longitude() - a.longitude()) * (of.latitude() - a.latitude())
            - (b.latitude() - a.latitude()) * (of.longitude() - a.longitude())
    };
    let apart = |a: Position, b: Position, c: Position, d: Position| side(a, b, c) * side(a, b, d) < 0.0;
    let edges: Vec<(Position, Position)> = ring.windows(2).map(|edge| (edge[0], edge[1])).collect();
    edges
        .iter()
        .enumerate()
        .any(|(n, &(a, b))| edges[n + 1..].iter().any(|&(c, d)| apart(a, b, c, d) && apart(c, d, a, b)))
}

/// One geometry of all shapes, each once though every language's block repeats it: a Polygon, a MultiPolygon, or the
/// first point when nothing has an area.
pub(in crate::decode) fn geometry(shapes: &[Shape]) -> Option<Geometry> {
    let mut polygons: Vec<Vec<Vec<Position>>> = Vec::new();
    for shape in shapes {
        match shape {
            Shape::Ring(ring) => polygons.push(vec![ring.clone()]),
            Shape::Rings(more) => polygons.extend(more.iter().cloned()),
            Shape::Point(_) => {}
        }
    }
    let mut unique: Vec<Vec<Vec<Position>>> = Vec::new();
    for polygon in polygons {
        if !unique.contains(&polygon) {
            unique.push(polygon);
        }
    }
    match unique.as_slice() {
        [] => shapes.iter().find_map(|shape| match shape {
            Shape::Point(at) => Some(Geometry::Point(*at)),
            _ => None,
        }),
        polygons => Some(Geometry::GeoJson(geojson_of(polygons))),
    }
}

/// The centre of gravity of a shape's first outer ring.
pub(in crate::decode) fn centre(shape: &Shape) -> Option<Position> {
    let ring = match shape {
        Shape::Point(at) => return Some(*at),
        Shape::Ring(ring) => ring,
        Shape::Rings(polygons) => polygons.first()?.first()?,
    };
    centre_of(ring)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: &str = "40.1,-122.2 40.1,-122.1 40.2,-122.1 40.2,-122.2 40.1,-122.2";

    fn read(text: &str) -> Result<Shape, String> {
        polygon(text, &mut Notes::new())
    }

    #[test]
    fn a_cap_polygon_becomes_a_counter_clockwise_ring_and_its_centre() {
        let there = read(SQUARE).unwrap();
        let back = read(&SQUARE.split(' ').rev().collect::<Vec<_>>().join("\n\t ")).unwrap();
        assert_eq!(there, back);
        assert_eq!(centre(&there), Position::new(40.15, -122.15).ok());
        assert_eq!(
            geometry(&[there.clone(), back]),
            Some(Geometry::GeoJson(
                r#"{"coordinates":[[[-122.2,40.1],[-122.1,40.1],[-122.1,40.2],[-122.2,40.2],[-122.2,40.1]]],"type":"Polygon"}"#
                    .into()
            )),
            "the same ring twice is one polygon"
        );
    }

    #[test]
    fn broken_polygons_say_why() {
        for (text, why) in [
            ("", "empty"),
            ("40.1,-122.1 40.2,-122.1", "2 different points"),
            ("40.1,-122.1 abc 40.2,-122.2 40.1,-122.1", "lat,lon"),
            ("40.1,-122.1 1,x 40.2,-122.2 40.1,-122.1", "no number"),
            ("91.0,-122 40,-122 40,-121 91.0,-122", "latitude 91"),
            ("40,-122 40,-121 40,-122", "2 different points"),
            ("40,-122 40,-122 40,-122 40,-122", "1 different points"),
            ("40,-122 40,-121 40,-120 40,-122", "no area"),
            ("-121.7,39.7 -121.5,39.7 -121.5,39.9 -121.7,39.7", "seem to be swapped"),
            ("nan,-122 40,-122 40,-121 nan,-122", "latitude"),
        ] {
            let problem = read(text).unwrap_err();
            assert!(problem.contains(why), "{text:?}: {problem}");
        }
        // The last edge crosses the first one but one, in every turning of the ring, with equal lobes and with unequal ones.
        for crossing in [
            ["39.7,-121.7", "39.9,-121.5", "39.9,-121.7", "39.7,-121.5"],
            ["39.7,-121.7", "39.9,-121.5", "39.9,-121.8", "39.7,-121.5"],
        ] {
            for turn in 0..4 {
                let mut points = crossing.to_vec();
                points.rotate_left(turn);
                points.push(points[0]);
                let problem = read(&points.join(" ")).unwrap_err();
                assert!(problem.contains("crosses itself"), "{points:?}: {problem}");
            }
        }
        for text in
            ["40.1,-122.1", "40.1,-122.1 -5", "40.1,-122.1 5 km", "40.1,-122.1 inf", "40.1 -122.1 5", "1,1 20001"]
        {
            assert!(circle(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_ring_is_mended_where_only_one_reading_is_possible() {
        let square = read(SQUARE).unwrap();
        for (written, note) in [
            (SQUARE.rsplit_once(' ').unwrap().0.to_owned(), Some("not closed")),
            (format!("{SQUARE} 40.1,-122.2"), None),
            (SQUARE.replace(' ', "\n \n"), None),
            (SQUARE.replace(',', ", "), None),
            (SQUARE.replace(',', " ,\n"), None),
        ] {
            let mut notes = Notes::new();
            assert_eq!(polygon(&written, &mut notes).as_ref(), Ok(&square), "{written:?}");
            assert_eq!(notes.len(), usize::from(note.is_some()), "{written:?}: {notes:?}");
            assert!(notes.iter().all(|said| said.contains(note.unwrap_or_default())), "{notes:?}");
        }
        assert_eq!(circle("40.77, -123.84 8.05"), circle("40.77,-123.84 8.05"));
        // Two parts that meet in one point do not cross.
        assert!(read("40,-122 41,-122 41,-121 40,-122 39,-122 39,-123 40,-122").is_ok());
    }

    #[test]
    fn a_circle_is_wrapped_by_its_polygon() {
        let Shape::Ring(corners) = circle("40.77,-123.84 8.05").unwrap() else { panic!("no ring") };
        assert_eq!(corners.len(), CIRCLE_CORNERS + 1);
        assert!(doubled_area(&corners) > 0.0);
        let km = |a: Position, b: Position| {
            let [(a1, a2), (b1, b2)] = [a, b].map(|p| (p.latitude().to_radians(), p.longitude().to_radians()));
            let h = ((a1 - b1) / 2.0).sin().powi(2) + a1.cos() * b1.cos() * ((a2 - b2) / 2.0).sin().powi(2);
            2.0 * EARTH_RADIUS_KM * h.sqrt().asin()
        };
        let middle = Position::new(40.77, -123.84).unwrap();
        for edge in corners.windows(2) {
            let half = Position::new(
                (edge[0].latitude() + edge[1].latitude()) / 2.0,
                (edge[0].longitude() + edge[1].longitude()) / 2.0,
            );
            assert!((8.05..8.1).contains(&km(middle, edge[0])), "corner at {}", km(middle, edge[0]));
            assert!((8.049..8.06).contains(&km(middle, half.unwrap())), "side");
        }
        assert_eq!(circle("-16.053,-173.274 0.0"), Ok(Shape::Point(Position::new(-16.053, -173.274).unwrap())));
        assert!(matches!(circle("-16,-179.99 50"), Ok(Shape::Point(_))), "crosses the antimeridian");
        assert!(matches!(circle("89.9,0 500"), Ok(Shape::Point(_))), "holds a pole");
    }

    #[test]
    fn json_shapes_are_read_in_both_axis_orders() {
        let pairs_of = pairs(&[[40.1, -122.2], [40.1, -122.1], [40.2, -122.1], [40.2, -122.2]]).unwrap();
        assert_eq!(pairs_of, read(SQUARE).unwrap());
        let json = serde_json::json!({"type": "Polygon", "coordinates":
            [[[-122.2, 40.1], [-122.1, 40.1], [-122.1, 40.2], [-122.2, 40.2], [-122.2, 40.1]]]});
        assert_eq!(geometry(&[geojson(&json, &mut Notes::new()).unwrap()]), geometry(&[pairs_of]));
        for bad in [
            serde_json::json!({"type": "Point", "coordinates": [1, 2]}),
            serde_json::json!({"type": "Polygon", "coordinates": []}),
            serde_json::json!({"type": "MultiPolygon", "coordinates": []}),
            serde_json::json!({"type": "Polygon", "coordinates": [[[-122.2], [1]]]}),
            serde_json::json!({"type": "Polygon"}),
        ] {
            assert!(geojson(&bad, &mut Notes::new()).is_err(), "{bad} was taken");
        }
    }
}
