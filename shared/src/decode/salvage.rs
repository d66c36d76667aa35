//! A list of JSON objects that all begin with the same member, also where the body as a whole is no JSON: a comma that was lost,
//! bytes that are no UTF-8, an end that did not come. What stands between two beginnings is read for itself, so that damage costs
//! the item that it lies in [S9].

use bytes::Bytes;
use memchr::memmem;
use serde_json::value::RawValue;

use super::items::Document;
use crate::error::{Reason, Reject};

/// The items of a body.
#[derive(Debug)]
pub(crate) struct Salvaged {
    /// Each with its own bytes; a damaged one too, which its reader will refuse.
    pub(crate) items: Vec<Bytes>,
    /// Why the body as a whole could not be read, where that is so.
    pub(crate) damage: Option<String>,
    /// It ends within an item, or before the list does. What was cut off of an item is none of them.
    pub(crate) cut: bool,
}

/// The items under `list`, each an object that begins with the member `own`; or one such object alone.
///
/// # Errors
/// `bad_json`, `not_data` for a body without such items; what a service says in it of an error.
pub(crate) fn read(body: &Bytes, list: &str, own: &str) -> Result<Salvaged, Reject> {
    let problem = match Document::read_or_one(body, &[list], &[own]) {
        Ok(document) => return Ok(Salvaged { items: document.collect(), damage: None, cut: false }),
        Err(reject) => reject,
    };
    let begins = beginnings(body, own);
    if problem.reason != Reason::BadJson || begins.is_empty() {
        return Err(problem);
    }
    let whole = ends(body);
    let mut salvaged = Salvaged { items: Vec::new(), damage: Some(problem.detail), cut: whole.is_none() };
    let ends = begins[1..].iter().copied().chain([whole.unwrap_or(body.len())]);
    for (n, (start, end)) in begins.iter().copied().zip(ends).enumerate() {
        let is_last = n + 1 == begins.len();
        let text = body.slice(start..end.max(start));
        let item = first_value(&text);
        if item.is_none() && is_last && salvaged.cut {
            continue;
        }
        let (item, rest) = match item {
            Some(length) => (text.slice(..length), between(&text.slice(length..))),
            None => (between(&text), Bytes::new()),
        };
        salvaged.items.push(item);
        let is_cut_off = is_last && salvaged.cut;
        if !rest.is_empty() && !is_cut_off {
            salvaged.items.push(rest);
        }
    }
    Ok(salvaged)
}

/// Where an object begins with the member.
fn beginnings(body: &Bytes, own: &str) -> Vec<usize> {
    let name = format!("\"{own}\"");
    let begins = |at: usize| {
        let before = body[..at].trim_ascii_end();
        let follows = body[at + name.len()..].trim_ascii_start().starts_with(b":");
        (follows && before.ends_with(b"{")).then(|| before.len() - 1)
    };
    memmem::find_iter(body, &name).filter_map(begins).collect()
}

/// Where the list ends, if it does: `]}` and nothing behind it.
fn ends(body: &[u8]) -> Option<usize> {
    let list = body.trim_ascii_end().strip_suffix(b"}")?.trim_ascii_end().strip_suffix(b"]")?;
    Some(list.len())
}

/// The length of the value that a text begins with, where that can be read.
fn first_value(text: &[u8]) -> Option<usize> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<&RawValue>();
    values.next()?.ok()?;
    Some(values.byte_offset())
}

/// Without blanks, and the commas that part items.
fn between(text: &Bytes) -> Bytes {
    let is_filler = |byte: &u8| *byte == b',' || byte.is_ascii_whitespace();
    let start = text.iter().position(|byte| !is_filler(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_filler(byte)).map_or(start, |last| last + 1);
    text.slice(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"lcs": {"a": ["}"], "index": "1"}}"#;
    const TWO: &str = r#"{ "lcs" : {"index": "2"}}"#;

    fn read(body: impl Into<Bytes>) -> Salvaged {
        super::read(&body.into(), "data", "lcs").unwrap()
    }

    fn texts(salvaged: &Salvaged) -> Vec<String> {
        salvaged.items.iter().map(|item| String::from_utf8_lossy(item).into_owned()).collect()
    }

    #[test]
    fn s9_a_sound_list_and_an_item_alone_are_read_as_they_are() {
        for body in [format!(r#"{{"data": [{ONE}, {TWO}]}}"#), format!("[{ONE},{TWO}]")] {
            let read = read(body);
            assert_eq!((texts(&read), read.damage, read.cut), (vec![ONE.into(), TWO.into()], None, false));
        }
        assert_eq!(texts(&read(ONE)), [ONE]);
        assert!(texts(&read(r#"{"data": []}"#)).is_empty());
        for (body, says) in [
            (r#"{"error": "none"}"#, "error"),
            (r#"{"title": "Down", "status": 500, "detail": "An error."}"#, "An error."),
            ("{", "EOF"),
        ] {
            let refused = super::read(&body.into(), "data", "lcs").unwrap_err();
            assert!(refused.detail.contains(says), "{}", refused.detail);
        }
    }

    #[test]
    fn s9_damage_costs_the_item_that_it_lies_in() {
        let lost_comma = read(format!(r#"{{"data": [{ONE} {TWO}]}}"#));
        assert_eq!((texts(&lost_comma), lost_comma.cut), (vec![ONE.into(), TWO.into()], false));
        assert!(lost_comma.damage.is_some());
        for broken in [r#"{"lcs": {"index" "3"}}"#, r#"{"lcs": {"index": "3}}"#, r#"{"lcs": {"index": "3"}"#] {
            for body in
                [format!(r#"{{"data": [{ONE}, {broken}, {TWO}]}}"#), format!(r#"{{"data": [{ONE}, {TWO}, {broken}]}}"#)]
            {
                let (read, mut expected) = (read(body.clone()), vec![ONE.to_owned(), TWO.into(), broken.into()]);
                let mut found = texts(&read);
                found.sort_unstable();
                expected.sort_unstable();
                assert_eq!((found, read.cut), (expected, false), "{body}");
            }
        }
        let mut bytes = format!(r#"{{"data": [{ONE}, {TWO}, {ONE}]}}"#).into_bytes();
        let at = memmem::rfind(&bytes, b"\"1\"").unwrap() + 1;
        bytes[at] = 0xff;
        let read = read(bytes);
        assert_eq!((read.items.len(), &texts(&read)[..2]), (3, &[ONE.to_owned(), TWO.into()][..]));
        assert!(super::Document::read(&read.items[2], &["data"]).is_err());
    }

    #[test]
    fn s9_what_an_item_lost_of_its_beginning_does_not_cost_the_one_before() {
        let read = read(format!(r#"{{"data": [{ONE}, {{"cs: {{"index": "3"}}}}, {TWO}]}}"#));
        assert_eq!(texts(&read), [ONE, r#"{"cs: {"index": "3"}}"#, TWO]);
    }

    #[test]
    fn s9_a_body_that_was_cut_gives_its_whole_items() {
        let whole = format!(r#"{{"data": [{ONE}, {TWO}, {ONE}]}}"#);
        for length in whole.len() / 2..whole.len() {
            let Ok(read) = super::read(&whole.as_bytes()[..length].to_vec().into(), "data", "lcs") else { continue };
            assert!(read.cut, "{length}");
            assert!(texts(&read).iter().all(|item| item == ONE || item == TWO), "{length}: {:?}", texts(&read));
        }
    }
}
