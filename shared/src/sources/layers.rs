//! Any ArcGIS layer by its stream's `config`, without code [S13]: which field tells a row from another, when it changed, what it says
//! and where it is. Everything else stands in the record as it was sent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Id, Records, Service, Services, Source, WrongField, WrongFields, identify};
use crate::connect::arcgis::{self, Layer, LayerRow, Query, Reads, check_url};
use crate::decode::named::Named;
use crate::decode::{Context, Format, Row, Rows, geometry};
use crate::error::{Reason, Reject};
use crate::record::{Data, Geometry, Observation, Position, Quality, SourceId, Tier, Topic, schema};
use crate::time::{self, Timestamp};

/// Each stream names its own address, so that no setting does.
pub(super) static SERVICE: Service = Service {
    name: "Layers by config",
    address: "each at its own address",
    address_setting: "",
    address_parameter: "",
    key_setting: None,
    manners: arcgis::MANNERS,
};

pub(super) static SOURCE: Source = Source {
    ids: &[Id { pattern: "layer_*", name: "ArcGIS layer", tier: Tier::Low, topic: Topic::INFRASTRUCTURE }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<Feature>(),
        key: &["data.key"],
        in_order: true,
        lasting: true,
    }),
    service: None,
};

/// Nothing is read of a file or a dead letter: only its stream's `config` says what a layer's fields mean.
pub const FORMAT: Format = Format::new("arcgis-layer", |body, _| -> Result<Rows<'_>, Reject> {
    let detail = "only a stream's config says which fields of a layer are its key: a row is read again at the stream's next poll";
    Err(Reject::new(Reason::NotData, detail).with_raw(body.clone()))
});

/// A layer's `config`: its address and the names of its fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LayerConfig")]
pub struct Config {
    /// The layer's address, such as `https://services.arcgis.com/…/FeatureServer/0`.
    pub url: String,
    /// Fields that tell a row from another for good, one to four; not the numbers of the service's rows.
    pub key: Vec<String>,
    /// The field with the time of a row's last change, or of what it tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Fields with what a row says.
    #[serde(default, skip_serializing_if = "TextFields::is_empty")]
    pub text: TextFields,
    /// Fields with where it is, beside the row's own shape.
    #[serde(default, skip_serializing_if = "PlaceFields::is_empty")]
    pub place: PlaceFields,
    /// Which rows are asked for, and how.
    #[serde(default, skip_serializing_if = "is_default")]
    pub query: Query,
}

/// Names of fields with what a row says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextFields {
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// State, such as `Open`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// More words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Names of fields with where something is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceFields {
    /// County.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub county: Option<String>,
    /// City.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// Street and number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Degrees, for rows without a shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latitude: Option<String>,
    /// Degrees, for rows without a shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longitude: Option<String>,
}

fn is_default(query: &Query) -> bool {
    *query == Query::default()
}

impl TextFields {
    fn is_empty(&self) -> bool {
        *self == TextFields::default()
    }
}

impl PlaceFields {
    fn is_empty(&self) -> bool {
        *self == PlaceFields::default()
    }
}

const KEY_FIELDS: usize = 4;
/// What numbers a service's rows: it may number them anew whenever they are loaded.
const ROW_NUMBERS: [&str; 4] = ["OBJECTID", "FID", "OID", "ESRI_OID"];

impl Config {
    /// Requests of one poll.
    pub fn requests(&self) -> usize {
        self.query.requests()
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongFields> {
        let mut wrong: Vec<WrongField> =
            check_url(&self.url).err().map(|rule| WrongField::new("url", rule)).into_iter().collect();
        if !(1..=KEY_FIELDS).contains(&self.key.len()) {
            wrong.push(WrongField::new("key", format!("{} fields: a key has 1 to {KEY_FIELDS}", self.key.len())));
        }
        if let Some(number) = self.key.iter().find(|key| ROW_NUMBERS.iter().any(|own| own.eq_ignore_ascii_case(key))) {
            let rule = format!("{number} numbers the service's rows and may change at any load: name fields that stay");
            wrong.push(WrongField::new("key", rule));
        }
        let mut named: Vec<(&str, &str)> = Vec::new();
        for (setting, field) in self.fields() {
            let is_same = |(of, other): &&(&str, &str)| {
                // What is part of the key may say something else as well, once.
                other.eq_ignore_ascii_case(field) && (*of != "key" || setting == "key")
            };
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            let rule = if let Some((of, _)) = named.iter().find(is_same) {
                Some(format!("{field} is named by {of} already"))
            } else if field.is_empty() || field.len() > 128 || !field.chars().all(is_name) {
                Some(format!("{field:?} is no name of a field: letters, digits, _ and . only"))
            } else {
                None
            };
            wrong.extend(rule.map(|rule| match setting.split_once('.') {
                Some((outer, inner)) => WrongField::new(inner, rule).within([outer.into()]),
                None => WrongField::new(setting, rule),
            }));
            named.push((setting, field));
        }
        let PlaceFields { latitude, longitude, .. } = &self.place;
        if latitude.is_some() != longitude.is_some() {
            wrong.push(WrongField::new("place", "latitude and longitude go together"));
        }
        if let Err(query) = self.query.check() {
            wrong.extend(query.within(["query".into()]));
        }
        WrongFields::none_or(wrong, ())
    }

    /// Every field that it names, with its setting.
    fn fields(&self) -> Vec<(&'static str, &str)> {
        let Config { key, time, text, place, .. } = self;
        let key = key.iter().map(|field| ("key", field.as_str()));
        let others = [
            ("time", time),
            ("text.name", &text.name),
            ("text.status", &text.status),
            ("text.description", &text.description),
            ("place.county", &place.county),
            ("place.city", &place.city),
            ("place.address", &place.address),
            ("place.latitude", &place.latitude),
            ("place.longitude", &place.longitude),
        ];
        key.chain(others.into_iter().filter_map(|(setting, field)| Some((setting, field.as_deref()?)))).collect()
    }
}

/// One row of a layer. `observed_at` is its time, or when it came where its layer tells none.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "LayerFeature", deny_unknown_fields)]
pub struct Feature {
    /// The values of the key's fields, as texts.
    pub key: Vec<String>,
    /// Name for people.
    pub name: Option<String>,
    /// State, as sent.
    pub status: Option<String>,
    /// More words.
    pub description: Option<String>,
    /// County.
    pub county: Option<String>,
    /// City.
    pub city: Option<String>,
    /// Street and number.
    pub address: Option<String>,
    /// The time of its last change, or of what it tells of: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schemars(schema_with = "schema::optional_time")]
    pub changed_at: Option<Timestamp>,
    /// Every further attribute that is not null, as it was sent, codes by their names; but for the numbers and measures of the
    /// publishing service's rows.
    pub attributes: Map<String, Value>,
}

/// A layer's rows by its stream's config.
pub(super) struct ByConfig(Config);

impl Reads for ByConfig {
    fn needs(&self) -> Vec<(&str, &str)> {
        self.0.fields()
    }

    fn row(&self, row: LayerRow<'_>, context: Context<'_>) -> Row {
        feature(&self.0, row, context)
    }
}

pub(super) fn connector(config: Config, _source: SourceId, _services: &Services) -> Result<Layer<ByConfig>, String> {
    Ok(Layer { url: config.url.clone(), query: config.query.clone(), reads: ByConfig(config) })
}

fn feature(config: &Config, row: LayerRow<'_>, context: Context<'_>) -> Row {
    let mut quality = row.item.quality;
    let shape = geometry::read(&row.item.geometry, &mut quality);
    // A field can be a part of the key and say something else as well.
    let mut of_key = Named::new(row.item.values.clone(), Vec::new());
    let mut key = Vec::new();
    for field in &config.key {
        key.push(of_key.text("key", &[field]).ok_or_else(|| {
            Reject::new(Reason::MissingField, format!("{field} is missing, which its stream's config.key names"))
        })?);
    }
    let mut v = Named::new(row.item.values, quality);
    let mut text = |field: &str, name: &Option<String>| v.text(field, &[name.as_deref()?]);
    let (TextFields { name, status, description }, place) = (&config.text, &config.place);
    let (name, status, description) = (text("name", name), text("status", status), text("description", description));
    let county = text("county", &place.county);
    let (city, address) = (text("city", &place.city), text("address", &place.address));
    let changed_at = config.time.as_deref().and_then(|field| v.time("changed_at", &[field]));
    if config.time.is_some() && changed_at.is_none() {
        v.quality.push(Quality {
            field: "observed_at".into(),
            problem: "is when it came: its own time is not told".into(),
            raw: None,
        });
    }
    let mut degrees = |name: &Option<String>| v.number("position", &[name.as_deref()?]);
    let by_fields = degrees(&place.latitude).zip(degrees(&place.longitude));
    let by_fields = by_fields.and_then(|(latitude, longitude)| match Position::new(latitude, longitude) {
        Ok(position) => Some(position),
        Err(reject) => {
            v.note("position", &reject.detail, "");
            None
        }
    });
    for field in &config.key {
        v.take("key", &[field]);
    }
    for own in ["OBJECTID", "FID", "Shape__Area", "Shape__Length"] {
        v.take(own, &[own]);
    }
    let (attributes, quality) = v.rest();
    let data = Feature { key, name, status, description, county, city, address, changed_at, attributes };
    identify(Observation {
        origin: row.origin,
        source: context.source.clone(),
        observed_at: changed_at.unwrap_or(context.received_at),
        published_at: None,
        position: shape.position.or(by_fields),
        geometry: shape.geometry.or(by_fields.map(Geometry::Point)),
        derived_from: None,
        quality,
        alert: None,
        data: Data::of(&data)?,
        rank: 0,
    })
}
