//! Rules of Lambda's execution environments and their Runtime API: the check plays the runtime, in the place of a process that
//! does nothing but say where the API is.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use streammanager::time::Clock;
use streammanager_host::runtime::{Environment, Failed, Function, NotInitialised, Output, Start};
use streammanager_tests::system::client;
use tempfile::TempDir;

use super::case::{Case, Outcome, Unmet, cases, holds};

pub type Check = fn(()) -> BoxFuture<'static, Outcome>;

const API: &str = "https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html";
const LIFE: &str = "https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html";
const VARIABLES: &str = "https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html";
const LIMITS: &str = "https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html";
const TIMEOUT: &str = "https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html";

const LONG: Duration = Duration::from_secs(30);

/// The folder that the process writes its variables into.
#[derive(Clone)]
struct Process(Arc<TempDir>);

impl Process {
    fn new() -> Result<Process, Unmet> {
        let folder = tempfile::tempdir()?;
        let script =
            format!("#!/bin/sh\nenv > {0}/new && mv {0}/new {0}/env\nexec sleep 600\n", folder.path().display());
        let program = folder.path().join("bootstrap");
        std::fs::write(&program, script)?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
        Ok(Process(Arc::new(folder)))
    }

    fn function(&self) -> Function {
        Function {
            name: "lookout".into(),
            region: "us-west-2".into(),
            account: "000000000000".into(),
            program: self.0.path().join("bootstrap"),
            environment: BTreeMap::from([("OWN".to_owned(), "1".to_owned())]),
            memory: 256,
        }
    }

    async fn start(&self, init: Duration) -> Result<Environment, NotInitialised> {
        Environment::start(&self.function(), Start::OnDemand, Output::Lines(Arc::new(|_| {})), init).await
    }

    async fn variables(&self) -> Result<BTreeMap<String, String>, Unmet> {
        for _ in 0..500 {
            if let Ok(text) = std::fs::read_to_string(self.0.path().join("env")) {
                let pairs = text.lines().filter_map(|line| line.split_once('='));
                return Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err("the process did not start".into())
    }

    async fn url(&self, path: &str) -> Result<String, Unmet> {
        let variables = self.variables().await?;
        let at = variables.get("AWS_LAMBDA_RUNTIME_API").ok_or("there is no AWS_LAMBDA_RUNTIME_API")?;
        Ok(format!("http://{at}/2018-06-01/runtime/{path}"))
    }

    /// Asks for the next event, as soon as the process runs.
    async fn next(&self) -> Result<reqwest::Response, Unmet> {
        Ok(client().get(self.url("invocation/next").await?).send().await?)
    }

    /// Ends it from outside, as one that crashes.
    async fn end(&self) -> Outcome {
        let mine = std::fs::read_to_string(self.0.path().join("env"))?;
        let api = mine.lines().find(|line| line.starts_with("AWS_LAMBDA_RUNTIME_API=")).ok_or("it has no API")?;
        let id = std::fs::read_dir("/proc")?.flatten().find(|entry| {
            let read = |name| std::fs::read(entry.path().join(name)).unwrap_or_default();
            read("cmdline").starts_with(b"sleep") && String::from_utf8_lossy(&read("environ")).contains(api)
        });
        let id = id.ok_or("the process is not there")?.file_name();
        holds!(tokio::process::Command::new("kill").arg("-KILL").arg(id).status().await?.success());
        Ok(())
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Result<u16, Unmet> {
        Ok(client().post(self.url(path).await?).body(body).send().await?.status().as_u16())
    }
}

/// One invocation: the answer of the API to `next`, and what the check's runtime does with its request's id.
async fn invoked(
    time: Duration,
    answer: fn(Process, String) -> BoxFuture<'static, Outcome>,
) -> Result<(reqwest::header::HeaderMap, Value, Result<Value, Failed>), Unmet> {
    let process = Process::new()?;
    let play = async {
        let next = process.next().await?;
        let headers = next.headers().clone();
        let id = headers.get("lambda-runtime-aws-request-id").ok_or("no request id")?.to_str()?.to_owned();
        let event: Value = next.json().await?;
        answer(process.clone(), id).await?;
        Ok::<_, Unmet>((headers, event))
    };
    let invoke = async {
        let environment = process.start(LONG).await?;
        let answered = environment.invoke(&json!({ "n": 1 }), time).await;
        // It ends after the check is done with its Runtime API.
        Ok::<_, Unmet>((environment, answered))
    };
    let (played, answered) = tokio::join!(play, invoke);
    let (headers, event) = played?;
    Ok((headers, event, answered?.1))
}

fn answers(process: Process, id: String) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        holds!(process.post(&format!("invocation/{id}/response"), r#"{"done":true}"#).await?, 202);
        Ok(())
    })
}

async fn header(name: &str) -> Result<String, Unmet> {
    let (headers, ..) = invoked(LONG, answers).await?;
    Ok(headers.get(name).ok_or("the header is missing")?.to_str()?.to_owned())
}

/// The environment of a process that has asked for an event.
async fn variables() -> Result<BTreeMap<String, String>, Unmet> {
    let process = Process::new()?;
    tokio::select! {
        _ = process.next() => Err("there was an event".into()),
        started = process.start(LONG) => {
            let _environment = started?;
            process.variables().await
        }
    }
}

pub const CASES: &[Case<Check>] = cases![
    "runtime/event", API, "The answer to next has the event as its body.", |()| {
        holds!(invoked(LONG, answers).await?.1, json!({ "n": 1 }));
    }
    "runtime/response", API, "What the runtime posts to response is the function's answer.", |()| {
        let answered = invoked(LONG, answers).await?.2;
        holds!(answered.map_err(|failed| failed.to_string()), Ok(json!({ "done": true })));
    }
    "runtime/request-id", API, "The answer to next names the request in Lambda-Runtime-Aws-Request-Id.", |()| {
        holds!(header("lambda-runtime-aws-request-id").await?.len(), 36);
    }
    "runtime/request-ids-differ", API, "Each invocation has a request id of its own.", |()| {
        holds!(header("lambda-runtime-aws-request-id").await? != header("lambda-runtime-aws-request-id").await?);
    }
    "runtime/deadline", API, "Lambda-Runtime-Deadline-Ms is when the function times out, in milliseconds since 1970.", |()| {
        let at: i64 = header("lambda-runtime-deadline-ms").await?.parse()?;
        let left = at - Clock::system().now().as_millisecond();
        holds!((20_000..=30_000).contains(&left));
    }
    "runtime/function-arn", API, "Lambda-Runtime-Invoked-Function-Arn is the function's ARN.", |()| {
        holds!(header("lambda-runtime-invoked-function-arn").await?, "arn:aws:lambda:us-west-2:000000000000:function:lookout");
    }
    "runtime/trace-id", API, "Lambda-Runtime-Trace-Id has a root, a parent and whether the request is sampled.", |()| {
        let trace = header("lambda-runtime-trace-id").await?;
        holds!(trace.starts_with("Root=1-") && trace.contains(";Parent=") && trace.contains(";Sampled="));
    }
    "runtime/error", API, "What the runtime posts to error is accepted, and is the function's error.", |()| {
        const ERROR: &str = r#"{"errorMessage":"Error parsing event data.","errorType":"InvalidEventDataException"}"#;
        let answered = invoked(LONG, |process, id| Box::pin(async move {
            holds!(process.post(&format!("invocation/{id}/error"), ERROR).await?, 202);
            Ok(())
        })).await?.2;
        holds!(answered, Err(Failed::Reported(serde_json::from_str(ERROR)?)));
    }
    "runtime/unknown-request", API, "An answer to a request that is not under way is a 400.", |()| {
        let answered = invoked(LONG, |process, id| Box::pin(async move {
            holds!(process.post("invocation/00000000-0000-0000-0000-000000000000/response", "{}").await?, 400);
            answers(process, id).await
        })).await?.2;
        holds!(answered.is_ok());
    }
    "runtime/answered-once", API, "A request that was answered cannot be answered again.", |()| {
        let answered = invoked(LONG, |process, id| Box::pin(async move {
            answers(process.clone(), id.clone()).await?;
            holds!(process.post(&format!("invocation/{id}/response"), "{}").await?, 400);
            Ok(())
        })).await?.2;
        holds!(answered.map_err(|failed| failed.to_string()), Ok(json!({ "done": true })));
    }
    "runtime/init-error", API, "A runtime can say that its initialization failed, with a type of its own in a header.", |()| {
        let process = Process::new()?;
        let play = async {
            let post = client().post(process.url("init/error").await?).header("Lambda-Runtime-Function-Error-Type", "Runtime.ConfigInvalid");
            Ok::<_, Unmet>(post.body(r#"{"errorMessage":"no queue","errorType":"Config"}"#).send().await?.status().as_u16())
        };
        let (played, started) = tokio::join!(play, process.start(LONG));
        holds!(played?, 202);
        let Err(NotInitialised::Ended { reported, .. }) = started else { return Err("it is no failed initialization".into()) };
        let body = json!({ "errorMessage": "no queue", "errorType": "Config" });
        holds!(reported, Some(("Runtime.ConfigInvalid".to_owned(), body)));
    }
    "runtime/init-time", LIFE, "A function that has not asked for an event within the time of the init phase has not initialized.", |()| {
        let process = Process::new()?;
        holds!(matches!(process.start(Duration::from_secs(1)).await, Err(NotInitialised::TimedOut(_))));
    }
    "runtime/timeout", TIMEOUT, "A function that has not answered when its timeout is over is stopped, and has failed.", |()| {
        let (.., answered) = invoked(Duration::from_secs(1), |_, _| Box::pin(async { Ok(()) })).await?;
        holds!(matches!(answered, Err(Failed::TimedOut { .. })));
        holds!(answered.err().map(|failed| failed.to_string()).unwrap_or_default().contains("Task timed out after 1.00 seconds"));
    }
    "runtime/exit", LIFE, "A process that ends during an invocation is an error of the runtime.", |()| {
        let (.., answered) = invoked(LONG, |process, _| Box::pin(async move { process.end().await })).await?;
        holds!(answered.err().map(|failed| failed.to_string()).unwrap_or_default().starts_with("Runtime.ExitError"));
    }
    "runtime/request-size", LIMITS, "An event of more than 6 MB is refused.", |()| {
        let process = Process::new()?;
        let invoke = async {
            let environment = process.start(LONG).await?;
            Ok::<_, Unmet>(environment.invoke(&json!("x".repeat(6 * 1024 * 1024)), LONG).await)
        };
        let answered = tokio::select! {
            _ = process.next() => return Err("it was handed to the function".into()),
            answered = invoke => answered?,
        };
        holds!(answered, Err(Failed::RequestTooLarge));
    }
    "runtime/response-size", LIMITS, "An answer of more than 6 MB is refused, and the call has failed.", |()| {
        let (.., answered) = invoked(LONG, |process, id| Box::pin(async move {
            let large = format!("\"{}\"", "x".repeat(6 * 1024 * 1024 + 1_000));
            holds!(process.post(&format!("invocation/{id}/response"), large).await?, 413);
            Ok(())
        })).await?;
        holds!(matches!(answered, Err(Failed::Reported(error)) if error["errorType"] == "Function.ResponseSizeTooLarge"));
    }
    "runtime/variables", VARIABLES, "A function's process finds its name, memory, version and region in its environment.", |()| {
        let variables = variables().await?;
        for (name, value) in [
            ("AWS_LAMBDA_FUNCTION_NAME", "lookout"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_REGION", "us-west-2"),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ] {
            holds!((name, variables.get(name).map(String::as_str)), (name, Some(value)));
        }
    }
    "runtime/own-variables", VARIABLES, "A function's own variables are in its process's environment.", |()| {
        holds!(variables().await?.get("OWN").map(String::as_str), Some("1"));
    }
];
