//! Topic filters of MQTT (section 4.7), as far as mappings need them: what one covers, and which of two is the narrower.

/// A well-formed filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter(Vec<String>);

/// How long a filter may be.
const FILTER_BYTES: usize = 512;

impl Filter {
    /// # Errors
    /// The rule that the text breaks.
    pub(crate) fn parse(text: &str) -> Result<Filter, &'static str> {
        if text.is_empty() || text.len() > FILTER_BYTES || text.contains('\0') {
            return Err("a topic filter has 1 to 512 bytes and no U+0000");
        }
        let levels: Vec<String> = text.split('/').map(str::to_owned).collect();
        for (at, level) in levels.iter().enumerate() {
            if level.contains('#') && (level != "#" || at + 1 != levels.len()) {
                return Err("'#' must stand alone and last in a topic filter");
            }
            if level.contains('+') && level != "+" {
                return Err("'+' must stand for a whole level of a topic filter");
            }
        }
        Ok(Filter(levels))
    }

    pub(crate) fn matches(&self, topic: &str) -> bool {
        let mut levels = topic.split('/');
        for wanted in &self.0 {
            // "a/#" covers "a" too.
            if wanted == "#" {
                return true;
            }
            if levels.next().is_none_or(|level| wanted != "+" && wanted != level) {
                return false;
            }
        }
        levels.next().is_none()
    }

    /// Whether it matches every topic that `other` matches.
    pub(super) fn covers(&self, other: &Filter) -> bool {
        for (at, level) in self.0.iter().enumerate() {
            match (level.as_str(), other.0.get(at).map(String::as_str)) {
                ("#", _) => return true,
                (_, None | Some("#")) => return false,
                ("+", Some(_)) => {}
                (level, Some(other)) if level == other => {}
                _ => return false,
            }
        }
        self.0.len() == other.0.len()
    }

    /// Whether some topic matches both.
    pub(crate) fn meets(&self, other: &Filter) -> bool {
        let mut at = 0;
        loop {
            match (self.0.get(at).map(String::as_str), other.0.get(at).map(String::as_str)) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (None, _) | (_, None) => return false,
                (Some(one), Some(two)) if one != two && one != "+" && two != "+" => return false,
                _ => at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        Filter::parse(text).unwrap()
    }

    #[test]
    fn filters_match_cover_and_meet_as_mqtt_says() {
        for (text, topic, matches) in [
            ("sensors/+/+/state", "sensors/a/b/state", true),
            ("sensors/#", "sensors", true),
            ("sensors/#", "sensors/a/b/state", true),
            ("sensors/+/b/state", "sensors/a/c/state", false),
            ("sensors/+", "sensors/a/b", false),
        ] {
            assert_eq!(filter(text).matches(topic), matches, "{text} against {topic}");
        }
        for (one, two, covers, covered, meets) in [
            ("sensors/#", "sensors/a/+/state", true, false, true),
            ("sensors/a/+/state", "sensors/+/b/state", false, false, true),
            ("sensors/a/+/state", "sensors/b/+/state", false, false, false),
            ("sensors/+/+/state", "sensors/a/+/state", true, false, true),
            ("sensors/a/#", "sensors/a", true, false, true),
            ("sensors/a", "sensors/a/b", false, false, false),
            ("#", "#", true, true, true),
            ("sensors/+/#", "sensors/a/#", true, false, true),
        ] {
            let (one, two) = (filter(one), filter(two));
            assert_eq!(
                (one.covers(&two), two.covers(&one), one.meets(&two)),
                (covers, covered, meets),
                "{one:?} {two:?}"
            );
            assert_eq!(two.meets(&one), meets);
        }
        for bad in ["", "a#", "#/a", "a+/b", "a\0"] {
            assert!(Filter::parse(bad).is_err(), "{bad:?}");
        }
    }
}
