//! What `up` is told; the command line parses it.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use streammanager::sink::Kind;

/// What the system writes to [K1].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The Kafka endpoint built into `up`, on this port of 127.0.0.1.
    Embedded(u16),
    /// Kafka's brokers that run already: HOST:PORT with commas between.
    Brokers(String),
    /// Kinesis, or who speaks like it: its URL.
    Kinesis(String),
}

impl Destination {
    /// What it is.
    pub(crate) fn sink(&self) -> Kind {
        match self {
            Destination::Embedded(_) | Destination::Brokers(_) => Kind::Kafka,
            Destination::Kinesis(_) => Kind::Kinesis,
        }
    }
}

/// What runs the template's functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runtime {
    /// Their handlers, in this process.
    InProcess,
    /// Their binaries, over the Lambda Runtime API.
    Process {
        /// Where the binaries are.
        functions: PathBuf,
    },
}

/// How the system of this host is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Made-up sources, sensors and senders.
    pub demo: bool,
    /// The SAM template, instead of the one in this program.
    pub template: Option<PathBuf>,
    /// The streams file, instead of the one in this program.
    pub streams: Option<PathBuf>,
    /// Data folder: queues, state, dead letters, the embedded Kafka endpoint's topics.
    pub data: PathBuf,
    /// HOST:PORT of the HTTP API.
    pub http: String,
    /// Where others reach the HTTP API, if elsewhere than at its own address.
    pub public_url: Option<String>,
    /// HOST:PORT of the MQTT endpoint.
    pub mqtt: String,
    /// Alerts a second that this host takes of each sender, over HTTP and MQTT together; without it as many as come.
    pub sender_pace: Option<NonZeroU32>,
    /// Alerts and their confirmations may be read over MQTT without a name.
    pub mqtt_open_alerts: bool,
    /// What the system writes to.
    pub destination: Destination,
    /// `embedded`, or the URL of an AWS endpoint for queues, state and stored bytes.
    pub aws: String,
    /// Kafka and LocalStack in containers of this host take the place of `destination` and `aws`.
    pub docker: bool,
    /// What runs the functions.
    pub runtime: Runtime,
    /// Base URL of the FIRMS service, instead of the template's.
    pub upstream: Option<String>,
    /// Begins every topic's name, instead of the template's.
    pub topic_prefix: Option<String>,
    /// Consumer groups whose reading is watched, instead of the template's.
    pub consumer_groups: Option<String>,
    /// The system stops by itself after this time.
    pub duration: Option<Duration>,
    /// Every line is a JSON object: the start, each change of state and heartbeat, the ledger at the end.
    pub json: bool,
}

impl Options {
    /// Where others reach the HTTP API that listens `at` this address.
    pub(crate) fn public_url(&self, at: SocketAddr) -> String {
        self.public_url.clone().unwrap_or_else(|| reached(at))
    }
}

/// Nobody can go to 0.0.0.0: this host is meant.
fn reached(at: SocketAddr) -> String {
    if at.ip().is_unspecified() { format!("http://localhost:{}", at.port()) } else { format!("http://{at}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k5_an_address_that_stands_for_all_of_a_host_is_named_as_one_that_can_be_reached() {
        for (at, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("0.0.0.0:8080", "http://localhost:8080"),
            ("[::]:80", "http://localhost:80"),
            ("[::1]:80", "http://[::1]:80"),
        ] {
            assert_eq!(reached(at.parse().unwrap()), url);
        }
    }
}
