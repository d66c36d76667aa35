//! ArcGIS's own form of a geometry (`f=json`) as GeoJSON [S13]. Whether its coordinates can be published is decided in `geometry.rs`.

use serde_json::{Value, json};

use super::short;
use crate::limits::RING_LOOKS;

/// Systems whose coordinates are degrees of longitude and latitude: WGS 84, and NAD 83, which is a metre or two beside it.
pub(crate) const DEGREES: [u64; 2] = [4326, 4269];

/// The number of a spatial reference, the newer one where there are two; `None` where it says none.
pub(crate) fn wkid(reference: &Value) -> Option<u64> {
    ["latestWkid", "wkid"].iter().find_map(|name| reference[*name].as_u64())
}

/// A geometry as GeoJSON has it; null for none.
///
/// # Errors
/// What is wrong with it, as a clause.
pub(crate) fn geojson(sent: &Value) -> Result<Value, String> {
    if sent.is_null() {
        return Ok(Value::Null);
    }
    if let Some(wkid) = wkid(&sent["spatialReference"]).filter(|wkid| !DEGREES.contains(wkid)) {
        return Err(format!("is in the spatial reference {wkid}, not in degrees"));
    }
    let list = |name: &str| sent[name].as_array();
    if let (Some(x), Some(y)) = (sent.get("x"), sent.get("y")) {
        // A row without a place has nulls, or the text NaN.
        let numbers = x.is_number() && y.is_number();
        return Ok(if numbers { json!({"type": "Point", "coordinates": [x, y]}) } else { Value::Null });
    }
    if let Some(points) = list("points") {
        return Ok(shape("MultiPoint", points.clone()));
    }
    if let Some(paths) = list("paths") {
        return Ok(shape("MultiLineString", paths.clone()));
    }
    match list("rings") {
        Some(rings) => {
            let polygons = polygons(rings)
                .ok_or_else(|| format!("has {} rings, too many to tell holes from areas", rings.len()))?;
            Ok(shape("MultiPolygon", polygons.into_iter().map(Value::Array).collect()))
        }
        None => Err(format!("is of a kind that is not read: {}", short(&sent.to_string()))),
    }
}

/// Without the copy that `json!` makes of a list.
fn shape(kind: &str, coordinates: Vec<Value>) -> Value {
    Value::Object(
        [("type".to_owned(), kind.into()), ("coordinates".to_owned(), coordinates.into())].into_iter().collect(),
    )
}

/// An outer ring, and with it its holes.
struct Outer<'a> {
    area: f64,
    bounds: Bounds,
    points: &'a [[f64; 2]],
    rings: Vec<Value>,
}

impl<'a> Outer<'a> {
    fn of(ring: &Value, points: &'a [[f64; 2]], area: f64) -> Outer<'a> {
        Outer { area, bounds: Bounds::of(points), points, rings: vec![ring.clone()] }
    }
}

/// Rings as polygons: clockwise ones are outer rings, and each other one is a hole of the smallest outer ring around it. A hole
/// that lies in none is an area of its own: it must not be lost. `None` beyond [`RING_LOOKS`].
fn polygons(rings: &[Value]) -> Option<Vec<Vec<Value>>> {
    let rings: Vec<(&Value, Vec<[f64; 2]>)> = rings.iter().map(|ring| (ring, points(ring))).collect();
    let is_outer = |ring: &[[f64; 2]]| area(ring) <= 0.0;
    let mut polygons: Vec<Outer<'_>> = Vec::new();
    for (ring, points) in rings.iter().filter(|(_, points)| is_outer(points)) {
        polygons.push(Outer::of(ring, points, -area(points)));
    }
    let mut looks = 0;
    for (ring, points) in rings.iter().filter(|(_, points)| !is_outer(points)) {
        looks += polygons.len();
        let near: Vec<usize> = (0..polygons.len()).filter(|&at| polygons[at].bounds.has_one_of(points)).collect();
        looks += near.iter().map(|&at| polygons[at].points.len() * points.len().min(CORNERS)).sum::<usize>();
        if looks > RING_LOOKS {
            return None;
        }
        let around = near.into_iter().filter(|&at| contains(polygons[at].points, points));
        match around.min_by(|&a, &b| polygons[a].area.total_cmp(&polygons[b].area)) {
            Some(at) => polygons[at].rings.push((*ring).clone()),
            None => polygons.push(Outer::of(ring, points, area(points))),
        }
    }
    Some(polygons.into_iter().map(|outer| outer.rings).collect())
}

/// The box around a ring.
struct Bounds {
    least: [f64; 2],
    most: [f64; 2],
}

impl Bounds {
    fn of(ring: &[[f64; 2]]) -> Bounds {
        let none = Bounds { least: [f64::INFINITY; 2], most: [f64::NEG_INFINITY; 2] };
        ring.iter().fold(none, |Bounds { least, most }, point| Bounds {
            least: [least[0].min(point[0]), least[1].min(point[1])],
            most: [most[0].max(point[0]), most[1].max(point[1])],
        })
    }

    fn has_one_of(&self, ring: &[[f64; 2]]) -> bool {
        let has = |axis: usize, point: &[f64; 2]| (self.least[axis]..=self.most[axis]).contains(&point[axis]);
        ring.iter().any(|point| has(0, point) && has(1, point))
    }
}

/// What of a ring can be read as points; `geometry.rs` refuses a ring of which some cannot.
fn points(ring: &Value) -> Vec<[f64; 2]> {
    let points = ring.as_array().map_or(&[][..], Vec::as_slice);
    points.iter().filter_map(|point| Some([point[0].as_f64()?, point[1].as_f64()?])).collect()
}

/// Twice the signed area, positive counter-clockwise; an open ring is closed.
fn area(ring: &[[f64; 2]]) -> f64 {
    let Some([x0, y0]) = ring.first().copied() else { return 0.0 };
    let next = ring.iter().cycle().skip(1);
    ring.iter().zip(next).map(|(a, b)| (a[0] - x0) * (b[1] - y0) - (b[0] - x0) * (a[1] - y0)).sum()
}

/// Corners of a ring that are looked at.
const CORNERS: usize = 64;

/// Whether half of the inner ring's corners lie within the outer one: some may lie on its edge.
fn contains(outer: &[[f64; 2]], inner: &[[f64; 2]]) -> bool {
    // As many as tell: a ring of a hundred thousand would be compared with each corner of another one as large.
    let looked_at = inner.iter().step_by(inner.len().div_ceil(CORNERS).max(1));
    let (within, all) =
        looked_at.fold((0, 0), |(within, all), point| (within + usize::from(is_within(outer, point)), all + 1));
    within > 0 && 2 * within >= all
}

fn is_within(ring: &[[f64; 2]], [x, y]: &[f64; 2]) -> bool {
    let next = ring.iter().cycle().skip(1);
    let crossed = ring
        .iter()
        .zip(next)
        .filter(|(a, b)| (a[1] > *y) != (b[1] > *y) && *x < (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]) + a[0]);
    crossed.count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A square with this lower left corner, clockwise.
    fn square(x: f64, y: f64, size: f64) -> Vec<[f64; 2]> {
        vec![[x, y], [x, y + size], [x + size, y + size], [x + size, y], [x, y]]
    }

    fn turned(mut ring: Vec<[f64; 2]>) -> Vec<[f64; 2]> {
        ring.reverse();
        ring
    }

    #[test]
    fn s13_clockwise_rings_are_outer_and_the_others_are_holes_of_the_one_around_them() {
        let (near, far) = (square(0.0, 0.0, 1.0), square(5.0, 5.0, 4.0));
        let island = square(6.5, 6.5, 0.5);
        let (hole, lake) = (turned(square(6.0, 6.0, 2.0)), turned(square(6.6, 6.6, 0.1)));
        let sent = json!({"rings": [hole, near, lake, far, island], "spatialReference": {"wkid": 4326}});
        assert_eq!(
            geojson(&sent).unwrap(),
            json!({"type": "MultiPolygon", "coordinates": [[near], [far, hole], [island, lake]]}),
            "a lake on an island in a hole belongs to the island"
        );
        let alone = turned(square(1.0, 1.0, 1.0));
        let read = geojson(&json!({ "rings": [alone] })).unwrap();
        assert_eq!(
            read["coordinates"],
            json!([[alone]]),
            "a ring that is turned the wrong way is an area all the same"
        );
        let touching = vec![[0.0, 0.0], [0.5, 0.1], [0.1, 0.5], [0.0, 0.0]];
        let read = geojson(&json!({ "rings": [near, touching] })).unwrap();
        assert_eq!(read["coordinates"], json!([[near, touching]]), "a hole may touch the ring around it");
    }

    #[test]
    fn a6_a_shape_of_rings_without_end_is_refused_and_one_of_many_is_not() {
        let rings = |size: usize, count: usize| {
            let around: Vec<[f64; 2]> = (0..size).map(|n| [(n % 2) as f64, n as f64 / size as f64]).collect();
            let (outer, hole) = (turned(square(0.0, 0.0, 1.0)), turned(square(0.4, 0.4, 0.1)));
            let outer = if size > 0 { around } else { outer };
            json!({ "rings": std::iter::repeat_n(outer, count).chain(std::iter::repeat_n(hole, count)).collect::<Vec<_>>() })
        };
        assert!(geojson(&rings(0, 1_000)).is_ok());
        assert!(geojson(&rings(2_000, 300)).unwrap_err().contains("600 rings"));
    }

    #[test]
    fn s13_points_and_paths_are_read_and_another_reference_is_not() {
        for (sent, read) in [
            (json!({"x": -120.5, "y": 39.1}), json!({"type": "Point", "coordinates": [-120.5, 39.1]})),
            (json!({"x": "NaN", "y": "NaN"}), Value::Null),
            (json!({"x": null, "y": null}), Value::Null),
            (Value::Null, Value::Null),
            (json!({"points": [[1, 2]]}), json!({"type": "MultiPoint", "coordinates": [[1, 2]]})),
            (
                json!({"paths": [[[1, 2], [3, 4]]]}),
                json!({"type": "MultiLineString", "coordinates": [[[1, 2], [3, 4]]]}),
            ),
            (json!({"rings": []}), json!({"type": "MultiPolygon", "coordinates": []})),
        ] {
            assert_eq!(geojson(&sent), Ok(read), "{sent}");
        }
        let mercator = json!({"x": -1.3e7, "y": 4.7e6, "spatialReference": {"wkid": 102100, "latestWkid": 3857}});
        assert!(geojson(&mercator).unwrap_err().contains("3857"));
        assert!(geojson(&json!({"curveRings": []})).is_err());
    }
}
