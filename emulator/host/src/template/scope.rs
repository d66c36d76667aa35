//! What a template's names stand for on this host: parameters, conditions, mappings, and every resource's name, ARN and
//! attributes. How functions combine them is in `intrinsics`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::Fault;

/// Where this host says it is. No service behind these names is ever called.
pub const REGION: &str = "us-west-2";
/// The account in every ARN.
pub const ACCOUNT: &str = "000000000000";
/// The stack's name, which begins every derived name.
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
    pub(super) parameters: BTreeMap<&'d str, Value>,
    pub(super) conditions: BTreeMap<&'d str, bool>,
    pub(super) mappings: Option<&'d Map<String, Value>>,
    pub(super) resources: BTreeMap<&'d str, Declared>,
    /// What `Globals` says of the API that SAM adds for events that name none.
    pub(super) api_globals: Map<String, Value>,
}

impl<'d> Scope<'d> {
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
        // Of a function that is published: here there is one version, the one that runs.
        if attribute == "Version.Version" && self.made_by_sam(&format!("{id}.Version")) {
            return Ok("1".into());
        }
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
            Some(_) => Err(Fault::new(at, "must be a string that is not empty")),
            None => Ok(match resource.kind.as_str() {
                kind::QUEUE => self.queue_name(id),
                kind::BUCKET => format!("{STACK}-{}", id.to_lowercase()),
                kind::RULE => format!("{STACK}_{id}"),
                _ => format!("{STACK}-{id}"),
            }),
        }
    }

    /// Of a queue that asks for none: each stage's own, and the same ever after, for a data folder and an endpoint of `--aws` keep
    /// what waits under it.
    fn queue_name(&self, id: &str) -> String {
        let of = |parameter: &str| self.parameters.get(parameter).and_then(Value::as_str);
        let (Some(prefix), Some(stage)) = (of("StackPrefix"), of("Stage")) else { return format!("{STACK}-{id}") };
        let mut name = format!("{prefix}-{stage}");
        for letter in id.strip_suffix("Queue").unwrap_or(id).chars() {
            if letter.is_ascii_uppercase() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
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
