//! A body's rows, batch by batch, over four stages: judged, packed, sent to the queues, stored in the seen-set. Every stage works on a
//! batch of its own at the same time, so that nobody waits for the disk alone, nor for a thread that packs.
//!
//! A batch is sent only when the queues have acknowledged all of the one before. If they do not, the next ones have been judged in
//! vain and are forgotten. A crash repeats what was acknowledged and not yet stored, with the same `event_id` and `revision` [K6]:
//! one batch on a host, whose writer keeps the order in which it is asked; on AWS two.

use std::panic::resume_unwind;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{spawn_blocking, yield_now};

use super::dedup::{Pages, Seen};
use super::{IngestError, Ledger, SentEnvelopes, count, enrich, note_queued, pack, send, validate};
use crate::app::App;
use crate::dead::{self, Rejected};
use crate::decode::{Row, sensor};
use crate::error::BackendError;
use crate::limits::BATCH_RECORDS;
use crate::record::{Draft, Record, Stream};
use crate::time::Timestamp;

/// Rows that are read and valid, and the others.
struct Read {
    at: Timestamp,
    valid: Vec<Draft>,
    rejects: Vec<Rejected>,
    ledger: Ledger,
}

/// Judged: what the seen-set lets through, enriched.
struct Judged {
    at: Timestamp,
    records: Vec<Record>,
    rejects: Vec<Rejected>,
    ledger: Ledger,
}

struct Packed {
    envelopes: Vec<pack::Packed>,
    rejects: Vec<Rejected>,
    ledger: Ledger,
}

/// Acknowledged by the queues.
struct Accepted {
    pages: Pages,
    rejects: Vec<Rejected>,
    ledger: Ledger,
}

/// See [`ingest`](super::ingest).
pub(super) async fn take(
    app: &App,
    stream: &Stream,
    seen: &mut Seen,
    ledger: &mut Ledger,
    rows: impl Iterator<Item = Row>,
) -> Result<(), IngestError> {
    let taken = take_in_turn(app, stream, seen, ledger, &mut rows.fuse()).await;
    if taken.is_err() {
        // What was judged and not taken is judged anew when the caller comes back with it.
        seen.forget_unaccepted();
    }
    taken
}

async fn take_in_turn(
    app: &App,
    stream: &Stream,
    seen: &mut Seen,
    ledger: &mut Ledger,
    rows: &mut impl Iterator<Item = Row>,
) -> Result<(), IngestError> {
    // It can be judged only when everything before it is stored.
    let mut unjudged = read(app, stream, rows).await;
    let (mut judged, mut packed, mut accepted) = (None, None, None);
    loop {
        if judged.is_none() && packed.is_none() && accepted.is_none() {
            let Some(read) = unjudged.take() else { return Ok(()) };
            seen.load(&*app.store, &app.clock, &read.valid).await?;
            judged = Some(judge(app, stream, seen, read).await?);
        }
        if packed.is_some()
            && let Err(problem) = seen.keep_turns(&*app.store, &app.clock).await
        {
            store_last(app, stream, seen, accepted, ledger).await?;
            return Err(problem.into());
        }
        let storing = store(app, stream, accepted.take(), ledger);
        let sending = async {
            let batch: Packed = packed.take()?;
            let sent = send(app, stream, &batch.envelopes).await;
            Some((batch, sent))
        };
        let packing = async {
            match judged.take() {
                Some(batch) => pack_apart(app, stream, batch).await.map(Some),
                None => Ok(None),
            }
        };
        let judging = async {
            if unjudged.is_none() {
                unjudged = read(app, stream, rows).await;
                if let Some(read) = unjudged.take_if(|read| seen.judges_ahead(&read.valid)) {
                    seen.load_ahead(&*app.store, &read.valid).await?;
                    return judge(app, stream, seen, read).await.map(Some);
                }
            }
            Ok(None)
        };
        // In this order: the marks never reach the disk after the batch that follows theirs [K6], and nobody begins after what takes
        // a thread's time.
        let (stored, sent, next_packed, next_judged) = futures::join!(storing, sending, packing, judging);
        let stored = match stored {
            Ok(Some(pages)) => seen.stored(pages, &*app.store).await,
            Ok(None) => Ok(()),
            Err(e) => Err(e),
        };
        let (now_accepted, failure) = match sent {
            Some((batch, sent)) => {
                let (accepted, failure) = accept(app, seen, batch, sent);
                (Some(accepted), failure)
            }
            None => (None, Ok(())),
        };
        if let Err(problem) = stored {
            // Not stored either: both come again, in their order and so with the same revisions [K6].
            if let Some(accepted) = now_accepted {
                ledger.add(&only_accepted(accepted.ledger));
            }
            return Err(problem.into());
        }
        match failure.and_then(|()| Ok((next_packed?, next_judged?))) {
            Ok(next) => {
                accepted = now_accepted;
                (packed, judged) = next;
            }
            Err(problem) => {
                // Whatever stands in the way, what the queues have is stored before anything is done.
                store_last(app, stream, seen, now_accepted, ledger).await?;
                return Err(problem);
            }
        }
    }
}

/// Rows that are read or judged before other tasks get their turn: less than a millisecond's.
const TURN: usize = 256;

/// The next batch; `None` at the end.
async fn read(app: &App, stream: &Stream, rows: &mut impl Iterator<Item = Row>) -> Option<Read> {
    let at = app.clock.now();
    let mut read = Read { at, valid: Vec::new(), rejects: Vec::new(), ledger: Ledger::default() };
    for (n, row) in rows.take(BATCH_RECORDS).enumerate() {
        if n % TURN == TURN - 1 {
            yield_now().await;
        }
        read.ledger.decoded += 1;
        match row.and_then(|draft| validate::check(draft, at)) {
            Ok(draft) => read.valid.push(draft),
            Err(reject) => read.rejects.push(Rejected::of_row(stream.source.clone(), reject)),
        }
    }
    (read.ledger.decoded > 0).then_some(read)
}

/// `seen` was told of these rows.
async fn judge(app: &App, stream: &Stream, seen: &mut Seen, read: Read) -> Result<Judged, BackendError> {
    let Read { at, valid, mut rejects, mut ledger } = read;
    let revisions: Vec<Option<u32>> = valid.iter().map(|draft| seen.judge(draft).revision()).collect();
    let accepted = valid.iter().zip(&revisions).filter(|(_, revision)| revision.is_some()).map(|(draft, _)| draft);
    let fires = app.fires.join(&*app.store, &app.clock, stream, accepted).await?;
    ledger.duplicates += revisions.iter().filter(|revision| revision.is_none()).count() as u64;
    let accepted = valid.into_iter().zip(revisions).filter_map(|(draft, revision)| Some((draft, revision?)));
    let mut records = Vec::with_capacity(accepted.size_hint().1.unwrap_or_default());
    for (number, (draft, revision)) in accepted.enumerate() {
        if number % TURN == TURN - 1 {
            yield_now().await;
        }
        if sensor::is_without_measure(&draft) {
            metrics::counter!("stream_readings_without_measure_total").increment(1);
        }
        let source = draft.source.clone();
        match enrich(draft, revision, stream, at) {
            Ok(mut record) => {
                record.incident = fires.incident(number, &record);
                records.push(record);
            }
            Err(reject) => rejects.push(Rejected::of_row(source, reject)),
        }
    }
    Ok(Judged { at, records, rejects, ledger })
}

/// Records that are worth a thread of their own: it costs to be woken what packing a few dozen does.
const APART: usize = 64;

/// Packs a batch, where there are several threads on another one: it takes as long as judging the next batch.
#[allow(clippy::disallowed_methods)] // a simulated run has one thread, and packs on it
async fn pack_apart(app: &App, stream: &Stream, batch: Judged) -> Result<Packed, BackendError> {
    let Judged { at, records, mut rejects, ledger } = batch;
    let has_threads = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    let (mut envelopes, refused) = if has_threads && records.len() >= APART {
        let (settings, rng, of) = (app.settings.clone(), app.rng.clone(), stream.clone());
        match spawn_blocking(move || pack::pack(&settings, &rng, &of, at, records)).await {
            Ok(packed) => packed,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => {
                    return Err(BackendError::Retry(format!(
                        "{}: the process ends before a batch was packed; it comes again",
                        stream.id
                    )));
                }
            },
        }
    } else {
        pack::pack(&app.settings, &app.rng, stream, at, records)
    };
    for packed in &mut envelopes {
        app.fresh.keep(&packed.envelope, std::mem::take(&mut packed.records));
    }
    rejects.extend(refused);
    Ok(Packed { envelopes, rejects, ledger })
}

/// Takes over what the queues have acknowledged of a batch. If that is not all of it, the rest is offered again by the caller, and
/// with it the batch's other rows.
fn accept(app: &App, seen: &mut Seen, batch: Packed, sent: SentEnvelopes) -> (Accepted, Result<(), IngestError>) {
    let Packed { envelopes, rejects, mut ledger } = batch;
    for (packed, _) in envelopes.iter().zip(sent.acknowledged).filter(|(_, acknowledged)| *acknowledged) {
        note_queued(app, packed);
        for id in &packed.ids {
            match id.revision {
                0 => ledger.new += 1,
                _ => ledger.revisions += 1,
            }
        }
        seen.accept(&packed.ids);
        ledger.accepted += packed.ids.len() as u64;
        *ledger.tiers.entry(packed.envelope.tier).or_default() += packed.ids.len() as u64;
    }
    app.tally.accepted(ledger.accepted, ledger.revisions);
    let pages = seen.stage(&app.clock);
    let accepted = match &sent.failure {
        Ok(()) => Accepted { pages, rejects, ledger },
        Err(_) => Accepted { pages, rejects: Vec::new(), ledger: only_accepted(ledger) },
    };
    (accepted, sent.failure)
}

/// Stores the marks of a batch, then its dead letters, and tells the ledger.
async fn store(
    app: &App,
    stream: &Stream,
    batch: Option<Accepted>,
    ledger: &mut Ledger,
) -> Result<Option<Pages>, BackendError> {
    let Some(Accepted { pages, rejects, ledger: mut this }) = batch else { return Ok(None) };
    let stored = async {
        let pages = pages.store(&*app.store).await?;
        let reasons: Vec<_> = rejects.iter().map(Rejected::reason).collect();
        let buried = dead::bury_rejects(app, stream, rejects).await?;
        Ok::<_, BackendError>((pages, reasons, buried))
    };
    match stored.await {
        Ok((pages, reasons, buried)) => {
            reasons.into_iter().for_each(|reason| this.reject(reason));
            this.rejected_first = buried.first.values().sum();
            count(stream, &this, &buried);
            ledger.add(&this);
            Ok(Some(pages))
        }
        Err(problem) => {
            ledger.add(&only_accepted(this));
            Err(problem)
        }
    }
}

/// Stores what the queues have before a body is given up.
async fn store_last(
    app: &App,
    stream: &Stream,
    seen: &mut Seen,
    batch: Option<Accepted>,
    ledger: &mut Ledger,
) -> Result<(), BackendError> {
    match store(app, stream, batch, ledger).await? {
        Some(pages) => seen.stored(pages, &*app.store).await,
        None => Ok(()),
    }
}

/// The other rows come again.
fn only_accepted(ledger: Ledger) -> Ledger {
    Ledger { decoded: ledger.accepted, duplicates: 0, ..ledger }
}

#[cfg(all(test, feature = "embedded", feature = "testing"))]
mod tests;
