//! The published schemas, as a consumer would hold records against them: with a validator that is not ours. Every record that
//! a test reads from a topic passes through here [K5].

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;
use streammanager::record::Topic;

use crate::workspace;

/// # Panics
/// When the schema itself is not valid.
pub fn validator(schema: &Value) -> Validator {
    jsonschema::draft202012::options().should_validate_formats(true).build(schema).expect("the schema itself is valid")
}

/// By topic, from the files that are checked in.
static SCHEMAS: LazyLock<BTreeMap<&'static str, Validator>> = LazyLock::new(|| {
    let read = |topic: &Topic| {
        let file = workspace().join("infra/schemas").join(topic.schema().replace('/', "-") + ".json");
        let schema = serde_json::from_slice(&fs::read(file).ok()?).expect("a schema is JSON");
        Some((topic.name(), validator(&schema)))
    };
    Topic::ALL.iter().filter_map(read).collect()
});

/// `topic`: a topic's name, behind the prefix of its stage.
///
/// # Panics
/// When the value breaks its topic's schema, or the topic has none.
pub fn assert_valid(topic: &str, value: &Value) {
    let schema = SCHEMAS.iter().find(|(name, _)| topic.ends_with(*name));
    let (name, schema) = schema.unwrap_or_else(|| panic!("{topic} has no published schema"));
    let problems: Vec<String> = schema.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(problems.is_empty(), "{name}: {problems:?}: {value}");
}
