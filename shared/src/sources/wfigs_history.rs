//! WFIGS's perimeters and incidents of all years, read once from the first row to the last [S6, M1].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::wfigs::fire;
use super::{Id, Records, Services, Source, WrongFields, wfigs};
use crate::connect::arcgis::{self, Layer, LayerRow, Query, Reads};
use crate::connect::{Cursor, Progress};
use crate::decode::{Context, Format, Row};
use crate::limits::LAYER_BATCHES;
use crate::record::{SourceId, Tier, Topic};

pub(super) use super::wfigs::{FIRE, SERVICE};

/// As today's.
pub const FORMAT: Format = wfigs::FORMAT;

pub(super) static SOURCE: Source = Source {
    ids: &[Id { pattern: "historical_wfigs*", name: "WFIGS history", tier: Tier::Low, topic: Topic::HISTORICAL }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<wfigs::Fire>(),
        key: &["data.id"],
        in_order: true,
        lasting: true,
    }),
    service: Some(&SERVICE),
};

/// Which of the two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "WfigsLayer")]
pub enum What {
    /// Perimeters; whole since 2021, some of earlier years.
    Perimeters,
    /// Places of incidents, since 2014.
    Incidents,
}

/// A WFIGS history's `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WfigsHistoryConfig")]
pub struct Config {
    /// `perimeters` or `incidents`.
    pub layer: What,
    /// A condition in SQL, such as `attr_POOState = 'US-CA'`; all rows without one.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// West, south, east, north in degrees; rows anywhere without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area: Option<[f64; 4]>,
    /// Degrees by which the service may move a shape's lines to leave out points: 0.0001 is about ten metres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simplify: Option<f64>,
}

impl Config {
    fn query(&self) -> Query {
        Query { condition: self.condition.clone(), area: self.area, format: None, simplify: self.simplify }
    }

    /// Requests of one poll as a rule: document and page of each batch, and a count; where it begins, and where it ends, one or two more.
    pub fn requests(&self) -> usize {
        2 * LAYER_BATCHES as usize + 1
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongFields> {
        self.query().check()
    }

    pub(super) fn progress(&self, cursor: &Cursor) -> Progress {
        arcgis::progress(cursor)
    }
}

/// Rows of either layer.
pub(super) struct History;

impl Reads for History {
    fn reads_once(&self) -> bool {
        true
    }

    fn row(&self, row: LayerRow<'_>, context: Context<'_>) -> Row {
        fire(row.item, row.origin, context.source)
    }
}

pub(super) fn connector(config: Config, _: SourceId, services: &Services) -> Result<Layer<History>, String> {
    let layer = match config.layer {
        What::Perimeters => "WFIGS_Interagency_Perimeters",
        What::Incidents => "WFIGS_Incident_Locations",
    };
    let url = format!("{}/{layer}/FeatureServer/0", services.address(&SERVICE));
    Ok(Layer { url, query: config.query(), reads: History })
}
