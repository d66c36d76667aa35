//! A feed of alerts that is polled [S17]: what its entries name and which alerts it carries itself. Unlike a message that is pushed,
//! whose sender hears of its fault, a feed in which one alert is not even XML gives all the others.

use std::ops::Range;

use bytes::Bytes;
use jiff::fmt::rfc2822;
use memchr::{memchr, memmem};

use super::{atom, cap, time};
use crate::decode::xml::{self, Element};
use crate::decode::{Context, Row, Rows, encoding, form};
use crate::error::{Reason, Reject};
use crate::time::Timestamp;

const RSS_1: &str = "http://purl.org/rss/1.0/";
/// Roots of what may be empty.
const LISTS: [&str; 4] = ["feed", "rss", "RDF", "alerts"];

/// What an answer of a feed is.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Alerts stand in it.
    pub(crate) carries: bool,
    /// Entries that only refer to an alert, in their order.
    pub(crate) entries: Vec<Entry>,
}

/// One entry that refers to an alert.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    /// The address that it names, if it names one.
    pub(crate) link: Option<String>,
    /// What it is called, and when it was changed, as it says: another text means that there is something new.
    pub(crate) version: String,
    pub(crate) updated: Option<Timestamp>,
}

/// # Errors
/// `bad_xml`, `doctype`, and `not_data` for what is neither a feed nor CAP.
pub(crate) fn index(body: &Bytes) -> Result<Index, Reject> {
    let told = |reject| form::told(reject, body);
    let text = xml::text(body).map_err(told)?;
    let document = match xml::read_all(&text, is_part) {
        Ok(document) => document,
        Err(reject) if reject.reason == Reason::BadXml && pieces(body).is_some() => {
            return Ok(Index { carries: true, entries: Vec::new() });
        }
        Err(reject) => return Err(told(reject)),
    };
    if document.found.is_empty() && !LISTS.contains(&&*document.root) {
        return Err(Reject::new(Reason::NotData, format!("<{}> is neither a feed nor a CAP alert", document.root)));
    }
    let mut index = Index { carries: document.root == "alerts" && !document.children.is_empty(), ..Index::default() };
    for found in &document.found {
        let element = &found.element;
        if element.name == "alert" || holds_alert(element) || atom::carries(element) {
            index.carries = true;
        } else {
            index.entries.push(entry(element));
        }
    }
    Ok(index)
}

fn is_part(namespace: Option<&str>, name: &str) -> bool {
    let is_item = name == "item" && matches!(namespace, None | Some(RSS_1));
    is_item || atom::is_entry(namespace, name) || cap::is_alert(namespace, name)
}

fn holds_alert(element: &Element) -> bool {
    element.children.iter().any(|child| child.name == "alert" || holds_alert(child))
}

fn entry(element: &Element) -> Entry {
    let link = link(element);
    let id = element.value("id").or(element.value("guid")).or(link.as_deref()).unwrap_or_default();
    let changed = ["updated", "pubDate", "published", "date"].into_iter().find_map(|name| element.value(name));
    let updated =
        changed.and_then(|text| time(text).or_else(|| rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())));
    Entry { version: format!("{id}\u{1f}{}", changed.unwrap_or_default()), updated, link }
}

/// The address of the document: one that is said to be CAP, else the entry's own page.
fn link(element: &Element) -> Option<String> {
    let links: Vec<(&Element, &str)> = element
        .all("link")
        .filter_map(|link| {
            let address = link.attributes.get("href").map_or(&*link.text, String::as_str).trim();
            (!address.is_empty()).then_some((link, address))
        })
        .collect();
    let attribute = |link: &Element, name: &str| link.attributes.get(name).cloned().unwrap_or_default();
    let is_cap = |(link, _): &&(&Element, &str)| attribute(link, "type").contains("cap+xml");
    let is_own = |(link, _): &&(&Element, &str)| matches!(&*attribute(link, "rel"), "" | "alternate");
    let guid = || element.value("guid").filter(|guid| guid.starts_with("http"));
    links
        .iter()
        .find(is_cap)
        .or_else(|| links.iter().find(is_own))
        .map(|(_, address)| *address)
        .or_else(guid)
        .map(str::to_owned)
}

/// The alerts of a feed or a document, in the order in which they were sent: an index names the newest first, and no message may come
/// before one that it refers to [E4]. Where the text is not well-formed, yet ends as it began, each alert is read by itself.
///
/// # Errors
/// When nothing of it can be read.
pub(crate) fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let begins = encoding::without_mark(body).iter().find(|byte| !byte.is_ascii_whitespace());
    if !matches!(begins, Some(b'<' | 0xff | 0xfe)) {
        return Err(form::told(Reject::new(Reason::NotData, "it is not XML"), body).with_raw(body.clone()));
    }
    let whole = super::rows(body, context).map_err(|reject| form::told(reject, body));
    let reject = match whole {
        Ok(rows) => return Ok(in_order(rows.collect())),
        Err(reject) => reject,
    };
    let Some(pieces) = pieces(body).filter(|_| reject.reason == Reason::BadXml) else { return Err(reject) };
    let read: Vec<Row> = pieces
        .into_iter()
        .zip(1..)
        .flat_map(|(piece, n)| {
            let bytes = body.slice(piece);
            match cap::rows(&bytes, None, context) {
                Ok(rows) => rows.map(|row| row.map_err(|reject| reject.at_row(n))).collect::<Vec<Row>>(),
                Err(reject) => vec![Err(reject.at_row(n).with_raw(bytes.clone()))],
            }
        })
        .collect();
    if read.iter().any(Result::is_ok) { Ok(in_order(read)) } else { Err(reject) }
}

fn in_order(mut rows: Vec<Row>) -> Rows<'static> {
    rows.sort_by_key(|row| row.as_ref().ok().and_then(|draft| draft.alert.as_ref()).map(|alert| alert.sent));
    Box::new(rows.into_iter())
}

/// Where the alert elements of a list stand, by their tags alone; `None` where the list does not end, is none, or has a document
/// type. What stands in comments and CDATA is text.
fn pieces(body: &[u8]) -> Option<Vec<Range<usize>>> {
    let (mut at, mut open, mut root, mut ended) = (0, None, None, false);
    let mut pieces = Vec::new();
    while let Some(found) = memchr(b'<', &body[at..]) {
        let start = at + found;
        let rest = &body[start..];
        let behind = |opening: &[u8], closing: &[u8]| {
            let inner = rest.strip_prefix(opening)?;
            Some(memmem::find(inner, closing).map(|end| start + opening.len() + end + closing.len()))
        };
        let text = [(&b"<!--"[..], &b"-->"[..]), (b"<![CDATA[", b"]]>"), (b"<?", b"?>")];
        if let Some(end) = text.into_iter().find_map(|(opening, closing)| behind(opening, closing)) {
            at = end?;
            continue;
        }
        if rest.starts_with(b"<!") {
            return None;
        }
        at = start + 1;
        let closes = rest.get(1) == Some(&b'/');
        let name =
            rest[1 + usize::from(closes)..].split(|byte| matches!(byte, b'>' | b'/') || byte.is_ascii_whitespace());
        let name = name.into_iter().next().unwrap_or_default();
        let local = name.rsplit(|byte| *byte == b':').next().unwrap_or_default();
        let root = *root.get_or_insert(name);
        match (local == b"alert", closes) {
            (true, false) => pieces.extend(open.replace(start).map(|begun| begun..start)),
            (true, true) => {
                let end = start + memchr(b'>', rest)? + 1;
                pieces.extend(open.take().map(|begun| begun..end));
            }
            (false, true) if name == root => {
                pieces.extend(open.take().map(|begun| begun..start));
                ended = true;
            }
            (false, _) => {}
        }
    }
    (ended && pieces.len() > 1).then_some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SourceId;

    fn alert(id: &str, more: &str) -> String {
        format!(
            "<alert xmlns=\"urn:oasis:names:tc:emergency:cap:1.2\"><identifier>{id}</identifier><sender>oes@test.example</sender>\
             <sent>2026-08-01T13:00:00-07:00</sent><status>Actual</status><msgType>Alert</msgType><scope>Public</scope>{more}</alert>"
        )
    }

    fn wrapped(alerts: &[String]) -> String {
        format!("<ns1:alerts xmlns:ns1=\"http://gov.fema.ipaws.services/feed\">{}</ns1:alerts>", alerts.concat())
    }

    fn read(body: &str) -> Result<Vec<Row>, Reject> {
        let source = SourceId::new("ipaws_alerts").unwrap();
        let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
        let body = Bytes::from(body.to_owned());
        rows(&body, context).map(Iterator::collect)
    }

    #[test]
    fn s17_an_alert_that_is_not_even_xml_costs_itself_alone() {
        let bad = alert("B", "<note>a & b</note>");
        for bad in [bad.as_str(), "<alert><identifier>B</alert>", "<alert><note>never closed</note>"] {
            let body = wrapped(&[alert("A", "<note><![CDATA[</alert>]]></note>"), bad.to_owned(), alert("C", "")]);
            let read = read(&body).unwrap();
            let ids: Vec<_> = read.iter().flatten().map(|draft| draft.alert.as_ref().unwrap().name.clone()).collect();
            assert_eq!(ids, ["oes@test.example,A", "oes@test.example,C"], "{bad}");
            let rejects: Vec<_> = read.iter().filter_map(|row| row.as_ref().err()).collect();
            assert_eq!((rejects.len(), rejects[0].row, rejects[0].raw.as_ref()), (1, Some(2), bad.as_bytes()));
        }
    }

    #[test]
    fn e4_a_list_that_begins_with_the_newest_gives_a_thread_in_its_order() {
        let update = alert("U", "").replace("T13:00", "T13:05").replace("Actual", "Exercise");
        for alerts in [[alert("A", ""), update.clone()], [update, alert("A", "")]] {
            let names: Vec<_> = read(&wrapped(&alerts)).unwrap().into_iter().flatten().collect();
            let names: Vec<_> = names.iter().map(|draft| draft.alert.as_ref().unwrap().name.as_str()).collect();
            assert_eq!(names, ["oes@test.example,A", "oes@test.example,U"]);
        }
    }

    #[test]
    fn s17_no_alert_is_none_and_what_cannot_be_read_is_an_error() {
        assert!(read(&wrapped(&[])).unwrap().is_empty());
        assert!(read("<ns1:alerts xmlns:ns1='urn:x'/>").unwrap().is_empty());
        let whole = wrapped(&[alert("A", ""), alert("B", "<note>a & b</note>"), alert("C", "")]);
        for (body, reason) in [
            (whole[..whole.len() - 3].to_owned(), Reason::BadXml),
            (format!("<!DOCTYPE x>{whole}"), Reason::BadXml),
            (whole.replace("<note>", "<!ENTITY x>"), Reason::BadXml),
            (wrapped(&["<alert>a & b</alert>".into(), "<alert>a & b</alert>".into()]), Reason::BadXml),
            ("<html><head></head></html>".into(), Reason::NotData),
            (String::new(), Reason::NotData),
        ] {
            assert!(
                read(&body).is_err_and(|reject| reject.reason == reason || reject.reason == Reason::Doctype),
                "{body}"
            );
        }
    }

    #[test]
    fn s17_an_index_names_documents_and_says_when_they_changed() {
        let feed = r#"<feed xmlns="http://www.w3.org/2005/Atom"><title>t</title>
            <entry><id>a</id><updated>2026-08-01T20:00:00Z</updated><link href="/page/a" rel="alternate"/>
              <link type="application/cap+xml" href="https://cap.test/a.xml?x=1&amp;y=2"/></entry>
            <entry><id>b</id><link rel="self" href="/self"/></entry></feed>"#;
        let read = index(&Bytes::from(feed)).unwrap();
        assert!(!read.carries);
        assert_eq!(read.entries[0].link.as_deref(), Some("https://cap.test/a.xml?x=1&y=2"));
        assert_eq!(read.entries[0].updated, "2026-08-01T20:00:00Z".parse().ok());
        assert_eq!(read.entries[1], Entry { link: None, version: "b\u{1f}".into(), updated: None });
        let rss = "<rss version='2.0'><channel><item><title>t</title><link> https://cap.test/1 </link><guid>1</guid>\
                   <pubDate>Fri, 04 Feb 2011 20:20:00 GMT</pubDate></item></channel></rss>";
        let read = index(&Bytes::from(rss)).unwrap();
        assert_eq!(read.entries[0].link.as_deref(), Some("https://cap.test/1"));
        assert_eq!(read.entries[0].updated, "2011-02-04T20:20:00Z".parse().ok());
        for (body, carries) in [
            (alert("A", ""), true),
            (wrapped(&[alert("A", "")]), true),
            (wrapped(&[]), false),
            ("<rss><channel/></rss>".into(), false),
            (
                format!(
                    "<feed xmlns='http://www.w3.org/2005/Atom'><entry><content>{}</content></entry></feed>",
                    alert("A", "")
                ),
                true,
            ),
        ] {
            let read = index(&Bytes::from(body.clone())).unwrap();
            assert_eq!((read.carries, read.entries.len()), (carries, 0), "{body}");
        }
        for body in ["<kml/>", "{}", "", "<!DOCTYPE rss><rss/>"] {
            assert!(index(&Bytes::from(body)).is_err(), "{body}");
        }
    }
}
