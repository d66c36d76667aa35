//! Which format a recorded body is in, by its head alone: names that only this format's rows have, or a text that only it has. No
//! row is read here, and what a format's marks are stands beside its decoder.

use std::collections::BTreeSet;

use super::encoding::without_mark;
use crate::limits::HEAD_BYTES;

/// One sign by which a format's bodies are known, and the source id that they are read under unless told otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// An id of the table of sources.
    pub source: &'static str,
    by: By,
    /// It fits much, and counts only where no other format's mark fits.
    pub(crate) weak: bool,
}

#[derive(Debug, Clone, Copy)]
enum By {
    Names(&'static [&'static str]),
    Text(&'static str),
    Looks(fn(&Head<'_>) -> bool),
}

impl Mark {
    /// All of these are columns of its table, or names in its JSON.
    pub(crate) const fn names(source: &'static str, names: &'static [&'static str]) -> Mark {
        Mark { source, by: By::Names(names), weak: false }
    }

    /// This stands in its XML.
    pub(crate) const fn text(source: &'static str, text: &'static str) -> Mark {
        Mark { source, by: By::Text(text), weak: false }
    }

    /// This is true of it.
    pub(crate) const fn looks(source: &'static str, looks: fn(&Head<'_>) -> bool) -> Mark {
        Mark { source, by: By::Looks(looks), weak: false }
    }

    /// It fits much.
    pub(crate) const fn weak(self) -> Mark {
        Mark { weak: true, ..self }
    }

    pub(crate) fn fits(&self, head: &Head<'_>) -> bool {
        match self.by {
            By::Names(names) => names.iter().all(|name| head.has(name)),
            By::Text(text) => head.kind == Kind::Xml && head.text.windows(text.len()).any(|at| at == text.as_bytes()),
            By::Looks(looks) => looks(head),
        }
    }
}

/// What a body is at first sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Json,
    Xml,
    Table,
    Text,
}

/// The beginning of a body, and the names in it.
#[derive(Debug)]
pub struct Head<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a [u8],
    /// Of columns or of members at any depth, in lower case.
    names: BTreeSet<String>,
    /// The same as they stand there, in their order, each once.
    pub(crate) written: Vec<String>,
}

impl<'a> Head<'a> {
    pub(crate) fn of(body: &'a [u8]) -> Head<'a> {
        let text = without_mark(body).trim_ascii_start();
        let text = &text[..text.len().min(HEAD_BYTES)];
        let line = text.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
        let (kind, all) = match text.first() {
            Some(b'{' | b'[') => (Kind::Json, members(text)),
            Some(b'<') => (Kind::Xml, Vec::new()),
            _ if line.iter().filter(|byte| **byte == b',').count() > 1 => (Kind::Table, columns(line)),
            _ => (Kind::Text, Vec::new()),
        };
        let mut head = Head { kind, text, names: BTreeSet::new(), written: Vec::new() };
        for name in all {
            if head.names.insert(name.to_ascii_lowercase()) {
                head.written.push(name);
            }
        }
        head
    }

    /// Whether a column or member has this name, letters of either case.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(&name.to_ascii_lowercase())
    }

    /// What it is, for whoever wonders why nothing reads it; as words behind "it".
    pub(crate) fn words(&self) -> String {
        let first = self.written.iter().take(8).map(|name| super::short(name)).collect::<Vec<_>>().join(", ");
        let begins = || super::short(&String::from_utf8_lossy(&self.text[..self.text.len().min(120)]));
        match self.kind {
            _ if self.text.is_empty() => "is empty".into(),
            Kind::Json if first.is_empty() => "is JSON without names".into(),
            Kind::Json => format!("is JSON with the names {first}"),
            Kind::Table => format!("is a table with the columns {first}"),
            Kind::Xml => format!("is XML that begins {:?}", begins()),
            Kind::Text => format!("begins {:?}", begins()),
        }
    }
}

fn columns(line: &[u8]) -> Vec<String> {
    let plain = |cell: &[u8]| String::from_utf8_lossy(cell.trim_ascii()).trim_matches('"').trim().to_owned();
    line.split(|byte| *byte == b',').map(plain).filter(|name| !name.is_empty()).collect()
}

/// Texts that a colon follows. The text may be cut off anywhere.
fn members(text: &[u8]) -> Vec<String> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(open) = memchr::memchr(b'"', &text[at..]).map(|open| at + open + 1) {
        let mut close = open;
        while close < text.len() && text[close] != b'"' {
            close += if text[close] == b'\\' { 2 } else { 1 };
        }
        let Some(rest) = text.get(close + 1..) else { break };
        if rest.trim_ascii_start().first() == Some(&b':') {
            found.push(String::from_utf8_lossy(&text[open..close]).into_owned());
        }
        at = close + 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_what_is_cut_off_anywhere() {
        let text = br#"{"a": [{"B\"c": "d: e"}, {"f" : "g\\"}], "h": 1}"#;
        let head = Head::of(text);
        assert_eq!(head.written, ["a", r#"B\"c"#, "f", "h"]);
        assert!(head.has("H") && !head.has("d: e"));
        for end in 0..text.len() {
            assert!(Head::of(&text[..end]).written.len() <= 4);
        }
        assert_eq!(Head::of(b"\xef\xbb\xbf a, \"B\" ,c\n1,2,3").written, ["a", "B", "c"]);
        assert_eq!(
            (Head::of(b"").words(), Head::of(b"[1]").words()),
            ("is empty".into(), "is JSON without names".into())
        );
    }

    #[test]
    fn a_mark_wants_all_of_its_names() {
        let mark = Mark::names("x", &["a", "b"]);
        assert!(mark.fits(&Head::of(b"A,b,c\n")) && mark.fits(&Head::of(br#"[{"b": {"a": 1}}]"#)));
        assert!(!mark.fits(&Head::of(b"a,c,d\n")) && !mark.fits(&Head::of(br#"{"a": "b"}"#)));
        assert!(Mark::text("x", "urn:y").fits(&Head::of(b"<a xmlns='urn:y'/>")));
        assert!(!Mark::text("x", "urn:y").fits(&Head::of(b"{'urn:y'}")));
    }
}
