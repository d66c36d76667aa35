//! Announcements of dead letters on their topic: everything but the bytes, which `dead-letters` commands show [K2].

use schemars::JsonSchema;
use serde::Serialize;

use super::DeadLetter;
use crate::app::App;
use crate::error::{BackendError, Reason};
use crate::limits::ENVELOPE_ZSTD_LEVEL;
use crate::queue::{Body, Message};
use crate::record::Topic;
use crate::record::schema;
use crate::record::{Envelope, EventId, Outgoing, SourceId, StreamId, TenantId, Tier, Traceparent};
use crate::time::Timestamp;

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

pub(super) async fn announce(
    app: &App,
    stream: &StreamId,
    tenant: &TenantId,
    letters: &[DeadLetter],
) -> Result<(), BackendError> {
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
            dataschema: Topic::DEAD_LETTERS.schema_uri(&app.settings.schemas_url).into(),
            observed_at: letter.first_seen,
            published_at: None,
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
