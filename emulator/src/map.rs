//! Decoded records as a map: GeoJSON for other programs, or one page of HTML that opens without a network. What stands in a record
//! was written by strangers: the page takes it as data, never as markup.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// Records that one map shows: a page of them opens in a second. The rest is counted.
const SHOWN: usize = 100_000;
/// A label, in characters.
const LABEL: usize = 120;
/// County lines and names of California: see `map/counties.py`.
const COUNTIES: &str = include_str!("map/counties.json");
const PAGE: &str = include_str!("map/page.html");
/// Where a record says in a few words what it is, the best first.
const TELLING: [&str; 17] = [
    "headline",
    "event",
    "incident_name",
    "fire_name",
    "perimeter_name",
    "name",
    "zone_name",
    "zone_id",
    "sensor_name",
    "station_name",
    "station_id",
    "sensor_id",
    "short_forecast",
    "mission",
    "incident_number",
    "status",
    "id",
];

/// Which form a map has, by its file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    GeoJson,
    Html,
}

/// The records of one map as they come.
#[derive(Debug)]
pub(crate) struct Drawing {
    path: PathBuf,
    form: Form,
    features: Vec<Value>,
    without_place: usize,
    left_out: usize,
}

impl Drawing {
    /// # Errors
    /// A name that ends as neither form does.
    pub(crate) fn new(path: &Path) -> Result<Drawing, String> {
        let form = match path.extension().and_then(|end| end.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("html" | "htm") => Form::Html,
            Some("geojson" | "json") => Form::GeoJson,
            _ => return Err(format!("--map {}: its name must end with .html or .geojson", path.display())),
        };
        Ok(Drawing { path: path.to_owned(), form, features: Vec::new(), without_place: 0, left_out: 0 })
    }

    /// Takes a record as it is published.
    pub(crate) fn add(&mut self, record: &str) {
        let Ok(Value::Object(record)) = serde_json::from_str(record) else { return };
        if record.get("geometry").is_none_or(Value::is_null) {
            self.without_place += 1;
        } else if self.features.len() < SHOWN {
            self.features.push(feature(record));
        } else {
            self.left_out += 1;
        }
    }

    /// Writes the file, whole or not at all; gives what a person is told.
    ///
    /// # Errors
    /// As the file system.
    pub(crate) fn write(self) -> io::Result<String> {
        let collection = json!({ "type": "FeatureCollection", "features": self.features });
        let text = match self.form {
            Form::GeoJson => collection.to_string(),
            Form::Html => page(&collection),
        };
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let unfinished = self.path.with_file_name(format!(".{name}.{}", std::process::id()));
        let written = std::fs::File::create(&unfinished)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| std::fs::rename(&unfinished, &self.path));
        if written.is_err() {
            // The first fault counts.
            let _ = std::fs::remove_file(&unfinished);
        }
        written?;
        let mut told = format!("{}: {} records", self.path.display(), self.features.len());
        if self.without_place > 0 {
            told += &format!(", {} have no place", self.without_place);
        }
        if self.left_out > 0 {
            told += &format!(", {} more are left out", self.left_out);
        }
        Ok(told)
    }
}

/// A record with its shape, what a map needs to know of it, and in `record` what else it says.
fn feature(mut record: Map<String, Value>) -> Value {
    let geometry = record.remove("geometry").unwrap_or_default();
    let label = label(&record);
    let mut take = |name: &str| record.remove(name).unwrap_or_default();
    let [source_id, event_id, observed_at, tier, data] =
        ["source_id", "event_id", "observed_at", "priority", "data"].map(&mut take);
    json!({
        "type": "Feature", "id": event_id, "geometry": geometry,
        "properties": {
            "source_id": source_id, "event_id": event_id, "observed_at": observed_at, "tier": tier, "label": label,
            "california": record.get("california"), "data": data, "quality": record.get("quality"),
        },
    })
}

/// One line that says what it is.
fn label(record: &Map<String, Value>) -> String {
    let data = &record["data"];
    let words = |value: &Value| value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let said = TELLING.iter().find_map(|name| words(&data[*name]).or_else(|| words(&data["info"][0][*name])));
    let power = data["frp"].as_f64().map(|frp| format!("{frp} MW"));
    let source = record.get("source_name").and_then(Value::as_str).unwrap_or_default();
    let line = match said.or(power) {
        Some(said) => format!("{source}: {said}"),
        None => source.to_owned(),
    };
    line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(LABEL).collect()
}

/// The page with everything in it.
fn page(collection: &Value) -> String {
    PAGE.replace("@COUNTIES@", COUNTIES.trim()).replacen("@RECORDS@", &harmless(&collection.to_string()), 1)
}

/// JSON that no reader of HTML takes for markup, whatever stands in its texts.
fn harmless(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing(name: &str) -> (tempfile::TempDir, Drawing) {
        let folder = tempfile::tempdir().unwrap();
        let drawing = Drawing::new(&folder.path().join(name)).unwrap();
        (folder, drawing)
    }

    #[test]
    fn a6_what_strangers_wrote_is_never_markup() {
        let (folder, mut drawing) = drawing("map.html");
        let name = "</script><script>alert(1)</script><!--@COUNTIES@@RECORDS@ & <b>";
        let point = json!({"type": "Point", "coordinates": [-121.5, 39.5]});
        drawing
            .add(&json!({"geometry": point, "source_id": "x", "source_name": "X", "data": {"name": name}}).to_string());
        drawing.write().unwrap();
        let page = std::fs::read_to_string(folder.path().join("map.html")).unwrap();
        assert_eq!(
            page.matches("</script>").count(),
            PAGE.matches("</script>").count(),
            "no element more than the page's own"
        );
        assert!(!page.contains("alert(1)</script>") && !page.contains("<b>"));
        let records = page.split("id=\"records\">").nth(1).and_then(|rest| rest.split("</script>").next()).unwrap();
        let read: Value = serde_json::from_str(records).unwrap();
        assert_eq!(read["features"][0]["properties"]["data"]["name"], name, "and it is read as it was written");
        for outside in ["http://", "https://", "src=", "@import", "innerHTML"] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_record_is_a_feature_with_its_label_and_one_without_a_place_is_counted() {
        let (folder, mut drawing) = drawing("map.geojson");
        let shape = json!({"type": "Polygon", "coordinates": [[[-121, 39], [-121, 40], [-120, 39], [-121, 39]]]});
        drawing.add(
            &json!({"event_id": "e", "source_id": "s", "source_name": "CAL FIRE", "observed_at": "t", "priority": "NORMAL", "geometry": shape,
                "data": {"incident_name": " Demo \n Fire", "acres": 5}})
            .to_string(),
        );
        drawing.add(&json!({"geometry": null, "data": {}}).to_string());
        assert!(drawing.write().unwrap().ends_with("map.geojson: 1 records, 1 have no place"));
        let read: Value = serde_json::from_slice(&std::fs::read(folder.path().join("map.geojson")).unwrap()).unwrap();
        assert_eq!((&read["type"], &read["features"][0]["geometry"]), (&json!("FeatureCollection"), &shape));
        let told = &read["features"][0]["properties"];
        assert_eq!(
            (&told["label"], &told["tier"], &told["event_id"]),
            (&json!("CAL FIRE: Demo Fire"), &json!("NORMAL"), &json!("e"))
        );
        assert!(Drawing::new(Path::new("map.png")).is_err());
    }

    #[test]
    fn every_county_has_its_name_and_lies_in_california() {
        let counties: Value = serde_json::from_str(COUNTIES).unwrap();
        let names = counties["names"].as_array().unwrap();
        assert_eq!(names.len(), 58);
        for name in names {
            let (x, y) = (name[1].as_f64().unwrap(), name[2].as_f64().unwrap());
            assert!((-124.5..=-114.1).contains(&x) && (32.5..=42.1).contains(&y), "{name}");
        }
    }
}
