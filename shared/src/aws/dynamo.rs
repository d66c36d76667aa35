//! The store on DynamoDB: one table with `pk` and `sk`. Whether an item has expired is part of every condition, for the
//! service's own deletion takes days.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use bytes::Bytes;

use crate::aws;
use crate::error::BackendError;
use crate::store::{Expect, Item, Key, PutError, Store, VALUE_BYTES, Version};
use crate::time::{Clock, Rng, Timestamp};

/// When an item expires, to the millisecond: what conditions go by.
const UNTIL: &str = "until";
/// The same in whole seconds, rounded up: the table's TTL attribute.
const EXPIRES: &str = "expires";

const LIVES: &str = "(attribute_not_exists(#until) OR #until > :now)";

/// Items of one table; cheap to clone.
#[derive(Clone)]
pub struct DynamoStore {
    client: Client,
    table: String,
    clock: Clock,
    rng: Rng,
}

type Attributes = HashMap<String, AttributeValue>;

/// A condition with the names and values that it needs; DynamoDB refuses those that are not used.
struct Condition {
    expression: Option<String>,
    names: HashMap<String, String>,
    values: Attributes,
}

impl DynamoStore {
    pub(crate) fn new(config: &SdkConfig, table: &str, clock: Clock, rng: Rng) -> DynamoStore {
        DynamoStore { client: Client::new(config), table: table.into(), clock, rng }
    }

    fn now(&self) -> AttributeValue {
        number(self.clock.now().as_millisecond())
    }

    fn condition(&self, expect: Expect) -> Condition {
        let now = (":now".to_owned(), self.now());
        let until = ("#until".to_owned(), UNTIL.to_owned());
        match expect {
            Expect::Any => Condition { expression: None, names: HashMap::new(), values: HashMap::new() },
            Expect::Absent => Condition {
                expression: Some("attribute_not_exists(pk) OR #until <= :now".into()),
                names: HashMap::from([until]),
                values: HashMap::from([now]),
            },
            Expect::Version(Version(version)) => Condition {
                expression: Some(format!("#version = :version AND {LIVES}")),
                names: HashMap::from([until, ("#version".into(), "version".into())]),
                values: HashMap::from([now, (":version".into(), number(version))]),
            },
        }
    }

    fn failed<E>(&self, error: SdkError<E>) -> BackendError
    where
        E: aws_sdk_dynamodb::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        aws::failed("DynamoDB table", &self.table, error)
    }

    fn item(&self, attributes: &Attributes) -> Result<Item, BackendError> {
        let missing = |name| BackendError::Fatal(format!("DynamoDB table {}: an item has no {name}", self.table));
        let text = |name| attributes.get(name).and_then(|value| value.as_s().ok()).ok_or_else(|| missing(name));
        let value = attributes.get("value").and_then(|value| value.as_b().ok()).ok_or_else(|| missing("value"))?;
        Ok(Item {
            key: Key::new(text("pk")?, text("sk")?),
            value: Bytes::copy_from_slice(value.as_ref()),
            version: version(attributes).ok_or_else(|| missing("version"))?,
            expires: until(attributes),
        })
    }
}

#[async_trait]
impl Store for DynamoStore {
    async fn get(&self, key: &Key) -> Result<Option<Item>, BackendError> {
        let now = self.clock.now();
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key_of(&key.partition, &key.sort)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|e| self.failed(e))?;
        let item = answer.item.map(|attributes| self.item(&attributes)).transpose()?;
        Ok(item.filter(|item| item.expires.is_none_or(|expires| expires > now)))
    }

    async fn list(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<Item>, BackendError> {
        // A start outside of the prefix is refused by DynamoDB: before it, it starts nothing; behind it, nothing is left.
        let mut start = match after {
            Some(after) if after.starts_with(prefix) && !after.is_empty() => Some(key_of(partition, after)),
            Some(after) if after > prefix => return Ok(Vec::new()),
            _ => None,
        };
        let mut items = Vec::new();
        while items.len() < max {
            let mut query = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .filter_expression(LIVES)
                .expression_attribute_names("#until", UNTIL)
                .expression_attribute_values(":now", self.now())
                .expression_attribute_values(":pk", AttributeValue::S(partition.into()))
                .set_exclusive_start_key(start)
                .limit((max - items.len()).try_into().unwrap_or(i32::MAX));
            // An empty prefix is refused too.
            query = match prefix {
                "" => query.key_condition_expression("pk = :pk"),
                prefix => query
                    .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
                    .expression_attribute_values(":prefix", AttributeValue::S(prefix.into())),
            };
            let answer = query.send().await.map_err(|e| self.failed(e))?;
            for attributes in answer.items.unwrap_or_default() {
                items.push(self.item(&attributes)?);
            }
            start = answer.last_evaluated_key;
            if start.is_none() {
                break;
            }
        }
        Ok(items)
    }

    async fn put_if(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        expires: Option<Timestamp>,
    ) -> Result<Version, PutError> {
        if value.len() > VALUE_BYTES {
            return Err(PutError::TooLarge(value.len()));
        }
        let new = Version(u64::from_be_bytes(self.rng.bytes()) >> 1);
        let condition = self.condition(expect);
        let mut put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(key_of(&key.partition, &key.sort)))
            .item("value", AttributeValue::B(Blob::new(value)))
            .item("version", number(new.0))
            .set_condition_expression(condition.expression)
            .set_expression_attribute_names(some(condition.names))
            .set_expression_attribute_values(some(condition.values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        if let Some(expires) = expires {
            let until = expires.as_millisecond();
            put = put.item(UNTIL, number(until)).item(EXPIRES, number(until.div_euclid(1_000) + 1));
        }
        match put.send().await {
            Ok(_) => Ok(new),
            Err(SdkError::ServiceError(e)) if e.err().is_conditional_check_failed_exception() => {
                // The SDK tries again when an answer is lost: then the old item is the one just written.
                let old = old_item(e.into_err());
                if old.and_then(|attributes| version(&attributes)) == Some(new) {
                    Ok(new)
                } else {
                    Err(PutError::Conflict)
                }
            }
            Err(e) => Err(self.failed(e).into()),
        }
    }

    async fn delete_if(&self, key: &Key, expect: Expect) -> Result<(), PutError> {
        let condition = self.condition(expect);
        let deleted = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key_of(&key.partition, &key.sort)))
            .set_condition_expression(condition.expression)
            .set_expression_attribute_names(some(condition.names))
            .set_expression_attribute_values(some(condition.values))
            .send()
            .await;
        match deleted {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(e)) if e.err().is_conditional_check_failed_exception() => {
                Err(PutError::Conflict)
            }
            Err(e) => Err(self.failed(e).into()),
        }
    }
}

fn old_item(error: PutItemError) -> Option<Attributes> {
    match error {
        PutItemError::ConditionalCheckFailedException(e) => e.item,
        _ => None,
    }
}

fn key_of(partition: &str, sort: &str) -> Attributes {
    HashMap::from([("pk".into(), AttributeValue::S(partition.into())), ("sk".into(), AttributeValue::S(sort.into()))])
}

fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn version(attributes: &Attributes) -> Option<Version> {
    attributes.get("version")?.as_n().ok()?.parse().ok().map(Version)
}

fn until(attributes: &Attributes) -> Option<Timestamp> {
    let moment = attributes.get(UNTIL)?.as_n().ok()?.parse().ok()?;
    Some(Timestamp::from_millisecond(moment).unwrap_or(Timestamp::MAX))
}

fn some<V>(map: HashMap<String, V>) -> Option<HashMap<String, V>> {
    (!map.is_empty()).then_some(map)
}
