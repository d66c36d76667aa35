//! `bench`: the figures, each beside its baseline in one run, since only ratios travel between machines.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use streammanager::breaker::SinkBreakers;
use streammanager::decode::Context;
use streammanager::deliver::deliver;
use streammanager::deliver::scheduler::{Front, Scheduler};
use streammanager::ingest::dedup::Seen;
use streammanager::ingest::{Ledger, ingest};
use streammanager::record::{SourceId, Tier, Topic};
use streammanager::sink::Lane;
use streammanager::sources::{firms, route};
use streammanager::time::Clock;
use streammanager_host::exit::{Exit, Failure};
use streammanager_host::host::{self, Host, kafka_settings};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bench::figures::{Figures, Run, median};
use crate::bench::generate::firms_viirs_noaa20;
use crate::bench::naive::naive_firms;
use crate::bench::plain::plain_firms;
use crate::bench::{self, PREFIX, Scratch};
use crate::cli::BenchCommand;

pub(crate) async fn run(command: BenchCommand) -> Result<Exit, Failure> {
    match command {
        BenchCommand::Orchestrated { kafka, rows, runs, json } => orchestrated(&kafka, rows, runs.max(1), json).await,
        BenchCommand::Express { kafka, alerts, senders, json } => express(&kafka, alerts, senders.max(1), json).await,
        BenchCommand::Poll { kafka, rows, runs, json } => poll(&kafka, rows, runs.max(1), json).await,
        BenchCommand::Readings { kafka, clients, readings, json } => {
            self::readings(&kafka, clients.max(1), readings, json).await
        }
        BenchCommand::Trace { records, json } => trace(records, json).await,
        BenchCommand::Joins { seed, rows, json } => joins(seed, rows, json).await,
        BenchCommand::Decide { records, json } => decide(records, json),
        BenchCommand::Lambda { functions, starts, json } => lambda(&functions, starts.max(1), json).await,
        BenchCommand::Start { starts, json } => start(starts.max(1), json).await,
        BenchCommand::Decode { rows, runs, python, json } => decode(rows, runs.max(1), &python, json),
        BenchCommand::All { kafka, json } => {
            let mut ended = vec![
                decide(10_000_000, json)?,
                decode(200_000, 9, Path::new("python3"), json)?,
                poll(&kafka, 500, 21, json).await?,
            ];
            for (alerts, senders) in [(1_000, 1), (4_000, 8), (16_000, 64)] {
                ended.push(express(&kafka, alerts, senders, json).await?);
            }
            ended.push(self::readings(&kafka, 20, 300_000, json).await?);
            ended.push(trace(10_000_000, json).await?);
            ended.push(start(20, json).await?);
            ended.push(orchestrated(&kafka, 10_000, 9, json).await?);
            Ok(ended.into_iter().find(|exit| *exit != Exit::Done).unwrap_or(Exit::Done))
        }
    }
}

/// [F1, F2]: queue, dedup, tiers and accounting, in turns with the naive program that shares our decode and with the plain one.
async fn orchestrated(brokers: &str, rows: usize, runs: usize, as_json: bool) -> Result<Exit, Failure> {
    let topic = format!("{PREFIX}{}", Topic::NASA_FIRMS.name());
    let config = bench::baseline(&kafka_settings(brokers, "")?);
    let (mut ours, mut naive, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    // The first turn warms the broker up and is not counted.
    for turn in 0..=runs {
        let body = Bytes::from(firms_viirs_noaa20(turn as u64, rows, Clock::system().now()));
        // Ours goes first: it creates the topics of a fresh broker.
        let figures = whole_way(brokers, &body).await?;
        let (config, topic) = (config.clone(), topic.clone());
        let baselines = tokio::task::spawn_blocking(move || {
            naive_firms(&config, &topic, &body).and_then(|naive| Ok((naive, plain_firms(&config, &topic, &body)?)))
        });
        let (by_naive, by_plain) = baselines.await.map_err(Failure::new)?.map_err(Failure::new)?;
        if turn > 0 {
            ours.push(figures);
            naive.push(by_naive);
            plain.push(by_plain);
        }
    }
    let (ours, naive, plain) = (median(ours), median(naive), median(plain));
    let rate = |other: &Figures| ours.records_per_s / other.records_per_s;
    let cpu = |other: &Figures| ours.cpu_us_per_record / other.cpu_us_per_record;
    if as_json {
        let ratios = |other| json!({ "rate": rate(other), "cpu": cpu(other) });
        let (to_naive, to_plain) = (ratios(&naive), ratios(&plain));
        println!(
            "{}",
            json!({
                "rows": rows, "runs": runs, "orchestrated": ours, "naive": naive, "plain": plain,
                "to_naive": to_naive, "to_plain": to_plain,
            })
        )
    } else {
        println!("{:<14} {:>12} {:>16} {:>12} {:>12}", "", "records/s", "CPU µs a record", "our rate", "our CPU");
        for (name, figures) in [("orchestrated", &ours), ("naive", &naive), ("plain", &plain)] {
            println!(
                "{name:<14} {:>12.0} {:>16.1} {:>10.2} × {:>10.2} ×",
                figures.records_per_s,
                figures.cpu_us_per_record,
                rate(figures),
                cpu(figures),
            );
        }
        println!(
            "{rows} rows, the medians of {runs} turns; naive shares our decode, JSON and headers, plain shares nothing"
        );
    }
    Ok(Exit::Done)
}

async fn whole_way(brokers: &str, body: &Bytes) -> Result<Figures, Failure> {
    let folder = Scratch::new("orchestrated").map_err(Failure::new)?;
    let host = Host::reaching(folder.path(), host::kafka_sink(brokers, PREFIX)?).await?;
    let stop = CancellationToken::new();
    let delivering = tokio::spawn({
        let (app, stop) = (host.app.clone(), stop.clone());
        async move { deliver(&app, &stop).await }
    });
    // Connects the producer, as the others' are: what is measured is records, not the first handshake.
    through(&host, &Bytes::from(firms_viirs_noaa20(u64::MAX, 1, host.app.clock.now()))).await?;
    let run = Run::begin().map_err(Failure::new)?;
    let accepted = through(&host, body).await?;
    let figures = run.end(accepted).map_err(Failure::new)?;
    stop.cancel();
    delivering.await.map_err(Failure::new)??;
    Ok(figures)
}

/// Until everything that is accepted of `body` is acknowledged; gives its number.
async fn through(host: &Host, body: &Bytes) -> Result<u64, Failure> {
    let stream = bench::stream().map_err(Failure::new)?;
    let context = Context { source: &stream.source, received_at: host.app.clock.now(), topic: None, message: None };
    let rows = firms::FORMAT.rows(body, context).map_err(Failure::new)?;
    let (mut seen, mut ledger) = (Seen::of_tenant(&stream.tenant), Ledger::default());
    ingest(&host.app, &stream, &mut seen, &mut ledger, rows).await.map_err(Failure::new)?;
    while !host.is_drained().await? {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(ledger.accepted)
}

/// [O7]: one record's way among many.
async fn trace(records: usize, as_json: bool) -> Result<Exit, Failure> {
    let found = bench::trace::trace(records).await?;
    if as_json {
        println!("{}", json!({ "trace": found }))
    } else {
        let bench::trace::Found { records, kept_per_s, p50_ms, p99_ms, max_ms } = found;
        println!("a record's way among {records}: p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, max {max_ms:.2} ms");
        println!("kept, two steps a record: {kept_per_s:.0} records/s");
    }
    Ok(Exit::Done)
}

/// [S12]: the fires of two generated seasons' records.
async fn joins(seed: u64, rows: usize, as_json: bool) -> Result<Exit, Failure> {
    let (joined, cost) = bench::joins::joins(seed, rows).await?;
    if as_json {
        println!("{}", json!({ "seed": seed, "joins": joined, "rows": rows, "cost": cost }))
    } else {
        print!("{}", table(&joined));
        let bench::joins::Cost { without_fires_us, with_fires_us } = cost;
        println!(
            "ingest of {rows} detections: {without_fires_us:.2} µs each where nothing burns, {with_fires_us:.2} µs among the fires"
        );
    }
    Ok(Exit::Done)
}

/// Their table.
pub(crate) fn table(rows: &[bench::joins::Row]) -> String {
    let mut text =
        format!("{:<12} {:>9} {:>9} {:>9} {:>10} {:>8}\n", "", "records", "of fires", "joined", "precision", "recall");
    for row in rows {
        let (precision, recall) = (100.0 * row.precision(), 100.0 * row.recall());
        let (kind, records, of_fires, joined) = (row.kind, row.records, row.of_fires, row.joined);
        text.push_str(&format!(
            "{kind:<12} {records:>9} {of_fires:>9} {joined:>9} {precision:>8.2} % {recall:>6.2} %\n"
        ));
    }
    text
}

/// [F3]: alerts of several senders, ours and the naive program's in turns.
async fn express(brokers: &str, alerts: usize, senders: usize, as_json: bool) -> Result<Exit, Failure> {
    let (ours, naive) = bench::express::express(brokers, alerts, senders).await?;
    if as_json {
        println!("{}", json!({ "alerts": alerts, "senders": senders, "express": ours, "naive": naive }))
    } else {
        println!("{:<14} {:>9} {:>9} {:>9} {:>9} {:>9}", "", "p50 ms", "p99 ms", "max ms", "alerts/s", "refused");
        for (name, waits) in [("express", &ours), ("naive", &naive)] {
            println!(
                "{name:<14} {:>9.2} {:>9.2} {:>9.2} {:>9.0} {:>9}",
                waits.p50_ms,
                waits.p99_ms,
                waits.max_ms,
                waits.per_s,
                waits.refused()
            );
        }
        println!(
            "{alerts} alerts each from {senders} senders, from request to reply; {} were taken by the queue",
            ours.by_queue
        );
        for (name, waits) in [("express", &ours), ("naive", &naive)] {
            for (status, refused) in &waits.refused {
                println!("{name} refused {refused} with status {status}");
            }
        }
    }
    Ok(Exit::Done)
}

/// [F9, S12]: the rate of readings at first and after many of one hour.
async fn readings(brokers: &str, clients: u64, readings: u64, as_json: bool) -> Result<Exit, Failure> {
    let figures = bench::readings::readings(brokers, clients, readings).await?;
    let lost = figures.sent.saturating_sub(figures.delivered);
    if as_json {
        println!("{}", json!({ "readings": figures, "lost": lost }))
    } else {
        println!("{:<14} {:>12} {:>12} {:>12} {:>12}", "readings/s", "1st second", "first 5 s", "last 5 s", "whole");
        let stages =
            [("acknowledged", figures.acknowledged), ("processed", figures.processed), ("drained", figures.drained)];
        for (name, rates) in stages {
            let [first_second, first, last, whole] =
                [rates.first_second, rates.first, rates.last, rates.whole].map(|rate| format!("{rate:.0}"));
            println!("{name:<14} {first_second:>12} {first:>12} {last:>12} {whole:>12}");
        }
        println!("{} readings of one hour from {} clients, {lost} lost", figures.sent, figures.clients);
    }
    Ok(if lost == 0 { Exit::Done } else { Exit::Failed })
}

/// [F11]: where the time of one poll goes; the medians of `runs` polls.
async fn poll(brokers: &str, rows: usize, runs: usize, as_json: bool) -> Result<Exit, Failure> {
    let folder = Scratch::new("poll").map_err(Failure::new)?;
    let host = Host::reaching(folder.path(), host::kafka_sink(brokers, PREFIX)?).await?;
    // The first one warms up and is not counted.
    bench::poll::poll(&host.app, 0, rows).await?;
    let mut polls = Vec::new();
    for number in 1..=runs as u64 {
        polls.push(bench::poll::poll(&host.app, number, rows).await?);
    }
    polls.sort_by(|a, b| a.total().total_cmp(&b.total()));
    let median = polls[polls.len() / 2];
    if as_json {
        println!("{}", json!({ "rows": rows, "runs": runs, "steps_ms": median, "total_ms": median.total() }))
    } else {
        for (step, ms) in median.named() {
            println!("{step:<10} {ms:>8.2} ms {:>5.1} %", 100.0 * ms / median.total());
        }
        println!("one poll of {rows} rows: {:.2} ms (the median of {runs})", median.total());
    }
    Ok(Exit::Done)
}

/// [F6]: rows decoded with their times, and the times alone.
fn decode(rows: usize, runs: usize, python: &Path, as_json: bool) -> Result<Exit, Failure> {
    let found = bench::decode::decode(rows, runs, python)?;
    if as_json {
        println!("{}", json!({ "decode": found }));
        return Ok(Exit::Done);
    }
    println!("{:<34} {:>12} {:>12} {:>12}", "one thread", "rows/s", "ns a row", "our rate");
    let line = |name: &str, ns: f64, ours: f64| {
        println!("{name:<34} {:>12.0} {ns:>12.1} {:>10.2} ×", 1e9 / ns, ns / ours);
    };
    let (decoded, times) = (found.decoded_ns, found.times_ns);
    line("decoded, with times", decoded, decoded);
    line("a bare pass of the csv crate", found.csv_ns, decoded);
    match &found.pandas {
        Ok(pandas) => {
            line("pandas, texts joined", pandas.read_ns + pandas.joined_ns, decoded);
            line("pandas, days and minutes", pandas.read_ns + pandas.added_ns, decoded);
            line("times alone", times, times);
            line("times alone, pandas, texts joined", pandas.joined_ns, times);
            line("… days and minutes", pandas.added_ns, times);
        }
        Err(why) => {
            line("times alone", times, times);
            println!("pandas was NOT measured: {why}");
        }
    }
    println!("{rows} rows, the medians of {runs} turns; {}", found.versions());
    Ok(Exit::Done)
}

/// [F7]: the Lambda binaries beside their goals.
async fn lambda(functions: &Path, starts: usize, as_json: bool) -> Result<Exit, Failure> {
    let (measured, goals) = (bench::lambda::lambda(functions, starts).await?, bench::lambda::GOALS);
    let met = measured.values().all(|measured| measured.meets(&goals));
    if as_json {
        println!("{}", json!({ "lambda": measured, "goals": goals, "starts": starts, "met": met }));
    } else {
        println!("{:<10} {:>8} {:>16} {:>14}", "", "size MB", "initialised ms", "resident MB");
        for (name, m) in &measured {
            println!("{name:<10} {:>8.1} {:>16.1} {:>14.1}", m.size_mb, m.init_ms, m.resident_mb);
        }
        println!("{:<10} {:>8} {:>16} {:>14}", "at most", goals.size_mb, goals.init_ms, goals.resident_mb);
        println!("the medians of {starts} starts, each to the first request for an event; memory after one invocation");
    }
    Ok(if met { Exit::Done } else { Exit::Failed })
}

/// Cold starts of the whole system.
async fn start(starts: usize, as_json: bool) -> Result<Exit, Failure> {
    let (mut took, goal) = (bench::start::start(starts).await?, bench::start::GOAL);
    took.sort_by(f64::total_cmp);
    let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
    if as_json {
        println!(
            "{}",
            json!({ "start_ms": { "median": median, "longest": longest }, "goal_ms": goal, "starts": starts })
        );
    } else {
        println!(
            "`up` on an empty folder, ready to take in: {median:.0} ms, the median of {starts} starts, {longest:.0} at most (we want {goal:.0})"
        );
    }
    Ok(if median <= goal { Exit::Done } else { Exit::Failed })
}

/// [F11]: route, breaker and the scheduler's choice for every record, one by one.
fn decide(records: u64, as_json: bool) -> Result<Exit, Failure> {
    let sources = ["firms_viirs_noaa20", "iot_purpleair", "copernicus_era5"].map(SourceId::new);
    let sources = sources.into_iter().collect::<Result<Vec<_>, _>>().map_err(Failure::new)?;
    let breakers = SinkBreakers::default();
    let mut scheduler = Scheduler::default();
    let fronts = Tier::ALL.map(|tier| Front::Ready { records: 1, served_as: tier });
    let (began, mut served) = (Instant::now(), 0u64);
    for number in 0..records {
        let routed = route(&sources[number as usize % sources.len()], false).map_err(Failure::new)?;
        let admitted = breakers.lane(Lane::Bulk).admit();
        let tier = scheduler.next(fronts);
        served += u64::from(admitted && tier.is_some() && routed.topic.partitions() > 0);
    }
    let nanos = began.elapsed().as_nanos() as f64 / records.max(1) as f64;
    if as_json {
        println!("{}", json!({ "records": served, "ns_per_record": nanos }))
    } else {
        println!("tier, route and throttle decision: {nanos:.0} ns a record ({served} records)")
    }
    Ok(Exit::Done)
}
