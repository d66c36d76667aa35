//! Dead letters: records that can never succeed, with their original bytes [R4]. The same bad row read again is the same
//! dead letter, seen once more. An outage never sends a good record here.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::blobs::BlobRef;
use crate::error::{BackendError, Reason, Reject, Sender};
use crate::limits::{DEAD_LETTER_INLINE_BYTES, ENVELOPE_ZSTD_LEVEL};
use crate::queue::{Body, Message};
use crate::record::Topic;
use crate::record::ids;
use crate::record::schema;
use crate::record::{
    ConnectorId, Envelope, EventId, Outgoing, SourceId, Stream, StreamId, TenantId, Tier, Traceparent,
};
use crate::store::{self, Expect, Key, PutError};
use crate::time::Timestamp;

const PARTITION: &str = "dead-letters";

/// The original bytes, here or in the blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Raw {
    Inline(String),
    Blob(BlobRef),
}

/// One record that can never succeed, as it is stored and listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// From source, reason and bytes: the same fault has the same id.
    pub id: EventId,
    pub source: SourceId,
    pub stream: StreamId,
    pub tenant: TenantId,
    pub reason: Reason,
    pub detail: String,
    /// 1-based row within its body, where there were several.
    pub row: Option<u64>,
    /// The event that the sink refused; absent for what never became one.
    pub event: Option<EventId>,
    /// Who pushed it the first time, where that is known.
    pub sender: Option<Sender>,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// How often it was tried or read.
    pub attempts: u64,
    /// Base64 when inline.
    pub raw: Raw,
    pub raw_bytes: u64,
}

/// A record about to be buried.
struct Burial {
    source: SourceId,
    event: Option<EventId>,
    reject: Reject,
}

/// Stores the rejects of a batch; durable when it returns.
pub async fn bury_rejects(app: &App, stream: &Stream, rejects: Vec<(SourceId, Reject)>) -> Result<(), BackendError> {
    let burials = rejects.into_iter().map(|(source, reject)| Burial { source, event: None, reject });
    bury(app, &stream.id, &stream.tenant, burials.collect()).await
}

/// Stores records that the sink refused for good; durable when it returns.
pub async fn bury_refused(
    app: &App,
    stream: &StreamId,
    tenant: &TenantId,
    refused: Vec<(Outgoing, Reason, String)>,
) -> Result<(), BackendError> {
    let burials = refused.into_iter().map(|(record, reason, detail)| Burial {
        source: record.source,
        event: Some(record.event),
        reject: Reject::new(reason, detail).with_raw(record.value),
    });
    bury(app, stream, tenant, burials.collect()).await
}

/// Stores what was pushed by a sender that may not publish it, under its connector if that is known; durable when it returns.
pub async fn bury_unadmitted(
    app: &App,
    connector: Option<&ConnectorId>,
    source: &SourceId,
    reject: Reject,
) -> Result<(), BackendError> {
    let fatal = |e: ids::BadId| BackendError::Fatal(e.to_string());
    let stream = StreamId::new(connector.map_or(source.as_str(), ConnectorId::as_str)).map_err(fatal)?;
    let tenant = TenantId::new("shared").map_err(fatal)?;
    bury(app, &stream, &tenant, vec![Burial { source: source.clone(), event: None, reject }]).await
}

/// Stores a message that belongs to no stream, such as one that is not an envelope of ours, under the stream `stray`; durable when it returns.
pub async fn bury_stray(app: &App, raw: Bytes, detail: String) -> Result<(), BackendError> {
    let fatal = |e: ids::BadId| BackendError::Fatal(e.to_string());
    let (source, stream) = (SourceId::new("stray").map_err(fatal)?, StreamId::new("stray").map_err(fatal)?);
    let tenant = TenantId::new("stray").map_err(fatal)?;
    let reject = Reject::new(Reason::NotData, detail).with_raw(raw);
    bury(app, &stream, &tenant, vec![Burial { source, event: None, reject }]).await
}

async fn bury(app: &App, stream: &StreamId, tenant: &TenantId, burials: Vec<Burial>) -> Result<(), BackendError> {
    const AT_ONCE: usize = 64;
    let mut first_time = Vec::new();
    for chunk in burials.chunks(AT_ONCE) {
        let stored =
            futures::future::try_join_all(chunk.iter().map(|burial| store(app, stream, tenant, burial))).await?;
        first_time.extend(stored.into_iter().flatten());
    }
    // The report of every hour and start sets it; in between it is counted.
    metrics::gauge!("stream_dlq_size").increment(first_time.len() as f64);
    if app.settings.announce_dead_letters && !first_time.is_empty() {
        announce(app, stream, tenant, &first_time).await?;
    }
    Ok(())
}

/// Gives the letter when it is new.
async fn store(
    app: &App,
    stream: &StreamId,
    tenant: &TenantId,
    burial: &Burial,
) -> Result<Option<DeadLetter>, BackendError> {
    let Burial { source, event, reject } = burial;
    let id = EventId::of(source, [reject.reason.code().as_bytes(), &reject.raw]);
    let key = Key::new(PARTITION, format!("{stream}/{id}"));
    let now = app.clock.now();
    loop {
        let existing = app.store.get(&key).await?;
        let (letter, expect) = match &existing {
            Some(item) => {
                let before: DeadLetter = parse(&item.value)?;
                (DeadLetter { last_seen: now, attempts: before.attempts + 1, ..before }, Expect::Version(item.version))
            }
            None => {
                let raw = if reject.raw.len() <= DEAD_LETTER_INLINE_BYTES {
                    Raw::Inline(BASE64.encode(&reject.raw))
                } else {
                    Raw::Blob(app.blobs.put(reject.raw.clone()).await?)
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
                    raw,
                    raw_bytes: reject.raw.len() as u64,
                };
                (letter, Expect::Absent)
            }
        };
        let value = serde_json::to_vec(&letter).map_err(|e| BackendError::Fatal(format!("dead letter: {e}")))?;
        match app.store.put_if(&key, value.into(), expect, None).await {
            Ok(_) => return Ok(existing.is_none().then_some(letter)),
            Err(PutError::Conflict) => {}
            Err(e) => return Err(e.of("dead letter")),
        }
    }
}

fn parse(value: &[u8]) -> Result<DeadLetter, BackendError> {
    serde_json::from_slice(value).map_err(|e| BackendError::Fatal(format!("a stored dead letter cannot be read: {e}")))
}

/// The original bytes of a dead letter.
pub async fn raw(app: &App, letter: &DeadLetter) -> Result<Option<Bytes>, BackendError> {
    match &letter.raw {
        Raw::Inline(text) => {
            let bytes =
                BASE64.decode(text).map_err(|e| BackendError::Fatal(format!("dead letter {}: {e}", letter.id)))?;
            Ok(Some(bytes.into()))
        }
        Raw::Blob(blob) => app.blobs.get(blob).await,
    }
}

/// Dead letters in the order of their streams, `max` at most; `stream` narrows to one.
pub async fn list(app: &App, stream: Option<&StreamId>, max: usize) -> Result<Vec<DeadLetter>, BackendError> {
    let prefix = stream.map(|stream| format!("{stream}/")).unwrap_or_default();
    let items = store::list_all(&*app.store, PARTITION, &prefix, max).await?;
    items.iter().map(|item| parse(&item.value)).collect()
}

/// A record that can never be accepted or delivered: everything but its bytes, which `dead-letters` commands show [K2].
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Announcement<'a> {
    /// From source, reason and bytes: the same fault has the same id.
    event_id: EventId,
    source_id: &'a SourceId,
    stream_id: &'a StreamId,
    tenant: &'a TenantId,
    reason: Reason,
    /// Names the field and the rule that it broke.
    detail: &'a str,
    /// 1-based row within its body, where there were several.
    row: Option<u64>,
    /// `event_id` of the record that the sink refused; null for what never became one.
    refused_event_id: Option<EventId>,
    /// RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "crate::time::serialize")]
    #[schemars(schema_with = "schema::time")]
    first_seen: Timestamp,
    /// Size of the original bytes.
    raw_bytes: u64,
}

async fn announce(app: &App, stream: &StreamId, tenant: &TenantId, letters: &[DeadLetter]) -> Result<(), BackendError> {
    let fatal = |e: &dyn std::fmt::Display| BackendError::Fatal(format!("dead-letter announcement: {e}"));
    let traceparent = Traceparent::new(app.rng.bytes(), app.rng.bytes());
    let now = app.clock.now();
    let mut records = Vec::with_capacity(letters.len());
    for letter in letters {
        let announcement = Announcement {
            event_id: letter.id,
            source_id: &letter.source,
            stream_id: &letter.stream,
            tenant,
            reason: letter.reason,
            detail: &letter.detail,
            row: letter.row,
            refused_event_id: letter.event,
            first_seen: letter.first_seen,
            raw_bytes: letter.raw_bytes,
        };
        records.push(Outgoing {
            topic: Topic::DEAD_LETTERS,
            key: letter.source.to_string(),
            value: serde_json::to_vec(&announcement).map_err(|e| fatal(&e))?.into(),
            event: letter.id,
            revision: 0,
            source: letter.source.clone(),
            tenant: tenant.clone(),
            tier: Tier::Low,
            dataschema: Topic::DEAD_LETTERS.schema_uri(&app.settings.schemas_url),
            observed_at: letter.first_seen,
            ingested_at: now,
            traceparent: traceparent.clone(),
            extra: Vec::new(),
        });
    }
    for chunk in records.chunks(200) {
        let id = app.rng.ulid(now);
        let (stream, tenant, trace) = (stream.clone(), tenant.clone(), traceparent.clone());
        let envelope = Envelope::pack(id, stream, tenant, Tier::Low, now, trace, chunk, ENVELOPE_ZSTD_LEVEL)
            .and_then(|envelope| envelope.encode())
            .map_err(|e| fatal(&e))?;
        let sent = app.queue.send(&app.settings.queues.low, &[Message::now(Body::Binary(envelope))]).await?;
        match sent.into_iter().next() {
            Some(Ok(())) => app.tally.announced(chunk.len() as u64),
            // The letter itself is stored; its announcement is best effort when LOW is full.
            other => tracing::warn!(?other, "dead letters were not announced"),
        }
    }
    Ok(())
}

/// Dead letters of one stream and one reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pattern {
    pub stream: StreamId,
    pub reason: Reason,
    pub letters: u64,
    /// Readings of the same faults, first ones included.
    pub attempts: u64,
    #[serde(serialize_with = "crate::time::serialize")]
    pub last_seen: Timestamp,
    /// One of them, in words.
    pub example: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PatternReport {
    pub letters: u64,
    /// Most letters first.
    pub patterns: Vec<Pattern>,
}

/// Every dead letter, grouped [R4].
pub async fn patterns(app: &App) -> Result<PatternReport, BackendError> {
    let mut grouped: BTreeMap<(StreamId, Reason), Pattern> = BTreeMap::new();
    let letters = list(app, None, usize::MAX).await?;
    for letter in &letters {
        let pattern = grouped.entry((letter.stream.clone(), letter.reason)).or_insert_with(|| Pattern {
            stream: letter.stream.clone(),
            reason: letter.reason,
            letters: 0,
            attempts: 0,
            last_seen: letter.last_seen,
            example: letter.detail.clone(),
        });
        pattern.letters += 1;
        pattern.attempts += letter.attempts;
        pattern.last_seen = pattern.last_seen.max(letter.last_seen);
    }
    let mut patterns: Vec<Pattern> = grouped.into_values().collect();
    patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.letters));
    Ok(PatternReport { letters: letters.len() as u64, patterns })
}
