//! CAP written as JSON, as MoWaS and others publish it: the element names are the keys, repeated elements a list. It becomes
//! the tree that XML becomes, so that both are judged by the same rules; a key that stands twice stays visible as such.

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::cap;
use crate::decode::xml::Element;
use crate::decode::{Context, Row, json};
use crate::error::{Reason, Reject};
use crate::limits::ALERT_BYTES;

pub(super) fn row(body: &Bytes, context: Context<'_>) -> Row {
    let text = json::bounded(body, ALERT_BYTES)?;
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let read = Elements("alert").deserialize(&mut deserializer).and_then(|read| deserializer.end().map(|()| read));
    let mut read = read.map_err(|e| Reject::new(Reason::BadJson, e.to_string()))?;
    let alert = read.pop().ok_or_else(|| Reject::new(Reason::BadJson, "the JSON holds no alert"))?;
    cap::row(&alert, "cap-json", Vec::new(), context)
}

/// The elements that the value of this key stands for: none for null, one for a text or an object, several for a list.
#[derive(Clone, Copy)]
struct Elements<'n>(&'n str);

impl Elements<'_> {
    fn of(self, text: String, children: Vec<Element>) -> Vec<Element> {
        vec![Element { name: self.0.to_owned(), text, children, ..Element::default() }]
    }
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = Vec<Element>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Element>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = Vec<Element>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CAP as JSON")
    }

    fn visit_unit<E>(self) -> Result<Vec<Element>, E> {
        Ok(Vec::new())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Vec<Element>, E> {
        Ok(self.of(value.to_string(), Vec::new()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Vec<Element>, E> {
        Ok(self.of(value.to_string(), Vec::new()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Vec<Element>, E> {
        Ok(self.of(value.to_string(), Vec::new()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Vec<Element>, E> {
        Ok(self.of(value.to_string(), Vec::new()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Vec<Element>, E> {
        Ok(self.of(text.to_owned(), Vec::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Element>, A::Error> {
        let mut all = Vec::new();
        while let Some(some) = list.next_element_seed(self)? {
            all.extend(some);
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Element>, A::Error> {
        let mut children = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            children.extend(map.next_value_seed(Elements(&key))?);
        }
        Ok(self.of(String::new(), children))
    }
}
