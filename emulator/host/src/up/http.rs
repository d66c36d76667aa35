//! The HTTP API of the template (payload format 2.0), and beside it what operators of any process expect: `/metrics`,
//! `/health/live`, `/health/ready`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use streammanager::error::Reason;
use streammanager::limits::ALERT_BYTES;
use streammanager_functions::events::HttpResponse;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::functions::{Functions, Invocation};
use super::readiness::Readiness;
use super::routes::{Found, Route, Routes};
use crate::template::{ACCOUNT, Auth};

/// The holder of the control key, in AWS's words.
const CONTROL_KEY_HOLDER: &str = "arn:aws:iam::000000000000:user/control-key";
/// Open connections; the rest of the system needs descriptors too.
const CONNECTIONS: usize = 512;
/// From a connection's start, or its last answer, to the end of the next request's head.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// For a body of a quarter of a MiB.
const BODY_TIME: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// For the answers under way when the system stops.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// The other end of a connection, and its place among them.
#[derive(Clone)]
struct Client {
    from: SocketAddr,
    place: Arc<OwnedSemaphorePermit>,
}

pub(crate) struct Api {
    pub(crate) routes: Routes,
    pub(crate) functions: Functions,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) readiness: Readiness,
    /// Operators' key: on this host it stands for the request that the template wants signed.
    pub(crate) control_key: String,
    /// Handlers at work, also for clients that have gone.
    pub(crate) handlers: TaskTracker,
}

pub(crate) async fn serve(api: Api, listener: TcpListener, stop: CancellationToken) {
    let handlers = api.handlers.clone();
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(|| async { "ok\n" }))
        .route("/health/ready", get(ready))
        .fallback(api_call)
        .layer(DefaultBodyLimit::max(ALERT_BYTES + 1))
        .with_state(Arc::new(api));
    let (room, connections) = (Arc::new(Semaphore::new(CONNECTIONS)), TaskTracker::new());
    while let Some(Ok(place)) = stop.run_until_cancelled(room.clone().acquire_owned()).await {
        let (socket, from) = match stop.run_until_cancelled(listener.accept()).await {
            Some(Ok(accepted)) => accepted,
            // No descriptor is left, or the client has gone again.
            Some(Err(_)) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            None => break,
        };
        // A handler keeps the place of a client that has gone: hanging up makes no room for more work.
        let client = Client { from, place: Arc::new(place) };
        let (router, stop) = (router.clone().layer(Extension(client)), stop.clone());
        connections.spawn(async move {
            // An alert is one small packet each way: it does not wait for the next one.
            let _ = socket.set_nodelay(true);
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
            let connection = server.serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
            let mut connection = pin!(connection);
            let ended = match stop.run_until_cancelled(connection.as_mut()).await {
                Some(ended) => ended,
                None => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(problem) = ended {
                tracing::debug!(%problem, %from, "an HTTP connection broke off");
            }
        });
    }
    connections.close();
    // One that neither sends nor reads does not hold up the end.
    let _ = tokio::time::timeout(LAST_ANSWERS, connections.wait()).await;
    handlers.close();
    handlers.wait().await;
}

async fn metrics(State(api): State<Arc<Api>>) -> String {
    api.readiness.publish().await;
    api.metrics.render()
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
    let body = match tokio::time::timeout(BODY_TIME, Bytes::from_request(request, &())).await {
        Ok(body) => body,
        Err(_) => {
            let detail = format!("the body did not arrive within {BODY_TIME:?}");
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
        let detail = "send the control key as Authorization: Bearer KEY; it stands in control.key of the data folder";
        return answer(HttpResponse::error(401, "unauthorised", detail));
    }
    let event = event(&method, &uri, &headers, &body, &parameters, client.from, route);
    // In a task of its own: a client that hangs up must not end a handler half-way, as it does not on AWS.
    let (functions, function) = (api.functions.clone(), route.function.clone());
    let invoked = api.handlers.spawn(async move {
        let _place = client.place;
        functions.invoke(&function, event).await
    });
    let Ok(invoked) = invoked.await else { return answer(HttpResponse::error(500, "failed", "the function panicked")) };
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

/// Values are ids here: percent-encoding is not needed and left as it is.
fn query_parameters(query: &str) -> BTreeMap<&str, &str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).collect()
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
