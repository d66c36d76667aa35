//! Dead letters: records that can never succeed, with their original bytes [R4]. The same bad row read again is the same
//! dead letter, seen once more. An outage never sends a good record here. A stream keeps so many letters; what comes beyond
//! is counted, and letters that are seen no more expire. What was accepted is kept without a bound of ours: nothing else has it.

mod announce;
mod bounds;
#[cfg(all(test, feature = "embedded", feature = "testing"))]
#[allow(clippy::unwrap_used)]
mod bounds_tests;
mod keep;
mod patterns;
#[cfg(all(test, feature = "embedded", feature = "testing"))]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::blobs::{BlobRef, Blobs};
use crate::error::{BackendError, Reason, Reject, Sender};
use crate::limits::{DEAD_LETTER_DETAIL_CHARS, DEAD_LETTER_SENDER_CHARS};
use crate::record::{EventId, SourceId, StreamId, TenantId};
use crate::store::{self, Item, Store};
use crate::time::Timestamp;
pub(crate) use announce::Announcement;
pub(crate) use keep::bury_refused;
pub use keep::{bury_rejects, bury_stray, bury_unadmitted, bury_unreadable};
pub use patterns::{Pattern, PatternReport, patterns};

const PARTITION: &str = "dead-letters";

/// The original bytes, here or in the blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Raw {
    /// Base64 of bytes that are few enough to lie in the letter itself.
    Inline(String),
    /// More bytes than fit into an item of the store: [`raw`] reads them.
    Blob(BlobRef),
}

/// Which bound a letter counts against [Q2].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// From source, reason and bytes: the same fault has the same id.
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
    /// How often it was tried or read.
    pub attempts: u64,
    /// Base64 when inline.
    pub raw: Raw,
    /// Size of the original bytes.
    pub raw_bytes: u64,
}

/// A record on its way to the dead letters, never without the bytes that came [S9].
#[derive(Debug, Clone)]
pub struct Rejected {
    source: SourceId,
    event: Option<EventId>,
    reject: Reject,
    raw: Bytes,
}

impl Rejected {
    /// `original` is what came; a reject that holds bytes, such as the one row of many, is more exact. What strangers wrote
    /// is cut here, so that every letter fits into an item of the store.
    pub fn new(source: SourceId, mut reject: Reject, original: &Bytes) -> Rejected {
        cut(&mut reject.detail, DEAD_LETTER_DETAIL_CHARS);
        if let Some(sender) = &mut reject.sender {
            let Sender { topic, client, principal, sensor } = &mut **sender;
            let texts = [Some(topic), client.as_mut(), principal.as_mut(), sensor.as_mut()];
            texts.into_iter().flatten().for_each(|text| cut(text, DEAD_LETTER_SENDER_CHARS));
        }
        let raw = if reject.raw.is_empty() { original.clone() } else { reject.raw.clone() };
        Rejected { source, event: None, reject, raw }
    }

    /// A row that its decoder refused, with the bytes that it names.
    pub(crate) fn of_row(source: SourceId, reject: Reject) -> Rejected {
        let raw = reject.raw.clone();
        Rejected::new(source, reject, &raw)
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
}

fn parse(value: &[u8]) -> Result<DeadLetter, BackendError> {
    serde_json::from_slice(value).map_err(|e| BackendError::Fatal(format!("a stored dead letter cannot be read: {e}")))
}

/// The original bytes of a dead letter.
pub async fn raw(blobs: &dyn Blobs, letter: &DeadLetter) -> Result<Option<Bytes>, BackendError> {
    match &letter.raw {
        Raw::Inline(text) => {
            let bytes =
                BASE64.decode(text).map_err(|e| BackendError::Fatal(format!("dead letter {}: {e}", letter.id)))?;
            Ok(Some(bytes.into()))
        }
        Raw::Blob(blob) => blobs.get(blob).await,
    }
}

/// Some dead letters.
#[derive(Debug)]
pub struct Listing {
    /// Those that can be read.
    pub letters: Vec<DeadLetter>,
    /// How many stand among them that cannot be read any more.
    pub unreadable: u64,
}

/// Dead letters in the order of their streams, `max` at most; `stream` narrows to one.
pub async fn list(store: &dyn Store, stream: Option<&StreamId>, max: usize) -> Result<Listing, BackendError> {
    let prefix = stream.map(|stream| format!("{stream}/")).unwrap_or_default();
    let items = store::list_all(store, PARTITION, &prefix, max).await?;
    let letters: Vec<DeadLetter> = items.iter().filter_map(|item| parse(&item.value).ok()).collect();
    Ok(Listing { unreadable: (items.len() - letters.len()) as u64, letters })
}

/// The dead letter with this id, whichever stream it is of.
pub async fn find(store: &dyn Store, id: EventId) -> Result<Option<DeadLetter>, BackendError> {
    let mut found = None;
    let ends = format!("/{id}");
    each(store, "", |item| {
        if !item.key.sort.ends_with(&ends) {
            return ControlFlow::Continue(());
        }
        found = Some(parse(&item.value));
        ControlFlow::Break(())
    })
    .await?;
    found.transpose()
}

/// Shows every letter whose key begins with `prefix`, until `visit` breaks off; a page at a time: there may be more than
/// memory holds.
async fn each(
    store: &dyn Store,
    prefix: &str,
    mut visit: impl FnMut(&Item) -> ControlFlow<()>,
) -> Result<(), BackendError> {
    const PAGE: usize = 200;
    let mut after: Option<String> = None;
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
