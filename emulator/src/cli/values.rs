//! Values of flags, checked as they are read: a wrong one is wrong usage. Nothing here opens or reaches anything.

use std::str::FromStr;

/// The embedded Kafka endpoint listens here if no port is named.
const KAFKA_PORT: u16 = 9092;

/// Which Kafka `--kafka` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kafka {
    /// The endpoint built into `up`, on this port of 127.0.0.1.
    Embedded(u16),
    /// Brokers that run already: HOST:PORT with commas between.
    Brokers(String),
}

impl FromStr for Kafka {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Kafka, &'static str> {
        let wrong = "write embedded, embedded:PORT or HOST:PORT, several with commas between";
        match text.strip_prefix("embedded") {
            Some("") => Ok(Kafka::Embedded(KAFKA_PORT)),
            Some(rest) if rest.starts_with(':') => rest[1..].parse().map(Kafka::Embedded).map_err(|_| wrong),
            _ if text.split(',').all(is_address) => Ok(Kafka::Brokers(text.to_owned())),
            _ => Err(wrong),
        }
    }
}

/// Brokers as a client needs them: what is embedded in `up` is reached on this host.
pub(super) fn brokers(text: &str) -> Result<String, &'static str> {
    Ok(match text.parse()? {
        Kafka::Embedded(port) => format!("127.0.0.1:{port}"),
        Kafka::Brokers(brokers) => brokers,
    })
}

pub(super) fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}
