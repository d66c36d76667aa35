//! How a text's bytes are to be read: byte order marks and UTF-16, for every format. What the text means is not here.

use crate::error::{Reason, Reject};

/// The bytes after a UTF-8 byte order mark, if there is one.
pub fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// The text of a body that begins with a UTF-16 byte order mark; `None` for any other body.
///
/// # Errors
/// `not_data` for a lone surrogate or an odd number of bytes.
pub fn utf16(body: &[u8]) -> Option<Result<String, Reject>> {
    let (order, unit): (_, fn([u8; 2]) -> u16) = match body {
        [0xff, 0xfe, ..] => ("little", u16::from_le_bytes),
        [0xfe, 0xff, ..] => ("big", u16::from_be_bytes),
        _ => return None,
    };
    let broken =
        || Reject::new(Reason::NotData, format!("its mark says UTF-16, {order} end first, but it cannot be read so"));
    let (pairs, rest) = body[2..].as_chunks::<2>();
    if !rest.is_empty() {
        return Some(Err(broken()));
    }
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    Some(String::from_utf16(&units).map_err(|_| broken()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_decide_and_are_gone() {
        assert_eq!(without_mark(b"\xef\xbb\xbfa"), b"a");
        assert_eq!(without_mark(b"a"), b"a");
        for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let body: Vec<u8> = "\u{feff}ó,1".encode_utf16().flat_map(bytes).collect();
            assert_eq!(utf16(&body).unwrap().unwrap(), "ó,1");
            assert!(utf16(&body[..body.len() - 1]).unwrap().is_err(), "half a character");
        }
        assert!(utf16(b"plain").is_none());
    }
}
