//! Power outages of California's utilities, gathered by Cal OES, polled as a layer [S13]. The layer has been a day behind while it
//! said `Active` of everything: what comes from a layer that has stopped is marked stale.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

pub(super) use super::zones::SERVICE;
use super::{Id, Records, Services, Source, guid, identify};
use crate::connect::arcgis::{self, Layer, LayerRow, Reads};
use crate::decode::head::Mark;
use crate::decode::named::Named;
use crate::decode::{Context, Format, Row, Rows, geometry};
use crate::error::{Reason, Reject};
use crate::record::{Data, Observation, SourceId, Tier, Topic, schema};
use crate::time::{self, Timestamp};

pub use crate::connect::arcgis::Query as Config;

pub(super) static SOURCE: Source = Source {
    ids: &[Id { pattern: "power_outages", name: "Power outages", tier: Tier::Normal, topic: Topic::INFRASTRUCTURE }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<Outage>(),
        key: &["data.utility", "data.id"],
        in_order: true,
        lasting: true,
    }),
    service: Some(&SERVICE),
};

/// The layer's rows in either form.
pub const FORMAT: Format = Format::new("power-outages", |body, context| -> Result<Rows<'_>, Reject> {
    arcgis::rows_of_file(body, context, |row, context| Outages.row(row, context))
})
.known_by(&[Mark::names("power_outages", &["UtilityCompany", "IncidentId"])]);

/// The layer changes every quarter of an hour: after this it has stopped.
const STALE: Duration = Duration::from_secs(2 * 3600);

/// One outage. `observed_at` is its start; when it came where that is not told, or lies ahead.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "PowerOutage", deny_unknown_fields)]
pub struct Outage {
    /// The utility.
    pub utility: Option<String>,
    /// The utility's own id of the outage, or the row's where there is none.
    pub id: String,
    /// Whether the layer had not changed for two hours when this was read, so that it may be over; null where the layer does not say.
    pub stale: Option<bool>,
    /// The layer's first change after it was stale last: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub fresh_again_at: Option<Timestamp>,
    /// `Active` and others, as sent.
    pub status: Option<String>,
    /// `Planned`, `Not Planned`.
    pub outage_type: Option<String>,
    /// Cause in words.
    pub cause: Option<String>,
    /// Customers without power.
    pub customers: Option<u64>,
    /// County.
    pub county: Option<String>,
    /// Start: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub started_at: Option<Timestamp>,
    /// When the utility expects it to end: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub restored_by: Option<Timestamp>,
    /// Every further attribute that is not null, as it was sent, but for the numbers of the publishing service's rows.
    pub attributes: Map<String, Value>,
}

/// The layer's rows as outages.
pub(super) struct Outages;

impl Reads for Outages {
    fn stale_after(&self) -> Option<Duration> {
        Some(STALE)
    }

    fn row(&self, row: LayerRow<'_>, context: Context<'_>) -> Row {
        outage(row, context)
    }
}

pub(super) fn connector(query: Config, _source: SourceId, services: &Services) -> Result<Layer<Outages>, String> {
    // Its name has brackets, which an address must not have.
    let url = format!("{}/Power_Outages_%28View%29/FeatureServer/0", services.address(&SERVICE));
    Ok(Layer { url, query, reads: Outages })
}

fn outage(row: LayerRow<'_>, context: Context<'_>) -> Row {
    let mut quality = row.item.quality;
    let shape = geometry::read(&row.item.geometry, &mut quality);
    let mut v = Named::new(row.item.values, quality);
    let of_row = v.text("id", &["GlobalID"]).and_then(|id| guid::normal(&id));
    let id = v.text("id", &["IncidentId"]).or(of_row).ok_or_else(|| {
        Reject::new(Reason::MissingField, "neither IncidentId nor GlobalID: nothing tells it from another")
    })?;
    let started_at = v.time("started_at", &["StartDate"]);
    let mut outage = Outage {
        utility: v.text("utility", &["UtilityCompany"]),
        id,
        stale: row.stale,
        fresh_again_at: row.fresh_again,
        status: v.text("status", &["OutageStatus"]),
        outage_type: v.text("outage_type", &["OutageType"]),
        cause: v.text("cause", &["Cause"]),
        customers: v.count("customers", &["ImpactedCustomers"]),
        county: v.text("county", &["County"]),
        started_at,
        restored_by: v.time("restored_by", &["EstimatedRestoreDate"]),
        attributes: Map::new(),
    };
    for own in ["OBJECTID", "FID"] {
        v.take(own, &[own]);
    }
    let (attributes, quality) = v.rest();
    outage.attributes = attributes;
    identify(Observation {
        origin: row.origin,
        source: context.source.clone(),
        // A planned one may be told before it begins.
        observed_at: started_at.unwrap_or(context.received_at).min(context.received_at),
        published_at: None,
        geometry: shape.geometry,
        position: shape.position,
        derived_from: None,
        quality,
        alert: None,
        data: Data::of(&outage)?,
        rank: 0,
    })
}
