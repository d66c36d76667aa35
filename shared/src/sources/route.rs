//! Where a source's records go [P2]: a pure function of the id, the grant and an alert's status, over the table.

use super::{find, readable_ids};
use crate::error::{Reason, Reject};
use crate::record::{SourceId, Tier, Topic};

/// Where a source's records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The source in words.
    pub name: &'static str,
    /// How urgent its records are.
    pub tier: Tier,
    /// Where its records are published.
    pub topic: Topic,
    /// The id looks critical but holds no grant: served as HIGH, and the caller writes an audit entry [P2].
    pub audited: bool,
}

const CRITICAL_WORDS: [&str; 2] = ["alert", "emergency"];

/// True for an id that only a connector with a critical grant may use [A2].
pub fn is_critical(source: &SourceId) -> bool {
    find(source).is_some_and(|(_, id)| id.tier == Tier::Critical)
}

/// The route of a source id. `granted`: its connector holds a critical grant.
///
/// # Errors
/// `unauthorised_source` for a critical id without a grant [A2], and for an id that no pattern knows.
pub fn route(source: &SourceId, granted: bool) -> Result<Route, Reject> {
    let text = source.as_str();
    let Some((_, id)) = find(source) else {
        let detail = format!("{text} is not a source id of the route table; known are {}", readable_ids());
        return Err(Reject::new(Reason::UnauthorisedSource, detail));
    };
    // A reading's id is its MQTT topic, which anybody may choose: without a grant its words raise nothing.
    let chosen_by_anybody = text.starts_with("iot_") && !granted;
    let sounds_critical = !chosen_by_anybody && CRITICAL_WORDS.iter().any(|word| text.contains(word));
    let (tier, topic) = (id.tier, id.topic);
    match (tier == Tier::Critical, sounds_critical, granted) {
        (true, _, false) => {
            let detail = format!("{text} is a critical id: its connector holds no critical grant");
            Err(Reject::new(Reason::UnauthorisedSource, detail))
        }
        (true, _, true) | (false, true, true) => {
            Ok(Route { name: id.name, tier: Tier::Critical, topic: Topic::CRITICAL_ALERTS, audited: false })
        }
        (false, true, false) => Ok(Route { name: id.name, tier: Tier::High, topic, audited: true }),
        (false, false, _) => Ok(Route { name: id.name, tier, topic, audited: false }),
    }
}

/// Where a drill goes: the NORMAL way, so that it exercises everything but the siren [E4].
pub const DRILL: Route =
    Route { name: "Life-safety alert drill", tier: Tier::Normal, topic: Topic::ALERT_DRILLS, audited: false };

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
        for id in ["ipaws_alerts", "cap_alerts_county"] {
            assert_eq!(of(id, false), Ok((Tier::High, "wildfire-incidents", true)), "{id}");
            assert_eq!(of(id, true), Ok((Tier::Critical, "wildfire-critical-alerts", false)), "{id}");
        }
        // Nobody without a key makes a reading urgent by the name of its topic, or fills the audit log with it.
        for id in ["iot_alert", "iot_emergency_camera"] {
            assert_eq!(of(id, false), Ok((Tier::Normal, "wildfire-iot-sensors", false)), "{id}");
            assert_eq!(of(id, true), Ok((Tier::Critical, "wildfire-critical-alerts", false)), "{id}");
        }
        assert_eq!(of("landsat_nrt_2", false), Err(Reason::UnauthorisedSource), "an exact pattern is not a prefix");
    }
}
