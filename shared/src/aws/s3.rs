//! Blobs as objects of a bucket, named by their content. Four of S3's calls are all that is used of it, signed by AWS's own signer: its
//! SDK, with a checksum in six forms for each processor, was a megabyte of every function and a minute of every build [F7].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
};
use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Client, Method};
use tokio::time::timeout;

use super::http::settings as http_settings;
use super::signing::{self, Scope};
use super::{BACKOFF, TRIES, TRY, chain, passes};
use crate::blobs::{BlobRef, Blobs};
use crate::error::BackendError;
use crate::limits::RESPONSE_BYTES;
use crate::time::Clock;
use crate::upstream::http;

/// S3 in a signature.
const SERVICE: &str = "s3";
/// The region whose buckets are made without saying so.
const NO_CONSTRAINT: &str = "us-east-1";
/// Credentials are used no more so long before they expire.
const EARLY: Duration = Duration::from_secs(60);
/// Whatever is there already stays.
const ONLY_NEW: &[(&str, &str)] = &[("if-none-match", "*")];

/// Objects of one bucket; cheap to clone.
#[derive(Clone)]
pub struct S3Blobs {
    http: Client,
    config: SdkConfig,
    /// As they were provided last.
    credentials: Arc<Mutex<Option<Credentials>>>,
    region: String,
    bucket: String,
    url: String,
    clock: Clock,
}

/// One of S3's calls on the bucket, or on an object below `path`.
struct Call<'a> {
    method: Method,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: Bytes,
}

impl<'a> Call<'a> {
    fn new(method: Method, path: &'a str) -> Call<'a> {
        Call { method, path, headers: &[], body: Bytes::new() }
    }
}

/// A call that will not succeed as it is.
struct Refused {
    status: u16,
    code: String,
    message: String,
}

impl S3Blobs {
    /// A stand-in knows buckets by path alone.
    pub(super) fn new(config: &SdkConfig, bucket: &str, clock: Clock) -> Result<S3Blobs, BackendError> {
        let region = config.region().map(ToString::to_string).unwrap_or_default();
        let url = match config.endpoint_url() {
            Some(endpoint) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
            None => {
                let fips = if config.use_fips() == Some(true) { "-fips" } else { "" };
                let dual = if config.use_dual_stack() == Some(true) { ".dualstack" } else { "" };
                let china = if region.starts_with("cn-") { ".cn" } else { "" };
                let host = format!("s3{fips}{dual}.{region}.amazonaws.com{china}");
                // The host's certificate is good for one name before it.
                if bucket.contains('.') {
                    format!("https://{host}/{bucket}")
                } else {
                    format!("https://{bucket}.{host}")
                }
            }
        };
        let http = http::client(http_settings().read_timeout(TRY))?;
        let (config, bucket) = (config.clone(), bucket.to_owned());
        Ok(S3Blobs { http, config, credentials: Arc::default(), region, bucket, url, clock })
    }

    /// Makes the bucket, private; one that is there already is used.
    pub(super) async fn make(&self) -> Result<(), BackendError> {
        match self.call(Call::new(Method::HEAD, "")).await? {
            Ok(_) => return Ok(()),
            Err(refused) if refused.status == 404 => {}
            Err(refused) => return Err(self.wrong(&refused)),
        }
        let place = match self.region.as_str() {
            NO_CONSTRAINT => String::new(),
            region => format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
            ),
        };
        match self.call(Call { body: place.into(), ..Call::new(Method::PUT, "") }).await? {
            Ok(_) => Ok(()),
            Err(refused) if refused.code == "BucketAlreadyOwnedByYou" => Ok(()),
            Err(refused) => Err(self.wrong(&refused)),
        }
    }

    /// What may pass by itself is tried as often as by the SDK's clients.
    async fn call(&self, call: Call<'_>) -> Result<Result<Bytes, Refused>, BackendError> {
        let mut pause = BACKOFF;
        for _ in 1..TRIES {
            match self.call_once(&call).await {
                Err(BackendError::Retry(_)) => tokio::time::sleep(pause).await,
                ended => return ended,
            }
            pause *= 2;
        }
        self.call_once(&call).await
    }

    async fn call_once(&self, call: &Call<'_>) -> Result<Result<Bytes, Refused>, BackendError> {
        let Call { method, path, headers, body } = call;
        let again = |problem: String| BackendError::Retry(format!("S3 bucket {}{path}: {problem}", self.bucket));
        let url = format!("{}{path}", self.url);
        let credentials = self.credentials().await.map_err(again)?;
        let signable = SignableRequest::new(method.as_str(), &url, headers.iter().copied(), SignableBody::Bytes(body));
        let scope = Scope { region: &self.region, service: SERVICE, settings: settings() };
        let signed = signable.map_err(|e| chain(&e)).and_then(|it| scope.headers(&credentials, it, self.clock.now()));
        let signed = signed.map_err(|e| BackendError::Fatal(format!("S3 bucket {}: {e}", self.bucket)))?;

        let mut request = self.http.request(method.clone(), url).header(CONTENT_LENGTH, body.len());
        for (name, value) in headers.iter().map(|&(name, value)| (name, value.to_owned())).chain(signed) {
            request = request.header(name, value);
        }
        let failed = |e: reqwest::Error| again(chain(&e));
        let answered = timeout(TRY, request.body(body.clone()).send()).await;
        let mut response = answered.map_err(|_| again(format!("no answer within {TRY:?}")))?.map_err(failed)?;
        let status = response.status();
        let Some(answer) = http::body(&mut response, RESPONSE_BYTES).await.map_err(failed)? else {
            let problem = format!("S3 bucket {}{path}: more than {RESPONSE_BYTES} bytes", self.bucket);
            return Err(BackendError::Fatal(problem));
        };
        if status.is_success() {
            return Ok(Ok(answer));
        }
        let text = String::from_utf8_lossy(&answer);
        let refused = Refused { status: status.as_u16(), code: tag(&text, "Code"), message: tag(&text, "Message") };
        if status.is_server_error() || status.as_u16() == 429 || passes(&refused.code) {
            return Err(again(refused.to_string()));
        }
        Ok(Err(refused))
    }

    /// Those of before, until shortly before they expire: where a role is taken on, each new ones are a call of their own.
    async fn credentials(&self) -> Result<Credentials, String> {
        let kept = self.credentials.lock().clone();
        let lasts = |kept: &Credentials| kept.expiry().is_none_or(|end| end > signing::at(self.clock.now()) + EARLY);
        if let Some(kept) = kept.filter(lasts) {
            return Ok(kept);
        }
        let found = timeout(TRY, signing::found(&self.config)).await;
        let found = found.unwrap_or_else(|_| Err(format!("no AWS credentials within {TRY:?}")))?;
        *self.credentials.lock() = Some(found.clone());
        Ok(found)
    }

    fn wrong(&self, refused: &Refused) -> BackendError {
        BackendError::Fatal(format!("S3 bucket {}: {refused}", self.bucket))
    }
}

/// S3 takes a path as it is written, and wants the body's checksum in a header.
fn settings() -> SigningSettings {
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings
}

/// What stands in an error's element.
fn tag(xml: &str, name: &str) -> String {
    let after = xml.split_once(&format!("<{name}>")).map_or("", |(_, after)| after);
    after.split_once('<').map_or("", |(text, _)| text).to_owned()
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}", self.status)?;
        [&self.code, &self.message].iter().filter(|text| !text.is_empty()).try_for_each(|text| write!(f, ": {text}"))
    }
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn put(&self, bytes: Bytes) -> Result<BlobRef, BackendError> {
        let blob = BlobRef::of(&bytes);
        match self.call(Call { headers: ONLY_NEW, body: bytes, ..Call::new(Method::PUT, &path(&blob)) }).await? {
            Ok(_) => Ok(blob),
            Err(refused) if refused.code == "PreconditionFailed" => Ok(blob),
            Err(refused) => Err(self.wrong(&refused)),
        }
    }

    async fn get(&self, blob: &BlobRef) -> Result<Option<Bytes>, BackendError> {
        match self.call(Call::new(Method::GET, &path(blob))).await? {
            Ok(bytes) if BlobRef::of(&bytes) == *blob => Ok(Some(bytes)),
            Ok(_) => {
                let place = format!("S3 bucket {}{}", self.bucket, path(blob));
                Err(BackendError::Fatal(format!("{place} was damaged: its content has another hash")))
            }
            Err(refused) if refused.code == "NoSuchKey" => Ok(None),
            Err(refused) => Err(self.wrong(&refused)),
        }
    }

    async fn delete(&self, blob: &BlobRef) -> Result<(), BackendError> {
        self.call(Call::new(Method::DELETE, &path(blob))).await?.map(drop).map_err(|e| self.wrong(&e))
    }
}

fn path(blob: &BlobRef) -> String {
    format!("/blobs/{blob}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// "Example: GET Object" of S3's "Signature Calculations for the Authorization Header".
    #[test]
    fn a_request_is_signed_as_s3s_own_example_is() {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", secret, None, None, "example");
        let (url, headers) = ("https://examplebucket.s3.amazonaws.com/test.txt", [("range", "bytes=0-9")]);
        let request = SignableRequest::new("GET", url, headers.into_iter(), SignableBody::Bytes(b"")).unwrap();
        let scope = Scope { region: "us-east-1", service: SERVICE, settings: settings() };
        let signed = scope.headers(&credentials, request, "2013-05-24T00:00:00Z".parse().unwrap()).unwrap();
        let header = |name| &signed.iter().find(|(other, _)| *other == name).unwrap().1;
        let expected = "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert!(header("authorization").ends_with(expected), "{signed:?}");
        assert_eq!(header("x-amz-content-sha256"), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn an_error_says_its_code_and_what_s3_says_of_it() {
        let xml = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>It is not there</Message></Error>";
        let refused = Refused { status: 404, code: tag(xml, "Code"), message: tag(xml, "Message") };
        assert_eq!(refused.to_string(), "status 404: NoSuchBucket: It is not there");
        let of_a_proxy = Refused { status: 403, code: tag("no", "Code"), message: tag("no", "Message") };
        assert_eq!(of_a_proxy.to_string(), "status 403");
    }
}
