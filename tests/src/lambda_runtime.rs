//! The Lambda binaries in an execution environment of Lambda's, one event at a time, for tests that end with what must not be.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;
use streammanager_host::runtime::{self, Environment, Failed, Output, Start};
use tempfile::TempDir;

use crate::lambda_binary;

/// A process says that it is ready, or ends, within this; AWS gives it 10 s, and these binaries are not optimised.
const INIT: Duration = Duration::from_secs(30);
/// In MiB. Binaries that are not optimised and carry their lines are larger than what is deployed.
const MEMORY: u32 = 512;

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
    environment: Environment,
    name: String,
    log: PathBuf,
    _folder: TempDir,
}

/// An invocation under way.
pub struct Begun {
    begun: runtime::Begun,
    log: PathBuf,
}

impl Begun {
    /// `None`: the function ended.
    ///
    /// # Panics
    /// When its deadline passes, as AWS then kills the function.
    pub async fn answer(self) -> Option<Answer> {
        match self.begun.answer().await {
            Ok(answer) => Some(Ok(answer)),
            Err(Failed::Reported(error)) => Some(Err(error)),
            Err(Failed::Exited { .. }) => None,
            Err(other) => panic!("{other}: {:?}", std::fs::read_to_string(&self.log)),
        }
    }
}

impl Function {
    /// The binary with `environment` and what Lambda itself sets, nothing of this process's own.
    pub async fn start(name: &str, environment: &[(String, String)]) -> Result<Function, NotInitialised> {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let function = runtime::Function {
            name: name.to_owned(),
            region: "us-west-2".into(),
            account: "000000000000".into(),
            program: lambda_binary(name),
            environment: environment.iter().cloned().collect(),
            memory: MEMORY,
        };
        let output = Output::File(File::create(&log).unwrap());
        match Environment::start(&function, Start::OnDemand, output, INIT).await {
            Ok(environment) => Ok(Function { environment, name: name.to_owned(), log, _folder: folder }),
            Err(runtime::NotInitialised::Ended { reported, status }) => {
                Err(NotInitialised { reported, status, log: std::fs::read_to_string(&log).unwrap() })
            }
            Err(other) => panic!("{name}: {other}: {}", std::fs::read_to_string(&log).unwrap()),
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
        Begun { begun: self.environment.begin(&event, time).await, log: self.log.clone() }
    }

    /// Its execution environment, to be frozen and thawed.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// SIGTERM, and how it ended.
    pub async fn terminate(self) -> ExitStatus {
        self.environment.terminate().await
    }

    /// Everything that it printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}
