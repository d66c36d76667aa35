//! Entries of an ATOM feed that tell an alert in CAP's own words without an alert element, as NWS's does: each one row [S17]. What
//! is missing in an entry, and how it is named there, is known here; the rest is read as CAP.

use super::cap::{self, CAP_1_1, CAP_1_2};
use super::references::one_line;
use super::{NWS, NWS_IDS};
use crate::decode::xml::{self, Element, Found};
use crate::decode::{Context, Row, Rows};
use crate::error::Reject;
use crate::record::Quality;

const ATOM: &str = "http://www.w3.org/2005/Atom";

pub(super) fn is_entry(namespace: Option<&str>, name: &str) -> bool {
    name == "entry" && matches!(namespace, None | Some(ATOM))
}

/// Whether the entry tells what decides over an alert. One that tells less is only a reference to it.
pub(super) fn carries(entry: &Element) -> bool {
    ["status", "msgType", "sent"].into_iter().all(|name| entry.value(name).is_some())
}

/// One row an entry that carries an alert; `None` when none does.
pub(super) fn rows(text: &str, context: Context<'_>) -> Result<Option<Rows<'static>>, Reject> {
    if !text.contains(CAP_1_1) && !text.contains(CAP_1_2) {
        return Ok(None);
    }
    let document = xml::read_all(text, is_entry)?;
    let carrying = document.found.iter().zip(1..).filter(|(found, _)| carries(&found.element));
    let rows: Vec<Row> = carrying
        .map(|(Found { element, span, .. }, n)| {
            row(element, context).map_err(|reject| reject.at_row(n).with_raw(text[span.clone()].as_bytes().to_vec()))
        })
        .collect();
    Ok((!rows.is_empty()).then(|| -> Rows<'static> { Box::new(rows.into_iter()) }))
}

fn row(entry: &Element, context: Context<'_>) -> Row {
    let mut quality = Vec::new();
    let mut said = |field: &str, problem: &str| {
        quality.push(Quality { field: field.into(), problem: problem.into(), raw: None });
    };
    let told = |name: &str| entry.value(name).map(str::to_owned);
    let identifier = told("identifier").or_else(|| told("id").map(|id| name_of(&id)));
    let sender = told("sender").or_else(|| {
        let is_nws = identifier.as_deref().is_some_and(|id| id.starts_with(NWS_IDS));
        is_nws.then(|| {
            said("sender", "is missing: NWS's own stands for it, whose id this is");
            NWS.to_owned()
        })
    });
    let scope = told("scope").unwrap_or_else(|| {
        said("scope", "is missing: a feed that anybody may read is public");
        "Public".to_owned()
    });
    let mut alert = Element { name: "alert".into(), ..Element::default() };
    for (name, text) in [("identifier", identifier), ("sender", sender), ("scope", Some(scope))] {
        alert.children.extend(text.map(|text| leaf(name, &text)));
    }
    for name in ["sent", "status", "msgType", "source", "note", "references", "incidents", "code"] {
        alert.children.extend(entry.values(name).map(|text| leaf(name, text)));
    }
    alert.children.push(info(entry));
    cap::row(&alert, "cap-atom", quality, context)
}

/// The message's own id out of the address that an entry has for one.
fn name_of(id: &str) -> String {
    one_line(id.find("urn:oid:").map_or(id, |at| &id[at..]))
}

fn info(entry: &Element) -> Element {
    let mut info = Element { name: "info".into(), ..Element::default() };
    for name in cap::texts_of_info() {
        info.children.extend(entry.values(name).map(|text| leaf(name, text)));
    }
    for (name, own) in [("headline", "title"), ("description", "summary")] {
        if let (None, Some(text)) = (info.value(name), entry.value(own)) {
            info.children.push(leaf(name, text));
        }
    }
    for name in ["eventCode", "parameter"] {
        info.children.extend(entry.all(name).flat_map(pairs).map(|(system, value)| pair(name, system, value)));
    }
    let mut area = Element { name: "area".into(), ..Element::default() };
    area.children.extend(entry.value("areaDesc").map(|text| leaf("areaDesc", text)));
    for name in ["polygon", "circle"] {
        area.children.extend(entry.values(name).map(|text| leaf(name, text)));
    }
    // Several codes of one system stand in one element, with blanks between them.
    for (system, values) in entry.all("geocode").flat_map(pairs) {
        area.children.extend(values.split_whitespace().map(|value| pair("geocode", system, value)));
    }
    if !area.children.is_empty() {
        info.children.push(area);
    }
    info
}

/// Names and values in their order: one element holds several pairs.
fn pairs(of: &Element) -> Vec<(&str, &str)> {
    let (mut system, mut pairs) = ("", Vec::new());
    for child in &of.children {
        match child.name.as_str() {
            "valueName" => system = child.text.trim(),
            "value" if !system.is_empty() => pairs.push((system, child.text.trim())),
            _ => {}
        }
    }
    pairs
}

fn pair(name: &str, system: &str, value: &str) -> Element {
    let children = vec![leaf("valueName", system), leaf("value", value)];
    Element { name: name.into(), children, ..Element::default() }
}

fn leaf(name: &str, text: &str) -> Element {
    Element { name: name.into(), text: text.into(), ..Element::default() }
}
