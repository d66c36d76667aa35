//! What services ask of their clients [S11].

use std::time::Duration;

use jiff::fmt::rfc2822;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;
use crate::upstream::Response;

/// The longest wait that a header can impose; a wrong date must not stop a source for good.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

/// What a service asks of its clients, as its pages or its users say.
#[derive(Debug)]
pub struct Manners {
    /// Requests of all streams together, a minute at the most.
    pub a_minute: u32,
    /// No stream is polled more often.
    pub least_interval: Duration,
    /// It is asked one request at a time over all streams, and again so long after each; `None`: as the streams come.
    pub apart: Option<Duration>,
}

/// What an answer tells for the next request of the same address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Validators {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
}

impl Validators {
    /// A header longer than this is not repeated: what is remembered stays small.
    const LONGEST: usize = 200;

    pub(crate) fn of(response: &Response) -> Validators {
        let header = |name| response.header(name).filter(|text| text.len() <= Validators::LONGEST).map(str::to_owned);
        Validators { etag: header("etag"), last_modified: header("last-modified") }
    }

    pub(crate) fn is_none(&self) -> bool {
        *self == Validators::default()
    }

    /// The headers of a conditional request.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        let header = |name: &str, value: &Option<String>| Some((name.to_owned(), value.clone()?));
        let both = [header("if-none-match", &self.etag), header("if-modified-since", &self.last_modified)];
        both.into_iter().flatten().collect()
    }
}

/// When a response with 429 or 503 allows the next request: its `Retry-After` in seconds or as an HTTP date.
pub(crate) fn retry_after(response: &Response, now: Timestamp) -> Option<Timestamp> {
    if !matches!(response.status, 429 | 503) {
        return None;
    }
    let text = response.header("retry-after")?.trim();
    let until = match text.parse::<u64>() {
        Ok(seconds) => now + Duration::from_secs(seconds).min(LONGEST),
        Err(_) => rfc2822::parse(text).ok()?.timestamp(),
    };
    Some(until.clamp(now, now + LONGEST))
}

/// The wait before a host is asked again that is busy and does not say for how long: quotas are by the minute.
pub(crate) const BUSY_WAIT: Duration = Duration::from_secs(60);

/// The same for every response with 429 or 503: one that does not say when is given a minute.
pub(crate) fn busy_until(response: &Response, now: Timestamp) -> Option<Timestamp> {
    let is_busy = matches!(response.status, 429 | 503);
    is_busy.then(|| retry_after(response, now).unwrap_or(now + BUSY_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s11_seconds_and_dates_are_understood_and_bounded() {
        let now: Timestamp = "2026-11-24T00:00:00Z".parse().unwrap();
        let after = |status, text: &str| {
            let headers = vec![("retry-after".to_owned(), text.to_owned())];
            retry_after(&Response { status, headers, body: bytes::Bytes::new(), elapsed: Duration::ZERO }, now)
        };
        assert_eq!(after(429, "30"), Some(now + Duration::from_secs(30)));
        assert_eq!(after(503, "Tue, 24 Nov 2026 00:02:00 GMT"), Some(now + Duration::from_secs(120)));
        assert_eq!(after(503, "999999999"), Some(now + LONGEST));
        assert_eq!(after(503, "Mon, 23 Nov 2026 00:00:00 GMT"), Some(now));
        assert_eq!(after(200, "30"), None);
        assert_eq!(after(429, "soon"), None);
    }
}
