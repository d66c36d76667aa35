//! The SDK's requests, sent by the HTTP client that everything else here uses: the SDK's own one, with HTTP/2 for services that are
//! spoken to in HTTP/1.1 alone, was a twentieth of every function [F7].

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};

use super::CONNECT;
use crate::limits::RESPONSE_BYTES;
use crate::upstream::http;

/// With connections of its own.
pub(super) fn http_client() -> SharedHttpClient {
    SharedHttpClient::new(Connector(http::client(settings()).expect("authorities that were read before")))
}

/// A redirect could carry the session's token to another host, and answers are taken as they are summed up.
pub(super) fn settings() -> ClientBuilder {
    Client::builder().connect_timeout(CONNECT).redirect(Policy::none()).no_gzip()
}

#[derive(Debug, Clone)]
struct Connector(Client);

impl HttpClient for Connector {
    /// Whose limits of time are those of each call, which the SDK keeps itself.
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move { answer(&client, request).await })
    }
}

async fn answer(client: &Client, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let Some(body) = request.body().bytes().map(<[u8]>::to_vec) else {
        return Err(ConnectorError::user("the body of a call is no bytes".into()));
    };
    let request = request.try_into_http1x().map_err(|e| ConnectorError::user(e.into()))?.map(|_| body);
    let mut response = client.execute(request.try_into().map_err(failed)?).await.map_err(failed)?;
    let Some(body) = http::body(&mut response, RESPONSE_BYTES).await.map_err(failed)? else {
        return Err(ConnectorError::user(format!("an answer of more than {RESPONSE_BYTES} bytes").into()));
    };
    let status = response.status().as_u16().try_into().map_err(|e| ConnectorError::other(Box::new(e), None))?;
    let mut answer = HttpResponse::new(status, body.into());
    for (name, value) in response.headers() {
        // What is no text is no header of AWS.
        if let Ok(value) = value.to_str() {
            answer.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(answer)
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
