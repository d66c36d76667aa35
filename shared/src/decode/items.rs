//! JSON documents that hold many records in a list. Each item keeps its own bytes, so that a broken one costs itself alone
//! [S9]; no source's rules live here.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{json, short};
use crate::error::{Reason, Reject};
use crate::limits::RESPONSE_BYTES;

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
        let text = json::bounded(body, RESPONSE_BYTES)?;
        let is_list = text.trim_ascii_start().first() == Some(&b'[');
        if is_list {
            let items: Vec<&RawValue> = serde_json::from_slice(text).map_err(bad)?;
            return Ok(Document { body, head: BTreeMap::new(), items: items.into_iter() });
        }
        let mut head = members(body)?;
        let Some(list) = lists.iter().find_map(|name| head.remove(*name)) else {
            return Err(Reject::new(Reason::NotData, told(&head, lists)));
        };
        let items: Vec<&RawValue> = serde_json::from_str(list.get())
            .map_err(|e| Reject::new(Reason::BadJson, format!("{} is no list: {e}", lists.join(" or "))))?;
        Ok(Document { body, head, items: items.into_iter() })
    }

    /// A member beside the items; null where there is none.
    pub(crate) fn head(&self, name: &str) -> Value {
        self.head.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }
}

/// The bytes of each item, a part of the body's.
impl Iterator for Document<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.items.next().map(|item| self.body.slice_ref(item.get().as_bytes()))
    }
}

/// The members of an object, each with its own bytes.
///
/// # Errors
/// `bad_json`, `too_large`.
pub(crate) fn members(body: &Bytes) -> Result<BTreeMap<String, &RawValue>, Reject> {
    serde_json::from_slice(json::bounded(body, RESPONSE_BYTES)?).map_err(bad)
}

/// What a service's problem document says (RFC 9457), which a number under `status` gives away; `None` for any other body.
pub(crate) fn problem(body: &Bytes) -> Option<Reject> {
    let head = members(body).ok()?;
    let is_problem = head.contains_key("title") && head.get("status")?.get().parse::<u16>().is_ok();
    is_problem.then(|| Reject::new(Reason::NotData, said(&head).unwrap_or_default()))
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
    fn s10_an_error_inside_of_an_answer_is_told() {
        let detail = |text| read(text).unwrap_err().detail;
        assert_eq!(
            detail(r#"{"title": "Not Found", "detail": "no such zone"}"#),
            r#"an object without features or Incidents; detail: "no such zone""#
        );
        assert_eq!(detail(r#"{"type": "FeatureCollection"}"#), "an object without features or Incidents; it has type");
        assert_eq!(read("{'a': 1}").unwrap_err().reason, Reason::BadJson);
        assert_eq!(read(r#"{"features": 1}"#).unwrap_err().reason, Reason::BadJson);
    }
}
