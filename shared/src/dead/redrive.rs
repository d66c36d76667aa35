//! Redriving [R4]: a dead letter goes once more the way that it came, after its fault was mended. It is decoded and validated
//! again, or, as a record that the sink refused, sent again, and says in its headers what it was. Only when the queue (for an
//! alert: queue or broker) has acknowledged what became of it does the letter go; a crash before that repeats it, with the
//! same `event_id` and `revision`, or finds that it is known. What fails again is the same letter with one more attempt.
//!
//! It is paced, one operator at a time, and waits while the queues are filled: live data goes first.
//!
//! Alerts go by their id alone, one by one: an order that was refused hours ago must not ring among others unnoticed. They
//! take the express way as their own sender, whose grant is asked anew, with `sent` and `expires` as the sender wrote
//! them; what has expired is marked so, and `quality` says how late it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;

use super::original::{self, Form};
use super::remove::{Gone, current};
use super::{DeadLetter, Rejected, Selection, bury_refused, find, page};
use crate::app::App;
use crate::control::audit::{self, Action};
use crate::control::caller;
use crate::control::connectors::ControlError;
use crate::decode::{Context, Format, Row};
use crate::error::{BackendError, Reason, Reject, Sender};
use crate::express::{self, Incoming, Verdict, Why};
use crate::ingest::dedup::Seen;
use crate::ingest::{self, IngestError, Ledger};
use crate::limits::{ENVELOPE_ZSTD_LEVEL, REDRIVE_PAGE, REDRIVE_PAGE_TIME, REDRIVE_QUEUED, REDRIVE_STEP};
use crate::queue::{Body, Message, send_one};
use crate::record::{ConnectorId, Envelope, EventId, Lineage, Outgoing, Stream, StreamId, Tier, WhenFull};
use crate::sink::{self, Sent};
use crate::sources;
use crate::time::Timestamp;

/// What is to be redriven.
#[derive(Debug, Clone)]
pub enum Redrive {
    /// One letter, also an alert.
    Letter(EventId),
    /// Many of them, page by page.
    Selected {
        /// Which ones.
        selection: Selection,
        /// Where the last page ended.
        after: Option<String>,
        /// When the first page began: what has failed since is not tried once more.
        began: Option<Timestamp>,
    },
}

/// What became of one letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Accepted: its records are durable, and the letter is gone.
    Accepted,
    /// All that it holds had been published before: nothing was sent, and the letter is gone.
    Known,
    /// Some of it can still not be accepted, and is a dead letter with one more attempt.
    Failed,
    /// Not tried: the words say what stands in the way. The letter is as it was.
    Held,
}

/// One letter that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// The letter's id.
    pub id: EventId,
    /// The stream that it came in.
    pub stream: StreamId,
    /// What became of it.
    pub outcome: Outcome,
    /// Records that were accepted.
    pub accepted: u64,
    /// Records that were known already.
    pub known: u64,
    /// Records that failed again.
    pub rejected: u64,
    /// Why it failed or was held; empty otherwise.
    pub words: String,
}

/// What a page did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Redriven {
    /// Every letter that was looked at.
    pub letters: Vec<Tried>,
    /// When the first page began, for the next one.
    #[serde(serialize_with = "crate::time::serialize")]
    pub began: Timestamp,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
    /// Why the page ended early: the next one is to be asked for in a moment.
    pub waits: Option<String>,
}

/// Longer than a page lasts.
const LEASE: Duration = REDRIVE_PAGE_TIME.saturating_mul(3);

/// Redrives one page of letters; `by` stands in the audit log.
///
/// # Errors
/// `Refused` while another redrive is under way, `Unknown` for an id that no letter has.
pub async fn redrive(app: &App, wanted: &Redrive, by: &str) -> Result<Redriven, ControlError> {
    let Some(lease) = app.leases.acquire(&*app.store, &app.clock, "dead-letters/redrive", by, LEASE).await? else {
        return Err(ControlError::Refused(
            "another redrive is under way: only one at a time leaves room for live data".into(),
        ));
    };
    let redriven = leased(app, wanted, by).await;
    lease.release(&*app.store).await?;
    redriven
}

async fn leased(app: &App, wanted: &Redrive, by: &str) -> Result<Redriven, ControlError> {
    let now = app.clock.now();
    // What failed since the caller's first page is not tried once more; a first page and a named letter try all.
    let (letters, end, failed_since, subject) = match wanted {
        Redrive::Letter(id) => {
            let letter =
                find(&*app.store, *id).await?.ok_or_else(|| ControlError::Unknown(format!("dead letter {id}")))?;
            (vec![letter], None, None, id.to_string())
        }
        Redrive::Selected { selection, after, began } => {
            let listing = page(&*app.store, selection, after.as_deref(), REDRIVE_PAGE).await?;
            (listing.letters, listing.next, *began, selection.words())
        }
    };
    let by_id = matches!(wanted, Redrive::Letter(_));
    let began = failed_since.unwrap_or(now);
    let mut audited = false;
    let mut redriven = Redriven { letters: Vec::new(), began, next: end, waits: None };
    let (mut gone, until) = (Gone::default(), Instant::now() + REDRIVE_PAGE_TIME);
    let mut last = match wanted {
        Redrive::Letter(_) => None,
        Redrive::Selected { after, .. } => after.clone(),
    };
    let mut failure = Ok(());
    for letter in letters {
        let key = letter.key();
        if failed_since.is_some_and(|began| letter.redriven_at.is_some_and(|at| at >= began)) {
            last = Some(key.sort);
            continue;
        }
        if Instant::now() >= until {
            redriven.next = last.or(Some(String::new()));
            break;
        }
        if !audited && filled(app).await?.is_none() {
            audit::write(app, Action::DeadLettersRedriven, by, &subject, "").await?;
            audited = true;
        }
        match one(app, &letter, by_id, &mut gone).await {
            Ok(Step::Done(tried)) => redriven.letters.extend(tried),
            Ok(Step::Wait(why)) => {
                redriven.next = last.or(Some(String::new()));
                redriven.waits = Some(why);
                break;
            }
            Err(problem) => {
                failure = Err(problem);
                break;
            }
        }
        last = Some(key.sort);
        tokio::time::sleep(REDRIVE_STEP).await;
    }
    gone.make_room(app).await?;
    failure?;
    Ok(redriven)
}

/// What a step of the page did.
enum Step {
    /// `None`: the letter is not there any more.
    Done(Option<Tried>),
    /// There is no room for it now.
    Wait(String),
}

/// What became of a letter's records.
enum Became {
    /// Everything that can never succeed is a dead letter again.
    Accounted(Ledger, String),
    /// Not tried.
    Held(String),
    Wait(String),
}

impl Became {
    fn accepted(records: u64) -> Became {
        Became::Accounted(Ledger { accepted: records, ..Ledger::default() }, String::new())
    }

    fn rejected(reject: &Reject) -> Became {
        Became::Accounted(Ledger { rejected: 1, ..Ledger::default() }, reject.to_string())
    }
}

async fn one(app: &App, listed: &DeadLetter, by_id: bool, gone: &mut Gone) -> Result<Step, BackendError> {
    let Some((letter, version)) = current(app, &listed.key()).await? else { return Ok(Step::Done(None)) };
    let became = if is_alert(&letter) && !by_id {
        Became::Held(format!(
            "an alert is redriven by its id alone ({}), after a look at what its sender has sent since",
            letter.id
        ))
    } else if let Some(tier) = filled(app).await? {
        return Ok(Step::Wait(format!("the {tier} queue holds over {REDRIVE_QUEUED} messages: live data goes first")));
    } else {
        again(app, &letter).await?
    };
    let tried = |outcome, ledger: &Ledger, words| {
        let (accepted, known, rejected) = (ledger.accepted, ledger.duplicates, ledger.rejected);
        Tried { id: letter.id, stream: letter.stream.clone(), outcome, accepted, known, rejected, words }
    };
    match became {
        Became::Wait(why) => Ok(Step::Wait(why)),
        Became::Held(why) => Ok(Step::Done(Some(tried(Outcome::Held, &Ledger::default(), why)))),
        Became::Accounted(ledger, words) => {
            if ledger.accepted + ledger.duplicates + ledger.rejected == 0 {
                let words = "no record was found in it".to_owned();
                return Ok(Step::Done(Some(tried(Outcome::Held, &ledger, words))));
            }
            // Failed in the same way, or met again meanwhile, it has another version, and stays.
            gone.remove(app, &letter, version).await?;
            let outcome = match (ledger.rejected, ledger.accepted) {
                (0, 0) => Outcome::Known,
                (0, _) => Outcome::Accepted,
                _ => Outcome::Failed,
            };
            metrics::counter!("stream_dlq_redriven_total", "outcome" => outcome_name(outcome)).increment(1);
            Ok(Step::Done(Some(tried(outcome, &ledger, words))))
        }
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted => "accepted",
        Outcome::Known => "known",
        Outcome::Failed => "failed",
        Outcome::Held => "held",
    }
}

/// The first tier whose queue has so much that live data would wait for what is redriven.
async fn filled(app: &App) -> Result<Option<Tier>, BackendError> {
    for tier in Tier::ALL {
        if app.queue.depth(app.settings.queues.tier(tier)).await?.total() > REDRIVE_QUEUED {
            return Ok(Some(tier));
        }
    }
    Ok(None)
}

/// Whatever may ring a siren.
fn is_alert(letter: &DeadLetter) -> bool {
    let pushed = letter.sender.as_ref();
    sources::is_critical(&letter.source)
        || pushed.is_some_and(|sender| sender.connector.is_some() || sender.topic.starts_with("alerts/"))
}

async fn again(app: &App, letter: &DeadLetter) -> Result<Became, BackendError> {
    let lineage = Arc::new(letter.lineage());
    if let Form::Published { .. } = letter.form {
        return match original::refused(app, letter).await {
            Ok(Some(record)) => sent_again(app, letter, record, &lineage).await,
            Ok(None) => Ok(gone_bytes()),
            Err(problem) => held_if_unreadable(problem),
        };
    }
    let bytes = match original::raw(&*app.blobs, letter).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(gone_bytes()),
        Err(problem) => return held_if_unreadable(problem),
    };
    if is_alert(letter) {
        alert(app, letter, bytes, lineage).await
    } else {
        taken_in(app, letter, bytes, lineage).await
    }
}

/// What is stored of one letter and cannot be read holds up no other one.
fn held_if_unreadable(problem: BackendError) -> Result<Became, BackendError> {
    match problem {
        BackendError::Fatal(words) => Ok(Became::Held(words)),
        away @ BackendError::Retry(_) => Err(away),
    }
}

fn gone_bytes() -> Became {
    Became::Held("its stored bytes are gone: purge it, and ask its source for the record".into())
}

/// The ingest path: decode, validate, seen-set, queue.
async fn taken_in(app: &App, letter: &DeadLetter, bytes: Bytes, lineage: Arc<Lineage>) -> Result<Became, BackendError> {
    let Some(format) = sources::format_of(&letter.source) else {
        return Ok(Became::Held(format!(
            "nothing reads the source {}: purge it when nobody needs its bytes",
            letter.source
        )));
    };
    let body = match &letter.header {
        Some(header) => Bytes::from([header.as_bytes(), b"\n", &bytes[..]].concat()),
        None => bytes.clone(),
    };
    let sender = letter.sender.clone().unwrap_or_default();
    // A reading of several in a message has a name of its own, the same at every redrive.
    let message = match (&sender.offset, letter.row) {
        (Some(offset), Some(row)) => Some(format!("{offset}.{row}")),
        (offset, _) => offset.clone(),
    };
    let context = Context {
        source: &letter.source,
        received_at: sender.received_at.unwrap_or(letter.first_seen),
        topic: Some(sender.topic.as_str()).filter(|topic| !topic.is_empty()),
        message: message.as_deref(),
    };
    let mappings = app.mappings.get(&*app.store).await?;
    let is_reading = format.name == Format::SENSOR.name;
    let mapping = context.topic.filter(|_| is_reading).and_then(|topic| mappings.of(topic));
    let read = match mapping {
        Some(mapping) => mapping.rows(&body, context),
        None => format.rows(&body, context),
    };
    let rows: Vec<Row> = match read {
        Ok(rows) => rows.collect(),
        // It was one of several once: what it lacks now is what stood around it, such as a header line that was too long.
        Err(reject) if letter.row.is_some() || !is_of_whole_body(letter.reason) => {
            return Ok(Became::Held(format!("it cannot be read by itself: {reject}")));
        }
        Err(reject) => vec![Err(reject)],
    };
    let alone = rows.len() == 1;
    let rows = rows.into_iter().map(|row| as_redriven(row, letter, &sender, &lineage, alone.then_some(&bytes)));
    let rows: Vec<Row> = rows.collect();
    let words = rows.iter().find_map(|row| row.as_ref().err().map(Reject::to_string)).unwrap_or_default();
    let stream = stream_of(letter);
    let (mut seen, mut ledger) = (Seen::of_tenant(&stream.tenant), Ledger::default());
    match ingest::ingest(app, &stream, &mut seen, &mut ledger, rows.into_iter()).await {
        Ok(()) => {
            let reasons = ledger.rejected_by_reason.keys().map(|reason| reason.code()).collect::<Vec<_>>().join(", ");
            let words = if words.is_empty() { reasons } else { words };
            Ok(Became::Accounted(ledger, words))
        }
        Err(IngestError::Full(why)) => Ok(Became::Wait(why.to_string())),
        Err(IngestError::Backend(problem)) => Err(problem),
    }
}

/// Whether a body as a whole may be refused for it.
fn is_of_whole_body(reason: Reason) -> bool {
    matches!(reason, Reason::NotData | Reason::BadJson | Reason::BadXml | Reason::Doctype | Reason::TooLarge)
}

/// A row of the letter, with what it was and who pushed it. `whole`: it is the letter's only one.
fn as_redriven(row: Row, letter: &DeadLetter, sender: &Sender, lineage: &Arc<Lineage>, whole: Option<&Bytes>) -> Row {
    let known = Some(sender).filter(|sender| **sender != Sender::default());
    match row {
        Ok(mut draft) => {
            draft.origin.sender = known.cloned().map(Arc::new);
            draft.origin.lineage = Some(lineage.clone());
            if let Some(bytes) = whole {
                draft.origin.raw = bytes.clone();
            }
            Ok(draft)
        }
        Err(mut reject) => {
            if let Some(bytes) = whole {
                reject = Reject { row: letter.row, ..reject.with_raw(bytes.clone()) };
            }
            reject.lineage = Some(lineage.clone());
            Err(if let Some(sender) = known { reject.sent_by(sender) } else { reject })
        }
    }
}

fn stream_of(letter: &DeadLetter) -> Stream {
    Stream {
        id: letter.stream.clone(),
        source: letter.source.clone(),
        tenant: letter.tenant.clone(),
        granted: false,
        when_full: WhenFull::Refuse,
    }
}

/// The express way, as the connector that sent it.
async fn alert(app: &App, letter: &DeadLetter, body: Bytes, lineage: Arc<Lineage>) -> Result<Became, BackendError> {
    let sender = letter.sender.as_ref().filter(|sender| !sender.topic.is_empty());
    let caller = match sender.and_then(|sender| sender.principal.as_deref()) {
        Some(principal) => Some(caller::by_principal(app, principal).await?),
        None => match ConnectorId::new(letter.stream.as_str()) {
            Ok(connector) => Some(caller::by_name(app, &connector).await?),
            Err(_) => None,
        },
    };
    let granted = caller.filter(|caller| {
        caller.connector().is_some_and(|connector| {
            connector.may_publish(&letter.source)
                && sources::route(&letter.source, connector.registration.critical).is_ok()
        })
    });
    let Some(caller) = granted else {
        return Ok(Became::Held(format!(
            "its sender is not registered for {}: register it, or have the agency send the alert anew",
            letter.source
        )));
    };
    let received_at = app.clock.now();
    let incoming =
        Incoming { caller: &caller, source: Some(&letter.source), body, received_at, sender, lineage: Some(lineage) };
    match express::express(app, incoming).await {
        Verdict::Taken { accepted, rejected, .. } => {
            let duplicates = accepted.iter().filter(|accepted| accepted.duplicate).count() as u64;
            let ledger = Ledger {
                accepted: accepted.len() as u64 - duplicates,
                duplicates,
                rejected: rejected.len() as u64,
                ..Ledger::default()
            };
            Ok(Became::Accounted(ledger, rejected.first().map(Reject::to_string).unwrap_or_default()))
        }
        Verdict::Refused(refusal) if refusal.why == Why::NotData => Ok(Became::rejected(&refusal.reject)),
        Verdict::Refused(refusal) => Ok(Became::Held(refusal.reject.to_string())),
        Verdict::Full { why, .. } => Ok(Became::Wait(why.to_string())),
        Verdict::Unavailable { problem, .. } => Err(problem),
    }
}

/// A record that was accepted and that the sink refused goes out again under its key, `event_id` and `revision`.
async fn sent_again(
    app: &App,
    letter: &DeadLetter,
    mut record: Outgoing,
    lineage: &Lineage,
) -> Result<Became, BackendError> {
    // What it says of an earlier redrive is in the letter.
    let _ = Lineage::taken_from(&mut record.extra);
    record.extra.extend(lineage.headers());
    let stream = stream_of(letter);
    let sent = match sink::refusal(&record) {
        Some(Sent::Refused(reason, detail)) => Err(Reject::new(reason, detail)),
        _ if record.tier == Tier::Critical => express::again(app, &stream, record.clone()).await?,
        _ => {
            queued(app, &stream, &record).await?;
            Ok(())
        }
    };
    match sent {
        Ok(()) => Ok(Became::accepted(1)),
        Err(reject) => {
            let refused = vec![Rejected::refused(&letter.stream, record, reject.reason, reject.detail.clone())];
            bury_refused(app, &letter.stream, &letter.tenant, refused).await?;
            Ok(Became::rejected(&reject))
        }
    }
}

async fn queued(app: &App, stream: &Stream, record: &Outgoing) -> Result<(), BackendError> {
    let (now, trace) = (app.clock.now(), record.traceparent.clone());
    let (id, records) = (app.rng.ulid(now), std::slice::from_ref(record));
    let (stream, tenant) = (stream.id.clone(), stream.tenant.clone());
    let envelope = Envelope::pack(id, stream, tenant, record.tier, now, trace, records, ENVELOPE_ZSTD_LEVEL)
        .and_then(|envelope| envelope.encode())
        .map_err(|e| BackendError::Fatal(e.to_string()))?;
    send_one(&*app.queue, app.settings.queues.tier(record.tier), Message::now(Body::Binary(envelope))).await?;
    app.tally.accepted(1, u64::from(record.revision > 0));
    ingest::count_processed(&record.source, 1);
    Ok(())
}
