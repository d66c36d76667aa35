//! What `up` is told; the command line parses it.

use std::collections::BTreeMap;
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
    /// The template's parameters that these options decide.
    pub(crate) fn parameters(&self) -> BTreeMap<String, String> {
        let sink = match &self.destination {
            // The sink itself makes what is missing.
            Destination::Kinesis(_) => [("Sink", "kinesis"), ("SinkStreams", "existing")],
            Destination::Embedded(_) | Destination::Brokers(_) => {
                [("KafkaBrokers", "127.0.0.1:9092"), ("KafkaSecurity", "plaintext")]
            }
        };
        // Handlers use this host's network. Its MQTT endpoint is its own, and of brokers that it shares it is told with --topic-prefix.
        let host = [("Network", "none"), ("StageInTopics", "never")];
        let parameters = sink.into_iter().chain(host).map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut parameters: BTreeMap<String, String> = parameters.collect();
        // The template's own pace is that of one environment of many.
        let pace = self.sender_pace.map_or(0, NonZeroU32::get);
        parameters.insert("SenderAlertsPerSecond".to_owned(), pace.to_string());
        if let Some(prefix) = &self.topic_prefix {
            parameters.insert("TopicPrefix".to_owned(), prefix.clone());
        }
        if let Some(groups) = &self.consumer_groups {
            parameters.insert("ConsumerGroups".to_owned(), groups.clone());
        }
        parameters
    }

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
    fn a3_without_a_pace_of_its_own_no_process_has_the_templates() {
        let options = |sender_pace| Options {
            demo: false,
            template: None,
            streams: None,
            data: "data".into(),
            http: String::new(),
            public_url: None,
            mqtt: String::new(),
            sender_pace,
            mqtt_open_alerts: false,
            destination: Destination::Embedded(0),
            aws: "embedded".into(),
            docker: false,
            runtime: Runtime::InProcess,
            upstream: None,
            topic_prefix: None,
            consumer_groups: None,
            duration: None,
            json: false,
        };
        for (pace, told) in [(None, "0"), (NonZeroU32::new(7), "7")] {
            let template = crate::template::built_in(&options(pace).parameters()).unwrap();
            let express = template.functions.iter().find(|function| function.binary == "express").unwrap();
            assert_eq!(express.environment["SENDER_ALERTS_PER_SECOND"], told);
        }
    }

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
