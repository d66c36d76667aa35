//! The original of a dead letter: what came, or the record that the sink refused. Few bytes lie in the letter; more lie in a
//! blob of its own, which no other letter has, so that it can go when its letter goes. Blobs are named by their content, so
//! that each ends with a tag that no other one has. A note is written before the blob: whatever ends half-way, and a letter
//! that expires, leaves a note by which the sweep finds bytes without a letter.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::{DeadLetter, PARTITION, Raw, parse};
use crate::app::App;
use crate::blobs::{BlobRef, Blobs};
use crate::error::BackendError;
use crate::limits::{DEAD_LETTER_INLINE_BYTES, DEAD_LETTER_SWEPT_AFTER};
use crate::record::{EventId, Outgoing, SourceId, TenantId, Tier, Topic, Traceparent};
use crate::store::{self, Expect, Item, Key};
use crate::time::{Clock, Rng, Timestamp};

/// What is stored of a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The bytes as they came: a redrive decodes them again.
    AsReceived,
    /// The record that the sink refused, with its key and its headers: a redrive sends it again.
    Published {
        /// Where it was to go, before any prefix.
        topic: String,
    },
}

/// A record that the sink refused, whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Published {
    pub(super) topic: String,
    key: String,
    event: EventId,
    revision: u32,
    tier: Tier,
    dataschema: String,
    observed_at: Timestamp,
    published_at: Option<Timestamp>,
    ingested_at: Timestamp,
    headers: Vec<(String, String)>,
    /// Base64 of the published value.
    value: String,
}

impl Published {
    pub(super) fn of(record: &Outgoing) -> Published {
        Published {
            topic: record.topic.name().to_owned(),
            key: record.key.clone(),
            event: record.event,
            revision: record.revision,
            tier: record.tier,
            dataschema: record.dataschema.to_string(),
            observed_at: record.observed_at,
            published_at: record.published_at,
            ingested_at: record.ingested_at,
            headers: record.extra.clone(),
            value: BASE64.encode(&record.value),
        }
    }

    pub(super) fn encode(&self) -> Result<Bytes, BackendError> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|e| BackendError::Fatal(format!("dead letter: {e}")))
    }

    fn decode(letter: EventId, bytes: &[u8]) -> Result<Published, BackendError> {
        serde_json::from_slice(bytes).map_err(|e| unreadable(letter, &e))
    }

    fn value(&self, letter: EventId) -> Result<Bytes, BackendError> {
        BASE64.decode(&self.value).map(Bytes::from).map_err(|e| unreadable(letter, &e))
    }

    /// The record as it was, in a trace of its own.
    fn record(
        self,
        letter: EventId,
        source: &SourceId,
        tenant: &TenantId,
        rng: &Rng,
    ) -> Result<Outgoing, BackendError> {
        let value = self.value(letter)?;
        let topic = Topic::named(&self.topic);
        Ok(Outgoing {
            topic: topic.ok_or_else(|| unreadable(letter, &format_args!("there is no topic {}", self.topic)))?,
            key: self.key,
            value,
            event: self.event,
            revision: self.revision,
            source: source.clone(),
            tenant: tenant.clone(),
            tier: self.tier,
            dataschema: self.dataschema.into(),
            observed_at: self.observed_at,
            published_at: self.published_at,
            ingested_at: self.ingested_at,
            traceparent: Traceparent::new(rng.bytes(), rng.bytes()),
            extra: self.headers,
        })
    }
}

fn unreadable(letter: EventId, problem: &dyn std::fmt::Display) -> BackendError {
    BackendError::Fatal(format!("what is stored of dead letter {letter} cannot be read: {problem}"))
}

/// Every blob ends with a text of this length that no other one has.
const TAG_BYTES: usize = ulid::ULID_LEN;
/// Notes of blobs, by their references.
const NOTES: &str = "dead-letter-blobs";

/// Whose bytes a blob holds.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// Sort key of the letter.
    letter: String,
    at: Timestamp,
}

/// Stores the original of the letter at `key`, which is written next.
pub(super) async fn put(app: &App, key: &Key, bytes: &Bytes) -> Result<Raw, BackendError> {
    if bytes.len() <= DEAD_LETTER_INLINE_BYTES {
        return Ok(Raw::Inline(BASE64.encode(bytes)));
    }
    let at = app.clock.now();
    let tagged = Bytes::from([&bytes[..], app.rng.ulid(at).to_string().as_bytes()].concat());
    let blob = BlobRef::of(&tagged);
    let note = serde_json::to_vec(&Note { letter: key.sort.clone(), at });
    let note = note.map_err(|e| BackendError::Fatal(format!("dead letter: {e}")))?;
    let noted = app.store.put_if(&Key::new(NOTES, blob.as_str()), note.into(), Expect::Any, None).await;
    noted.map_err(|e| e.unexpected("dead letter"))?;
    app.blobs.put(tagged).await?;
    Ok(Raw::Blob(blob))
}

async fn stored(blobs: &dyn Blobs, letter: &DeadLetter) -> Result<Option<Bytes>, BackendError> {
    match &letter.raw {
        Raw::Inline(text) => BASE64.decode(text).map(|bytes| Some(bytes.into())).map_err(|e| unreadable(letter.id, &e)),
        Raw::Blob(blob) => {
            let untagged = |bytes: Bytes| bytes.slice(..bytes.len().saturating_sub(TAG_BYTES));
            Ok(blobs.get(blob).await?.map(untagged))
        }
    }
}

/// The original bytes of a dead letter, or the value of the record that the sink refused; `None` when they are gone.
pub async fn raw(blobs: &dyn Blobs, letter: &DeadLetter) -> Result<Option<Bytes>, BackendError> {
    let Some(bytes) = stored(blobs, letter).await? else { return Ok(None) };
    match letter.form {
        Form::AsReceived => Ok(Some(bytes)),
        Form::Published { .. } => Published::decode(letter.id, &bytes)?.value(letter.id).map(Some),
    }
}

/// The record that the sink refused; `None` when its bytes are gone.
pub(super) async fn refused(app: &App, letter: &DeadLetter) -> Result<Option<Outgoing>, BackendError> {
    let Some(bytes) = stored(&*app.blobs, letter).await? else { return Ok(None) };
    Published::decode(letter.id, &bytes)?.record(letter.id, &letter.source, &letter.tenant, &app.rng).map(Some)
}

/// Drops the bytes of a letter that is gone. What stays because of a failure the sweep takes.
pub(super) async fn forget(app: &App, raw: &Raw) {
    let Raw::Blob(blob) = raw else { return };
    if let Err(problem) = forget_blob(app, blob).await {
        tracing::warn!(%problem, %blob, "the bytes of a dead letter that is gone are dropped later");
    }
}

async fn forget_blob(app: &App, blob: &BlobRef) -> Result<(), BackendError> {
    app.blobs.delete(blob).await?;
    store::remove(&*app.store, &Key::new(NOTES, blob.as_str())).await
}

/// Drops stored bytes whose letter is gone: purged, redriven or expired. Gives how many blobs went.
pub async fn sweep(app: &App) -> Result<u64, BackendError> {
    const PAGE: usize = 200;
    const AT_ONCE: usize = 16;
    let (mut dropped, mut after) = (0, None::<String>);
    loop {
        let page = app.store.list(NOTES, "", after.as_deref(), PAGE).await?;
        let last = page.last().map(|item| item.key.sort.clone()).filter(|_| page.len() == PAGE);
        let swept = stream::iter(page).map(|item| async move { swept(app, &item).await }).buffer_unordered(AT_ONCE);
        dropped += swept.try_fold(0, |sum, one| async move { Ok(sum + u64::from(one)) }).await?;
        match last {
            Some(last) => after = Some(last),
            None => return Ok(dropped),
        }
    }
}

/// Whether the noted blob was dropped. A letter is written a moment after its note: a young one says nothing.
async fn swept(app: &App, item: &Item) -> Result<bool, BackendError> {
    let Ok(blob) = item.key.sort.parse::<BlobRef>() else { return Ok(false) };
    let Ok(note) = serde_json::from_slice::<Note>(&item.value) else {
        tracing::warn!(%blob, "the note of stored bytes cannot be read: they stay");
        return Ok(false);
    };
    if !is_old(&app.clock, note.at) {
        return Ok(false);
    }
    let there = app.store.get(&Key::new(PARTITION, note.letter)).await?;
    // A letter that cannot be read keeps its bytes.
    let in_use =
        there.is_some_and(|item| parse(&item.value).map_or(true, |letter| letter.raw == Raw::Blob(blob.clone())));
    if !in_use {
        forget_blob(app, &blob).await?;
    }
    Ok(!in_use)
}

fn is_old(clock: &Clock, at: Timestamp) -> bool {
    clock.since(at) >= DEAD_LETTER_SWEPT_AFTER
}
