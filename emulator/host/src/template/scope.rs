//! What a template's names stand for on this host: parameters, conditions, mappings, and every resource's name, ARN and
//! attributes. How functions combine them is in `intrinsics`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::Fault;
use super::{conditions, globals};

/// Where this host says it is. No service behind these names is ever called.
pub const REGION: &str = "us-west-2";
pub const ACCOUNT: &str = "000000000000";
pub const STACK: &str = "streammanager";
const PARTITION: &str = "aws";
/// `Ref` of a queue is its URL; here the URL is this scheme and the queue's name.
pub(super) const LOCAL: &str = "local:";
/// The API that SAM adds for events that name none.
const IMPLICIT_API: &str = "ServerlessHttpApi";

pub(super) mod kind {
    pub(in super::super) const BUCKET: &str = "AWS::S3::Bucket";
    pub(in super::super) const FUNCTION: &str = "AWS::Serverless::Function";
    pub(in super::super) const HTTP_API: &str = "AWS::Serverless::HttpApi";
    pub(in super::super) const QUEUE: &str = "AWS::SQS::Queue";
    pub(in super::super) const RULE: &str = "AWS::IoT::TopicRule";
    pub(in super::super) const SECRET: &str = "AWS::SecretsManager::Secret";
    pub(in super::super) const STREAM: &str = "AWS::Kinesis::Stream";
    pub(in super::super) const TABLE: &str = "AWS::DynamoDB::Table";
}

/// A resource as the template declares it, globals merged in.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) kind: String,
    pub(super) properties: Map<String, Value>,
    pub(super) metadata: Value,
    /// False when its `Condition` is: then it does not exist, and may not be referred to.
    pub(super) exists: bool,
}

#[derive(Debug)]
pub(super) struct Scope<'d> {
    parameters: BTreeMap<&'d str, Value>,
    pub(super) conditions: BTreeMap<&'d str, bool>,
    pub(super) mappings: Option<&'d Map<String, Value>>,
    pub(super) resources: BTreeMap<&'d str, Declared>,
    /// What `Globals` says of the API that SAM adds for events that name none.
    api_globals: Map<String, Value>,
}

impl<'d> Scope<'d> {
    pub(super) fn of(
        template: &'d Map<String, Value>,
        overrides: &BTreeMap<String, String>,
    ) -> Result<Scope<'d>, Fault> {
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
        if let Some(conditions) = section(template, "Conditions")? {
            scope.conditions = conditions::settle(&scope, conditions)?;
        }
        let empty = Map::new();
        let declared = section(template, "Resources")?.ok_or_else(|| Fault::new("Resources", "is missing"))?;
        for (id, resource) in declared {
            let resource = scope.declared(id, resource, globals.unwrap_or(&empty))?;
            scope.resources.insert(id, resource);
        }
        Ok(scope)
    }

    fn declared(&self, id: &str, resource: &Value, globals: &Map<String, Value>) -> Result<Declared, Fault> {
        let at = |key: &str| format!("Resources.{id}{key}");
        let resource = resource.as_object().ok_or_else(|| Fault::new(at(""), "must be a mapping"))?;
        let kind = match resource.get("Type") {
            Some(Value::String(kind)) => kind.clone(),
            _ => return Err(Fault::new(at(".Type"), "is missing or no text")),
        };
        let properties = match resource.get("Properties") {
            Some(Value::Object(own)) => globals::merged(globals, &kind, own),
            None | Some(Value::Null) => globals::merged(globals, &kind, &Map::new()),
            Some(_) => return Err(Fault::new(at(".Properties"), "must be a mapping")),
        };
        let exists = match resource.get("Condition") {
            None => true,
            Some(Value::String(name)) => *self
                .conditions
                .get(name.as_str())
                .ok_or_else(|| Fault::new(at(".Condition"), format!("{name:?} is not a condition of this template")))?,
            Some(_) => return Err(Fault::new(at(".Condition"), "must be the name of a condition")),
        };
        let metadata = resource.get("Metadata").cloned().unwrap_or(Value::Null);
        Ok(Declared { kind, properties, metadata, exists })
    }

    /// Whether `Ref`, `GetAtt` or `Sub` may speak of this name at all.
    pub(super) fn knows(&self, name: &str) -> bool {
        pseudo(name).is_some()
            || name == "AWS::NoValue"
            || self.parameters.contains_key(name)
            || self.resources.contains_key(name)
            || self.made_by_sam(name)
    }

    /// `Ref`: none is `AWS::NoValue`.
    pub(super) fn reference(&self, at: &str, name: &str) -> Result<Option<Value>, Fault> {
        if name == "AWS::NoValue" {
            return Ok(None);
        }
        if let Some(value) = pseudo(name).or_else(|| self.parameters.get(name).cloned()) {
            return Ok(Some(value));
        }
        if let Some((id, "Alias" | "Version")) = name.split_once('.')
            && self.made_by_sam(name)
        {
            return Ok(Some(format!("{}:live", self.arn(id)?).into()));
        }
        if self.made_by_sam(name) {
            return Ok(Some(format!("{STACK}-{name}").into()));
        }
        let resource = self.existing(at, name)?;
        Ok(Some(match resource.kind.as_str() {
            kind::QUEUE => format!("{LOCAL}{}", self.name_of(name)?).into(),
            kind::SECRET => self.arn(name)?.into(),
            _ => self.name_of(name)?.into(),
        }))
    }

    /// `Fn::GetAtt`.
    pub(super) fn attribute(&self, at: &str, id: &str, attribute: &str) -> Result<Value, Fault> {
        if self.made_by_sam(id) {
            return Ok(format!("arn:{PARTITION}:iam::{ACCOUNT}:role/{STACK}-{id}").into());
        }
        let resource = self.existing(at, id)?;
        let name = self.name_of(id)?;
        let unknown = || Fault::new(at, format!("{id} is a {}, which has no attribute {attribute:?}", resource.kind));
        Ok(match (resource.kind.as_str(), attribute) {
            (_, "") => return Err(unknown()),
            (_, "Arn") => self.arn(id)?.into(),
            (kind::QUEUE, "QueueName") => name.into(),
            (kind::QUEUE, "QueueUrl") => format!("{LOCAL}{name}").into(),
            (kind::TABLE, "StreamArn") => format!("{}/stream/0", self.arn(id)?).into(),
            (kind::HTTP_API, "ApiEndpoint") => format!("{LOCAL}{name}").into(),
            (kind::BUCKET, "DomainName" | "RegionalDomainName") => format!("{name}.s3.amazonaws.com").into(),
            (kind::QUEUE | kind::TABLE | kind::BUCKET | kind::STREAM | kind::FUNCTION | kind::RULE, _) => {
                return Err(unknown());
            }
            _ => format!("{name}.{attribute}").into(),
        })
    }

    /// The name that the resource has outside the template: the one it asks for, else as CloudFormation derives it, less
    /// the random end.
    pub(super) fn name_of(&self, id: &str) -> Result<String, Fault> {
        let at = format!("Resources.{id}");
        let resource = self.existing(&at, id)?;
        let property = match resource.kind.as_str() {
            kind::QUEUE => "QueueName",
            kind::FUNCTION => "FunctionName",
            kind::TABLE => "TableName",
            kind::BUCKET => "BucketName",
            kind::RULE => "RuleName",
            kind::STREAM | kind::SECRET => "Name",
            _ => return Ok(format!("{STACK}-{id}")),
        };
        let at = format!("{at}.Properties.{property}");
        match resource.properties.get(property).map(|value| self.resolve(&at, value)).transpose()?.flatten() {
            Some(Value::String(name)) if !name.is_empty() => Ok(name),
            Some(_) => Err(Fault::new(at, "must be a text that is not empty")),
            None => Ok(match resource.kind.as_str() {
                kind::BUCKET => format!("{STACK}-{}", id.to_lowercase()),
                kind::RULE => format!("{STACK}_{id}"),
                _ => format!("{STACK}-{id}"),
            }),
        }
    }

    /// Ends with the name, whatever the service.
    pub(super) fn arn(&self, id: &str) -> Result<String, Fault> {
        let name = self.name_of(id)?;
        let resource = self.existing(&format!("Resources.{id}"), id)?;
        let service = |service: &str, path: &str| format!("arn:{PARTITION}:{service}:{REGION}:{ACCOUNT}:{path}{name}");
        Ok(match resource.kind.as_str() {
            kind::QUEUE => service("sqs", ""),
            kind::FUNCTION => service("lambda", "function:"),
            kind::TABLE => service("dynamodb", "table/"),
            kind::STREAM => service("kinesis", "stream/"),
            kind::RULE => service("iot", "rule/"),
            kind::SECRET => service("secretsmanager", "secret:"),
            kind::BUCKET => format!("arn:{PARTITION}:s3:::{name}"),
            other => service(&other.split("::").nth(1).unwrap_or("local").to_lowercase(), ""),
        })
    }

    /// The resource of that type whose name or ARN (with or without an alias) this text is.
    pub(super) fn named(&self, kind: &str, text: &str) -> Result<Option<&'d str>, Fault> {
        for (id, resource) in &self.resources {
            if resource.kind != kind || !resource.exists {
                continue;
            }
            let arn = self.arn(id)?;
            let alias_of = || text.strip_prefix(&arn).is_some_and(|rest| rest.starts_with(':'));
            let name = self.name_of(id)?;
            if text == name || text == arn || text.strip_prefix(LOCAL) == Some(&name) || alias_of() {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// The properties of the API that SAM adds for events that name none.
    pub(super) fn implicit_api(&self) -> Map<String, Value> {
        self.resources.get(IMPLICIT_API).map_or(&self.api_globals, |declared| &declared.properties).clone()
    }

    fn existing(&self, at: &str, id: &str) -> Result<&Declared, Fault> {
        match self.resources.get(id) {
            Some(resource) if resource.exists => Ok(resource),
            Some(_) => Err(Fault::new(at, format!("refers to {id}, whose condition is false"))),
            None => Err(unknown_name(at, id)),
        }
    }

    fn made_by_sam(&self, name: &str) -> bool {
        let function = |id: &str| self.resources.get(id).filter(|resource| resource.kind == kind::FUNCTION);
        if name == IMPLICIT_API {
            return true;
        }
        match name.split_once('.') {
            Some((id, "Alias" | "Version")) => {
                function(id).is_some_and(|resource| resource.properties.contains_key("AutoPublishAlias"))
            }
            Some(_) => false,
            None => name
                .strip_suffix("Role")
                .and_then(function)
                .is_some_and(|resource| !resource.properties.contains_key("Role")),
        }
    }
}

pub(super) fn unknown_name(at: &str, name: &str) -> Fault {
    Fault::new(at, format!("refers to {name:?}, which is neither a parameter nor a resource of this template"))
}

pub(super) fn section<'d>(
    template: &'d Map<String, Value>,
    name: &str,
) -> Result<Option<&'d Map<String, Value>>, Fault> {
    match template.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(entries)) => Ok(Some(entries)),
        Some(_) => Err(Fault::new(name, "must be a mapping")),
    }
}

fn pseudo(name: &str) -> Option<Value> {
    Some(match name {
        "AWS::AccountId" => ACCOUNT.into(),
        "AWS::NotificationARNs" => Value::Array(Vec::new()),
        "AWS::Partition" => PARTITION.into(),
        "AWS::Region" => REGION.into(),
        "AWS::StackId" => format!("arn:{PARTITION}:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/local").into(),
        "AWS::StackName" => STACK.into(),
        "AWS::URLSuffix" => "amazonaws.com".into(),
        _ => return None,
    })
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
        _ => return Err(Fault::new(format!("{at}.Type"), "is missing or no text")),
    };
    if let Some(Value::Array(allowed)) = parameter.get("AllowedValues") {
        let allowed: Vec<_> = allowed.iter().filter_map(scalar).collect();
        if !allowed.iter().any(|value| value == text) {
            return Err(Fault::new(at, format!("{text:?} is not one of {}", allowed.join(", "))));
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

/// CloudFormation takes a number or a flag wherever a text is asked for.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
