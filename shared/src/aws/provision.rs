//! Makes queues, tables and buckets on an AWS endpoint where they are absent. What is there already is used as it is and
//! never changed; deployed functions have all of it from their stack and never come here.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableDescription, TableStatus,
    TimeToLiveSpecification, TimeToLiveStatus,
};
use aws_sdk_sqs::error::SdkError;
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use serde_json::{Value, json};

use super::{Aws, failed};
use crate::error::BackendError;
use crate::queue::QueueRef;
use crate::time::Clock;

/// A table is made within seconds; one that takes longer than this does not come.
const TABLE_POLLS: u32 = 120;
const TABLE_POLL: Duration = Duration::from_millis(500);

/// A queue as it is to be made.
#[derive(Debug, Clone)]
pub struct QueueShape<'a> {
    /// Its name on the endpoint, within the account.
    pub name: &'a str,
    /// A received message is hidden for this long.
    pub visibility: Duration,
    /// A sent message is not received before this has passed.
    pub delay: Duration,
    /// Older messages are dropped.
    pub retention: Duration,
    /// The queue, which exists, that a message goes to instead of being received more often than this.
    pub dead_letters: Option<(&'a QueueRef, u32)>,
}

/// A table as it is to be made; its keys are texts.
#[derive(Debug, Clone, Copy)]
pub struct TableShape<'a> {
    /// Its name on the endpoint, within the account.
    pub name: &'a str,
    /// The attribute that groups items.
    pub partition_key: &'a str,
    /// The attribute that orders a group's items, if there is one.
    pub sort_key: Option<&'a str>,
    /// The attribute that holds an item's expiry.
    pub expires: Option<&'a str>,
}

impl Aws {
    /// The queue's URL, and what of a queue that was there before differs from its shape, as clauses.
    pub async fn make_queue(&self, shape: &QueueShape<'_>) -> Result<(QueueRef, Vec<String>), BackendError> {
        let sqs = aws_sdk_sqs::Client::new(&self.config);
        let wanted = self.attributes(&sqs, shape).await?;
        match sqs.get_queue_url().queue_name(shape.name).send().await {
            Ok(found) => {
                let queue = QueueRef::new(found.queue_url.as_deref().unwrap_or_default());
                let found = attributes_of(&sqs, &queue).await?;
                let differs = wanted.iter().filter(|(name, value)| !same(found.get(name), value));
                let clause = |(name, value): (&Attribute, &String)| {
                    let found = found.get(name).map_or("nothing", String::as_str);
                    format!("{} is {found} instead of {value}", name.as_str())
                };
                Ok((queue, differs.map(clause).collect()))
            }
            Err(SdkError::ServiceError(e)) if e.err().is_queue_does_not_exist() => {
                let made = sqs.create_queue().queue_name(shape.name).set_attributes(Some(wanted)).send().await;
                let made = made.map_err(|e| failed("SQS", shape.name, e))?;
                Ok((QueueRef::new(made.queue_url.as_deref().unwrap_or_default()), Vec::new()))
            }
            Err(e) => Err(failed("SQS", shape.name, e)),
        }
    }

    async fn attributes(
        &self,
        sqs: &aws_sdk_sqs::Client,
        shape: &QueueShape<'_>,
    ) -> Result<HashMap<Attribute, String>, BackendError> {
        let seconds = |time: Duration| time.as_secs().to_string();
        let mut attributes = HashMap::from([
            (Attribute::VisibilityTimeout, seconds(shape.visibility)),
            (Attribute::DelaySeconds, seconds(shape.delay)),
            (Attribute::MessageRetentionPeriod, seconds(shape.retention)),
        ]);
        if let Some((queue, receives)) = shape.dead_letters {
            let arn = attributes_of(sqs, queue).await?.remove(&Attribute::QueueArn);
            let arn = arn.ok_or_else(|| BackendError::Fatal(format!("SQS {queue}: it has no ARN")))?;
            let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": receives.to_string() });
            attributes.insert(Attribute::RedrivePolicy, policy.to_string());
        }
        Ok(attributes)
    }

    /// Returns when the table can be used.
    pub async fn make_table(&self, shape: &TableShape<'_>) -> Result<(), BackendError> {
        let dynamodb = aws_sdk_dynamodb::Client::new(&self.config);
        let mut described = describe(&dynamodb, shape.name).await?;
        if described.is_none() {
            create(&dynamodb, shape).await?;
        }
        for _ in 0..TABLE_POLLS {
            match described {
                Some(table) if table.table_status == Some(TableStatus::Active) => {
                    check_keys(shape, &table)?;
                    return expire(&dynamodb, shape).await;
                }
                _ => tokio::time::sleep(TABLE_POLL).await,
            }
            described = describe(&dynamodb, shape.name).await?;
        }
        Err(BackendError::Retry(format!("DynamoDB table {}: it does not become active", shape.name)))
    }

    /// Makes a private bucket; one that is there already is used.
    pub async fn make_bucket(&self, name: &str, clock: Clock) -> Result<(), BackendError> {
        self.blobs(name, clock)?.make().await
    }
}

async fn attributes_of(
    sqs: &aws_sdk_sqs::Client,
    queue: &QueueRef,
) -> Result<HashMap<Attribute, String>, BackendError> {
    let answer = sqs.get_queue_attributes().queue_url(queue.as_str()).attribute_names(Attribute::All).send().await;
    Ok(answer.map_err(|e| failed("SQS", queue.as_str(), e))?.attributes.unwrap_or_default())
}

/// Policies are JSON, whose order and kinds of number say nothing.
fn same(found: Option<&String>, wanted: &str) -> bool {
    let policy = |text: &str| match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(policy)) => {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some((policy.get("deadLetterTargetArn").map(text), policy.get("maxReceiveCount").map(text)))
        }
        _ => None,
    };
    found.is_some_and(|found| found == wanted || policy(wanted).is_some_and(|wanted| policy(found) == Some(wanted)))
}

async fn describe(dynamodb: &aws_sdk_dynamodb::Client, table: &str) -> Result<Option<TableDescription>, BackendError> {
    match dynamodb.describe_table().table_name(table).send().await {
        Ok(answer) => Ok(answer.table),
        Err(SdkError::ServiceError(e)) if e.err().is_resource_not_found_exception() => Ok(None),
        Err(e) => Err(failed("DynamoDB table", table, e)),
    }
}

async fn create(dynamodb: &aws_sdk_dynamodb::Client, shape: &TableShape<'_>) -> Result<(), BackendError> {
    let keys =
        [(shape.partition_key, KeyType::Hash)].into_iter().chain(shape.sort_key.map(|key| (key, KeyType::Range)));
    let mut request = dynamodb.create_table().table_name(shape.name).billing_mode(BillingMode::PayPerRequest);
    for (key, kind) in keys {
        let definition = AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S);
        let element = KeySchemaElement::builder().attribute_name(key).key_type(kind);
        request = request
            .attribute_definitions(definition.build().map_err(incomplete)?)
            .key_schema(element.build().map_err(incomplete)?);
    }
    match request.send().await {
        Ok(_) => Ok(()),
        // Somebody else was faster.
        Err(SdkError::ServiceError(e)) if e.err().is_resource_in_use_exception() => Ok(()),
        Err(e) => Err(failed("DynamoDB table", shape.name, e)),
    }
}

fn check_keys(shape: &TableShape<'_>, table: &TableDescription) -> Result<(), BackendError> {
    let key =
        |kind: KeyType| table.key_schema().iter().find(|key| key.key_type == kind).map(|key| &*key.attribute_name);
    if (key(KeyType::Hash), key(KeyType::Range)) == (Some(shape.partition_key), shape.sort_key) {
        Ok(())
    } else {
        Err(BackendError::Fatal(format!("DynamoDB table {}: it has other keys than it needs", shape.name)))
    }
}

/// Also for a table that is there: who made it may have ended before this.
async fn expire(dynamodb: &aws_sdk_dynamodb::Client, shape: &TableShape<'_>) -> Result<(), BackendError> {
    let Some(attribute) = shape.expires else { return Ok(()) };
    let told = dynamodb.describe_time_to_live().table_name(shape.name).send().await;
    let told = told.map_err(|e| failed("DynamoDB table", shape.name, e))?.time_to_live_description;
    let status = told.and_then(|told| told.time_to_live_status);
    if matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
        return Ok(());
    }
    let specification = TimeToLiveSpecification::builder().enabled(true).attribute_name(attribute);
    let request = dynamodb.update_time_to_live().table_name(shape.name);
    let request = request.time_to_live_specification(specification.build().map_err(incomplete)?);
    request.send().await.map_err(|e| failed("DynamoDB table", shape.name, e))?;
    Ok(())
}

fn incomplete(e: impl std::fmt::Display) -> BackendError {
    BackendError::Fatal(format!("DynamoDB: {e}"))
}
