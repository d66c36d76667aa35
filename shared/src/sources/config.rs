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
}

impl fmt::Display for WrongField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.path.iter().enumerate() {
            match step {
                Step::Field(name) if n == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Item(at) => write!(f, "[{at}]")?,
            }
        }
        write!(f, "{}{}", if self.path.is_empty() { "" } else { ": " }, self.problem)
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

/// A value as `T`.
pub(crate) fn read<T: DeserializeOwned>(value: Value) -> Result<T, WrongField> {
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
