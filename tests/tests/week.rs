//! Days of every polled source on a virtual clock: services with faults, the schedule, the handlers and the queues. What is judged:
//! nothing that stood in a list long enough is lost, nothing is published twice, what is asked of each host, how late polls are, and
//! that sick sources cost the healthy ones nothing. A day in each test run; `STREAMMANAGER_WEEK_DAYS=7` for a week.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message};
use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::dead;
use streammanager::faults::sink::FaultySink;
use streammanager::queue::{Body, Delivery, QueueRef, Settle};
use streammanager::schedule::streams;
use streammanager::schedule::ticks::Tick;
use streammanager::sink::Sink;
use streammanager::sink::kafka::{KafkaSettings, KafkaSink};
use streammanager::sources::ConnectorKind;
use streammanager::time::Timestamp;
use streammanager_functions::{deliver, realtime, schedule};
use streammanager_tests::polled::{PolledWorld, Published};
use streammanager_tests::{kafka, published, skip, stations, workspace};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[path = "week/services.rs"]
mod services;
use services::*;

/// By stream: how late each poll began, and how long it took, in milliseconds.
type Polls = BTreeMap<String, Vec<(i64, i64)>>;

/// What a run came to.
struct Run {
    /// By stream.
    published: BTreeMap<String, BTreeSet<Told>>,
    asked: Vec<(String, Timestamp, Timestamp)>,
    polls: Polls,
    faults: BTreeSet<Fault>,
    failures: u64,
}

/// Streams of all sources, which are polled as they fall due.
struct Polling {
    world: PolledWorld,
    polls: Arc<Mutex<Polls>>,
    ticking: Vec<JoinHandle<()>>,
}

impl Polling {
    async fn of(sources: &[Source], sky: Arc<Sky>, sink: Arc<dyn Sink>) -> Polling {
        let mut file = "version: 1\nstreams:\n".to_owned();
        for source in sources {
            let Source { connector, id, interval, config, .. } = source;
            let stream = connector.to_string().replace('_', "-");
            file += &format!(
                "  - {{id: {stream}, source_id: {id}, connector: {connector}, tenant: t, interval: {interval}s, config: {config}}}\n"
            );
        }
        let world = PolledWorld::into(sink, &file, START, stations::settings("k3y"), sky).await;
        let polls: Arc<Mutex<Polls>> = Arc::default();
        let queues = &world.app.settings.queues;
        let ticking = [&queues.realtime_ticks, &queues.stream_ticks, &queues.batch_ticks].map(|queue| {
            let (app, queue, polls) = (world.app.clone(), queue.clone(), polls.clone());
            tokio::spawn(async move {
                loop {
                    let received = app.queue.receive(&queue, 10, Duration::from_secs(20)).await.unwrap();
                    for delivery in received {
                        tokio::spawn(work(app.clone(), queue.clone(), polls.clone(), delivery));
                    }
                }
            })
        });
        Polling { ticking: ticking.into(), world, polls }
    }

    /// Plans what falls due in the next minute, and lets it pass.
    async fn minute(&self) {
        schedule::handle(&self.world.app, json!({})).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    }

    fn is_before(&self, second: i64) -> bool {
        self.world.app.clock.now().as_second() < second
    }

    fn end(&self) {
        self.ticking.iter().for_each(JoinHandle::abort);
    }
}

async fn work(app: App, queue: QueueRef, polls: Arc<Mutex<Polls>>, delivery: Delivery) {
    let Body::Text(body) = &delivery.body else { panic!("a tick is text") };
    let tick: Tick = serde_json::from_str(body).unwrap();
    let began = app.clock.now();
    let event = json!({"Records": [{"messageId": "m", "body": body}]});
    let answer = realtime::handle(&app, event).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    let (late, took) = (
        began.as_millisecond() - tick.due_at.as_millisecond(),
        app.clock.now().as_millisecond() - began.as_millisecond(),
    );
    polls.lock().entry(tick.stream.to_string()).or_default().push((late, took));
    app.queue.settle(&queue, &[(delivery.receipt, Settle::Forget)]).await.unwrap();
}

/// # Panics
/// When a record is published twice, breaks its schema, or is of nothing that its source told.
async fn run(days: f64, weather: Weather) -> Run {
    let (sources, sky) = (sources(), Arc::new(Sky::new(weather)));
    let polling = Polling::of(&sources, sky.clone(), Arc::new(FaultySink::memory())).await;
    let app = &polling.world.app;
    let mut published: BTreeMap<String, BTreeSet<Told>> = BTreeMap::new();
    let (mut ids, mut versions) = (HashSet::new(), HashSet::new());
    let until = start() + (days * 86_400.0) as i64;
    while polling.is_before(until) {
        polling.minute().await;
        for record in polling.world.queued().await {
            let (source, told_as) = (record.value["source_id"].as_str().unwrap().to_owned(), record.identity());
            assert!(ids.insert(told_as.clone()), "{source}: {told_as:?} twice");
            let of = sources.iter().find(|of| of.id == source).unwrap();
            let told = (of.told)(&record.value).unwrap_or_else(|| panic!("{source}: nobody told {}", record.value));
            assert!(versions.insert((source.clone(), told_as.0, told)), "{source}: {told:?} twice");
            if told.version >= 0 {
                published.entry(source).or_default().insert(told);
            }
        }
    }
    polling.end();
    let mut failures = 0;
    for registered in streams::list(&*app.store).await.unwrap() {
        let spec = registered.spec;
        let state = streams::poll_state(&*app.store, &spec.id).await.unwrap();
        // A table that was cut off ends with half a row; anything else that was is refused as a whole.
        let is_table =
            matches!(spec.polled.kind(), ConnectorKind::Firms | ConnectorKind::AirnowFiles | ConnectorKind::FpaFod);
        let halves = if is_table { 10 * days.ceil() as u64 } else { 0 };
        if state.records_failed > halves {
            let letters = dead::list(&*app.store, Some(&spec.id), 10).await.unwrap().letters;
            panic!("{}: {} rows were rejected: {letters:#?}", spec.id, state.records_failed);
        }
        failures += u64::from(state.breaker.failures());
    }
    let (asked, faults) = (std::mem::take(&mut *sky.asked.lock()), std::mem::take(&mut *sky.met.lock()));
    let polls = std::mem::take(&mut *polling.polls.lock());
    Run { published, asked, polls, faults, failures }
}

/// The first record that each polled source's double brings, in its published form.
#[tokio::test(start_paused = true)]
async fn the_documents_show_a_record_of_every_polled_source() {
    let (sources, sky) = (sources(), Arc::new(Sky::new(Box::new(|_, _| None))));
    let polling = Polling::of(&sources, sky, Arc::new(FaultySink::memory())).await;
    let mut first: BTreeMap<String, Published> = BTreeMap::new();
    while first.len() < sources.iter().map(|source| source.id).collect::<BTreeSet<_>>().len() {
        assert!(polling.is_before(start() + 6 * 3_600), "there is none but of {:?}", first.keys());
        polling.minute().await;
        for record in polling.world.queued().await {
            let source = record.value["source_id"].as_str().unwrap().to_owned();
            first.entry(source).or_insert(record);
        }
    }
    polling.end();
    let mut page = "# A record of every polled source\n\nAs it is published, from the doubles of the tests. Made by `UPDATE_SCHEMAS=1 cargo test \
        --workspace --test week`; the fields are explained in [the schemas](../infra/schemas).\n"
        .to_owned();
    for (source, Published { topic, key, value, .. }) in first {
        let value = serde_json::to_string_pretty(&value).unwrap();
        page += &format!("\n## {source}\n\n`{topic}`, key `{key}`\n\n```json\n{value}\n```\n");
    }
    let path = workspace().join("docs/examples.md");
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(checked_in == page, "docs/examples.md differs: UPDATE_SCHEMAS=1 cargo test --workspace --test week");
}

/// Every source's day on the virtual clock, and what was queued of it in real Kafka, where each record fits its topic's schema.
#[tokio::test(start_paused = true)]
async fn k2_a_day_of_every_source_is_in_kafka_and_fits_its_schemas() {
    let Some(brokers) = kafka() else {
        return skip("a day of every source in Kafka", "STREAMMANAGER_TEST_KAFKA is not set");
    };
    let prefix = format!("day-{}-", std::process::id());
    let sink = Arc::new(KafkaSink::connect(&KafkaSettings::plaintext(&brokers, &prefix).unwrap()).unwrap());
    let (sources, sky) = (sources(), Arc::new(Sky::new(Box::new(|_, _| None))));
    let polling = Polling::of(&sources, sky, sink).await;
    let until = start() + 86_400;
    while polling.is_before(until) {
        polling.minute().await;
    }
    polling.end();

    // Kafka knows real time alone.
    tokio::time::resume();
    let app = &polling.world.app;
    let stop = CancellationToken::new();
    let delivering = tokio::spawn({
        let (app, stop) = (app.clone(), stop.clone());
        async move { deliver::handle(&app, json!({}), stop).await.unwrap() }
    });
    let ended = Instant::now() + Duration::from_secs(120);
    while app.tally.totals().delivered_in_all() < app.tally.totals().accepted && Instant::now() < ended {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.cancel();
    delivering.await.unwrap();

    let totals = app.tally.totals();
    let mut published: BTreeMap<String, BTreeSet<Told>> = BTreeMap::new();
    let mut identities = HashSet::new();
    for (topic, delivered) in &totals.delivered {
        let values = everything(&brokers, &format!("{prefix}{topic}"), *delivered);
        assert_eq!(values.len() as u64, *delivered, "{topic}");
        for value in values {
            published::assert_valid(topic, &value);
            assert!(identities.insert((value["event_id"].to_string(), value["revision"].to_string())), "{value} twice");
            let source = sources.iter().find(|of| value["source_id"] == of.id).unwrap();
            published.entry(source.id.to_owned()).or_default().extend((source.told)(&value));
        }
    }
    assert_eq!(identities.len() as u64, totals.accepted, "accepted and in Kafka");
    for source in &sources {
        let there = published.get(source.id).map_or(0, BTreeSet::len);
        let lost: Vec<Told> =
            (source.wanted)(until).difference(published.get(source.id).unwrap_or(&BTreeSet::new())).copied().collect();
        println!("{:<20} {there:>6} in Kafka", source.connector.to_string());
        assert!(there > 0 && lost.is_empty(), "{}: lost {lost:?}", source.connector);
    }
}

/// So many records of a topic as JSON, or what there is of them after half a minute.
fn everything(brokers: &str, topic: &str, count: u64) -> Vec<Value> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", topic).set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let (mut values, ended) = (Vec::new(), Instant::now() + Duration::from_secs(30));
    while (values.len() as u64) < count && Instant::now() < ended {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) {
            values.push(serde_json::from_slice(message.payload().unwrap()).unwrap());
        }
    }
    values
}

fn days() -> f64 {
    std::env::var("STREAMMANAGER_WEEK_DAYS").ok().and_then(|days| days.parse().ok()).unwrap_or(1.0)
}

fn percentile(sorted: &[i64], percent: usize) -> i64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[test]
fn every_connector_is_in_it() {
    let here: BTreeSet<String> = sources().iter().map(|source| source.connector.to_string()).collect();
    let all: BTreeSet<String> = ConnectorKind::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(here, all);
}

/// S10, S11, S12, M4: with a fault of each source in every third hour.
#[tokio::test(start_paused = true)]
async fn s10_days_of_every_source_with_faults_lose_nothing_repeat_nothing_and_stay_polite() {
    let until = start() + (days() * 86_400.0) as i64;
    let run = run(days(), seeded(11, until)).await;
    println!(
        "{:<20} {:>8} {:>8} {:>10} {:>12} {:>12}",
        "source", "told", "lost", "polls", "late p99 ms", "took p99 ms"
    );
    for source in sources() {
        let published = &run.published[source.id];
        let wanted = (source.wanted)(until);
        let lost: Vec<&Told> = wanted.difference(published).collect();
        let stream = source.connector.to_string().replace('_', "-");
        let polls = &run.polls[&stream];
        let sorted = |of: fn(&(i64, i64)) -> i64| {
            let mut all: Vec<i64> = polls.iter().map(of).collect();
            all.sort_unstable();
            all
        };
        let (late, took) = (sorted(|poll| poll.0), sorted(|poll| poll.1));
        println!(
            "{stream:<20} {:>8} {:>8} {:>10} {:>12} {:>12}",
            published.len(),
            lost.len(),
            polls.len(),
            percentile(&late, 99),
            percentile(&took, 99)
        );
        assert!(lost.is_empty(), "{stream}: lost {lost:?}");
        assert!(percentile(&late, 99) <= 1_500, "{stream}: polls begin late");
    }
    assert_eq!(run.faults.len(), FAULTS.len(), "every fault struck: {:?}", run.faults);
    assert_eq!(run.failures, 0, "all is well at the end");
    polite(&run.asked);
}

/// No minute has more requests than a service allows, and one that is asked one at a time is.
fn polite(asked: &[(String, Timestamp, Timestamp)]) {
    let mut by_host: BTreeMap<&str, Vec<(Timestamp, Timestamp)>> = BTreeMap::new();
    for (host, began, ended) in asked {
        by_host.entry(host).or_default().push((*began, *ended));
    }
    println!("{:<75} {:>9} {:>14} {:>8}", "host", "requests", "most a minute", "allowed");
    for (host, mut requests) in by_host {
        requests.sort();
        let service = streammanager::sources::services().find(|service| service.address.starts_with(host));
        let manners = service.map(|service| &service.manners);
        let allowed = manners.map_or(60, |manners| manners.a_minute as usize);
        let most = (0..requests.len())
            .map(|at| {
                requests[at..]
                    .iter()
                    .take_while(|(began, _)| began.duration_since(requests[at].0).as_secs() < 60)
                    .count()
            })
            .max()
            .unwrap_or_default();
        println!("{host:<75} {:>9} {most:>14} {allowed:>8}", requests.len());
        assert!(most <= allowed, "{host}: {most} requests in a minute");
        if let Some(apart) = manners.and_then(|manners| manners.apart) {
            for pair in requests.windows(2) {
                let pause = pair[1].0.duration_since(pair[0].1);
                assert!(pause.as_millis() >= apart.as_millis() as i128, "{host}: {pause:?} between two requests");
            }
        }
    }
}

/// S10: five sources that are sick all day cost the others nothing.
#[tokio::test(start_paused = true)]
async fn s10_sick_sources_leave_the_healthy_ones_as_fast_as_they_were() {
    const SICK: [(ConnectorKind, Fault); 5] = [
        (ConnectorKind::Firms, Fault::Slow),
        (ConnectorKind::Calfire, Fault::Forbidden),
        (ConnectorKind::Firis, Fault::Endless),
        (ConnectorKind::Outages, Fault::Broken),
        (ConnectorKind::Layers, Fault::Busy),
    ];
    let fault = |kind: ConnectorKind| SICK.iter().find(|(of, _)| *of == kind).map(|(_, fault)| *fault);
    let well = run(0.25, Box::new(|_, _| None)).await;
    let kinds: Vec<ConnectorKind> = sources().iter().map(|source| source.connector).collect();
    let beside = run(0.25, Box::new(move |source, at| fault(kinds[source]).map(|fault| (fault, at)))).await;
    for source in sources().iter().filter(|source| fault(source.connector).is_none()) {
        let stream = source.connector.to_string().replace('_', "-");
        let sorted = |run: &Run| {
            let mut all: Vec<i64> = run.polls[&stream].iter().map(|(late, took)| late + took).collect();
            all.sort_unstable();
            all
        };
        let (before, after) = (sorted(&well), sorted(&beside));
        assert_eq!(before.len(), after.len(), "{stream}");
        assert_eq!(
            (percentile(&before, 50), percentile(&before, 99)),
            (percentile(&after, 50), percentile(&after, 99)),
            "{stream}"
        );
        assert_eq!(well.published[source.id], beside.published[source.id], "{stream}");
    }
}
