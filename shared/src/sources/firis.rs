//! Perimeters that California's aircraft (FIRIS) and CAL FIRE map, hours ahead of WFIGS, polled as a layer [S13]: the whole
//! season, several of each fire.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Areas, Id, Join, Records, Service, Services, Source, guid, identify};
use crate::connect::arcgis::{self, Layer, LayerRow, Reads};
use crate::decode::head::Mark;
use crate::decode::named::Named;
use crate::decode::{Context, Format, Row, Rows, geometry};
use crate::error::{Reason, Reject};
use crate::record::{Data, Observation, SourceId, Tier, Topic, schema};
use crate::time::{self, Timestamp, rfc3339};

pub use crate::connect::arcgis::Query as Config;

pub(super) static SERVICE: Service = Service {
    name: "FIRIS's layers",
    address: "https://services1.arcgis.com/jUJYIo9tSA7EHvfZ/arcgis/rest/services",
    address_setting: "FIRIS_BASE_URL",
    address_parameter: "FirisBaseUrl",
    key_setting: None,
    manners: arcgis::MANNERS,
};

pub(super) static SOURCE: Source = Source {
    ids: &[Id {
        pattern: "firis_perimeters",
        name: "FIRIS fire perimeters",
        tier: Tier::Normal,
        topic: Topic::INCIDENTS,
    }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<MappedFire>(),
        key: &["data.id"],
        in_order: true,
        lasting: true,
    }),
    service: Some(&SERVICE),
};

/// Perimeters have a name at best: one of several fires near is theirs by it.
pub(super) static FIRE: Join = Join::Areas(Areas { reach_km: 6.0, name: Some("incident_name"), only: None });

/// The layer's rows in either form.
pub const FORMAT: Format = Format::new("firis", |body, context| -> Result<Rows<'_>, Reject> {
    arcgis::rows_of_file(body, context, |row, context| Firis.row(row, context))
})
.known_by(&[Mark::names("firis_perimeters", &["mission", "poly_DateCurrent"])]);

/// One perimeter as it was mapped once. `observed_at` is when it was mapped, or its row's last change where that is not told.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "FirisPerimeter", deny_unknown_fields)]
pub struct MappedFire {
    /// What names it for good: its own id, or its mission, its kind and when it was mapped.
    pub id: String,
    /// The fire's name; many perimeters have none yet.
    pub incident_name: Option<String>,
    /// The fire's number; many perimeters have none yet.
    pub incident_number: Option<String>,
    /// The flight that mapped it, such as `CA-UNIT-NAME-N57B`.
    pub mission: Option<String>,
    /// Who mapped it, such as `FIRIS`.
    pub mapped_by: Option<String>,
    /// What it is, such as `Heat Perimeter`.
    pub perimeter_type: Option<String>,
    /// `Active` or `Inactive`.
    pub display_status: Option<String>,
    /// Area in acres.
    pub acres: Option<f64>,
    /// When it was mapped: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub mapped_at: Option<Timestamp>,
    /// Last change of its row: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub edited_at: Option<Timestamp>,
    /// Every further attribute that is not null, as it was sent, but for the numbers and measures of the publishing service's rows.
    pub attributes: Map<String, Value>,
}

/// The layer's rows as perimeters.
pub(super) struct Firis;

impl Reads for Firis {
    fn row(&self, row: LayerRow<'_>, context: Context<'_>) -> Row {
        perimeter(row, context)
    }
}

pub(super) fn connector(query: Config, _source: SourceId, services: &Services) -> Result<Layer<Firis>, String> {
    let url = format!("{}/CA_Perimeters_NIFC_FIRIS_public_view/FeatureServer/0", services.address(&SERVICE));
    Ok(Layer { url, query, reads: Firis })
}

fn perimeter(row: LayerRow<'_>, context: Context<'_>) -> Row {
    let mut quality = row.item.quality;
    let shape = geometry::read(&row.item.geometry, &mut quality);
    let mut v = Named::new(row.item.values, quality);
    let own = v.text("id", &["GlobalID"]).and_then(|id| guid::normal(&id));
    let (mission, perimeter_type) = (v.text("mission", &["mission"]), v.text("perimeter_type", &["type"]));
    let mapped_at = v.time("mapped_at", &["poly_DateCurrent"]);
    let edited_at = v.time("edited_at", &["EditDate"]);
    let flown = || {
        let (mission, at) = (mission.as_deref()?, rfc3339(mapped_at?));
        Some(format!("{mission} {} {at}", perimeter_type.as_deref().unwrap_or("perimeter")))
    };
    let id = own.or_else(flown).ok_or_else(|| {
        let detail = "neither GlobalID nor mission and poly_DateCurrent: nothing tells it from another";
        Reject::new(Reason::MissingField, detail)
    })?;
    let observed_at = mapped_at
        .or(edited_at)
        .ok_or_else(|| Reject::new(Reason::BadTime, "neither poly_DateCurrent nor EditDate can be read"))?;
    let mut fire = MappedFire {
        id,
        incident_name: v.text("incident_name", &["incident_name"]),
        incident_number: v.text("incident_number", &["incident_number"]),
        mission,
        mapped_by: v.text("mapped_by", &["source"]),
        perimeter_type,
        display_status: v.text("display_status", &["displayStatus"]),
        acres: v.number("acres", &["area_acres"]),
        mapped_at,
        edited_at,
        attributes: Map::new(),
    };
    for own in ["OBJECTID", "FID", "Shape__Area", "Shape__Length"] {
        v.take(own, &[own]);
    }
    let (attributes, quality) = v.rest();
    fire.attributes = attributes;
    identify(Observation {
        origin: row.origin,
        source: context.source.clone(),
        observed_at,
        published_at: edited_at,
        geometry: shape.geometry,
        position: shape.position,
        derived_from: None,
        quality,
        alert: None,
        data: Data::of(&fire)?,
        rank: 0,
    })
}
