//! JSON documents that hold many records in a list. Each item keeps its own bytes, so that a broken one costs itself alone
//! [S9]; no source's rules live here.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{esri, json, short};
use crate::error::{Reason, Reject};
use crate::limits::{ITEM_BYTES, RESPONSE_BYTES, UNREAD_NAMED};
use crate::record::Quality;

/// A document's items, and what stands beside them.
pub(crate) struct Document<'a> {
    body: &'a Bytes,
    head: BTreeMap<String, &'a RawValue>,
    items: std::vec::IntoIter<&'a RawValue>,
}

impl<'a> Document<'a> {
    /// Of a list, or of an object that has its items under one of the names in `lists`, the first that is there.
    ///
    /// # Errors
    /// `bad_json`; `not_data` for an object without such a list, with what a service says in it of an error.
    pub(crate) fn read(body: &'a Bytes, lists: &[&str]) -> Result<Document<'a>, Reject> {
        Document::read_or_one(body, lists, &[])
    }

    /// The same, or of one item alone, as a dead letter has it: an object without any of `lists` that has one of `own`.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub(crate) fn read_or_one(body: &'a Bytes, lists: &[&str], own: &[&str]) -> Result<Document<'a>, Reject> {
        let text = json::bounded(body, RESPONSE_BYTES)?;
        let is_list = text.trim_ascii_start().first() == Some(&b'[');
        if is_list {
            let items: Vec<&RawValue> = serde_json::from_slice(text).map_err(bad)?;
            return Ok(Document { body, head: BTreeMap::new(), items: items.into_iter() });
        }
        let mut head = members(body)?;
        let Some(list) = lists.iter().find_map(|name| head.remove(*name)) else {
            if own.iter().any(|name| head.contains_key(*name)) {
                let item: &RawValue = serde_json::from_slice(text).map_err(bad)?;
                return Ok(Document { body, head: BTreeMap::new(), items: vec![item].into_iter() });
            }
            return Err(Reject::new(Reason::NotData, told(&head, lists)));
        };
        let items: Vec<&RawValue> = serde_json::from_str(list.get())
            .map_err(|e| Reject::new(Reason::BadJson, format!("{} is no list: {e}", lists.join(" or "))))?;
        Ok(Document { body, head, items: items.into_iter() })
    }

    /// Each item as text, and its bytes.
    pub(crate) fn texts(self) -> impl Iterator<Item = (&'a str, Bytes)> + Send {
        let Document { body, items, .. } = self;
        items.map(move |item| (item.get(), body.slice_ref(item.get().as_bytes())))
    }

    /// A member beside the items; null where there is none.
    pub(crate) fn head(&self, name: &str) -> Value {
        self.head.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    /// The same, where nothing says that its coordinates are other than degrees of longitude and latitude.
    ///
    /// # Errors
    /// `not_data` for a `crs` of another kind, which no feature could be read under.
    pub(crate) fn in_degrees(self) -> Result<Document<'a>, Reject> {
        let crs = self.head("crs");
        if let Some(wkid) = esri::wkid(&self.head("spatialReference")).filter(|wkid| !esri::DEGREES.contains(wkid)) {
            let detail =
                format!("its coordinates are in the spatial reference {wkid}, not in degrees: ask with outSR=4326");
            return Err(Reject::new(Reason::NotData, detail));
        }
        match crs["properties"]["name"].as_str() {
            Some(name) if !["CRS84", "4326", "4269"].iter().any(|known| name.ends_with(known)) => {
                let detail =
                    format!("its coordinates are in {:?}, not in degrees of longitude and latitude", short(name));
                Err(Reject::new(Reason::NotData, detail))
            }
            _ => Ok(self),
        }
    }
}

/// The bytes of each item, a part of the body's.
impl Iterator for Document<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.items.next().map(|item| self.body.slice_ref(item.get().as_bytes()))
    }
}

/// One item, read: a feature of GeoJSON or of ArcGIS's own form, or an object whose members are its values.
#[derive(Debug)]
pub(crate) struct Item {
    /// A feature's properties or attributes, or all members.
    pub(crate) values: Map<String, Value>,
    /// Null without one.
    pub(crate) geometry: Value,
    /// Members of a feature that GeoJSON does not know.
    pub(crate) quality: Vec<Quality>,
}

impl Item {
    /// # Errors
    /// `bad_json` for what is no object, and for a feature whose properties are none; `too_large` beyond [`ITEM_BYTES`].
    pub(crate) fn read(bytes: &[u8]) -> Result<Item, Reject> {
        if bytes.len() > ITEM_BYTES {
            let detail = format!("an item of {} bytes, {ITEM_BYTES} at most", bytes.len());
            return Err(Reject::new(Reason::TooLarge, detail));
        }
        let json::Every(value) = serde_json::from_slice(bytes).map_err(bad)?;
        let Value::Object(mut members) = value else {
            return Err(Reject::new(Reason::BadJson, format!("an item is no object: {}", short(&value.to_string()))));
        };
        let is_feature =
            members.get("type").is_some_and(|kind| kind == "Feature") || members.contains_key("properties");
        if !is_feature && members.get("attributes").is_some_and(Value::is_object) {
            return Ok(Item::of_arcgis(members));
        }
        if !is_feature {
            return Ok(Item { values: members, geometry: Value::Null, quality: Vec::new() });
        }
        let mut take = |name: &str| members.remove(name).unwrap_or_default();
        // A feature's id numbers the rows of the service that publishes it.
        let [properties, geometry, ..] = ["properties", "geometry", "id", "type", "bbox"].map(&mut take);
        let values = match properties {
            Value::Object(values) => values,
            Value::Null => Map::new(),
            other => {
                let detail = format!("a feature's properties are no object: {}", short(&other.to_string()));
                return Err(Reject::new(Reason::BadJson, detail));
            }
        };
        Ok(Item { values, geometry, quality: unknown(&members) })
    }

    /// A feature as `f=json` gives it.
    fn of_arcgis(mut members: Map<String, Value>) -> Item {
        let mut take = |name: &str| members.remove(name).unwrap_or_default();
        let [attributes, sent] = ["attributes", "geometry"].map(&mut take);
        let mut quality = unknown(&members);
        let geometry = esri::geojson(&sent).unwrap_or_else(|problem| {
            quality.push(Quality::new("geometry", &problem, &sent.to_string()));
            Value::Null
        });
        let values = if let Value::Object(values) = attributes { values } else { Map::new() };
        Item { values, geometry, quality }
    }
}

/// What a feature has beside its known members.
fn unknown(members: &Map<String, Value>) -> Vec<Quality> {
    let unknown = members.iter().take(UNREAD_NAMED);
    let note = |(name, value): (&String, &Value)| {
        Quality::new(&short(name), "this member of a feature is not understood", &value.to_string())
    };
    unknown.map(note).collect()
}

/// The members of an object, each with its own bytes.
///
/// # Errors
/// `bad_json`, `too_large`.
pub(crate) fn members(body: &Bytes) -> Result<BTreeMap<String, &RawValue>, Reject> {
    let Members(members) = serde_json::from_slice(json::bounded(body, RESPONSE_BYTES)?).map_err(bad)?;
    Ok(members)
}

/// An object's members. A name that is given twice is refused: one of its values would be lost.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'a>, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = BTreeMap<String, &'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if members.contains_key(&name) {
                        return Err(A::Error::custom(format!("{:?} is given twice", short(&name))));
                    }
                    members.insert(name, value);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Each).map(Members)
    }
}

/// What a service's problem document says (RFC 9457), which a number under `status` gives away; `None` for any other body.
pub(crate) fn problem(body: &Bytes) -> Option<Reject> {
    let head = members(body).ok()?;
    let is_problem = head.contains_key("title") && head.get("status")?.get().parse::<u16>().is_ok();
    is_problem.then(|| Reject::new(Reason::NotData, said(&head).unwrap_or_default()))
}

/// What an object says of an error, in which a reader found nothing of its own; `None` when it says none.
pub(crate) fn complaint(body: &Bytes) -> Option<Reject> {
    said(&members(body).ok()?).map(|said| Reject::new(Reason::NotData, said))
}

fn bad(e: serde_json::Error) -> Reject {
    Reject::new(Reason::BadJson, e.to_string())
}

/// What an object says of an error.
fn said(head: &BTreeMap<String, &RawValue>) -> Option<String> {
    ["detail", "title", "message", "error", "error_message", "description"].iter().find_map(|name| {
        let said = head.get(*name)?;
        Some(format!("{name}: {}", short(said.get())))
    })
}

/// What an object says that is no data: services put their errors into it, also under the status 200.
fn told(head: &BTreeMap<String, &RawValue>, lists: &[&str]) -> String {
    let says = said(head);
    let names: Vec<&str> = head.keys().map(String::as_str).take(10).collect();
    let has = says
        .unwrap_or_else(|| format!("it has {}", if names.is_empty() { "nothing".into() } else { names.join(", ") }));
    format!("an object without {}; {has}", lists.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Result<(Vec<Bytes>, Value), Reject> {
        let body = Bytes::from_static(text.as_bytes());
        let document = Document::read(&body, &["features", "Incidents"])?;
        let title = document.head("title");
        Ok((document.collect(), title))
    }

    #[test]
    fn s9_items_keep_their_own_bytes() {
        let (items, title) = read(r#"{"title": "x", "features": [{"a": 1.50}, 2]}"#).unwrap();
        assert_eq!((items.as_slice(), title), (&[Bytes::from_static(br#"{"a": 1.50}"#), "2".into()][..], "x".into()));
        assert_eq!(read("\u{feff} [1]").unwrap().0, ["1"]);
        assert_eq!(read(r#"{"Incidents": []}"#).unwrap().0, [""; 0]);
    }

    #[test]
    fn an_item_alone_and_a_feature_are_told_from_a_document() {
        let body = Bytes::from_static(br#" {"type": "Feature", "properties": {"a": 1}, "id": 7, "extra": 2} "#);
        let items: Vec<Bytes> = Document::read_or_one(&body, &["features"], &["properties"]).unwrap().collect();
        assert_eq!(items, [body.slice(1..body.len() - 1)]);
        assert!(Document::read_or_one(&body, &["features"], &["UniqueId"]).is_err());
        let item = Item::read(&items[0]).unwrap();
        assert_eq!((item.values.len(), item.quality[0].field.as_str()), (1, "extra"));
        let long = format!(r#"{{"a": "{}"}}"#, "x".repeat(ITEM_BYTES));
        assert_eq!(Item::read(long.as_bytes()).unwrap_err().reason, Reason::TooLarge);
        assert!(Item::read(b"[1]").is_err() && Item::read(br#"{"properties": 1}"#).is_err());
        let mercator = Bytes::from_static(br#"{"features": [], "crs": {"properties": {"name": "EPSG:3857"}}}"#);
        assert!(Document::read(&mercator, &["features"]).unwrap().in_degrees().is_err());
    }

    #[test]
    fn s10_an_error_inside_of_an_answer_is_told() {
        let detail = |text| read(text).unwrap_err().detail;
        assert_eq!(
            detail(r#"{"title": "Not Found", "detail": "no such zone"}"#),
            r#"an object without features or Incidents; detail: "no such zone""#
        );
        assert_eq!(detail(r#"{"type": "FeatureCollection"}"#), "an object without features or Incidents; it has type");
        assert_eq!(read("{'a': 1}").unwrap_err().reason, Reason::BadJson);
        assert_eq!(read(r#"{"features": 1}"#).unwrap_err().reason, Reason::BadJson);
        let twice = read(r#"{"features": [{}], "features": []}"#).unwrap_err();
        assert!(twice.detail.contains("\"features\" is given twice"), "{}", twice.detail);
    }
}
