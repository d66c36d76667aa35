//! The topics that records are published to [K2]: a name, a schema's version and a number of partitions each.

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
    GOES_FIRE = "wildfire-goes-fire", 12;
    IOT_SENSORS = "wildfire-iot-sensors", 16;
    WEATHER = "wildfire-weather", 6;
    SATELLITE_IMAGERY = "wildfire-satellite-imagery", 6;
    CLIMATE = "wildfire-climate", 6;
    INCIDENTS = "wildfire-incidents", 6;
    EVACUATION_ZONES = "wildfire-evacuation-zones", 6;
    INFRASTRUCTURE = "wildfire-infrastructure", 6;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k2_topics_have_their_partitions() {
        let partitions: Vec<_> = Topic::ALL.iter().map(|topic| topic.partitions()).collect();
        assert_eq!(partitions, [6, 12, 12, 16, 6, 6, 6, 6, 6, 6, 6, 6, 6]);
        assert_eq!(Topic::named("wildfire-nasa-firms").map(Topic::schema), Some("wildfire-nasa-firms/1"));
    }
}
