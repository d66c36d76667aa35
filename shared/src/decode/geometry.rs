//! Polygons as GeoJSON has them: read as they were sent, written as they are published, and the point that stands for one.
//! What an alert's shapes must be beyond that is decided in `alert/geometry.rs`.

use serde_json::{Value, json};

use crate::record::{Geometry, Position, Quality};

/// Rings of a polygon, closed; the outer one first.
pub(crate) type Polygon = Vec<Vec<Position>>;

/// What a feature's geometry became.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    pub(crate) geometry: Option<Geometry>,
    /// A point itself, the centre of the largest polygon, or a point of the line with the most of them.
    pub(crate) position: Option<Position>,
}

/// A feature's geometry with its points, rings and their turning as they were sent. Heights are left out, an open ring is
/// closed, and what cannot be read or published falls away: each with a note on `geometry`. Null is no geometry, without one.
pub(crate) fn read(sent: &Value, quality: &mut Vec<Quality>) -> Shape {
    let mut read = Reader { polygons: Vec::new(), lines: Vec::new(), points: Vec::new(), quality, heights: false };
    if !sent.is_null() {
        read.geometry(sent, 0);
    }
    let Reader { polygons, lines, points, quality, heights } = read;
    let mut note =
        |problem: &str| quality.push(Quality { field: "geometry".into(), problem: problem.into(), raw: None });
    if heights {
        note("has heights, which are left out");
    }
    if let Some(position) = largest(&polygons).and_then(|outer| centre_of(outer)) {
        if !points.is_empty() {
            note("has points beside polygons: the points are left out");
        }
        if !lines.is_empty() {
            note("has lines beside polygons: the lines are left out");
        }
        return Shape { geometry: Some(Geometry::GeoJson(geojson_of(&polygons))), position: Some(position) };
    }
    if let Some(longest) = lines.iter().max_by_key(|line| line.len()) {
        if !points.is_empty() {
            note("has points beside lines: the points are left out");
        }
        let position = Some(longest[longest.len() / 2]);
        return Shape { geometry: Some(Geometry::GeoJson(lines_as_geojson(&lines))), position };
    }
    if points.len() > 1 {
        note("has several points: the first one stands for them");
    }
    let point = points.first().copied();
    Shape { geometry: point.map(Geometry::Point), position: point }
}

struct Reader<'q> {
    polygons: Vec<Polygon>,
    lines: Vec<Vec<Position>>,
    points: Vec<Position>,
    quality: &'q mut Vec<Quality>,
    heights: bool,
}

impl Reader<'_> {
    fn note(&mut self, problem: &str, raw: &str) {
        self.quality.push(Quality::new("geometry", problem, raw));
    }

    fn geometry(&mut self, sent: &Value, depth: usize) {
        let list = |name: &str| sent[name].as_array().map_or(&[][..], Vec::as_slice);
        match sent["type"].as_str() {
            Some("Polygon") => self.polygon(&sent["coordinates"]),
            Some("MultiPolygon") => list("coordinates").iter().for_each(|polygon| self.polygon(polygon)),
            Some("LineString") => self.line(&sent["coordinates"]),
            Some("MultiLineString") => list("coordinates").iter().for_each(|line| self.line(line)),
            Some("Point") => self.point(&sent["coordinates"]),
            Some("MultiPoint") => list("coordinates").iter().for_each(|point| self.point(point)),
            // RFC 7946 has no collections of collections.
            Some("GeometryCollection") if depth == 0 => {
                list("geometries").iter().for_each(|part| self.geometry(part, depth + 1));
            }
            _ => self.note("is of a kind that is not published", &sent.to_string()),
        }
    }

    fn point(&mut self, sent: &Value) {
        match self.position(sent) {
            Ok(position) => self.points.push(position),
            Err(problem) => self.note(&problem, &sent.to_string()),
        }
    }

    fn line(&mut self, sent: &Value) {
        let points = sent.as_array().map_or(&[][..], Vec::as_slice);
        match points.iter().map(|point| self.position(point)).collect::<Result<Vec<_>, _>>() {
            Ok(line) if line.len() > 1 => self.lines.push(line),
            Ok(line) => self.note(&format!("a line has {} points", line.len()), &sent.to_string()),
            Err(problem) => self.note(&format!("a line cannot be read: {problem}"), &sent.to_string()),
        }
    }

    /// A hole that cannot be read makes the polygon larger; one whose outer ring cannot be read is none.
    fn polygon(&mut self, sent: &Value) {
        let mut polygon = Polygon::new();
        for (n, ring) in sent.as_array().map_or(&[][..], Vec::as_slice).iter().enumerate() {
            match self.ring(ring) {
                Ok(ring) => polygon.push(ring),
                Err(problem) => {
                    let which = if n == 0 { "a polygon's outer ring" } else { "a hole" };
                    self.note(&format!("{which} cannot be read: {problem}"), &ring.to_string());
                    if n == 0 {
                        return;
                    }
                }
            }
        }
        if polygon.is_empty() {
            self.note("a polygon has no ring", &sent.to_string());
        } else {
            self.polygons.push(polygon);
        }
    }

    fn ring(&mut self, sent: &Value) -> Result<Vec<Position>, String> {
        let points = sent.as_array().ok_or("it is no list")?;
        let mut ring = points.iter().map(|point| self.position(point)).collect::<Result<Vec<_>, _>>()?;
        if ring.len() > 2 && ring.first() != ring.last() {
            self.note("a ring was not closed: it was closed by its first point", "");
            ring.push(ring[0]);
        }
        if ring.len() < 4 { Err(format!("it has {} points", ring.len())) } else { Ok(ring) }
    }

    fn position(&mut self, sent: &Value) -> Result<Position, String> {
        let (Some(longitude), Some(latitude)) = (sent[0].as_f64(), sent[1].as_f64()) else {
            return Err("a point is not [longitude, latitude]".into());
        };
        self.heights |= !sent[2].is_null();
        Position::new(latitude, longitude).map_err(|reject| reject.detail)
    }
}

/// The outer ring that encloses most.
fn largest(polygons: &[Polygon]) -> Option<&Vec<Position>> {
    let outer = polygons.iter().filter_map(|polygon| polygon.first());
    outer.max_by(|a, b| doubled_area(a).abs().total_cmp(&doubled_area(b).abs()))
}

/// One polygon, or several: the text of a GeoJSON geometry.
pub(crate) fn geojson_of(polygons: &[Polygon]) -> String {
    let coordinates = |polygon: &Polygon| -> Value {
        polygon
            .iter()
            .map(|ring| ring.iter().map(|at| json!([at.longitude(), at.latitude()])).collect::<Value>())
            .collect()
    };
    match polygons {
        [one] => json!({"type": "Polygon", "coordinates": coordinates(one)}),
        many => json!({"type": "MultiPolygon", "coordinates": many.iter().map(coordinates).collect::<Value>()}),
    }
    .to_string()
}

/// One line, or several.
fn lines_as_geojson(lines: &[Vec<Position>]) -> String {
    let coordinates =
        |line: &Vec<Position>| -> Value { line.iter().map(|at| json!([at.longitude(), at.latitude()])).collect() };
    match lines {
        [one] => json!({"type": "LineString", "coordinates": coordinates(one)}),
        many => json!({"type": "MultiLineString", "coordinates": many.iter().map(coordinates).collect::<Value>()}),
    }
    .to_string()
}

/// Twice the signed area of a closed ring in square degrees, positive counter-clockwise.
pub(crate) fn doubled_area(ring: &[Position]) -> f64 {
    let cross = |a: Position, b: Position| a.longitude() * b.latitude() - b.longitude() * a.latitude();
    ring.windows(2).map(|edge| cross(edge[0], edge[1])).sum()
}

/// The centre of gravity of a closed ring.
pub(crate) fn centre_of(ring: &[Position]) -> Option<Position> {
    let origin = *ring.first()?;
    // Relative to a corner: the area of a small ring far from (0, 0) would drown in rounding.
    let (mut area, mut x, mut y) = (0.0, 0.0, 0.0);
    for edge in ring.windows(2) {
        let [(ax, ay), (bx, by)] =
            [edge[0], edge[1]].map(|at| (at.longitude() - origin.longitude(), at.latitude() - origin.latitude()));
        let cross = ax * by - bx * ay;
        area += cross;
        x += (ax + bx) * cross;
        y += (ay + by) * cross;
    }
    let at = |sum: f64, origin: f64| if area == 0.0 { origin } else { rounded(origin + sum / (3.0 * area)) };
    Position::new(at(y, origin.latitude()), at(x, origin.longitude())).ok().or(Some(origin))
}

pub(crate) fn rounded(degrees: f64) -> f64 {
    (degrees * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sent: Value) -> (Shape, Vec<String>) {
        let mut quality = Vec::new();
        let shape = read(&sent, &mut quality);
        (shape, quality.into_iter().map(|quality| quality.problem).collect())
    }

    fn text(shape: &Shape) -> &str {
        match &shape.geometry {
            Some(Geometry::GeoJson(text)) => text,
            _ => "",
        }
    }

    #[test]
    fn s8_a_perimeter_is_kept_as_it_was_sent() {
        // Clockwise, with a hole and heights.
        let outer =
            [[-120.0, 38.0, 9.0], [-120.0, 39.0, 9.0], [-119.0, 39.0, 9.0], [-119.0, 38.0, 9.0], [-120.0, 38.0, 9.0]];
        let hole = [[-119.5, 38.5], [-119.4, 38.5], [-119.4, 38.6], [-119.5, 38.5]];
        let (shape, notes) = of(json!({"type": "Polygon", "coordinates": [outer, hole]}));
        assert_eq!(
            text(&shape),
            r#"{"coordinates":[[[-120.0,38.0],[-120.0,39.0],[-119.0,39.0],[-119.0,38.0],[-120.0,38.0]],[[-119.5,38.5],[-119.4,38.5],[-119.4,38.6],[-119.5,38.5]]],"type":"Polygon"}"#
        );
        assert_eq!(
            (shape.position, notes),
            (Position::new(38.5, -119.5).ok(), vec!["has heights, which are left out".to_owned()])
        );
        let (small, large) =
            ([[0.0, 0.0], [0.1, 0.0], [0.1, 0.1], [0.0, 0.0]], [[5.0, 5.0], [6.0, 5.0], [6.0, 6.0], [5.0, 5.0]]);
        let (shape, notes) = of(json!({"type": "MultiPolygon", "coordinates": [[small], [large]]}));
        assert!(text(&shape).ends_with(r#""type":"MultiPolygon"}"#) && notes.is_empty(), "{notes:?}");
        assert!(shape.position.is_some_and(|at| at.latitude() > 5.0), "the larger part stands for both");
    }

    #[test]
    fn s9_what_cannot_be_kept_of_a_geometry_is_noted() {
        let ring = json!([[-120.0, 38.0], [-120.0, 39.0], [-119.0, 39.0], [-120.0, 38.0]]);
        let open = json!([[-120.0, 38.0], [-120.0, 39.0], [-119.0, 39.0]]);
        let (closed, notes) = of(json!({"type": "Polygon", "coordinates": [open]}));
        assert_eq!(text(&closed), text(&of(json!({"type": "Polygon", "coordinates": [ring]})).0));
        assert!(notes[0].contains("not closed"), "{notes:?}");
        let (shape, notes) = of(json!({"type": "GeometryCollection", "geometries": [
            {"type": "Point", "coordinates": [1, 2]}, {"type": "Polygon", "coordinates": [ring, [[1, 2]]]},
            {"type": "LineString", "coordinates": []}]}));
        assert!(text(&shape).contains("Polygon"));
        assert_eq!(notes.len(), 3, "{notes:?}");
        for none in [
            json!({"type": "Polygon", "coordinates": []}),
            json!({"type": "Polygon", "coordinates": [[[-120, 91], [-120, 39], [-119, 39], [-120, 91]]]}),
            json!({"type": "Polygon", "coordinates": [["x"]]}),
            json!({"type": "GeometryCollection", "geometries": [{"type": "GeometryCollection", "geometries": []}]}),
            json!({"rings": []}),
            json!("Point"),
        ] {
            let (shape, notes) = of(none.clone());
            assert!(shape.geometry.is_none() && shape.position.is_none() && !notes.is_empty(), "{none}");
        }
        let (shape, notes) = of(Value::Null);
        assert!(shape.geometry.is_none() && notes.is_empty(), "null is what was meant");
        let (shape, notes) = of(json!({"type": "Point", "coordinates": [-120.5, 39.1]}));
        assert_eq!((shape.position, notes.len()), (Position::new(39.1, -120.5).ok(), 0));
        let (shape, notes) = of(json!({"type": "MultiPolygon", "coordinates": []}));
        assert!(shape.geometry.is_none() && notes.is_empty(), "an empty list is what was meant");
    }
}
