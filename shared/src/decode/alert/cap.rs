//! CAP 1.1 and 1.2 as XML, alone or nested in an EDXL-DE envelope or a feed: each alert element one row [E5]; entries that tell
//! an alert without such an element are read by `atom`. What its
//! values mean for routing is judged in `alert`. What CAP does not know, or allows once and finds twice, is never passed
//! over in silence.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::atom;
use super::references::{one_line, split};
use super::{Alert, Area, Beside, Info, Multimap, Resource, draft, required};
use crate::decode::xml::{self, Element, Found};
use crate::decode::{Context, Row, Rows};
use crate::error::{Reason, Reject};
use crate::limits::{ALERT_BYTES, RESPONSE_BYTES};
use crate::record::Quality;

pub(super) const CAP_1_1: &str = "urn:oasis:names:tc:emergency:cap:1.1";
pub(super) const CAP_1_2: &str = "urn:oasis:names:tc:emergency:cap:1.2";
/// What may hold alerts, and the element that holds one: without any of these they are data with no rows.
const ENVELOPES: [(&str, &str); 3] = [("feed", "entry"), ("alerts", "alert"), ("EDXLDistribution", "contentObject")];

/// What CAP allows once in an alert and decides over identity, order or the siren: twice, nothing is guessed.
const DECISIVE: [&str; 6] = ["identifier", "sender", "sent", "status", "msgType", "scope"];
const IN_ALERT: Known = Known {
    once: &["source", "restriction", "addresses", "note", "incidents"],
    many: &["identifier", "sender", "sent", "status", "msgType", "scope", "code", "references", "info"],
};
const IN_INFO: Known = Known {
    once: &[
        "language",
        "event",
        "urgency",
        "severity",
        "certainty",
        "audience",
        "effective",
        "onset",
        "expires",
        "senderName",
        "headline",
        "description",
        "instruction",
        "web",
        "contact",
    ],
    many: &["category", "responseType", "eventCode", "parameter", "resource", "area"],
};
const IN_RESOURCE: Known = Known { once: &["resourceDesc", "mimeType", "size", "uri", "digest"], many: &["derefUri"] };
const IN_AREA: Known = Known { once: &["areaDesc", "altitude", "ceiling"], many: &["polygon", "circle", "geocode"] };

/// An info element's texts: what stands in it once, and what may be given several times.
pub(super) fn texts_of_info() -> impl Iterator<Item = &'static str> {
    IN_INFO.once.iter().copied().chain(["category", "responseType"])
}

/// The elements of one level.
struct Known {
    once: &'static [&'static str],
    many: &'static [&'static str],
}

/// `preface`: where the XML begins, behind a text that is no part of it.
pub(super) fn rows<'a>(body: &'a Bytes, preface: Option<usize>, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let refused = |reject: Reject| reject.with_raw(body.clone());
    if body.len() > RESPONSE_BYTES {
        return Err(refused(too_large(body.len(), RESPONSE_BYTES)));
    }
    let (before, xml) = body.split_at(preface.unwrap_or(0));
    let said: Vec<Quality> = preface
        .map(|_| Quality::new("body", "has a text in front of its XML, which was left out", &visible(before)))
        .into_iter()
        .collect();
    // A wire service also ends with a control character.
    let end = xml.iter().rposition(|&byte| byte > b' ').map_or(0, |last| last + 1);
    let text = xml::text(if preface.is_some() { &xml[..end] } else { xml }).map_err(refused)?;
    let document = xml::read(&text, is_alert).map_err(refused)?;
    if document.found.is_empty() {
        if let Some(rows) = atom::rows(&text, context).map_err(refused)? {
            return Ok(rows);
        }
        let root = &document.root;
        let envelope = ENVELOPES.iter().find(|(envelope, _)| envelope == root);
        let problem = match envelope.map(|(_, part)| (part, document.children.get(*part))) {
            Some((_, None)) => return Ok(Box::new(std::iter::empty())),
            Some((part, Some(n))) => format!("none of the {n} <{part}> of this <{root}> holds a CAP 1.1 or 1.2 alert"),
            None => format!("<{root}> holds no CAP 1.1 or 1.2 alert"),
        };
        return Err(refused(Reject::new(Reason::NotData, problem)));
    }
    let single = document.root == "alert";
    let rows: Vec<Row> = document
        .found
        .iter()
        .enumerate()
        .map(|(n, found)| {
            cap(found, said.clone(), context).map_err(|reject| {
                if single {
                    reject.with_raw(body.clone())
                } else {
                    reject.at_row(n as u64 + 1).with_raw(text[found.span.clone()].as_bytes().to_vec())
                }
            })
        })
        .collect();
    Ok(Box::new(rows.into_iter()))
}

/// CAP without a namespace is taken too: senders forget it.
pub(super) fn is_alert(namespace: Option<&str>, name: &str) -> bool {
    name == "alert" && matches!(namespace, None | Some(CAP_1_1 | CAP_1_2))
}

fn too_large(bytes: usize, most: usize) -> Reject {
    Reject::new(Reason::TooLarge, format!("{bytes} bytes, {most} at most"))
}

fn visible(bytes: &[u8]) -> String {
    one_line(&String::from_utf8_lossy(bytes).replace(char::is_control, " "))
}

fn cap(found: &Found, said: Vec<Quality>, context: Context<'_>) -> Row {
    if found.span.len() > ALERT_BYTES {
        return Err(too_large(found.span.len(), ALERT_BYTES));
    }
    row(&found.element, if found.namespace.as_deref() == Some(CAP_1_1) { "cap-1.1" } else { "cap-1.2" }, said, context)
}

/// An alert element, however it was written. `quality`: what is already to be said of it.
pub(super) fn row(of: &Element, format: &'static str, mut quality: Vec<Quality>, context: Context<'_>) -> Row {
    if let Some(name) = DECISIVE.into_iter().find(|name| of.all(name).nth(1).is_some()) {
        return Err(Reject::new(Reason::BadXml, format!("{name} stands more than once in one alert")));
    }
    IN_ALERT.check(of, "", &mut quality);
    let alert = Alert {
        format,
        identifier: one_line(&required(of.value("identifier"), "identifier")?),
        sender: one_line(&required(of.value("sender"), "sender")?),
        sent: required(of.value("sent"), "sent")?,
        status: required(of.value("status"), "status")?,
        msg_type: required(of.value("msgType"), "msgType")?,
        scope: Some(required(of.value("scope"), "scope")?),
        source: text(of, "source"),
        restriction: text(of, "restriction"),
        addresses: text(of, "addresses"),
        code: texts(of, "code"),
        note: text(of, "note"),
        references: of.values("references").flat_map(split).collect(),
        incidents: text(of, "incidents"),
        info: of.all("info").enumerate().map(|(n, of)| info(of, &format!("info[{n}]."), &mut quality)).collect(),
        ..Alert::default()
    };
    draft(alert, Beside { quality, ..Beside::default() }, context)
}

impl Known {
    /// Names what stands twice, and what is not known at all.
    fn check(&self, of: &Element, within: &str, quality: &mut Vec<Quality>) {
        for name in self.once {
            if let Some(second) = of.all(name).nth(1) {
                let problem = "stands more than once: the first one is used";
                quality.push(Quality::new(&format!("{within}{name}"), problem, second.text.trim()));
            }
        }
        let is_known = |name: &str| self.once.contains(&name) || self.many.contains(&name);
        let unknown: BTreeSet<&str> =
            of.children.iter().map(|child| &*child.name).filter(|name| !is_known(name)).collect();
        for name in unknown {
            let text = of.value(name).unwrap_or_default();
            quality.push(Quality::new(&format!("{within}{name:.80}"), "is no element that CAP has here", text));
        }
    }
}

fn info(of: &Element, within: &str, quality: &mut Vec<Quality>) -> Info {
    IN_INFO.check(of, within, quality);
    Info {
        language: text(of, "language"),
        category: texts(of, "category"),
        event: text(of, "event"),
        response_type: texts(of, "responseType"),
        urgency: text(of, "urgency"),
        severity: text(of, "severity"),
        certainty: text(of, "certainty"),
        audience: text(of, "audience"),
        event_code: multimap(of, "eventCode"),
        effective: text(of, "effective"),
        onset: text(of, "onset"),
        expires: text(of, "expires"),
        ends: None,
        sender_name: text(of, "senderName"),
        headline: text(of, "headline"),
        description: text(of, "description"),
        instruction: text(of, "instruction"),
        web: text(of, "web"),
        contact: text(of, "contact"),
        parameter: multimap(of, "parameter"),
        resource: parts(of, "resource", within, |of, within| {
            IN_RESOURCE.check(of, within, quality);
            if let Some(file) = of.value("derefUri") {
                quality.push(Quality::new(
                    &format!("{within}derefUri"),
                    "is an embedded file, which is not published",
                    file,
                ));
            }
            resource(of)
        }),
        area: parts(of, "area", within, |of, within| {
            IN_AREA.check(of, within, quality);
            area(of)
        }),
    }
}

/// The children of that name, each read with its place in words.
fn parts<T>(of: &Element, name: &str, within: &str, mut read: impl FnMut(&Element, &str) -> T) -> Vec<T> {
    of.all(name).enumerate().map(|(n, part)| read(part, &format!("{within}{name}[{n}]."))).collect()
}

fn resource(of: &Element) -> Resource {
    Resource {
        resource_desc: text(of, "resourceDesc"),
        mime_type: text(of, "mimeType"),
        size: text(of, "size"),
        uri: text(of, "uri"),
        digest: text(of, "digest"),
    }
}

fn area(of: &Element) -> Area {
    // Empty ones are kept: an empty polygon is a fault that `quality` names.
    let shapes = |name| of.all(name).map(|shape| shape.text.trim().into()).collect();
    Area {
        area_desc: text(of, "areaDesc"),
        polygon: shapes("polygon"),
        circle: shapes("circle"),
        geocode: multimap(of, "geocode"),
        altitude: text(of, "altitude"),
        ceiling: text(of, "ceiling"),
    }
}

fn text(of: &Element, name: &str) -> Option<String> {
    of.value(name).map(str::to_owned)
}

fn texts(of: &Element, name: &str) -> Vec<String> {
    of.values(name).map(str::to_owned).collect()
}

fn multimap(of: &Element, name: &str) -> Multimap {
    let mut map = Multimap::new();
    for pair in of.all(name) {
        if let Some(key) = pair.value("valueName") {
            map.entry(key.to_owned()).or_default().push(pair.value("value").unwrap_or_default().to_owned());
        }
    }
    map
}
