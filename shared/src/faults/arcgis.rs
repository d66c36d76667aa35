//! A small double of an ArcGIS server for tests: one layer with its rows, and faults that strike the request of a poll that a
//! test names. It answers within the process as an upstream, and a test's own HTTP server can give out what it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::decode::esri;
use crate::limits::RESPONSE_BYTES;
use crate::upstream::{Request, Response, Unreachable, Upstream};

/// What befalls an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerFault {
    /// It comes after half a minute.
    Slow,
    /// 429 with `Retry-After`.
    TooMany,
    /// 403 with a page of a content network.
    Forbidden,
    /// 502 with a page.
    BadGateway,
    /// The first half of the body.
    Truncated,
    /// 200 with an error: a quota.
    QuotaInside,
    /// 200 with an error: the query is refused.
    ErrorInside,
    /// A layer without rows, in all answers.
    Empty,
    /// A page with half of its rows, without a word that there are more.
    ShortPage,
    /// The second page is empty and says that there are more, as often as it is asked for.
    EmptyPage,
    /// The same page whatever was asked for.
    SamePage,
    /// A time as a text, a number as a text.
    ChangedType,
    /// 302 to another host.
    Redirect,
    /// A body that does not end.
    Endless,
    /// A list in the place of the object.
    List,
}

impl LayerFault {
    /// Every fault.
    pub const ALL: [LayerFault; 15] = [
        LayerFault::Slow,
        LayerFault::TooMany,
        LayerFault::Forbidden,
        LayerFault::BadGateway,
        LayerFault::Truncated,
        LayerFault::QuotaInside,
        LayerFault::ErrorInside,
        LayerFault::Empty,
        LayerFault::ShortPage,
        LayerFault::EmptyPage,
        LayerFault::SamePage,
        LayerFault::ChangedType,
        LayerFault::Redirect,
        LayerFault::Endless,
        LayerFault::List,
    ];
}

/// A field's name and type, and its codes with their names.
pub type LayerField = (&'static str, &'static str, Vec<(&'static str, &'static str)>);

/// The layer as it is now.
#[derive(Debug, Clone)]
pub struct LayerState {
    /// Fields beside the row's number.
    pub fields: Vec<LayerField>,
    /// Attributes and a geometry in ArcGIS's own form, by the row's number.
    pub rows: BTreeMap<i64, (Map<String, Value>, Value)>,
    /// What `editingInfo` says; `None`: there is none.
    pub edited: Option<i64>,
    /// The largest page.
    pub largest_page: usize,
    /// Whether it can start a page behind an offset.
    pub pages: bool,
    /// Whether it has `f=geojson`.
    pub geojson: bool,
    /// Equal requests are answered as they were the first time.
    pub cached: bool,
    /// The fault that strikes the request with this number of all requests, and those after it while it stays.
    pub fault: Option<(LayerFault, usize)>,
}

/// The double.
pub struct LayerDouble {
    state: Mutex<LayerState>,
    asked: Mutex<Vec<String>>,
    cache: Mutex<BTreeMap<String, Response>>,
}

impl LayerDouble {
    /// A layer with these fields and no rows.
    pub fn new(fields: Vec<LayerField>) -> LayerDouble {
        let state = LayerState {
            fields,
            rows: BTreeMap::new(),
            edited: None,
            largest_page: 2_000,
            pages: true,
            geojson: true,
            cached: false,
            fault: None,
        };
        LayerDouble { state: Mutex::new(state), asked: Mutex::default(), cache: Mutex::default() }
    }

    /// Changes the layer.
    pub fn set(&self, change: impl FnOnce(&mut LayerState)) {
        change(&mut self.state.lock());
    }

    /// A row, of which the attributes are an object.
    pub fn put(&self, id: i64, attributes: Value, geometry: Value) {
        let Value::Object(attributes) = attributes else { return };
        self.state.lock().rows.insert(id, (attributes, geometry));
    }

    /// From the next request on.
    pub fn fails(&self, fault: Option<LayerFault>) {
        let next = self.asked.lock().len();
        self.state.lock().fault = fault.map(|fault| (fault, next));
    }

    /// The fault that strikes requests now.
    pub fn fault(&self) -> Option<LayerFault> {
        let asked = self.asked.lock().len();
        self.state.lock().fault.filter(|(_, from)| asked > *from).map(|(fault, _)| fault)
    }

    /// Path and query of every request so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }

    /// Whether this is asked for what the second page since the fault was asked for.
    fn is_second(&self, fault: Option<(LayerFault, usize)>, target: &str) -> bool {
        let part = |target: &str, name: &str| target.split('&').find(|part| part.contains(name)).map(str::to_owned);
        let place = |target: &str| (part(target, "where="), part(target, "resultOffset="));
        let asked = self.asked.lock();
        let since = asked.iter().skip(fault.map_or(0, |(_, from)| from));
        since
            .filter(|target| target.contains("resultOffset="))
            .nth(1)
            .is_some_and(|second| place(second) == place(target))
    }

    /// The answer, and how long it takes; an endless one is cut off where it is long enough.
    pub fn answer(&self, target: &str) -> (Duration, Response) {
        let number = {
            let mut asked = self.asked.lock();
            asked.push(target.to_owned());
            asked.len() - 1
        };
        let state = self.state.lock();
        let fault = state.fault.filter(|(_, from)| number >= *from).map(|(fault, _)| fault);
        let fault = fault.filter(|fault| *fault != LayerFault::EmptyPage || self.is_second(state.fault, target));
        let delay = if fault == Some(LayerFault::Slow) { Duration::from_secs(30) } else { Duration::ZERO };
        let (status, headers, body) = state.answer(target, fault);
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let response = Response { status, headers, body: body.into(), elapsed: delay };
        if !state.cached {
            return (delay, response);
        }
        (delay, self.cache.lock().entry(target.to_owned()).or_insert(response).clone())
    }
}

type Answered = (u16, Vec<(&'static str, &'static str)>, String);

impl LayerState {
    fn answer(&self, target: &str, fault: Option<LayerFault>) -> Answered {
        let page = |status: u16| {
            (status, vec![("content-type", "text/html")], "<!DOCTYPE html><html><body>no</body></html>".to_owned())
        };
        let error = |code: u16, message: &str, detail: &str| {
            let body = json!({"error": {"code": code, "message": message, "details": [detail]}});
            (200, Vec::new(), body.to_string())
        };
        match fault {
            Some(LayerFault::TooMany) => return (429, vec![("retry-after", "120")], "slow down".into()),
            Some(LayerFault::Forbidden) => return page(403),
            Some(LayerFault::BadGateway) => return page(502),
            Some(LayerFault::Redirect) => {
                return (302, vec![("location", "https://elsewhere.example/")], String::new());
            }
            Some(LayerFault::List) => return (200, Vec::new(), "[]".into()),
            Some(LayerFault::QuotaInside) => {
                return error(
                    429,
                    "Unable to perform query. Too many requests.",
                    "API calls quota exceeded! Retry after 60 sec.",
                );
            }
            Some(LayerFault::ErrorInside) => {
                return error(
                    400,
                    "Cannot perform query. Invalid query parameters.",
                    "'Invalid field: TEST' parameter is invalid",
                );
            }
            _ => {}
        }
        let body = self.body(target, fault).to_string();
        match fault {
            Some(LayerFault::Truncated) => (200, Vec::new(), body[..body.len() / 2].to_owned()),
            _ => (200, Vec::new(), body),
        }
    }

    fn body(&self, target: &str, fault: Option<LayerFault>) -> Value {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let value =
            |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).map(decoded);
        if !path.ends_with("/query") {
            return self.document();
        }
        let rows: Vec<_> = match fault {
            Some(LayerFault::Empty) => Vec::new(),
            _ => self.rows.iter().collect(),
        };
        let condition = value("where").filter(|_| fault != Some(LayerFault::SamePage)).unwrap_or_default();
        let bound = |operator: &str| -> Option<i64> {
            let (_, after) = condition.rsplit_once(&format!("OBJECTID {operator} "))?;
            after.split(' ').next()?.parse().ok()
        };
        let above = bound(">").or(bound(">=").map(|least| least - 1)).unwrap_or(i64::MIN);
        let rows: Vec<_> =
            rows.into_iter().filter(|(id, _)| **id > above && bound("<=").is_none_or(|most| **id <= most)).collect();
        if value("returnCountOnly").is_some() {
            return json!({ "count": rows.len() });
        }
        if value("returnIdsOnly").is_some() {
            let ids: Vec<i64> = rows.iter().rev().map(|(id, _)| **id).collect();
            return json!({"objectIdFieldName": "OBJECTID", "objectIds": if ids.is_empty() { Value::Null } else { ids.into() }});
        }
        if !self.pages
            && ["orderByFields", "resultOffset", "resultRecordCount"].iter().any(|name| value(name).is_some())
        {
            return json!({"error": {"code": 400, "message": "'Pagination is not supported' parameter is invalid", "details": []}});
        }
        let number = |name: &str| value(name).and_then(|text| text.parse::<usize>().ok());
        let size = number("resultRecordCount").unwrap_or(self.largest_page).min(self.largest_page);
        let offset =
            if self.pages && fault != Some(LayerFault::SamePage) { number("resultOffset").unwrap_or(0) } else { 0 };
        let rest: Vec<_> = rows.into_iter().skip(offset).collect();
        let (mut exceeded, mut page) = (rest.len() > size, rest);
        page.truncate(size);
        match fault {
            Some(LayerFault::ShortPage) => {
                page.truncate(page.len().div_ceil(2));
                exceeded = false;
            }
            Some(LayerFault::EmptyPage) => {
                page.clear();
                exceeded = true;
            }
            _ => {}
        }
        let changed = fault == Some(LayerFault::ChangedType);
        let geojson = value("f").as_deref() == Some("geojson");
        let features = page.into_iter().map(|(id, row)| feature(*id, row, geojson, changed)).collect::<Value>();
        if geojson {
            let properties = if exceeded { json!({"exceededTransferLimit": true}) } else { Value::Null };
            return json!({"type": "FeatureCollection", "properties": properties, "features": features});
        }
        let mut body =
            json!({"objectIdFieldName": "OBJECTID", "spatialReference": {"wkid": 4326}, "features": features});
        if exceeded {
            body["exceededTransferLimit"] = true.into();
        }
        body
    }

    fn document(&self) -> Value {
        let mut fields = vec![json!({"name": "OBJECTID", "type": "esriFieldTypeOID"})];
        for (name, kind, codes) in &self.fields {
            let mut field = json!({"name": name, "type": kind, "domain": null});
            if !codes.is_empty() {
                let coded: Value = codes.iter().map(|(code, name)| json!({"name": name, "code": code})).collect();
                field["domain"] = json!({"type": "codedValue", "name": "codes", "codedValues": coded});
            }
            fields.push(field);
        }
        let formats = if self.geojson { "JSON, geoJSON, PBF" } else { "JSON, AMF" };
        let mut document = json!({
            "id": 0, "name": "double", "type": "Feature Layer", "objectIdField": "OBJECTID",
            "maxRecordCount": self.largest_page, "supportedQueryFormats": formats,
            "advancedQueryCapabilities": {"supportsPagination": self.pages}, "fields": fields,
        });
        if let Some(at) = self.edited {
            document["editingInfo"] = json!({"lastEditDate": at, "schemaLastEditDate": 1, "dataLastEditDate": at});
        }
        document
    }
}

fn feature(id: i64, (attributes, geometry): &(Map<String, Value>, Value), geojson: bool, changed: bool) -> Value {
    let mut attributes = attributes.clone();
    attributes.insert("OBJECTID".into(), id.into());
    if changed {
        for value in attributes.values_mut().filter(|value| value.is_number()) {
            *value = format!("about {value}").into();
        }
        attributes.insert("OBJECTID".into(), id.into());
    }
    if geojson {
        let geometry = esri::geojson(geometry).unwrap_or_default();
        json!({"type": "Feature", "id": id, "properties": attributes, "geometry": geometry})
    } else {
        json!({"attributes": attributes, "geometry": geometry})
    }
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[async_trait]
impl Upstream for LayerDouble {
    async fn call(&self, request: &Request, within: Duration) -> Result<Response, Unreachable> {
        let url = request.url.reveal();
        let target = url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default();
        let (delay, response) = self.answer(&target);
        if self.fault() == Some(LayerFault::Endless) {
            return Err(Unreachable::TooLarge(RESPONSE_BYTES));
        }
        if delay > within {
            tokio::time::sleep(within).await;
            return Err(Unreachable::TimedOut(within));
        }
        Ok(Response { body: Bytes::clone(&response.body), ..response })
    }
}
