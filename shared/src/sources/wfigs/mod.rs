//! NIFC's interagency fires (WFIGS): perimeters and the incidents' places, of today and of earlier years [S6], out of files or polled
//! as layers [S13].

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Id, Join, Names, Records, Service, Services, Source, State, guid, identify};
use crate::connect::arcgis::{self, Layer, LayerRow, Reads};
use crate::decode::geometry;
use crate::decode::head::Mark;
use crate::decode::items::Item;
use crate::decode::named::Named;
use crate::decode::{Context, Format, Row, Rows};
use crate::error::{Reason, Reject};
use crate::record::{Data, Observation, Origin, SourceId, Tier, Topic, schema};
use crate::time::{self, Timestamp};

pub use crate::connect::arcgis::Query as Config;

pub(super) static SERVICE: Service = Service {
    name: "NIFC's WFIGS",
    address: "https://services3.arcgis.com/T4QMspbfLg3qTGWY/arcgis/rest/services",
    address_setting: "WFIGS_BASE_URL",
    address_parameter: "WfigsBaseUrl",
    key_setting: None,
    manners: arcgis::MANNERS,
};

pub(super) static SOURCE: Source = Source {
    ids: &[fires("wfigs_perimeters", "WFIGS fire perimeters"), fires("wfigs_incidents", "WFIGS incidents")],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<Fire>(),
        key: &["data.id"],
        in_order: true,
        lasting: true,
    }),
    service: Some(&SERVICE),
};

pub(super) static FIRE: Join = Join::Named(Names {
    ids: &[("irwin", "irwin_id"), ("unique", "unique_fire_id")],
    complex: Some("complex_id"),
    name: "incident_name",
    counties: "county",
    state: State::Field("state"),
    acres: &["incident_acres", "perimeter_acres"],
    out: &["out_at"],
    kinds: None,
    reach_km: 6.0,
});

/// WFIGS's features, whichever prefixes and times their year had.
pub const FORMAT: Format = Format::new("wfigs", rows).known_by(&[
    Mark::names("wfigs_perimeters", &["poly_IRWINID"]),
    Mark::names("wfigs_perimeters", &["poly_SourceGlobalID"]),
    Mark::names("wfigs_perimeters", &["attr_IrwinID"]),
    Mark::names("wfigs_incidents", &["IrwinID", "FireDiscoveryDateTime"]),
]);

const fn fires(pattern: &'static str, name: &'static str) -> Id {
    Id { pattern, name, tier: Tier::Normal, topic: Topic::INCIDENTS }
}

/// One fire's perimeter, or its place, with what the incident's reports say. `observed_at` is when the fire was discovered, so that it
/// stays the same however often the perimeter is drawn anew; `mapped_at` is when the shape was seen.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "WfigsFire", deny_unknown_fields)]
pub struct Fire {
    /// What names it for good: the perimeter's own id, or IRWIN's of a place and of a perimeter without one. A fire can have several
    /// perimeters.
    pub id: String,
    /// IRWIN's id of the incident, in capitals and braces. Other sources name a fire by it too.
    pub irwin_id: Option<String>,
    /// The perimeter's id in the service that drew it, in capitals, a UUID in braces; null for a place without a perimeter.
    pub perimeter_id: Option<String>,
    /// `YYYY-UNIT-NNNNNN`.
    pub unique_fire_id: Option<String>,
    /// The incident's name, or the perimeter's.
    pub incident_name: Option<String>,
    /// The perimeter's name where it is another one, as a fire's within a complex.
    pub perimeter_name: Option<String>,
    /// `WF` wildfire, `RX` prescribed fire, `CX` complex.
    pub incident_type: Option<String>,
    /// IRWIN's id of the complex that it belongs to.
    pub complex_id: Option<String>,
    /// Name of the complex that it belongs to.
    pub complex_name: Option<String>,
    /// When it was discovered: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub discovered_at: Option<Timestamp>,
    /// When it was contained: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub contained_at: Option<Timestamp>,
    /// When it was under control: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub controlled_at: Option<Timestamp>,
    /// When it was out: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub out_at: Option<Timestamp>,
    /// Last change of the incident in IRWIN: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub modified_at: Option<Timestamp>,
    /// When the perimeter was seen, such as from an aircraft: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub mapped_at: Option<Timestamp>,
    /// When the perimeter was first drawn: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub drawn_at: Option<Timestamp>,
    /// Last change of the perimeter: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub edited_at: Option<Timestamp>,
    /// Burned area by the incident's reports, in acres.
    pub incident_acres: Option<f64>,
    /// Area of the perimeter as its author measured it, in acres.
    pub perimeter_acres: Option<f64>,
    /// Area of the perimeter as the service computes it, in acres.
    pub computed_acres: Option<f64>,
    /// Area at the discovery, in acres.
    pub discovery_acres: Option<f64>,
    /// Contained part of the perimeter in percent.
    pub percent_contained: Option<f64>,
    /// State of the point of origin, such as `US-CA`.
    pub state: Option<String>,
    /// County of the point of origin.
    pub county: Option<String>,
    /// FIPS code of the county of the point of origin, five digits.
    pub fips: Option<String>,
    /// Place in words.
    pub description: Option<String>,
    /// `Human`, `Natural`, `Undetermined`.
    pub cause: Option<String>,
    /// People at work.
    pub personnel: Option<u64>,
    /// Degrees of the point of origin as first told.
    pub initial_latitude: Option<f64>,
    /// Degrees of the point of origin as first told.
    pub initial_longitude: Option<f64>,
    /// What the perimeter is, such as `Wildfire Daily Fire Perimeter`.
    pub feature_category: Option<String>,
    /// How it was mapped, such as `Infrared Image`.
    pub map_method: Option<String>,
    /// Every further attribute that is not null, by the name and with the value that it was sent with. Left out are the numbers of
    /// the publishing service's own rows and its measures of their shapes, which change whenever it loads them anew, and what says how
    /// old a time is: the feature's `id`, `OBJECTID`, `GlobalID`, `Shape__Area`, `Shape__Length`, `FireDiscoveryAge` and
    /// `ModifiedOnAge`.
    pub attributes: Map<String, Value>,
}

/// What the publishing service writes anew whenever it loads its rows: not a change of the fire.
const OF_THE_SERVICE: [&str; 10] = [
    "OBJECTID",
    "GlobalID",
    "Shape__Area",
    "Shape__Length",
    "SHAPE_Area",
    "SHAPE_Length",
    "attr_FireDiscoveryAge",
    "attr_ModifiedOnAge",
    "FireDiscoveryAge",
    "ModifiedOnAge",
];

fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    arcgis::rows_of_file(body, context, |row, context| Interagency.row(row, context))
}

/// Rows of either layer.
pub(super) struct Interagency;

impl Reads for Interagency {
    fn row(&self, row: LayerRow<'_>, context: Context<'_>) -> Row {
        fire(row.item, row.origin, context.source)
    }
}

pub(super) fn connector(query: Config, source: SourceId, services: &Services) -> Result<Layer<Interagency>, String> {
    let layer = match source.as_str() {
        "wfigs_incidents" => "WFIGS_Incident_Locations_Current",
        _ => "WFIGS_Interagency_Perimeters_Current",
    };
    let url = format!("{}/{layer}/FeatureServer/0", services.address(&SERVICE));
    Ok(Layer { url, query, reads: Interagency })
}

/// The names that an attribute of the incident has: bare in the list of incidents, `attr_` and earlier `irwin_` in perimeters.
fn of_incident(name: &str) -> [String; 3] {
    ["attr_", "irwin_", ""].map(|prefix| format!("{prefix}{name}"))
}

/// The first of the names in either spelling that says something.
struct Attributes(Named);

impl Attributes {
    /// `read` with all names of the incident's attributes `names`.
    fn incident<T>(&mut self, names: &[&str], read: impl FnOnce(&mut Named, &[&str]) -> T) -> T {
        let spelled: Vec<String> = names.iter().flat_map(|name| of_incident(name)).collect();
        read(&mut self.0, &spelled.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn text(&mut self, field: &str, name: &str) -> Option<String> {
        self.incident(&[name], |values, names| values.text(field, names))
    }

    fn time(&mut self, field: &str, name: &str) -> Option<Timestamp> {
        self.incident(&[name], |values, names| values.time(field, names))
    }

    fn number(&mut self, field: &str, names: &[&str]) -> Option<f64> {
        self.incident(names, |values, names| values.number(field, names))
    }
}

pub(super) fn fire(item: Item, origin: Origin, source: &SourceId) -> Row {
    let mut quality = item.quality;
    let shape = geometry::read(&item.geometry, &mut quality);
    let mut v = Attributes(Named::new(item.values, quality));
    let irwin_id = v.incident(&["IrwinID"], |values, incident| {
        let names: Vec<&str> = [&["poly_IRWINID"][..], incident].concat();
        values.text("irwin_id", &names)
    });
    // The first is the surest: the service that publishes it numbers its rows anew.
    let ids = ["poly_SourceGlobalID", "poly_GlobalID", "poly_SourceOID"];
    let perimeter_id = ids.iter().find_map(|name| guid::normal(&v.0.text("perimeter_id", &[*name])?));
    let irwin_id = irwin_id.and_then(|id| guid::normal(&id)).map(|id| in_braces(&id));
    let Some(id) = perimeter_id.clone().or_else(|| irwin_id.clone()) else {
        let detail = "neither an IrwinID nor a perimeter's own id: nothing tells it from another";
        return Err(Reject::new(Reason::MissingField, detail));
    };
    let name = v.text("incident_name", "IncidentName");
    let perimeter_name = v.0.text("perimeter_name", &["poly_IncidentName"]);
    let discovered_at = v.time("discovered_at", "FireDiscoveryDateTime");
    let modified_at = v.time("modified_at", "ModifiedOnDateTime_dt");
    let mapped_at = v.0.time("mapped_at", &["poly_PolygonDateTime"]);
    let edited_at = v.0.time("edited_at", &["poly_DateCurrent"]);
    let drawn_at = v.0.time("drawn_at", &["poly_CreateDate"]);
    let mut fire = Fire {
        id,
        irwin_id,
        perimeter_id,
        unique_fire_id: v.text("unique_fire_id", "UniqueFireIdentifier"),
        perimeter_name: perimeter_name.clone().filter(|_| name.is_some() && name != perimeter_name),
        incident_name: name.or(perimeter_name),
        incident_type: v.text("incident_type", "IncidentTypeCategory"),
        complex_id: v.text("complex_id", "CpxID").map(|id| in_braces(&id)),
        complex_name: v.text("complex_name", "CpxName"),
        discovered_at,
        contained_at: v.time("contained_at", "ContainmentDateTime"),
        controlled_at: v.time("controlled_at", "ControlDateTime"),
        out_at: v.time("out_at", "FireOutDateTime"),
        modified_at,
        mapped_at,
        drawn_at,
        edited_at,
        // `DailyAcres` until 2022.
        incident_acres: v.number("incident_acres", &["IncidentSize", "DailyAcres"]),
        perimeter_acres: v.0.number("perimeter_acres", &["poly_GISAcres"]),
        computed_acres: v.0.number("computed_acres", &["poly_Acres_AutoCalc"]),
        discovery_acres: v.number("discovery_acres", &["DiscoveryAcres"]),
        percent_contained: v.number("percent_contained", &["PercentContained"]),
        state: v.text("state", "POOState"),
        county: v.text("county", "POOCounty"),
        fips: v.text("fips", "POOFips"),
        description: v.text("description", "IncidentShortDescription"),
        cause: v.text("cause", "FireCause"),
        personnel: v.incident(&["TotalIncidentPersonnel"], |values, names| values.count("personnel", names)),
        initial_latitude: v.number("initial_latitude", &["InitialLatitude"]),
        initial_longitude: v.number("initial_longitude", &["InitialLongitude"]),
        feature_category: v.0.text("feature_category", &["poly_FeatureCategory"]),
        map_method: v.0.text("map_method", &["poly_MapMethod"]),
        attributes: Map::new(),
    };
    let observed_at = match discovered_at {
        Some(at) => at,
        None => {
            let other = drawn_at.or(mapped_at).or(edited_at).or(modified_at);
            let at = other.ok_or_else(|| {
                Reject::new(Reason::BadTime, "neither FireDiscoveryDateTime nor a time of the perimeter can be read")
            })?;
            v.0.note("observed_at", "is not the discovery, which is not told, but a time of the perimeter", "");
            at
        }
    };
    for own in OF_THE_SERVICE {
        v.0.take(own, &[own]);
    }
    let (attributes, quality) = v.0.rest();
    fire.attributes = attributes;
    identify(Observation {
        origin,
        source: source.clone(),
        observed_at,
        published_at: modified_at.max(edited_at),
        geometry: shape.geometry,
        position: shape.position,
        derived_from: None,
        quality,
        alert: None,
        data: Data::of(&fire)?,
        rank: 0,
    })
}

/// As IRWIN writes its ids.
fn in_braces(id: &str) -> String {
    format!("{{{}}}", id.trim_start_matches('{').trim_end_matches('}').to_ascii_uppercase())
}

#[cfg(test)]
mod tests;
