//! Reads a data folder's database page by page, whatever is damaged in it: what is readable is given out row by row, the rest
//! is reported by range. Where the last commit cannot be read, the one before is asked. Never writes; never needs redb.

mod check;
mod pages;
mod rewrite;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use redb::ReadableTable as _;
use serde::Serialize;

use super::{BODIES, DAMAGED, Embedded, ITEMS, Moment, QUEUED, Queued, queue, sealed, store};
use crate::error::BackendError;
use crate::record::Envelope;
pub use check::{Blobs, Checked, Contents, Group, QueueContents, contents};
use pages::{Pages, Root, u32_at, u64_at};
pub use rewrite::{Repaired, remove, repair};
use tree::{Shape, Step, rows_of_page, walk};

/// Ranges and rows that a report names one by one; what is beyond is counted.
const NAMED: usize = 1_000;

/// Bodies on damaged pages whose message is looked for among all: each look reads the body once a message.
const SEARCHES: u32 = 200;

const TEXT_KEY: Shape = Shape { key: None, value: None };
const QUEUED_SHAPE: Shape = Shape { key: None, value: Some(21) };
const COUNTER_SHAPE: Shape = Shape { key: None, value: Some(8) };
const NUMBERED_SHAPE: Shape = Shape { key: Some(8), value: None };

/// One row that is what was written, or what is left of one.
#[derive(Debug)]
pub enum Row<'a> {
    /// A queue's message.
    Message(MessageRow<'a>),
    /// A message that is not what was sent, or whose body is gone: then it has no bytes.
    BadMessage {
        /// Its queue.
        queue: &'a str,
        /// Its number in the queue.
        number: u64,
        /// What is left.
        bytes: &'a [u8],
    },
    /// An item of the store.
    Item(ItemRow<'a>),
    /// An item that is not what was written.
    BadItem {
        /// Its partition.
        partition: &'a str,
        /// Its sort key.
        sort: &'a str,
        /// What is left.
        bytes: &'a [u8],
    },
    /// What the running system had set aside as damaged.
    SetAside {
        /// Where it was.
        what: &'a str,
        /// What was found there.
        bytes: &'a [u8],
    },
}

/// A message as its queue has it.
#[derive(Debug, Clone, Copy)]
pub struct MessageRow<'a> {
    /// Its queue.
    pub queue: &'a str,
    /// Its number: the order in which messages were sent.
    pub number: u64,
    /// When it was sent.
    pub sent_at: Moment,
    /// It is delayed until then.
    pub visible_at: Moment,
    /// How often it was received.
    pub receives: u32,
    /// Whether the body is binary.
    pub binary: bool,
    /// As it was sent.
    pub body: &'a [u8],
}

/// An item as the store has it.
#[derive(Debug, Clone, Copy)]
pub struct ItemRow<'a> {
    /// Its partition.
    pub partition: &'a str,
    /// Its sort key.
    pub sort: &'a str,
    /// Its version.
    pub version: u64,
    /// Absent from then on; `Moment::MAX`: never.
    pub expires: Moment,
    /// What was written.
    pub value: &'a [u8],
}

/// A range of rows that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The table: `queued` and `bodies` hold messages, `items` what the store holds.
    pub table: &'static str,
    /// The page's first byte in the file.
    pub from_byte: u64,
    /// The byte behind its last.
    pub to_byte: u64,
    /// Rows behind this key; absent from the table's begin on.
    pub after: Option<String>,
    /// Rows up to this key; absent to the table's end.
    pub until: Option<String>,
}

/// One table of the database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Rows that are what was written.
    pub rows: u64,
    /// As many as the last readable commit says there are; `None` when nothing says it.
    pub expected: Option<u64>,
    /// Rows among the readable ones that only the commit before the last has: they may have been forgotten since.
    pub from_before: u64,
    /// Rows among the readable ones to which no tree leads any more: they may have been forgotten long ago.
    pub from_scan: u64,
    /// Rows that are there and are not what was written.
    pub bad: u64,
}

/// What reading a whole database found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// The last commit's head is damaged: the one before, or single pages, stand for it.
    pub last_commit_lost: bool,
    /// By its name.
    pub tables: BTreeMap<&'static str, Table>,
    /// What cannot be read, by range.
    pub lost: Vec<Lost>,
    /// Further ranges.
    pub lost_unnamed: u64,
    /// Rows that are not what was written.
    pub bad: Vec<String>,
    /// Further rows.
    pub bad_unnamed: u64,
    /// The counters, by name.
    pub numbers: BTreeMap<String, u64>,
    /// By queue up to which number its messages may have been received.
    pub received: BTreeMap<String, u64>,
}

impl Report {
    /// Whether everything is what was written.
    pub fn is_sound(&self) -> bool {
        !self.last_commit_lost
            && self.lost.is_empty()
            && self.bad.is_empty()
            && self.tables.values().all(|table| table.expected.is_none_or(|expected| expected == table.rows))
    }

    fn bad(&mut self, table: &'static str, what: String) {
        self.tables.entry(table).or_default().bad += 1;
        if self.bad.len() < NAMED { self.bad.push(what) } else { self.bad_unnamed += 1 }
    }

    fn table(&mut self, name: &'static str, table: Table) {
        let bad = self.tables.get(name).map_or(0, |table| table.bad);
        self.tables.insert(name, Table { bad, ..table });
    }

    fn lost(&mut self, lost: Lost) {
        if self.lost.len() < NAMED { self.lost.push(lost) } else { self.lost_unnamed += 1 }
    }
}

impl Embedded {
    /// Shows every row of the open database, as [`read`] does.
    fn each_row(&self, visit: &mut dyn FnMut(Row<'_>)) -> Result<(), BackendError> {
        let seen = self.shared().database().read(|tx| {
            let (queued, items) = (tx.open_table(QUEUED)?, tx.open_table(ITEMS)?);
            for body in tx.open_table(BODIES)?.iter()? {
                let (key, sealed) = body?;
                let ((queue, number), sealed) = (key.value(), sealed.value());
                let row = queued.get((queue, number))?.map(|row| row.value());
                let found = row.and_then(|row| message_row((queue, number), row, sealed));
                visit(match found {
                    Some(found) => Row::Message(found),
                    None => Row::BadMessage { queue, number, bytes: sealed::unchecked(sealed) },
                });
            }
            for row in items.iter()? {
                let (key, row) = row?;
                let ((partition, sort), (version, expires, sealed)) = (key.value(), row.value());
                visit(match store::open((partition, sort), expires, sealed) {
                    Some(value) => Row::Item(ItemRow { partition, sort, version, expires, value }),
                    None => Row::BadItem { partition, sort, bytes: sealed::unchecked(sealed) },
                });
            }
            for row in tx.open_table(DAMAGED)?.iter()? {
                let (_, row) = row?;
                let (what, bytes) = row.value();
                visit(Row::SetAside { what, bytes });
            }
            Ok(())
        });
        Ok(seen?)
    }
}

/// Shows every row that can still be read, first the messages, then the items, each in the order of its keys but for what
/// only an earlier commit or no tree leads to: that comes last.
///
/// # Errors
/// When the file cannot be read at all.
pub fn read(database: &Path, visit: &mut dyn FnMut(Row<'_>)) -> Result<Report, BackendError> {
    let failed = |e| BackendError::Fatal(format!("cannot read {}: {e}", database.display()));
    Ok(read_pages(&Pages::open(database).map_err(failed)?, visit))
}

/// As [`read`], of a disk in memory.
#[cfg(feature = "testing")]
pub(super) fn read_bytes(database: Vec<u8>, visit: &mut dyn FnMut(Row<'_>)) -> Result<Report, BackendError> {
    let failed = |e| BackendError::Fatal(format!("cannot read the disk in memory: {e}"));
    Ok(read_pages(&Pages::of_bytes(database).map_err(failed)?, visit))
}

fn read_pages(pages: &Pages, visit: &mut dyn FnMut(Row<'_>)) -> Report {
    let mut reader = Reader::new(pages);
    reader.report.file_bytes = pages.len;
    reader.report.last_commit_lost = pages.last_is_lost;
    reader.counters();
    reader.messages(visit);
    reader.items(visit);
    reader.set_aside(visit);
    reader.report
}

struct Reader<'a> {
    pages: &'a Pages,
    /// Of each readable commit, the last one first: its tables.
    commits: Vec<BTreeMap<String, Option<Root>>>,
    report: Report,
}

impl<'a> Reader<'a> {
    fn new(pages: &'a Pages) -> Reader<'a> {
        let mut reader = Reader { pages, commits: Vec::new(), report: Report::default() };
        for (which, root) in pages.commits.iter().enumerate() {
            let mut tables = BTreeMap::new();
            let mut step = |step: Step<'_>| match step {
                Step::Row { key, value, .. } => {
                    if let (Ok(name), Some(root)) = (std::str::from_utf8(key), table_root(value)) {
                        tables.insert(name.to_owned(), root);
                    }
                }
                Step::Lost { bytes, .. } if which == 0 => reader.report.lost(Lost {
                    table: "the table of tables",
                    from_byte: bytes.start,
                    to_byte: bytes.end,
                    after: None,
                    until: None,
                }),
                Step::Lost { .. } => {}
            };
            if let Some(root) = root {
                walk(pages, *root, TEXT_KEY, &mut step);
            }
            reader.commits.push(tables);
        }
        reader
    }

    /// Walks a table as the last commit has it; where that has holes, what the commit before has there is given, then
    /// whatever pages of the file hold. `row` gives whether a row was one: one that is not from a sound page proves itself.
    fn table(&mut self, of: &Kind, row: &mut Take<'_>) {
        let Reader { pages, commits, report } = self;
        let roots: Vec<Option<Root>> = commits.iter().map(|tables| tables.get(of.name).copied().flatten()).collect();
        let known = commits.iter().find_map(|tables| tables.get(of.name));
        let mut table = Table { expected: known.map(|root| root.map_or(0, |root| root.rows)), ..Table::default() };
        let mut seen = BTreeSet::new();
        let mut holes: Vec<Hole> = Vec::new();
        if pages.last_is_lost || commits.first().is_none_or(|tables| !tables.contains_key(of.name)) {
            holes.push((None, None));
        }
        let last = roots.first().copied().flatten();
        if let Some(root) = last.filter(|_| !pages.last_is_lost) {
            walk(pages, root, of.shape, &mut |step| match step {
                Step::Row { key, value, sound } => {
                    if row(report, key, value, sound) {
                        table.rows += 1;
                        // Only these can come once more.
                        if !sound && let Some(order) = (of.order)(key) {
                            seen.insert(order);
                        }
                    }
                }
                Step::Lost { bytes, after, until } => {
                    holes.push((after.and_then(of.order), until.and_then(of.order)));
                    let shown = |key: &[u8]| (of.shown)(key);
                    let (from_byte, to_byte) = (bytes.start, bytes.end);
                    report.lost(Lost {
                        table: of.name,
                        from_byte,
                        to_byte,
                        after: after.map(shown),
                        until: until.map(shown),
                    });
                }
            });
        }
        if holes.is_empty() {
            return report.table(of.name, table);
        }
        let mut fill = |report: &mut Report, key: &[u8], value: &[u8], sound: bool| {
            let Some(order) = (of.order)(key) else { return false };
            let lost = holes.iter().any(|(after, until)| {
                after.as_ref().is_none_or(|after| *after < order) && until.as_ref().is_none_or(|until| order <= *until)
            });
            lost && !seen.contains(&order) && row(report, key, value, sound) && seen.insert(order)
        };
        let before = if pages.last_is_lost { 0 } else { 1 };
        for root in roots.iter().skip(before).copied().flatten() {
            walk(pages, root, of.shape, &mut |step| {
                if let Step::Row { key, value, sound: true } = step {
                    table.from_before += u64::from(fill(report, key, value, true));
                }
            });
        }
        if of.proves_itself {
            pages.each_leaf(of.shape, |bytes| {
                rows_of_page(bytes, of.shape, |key, value| {
                    table.from_scan += u64::from(fill(report, key, value, false))
                });
            });
        }
        table.rows += table.from_before + table.from_scan;
        report.table(of.name, table);
    }

    fn counters(&mut self) {
        for name in ["numbers", "received"] {
            let mut found = BTreeMap::new();
            let of = Kind {
                name,
                shape: COUNTER_SHAPE,
                order: |key| Some(key.to_vec()),
                shown: lossy,
                proves_itself: false,
            };
            self.table(&of, &mut |_, key, value, sound| {
                let counter = std::str::from_utf8(key).ok().zip(u64_at(value, 0)).filter(|_| sound);
                found.extend(counter.map(|(name, number)| (name.to_owned(), number)));
                counter.is_some()
            });
            if name == "numbers" { self.report.numbers = found } else { self.report.received = found }
        }
    }

    fn messages(&mut self, visit: &mut dyn FnMut(Row<'_>)) {
        let mut rows: BTreeMap<(String, u64), Queued> = BTreeMap::new();
        let of =
            Kind { name: "queued", shape: QUEUED_SHAPE, order: message_order, shown: message, proves_itself: false };
        self.table(&of, &mut |_, key, value, sound| {
            let row = message_key(key).zip(queued_row(value));
            // Where its page is damaged, the body's checksum tells whether this row is what was written.
            if let Some(((queue, number), row)) = row {
                rows.insert((queue.to_owned(), number), row);
            }
            sound && row.is_some()
        });
        let mut bodies = BTreeSet::new();
        let queued = self.report.tables.get("queued");
        let all_known = queued.is_some_and(|table| !self.pages.last_is_lost && table.expected == Some(table.rows));
        let counter = self.report.numbers.get("message").copied().unwrap_or(u64::MAX);
        let queues: BTreeSet<String> =
            rows.keys().map(|(queue, _)| queue).chain(self.report.received.keys()).cloned().collect();
        let mut searches = SEARCHES;
        let of = Kind { name: "bodies", shape: TEXT_KEY, order: message_order, shown: message, proves_itself: true };
        self.table(&of, &mut |report, key, value, sound| {
            let Some((queue, number)) = message_key(key) else { return false };
            let row = rows.get(&(queue.to_owned(), number)).copied();
            let mut found = row.and_then(|row| message_row((queue, number), row, value));
            if found.is_none() && !sound && searches > 0 {
                // The key may be what is damaged: then the checksum fits to another message's row.
                searches -= 1;
                found = rows.iter().find_map(|((queue, number), row)| message_row((queue, *number), *row, value));
            }
            // An envelope proves itself, and knows how old it is. Where every message's row is known, none is without one.
            let plausible = number < counter && (queues.is_empty() || queues.contains(queue));
            if found.is_none() && (sound || !all_known && plausible) {
                found = envelope_row(queue, number, sealed::unchecked(value));
            }
            if let Some(found) = found {
                let first = bodies.insert((found.queue.to_owned(), found.number));
                if first {
                    visit(Row::Message(found));
                }
                return first;
            }
            if sound || row.is_some() {
                bodies.insert((queue.to_owned(), number));
                report.bad("bodies", format!("message {number} of the queue {queue}"));
                visit(Row::BadMessage { queue, number, bytes: sealed::unchecked(value) });
            }
            false
        });
        for (queue, number) in rows.keys().filter(|name| !bodies.contains(*name)) {
            self.report.bad("bodies", format!("message {number} of the queue {queue}: its body is gone"));
            visit(Row::BadMessage { queue, number: *number, bytes: &[] });
        }
    }

    fn items(&mut self, visit: &mut dyn FnMut(Row<'_>)) {
        let of = Kind { name: "items", shape: TEXT_KEY, order: item_order, shown: item, proves_itself: true };
        self.table(&of, &mut |report, key, row, sound| {
            let Some((partition, sort)) = item_key(key) else { return false };
            let parts = u64_at(row, 0).zip(u64_at(row, 8)).zip(row.get(16..));
            let Some(((version, expires), sealed)) = parts else { return false };
            let expires = expires as Moment;
            match store::open((partition, sort), expires, sealed) {
                Some(value) => {
                    visit(Row::Item(ItemRow { partition, sort, version, expires, value }));
                    true
                }
                None if sound => {
                    report.bad("items", format!("stored item {partition}/{sort}"));
                    visit(Row::BadItem { partition, sort, bytes: sealed::unchecked(sealed) });
                    false
                }
                None => false,
            }
        });
    }

    fn set_aside(&mut self, visit: &mut dyn FnMut(Row<'_>)) {
        let shown = |key: &[u8]| u64_at(key, 0).unwrap_or_default().to_string();
        let order = |key: &[u8]| Some(u64_at(key, 0)?.to_be_bytes().to_vec());
        let of = Kind { name: "damaged", shape: NUMBERED_SHAPE, order, shown, proves_itself: false };
        self.table(&of, &mut |_, _, value, sound| {
            let Some((what, bytes)) = text_first(value).filter(|_| sound) else { return false };
            visit(Row::SetAside { what, bytes });
            true
        });
    }
}

/// What becomes of a row: its key, its value, and whether its page is what was written. Gives whether it was one.
type Take<'a> = dyn FnMut(&mut Report, &[u8], &[u8], bool) -> bool + 'a;

/// Rows behind the first and up to the second are missing, in the form that sorts; `None` is the table's end.
type Hole = (Option<Vec<u8>>, Option<Vec<u8>>);

/// How one table is read.
struct Kind {
    name: &'static str,
    shape: Shape,
    /// Bytes that sort as the keys do; `None` for what is none.
    order: fn(&[u8]) -> Option<Vec<u8>>,
    /// A key for people.
    shown: fn(&[u8]) -> String,
    /// Its rows carry a checksum of their own: they are also looked for where no tree leads any more.
    proves_itself: bool,
}

/// A table's root, as the table of tables has it; the outer `None` is damage.
fn table_root(definition: &[u8]) -> Option<Option<Root>> {
    match definition.get(9)? {
        0 => Some(None),
        _ => Root::read(definition.get(10..42)?).map(Some),
    }
}

/// The first of two values, whose length stands before both, and the rest.
fn text_first(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, at) = match *bytes.first()? {
        254 => (usize::from(u16::from_le_bytes(bytes.get(1..3)?.try_into().ok()?)), 3),
        255 => (u32_at(bytes, 1)?, 5),
        len => (usize::from(len), 1),
    };
    let (text, rest) = bytes.get(at..)?.split_at_checked(len)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

fn message_key(key: &[u8]) -> Option<(&str, u64)> {
    let (queue, number) = text_first(key)?;
    Some((queue, u64::from_le_bytes(number.try_into().ok()?)))
}

fn item_key(key: &[u8]) -> Option<(&str, &str)> {
    let (partition, sort) = text_first(key)?;
    Some((partition, std::str::from_utf8(sort).ok()?))
}

fn queued_row(row: &[u8]) -> Option<Queued> {
    let receives = u32_at(row, 16)? as u32;
    Some((u64_at(row, 0)? as Moment, u64_at(row, 8)? as Moment, receives, *row.get(20)? != 0))
}

/// A message whose row and body are what was sent.
fn message_row<'a>((queue, number): (&'a str, u64), row: Queued, sealed: &'a [u8]) -> Option<MessageRow<'a>> {
    let (sent_at, visible_at, receives, binary) = row;
    let body = queue::sealed_body((queue, number), sent_at, binary, sealed)?;
    Some(MessageRow { queue, number, sent_at, visible_at, receives, binary, body })
}

/// A message of which only the body is left, where that is an envelope: sent when it was accepted, and perhaps received.
fn envelope_row<'a>(queue: &'a str, number: u64, body: &'a [u8]) -> Option<MessageRow<'a>> {
    let envelope = Envelope::decode(&Bytes::copy_from_slice(body)).ok()?;
    let sent_at = envelope.accepted_at.as_millisecond();
    Some(MessageRow { queue, number, sent_at, visible_at: sent_at, receives: 1, binary: true, body })
}

fn message_order(key: &[u8]) -> Option<Vec<u8>> {
    message_key(key).map(|(queue, number)| [queue.as_bytes(), &[0], &number.to_be_bytes()].concat())
}

fn item_order(key: &[u8]) -> Option<Vec<u8>> {
    item_key(key).map(|(partition, sort)| [partition.as_bytes(), &[0], sort.as_bytes()].concat())
}

fn message(key: &[u8]) -> String {
    message_key(key).map_or_else(|| lossy(key), |(queue, number)| format!("message {number} of the queue {queue}"))
}

fn item(key: &[u8]) -> String {
    item_key(key).map_or_else(|| lossy(key), |(partition, sort)| format!("stored item {partition}/{sort}"))
}

fn lossy(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
