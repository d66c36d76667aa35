//! The upstream seam: one HTTP call to a source. Politeness and parsing stand above it.

#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "http")]
pub mod http;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// A URL that may carry a secret: only its `shown` form reaches logs, errors and metrics [A6].
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl {
    url: String,
    shown: String,
}

impl SecretUrl {
    /// `secret` is the part that is never shown.
    pub fn new(url: String, secret: Option<&str>) -> SecretUrl {
        let shown = match secret {
            Some(secret) if !secret.is_empty() => url.replace(secret, "***"),
            _ => url.clone(),
        };
        SecretUrl { url, shown }
    }

    /// The whole URL, for the call.
    pub fn reveal(&self) -> &str {
        &self.url
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// A GET with its headers (`User-Agent` is the implementation's) [S11].
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Where to; it may hold a key.
    pub url: SecretUrl,
    /// Names in lower case, with their values.
    pub headers: Vec<(String, String)>,
}

/// Headers whose values are keys.
const SECRET_HEADERS: [&str; 2] = ["x-api-key", "authorization"];

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.headers.iter().map(|(name, value)| {
            let is_secret = SECRET_HEADERS.contains(&name.as_str());
            (name.as_str(), if is_secret { "***" } else { value.as_str() })
        });
        f.debug_struct("Request").field("url", &self.url).field("headers", &shown.collect::<Vec<_>>()).finish()
    }
}

/// What the source answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status; a source's error text can come with any.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body, at most the bound of `limits.rs`.
    pub body: Bytes,
    /// From the call to the last byte of the body.
    pub elapsed: Duration,
}

impl Response {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// No response came; the text never shows a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// The time that the caller allowed is over.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The body is larger than the bound, in bytes, and was not read to its end.
    #[error("the response is larger than {0} bytes")]
    TooLarge(usize),
    /// No connection, or it broke: a clause for people.
    #[error("{0}")]
    Failed(String),
}

/// One HTTP call to a source.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// Asks, and waits `within` at most for the whole answer, whatever its status. Redirects are answers, and are not followed.
    async fn call(&self, request: &Request, within: Duration) -> Result<Response, Unreachable>;
}
