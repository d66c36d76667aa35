//! The named values of one record, out of JSON or a table's row: what they say as numbers, flags, times and texts, what could
//! not be read of them, and which of them nothing understood [S9]. Which names a source uses is not here.

use jiff::civil::Date;
use serde_json::{Map, Value};

use super::sensor::measures::shown;
use crate::limits::{UNREAD_NAME_CHARS, UNREAD_NAMED};
use crate::record::Quality;
use crate::time::Timestamp;

/// Values by name; each is taken once, and what is left at the end was not understood.
#[derive(Debug)]
pub(crate) struct Named {
    values: Map<String, Value>,
    /// What could not be read so far.
    pub(crate) quality: Vec<Quality>,
}

impl Named {
    pub(crate) fn new(values: Map<String, Value>, quality: Vec<Quality>) -> Named {
        Named { values, quality }
    }

    pub(crate) fn note(&mut self, field: &str, problem: &str, raw: &str) {
        self.quality.push(Quality::new(field, problem, raw));
    }

    /// The first value under one of `names` that says something; neither null nor a blank text does. Letters of either case
    /// are one name. All of `names` count as understood, and a second one that says something else is noted.
    pub(crate) fn take(&mut self, field: &str, names: &[&str]) -> Option<Value> {
        let mut found: Option<Value> = None;
        for name in names {
            let value = match self.values.remove(*name) {
                Some(value) => value,
                None => {
                    let Some(spelled) = self.values.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned() else {
                        continue;
                    };
                    self.values.remove(&spelled).unwrap_or_default()
                }
            };
            let says_nothing = value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
            match &found {
                _ if says_nothing => {}
                None => found = Some(value),
                Some(first) if shown(first) == shown(&value) => {}
                Some(_) => self.note(field, &format!("{name} says something else"), &shown(&value)),
            }
        }
        found
    }

    fn read<T>(
        &mut self,
        field: &str,
        names: &[&str],
        problem: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(field, names)?;
        let read = read(&value);
        if read.is_none() {
            self.note(field, problem, &shown(&value));
        }
        read
    }

    /// Without the blanks around it; a number by its digits.
    pub(crate) fn text(&mut self, field: &str, names: &[&str]) -> Option<String> {
        self.read(field, names, "is not a text", text)
    }

    /// Its text alone, where it has markup.
    pub(crate) fn plain(&mut self, field: &str, names: &[&str]) -> Option<String> {
        self.text(field, names).map(|marked| without_markup(&marked)).filter(|text| !text.is_empty())
    }

    /// A number, also as a text for people: `794,801`, `30%`.
    pub(crate) fn number(&mut self, field: &str, names: &[&str]) -> Option<f64> {
        self.read(field, names, "is not a number", number)
    }

    pub(crate) fn count(&mut self, field: &str, names: &[&str]) -> Option<u64> {
        self.read(field, names, "is not a whole number", |value| {
            // Exact up to 2^53; nothing that is counted here is more.
            number(value).filter(|n| n.fract() == 0.0 && (0.0..9e15).contains(n)).map(|n| n as u64)
        })
    }

    /// A boolean, as JSON has it or as `Y`, `Yes`, `TRUE`, 1 and their opposites.
    pub(crate) fn flag(&mut self, field: &str, names: &[&str]) -> Option<bool> {
        self.read(field, names, "is neither yes nor no", |value| match value {
            Value::Bool(flag) => Some(*flag),
            other => match shown(other).trim().to_ascii_lowercase().as_str() {
                "y" | "yes" | "true" | "1" => Some(true),
                "n" | "no" | "false" | "0" => Some(false),
                _ => None,
            },
        })
    }

    /// A moment: RFC 3339 with an offset, or milliseconds since 1970, as ArcGIS has them.
    pub(crate) fn time(&mut self, field: &str, names: &[&str]) -> Option<Timestamp> {
        self.read(field, names, "is no time with an offset", |value| match value {
            Value::String(text) => {
                let text = text.trim();
                text.parse().ok().or_else(|| Timestamp::from_millisecond(text.parse().ok()?).ok())
            }
            Value::Number(number) => Timestamp::from_millisecond(whole(number.as_f64()?)?).ok(),
            _ => None,
        })
    }

    /// A day, `YYYY-MM-DD` or as American tables have it, `M/D/YYYY`.
    pub(crate) fn date(&mut self, field: &str, names: &[&str]) -> Option<Date> {
        self.read(field, names, "is not a date", |value| date(value.as_str()?.trim()))
    }

    /// The values that nobody took, and what is noted. Null ones are left out.
    pub(crate) fn rest(self) -> (Map<String, Value>, Vec<Quality>) {
        (self.values.into_iter().filter(|(_, value)| !value.is_null()).collect(), self.quality)
    }

    /// What is noted, with the names of what nobody took: none is dropped in silence.
    pub(crate) fn finish(self) -> Vec<Quality> {
        let (rest, mut quality) = self.rest();
        let says = |value: &Value| !value.as_str().is_some_and(|text| text.trim().is_empty());
        let mut rest = rest.into_iter().filter(|(_, value)| says(value));
        for (name, value) in rest.by_ref().take(UNREAD_NAMED) {
            let name: String = name.chars().take(UNREAD_NAME_CHARS).collect();
            quality.push(Quality::new(&name, "this field is not understood", &shown(&value)));
        }
        let more = rest.count();
        if more > 0 {
            quality.push(Quality::new("fields", &format!("{more} more fields are not understood"), ""));
        }
        quality
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Finite, with its thousands separators and a percent sign removed.
pub(crate) fn number(value: &Value) -> Option<f64> {
    let text = match value {
        Value::Number(number) => return number.as_f64(),
        Value::String(text) => text.trim(),
        _ => return None,
    };
    let text = text.strip_suffix('%').unwrap_or(text).trim_end();
    let read = if text.contains(',') { in_thousands(text)?.parse() } else { text.parse() };
    // Rust reads `inf` and `nan` as numbers.
    read.ok().filter(|number: &f64| number.is_finite())
}

/// The digits of a number whose commas stand before groups of three.
fn in_thousands(text: &str) -> Option<String> {
    let whole = text.split('.').next().unwrap_or_default();
    let mut groups = whole.trim_start_matches('-').split(',');
    let first = groups.next().is_some_and(|group| (1..=3).contains(&group.len()));
    let rest = groups.all(|group| group.len() == 3 && group.bytes().all(|byte| byte.is_ascii_digit()));
    let fraction = &text[whole.len()..];
    (first && rest && !fraction.contains(',')).then(|| text.replace(',', ""))
}

fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}

/// A day, `YYYY-MM-DD` or `M/D/YYYY`.
pub(crate) fn date(text: &str) -> Option<Date> {
    if text.contains('-') {
        return if text.len() == 10 { text.parse().ok() } else { None };
    }
    let mut parts = text.split('/').map(|part| part.parse::<i16>());
    let (Some(Ok(month)), Some(Ok(day)), Some(Ok(year)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    // Two digits of a year could be of any century.
    let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    (year >= 1000).then(|| Date::new(year, month, day).ok())?
}

/// Text between tags, with the common entities read and blanks made one. A `<` that begins no tag stays as it is.
fn without_markup(marked: &str) -> String {
    let mut plain = String::with_capacity(marked.len());
    let mut rest = marked;
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        plain.push_str(before);
        let begins = tag[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!');
        match tag.find('>').filter(|_| begins) {
            Some(end) => {
                plain.push(' ');
                rest = &tag[end + 1..];
            }
            None => {
                plain.push('<');
                rest = &tag[1..];
            }
        }
    }
    plain.push_str(rest);
    // The ampersand last, so that nothing is read twice.
    for (entity, means) in [
        ("&nbsp;", " "),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&rsquo;", "’"),
        ("&lsquo;", "‘"),
        ("&rdquo;", "”"),
        ("&ldquo;", "“"),
        ("&ndash;", "–"),
        ("&mdash;", "—"),
        ("&amp;", "&"),
    ] {
        if plain.contains(entity) {
            plain = plain.replace(entity, means);
        }
    }
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named(value: Value) -> Named {
        let Value::Object(values) = value else { panic!("an object") };
        Named::new(values, Vec::new())
    }

    #[test]
    fn s9_numbers_of_people_are_read_and_others_say_so() {
        for (sent, read) in [
            (json!(15.5), Some(15.5)),
            (json!("2,549,937"), Some(2_549_937.0)),
            (json!(" 30% "), Some(30.0)),
            (json!("1,234.5"), Some(1234.5)),
            (json!("12,34"), None),
            (json!("1,2345"), None),
            (json!(",123"), None),
            (json!("nan"), None),
            (json!("many"), None),
            (json!(true), None),
        ] {
            let mut values = named(json!({ "Acres": sent }));
            assert_eq!(values.number("acres", &["acres"]), read, "{sent}");
            assert_eq!(values.quality.len(), usize::from(read.is_none()), "{sent}");
        }
        let mut nothing = named(json!({"a": null, "b": " "}));
        assert_eq!((nothing.number("a", &["a"]), nothing.number("b", &["b"])), (None, None));
        assert!(nothing.finish().is_empty(), "null and blank are no faults");
    }

    #[test]
    fn s9_what_nobody_takes_is_named_and_a_second_value_is_noted() {
        let mut values = named(json!({"A": 1, "B": 2, "deep": {"x": [1]}, "empty": ""}));
        assert_eq!(values.count("a", &["A", "B"]), Some(1));
        let quality = values.finish();
        assert_eq!(quality.len(), 2, "{quality:?}");
        assert_eq!((quality[0].problem.as_str(), quality[1].field.as_str()), ("B says something else", "deep"));
        let many: Map<String, Value> = (0..40).map(|n| (format!("n{n:02}"), n.into())).collect();
        let quality = Named::new(many, Vec::new()).finish();
        assert_eq!(quality.len(), UNREAD_NAMED + 1);
        assert!(quality[UNREAD_NAMED].problem.starts_with("24 more"), "{quality:?}");
    }

    #[test]
    fn flags_times_and_dates_are_read_in_the_ways_that_sources_write_them() {
        for (sent, read) in [(json!(true), Some(true)), (json!("Y"), Some(true)), (json!("FALSE"), Some(false))] {
            assert_eq!(named(json!({ "f": sent })).flag("f", &["f"]), read);
        }
        assert_eq!(named(json!({"f": 2})).flag("f", &["f"]), None);
        let at: Timestamp = "2025-01-07T18:30:00Z".parse().unwrap();
        for sent in [json!("2025-01-07T18:30:00Z"), json!(1_736_274_600_000_i64), json!("1736274600000")] {
            assert_eq!(named(json!({ "t": sent })).time("t", &["t"]), Some(at));
        }
        for sent in [json!("2025-01-07T18:30:00"), json!("soon"), json!(1e300), json!([1])] {
            assert_eq!(named(json!({ "t": sent })).time("t", &["t"]), None, "{sent}");
        }
        let day = Date::new(2013, 2, 4).ok();
        for (sent, read) in
            [("2013-02-04", day), ("2/4/2013", day), ("02/04/2013", day), ("13/2/2013", None), ("2/4/13", None)]
        {
            assert_eq!(named(json!({ "d": sent })).date("d", &["d"]), read, "{sent}");
        }
    }

    #[test]
    fn markup_leaves_its_text() {
        for (marked, plain) in [
            ("<p>Road &amp; trail<br>closed</p>\n<li>A</li><li>B</li>", "Road & trail closed A B"),
            ("under 5 < 6 acres", "under 5 < 6 acres"),
            ("an <a href='x' that never ends", "an <a href='x' that never ends"),
            ("&amp;lt;", "&lt;"),
            ("<p></p>", ""),
        ] {
            assert_eq!(without_markup(marked), plain);
        }
    }
}
