//! A position → its H3 cell and where it stands against California's border. Pure geometry; no look-up leaves the process.

mod california;

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
    if BORDER.iter().any(|ring| contains(ring, latitude, longitude)) {
        return California::Inside;
    }
    if BORDER.iter().any(|ring| is_near(ring, latitude, longitude)) { California::Near } else { California::Outside }
}

/// Even-odd rule: counts the edges that a ray to the east crosses.
fn contains(ring: &[(f64, f64)], latitude: f64, longitude: f64) -> bool {
    let mut inside = false;
    for ((x1, y1), (x2, y2)) in edges(ring) {
        if (y1 > latitude) != (y2 > latitude) && longitude < (x2 - x1) * (latitude - y1) / (y2 - y1) + x1 {
            inside = !inside;
        }
    }
    inside
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
        assert_eq!(place.h3.to_string(), "85283083fffffff");
        for (latitude, longitude) in [(90.0, 0.0), (-90.0, 180.0), (0.0, -180.0)] {
            assert_eq!(super::place(Position::new(latitude, longitude).unwrap()).h3.to_string().len(), 15);
        }
    }
}
