//! How a source's records come to the fire that they tell of: which of its published fields name one, and how near to a fire what has
//! no name may be. Names are made equal only where they surely are the same: case, blanks, braces, a `FIRE` at the end.

use serde_json::{Map, Value};

use crate::record::Draft;
use crate::time::Timestamp;

/// A kind of id that one fire alone has, by which sources that share it know a fire.
pub(crate) type Kind = &'static str;

/// How records are joined to fires [S12].
#[derive(Debug)]
pub enum Join {
    /// They name their fire, and so say where it is.
    Named(Names),
    /// Points without a name, many of them: they belong to the one fire that burns within so many kilometres.
    Points {
        /// The farthest from the fire's edge.
        reach_km: f64,
    },
    /// Areas, lines and places, few of them.
    Areas(Areas),
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
    /// Its area in acres; the largest that is told.
    pub acres: &'static [&'static str],
    /// When it was out.
    pub out: &'static [&'static str],
    /// A field that says what it is, and what fires have there; one without a value is a fire too.
    pub kinds: Option<(&'static str, &'static [&'static str])>,
    /// A record without an id is joined to a fire of its name within so many kilometres.
    pub reach_km: f64,
}

/// Where a fire's state stands.
#[derive(Debug)]
pub enum State {
    /// The source tells of one alone.
    Is(&'static str),
    /// In a field, such as `US-CA`.
    Field(&'static str),
}

/// How what has a shape and no id is joined.
#[derive(Debug)]
pub struct Areas {
    /// The farthest between the shapes' edges.
    pub reach_km: f64,
    /// A field that may name the fire: then one of that name alone will do, and the shape is the fire's own.
    pub name: Option<&'static str>,
    /// Only records whose field has one of these values have to do with a fire.
    pub only: Option<(&'static str, &'static [&'static str])>,
}

/// What one record says of its fire.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    /// `irwin:{…}`, in the order of [`Names::ids`].
    pub ids: Vec<(Kind, String)>,
    /// As one of the ids.
    pub complex: Option<String>,
    /// The name as [`plain`] writes it.
    pub name: Option<String>,
    /// `{name}/{county}/{state}` for each county.
    pub namesakes: Vec<String>,
    pub acres: f64,
    pub out: Option<Timestamp>,
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
            name,
            namesakes,
            acres: self.acres.iter().filter_map(|field| data.get(*field)?.as_f64()).fold(0.0, f64::max),
            out: self.out.iter().find_map(|field| text(field)?.parse().ok()),
        })
    }
}

impl Areas {
    /// The name that a record has its fire by, if it has to do with one at all.
    pub(crate) fn name(&self, draft: &Draft) -> Option<Option<String>> {
        if self.name.is_none() && self.only.is_none() {
            return Some(None);
        }
        let data = fields(draft);
        let text = |field: &str| data.get(field).and_then(Value::as_str);
        let concerned =
            self.only.is_none_or(|(field, values)| text(field).is_some_and(|value| values.contains(&value)));
        concerned.then(|| self.name.and_then(text).and_then(plain))
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

/// A county however it is spelled: in lower case with single blanks, without the word; `None` for what is no name.
pub(super) fn county(name: &str) -> Option<String> {
    let name = name.to_lowercase().replace('/', " ");
    let words: Vec<&str> = name.split_whitespace().collect();
    let words = match &*words {
        ["county", "of", name @ ..] | [name @ .., "county"] => name,
        name => name,
    };
    (!words.is_empty()).then(|| words.join(" "))
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
        for name in [" Fresno County", "FRESNO", "county of  Fresno"] {
            assert_eq!(county(name).as_deref(), Some("fresno"), "{name}");
        }
        assert_eq!((county("San  Diego").as_deref(), county(" County ")), (Some("san diego"), None));
        assert_eq!(bare("{00AB}").as_deref(), Some("00ab"));
        assert_eq!(bare("{00000000-0000-0000-0000-000000000000}"), None, "the nil id");
    }
}
