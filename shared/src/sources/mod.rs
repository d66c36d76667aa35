//! The one table of sources: which ids exist, what they are in words, where their records go, who reads and who polls them.
//! One file or folder a source. Routes, the command line's values and help, schemas, settings, the checks of `streams.yaml`
//! and `docs/sources.md` derive from it: a new source is its own module here and one line of the table.

pub mod airnow;
pub mod airnow_files;
mod alerts;
pub mod calfire;
pub mod calfire_history;
pub mod caltrans;
pub mod cap_feed;
pub mod chp;
mod config;
mod fires;
pub mod firis;
pub mod firms;
pub mod firms_archive;
pub mod fpa_fod;
mod guid;
mod identity;
pub mod ipaws;
pub mod layers;
pub mod metar;
pub mod noaa;
pub mod noaa_forecast;
pub mod noaa_observations;
mod nws;
pub mod outages;
mod planned;
pub mod purpleair;
pub mod purpleair_history;
mod route;
mod sensors;
mod service;
pub mod synoptic;
pub mod wfigs;
pub mod wfigs_history;
pub mod zones;

use std::fmt;

use schemars::{Schema, SchemaGenerator};
use serde::Serialize;

use crate::connect::{Cursor, Progress};
use crate::decode::head::Head;
use crate::decode::{Format, form};
use crate::record::{SourceId, Tier, Topic};

pub use config::{Step, WrongField, WrongFields};
pub(crate) use config::{check_area, read, read_on};
pub(crate) use fires::Told;
pub use fires::{Areas, Join, Names, State};
pub use identity::identify;
pub use route::{DRILL, Route, is_critical, route};
pub use service::{KeyDoubt, Service, Services};

/// What one provider's ids share.
pub struct Source {
    /// The ids and prefixes that its records may be published under.
    pub ids: &'static [Id],
    /// `None`: only the ids' place is fixed, nothing reads their records yet.
    pub records: Option<Records>,
    /// The service that is polled for them; `None` for what is pushed to us or comes in files.
    pub service: Option<&'static Service>,
}

/// An id, or all ids that begin alike, and where their records go [P2].
pub struct Id {
    /// An exact id, or a prefix with `*` behind it.
    pub pattern: &'static str,
    /// In words, as records say it in `source_name`.
    pub name: &'static str,
    /// How urgent its records are.
    pub tier: Tier,
    /// Where its records are published.
    pub topic: Topic,
}

/// How a source's bytes become records, and what these look like.
pub struct Records {
    /// How its bytes are read.
    pub format: Format,
    /// The JSON Schema of a record's `data`.
    pub data: fn(&mut SchemaGenerator) -> Schema,
    /// The natural key: paths of published fields, `latitude`, `longitude`, `observed_at` or `data.` and a field's name [S12].
    pub key: &'static [&'static str],
    /// Its records supersede each other, so that a sink gets a stream's in the order in which they were accepted [K3].
    pub in_order: bool,
    /// Nothing in its key is a time, and its events last: one is known by its key alone, whatever `observed_at` its revisions have.
    pub lasting: bool,
}

macro_rules! table {
    ($($module:ident $(polled by $connector:ident)? $(with $join:ident)?,)*) => {
        /// Every source. Where several patterns fit an id, the longest decides.
        pub const TABLE: &[&Source] = &[$(&$module::SOURCE),*];

        /// How each source's records are joined to fires, where they are.
        const JOINS: &[(&Source, &Join)] = &[$($((&$module::SOURCE, &$module::$join),)?)*];

        /// What `streams.yaml` says of a polled stream beside its name, tenant and interval: which connector reads it, and how.
        #[derive(Debug, Clone, PartialEq, serde::Serialize, schemars::JsonSchema)]
        #[serde(tag = "connector", content = "config", rename_all = "snake_case")]
        #[allow(clippy::large_enum_variant)] // a deployment has a thousand at most
        pub enum Polled {
            $($(#[doc = concat!("`", stringify!($module), "`")] $connector($module::Config),)?)*
        }

        /// The connectors' names, as `streams.yaml` has them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum ConnectorKind {
            $($(#[doc = concat!("`", stringify!($module), "`")] $connector,)?)*
        }

        impl ConnectorKind {
            /// Every connector.
            pub const ALL: &[ConnectorKind] = &[$($(ConnectorKind::$connector,)?)*];

            /// The service that it asks.
            pub fn service(self) -> &'static Service {
                match self {
                    $($(ConnectorKind::$connector => &$module::SERVICE,)?)*
                }
            }

            /// Reads the connector's own `config`.
            pub(crate) fn read(self, config: serde_json::Value) -> Result<Polled, WrongFields> {
                match self {
                    $($(ConnectorKind::$connector => {
                        let config: $module::Config = config::read(config)?;
                        config.check()?;
                        Ok(Polled::$connector(config))
                    })?)*
                }
            }
        }

        impl Polled {
            /// The connector of one stream.
            ///
            /// # Errors
            /// A setting that is missing, for a person to mend.
            pub fn connector(
                &self,
                source: &SourceId,
                services: &Services,
            ) -> Result<Box<dyn crate::connect::Connector>, String> {
                match self {
                    $($(Polled::$connector(config) => {
                        Ok(Box::new($module::connector(config.clone(), source.clone(), services)?))
                    })?)*
                }
            }

            /// How its answers are read.
            pub fn format(&self) -> Format {
                match self {
                    $($(Polled::$connector(_) => $module::FORMAT,)?)*
                }
            }

            /// Requests of one poll.
            pub fn requests(&self) -> usize {
                match self {
                    $($(Polled::$connector(config) => config.requests(),)?)*
                }
            }

            /// Which connector it is.
            pub fn kind(&self) -> ConnectorKind {
                match self {
                    $($(Polled::$connector(_) => ConnectorKind::$connector,)?)*
                }
            }

            /// The service that it asks.
            pub fn service(&self) -> &'static Service {
                self.kind().service()
            }

            /// As whom alerts are derived of its records [P3].
            pub(crate) fn alerts(&self) -> Option<&zones::Alerts> {
                match self {
                    Polled::Zones(config) => config.alerts.as_ref(),
                    _ => None,
                }
            }

            /// The address whose requests are counted together: the service's, or that of the server that the config names.
            pub fn address(&self) -> &str {
                match self {
                    Polled::Layers(config) => crate::connect::arcgis::services_of(&config.url),
                    Polled::CapFeed(config) => crate::connect::index::host(&config.url),
                    Polled::FpaFod(config) => crate::connect::index::host(&config.url),
                    other => other.service().address,
                }
            }
        }
    };
}

table! {
    firms polled by Firms with FIRE,
    firms_archive polled by FirmsArchive,
    sensors,
    purpleair polled by Purpleair,
    purpleair_history polled by PurpleairHistory,
    synoptic polled by Synoptic,
    airnow polled by Airnow,
    airnow_files polled by AirnowFiles,
    alerts,
    noaa polled by NwsAlerts,
    ipaws polled by Ipaws,
    cap_feed polled by CapFeed,
    noaa_observations polled by NwsObservations,
    metar polled by Metar,
    noaa_forecast polled by NwsForecast,
    calfire polled by Calfire with FIRE,
    calfire_history polled by CalfireHistory with FIRE,
    caltrans polled by Caltrans with FIRE,
    chp polled by Chp with FIRE,
    wfigs polled by Wfigs with FIRE,
    wfigs_history polled by WfigsHistory with FIRE,
    zones polled by Zones with FIRE,
    firis polled by Firis with FIRE,
    outages polled by Outages,
    layers polled by Layers,
    fpa_fod polled by FpaFod,
    planned,
}

impl ConnectorKind {
    /// Whether what it asks for has an end; `None`: its config says.
    pub(crate) fn has_end(self) -> Option<bool> {
        match self {
            ConnectorKind::Synoptic => None,
            ConnectorKind::PurpleairHistory
            | ConnectorKind::FirmsArchive
            | ConnectorKind::CalfireHistory
            | ConnectorKind::WfigsHistory
            | ConnectorKind::FpaFod => Some(true),
            _ => Some(false),
        }
    }
}

impl Polled {
    /// Whether it ends by itself: what it asks for has a beginning and an end [M1].
    pub fn is_bounded(&self) -> bool {
        self.kind().has_end().unwrap_or_else(|| self.progress(&Cursor::default()).is_some())
    }

    /// How far it has been read by its cursor; `None` for what has no end.
    pub fn progress(&self, cursor: &Cursor) -> Option<Progress> {
        match self {
            Polled::Synoptic(config) => config.progress(cursor),
            Polled::PurpleairHistory(config) => Some(config.progress(cursor)),
            Polled::FirmsArchive(config) => Some(config.progress(cursor)),
            Polled::CalfireHistory(config) => Some(config.progress(cursor)),
            Polled::WfigsHistory(config) => Some(config.progress(cursor)),
            Polled::FpaFod(config) => Some(config.progress(cursor)),
            _ => None,
        }
    }

    /// The least that it costs in a day at this interval, and what it may cost; `None` where asking is free.
    pub fn points_a_day(&self, interval: std::time::Duration) -> Option<(u64, u64)> {
        match self {
            Polled::Purpleair(config) => Some((config.least_points_a_day(interval), config.points_a_day)),
            Polled::PurpleairHistory(config) => Some((0, config.points_a_day)),
            _ => None,
        }
    }
}

impl fmt::Display for ConnectorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl Id {
    /// Whether the pattern covers this id.
    pub fn fits(&self, id: &str) -> bool {
        match self.pattern.strip_suffix('*') {
            Some(prefix) => id.starts_with(prefix),
            None => id == self.pattern,
        }
    }
}

/// The source of an id, and the id's line.
pub fn find(source: &SourceId) -> Option<(&'static Source, &'static Id)> {
    // No pattern that fits is longer than an exact id. Every record is looked up, and nearly all have one.
    for source_of in TABLE {
        if let Some(id) = source_of.ids.iter().find(|id| id.pattern == source.as_str()) {
            return Some((source_of, id));
        }
    }
    ids().filter(|(_, id)| id.fits(source.as_str())).max_by_key(|(_, id)| id.pattern.len())
}

/// Every id with its source, in the table's order.
pub fn ids() -> impl Iterator<Item = (&'static Source, &'static Id)> {
    TABLE.iter().flat_map(|source| source.ids.iter().map(move |id| (*source, id)))
}

/// The format that a source's bodies have; `None` for a source that nothing reads.
pub fn format_of(source: &SourceId) -> Option<Format> {
    find(source).and_then(|(source, _)| source.records.as_ref()).map(|records| records.format)
}

/// Whether a source's records supersede each other.
pub fn keeps_order(source: &SourceId) -> bool {
    find(source).and_then(|(source, _)| source.records.as_ref()).is_some_and(|records| records.in_order)
}

/// How a source's records are joined to fires; `None` for a source that has nothing to do with them.
pub(crate) fn join(source: &SourceId) -> Option<&'static Join> {
    let (source, _) = find(source)?;
    JOINS.iter().find(|(of, _)| std::ptr::eq(*of, source)).map(|(_, join)| *join)
}

/// The farthest that a point is joined to a fire.
pub(crate) fn farthest_point_km() -> f64 {
    let reaches = JOINS.iter().map(|(_, join)| match join {
        Join::Points { reach_km } => *reach_km,
        Join::Named(_) | Join::Areas(_) => 0.0,
    });
    reaches.fold(0.0, f64::max)
}

/// Every format, once.
pub fn formats() -> Vec<Format> {
    let mut formats: Vec<Format> = Vec::new();
    for records in TABLE.iter().filter_map(|source| source.records.as_ref()) {
        if formats.iter().all(|format| format.name != records.format.name) {
            formats.push(records.format);
        }
    }
    formats
}

/// What a recorded body is in, by its head alone.
///
/// # Errors
/// What it looks like when no format's marks fit it, or those of several do; as words behind "it".
pub fn recognise(body: &[u8]) -> Result<(Format, SourceId), String> {
    if let Some(words) = form::unread(body) {
        return Err(words);
    }
    let head = Head::of(body);
    let fits = |weak| {
        let marked = formats().into_iter().filter_map(|format| Some((format, format.recognised(&head)?)));
        marked.filter(|(_, mark)| mark.weak == weak).collect::<Vec<_>>()
    };
    let mut found = fits(false);
    if found.is_empty() {
        found = fits(true);
    }
    match &found[..] {
        [(format, mark)] => {
            let id = SourceId::new(&mark.source.replace('*', RECORDED)).map_err(|e| e.to_string())?;
            Ok((*format, id))
        }
        [] => Err(format!("{}, and no format is known by that", head.words())),
        several => {
            let names: Vec<&str> = several.iter().map(|(format, _)| format.name).collect();
            Err(format!("{}, which {} have", head.words(), names.join(" and ")))
        }
    }
}

/// Behind a prefix of ids, for a record of which only its prefix is known.
const RECORDED: &str = "recorded";

/// The id under which a format's bodies are read that nobody names a source for.
pub fn source_of(format: Format) -> Option<SourceId> {
    let (_, id) =
        ids().find(|(source, _)| source.records.as_ref().is_some_and(|records| records.format.name == format.name))?;
    SourceId::new(&id.pattern.replace('*', RECORDED)).ok()
}

/// A drill's natural key: one that reuses the id of a real alert must not become its revision.
pub(crate) const DRILL_KEY: &[&str] = &["data.sender", "data.identifier", "data.sent", "data.status"];

/// What can stand in a topic: its sources' records; drills have the shape of alerts.
pub fn records_of(topic: Topic) -> impl Iterator<Item = &'static Records> {
    let ids_topic = if topic == DRILL.topic { Topic::CRITICAL_ALERTS } else { topic };
    let writes = move |source: &&&Source| source.ids.iter().any(|id| id.topic == ids_topic);
    TABLE.iter().filter(writes).filter_map(|source| source.records.as_ref())
}

/// Every polled service, once.
pub fn services() -> impl Iterator<Item = &'static Service> {
    let services = TABLE.iter().map(|source| source.service);
    let is_first = |at: usize, service: &Service| {
        !TABLE[..at].iter().filter_map(|source| source.service).any(|other| std::ptr::eq(other, service))
    };
    services.enumerate().filter_map(move |(at, service)| service.filter(|service| is_first(at, service)))
}

/// The patterns of all ids that something reads, with commas between: for messages and help.
pub fn readable_ids() -> String {
    let readable = ids().filter(|(source, _)| source.records.is_some());
    readable.map(|(_, id)| id.pattern).collect::<Vec<_>>().join(", ")
}

/// The table as a page of the documents.
pub fn listing() -> String {
    let mut page = String::from(
        "# Sources\n\nMade from `shared/src/sources` by `UPDATE_SCHEMAS=1 cargo test --workspace --test schemas`. \
         What records look like: [examples.md](examples.md).\n\n\
         | source id | what | tier | topic | format | polled from |\n|---|---|---|---|---|---|\n",
    );
    for (source, id) in ids() {
        let format = source.records.as_ref().map_or("not read yet", |records| records.format.name);
        let polled = source.service.map_or(String::new(), |service| match service.key_setting {
            Some(key) => format!("{} (key: `{key}`)", service.address),
            None => service.address.to_owned(),
        });
        let (pattern, name, tier, topic) = (id.pattern, id.name, id.tier, id.topic.name());
        page.push_str(&format!("| `{pattern}` | {name} | {tier} | `{topic}` | {format} | {polled} |\n"));
    }
    page.push_str(
        "\n## Polled services\n\nNo more requests than these are planned, over all streams of a file: `streammanager streams check` \
         shows how many it plans. Where one request at a time is made, streams take turns, also over several processes.\n\n\
         | service | address | read by `connector` | key | requests a minute | shortest interval | one at a time |\n|---|---|---|---|---|---|---|\n",
    );
    for service in services() {
        let (key, manners) = (service.key_setting.map_or(String::new(), |key| format!("`{key}`")), &service.manners);
        let (most, least) = (manners.a_minute, manners.least_interval.as_secs());
        let apart = manners.apart.map_or("no".to_owned(), |apart| format!("{} ms apart", apart.as_millis()));
        let kinds = ConnectorKind::ALL.iter().filter(|kind| std::ptr::eq(kind.service(), service));
        let kinds: Vec<String> = kinds.map(|kind| format!("`{kind}`")).collect();
        let (name, address, kinds) = (service.name, service.address, kinds.join(", "));
        page.push_str(&format!("| {name} | {address} | {kinds} | {key} | {most} | {least} s | {apart} |\n"));
    }
    page
}

#[cfg(test)]
mod tests;
