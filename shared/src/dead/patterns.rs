//! Dead letters by what they have in common, for people [R4]: read page by page, so that the report costs the same memory
//! however many there are.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;

use super::advice::advice;
use super::{DeadLetter, bounds, each, parse};
use crate::error::{BackendError, Reason};
use crate::record::{EventId, SourceId, StreamId};
use crate::store::Store;
use crate::time::Timestamp;

/// Dead letters with the same fault.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pattern {
    /// The stream that the letters came in.
    pub stream: StreamId,
    /// The source id that they were to be published under.
    pub source: SourceId,
    /// The reason that they share.
    pub reason: Reason,
    /// The field that is wrong, where the reason is about one.
    pub field: Option<String>,
    /// The rule that they broke: their detail without the values that differ.
    pub rule: String,
    /// Letters that are stored now.
    pub letters: u64,
    /// Readings of the same faults, first ones included.
    pub attempts: u64,
    /// When one of the faults was met first.
    #[serde(serialize_with = "crate::time::serialize")]
    pub first_seen: Timestamp,
    /// When one of the faults was met last.
    #[serde(serialize_with = "crate::time::serialize")]
    pub last_seen: Timestamp,
    /// One of them, for `show`.
    pub example: EventId,
    /// What is wrong with it, in words.
    pub example_detail: String,
    /// What to do about them, in words for a person on duty.
    pub advice: &'static str,
}

/// All dead letters, grouped by their fault [R4].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PatternReport {
    /// Letters that are stored now, those of the groups that are not listed too.
    pub letters: u64,
    /// Of these, the ones that cannot be read any more and stand in no pattern.
    pub unreadable: u64,
    /// Of these, the ones of further patterns, which are not listed.
    pub unlisted: u64,
    /// Rejects beyond what may be kept: counted at each reading, not stored.
    pub beyond: u64,
    /// Most letters first, a few hundred at most.
    pub patterns: Vec<Pattern>,
}

/// Of more patterns than this only the letters are counted: anybody can make up the name of a sensor's kind.
const PATTERNS: usize = 500;
/// What a pattern shows of its rule, in characters.
const RULE_CHARS: usize = 200;

/// Every dead letter, grouped.
pub async fn patterns(store: &dyn Store) -> Result<PatternReport, BackendError> {
    let mut grouped: BTreeMap<(StreamId, SourceId, Reason, String), Pattern> = BTreeMap::new();
    let (mut letters, mut unreadable, mut unlisted) = (0, 0, 0);
    each(store, "", None, |item| {
        letters += 1;
        let Ok(letter) = parse(&item.value) else {
            unreadable += 1;
            return ControlFlow::Continue(());
        };
        let rule = rule(&letter.detail);
        let key = (letter.stream.clone(), letter.source.clone(), letter.reason, rule.clone());
        if grouped.len() >= PATTERNS && !grouped.contains_key(&key) {
            unlisted += 1;
            return ControlFlow::Continue(());
        }
        let pattern = grouped.entry(key).or_insert_with(|| pattern(&letter, rule));
        pattern.letters += 1;
        pattern.attempts += letter.attempts;
        pattern.first_seen = pattern.first_seen.min(letter.first_seen);
        pattern.last_seen = pattern.last_seen.max(letter.last_seen);
        ControlFlow::Continue(())
    })
    .await?;
    let mut patterns: Vec<Pattern> = grouped.into_values().collect();
    patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.letters));
    Ok(PatternReport { letters, unreadable, unlisted, beyond: bounds::beyond(store).await?, patterns })
}

/// Of this letter, which is not counted yet.
fn pattern(letter: &DeadLetter, rule: String) -> Pattern {
    Pattern {
        stream: letter.stream.clone(),
        source: letter.source.clone(),
        reason: letter.reason,
        field: field(letter.reason, &letter.detail),
        rule,
        letters: 0,
        attempts: 0,
        first_seen: letter.first_seen,
        last_seen: letter.last_seen,
        example: letter.id,
        example_detail: letter.detail.clone(),
        advice: advice(letter.reason),
    }
}

/// A detail without what differs from letter to letter: quoted texts, numbers, times and ids become `…`.
fn rule(detail: &str) -> String {
    let mut unquoted = String::with_capacity(detail.len());
    let (mut quoted, mut escaped) = (false, false);
    for char in detail.chars() {
        match char {
            '"' if !escaped => {
                quoted = !quoted;
                unquoted.push_str(if quoted { "…" } else { "" });
            }
            _ if quoted => {}
            other => unquoted.push(other),
        }
        escaped = char == '\\' && !escaped;
    }
    let words = unquoted.split_whitespace().map(|word| {
        let bare = word.trim_matches(|char: char| matches!(char, ',' | ';' | ':' | '(' | ')'));
        if is_value(bare) { word.replace(bare, "…") } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ").chars().take(RULE_CHARS).collect()
}

/// A number, a time or an id: what one letter alone has.
fn is_value(word: &str) -> bool {
    let id = word.len() >= 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    id || word.parse::<f64>().is_ok() || word.parse::<Timestamp>().is_ok()
}

/// The field with which a detail begins.
fn field(reason: Reason, detail: &str) -> Option<String> {
    match reason {
        Reason::BadLatitude => return Some("latitude".into()),
        Reason::BadLongitude => return Some("longitude".into()),
        Reason::MissingField | Reason::BadTime | Reason::FutureTime | Reason::BadPolygon => {}
        _ => return None,
    }
    let first = detail.split_whitespace().next()?;
    let named = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '.' | '[' | ']');
    (first.starts_with(|char: char| char.is_ascii_lowercase()) && first.chars().all(named)).then(|| first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r4_letters_with_the_same_fault_have_the_same_rule() {
        for (one, other, shared) in [
            ("latitude 95 is not in -90..90", "latitude -91.5 is not in -90..90", "latitude … is not in -90..90"),
            ("latitude \"a\" is not a number", "latitude \"b \\\" c\" is not a number", "latitude … is not a number"),
            ("12 of 14 columns", "3 of 14 columns", "… of … columns"),
            (
                "observed_at 2036-01-01T00:00:00Z is more than 5 minutes after 2026-09-01T19:00:00.000Z, the time here",
                "observed_at 2037-01-01T00:00:00Z is more than 5 minutes after 2026-09-02T19:00:00.000Z, the time here",
                "observed_at … is more than … minutes after …, the time here",
            ),
        ] {
            assert_eq!((rule(one), rule(other)), (shared.to_owned(), shared.to_owned()));
        }
        assert_ne!(rule("sent is missing"), rule("sender is missing"));
        assert!(rule(&"é".repeat(5_000)).chars().count() <= RULE_CHARS);
    }

    #[test]
    fn r4_a_pattern_names_its_field() {
        let of = |reason, detail| field(reason, detail);
        assert_eq!(of(Reason::FutureTime, "observed_at 2036 is late").as_deref(), Some("observed_at"));
        assert_eq!(of(Reason::MissingField, "info[0].area is missing").as_deref(), Some("info[0].area"));
        assert_eq!(of(Reason::MissingField, "\"x\" is none of them"), None);
        assert_eq!(of(Reason::BadJson, "expected a value"), None);
    }
}
