//! The reader on the deployed template, on small templates a rule at a time, and on broken ones.

mod deployed;
mod intrinsics;
mod refused;
mod routes;

use std::collections::BTreeMap;
use std::path::Path;

use super::{Template, TemplateError, parse};

/// A template of these resources (indented by two blanks), with SAM's transform.
fn with_resources(resources: &str) -> String {
    format!("Transform: AWS::Serverless-2016-10-31\nResources:\n{resources}")
}

fn read_with(text: &str, parameters: &[(&str, &str)]) -> Result<Template, TemplateError> {
    let parameters: BTreeMap<_, _> =
        parameters.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    parse(text, Path::new("t.yaml"), &parameters)
}

fn read(text: &str) -> Template {
    read_with(text, &[]).unwrap_or_else(|error| panic!("{error}\n{text}"))
}
