//! Alerts that are made of other records [P3]: each passes the express way as one that its connector sends, admission included.
//!
//! What is durable when: the records that they are made of come first, and depend on nothing here. Then each message's own bytes are
//! stored with its zone's thread, and only then it is sent. The poll's cursor moves after all of them are stored; so a crash before
//! makes the next poll read the same rows and find the same messages, and one after it leaves stored bytes, which every poll sends
//! first, whatever its source answers. Sent again they are the same alert, which express knows. A thread's next message waits until
//! the one before is accepted.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Incoming, Verdict, Why, express};
use crate::app::App;
use crate::control::audit::{self, Action};
use crate::control::caller::{self, Caller};
use crate::decode::Row;
use crate::error::BackendError;
use crate::ingest::validate;
use crate::limits::SEEN_KEPT_LASTING;
use crate::record::{Stream, StreamId};
use crate::sources::zones::alert::{Alerts, Thread, Zone};
use crate::store::{self, Expect, Key};

/// A thread as it is stored.
struct Stored {
    thread: Thread,
    expect: Expect,
}

impl Default for Stored {
    fn default() -> Stored {
        Stored { thread: Thread::default(), expect: Expect::Absent }
    }
}

/// Threads are known by their zones, whichever stream reads these.
fn partition(alerts: &Alerts) -> String {
    format!("express/derived/{}", alerts.source_id)
}

/// Sends what an earlier poll stored and did not see accepted. What is said stands in the way of it.
///
/// # Errors
/// When the store is away.
pub(crate) async fn resume(app: &App, stream: &StreamId, alerts: &Alerts) -> Result<Option<String>, BackendError> {
    let threads = threads(app, alerts).await?;
    let pending: Vec<String> =
        threads.iter().filter(|(_, stored)| stored.thread.pending.is_some()).map(|(zone, _)| zone.clone()).collect();
    if pending.is_empty() {
        return Ok(None);
    }
    send(app, stream, alerts, threads, pending).await
}

/// Derives what these rows ask for; they are accepted.
///
/// # Errors
/// When the store is away: the same rows are to be given again.
pub(crate) async fn derive(
    app: &App,
    stream: &Stream,
    alerts: &Alerts,
    rows: impl Iterator<Item = Row>,
) -> Result<Option<String>, BackendError> {
    let now = app.clock.now();
    let valid = rows.filter_map(|row| row.and_then(|draft| validate::check(draft, now)).ok());
    let mut zones: Vec<Zone> = valid.filter_map(|draft| Zone::of(&draft)).collect();
    if zones.is_empty() {
        return Ok(None);
    }
    // Who must act hears of it first.
    zones.sort_by_key(|zone| !zone.is_urgent());
    let mut threads = threads(app, alerts).await?;
    let (mut due, mut granted) = (Vec::new(), None);
    for zone in zones {
        let stored = threads.entry(zone.name()).or_default();
        let mut after = stored.thread.after(&zone, &alerts.connector, now);
        if after == stored.thread {
            continue;
        }
        if after.pending.is_some() && stored.thread.pending.is_none() {
            let may = match granted {
                Some(may) => may,
                None => *granted.insert(may_send(&caller::by_name(app, &alerts.connector).await?, alerts)),
            };
            if may {
                due.push(zone.name());
            } else {
                let (withheld, said_before) = after.withheld();
                after = withheld;
                if said_before {
                    continue;
                }
                withhold(app, &stream.id, alerts, &zone.called()).await?;
            }
        }
        stored.expect = keep(app, alerts, &zone.name(), &after, stored.expect).await?;
        stored.thread = after;
    }
    send(app, &stream.id, alerts, threads, due).await
}

async fn threads(app: &App, alerts: &Alerts) -> Result<BTreeMap<String, Stored>, BackendError> {
    let items = store::list_all(&*app.store, &partition(alerts), "", usize::MAX).await?;
    let read = |item: store::Item| {
        let thread = serde_json::from_slice(&item.value).unwrap_or_else(|problem| {
            // An order that is told again harms less than one that is never told.
            tracing::error!(%problem, zone = item.key.sort, "the thread of a zone's alerts cannot be read and begins anew");
            Thread::default()
        });
        (item.key.sort, Stored { thread, expect: Expect::Version(item.version) })
    };
    Ok(items.into_iter().map(read).collect())
}

fn may_send(caller: &Caller, alerts: &Alerts) -> bool {
    caller
        .connector()
        .is_some_and(|connector| connector.registration.critical && connector.may_publish(&alerts.source_id))
}

async fn withhold(app: &App, stream: &StreamId, alerts: &Alerts, zone: &str) -> Result<(), BackendError> {
    let Alerts { connector, source_id } = alerts;
    let detail =
        format!("no alert was derived of {zone}: connector {connector} holds no critical grant for {source_id}");
    tracing::warn!(%stream, detail);
    audit::write_bounded(app, Action::Refused, stream.as_str(), stream.as_str(), source_id.as_str(), &detail).await
}

async fn keep(app: &App, alerts: &Alerts, zone: &str, thread: &Thread, expect: Expect) -> Result<Expect, BackendError> {
    let (key, what) = (Key::new(partition(alerts), zone), "the thread of a zone's alerts");
    if thread.is_over() {
        store::remove(&*app.store, &key).await?;
        return Ok(Expect::Absent);
    }
    let value = serde_json::to_vec(thread).map_err(|e| BackendError::Fatal(format!("{what}: {e}")))?;
    let expires = Some(app.clock.now() + SEEN_KEPT_LASTING);
    let written = app.store.put_if(&key, value.into(), expect, expires).await;
    written.map(Expect::Version).map_err(|e| match e {
        // Another stream of the same zones: the tick comes again, and finds what that one wrote.
        store::PutError::Conflict => BackendError::Retry(format!("{what} was changed meanwhile")),
        e => e.unexpected(what),
    })
}

/// Sends the pending messages of these zones, one after the other.
async fn send(
    app: &App,
    stream: &StreamId,
    alerts: &Alerts,
    mut threads: BTreeMap<String, Stored>,
    due: Vec<String>,
) -> Result<Option<String>, BackendError> {
    if due.is_empty() {
        return Ok(None);
    }
    let (caller, mut problem) = (caller::by_name(app, &alerts.connector).await?, None);
    for zone in due {
        let Some(Stored { mut thread, mut expect }) = threads.remove(&zone) else { continue };
        while let Some(message) = &thread.pending {
            let outcome =
                if may_send(&caller, alerts) { sent(app, &caller, alerts, &message.body).await } else { Sent::Refused };
            thread = match outcome {
                Sent::Done => thread.sent(&alerts.connector, app.clock.now()),
                Sent::Never(why) => {
                    problem = Some(format!("an alert derived of zone {zone} is a dead letter: {why}"));
                    thread.sent(&alerts.connector, app.clock.now())
                }
                Sent::Refused => {
                    let (thread, said_before) = thread.withheld();
                    if !said_before {
                        withhold(app, stream, alerts, &format!("zone {zone}")).await?;
                    }
                    thread
                }
                Sent::NotNow(why) => return Ok(Some(format!("derived alerts wait for the next poll: {why}"))),
            };
            expect = keep(app, alerts, &zone, &thread, expect).await?;
        }
    }
    Ok(problem)
}

enum Sent {
    Done,
    Never(String),
    /// The connector may not send it.
    Refused,
    NotNow(String),
}

async fn sent(app: &App, caller: &Caller, alerts: &Alerts, body: &str) -> Sent {
    let incoming = Incoming {
        caller,
        source: Some(&alerts.source_id),
        body: Bytes::copy_from_slice(body.as_bytes()),
        received_at: app.clock.now(),
        sender: None,
        lineage: None,
    };
    match express(app, incoming).await {
        Verdict::Taken { rejected, .. } => {
            rejected.first().map_or(Sent::Done, |reject| Sent::Never(reject.to_string()))
        }
        Verdict::Refused(refusal) if refusal.why == Why::NotData => Sent::Never(refusal.reject.to_string()),
        Verdict::Refused(_) => Sent::Refused,
        Verdict::Full { why, .. } => Sent::NotNow(why.to_string()),
        Verdict::Unavailable { problem, .. } => Sent::NotNow(problem.to_string()),
    }
}
