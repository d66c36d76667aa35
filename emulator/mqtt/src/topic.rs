//! Topic names and topic filters of MQTT (section 4.7 of 3.1.1 and of 5): what is well formed, and what matches what.
//! Who subscribed to what is in `routes`; nothing here knows of connections or permissions.

use super::limits::{TOPIC_BYTES, TOPIC_LEVELS};

/// Why a topic name or a topic filter is not well formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTopic(&'static str);

/// A well-formed topic filter: `+` stands for one whole level, `#` for the rest and only at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter(String);

impl Filter {
    /// Takes what section 4.7 of MQTT calls well formed.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn parse(text: &str) -> Result<Filter, BadTopic> {
        check_text(text)?;
        let levels = text.split('/').count();
        for (at, level) in text.split('/').enumerate() {
            if level.contains('#') && (level != "#" || at + 1 != levels) {
                return Err(BadTopic("'#' must stand alone and last in a topic filter"));
            }
            if level.contains('+') && level != "+" {
                return Err(BadTopic("'+' must stand for a whole level of a topic filter"));
            }
        }
        Ok(Filter(text.to_owned()))
    }

    /// The filter's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the filter covers this topic.
    pub fn matches(&self, topic: &str) -> bool {
        matches(&self.0, topic)
    }
}

/// Whether a well-formed topic filter covers a topic. Topics beginning with `$` are the server's own:
/// a wildcard in the first level does not cover them.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        // "a/#" covers "a" too, so this comes before the topic's next level is asked for.
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// What a client subscribes to: a filter, and the group that shares the subscription, if one does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    /// `$share/{group}/{filter}`: one member of the group gets each message.
    pub(super) share: Option<String>,
    pub(super) filter: Filter,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Target, BadTopic> {
        let Some(shared) = text.strip_prefix("$share/") else {
            return Ok(Target { share: None, filter: Filter::parse(text)? });
        };
        let (group, filter) = shared.split_once('/').ok_or(BadTopic("a shared subscription needs a filter"))?;
        if group.is_empty() || group.contains(['+', '#']) {
            return Err(BadTopic("the group of a shared subscription needs a name without wildcards"));
        }
        Ok(Target { share: Some(group.to_owned()), filter: Filter::parse(filter)? })
    }
}

/// Checks a topic name, as a publish or a last will carries it.
pub(super) fn check_topic(topic: &str) -> Result<(), BadTopic> {
    check_text(topic)?;
    if topic.contains(['+', '#']) {
        return Err(BadTopic("a topic name holds no wildcards"));
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), BadTopic> {
    if text.is_empty() {
        return Err(BadTopic("the topic is empty"));
    }
    if text.contains('\0') {
        return Err(BadTopic("the topic holds U+0000"));
    }
    if text.len() > TOPIC_BYTES {
        return Err(BadTopic("the topic is too long"));
    }
    if text.split('/').count() > TOPIC_LEVELS {
        return Err(BadTopic("the topic has too many levels"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_cover_what_the_standard_says() {
        let table = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "any/thing", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/monitor", false),
            ("+/monitor/clients", "$SYS/monitor/clients", false),
            ("$SYS/#", "$SYS/monitor", true),
            ("$SYS/monitor/+", "$SYS/monitor/clients", true),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("A", "a", false),
        ];
        for (filter, topic, covers) in table {
            assert!(Filter::parse(filter).is_ok(), "{filter} is well formed");
            assert_eq!(matches(filter, topic), covers, "{filter} against {topic}");
        }
    }

    #[test]
    fn malformed_filters_and_topics_are_told_apart() {
        let deep = "/".repeat(TOPIC_LEVELS);
        let long = "x".repeat(TOPIC_BYTES + 1);
        for bad in ["", "a#", "a#b", "#/a", "a/#/b", "a+", "+a/b", "a/b+/c", "a\0b", &deep, &long] {
            assert!(Filter::parse(bad).is_err(), "{bad:?} is no filter");
        }
        for good in ["#", "+", "+/+/#", "/", "a//b", "$share/group/a", "é/ü"] {
            assert!(Filter::parse(good).is_ok(), "{good:?} is a filter");
        }
        for bad in ["", "a/+/b", "a/#", "a\0", &deep, &long] {
            assert!(check_topic(bad).is_err(), "{bad:?} is no topic");
        }
        assert_eq!(check_topic("sensors/raws/CA-1/state"), Ok(()));
    }
}
