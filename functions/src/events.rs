//! AWS's own event JSON, as far as the handlers read it. Bodies stay text and are parsed per record, so that one bad body
//! never fails its batch.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use streammanager::error::Sender;
use streammanager::time::Timestamp;

/// An SQS event source's batch.
#[derive(Debug, Deserialize, Serialize)]
pub struct SqsEvent {
    /// At most the trigger's batch size.
    #[serde(rename = "Records")]
    pub records: Vec<SqsMessage>,
}

/// One message of the batch.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SqsMessage {
    /// What the reply names when this message is to come back.
    pub message_id: String,
    /// The text that was sent; binary as base64.
    pub body: String,
    /// The queue's own facts, such as `ApproximateReceiveCount`, as texts.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// A Kinesis event source's batch.
#[derive(Debug, Deserialize, Serialize)]
pub struct KinesisEvent {
    /// In the order of the shard.
    #[serde(rename = "Records")]
    pub records: Vec<KinesisRecord>,
}

/// One record of the batch.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KinesisRecord {
    /// `shardId-000000000000:SEQUENCE`.
    #[serde(rename = "eventID")]
    pub event_id: String,
    /// The record as it was put.
    pub kinesis: KinesisData,
    /// `aws:kinesis`.
    #[serde(default)]
    pub event_source: Cow<'static, str>,
    /// `1.0`.
    #[serde(default)]
    pub event_version: Cow<'static, str>,
    /// `aws:kinesis:record`.
    #[serde(default)]
    pub event_name: Cow<'static, str>,
    /// The role in whose name the stream is read.
    #[serde(default)]
    pub invoke_identity_arn: String,
    /// Where the stream is.
    #[serde(default)]
    pub aws_region: Cow<'static, str>,
    /// The stream.
    #[serde(rename = "eventSourceARN", default)]
    pub event_source_arn: String,
}

impl KinesisRecord {
    /// What was put into a shard, in base64, as a function reads it; nothing is said of when it came, nor of who reads it.
    pub fn put(shard: &str, partition_key: String, sequence_number: String, data: String) -> KinesisRecord {
        KinesisRecord {
            event_id: format!("{shard}:{sequence_number}"),
            kinesis: KinesisData {
                kinesis_schema_version: "1.0".into(),
                partition_key,
                sequence_number,
                data,
                approximate_arrival_timestamp: 0.0,
            },
            event_source: "aws:kinesis".into(),
            event_version: "1.0".into(),
            event_name: "aws:kinesis:record".into(),
            invoke_identity_arn: String::new(),
            aws_region: "".into(),
            event_source_arn: String::new(),
        }
    }
}

/// What was put into the stream, and where it stands there.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KinesisData {
    /// `1.0`.
    #[serde(default)]
    pub kinesis_schema_version: Cow<'static, str>,
    /// Records with the same key keep their order.
    pub partition_key: String,
    /// Its place in the shard; what the reply names when it is to come back.
    pub sequence_number: String,
    /// Base64.
    pub data: String,
    /// When the stream took it, in seconds since 1970.
    #[serde(default)]
    pub approximate_arrival_timestamp: f64,
}

/// Which records of a batch are to come back; everything else is done.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    /// Empty when all of them are done.
    pub batch_item_failures: Vec<BatchItemFailure>,
}

/// One item that is to come back.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchItemFailure {
    /// An SQS message id or a Kinesis sequence number.
    pub item_identifier: String,
}

impl BatchResponse {
    /// This item comes back.
    pub fn fail(&mut self, item_identifier: impl Into<String>) {
        self.batch_item_failures.push(BatchItemFailure { item_identifier: item_identifier.into() });
    }
}

/// What the topic rules' SELECT gives of one MQTT message.
#[derive(Debug, Deserialize, Serialize)]
pub struct RuleOutput {
    /// Base64 of the message.
    pub payload: String,
    /// The topic that it was published on.
    pub topic: String,
    /// Who published it, as the broker knows it; an anonymous client has none.
    #[serde(default)]
    pub principal: Option<String>,
    /// The client id, which the client chose itself.
    #[serde(default)]
    pub client: Option<String>,
    /// Epoch milliseconds.
    #[serde(default)]
    pub received_at: Option<i64>,
}

impl RuleOutput {
    /// Who published it.
    pub fn sender(&self) -> Sender {
        // An anonymous connection has an empty principal.
        let principal = self.principal.clone().filter(|principal| !principal.is_empty());
        Sender {
            topic: self.topic.clone(),
            client: self.client.clone(),
            principal,
            received_at: self.received_at.and_then(|ms| Timestamp::from_millisecond(ms).ok()),
            ..Sender::default()
        }
    }

    /// The message's bytes.
    pub fn payload(&self) -> Result<Bytes, base64::DecodeError> {
        BASE64.decode(&self.payload).map(Bytes::from)
    }
}

/// What AWS IoT gives a rule's error action: the message, but not who published it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleError {
    /// The topic that it was published on.
    pub topic: String,
    /// Base64 of the message.
    pub base64_original_payload: String,
    /// The client id, which the client chose itself.
    #[serde(default)]
    pub client_id: Option<String>,
}

impl RuleError {
    /// Who published it, as far as this says.
    pub fn sender(&self) -> Sender {
        Sender { topic: self.topic.clone(), client: self.client_id.clone(), ..Sender::default() }
    }

    /// The message's bytes.
    pub fn payload(&self) -> Result<Bytes, base64::DecodeError> {
        BASE64.decode(&self.base64_original_payload).map(Bytes::from)
    }
}

/// HTTP API, payload format 2.0.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRequest {
    /// `GET /streams/{id}`: the route that the API matched.
    pub route_key: String,
    /// The path as it was asked for.
    pub raw_path: String,
    /// What stands behind the `?`, undecoded.
    #[serde(default)]
    pub raw_query_string: String,
    /// Names in lower case.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The query's parameters, decoded.
    #[serde(default)]
    pub query_string_parameters: BTreeMap<String, String>,
    /// The parts of the path that the route names, decoded.
    #[serde(default)]
    pub path_parameters: BTreeMap<String, String>,
    /// The body's text, or its base64; absent without a body.
    #[serde(default)]
    pub body: Option<String>,
    /// Whether `body` is base64.
    #[serde(default)]
    pub is_base64_encoded: bool,
    /// Who asks, and from where.
    pub request_context: RequestContext,
}

/// How the request reached the API.
#[derive(Debug, Deserialize, Serialize)]
pub struct RequestContext {
    /// The request line.
    pub http: RequestHttp,
    /// What the API's authorizer found out; absent on a route without one.
    #[serde(default)]
    pub authorizer: Option<Authorizer>,
}

/// What an authorizer adds to a request.
#[derive(Debug, Deserialize, Serialize)]
pub struct Authorizer {
    /// Set on a route that wants a signature (`AWS_IAM`).
    #[serde(default)]
    pub iam: Option<IamIdentity>,
}

/// Who signed the request.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IamIdentity {
    /// The name of the role or user that signed it.
    pub user_arn: String,
}

/// The request line and where it came from.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestHttp {
    /// In upper case.
    pub method: String,
    /// The path as it was asked for.
    pub path: String,
    /// The address of the client; empty where it is not known.
    #[serde(default)]
    pub source_ip: String,
}

impl HttpRequest {
    /// The body as bytes; empty without one.
    pub fn body(&self) -> Result<Bytes, base64::DecodeError> {
        match (&self.body, self.is_base64_encoded) {
            (None, _) => Ok(Bytes::new()),
            (Some(text), false) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            (Some(text), true) => BASE64.decode(text).map(Bytes::from),
        }
    }

    /// The identity that signed the request, checked by the API before it called us.
    pub fn signed_by(&self) -> Option<&str> {
        self.request_context.authorizer.as_ref()?.iam.as_ref().map(|identity| identity.user_arn.as_str())
    }

    /// `Authorization: Bearer …` or `X-Api-Key: …`.
    pub fn key(&self) -> Option<&str> {
        let bearer = self.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
        bearer.or_else(|| self.headers.get("x-api-key").map(String::as_str)).map(str::trim)
    }
}

/// The answer, in payload format 2.0.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpResponse {
    /// The HTTP status.
    pub status_code: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Text; the handlers answer with nothing else.
    pub body: String,
}

impl HttpResponse {
    /// An answer whose body is this value as JSON.
    pub fn json(status_code: u16, body: &impl Serialize) -> HttpResponse {
        let headers = BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]);
        match serde_json::to_string(body) {
            Ok(body) => HttpResponse { status_code, headers, body },
            Err(e) => HttpResponse { status_code: 500, headers, body: format!("{{\"error\":{:?}}}", e.to_string()) },
        }
    }

    /// Text for people and for programs that know it.
    pub fn text(status_code: u16, body: String) -> HttpResponse {
        let headers = BTreeMap::from([("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())]);
        HttpResponse { status_code, headers, body }
    }

    /// `{"error": code, "detail": text}`.
    pub fn error(status_code: u16, error: &str, detail: impl std::fmt::Display) -> HttpResponse {
        HttpResponse::json(status_code, &serde_json::json!({ "error": error, "detail": detail.to_string() }))
    }

    /// The same answer with one header more.
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> HttpResponse {
        self.headers.insert(name.to_owned(), value.into());
        self
    }
}
