//! Calls whose work failed although the invocation did not: an answer of 5xx, or items that a queue or a stream gives again. Lambda
//! counts no error for them. So each is told by the version that ran, and the canary's alarm counts them as errors [D2].

use serde_json::{Value, json};
use streammanager::time::Timestamp;

/// One for each such call. Where none is told there was none: nothing is written for what went well.
const FIGURE: &str = "stream_calls_failed";

/// Whether this answer of a function tells of work that was not done.
pub fn is_failed(answer: &Value) -> bool {
    let status = answer.get("statusCode").and_then(Value::as_u64).unwrap_or_default();
    let comes_again = answer.get("batchItemFailures").and_then(Value::as_array).is_some_and(|items| !items.is_empty());
    status >= 500 || comes_again || answer.get("warm") == Some(&Value::Bool(false))
}

/// That a call of this version of the function failed: the figure of the version, and that of all versions.
pub fn line(namespace: &str, function: &str, version: &str, at: Timestamp) -> Value {
    json!({
        "_aws": {
            "Timestamp": at.as_millisecond(),
            "CloudWatchMetrics": [{
                "Namespace": namespace,
                "Dimensions": [["function", "version"], ["function"]],
                "Metrics": [{ "Name": FIGURE, "Unit": "Count" }],
            }],
        },
        "function": function,
        "version": version,
        FIGURE: 1,
    })
}

#[cfg(test)]
mod tests {
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
