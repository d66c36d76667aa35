//! Ids that services write with braces or without, in capitals or not.

/// In capitals and braces; a text that is no UUID in capitals as it is. `None` for the nil UUID, which names nothing.
pub(super) fn normal(id: &str) -> Option<String> {
    let bare = id.trim().trim_start_matches('{').trim_end_matches('}').to_ascii_uppercase();
    let is_uuid = bare.len() == 36
        && bare.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if bare.is_empty() || (is_uuid && bare.bytes().all(|byte| matches!(byte, b'0' | b'-'))) {
        return None;
    }
    Some(if is_uuid { format!("{{{bare}}}") } else { id.trim().to_ascii_uppercase() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s12_one_id_is_written_in_one_way_and_the_nil_id_is_none() {
        let written = Some("{00000000-0000-4000-8000-0000000000AA}".to_owned());
        for id in ["{00000000-0000-4000-8000-0000000000AA}", " 00000000-0000-4000-8000-0000000000aa"] {
            assert_eq!(normal(id), written);
        }
        assert_eq!(normal("{00000000-0000-0000-0000-000000000000}"), None);
        assert_eq!(normal(" "), None);
        assert_eq!(normal("35836a").as_deref(), Some("35836A"));
    }
}
