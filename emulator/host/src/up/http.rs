//! The HTTP API of the template (payload format 2.0), and beside it what operators of any process expect: `/metrics`,
//! `/health/live`, `/health/ready`, and `/buffer`, the data folder of this host.

mod gateway;

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use streammanager::embedded::Embedded;
use streammanager::error::Reason;
use streammanager::limits::ALERT_BYTES;
use streammanager::time::{Clock, Rng};
use streammanager_functions::events::HttpResponse;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::{self, Client};
use super::failures::request_id;
use super::functions::Invocation;
use super::invoke::Invoke;
use super::limits::{HTTP_AT_WORK, HTTP_BODY_TIME, HTTP_OTHERS_AT_WORK, HTTP_WAITING};
use super::processes::Uninvoked;
use super::readiness::Readiness;
use super::routes::Routes;
use crate::buffer::inspect_open;
use crate::template::Auth;
use gateway::{Incoming, query_parameters};

pub(crate) struct Api {
    pub(crate) routes: Routes,
    pub(crate) functions: Arc<dyn Invoke>,
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
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
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
    // An HTTP API knows a route by its method and path together.
    let Some((route, parameters)) = api.routes.find(method.as_str(), uri.path()) else {
        return gateway::own(StatusCode::NOT_FOUND);
    };
    if route.auth == Auth::Signed && !api.holds_control_key(&headers) {
        return gateway::own(StatusCode::FORBIDDEN);
    }
    let Some(at_work) = api.rooms.place(route.path == "/alerts") else { return busy() };
    let incoming = Incoming {
        method: &method,
        uri: &uri,
        headers: &headers,
        body: &body,
        parameters: &parameters,
        from: client.from,
        route,
        request_id: request_id(&api.rng),
        now: api.clock.now(),
    };
    let event = incoming.event();
    // In a task of its own: a client that hangs up must not end a handler half-way, as it does not on AWS.
    let (functions, function) = (api.functions.clone(), route.function.clone());
    let invoked = api.handlers.spawn(async move {
        let _at_work = at_work;
        functions.invoke(&function, event).await
    });
    // At work it is not the connection that is waited for.
    client.place.step_out();
    let invoked = tokio::time::timeout(route.timeout, invoked).await;
    client.place.step_in();
    match invoked {
        Ok(Ok(Ok(value))) => gateway::answer(&value),
        Ok(Ok(Err(problem @ Invocation::Uninvoked(Uninvoked::Throttled(_))))) => {
            tracing::warn!(%problem, function = route.function, "a request was throttled");
            gateway::own(StatusCode::SERVICE_UNAVAILABLE)
        }
        Ok(Ok(Err(problem))) => {
            tracing::error!(%problem, function = route.function, "a request failed");
            gateway::own(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Ok(Err(problem)) => {
            tracing::error!(%problem, function = route.function, "a request's function panicked");
            gateway::own(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Err(_) => {
            tracing::error!(function = route.function, timeout = ?route.timeout, "a request waited too long for its function");
            gateway::own(StatusCode::SERVICE_UNAVAILABLE)
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

fn answer(response: HttpResponse) -> Response {
    gateway::answer(&serde_json::to_value(response).unwrap_or_default())
}
