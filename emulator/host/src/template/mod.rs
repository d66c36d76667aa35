//! Reader of the deployed template (SAM YAML) into a plain model of what has to run [L2]. It starts nothing, calls
//! nothing, and knows no emulator part: whoever runs the model decides how. What cannot be honoured is listed in it.

mod conditions;
mod document;
mod error;
mod functions;
mod globals;
mod intrinsics;
pub mod iot_sql;
mod model;
mod opening;
mod properties;
mod references;
mod resources;
mod rules;
mod scope;
#[cfg(test)]
mod tests;
mod unsupported;
mod values;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

pub use self::error::TemplateError;
pub use self::model::{
    Action, Architecture, Auth, Bucket, DeadLetter, Function, Queue, Standing, StartAt, Stream, Table, Template,
    TopicRule, Trigger, Unsupported, queue_name,
};
pub use self::scope::{ACCOUNT, REGION, STACK};

use self::error::Fault;
use self::properties::Properties;
use self::scope::kind;
use self::unsupported::Gathered;

const SAM: &str = "AWS::Serverless-2016-10-31";

/// The template that was deployed when this program was built, for hosts without its source.
const BUILT_IN: &str = include_str!("../../../../infra/template.yaml");

/// Reads the template in this program.
pub fn built_in(parameters: &BTreeMap<String, String>) -> Result<Template, TemplateError> {
    parse(BUILT_IN, Path::new("the built-in template"), parameters)
}

/// Reads the template at `path`; `parameters` stand over the template's own defaults.
pub fn load(path: &Path, parameters: &BTreeMap<String, String>) -> Result<Template, TemplateError> {
    let text = std::fs::read_to_string(path).map_err(|cause| TemplateError::Unreadable { file: path.into(), cause })?;
    parse(&text, path, parameters)
}

/// As `load`, from text; `file` is only named in errors.
pub fn parse(text: &str, file: &Path, parameters: &BTreeMap<String, String>) -> Result<Template, TemplateError> {
    let document = document::parse(text).map_err(|broken| TemplateError::Syntax {
        file: file.into(),
        line: broken.line,
        column: broken.column,
        what: broken.what,
    })?;
    read(&document, parameters).map_err(|fault| fault.in_file(file))
}

fn read(document: &Map<String, Value>, parameters: &BTreeMap<String, String>) -> Result<Template, Fault> {
    let uses_sam = match document.get("Transform") {
        Some(Value::String(transform)) => transform == SAM,
        Some(Value::Array(transforms)) => transforms.iter().any(|transform| transform == SAM),
        _ => false,
    };
    if !uses_sam {
        return Err(Fault::new("Transform", format!("must name {SAM}")));
    }
    let scope = opening::open(document, parameters)?;
    references::check(&scope, document)?;
    let mut gathered = Gathered::default();
    let mut template = Template {
        functions: Vec::new(),
        queues: Vec::new(),
        streams: Vec::new(),
        tables: Vec::new(),
        buckets: Vec::new(),
        rules: Vec::new(),
        unsupported: Vec::new(),
        standing: Standing::default(),
    };
    for (id, declared) in scope.resources.iter().filter(|(_, declared)| declared.exists) {
        let at = format!("Resources.{id}.Properties");
        let properties = Properties::new(&scope, at, declared.properties.clone());
        resources::stands(&declared.kind, &properties, &mut template.standing)?;
        let known = match declared.kind.as_str() {
            kind::FUNCTION => {
                let (function, rules) = functions::function(&scope, id, declared, &properties, &mut gathered)?;
                template.functions.push(function);
                template.rules.extend(rules);
                unsupported::FUNCTION
            }
            kind::QUEUE => {
                template.queues.push(resources::queue(&scope, id, &properties)?);
                unsupported::QUEUE
            }
            kind::STREAM => {
                template.streams.push(resources::stream(&scope, id, &properties)?);
                unsupported::STREAM
            }
            kind::TABLE => {
                template.tables.push(resources::table(&scope, id, &properties)?);
                unsupported::TABLE
            }
            kind::BUCKET => {
                template.buckets.push(resources::bucket(&scope, id)?);
                unsupported::BUCKET
            }
            kind::RULE => {
                template.rules.push(rules::rule(&scope, id, &properties, &mut gathered)?);
                unsupported::RULE
            }
            kind::HTTP_API => unsupported::HTTP_API,
            _ => {
                gathered.resource(id, declared);
                continue;
            }
        };
        gathered.properties(id, "", &properties, known);
    }
    one_name_each(&template)?;
    one_function_a_route(&template)?;
    one_reader_a_stream(&template)?;
    template.unsupported = gathered.finish();
    Ok(template)
}

fn one_name_each(template: &Template) -> Result<(), Fault> {
    let queues = template.queues.iter().map(|queue| ("QueueName", &queue.logical_id, &queue.name));
    let streams = template.streams.iter().map(|stream| ("Name", &stream.logical_id, &stream.name));
    let mut seen = BTreeMap::new();
    for (property, id, name) in queues.chain(streams) {
        if let Some(other) = seen.insert((property, name), id) {
            let at = format!("Resources.{id}.Properties.{property}");
            return Err(Fault::new(at, format!("{name:?} is the name of {other} too")));
        }
    }
    Ok(())
}

fn one_function_a_route(template: &Template) -> Result<(), Fault> {
    let mut seen = BTreeMap::new();
    for function in &template.functions {
        for trigger in &function.triggers {
            if let Trigger::Http { method, path, .. } = trigger
                && let Some(other) = seen.insert((method, path), &function.logical_id)
            {
                let at = format!("Resources.{}.Properties.Events", function.logical_id);
                return Err(Fault::new(at, format!("{method} {path} already starts {other}")));
            }
        }
    }
    Ok(())
}

/// What the reader of a stream has passed is deleted here: a second one would miss it.
fn one_reader_a_stream(template: &Template) -> Result<(), Fault> {
    let mut seen = BTreeMap::new();
    for function in &template.functions {
        for trigger in &function.triggers {
            if let Trigger::Stream { stream, .. } = trigger
                && let Some(other) = seen.insert(stream, &function.logical_id)
            {
                let at = format!("Resources.{}.Properties.Events", function.logical_id);
                return Err(Fault::new(
                    at,
                    format!("{stream} is read by {other} already, and has one reader on this host"),
                ));
            }
        }
    }
    Ok(())
}
