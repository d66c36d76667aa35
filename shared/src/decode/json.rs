//! JSON made harmless: a size and a depth bound before the parser sees it. No format's rules live here.

use bytes::Bytes;

use crate::error::{Reason, Reject};
use crate::limits::INPUT_DEPTH;

/// The text to parse, without a byte order mark.
///
/// # Errors
/// `too_large` beyond `bytes`, `bad_json` beyond [`INPUT_DEPTH`] levels.
pub(crate) fn bounded(body: &Bytes, bytes: usize) -> Result<&[u8], Reject> {
    if body.len() > bytes {
        return Err(Reject::new(Reason::TooLarge, format!("{} bytes, {bytes} at most", body.len())));
    }
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if depth(text) <= INPUT_DEPTH {
        Ok(text)
    } else {
        Err(Reject::new(Reason::BadJson, format!("nested deeper than {INPUT_DEPTH}")))
    }
}

/// Deepest nesting of brackets outside strings.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    for &byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_but_not_those_in_strings() {
        assert_eq!(depth(br#"{"a":[1,{"b":"}]\"[[["}]}"#), 3);
        assert_eq!(depth(b""), 0);
    }

    #[test]
    fn both_bounds_hold_at_their_edge() {
        let nested = |n: usize| Bytes::from(format!("{}{}", "[".repeat(n), "]".repeat(n)));
        assert!(bounded(&nested(INPUT_DEPTH), 1000).is_ok());
        assert_eq!(bounded(&nested(INPUT_DEPTH + 1), 1000).unwrap_err().reason, Reason::BadJson);
        assert!(bounded(&nested(5), 10).is_ok());
        assert_eq!(bounded(&nested(5), 9).unwrap_err().reason, Reason::TooLarge);
    }
}
