//! CloudFormation's intrinsic functions over one template's names, and which names a value's calls speak of.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::error::Fault;
use super::scope::Scope;
use super::values::{function_call, scalar};

impl Scope<'_> {
    /// The value with every call replaced by its result; none where `AWS::NoValue` removes it.
    pub(super) fn resolve(&self, at: &str, value: &Value) -> Result<Option<Value>, Fault> {
        if let Some((function, argument)) = function_call(value) {
            return self.call(at, function, argument);
        }
        Ok(Some(match value {
            Value::Object(map) => {
                let mut resolved = Map::new();
                for (key, value) in map {
                    if let Some(value) = self.resolve(&format!("{at}.{key}"), value)? {
                        resolved.insert(key.clone(), value);
                    }
                }
                Value::Object(resolved)
            }
            Value::Array(items) => Value::Array(self.resolve_all(at, items)?),
            plain => plain.clone(),
        }))
    }

    fn resolve_all(&self, at: &str, items: &[Value]) -> Result<Vec<Value>, Fault> {
        let mut resolved = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            resolved.extend(self.resolve(&format!("{at}[{index}]"), item)?);
        }
        Ok(resolved)
    }

    fn call(&self, at: &str, function: &str, argument: &Value) -> Result<Option<Value>, Fault> {
        let fault = |rule: &str| Fault::new(at, format!("{function} {rule}"));
        let some = |value: String| Ok(Some(Value::String(value)));
        match function {
            "Ref" => {
                let name = argument.as_str().ok_or_else(|| fault("takes a name"))?;
                self.reference(at, name)
            }
            "Fn::GetAtt" => {
                let (id, attribute) =
                    attribute_path(argument).ok_or_else(|| fault("takes a resource and an attribute"))?;
                let attribute = self.text(at, function, &attribute)?;
                self.attribute(at, id, &attribute).map(Some)
            }
            "Fn::Sub" => match argument {
                Value::String(text) => self.substitute(at, text, &Map::new()).and_then(some),
                Value::Array(parts) => match parts.as_slice() {
                    [Value::String(text), Value::Object(names)] => self.substitute(at, text, names).and_then(some),
                    _ => Err(fault("takes a string and a mapping of names")),
                },
                _ => Err(fault("takes a string, or a list of a string and a mapping of names")),
            },
            "Fn::Join" => match argument.as_array().map(Vec::as_slice) {
                Some([separator, items]) => {
                    let separator = self.text(at, function, separator)?;
                    some(self.texts(at, function, items)?.join(&separator))
                }
                _ => Err(fault("takes a separator and a list")),
            },
            "Fn::Split" => match argument.as_array().map(Vec::as_slice) {
                Some([separator, text]) => {
                    let separator = self.text(at, function, separator)?;
                    if separator.is_empty() {
                        return Err(fault("needs a separator that is not empty"));
                    }
                    Ok(Some(self.text(at, function, text)?.split(&separator).collect()))
                }
                _ => Err(fault("takes a separator and a string")),
            },
            "Fn::Select" => match argument.as_array().map(Vec::as_slice) {
                Some([index, items]) => {
                    let index = self.text(at, function, index)?;
                    let index: usize = index.parse().map_err(|_| fault("takes an index that counts from 0"))?;
                    let items = self.texts(at, function, items)?;
                    let item = items.into_iter().nth(index).ok_or_else(|| fault("has an index beyond its list"))?;
                    some(item)
                }
                _ => Err(fault("takes an index and a list")),
            },
            "Fn::If" => match argument.as_array().map(Vec::as_slice) {
                Some([Value::String(name), yes, no]) => {
                    let holds = self.conditions.get(name.as_str()).ok_or_else(|| {
                        fault(&format!("asks for {name:?}, which is not a condition of this template"))
                    })?;
                    self.resolve(at, if *holds { yes } else { no })
                }
                _ => Err(fault("takes the name of a condition and two values")),
            },
            "Fn::FindInMap" => match argument.as_array().map(Vec::as_slice) {
                Some([map, top, second]) => {
                    let path = [map, top, second].map(|part| self.text(at, function, part));
                    let [map, top, second] = path;
                    let (map, top, second) = (map?, top?, second?);
                    self.mappings
                        .and_then(|maps| maps.get(&map)?.get(&top)?.get(&second).cloned())
                        .map(Some)
                        .ok_or_else(|| fault(&format!("finds no {map}.{top}.{second} under Mappings")))
                }
                _ => Err(fault("takes a map's name and two keys")),
            },
            "Fn::Base64" => some(STANDARD.encode(self.text(at, function, argument)?)),
            "Fn::Equals" | "Fn::And" | "Fn::Or" | "Fn::Not" => Err(fault("may stand only under Conditions")),
            _ => Err(fault("is not understood here")),
        }
    }

    fn text(&self, at: &str, function: &str, value: &Value) -> Result<String, Fault> {
        let text = self.resolve(at, value)?.as_ref().and_then(scalar);
        text.ok_or_else(|| Fault::new(at, format!("{function} needs a string here, not a list, a mapping or nothing")))
    }

    fn texts(&self, at: &str, function: &str, value: &Value) -> Result<Vec<String>, Fault> {
        let fault = || Fault::new(at, format!("{function} needs a list of strings"));
        match self.resolve(at, value)? {
            Some(Value::Array(items)) => items.iter().map(|item| scalar(item).ok_or_else(fault)).collect(),
            _ => Err(fault()),
        }
    }

    fn substitute(&self, at: &str, text: &str, names: &Map<String, Value>) -> Result<String, Fault> {
        let mut result = String::new();
        for part in placeholders(at, text)? {
            match part {
                Part::Literal(literal) => result.push_str(&literal),
                Part::Name(name) => {
                    let value = match (names.get(name), name.split_once('.')) {
                        (Some(value), _) => self.resolve(at, value)?,
                        (None, Some((id, attribute))) if !self.knows(name) => Some(self.attribute(at, id, attribute)?),
                        (None, _) => self.reference(at, name)?,
                    };
                    let value = value.as_ref().and_then(scalar);
                    result.push_str(&value.ok_or_else(|| Fault::new(at, format!("${{{name}}} is not a string")))?);
                }
            }
        }
        Ok(result)
    }
}

enum Part<'t> {
    Literal(String),
    Name(&'t str),
}

/// The pieces of a `Fn::Sub` text; `${!Name}` stands for a literal `${Name}`.
fn placeholders<'t>(at: &str, text: &'t str) -> Result<Vec<Part<'t>>, Fault> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or_else(|| Fault::new(at, "Fn::Sub has a ${ without a }"))?;
        parts.push(Part::Literal(before.into()));
        parts.push(match name.strip_prefix('!') {
            Some(literal) => Part::Literal(format!("${{{literal}}}")),
            None => Part::Name(name),
        });
        rest = after;
    }
    parts.push(Part::Literal(rest.into()));
    Ok(parts)
}

/// `[Resource, Attribute]`, or `Resource.Attribute`, which JSON templates may write too.
fn attribute_path(argument: &Value) -> Option<(&str, Cow<'_, Value>)> {
    match argument {
        Value::String(path) => {
            let (id, attribute) = path.split_once('.')?;
            Some((id, Cow::Owned(attribute.into())))
        }
        Value::Array(parts) => match parts.as_slice() {
            [Value::String(id), attribute] => Some((id, Cow::Borrowed(attribute))),
            _ => None,
        },
        _ => None,
    }
}

/// Every name that the value's calls speak of, with the place.
pub(super) fn names_in(at: &str, value: &Value, found: &mut Vec<(String, String)>) -> Result<(), Fault> {
    match (function_call(value), value) {
        (Some(("Ref", Value::String(name))), _) => found.push((at.into(), name.clone())),
        (Some(("Fn::GetAtt", argument)), _) => {
            if let Some((id, attribute)) = attribute_path(argument) {
                found.push((at.into(), id.into()));
                names_in(at, &attribute, found)?;
            }
        }
        (Some(("Fn::Sub", argument)), _) => {
            let (text, given) = match argument {
                Value::Array(parts) => (parts.first(), parts.get(1)),
                other => (Some(other), None),
            };
            if let Some(Value::String(text)) = text {
                for part in placeholders(at, text)? {
                    if let Part::Name(name) = part
                        && given.and_then(|names| names.get(name)).is_none()
                    {
                        found.push((at.into(), name.into()));
                    }
                }
            }
            if let Some(given) = given {
                names_in(at, given, found)?;
            }
        }
        (_, Value::Object(map)) => {
            for (key, value) in map {
                names_in(&format!("{at}.{key}"), value, found)?;
            }
        }
        (_, Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                names_in(&format!("{at}[{index}]"), item, found)?;
            }
        }
        _ => {}
    }
    Ok(())
}
