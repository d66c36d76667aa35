//! From YAML text to one tree in which every intrinsic has its long form (`{"Fn::Sub": …}`). What the functions mean is
//! not known here.

use serde_json::{Map, Value};
use yaml_serde::Value as Yaml;

/// CloudFormation's own bound for a template in S3, in bytes.
const TEMPLATE_BYTES: usize = 1024 * 1024;
/// Brackets open at a time: the YAML parser's time grows with the square of it.
const OPEN_BRACKETS: usize = 500;

/// Not YAML, or YAML that no template may hold.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) what: String,
}

pub(super) fn parse(text: &str) -> Result<Map<String, Value>, Broken> {
    let start = |what: String| Broken { line: 1, column: 1, what };
    if text.len() > TEMPLATE_BYTES {
        return Err(start(format!("{} bytes; a template holds at most {TEMPLATE_BYTES}", text.len())));
    }
    if most_open_brackets(text) > OPEN_BRACKETS {
        return Err(start(format!("more than {OPEN_BRACKETS} brackets are open at a time")));
    }
    let yaml: Yaml = yaml_serde::from_str(text).map_err(|error| match error.location() {
        Some(place) => Broken { line: place.line(), column: place.column(), what: without_place(&error.to_string()) },
        None => start(error.to_string()),
    })?;
    match long_form(yaml).map_err(start)? {
        Value::Object(sections) => Ok(sections),
        _ => Err(start("a template is a mapping of sections such as Resources".into())),
    }
}

/// Those inside quotes count too: close enough for a bound.
fn most_open_brackets(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => continue,
        }
        most = most.max(open);
    }
    most
}

/// The parser repeats line and column at the end of its message.
fn without_place(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}

fn long_form(yaml: Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(flag) => Value::Bool(flag),
        Yaml::String(text) => Value::String(text),
        Yaml::Number(number) => number_of(&number)?,
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(long_form).collect::<Result<_, _>>()?),
        Yaml::Mapping(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                map.insert(key_of(key)?, long_form(value)?);
            }
            Value::Object(map)
        }
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            let name = tag.trim_start_matches('!');
            let argument = long_form(tagged.value)?;
            let (key, argument) = match (name, argument) {
                ("Ref" | "Condition", argument) => (name.to_owned(), argument),
                // The short form joins resource and attribute with a dot.
                ("GetAtt", Value::String(path)) => {
                    let (resource, attribute) = path.split_once('.').unwrap_or((&path, ""));
                    ("Fn::GetAtt".to_owned(), Value::from(vec![resource, attribute]))
                }
                (_, argument) => (format!("Fn::{name}"), argument),
            };
            Value::Object(Map::from_iter([(key, argument)]))
        }
    })
}

fn key_of(key: Yaml) -> Result<String, String> {
    match key {
        Yaml::String(text) => Ok(text),
        Yaml::Number(number) => Ok(number.to_string()),
        Yaml::Bool(flag) => Ok(flag.to_string()),
        other => Err(format!("a key must be text, not {other:?}")),
    }
}

fn number_of(number: &yaml_serde::Number) -> Result<Value, String> {
    if let Some(whole) = number.as_i64() {
        return Ok(whole.into());
    }
    if let Some(whole) = number.as_u64() {
        return Ok(whole.into());
    }
    number
        .as_f64()
        .and_then(serde_json::Number::from_f64)
        .map(Value::Number)
        .ok_or_else(|| format!("{number} is not a finite number"))
}
