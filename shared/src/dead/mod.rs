//! Dead letters: records that can never succeed, with their original bytes [R4]. The same bad row read again is the same
//! dead letter, seen once more. An outage never sends a good record here. A stream keeps so many letters; what comes beyond
//! is counted, and letters that are seen no more expire. What was accepted is kept without a bound of ours: nothing else has it.

mod advice;
mod announce;
mod bounds;
#[cfg(all(test, feature = "embedded", feature = "testing"))]
#[allow(clippy::unwrap_used)]
mod bounds_tests;
mod keep;
mod original;
mod patterns;
mod purge;
pub mod queues;
mod redrive;
mod remove;
#[cfg(all(test, feature = "embedded", feature = "testing"))]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::blobs::BlobRef;
use crate::error::{BackendError, Reason, Reject, Sender};
use crate::limits::{DEAD_LETTER_DETAIL_CHARS, DEAD_LETTER_SENDER_CHARS};
use crate::record::{EventId, Lineage, SourceId, StreamId, TenantId};
use crate::store::{Item, Key, Store};
use crate::time::Timestamp;
pub(crate) use announce::Announcement;
#[cfg(feature = "embedded")]
pub use keep::bury_damaged;
pub(crate) use keep::bury_refused;
pub use keep::{bury_rejects, bury_stray, bury_unadmitted, bury_unreadable};
pub use original::{Form, raw, sweep};
pub use patterns::{Pattern, PatternReport, patterns};
pub use purge::{Purge, Purged, purge};
pub use redrive::{Outcome, Redrive, Redriven, Tried, redrive};

const PARTITION: &str = "dead-letters";

/// The original bytes, here or in the blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Raw {
    /// Base64 of bytes that are few enough to lie in the letter itself.
    Inline(String),
    /// More bytes than fit into an item of the store: [`raw`] reads them. No other letter has this blob.
    Blob(BlobRef),
}

/// Which bound a letter counts against [Q2].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Allowance {
    /// None: it was accepted, and nothing else has it. The queue that it came from is bounded.
    Accepted,
    /// That of the streams and connectors that somebody registered.
    Registered,
    /// That of everybody else together: anybody can make up the name of a sensor's kind.
    Pushed,
}

/// One record that can never succeed, as it is stored and listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// From source, reason and bytes, or what they say: the same fault has the same id.
    pub id: EventId,
    /// The source id that it was to be published under.
    pub source: SourceId,
    /// The stream that it came in; the patterns group by it.
    pub stream: StreamId,
    /// Which bound it counts against.
    pub allowance: Allowance,
    /// Whose record it was to be [D4].
    pub tenant: TenantId,
    /// Why it can never succeed.
    pub reason: Reason,
    /// The field and the rule that it broke, [`DEAD_LETTER_DETAIL_CHARS`] at most.
    pub detail: String,
    /// 1-based row within its body, where there were several.
    pub row: Option<u64>,
    /// The event that the sink refused; absent for what never became one.
    pub event: Option<EventId>,
    /// Who pushed it the first time, where that is known.
    pub sender: Option<Sender>,
    /// When this fault was met first, by our clock.
    pub first_seen: Timestamp,
    /// When it was met last; the letter expires a fixed time after this.
    pub last_seen: Timestamp,
    /// How often it was read or tried; a redrive that fails is one of them.
    pub attempts: u64,
    /// When, oldest first: the last [`DEAD_LETTER_TIMES`](crate::limits::DEAD_LETTER_TIMES) of them.
    pub tried_at: Vec<Timestamp>,
    /// When a redrive last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_at: Option<Timestamp>,
    /// Of a table's row: the line that names its columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// What is stored of it.
    pub form: Form,
    /// Base64 when inline.
    pub raw: Raw,
    /// Size of the original bytes.
    pub raw_bytes: u64,
}

impl DeadLetter {
    /// What a record is told of this letter when it is redriven.
    pub(crate) fn lineage(&self) -> Lineage {
        let sender = self.sender.as_ref();
        let pushed_on = sender.map(|sender| sender.topic.clone()).filter(|topic| !topic.is_empty());
        let refused_by = match &self.form {
            Form::Published { topic } => Some(topic.clone()),
            Form::AsReceived => None,
        };
        Lineage {
            letter: self.id,
            reason: self.reason,
            first_seen: self.first_seen,
            attempts: self.attempts,
            topic: pushed_on.or(refused_by),
            partition: sender.and_then(|sender| sender.partition.clone()),
            offset: sender.and_then(|sender| sender.offset.clone()),
        }
    }

    fn key(&self) -> Key {
        key(&self.stream, self.id)
    }
}

fn key(stream: &StreamId, id: EventId) -> Key {
    Key::new(PARTITION, format!("{stream}/{id}"))
}

/// A record on its way to the dead letters, never without the bytes that came [S9].
#[derive(Debug, Clone)]
pub struct Rejected {
    source: SourceId,
    event: Option<EventId>,
    reject: Reject,
    raw: Bytes,
    /// What makes it the same as one before, where its bytes are new each time.
    content: Option<Bytes>,
    /// Of a record that the sink refused: where it was to go, and all that is needed to send it again.
    published: Option<original::Published>,
}

impl Rejected {
    /// `original` is what came; a reject that holds bytes, such as the one row of many, is more exact. What strangers wrote
    /// is cut here, so that every letter fits into an item of the store.
    pub fn new(source: SourceId, mut reject: Reject, original: &Bytes) -> Rejected {
        cut(&mut reject.detail, DEAD_LETTER_DETAIL_CHARS);
        if let Some(sender) = &mut reject.sender {
            let Sender { topic, connector, client, principal, sensor, partition, offset, received_at: _ } =
                &mut **sender;
            let others = [connector, client, principal, sensor, partition, offset];
            let texts = std::iter::once(topic).chain(others.into_iter().flatten());
            texts.for_each(|text| cut(text, DEAD_LETTER_SENDER_CHARS));
        }
        let raw = if reject.raw.is_empty() { original.clone() } else { reject.raw.clone() };
        Rejected { source, event: None, reject, raw, content: None, published: None }
    }

    /// A row that its decoder refused, with the bytes that it names.
    pub(crate) fn of_row(source: SourceId, reject: Reject) -> Rejected {
        let raw = reject.raw.clone();
        Rejected::new(source, reject, &raw)
    }

    /// The same letter as each other one that says this, whatever its bytes; as those of the same bytes, where nothing is given.
    pub(crate) fn saying(self, content: Option<Bytes>) -> Rejected {
        Rejected { content, ..self }
    }

    /// Why it is rejected, for counting.
    pub(crate) fn reason(&self) -> Reason {
        self.reject.reason
    }

    /// For whoever tells the sender before it is stored.
    pub(crate) fn into_reject(self) -> Reject {
        self.reject.with_raw(self.raw)
    }
}

fn cut(text: &mut String, chars: usize) {
    if let Some((at, _)) = text.char_indices().nth(chars) {
        text.truncate(at);
        text.push('…');
    }
}

/// What became of a batch of rejects.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Buried {
    /// Those that became dead letters now, by reason. What is beyond a bound is not among them: whether it was met before is
    /// not known.
    pub first: BTreeMap<Reason, u64>,
    /// Those for which there was no room: they are only counted.
    pub beyond: u64,
}

impl Buried {
    /// Of a single reject.
    fn of_one(&self) -> Kept {
        if self.beyond == 0 { Kept::Letter } else { Kept::CountedOnly }
    }
}

/// What became of one reject. That it could be neither kept nor counted is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Its bytes are a dead letter.
    Letter,
    /// As many letters or bytes are kept as may be.
    CountedOnly,
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kept::Letter => "its bytes are kept among the dead letters",
            Kept::CountedOnly => "it is only counted, since as many dead letters are kept as may be",
        })
    }
}

fn parse(value: &[u8]) -> Result<DeadLetter, BackendError> {
    serde_json::from_slice(value).map_err(|e| BackendError::Fatal(format!("a stored dead letter cannot be read: {e}")))
}

/// The blob that an item of the store needs, where it is a dead letter's; an error is a letter that cannot be read.
#[cfg(feature = "embedded")]
pub(crate) fn blob_of(partition: &str, value: &[u8]) -> Option<Result<BlobRef, BackendError>> {
    if partition != PARTITION {
        return None;
    }
    match parse(value) {
        Ok(DeadLetter { raw: Raw::Blob(blob), .. }) => Some(Ok(blob)),
        Ok(_) => None,
        Err(e) => Some(Err(e)),
    }
}

/// Which dead letters are meant; all of them, where nothing is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// Those of this stream.
    pub stream: Option<StreamId>,
    /// Those with this reason.
    pub reason: Option<Reason>,
}

impl Selection {
    /// Of one stream, or of all.
    pub fn of_stream(stream: Option<&StreamId>) -> Selection {
        Selection { stream: stream.cloned(), reason: None }
    }

    /// In words, for the audit log.
    pub(crate) fn words(&self) -> String {
        let stream = self.stream.as_ref().map(|stream| format!("of stream {stream}"));
        let reason = self.reason.map(|reason| format!("with reason {reason}"));
        let named: Vec<String> = [stream, reason].into_iter().flatten().collect();
        if named.is_empty() { "all".to_owned() } else { named.join(", ") }
    }

    fn prefix(&self) -> String {
        self.stream.as_ref().map(|stream| format!("{stream}/")).unwrap_or_default()
    }

    fn takes(&self, letter: &DeadLetter) -> bool {
        self.stream.as_ref().is_none_or(|stream| *stream == letter.stream)
            && self.reason.is_none_or(|reason| reason == letter.reason)
    }
}

/// Some dead letters.
#[derive(Debug)]
pub struct Listing {
    /// Those that can be read.
    pub letters: Vec<DeadLetter>,
    /// How many stand among them that cannot be read any more.
    pub unreadable: u64,
    /// After which key the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// Dead letters in the order of their streams, `max` at most; `stream` narrows to one.
pub async fn list(store: &dyn Store, stream: Option<&StreamId>, max: usize) -> Result<Listing, BackendError> {
    page(store, &Selection::of_stream(stream), None, max).await
}

/// One page of the selected letters, in the order of their streams: `max` at most, after the key `after`. A page that looked
/// through many letters without finding so many is shorter, and says where the next one begins.
pub async fn page(
    store: &dyn Store,
    selection: &Selection,
    after: Option<&str>,
    max: usize,
) -> Result<Listing, BackendError> {
    /// Looked at for one page: what a request has time for.
    const LOOKED_AT: usize = 2_000;
    let (mut listing, mut looked_at) = (Listing { letters: Vec::new(), unreadable: 0, next: None }, 0);
    each(store, &selection.prefix(), after, |item| {
        looked_at += 1;
        match parse(&item.value) {
            Ok(letter) if selection.takes(&letter) => listing.letters.push(letter),
            Ok(_) => {}
            Err(_) => listing.unreadable += 1,
        }
        if listing.letters.len() < max && looked_at < LOOKED_AT.max(max) {
            return ControlFlow::Continue(());
        }
        listing.next = Some(item.key.sort.clone());
        ControlFlow::Break(())
    })
    .await?;
    Ok(listing)
}

/// The dead letter with this id, whichever stream it is of.
pub async fn find(store: &dyn Store, id: EventId) -> Result<Option<DeadLetter>, BackendError> {
    let mut found = None;
    let ends = format!("/{id}");
    each(store, "", None, |item| {
        if !item.key.sort.ends_with(&ends) {
            return ControlFlow::Continue(());
        }
        found = Some(parse(&item.value));
        ControlFlow::Break(())
    })
    .await?;
    found.transpose()
}

/// Shows every letter whose key begins with `prefix` and stands after `after`, until `visit` breaks off; a page at a time:
/// there may be more than memory holds.
async fn each(
    store: &dyn Store,
    prefix: &str,
    after: Option<&str>,
    mut visit: impl FnMut(&Item) -> ControlFlow<()>,
) -> Result<(), BackendError> {
    const PAGE: usize = 200;
    let mut after: Option<String> = after.map(str::to_owned);
    loop {
        let page = store.list(PARTITION, prefix, after.as_deref(), PAGE).await?;
        if page.iter().try_for_each(&mut visit).is_break() {
            return Ok(());
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.key.sort.clone()),
            _ => return Ok(()),
        }
    }
}
