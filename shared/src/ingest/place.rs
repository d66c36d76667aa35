//! A position → its H3 cell and where it stands against California's border. Pure geometry; no look-up leaves the process.

mod california;

use std::sync::LazyLock;

use h3o::{LatLng, Resolution};

use crate::record::{California, Place, Position};
use california::BORDER;

/// How far outside the border still counts as `near`: 25 miles, the distance at which a wind-driven fire is a day away.
pub const NEAR_KM: f64 = 40.0;

/// Kilometres of one degree of latitude (and of longitude at the equator), mean sphere.
const KM_PER_DEGREE: f64 = 111.195;
/// Around the border and its `near` belt; nearly every place on Earth is dismissed by it. (west, east, south, north)
const BOUNDS: (f64, f64, f64, f64) = (-124.95, -113.65, 32.1, 42.4);

/// The cell of resolution 5 [K3] and California inside, near or outside [K5].
///
/// The border is the simplified one of `california`: against the Census file, 0.12 % of a 2.8 km grid over the state's box
/// is judged otherwise, never farther than 1.2 km from the border. Bays that the Census file leaves out are outside (and so
/// `near`), as are 13 of the state's 1,523 towns that stand at their water; lakes and delta channels are inside.
pub fn place(position: Position) -> Place {
    let (latitude, longitude) = (position.latitude(), position.longitude());
    // A position is finite and in range, which is all that h3o asks for.
    let h3 = LatLng::new(latitude, longitude)
        .expect("a position is finite: its constructor refuses anything else")
        .to_cell(Resolution::Five);
    Place { position, h3, california: california(latitude, longitude) }
}

fn california(latitude: f64, longitude: f64) -> California {
    let (west, east, south, north) = BOUNDS;
    if !(west..=east).contains(&longitude) || !(south..=north).contains(&latitude) {
        return California::Outside;
    }
    if is_inside(latitude, longitude) {
        return California::Inside;
    }
    if BORDER.iter().any(|ring| is_near(ring, latitude, longitude)) { California::Near } else { California::Outside }
}

/// An edge and the number of its ring.
type Edge = (usize, (f64, f64), (f64, f64));

/// Degrees of latitude that share a list of edges.
const BAND: f64 = 0.05;

/// By band of latitude from the south, the edges that reach into it: a few of four hundred.
static BANDS: LazyLock<Vec<Vec<Edge>>> = LazyLock::new(|| {
    let mut bands = vec![Vec::new(); band(BOUNDS.3) + 1];
    for (number, ring) in BORDER.iter().enumerate() {
        for (from, to) in edges(ring) {
            for band in &mut bands[band(from.1.min(to.1))..=band(from.1.max(to.1))] {
                band.push((number, from, to));
            }
        }
    }
    bands
});

/// Of a latitude within the bounds.
fn band(latitude: f64) -> usize {
    ((latitude - BOUNDS.2) / BAND) as usize
}

/// Even-odd rule for each ring: counts the edges that a ray to the east crosses.
fn is_inside(latitude: f64, longitude: f64) -> bool {
    let crosses = |&&(_, from, to): &&Edge| crosses_ray(from, to, latitude, longitude);
    // One bit a ring.
    BANDS[band(latitude)].iter().filter(crosses).fold(0u32, |inside, (ring, ..)| inside ^ 1 << ring) != 0
}

fn crosses_ray((x1, y1): (f64, f64), (x2, y2): (f64, f64), latitude: f64, longitude: f64) -> bool {
    (y1 > latitude) != (y2 > latitude) && longitude < (x2 - x1) * (latitude - y1) / (y2 - y1) + x1
}

/// Whether any edge comes within [`NEAR_KM`], on a plane that touches the sphere at the point: off by less than 1 % here.
fn is_near(ring: &[(f64, f64)], latitude: f64, longitude: f64) -> bool {
    let shrink = latitude.to_radians().cos();
    let limit = (NEAR_KM / KM_PER_DEGREE).powi(2);
    edges(ring).any(|((x1, y1), (x2, y2))| {
        let (ax, ay) = ((x1 - longitude) * shrink, y1 - latitude);
        let (dx, dy) = ((x2 - x1) * shrink, y2 - y1);
        let along = (-(ax * dx + ay * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
        let (px, py) = (ax + along * dx, ay + along * dy);
        px * px + py * py <= limit
    })
}

fn edges(ring: &[(f64, f64)]) -> impl Iterator<Item = ((f64, f64), (f64, f64))> {
    let last = ring[ring.len() - 1];
    std::iter::once((last, ring[0])).chain(ring.windows(2).map(|pair| (pair[0], pair[1])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(latitude: f64, longitude: f64) -> California {
        place(Position::new(latitude, longitude).unwrap()).california
    }

    #[test]
    fn towns_and_waters_stand_where_a_map_shows_them() {
        for (name, latitude, longitude, expected) in [
            ("Paradise", 39.760, -121.622, California::Inside),
            ("Los Angeles", 34.052, -118.244, California::Inside),
            ("South Lake Tahoe", 38.940, -119.977, California::Inside),
            ("Needles", 34.848, -114.614, California::Inside),
            ("Avalon, Santa Catalina", 33.345, -118.330, California::Inside),
            ("Santa Rosa Island", 33.960, -120.100, California::Inside),
            ("San Clemente Island", 32.900, -118.490, California::Inside),
            ("Reno", 39.530, -119.814, California::Near),
            ("Yuma", 32.693, -114.628, California::Near),
            ("Tijuana", 32.515, -117.038, California::Near),
            ("10 km off Big Sur", 36.250, -121.950, California::Near),
            ("Las Vegas", 36.170, -115.140, California::Outside),
            ("Portland", 45.520, -122.680, California::Outside),
            ("Phoenix", 33.448, -112.074, California::Outside),
            ("the Pacific", 36.0, -124.5, California::Outside),
            ("the other hemisphere", -36.0, 120.0, California::Outside),
        ] {
            assert_eq!(at(latitude, longitude), expected, "{name}");
        }
    }

    #[test]
    fn the_edges_of_a_band_decide_as_all_edges_do() {
        let contains = |ring: &[(f64, f64)], latitude, longitude| {
            edges(ring).filter(|&(from, to)| crosses_ray(from, to, latitude, longitude)).count() % 2 == 1
        };
        let (west, east, south, north) = BOUNDS;
        let vertices = BORDER.iter().flat_map(|ring| ring.iter().map(|&(_, latitude)| latitude));
        // On and between the vertices and the bands' ends.
        let latitudes = vertices.chain((0..=412).map(|step| south + f64::from(step) * (north - south) / 412.0));
        let mut inside = 0;
        for latitude in latitudes {
            for step in 0..=100 {
                let longitude = west + (east - west) * f64::from(step) / 100.0;
                let expected = BORDER.iter().any(|ring| contains(ring, latitude, longitude));
                assert_eq!(is_inside(latitude, longitude), expected, "{latitude} {longitude}");
                inside += u32::from(expected);
            }
        }
        assert!(inside > 10_000, "{inside}");
    }

    #[test]
    fn the_bounds_leave_room_for_the_whole_near_belt() {
        let (west, east, south, north) = BOUNDS;
        for step in 0..=1_000 {
            let share = f64::from(step) / 1_000.0;
            let (longitude, latitude) = (west + (east - west) * share, south + (north - south) * share);
            for (y, x) in [(south, longitude), (north, longitude), (latitude, west), (latitude, east)] {
                assert!(!BORDER.iter().any(|ring| is_near(ring, y, x)), "{y} {x} is near, and at the bounds");
            }
        }
    }

    #[test]
    fn k3_the_cell_is_that_of_any_h3_library() {
        // h3.latlng_to_cell(37.775938728915946, -122.41795063018799, 5)
        let place = place(Position::new(37.775938728915946, -122.41795063018799).unwrap());
        assert_eq!(place.cell().as_str(), "85283083fffffff");
        for (latitude, longitude) in [(90.0, 0.0), (-90.0, 180.0), (0.0, -180.0)] {
            let place = super::place(Position::new(latitude, longitude).unwrap());
            assert_eq!(place.cell().as_str(), place.h3.to_string());
        }
    }
}
