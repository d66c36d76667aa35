//! The hourly report of dead letters [R4], on its way from the function that makes it to the line that says it.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::changes::{DeadPattern, Event};

/// Patterns that a line names; `dead-letters explain` has all.
const NAMED: usize = 3;

/// The last report that was not said yet; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Reports(Arc<Mutex<Option<Event>>>);

impl Reports {
    /// What the function answered. Without any letter there is nothing to say.
    pub(crate) fn made(&self, report: &Value) {
        let letters = report["letters"].as_u64().unwrap_or_default();
        let patterns = report["patterns"].as_array().map_or(&[][..], Vec::as_slice);
        let text = |pattern: &Value, field: &str| pattern[field].as_str().unwrap_or_default().to_owned();
        let named = patterns.iter().take(NAMED).map(|pattern| DeadPattern {
            stream: text(pattern, "stream"),
            reason: text(pattern, "reason"),
            rule: text(pattern, "rule"),
            letters: pattern["letters"].as_u64().unwrap_or_default(),
        });
        let event = Event::DeadLetters { letters, patterns: patterns.len(), most: named.collect() };
        *self.0.lock() = (letters > 0).then_some(event);
    }

    /// The report, once.
    pub(crate) fn take(&self) -> Option<Event> {
        self.0.lock().take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn r4_a_report_is_said_once_and_names_the_commonest_faults() {
        let reports = Reports::default();
        reports.made(&json!({ "letters": 0, "patterns": [] }));
        assert_eq!(reports.take(), None);
        let pattern =
            |n: u64| json!({ "stream": format!("s{n}"), "reason": "bad_time", "rule": "a \u{1b}b", "letters": n });
        reports.made(&json!({ "letters": 10, "patterns": [pattern(4), pattern(3), pattern(2), pattern(1)] }));
        let words = reports.take().map(|event| event.words());
        let want = "dead letters: 10, of different faults: 4; most often 4 × bad_time in stream s4 (a \\u{1b}b), \
                    3 × bad_time in stream s3 (a \\u{1b}b), 2 × bad_time in stream s2 (a \\u{1b}b); \
                    what to do: streammanager dead-letters explain";
        assert_eq!(words.as_deref(), Some(want));
        assert_eq!(reports.take(), None);
    }
}
