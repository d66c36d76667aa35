//! The list of planted bugs does not rot: each still stands where it says, and names a rule and a suite. Whether the tests catch
//! them, `tests/planted-bugs` finds out.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;

use serde::Deserialize;
use streammanager_tests::workspace;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Planted {
    name: String,
    rows: Vec<String>,
    file: String,
    from: String,
    to: String,
    suite: String,
    filter: String,
}

#[test]
fn l6_every_planted_bug_still_fits_the_text_it_changes() {
    let list = fs::read_to_string(workspace().join("tests/bugs/planted.json")).unwrap();
    let bugs: Vec<Planted> = serde_json::from_str(&list).unwrap();
    let rules = fs::read_to_string(workspace().join("docs/rules.md")).unwrap();
    assert!(bugs.len() >= 40, "{} bugs", bugs.len());
    let names: BTreeSet<&str> = bugs.iter().map(|bug| bug.name.as_str()).collect();
    assert_eq!(names.len(), bugs.len(), "two have one name");
    for Planted { name, rows, file, from, to, suite, filter } in &bugs {
        let text = fs::read_to_string(workspace().join(file)).unwrap();
        assert_eq!(text.matches(from.as_str()).count(), 1, "{name}: its text must stand once in {file}: {from}");
        assert_ne!(from, to, "{name}");
        // Both stand beside each other, as arms of an `if`: whole statements that bind nothing, or expressions.
        for text in [from, to] {
            let of = |brackets: &[char]| text.matches(brackets).count();
            let is_whole = of(&['{']) == of(&['}']) && of(&['(']) == of(&[')']) && !text.ends_with(',');
            assert!(is_whole, "{name}: it is no whole statement or expression: {text}");
        }
        assert!(!from.starts_with("let "), "{name}: what it binds would not be known behind it");
        assert!(!filter.is_empty() && (suite.starts_with("lib ") || suite.starts_with("test ")), "{name}: {suite}");
        assert!(!rows.is_empty(), "{name} breaks no rule");
        for row in rows {
            assert!(rules.contains(&format!("- **{row}** ")), "{name}: docs/rules.md has no {row}");
        }
    }
}
