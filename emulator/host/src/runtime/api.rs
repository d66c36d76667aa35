//! The Runtime API of one environment, over HTTP as AWS documents it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::TryStreamExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::Function;
use super::limits::RESPONSE_BYTES;

/// What a function answered: to `…/response`, or to `…/error` with `errorType` and `errorMessage`.
pub(super) type Answer = Result<Value, Value>;

#[derive(Debug)]
pub(super) struct Invocation {
    pub(super) request: String,
    /// JSON.
    pub(super) event: String,
    /// Since 1970.
    pub(super) begun: Duration,
    pub(super) deadline_ms: u128,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The owner's side. It is served until this is dropped.
#[derive(Debug)]
pub(super) struct Api {
    invocations: mpsc::Sender<Invocation>,
    state: Arc<Shared>,
    _served: DropGuard,
}

#[derive(Debug)]
struct Shared {
    arn: String,
    invocations: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    /// The one under way: a function asks for the next only after it has answered.
    current: Mutex<Option<(String, oneshot::Sender<Answer>)>>,
    init_error: watch::Sender<Option<(String, Value)>>,
    /// Whether it waits for an event.
    asks: watch::Sender<bool>,
}

impl Api {
    pub(super) async fn serve(function: &Function) -> std::io::Result<(Arc<Api>, SocketAddr)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let at = listener.local_addr()?;
        let (invocations, receiver) = mpsc::channel(1);
        let Function { name, region, account, .. } = function;
        let state = Arc::new(Shared {
            arn: format!("arn:aws:lambda:{region}:{account}:function:{name}"),
            invocations: tokio::sync::Mutex::new(receiver),
            current: Mutex::default(),
            init_error: watch::channel(None).0,
            asks: watch::channel(false).0,
        });
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .layer(DefaultBodyLimit::max(RESPONSE_BYTES))
            .with_state(state.clone());
        let served = CancellationToken::new();
        let ended = served.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = axum::serve(listener, routes) => {}
                () = ended.cancelled() => {}
            }
        });
        Ok((Arc::new(Api { invocations, state, _served: served.drop_guard() }), at))
    }

    /// Returns when it waits for an event.
    pub(super) async fn asks(&self) {
        // Its sender lives as long as `self`.
        let _ = self.state.asks.subscribe().wait_for(|asks| *asks).await;
    }

    pub(super) async fn give(&self, invocation: Invocation) {
        self.state.asks.send_replace(false);
        let _ = self.invocations.send(invocation).await;
    }

    /// Returns when it says that it cannot initialise.
    pub(super) async fn gives_up(&self) {
        // Its sender lives as long as `self`.
        let _ = self.state.init_error.subscribe().wait_for(Option::is_some).await;
    }

    pub(super) fn init_error(&self) -> Option<(String, Value)> {
        self.state.init_error.borrow().clone()
    }
}

async fn next(State(state): State<Arc<Shared>>) -> Response {
    if state.current.lock().is_some() {
        return refused(StatusCode::FORBIDDEN, "InvalidStateTransition", "the invocation before has no answer yet");
    }
    state.asks.send_replace(true);
    let received = state.invocations.lock().await.recv().await;
    let Some(Invocation { request, event, begun, deadline_ms, answer }) = received else {
        return refused(StatusCode::INTERNAL_SERVER_ERROR, "Shutdown", "the environment ends");
    };
    state.asks.send_replace(false);
    *state.current.lock() = Some((request.clone(), answer));
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", request),
        ("lambda-runtime-deadline-ms", deadline_ms.to_string()),
        ("lambda-runtime-invoked-function-arn", state.arn.clone()),
        ("lambda-runtime-trace-id", trace_id(begun)),
    ];
    (headers, event).into_response()
}

/// In X-Ray's form. Nobody here takes the trace.
fn trace_id(begun: Duration) -> String {
    let (root, parent) = (Uuid::new_v4().simple().to_string(), Uuid::new_v4().simple().to_string());
    format!("Root=1-{:08x}-{};Parent={};Sampled=0", begun.as_secs(), &root[..24], &parent[..16])
}

async fn response(State(state): State<Arc<Shared>>, Path(id): Path<String>, body: Body) -> Response {
    match read(body).await {
        Ok(Some(body)) => {
            let answer = serde_json::from_slice(&body);
            answered(&state, &id, answer.map_err(|e| reported("Runtime.InvalidResponse", &format!("no JSON: {e}"))))
        }
        Ok(None) => {
            let limit = format!("maximum allowed payload size ({RESPONSE_BYTES} bytes).");
            let too_large = format!("Response payload size exceeded {limit}");
            answered(&state, &id, Err(reported("Function.ResponseSizeTooLarge", &too_large)));
            refused(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &format!("Exceeded {limit}"))
        }
        Err(problem) => refused(StatusCode::BAD_REQUEST, "InvalidRequest", &problem.to_string()),
    }
}

/// `None` when it is too large. It is read to its end all the same: the function hears of it, and goes on.
async fn read(body: Body) -> Result<Option<Vec<u8>>, axum::Error> {
    let (mut parts, mut kept) = (body.into_data_stream(), Some(Vec::new()));
    while let Some(part) = parts.try_next().await? {
        kept = kept.filter(|kept| kept.len() + part.len() <= RESPONSE_BYTES);
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&part);
        }
    }
    Ok(kept)
}

async fn error(State(state): State<Arc<Shared>>, Path(id): Path<String>, body: Bytes) -> Response {
    let error = serde_json::from_slice(&body);
    answered(&state, &id, Err(error.unwrap_or_else(|e| reported("Runtime.InvalidError", &format!("no JSON: {e}")))))
}

async fn init_error(State(state): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers.get("lambda-runtime-function-error-type").and_then(|kind| kind.to_str().ok());
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    state.init_error.send_replace(Some((kind.unwrap_or_default().to_owned(), body)));
    accepted()
}

fn answered(state: &Shared, id: &str, answer: Answer) -> Response {
    let Some((_, waiting)) = state.current.lock().take_if(|(current, _)| current == id) else {
        return refused(StatusCode::BAD_REQUEST, "InvalidRequestID", "it is not the invocation under way");
    };
    // Whoever asked may have given up.
    let _ = waiting.send(answer);
    accepted()
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, axum::Json(json!({ "status": "OK" }))).into_response()
}

fn refused(status: StatusCode, kind: &str, text: &str) -> Response {
    (status, axum::Json(reported(kind, text))).into_response()
}

fn reported(kind: &str, text: &str) -> Value {
    json!({ "errorType": kind, "errorMessage": text })
}

/// A reported error on one line.
pub(super) fn words(error: &Value) -> String {
    let text = |name: &str| error[name].as_str().unwrap_or_default();
    match (text("errorType"), text("errorMessage")) {
        ("", "") => error.to_string(),
        (kind, text) => format!("{kind}: {text}"),
    }
}
