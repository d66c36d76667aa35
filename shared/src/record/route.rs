//! The one route table [P2, K2]: id pattern → tier → topic. A pure function of the id, the grant and an alert's status.

use crate::error::{Reason, Reject};
use crate::record::{SourceId, Tier};

/// A topic as the contract names it; a stage's prefix is added by the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(&'static TopicSpec);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct TopicSpec {
    name: &'static str,
    schema: &'static str,
    partitions: i32,
}

macro_rules! topics {
    ($($constant:ident = $name:literal, $partitions:literal;)*) => {
        impl Topic {
            $(pub const $constant: Topic =
                Topic(&TopicSpec { name: $name, schema: concat!($name, "/1"), partitions: $partitions });)*
            /// Every topic of K2.
            pub const ALL: &'static [Topic] = &[$(Topic::$constant),*];
        }
    };
}

topics! {
    CRITICAL_ALERTS = "wildfire-critical-alerts", 6;
    NASA_FIRMS = "wildfire-nasa-firms", 12;
    IOT_SENSORS = "wildfire-iot-sensors", 16;
    WEATHER = "wildfire-weather", 6;
    SATELLITE_IMAGERY = "wildfire-satellite-imagery", 6;
    CLIMATE = "wildfire-climate", 6;
    INCIDENTS = "wildfire-incidents", 6;
    HISTORICAL = "wildfire-historical", 6;
    ALERT_DRILLS = "wildfire-alert-drills", 6;
    DEAD_LETTERS = "wildfire-dead-letters", 6;
}

impl Topic {
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Name and version of the value's JSON Schema [K5].
    pub fn schema(self) -> &'static str {
        self.0.schema
    }

    pub fn partitions(self) -> i32 {
        self.0.partitions
    }

    pub fn named(name: &str) -> Option<Topic> {
        Topic::ALL.iter().copied().find(|topic| topic.name() == name)
    }
}

/// Where a source's records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub tier: Tier,
    pub topic: Topic,
    /// The id looks critical but holds no grant: served as HIGH, and the caller writes an audit entry [P2].
    pub audited: bool,
}

const CRITICAL_PREFIXES: [&str; 3] = ["evacuation_alert_", "emergency_broadcast_", "life_safety_"];
const CRITICAL_WORDS: [&str; 2] = ["alert", "emergency"];

/// First match wins; a pattern ending in `_` is a prefix, any other an exact id.
const TABLE: [(&str, Tier, Topic); 10] = [
    ("firms_", Tier::High, Topic::NASA_FIRMS),
    ("landsat_nrt", Tier::High, Topic::NASA_FIRMS),
    ("viirs_granule", Tier::High, Topic::NASA_FIRMS),
    ("iot_", Tier::Normal, Topic::IOT_SENSORS),
    ("noaa_", Tier::Normal, Topic::WEATHER),
    ("calfire_incidents", Tier::Normal, Topic::INCIDENTS),
    ("wfigs_perimeters", Tier::Normal, Topic::INCIDENTS),
    ("landsat_scene", Tier::Low, Topic::SATELLITE_IMAGERY),
    ("copernicus_", Tier::Low, Topic::CLIMATE),
    ("historical_", Tier::Low, Topic::HISTORICAL),
];

/// True for an id that only a connector with a critical grant may use [A2].
pub fn is_critical(source: &SourceId) -> bool {
    CRITICAL_PREFIXES.iter().any(|prefix| source.as_str().starts_with(prefix))
}

/// The route of a source id. `granted`: its connector holds a critical grant.
///
/// # Errors
/// `unauthorised_source` for a critical id without a grant [A2], and for an id that no pattern knows.
pub fn route(source: &SourceId, granted: bool) -> Result<Route, Reject> {
    let id = source.as_str();
    if is_critical(source) {
        return if granted {
            Ok(Route { tier: Tier::Critical, topic: Topic::CRITICAL_ALERTS, audited: false })
        } else {
            Err(Reject::new(
                Reason::UnauthorisedSource,
                format!("{id} is a critical id: its connector holds no critical grant"),
            ))
        };
    }
    let known = TABLE
        .iter()
        .find(|(pattern, ..)| if pattern.ends_with('_') { id.starts_with(pattern) } else { id == *pattern });
    let sounds_critical = CRITICAL_WORDS.iter().any(|word| id.contains(word));
    match known {
        Some((_, _, _)) if sounds_critical && granted => {
            Ok(Route { tier: Tier::Critical, topic: Topic::CRITICAL_ALERTS, audited: false })
        }
        Some(&(_, _, topic)) if sounds_critical => Ok(Route { tier: Tier::High, topic, audited: true }),
        Some(&(_, tier, topic)) => Ok(Route { tier, topic, audited: false }),
        None => {
            Err(Reject::new(Reason::UnauthorisedSource, format!("{id} is no source id that the route table knows")))
        }
    }
}

/// Where a drill goes: the NORMAL way, so that it exercises everything but the siren [E4].
pub const DRILL: Route = Route { tier: Tier::Normal, topic: Topic::ALERT_DRILLS, audited: false };

#[cfg(test)]
mod tests {
    use super::*;

    fn of(id: &str, granted: bool) -> Result<(Tier, &'static str, bool), Reason> {
        route(&SourceId::new(id).unwrap(), granted).map(|r| (r.tier, r.topic.name(), r.audited)).map_err(|e| e.reason)
    }

    #[test]
    fn p2_every_pattern_has_its_tier_and_topic() {
        for id in ["firms_viirs_snpp", "firms_modis_terra", "landsat_nrt", "viirs_granule"] {
            assert_eq!(of(id, false), Ok((Tier::High, "wildfire-nasa-firms", false)), "{id}");
        }
        assert_eq!(of("iot_purpleair", false), Ok((Tier::Normal, "wildfire-iot-sensors", false)));
        assert_eq!(of("noaa_observations", false), Ok((Tier::Normal, "wildfire-weather", false)));
        assert_eq!(of("landsat_scene", false), Ok((Tier::Low, "wildfire-satellite-imagery", false)));
        assert_eq!(of("copernicus_era5", false), Ok((Tier::Low, "wildfire-climate", false)));
    }

    #[test]
    fn p2_a_critical_id_needs_the_grant_and_a_mere_word_does_not_ring_the_siren() {
        for id in ["evacuation_alert_butte", "emergency_broadcast_x", "life_safety_derived"] {
            assert_eq!(of(id, true), Ok((Tier::Critical, "wildfire-critical-alerts", false)));
            assert_eq!(of(id, false), Err(Reason::UnauthorisedSource));
        }
        assert_eq!(of("noaa_alerts", false), Ok((Tier::High, "wildfire-weather", true)));
        assert_eq!(of("noaa_alerts", true), Ok((Tier::Critical, "wildfire-critical-alerts", false)));
        assert_eq!(of("landsat_nrt_2", false), Err(Reason::UnauthorisedSource), "an exact pattern is no prefix");
    }

    #[test]
    fn k2_topics_have_their_partitions() {
        let partitions: Vec<_> = Topic::ALL.iter().map(|t| t.partitions()).collect();
        assert_eq!(partitions, [6, 12, 16, 6, 6, 6, 6, 6, 6, 6]);
        assert_eq!(Topic::named("wildfire-nasa-firms").map(Topic::schema), Some("wildfire-nasa-firms/1"));
    }
}
