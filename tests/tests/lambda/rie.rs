//! The same binaries under AWS's own stand-in for Lambda: what they speak is the Runtime API as AWS has it, not only as we do.

use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use streammanager::limits::DELIVER_MARGIN;
use streammanager_tests::system::client;
use streammanager_tests::{free_port, lambda_binary, rie, skip};

use crate::stack::Stack;
use crate::{FUNCTIONS, events, reading};

/// The emulator around one function; both end with it.
struct Emulator {
    child: Child,
    url: String,
}

impl Emulator {
    /// It starts the function when it is invoked.
    fn start(program: &std::path::Path, stack: &Stack, function: &str) -> Emulator {
        let (at, runtime) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let child = Command::new(program)
            .args(["--runtime-interface-emulator-address", &at, "--runtime-api-address", &runtime])
            .arg(lambda_binary(function))
            .env_clear()
            .envs(stack.environment(function))
            .env("AWS_LAMBDA_FUNCTION_NAME", function)
            .env("AWS_LAMBDA_FUNCTION_TIMEOUT", (DELIVER_MARGIN.as_secs() + 5).to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        for _ in 0..300 {
            if TcpStream::connect(&at).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Emulator { child, url: format!("http://{at}/2015-03-31/functions/function/invocations") }
    }

    async fn invoke(&self, event: &Value) -> Value {
        client().post(&self.url).json(event).send().await.unwrap().json().await.unwrap()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It leads a process group of its own; the function leads another one.
        let id = self.child.id().to_string();
        let children = Command::new("pgrep").args(["-P", &id]).output().unwrap();
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        let _ = Command::new("kill").arg("-KILL").args(children.split_whitespace()).arg(&id).status();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn l3_every_binary_answers_under_awss_own_emulator() {
    const WHAT: &str = "the runtime interface emulator";
    let Some(program) = rie() else { return skip(WHAT, "STREAMMANAGER_TEST_RIE is not set") };
    let Some(stack) = Stack::create(WHAT).await else { return };
    for function in FUNCTIONS {
        let tick = json!({ "stream": "nobody", "due_at": "2026-01-01T00:00:00Z" }).to_string();
        let (event, is_right): (Value, fn(&Value) -> bool) = match function {
            "schedule" => (events::schedule(), |answer| answer["ticks"] == 0),
            "batch" | "realtime" => {
                (events::sqs("ticks", &[("m-1", tick)]), |answer| answer["batchItemFailures"] == json!([]))
            }
            "stream" => (events::kinesis(&[("1", reading(1))]), |answer| answer["batchItemFailures"] == json!([])),
            "express" => (json!({ "keep_warm": true }), |answer| answer["warm"] == true),
            "deliver" => (events::schedule(), |answer| answer["outcome"] == "delivered"),
            "redrive" => (events::schedule(), |answer| answer["letters"] == 0),
            _ => (events::signed("GET", "/streams", None), |answer| answer["statusCode"] == 200),
        };
        let emulator = Emulator::start(&program, &stack, function);
        let answer = emulator.invoke(&event).await;
        assert!(is_right(&answer), "{function}: {answer}");
    }
    assert_eq!(stack.waiting("Normal").await, 0, "deliver, which came after stream, has sent its reading");
}
