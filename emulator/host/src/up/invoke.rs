//! What an event source calls: a function of the template by its logical id, and what became of the batch that it was given.

use async_trait::async_trait;
use serde_json::Value;
use streammanager::app::App;
use streammanager_functions::events::KinesisEvent;

use super::functions::{Functions, Invocation};

#[cfg(test)]
pub(crate) mod testing;

/// The functions, as event sources see them.
#[async_trait]
pub(crate) trait Invoke: Send + Sync {
    /// Gives the function's answer.
    async fn invoke(&self, function: &str, event: Value) -> Result<Value, Invocation>;

    /// As `invoke`, with the records of a stream.
    async fn invoke_with_records(&self, function: &str, event: KinesisEvent) -> Result<Value, Invocation>;

    /// The function's App, where it has one in this process.
    fn app_of(&self, _: &str) -> Option<&App> {
        None
    }
}

#[async_trait]
impl Invoke for Functions {
    async fn invoke(&self, function: &str, event: Value) -> Result<Value, Invocation> {
        Functions::invoke(self, function, event).await
    }

    async fn invoke_with_records(&self, function: &str, event: KinesisEvent) -> Result<Value, Invocation> {
        Functions::invoke_with_records(self, function, event).await
    }

    fn app_of(&self, function: &str) -> Option<&App> {
        Functions::app_of(self, function)
    }
}

/// What an answer says of the batch, where the mapping has `ReportBatchItemFailures`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reported<'a> {
    /// No item failed.
    Done,
    /// These did, by their identifiers.
    Failed(Vec<&'a str>),
    /// The whole batch counts as failed; why.
    Malformed(&'static str),
}

/// An answer as Lambda reads it: null, an empty object and an empty or absent list say that everything is done; an identifier
/// that is empty, null or absent fails the whole batch [L5].
pub(crate) fn reported(answer: &Value) -> Reported<'_> {
    let list = match answer {
        Value::Null => return Reported::Done,
        Value::Object(fields) => fields.get("batchItemFailures").unwrap_or(&Value::Null),
        _ => return Reported::Malformed("the answer is not an object"),
    };
    let items = match list {
        Value::Null => return Reported::Done,
        Value::Array(items) if items.is_empty() => return Reported::Done,
        Value::Array(items) => items,
        _ => return Reported::Malformed("batchItemFailures is not a list"),
    };
    let named = items.iter().map(|item| item.get("itemIdentifier")?.as_str().filter(|id| !id.is_empty()));
    match named.collect() {
        Some(items) => Reported::Failed(items),
        None => Reported::Malformed("an item of batchItemFailures has no itemIdentifier"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn l5_an_answer_says_what_failed_as_lambda_reads_it() {
        for done in [json!(null), json!({}), json!({"batchItemFailures": null}), json!({"batchItemFailures": []})] {
            assert_eq!(reported(&done), Reported::Done, "{done}");
        }
        let failed = json!({"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "a"}]});
        assert_eq!(reported(&failed), Reported::Failed(vec!["b", "a"]));
        for items in [
            json!([{"itemIdentifier": ""}]),
            json!([{"itemIdentifier": null}]),
            json!([{"itemIdentifier": "a"}, {"identifier": "b"}]),
            json!([{"itemIdentifier": 7}]),
            json!(["a"]),
            json!("a"),
        ] {
            let answer = json!({ "batchItemFailures": items });
            assert!(matches!(reported(&answer), Reported::Malformed(_)), "{answer}");
        }
        assert!(matches!(reported(&json!("done")), Reported::Malformed(_)));
    }
}
