//! The built-in border against the Census file and the state's towns: the exactness that `ingest::place` documents.

#![allow(clippy::unwrap_used)]

use streammanager::ingest::place::place;
use streammanager::record::{California, Position};
use streammanager_tests::samples;

type Ring = Vec<(f64, f64)>;

fn judge(latitude: f64, longitude: f64) -> California {
    place(Position::new(latitude, longitude).unwrap()).california
}

/// The outer rings of the sample's border.
fn full_border(samples: &std::path::Path) -> Vec<Ring> {
    let text = std::fs::read(samples.join("geo_reference/california_state.geojson")).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let polygons = file["features"][0]["geometry"]["coordinates"].as_array().unwrap();
    let point = |point: &serde_json::Value| (point[0].as_f64().unwrap(), point[1].as_f64().unwrap());
    polygons.iter().map(|polygon| polygon[0].as_array().unwrap().iter().map(point).collect()).collect()
}

fn contains(ring: &Ring, latitude: f64, longitude: f64) -> bool {
    let crossed = ring.windows(2).filter(|edge| {
        let ((x1, y1), (x2, y2)) = (edge[0], edge[1]);
        (y1 > latitude) != (y2 > latitude) && longitude < (x2 - x1) * (latitude - y1) / (y2 - y1) + x1
    });
    crossed.count() % 2 == 1
}

fn kilometres(border: &[Ring], latitude: f64, longitude: f64) -> f64 {
    let shrink = latitude.to_radians().cos();
    let edges = border.iter().flat_map(|ring| ring.windows(2));
    let distances = edges.map(|edge| {
        let (ax, ay) = ((edge[0].0 - longitude) * shrink, edge[0].1 - latitude);
        let (dx, dy) = ((edge[1].0 - edge[0].0) * shrink, edge[1].1 - edge[0].1);
        let length = dx * dx + dy * dy;
        let along = if length == 0.0 { 0.0 } else { (-(ax * dx + ay * dy) / length).clamp(0.0, 1.0) };
        (ax + along * dx).hypot(ay + along * dy) * 111.195
    });
    distances.fold(f64::INFINITY, f64::min)
}

#[test]
fn the_border_is_as_exact_as_documented() {
    let Some(samples) = samples("California's border") else { return };
    let border = full_border(&samples);
    let (mut points, mut other, mut farthest) = (0, 0, 0.0_f64);
    for i in 0..396 {
        for j in 0..428 {
            let (latitude, longitude) = (32.3 + f64::from(i) * 0.025, -124.7 + f64::from(j) * 0.025);
            points += 1;
            let inside = border.iter().any(|ring| contains(ring, latitude, longitude));
            if inside != (judge(latitude, longitude) == California::Inside) {
                other += 1;
                farthest = farthest.max(kilometres(&border, latitude, longitude));
            }
        }
    }
    let share = f64::from(other) / f64::from(points);
    assert!(share <= 0.0012 && farthest <= 1.2, "{other} of {points} differ ({share:.5}), up to {farthest:.2} km");
}

#[test]
fn near_ends_at_forty_kilometres() {
    let Some(samples) = samples("California's near belt") else { return };
    let border = full_border(&samples);
    for i in 0..99 {
        for j in 0..107 {
            let (latitude, longitude) = (32.3 + f64::from(i) * 0.1, -124.7 + f64::from(j) * 0.1);
            let distance = kilometres(&border, latitude, longitude);
            match judge(latitude, longitude) {
                California::Outside => assert!(distance > 38.5, "{latitude} {longitude}: outside at {distance} km"),
                California::Near => assert!(distance < 41.5, "{latitude} {longitude}: near at {distance} km"),
                California::Inside => {}
            }
        }
    }
}

/// The Census file ends at the water's edge: towns on it may stand a little outside, never more than `near`.
#[test]
fn the_states_towns_are_inside_or_at_its_water() {
    let Some(samples) = samples("California's towns") else { return };
    let towns = std::fs::read_to_string(samples.join("geo_reference/california_places.csv")).unwrap();
    let mut judged = [0, 0, 0];
    for line in towns.lines().skip(1) {
        let cells: Vec<&str> = line.rsplitn(6, ',').collect();
        let (longitude, latitude) = (cells[3].parse().unwrap(), cells[4].parse().unwrap());
        judged[judge(latitude, longitude) as usize] += 1;
    }
    assert_eq!(judged, [1_510, 13, 0], "inside, near, outside");
}
