//! CAP's `references`: earlier messages of a thread, each `sender,identifier,sent`, with blanks between them. Senders also
//! put blanks into names, which CAP forbids: a reference ends with its time, so that such a name is not torn in two.

use crate::time::Timestamp;

/// One earlier message that an alert refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    /// `sender,identifier`, as that message calls itself.
    pub(crate) name: &'a str,
    /// When it was sent, if that can be read.
    pub(crate) sent: Option<Timestamp>,
}

/// Reads one reference; `None` for a text that names nobody.
pub(crate) fn parse(text: &str) -> Option<Reference<'_>> {
    let (name, sent) = match text.rsplit_once(',') {
        Some((name, sent)) if name.contains(',') => (name, sent.parse().ok()),
        // Without a time: the last part is the identifier.
        _ => (text, None),
    };
    name.contains(',').then_some(Reference { name, sent })
}

/// Splits a list of references. Words without a time at the end of the text stand for themselves.
pub(super) fn split(text: &str) -> Vec<String> {
    let (mut whole, mut begun): (Vec<String>, Vec<&str>) = (Vec::new(), Vec::new());
    for word in text.split_whitespace() {
        begun.push(word);
        let joined = begun.join(" ");
        if parse(&joined).is_some_and(|reference| reference.sent.is_some()) {
            whole.push(joined);
            begun.clear();
        }
    }
    whole.extend(begun.into_iter().map(str::to_owned));
    whole
}

/// A name as references can carry it: blanks and line breaks inside it are one blank each.
pub(super) fn one_line(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_ends_with_its_time_and_blanks_in_names_do_not_tear_it() {
        const T: &str = "2025-08-14T12:00:00-07:00";
        for (text, parts) in [
            (format!("oes,A,{T} oes,B,{T}"), vec![format!("oes,A,{T}"), format!("oes,B,{T}")]),
            (format!("  oes,A 1,{T}\n\t Butte  OES,B,{T} "), vec![format!("oes,A 1,{T}"), format!("Butte OES,B,{T}")]),
            (format!("oes,A,B,{T}"), vec![format!("oes,A,B,{T}")]),
            ("oes,A oes,B".into(), vec!["oes,A".into(), "oes,B".into()]),
            (format!("oes,A,{T} oes,B"), vec![format!("oes,A,{T}"), "oes,B".into()]),
            (String::new(), vec![]),
        ] {
            assert_eq!(split(&text), parts, "{text:?}");
        }
        let at = T.parse().ok();
        for (text, reference) in [
            (format!("oes,A 1,{T}"), Some(Reference { name: "oes,A 1", sent: at })),
            (format!("oes,A,B,{T}"), Some(Reference { name: "oes,A,B", sent: at })),
            ("oes,A,yesterday".into(), Some(Reference { name: "oes,A", sent: None })),
            ("oes,A".into(), Some(Reference { name: "oes,A", sent: None })),
            ("A".into(), None),
        ] {
            assert_eq!(parse(&text), reference, "{text:?}");
        }
        assert_eq!(one_line(" Butte\n OES "), "Butte OES");
    }
}
