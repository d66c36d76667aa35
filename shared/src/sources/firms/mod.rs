//! NASA FIRMS: fire detections of five satellites, polled as area CSV, or read from daily text
//! files, archives and JSON [S1, S6].

mod json;
mod poll;
pub mod rows;
mod satellite;
mod table;
mod when;

pub(super) use poll::told;
pub use poll::{Config, Firms, Product};
pub use when::{TimeOfDay, moments};

use std::time::Duration;

use super::{Id, Join, Records, Service, Services, Source};
use crate::connect::politeness::Manners;
use crate::decode::Format;
use crate::decode::head::{Kind, Mark};
use crate::record::{SourceId, Tier, Topic};

pub(super) static SERVICE: Service = Service {
    name: "NASA FIRMS",
    address: "https://firms.modaps.eosdis.nasa.gov",
    address_setting: "FIRMS_BASE_URL",
    address_parameter: "FirmsBaseUrl",
    key_setting: Some("FIRMS_MAP_KEY"),
    // 5,000 transactions of a key in ten minutes; a wide box or several days cost more than one.
    manners: Manners { a_minute: 500, least_interval: Duration::from_secs(1), apart: None },
};

pub(super) static SOURCE: Source = Source {
    ids: &[
        detections("firms_viirs_snpp", "NASA FIRMS VIIRS S-NPP"),
        detections("firms_viirs_noaa20", "NASA FIRMS VIIRS NOAA-20"),
        detections("firms_viirs_noaa21", "NASA FIRMS VIIRS NOAA-21"),
        detections("firms_modis_terra", "NASA FIRMS MODIS Terra"),
        detections("firms_modis_aqua", "NASA FIRMS MODIS Aqua"),
        detections("landsat_nrt", "NASA FIRMS Landsat"),
        detections("firms_*", "NASA FIRMS"),
        Id { pattern: "historical_firms*", name: "NASA FIRMS archive", tier: Tier::Low, topic: Topic::HISTORICAL },
    ],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<rows::Detection<'static>>(),
        key: &["latitude", "longitude", "data.acq_date", "data.acq_time", "data.satellite"],
        in_order: false,
        lasting: false,
    }),
    service: Some(&SERVICE),
};

/// A pixel of VIIRS is 0.4 to 0.8 km wide and one of MODIS 1 to 4.8, and a fire runs some kilometres before it is mapped again.
pub(super) static FIRE: Join = Join::Points { reach_km: 3.0 };

/// NASA FIRMS CSV or JSON of any product.
pub const FORMAT: Format = Format::new("firms", rows::rows).known_by(&[
    // Only the standard product tells the type of a fire.
    Mark::looks("historical_firms", |head| {
        head.kind == Kind::Table && ["acq_date", "acq_time", "satellite", "type"].iter().all(|name| head.has(name))
    }),
    Mark::names("firms_*", &["acq_date", "acq_time", "satellite"]),
]);

const fn detections(pattern: &'static str, name: &'static str) -> Id {
    Id { pattern, name, tier: Tier::High, topic: Topic::NASA_FIRMS }
}

pub(super) fn connector(config: Config, source: SourceId, services: &Services) -> Result<Firms, String> {
    let (base_url, map_key) = (services.address(&SERVICE).to_owned(), services.key(&SERVICE)?.to_owned());
    Ok(Firms { source, config, base_url, map_key })
}
