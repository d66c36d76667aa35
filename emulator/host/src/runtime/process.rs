//! The process of one environment: what it is started with, its signals, its memory, what it prints, and its end.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};

use rustix::process::{Pid, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::runtime::Handle as RuntimeHandle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::limits::{LAST_WORDS, MEASURED};
use super::{Function, Start, api};

/// Part of util-linux. It asks the kernel to kill the process with the thread that started it (`PR_SET_PDEATHSIG`), which
/// Rust cannot do in the child without unsafe code.
const SETPRIV: &str = "setpriv";

/// Where goes what a process prints, both standard output and standard error.
pub enum Output {
    /// Into a file, by the process itself.
    File(File),
    /// Line by line to this.
    Lines(Arc<dyn Fn(&str) + Send + Sync>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Stop,
    Continue,
    Terminate,
    Kill,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// It was killed for its memory.
    pub(super) over_memory: bool,
}

/// Killed when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    handle: Handle,
    _end: DropGuard,
}

/// Speaks with the one task that owns the child, so that no signal goes to a later process with its number.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    id: u32,
    signals: mpsc::UnboundedSender<Signal>,
    ended: watch::Receiver<Option<Ended>>,
}

impl Process {
    pub(super) async fn start(function: &Function, start: Start, api: &str, output: Output) -> Result<Process, String> {
        let program = function.program.display();
        if !function.program.is_file() {
            return Err(format!("{program} is not there"));
        }
        let failed = |e: std::io::Error| format!("{program} cannot be started: {e}");
        let mut command = command(function, start, api);
        let printed = match output {
            Output::File(file) => {
                command.stdout(file.try_clone().map_err(failed)?).stderr(file);
                None
            }
            Output::Lines(line) => {
                let (reader, writer) = std::io::pipe().map_err(failed)?;
                command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
                Some(tokio::spawn(read(reader.into(), line)))
            }
        };
        let child = spawned(command).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => format!("{SETPRIV} is not installed: it is part of util-linux"),
            _ => failed(e),
        })?;
        let id = child.id().ok_or_else(|| format!("{program} ended at once"))?;
        let (signals, wanted) = mpsc::unbounded_channel();
        let (say, ended) = watch::channel(None);
        let end = CancellationToken::new();
        let limit = u64::from(function.memory) << 20;
        let keeper = Keeper { child, id, wanted, end: end.clone(), limit, printed };
        tokio::spawn(async move { say.send_replace(Some(keeper.keep().await)) });
        Ok(Process { handle: Handle { id, signals, ended }, _end: end.drop_guard() })
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Handle {
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Signals arrive in the order in which they are sent.
    pub(super) fn signal(&self, signal: Signal) {
        // Without a receiver it has ended.
        let _ = self.signals.send(signal);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    pub(super) async fn ended(&mut self) -> Ended {
        let ended = self.ended.wait_for(Option::is_some).await.ok().and_then(|ended| *ended);
        // The keeper says it before it goes, unless the whole runtime ends.
        ended.unwrap_or(Ended { status: ExitStatus::from_raw(Signal::Kill.number().as_raw()), over_memory: false })
    }
}

impl Signal {
    fn number(self) -> rustix::process::Signal {
        match self {
            Signal::Stop => rustix::process::Signal::STOP,
            Signal::Continue => rustix::process::Signal::CONT,
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        }
    }
}

/// Owns the child until its end.
struct Keeper {
    child: Child,
    id: u32,
    wanted: mpsc::UnboundedReceiver<Signal>,
    end: CancellationToken,
    /// Bytes of resident memory.
    limit: u64,
    printed: Option<JoinHandle<()>>,
}

impl Keeper {
    async fn keep(mut self) -> Ended {
        let (mut frozen, mut over_memory) = (false, false);
        let mut measured = interval(MEASURED);
        let status = loop {
            tokio::select! { biased;
                status = self.child.wait() => break status,
                () = self.end.cancelled() => {
                    self.send(Signal::Kill);
                    break self.child.wait().await;
                }
                Some(signal) = self.wanted.recv() => {
                    match signal {
                        Signal::Stop => frozen = true,
                        Signal::Continue => frozen = false,
                        Signal::Terminate | Signal::Kill => {}
                    }
                    self.send(signal);
                }
                _ = measured.tick(), if !frozen && !over_memory => {
                    over_memory = resident(self.id).is_some_and(|bytes| bytes > self.limit);
                    if over_memory {
                        self.send(Signal::Kill);
                    }
                }
            }
        };
        if let Some(printed) = self.printed {
            let _ = timeout(LAST_WORDS, printed).await;
        }
        // Waiting fails for a child that somebody else has reaped; nobody does.
        let status = status.unwrap_or_default();
        Ended { status, over_memory }
    }

    /// The child was not waited for yet, so that its number is its own.
    fn send(&self, signal: Signal) {
        if let Some(process) = i32::try_from(self.id).ok().and_then(Pid::from_raw) {
            let _ = kill_process(process, signal.number());
        }
    }
}

/// Nothing of this process's own environment, but what Lambda sets as well.
fn command(function: &Function, start: Start, api: &str) -> Command {
    let Function { name, region, program, memory, .. } = function;
    let folder = program.parent().unwrap_or(Path::new("/"));
    let kind = match start {
        Start::OnDemand => "on-demand",
        Start::Provisioned => "provisioned-concurrency",
    };
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).current_dir(folder).env_clear();
    command.env("LAMBDA_TASK_ROOT", folder).env("LAMBDA_RUNTIME_DIR", "/var/runtime");
    command.envs([
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("LANG", "en_US.UTF-8"),
        ("TZ", ":UTC"),
        ("_HANDLER", "bootstrap"),
        ("AWS_REGION", region),
        ("AWS_DEFAULT_REGION", region),
        ("AWS_LAMBDA_RUNTIME_API", api),
        ("AWS_LAMBDA_FUNCTION_NAME", name),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &memory.to_string()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", kind),
        ("AWS_LAMBDA_LOG_GROUP_NAME", &format!("/aws/lambda/{name}")),
        ("AWS_LAMBDA_LOG_STREAM_NAME", &format!("[$LATEST]{}", Uuid::new_v4().simple())),
    ]);
    command.envs(&function.environment).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Starts the process from a thread that lives as long as this process: the kernel's signal comes when the *thread* ends
/// that has started a child, and tokio's threads come and go.
async fn spawned(command: Command) -> std::io::Result<Child> {
    type Wanted = (Command, RuntimeHandle, oneshot::Sender<std::io::Result<Child>>);
    static STARTER: OnceLock<std::sync::mpsc::Sender<Wanted>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (send, wanted) = std::sync::mpsc::channel::<Wanted>();
        std::thread::spawn(move || {
            for (mut command, runtime, child) in wanted {
                let _runtime = runtime.enter();
                let _ = child.send(command.spawn());
            }
        });
        send
    });
    let (child, started) = oneshot::channel();
    let gone = |_| std::io::Error::other("the thread that starts processes has ended");
    starter.send((command, RuntimeHandle::current(), child)).map_err(|_| gone(()))?;
    started.await.map_err(|_| gone(()))?
}

async fn read(from: OwnedFd, line: Arc<dyn Fn(&str) + Send + Sync>) {
    let Ok(from) = pipe::Receiver::from_owned_fd(from) else { return };
    let (mut from, mut bytes) = (BufReader::new(from), Vec::new());
    while from.read_until(b'\n', &mut bytes).await.is_ok_and(|read| read > 0) {
        line(String::from_utf8_lossy(&bytes).trim_end());
        bytes.clear();
    }
}

/// Bytes of resident memory, by the second figure of `/proc/PID/statm`.
pub(super) fn resident(id: u32) -> Option<u64> {
    let pages = std::fs::read_to_string(format!("/proc/{id}/statm")).ok()?;
    let pages: u64 = pages.split_whitespace().nth(1)?.parse().ok()?;
    (pages > 0).then(|| pages * rustix::param::page_size() as u64)
}

/// As Lambda tells the end of a process.
pub(super) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "without providing a reason".into(),
        (Some(code), _) => format!("with error: exit status {code}"),
        (None, Some(9)) => "with error: signal: killed".into(),
        (None, Some(15)) => "with error: signal: terminated".into(),
        (None, signal) => format!("with error: signal: {}", signal.unwrap_or_default()),
    }
}

pub(super) fn init_failure(reported: Option<&(String, Value)>, status: &ExitStatus) -> String {
    match reported {
        Some((kind, error)) if error["errorType"].is_null() && !kind.is_empty() => {
            format!("{kind}: {}", error["errorMessage"].as_str().unwrap_or_default())
        }
        Some((_, error)) => api::words(error),
        None => format!("Runtime.ExitError: Runtime exited {}", how(*status)),
    }
}
