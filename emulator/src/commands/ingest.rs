//! `ingest`: recorded files the whole way to a sink, through the same queues and lanes as a running system.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use streammanager::app::App;
use streammanager::breaker::BreakerState;
use streammanager::control::caller;
use streammanager::decode::{Context, Format};
use streammanager::deliver::deliver;
use streammanager::deliver::tally::{Percentiles, Totals};
use streammanager::error::{Reason, Reject};
use streammanager::express::admit::{Admitted, NotAdmitted, admit};
use streammanager::ingest::dedup::Seen;
use streammanager::ingest::{self, Ledger};
use streammanager::record::{SourceId, Stream, StreamId, TenantId, Tier, WhenFull};
use streammanager::sink::Lane;
use streammanager::sources;
use streammanager_host::exit::{Exit, Failure};
use streammanager_host::host::{self, Host};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cli::IngestArgs;
use crate::commands::{print, source_and_format};
use crate::files;

/// The ledger's one line, which scripts read.
#[derive(Debug, Serialize)]
struct Report {
    files: Vec<FileReport>,
    #[serde(flatten)]
    ledger: Ledger,
    /// Records that an earlier run left in this data folder.
    queued_at_start: u64,
    delivered: BTreeMap<String, u64>,
    dead_lettered: u64,
    redelivered: u64,
    queued: u64,
    elapsed_s: f64,
    latency_ms: BTreeMap<Tier, Percentiles>,
}

#[derive(Debug, Serialize)]
struct FileReport {
    path: PathBuf,
    format: &'static str,
    decoded: u64,
    rejected: u64,
    rejected_by_reason: BTreeMap<Reason, u64>,
    /// Set when the file holds no data at all.
    error: Option<String>,
}

pub(crate) async fn run(args: IngestArgs) -> Result<Exit, Failure> {
    let started = Instant::now();
    let (source, format) = source_and_format(&args.input)?;
    if sources::is_critical(&source) && args.key_file.is_none() {
        return Err(Failure::new(format!(
            "--source {source}: {}: a critical id is published only for a connector with a critical grant; name its key with --key-file",
            Reason::UnauthorisedSource
        )));
    }
    files::all_there(&args.input.files)?;
    let sink = host::sink(args.out.as_deref(), args.kafka.as_deref(), args.kinesis.as_deref()).await?;
    let host = Host::open(&args.data, sink).await?;
    if let Some(problem) = &host.sink_away {
        let data = args.data.display();
        eprintln!(
            "streammanager: {problem}: what is read waits in {data}, and the next run with this folder delivers it"
        );
    }
    let queued_at_start = host.queued_records().await?;
    let stop = CancellationToken::new();
    let delivering = tokio::spawn({
        let (app, stop) = (host.app.clone(), stop.clone());
        async move { deliver(&app, &stop).await }
    });

    let (mut files, mut ledger) = (Vec::new(), Ledger::default());
    let interrupted = CancellationToken::new();
    let watch = tokio::spawn({
        let interrupted = interrupted.clone();
        async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                interrupted.cancel();
            }
        }
    });
    let stream = stream(&host.app, &source, args.key_file.as_deref()).await?;
    let mut seen = Seen::of_tenant(&stream.tenant);
    for path in &args.input.files {
        if interrupted.is_cancelled() {
            break;
        }
        let read = one_file(&host.app, &stream, &mut seen, (format, args.input.topic.as_deref()), path).await?;
        ledger.add(&read.1);
        files.push(read.0);
    }
    let mut patience = Patience::new();
    while !host.is_drained().await?
        && !interrupted.is_cancelled()
        && !delivering.is_finished()
        && !patience.is_over(&host)
    {
        progress(&host, &ledger, args.json);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stop.cancel();
    watch.abort();
    delivering.await.map_err(|e| Failure::new(format!("delivery ended early: {e}")))??;

    let Totals { delivered, dead_lettered, redelivered, latency_ms, .. } = host.app.tally.totals();
    let report = Report {
        files,
        ledger,
        queued_at_start,
        delivered,
        dead_lettered,
        redelivered,
        queued: host.queued_records().await?,
        elapsed_s: started.elapsed().as_secs_f64(),
        latency_ms,
    };
    if args.json {
        print([serde_json::to_string(&report).map_err(Failure::new)?])?
    } else {
        if stderr().is_terminal() {
            drop(write!(stderr(), "\r\x1b[K"));
        }
        print(lines(&report))?
    }
    let clean = report.ledger.rejected == 0
        && report.queued == 0
        && report.dead_lettered == 0
        && report.files.iter().all(|file| file.error.is_none());
    Ok(if clean { Exit::Done } else { Exit::Partly })
}

/// Without any record acknowledged for so long, behind an open circuit breaker, the rest is left in the queues.
const GIVE_UP: Duration = Duration::from_secs(20);

/// How long the end waits for a sink that does not answer.
struct Patience {
    delivered: u64,
    since: Instant,
}

impl Patience {
    fn new() -> Patience {
        Patience { delivered: 0, since: Instant::now() }
    }

    /// A sink that was away at the start is not waited for.
    fn is_over(&mut self, host: &Host) -> bool {
        let delivered = host.app.tally.totals().delivered_in_all();
        let held_back = host.app.breakers.lane(Lane::Bulk).state() != BreakerState::Closed;
        if delivered > self.delivered || (!held_back && host.sink_away.is_none()) {
            *self = Patience { delivered, since: Instant::now() };
        }
        host.sink_away.is_some() && delivered == 0 || self.since.elapsed() >= GIVE_UP
    }
}

/// With a key it is the connector's, as for a sender of alerts [A2]; the data folder knows the connectors.
async fn stream(app: &App, source: &SourceId, key_file: Option<&Path>) -> Result<Stream, Failure> {
    let (tenant, granted) = match key_file {
        None => (TenantId::new("local").map_err(Failure::new)?, false),
        Some(path) => {
            let key = files::key(path, "--key-file")?;
            let refused = |reject: Reject| Failure::new(format!("--key-file {}: {reject}", path.display()));
            match admit(app, &caller::by_key(app, &key).await?, Some(source)).await {
                Ok(Admitted { connector, .. }) => (connector.registration.tenant, connector.registration.critical),
                Err(NotAdmitted::Refused(refusal)) => return Err(refused(refusal.reject)),
                Err(NotAdmitted::Backend(e)) => return Err(e.into()),
            }
        }
    };
    let id = StreamId::new(source.as_str()).map_err(Failure::new)?;
    Ok(Stream { id, source: source.clone(), tenant, granted, when_full: WhenFull::Wait })
}

async fn one_file(
    app: &App,
    stream: &Stream,
    seen: &mut Seen,
    (format, topic): (Format, Option<&str>),
    path: &Path,
) -> Result<(FileReport, Ledger), Failure> {
    let body = files::read_as(format, path);
    let context = Context { source: &stream.source, received_at: app.clock.now(), topic, message: None };
    let mut ledger = Ledger::default();
    // What cannot be unpacked costs that file alone.
    let rows = match &body {
        Ok(body) => format.rows(body, context).map_err(|reject| reject.to_string()),
        Err(problem) => Err(problem.clone()),
    };
    let error = match rows {
        Ok(rows) => ingest::ingest(app, stream, seen, &mut ledger, rows)
            .await
            .map(|()| None)
            .map_err(|e| Failure::new(format!("{}: {e}", path.display())))?,
        Err(problem) => Some(problem),
    };
    let report = FileReport {
        path: path.to_owned(),
        format: format.name,
        decoded: ledger.decoded,
        rejected: ledger.rejected,
        rejected_by_reason: ledger.rejected_by_reason.clone(),
        error,
    };
    Ok((report, ledger))
}

fn progress(host: &Host, ledger: &Ledger, json: bool) {
    if !json && stderr().is_terminal() {
        let done = host.app.tally.totals().delivered_in_all();
        drop(write!(stderr(), "\r{done} of {} records acknowledged by the sink", ledger.accepted));
    }
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for file in &report.files {
        lines.push(match &file.error {
            Some(error) => format!("{}: no data: {error}", file.path.display()),
            None => format!("{}: {} records read, {} rejected", file.path.display(), file.decoded, file.rejected),
        })
    }
    let Ledger { accepted, new, revisions, duplicates, .. } = report.ledger;
    lines.push(format!("accepted {accepted} (new {new}, revisions {revisions}), duplicates {duplicates}"));
    let rejected = report.ledger.rejected_by_reason.iter();
    lines.extend(rejected.map(|(reason, n)| format!("rejected {n}, kept as dead letters: {reason}")));
    lines.extend(report.delivered.iter().map(|(topic, n)| format!("delivered {n} to {topic}")));
    lines.extend(
        report.latency_ms.iter().map(|(tier, ms)| {
            format!("latency {tier}: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms", ms.p50, ms.p95, ms.p99)
        }),
    );
    let Report { dead_lettered, queued, elapsed_s, .. } = report;
    lines.push(format!("undeliverable {dead_lettered}, still queued {queued}, {elapsed_s:.2} s"));
    lines
}
