//! How a source's records come to the fire that they tell of: which of its published fields name one. Names are made equal only where they surely are the same: case, blanks, braces, a `FIRE` at the end.

use serde_json::{Map, Value};

use crate::record::Draft;

/// A kind of id that one fire alone has, by which sources that share it know a fire.
pub(crate) type Kind = &'static str;

/// How records are joined to fires [S12].
#[derive(Debug)]
pub enum Join {
    /// They name their fire, and so say where it is.
    Named(Names),
}

/// Fields of `data` that name a fire and tell how it stands.
#[derive(Debug)]
pub struct Names {
    /// Ids that belong to one fire alone, the surest first.
    pub ids: &'static [(Kind, &'static str)],
    /// The id of a complex to which the fire belongs, of the first kind.
    pub complex: Option<&'static str>,
    /// The fire's name.
    pub name: &'static str,
    /// Its counties: one text, or a list.
    pub counties: &'static str,
    /// Its state.
    pub state: State,
    /// A field that says what it is, and what fires have there; one without a value is a fire too.
    pub kinds: Option<(&'static str, &'static [&'static str])>,
}

/// Where a fire's state stands.
#[derive(Debug)]
pub enum State {
    /// The source tells of one alone.
    Is(&'static str),
    /// In a field, such as `US-CA`.
    Field(&'static str),
}

/// What one record says of its fire.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    /// `irwin:{…}`, in the order of [`Names::ids`].
    pub ids: Vec<(Kind, String)>,
    /// As one of the ids.
    pub complex: Option<String>,
    /// `{name}/{county}/{state}` for each county.
    pub namesakes: Vec<String>,
}

/// Names that many fires have until they get one.
const NO_NAMES: [&str; 5] = ["", "unknown", "unnamed", "none", "tbd"];

impl Names {
    /// What a record says of its fire; `None` for one of something else.
    pub(crate) fn told(&self, draft: &Draft) -> Option<Told> {
        let data = fields(draft);
        let text = |field: &str| data.get(field).and_then(Value::as_str);
        let other = |(field, fires): (&str, &[&str])| text(field).is_some_and(|kind| !fires.contains(&kind));
        if self.kinds.is_some_and(other) {
            return None;
        }
        let id = |kind: Kind, field: &str| Some(format!("{kind}:{}", bare(text(field)?)?));
        let name = text(self.name).and_then(plain);
        let state = match self.state {
            State::Is(state) => Some(state.to_ascii_lowercase()),
            State::Field(field) => text(field).map(|state| state.trim().to_ascii_lowercase().replace("us-", "")),
        };
        let counties = match data.get(self.counties) {
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).filter_map(county).collect(),
            Some(Value::String(one)) => county(one).into_iter().collect(),
            _ => Vec::new(),
        };
        let namesakes = match (&name, state) {
            (Some(name), Some(state)) => counties.iter().map(|county| format!("{name}/{county}/{state}")).collect(),
            _ => Vec::new(),
        };
        let first = self.ids.first().map_or("", |(kind, _)| kind);
        Some(Told {
            ids: self.ids.iter().filter_map(|(kind, field)| Some((*kind, id(kind, field)?))).collect(),
            complex: self.complex.and_then(|field| id(first, field)),
            namesakes,
        })
    }
}

fn fields(draft: &Draft) -> Map<String, Value> {
    // Data is an object, by its constructor.
    serde_json::from_str(draft.data.json()).unwrap_or_default()
}

/// An id without braces, in lower case.
fn bare(id: &str) -> Option<String> {
    let id = id.trim().trim_start_matches('{').trim_end_matches('}').trim().to_lowercase();
    let says_something = id.chars().any(|letter| letter.is_alphanumeric() && letter != '0');
    says_something.then_some(id)
}

/// A fire's name in lower case with single blanks, without `fire` at its end; `None` for what is no name.
fn plain(name: &str) -> Option<String> {
    let words = name.to_lowercase();
    let mut words: Vec<&str> = words.split_whitespace().collect();
    if words.len() > 1 && words.last() == Some(&"fire") {
        words.pop();
    }
    let name = words.join(" ").replace('/', " ");
    (!NO_NAMES.contains(&name.as_str())).then_some(name)
}

fn county(name: &str) -> Option<String> {
    let name = name.trim().to_lowercase();
    let name = name.strip_suffix(" county").unwrap_or(&name).trim().replace('/', " ");
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s12_names_are_equal_only_where_they_surely_are_the_same() {
        for name in ["CREEK", " Creek  Fire ", "creek fire"] {
            assert_eq!(plain(name).as_deref(), Some("creek"), "{name}");
        }
        for (name, other) in [("Creek 2", "creek 2"), ("Fire", "fire"), ("August Complex", "august complex")] {
            assert_eq!(plain(name).as_deref(), Some(other));
        }
        for none in ["", " ", "Unknown", "UNNAMED FIRE"] {
            assert_eq!(plain(none), None, "{none}");
        }
        assert_eq!(county(" Fresno County").as_deref(), Some("fresno"));
        assert_eq!(bare("{00AB}").as_deref(), Some("00ab"));
        assert_eq!(bare("{00000000-0000-0000-0000-000000000000}"), None, "the nil id");
    }
}
