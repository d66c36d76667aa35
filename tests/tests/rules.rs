//! Every rule's id that the tree names has a line in docs/rules.md, and every line is named somewhere. Published schemas name
//! none: who reads them knows no ids.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use streammanager_tests::workspace;

/// The letters that rules begin with.
const SECTIONS: &str = "SMPEQRKAODLF";
/// What is read as text; scripts have no extension.
const TEXTS: [&str; 6] = ["", "json", "md", "rs", "toml", "yaml"];

/// `S12`, and nothing else.
fn is_id(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|letter| SECTIONS.contains(letter))
        && matches!(text.len(), 2 | 3)
        && letters.all(|digit| digit.is_ascii_digit())
}

/// What stands in square brackets as `[S12]` or `[A1, A2]`.
fn bracketed(text: &str) -> impl Iterator<Item = &str> {
    let inside = text.split('[').skip(1).filter_map(|rest| rest.split_once(']')).map(|(inside, _)| inside);
    inside.filter(|inside| inside.split(", ").all(is_id)).flat_map(|inside| inside.split(", "))
}

/// The ids that tests are named by: `fn s12_…`.
fn test_names(text: &str) -> impl Iterator<Item = String> {
    let names = text.split("fn ").skip(1).filter_map(|rest| rest.split_once('_')).map(|(first, _)| first);
    names
        .filter(|first| first.starts_with(|letter: char| letter.is_ascii_lowercase()))
        .map(str::to_uppercase)
        .filter(|id| is_id(id))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != ".git" {
            files(&path, found);
        } else if path.is_file() && TEXTS.contains(&path.extension().unwrap_or_default().to_string_lossy().as_ref()) {
            found.push(path);
        }
    }
}

/// The places that name each id.
fn named() -> BTreeMap<String, BTreeSet<PathBuf>> {
    let (root, mut paths, mut named) = (workspace(), Vec::new(), BTreeMap::<_, BTreeSet<_>>::new());
    files(&root, &mut paths);
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if path.ends_with("docs/rules.md") || path.ends_with("tests/tests/rules.rs") {
            continue;
        }
        let ids = bracketed(&text).map(str::to_owned).chain(test_names(&text));
        ids.for_each(|id| {
            named.entry(id).or_default().insert(path.strip_prefix(&root).unwrap().to_owned());
        });
    }
    named
}

fn explained() -> BTreeSet<String> {
    let text = fs::read_to_string(workspace().join("docs/rules.md")).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("- **")?.split_once("** "));
    let ids: Vec<_> = lines.map(|(id, rule)| (id.to_owned(), rule.len())).collect();
    assert!(ids.iter().all(|(id, length)| is_id(id) && *length > 10), "{ids:?}");
    let all: BTreeSet<_> = ids.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(all.len(), ids.len(), "an id has two lines");
    all
}

#[test]
fn every_id_that_is_named_is_explained_and_every_line_is_named() {
    let (named, explained) = (named(), explained());
    let unknown: Vec<_> = named.iter().filter(|(id, _)| !explained.contains(*id)).collect();
    assert!(unknown.is_empty(), "no line in docs/rules.md explains these: {unknown:?}");
    let unused: Vec<_> = explained.iter().filter(|id| !named.contains_key(*id)).collect();
    assert!(unused.is_empty(), "nothing names these: take them out of docs/rules.md: {unused:?}");
}

#[test]
fn schemas_name_no_ids() {
    for (path, of) in named().iter().flat_map(|(id, paths)| paths.iter().map(move |path| (path, id))) {
        assert!(!path.starts_with("infra/schemas"), "{} names [{of}]", path.display());
    }
}

#[test]
fn ids_are_found_where_they_are_written() {
    let text = "/// A rule [S12] and two [A1, A2]; no rules: [X1], [S], [S123], [V5], a[0], [E4 alone].";
    assert_eq!(bracketed(text).collect::<Vec<_>>(), ["S12", "A1", "A2"]);
    let names = test_names("fn s12_a() {} async fn q1_b() {} fn h3_cell() {} fn plain_one() {} fn E4_x() {}");
    assert_eq!(names.collect::<Vec<_>>(), ["S12", "Q1"]);
}
