//! The SDK's requests, sent by the HTTP client that everything else here uses: the SDK's own one, with HTTP/2 for services that are
//! spoken to in HTTP/1.1 alone, was a twentieth of every function [F7].

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use tokio::time::timeout;

use super::CONNECT;
use crate::limits::RESPONSE_BYTES;
use crate::upstream::http;

/// With connections of its own.
pub(super) fn http_client() -> SharedHttpClient {
    let client = http::client(settings()).expect("authorities that were read before");
    SharedHttpClient::new(Connector { client, first_byte: None })
}

/// A redirect could carry the session's token to another host, and so could a proxy that is meant for others: stand-ins and the
/// addresses that give credentials are spoken to in the clear. Answers are taken as they are summed up.
pub(super) fn settings() -> ClientBuilder {
    Client::builder().connect_timeout(CONNECT).redirect(Policy::none()).no_proxy().no_gzip()
}

#[derive(Debug, Clone)]
struct Connector {
    client: Client,
    /// The longest wait for an answer to begin; calls of the services have limits of their own instead.
    first_byte: Option<Duration>,
}

impl HttpClient for Connector {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector { client: self.client.clone(), first_byte: settings.read_timeout() })
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.clone();
        HttpConnectorFuture::new(async move { connector.answer(request).await })
    }
}

impl Connector {
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let Some(body) = request.body().bytes().map(<[u8]>::to_vec) else {
            return Err(ConnectorError::user("a call streams its body, which this client does not send".into()));
        };
        let request = request.try_into_http1x().map_err(|e| ConnectorError::user(e.into()))?.map(|_| body);
        let answered = self.client.execute(request.try_into().map_err(failed)?);
        let mut response = match self.first_byte {
            Some(limit) => timeout(limit, answered).await.map_err(|e| ConnectorError::timeout(e.into()))?,
            None => answered.await,
        }
        .map_err(failed)?;
        let Some(body) = http::body(&mut response, RESPONSE_BYTES).await.map_err(failed)? else {
            let problem = format!("{}: an answer of more than {RESPONSE_BYTES} bytes", response.url().path());
            return Err(ConnectorError::user(problem.into()));
        };
        let status = response.status().as_u16().try_into().map_err(|e| ConnectorError::other(Box::new(e), None))?;
        let mut answer = HttpResponse::new(status, body.into());
        for (name, value) in response.headers() {
            // AWS's headers are text.
            if let Ok(value) = value.to_str() {
                answer.headers_mut().append(name.as_str().to_owned(), value.to_owned());
            }
        }
        Ok(answer)
    }
}

/// What the SDK does about it: it tries again what passes by itself.
fn failed(problem: reqwest::Error) -> ConnectorError {
    let problem = problem.without_url();
    match &problem {
        e if e.is_builder() => ConnectorError::user(problem.into()),
        e if e.is_timeout() => ConnectorError::timeout(problem.into()),
        e if e.is_connect() => ConnectorError::io(problem.into()).never_connected(),
        _ => ConnectorError::io(problem.into()),
    }
}
