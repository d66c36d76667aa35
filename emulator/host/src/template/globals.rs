//! SAM's merge of `Globals` into a resource's own properties.

use serde_json::{Map, Value};

use super::error::Fault;
use super::values::function_call;

/// Sections that SAM allows, with the resource type each speaks of.
const SECTIONS: [(&str, &str); 6] = [
    ("Function", "AWS::Serverless::Function"),
    ("HttpApi", "AWS::Serverless::HttpApi"),
    ("Api", "AWS::Serverless::Api"),
    ("SimpleTable", "AWS::Serverless::SimpleTable"),
    ("StateMachine", "AWS::Serverless::StateMachine"),
    ("LayerVersion", "AWS::Serverless::LayerVersion"),
];

pub(super) fn check(globals: &Map<String, Value>) -> Result<(), Fault> {
    for (name, section) in globals {
        if !SECTIONS.iter().any(|(known, _)| known == name) {
            let known: Vec<_> = SECTIONS.iter().map(|(name, _)| *name).collect();
            return Err(Fault::new(
                format!("Globals.{name}"),
                format!("no such section; there are {}", known.join(", ")),
            ));
        }
        if !section.is_object() {
            return Err(Fault::new(format!("Globals.{name}"), "must be a mapping of properties"));
        }
    }
    Ok(())
}

/// The properties of a resource of this type with the globals underneath.
pub(super) fn merged(globals: &Map<String, Value>, kind: &str, own: &Map<String, Value>) -> Map<String, Value> {
    let section = SECTIONS.iter().find(|(_, of)| *of == kind).and_then(|(name, _)| globals.get(*name));
    let Some(Value::Object(section)) = section else { return own.clone() };
    merge_maps(section, own)
}

fn merge_maps(under: &Map<String, Value>, over: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = under.clone();
    for (key, value) in over {
        let value = match under.get(key) {
            Some(below) => merge(below, value),
            None => value.clone(),
        };
        merged.insert(key.clone(), value);
    }
    merged
}

/// Mappings merge, lists join with the globals first, everything else (an intrinsic too) is replaced.
fn merge(under: &Value, over: &Value) -> Value {
    match (under, over) {
        _ if function_call(under).is_some() || function_call(over).is_some() => over.clone(),
        (Value::Object(under), Value::Object(over)) => Value::Object(merge_maps(under, over)),
        (Value::Array(under), Value::Array(over)) => under.iter().chain(over).cloned().collect(),
        _ => over.clone(),
    }
}
