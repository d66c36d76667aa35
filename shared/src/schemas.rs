//! The published JSON Schemas (draft 2020-12) [K5], generated from the types that are serialised. They are checked in
//! under `infra/schemas`; nothing is described here that a type can say itself.

use std::collections::{BTreeMap, BTreeSet};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use crate::dead::Announcement;
use crate::decode::alert::message::AlertMessage;
use crate::express::Accepted;
use crate::record::{SCHEMAS, Topic, value};
use crate::schedule::file::StreamsFile;
use crate::sources::{self, DRILL, DRILL_KEY, Records};

/// The schema of a topic's values; `None` for a topic that nothing writes to yet.
pub fn schema_for(topic: Topic) -> Option<Value> {
    if topic == Topic::DEAD_LETTERS {
        return Some(root::<Announcement<'static>>(&topic.schema(), writing()));
    }
    let mut records = sources::records_of(topic).peekable();
    records.peek()?;
    Some(record(topic, records))
}

/// The schema of what `POST /alerts` and MQTT `alerts/{source_id}` take as JSON [E5].
pub fn alert_message() -> Value {
    root::<AlertMessage>("alert/1", SchemaSettings::draft2020_12().for_deserialize().into_generator())
}

/// The schema of what the sender of an accepted alert is told: an item of `accepted` in the answer of `POST /alerts`, and the
/// message on MQTT `alerts/ack/{event_id}` [E5].
pub fn alert_accepted() -> Value {
    root::<Accepted>("alert-accepted/1", writing())
}

/// The schema of `streams.yaml`.
pub fn streams_file() -> Value {
    root::<StreamsFile>("streams/1", SchemaSettings::draft2020_12().for_deserialize().into_generator())
}

/// Every published schema with its file name under `infra/schemas`.
pub fn published() -> Vec<(String, Value)> {
    let topics = Topic::ALL.iter().filter_map(|&topic| schema_for(topic).map(|schema| (topic.schema(), schema)));
    let others = [("alert/1", alert_message()), ("alert-accepted/1", alert_accepted()), ("streams/1", streams_file())];
    topics
        .chain(others.map(|(id, schema)| (id.to_owned(), schema)))
        .map(|(id, schema)| (id.replace('/', "-") + ".json", schema))
        .collect()
}

/// One of them, by its file's name.
pub fn named(file: &str) -> Option<Value> {
    published().into_iter().find(|(name, _)| name == file).map(|(_, schema)| schema)
}

/// A schema of what we write: every field that is always written is required.
fn writing() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_serialize().into_generator()
}

/// A record whose `data` is that of one of `sources`.
fn record(topic: Topic, sources: impl Iterator<Item = &'static Records>) -> Value {
    let mut generator = writing();
    let mut data: Vec<Value> = Vec::new();
    for records in sources {
        let of_source = (records.data)(&mut generator).to_value();
        if !data.contains(&of_source) {
            data.push(of_source);
        }
    }
    let mut schema = root::<value::Value<'static>>(&topic.schema(), generator);
    schema["x-natural-key"] = natural_key(topic);
    schema["properties"]["data"] = if data.len() == 1 { data.remove(0) } else { json!({ "anyOf": data }) };
    schema
}

/// The key's paths; where a topic's sources have different keys, those of each source id or prefix with `*` behind it [S12].
fn natural_key(topic: Topic) -> Value {
    if topic == DRILL.topic {
        return json!(DRILL_KEY);
    }
    let of_topic = sources::ids().filter(|(_, id)| id.topic == topic);
    let keys: BTreeMap<&str, &[&str]> =
        of_topic.filter_map(|(source, id)| Some((id.pattern, source.records.as_ref()?.key))).collect();
    let different: BTreeSet<&[&str]> = keys.values().copied().collect();
    match different.first() {
        Some(key) if different.len() == 1 => json!(key),
        _ => json!(keys),
    }
}

fn root<T: JsonSchema>(id: &str, generator: SchemaGenerator) -> Value {
    let mut schema = generator.into_root_schema_for::<T>();
    schema.insert("$id".into(), format!("{SCHEMAS}{}.json", id.replace('/', "-")).into());
    schema.insert("title".into(), id.into());
    let mut schema = schema.to_value();
    without_rule_ids(&mut schema);
    schema
}

/// Types' descriptions name our rules, as `[S12]`; whoever reads a schema does not know them.
fn without_rule_ids(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(description)) = fields.get_mut("description") {
                while let Some((start, end)) = rule_ids(description) {
                    description.replace_range(start..end, "");
                }
            }
            fields.values_mut().for_each(without_rule_ids);
        }
        Value::Array(items) => items.iter_mut().for_each(without_rule_ids),
        _ => {}
    }
}

/// Where ` [S12]` or ` [A1, A2]` stands in the text.
fn rule_ids(text: &str) -> Option<(usize, usize)> {
    let is_id = |id: &str| {
        id.starts_with(|letter: char| letter.is_ascii_uppercase())
            && id.len() > 1
            && id.chars().skip(1).all(|digit| digit.is_ascii_digit())
    };
    text.match_indices(" [").find_map(|(start, _)| {
        let length = text[start..].find(']')?;
        text[start + 2..start + length].split(", ").all(is_id).then_some((start, start + length + 1))
    })
}
