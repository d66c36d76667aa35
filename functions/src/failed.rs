//! Calls whose work failed although the invocation did not: an answer of 5xx, or items that a queue or a stream gives again. Lambda
//! counts no error for them. So each is told by the version that ran, and the canary's alarm counts them as errors [D2].

use serde_json::Value;

/// Whether this answer of a function tells of work that was not done.
pub fn is_failed(answer: &Value) -> bool {
    let status = answer.get("statusCode").and_then(Value::as_u64).unwrap_or_default();
    let comes_again = answer.get("batchItemFailures").and_then(Value::as_array).is_some_and(|items| !items.is_empty());
    status >= 500 || comes_again || answer.get("warm") == Some(&Value::Bool(false))
}

/// Counts a call of this version of the function that failed. Where none is counted there was none: nothing is told of what went well.
pub fn count(function: &str, version: &str) {
    let labels = [("function", function.to_owned()), ("version", version.to_owned())];
    metrics::counter!("stream_calls_failed", &labels).increment(1);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn d2_an_answer_that_tells_of_undone_work_is_a_failed_call() {
        for (answer, failed) in [
            (json!({ "statusCode": 503, "body": "{}" }), true),
            (json!({ "statusCode": 500 }), true),
            (json!({ "statusCode": 422 }), false),
            (json!({ "statusCode": 200 }), false),
            (json!({ "batchItemFailures": [{ "itemIdentifier": "m-2" }] }), true),
            (json!({ "batchItemFailures": [] }), false),
            (json!({ "warm": false }), true),
            (json!({ "warm": true }), false),
            (json!({ "outcome": "delivered" }), false),
            (Value::Null, false),
        ] {
            assert_eq!(is_failed(&answer), failed, "{answer}");
        }
    }
}
