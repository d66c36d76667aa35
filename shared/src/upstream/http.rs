//! HTTP calls with reqwest: a `User-Agent`, a time limit, a size limit, and no secret in any error [S11, A6].

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder};
use tokio::time::Instant;

use super::{Request, Response, Unreachable, Upstream};
use crate::authorities::authorities;
use crate::error::BackendError;
use crate::limits::RESPONSE_BYTES;

const USER_AGENT: &str = concat!("StreamManager/", env!("CARGO_PKG_VERSION"), " (wildfire data ingestion)");

/// A client that trusts whom this process trusts.
///
/// # Errors
/// `Fatal`: settings that contradict one another.
pub fn client(settings: ClientBuilder) -> Result<Client, BackendError> {
    let failed = |e| BackendError::Fatal(format!("HTTP client: {e}"));
    // Another part of the process may have chosen a provider before: either serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let trusted = authorities().iter().map(|authority| Certificate::from_der(authority));
    let trusted = trusted.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    settings.tls_certs_only(trusted).build().map_err(failed)
}

/// The whole body; `None` when it has more than `largest` bytes, unpacked.
pub(crate) async fn body(response: &mut reqwest::Response, largest: usize) -> reqwest::Result<Option<Bytes>> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > largest {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

/// Sources over HTTPS.
pub struct HttpUpstream {
    client: Client,
    largest: usize,
}

impl HttpUpstream {
    /// A client with its own connections.
    pub fn new() -> Result<HttpUpstream, BackendError> {
        HttpUpstream::with_largest(RESPONSE_BYTES)
    }

    /// Responses larger than `largest` bytes, unpacked, are refused.
    pub fn with_largest(largest: usize) -> Result<HttpUpstream, BackendError> {
        // A redirect could carry the key in the path to another host.
        let client = client(Client::builder().user_agent(USER_AGENT).redirect(Policy::none()))?;
        Ok(HttpUpstream { client, largest })
    }

    async fn get(&self, request: &Request) -> Result<Response, Unreachable> {
        let began = Instant::now();
        let mut call = self.client.get(request.url.reveal());
        for (name, value) in &request.headers {
            call = call.header(name, value);
        }
        // `without_url`: the URL may hold a key.
        let failed = |e: reqwest::Error| Unreachable::Failed(format!("{}: {}", request.url, cause(&e.without_url())));
        let mut response = call.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        let body = body(&mut response, self.largest).await.map_err(failed)?;
        let body = body.ok_or(Unreachable::TooLarge(self.largest))?;
        Ok(Response { status, headers, body, elapsed: began.elapsed() })
    }
}

/// The innermost cause says most: "connection refused" rather than "error sending request".
fn cause(e: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = e;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[async_trait]
impl Upstream for HttpUpstream {
    async fn call(&self, request: &Request, within: Duration) -> Result<Response, Unreachable> {
        tokio::time::timeout(within, self.get(request)).await.unwrap_or(Err(Unreachable::TimedOut(within)))
    }
}
