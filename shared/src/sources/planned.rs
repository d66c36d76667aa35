//! Ids whose tier and topic are part of the contract although nothing reads their records yet: consumers can be built, and
//! streams of an older version keep their place. A source that gets its decoder moves to a file of its own.

use super::{Id, Source};
use crate::record::{Tier, Topic};

pub(super) static SOURCE: Source = Source {
    ids: &[
        id("viirs_granule", "VIIRS active-fire granules", Tier::High, Topic::NASA_FIRMS),
        id("goes18_fdc", "GOES-18 fire detection", Tier::High, Topic::GOES_FIRE),
        id("goes19_fdc", "GOES-19 fire detection", Tier::High, Topic::GOES_FIRE),
        id("glm_flashes", "GOES lightning mapper", Tier::Normal, Topic::WEATHER),
        id("noaa_*", "NOAA weather", Tier::Normal, Topic::WEATHER),
        id("landsat_scene", "Landsat scenes", Tier::Low, Topic::SATELLITE_IMAGERY),
        id("copernicus_*", "Copernicus climate and atmosphere data", Tier::Low, Topic::CLIMATE),
        id("historical_*", "Archives", Tier::Low, Topic::HISTORICAL),
    ],
    records: None,
    service: None,
};

const fn id(pattern: &'static str, name: &'static str, tier: Tier, topic: Topic) -> Id {
    Id { pattern, name, tier, topic }
}
