//! The file's logs, one by one, without what dispatchers noted in them. It is XML, but it may end anywhere, and one log that is
//! damaged must not cost the others: only the tags that hold the logs are looked for, and of a log only the elements that may be
//! published are ever read or kept [A6, S9]. Their notes have number plates, names and telephone numbers of people: what is
//! not on the list is gone before anything could fail because of it.

use bytes::Bytes;
use memchr::{memchr, memmem};

use crate::decode::encoding;
use crate::error::{Reason, Reject};
use crate::limits::{RESPONSE_BYTES, UNREAD_NAMED};

/// The elements of a log that may be read; the map reference only says the place once more.
const PUBLIC: [&str; 7] = ["LogTime", "LogType", "Location", "LocationDesc", "Area", "LATLON", "ThomasBrothers"];
/// What holds the notes of dispatchers and the states of units.
const NOTES: &str = "LogDetails";
/// One note of a dispatcher.
const NOTE: &[u8] = b"details";

/// One log.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) center: Option<String>,
    pub(super) dispatch: Option<String>,
    pub(super) id: Option<String>,
    /// Of the elements that may be published, name and bytes of each.
    elements: Vec<(&'static str, Bytes)>,
    /// Names of elements that nothing understands.
    pub(super) unread: Vec<String>,
    /// Notes that were left out.
    pub(super) notes: u64,
    /// What is wrong with it as a whole.
    pub(super) fault: Option<&'static str>,
}

impl Log {
    /// What stands between the tags of an element, with the quotes around it removed; `None`: there is none, or it is no text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let (_, bytes) = self.elements.iter().find(|(known, _)| *known == name)?;
        let inner = bytes.get(memchr(b'>', bytes)? + 1..memmem::rfind(bytes, b"</")?)?;
        let sent = std::str::from_utf8(inner).ok()?;
        // An ampersand of no entity stands for itself.
        let text = quick_xml::escape::unescape(sent).unwrap_or(sent.into());
        let text = text.trim();
        let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        Some(bare.trim().to_owned()).filter(|text| !text.is_empty())
    }

    pub(super) fn time(&self) -> Option<String> {
        self.text("LogTime")
    }

    /// Whether an element that may be published is no text.
    pub(super) fn is_unreadable(&self) -> bool {
        self.elements.iter().any(|(_, bytes)| std::str::from_utf8(bytes).is_err())
    }

    /// A file of this log alone, with as many notes, all empty: what is kept of it where it must be refused.
    pub(super) fn kept(&self) -> Bytes {
        let mut kept = Vec::new();
        let mut open = |name: &str, id: &Option<String>| {
            kept.extend_from_slice(format!("<{name} ID = \"{}\">", id.as_deref().unwrap_or_default()).as_bytes());
        };
        for (name, id) in [("State", &None), ("Center", &self.center), ("Dispatch", &self.dispatch), ("Log", &self.id)]
        {
            open(name, id);
        }
        for (_, bytes) in &self.elements {
            kept.extend_from_slice(bytes);
        }
        let notes = "<details/>".repeat(usize::try_from(self.notes).unwrap_or_default());
        let end = format!("<{NOTES}>{notes}</{NOTES}></Log></Dispatch></Center></State>");
        kept.extend_from_slice(end.as_bytes());
        kept.into()
    }
}

/// The whole logs of a file, in their order.
pub(super) struct Logs {
    body: Bytes,
    at: usize,
    center: Option<String>,
    dispatch: Option<String>,
    /// The end of the state came.
    closed: bool,
}

/// A tag that holds logs, or a log's own.
struct Tag {
    name: &'static str,
    is_end: bool,
    /// Its `ID`.
    id: Option<String>,
    start: usize,
    /// Behind its `>`.
    end: usize,
}

impl Logs {
    /// # Errors
    /// `too_large`; `doctype`; `not_data` for what is no list of logs. None of them keeps a body that may have notes.
    pub(super) fn read(body: &Bytes) -> Result<Logs, Reject> {
        let refused = |reject: Reject| {
            let lower = body.to_ascii_lowercase();
            let notes = [&b"<log"[..], b"detail"].iter().any(|sign| memmem::find(&lower, sign).is_some());
            Err(reject.with_raw(if notes { Bytes::new() } else { body.clone() }))
        };
        if body.len() > RESPONSE_BYTES {
            return refused(Reject::new(Reason::TooLarge, format!("{} bytes, {RESPONSE_BYTES} at most", body.len())));
        }
        let text = body.slice(body.len() - encoding::without_mark(body).len()..);
        let mut logs = Logs { body: text, at: 0, center: None, dispatch: None, closed: false };
        let root = logs.tag();
        let before = &logs.body[..root.as_ref().map_or(logs.body.len(), |root| root.start)];
        if memmem::find(before, b"<!DOCTYPE").is_some() {
            return refused(Reject::new(Reason::Doctype, "a document type declaration is refused unread"));
        }
        match root {
            Some(Tag { name: "State", is_end: false, end, .. }) => {
                logs.at = end;
                Ok(logs)
            }
            _ => refused(Reject::new(
                Reason::NotData,
                "no incidents of the California Highway Patrol: it has no element State",
            )),
        }
    }

    /// Whether the file ends before its end; known when all logs were given out.
    pub(super) fn is_cut(&self) -> bool {
        !self.closed
    }

    /// The next tag of interest.
    fn tag(&self) -> Option<Tag> {
        const NAMES: [&str; 4] = ["State", "Center", "Dispatch", "Log"];
        let mut at = self.at;
        loop {
            let start = at + memchr(b'<', self.body.get(at..)?)?;
            let rest = &self.body[start..];
            if rest.starts_with(b"<!--") {
                at = start + memmem::find(rest, b"-->")? + 3;
                continue;
            }
            if rest.starts_with(b"<![CDATA[") {
                at = start + memmem::find(rest, b"]]>")? + 3;
                continue;
            }
            let (is_end, name) = match rest.strip_prefix(b"</") {
                Some(name) => (true, name),
                None => (false, &rest[1..]),
            };
            match NAMES.into_iter().find(|known| is_named(name, known.as_bytes())) {
                Some(known) => {
                    let length = memchr(b'>', rest)? + 1;
                    let id = if is_end { None } else { id(&rest[..length]) };
                    return Some(Tag { name: known, is_end, id, start, end: start + length });
                }
                None => at = start + 1,
            }
        }
    }

    /// What stands in a log, `None` where its end is missing.
    fn log(&self, id: Option<String>, inner: Option<&[u8]>) -> Log {
        let mut log = Log { center: self.center.clone(), dispatch: self.dispatch.clone(), id, ..Log::default() };
        match inner {
            Some(inner) => log.take(inner, &self.body),
            None => log.fault = Some("its end is missing"),
        }
        log
    }
}

impl Iterator for Logs {
    type Item = Log;

    fn next(&mut self) -> Option<Log> {
        loop {
            let Some(tag) = self.tag() else {
                self.at = self.body.len();
                return None;
            };
            self.at = tag.end;
            match (tag.name, tag.is_end) {
                ("Center", false) => (self.center, self.dispatch) = (tag.id, None),
                ("Dispatch", false) => self.dispatch = tag.id,
                ("Center", true) => (self.center, self.dispatch) = (None, None),
                ("Dispatch", true) => self.dispatch = None,
                ("State", true) => self.closed = true,
                ("Log", false) => {
                    let next = self.tag();
                    return match next {
                        Some(Tag { name: "Log", is_end: true, start, end, .. }) => {
                            self.at = end;
                            Some(self.log(tag.id, Some(&self.body[tag.end..start])))
                        }
                        Some(_) => Some(self.log(tag.id, None)),
                        // The file was cut within it.
                        None => continue,
                    };
                }
                _ => {}
            }
        }
    }
}

impl Log {
    /// Takes a log's elements, but for its notes, of which only the number is taken.
    fn take(&mut self, inner: &[u8], body: &Bytes) {
        let notes = notes(inner);
        self.notes = count_notes(&inner[notes.clone()]);
        for part in [&inner[..notes.start], &inner[notes.end..]] {
            if let Err(fault) = self.take_elements(part, body) {
                self.fault = Some(fault);
                return;
            }
        }
    }

    fn take_elements(&mut self, mut rest: &[u8], body: &Bytes) -> Result<(), &'static str> {
        loop {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                return Ok(());
            }
            let tag = memchr(b'>', rest).ok_or("a tag does not end")?;
            let name = name(&rest[..tag]).ok_or("something stands between its elements")?;
            let length = if rest[..tag].ends_with(b"/") {
                tag + 1
            } else {
                let end = format!("</{name}>");
                tag + memmem::find(&rest[tag..], end.as_bytes()).ok_or("an element does not end")? + end.len()
            };
            let (element, behind) = rest.split_at(length);
            rest = behind;
            let Some(known) = PUBLIC.into_iter().find(|known| *known == name) else {
                if self.unread.len() < UNREAD_NAMED {
                    self.unread.push(name.to_owned());
                }
                continue;
            };
            // Of two with one name none can be trusted, nor one with others inside.
            if self.elements.iter().any(|(taken, _)| *taken == known) {
                return Err("an element stands in it twice");
            }
            let is_plain = element.ends_with(b"/>") || memchr::memchr_iter(b'<', element).count() == 2;
            if !is_plain {
                return Err("an element has others inside of it");
            }
            if !element.ends_with(b"/>") {
                self.elements.push((known, body.slice_ref(element)));
            }
        }
    }
}

/// Where the notes stand: from the first beginning of them to their last end, or to the log's end where that is missing.
fn notes(inner: &[u8]) -> std::ops::Range<usize> {
    let begins = |at: &usize| is_named(&inner[at + 1..], NOTES.as_bytes());
    let Some(start) = memmem::find_iter(inner, b"<").find(begins) else {
        return inner.len()..inner.len();
    };
    let end = format!("</{NOTES}>");
    match memmem::rfind(inner, end.as_bytes()).filter(|at| *at > start) {
        Some(at) => start..at + end.len(),
        None => start..inner.len(),
    }
}

fn count_notes(notes: &[u8]) -> u64 {
    memmem::find_iter(notes, b"<").filter(|at| is_named(&notes[at + 1..], NOTE)).count() as u64
}

/// Whether a tag's text has this name.
fn is_named(tag: &[u8], name: &[u8]) -> bool {
    tag.strip_prefix(name)
        .is_some_and(|rest| rest.first().is_none_or(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/')))
}

/// The name of a start tag, of letters, digits and `_`.
fn name(tag: &[u8]) -> Option<&str> {
    let text = tag.strip_prefix(b"<")?;
    let length = text.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').unwrap_or(text.len());
    let ends = text.get(length).is_none_or(|byte| byte.is_ascii_whitespace() || *byte == b'/');
    (length > 0 && length <= 40 && ends).then(|| std::str::from_utf8(&text[..length]).ok())?
}

/// `ID = "…"`, where it says something.
fn id(tag: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(tag).ok()?;
    let (_, value) = text.split_once(" ID")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (id, _) = value[1..].split_once(quote)?;
    let id = id.trim();
    let is_plain = id.len() <= 40 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    (!id.is_empty() && is_plain).then(|| id.to_owned())
}
