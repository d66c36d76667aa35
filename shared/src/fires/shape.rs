//! Shapes on a plane that touches the sphere where they are: whether a fire's edge is near. Off by less than 1 % over a fire's width.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::{Geometry, Position};

/// Kilometres of one degree of latitude, mean sphere.
const KM_PER_DEGREE: f64 = 111.195;

/// Latitude and longitude in degrees.
pub(super) type At = [f64; 2];

/// A closed ring with what is inside of it, a line, or a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Part {
    /// What it encloses belongs to it.
    ring: bool,
    points: Vec<At>,
}

/// The parts of a record's geometry; holes belong to it, as an island in a fire does.
pub(super) fn parts(geometry: Option<&Geometry>) -> Vec<Part> {
    match geometry {
        None => Vec::new(),
        Some(Geometry::Point(at)) => vec![Part::point(*at)],
        Some(Geometry::GeoJson(text)) => serde_json::from_str(text).map(|shape| of_json(&shape)).unwrap_or_default(),
    }
}

fn of_json(shape: &Value) -> Vec<Part> {
    let part = |ring: bool, points: &Value| {
        let at = |point: &Value| Some([rounded(point[1].as_f64()?), rounded(point[0].as_f64()?)]);
        let points: Vec<At> = points.as_array()?.iter().filter_map(at).collect();
        (!points.is_empty()).then_some(Part { ring, points })
    };
    let coordinates = &shape["coordinates"];
    let several = || coordinates.as_array().map_or(&[][..], Vec::as_slice).iter();
    match shape["type"].as_str() {
        Some("Polygon") => part(true, &coordinates[0]).into_iter().collect(),
        Some("MultiPolygon") => several().filter_map(|polygon| part(true, &polygon[0])).collect(),
        Some("LineString") => part(false, coordinates).into_iter().collect(),
        Some("MultiLineString") => several().filter_map(|line| part(false, line)).collect(),
        _ => Vec::new(),
    }
}

/// To a metre: more would only fill the store.
fn rounded(degrees: f64) -> f64 {
    (degrees * 1e5).round() / 1e5
}

/// Of a ring that is kept no edge is shorter at first, in kilometres: a quarter of VIIRS's pixel.
const FINEST_KM: f64 = 0.1;

/// The same with fewer points, `most` in all: the smallest parts fall away, then every detail below a growing length.
pub(super) fn coarser(mut parts: Vec<Part>, most: usize) -> Vec<Part> {
    // The largest part keeps all of its points if there is room.
    parts.sort_by_key(|part| std::cmp::Reverse(part.points.len()));
    parts.truncate(most / 8);
    let mut finest = FINEST_KM;
    while parts.iter().map(|part| part.points.len()).sum::<usize>() > most {
        parts.iter_mut().for_each(|part| part.thin(finest));
        finest *= 1.5;
    }
    parts
}

impl Part {
    pub(super) fn point(at: Position) -> Part {
        Part { ring: false, points: vec![[at.latitude(), at.longitude()]] }
    }

    /// Whether it has a width, as a perimeter has.
    pub(super) fn is_ring(&self) -> bool {
        self.ring
    }

    /// Leaves out each point that is nearer to the last one kept; a ring keeps its first and its last.
    fn thin(&mut self, km: f64) {
        let last = self.points.len() - 1;
        let mut kept: Vec<At> = Vec::with_capacity(self.points.len());
        for (n, at) in self.points.iter().enumerate() {
            if n == last || kept.last().is_none_or(|before| distance_km(*before, *at) >= km) {
                kept.push(*at);
            }
        }
        self.points = kept;
    }

    pub(super) fn bounds(&self) -> Bounds {
        let bounds = self.points.iter().map(|&[latitude, longitude]| Bounds {
            south: latitude,
            north: latitude,
            west: longitude,
            east: longitude,
        });
        // A part has a point.
        bounds.reduce(Bounds::with).unwrap_or_default()
    }

    /// Kilometres from its edge; 0 inside of a ring.
    pub(super) fn distance_km(&self, from: At) -> f64 {
        if self.ring && self.contains(from) {
            return 0.0;
        }
        if let [one] = self.points[..] {
            return distance_km(one, from);
        }
        let plane = Plane::at(from);
        self.points.windows(2).map(|edge| plane.to_edge(edge[0], edge[1])).fold(f64::MAX, f64::min)
    }

    /// Kilometres between the nearest corners or edges; 0 where one is inside of the other.
    pub(super) fn between_km(&self, other: &Part) -> f64 {
        match (&self.points[..], &other.points[..]) {
            (_, [one]) => self.distance_km(*one),
            ([one], _) => other.distance_km(*one),
            (corners, others) => {
                let to =
                    |from: &[At], part: &Part| from.iter().map(|at| part.distance_km(*at)).fold(f64::MAX, f64::min);
                to(corners, other).min(to(others, self))
            }
        }
    }

    /// Even-odd rule.
    fn contains(&self, [latitude, longitude]: At) -> bool {
        let crosses = |edge: &[At]| {
            let ([y1, x1], [y2, x2]) = (edge[0], edge[1]);
            (y1 > latitude) != (y2 > latitude) && longitude < (x2 - x1) * (latitude - y1) / (y2 - y1) + x1
        };
        self.points.windows(2).filter(|edge| crosses(edge)).count() % 2 == 1
    }
}

/// A box in degrees.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Bounds {
    pub south: f64,
    pub north: f64,
    pub west: f64,
    pub east: f64,
}

impl Bounds {
    /// Around both.
    pub(super) fn with(self, other: Bounds) -> Bounds {
        Bounds {
            south: self.south.min(other.south),
            north: self.north.max(other.north),
            west: self.west.min(other.west),
            east: self.east.max(other.east),
        }
    }

    /// By so many kilometres on each side at least.
    pub(super) fn wider(self, km: f64) -> Bounds {
        let [up, right] = degrees(km, self.south.abs().max(self.north.abs()));
        Bounds { south: self.south - up, north: self.north + up, west: self.west - right, east: self.east + right }
    }

    pub(super) fn touches(&self, other: &Bounds) -> bool {
        self.south <= other.north && other.south <= self.north && self.west <= other.east && other.west <= self.east
    }
}

/// Kilometres between two places some hundred kilometres apart at most.
pub(super) fn distance_km(a: At, b: At) -> f64 {
    let [x, y] = Plane::at(a).km(b);
    x.hypot(y)
}

/// Degrees of latitude and of longitude of so many kilometres.
pub(super) fn degrees(km: f64, latitude: f64) -> [f64; 2] {
    // At the poles all longitudes are near.
    [km / KM_PER_DEGREE, (km / KM_PER_DEGREE / latitude.to_radians().cos().max(1e-3)).min(180.0)]
}

struct Plane {
    origin: At,
    shrink: f64,
}

impl Plane {
    fn at(origin: At) -> Plane {
        Plane { origin, shrink: origin[0].to_radians().cos() }
    }

    fn km(&self, [latitude, longitude]: At) -> At {
        [(longitude - self.origin[1]) * self.shrink * KM_PER_DEGREE, (latitude - self.origin[0]) * KM_PER_DEGREE]
    }

    /// From the origin to the nearest place of an edge.
    fn to_edge(&self, from: At, to: At) -> f64 {
        let ([ax, ay], [bx, by]) = (self.km(from), self.km(to));
        let (dx, dy) = (bx - ax, by - ay);
        let length = dx * dx + dy * dy;
        let along = if length == 0.0 { 0.0 } else { (-(ax * dx + ay * dy) / length).clamp(0.0, 1.0) };
        (ax + along * dx).hypot(ay + along * dy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square() -> Part {
        Part {
            ring: true,
            points: vec![[38.0, -120.0], [38.0, -119.9], [38.1, -119.9], [38.1, -120.0], [38.0, -120.0]],
        }
    }

    #[test]
    fn s12_distances_are_those_on_a_map() {
        let near =
            |km: f64, expected: f64| assert!((km - expected).abs() < 0.05 * expected.max(0.2), "{km} {expected}");
        assert_eq!(square().distance_km([38.05, -119.95]), 0.0, "inside");
        near(square().distance_km([38.2, -119.95]), 11.12);
        near(square().distance_km([38.05, -120.1]), 8.75);
        near(distance_km([38.0, -120.0], [38.0, -120.1]), 8.76);
        let line = Part { ring: false, points: vec![[38.05, -120.3], [38.05, -120.1]] };
        near(line.between_km(&square()), 8.75);
        let inside =
            Part { ring: true, points: vec![[38.04, -119.96], [38.04, -119.95], [38.05, -119.95], [38.04, -119.96]] };
        assert_eq!((inside.between_km(&square()), square().between_km(&inside)), (0.0, 0.0));
    }

    #[test]
    fn s12_a_coarser_perimeter_is_where_the_fine_one_was() {
        let circle = |n: usize| {
            let angle = n as f64 / 5_000.0 * std::f64::consts::TAU;
            [38.0 + 0.1 * angle.sin(), -120.0 + 0.12 * angle.cos()]
        };
        let fine = Part { ring: true, points: (0..=5_000).map(circle).collect() };
        let coarse = coarser(vec![fine.clone()], 256);
        assert!(coarse.len() == 1 && coarse[0].points.len() <= 256 && coarse[0].points.len() > 50);
        for n in 0..500 {
            assert!(coarse[0].distance_km(circle(n * 10)) < 0.1, "{n}");
        }
        assert!(coarse[0].contains([38.0, -120.0]) && !coarse[0].contains([38.11, -120.0]));
    }
}
