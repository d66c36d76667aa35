//! Services that are asked with a key in the address or in a header: what their answers' status says, in their own words and
//! without the key, which a page may repeat [A6].

use bytes::Bytes;

use super::SourceError;
use super::feed::words;
use super::politeness::busy_until;
use crate::time::Timestamp;
use crate::upstream::Response;

/// The part of a body in which its words are looked for.
const WORDS_BYTES: usize = 4096;

/// A key as it can stand in an address as it is.
///
/// # Errors
/// For a person, with the setting's name.
pub(crate) fn plain<'a>(key: &'a str, setting: &str) -> Result<&'a str, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if key.bytes().all(is_plain) {
        Ok(key)
    } else {
        Err(format!("{setting} has characters other than letters, digits and -_.: it is no key of this service"))
    }
}

/// A service's text without its key, which is gone before anything is cut, so that no half of it stays.
pub(crate) fn without_key(text: &str, key: &str) -> String {
    if key.is_empty() { text.to_owned() } else { text.replace(key, "***") }
}

/// What an answer that is no data says.
pub(crate) fn said(response: &Response, key: &str) -> String {
    let start = String::from_utf8_lossy(&response.body[..response.body.len().min(WORDS_BYTES)]);
    format!("status {}: {}", response.status, words(&Bytes::from(without_key(&start, key))))
}

/// What its status makes of an answer that its body does not make data.
pub(crate) fn refused(response: &Response, key: &str, now: Timestamp) -> SourceError {
    let said = said(response, key);
    if let Some(until) = busy_until(response, now) {
        return SourceError::Busy { until, said };
    }
    match response.status {
        300..=399 => {
            let to = super::feed::moved_to(response);
            SourceError::Failed(without_key(&format!("status {}: {to}", response.status), key))
        }
        401 | 403 | 407 | 451 => SourceError::Refused(format!("{said}: access refused")),
        _ => SourceError::Failed(said),
    }
}
