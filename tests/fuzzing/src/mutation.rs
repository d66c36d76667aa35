//! Mutations that keep a body's form, so that they get past the parser: of JSON a value, of XML a tag or a text, of a table a
//! cell or a row. Blind ones are libFuzzer's own.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

/// Texts that a reader may stumble over: numbers at and beyond the edges, times that are none, other encodings, markup.
const ODD: [&str; 36] = [
    "",
    " ",
    "0",
    "-0",
    "-1",
    "1e999",
    "-1e999",
    "1e-999",
    "NaN",
    "nan",
    "Infinity",
    "91",
    "-91",
    "181",
    "-180.0000001",
    "9007199254740993",
    "18446744073709551616",
    "-9223372036854775809",
    "0x10",
    "1,234.5",
    "1 1/2",
    "null",
    "true",
    "N/A",
    "2026-02-30",
    "2026-06-01T25:61:00Z",
    "-9999-01-01T00:00:00Z",
    "+262143-12-31T23:59:59Z",
    "2026-06-01T09:30:00+25:00",
    "1796000000000",
    "\u{0}",
    "\u{feff}",
    "ﬃ😀\u{202e}",
    "</script>",
    "<![CDATA[",
    "&#x26;",
];

/// `body` with one to three such mutations; `None` for one that has no form to keep.
pub fn mutated(body: &[u8], seed: u64) -> Option<Vec<u8>> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let times = rng.random_range(1..=3);
    if let Ok(mut value) = serde_json::from_slice::<Value>(body) {
        for _ in 0..times {
            of_json(&mut value, rng);
        }
        return serde_json::to_vec(&value).ok();
    }
    let text = std::str::from_utf8(body).ok().filter(|text| !text.trim().is_empty())?;
    if text.trim_start().starts_with('<') {
        let mut parts = tags(text);
        for _ in 0..times {
            of_parts(&mut parts, rng);
        }
        return Some(parts.concat().into_bytes());
    }
    let mut lines: Vec<&str> = text.split('\n').collect();
    let at = rng.random_range(0..lines.len());
    let mut cells: Vec<&str> = lines[at].split(',').collect();
    for _ in 0..times {
        of_parts(&mut cells, rng);
    }
    let line = cells.join(",");
    lines[at] = &line;
    if rng.random_ratio(1, 4) {
        of_parts(&mut lines, rng);
    }
    Some(lines.join("\n").into_bytes())
}

/// `body` with one of its parts over and over until it has up to `length` bytes: what a byte of it costs then shows. `None` for one that
/// has no form to keep.
pub fn amplified(body: &[u8], length: usize, seed: u64) -> Option<Vec<u8>> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let room = length.checked_sub(body.len())?;
    if let Ok(mut value) = serde_json::from_slice::<Value>(body) {
        let mut places = 0;
        every(&mut value, &mut |_| places += 1);
        let (chosen, way, mut at) = (rng.random_range(0..places), rng.random_range(0..4), 0);
        every(&mut value, &mut |value| {
            if at == chosen {
                amplify(value, room, way);
            }
            at += 1;
        });
        // The same name again and again, which a tree cannot hold.
        let text = serde_json::to_string(&value).ok()?;
        let marked = format!("{MARK:?}:0");
        let again = r#""":0"#;
        let times = room / (again.len() + 1);
        return Some(text.replace(&marked, &vec![again; times.max(1)].join(",")).into_bytes());
    }
    let text = std::str::from_utf8(body).ok().filter(|text| !text.trim().is_empty())?;
    let is_markup = text.trim_start().starts_with('<');
    let parts: Vec<&str> = if is_markup { tags(text) } else { text.split_inclusive(['\n', ',']).collect() };
    let (from, count) = (rng.random_range(0..parts.len()), rng.random_range(1..=4));
    let to = (from + count).min(parts.len());
    let again = parts[from..to].concat();
    let times = room / again.len().max(1);
    Some([parts[..to].concat(), again.repeat(times), parts[to..].concat()].concat().into_bytes())
}

/// A name in whose place one name stands many times.
const MARK: &str = "amplified";

fn amplify(value: &mut Value, room: usize, way: u8) {
    match value {
        Value::Array(items) if way < 2 => {
            let again = items.first().cloned().unwrap_or_default();
            let times = room / (again.to_string().len() + 1);
            items.extend(std::iter::repeat_n(again, times));
        }
        Value::Object(members) if way == 0 => drop(members.insert(MARK.to_owned(), json!(0))),
        Value::Object(members) => {
            let again = members.values().next().cloned().unwrap_or_default();
            let times = room / (again.to_string().len() + 8);
            members.extend((0..times).map(|n| (format!("{n:04x}"), again.clone())));
        }
        Value::String(text) => *text = text.chars().cycle().take(room / 2).collect(),
        value => {
            let item = [json!([]), json!({}), json!({ "": 0 }), json!(0)][usize::from(way)].clone();
            let times = room / (item.to_string().len() + 1);
            *value = vec![item; times].into();
        }
    }
}

/// Every value of a tree, whichever contains which.
fn every(value: &mut Value, seen: &mut dyn FnMut(&mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| every(item, seen)),
        Value::Object(members) => members.values_mut().for_each(|member| every(member, seen)),
        _ => {}
    }
    seen(value);
}

/// Texts and tags, in their order.
fn tags(text: &str) -> Vec<&str> {
    text.split_inclusive('>').flat_map(|part| <[&str; 2]>::from(part.split_at(part.find('<').unwrap_or(0)))).collect()
}

/// A part is lost, doubled, changed, or stands where another stood.
fn of_parts(parts: &mut Vec<&str>, rng: &mut StdRng) {
    if parts.is_empty() {
        return;
    }
    let (at, other) = (rng.random_range(0..parts.len()), rng.random_range(0..parts.len()));
    match rng.random_range(0..4) {
        0 => drop(parts.remove(at)),
        1 => parts.insert(other, parts[at]),
        2 => parts.swap(at, other),
        _ => parts[at] = odd(rng),
    }
}

fn odd(rng: &mut StdRng) -> &'static str {
    ODD[rng.random_range(0..ODD.len())]
}

/// A value somewhere in the tree is lost, doubled, changed, or stands under another name.
fn of_json(value: &mut Value, rng: &mut StdRng) {
    let within = |rng: &mut StdRng| rng.random_ratio(4, 5);
    match value {
        Value::Object(members) if !members.is_empty() && within(rng) => {
            let name = members.keys().nth(rng.random_range(0..members.len())).cloned().unwrap_or_default();
            match rng.random_range(0..8) {
                0 => drop(members.remove(&name)),
                1 => {
                    let moved = members.remove(&name).unwrap_or_default();
                    members.insert(odd(rng).to_owned(), moved);
                }
                2 => {
                    let other = members.values().nth(rng.random_range(0..members.len())).cloned().unwrap_or_default();
                    members.insert(name, other);
                }
                _ => members.get_mut(&name).into_iter().for_each(|member| of_json(member, rng)),
            }
        }
        Value::Array(items) if !items.is_empty() && within(rng) => {
            let (at, other) = (rng.random_range(0..items.len()), rng.random_range(0..items.len()));
            match rng.random_range(0..8) {
                0 => drop(items.remove(at)),
                1 if items.len() < 1_000 => items.push(items[at].clone()),
                2 => items.swap(at, other),
                _ => of_json(&mut items[at], rng),
            }
        }
        value => {
            *value = match rng.random_range(0..10) {
                0 => Value::Null,
                1 => json!([value.take()]),
                2 => json!({ "value": value.take() }),
                3 => json!([]),
                4 => json!({}),
                5 => json!(i64::MIN),
                6 => json!(u64::MAX),
                7 => json!(f64::MAX),
                8 => json!(rng.random_range(-200.0..200.0)),
                _ => json!(odd(rng)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutation_keeps_the_form_and_the_same_seed_gives_the_same_bytes() {
        let bodies: [&[u8]; 3] =
            [br#"{"a": [1, {"b": "c"}], "d": null}"#, b"<a x='1'><b>c</b><b>d</b></a>", b"a,b,c\n1,2,3\n4,5,6\n"];
        for body in bodies {
            let mut different = 0;
            for seed in 0..500 {
                let made = mutated(body, seed).unwrap();
                assert_eq!(Some(&made), mutated(body, seed).as_ref());
                assert!(!body.starts_with(b"{") || serde_json::from_slice::<Value>(&made).is_ok());
                different += usize::from(made != body);
            }
            assert!(different > 400, "{different}");
            let longest = (0..500).map(|seed| amplified(body, 10_000, seed).unwrap().len()).max();
            assert!(longest.is_some_and(|longest| (9_000..=11_000).contains(&longest)), "{longest:?}");
        }
        assert_eq!(mutated(b"\xff\xfe", 1), None);
    }
}
