//! CAP 1.1 and 1.2 as XML, alone or nested in an EDXL-DE envelope or a feed: each alert element one row [E5]. What its
//! values mean for routing is judged in `alert`.

use bytes::Bytes;

use super::{Alert, Area, Beside, Info, Multimap, Resource, draft, required};
use crate::decode::xml::{self, Element, Found};
use crate::decode::{Context, Row, Rows};
use crate::error::{Reason, Reject};
use crate::limits::{ALERT_BYTES, RESPONSE_BYTES};

const CAP_1_1: &str = "urn:oasis:names:tc:emergency:cap:1.1";
const CAP_1_2: &str = "urn:oasis:names:tc:emergency:cap:1.2";
/// What may hold alerts, and the element that holds one: without any of these they are data with no rows.
const ENVELOPES: [(&str, &str); 2] = [("feed", "entry"), ("EDXLDistribution", "contentObject")];

pub(super) fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let refused = |reject: Reject| reject.with_raw(body.clone());
    if body.len() > RESPONSE_BYTES {
        return Err(refused(too_large(body.len(), RESPONSE_BYTES)));
    }
    let text = xml::text(body).map_err(refused)?;
    let document = xml::read(&text, is_alert).map_err(refused)?;
    if document.found.is_empty() {
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
            row(found, context).map_err(|reject| {
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
fn is_alert(namespace: Option<&str>, name: &str) -> bool {
    name == "alert" && matches!(namespace, None | Some(CAP_1_1 | CAP_1_2))
}

fn too_large(bytes: usize, most: usize) -> Reject {
    Reject::new(Reason::TooLarge, format!("{bytes} bytes, {most} at most"))
}

fn row(found: &Found, context: Context<'_>) -> Row {
    if found.span.len() > ALERT_BYTES {
        return Err(too_large(found.span.len(), ALERT_BYTES));
    }
    let of = &found.element;
    let alert = Alert {
        format: if found.namespace.as_deref() == Some(CAP_1_1) { "cap-1.1" } else { "cap-1.2" },
        identifier: required(of.value("identifier"), "identifier")?,
        sender: required(of.value("sender"), "sender")?,
        sent: required(of.value("sent"), "sent")?,
        status: required(of.value("status"), "status")?,
        msg_type: required(of.value("msgType"), "msgType")?,
        scope: Some(required(of.value("scope"), "scope")?),
        source: text(of, "source"),
        restriction: text(of, "restriction"),
        addresses: text(of, "addresses"),
        code: texts(of, "code"),
        note: text(of, "note"),
        references: of.values("references").flat_map(str::split_whitespace).map(str::to_owned).collect(),
        incidents: text(of, "incidents"),
        info: of.all("info").map(info).collect(),
        ..Alert::default()
    };
    draft(alert, Beside::default(), context)
}

fn info(of: &Element) -> Info {
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
        sender_name: text(of, "senderName"),
        headline: text(of, "headline"),
        description: text(of, "description"),
        instruction: text(of, "instruction"),
        web: text(of, "web"),
        contact: text(of, "contact"),
        parameter: multimap(of, "parameter"),
        resource: of.all("resource").map(resource).collect(),
        area: of.all("area").map(area).collect(),
    }
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
