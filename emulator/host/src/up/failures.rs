//! What an on-failure destination is sent, word for word as Lambda documents it [L5], and the sending.

use std::time::Duration;

use serde_json::{Value, json};
use streammanager::error::BackendError;
use streammanager::queue::{Body, Message, Queue, QueueRef, send_one};
use streammanager::record::hex;
use streammanager::time::{Rng, Timestamp, rfc3339};

/// A destination that does not take a report is asked again after this.
pub(crate) const SEND_AGAIN: Duration = Duration::from_secs(1);

/// A failed invocation, as Lambda reports it.
pub(crate) struct Failed<'a> {
    /// The function's ARN; an asynchronous invocation's says which version.
    pub(crate) function_arn: &'a str,
    /// Such as `RetriesExhausted`.
    pub(crate) condition: &'a str,
    pub(crate) calls: u32,
    /// What the last call ended with.
    pub(crate) last: Option<LastCall>,
}

/// How the last call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastCall {
    /// With an error, or not in time.
    Error,
    /// With an answer, which names what failed.
    Answer,
}

impl Failed<'_> {
    /// `version`, `timestamp`, `requestContext`, and `responseContext` if the function was called.
    pub(crate) fn report(&self, rng: &Rng, now: Timestamp) -> Value {
        let mut report = json!({
            "version": "1.0",
            "timestamp": rfc3339(now),
            "requestContext": {
                "requestId": request_id(rng),
                "functionArn": self.function_arn,
                "condition": self.condition,
                "approximateInvokeCount": self.calls,
            },
        });
        if let Some(last) = self.last {
            report["responseContext"] = json!({ "statusCode": 200, "executedVersion": "$LATEST" });
            if last == LastCall::Error {
                report["responseContext"]["functionError"] = json!("Unhandled");
            }
        }
        report
    }
}

/// A random id in the form of a UUID.
pub(crate) fn request_id(rng: &Rng) -> String {
    let digits = hex(&rng.bytes::<16>());
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// Durable when it returns.
pub(crate) async fn send(queue: &dyn Queue, to: &QueueRef, report: &Value) -> Result<(), BackendError> {
    send_one(queue, to, Message::now(Body::Text(report.to_string()))).await
}
