//! XML made harmless: text in UTF-8, no document types, no entities but the five and the numeric ones, bounded depth,
//! every tag closed. What comes out is a small tree of the elements that were asked for. No format's rules live here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::{NsReader, XmlVersion};

use crate::decode::encoding;
use crate::error::{Reason, Reject};
use crate::limits::INPUT_DEPTH;

/// An element; its children are those of its own namespace or of none, the rest is left out, unless all of it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    /// By their local names; empty unless all of it was asked for.
    pub(crate) attributes: BTreeMap<String, String>,
    /// All text directly inside, untrimmed.
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

impl Element {
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The trimmed text of the first child of that name, unless it is empty.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.children.iter().find(|child| child.name == name).map(|child| child.text.trim()).filter(|t| !t.is_empty())
    }

    /// The trimmed texts of all children of that name, empty ones left out.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.all(name).map(|child| child.text.trim()).filter(|text| !text.is_empty())
    }
}

/// An element that was asked for, and where it stands in the text.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) element: Element,
    pub(crate) namespace: Option<String>,
    pub(crate) span: Range<usize>,
}

#[derive(Debug)]
pub(crate) struct Document {
    /// Local name of the root.
    pub(crate) root: String,
    /// How many children the root has, by their local names.
    pub(crate) children: BTreeMap<String, usize>,
    /// In document order; an element inside another found one belongs to that one.
    pub(crate) found: Vec<Found>,
}

/// The text of an XML file: a byte order mark decides, then the declaration, else UTF-8.
pub(crate) fn text(body: &[u8]) -> Result<Cow<'_, str>, Reject> {
    if let Some(text) = encoding::utf16(body) {
        return text.map(Cow::Owned).map_err(|reject| Reject { reason: Reason::BadXml, ..reject });
    }
    let body = encoding::without_mark(body);
    match declared_encoding(body) {
        Some(name) if ["iso-8859-1", "latin1", "us-ascii"].iter().any(|known| name.eq_ignore_ascii_case(known)) => {
            Ok(Cow::Owned(body.iter().map(|&byte| char::from(byte)).collect()))
        }
        Some(name) if !["utf-8", "utf8"].iter().any(|known| name.eq_ignore_ascii_case(known)) => {
            Err(Reject::new(Reason::BadXml, format!("encoding {name:?} is none of UTF-8, UTF-16 and ISO-8859-1")))
        }
        _ => std::str::from_utf8(body).map(Cow::Borrowed).map_err(|e| Reject::new(Reason::BadXml, e.to_string())),
    }
}

/// The encoding that an XML declaration at the very start names.
fn declared_encoding(body: &[u8]) -> Option<&str> {
    let declaration = body.strip_prefix(b"<?xml")?;
    let end = declaration.iter().take(200).position(|&byte| byte == b'>')?;
    let declaration = std::str::from_utf8(&declaration[..end]).ok()?;
    let value = declaration.split_once("encoding")?.1.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    value[1..].split_once(quote).map(|(name, _)| name)
}

/// Reads the whole of `text` and keeps the elements that `wanted(namespace, local name)` asks for.
///
/// # Errors
/// `doctype` for a document type or an entity of its own, `bad_xml` for anything not well-formed or nested too deeply,
/// `not_data` for a text without a root element.
pub(crate) fn read(text: &str, wanted: fn(Option<&str>, &str) -> bool) -> Result<Document, Reject> {
    walk(text, wanted, Walk::default())
}

/// The same, with the attributes and the children of every vocabulary.
pub(crate) fn read_all(text: &str, wanted: fn(Option<&str>, &str) -> bool) -> Result<Document, Reject> {
    walk(text, wanted, Walk { all: true, ..Walk::default() })
}

fn walk(text: &str, wanted: fn(Option<&str>, &str) -> bool, mut walk: Walk) -> Result<Document, Reject> {
    let mut reader = NsReader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    loop {
        let start = reader.buffer_position() as usize;
        let event = reader.read_event().map_err(|e| bad(start, &e.to_string()))?;
        let end = reader.buffer_position() as usize;
        match event {
            Event::Start(tag) => {
                let (namespace, name) = reader.resolver().resolve_element(tag.name());
                let namespace = match &namespace {
                    ResolveResult::Bound(bound) => Some(bound.0),
                    ResolveResult::Unbound => None,
                    ResolveResult::Unknown(prefix) => {
                        return Err(bad(start, &format!("prefix {prefix} is not declared")));
                    }
                };
                walk.start(namespace, name.into_inner(), start, wanted)?;
                if walk.all {
                    walk.attributes(&tag, start)?;
                }
            }
            Event::End(_) => walk.end(end),
            Event::Text(characters) => walk.characters(&characters.xml10_content(), start)?,
            Event::CData(characters) => walk.characters(&characters.xml10_content(), start)?,
            Event::GeneralRef(reference) => {
                walk.characters(resolved(&reference, start)?.encode_utf8(&mut [0; 4]), start)?
            }
            Event::DocType(_) => {
                return Err(Reject::new(Reason::Doctype, "a document type declaration is refused unread"));
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => return walk.finish(),
            Event::Empty(_) => {} // expanded to Start and End
        }
    }
}

fn bad(at: usize, problem: &str) -> Reject {
    Reject::new(Reason::BadXml, format!("at byte {at}: {problem}"))
}

fn resolved(reference: &BytesRef<'_>, at: usize) -> Result<char, Reject> {
    if let Some(character) = reference.resolve_char_ref().map_err(|e| bad(at, &e.to_string()))? {
        let allowed =
            matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
        return if allowed { Ok(character) } else { Err(bad(at, "a character reference that XML does not allow")) };
    }
    match &**reference {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        other => {
            let name: String = other.chars().take(40).collect();
            Err(Reject::new(Reason::Doctype, format!("entity &{name}; is none of XML's own five")))
        }
    }
}

#[derive(Default)]
struct Walk {
    /// Nothing of a found element is left out.
    all: bool,
    depth: usize,
    root: Option<String>,
    children: BTreeMap<String, usize>,
    found: Vec<Found>,
    /// The open elements of the found one being read; the found one first.
    open: Vec<Element>,
    namespace: Option<String>,
    start: usize,
    /// Open elements inside the found one that belong to another vocabulary (a signature).
    foreign: usize,
}

impl Walk {
    fn start(
        &mut self,
        namespace: Option<&str>,
        name: &str,
        at: usize,
        wanted: fn(Option<&str>, &str) -> bool,
    ) -> Result<(), Reject> {
        self.depth += 1;
        if self.depth > INPUT_DEPTH {
            return Err(bad(at, &format!("elements are nested deeper than {INPUT_DEPTH}")));
        }
        if self.depth == 1 {
            if self.root.is_some() {
                return Err(bad(at, "a second root element"));
            }
            self.root = Some(name.to_owned());
        }
        if self.depth == 2 {
            *self.children.entry(name.to_owned()).or_default() += 1;
        }
        let element = || Element { name: name.to_owned(), ..Element::default() };
        if self.open.is_empty() {
            if wanted(namespace, name) {
                self.namespace = namespace.map(str::to_owned);
                self.start = at;
                self.open.push(element());
            }
        } else if self.foreign > 0 || (!self.all && namespace.is_some() && namespace != self.namespace.as_deref()) {
            self.foreign += 1;
        } else {
            self.open.push(element());
        }
        Ok(())
    }

    /// Those of the element that was opened last.
    fn attributes(&mut self, tag: &BytesStart<'_>, at: usize) -> Result<(), Reject> {
        let Some(element) = self.open.last_mut() else { return Ok(()) };
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|e| bad(at, &e.to_string()))?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|e| bad(at, &e.to_string()))?;
            element.attributes.insert(attribute.key.local_name().into_inner().to_owned(), value.into_owned());
        }
        Ok(())
    }

    /// The reader has checked that this end tag closes the last start tag.
    fn end(&mut self, at: usize) {
        self.depth = self.depth.saturating_sub(1);
        if self.foreign > 0 {
            self.foreign -= 1;
            return;
        }
        let Some(element) = self.open.pop() else { return };
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.found.push(Found { element, namespace: self.namespace.take(), span: self.start..at }),
        }
    }

    fn characters(&mut self, text: &str, at: usize) -> Result<(), Reject> {
        if self.depth == 0 && !text.trim().is_empty() {
            return Err(bad(at, "text outside the root element"));
        }
        if let (0, Some(element)) = (self.foreign, self.open.last_mut()) {
            element.text.push_str(text);
        }
        Ok(())
    }

    fn finish(self) -> Result<Document, Reject> {
        match self.root {
            _ if self.depth > 0 => Err(Reject::new(Reason::BadXml, "the text ends inside an element")),
            Some(root) => Ok(Document { root, children: self.children, found: self.found }),
            None => Err(Reject::new(Reason::NotData, "no XML element")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> Reason {
        read(text, |_, name| name == "a").map(|document| document.root).unwrap_err().reason
    }

    #[test]
    fn a6_document_types_and_own_entities_are_refused() {
        assert_eq!(reason("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>"), Reason::Doctype);
        assert_eq!(reason("<!DOCTYPE a><a/>"), Reason::Doctype);
        assert_eq!(reason("<a>&nbsp;</a>"), Reason::Doctype);
        assert_eq!(reason("<a>&#0;</a>"), Reason::BadXml);
        assert_eq!(reason("<a>&#1;</a>"), Reason::BadXml);
        let document = read("<a>&lt;&#233;&#x41;&amp;</a>", |_, name| name == "a").unwrap();
        assert_eq!(document.found[0].element.text, "<éA&");
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for bad in ["<a>", "<a></b>", "<a/><a/>", "<a/>x", "<x:a/>", "<a", "<a><![CDATA[", "</a>", "<a></a></a>"] {
            assert_eq!(reason(bad), Reason::BadXml, "{bad}");
        }
        assert_eq!(reason("<!-- nothing -->"), Reason::NotData);
        let deep = |n: usize| format!("{}{}", "<a>".repeat(n), "</a>".repeat(n));
        assert_eq!(reason(&deep(INPUT_DEPTH + 1)), Reason::BadXml);
        assert_eq!(read(&deep(INPUT_DEPTH), |_, name| name == "a").unwrap().found.len(), 1);
    }

    #[test]
    fn foreign_vocabularies_inside_a_found_element_are_left_out() {
        let text =
            "<r xmlns:s='urn:s'><n:a xmlns:n='urn:n'><s:sig><n:b>no</n:b></s:sig><n:b> yes </n:b><c>bare</c></n:a></r>";
        let document = read(text, |namespace, name| namespace == Some("urn:n") && name == "a").unwrap();
        assert_eq!(document.root, "r");
        let found = &document.found[0];
        assert_eq!(found.element.children.len(), 2);
        assert_eq!(found.element.value("b"), Some("yes"));
        assert_eq!(found.element.value("c"), Some("bare"));
        assert!(text[found.span.clone()].starts_with("<n:a ") && text[found.span.clone()].ends_with("</n:a>"));
    }

    #[test]
    fn encodings_are_transcoded_or_refused() {
        let latin = b"<?xml version='1.0' encoding = \"ISO-8859-1\"?><a>evacuaci\xf3n</a>";
        assert!(text(latin).unwrap().contains("evacuación"));
        assert!(text(b"<?xml version='1.0' encoding='UTF-8'?><a>\xf3</a>").is_err());
        assert!(text(b"<?xml version='1.0' encoding='EBCDIC-CP-US'?><a/>").is_err());
        let utf16: Vec<u8> = "\u{feff}<a>ó</a>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(text(&utf16).unwrap(), "<a>ó</a>");
        assert_eq!(text(b"\xef\xbb\xbf<a/>").unwrap(), "<a/>");
    }
}
