//! Alerts that are made of other records [P3]: each passes the express way as one that its connector sends, admission included.
//!
//! What is durable when: the records that they are made of come first, unless their own queue takes none: an order does not wait for
//! that. Then, zone by zone, a message's own bytes are stored with its zone's thread, and only then it is sent; who must act hears of
//! it first, four zones at a time [P7]. The poll's cursor moves after all of them are stored; so a crash before makes the next poll
//! read the same rows and find the same messages, and one after it leaves stored bytes, which every poll sends first, whatever its
//! source answers. Sent again they are the same alert, which express knows. A thread's next message waits until the one before is
//! accepted. One that may not be sent, or that express can never take, was not told: it is held, and every poll tries it anew; however
//! often it is refused, it is one dead letter.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;

use super::{Incoming, Made, Verdict, Why, express_of};
use crate::app::App;
use crate::control::audit::{self, Action};
use crate::control::caller::{self, Caller};
use crate::decode::Row;
use crate::error::BackendError;
use crate::ingest::validate;
use crate::limits::{CRITICAL_PARALLEL, SEEN_KEPT_LASTING};
use crate::record::{Draft, Stream, StreamId};
use crate::sources::zones::alert::{Alerts, Message, Thread, Zone};
use crate::store::{self, Expect, Key};

/// A thread as it is stored, or is to be.
struct Stored {
    thread: Thread,
    expect: Expect,
    /// Its zone as people call it, where that is known.
    called: Option<String>,
    /// It is to be stored.
    changed: bool,
}

impl Default for Stored {
    fn default() -> Stored {
        Stored { thread: Thread::default(), expect: Expect::Absent, called: None, changed: false }
    }
}

/// Threads are known by their zones, whichever stream reads these.
fn partition(alerts: &Alerts) -> String {
    format!("express/derived/{}", alerts.source_id)
}

/// Sends what earlier polls stored and did not see accepted. What is said stands in the way of it.
///
/// # Errors
/// When the store is away.
pub(crate) async fn resume(app: &App, stream: &StreamId, alerts: &Alerts) -> Result<Vec<String>, BackendError> {
    let waiting =
        threads(app, alerts).await?.into_iter().filter(|(_, stored)| stored.thread.turn().is_some()).collect();
    tell(app, stream, alerts, waiting, true).await
}

/// Derives what these rows ask for.
///
/// # Errors
/// When the store is away: the same rows are to be given again.
pub(crate) async fn derive(
    app: &App,
    stream: &Stream,
    alerts: &Alerts,
    rows: impl Iterator<Item = Row>,
) -> Result<Vec<String>, BackendError> {
    let now = app.clock.now();
    let valid = rows.filter_map(|row| row.and_then(|draft| validate::check(draft, now)).ok());
    let drafts: Vec<(Draft, Zone)> = valid.filter_map(|draft| Zone::of(&draft).map(|zone| (draft, zone))).collect();
    if drafts.is_empty() {
        return Ok(Vec::new());
    }
    let mut threads = threads(app, alerts).await?;
    let after = |thread: &Thread, zone: &Zone| thread.after(zone, &alerts.connector, now);
    // What is made of most rows of an answer is known: only of the others the fire is looked for.
    let none = Thread::default();
    let is_news = |zone: &Zone| {
        let thread = threads.get(&zone.name()).map_or(&none, |stored| &stored.thread);
        after(thread, zone) != *thread
    };
    let (drafts, zones): (Vec<Draft>, Vec<Zone>) = drafts.into_iter().filter(|(_, zone)| is_news(zone)).unzip();
    let fires = app.fires.join(&*app.store, &app.clock, stream, drafts.iter()).await?;
    let mut changed = Vec::new();
    for (number, zone) in zones.into_iter().enumerate() {
        let zone = zone.of_fire(fires.found(number));
        let stored = threads.entry(zone.name()).or_default();
        let after = after(&stored.thread, &zone);
        if after != stored.thread && !std::mem::replace(&mut stored.changed, true) {
            changed.push(zone.name());
        }
        (stored.thread, stored.called) = (after, Some(zone.called()));
    }
    let changed = changed.into_iter().filter_map(|zone| threads.remove_entry(&zone)).collect();
    tell(app, &stream.id, alerts, changed, false).await
}

async fn threads(app: &App, alerts: &Alerts) -> Result<BTreeMap<String, Stored>, BackendError> {
    let items = store::list_all(&*app.store, &partition(alerts), "", usize::MAX).await?;
    let read = |item: store::Item| {
        let thread = serde_json::from_slice(&item.value).unwrap_or_else(|problem| {
            // An order that is told again harms less than one that is never told.
            tracing::error!(%problem, zone = item.key.sort, "the thread of a zone's alerts cannot be read and begins anew");
            Thread::default()
        });
        (item.key.sort, Stored { thread, expect: Expect::Version(item.version), ..Stored::default() })
    };
    Ok(items.into_iter().map(read).collect())
}

fn may_send(caller: &Caller, alerts: &Alerts) -> bool {
    caller
        .connector()
        .is_some_and(|connector| connector.registration.critical && connector.may_publish(&alerts.source_id))
}

/// What has come in the way of all of them.
#[derive(Default)]
struct Way {
    /// Nothing takes alerts now: what is to be stored is, and nothing more is sent.
    blocked: AtomicBool,
    /// The store is away: all of them come again.
    lost: AtomicBool,
}

/// As whom the threads of one stream's zones are told, and how that goes.
struct Telling<'a> {
    app: &'a App,
    stream: &'a StreamId,
    alerts: &'a Alerts,
    caller: Caller,
    way: Way,
}

/// Stores and sends what these threads have to say, the most urgent first.
/// `again`: also what is held. What is said stands in the way of it.
async fn tell(
    app: &App,
    stream: &StreamId,
    alerts: &Alerts,
    mut threads: Vec<(String, Stored)>,
    again: bool,
) -> Result<Vec<String>, BackendError> {
    if threads.is_empty() {
        return Ok(Vec::new());
    }
    let caller = caller::by_name(app, &alerts.connector).await?;
    threads.sort_by(|(_, a), (_, b)| a.thread.turn().cmp(&b.thread.turn()));
    let telling = Telling { app, stream, alerts, caller, way: Way::default() };
    let told: Vec<Result<Option<String>, BackendError>> = stream::iter(threads)
        .map(|(zone, stored)| telling.tell(zone, stored, again))
        .buffer_unordered(CRITICAL_PARALLEL)
        .collect()
        .await;
    told.into_iter().filter_map(Result::transpose).collect()
}

impl Telling<'_> {
    async fn tell(&self, zone: String, stored: Stored, again: bool) -> Result<Option<String>, BackendError> {
        if self.way.lost.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let told = self.tell_thread(&zone, stored, again).await;
        self.way.lost.fetch_or(told.is_err(), Ordering::Relaxed);
        told
    }

    async fn tell_thread(&self, zone: &str, stored: Stored, mut again: bool) -> Result<Option<String>, BackendError> {
        let Stored { mut thread, mut expect, called, mut changed } = stored;
        let called = called.unwrap_or_else(|| format!("zone {zone}"));
        let (now, sender) = (|| self.app.clock.now(), &self.alerts.connector);
        if !may_send(&self.caller, self.alerts) {
            while thread.pending.is_some() {
                self.withhold(&called).await?;
                (thread, changed) = (thread.held(sender, now()), true);
            }
            if changed {
                self.keep(zone, &thread, expect).await?;
            }
            return Ok(None);
        }
        expect = if changed { self.keep(zone, &thread, expect).await? } else { expect };
        let mut problem = None;
        while !self.way.blocked.load(Ordering::Relaxed) {
            let Some(message) = &thread.pending else {
                if !std::mem::take(&mut again) || thread.turn().is_none() {
                    break;
                }
                thread = thread.again(now());
                expect = self.keep(zone, &thread, expect).await?;
                continue;
            };
            thread = match self.send(message).await {
                Sent::Done => thread.sent(sender, now()),
                Sent::Never(why) => {
                    problem = Some(format!("an alert derived of {called} is a dead letter: {why}"));
                    thread.held(sender, now())
                }
                Sent::Refused => {
                    self.withhold(&called).await?;
                    thread.held(sender, now())
                }
                Sent::NotNow(why) => {
                    let is_first = !self.way.blocked.swap(true, Ordering::Relaxed);
                    return Ok(is_first.then(|| format!("derived alerts wait for the next poll: {why}")).or(problem));
                }
            };
            expect = self.keep(zone, &thread, expect).await?;
        }
        Ok(problem)
    }

    async fn withhold(&self, called: &str) -> Result<(), BackendError> {
        let (stream, Alerts { connector, source_id }) = (self.stream, self.alerts);
        let detail =
            format!("no alert was derived of {called}: connector {connector} holds no critical grant for {source_id}");
        tracing::warn!(%stream, detail);
        let (id, source) = (stream.as_str(), source_id.as_str());
        audit::write_bounded(self.app, Action::Refused, id, id, source, &detail).await
    }

    async fn keep(&self, zone: &str, thread: &Thread, expect: Expect) -> Result<Expect, BackendError> {
        let (key, what) = (Key::new(partition(self.alerts), zone), "the thread of a zone's alerts");
        if thread.is_over() {
            store::remove(&*self.app.store, &key).await?;
            return Ok(Expect::Absent);
        }
        let value = serde_json::to_vec(thread).map_err(|e| BackendError::Fatal(format!("{what}: {e}")))?;
        let expires = Some(self.app.clock.now() + SEEN_KEPT_LASTING);
        let written = self.app.store.put_if(&key, value.into(), expect, expires).await;
        written.map(Expect::Version).map_err(|e| match e {
            // Another stream of the same zones: the tick comes again, and finds what that one wrote.
            store::PutError::Conflict => BackendError::Retry(format!("{what} was changed meanwhile")),
            e => e.unexpected(what),
        })
    }

    async fn send(&self, message: &Message) -> Sent {
        let incoming = Incoming {
            caller: &self.caller,
            source: Some(&self.alerts.source_id),
            body: Bytes::copy_from_slice(message.body.as_bytes()),
            received_at: self.app.clock.now(),
            sender: None,
            lineage: None,
        };
        let made = Made { incident: message.incident.as_deref().map(Into::into), content: Some(message.content()) };
        match express_of(self.app, incoming, &made).await {
            Verdict::Taken { rejected, .. } => {
                rejected.first().map_or(Sent::Done, |reject| Sent::Never(reject.to_string()))
            }
            Verdict::Refused(refusal) if refusal.why == Why::NotData => Sent::Never(refusal.reject.to_string()),
            Verdict::Refused(_) => Sent::Refused,
            Verdict::Full { why, .. } => Sent::NotNow(why.to_string()),
            Verdict::Unavailable { problem, .. } => Sent::NotNow(problem.to_string()),
        }
    }
}

enum Sent {
    Done,
    Never(String),
    /// The connector may not send it.
    Refused,
    NotNow(String),
}
