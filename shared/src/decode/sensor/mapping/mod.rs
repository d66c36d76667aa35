//! Mappings of one's own sensors [S18]: for the topics of a filter, their name → our field, with its unit. A mapping is
//! checked when it is read, and decides what it names; everything else of a message is read by its name, as without one.

mod filter;
mod paths;
mod profiles;

use std::collections::BTreeMap;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::measures::{self, Named, number, shown};
use super::units::Unit;
use crate::decode::{Context, Rows, short};
use crate::error::{Reason, Reject};
use crate::limits::{MAPPED_FIELDS, SENSOR_MAPPINGS};
use crate::record::SourceId;
use crate::sources::{self, Step, WrongField, WrongFields};
pub(crate) use filter::Filter as TopicFilter;
use filter::Filter;
pub use profiles::ProfileName;
use profiles::{Profile, ProfileLine, Told};

/// The topics that become readings, as the template's topic rule takes them.
pub const TOPICS: &str = "sensors/+/+/state";
const TOPIC_LEVELS: usize = 4;
/// A path or pattern.
const NAME_BYTES: usize = 200;
/// Names that one path may have.
const PATH_NAMES: usize = 16;

/// Our fields beside the measures.
const LATITUDE: &str = "latitude";
const LONGITUDE: &str = "longitude";
const SENSOR_NAME: &str = "sensor_name";

/// How the messages of one's own sensors are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SensorMapping {
    /// The topics, as an MQTT filter: `+` stands for a level, `#` for the rest. Of several the narrowest decides.
    pub topic: String,
    /// What the readings are published under; without it `iot_` and the topic's second level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_id: Option<SourceId>,
    /// Whose messages they are. Its own lines come before the profile's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileName>,
    /// What tells one sensor from another; without it what a message calls its id, else the topic's third level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Whence>,
    /// When it was measured; without it what a message calls its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Whence>,
    /// Their name, or a dotted path to it, and what it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Meaning>,
    /// Names, or paths, that are known and mean no measure: `quality` does not name them, and they stay in `reported`. `*` stands
    /// for any run of characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
}

/// Where a value stands: one of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Whence {
    /// A name in the message, or a dotted path to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A level of the topic, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<usize>,
}

/// What a value of theirs is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meaning {
    /// Our field.
    #[schemars(schema_with = "field_schema")]
    pub field: String,
    /// The unit of their value, such as `F`, `inHg` or `mph`; without it what the message says, else our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

fn field_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let fields: Vec<&str> = our_fields().collect();
    schemars::json_schema!({ "type": "string", "enum": fields })
}

fn our_fields() -> impl Iterator<Item = &'static str> {
    measures::fields().chain([LATITUDE, LONGITUDE, SENSOR_NAME])
}

/// What a line fills.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Target {
    Measure(Named),
    Latitude,
    Longitude,
    Name,
}

impl Target {
    fn of(field: &str) -> Option<Target> {
        match field {
            LATITUDE => Some(Target::Latitude),
            LONGITUDE => Some(Target::Longitude),
            SENSOR_NAME => Some(Target::Name),
            field => measures::of_field(field).map(Target::Measure),
        }
    }

    fn is_same(self, other: Target) -> bool {
        match (self, other) {
            (Target::Measure(one), Target::Measure(two)) => one.is_same_quantity(two),
            (one, two) => one == two,
        }
    }
}

#[derive(Debug)]
struct Line {
    path: String,
    target: Target,
    unit: Scale,
}

/// In what unit a line's value is.
#[derive(Debug)]
enum Scale {
    ByMessage,
    Unit(Unit),
    Steps(&'static str, &'static [(f64, f64)]),
}

/// A mapping that was checked.
#[derive(Debug)]
pub struct Mapping {
    filter: Filter,
    source: Option<SourceId>,
    device: Option<Whence>,
    time: Option<Whence>,
    /// Its own, then the profile's.
    lines: Vec<Line>,
    own: usize,
    profile: Option<&'static Profile>,
    ignored: Vec<String>,
}

/// All mappings of a deployment, the narrowest filter first.
#[derive(Debug, Default)]
pub struct Mappings(Vec<Mapping>);

impl Mappings {
    /// # Errors
    /// The fields that break a rule, each on its way from the list.
    pub fn new(specs: &[SensorMapping]) -> Result<Mappings, WrongFields> {
        if specs.len() > SENSOR_MAPPINGS {
            let rule = format!("{} mappings, {SENSOR_MAPPINGS} at most", specs.len());
            return Err(WrongField::whole(rule).into());
        }
        let (mut wrong, mut mappings, mut written) = (Vec::new(), Vec::<Mapping>::new(), Vec::new());
        for (at, spec) in specs.iter().enumerate() {
            let here = |wrong: WrongField| wrong.within([Step::Item(at)]);
            let mapping = match Mapping::new(spec) {
                Ok(mapping) => mapping,
                Err(problems) => {
                    wrong.extend(problems.0.into_iter().map(here));
                    continue;
                }
            };
            let clash = mappings.iter().zip(&written).find_map(|(other, topic)| {
                let (wider, narrower) = (other.filter.covers(&mapping.filter), mapping.filter.covers(&other.filter));
                match (wider, narrower) {
                    (true, true) => Some(format!("another mapping has the filter {topic} already")),
                    (false, false) if other.filter.meets(&mapping.filter) => Some(format!(
                        "some topics fit this filter and {topic} as well, and neither is the narrower: make one of them narrower"
                    )),
                    _ => None,
                }
            });
            wrong.extend(clash.map(|rule| here(WrongField::new("topic", rule))));
            mappings.push(mapping);
            written.push(&spec.topic);
        }
        if !wrong.is_empty() {
            return Err(WrongFields(wrong));
        }
        // Filters that meet are nested: one that covers fewer of the others is the narrower.
        let covered = |mapping: &Mapping| mappings.iter().filter(|other| mapping.filter.covers(&other.filter)).count();
        let mut order: Vec<(usize, usize)> = mappings.iter().map(covered).zip(0..).collect();
        order.sort_unstable();
        let mut unordered: Vec<Option<Mapping>> = mappings.into_iter().map(Some).collect();
        Ok(Mappings(order.into_iter().filter_map(|(_, at)| unordered[at].take()).collect()))
    }

    /// The mapping of a topic's messages.
    pub fn of(&self, topic: &str) -> Option<&Mapping> {
        self.0.iter().find(|mapping| mapping.filter.matches(topic))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Mapping {
    fn new(spec: &SensorMapping) -> Result<Mapping, WrongFields> {
        let mut wrong = Vec::new();
        let filter = Filter::parse(&spec.topic).map_err(|rule| wrong.push(WrongField::new("topic", rule))).ok();
        if let (Some(filter), Ok(taken)) = (&filter, Filter::parse(TOPICS))
            && !taken.meets(filter)
        {
            let rule = format!("no reading comes on a topic of {}: the template's rule takes {TOPICS}", spec.topic);
            wrong.push(WrongField::new("topic", rule));
        }
        if let Some(source) = &spec.source_id
            && sources::format_of(source).is_none_or(|format| format.name != crate::decode::Format::SENSOR.name)
        {
            let rule = format!("{source} is not an id of sensors: theirs begin with iot_");
            wrong.push(WrongField::new("source_id", rule));
        }
        for (field, whence) in [("device", &spec.device), ("time", &spec.time)] {
            let problem = whence.as_ref().and_then(|whence| whence.check().err());
            wrong.extend(problem.map(|problem| problem.within([Step::from(field)])));
        }
        if spec.fields.len() > MAPPED_FIELDS || spec.ignore.len() > MAPPED_FIELDS {
            let rule = format!("{MAPPED_FIELDS} fields and as many ignored ones at most");
            wrong.push(WrongField::new("fields", rule));
            return Err(WrongFields(wrong));
        }
        for (at, pattern) in spec.ignore.iter().enumerate() {
            let problem = check_name(pattern).err().map(WrongField::whole);
            wrong.extend(problem.map(|problem| problem.within([Step::from("ignore"), Step::Item(at)])));
        }
        let says_something = spec.source_id.is_some() || spec.profile.is_some() || spec.device.is_some();
        if !says_something && spec.time.is_none() && spec.fields.is_empty() && spec.ignore.is_empty() {
            let rule = "it maps nothing: give it fields, a profile, a source_id, a device or a time";
            wrong.push(WrongField::whole(rule));
        }
        let mut lines: Vec<Line> = Vec::new();
        for (path, meaning) in &spec.fields {
            let line =
                line(path, meaning).and_then(|line| match lines.iter().find(|l| l.target.is_same(line.target)) {
                    Some(other) => {
                        let rule = format!("{} is {} already", other.path, meaning.field);
                        Err(WrongField::new("field", rule))
                    }
                    None => Ok(line),
                });
            match line {
                Ok(line) => lines.push(line),
                Err(problem) => wrong.push(problem.within([Step::from("fields"), Step::from(path.as_str())])),
            }
        }
        let filter = match filter {
            Some(filter) if wrong.is_empty() => filter,
            _ => return Err(WrongFields(wrong)),
        };
        let own = lines.len();
        let profile = spec.profile.map(ProfileName::table);
        for ProfileLine { path, field, told } in profile.iter().flat_map(|profile| profile.lines) {
            let Some(target) = Target::of(field) else { continue };
            if lines[..own].iter().all(|line| !line.target.is_same(target) && line.path != *path) {
                lines.push(Line { path: (*path).to_owned(), target, unit: Scale::of_profile(*told, target) });
            }
        }
        let known = [&spec.device, &spec.time].into_iter().flatten().filter_map(|whence| whence.path.clone());
        let named = profile.iter().flat_map(|profile| profile.ignored).map(|pattern| (*pattern).to_owned());
        let ignored = spec.ignore.iter().cloned().chain(known).chain(named).collect();
        let (source, device, time) = (spec.source_id.clone(), spec.device.clone(), spec.time.clone());
        Ok(Mapping { filter, source, device, time, lines, own, profile, ignored })
    }

    /// What the readings are published under, where the mapping says it.
    pub fn source(&self) -> Option<&SourceId> {
        self.source.as_ref()
    }

    /// The readings of a message that came on one of its topics.
    ///
    /// # Errors
    /// As [`crate::decode::Format::rows`].
    pub fn rows<'a>(&'a self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        super::mapped_rows(body, context, Some(self)).map_err(|reject| crate::decode::form::told(reject, body))
    }

    /// A body that is no JSON, where the profile's devices send such.
    pub(super) fn form(&self, text: &[u8]) -> Option<Value> {
        let text = std::str::from_utf8(text).ok()?.trim();
        let is_form = self.profile.is_some_and(|profile| profile.takes_forms) && text.contains('=');
        let pairs = form_urlencoded::parse(text.as_bytes());
        is_form.then(|| Value::Object(pairs.map(|(name, value)| (name.into_owned(), value.into())).collect()))
    }

    /// A bare value is a message of its own: `value`.
    ///
    /// # Errors
    /// `not_data` for what the profile does not take.
    pub(super) fn message(&self, value: Value) -> Result<Value, Reject> {
        // Or one reading of a pack, as a dead letter has it.
        let is_pack = match &value {
            Value::Array(list) => super::senml::is_senml(list),
            other => other.get("sensor_id").is_some(),
        };
        if self.profile.is_some_and(|profile| profile.is_senml) && !is_pack {
            let detail = format!("the mapping of its topic takes SenML, and {} is none", short(&value.to_string()));
            return Err(Reject::new(Reason::NotData, detail));
        }
        Ok(match value {
            Value::Object(_) | Value::Array(_) | Value::Null => value,
            bare => Value::Object(Map::from_iter([("value".to_owned(), bare)])),
        })
    }

    /// Takes what the mapping names out of a message, whose reading stands at `inside` (a JSON pointer).
    ///
    /// # Errors
    /// `missing_field` when the message does not tell the device.
    pub(super) fn take(&self, message: &Value, inside: &str, topic: Option<&str>) -> Result<Taken<'_>, Reject> {
        let find = |path: &str| {
            let within = message.pointer(inside).filter(|_| !inside.is_empty());
            within.and_then(|reading| paths::find(reading, path)).or_else(|| paths::find(message, path))
        };
        let told = |whence: &Whence| match (&whence.path, whence.level) {
            (Some(path), _) => find(path).filter(|value| !value.is_null()).cloned(),
            (None, level) => topic.and_then(|topic| topic.split('/').nth(level? - 1)).map(Value::from),
        };
        let device = match self.device.as_ref().map(|whence| (whence, told(whence))) {
            None => None,
            Some((_, Some(id))) if !id.is_object() && !id.is_array() && !shown(&id).trim().is_empty() => {
                Some(shown(&id).trim().to_owned())
            }
            Some((whence, _)) => {
                let detail = format!("sensor_id is missing: the mapping takes it from {whence}");
                return Err(Reject::new(Reason::MissingField, detail));
            }
        };
        let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
        let time = match (&self.time, self.profile.map_or(&[][..], |profile| profile.times)) {
            (Some(whence), _) => {
                let name = whence.path.as_deref().map_or("time".to_owned(), last);
                Some(told(whence).map(|value| (name, value)))
            }
            (None, []) => None,
            (None, times) => {
                let there = |path: &&str| Some((last(path), find(path).filter(|value| !value.is_null())?.clone()));
                Some(times.iter().find_map(there))
            }
        };
        let (rest, measures) = (message.clone(), Vec::new());
        let mut taken = Taken { mapping: self, rest, device, time, name: None, place: [None, None], measures };
        let mut filled: Vec<Target> = Vec::new();
        for line in &self.lines {
            let Some(value) = find(&line.path) else { continue };
            let is_first = !filled.iter().any(|target| target.is_same(line.target));
            if is_first {
                filled.push(line.target);
                let (unit, unit_problem) = line.unit.unit(&find);
                match line.target {
                    Target::Latitude => taken.place[0] = Some(value.clone()),
                    Target::Longitude => taken.place[1] = Some(value.clone()),
                    Target::Name => taken.name = Some(shown(value)),
                    Target::Measure(named) => taken.measures.push(Mapped {
                        path: line.path.clone(),
                        named: named.in_unit(unit),
                        value: value.clone(),
                        unit_problem,
                    }),
                }
            }
            taken.forget(inside, &line.path);
        }
        Ok(taken)
    }
}

impl Scale {
    fn of_profile(told: Told, target: Target) -> Scale {
        match (told, target) {
            (Told::Unit(text), Target::Measure(named)) => {
                Unit::read(named.dimension(), text).map_or(Scale::ByMessage, Scale::Unit)
            }
            (Told::Steps(by, sizes), _) => Scale::Steps(by, sizes),
            _ => Scale::ByMessage,
        }
    }

    /// The unit, or why it cannot be told; neither when the message may tell it.
    fn unit<'v>(&self, find: &impl Fn(&str) -> Option<&'v Value>) -> (Option<Unit>, Option<String>) {
        match self {
            Scale::ByMessage => (None, None),
            Scale::Unit(unit) => (Some(*unit), None),
            Scale::Steps(by, sizes) => {
                let size = find(by).and_then(|size| number(size).ok().flatten());
                match sizes.iter().find(|(of, _)| size == Some(*of)) {
                    Some((_, steps)) => (Some(Unit::steps(*steps)), None),
                    None => (None, Some(format!("counts steps, and {by} does not tell their size"))),
                }
            }
        }
    }
}

/// The line of a mapping's own field.
fn line(path: &str, meaning: &Meaning) -> Result<Line, WrongField> {
    check_name(path).map_err(WrongField::whole)?;
    let Some(target) = Target::of(&meaning.field) else {
        let known = our_fields().collect::<Vec<_>>().join(", ");
        return Err(WrongField::new("field", format!("{:?} is not a field of ours; they are {known}", meaning.field)));
    };
    let unit = match (&meaning.unit, target) {
        (None, _) => Scale::ByMessage,
        (Some(text), Target::Measure(named)) => match Unit::read(named.dimension(), text) {
            Some(unit) => Scale::Unit(unit),
            None => {
                let known = Unit::known(named.dimension());
                let rule = format!("{text:?} is not a unit of {}; known are {known}", meaning.field);
                return Err(WrongField::new("unit", rule));
            }
        },
        (Some(_), _) => {
            return Err(WrongField::new("unit", format!("{} has no unit to tell: leave it out", meaning.field)));
        }
    };
    Ok(Line { path: path.to_owned(), target, unit })
}

fn check_name(name: &str) -> Result<(), String> {
    let names = name.split('.').count();
    if name.is_empty() || name.len() > NAME_BYTES || names > PATH_NAMES {
        return Err(format!("a name or path has 1 to {NAME_BYTES} bytes and at most {PATH_NAMES} names"));
    }
    Ok(())
}

impl Whence {
    fn check(&self) -> Result<(), WrongField> {
        match (&self.path, self.level) {
            (Some(path), None) => check_name(path).map_err(|rule| WrongField::new("path", rule)),
            (None, Some(level)) if (1..=TOPIC_LEVELS).contains(&level) => Ok(()),
            (None, Some(level)) => {
                Err(WrongField::new("level", format!("{level} is not in 1..{TOPIC_LEVELS}, the levels of {TOPICS}")))
            }
            _ => Err(WrongField::whole("name either a path or a level")),
        }
    }
}

impl std::fmt::Display for Whence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.path, self.level) {
            (Some(path), _) => write!(f, "{path}"),
            (None, level) => write!(f, "level {} of the topic", level.unwrap_or_default()),
        }
    }
}

/// What a mapping took out of one message.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    mapping: &'a Mapping,
    /// The message without it.
    pub(super) rest: Value,
    pub(super) device: Option<String>,
    /// Name and value; `Some(None)`: the mapping says where the time stands, and there is none.
    pub(super) time: Option<Option<(String, Value)>>,
    pub(super) name: Option<String>,
    /// Latitude, longitude.
    pub(super) place: [Option<Value>; 2],
    pub(super) measures: Vec<Mapped>,
}

/// The value of a measure, and its unit in `named`.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) path: String,
    pub(super) named: Named,
    pub(super) value: Value,
    pub(super) unit_problem: Option<String>,
}

impl Taken<'_> {
    fn forget(&mut self, inside: &str, path: &str) {
        let within = self.rest.pointer_mut(inside).filter(|_| !inside.is_empty());
        if !within.is_some_and(|reading| paths::remove(reading, path)) {
            paths::remove(&mut self.rest, path);
        }
    }

    /// Whether a field is known and means no measure.
    pub(super) fn ignores(&self, path: &str) -> bool {
        self.mapping.ignored.iter().any(|pattern| paths::fits(pattern, path))
    }

    /// Whether a quantity is read from nothing but what the mapping itself names.
    pub(super) fn decides(&self, named: Named) -> bool {
        let own = &self.mapping.lines[..self.mapping.own];
        own.iter().any(|line| line.target.is_same(Target::Measure(named)))
    }
}

#[cfg(test)]
mod tests;
