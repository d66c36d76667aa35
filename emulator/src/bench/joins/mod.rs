//! [S12]: which share of a generated season's records finds its fire, and the right one, the whole way through ingest.

mod season;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use streammanager::app::{App, Seams};
use streammanager::decode::Context;
use streammanager::embedded::{Commits, Embedded, FileBlobs, Options};
use streammanager::error::BackendError;
use streammanager::ingest::dedup::Seen;
use streammanager::ingest::{Ledger, ingest};
use streammanager::queue::{Body, Settle};
use streammanager::record::{Envelope, SourceId, Stream, StreamId, TenantId, Tier, WhenFull};
use streammanager::settings::Settings;
use streammanager::sink::FileSink;
use streammanager::sources;
use streammanager::time::{Clock, Rng, Timestamp};
use streammanager::upstream::http::HttpUpstream;
use streammanager_host::exit::Failure;
use tokio::time::Instant;

use crate::bench::Scratch;
use crate::bench::generate::firms_viirs_noaa20;

/// How the records of one kind were joined.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Row {
    pub kind: &'static str,
    pub records: u64,
    /// That belong to a fire.
    pub of_fires: u64,
    /// That were published with an `incident`.
    pub joined: u64,
    /// Of these, those of the fire whose records have that value.
    pub right: u64,
    /// Of those of a fire, those with the value that most of its records have.
    pub found: u64,
}

impl Row {
    pub(crate) fn precision(&self) -> f64 {
        self.right as f64 / self.joined.max(1) as f64
    }

    pub(crate) fn recall(&self) -> f64 {
        self.found as f64 / self.of_fires.max(1) as f64
    }
}

/// A published record: its kind, its fire, and what it was published with.
struct Published {
    kind: &'static str,
    fire: Option<usize>,
    incident: Option<String>,
}

/// What ingest of a detection costs in microseconds, in a tenant where nothing burns and in one with a season's fires.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Cost {
    pub without_fires_us: f64,
    pub with_fires_us: f64,
}

/// A row for each kind of record, and the last one for all of them. `rows` detections are timed in the middle of the first season.
pub(crate) async fn joins(seed: u64, rows: usize) -> Result<(Vec<Row>, Cost), Failure> {
    let folder = Scratch::new("joins-data").map_err(Failure::new)?;
    of_seasons(seed, rows, |options| Embedded::open(folder.path(), options)).await
}

/// The same in the data folder that `open` opens; of 0 rows nothing is timed.
async fn of_seasons(
    seed: u64,
    rows: usize,
    open: impl FnOnce(Options) -> Result<Embedded, BackendError>,
) -> Result<(Vec<Row>, Cost), Failure> {
    let begin: Timestamp = "2025-07-01T00:00:00Z".parse().map_err(Failure::new)?;
    let season = season::seasons(seed, begin);
    let folder = Scratch::new("joins").map_err(Failure::new)?;
    let (clock, wall) = Clock::settable(begin);
    let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
    let embedded = open(options)?;
    let seams = Seams {
        queue: Arc::new(embedded.clone()),
        store: Arc::new(embedded.clone()),
        blobs: Arc::new(FileBlobs::open(folder.path(), Commits::Inline, embedded.trust().clone())?),
        sink: Arc::new(FileSink::open(folder.path())?),
        upstream: Arc::new(HttpUpstream::new()?),
    };
    let app = App::new(Settings::local(), seams, clock, Rng::seeded(seed));
    let (mut published, mut measured) = (Vec::new(), None);
    for arrival in &season.arrivals {
        let ahead = arrival.at.duration_since(app.clock.now()).as_secs();
        wall.step(ahead.max(0));
        if rows > 0 && measured.is_none() && arrival.at > begin + MIDDLE {
            measured = Some(cost(&app, rows).await?);
        }
        take(&app, "season", arrival.source, Bytes::from(arrival.body.clone())).await?;
        for record in taken(&app).await? {
            let key = season::key(&record);
            let fire = *season.truth.get(&key).ok_or_else(|| Failure::new(format!("nobody made {key}")))?;
            let incident = record["incident"].as_str().map(str::to_owned);
            published.push(Published { kind: kind(record["source_id"].as_str().unwrap_or_default()), fire, incident });
        }
    }
    Ok((counted(&published), measured.unwrap_or_default()))
}

/// Of the first season.
const MIDDLE: Duration = Duration::from_secs(15 * 24 * 3600);
/// Turns of each tenant, of which the median counts.
const TURNS: u64 = 11;

async fn cost(app: &App, rows: usize) -> Result<Cost, Failure> {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let body = Bytes::from(firms_viirs_noaa20(turn, rows, app.clock.now()));
        for (tenant, times) in [("bare", &mut without), ("season", &mut with)] {
            let start = Instant::now();
            take(app, tenant, "firms_viirs_noaa20", body.clone()).await?;
            times.push(start.elapsed().as_secs_f64() * 1e6 / rows as f64);
            taken(app).await?;
        }
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    Ok(Cost { without_fires_us: median(without), with_fires_us: median(with) })
}

fn kind(source: &str) -> &'static str {
    match source {
        "wfigs_incidents" | "calfire_incidents" => "incidents",
        "wfigs_perimeters" => "perimeters",
        "firis_perimeters" => "flights",
        "evacuation_zones" => "zones",
        viirs if viirs.contains("viirs") => "VIIRS",
        _ => "MODIS",
    }
}

async fn take(app: &App, tenant: &str, source: &str, body: Bytes) -> Result<(), Failure> {
    let source = SourceId::new(source).map_err(Failure::new)?;
    let format = sources::format_of(&source).ok_or_else(|| Failure::new(format!("nothing reads {source}")))?;
    let stream = Stream {
        id: StreamId::new("season").map_err(Failure::new)?,
        source: source.clone(),
        tenant: TenantId::new(tenant).map_err(Failure::new)?,
        granted: false,
        when_full: WhenFull::Wait,
    };
    let context = Context { source: &source, received_at: app.clock.now(), topic: None, message: None };
    let rows = format.rows(&body, context).map_err(Failure::new)?;
    let (mut seen, mut ledger) = (Seen::of_tenant(&stream.tenant), Ledger::default());
    ingest(app, &stream, &mut seen, &mut ledger, rows).await.map_err(Failure::new)?;
    if ledger.rejected > 0 {
        return Err(Failure::new(format!("{source} has bad rows: {:?}", ledger.rejected_by_reason)));
    }
    Ok(())
}

/// Takes what waits in the queues.
async fn taken(app: &App) -> Result<Vec<Value>, Failure> {
    let mut values = Vec::new();
    for tier in Tier::BULK {
        let queue = app.settings.queues.tier(tier);
        loop {
            let messages = app.queue.receive(queue, 10, Duration::ZERO).await?;
            if messages.is_empty() {
                break;
            }
            let mut receipts = Vec::new();
            for message in messages {
                let Body::Binary(bytes) = &message.body else { continue };
                for record in Envelope::decode(bytes).and_then(|envelope| envelope.unpack()).map_err(Failure::new)? {
                    values.push(serde_json::from_slice(&record.value).map_err(Failure::new)?);
                }
                receipts.push((message.receipt, Settle::Forget));
            }
            app.queue.settle(queue, &receipts).await?;
        }
    }
    Ok(values)
}

fn counted(published: &[Published]) -> Vec<Row> {
    let (mut fires, mut values) = (HashMap::<_, BTreeMap<_, u64>>::new(), HashMap::<_, BTreeMap<_, u64>>::new());
    for record in published {
        if let (Some(fire), Some(incident)) = (record.fire, &record.incident) {
            *fires.entry(incident).or_default().entry(fire).or_default() += 1;
            *values.entry(fire).or_default().entry(incident).or_default() += 1;
        }
    }
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let mut all = Row { kind: "all", ..Row::default() };
    for record in published {
        let row = rows.entry(record.kind).or_insert_with(|| Row { kind: record.kind, ..Row::default() });
        let is = |yes: bool| u64::from(yes);
        for row in [row, &mut all] {
            row.records += 1;
            row.of_fires += is(record.fire.is_some());
            let Some(incident) = &record.incident else { continue };
            row.joined += 1;
            row.right += is(record.fire.is_some() && most(fires.get(incident)) == record.fire);
            row.found += is(record.fire.is_some_and(|fire| most(values.get(&fire)) == Some(incident)));
        }
    }
    rows.into_values().chain([all]).collect()
}

/// What was counted most often.
fn most<T: Copy>(counts: Option<&BTreeMap<T, u64>>) -> Option<T> {
    counts?.iter().max_by_key(|(_, count)| **count).map(|(what, _)| *what)
}

#[cfg(test)]
mod tests {
    use streammanager::embedded::MemoryDisk;

    use super::*;

    #[tokio::test]
    async fn s12_of_the_records_that_have_a_fire_99_in_100_have_the_right_one_and_9_in_10_have_it() {
        let disk = MemoryDisk::new();
        let joined = of_seasons(1, 0, |options| Embedded::on_disk(&disk, options)).await;
        let (rows, _) = joined.unwrap_or_else(|failure| panic!("{failure}"));
        let (text, all) = (crate::commands::bench::table(&rows), rows.last().cloned().unwrap_or_default());
        println!("{text}");
        assert!(all.records > 20_000 && all.of_fires < all.records, "{text}");
        assert!(all.precision() >= 0.99 && all.recall() >= 0.90, "{text}");
    }
}
