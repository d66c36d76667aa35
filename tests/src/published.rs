//! The published schemas, as a consumer would hold records against them: with a validator that is not ours. Every record that
//! a test reads from a topic passes through here [K5].

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;
use sha2::{Digest, Sha256};
use streammanager::record::Topic;

use crate::workspace;

/// # Panics
/// When the schema itself is not valid.
pub fn validator(schema: &Value) -> Validator {
    jsonschema::draft202012::options().should_validate_formats(true).build(schema).expect("the schema itself is valid")
}

/// A schema, and the natural key that it names, or one a source; a dead letter is known by bytes that its announcement does not
/// show.
type Published = (Validator, Option<Value>);

/// By topic, from the files that are checked in.
static SCHEMAS: LazyLock<BTreeMap<&'static str, Published>> = LazyLock::new(|| {
    let read = |topic: &Topic| {
        let file = workspace().join("infra/schemas").join(topic.schema().replace('/', "-") + ".json");
        let schema: Value = serde_json::from_slice(&fs::read(file).ok()?).expect("a schema is JSON");
        let key = schema.get("x-natural-key").cloned();
        assert!(key.is_some() || *topic == Topic::DEAD_LETTERS, "{} names no natural key", topic.name());
        Some((topic.name(), (validator(&schema), key)))
    };
    Topic::ALL.iter().filter_map(read).collect()
});

/// The paths of a record's own source, the longest pattern's that fits its id.
fn key_of<'k>(value: &Value, key: &'k Value) -> &'k [Value] {
    let source = value["source_id"].as_str().expect("every record has a source");
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(prefix) => source.starts_with(prefix),
        None => source == pattern,
    };
    let paths = match key {
        Value::Object(keys) => {
            keys.iter().filter(|(pattern, _)| fits(pattern)).max_by_key(|(pattern, _)| pattern.len())
        }
        _ => return key.as_array().expect("a key is a list of paths"),
    };
    let (_, paths) = paths.unwrap_or_else(|| panic!("{key} names no key of {source}"));
    paths.as_array().expect("a key is a list of paths")
}

/// The identity that anybody can work out from a record and its schema alone [S12].
fn event_id(value: &Value, key: &[Value]) -> String {
    let text = |path: &str| match value.pointer(&format!("/{}", path.replace('.', "/"))) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "null".to_owned(),
    };
    let fields = key.iter().map(|path| text(path.as_str().expect("a path is text")));
    let texts: Vec<String> = std::iter::once(text("source_id")).chain(fields).collect();
    let digest = Sha256::digest(texts.join("\u{1f}"));
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `topic`: a topic's name, behind the prefix of its stage.
///
/// # Panics
/// When the value breaks its topic's schema, or the topic has none.
pub fn assert_valid(topic: &str, value: &Value) {
    let schema = SCHEMAS.iter().find(|(name, _)| topic.ends_with(*name));
    let (name, (schema, key)) = schema.unwrap_or_else(|| panic!("{topic} has no published schema"));
    let problems: Vec<String> = schema.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(problems.is_empty(), "{name}: {problems:?}: {value}");
    if let Some(key) = key {
        let key = key_of(value, key);
        assert_eq!(value["event_id"], event_id(value, key), "{name}: not the hash of {key:?}: {value}");
    }
}
