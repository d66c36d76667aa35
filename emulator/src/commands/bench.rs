//! `bench`: the figures, each beside its baseline in one run, since only ratios travel between machines.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use serde_json::json;
use streammanager::decode::{Context, Format};
use streammanager::deliver::breaker::Breakers;
use streammanager::deliver::deliver;
use streammanager::deliver::drr::Drr;
use streammanager::ingest::dedup::Seen;
use streammanager::ingest::{Ledger, Stream, WhenFull, ingest};
use streammanager::record::route::{Topic, route};
use streammanager::record::{SourceId, StreamId, TenantId};
use streammanager::sink::Lane;
use streammanager::time::{Clock, rfc3339};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bench::generate::firms_viirs_noaa20;
use crate::bench::naive::{Figures, Headers, cpu_time, naive_firms};
use crate::cli::BenchCommand;
use crate::commands::operate::client;
use crate::exit::{Exit, Failure};
use crate::host::{self, Host};

/// Begins the benchmark's topics, so that it never writes among real records.
const PREFIX: &str = "bench-";

pub async fn run(command: BenchCommand) -> Result<Exit, Failure> {
    match command {
        BenchCommand::Orchestrated { kafka, rows, runs, json } => orchestrated(&kafka, rows, runs, json).await,
        BenchCommand::Express { endpoint, key_file, alerts, json } => express(&endpoint, &key_file, alerts, json).await,
        BenchCommand::Decide { records, json } => decide(records, json),
    }
}

/// F1: queue, dedup, tiers and accounting against the naive program; same rows, same JSON, same headers, same topic.
async fn orchestrated(brokers: &str, rows: usize, runs: usize, as_json: bool) -> Result<Exit, Failure> {
    let topic = format!("{PREFIX}{}", Topic::NASA_FIRMS.name());
    let (mut ours, mut naive) = (Vec::new(), Vec::new());
    // The first pair warms the broker up and is not counted.
    for pair in 0..=runs {
        let body = Bytes::from(firms_viirs_noaa20(pair as u64, rows, Clock::system().now()));
        let baseline = naive_firms(brokers, &topic, &body, Headers::Same).await.map_err(Failure::new)?;
        let figures = whole_way(brokers, &body).await?;
        if pair > 0 {
            naive.push(baseline);
            ours.push(figures);
        }
    }
    let (ours, naive) = (median(ours), median(naive));
    let slower = (ours.elapsed_s / naive.elapsed_s - 1.0) * 100.0;
    match as_json {
        true => println!("{}", json!({ "orchestrated": ours, "naive": naive, "slower_percent": slower })),
        false => {
            println!("{:<14} {:>12} {:>16}", "", "records/s", "CPU µs a record");
            println!("{:<14} {:>12.0} {:>16.1}", "orchestrated", ours.records_per_s, ours.cpu_us_per_record);
            println!("{:<14} {:>12.0} {:>16.1}", "naive", naive.records_per_s, naive.cpu_us_per_record);
            println!(
                "orchestrated takes {slower:+.1} % of the naive program's time ({rows} rows, median of {runs} pairs)"
            );
        }
    }
    Ok(Exit::Done)
}

fn median(mut figures: Vec<Figures>) -> Figures {
    figures.sort_by(|a, b| a.elapsed_s.total_cmp(&b.elapsed_s));
    figures.swap_remove(figures.len() / 2)
}

async fn whole_way(brokers: &str, body: &Bytes) -> Result<Figures, Failure> {
    let folder = std::env::temp_dir().join(format!("streammanager-bench-{}", std::process::id()));
    let measured = async {
        let host = Host::open(&folder, host::kafka_sink(brokers, PREFIX)?).await?;
        let (began, cpu) = (Instant::now(), cpu_time().map_err(Failure::new)?);
        let stop = CancellationToken::new();
        let delivering = tokio::spawn({
            let (app, stop) = (host.app.clone(), stop.clone());
            async move { deliver(&app, &stop).await }
        });
        let source = SourceId::new("firms_viirs_noaa20").map_err(Failure::new)?;
        let stream = Stream {
            id: StreamId::new("bench").map_err(Failure::new)?,
            source: source.clone(),
            tenant: TenantId::new("bench").map_err(Failure::new)?,
            granted: false,
            when_full: WhenFull::Wait,
        };
        let context = Context { source: &source, received_at: host.app.clock.now(), topic: None };
        let rows = Format::Firms.rows(body, context).map_err(Failure::new)?;
        let (mut seen, mut ledger) = (Seen::new(&stream.id), Ledger::default());
        ingest(&host.app, &stream, &mut seen, &mut ledger, rows).await.map_err(Failure::new)?;
        while !host.is_drained().await? {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (elapsed, used) = (began.elapsed(), cpu_time().map_err(Failure::new)? - cpu);
        stop.cancel();
        delivering.await.map_err(Failure::new)??;
        Ok(Figures::of(ledger.accepted, elapsed, used))
    };
    let figures = measured.await;
    let _ = std::fs::remove_dir_all(&folder);
    figures
}

/// F3: one alert after another over HTTP to a running system, from request to reply after the broker's acknowledgement.
async fn express(endpoint: &str, key_file: &Path, alerts: usize, as_json: bool) -> Result<Exit, Failure> {
    let key = std::fs::read_to_string(key_file).map_err(|e| Failure::new(format!("{}: {e}", key_file.display())))?;
    let client = client();
    let mut micros = Histogram::<u64>::new(3).map_err(Failure::new)?;
    let mut by_queue = 0;
    for number in 0..alerts {
        let now = Clock::system().now();
        let alert = json!({
            "id": format!("BENCH-{}-{number}", now.as_millisecond()), "sender": "bench@example.org", "sent": rfc3339(now),
            "status": "Actual", "msgType": "Alert", "event": "Benchmark",
            "area": { "description": "Bench", "polygon": [[38.3, -120.9], [38.3, -120.8], [38.4, -120.8], [38.3, -120.9]] },
        });
        let request =
            client.post(format!("{}/alerts", endpoint.trim_end_matches('/'))).bearer_auth(key.trim()).json(&alert);
        let began = Instant::now();
        let response = request.send().await.map_err(|e| Failure::new(format!("{endpoint}: {}", e.without_url())))?;
        let status = response.status();
        let answer: serde_json::Value = response.json().await.map_err(Failure::new)?;
        micros.record(began.elapsed().as_micros() as u64).map_err(Failure::new)?;
        if !status.is_success() {
            return Err(Failure::new(format!("an alert was refused: {answer}")));
        }
        by_queue += usize::from(answer["accepted"][0]["acknowledged_by"] == "queue");
    }
    let ms = |q| micros.value_at_quantile(q) as f64 / 1000.0;
    let (p50, p99, max) = (ms(0.5), ms(0.99), micros.max() as f64 / 1000.0);
    match as_json {
        true => println!(
            "{}",
            json!({ "alerts": alerts, "p50_ms": p50, "p99_ms": p99, "max_ms": max, "by_queue": by_queue })
        ),
        false => println!(
            "{alerts} alerts: p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms; {by_queue} taken by the queue"
        ),
    }
    Ok(Exit::Done)
}

/// F11: route, breaker and the scheduler's choice for every record, one by one.
fn decide(records: u64, as_json: bool) -> Result<Exit, Failure> {
    let sources = ["firms_viirs_noaa20", "iot_purpleair", "copernicus_era5"].map(SourceId::new);
    let sources = sources.into_iter().collect::<Result<Vec<_>, _>>().map_err(Failure::new)?;
    let (breakers, clock) = (Arc::new(Breakers::default()), Clock::system());
    let mut drr = Drr::new([3, 2, 1]);
    let (began, mut served) = (Instant::now(), 0u64);
    for number in 0..records {
        let routed = route(&sources[number as usize % sources.len()], false).map_err(Failure::new)?;
        let admitted = breakers.lane(Lane::Bulk).admit(clock.now());
        let class = drr.next([Some(1), Some(1), Some(1)]);
        served += u64::from(admitted && class.is_some() && routed.topic.partitions() > 0);
    }
    let nanos = began.elapsed().as_nanos() as f64 / records.max(1) as f64;
    match as_json {
        true => println!("{}", json!({ "records": served, "ns_per_record": nanos })),
        false => println!("tier, route and throttle decision: {nanos:.0} ns a record ({served} records)"),
    }
    Ok(Exit::Done)
}
