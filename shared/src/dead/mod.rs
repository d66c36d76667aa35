//! Dead letters: records that can never succeed, with their original bytes [R4]. The same bad row read again is the same
//! dead letter, seen once more. An outage never sends a good record here. A stream keeps so many letters; what comes beyond
//! is counted, and letters that are seen no more expire.

mod announce;
mod count;
mod patterns;
#[cfg(all(test, feature = "embedded", feature = "testing"))]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::blobs::{BlobRef, Blobs};
use crate::error::{BackendError, Reason, Reject, Sender};
use crate::limits::{DEAD_LETTER_INLINE_BYTES, DEAD_LETTER_KEPT};
use crate::record::ids;
use crate::record::{ConnectorId, EventId, Outgoing, SourceId, Stream, StreamId, TenantId};
use crate::store::{self, Expect, Key, PutError, Store};
use crate::time::Timestamp;
pub(crate) use announce::Announcement;
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

/// One record that can never succeed, as it is stored and listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// From source, reason and bytes: the same fault has the same id.
    pub id: EventId,
    /// The source id that it was to be published under.
    pub source: SourceId,
    /// The stream that it came in; the patterns group by it.
    pub stream: StreamId,
    /// Whose record it was to be [D4].
    pub tenant: TenantId,
    /// Why it can never succeed.
    pub reason: Reason,
    /// The field and the rule that it broke, with the offending text shortened.
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
    /// `original` is what came; a reject that holds bytes, such as the one row of many, is more exact.
    pub fn new(source: SourceId, reject: Reject, original: &Bytes) -> Rejected {
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

/// What became of a batch of rejects.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Buried {
    /// Those that were not dead letters before, by reason.
    pub first: BTreeMap<Reason, u64>,
}

/// Stores the rejects of a batch; durable when it returns.
pub async fn bury_rejects(app: &App, stream: &Stream, rejects: Vec<Rejected>) -> Result<Buried, BackendError> {
    bury(app, &stream.id, &stream.tenant, rejects).await
}

/// Stores records that the sink refused for good; durable when it returns.
pub(crate) async fn bury_refused(
    app: &App,
    stream: &StreamId,
    tenant: &TenantId,
    refused: Vec<(Outgoing, Reason, String)>,
) -> Result<(), BackendError> {
    let rejected = refused.into_iter().map(|(record, reason, detail)| Rejected {
        event: Some(record.event),
        ..Rejected::new(record.source, Reject::new(reason, detail), &record.value)
    });
    bury(app, stream, tenant, rejected.collect()).await.map(|_| ())
}

/// Stores what was pushed by a sender that may not publish it, under its connector if that is known; durable when it returns.
pub async fn bury_unadmitted(
    app: &App,
    connector: Option<&ConnectorId>,
    rejected: Rejected,
) -> Result<(), BackendError> {
    let fatal = |e: ids::BadId| BackendError::Fatal(e.to_string());
    let stream = StreamId::new(connector.map_or(rejected.source.as_str(), ConnectorId::as_str)).map_err(fatal)?;
    let tenant = TenantId::new("shared").map_err(fatal)?;
    bury(app, &stream, &tenant, vec![rejected]).await.map(|_| ())
}

/// Stores a message that belongs to no stream, such as one that no program of ours wrote, under the stream `stray`, with who
/// pushed it if that is known; durable when it returns.
pub async fn bury_stray(app: &App, raw: Bytes, detail: String, sender: Option<&Sender>) -> Result<(), BackendError> {
    let fatal = |e: ids::BadId| BackendError::Fatal(e.to_string());
    let (source, stream) = (SourceId::new("stray").map_err(fatal)?, StreamId::new("stray").map_err(fatal)?);
    let tenant = TenantId::new("stray").map_err(fatal)?;
    let mut reject = Reject::new(Reason::NotData, detail);
    if let Some(sender) = sender {
        reject = reject.sent_by(sender);
    }
    let rejected = Rejected::new(source, reject, &raw);
    bury(app, &stream, &tenant, vec![rejected]).await.map(|_| ())
}

async fn bury(app: &App, stream: &StreamId, tenant: &TenantId, rejects: Vec<Rejected>) -> Result<Buried, BackendError> {
    const AT_ONCE: usize = 64;
    if rejects.is_empty() {
        return Ok(Buried::default());
    }
    let room = AtomicU64::new(count::room(&*app.store, &app.clock, stream).await?);
    let (mut buried, mut letters, mut beyond) = (Buried::default(), Vec::new(), 0);
    for chunk in rejects.chunks(AT_ONCE) {
        let stored = chunk.iter().map(|rejected| keep(app, stream, tenant, rejected, &room));
        for (rejected, stored) in chunk.iter().zip(futures::future::try_join_all(stored).await?) {
            match stored {
                Stored::Again => continue,
                Stored::First(letter) => letters.push(*letter),
                Stored::Beyond => beyond += 1,
            }
            *buried.first.entry(rejected.reason()).or_default() += 1;
        }
    }
    count::add(&*app.store, stream, letters.len() as u64, beyond).await?;
    // The report of every hour and start sets it; in between it is counted.
    metrics::gauge!("stream_dlq_size").increment(letters.len() as f64);
    metrics::counter!("stream_dlq_beyond_total").increment(beyond);
    if app.settings.announce_dead_letters && !letters.is_empty() {
        announce::announce(app, stream, tenant, &letters).await?;
    }
    Ok(buried)
}

enum Stored {
    First(Box<DeadLetter>),
    Again,
    /// The stream has as many letters as it may: this one is only counted.
    Beyond,
}

async fn keep(
    app: &App,
    stream: &StreamId,
    tenant: &TenantId,
    rejected: &Rejected,
    room: &AtomicU64,
) -> Result<Stored, BackendError> {
    let Rejected { source, event, reject, raw } = rejected;
    let id = EventId::of(source, [reject.reason.code().as_bytes(), raw]);
    let key = Key::new(PARTITION, format!("{stream}/{id}"));
    let now = app.clock.now();
    let mut place = None;
    loop {
        let existing = app.store.get(&key).await?;
        let (letter, expect) = match &existing {
            Some(item) => {
                let before: DeadLetter = parse(&item.value)?;
                (DeadLetter { last_seen: now, attempts: before.attempts + 1, ..before }, Expect::Version(item.version))
            }
            None => {
                let taken = |room: u64| room.checked_sub(1);
                if place.is_none() && room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_err() {
                    return Ok(Stored::Beyond);
                }
                place = Some(());
                let kept = if raw.len() <= DEAD_LETTER_INLINE_BYTES {
                    Raw::Inline(BASE64.encode(raw))
                } else {
                    Raw::Blob(app.blobs.put(raw.clone()).await?)
                };
                let letter = DeadLetter {
                    id,
                    source: source.clone(),
                    stream: stream.clone(),
                    tenant: tenant.clone(),
                    reason: reject.reason,
                    detail: reject.detail.clone(),
                    row: reject.row,
                    event: *event,
                    sender: reject.sender.as_deref().cloned(),
                    first_seen: now,
                    last_seen: now,
                    attempts: 1,
                    raw: kept,
                    raw_bytes: raw.len() as u64,
                };
                (letter, Expect::Absent)
            }
        };
        let value = serde_json::to_vec(&letter).map_err(|e| BackendError::Fatal(format!("dead letter: {e}")))?;
        match app.store.put_if(&key, value.into(), expect, Some(now + DEAD_LETTER_KEPT)).await {
            Ok(_) if existing.is_none() => return Ok(Stored::First(Box::new(letter))),
            Ok(_) => return Ok(Stored::Again),
            Err(PutError::Conflict) => {}
            Err(e) => return Err(e.unexpected("dead letter")),
        }
    }
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

/// Dead letters in the order of their streams, `max` at most; `stream` narrows to one.
pub async fn list(store: &dyn Store, stream: Option<&StreamId>, max: usize) -> Result<Vec<DeadLetter>, BackendError> {
    let prefix = stream.map(|stream| format!("{stream}/")).unwrap_or_default();
    let items = store::list_all(store, PARTITION, &prefix, max).await?;
    items.iter().map(|item| parse(&item.value)).collect()
}

/// The dead letter with this id, whichever stream it is of.
pub async fn find(store: &dyn Store, id: EventId) -> Result<Option<DeadLetter>, BackendError> {
    let mut found = None;
    let ends = format!("/{id}");
    each(store, "", |item| {
        if found.is_none() && item.key.sort.ends_with(&ends) {
            found = Some(parse(&item.value));
        }
    })
    .await?;
    found.transpose()
}

/// Shows every letter whose key begins with `prefix`, a page at a time: there may be more than memory holds.
async fn each(store: &dyn Store, prefix: &str, mut visit: impl FnMut(&store::Item)) -> Result<(), BackendError> {
    const PAGE: usize = 200;
    let mut after: Option<String> = None;
    loop {
        let page = store.list(PARTITION, prefix, after.as_deref(), PAGE).await?;
        page.iter().for_each(&mut visit);
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.key.sort.clone()),
            _ => return Ok(()),
        }
    }
}
