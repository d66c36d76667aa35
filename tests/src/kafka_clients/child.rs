//! The embedded endpoint as a process of its own, so that it can be killed in the middle of its work.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::target::Target;

pub struct EndpointProcess {
    pub target: Target,
    child: Child,
}

impl EndpointProcess {
    /// Returns once it listens.
    pub fn start(folder: &Path, port: u16) -> Self {
        let address = format!("127.0.0.1:{port}");
        let mut child = Command::new(program())
            .arg(folder)
            .arg(&address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program().display()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("its output is text");
        assert_eq!(line, "ready\n", "the endpoint did not start");
        Self { target: Target { address }, child }
    }

    /// SIGKILL: nothing of it runs any more.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }
}

impl Drop for EndpointProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// target/debug/deps/kafka_clients-0123456789abcdef → target/debug/examples/kafka_endpoint
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.parent().and_then(Path::parent).expect("cargo puts test binaries into deps/");
    let program = profile.join("examples").join(format!("kafka_endpoint{}", std::env::consts::EXE_SUFFIX));
    assert!(program.is_file(), "{} is not built: cargo build --workspace --all-features --examples", program.display());
    program
}
