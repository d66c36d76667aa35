//! The fields of one reading, each found to be a measure, a unit of measures, a description, or not understood: nothing
//! falls between. What becomes of a measure's value is not here.

use serde_json::{Map, Value};

use super::mapping::{Mapped, Taken};
use super::measures::{self, Named};
use super::names::{compact, is_description, is_elsewhere, reads_as};
use super::units::{Dimension, System, Unit};
use super::{IDS, LATITUDES, LONGITUDES, PLACES, SENSOR_NAMES, stamp, synoptic};
use crate::limits::{UNREAD_NAME_CHARS, UNREAD_NAMED};
use crate::record::Quality;

/// A measure's value as it stands in a reading.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    path: String,
    pub(super) named: Named,
    pub(super) value: &'a Value,
    /// 0 for a field of the reading itself.
    pub(super) depth: usize,
    /// The unit that stands beside the value.
    stated: Option<&'a str>,
    /// The value's own time, where it is another than the reading's.
    pub(super) taken_at: Option<&'a str>,
    /// A mapping names it.
    pub(super) mapped: bool,
    /// Why its unit cannot be told.
    unit_problem: Option<&'a str>,
}

/// What a unit that stands apart from its values is said of.
#[derive(Debug)]
enum Of {
    Everything,
    Dimensions(&'static [Dimension]),
    Quantity(Named),
}

#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) candidates: Vec<Candidate<'a>>,
    units: Vec<(Of, &'a str)>,
    /// The message's own word for all its units, such as `imperial`.
    pub(super) system: Option<System>,
    /// Paths of the fields that are not understood.
    unread: Vec<String>,
    date_time: Option<&'a str>,
    mapping: Option<&'a Taken<'a>>,
}

/// What `quality` says of them, before their names.
pub(super) const UNREAD: &str = "not understood, kept here alone: ";
/// Nested deeper, a reading's fields are not looked for.
const DEPTH: usize = 4;
/// Where an object keeps its value, its unit, and what it measures.
const VALUES: [&str; 3] = ["value", "val", "v"];
const UNITS: [&str; 4] = ["unit", "units", "uom", "u"];
const LABELS: [&str; 11] =
    ["name", "n", "type", "measure", "measurement", "parameter", "quantity", "property", "variable", "field", "sensor"];

impl<'a> Fields<'a> {
    /// `mapping`: what one took out of the message before.
    pub(super) fn of(reading: &'a Map<String, Value>, mapping: Option<&'a Taken<'a>>) -> Fields<'a> {
        let mut fields = Fields {
            candidates: mapping.map(Fields::mapped).unwrap_or_default(),
            units: Vec::new(),
            system: None,
            unread: Vec::new(),
            date_time: reading.get("date_time").and_then(Value::as_str),
            mapping,
        };
        let labelled = fields.labelled(reading, "", 0);
        for (name, value) in reading {
            let plain = compact(name);
            if fields.is_ignored(name) {
                continue;
            }
            let told_already = labelled && (VALUES.contains(&plain.as_str()) || LABELS.contains(&plain.as_str()));
            if !told_already && !fields.is_of_the_message(&plain, value) {
                fields.field(name, &plain, value, name, 0)
            }
        }
        fields
    }

    fn mapped(mapping: &'a Taken<'a>) -> Vec<Candidate<'a>> {
        let candidate = |mapped: &'a Mapped| {
            // `{"value": 60.8, "unit": "°F"}` at the end of the path.
            let object = mapped.value.as_object();
            let value = object.and_then(|object| one_of(object, &VALUES)).unwrap_or(&mapped.value);
            let stated = object.and_then(|object| one_of(object, &UNITS)).and_then(Value::as_str);
            Candidate {
                path: mapped.path.clone(),
                named: mapped.named,
                value,
                depth: 0,
                stated,
                taken_at: None,
                mapped: true,
                unit_problem: mapped.unit_problem.as_deref(),
            }
        };
        mapping.measures.iter().map(candidate).collect()
    }

    fn is_ignored(&self, path: &str) -> bool {
        self.mapping.is_some_and(|mapping| mapping.ignores(path))
    }

    /// Whether a mapping says by what name alone this quantity goes.
    fn is_mapped_elsewhere(&self, named: Named) -> bool {
        self.mapping.is_some_and(|mapping| mapping.decides(named))
    }

    /// Identity, place, time, and units of other fields.
    fn is_of_the_message(&mut self, plain: &str, value: &'a Value) -> bool {
        if is_about_the_sensor(plain) || (PLACES.contains(&plain) && value.is_object()) {
            return true;
        }
        // Told of value by value, in `quality`.
        if plain == compact(synoptic::FLAGS) && value.is_object() {
            return true;
        }
        let Some(rest) = of_a_unit(plain) else { return false };
        match value {
            Value::String(text) if rest.is_empty() => match System::named(text) {
                Some(system) => self.system = Some(system),
                None => self.units.push((Of::Everything, text)),
            },
            Value::String(text) => match about(rest) {
                Some(of) => self.units.push((of, text)),
                None => return false,
            },
            Value::Object(units) if rest.is_empty() => {
                for (name, text) in units {
                    if let (Some(named), Some(text)) = (measures::named(&compact(name)), text.as_str()) {
                        self.units.push((Of::Quantity(named), text))
                    }
                }
            }
            _ => return false,
        }
        true
    }

    fn field(&mut self, name: &str, plain: &str, value: &'a Value, path: &str, depth: usize) {
        if self.is_ignored(path) {
            return;
        }
        match value {
            Value::Object(object) => self.object(plain, object, path, depth),
            // A mapping took everything out of it.
            Value::Array(list) if self.mapping.is_some() && list.iter().all(is_bare) => {}
            Value::Array(list) => {
                let all = !list.is_empty()
                    && list
                        .iter()
                        .all(|item| item.as_object().is_some_and(|item| self.labelled(item, path, depth + 1)));
                if !all {
                    self.unread.push(path.to_owned())
                }
            }
            _ => match measures::named(plain) {
                Some(named) if self.is_mapped_elsewhere(named) => self.unread.push(path.to_owned()),
                Some(named) => self.candidates.push(Candidate {
                    path: path.to_owned(),
                    named,
                    value,
                    depth,
                    stated: None,
                    taken_at: None,
                    mapped: false,
                    unit_problem: None,
                }),
                None if is_description(plain) || is_about_the_sensor(plain) => {}
                None if depth > 0 && (of_a_unit(plain).is_some() || name == "u") => {}
                None => self.unread.push(path.to_owned()),
            },
        }
    }

    fn object(&mut self, plain: &str, object: &'a Map<String, Value>, path: &str, depth: usize) {
        if self.measured(plain, object, path, depth) || self.labelled(object, path, depth + 1) {
            return;
        }
        if is_elsewhere(plain) || depth + 1 >= DEPTH {
            self.unread.push(path.to_owned());
            return;
        }
        for (name, value) in object {
            self.field(name, &compact(name), value, &format!("{path}.{name}"), depth + 1)
        }
    }

    /// `"temperature": {"value": 60.8, "unit": "°F"}`.
    fn measured(&mut self, plain: &str, object: &'a Map<String, Value>, path: &str, depth: usize) -> bool {
        let Some(value) = one_of(object, &VALUES).filter(|value| !value.is_object() && !value.is_array()) else {
            return false;
        };
        let stated = one_of(object, &UNITS).and_then(Value::as_str);
        let Some(named) = named_with(plain, stated) else { return false };
        if self.is_mapped_elsewhere(named) {
            self.unread.push(path.to_owned());
            return true;
        }
        let taken_at = object.get("date_time").and_then(Value::as_str);
        let taken_at = taken_at.filter(|at| self.date_time.is_some_and(|reading| reading != *at));
        self.candidates.push(Candidate {
            path: path.to_owned(),
            named,
            value,
            depth,
            stated,
            taken_at,
            mapped: false,
            unit_problem: None,
        });
        true
    }

    /// `{"type": "temperature", "value": 60.8, "unit": "°F"}`.
    fn labelled(&mut self, object: &'a Map<String, Value>, path: &str, depth: usize) -> bool {
        let mut labels = LABELS.iter().filter_map(|label| one_of(object, &[label])?.as_str());
        labels.any(|label| self.measured(&compact(label), object, &format!("{path}.{label}"), depth))
    }

    /// The unit of a candidate's value; `behind` is what stands behind the number in a text.
    ///
    /// # Errors
    /// In words for `quality`, when what is said of it is not understood or contradicts itself.
    pub(super) fn unit_of(
        &self,
        candidate: &Candidate<'_>,
        behind: Option<&str>,
        system: System,
    ) -> Result<Unit, String> {
        if let Some(problem) = candidate.unit_problem {
            return Err(problem.to_owned());
        }
        let dimension = candidate.named.dimension();
        let apart = self.units.iter().filter(|(of, text)| match of {
            Of::Everything => Unit::read(dimension, text).is_some() || self.candidates.len() == 1,
            Of::Dimensions(dimensions) => dimensions.contains(&dimension),
            Of::Quantity(named) => named.is_same_quantity(candidate.named),
        });
        let mut unit = candidate.named.unit;
        for text in candidate.stated.into_iter().chain(behind).chain(apart.map(|(_, text)| *text)) {
            let told =
                Unit::read(dimension, text).ok_or_else(|| format!("its unit {:?} is not understood", start(text)))?;
            if unit.is_some_and(|known| known != told) {
                return Err(format!("its unit is told in two ways, one of them {:?}", start(text)));
            }
            unit = Some(told);
        }
        match unit {
            Some(unit) => Ok(unit),
            None if system == System::Metric && self.tells_fahrenheit() && differs_overseas(dimension) => {
                Err("its unit is not told, and the temperature's is °F".into())
            }
            None => Ok(system.unit(dimension)),
        }
    }

    fn tells_fahrenheit(&self) -> bool {
        let fahrenheit = System::Imperial.unit(Dimension::Temperature);
        let stated = self.candidates.iter().filter_map(|candidate| candidate.stated);
        let mut texts = stated.chain(self.units.iter().map(|(_, text)| *text));
        texts.any(|text| Unit::read(Dimension::Temperature, text) == Some(fahrenheit))
    }

    /// A quantity's further values from other parts of the message are not published: they are named like what is not understood.
    pub(super) fn leave_unused(&mut self, chosen: &[Option<usize>]) {
        let parent = |path: &str| path.rsplit_once('.').map_or(String::new(), |(parent, _)| parent.to_owned());
        let used: Vec<(Named, String)> =
            chosen.iter().flatten().map(|&n| (self.candidates[n].named, parent(&self.candidates[n].path))).collect();
        let unused = self.candidates.iter().enumerate().filter(|(n, candidate)| {
            candidate.depth > 0
                && !chosen.contains(&Some(*n))
                && !used
                    .iter()
                    .any(|(named, of)| named.is_same_quantity(candidate.named) && *of == parent(&candidate.path))
        });
        self.unread.extend(unused.map(|(_, candidate)| candidate.path.clone()));
    }

    /// Names what is not understood, with a bound and the count beyond it.
    pub(super) fn name_unread(&self, quality: &mut Vec<Quality>) {
        if self.unread.is_empty() {
            return;
        }
        let names: Vec<String> = self.unread.iter().take(UNREAD_NAMED).map(|path| start(path)).collect();
        let more = match self.unread.len().saturating_sub(UNREAD_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let problem = format!("{UNREAD}{}{more}", names.join(", "));
        quality.push(Quality { field: "reported".into(), problem, raw: None });
    }
}

fn is_bare(item: &Value) -> bool {
    item.is_null() || item.as_object().is_some_and(Map::is_empty)
}

/// What tells which sensor, where and when; read elsewhere.
fn is_about_the_sensor(plain: &str) -> bool {
    let lists: [&[&str]; 5] = [&IDS, &SENSOR_NAMES, &LATITUDES, &LONGITUDES, &stamp::NAMES];
    lists.iter().any(|list| list.contains(&plain))
}

/// `temp_unit`, `UnitOfTemperature` → what the unit is said of; empty for a whole message's.
fn of_a_unit(plain: &str) -> Option<&str> {
    let ends = ["units", "unit", "uom"];
    let rest = ends.iter().find_map(|end| plain.strip_suffix(end)).or_else(|| {
        let rest = ends.iter().find_map(|start| plain.strip_prefix(start))?;
        Some(rest.strip_prefix("of").unwrap_or(rest))
    })?;
    Some(if rest == "system" { "" } else { rest })
}

fn about(rest: &str) -> Option<Of> {
    Some(match rest {
        "temp" | "temperature" | "temperatures" | "t" => Of::Dimensions(&[Dimension::Temperature]),
        "pressure" | "press" | "baro" | "p" => Of::Dimensions(&[Dimension::Pressure]),
        "speed" | "wind" | "windspeed" => Of::Dimensions(&[Dimension::Speed]),
        "rain" | "rainfall" | "precip" | "precipitation" => Of::Dimensions(&[Dimension::Rain, Dimension::RainRate]),
        _ => Of::Quantity(measures::named(rest)?),
    })
}

/// A short name such as `t` says what is measured together with its unit.
fn named_with(plain: &str, unit: Option<&str>) -> Option<Named> {
    measures::named(plain).or_else(|| measures::named(&format!("{plain}{}", compact(unit?))))
}

fn one_of<'a>(object: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| {
        object.get(*name).or_else(|| object.iter().find(|(key, _)| reads_as(key, name)).map(|(_, v)| v))
    })
}

/// Whether a station that measures °F would give this in another unit than the published one.
fn differs_overseas(dimension: Dimension) -> bool {
    matches!(dimension, Dimension::Speed | Dimension::Rain | Dimension::RainRate | Dimension::Height)
}

fn start(text: &str) -> String {
    text.chars().take(UNREAD_NAME_CHARS).collect()
}
