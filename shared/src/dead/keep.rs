//! Storing of dead letters, each within its allowance.

use std::sync::Arc;

use bytes::Bytes;

use super::bounds::{self, Room};
use super::original::{self, Form, Published};
use super::{Allowance, Buried, DeadLetter, Kept, Rejected, announce, key, parse};
use crate::app::App;
use crate::control::connectors;
use crate::error::{BackendError, Reason, Reject, Sender};
use crate::limits::{DEAD_LETTER_HEADER_BYTES, DEAD_LETTER_KEPT, DEAD_LETTER_TIMES};
use crate::record::ids::BadId;
use crate::record::{ConnectorId, EventId, Lineage, Outgoing, SourceId, Stream, StreamId, TenantId};
use crate::schedule::streams;
use crate::store::{Expect, PutError, Store};
use crate::time::Timestamp;

/// Stores the rejects of a batch; durable when it returns, up to what the stream may keep.
pub async fn bury_rejects(app: &App, stream: &Stream, rejects: Vec<Rejected>) -> Result<Buried, BackendError> {
    if rejects.is_empty() {
        return Ok(Buried::default());
    }
    let allowance = allowance_of(&*app.store, &stream.id).await?;
    bury(app, &stream.id, &stream.tenant, allowance, rejects).await
}

/// Stores records that the sink refused for good: they were accepted, and all of them are kept. Durable when it returns.
pub(crate) async fn bury_refused(
    app: &App,
    stream: &StreamId,
    tenant: &TenantId,
    refused: Vec<Rejected>,
) -> Result<(), BackendError> {
    bury(app, stream, tenant, Allowance::Accepted, refused).await.map(|_| ())
}

impl Rejected {
    /// A record of this stream that the sink refused, whole.
    pub(crate) fn refused(stream: &StreamId, mut record: Outgoing, reason: Reason, detail: String) -> Rejected {
        let mut reject = Reject::new(reason, detail);
        reject.lineage = Lineage::taken_from(&mut record.extra).map(Arc::new);
        reject.sender = sender_of(stream, &record).map(Box::new);
        let published = Some(Published::of(&record));
        Rejected { event: Some(record.event), published, ..Rejected::new(record.source, reject, &record.value) }
    }
}

/// Who sent a record that was accepted, as far as it still says so: an alert came by its stream's connector, and a reading
/// names its sensor.
fn sender_of(stream: &StreamId, record: &Outgoing) -> Option<Sender> {
    if record.extra.iter().any(|(name, _)| name == "msgType") {
        return Some(Sender { connector: Some(stream.to_string()), ..Sender::default() });
    }
    let value: serde_json::Value = serde_json::from_slice(&record.value).ok()?;
    let sensor = value["data"]["sensor_id"].as_str()?.to_owned();
    Some(Sender { sensor: Some(sensor), ..Sender::default() })
}

/// Stores what was pushed by a sender that may not publish it, under its connector if that is known; durable when it
/// returns, up to what may be kept. Whoever proved nothing uses up no stream's own allowance.
pub async fn bury_unadmitted(
    app: &App,
    connector: Option<&ConnectorId>,
    rejected: Rejected,
) -> Result<Kept, BackendError> {
    let stream = StreamId::new(connector.map_or(rejected.source.as_str(), ConnectorId::as_str)).map_err(fatal)?;
    let allowance = match connector {
        Some(_) => allowance_of(&*app.store, &stream).await?,
        None => Allowance::Pushed,
    };
    let tenant = TenantId::new("shared").map_err(fatal)?;
    bury(app, &stream, &tenant, allowance, vec![rejected]).await.map(|buried| buried.of_one())
}

/// Stores a pushed message that belongs to no stream, under the stream `stray`, with who pushed it; durable when it returns, up
/// to what may be kept.
pub async fn bury_stray(app: &App, raw: Bytes, reject: Reject, sender: &Sender) -> Result<Kept, BackendError> {
    stray(app, Allowance::Pushed, raw, reject.sent_by(sender)).await
}

/// Stores what lay in a queue of ours and cannot be read, such as a row that the disk damaged, under the stream `stray`: it
/// may have been accepted, and all of it is kept. Durable when it returns.
pub async fn bury_unreadable(app: &App, raw: Bytes, detail: String) -> Result<(), BackendError> {
    stray(app, Allowance::Accepted, raw, Reject::new(Reason::NotData, detail)).await.map(drop)
}

/// Takes over what the disk of a data folder damaged: each such row becomes a dead letter, which people look at, and only then is
/// it forgotten there.
#[cfg(feature = "embedded")]
pub async fn bury_damaged(app: &App, folder: &crate::embedded::Embedded) -> Result<(), BackendError> {
    /// Rows taken over at a time.
    const AT_ONCE: usize = 10;
    for damaged in folder.damaged(AT_ONCE)? {
        bury_unreadable(app, damaged.bytes, format!("{} was damaged on the disk", damaged.what)).await?;
        folder.forget_damaged(damaged.number).await?;
    }
    Ok(())
}

async fn stray(app: &App, allowance: Allowance, raw: Bytes, reject: Reject) -> Result<Kept, BackendError> {
    let (source, stream) = (SourceId::new("stray").map_err(fatal)?, StreamId::new("stray").map_err(fatal)?);
    let tenant = TenantId::new("stray").map_err(fatal)?;
    let rejected = Rejected::new(source, reject, &raw);
    bury(app, &stream, &tenant, allowance, vec![rejected]).await.map(|buried| buried.of_one())
}

fn fatal(e: BadId) -> BackendError {
    BackendError::Fatal(e.to_string())
}

/// The streams of alerts are called as their connectors.
async fn allowance_of(store: &dyn Store, stream: &StreamId) -> Result<Allowance, BackendError> {
    let registered = streams::is_registered(store, stream).await?
        || match ConnectorId::new(stream.as_str()) {
            Ok(connector) => connectors::is_registered(store, &connector).await?,
            Err(_) => false,
        };
    Ok(if registered { Allowance::Registered } else { Allowance::Pushed })
}

async fn bury(
    app: &App,
    stream: &StreamId,
    tenant: &TenantId,
    allowance: Allowance,
    rejects: Vec<Rejected>,
) -> Result<Buried, BackendError> {
    const AT_ONCE: usize = 64;
    let room = bounds::room(&*app.store, &app.clock, stream, allowance).await?;
    let (mut buried, mut letters, mut kept) = (Buried::default(), Vec::new(), Ok(()));
    for chunk in rejects.chunks(AT_ONCE) {
        let all = chunk.iter().map(|rejected| keep(app, stream, tenant, allowance, rejected, &room));
        for (rejected, stored) in chunk.iter().zip(futures::future::join_all(all).await) {
            match stored {
                Ok(Stored::First(letter)) => {
                    letters.push(*letter);
                    *buried.first.entry(rejected.reason()).or_default() += 1;
                }
                Ok(Stored::Again | Stored::Beyond) => {}
                Err(problem) => kept = kept.and(Err(problem)),
            }
        }
        if kept.is_err() {
            break;
        }
    }
    // What was stored before another failed, too: when the batch comes again, it is not new any more.
    let bytes = letters.iter().map(|letter| letter.raw_bytes).sum();
    let beyond = room.beyond();
    buried.beyond = beyond;
    if beyond > 0 {
        tracing::warn!(%stream, beyond, "as many dead letters are kept as may be: what is rejected is only counted");
    }
    let counted = room.add(&*app.store, letters.len() as u64, bytes).await;
    // The report of every hour and start sets it; in between it is counted.
    metrics::gauge!("stream_dlq_size").increment(letters.len() as f64);
    metrics::counter!("stream_dlq_beyond_total").increment(beyond);
    let mut announced = Ok(());
    if app.settings.announce_dead_letters && !letters.is_empty() {
        announced = announce::announce(app, stream, tenant, &letters).await;
    }
    kept.and(counted).and(announced).map(|()| buried)
}

enum Stored {
    First(Box<DeadLetter>),
    Again,
    /// As many letters or bytes are kept as may be: this one is only counted.
    Beyond,
}

async fn keep(
    app: &App,
    stream: &StreamId,
    tenant: &TenantId,
    allowance: Allowance,
    rejected: &Rejected,
    room: &Room,
) -> Result<Stored, BackendError> {
    let Rejected { source, event, reject, raw, content, published } = rejected;
    let id = EventId::of(source, [reject.reason.code().as_bytes(), content.as_ref().unwrap_or(raw)]);
    let key = key(stream, id);
    let now = app.clock.now();
    let redriven = reject.lineage.as_deref();
    let mut place = None;
    loop {
        let existing = app.store.get(&key).await?;
        let before = existing.as_ref().and_then(|item| parse(&item.value).ok());
        if existing.is_none() && place.is_none() {
            // What is redriven was kept before: it stays, also beyond the bound.
            if redriven.is_none() && !room.take(raw.len() as u64) {
                return Ok(Stored::Beyond);
            }
            place = Some(());
        }
        let letter = match before {
            Some(before) => DeadLetter {
                last_seen: now,
                attempts: before.attempts + 1,
                tried_at: with_time(before.tried_at.clone(), now),
                redriven_at: redriven.map(|_| now).or(before.redriven_at),
                ..before
            },
            // A letter that cannot be read any more is written anew, in its own place.
            None => {
                let first_seen = redriven.map_or(now, |lineage| lineage.first_seen);
                let (stored, form) = match published {
                    Some(record) => (record.encode()?, Form::Published { topic: record.topic.clone() }),
                    None => (raw.clone(), Form::AsReceived),
                };
                DeadLetter {
                    id,
                    source: source.clone(),
                    stream: stream.clone(),
                    allowance,
                    tenant: tenant.clone(),
                    reason: reject.reason,
                    detail: reject.detail.clone(),
                    row: reject.row,
                    event: *event,
                    sender: reject.sender.as_deref().cloned(),
                    first_seen,
                    last_seen: now,
                    attempts: redriven.map_or(0, |lineage| lineage.attempts) + 1,
                    tried_at: with_time(redriven.map(|lineage| lineage.first_seen).into_iter().collect(), now),
                    redriven_at: redriven.map(|_| now),
                    header: header(reject),
                    form,
                    raw: original::put(app, &key, &stored).await?,
                    raw_bytes: raw.len() as u64,
                }
            }
        };
        let expect = existing.as_ref().map_or(Expect::Absent, |item| Expect::Version(item.version));
        let value = serde_json::to_vec(&letter).map_err(|e| BackendError::Fatal(format!("dead letter: {e}")))?;
        match app.store.put_if(&key, value.into(), expect, Some(now + DEAD_LETTER_KEPT)).await {
            Ok(_) if existing.is_none() => return Ok(Stored::First(Box::new(letter))),
            Ok(_) => return Ok(Stored::Again),
            Err(PutError::Conflict) => {}
            Err(e) => return Err(e.unexpected("dead letter")),
        }
    }
}

/// The last of them; a letter does not grow with each poll.
fn with_time(mut times: Vec<Timestamp>, now: Timestamp) -> Vec<Timestamp> {
    times.push(now);
    times.drain(..times.len().saturating_sub(DEAD_LETTER_TIMES));
    times
}

fn header(reject: &Reject) -> Option<String> {
    let line = reject.header.as_deref().filter(|line| line.len() <= DEAD_LETTER_HEADER_BYTES)?;
    Some(String::from_utf8_lossy(line).into_owned())
}
