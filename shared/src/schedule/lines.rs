//! Where a field stands in a YAML text. The parser keeps no places of what it has read, but an error knows its own: so the
//! way to a field is walked once more, and fails when it is there.

use std::cell::Cell;
use std::collections::BTreeSet;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::sources::Step;

/// The value of a text in which no key of a mapping stands twice.
pub(super) fn unique(text: &str) -> Result<Value, yaml_serde::Error> {
    Unique.deserialize(yaml_serde::Deserializer::from_str(text))?;
    yaml_serde::from_str(text)
}

/// Line and column, from 1, of the field's name or of the list's item; of what it would stand in when it is missing.
pub(super) fn find(text: &str, path: &[Step]) -> (usize, usize) {
    let found = (1..=path.len()).rev().find_map(|length| walk(text, &path[..length]));
    found.unwrap_or((1, 1))
}

fn walk(text: &str, path: &[Step]) -> Option<(usize, usize)> {
    let there = Cell::new(false);
    let walked = Walk { path, there: &there }.deserialize(yaml_serde::Deserializer::from_str(text));
    let place = walked.err()?.location()?;
    there.get().then(|| (place.line(), place.column()))
}

/// Fails where the path ends.
#[derive(Clone, Copy)]
struct Walk<'a> {
    path: &'a [Step],
    there: &'a Cell<bool>,
}

impl<'a> Walk<'a> {
    fn arrived<E: Error>(&self) -> E {
        self.there.set(true);
        E::custom("it stands here")
    }

    /// The way on from the first step.
    fn rest(&self) -> Walk<'a> {
        Walk { path: self.path.get(1..).unwrap_or_default(), ..*self }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is visited otherwise than below is a scalar: an item of a list, or the way ends there.
        self.there.set(self.path.is_empty());
        f.write_str("the field")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.path.is_empty() {
            return Err(self.arrived());
        }
        while let Some(is_it) = map.next_key_seed(Name(self))? {
            if is_it {
                map.next_value_seed(self.rest())?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some(Step::Item(wanted)) = self.path.first() else { return Err(self.arrived()) };
        for _ in 0..*wanted {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(self.rest())?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Whether a key is the path's first step.
struct Name<'a>(Walk<'a>);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        match self.0.path {
            [Step::Field(wanted)] if wanted == name => Err(self.0.arrived()),
            [Step::Field(wanted), ..] => Ok(wanted == name),
            _ => Ok(false),
        }
    }
}

/// Fails at a key that stands twice in its mapping.
struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a mapping, a list, a text or a number")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = BTreeSet::new();
        while map.next_key_seed(NewName(&mut names))?.is_some() {
            map.next_value_seed(Unique)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Unique)?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

struct NewName<'a>(&'a mut BTreeSet<String>);

impl<'de> DeserializeSeed<'de> for NewName<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for NewName<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<(), E> {
        if self.0.insert(name.to_owned()) { Ok(()) } else { Err(E::custom(format_args!("{name} is given twice"))) }
    }
}
