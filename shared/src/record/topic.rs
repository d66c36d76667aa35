//! The topics that records are published to [K2]: a name, a schema's version and a number of partitions each.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Where schemas are found if no setting names another place: a name that never changes.
pub const SCHEMAS: &str = "urn:streammanager:schemas:";

/// A topic as the contract names it; a stage's prefix is added by the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(&'static TopicSpec);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct TopicSpec {
    /// How envelopes name it: a number stays with its topic for good.
    code: u8,
    name: &'static str,
    version: u32,
    partitions: i32,
}

macro_rules! topics {
    ($($code:literal $constant:ident = $name:literal / $version:literal, $partitions:literal;)*) => {
        impl Topic {
            $(#[doc = concat!("`", $name, "`")]
            pub const $constant: Topic =
                Topic(&TopicSpec { code: $code, name: $name, version: $version, partitions: $partitions });)*
            /// Every topic of K2.
            pub const ALL: &'static [Topic] = &[$(Topic::$constant),*];
        }
    };
}

topics! {
    1 CRITICAL_ALERTS = "wildfire-critical-alerts" / 1, 6;
    2 NASA_FIRMS = "wildfire-nasa-firms" / 1, 12;
    3 GOES_FIRE = "wildfire-goes-fire" / 1, 12;
    4 IOT_SENSORS = "wildfire-iot-sensors" / 1, 16;
    5 WEATHER = "wildfire-weather" / 1, 6;
    6 SATELLITE_IMAGERY = "wildfire-satellite-imagery" / 1, 6;
    7 CLIMATE = "wildfire-climate" / 1, 6;
    8 INCIDENTS = "wildfire-incidents" / 1, 6;
    9 EVACUATION_ZONES = "wildfire-evacuation-zones" / 1, 6;
    10 INFRASTRUCTURE = "wildfire-infrastructure" / 1, 6;
    11 HISTORICAL = "wildfire-historical" / 1, 6;
    12 ALERT_DRILLS = "wildfire-alert-drills" / 1, 6;
    13 DEAD_LETTERS = "wildfire-dead-letters" / 1, 6;
}

impl Topic {
    /// The name before any stage's prefix [K2].
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Name and version of the value's JSON Schema, such as `wildfire-nasa-firms/1` [K5].
    pub fn schema(self) -> String {
        format!("{}/{}", self.0.name, self.0.version)
    }

    /// The absolute URI of that schema: `base` and the file's name.
    pub fn schema_uri(self, base: &str) -> String {
        format!("{base}{}-{}.json", self.0.name, self.0.version)
    }

    /// The CloudEvents type of its records, such as `wildfire.nasa.firms.v1`.
    pub fn event_type(self) -> &'static str {
        static TYPES: LazyLock<BTreeMap<Topic, String>> = LazyLock::new(|| {
            let event_type = |spec: &TopicSpec| format!("{}.v{}", spec.name.replace('-', "."), spec.version);
            Topic::ALL.iter().map(|topic| (*topic, event_type(topic.0))).collect()
        });
        &TYPES[&self]
    }

    pub(crate) fn code(self) -> u8 {
        self.0.code
    }

    pub(crate) fn of_code(code: u8) -> Option<Topic> {
        Topic::ALL.iter().copied().find(|topic| topic.code() == code)
    }

    /// The number of partitions of a new topic; one that exists is never repartitioned [K2].
    pub fn partitions(self) -> i32 {
        self.0.partitions
    }

    /// The topic with this name, without a prefix.
    pub fn named(name: &str) -> Option<Topic> {
        Topic::ALL.iter().copied().find(|topic| topic.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k2_topics_have_their_partitions() {
        let partitions: Vec<_> = Topic::ALL.iter().map(|topic| topic.partitions()).collect();
        assert_eq!(partitions, [6, 12, 12, 16, 6, 6, 6, 6, 6, 6, 6, 6, 6]);
        let firms = Topic::named("wildfire-nasa-firms").unwrap();
        assert_eq!(firms.schema(), "wildfire-nasa-firms/1");
        assert_eq!(firms.event_type(), "wildfire.nasa.firms.v1");
        assert_eq!(firms.schema_uri(SCHEMAS), "urn:streammanager:schemas:wildfire-nasa-firms-1.json");
        assert!(Topic::ALL.iter().all(|&topic| Topic::of_code(topic.code()) == Some(topic)));
    }
}
