//! What services ask of their clients [S11].

use std::time::Duration;

use jiff::fmt::rfc2822;

use crate::time::Timestamp;
use crate::upstream::Response;

/// The longest wait that a header can impose; a wrong date must not stop a source for good.
const LONGEST: Duration = Duration::from_secs(3600);

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
