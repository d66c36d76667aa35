//! [O7]: how long the way of one record takes to find among those of many, each with two steps, on this host's disk.

use hdrhistogram::Histogram;
use serde::Serialize;
use streammanager::decode::Context;
use streammanager::embedded::FolderProvenance;
use streammanager::ingest::{enrich, pack};
use streammanager::provenance::{Note, Provenance};
use streammanager::record::{Envelope, EventId, Outgoing, Tier, Traceparent};
use streammanager::settings::Settings;
use streammanager::sink::{Sent, Written};
use streammanager::sources::firms;
use streammanager::time::{Clock, Rng};
use streammanager_host::exit::Failure;
use tokio::time::Instant;

use crate::bench::generate::firms_viirs_noaa20;
use crate::bench::{Scratch, stream};

/// Records of an envelope.
const RECORDS: usize = 500;
/// Ways that are looked for.
const LOOKS: usize = 1_000;
/// Notes in a row: fewer than may wait for their thread, so that none is dropped.
const IN_A_ROW: usize = 50;

#[derive(Debug, Serialize)]
pub(crate) struct Found {
    pub records: usize,
    /// To keep all of them.
    pub kept_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// Keeps the ways of `records` records and looks for some of them.
///
/// # Errors
/// When the notes cannot be kept, or one of them is not found: the run is worthless then.
pub(crate) async fn trace(records: usize) -> Result<Found, Failure> {
    let (folder, rng) = (Scratch::new("trace").map_err(Failure::new)?, Rng::from_os().map_err(Failure::new)?);
    let kept = FolderProvenance::open(folder.path())?;
    let (envelope, mut batch) = envelope(&rng)?;
    let sent = vec![Sent::Acked(Some(Written { partition: 0, offset: 1 << 40 })); batch.len()];
    let batches = records.div_ceil(batch.len());
    let every = (batches / LOOKS).max(1);
    let mut wanted = Vec::with_capacity(LOOKS);
    let began = Instant::now();
    for number in 0..batches {
        batch.iter_mut().for_each(|record| record.event = EventId::from_bytes(rng.bytes()));
        let ids = batch.iter().map(|record| (record.event.short(), 0));
        let at = envelope.accepted_at;
        kept.note(Note::queued(&envelope, ids, at));
        kept.note(Note::sent(&envelope, batch.iter().zip(&sent), 1, at, at));
        if number % every == 0 && wanted.len() < LOOKS {
            wanted.extend(batch.first().map(|record| record.event));
        }
        if number % IN_A_ROW == 0 {
            // Answered behind everything that was noted.
            kept.way(nobody()).await?;
        }
    }
    kept.way(nobody()).await?;
    let kept_per_s = (batches * batch.len()) as f64 / began.elapsed().as_secs_f64();
    let mut micros = Histogram::<u64>::new(3).map_err(Failure::new)?;
    for event in &wanted {
        let began = Instant::now();
        let steps = kept.way(*event).await?.unwrap_or_default();
        micros.record(began.elapsed().as_micros() as u64).map_err(Failure::new)?;
        if steps.len() != 2 {
            return Err(Failure::new(format!("{event} has {} steps instead of 2", steps.len())));
        }
    }
    let ms = |micros: u64| micros as f64 / 1000.0;
    Ok(Found {
        records: batches * batch.len(),
        kept_per_s,
        p50_ms: ms(micros.value_at_quantile(0.5)),
        p99_ms: ms(micros.value_at_quantile(0.99)),
        max_ms: ms(micros.max()),
    })
}

/// One that no record has.
fn nobody() -> EventId {
    EventId::from_bytes([0; 16])
}

/// An envelope of generated rows.
fn envelope(rng: &Rng) -> Result<(Envelope, Vec<Outgoing>), Failure> {
    let (stream, settings, now) = (stream().map_err(Failure::new)?, Settings::local(), Clock::system().now());
    let trace = Traceparent::new(rng.bytes(), rng.bytes());
    let body = firms_viirs_noaa20(1, RECORDS, now).into();
    let context = Context { source: &stream.source, received_at: now, topic: None, message: None };
    let rows = firms::FORMAT.rows(&body, context).map_err(Failure::new)?;
    let records = rows
        .map(|row| {
            let record = row.and_then(|draft| enrich(draft, 0, &stream, now))?;
            pack::outgoing(&record, &settings, trace.clone())
        })
        .collect::<Result<Vec<Outgoing>, _>>()
        .map_err(Failure::new)?;
    let envelope =
        Envelope::pack(rng.ulid(now), stream.id.clone(), stream.tenant.clone(), Tier::High, now, trace, &records, 1);
    Ok((envelope.map_err(Failure::new)?, records))
}
