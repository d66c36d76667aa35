//! A body's rows, batch by batch, over three stages: judged and packed, sent to the queues, stored in the seen-set. While a batch
//! is sent, the marks of the one before are stored and the next one is judged, so that nobody waits for the disk alone.
//!
//! A batch is sent only when the queues have acknowledged all of the one before. If they do not, the next one has been judged in
//! vain and is forgotten. A crash repeats what was acknowledged and not yet stored, with the same `event_id` and `revision` [K6]:
//! one batch on a host, whose writer keeps the order in which it is asked; on AWS two.

use super::dedup::{Pages, Seen};
use super::{IngestError, Ledger, SentEnvelopes, count, enrich, note_queued, pack, send, validate};
use crate::app::App;
use crate::dead::{self, Rejected};
use crate::decode::{Row, sensor};
use crate::error::BackendError;
use crate::limits::BATCH_RECORDS;
use crate::record::{Draft, Stream, Traceparent};
use crate::time::Timestamp;

/// Rows that are read and valid, and the others.
struct Read {
    at: Timestamp,
    valid: Vec<Draft>,
    rejects: Vec<Rejected>,
    ledger: Ledger,
}

/// Judged and packed.
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

/// What follows the batch that is being sent.
enum Next {
    End,
    Packed(Packed),
    /// It can be judged only when everything before it is stored.
    Read(Read),
}

/// See [`ingest`](super::ingest).
pub(super) async fn take(
    app: &App,
    stream: &Stream,
    seen: &mut Seen,
    ledger: &mut Ledger,
    mut rows: impl Iterator<Item = Row>,
) -> Result<(), IngestError> {
    let taken = take_in_turn(app, stream, seen, ledger, &mut rows).await;
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
    let Some(first) = read(app, stream, rows) else { return Ok(()) };
    seen.load(&*app.store, &app.clock, &first.valid).await?;
    let mut batch = judge(app, stream, seen, first).await?;
    let mut before: Option<Accepted> = None;
    loop {
        let ahead = async {
            match read(app, stream, rows) {
                None => Ok::<_, BackendError>(Next::End),
                Some(read) if seen.judges_ahead(&read.valid) => {
                    seen.load_ahead(&*app.store, &read.valid).await?;
                    Ok(Next::Packed(judge(app, stream, seen, read).await?))
                }
                Some(read) => Ok(Next::Read(read)),
            }
        };
        let storing = store(app, stream, before.take(), ledger);
        // In this order: the marks never reach the disk after the batch that follows theirs [K6], and both are under way while the
        // next one is judged.
        let (stored, sent, next) = futures::join!(storing, send(app, stream, &batch.envelopes), ahead);
        let stored = match stored {
            Ok(Some(pages)) => seen.stored(pages, &*app.store).await,
            Ok(None) => Ok(()),
            Err(e) => Err(e),
        };
        let (accepted, failure) = accept(app, seen, batch, sent);
        match (stored, failure, next) {
            (Ok(()), Ok(()), Ok(Next::Packed(packed))) => {
                before = Some(accepted);
                batch = packed;
            }
            (stored, failure, next) => {
                if let Err(problem) = stored {
                    // Not stored either: both come again, in their order and so with the same revisions [K6].
                    ledger.add(&only_accepted(accepted.ledger));
                    return Err(problem.into());
                }
                // Whatever else stands in the way, what the queues have is stored before anything is done.
                if let Some(pages) = store(app, stream, Some(accepted), ledger).await? {
                    seen.stored(pages, &*app.store).await?;
                }
                failure?;
                match next? {
                    Next::End => return Ok(()),
                    Next::Packed(packed) => batch = packed,
                    Next::Read(read) => {
                        seen.load(&*app.store, &app.clock, &read.valid).await?;
                        batch = judge(app, stream, seen, read).await?;
                    }
                }
            }
        }
    }
}

/// The next batch; `None` at the end.
fn read(app: &App, stream: &Stream, rows: &mut impl Iterator<Item = Row>) -> Option<Read> {
    let at = app.clock.now();
    let mut read = Read { at, valid: Vec::new(), rejects: Vec::new(), ledger: Ledger::default() };
    for row in rows.take(BATCH_RECORDS) {
        read.ledger.decoded += 1;
        match row.and_then(|draft| validate::check(draft, at)) {
            Ok(draft) => read.valid.push(draft),
            Err(reject) => read.rejects.push(Rejected::of_row(stream.source.clone(), reject)),
        }
    }
    (read.ledger.decoded > 0).then_some(read)
}

/// `seen` was told of these rows.
async fn judge(app: &App, stream: &Stream, seen: &mut Seen, read: Read) -> Result<Packed, BackendError> {
    let Read { at, valid, mut rejects, mut ledger } = read;
    let revisions: Vec<Option<u32>> = valid.iter().map(|draft| seen.judge(draft).revision()).collect();
    let accepted = valid.iter().zip(&revisions).filter(|(_, revision)| revision.is_some()).map(|(draft, _)| draft);
    let fires = app.fires.join(&*app.store, &app.clock, stream, accepted).await?;
    let trace = Traceparent::new(app.rng.bytes(), app.rng.bytes());
    let mut packer = pack::Packer::new(&app.settings, &app.rng, stream, trace, at);
    ledger.duplicates += revisions.iter().filter(|revision| revision.is_none()).count() as u64;
    let accepted = valid.into_iter().zip(revisions).filter_map(|(draft, revision)| Some((draft, revision?)));
    for (number, (draft, revision)) in accepted.enumerate() {
        if sensor::is_without_measure(&draft) {
            metrics::counter!("stream_readings_without_measure_total").increment(1);
        }
        let source = draft.source.clone();
        let added = enrich(draft, revision, stream, at).and_then(|mut record| {
            record.incident = fires.incident(number, &record);
            packer.add(&record).map_err(|reject| record.draft.refused(reject))
        });
        if let Err(reject) = added {
            rejects.push(Rejected::of_row(source, reject));
        }
    }
    let (mut envelopes, oversized) = packer.finish();
    for packed in &mut envelopes {
        app.fresh.keep(&packed.envelope, std::mem::take(&mut packed.records));
    }
    rejects.extend(oversized);
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

/// The other rows come again.
fn only_accepted(ledger: Ledger) -> Ledger {
    Ledger { decoded: ledger.accepted, duplicates: 0, ..ledger }
}

#[cfg(all(test, feature = "embedded", feature = "testing"))]
mod tests;
