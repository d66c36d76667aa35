//! The configs of polled streams, read field by field: what is wrong is told with the way to its field.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

/// One step down to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Of a mapping, by its name.
    Field(String),
    /// Of a list, from 0.
    Item(usize),
}

impl From<&str> for Step {
    fn from(field: &str) -> Step {
        Step::Field(field.to_owned())
    }
}

/// A field whose value breaks a rule, that is unknown, or in which something is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongField {
    path: Vec<Step>,
    problem: String,
}

impl WrongField {
    /// A field of a config, and the rule that it breaks.
    pub fn new(field: &str, problem: impl Into<String>) -> WrongField {
        WrongField { path: vec![field.into()], problem: problem.into() }
    }

    /// Of a value as a whole; where it stands is told by [`WrongField::within`].
    pub(crate) fn whole(problem: impl Into<String>) -> WrongField {
        WrongField { path: Vec::new(), problem: problem.into() }
    }

    /// The same, of what stands at the end of `outer`.
    pub(crate) fn within(mut self, outer: impl IntoIterator<Item = Step>) -> WrongField {
        self.path.splice(..0, outer);
        self
    }

    pub(crate) fn path(&self) -> &[Step] {
        &self.path
    }

    /// The same, of the list's item that stood at `places[n]` where this one says `n`.
    pub(crate) fn renumbered(mut self, list: &str, places: &[usize]) -> WrongField {
        if let [Step::Field(name), Step::Item(at), ..] = &mut self.path[..]
            && name == list
            && let Some(place) = places.get(*at)
        {
            *at = *place;
        }
        self
    }

    /// The way to the field, such as `streams[1].config.days`; empty for the value as a whole.
    pub(crate) fn field(&self) -> String {
        let mut way = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) if way.is_empty() => way.push_str(name),
                Step::Field(name) => way.extend([".", name]),
                Step::Item(at) => way.push_str(&format!("[{at}]")),
            }
        }
        way
    }

    /// The rule that it breaks.
    pub(crate) fn rule(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for WrongField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field() {
            way if way.is_empty() => f.write_str(&self.problem),
            way => write!(f, "{way}: {}", self.problem),
        }
    }
}

/// All that is wrong with a value: whoever mends it is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongFields(pub(crate) Vec<WrongField>);

impl WrongFields {
    /// `value` where nothing is wrong with it.
    pub(crate) fn none_or<T>(wrong: Vec<WrongField>, value: T) -> Result<T, WrongFields> {
        if wrong.is_empty() { Ok(value) } else { Err(WrongFields(wrong)) }
    }

    /// What breaks a rule of several.
    pub(crate) fn all(rules: impl IntoIterator<Item = Result<(), WrongField>>) -> Result<(), WrongFields> {
        WrongFields::none_or(rules.into_iter().filter_map(Result::err).collect(), ())
    }

    /// The same, of what stands at the end of `outer`.
    pub(crate) fn within<const N: usize>(self, outer: [Step; N]) -> impl Iterator<Item = WrongField> {
        self.0.into_iter().map(move |wrong| wrong.within(outer.clone()))
    }
}

impl From<WrongField> for WrongFields {
    fn from(wrong: WrongField) -> WrongFields {
        WrongFields(vec![wrong])
    }
}

impl fmt::Display for WrongFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(WrongField::to_string).collect();
        f.write_str(&all.join("; "))
    }
}

/// West, south, east, north in degrees.
pub(crate) fn check_area([west, south, east, north]: &[f64; 4]) -> Result<(), WrongField> {
    let in_range = |value: &f64, bound: f64| (-bound..=bound).contains(value);
    if !(in_range(west, 180.0) && in_range(east, 180.0) && in_range(south, 90.0) && in_range(north, 90.0)) {
        return Err(WrongField::new("area", "west, south, east, north must be degrees in range"));
    }
    if west >= east || south >= north {
        return Err(WrongField::new("area", "west must be less than east and south less than north"));
    }
    Ok(())
}

const URL_CHARS: usize = 1_000;

/// The address of one document, such as `example`, under the name `url`.
pub(super) fn check_url(url: &str, example: &str) -> Result<(), WrongField> {
    let host = ["https://", "http://"].into_iter().find_map(|scheme| url.strip_prefix(scheme));
    let host = host.and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\' | b'"' | b'<' | b'>');
    if host.is_empty() || host.contains('@') || url.len() > URL_CHARS || !url.bytes().all(is_plain) {
        let rule = format!("{:.200?} is not an address such as {example}", url);
        return Err(WrongField::new("url", rule));
    }
    Ok(())
}

/// Of one value; who wrote more wrong fields has another kind of file.
const WRONG_FIELDS: usize = 100;

/// A value as `T`.
pub(crate) fn read<T: DeserializeOwned>(value: Value) -> Result<T, WrongFields> {
    match read_on(value) {
        (Some(value), wrong) => WrongFields::none_or(wrong, value),
        (None, wrong) => Err(WrongFields(wrong)),
    }
}

/// A value as `T` without the fields that cannot be read, and each of these; no `T` where it cannot do without one.
pub(crate) fn read_on<T: DeserializeOwned>(mut value: Value) -> (Option<T>, Vec<WrongField>) {
    let mut wrong: Vec<WrongField> = Vec::new();
    loop {
        let problem = match read_once(value.clone()) {
            Ok(read) => return (Some(read), wrong),
            Err(problem) => problem,
        };
        let goes_on = wrong.len() < WRONG_FIELDS && take_out(&mut value, &problem.path);
        // A value that lacks what was taken out of it is no mistake of its own.
        let follows =
            |earlier: &WrongField| earlier.path.len() > problem.path.len() && earlier.path.starts_with(&problem.path);
        if !wrong.iter().any(follows) {
            wrong.push(problem);
        }
        if !goes_on {
            return (None, wrong);
        }
    }
}

/// Removes the field at the end of `path`, or the nearest one around it; `false` when there is none.
fn take_out(value: &mut Value, path: &[Step]) -> bool {
    let Some(at) = path.iter().rposition(|step| matches!(step, Step::Field(_))) else { return false };
    let around = path[..at].iter().try_fold(value, |value, step| match step {
        Step::Field(name) => value.get_mut(name),
        Step::Item(at) => value.get_mut(*at),
    });
    let Step::Field(name) = &path[at] else { return false };
    around.and_then(Value::as_object_mut).is_some_and(|object| object.remove(name).is_some())
}

fn read_once<T: DeserializeOwned>(value: Value) -> Result<T, WrongField> {
    serde_path_to_error::deserialize(value).map_err(|e| {
        let step = |segment: &Segment| match segment {
            Segment::Map { key } => Some(Step::Field(key.clone())),
            Segment::Seq { index } => Some(Step::Item(*index)),
            // A value's own name, such as a product's, and what has none.
            Segment::Enum { .. } | Segment::Unknown => None,
        };
        WrongField { path: e.path().iter().filter_map(step).collect(), problem: e.inner().to_string() }
    })
}

/// A list of a config: not empty, bounded, without repeats, each of its form.
pub(super) fn check_list(
    field: &str,
    list: &[String],
    most: usize,
    form: &str,
    fits: impl Fn(&str) -> bool,
) -> Result<(), WrongField> {
    if list.is_empty() || list.len() > most {
        return Err(WrongField::new(field, format!("{} entries: it takes 1 to {most}", list.len())));
    }
    for (at, entry) in list.iter().enumerate() {
        let wrong = |rule: String| Err(WrongField::new(field, rule));
        if !fits(entry) {
            return wrong(format!("{entry:?} is not {form}"));
        }
        if list[..at].contains(entry) {
            return wrong(format!("{entry:?} is given twice"));
        }
    }
    Ok(())
}
