//! The broker that `up` delivers to, and what can be done to it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::relay::{Relay, listens};
use crate::system::{Start, System, signal};
use crate::{free_port, workspace};

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The built-in endpoint of the system itself: a kill is its kill too.
    Inside,
    /// The built-in endpoint of another process.
    Beside,
    /// Apache Kafka, behind a relay.
    Kafka,
}

/// A real broker starts in seconds.
const PATIENCE: Duration = Duration::from_secs(60);

pub enum Broker {
    Inside { port: u16 },
    Beside { start: Box<Start>, system: Option<System> },
    Kafka { folder: PathBuf, port: u16, process: Option<Child>, relay: Relay },
}

impl Broker {
    pub fn start(which: Which, folder: &Path) -> Broker {
        let mut broker = match which {
            Which::Inside => Broker::Inside { port: free_port() },
            Which::Beside => Broker::Beside { start: Start::quiet(&folder.join("broker")).into(), system: None },
            Which::Kafka => {
                let (port, relay) = (pair(), free_port());
                let relay = Relay::start(relay, port);
                Broker::Kafka { folder: folder.join("kafka"), port, process: None, relay }
            }
        };
        broker.come_back();
        broker
    }

    /// What `up --kafka` is told.
    pub fn told(&self) -> String {
        match self {
            Broker::Inside { port } => format!("embedded:{port}"),
            _ => self.address(),
        }
    }

    /// Where consumers find it.
    pub fn address(&self) -> String {
        match self {
            Broker::Inside { port } => format!("127.0.0.1:{port}"),
            Broker::Beside { start, .. } => start.kafka.replace("embedded", "127.0.0.1"),
            Broker::Kafka { relay, .. } => format!("127.0.0.1:{}", relay.port),
        }
    }

    pub fn relay(&self) -> Option<&Relay> {
        match self {
            Broker::Kafka { relay, .. } => Some(relay),
            _ => None,
        }
    }

    /// `kill -9`; one inside `up` goes with it.
    pub fn kill(&mut self) {
        match self {
            Broker::Inside { .. } => {}
            Broker::Beside { system, .. } => drop(system.take()),
            Broker::Kafka { process, .. } => process.take().into_iter().for_each(end),
        }
    }

    /// Returns once it listens.
    pub fn come_back(&mut self) {
        match self {
            Broker::Inside { .. } => {}
            Broker::Beside { start, system } => *system = Some(System::up(start)),
            Broker::Kafka { folder, port, process, relay } => {
                let mut command = Command::new(workspace().join("tests/services/kafka"));
                command.arg("run").arg(&*folder).args([port.to_string(), relay.port.to_string()]);
                *process = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the script runs"));
                assert!(listens(*port, PATIENCE), "Apache Kafka does not start: see {}", folder.display());
            }
        }
    }

    /// `-STOP` or `-CONT`.
    pub fn signal(&self, name: &str) {
        match self {
            Broker::Beside { system: Some(system), .. } => system.signal(name),
            Broker::Kafka { process: Some(process), .. } => signal(process, name),
            _ => {}
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn end(mut process: Child) {
    process.kill().expect("it is our own process");
    process.wait().expect("it has ended");
}

/// A port that is free together with the one after it.
fn pair() -> u16 {
    let first = free_port();
    if free_port() == first + 1 { first } else { pair() }
}
