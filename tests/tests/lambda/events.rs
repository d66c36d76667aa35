//! Events as AWS sends them, field for field, from what its documentation prints.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

/// EventBridge Scheduler's default input.
pub fn schedule() -> Value {
    json!({
        "version": "0", "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa", "detail-type": "Scheduled Event",
        "source": "aws.scheduler", "account": "123456789012", "time": "2026-10-08T16:53:06Z", "region": "us-west-2",
        "resources": ["arn:aws:scheduler:us-west-2:123456789012:schedule/default/every-minute"], "detail": "{}",
    })
}

/// HTTP API, payload format 2.0.
pub fn http(method: &str, path: &str, key: Option<&str>, body: Option<&str>) -> Value {
    let (raw_path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut event = json!({
        "version": "2.0", "routeKey": format!("{method} {raw_path}"), "rawPath": raw_path, "rawQueryString": query,
        "headers": {
            "accept": "*/*", "content-length": "0", "content-type": "application/json", "host": "id.execute-api.us-west-2.amazonaws.com",
            "user-agent": "curl/8", "x-amzn-trace-id": "Root=1-5e6722a7-cc56xmpl46db7ae02d4da47e",
            "x-forwarded-for": "203.0.113.7", "x-forwarded-port": "443", "x-forwarded-proto": "https",
        },
        "requestContext": {
            "accountId": "123456789012", "apiId": "api-id", "domainName": "id.execute-api.us-west-2.amazonaws.com",
            "domainPrefix": "id",
            "http": { "method": method, "path": raw_path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7", "userAgent": "curl/8" },
            "requestId": "JKJaXmPLvHcESHA=", "routeKey": format!("{method} {raw_path}"), "stage": "$default",
            "time": "10/Mar/2026:05:16:23 +0000", "timeEpoch": 1_773_119_783_446_u64,
        },
        "isBase64Encoded": false,
    });
    if !query.is_empty() {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        event["queryStringParameters"] = pairs.map(|(name, value)| (name.to_owned(), json!(value))).collect();
    }
    if let Some(key) = key {
        event["headers"]["authorization"] = json!(format!("Bearer {key}"));
    }
    // The API gives bodies of types it does not know as base64.
    if let Some(body) = body {
        event["body"] = json!(BASE64.encode(body));
        event["isBase64Encoded"] = json!(true);
    }
    event
}

/// A request of the control API, which AWS IAM let in.
pub fn signed(method: &str, path: &str, body: Option<&str>) -> Value {
    let mut event = http(method, path, None, body);
    event["requestContext"]["authorizer"] = json!({ "iam": {
        "accessKey": "AKIAIOSFODNN7EXAMPLE", "accountId": "123456789012", "callerId": "AIDACKCEVSQ6C2EXAMPLE", "cognitoIdentity": null,
        "principalOrgId": "aws:PrincipalOrgID", "userArn": "arn:aws:iam::123456789012:user/operator", "userId": "AIDACKCEVSQ6C2EXAMPLE",
    }});
    event
}

/// What the topic rules' SELECT gives of one message.
pub fn rule_output(topic: &str, principal: &str, payload: &str) -> Value {
    json!({
        "payload": BASE64.encode(payload), "topic": topic, "principal": principal, "client": "a-client",
        "received_at": 1_780_000_000_000_u64,
    })
}

/// What a rule's error action sends.
pub fn rule_error(topic: &str, payload: &str) -> Value {
    json!({
        "ruleName": "AlertsRule", "topic": topic, "cloudwatchTraceId": "7e146a2c-95b5-6caf-98b9-50e3969734c7",
        "clientId": "a-client", "base64OriginalPayload": BASE64.encode(payload),
        "failures": [{
            "failedAction": "LambdaAction", "failedResource": "arn:aws:lambda:us-west-2:123456789012:function:express",
            "errorMessage": "Failed to invoke lambda function. Received Server error from Lambda: Rate Exceeded.",
        }],
    })
}

/// What a function's on-failure destination gets of an asynchronous invocation.
pub fn on_failure(request: Value) -> Value {
    json!({
        "version": "1.0", "timestamp": "2026-11-14T18:16:05.568Z",
        "requestContext": {
            "requestId": "e4b46cbf-b738-xmpl-8880-a18cdf61200e",
            "functionArn": "arn:aws:lambda:us-west-2:123456789012:function:express:live",
            "condition": "RetriesExhausted", "approximateInvokeCount": 1,
        },
        "requestPayload": request,
        "responseContext": { "statusCode": 200, "executedVersion": "1", "functionError": "Unhandled" },
        "responsePayload": { "errorType": "Retry", "errorMessage": "the broker is away" },
    })
}

/// A batch of an SQS event source.
pub fn sqs(queue: &str, messages: &[(&str, String)]) -> Value {
    let records = messages.iter().map(|(id, body)| {
        json!({
            "messageId": id, "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a", "body": body,
            "attributes": {
                "ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183", "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "ApproximateFirstReceiveTimestamp": "1545082649185",
            },
            "messageAttributes": {}, "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3", "eventSource": "aws:sqs",
            "eventSourceARN": format!("arn:aws:sqs:us-west-2:123456789012:{queue}"), "awsRegion": "us-west-2",
        })
    });
    json!({ "Records": records.collect::<Vec<_>>() })
}

/// A batch of a Kinesis event source: the sequence numbers and what the sensors rule put.
pub fn kinesis(records: &[(&str, Value)]) -> Value {
    let records = records.iter().map(|(sequence, data)| {
        json!({
            "kinesis": {
                "kinesisSchemaVersion": "1.0", "partitionKey": "sensors/purpleair/1/state", "sequenceNumber": sequence,
                "data": BASE64.encode(data.to_string()), "approximateArrivalTimestamp": 1_545_084_650.987,
            },
            "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": format!("shardId-000000000006:{sequence}"),
            "eventName": "aws:kinesis:record", "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-role",
            "awsRegion": "us-west-2", "eventSourceARN": "arn:aws:kinesis:us-west-2:123456789012:stream/sensors",
        })
    });
    json!({ "Records": records.collect::<Vec<_>>() })
}
