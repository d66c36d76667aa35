//! Values of flags, checked as they are read: a wrong one is wrong usage. Nothing here opens or reaches anything.

use clap::builder::PossibleValuesParser;
use streammanager::sources;

/// The embedded Kafka endpoint listens here if no port is named.
const KAFKA_PORT: u16 = 9092;
const WRONG_KAFKA: &str = "write embedded, embedded:PORT or HOST:PORT, several with commas between";

/// The port of `embedded` or `embedded:PORT`; `None` for any other text.
fn embedded_port(text: &str) -> Option<Result<u16, &'static str>> {
    match text.strip_prefix("embedded")? {
        "" => Some(Ok(KAFKA_PORT)),
        rest => Some(rest.strip_prefix(':')?.parse().map_err(|_| WRONG_KAFKA)),
    }
}

/// Brokers as a client needs them: what is embedded in `up` is reached on this host.
pub(super) fn brokers(text: &str) -> Result<String, &'static str> {
    match embedded_port(text) {
        Some(port) => Ok(format!("127.0.0.1:{}", port?)),
        None if text.split(',').all(is_address) => Ok(text.to_owned()),
        None => Err(WRONG_KAFKA),
    }
}

/// The Kafka that `up` writes to.
#[cfg(feature = "up")]
pub(super) fn kafka(text: &str) -> Result<streammanager_host::up::Destination, &'static str> {
    use streammanager_host::up::Destination;
    match embedded_port(text) {
        Some(port) => port.map(Destination::Embedded),
        None => brokers(text).map(Destination::Brokers),
    }
}

pub(super) fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok())
}

/// Without the slash at its end.
pub(super) fn url(text: &str) -> Result<String, &'static str> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or_default();
    let at = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = match at.rsplit_once(':') {
        Some((host, port)) if !at.ends_with(']') => (host, Some(port)),
        _ => (at, None),
    };
    let is_address = !host.is_empty() && port.is_none_or(|port| port.parse::<u16>().is_ok());
    if is_address && !text.contains(char::is_whitespace) {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err("write it as http://HOST:PORT")
    }
}

/// The formats of the table of sources, and `auto`.
pub(super) fn formats() -> PossibleValuesParser {
    PossibleValuesParser::new(std::iter::once("auto").chain(sources::formats().into_iter().map(|format| format.name)))
}

pub(super) fn source_help() -> String {
    format!("Source id of the records, such as firms_viirs_noaa20; known are {}", sources::readable_ids())
}
