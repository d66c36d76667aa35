//! The HTTP API of the template (payload format 2.0), and beside it what operators of any process expect: `/metrics`,
//! `/health/live`, `/health/ready`, and `/buffer`, the data folder of this host.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use streammanager::embedded::Embedded;
use streammanager::error::Reason;
use streammanager::limits::ALERT_BYTES;
use streammanager_functions::events::HttpResponse;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::{self, Client};
use super::functions::{Functions, Invocation};
use super::limits::{HTTP_AT_WORK, HTTP_BODY_TIME, HTTP_OTHERS_AT_WORK, HTTP_WAITING};
use super::readiness::Readiness;
use super::routes::{Found, Route, Routes};
use crate::buffer::inspect_open;
use crate::template::{ACCOUNT, Auth};

/// The holder of the control key, in AWS's words.
const CONTROL_KEY_HOLDER: &str = "arn:aws:iam::000000000000:user/control-key";

pub(crate) struct Api {
    pub(crate) routes: Routes,
    pub(crate) functions: Functions,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) readiness: Readiness,
    /// The data folder, and what has it open.
    pub(crate) data: PathBuf,
    pub(crate) folder: Embedded,
    /// Operators' key: on this host it stands for the request that the template wants signed.
    pub(crate) control_key: String,
    /// Handlers at work, also for clients that have gone.
    pub(crate) handlers: TaskTracker,
    pub(crate) rooms: Rooms,
}

/// Places for requests at work. A handler keeps its place when its client has gone: hanging up makes no room for more work.
pub(crate) struct Rooms {
    all: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl Default for Rooms {
    fn default() -> Rooms {
        let room = |places| Arc::new(Semaphore::new(places));
        Rooms { all: room(HTTP_AT_WORK), others: room(HTTP_OTHERS_AT_WORK) }
    }
}

impl Rooms {
    /// `None`: all are taken. Requests other than alerts leave some of them free.
    fn place(&self, alert: bool) -> Option<(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>)> {
        let other = if alert { None } else { Some(self.others.clone().try_acquire_owned().ok()?) };
        Some((self.all.clone().try_acquire_owned().ok()?, other))
    }
}

pub(crate) async fn serve(api: Api, listener: TcpListener, stop: CancellationToken) {
    let handlers = api.handlers.clone();
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/buffer", get(buffer))
        .route("/health/live", get(|| async { "ok\n" }))
        .route("/health/ready", get(ready))
        .fallback(api_call)
        .layer(DefaultBodyLimit::max(ALERT_BYTES + 1))
        .with_state(Arc::new(api));
    connections::serve(router, listener, HTTP_WAITING, stop).await;
    handlers.close();
    handlers.wait().await;
}

async fn metrics(State(api): State<Arc<Api>>) -> String {
    api.readiness.publish().await;
    api.metrics.render()
}

/// What the data folder holds; with `verify=true` every envelope is unpacked and every stored blob read.
async fn buffer(State(api): State<Arc<Api>>, uri: Uri, headers: HeaderMap) -> Response {
    if !api.holds_control_key(&headers) {
        return unauthorised();
    }
    let Some(at_work) = api.rooms.place(false) else { return busy() };
    let thorough = query_parameters(uri.query().unwrap_or_default()).get("verify").is_some_and(|value| value == "true");
    let (data, folder) = (api.data.clone(), api.folder.clone());
    // It reads the whole folder.
    let read = tokio::task::spawn_blocking(move || {
        let _at_work = at_work;
        inspect_open(&data, &folder, thorough)
    });
    match read.await {
        Ok(Ok(inspection)) => axum::Json(inspection).into_response(),
        Ok(Err(problem)) => answer(HttpResponse::error(503, "unavailable", problem)),
        Err(_) => answer(HttpResponse::error(500, "failed", "reading the data folder panicked")),
    }
}

fn unauthorised() -> Response {
    let detail = "send the control key as Authorization: Bearer KEY; it stands in control.key of the data folder";
    answer(HttpResponse::error(401, "unauthorised", detail))
}

fn busy() -> Response {
    let busy = HttpResponse::error(503, "busy", "too many requests are at work; send it again in a second");
    answer(busy.with_header("retry-after", "1"))
}

async fn ready(State(api): State<Arc<Api>>) -> Response {
    let report = api.readiness.report().await;
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(report)).into_response()
}

async fn api_call(
    State(api): State<Arc<Api>>,
    Extension(client): Extension<Client>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let body = match tokio::time::timeout(HTTP_BODY_TIME, Bytes::from_request(request, &())).await {
        Ok(body) => body,
        Err(_) => {
            let detail = format!("the body did not arrive within {HTTP_BODY_TIME:?}");
            return answer(HttpResponse::error(408, "too_slow", detail));
        }
    };
    let body = match body {
        Ok(body) => body,
        Err(e) if e.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = format!("the body has more than {ALERT_BYTES} bytes");
            return answer(HttpResponse::error(413, Reason::TooLarge.code(), detail));
        }
        Err(e) => return answer(HttpResponse::error(400, "bad_body", e)),
    };
    let (route, parameters) = match api.routes.find(method.as_str(), uri.path()) {
        Found::Route(route, parameters) => (route, parameters),
        Found::OtherMethod => {
            return answer(HttpResponse::error(405, "method_not_allowed", format!("{method} {}", uri.path())));
        }
        Found::Nothing => {
            let detail = format!("the template has no route for {}", uri.path());
            return answer(HttpResponse::error(404, "not_found", detail));
        }
    };
    if route.auth == Auth::Signed && !api.holds_control_key(&headers) {
        return unauthorised();
    }
    let Some(at_work) = api.rooms.place(route.path == "/alerts") else { return busy() };
    let event = event(&method, &uri, &headers, &body, &parameters, client.from, route);
    // In a task of its own: a client that hangs up must not end a handler half-way, as it does not on AWS.
    let (functions, function) = (api.functions.clone(), route.function.clone());
    let invoked = api.handlers.spawn(async move {
        let _at_work = at_work;
        functions.invoke(&function, event).await
    });
    // At work it is not the connection that is waited for.
    client.place.step_out();
    let invoked = invoked.await;
    client.place.step_in();
    let Ok(invoked) = invoked else { return answer(HttpResponse::error(500, "failed", "the function panicked")) };
    match invoked {
        Ok(value) => match serde_json::from_value::<HttpResponse>(value) {
            Ok(response) => answer(response),
            Err(e) => answer(HttpResponse::error(502, "bad_answer", e)),
        },
        Err(problem @ Invocation::TimedOut(_)) => answer(HttpResponse::error(503, "timed_out", problem)),
        Err(problem) => {
            tracing::error!(%problem, function = route.function, "a request failed");
            answer(HttpResponse::error(500, "failed", problem))
        }
    }
}

impl Api {
    fn holds_control_key(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        bool::from(given.trim().as_bytes().ct_eq(self.control_key.as_bytes()))
    }
}

fn event(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
    parameters: &BTreeMap<String, String>,
    from: SocketAddr,
    route: &Route,
) -> Value {
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: BTreeMap<String, String> =
        headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let query = uri.query().unwrap_or_default();
    let (body, encoded) = match std::str::from_utf8(body) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (BASE64.encode(body), true),
    };
    let mut event = json!({
        "version": "2.0",
        "routeKey": format!("{} {}", route.method, route.path),
        "rawPath": uri.path(),
        "rawQueryString": query,
        "headers": headers,
        "queryStringParameters": query_parameters(query),
        "pathParameters": parameters,
        "requestContext": { "http": { "method": method.as_str(), "path": uri.path(), "sourceIp": from.ip().to_string() } },
        "body": body,
        "isBase64Encoded": encoded,
    });
    if route.auth == Auth::Signed {
        event["requestContext"]["authorizer"] =
            json!({ "iam": { "accountId": ACCOUNT, "userArn": CONTROL_KEY_HOLDER } });
    }
    event
}

/// As API Gateway gives them: decoded, those of one name joined by commas [L5].
fn query_parameters(query: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::<String, String>::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let joined = parameters.entry(name.into_owned());
        joined.and_modify(|before| *before = format!("{before},{value}")).or_insert_with(|| value.into_owned());
    }
    parameters
}

fn answer(response: HttpResponse) -> Response {
    let status = StatusCode::from_u16(response.status_code).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut answer = (status, response.body).into_response();
    for (name, value) in &response.headers {
        if let (Ok(name), Ok(value)) = (header::HeaderName::try_from(name), header::HeaderValue::try_from(value)) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l5_parameters_come_decoded_and_those_of_one_name_joined() {
        let got = query_parameters("alert=oes%40butte.example%2CZONE+1&max=2&id=a&id=b&empty=&bare");
        let want = [("alert", "oes@butte.example,ZONE 1"), ("bare", ""), ("empty", ""), ("id", "a,b"), ("max", "2")];
        assert_eq!(got, want.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}
