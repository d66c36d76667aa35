//! Opens a template: its parameters with what was given for them, its conditions worked out, its resources with the globals
//! underneath. Only here do `scope`, `conditions` and `globals` meet.

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::{Map, Value};

use super::error::Fault;
use super::scope::{Declared, Scope, kind};
use super::values::scalar;
use super::{conditions, globals};

/// What CloudFormation, with SAM's transform, knows at a template's top.
const SECTIONS: [&str; 11] = [
    "AWSTemplateFormatVersion",
    "Conditions",
    "Description",
    "Globals",
    "Mappings",
    "Metadata",
    "Outputs",
    "Parameters",
    "Resources",
    "Rules",
    "Transform",
];

pub(super) fn open<'d>(
    template: &'d Map<String, Value>,
    overrides: &BTreeMap<String, String>,
) -> Result<Scope<'d>, Fault> {
    if let Some(unknown) = template.keys().find(|name| !SECTIONS.contains(&name.as_str())) {
        return Err(Fault::new(unknown, format!("no such section; there are {}", SECTIONS.join(", "))));
    }
    let globals = section(template, "Globals")?;
    if let Some(globals) = globals {
        globals::check(globals)?;
    }
    let api_globals = globals.map(|globals| globals::merged(globals, kind::HTTP_API, &Map::new()));
    let mut scope = Scope {
        api_globals: api_globals.unwrap_or_default(),
        parameters: parameters(section(template, "Parameters")?, overrides)?,
        conditions: BTreeMap::new(),
        mappings: section(template, "Mappings")?,
        resources: BTreeMap::new(),
    };
    if let Some(rules) = section(template, "Rules")? {
        conditions::check_rules(&scope, rules)?;
    }
    if let Some(conditions) = section(template, "Conditions")? {
        scope.conditions = conditions::settle(&scope, conditions)?;
    }
    let empty = Map::new();
    let resources = section(template, "Resources")?.ok_or_else(|| Fault::new("Resources", "is missing"))?;
    for (id, resource) in resources {
        let resource = declared(&scope, id, resource, globals.unwrap_or(&empty))?;
        scope.resources.insert(id, resource);
    }
    Ok(scope)
}

fn declared(scope: &Scope<'_>, id: &str, resource: &Value, globals: &Map<String, Value>) -> Result<Declared, Fault> {
    let at = |key: &str| format!("Resources.{id}{key}");
    let resource = resource.as_object().ok_or_else(|| Fault::new(at(""), "must be a mapping"))?;
    let kind = match resource.get("Type") {
        Some(Value::String(kind)) => kind.clone(),
        _ => return Err(Fault::new(at(".Type"), "is missing, or is not a string")),
    };
    let properties = match resource.get("Properties") {
        Some(Value::Object(own)) => globals::merged(globals, &kind, own),
        None | Some(Value::Null) => globals::merged(globals, &kind, &Map::new()),
        Some(_) => return Err(Fault::new(at(".Properties"), "must be a mapping")),
    };
    let exists = match resource.get("Condition") {
        None => true,
        Some(Value::String(name)) => *scope
            .conditions
            .get(name.as_str())
            .ok_or_else(|| Fault::new(at(".Condition"), format!("{name:?} is not a condition of this template")))?,
        Some(_) => return Err(Fault::new(at(".Condition"), "must be the name of a condition")),
    };
    let metadata = resource.get("Metadata").cloned().unwrap_or(Value::Null);
    Ok(Declared { kind, properties, metadata, exists })
}

fn section<'d>(template: &'d Map<String, Value>, name: &str) -> Result<Option<&'d Map<String, Value>>, Fault> {
    match template.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(entries)) => Ok(Some(entries)),
        Some(_) => Err(Fault::new(name, "must be a mapping")),
    }
}

fn parameters<'d>(
    declared: Option<&'d Map<String, Value>>,
    overrides: &BTreeMap<String, String>,
) -> Result<BTreeMap<&'d str, Value>, Fault> {
    let empty = Map::new();
    let names = || declared.unwrap_or(&empty).keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = overrides.keys().find(|name| !declared.is_some_and(|all| all.contains_key(*name))) {
        let rule = format!("is given a value, but the template only has {}", names());
        return Err(Fault::new(format!("Parameters.{unknown}"), rule));
    }
    let mut values = BTreeMap::new();
    for (name, parameter) in declared.into_iter().flatten() {
        let at = format!("Parameters.{name}");
        let parameter = parameter.as_object().ok_or_else(|| Fault::new(&at, "must be a mapping"))?;
        let text = match (overrides.get(name), parameter.get("Default").and_then(scalar)) {
            (Some(text), _) => text.clone(),
            (None, Some(text)) => text,
            (None, None) => return Err(Fault::new(at, "has no default: it must be given a value")),
        };
        values.insert(name.as_str(), parameter_value(&at, parameter, &text)?);
    }
    Ok(values)
}

fn parameter_value(at: &str, parameter: &Map<String, Value>, text: &str) -> Result<Value, Fault> {
    let kind = match parameter.get("Type") {
        Some(Value::String(kind)) => kind.as_str(),
        _ => return Err(Fault::new(format!("{at}.Type"), "is missing, or is not a string")),
    };
    if let Some(Value::Array(allowed)) = parameter.get("AllowedValues") {
        let allowed: Vec<_> = allowed.iter().filter_map(scalar).collect();
        if !allowed.iter().any(|value| value == text) {
            return Err(Fault::new(at, format!("{text:?} is not one of {}", allowed.join(", "))));
        }
    }
    if let Some(pattern) = parameter.get("AllowedPattern") {
        let pattern_at = format!("{at}.AllowedPattern");
        let pattern = pattern.as_str().ok_or_else(|| Fault::new(&pattern_at, "must be a string"))?;
        // The whole value has to match.
        let whole = Regex::new(&format!("^(?:{pattern})$"));
        let whole = whole.map_err(|e| Fault::new(pattern_at, format!("{pattern:?} cannot be read: {e}")))?;
        if !whole.is_match(text) {
            return Err(Fault::new(at, format!("{text:?} does not match {pattern}")));
        }
    }
    let bound = |name: &str| parameter.get(name).and_then(scalar).and_then(|text| text.parse::<f64>().ok());
    let within = |what: &str, size: f64, least: &str, most: &str| match (bound(least), bound(most)) {
        (Some(least), _) if size < least => Err(Fault::new(at, format!("{what} must be at least {least}"))),
        (_, Some(most)) if size > most => Err(Fault::new(at, format!("{what} must be at most {most}"))),
        _ => Ok(()),
    };
    if kind == "Number" {
        let number: f64 = text.parse().map_err(|_| Fault::new(at, format!("{text:?} is not a number")))?;
        within("the value", number, "MinValue", "MaxValue")?;
    } else {
        within("the length", text.len() as f64, "MinLength", "MaxLength")?;
    }
    Ok(match kind {
        "CommaDelimitedList" => text.split(',').map(str::trim).collect(),
        kind if kind.starts_with("List<") => text.split(',').map(str::trim).collect(),
        _ => text.into(),
    })
}
