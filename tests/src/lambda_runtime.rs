//! AWS's side of a Lambda function: the Runtime API over HTTP as AWS documents it, and the process that it invokes one
//! event at a time. Nothing here knows what a function does.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::lambda_binary;

/// A process says that it is ready, or ends, within this; AWS gives it 10 s.
const INIT: Duration = Duration::from_secs(30);

/// What a function answered: to `…/response`, or to `…/error` with `errorType` and `errorMessage`.
pub type Answer = Result<Value, Value>;

/// How a process ended before its first `next`.
#[derive(Debug)]
pub struct NotInitialised {
    /// What it posted to `/runtime/init/error`, with the header `Lambda-Runtime-Function-Error-Type`.
    pub reported: Option<(String, Value)>,
    pub status: ExitStatus,
    pub log: String,
}

/// One running binary; killed when dropped.
pub struct Function {
    child: Child,
    name: String,
    invocations: mpsc::Sender<Invocation>,
    state: Arc<Shared>,
    log: PathBuf,
    _folder: TempDir,
}

/// An invocation under way.
pub struct Begun {
    answered: oneshot::Receiver<Answer>,
    until: tokio::time::Instant,
    log: PathBuf,
}

impl Begun {
    /// `None`: the function ended.
    ///
    /// # Panics
    /// When its deadline passes, as AWS then kills the function.
    pub async fn answer(self) -> Option<Answer> {
        let answered = tokio::time::timeout_at(self.until, self.answered).await;
        answered.unwrap_or_else(|_| panic!("no answer at the deadline: {:?}", std::fs::read_to_string(&self.log))).ok()
    }
}

struct Invocation {
    id: String,
    event: Value,
    deadline_ms: u128,
    answer: oneshot::Sender<Answer>,
}

struct Shared {
    function: String,
    invocations: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    /// The one under way: a function asks for the next only after it has answered.
    current: Mutex<Option<(String, oneshot::Sender<Answer>)>>,
    init_error: Mutex<Option<(String, Value)>>,
    /// How often `next` was asked.
    asked: watch::Sender<u64>,
}

impl Function {
    /// The binary with `environment` and what Lambda itself sets, nothing of this process's own.
    pub async fn start(name: &str, environment: &[(String, String)]) -> Result<Function, NotInitialised> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (invocations, receiver) = mpsc::channel(1);
        let (asked, mut ready) = watch::channel(0);
        let state = Arc::new(Shared {
            function: format!("arn:aws:lambda:us-west-2:000000000000:function:{name}"),
            invocations: tokio::sync::Mutex::new(receiver),
            current: Mutex::default(),
            init_error: Mutex::default(),
            asked,
        });
        let api = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, api).await });

        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let file = File::create(&log).unwrap();
        let child = Command::new(lambda_binary(name))
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", at.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{name}"))
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "2026/01/01/[$LATEST]0")
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut function = Function { child, name: name.to_owned(), invocations, state, log, _folder: folder };
        let until = Instant::now() + INIT;
        loop {
            if *ready.borrow_and_update() > 0 {
                return Ok(function);
            }
            if let Some(status) = function.child.try_wait().unwrap() {
                let reported = function.state.init_error.lock().take();
                return Err(NotInitialised { reported, status, log: function.log() });
            }
            assert!(Instant::now() < until, "{name} neither asks for an event nor ends: {}", function.log());
            let _ = tokio::time::timeout(Duration::from_millis(20), ready.changed()).await;
        }
    }

    /// Invokes it with a deadline that an honest answer does not come near.
    pub async fn invoke(&self, event: Value) -> Answer {
        self.invoke_within(event, Duration::from_secs(60)).await
    }

    /// # Panics
    /// When it has not answered at its deadline, as AWS then kills it, or when it ends.
    pub async fn invoke_within(&self, event: Value, time: Duration) -> Answer {
        let answer = self.begin(event, time).await.answer().await;
        answer.unwrap_or_else(|| panic!("{} ended during an invocation: {}", self.name, self.log()))
    }

    /// Hands it an event and does not wait for the answer.
    pub async fn begin(&self, event: Value, time: Duration) -> Begun {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let id = format!("8476a536-e9f4-11e8-9739-{:012x}", IDS.fetch_add(1, Ordering::Relaxed));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let (answer, answered) = oneshot::channel();
        let begun = Begun { answered, until: tokio::time::Instant::now() + time, log: self.log.clone() };
        let invocation = Invocation { id, event, deadline_ms: (now + time).as_millis(), answer };
        self.invocations.send(invocation).await.expect("the Runtime API runs");
        begun
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(mut self) -> ExitStatus {
        let sent = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
        let status = self.child.wait().unwrap();
        // Who waits for its answer hears that none comes.
        self.state.current.lock().take();
        status
    }

    /// Everything that it printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn next(State(state): State<Arc<Shared>>) -> Response {
    if state.current.lock().is_some() {
        return refused(StatusCode::FORBIDDEN, "InvalidStateTransition");
    }
    state.asked.send_modify(|asked| *asked += 1);
    let received = state.invocations.lock().await.recv().await;
    let Some(Invocation { id, event, deadline_ms, answer }) = received else {
        return refused(StatusCode::INTERNAL_SERVER_ERROR, "Shutdown");
    };
    *state.current.lock() = Some((id.clone(), answer));
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", deadline_ms.to_string()),
        ("lambda-runtime-invoked-function-arn", state.function.clone()),
        (
            "lambda-runtime-trace-id",
            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1".into(),
        ),
    ];
    (headers, event.to_string()).into_response()
}

async fn response(State(state): State<Arc<Shared>>, Path(id): Path<String>, body: Bytes) -> Response {
    answered(&state, &id, serde_json::from_slice(&body).map_err(|e| json!(format!("no JSON: {e}: {body:?}"))))
}

async fn error(State(state): State<Arc<Shared>>, Path(id): Path<String>, body: Bytes) -> Response {
    answered(&state, &id, Err(serde_json::from_slice(&body).unwrap_or_else(|e| json!(format!("no JSON: {e}")))))
}

async fn init_error(State(state): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers.get("lambda-runtime-function-error-type").and_then(|kind| kind.to_str().ok());
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    *state.init_error.lock() = Some((kind.unwrap_or_default().to_owned(), body));
    accepted()
}

fn answered(state: &Shared, id: &str, answer: Answer) -> Response {
    let Some((_, waiting)) = state.current.lock().take_if(|(current, _)| current == id) else {
        return refused(StatusCode::BAD_REQUEST, "InvalidRequestID");
    };
    let _ = waiting.send(answer);
    accepted()
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, axum::Json(json!({ "status": "OK" }))).into_response()
}

fn refused(status: StatusCode, kind: &str) -> Response {
    (status, axum::Json(json!({ "errorType": kind, "errorMessage": kind }))).into_response()
}
