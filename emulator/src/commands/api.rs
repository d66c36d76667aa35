//! Requests to a running system's HTTP API: with the control key to one on this host, signed to a stack on AWS.

#[cfg(not(feature = "aws"))]
mod unsigned;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
#[cfg(feature = "aws")]
use streammanager::aws::{Aws, Signer};
#[cfg(feature = "aws")]
use streammanager::time::Clock;
use streammanager_host::exit::Failure;
use streammanager_host::host::http_client;
#[cfg(not(feature = "aws"))]
use unsigned::{Signer, signed, signer};

use super::operate::text;
use crate::cli::EndpointArgs;
use crate::files;

/// How an operator shows who asks.
enum Proof {
    Key(String),
    Signature(Signer),
}

/// One request of the control API.
pub(super) async fn call(
    endpoint: &EndpointArgs,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let key_file = endpoint.control_key_file();
    let proof = match endpoint.aws_region() {
        Some(region) => Proof::Signature(signer(&region).await?),
        None => Proof::Key(files::key(&key_file, "--control-key-file, or its folder with --data")?),
    };
    let address = endpoint.url();
    let url = format!("{address}{path}");
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut request = http_client().request(method.clone(), &url);
    request = match &proof {
        Proof::Key(key) => request.bearer_auth(key),
        Proof::Signature(signer) => signed(request, signer, method.as_str(), &url, body.as_bytes())?,
    };
    if !body.is_empty() {
        request = request.header("content-type", "application/json").body(body);
    }
    let (status, answer) = send(request, &address).await?;
    match (status, proof) {
        (_, _) if status.is_success() => Ok(answer),
        (StatusCode::UNAUTHORIZED, Proof::Key(_)) => Err(Failure::new(format!(
            "{address} does not take the key in {}: name the system with --endpoint, and its data folder with --data",
            key_file.display()
        ))),
        (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, Proof::Signature(signer)) => Err(Failure::new(format!(
            "{}; the request was signed by {} for {}: AWS_PROFILE names another profile, and its user or role needs \
             execute-api:Invoke for this API",
            refused(status, &answer),
            signer.access_key_id(),
            signer.region()
        ))),
        _ => Err(refused(status, &answer)),
    }
}

#[cfg(feature = "aws")]
async fn signer(region: &str) -> Result<Signer, Failure> {
    let signer = Aws::connect(None, region).await.signer(region).await;
    signer.map_err(|problem| {
        Failure::new(format!(
            "no credentials to sign with: {problem}; name a profile with AWS_PROFILE, or put them into the environment with \
             eval \"$(aws configure export-credentials --format env)\""
        ))
    })
}

#[cfg(feature = "aws")]
fn signed(
    request: RequestBuilder,
    signer: &Signer,
    method: &str,
    url: &str,
    body: &[u8],
) -> Result<RequestBuilder, Failure> {
    let headers = signer.headers(method, url, body, Clock::system().now()).map_err(Failure::new)?;
    Ok(headers.into_iter().fold(request, |request, (name, value)| request.header(name, value)))
}

/// The answer's status, and its body as JSON.
pub(super) async fn send(request: RequestBuilder, endpoint: &str) -> Result<(StatusCode, Value), Failure> {
    let response = request.send().await.map_err(|_| {
        Failure::new(format!(
            "nothing answers at {endpoint}: start the system with `streammanager up`, or name it with --endpoint"
        ))
    })?;
    let status = response.status();
    let answer = response.json().await.map_err(|e| Failure::new(format!("{endpoint}: status {status}: {e}")))?;
    Ok((status, answer))
}

/// In the system's words, or in those of what stands before it: API Gateway says `message`.
pub(super) fn refused(status: StatusCode, answer: &Value) -> Failure {
    let said = match answer["message"].as_str().or_else(|| answer["Message"].as_str()) {
        Some(message) if answer.get("error").is_none() => message.to_owned(),
        _ => format!("{}: {}", text(&answer["error"]), text(&answer["detail"])),
    };
    Failure::new(format!("refused with status {}: {said}", status.as_u16()))
}
