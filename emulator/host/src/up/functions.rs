//! The template's functions on this host: the handlers that AWS runs, each with the App that its own environment describes;
//! or, with `--runtime process`, the binaries that AWS runs.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::limits::DELIVER_MARGIN;
use streammanager::settings::Settings;
use streammanager_functions::events::KinesisEvent;
use streammanager_functions::{
    HandlerError, batch, control, deliver, express, realtime, redrive, schedule, stream, warm,
};
use tokio_util::sync::CancellationToken;

use super::floor::Floor;
use super::processes::{Pool, Uninvoked};
use super::reports::Reports;
use crate::exit::Failure;
use crate::{runtime, template};
use streammanager_mqtt_endpoint::Endpoint;

/// One function of the template.
pub(crate) struct Function {
    app: App,
    code: Code,
    timeout: Duration,
    /// What runs it; without them its handler runs here.
    processes: Option<Pool>,
}

#[derive(Clone, Copy)]
enum Code {
    Schedule,
    Batch,
    Realtime,
    Stream,
    Express,
    Deliver,
    Redrive,
    Control,
}

/// By logical id; cheap to clone.
#[derive(Clone)]
pub(crate) struct Functions {
    by_id: Arc<BTreeMap<String, Arc<Function>>>,
    /// Where alerts that came over MQTT are confirmed [E5].
    mqtt: Endpoint,
    floor: Floor,
    /// Ends every invocation that runs until its time is over.
    stop: CancellationToken,
    reports: Reports,
}

/// How an invocation ended otherwise than with an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Invocation {
    #[error("there is no function {0}")]
    Unknown(String),
    #[error(transparent)]
    Failed(#[from] HandlerError),
    #[error("the function ran longer than its time-out of {0:?}")]
    TimedOut(Duration),
    #[error("the function panicked: its log says where")]
    Panicked,
    #[error(transparent)]
    Uninvoked(#[from] Uninvoked),
}

impl Invocation {
    /// The function never had the event, or its host ends it: AWS spends no try on that [L5].
    pub(crate) fn spends_no_try(&self) -> bool {
        matches!(self, Invocation::Uninvoked(Uninvoked::Throttled(_) | Uninvoked::Stopped))
    }

    /// What Lambda answers for a call that failed: the function's own error as it is, else `errorType` and `errorMessage`.
    pub(crate) fn error(&self) -> Value {
        let kind = match self {
            Invocation::Uninvoked(Uninvoked::Failed(runtime::Failed::Reported(error))) => return error.clone(),
            Invocation::Failed(problem) => problem.kind(),
            Invocation::TimedOut(_) => "Sandbox.Timedout",
            Invocation::Unknown(_) | Invocation::Panicked | Invocation::Uninvoked(_) => "Runtime.Error",
        };
        let text = self.to_string();
        // Lambda's own errors begin with their kind.
        let (kind, text) = match text.split_once(": ") {
            Some((kind, text)) if matches!(self, Invocation::Uninvoked(_)) => (kind, text),
            _ => (kind, text.as_str()),
        };
        json!({ "errorType": kind, "errorMessage": text })
    }
}

impl Functions {
    /// `world` lends its backends; the settings are each function's own. `processes` by logical id: none, or all.
    pub(crate) fn build(
        template: &template::Template,
        world: &App,
        mqtt: Endpoint,
        floor: Floor,
        stop: CancellationToken,
        mut processes: BTreeMap<String, Pool>,
    ) -> Result<Functions, Failure> {
        let mut by_id = BTreeMap::new();
        for function in &template.functions {
            let code = match function.binary.as_str() {
                "schedule" => Code::Schedule,
                "batch" => Code::Batch,
                "realtime" => Code::Realtime,
                "stream" => Code::Stream,
                "express" => Code::Express,
                "deliver" => Code::Deliver,
                "redrive" => Code::Redrive,
                "control" => Code::Control,
                other => {
                    return Err(Failure::new(format!(
                        "template: function {} builds the binary {other:?}, which this program does not have",
                        function.logical_id
                    )));
                }
            };
            let mut settings = Settings::parse(&function.environment)
                .map_err(|e| Failure::new(format!("template: function {}: environment {e}", function.logical_id)))?;
            let (id, timeout) = (function.logical_id.clone(), function.timeout);
            let processes = processes.remove(&id);
            if processes.is_none() {
                // The template's is the pace at one environment of many; this process is all of them, and has one of its own.
                settings.sender_pace = world.settings.sender_pace;
            }
            let app = App { settings: Arc::new(settings), ..world.clone() };
            by_id.insert(id, Arc::new(Function { app, code, timeout, processes }));
        }
        Ok(Functions { by_id: Arc::new(by_id), mqtt, floor, stop, reports: Reports::default() })
    }

    /// What the hourly function reports.
    pub(crate) fn reports(&self) -> Reports {
        self.reports.clone()
    }

    /// The App of the function that runs `binary`'s role for operator commands.
    pub(crate) fn app_of(&self, logical_id: &str) -> Option<&App> {
        self.by_id.get(logical_id).map(|function| &function.app)
    }

    /// Ends the processes, if there are any.
    pub(crate) async fn end(&self) {
        let pools = self.by_id.values().filter_map(|function| function.processes.as_ref());
        futures::future::join_all(pools.map(Pool::end)).await;
    }

    /// Runs the handler to its end, bounded by the function's time-out.
    pub(crate) async fn invoke(&self, logical_id: &str, event: Value) -> Result<Value, Invocation> {
        let function = self.by_id.get(logical_id).ok_or_else(|| Invocation::Unknown(logical_id.to_owned()))?;
        let answer = match &function.processes {
            Some(processes) => match processes.invoke(&event).await {
                // Delivery goes on until the system stops: that is its end, and no failure.
                Err(Uninvoked::Stopped) if matches!(function.code, Code::Deliver) => json!({ "outcome": "delivered" }),
                answer => answer?,
            },
            None => self.handle(function, event).await?,
        };
        if matches!(function.code, Code::Redrive) {
            self.reports.made(&answer);
        }
        Ok(answer)
    }

    /// In this process.
    async fn handle(&self, function: &Function, event: Value) -> Result<Value, Invocation> {
        let app = &function.app;
        let answer = async {
            if let Some(answer) = warm::answered(app, &event).await {
                return Ok(answer);
            }
            match function.code {
                Code::Schedule => schedule::handle(app, event).await,
                Code::Batch => batch::handle(app, event).await,
                Code::Realtime => realtime::handle(app, event).await,
                Code::Stream => stream::handle(app, event).await,
                Code::Express => {
                    // What came over MQTT was let in at its gate.
                    if event.get("requestContext").is_some()
                        && let Err(problem) = self.floor.check()
                    {
                        let answer = express::unavailable(&[], &problem);
                        return serde_json::to_value(answer).map_err(HandlerError::from);
                    }
                    let answer = express::handle(app, event).await?;
                    for confirmation in answer.confirmations {
                        self.mqtt.publish(&confirmation.topic, confirmation.payload).await;
                    }
                    Ok(answer.response)
                }
                Code::Deliver => {
                    let stop = self.stop.child_token();
                    let _ends = ends_after(&stop, function.timeout.saturating_sub(DELIVER_MARGIN));
                    deliver::handle(app, event, stop.clone()).await
                }
                Code::Redrive => redrive::handle(app, event).await,
                Code::Control => control::handle(app, event).await,
            }
        };
        in_time(function.timeout, answer).await
    }

    /// As `invoke`, with the records of a stream. They are many and their event is large, so that the handler which reads them
    /// gets them as they are; for any other they become the JSON that AWS sends.
    pub(crate) async fn invoke_with_records(&self, logical_id: &str, event: KinesisEvent) -> Result<Value, Invocation> {
        match self.by_id.get(logical_id) {
            Some(function) if matches!(function.code, Code::Stream) && function.processes.is_none() => {
                let answer = async { Ok(serde_json::to_value(stream::readings(&function.app, event).await)?) };
                in_time(function.timeout, answer).await
            }
            _ => {
                let event = serde_json::to_value(event).map_err(HandlerError::from)?;
                self.invoke(logical_id, event).await
            }
        }
    }
}

async fn in_time<T>(time: Duration, answer: impl Future<Output = Result<T, HandlerError>>) -> Result<T, Invocation> {
    // A panic ends one call, as on Lambda, and not the source that made it. What a handler shares is behind locks that none holds
    // while another waits.
    match tokio::time::timeout(time, AssertUnwindSafe(answer).catch_unwind()).await {
        Ok(Ok(answer)) => Ok(answer?),
        Ok(Err(_)) => Err(Invocation::Panicked),
        Err(_) => Err(Invocation::TimedOut(time)),
    }
}

/// Cancels `stop` after `time`, unless the guard is dropped before.
fn ends_after(stop: &CancellationToken, time: Duration) -> impl Drop + use<> {
    let stop = stop.clone();
    let timer = tokio::spawn(async move {
        tokio::time::sleep(time).await;
        stop.cancel();
    });
    AbortOnDrop(timer)
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use streammanager::error::BackendError;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn l5_a_handler_that_panics_fails_its_call_alone() {
        let time = Duration::from_secs(3);
        let panics = in_time::<()>(time, async { panic!("on purpose") }).await;
        assert!(matches!(panics, Err(Invocation::Panicked)), "{panics:?}");
        let hangs = in_time::<()>(time, std::future::pending()).await;
        assert!(matches!(hangs, Err(Invocation::TimedOut(after)) if after == time), "{hangs:?}");
        assert_eq!(in_time(time, async { Ok(7) }).await.unwrap(), 7);
    }

    #[test]
    fn l5_a_failed_call_is_told_as_lambda_tells_it() {
        let request = "7".to_owned();
        let own = json!({ "errorType": "Retry", "errorMessage": "the store is away", "stackTrace": [] });
        let of = |failed| Invocation::Uninvoked(Uninvoked::Failed(failed)).error();
        assert_eq!(of(runtime::Failed::Reported(own.clone())), own);
        let after = Duration::from_secs(3);
        for (problem, kind, text) in [
            (
                of(runtime::Failed::TimedOut { request: request.clone(), after }),
                "Sandbox.Timedout",
                "RequestId: 7 Error: Task timed out after 3.00 seconds",
            ),
            (
                of(runtime::Failed::Exited { request: request.clone(), how: "with error: exit status 1".into() }),
                "Runtime.ExitError",
                "RequestId: 7 Error: Runtime exited with error: exit status 1",
            ),
            (
                of(runtime::Failed::OutOfMemory { request }),
                "Runtime.OutOfMemory",
                "RequestId: 7 Error: Runtime exited with error: signal: killed",
            ),
            (
                Invocation::TimedOut(after).error(),
                "Sandbox.Timedout",
                "the function ran longer than its time-out of 3s",
            ),
            (
                Invocation::Failed(BackendError::Retry("the store is away".into()).into()).error(),
                "Retry",
                "the store is away",
            ),
        ] {
            assert_eq!(problem, json!({ "errorType": kind, "errorMessage": text }));
        }
    }
}
