//! The connection to AWS, or to an endpoint that speaks like it: configuration of the SDK's clients and what its errors
//! mean for the caller. The seams that they fill are here too: `sqs`, `dynamo`, `s3`, `kinesis`.

mod dynamo;
mod http;
mod kinesis;
#[cfg(feature = "kafka-tls")]
mod msk;
mod provision;
mod s3;
mod signing;
mod sqs;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::Credentials;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::config::retry::ReconnectMode;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

use crate::error::BackendError;
use crate::time::{Clock, Rng};
pub use dynamo::DynamoStore;
use http::http_client;
pub use kinesis::KinesisSink;
#[cfg(feature = "kafka-tls")]
pub use msk::MskTokens;
pub use provision::{QueueShape, TableShape};
pub use s3::S3Blobs;
pub use signing::Signer;
pub use sqs::SqsQueue;

/// Within a region a connection takes milliseconds.
const CONNECT: Duration = Duration::from_secs(2);
/// One try of a call that does not wait; a MiB to SQS or S3 takes well under a second.
pub(crate) const TRY: Duration = Duration::from_secs(5);
/// Tries of one call, by the SDK jittered; who calls has a plan for longer outages.
const TRIES: u32 = 3;
const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Our client closes no connection for an answer that came over it, and the SDK is not to ask it for that.
const REUSE: ReconnectMode = ReconnectMode::ReuseAllConnections;

/// One configuration, from which the clients of all seams are made.
#[derive(Clone)]
pub struct Aws {
    config: SdkConfig,
}

impl Aws {
    /// Credentials come from where the SDK looks for them, except for an `http://` endpoint: that is a stand-in, and no
    /// real credentials go over it.
    pub async fn connect(endpoint: Option<&str>, region: &str) -> Aws {
        let retries = RetryConfig::standard()
            .with_max_attempts(TRIES)
            .with_initial_backoff(BACKOFF)
            .with_max_backoff(BACKOFF_MAX)
            .with_reconnect_mode(REUSE);
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(TRY).build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http_client())
            .region(Region::new(region.to_owned()))
            .retry_config(retries)
            .timeout_config(timeouts)
            // It watches bodies that stream; ours are sent at once, and each call has its limit of time.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(endpoint) = endpoint {
            loader = loader.endpoint_url(endpoint);
            if endpoint.starts_with("http://") {
                loader = loader.credentials_provider(Credentials::new("local", "local", None, None, "local"));
            }
        }
        Aws { config: loader.load().await }
    }

    /// The SDK's configuration, for clients of other services.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// Queues on SQS.
    pub fn queue(&self) -> SqsQueue {
        SqsQueue::new(&self.config)
    }

    /// A store on one DynamoDB table.
    pub fn store(&self, table: &str, clock: Clock, rng: Rng) -> DynamoStore {
        DynamoStore::new(&self.config, table, clock, rng)
    }

    /// Blobs in one S3 bucket.
    ///
    /// # Errors
    /// `Fatal`: no HTTP client can be made.
    pub fn blobs(&self, bucket: &str, clock: Clock) -> Result<S3Blobs, BackendError> {
        S3Blobs::new(&self.config, bucket, clock)
    }
}

/// What a failed call of `service` on `resource` means: what may pass by itself is to be tried again, the rest is wrong
/// configuration.
pub(crate) fn failed<E>(service: &str, resource: &str, error: SdkError<E, HttpResponse>) -> BackendError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    // An answer without a body says no more than its status.
    let status = match &error {
        SdkError::ServiceError(service) if service.err().code().is_none() => {
            format!("status {}: ", service.raw().status().as_u16())
        }
        _ => String::new(),
    };
    let text = format!("{service} {resource}: {status}{}", chain(&error));
    match &error {
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            BackendError::Retry(text)
        }
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            if status >= 500 || status == 429 || service.err().code().is_some_and(passes) {
                BackendError::Retry(text)
            } else {
                BackendError::Fatal(text)
            }
        }
        _ => BackendError::Fatal(text),
    }
}

/// An error and its causes, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = Vec::new();
    for text in causes.map(ToString::to_string) {
        if texts.last().is_none_or(|last| !last.ends_with(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

/// Error codes with a status of 4xx that speak of load or of a moment, not of the request.
pub(crate) fn passes(code: &str) -> bool {
    let code = code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code);
    code.contains("Throttl")
        || matches!(
            code,
            "OverLimit"
                | "RequestLimitExceeded"
                | "ProvisionedThroughputExceededException"
                | "TransactionConflictException"
                | "ConditionalRequestConflict"
                | "RequestTimeout"
                | "SlowDown"
                | "ServiceUnavailable"
                | "InternalError"
                | "ExpiredToken"
                | "ExpiredTokenException"
                | "KmsThrottled"
        )
}
