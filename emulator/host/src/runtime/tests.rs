//! Environments of small functions that misbehave, written for a shell.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use tempfile::TempDir;

use super::*;

/// Asks for the next event; `line` is then the answer's first line, `id` the invocation's.
const NEXT: &str = r#"
exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}"
next() {
  printf 'GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: lambda\r\n\r\n' >&3
  while IFS=$'\r' read -r line _ <&3 && [ -n "$line" ]; do
    echo "$line"
    case $line in lambda-runtime-aws-request-id:*) id=${line#*: } ;; content-length:*) length=${line#*: } ;; esac
  done
  IFS= read -r -N "$length" event <&3
}
# answer BYTES-OF-A-NUMBER
answer() {
  printf 'POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nhost: lambda\r\ncontent-length: %s\r\n\r\n' "$id" "$1" >&3
  head -c "$1" /dev/zero | tr '\0' 7 >&3
  while IFS=$'\r' read -r line _ <&3 && [ -n "$line" ]; do
    case $line in content-length:*) IFS=: read -r _ length <<<"$line" ;; esac
  done
  IFS= read -r -N "$((length))" said <&3
}
"#;

struct Scripted {
    function: Function,
    printed: Arc<Mutex<Vec<String>>>,
    _folder: TempDir,
}

fn scripted(body: &str) -> Scripted {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("bootstrap");
    std::fs::write(&program, format!("#!/bin/bash\n{NEXT}\n{body}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let function = Function {
        name: "test-dev-scripted".into(),
        region: "us-west-2".into(),
        account: "000000000000".into(),
        program,
        environment: [("OWN".to_owned(), "yes".to_owned())].into(),
        memory: 128,
    };
    Scripted { function, printed: Arc::default(), _folder: folder }
}

impl Scripted {
    async fn start_within(&self, init: Duration) -> Result<Environment, NotInitialised> {
        let printed = self.printed.clone();
        let output = Output::Lines(Arc::new(move |line| printed.lock().push(line.to_owned())));
        Environment::start(&self.function, Start::OnDemand, output, init).await
    }

    async fn start(&self) -> Environment {
        self.start_within(Duration::from_secs(60)).await.unwrap_or_else(|e| panic!("{e}: {:?}", self.printed.lock()))
    }
}

const LONG: Duration = Duration::from_secs(60);

/// The state letter of `/proc/PID/stat`.
fn state(id: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('-')
}

async fn comes_to(id: u32, wanted: char) {
    for _ in 0..2_000 {
        if state(id) == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the process is {:?}, not {wanted:?}", state(id));
}

#[tokio::test]
async fn l3_a_process_is_told_what_lambda_tells_and_nothing_of_this_one() {
    let scripted = scripted("env; next; echo \"event $event\"; answer 1; next");
    let environment = scripted.start().await;
    assert_eq!(environment.invoke(&json!({ "a": 1 }), LONG).await, Ok(json!(7)));
    environment.terminate().await;
    let printed = scripted.printed.lock().clone();
    let said = |line: &str| printed.iter().any(|printed| printed.starts_with(line));
    for line in [
        "OWN=yes",
        "AWS_LAMBDA_FUNCTION_NAME=test-dev-scripted",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128",
        "AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
        "AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/test-dev-scripted",
        "AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
        "AWS_REGION=us-west-2",
        "LAMBDA_TASK_ROOT=/",
        "TZ=:UTC",
        "HTTP/1.1 200",
        "lambda-runtime-aws-request-id: ",
        "lambda-runtime-deadline-ms: ",
        "lambda-runtime-invoked-function-arn: arn:aws:lambda:us-west-2:000000000000:function:test-dev-scripted",
        "lambda-runtime-trace-id: Root=1-",
        "event {\"a\":1}",
    ] {
        assert!(said(line), "{line:?} was not printed: {printed:#?}");
    }
    for name in ["HOME=", "CARGO", "USER="] {
        assert!(!said(name), "{name} is this process's own: {printed:#?}");
    }
}

#[tokio::test]
async fn l5_a_process_that_ends_hangs_or_grows_fails_its_invocation_as_on_aws() {
    for (body, time, wanted) in [
        ("exit 7", LONG, "Error: Runtime exited with error: exit status 7"),
        ("exit 0", LONG, "Error: Runtime exited without providing a reason"),
        ("kill -KILL $$", LONG, "Error: Runtime exited with error: signal: killed"),
        ("sleep 600", Duration::from_millis(300), "Error: Task timed out after 0.30 seconds"),
        ("eaten=$(head -c 300000000 /dev/zero | tr '\\0' 7); sleep 600", LONG, "Runtime.OutOfMemory: "),
    ] {
        let scripted = scripted(&format!("next; {body}"));
        let environment = scripted.start().await;
        let id = environment.id();
        let failed = environment.invoke(&json!({}), time).await.unwrap_err();
        assert!(failed.to_string().contains(wanted), "{body}: {failed}");
        assert!(environment.has_ended() && ['-', 'X'].contains(&state(id)), "{body}: it lives on as {:?}", state(id));
    }
}

#[tokio::test]
async fn l5_an_initialisation_that_ends_or_never_does_is_named() {
    let ended = scripted("echo no luck; exit 3").start_within(LONG).await.unwrap_err();
    assert_eq!(ended.to_string(), "Runtime.ExitError: Runtime exited with error: exit status 3");
    let says = r#"
exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}"
printf 'POST /2018-06-01/runtime/init/error HTTP/1.1\r\nhost: lambda\r\ncontent-type: application/json\r\nlambda-runtime-function-error-type: Runtime.NoTable\r\ncontent-length: %s\r\n\r\n%s' "${#error}" "$error" >&3
sleep 600"#;
    for (error, wanted) in [
        (r#"{"errorType":"NoTable","errorMessage":"there is no table"}"#, "NoTable: there is no table"),
        (r#"{"errorMessage":"there is no table"}"#, "Runtime.NoTable: there is no table"),
    ] {
        let gave_up = scripted(&format!("error='{error}'\n{says}")).start_within(LONG).await.unwrap_err();
        assert_eq!(gave_up.to_string(), wanted);
    }
    let mut gone = scripted("sleep 600");
    gone.function.program = gone.function.program.with_file_name("gone");
    let gone = gone.start_within(LONG).await.unwrap_err().to_string();
    assert!(gone.ends_with("gone is not there"), "{gone}");
    let hangs = scripted("sleep 600").start_within(Duration::from_millis(300)).await.unwrap_err();
    assert!(hangs.to_string().contains("did not end within 300ms"), "{hangs}");
}

#[tokio::test]
async fn l5_events_and_answers_are_bounded_as_on_aws() {
    let scripted = scripted("next; answer 7000000; echo \"said $said\"; next; answer 6291556; next");
    let environment = scripted.start().await;
    let failed = environment.invoke(&json!({}), LONG).await.unwrap_err();
    let wanted =
        "Function.ResponseSizeTooLarge: Response payload size exceeded maximum allowed payload size (6291556 bytes).";
    assert_eq!(failed.to_string(), wanted);
    environment.idle().await;
    let refused = scripted.printed.lock().iter().any(|line| line.contains("RequestEntityTooLarge"));
    assert!(refused, "the function hears it too: {:?}", scripted.printed.lock());
    let event = json!("x".repeat(6_291_456));
    assert_eq!(environment.invoke(&event, LONG).await, Err(Failed::RequestTooLarge));
    // What fits is a number of six million digits: too large for a JSON reader, so not an answer, but no longer refused.
    let read = environment.invoke(&json!({}), LONG).await.unwrap_err();
    assert!(read.to_string().starts_with("Runtime.InvalidResponse"), "{read}");
}

#[tokio::test]
async fn l3_a_frozen_environment_gets_no_time_and_goes_on_where_it_was() {
    let scripted = scripted("next; answer 1; next; answer 1; next");
    let environment = scripted.start().await;
    assert_eq!(environment.invoke(&json!({}), LONG).await, Ok(json!(7)));
    environment.idle().await;
    environment.freeze();
    comes_to(environment.id(), 'T').await;
    environment.thaw();
    assert_eq!(environment.invoke(&json!({}), LONG).await, Ok(json!(7)));
    environment.idle().await;
    environment.freeze();
    comes_to(environment.id(), 'T').await;
    assert!(!environment.terminate().await.success(), "SIGTERM reaches one that is frozen");
}

#[tokio::test]
async fn l3_a_process_ends_with_its_owner() {
    let scripted = scripted("next; sleep 600");
    let environment = scripted.start().await;
    let id = environment.id();
    drop(environment);
    for _ in 0..2_000 {
        if ['-', 'X'].contains(&state(id)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the process is still {:?}", state(id));
}
