//! What a stream asks a layer for, and the addresses of its requests. What an answer means is not here.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::LayerDocument;
use crate::sources::{WrongField, WrongFields, check_area};

/// How rows are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// `f=geojson`
    GeoJson,
    /// `f=json`, ArcGIS's own form.
    Json,
}

/// Which rows of a layer are asked for, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LayerQuery")]
pub struct Query {
    /// A condition in SQL, such as `POOState = 'US-CA'`; all rows without one.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// West, south, east, north in degrees; rows anywhere without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area: Option<[f64; 4]>,
    /// `geojson` or `json`; without it the first of them that the layer has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Form>,
    /// Degrees by which the service may move a shape's lines to leave out points: 0.0001 is about ten metres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simplify: Option<f64>,
}

/// Characters of a condition.
const CONDITION: usize = 1_000;
/// About ten kilometres.
const SIMPLIFY_MAX: f64 = 0.1;

impl Query {
    /// Requests of one poll as a rule: document, number and one page.
    pub fn requests(&self) -> usize {
        3
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongFields> {
        let condition = match &self.condition {
            Some(text) if text.trim().is_empty() || text.len() > CONDITION || text.contains(char::is_control) => {
                Err(WrongField::new("where", format!("a condition has 1 to {CONDITION} characters on one line")))
            }
            _ => Ok(()),
        };
        let simplify = match self.simplify {
            Some(degrees) if !(degrees > 0.0 && degrees <= SIMPLIFY_MAX) => {
                Err(WrongField::new("simplify", format!("{degrees} is not above 0 and at most {SIMPLIFY_MAX} degrees")))
            }
            _ => Ok(()),
        };
        WrongFields::all([condition, self.area.as_ref().map_or(Ok(()), check_area), simplify])
    }
}

/// The layer's own document; `at` keeps an answer to an earlier request from being given out of a cache.
pub(super) fn layer(url: &str, at: i64) -> String {
    format!("{url}?f=json&_ts={at}")
}

/// Which rows one request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A page in the order of their object ids, behind so many of those with an id above `above`.
    Behind { above: Option<i64>, offset: u64 },
    /// Those with these object ids, both included, of a layer that gives no pages.
    Between(i64, i64),
}

/// How many rows there are with an object id above `above`.
pub(super) fn count(url: &str, query: &Query, above: Option<(&str, i64)>, at: i64) -> String {
    let mut address = rows_of(url, query, above.map(|(id, above)| format!("{id} > {above}")), at);
    address.push_str("&returnCountOnly=true&f=json");
    address
}

/// The object ids of all rows.
pub(super) fn ids(url: &str, query: &Query, at: i64) -> String {
    let mut address = rows_of(url, query, None, at);
    address.push_str("&returnIdsOnly=true&f=json");
    address
}

/// Some of the rows.
pub(super) fn page(url: &str, query: &Query, layer: &LayerDocument, part: Part, at: i64) -> String {
    let id = &layer.object_id;
    let within = match part {
        Part::Behind { above, .. } => above.map(|above| format!("{id} > {above}")),
        Part::Between(first, last) => Some(format!("{id} >= {first} AND {id} <= {last}")),
    };
    let mut address = rows_of(url, query, within, at);
    let form = if layer.form(query) == Form::GeoJson { "geojson" } else { "json" };
    // A String takes what is written.
    let _ = write!(address, "&outFields=*&outSR=4326&geometryPrecision=6&f={form}");
    if let Part::Behind { offset, .. } = part {
        let (order, size) = (encoded(id), layer.page_size());
        let _ = write!(address, "&orderByFields={order}&resultRecordCount={size}&resultOffset={offset}");
    }
    if let Some(degrees) = query.simplify {
        let _ = write!(address, "&maxAllowableOffset={degrees}");
    }
    address
}

fn rows_of(url: &str, query: &Query, within: Option<String>, at: i64) -> String {
    let condition = match (&query.condition, within) {
        (Some(condition), Some(within)) => format!("({condition}) AND {within}"),
        (Some(condition), None) => condition.clone(),
        (None, within) => within.unwrap_or_else(|| "1=1".into()),
    };
    let mut address = format!("{url}/query?where={}&_ts={at}", encoded(&condition));
    if let Some([west, south, east, north]) = query.area {
        let _ = write!(
            address,
            "&geometry={west},{south},{east},{north}&geometryType=esriGeometryEnvelope&inSR=4326&spatialRel=esriSpatialRelIntersects"
        );
    }
    address
}

/// As a value in a query.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// The part of a layer's address that all services of its server, or of its owner on a shared one, have.
pub(crate) fn services_of(url: &str) -> &str {
    const SERVICES: &str = "/rest/services";
    url.find(SERVICES).map_or(url, |at| &url[..at + SERVICES.len()])
}

/// A layer's address, without a slash at its end.
///
/// # Errors
/// The rule that it breaks.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    let number = url.rsplit('/').next().unwrap_or_default();
    let is_layer = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let of_service = ["/FeatureServer/", "/MapServer/"].iter().any(|kind| url.contains(kind));
    let scheme = url.starts_with("https://") || url.starts_with("http://");
    if !scheme || url.contains(|c: char| matches!(c, '?' | '#' | '@') || c.is_whitespace() || c.is_control()) {
        return Err(format!("{url:?} is not an address that begins with https:// and has no query"));
    }
    if is_layer && of_service {
        Ok(())
    } else {
        Err(format!(
            "{url:?} does not end with /FeatureServer/ or /MapServer/ and a layer's number, such as …/FeatureServer/0"
        ))
    }
}
