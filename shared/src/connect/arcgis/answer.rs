//! What ArcGIS's answers say [S13]: the layer's own document, a count, a page of rows, or an error, which can come with any
//! status. What is not whole is refused whole.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::query::{Form, Query};
use crate::connect::SourceError;
use crate::connect::politeness::{BUSY_WAIT, retry_after};
use crate::decode::{esri, form, items, short};
use crate::limits::LAYER_PAGE;
use crate::time::Timestamp;
use crate::upstream::Response;

/// The members of an answer that is no error.
pub(super) fn members(response: &Response, now: Timestamp) -> Result<BTreeMap<String, &RawValue>, SourceError> {
    let status = response.status;
    let head = items::members(&response.body);
    if let Ok(head) = &head
        && let Some(error) = head.get("error")
    {
        return Err(match (told(status, error, now), retry_after(response, now)) {
            // The header is the one that says until when.
            (SourceError::Busy { said, .. } | SourceError::Failed(said) | SourceError::Refused(said), Some(until)) => {
                SourceError::Busy { until, said }
            }
            (told, _) => told,
        });
    }
    let text = || {
        let start = &response.body[..response.body.len().min(400)];
        short(String::from_utf8_lossy(start).trim())
    };
    if let Some(until) = retry_after(response, now) {
        return Err(SourceError::Busy { until, said: format!("status {status}: {:?}", text()) });
    }
    match status {
        200 => head.map_err(|reject| {
            let problem = form::told(reject, &response.body);
            SourceError::Failed(format!(
                "the answer is no JSON object, or was cut off: {}: {:?}",
                problem.detail,
                text()
            ))
        }),
        429 | 503 => Err(SourceError::Busy { until: now + BUSY_WAIT, said: format!("status {status}: {:?}", text()) }),
        300..=399 => {
            let to = response.header("location").map(short).unwrap_or_default();
            Err(SourceError::Failed(format!("status {status}: the service has moved to {to:?}")))
        }
        _ => Err(SourceError::Failed(format!("status {status}: {:?}", text()))),
    }
}

/// An `error` member, by its code, in the service's own words.
fn told(status: u16, error: &RawValue, now: Timestamp) -> SourceError {
    let error: Value = serde_json::from_str(error.get()).unwrap_or_default();
    let words = error["message"].as_str().unwrap_or("without a message");
    let details: Vec<&str> = error["details"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let all = format!("{words} {}", details.join(" "));
    let code = error["code"].as_u64().unwrap_or_default();
    let said: String = format!("status {status}, error {code}: {}", all.trim()).chars().take(300).collect();
    let is_busy = |code| matches!(code, 429 | 503);
    match code {
        _ if is_busy(code) || is_busy(status.into()) || all.contains("Too many requests") => {
            SourceError::Busy { until: now + asked_wait(&all).unwrap_or(BUSY_WAIT), said }
        }
        400 | 401 | 403 | 404 | 498 | 499 => SourceError::Refused(said),
        _ => SourceError::Failed(said),
    }
}

/// `Retry after 60 sec.`
fn asked_wait(text: &str) -> Option<Duration> {
    let (_, after) = text.split_once("Retry after ")?;
    let seconds = after.split(' ').next()?.parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds.clamp(1, 3600)))
}

/// Names of coded values by field and code.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Names(BTreeMap<String, BTreeMap<String, String>>);

impl Names {
    /// Puts names in the place of codes.
    pub(crate) fn apply(&self, values: &mut Map<String, Value>) {
        for (field, names) in &self.0 {
            if let Some(value) = values.get_mut(field)
                && let Some(name) = code(value).and_then(|code| names.get(&code))
            {
                *value = name.clone().into();
            }
        }
    }

    fn read(fields: &[Value]) -> Names {
        let mut names = BTreeMap::new();
        for field in fields {
            let coded = field["domain"]["codedValues"].as_array().into_iter().flatten();
            let coded: BTreeMap<String, String> =
                coded.filter_map(|value| Some((code(&value["code"])?, value["name"].as_str()?.to_owned()))).collect();
            if let (Some(field), false) = (field["name"].as_str(), coded.is_empty()) {
                names.insert(field.to_owned(), coded);
            }
        }
        Names(names)
    }
}

/// A code is a text or a number.
fn code(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What a layer says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LayerDocument {
    /// The field that numbers its rows.
    pub(super) object_id: String,
    /// When a row was last changed, in milliseconds since 1970; `None` where it does not say.
    pub(super) edited: Option<i64>,
    /// Whether it gives rows from an offset on.
    pub(super) pages: bool,
    pub(super) names: Names,
    pub(super) fields: Vec<String>,
    largest_page: u64,
    geojson: bool,
}

impl LayerDocument {
    pub(super) fn read(head: &BTreeMap<String, &RawValue>) -> Result<LayerDocument, SourceError> {
        let member = |name: &str| -> Value {
            head.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
        };
        let Value::Array(fields) = member("fields") else {
            let has: Vec<&str> = head.keys().map(String::as_str).take(10).collect();
            return Err(SourceError::Refused(format!("it is no layer: it has no fields but {}", has.join(", "))));
        };
        let names: Vec<String> = fields.iter().filter_map(|field| Some(field["name"].as_str()?.to_owned())).collect();
        let of_type = || fields.iter().find(|field| field["type"] == "esriFieldTypeOID");
        let object_id = member("objectIdField").as_str().map(str::to_owned);
        let object_id = object_id.or_else(|| Some(of_type()?["name"].as_str()?.to_owned())).ok_or_else(|| {
            SourceError::Refused("no field numbers the layer's rows: they cannot be asked for in an order".into())
        })?;
        let edits = member("editingInfo");
        let edited =
            ["dataLastEditDate", "lastEditDate"].iter().find_map(|name| edits[*name].as_i64().filter(|at| *at > 0));
        let formats = member("supportedQueryFormats").as_str().unwrap_or_default().to_ascii_lowercase();
        let pages = member("advancedQueryCapabilities")["supportsPagination"].as_bool();
        Ok(LayerDocument {
            object_id,
            edited,
            pages: pages.or_else(|| member("supportsPagination").as_bool()).unwrap_or(false),
            names: Names::read(&fields),
            fields: names,
            largest_page: member("maxRecordCount").as_u64().filter(|count| *count > 0).unwrap_or(LAYER_PAGE),
            // A table has no shapes, and some servers refuse it as GeoJSON.
            geojson: formats.contains("geojson") && member("type") != "Table",
        })
    }

    /// As asked for, else the form that it has.
    pub(super) fn form(&self, query: &Query) -> Form {
        query.format.unwrap_or(if self.geojson { Form::GeoJson } else { Form::Json })
    }

    /// A wish above the largest page makes a service skip rows or give them twice.
    pub(super) fn page_size(&self) -> u64 {
        self.largest_page.min(LAYER_PAGE)
    }
}

/// The number of rows.
pub(super) fn count(head: &BTreeMap<String, &RawValue>) -> Result<u64, SourceError> {
    let count = head.get("count").and_then(|raw| raw.get().parse().ok());
    count.ok_or_else(|| SourceError::Failed("the number of its rows was asked for, and the answer has no count".into()))
}

/// The object ids of all rows, in their order; a layer without rows says `null`.
pub(super) fn ids(head: &BTreeMap<String, &RawValue>) -> Result<Vec<i64>, SourceError> {
    let ids: Option<Option<Vec<i64>>> = head.get("objectIds").and_then(|raw| serde_json::from_str(raw.get()).ok());
    let mut ids = ids.map(Option::unwrap_or_default).ok_or_else(|| {
        SourceError::Failed("the numbers of its rows were asked for, and the answer has no objectIds".into())
    })?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// One page of rows.
pub(super) struct Page<'a> {
    /// Each with its object id, where it has one that can be read.
    pub(super) rows: Vec<(Option<i64>, &'a RawValue)>,
    /// Whether there are more, as the service says.
    pub(super) exceeded: bool,
}

impl<'a> Page<'a> {
    pub(super) fn read(head: &BTreeMap<String, &'a RawValue>, object_id: &str) -> Result<Page<'a>, SourceError> {
        let failed = |problem: String| SourceError::Failed(problem);
        let list = head.get("features").ok_or_else(|| {
            let has: Vec<&str> = head.keys().map(String::as_str).take(10).collect();
            failed(format!("rows were asked for, and the answer has no features but {}", has.join(", ")))
        })?;
        let value = |name: &str| -> Value {
            head.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
        };
        if let Some(wkid) = esri::wkid(&value("spatialReference")).filter(|wkid| !esri::DEGREES.contains(wkid)) {
            return Err(failed(format!("degrees were asked for, and the answer is in the spatial reference {wkid}")));
        }
        let rows: Vec<&RawValue> =
            serde_json::from_str(list.get()).map_err(|e| failed(format!("features is no list: {e}")))?;
        let exceeded = value("exceededTransferLimit").as_bool().unwrap_or(false)
            || value("properties")["exceededTransferLimit"].as_bool().unwrap_or(false);
        Ok(Page { rows: rows.into_iter().map(|row| (id_of(row, object_id), row)).collect(), exceeded })
    }
}

/// A row as far as its number stands in it.
#[derive(Deserialize)]
struct Numbered<'a> {
    #[serde(borrow, default)]
    attributes: Option<&'a RawValue>,
    #[serde(borrow, default)]
    properties: Option<&'a RawValue>,
    #[serde(default)]
    id: Option<Value>,
}

fn id_of(row: &RawValue, object_id: &str) -> Option<i64> {
    let numbered: Numbered<'_> = serde_json::from_str(row.get()).ok()?;
    let named = numbered.attributes.or(numbered.properties).and_then(|fields| {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(fields.get()).ok()?;
        fields.get(object_id)?.get().parse().ok()
    });
    named.or_else(|| numbered.id?.as_i64())
}

/// A row's own bytes.
pub(super) fn bytes_of(body: &Bytes, row: &RawValue) -> Bytes {
    body.slice_ref(row.get().as_bytes())
}
