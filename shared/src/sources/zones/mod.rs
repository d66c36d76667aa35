//! California's evacuation zones, gathered by Cal OES from counties and their vendors, polled as a layer [S14]. They are for
//! reference: an agency's own alert is what is pushed to us. An alert is derived of a zone's order where a stream says as whom (`alert`).

pub mod alert;
mod memory;
mod status;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Areas, Id, Join, Records, Service, Services, Source, WrongFields, identify};
use crate::connect::arcgis::{self, Answer, Compared, Form, Layer, LayerRow, Query, Reads};
use crate::decode::head::Mark;
use crate::decode::named::Named;
use crate::decode::{Context, Format, Row, Rows, geometry};
use crate::error::{Reason, Reject};
use crate::record::{Data, Geometry, Observation, Origin, Position, Quality, SourceId, Tier, Topic, schema};
use crate::time::{self, Timestamp};

pub use alert::Alerts;
pub use status::Status;

pub(super) static SERVICE: Service = Service {
    name: "Cal OES's layers",
    address: "https://services.arcgis.com/BLN4oKB0N1YSgvY8/arcgis/rest/services",
    address_setting: "CAL_OES_BASE_URL",
    address_parameter: "CalOesBaseUrl",
    key_setting: None,
    manners: arcgis::MANNERS,
};

pub(super) static SOURCE: Source = Source {
    ids: &[Id {
        pattern: "evacuation_zones",
        name: "Cal OES evacuation zones",
        tier: Tier::High,
        topic: Topic::EVACUATION_ZONES,
    }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<Zone>(),
        key: &["data.county", "data.zone_id"],
        in_order: true,
        lasting: true,
    }),
    service: Some(&SERVICE),
};

/// A zone stream's `config`: which rows of the layer are asked for and how, as of any layer, and whether alerts are derived.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ZonesConfig")]
pub struct Config {
    /// A condition in SQL, such as `COUNTY = 'Butte'`; all rows without one.
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
    /// As whom alerts are derived of orders; without it none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<Alerts>,
}

impl Config {
    fn query(&self) -> Query {
        let Config { condition, area, format, simplify, alerts: _ } = self.clone();
        Query { condition, area, format, simplify }
    }

    /// Requests of one poll as a rule.
    pub fn requests(&self) -> usize {
        self.query().requests()
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongFields> {
        let query = self.query().check().map_or_else(|wrong| wrong.0, |()| Vec::new());
        let alerts = self.alerts.as_ref().map_or(Ok(()), Alerts::check);
        WrongFields::all(query.into_iter().map(Err).chain([alerts]))
    }
}

/// A zone is emptied before the fire is there; where nothing was ordered, it has to do with none.
pub(super) static FIRE: Join = Join::Areas(Areas {
    reach_km: 10.0,
    name: None,
    only: Some(("status", &["advisory", "warning", "order", "shelter_in_place", "lifted", "lifted_unconfirmed"])),
});

/// The layer's rows in either form.
pub const FORMAT: Format = Format::new("evacuation-zones", |body, context| -> Result<Rows<'_>, Reject> {
    arcgis::rows_of_file(body, context, |row, context| Zones.row(row, context))
})
.known_by(&[Mark::names("evacuation_zones", &["ZONE_ID", "STATUS", "COUNTY"])]);

/// One evacuation zone. `observed_at` is the last change of its row, or when it came where the row does not say; of a zone that has
/// left the list, when that was noticed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "EvacuationZone", deny_unknown_fields)]
pub struct Zone {
    /// The county as the list had it when this stream first saw the zone: another spelling makes no other zone.
    pub county: Option<String>,
    /// The zone's id within its county, as its vendor writes it.
    pub zone_id: String,
    /// Name for people.
    pub zone_name: Option<String>,
    /// City.
    pub city: Option<String>,
    /// What people in it are told. A text that is not known is `unknown`, never `normal`.
    pub status: Status,
    /// The status as sent; null for a zone that has left the list.
    pub status_text: Option<String>,
    /// Of a zone that has left the list: its status before.
    pub status_before: Option<Status>,
    /// How often its status has changed, or it has left the list or come back, since this stream first saw it.
    pub changes: u32,
    /// Kind of event, such as `Wildfire`.
    pub event_type: Option<String>,
    /// What the public is told, or where that is empty the list's notes: streets, an order, a cause.
    pub public_info: Option<String>,
    /// What is most important of it.
    pub critical_info: Option<String>,
    /// The list's notes.
    pub notes: Option<String>,
    /// Last change of the row: RFC 3339 in UTC, milliseconds. Rows that nobody looks after stay in the list for days.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub edited_at: Option<Timestamp>,
    /// Every further attribute that is not null, as it was sent, but for the numbers and measures of the publishing service's rows
    /// and the time at which it gathered all of them.
    pub attributes: Map<String, Value>,
}

const OF_THE_SERVICE: [&str; 7] = [
    "OBJECTID",
    "FID",
    "GlobalID",
    "Shape__Area",
    "Shape__Length",
    "STATEWIDE_LAST_UPDATED",
    // Filled by some counties with the time of gathering; what counts is EditDate.
    "EDIT_DATE",
];

/// The layer's rows as zones.
pub(super) struct Zones;

impl Reads for Zones {
    fn needs(&self) -> Vec<(&str, &str)> {
        vec![("", "COUNTY"), ("", "ZONE_ID"), ("", "STATUS")]
    }

    fn compare(&self, kept: Value, answer: &Answer<'_>) -> Compared {
        memory::compare(kept, answer)
    }

    fn row(&self, row: LayerRow<'_>, context: Context<'_>) -> Row {
        zone(row, context)
    }

    fn gone(&self, said: &Value, context: Context<'_>) -> Option<Row> {
        let gone: memory::Known = serde_json::from_value(said.clone()).ok()?;
        Some(lifted(gone, context))
    }
}

pub(super) fn connector(config: Config, _source: SourceId, services: &Services) -> Result<Layer<Zones>, String> {
    let url = format!("{}/CA_EVACUATIONS_CalOESHosted_view/FeatureServer/0", services.address(&SERVICE));
    Ok(Layer { url, query: config.query(), reads: Zones })
}

fn zone(row: LayerRow<'_>, context: Context<'_>) -> Row {
    let LayerRow { item, origin, said, .. } = row;
    let said: memory::Said = serde_json::from_value(said.clone()).unwrap_or_default();
    let mut quality = item.quality;
    let shape = match &*said.shapes {
        [] => geometry::read(&item.geometry, &mut quality),
        several => {
            let several: Vec<Value> = several.iter().filter_map(|shape| serde_json::from_str(shape).ok()).collect();
            geometry::read(&json!({"type": "GeometryCollection", "geometries": several}), &mut quality)
        }
    };
    let mut v = Named::new(item.values, quality);
    let zone_id = v.text("zone_id", &["ZONE_ID"]).ok_or_else(|| {
        Reject::new(Reason::MissingField, "ZONE_ID is missing: nothing else tells a zone from another in its county")
    })?;
    let status_text = v.text("status", &["STATUS"]);
    let status = Status::of(status_text.as_deref());
    if status == Status::Unknown {
        v.note("status", "is not a status that is known here", status_text.as_deref().unwrap_or_default());
    }
    if said.rows > 1 {
        let problem = format!(
            "{} rows of the list are of this zone: the most severe one is published, with the shapes of those that say the same",
            said.rows
        );
        v.note("zone_id", &problem, &zone_id);
    }
    if said.shapes_left_out > 0 {
        let problem = format!("{} shapes of further rows are left out: they are too long", said.shapes_left_out);
        v.note("geometry", &problem, "");
    }
    let edited_at = v.time("edited_at", &["EditDate"]);
    let notes = v.text("notes", &["NOTES"]);
    let mut zone = Zone {
        county: v.text("county", &["COUNTY"]).map(|sent| said.county.unwrap_or(sent)),
        zone_id,
        zone_name: v.text("zone_name", &["ZONE_NAME"]),
        city: v.text("city", &["CITY"]),
        status,
        status_text,
        status_before: None,
        changes: said.changes,
        event_type: v.text("event_type", &["EVENT_TYPE"]),
        public_info: v.plain("public_info", &["PUBLIC_INFO"]).or_else(|| notes.clone()),
        critical_info: v.plain("critical_info", &["CRITICAL_INFO"]),
        notes,
        edited_at,
        attributes: Map::new(),
    };
    for own in OF_THE_SERVICE {
        v.take(own, &[own]);
    }
    let (attributes, quality) = v.rest();
    zone.attributes = attributes;
    identify(Observation {
        origin,
        source: context.source.clone(),
        observed_at: edited_at.unwrap_or(context.received_at),
        published_at: edited_at,
        geometry: shape.geometry,
        position: shape.position,
        derived_from: None,
        quality,
        alert: None,
        data: Data::of(&zone)?,
        rank: 0,
    })
}

/// The record of a zone that has left the list.
fn lifted(gone: memory::Known, context: Context<'_>) -> Row {
    let position = gone.at.and_then(|[latitude, longitude]| Position::new(latitude, longitude).ok());
    let problem = "it has left the list in two answers: that it was lifted is likely, and nobody has said so";
    let mut quality = vec![Quality::new("status", problem, gone.status_text.as_deref().unwrap_or_default())];
    if position.is_some() {
        quality.push(Quality {
            field: "geometry".into(),
            problem: "is the centre of the zone that was told last".into(),
            raw: None,
        });
    }
    let zone = Zone {
        county: gone.county,
        zone_id: gone.zone_id,
        zone_name: None,
        city: None,
        status: Status::LiftedUnconfirmed,
        status_text: None,
        status_before: Some(gone.status),
        changes: gone.changes,
        event_type: None,
        public_info: None,
        critical_info: None,
        notes: None,
        edited_at: None,
        attributes: Map::new(),
    };
    let data = Data::of(&zone)?;
    identify(Observation {
        origin: Origin::of(Bytes::copy_from_slice(data.json().as_bytes())),
        source: context.source.clone(),
        observed_at: context.received_at,
        published_at: None,
        geometry: position.map(Geometry::Point),
        position,
        derived_from: None,
        quality,
        alert: None,
        data,
        rank: 0,
    })
}
