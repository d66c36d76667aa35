//! AWS Lambda's side of a function: execution environments, each a process of the function's own binary with a Runtime API
//! of its own. Nothing here knows what a function does, nor what invokes it.
//!
//! An environment initialises until it asks for its first event. From then on it is idle, or it has one invocation; who
//! owns it freezes it while it is idle. It ends when its process does, at the invocation's deadline, over the function's
//! memory, or with its owner: no process outlives this one, however this one ends.

mod api;
mod limits;
mod process;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use api::{Answer, Api, Invocation};
use limits::SHUTDOWN;
pub use limits::{INIT, REQUEST_BYTES, RESPONSE_BYTES};
pub use process::Output;
use process::{Process, Signal};

/// One function, as Lambda is told of it.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name at Lambda.
    pub name: String,
    /// The region that it runs in.
    pub region: String,
    /// The account that it belongs to.
    pub account: String,
    /// The built binary.
    pub program: PathBuf,
    /// Its own variables; those that Lambda sets are added.
    pub environment: BTreeMap<String, String>,
    /// In MiB, `MemorySize`.
    pub memory: u32,
}

/// Why an environment exists, as `AWS_LAMBDA_INITIALIZATION_TYPE` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// An invocation waits for it.
    OnDemand,
    /// It is kept ready.
    Provisioned,
}

/// How an environment ended before its first `next`.
#[derive(Debug, thiserror::Error)]
pub enum NotInitialised {
    /// The process ended by itself.
    #[error("{}", process::init_failure(reported.as_ref(), status))]
    Ended {
        /// What it posted to `/runtime/init/error`, with the header `Lambda-Runtime-Function-Error-Type`.
        reported: Option<(String, Value)>,
        /// How it ended.
        status: ExitStatus,
    },
    /// It did not ask for an event in time, and was killed.
    #[error("Sandbox.Timedout: the initialisation did not end within {0:?}")]
    TimedOut(Duration),
    /// There is no process.
    #[error("{0}")]
    NotStarted(String),
}

/// An invocation that has no answer, in Lambda's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// The function says so: what it posted to `…/error`.
    #[error("{}", api::words(.0))]
    Reported(Value),
    /// The process ended.
    #[error("Runtime.ExitError: RequestId: {request} Error: Runtime exited {how}")]
    Exited {
        /// The invocation's id.
        request: String,
        /// With which status or signal.
        how: String,
    },
    /// It had more resident memory than its function may have, and was killed.
    #[error("Runtime.OutOfMemory: RequestId: {request} Error: Runtime exited with error: signal: killed")]
    OutOfMemory {
        /// The invocation's id.
        request: String,
    },
    /// It had not answered at its deadline, and was killed.
    #[error("Sandbox.Timedout: RequestId: {request} Error: Task timed out after {:.2} seconds", after.as_secs_f64())]
    TimedOut {
        /// The invocation's id.
        request: String,
        /// The time that it had.
        after: Duration,
    },
    /// The event is larger than Lambda takes.
    #[error(
        "RequestEntityTooLarge: Request must be smaller than {REQUEST_BYTES} bytes for the InvokeFunction operation"
    )]
    RequestTooLarge,
}

/// One execution environment; its process is killed when it is dropped.
#[derive(Debug)]
pub struct Environment {
    process: Process,
    api: Arc<Api>,
}

/// An invocation under way.
#[derive(Debug)]
pub struct Begun {
    request: String,
    time: Duration,
    until: Instant,
    answered: Option<oneshot::Receiver<Answer>>,
    process: process::Handle,
}

impl Environment {
    /// Starts the process, and returns when it has asked for its first event.
    ///
    /// # Errors
    /// When it has not after `init`.
    pub async fn start(
        function: &Function,
        start: Start,
        output: Output,
        init: Duration,
    ) -> Result<Environment, NotInitialised> {
        let not_started = |e: std::io::Error| NotInitialised::NotStarted(format!("the Runtime API: {e}"));
        let (api, at) = Api::serve(function).await.map_err(not_started)?;
        let process =
            Process::start(function, start, &at.to_string(), output).await.map_err(NotInitialised::NotStarted)?;
        let mut handle = process.handle();
        let ready = async {
            tokio::select! { biased;
                () = api.asks() => None,
                ended = handle.ended() => Some(ended),
                // Lambda ends it then, if it does not by itself.
                () = api.gives_up() => {
                    if let Ok(ended) = timeout(SHUTDOWN, handle.ended()).await {
                        return Some(ended);
                    }
                    handle.signal(Signal::Kill);
                    Some(handle.ended().await)
                }
            }
        };
        match timeout(init, ready).await {
            Ok(None) => Ok(Environment { process, api }),
            Ok(Some(ended)) => Err(NotInitialised::Ended { reported: api.init_error(), status: ended.status }),
            Err(_) => {
                handle.signal(Signal::Kill);
                handle.ended().await;
                Err(NotInitialised::TimedOut(init))
            }
        }
    }

    /// Invokes it, and returns its answer.
    ///
    /// # Errors
    /// When there is none; unless the function itself says so, the environment has ended with it.
    pub async fn invoke(&self, event: &Value, time: Duration) -> Result<Value, Failed> {
        self.begin(event, time).await.answer().await
    }

    /// Hands it an event with this much time, and does not wait for the answer. It takes the next one only after `idle`.
    pub async fn begin(&self, event: &Value, time: Duration) -> Begun {
        let request = Uuid::new_v4().to_string();
        let event = event.to_string();
        let (answer, answered) = oneshot::channel();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let fits = event.len() <= REQUEST_BYTES;
        let mut begun = Begun {
            request: request.clone(),
            time,
            until: Instant::now() + time,
            answered: None,
            process: self.process.handle(),
        };
        if fits {
            begun.answered = Some(answered);
            let deadline_ms = (now + time).as_millis();
            self.api.give(Invocation { request, event, begun: now, deadline_ms, answer }).await;
        }
        begun
    }

    /// Returns when it asks for the next event, or has ended.
    pub async fn idle(&self) {
        let mut process = self.process.handle();
        tokio::select! { biased;
            _ = process.ended() => {}
            () = self.api.asks() => {}
        }
    }

    /// Whether its process has ended.
    pub fn has_ended(&self) -> bool {
        self.process.handle().has_ended()
    }

    /// Stops every thread of it until `thaw` [L3]: Lambda gives an idle environment no time at all.
    pub fn freeze(&self) {
        self.process.handle().signal(Signal::Stop);
    }

    /// It goes on where it was.
    pub fn thaw(&self) {
        self.process.handle().signal(Signal::Continue);
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.process.handle().id()
    }

    /// Its resident memory in bytes; none when it has ended.
    pub fn resident(&self) -> Option<u64> {
        process::resident(self.id())
    }

    /// SIGTERM, SIGKILL two seconds later, and how it ended.
    pub async fn terminate(self) -> ExitStatus {
        let mut process = self.process.handle();
        process.signal(Signal::Terminate);
        // A frozen process takes the signal when it goes on.
        process.signal(Signal::Continue);
        if let Ok(ended) = timeout(SHUTDOWN, process.ended()).await {
            return ended.status;
        }
        process.signal(Signal::Kill);
        process.ended().await.status
    }
}

impl Begun {
    /// # Errors
    /// As `Environment::invoke`.
    pub async fn answer(self) -> Result<Value, Failed> {
        let Begun { request, time, until, answered, mut process } = self;
        let Some(answered) = answered else { return Err(Failed::RequestTooLarge) };
        let outcome = async {
            tokio::select! { biased;
                Ok(answer) = answered => Ok(answer),
                ended = process.ended() => Err(ended),
            }
        };
        match timeout_at(until, outcome).await {
            Ok(Ok(answer)) => answer.map_err(Failed::Reported),
            Ok(Err(ended)) if ended.over_memory => Err(Failed::OutOfMemory { request }),
            Ok(Err(ended)) => Err(Failed::Exited { request, how: process::how(ended.status) }),
            Err(_) => {
                process.signal(Signal::Kill);
                process.ended().await;
                Err(Failed::TimedOut { request, after: time })
            }
        }
    }
}
