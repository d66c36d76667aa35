//! The deployed system in simulated time: environments as Lambda keeps them, and what invokes the functions.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::with_local_recorder;
use parking_lot::Mutex;
use serde_json::{Value, json};
use streammanager::app::{App, Seams};
use streammanager::blobs::MemoryBlobs;
use streammanager::control::connector::Registration;
use streammanager::control::connectors;
use streammanager::decode::Context;
use streammanager::embedded::{Commits, Embedded, MemoryDisk, Options};
use streammanager::ingest::dedup::Seen;
use streammanager::ingest::{Ledger, ingest};
use streammanager::limits::{DELIVER_MARGIN, QUEUE_POLL};
use streammanager::queue::{Body, QueueRef, Settle};
use streammanager::record::{ConnectorId, SourceId, Stream, StreamId, TenantId, WhenFull};
use streammanager::schedule::file::StreamsFile;
use streammanager::schedule::streams;
use streammanager::settings::{Secret, Settings};
use streammanager::sources::{self, Services as Addresses};
use streammanager::time::{Clock, Rng};
use streammanager_functions::emf::Emf;
use streammanager_functions::events::BatchResponse;
use streammanager_functions::warm::KEEP_WARM;
use streammanager_functions::{batch, deliver, express, realtime, redrive, schedule, stream, warm, watch};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::brought::{self, Services};
use super::lines::EACH_LINE;
use super::meter::{Kafka, Meter, Metered, MeteredBlobs, chunks};
use super::{Billed, Calls, Invoked, Load, Usage};
use crate::traffic;

/// As long as the one of a stack.
const NAMESPACE: &str = "StreamManager/streammanager-prod";
const START: &str = "2026-08-03T00:00:00Z";
const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// Long polls that Lambda keeps at a queue of a function.
const POLLERS: usize = 5;
/// Lambda asks a shard once a second.
const SHARD_POLL: Duration = Duration::from_secs(1);
/// In a VPC with the brokers, where AWS is reached by endpoints.
const IN_VPC: [&str; 4] = ["deliver", "express", "redrive", "control"];
/// What AWS IoT counts as one message, and as one reading of a rule; what Kinesis counts as one record of provisioned shards; what it
/// rounds a record up to on demand.
const IOT_CHUNK: usize = 5 * 1024;
const KINESIS_CHUNK: usize = 25 * 1024;
const KINESIS_KIB: usize = 1024;
/// A line of the API's access log.
const ACCESS_BYTES: u64 = 500;
/// Archives come in parts of so many rows.
const ARCHIVE_PART: u32 = 2_000;

/// Each call is rounded up to a millisecond.
fn billed_ms(began: Instant) -> u64 {
    began.elapsed().as_micros().div_ceil(1_000) as u64
}

/// A process of a function, and what it has counted.
#[derive(Clone)]
struct Environment {
    app: App,
    emf: Arc<Emf>,
}

pub(super) struct System {
    load: Load,
    invoked: Invoked,
    meter: Arc<Meter>,
    embedded: Embedded,
    blobs: MemoryBlobs,
    settings: Settings,
    clock: Clock,
    rng: Rng,
    services: Arc<Services>,
    key: String,
    /// Environments of each function that are not at work, the one used last at the end: Lambda takes that one first.
    idle: Mutex<BTreeMap<&'static str, Vec<Environment>>>,
    calls: Mutex<BTreeMap<&'static str, Calls>>,
    /// Calls under way: of which function, and since when.
    running: Mutex<BTreeMap<u64, (&'static str, Instant)>>,
    begun: AtomicU64,
    /// Names with their dimensions.
    metrics: Mutex<BTreeSet<String>>,
    /// The first failure, which nothing here excuses.
    failure: Mutex<Option<String>>,
}

impl System {
    pub(super) async fn start(load: Load, invoked: Invoked) -> Result<Arc<System>, String> {
        let clock = Clock::simulated(START.parse().map_err(|e| format!("{START}: {e}"))?);
        let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
        let embedded = Embedded::on_disk(&MemoryDisk::new(), options).map_err(|e| e.to_string())?;
        let mut addresses = Addresses::default();
        addresses.set_key("FIRMS_MAP_KEY", Secret::new("k3y"));
        let mut system = System {
            services: Arc::new(Services { load, clock: clock.clone(), rows: Mutex::default(), made: Mutex::default() }),
            load,
            invoked,
            meter: Arc::default(),
            embedded,
            blobs: MemoryBlobs::default(),
            settings: Settings { services: addresses, ..Settings::local() },
            clock,
            rng: Rng::seeded(1),
            key: String::new(),
            idle: Mutex::default(),
            calls: Mutex::default(),
            running: Mutex::default(),
            begun: AtomicU64::new(0),
            metrics: Mutex::default(),
            failure: Mutex::default(),
        };
        system.key = system.register().await?;
        let system = Arc::new(system);
        system.clone().run();
        Ok(system)
    }

    async fn register(&self) -> Result<String, String> {
        let app = self.app("control");
        let file = StreamsFile::parse(&brought::streams(&self.load)).map_err(|e| e.to_string())?;
        streams::apply(&app, &file, false).await.map_err(|e| e.to_string())?;
        let registration = Registration {
            id: ConnectorId::new("butte").map_err(|e| e.to_string())?,
            tenant: TenantId::new("butte").map_err(|e| e.to_string())?,
            sources: vec![SourceId::new("evacuation_alert_butte").map_err(|e| e.to_string())?],
            critical: true,
            principal: None,
        };
        let key = connectors::register(&app, registration, "the cost model").await.map_err(|e| e.to_string())?;
        Ok(key.reveal().to_owned())
    }

    /// A new process of a function, which knows nothing yet.
    fn environment(&self, function: &str) -> Environment {
        Environment {
            app: self.app(function),
            emf: Arc::new(Emf::new(NAMESPACE, format!("streammanager-prod-{function}"))),
        }
    }

    fn app(&self, function: &str) -> App {
        let by_endpoint = IN_VPC.contains(&function);
        let metered = Metered::new(self.embedded.clone(), self.meter.clone(), self.clock.clone(), by_endpoint);
        let seams = Seams {
            queue: Arc::new(metered.clone()),
            store: Arc::new(metered),
            blobs: Arc::new(MeteredBlobs { inner: self.blobs.clone(), meter: self.meter.clone() }),
            sink: Arc::new(Kafka(self.meter.clone())),
            upstream: self.services.clone(),
        };
        App::new(self.settings.clone(), seams, self.clock.clone(), self.rng.clone())
    }

    async fn call<T, F: Future<Output = T>>(&self, function: &'static str, work: impl FnOnce(App) -> F) -> T {
        let idle = self.idle.lock().get_mut(function).and_then(Vec::pop);
        let environment = idle.unwrap_or_else(|| self.environment(function));
        let Environment { app, emf } = environment.clone();
        let (id, began) = (self.begun.fetch_add(1, Ordering::Relaxed), Instant::now());
        self.running.lock().insert(id, (function, began));
        self.calls.lock().entry(function).or_default().calls += 1;
        let mut working = Box::pin(work(app));
        // Other functions count on the same thread.
        let counted = poll_fn(|context| with_local_recorder(&*emf, || working.as_mut().poll(context)));
        let answer = emf.told(&self.clock, |line| self.logged(&line), counted).await;
        self.running.lock().remove(&id);
        self.calls.lock().entry(function).or_default().billed_ms += billed_ms(began);
        self.idle.lock().entry(function).or_default().push(environment);
        answer
    }

    /// A line of the log with figures.
    fn logged(&self, line: &Value) {
        self.meter.add(Billed::LineBytes, line.to_string().len() as u64 + EACH_LINE);
        for directive in line["_aws"]["CloudWatchMetrics"].as_array().into_iter().flatten() {
            let names = directive["Dimensions"].as_array().into_iter().flatten().flat_map(Value::as_array).flatten();
            let dimensions: Vec<_> = names.filter_map(|name| line.get(name.as_str()?)).collect();
            let metrics = directive["Metrics"].as_array().into_iter().flatten();
            self.metrics.lock().extend(metrics.map(|metric| format!("{} {dimensions:?}", metric["Name"])));
        }
    }

    fn fails(&self, what: impl std::fmt::Display) {
        self.failure.lock().get_or_insert_with(|| what.to_string());
    }

    pub(super) fn failed(&self) -> Result<(), String> {
        self.failure.lock().clone().map_or(Ok(()), Err)
    }

    /// What was used since the start; `began`: when what is measured began. Of calls under way the time that they have run.
    pub(super) fn usage(&self, started: Instant, began: Instant) -> Usage {
        let mut calls = self.calls.lock().clone();
        for (function, since) in self.running.lock().values() {
            calls.entry(function).or_default().billed_ms += billed_ms(*since);
        }
        Usage {
            seconds: started.elapsed().as_secs_f64(),
            counts: self.meter.counts(),
            calls,
            stored_bytes: self.meter.item_bytes(began),
            metrics: self.metrics.lock().len(),
        }
    }

    /// What the meter counts for all environments.
    pub(super) fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
    }

    fn run(self: Arc<System>) {
        let queues = &self.settings.queues;
        for (function, queue) in [
            ("realtime", &queues.realtime_ticks),
            ("stream", &queues.stream_ticks),
            ("batch", &queues.batch_ticks),
            ("express", &queues.express_retry),
        ] {
            for _ in 0..POLLERS {
                tokio::spawn(self.clone().queue(function, queue.clone()));
            }
        }
        for shard in 0..self.invoked.shards {
            tokio::spawn(self.clone().shard(shard));
        }
        tokio::spawn(self.clone().minutes());
        tokio::spawn(self.clone().hours());
        tokio::spawn(self.clone().alerts());
        tokio::spawn(self.clone().archives());
    }

    async fn minutes(self: Arc<System>) {
        let delivering = Arc::new(Semaphore::new(self.invoked.deliver_at_once as usize));
        let mut minute = interval(Duration::from_secs(60));
        loop {
            minute.tick().await;
            self.meter.add(Billed::Scheduled, 3);
            let system = self.clone();
            tokio::spawn(async move {
                let planned = system.call("schedule", |app| async move {
                    let planned = schedule::handle(&app, json!({})).await;
                    watch::tell(&app).await;
                    planned
                });
                if let Err(problem) = planned.await {
                    system.fails(format!("schedule: {problem}"));
                }
            });
            let system = self.clone();
            tokio::spawn(async move {
                let kept = system
                    .call("express", |app| async move { warm::answered(&app, &json!({ KEEP_WARM: true })).await });
                match kept.await {
                    Some(answer) if answer["warm"] == true => {}
                    other => system.fails(format!("express is not kept warm: {other:?}")),
                }
            });
            // Beyond its reserved concurrency a call is refused, and not billed.
            if let Ok(permit) = delivering.clone().try_acquire_owned() {
                tokio::spawn(self.clone().deliver(permit));
            }
        }
    }

    async fn deliver<P>(self: Arc<System>, permit: P) {
        let stop = CancellationToken::new();
        let (ends, until) = (stop.clone(), self.invoked.deliver_timeout.saturating_sub(DELIVER_MARGIN));
        let timer = tokio::spawn(async move {
            sleep(until).await;
            ends.cancel();
        });
        let delivering = self.call("deliver", |app| async move {
            watch::while_the_sink_is_asked(&app, deliver::handle(&app, json!({}), stop)).await
        });
        let answer = delivering.await;
        timer.abort();
        drop(permit);
        if let Err(problem) = answer {
            self.fails(format!("deliver: {problem}"));
        }
    }

    async fn hours(self: Arc<System>) {
        let mut hour = interval(Duration::from_secs(3_600));
        loop {
            hour.tick().await;
            self.meter.add(Billed::Scheduled, 1);
            let done = self.call("redrive", |app| async move { redrive::handle(&app, json!({})).await }).await;
            if let Err(problem) = done {
                self.fails(format!("redrive: {problem}"));
            }
        }
    }

    /// One of Lambda's long polls at a queue.
    async fn queue(self: Arc<System>, function: &'static str, queue: QueueRef) {
        // It is Lambda's own, outside of the VPC.
        let poller = self.app("lambda");
        loop {
            let Ok(given) = poller.queue.receive(&queue, 1, QUEUE_POLL).await else {
                return self.fails(format!("{queue} cannot be read"));
            };
            for delivery in given {
                let Body::Text(body) = &delivery.body else { continue };
                let event = json!({ "Records": [{ "messageId": delivery.id, "body": body }] });
                let answer = self
                    .call(function, |app| async move {
                        match function {
                            "realtime" => realtime::handle(&app, event).await,
                            "stream" => stream::handle(&app, event).await,
                            "batch" => batch::handle(&app, event).await,
                            _ => express::handle(&app, event).await.map(|answer| answer.response),
                        }
                    })
                    .await;
                match answer.map(serde_json::from_value::<BatchResponse>) {
                    Ok(Ok(answer)) if answer.batch_item_failures.is_empty() => {}
                    other => self.fails(format!("{function}: {other:?}")),
                }
                if poller.queue.settle(&queue, &[(delivery.receipt, Settle::Forget)]).await.is_err() {
                    self.fails(format!("{queue} cannot be settled"));
                }
            }
        }
    }

    /// One shard of the sensors' stream, and what the sensors put into it.
    async fn shard(self: Arc<System>, shard: u32) {
        let shards = u64::from(self.invoked.shards);
        let per_second = f64::from(self.load.readings_per_minute) / 60.0 / shards as f64;
        let devices = u64::from(self.load.devices).div_ceil(shards).max(1);
        let (mut owed, mut number, mut waiting) = (0.0, 0_u64, Vec::new());
        let mut asked = interval(SHARD_POLL.max(self.invoked.stream_window));
        asked.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            asked.tick().await;
            owed += per_second * last.elapsed().as_secs_f64();
            last = Instant::now();
            while owed >= 1.0 {
                owed -= 1.0;
                let device = u64::from(shard) + number % devices * shards;
                let reading = brought::reading(shard, number, device, self.clock.now());
                number += 1;
                let messages = chunks(reading.message_bytes, IOT_CHUNK);
                self.meter.add(Billed::IotMessages, messages);
                self.meter.add(Billed::IotTopicMessages, if self.load.basic_ingest { 0 } else { messages });
                self.meter.add(Billed::KinesisRecords, chunks(reading.record_bytes, KINESIS_CHUNK));
                let kib = chunks(reading.record_bytes, KINESIS_KIB) * KINESIS_KIB as u64;
                self.meter.add(Billed::KinesisBytes, kib);
                waiting.push(reading.record);
            }
            while !waiting.is_empty() {
                let records = waiting.drain(..waiting.len().min(self.invoked.stream_batch)).collect::<Vec<_>>();
                let event = json!({ "Records": records });
                let answer = self.call("stream", |app| async move { stream::handle(&app, event).await }).await;
                match answer.map(serde_json::from_value::<BatchResponse>) {
                    Ok(Ok(answer)) if answer.batch_item_failures.is_empty() => {}
                    other => return self.fails(format!("stream: {other:?}")),
                }
            }
        }
    }

    async fn alerts(self: Arc<System>) {
        if self.load.alerts_per_week == 0 {
            return;
        }
        let mut due = interval(WEEK / self.load.alerts_per_week);
        for number in 0.. {
            due.tick().await;
            let request = brought::alert(&self.key, number, self.clock.now());
            self.meter.add(Billed::HttpRequests, 1);
            self.meter.add(Billed::LineBytes, ACCESS_BYTES);
            let answer = self.call("express", |app| async move { express::handle(&app, request).await }).await;
            match answer {
                Ok(answer) if answer.response["statusCode"] == 200 => {}
                other => self.fails(format!("an alert: {other:?}")),
            }
        }
    }

    async fn archives(self: Arc<System>) {
        if self.load.archive_rows_per_day == 0 {
            return;
        }
        let mut due = interval(Duration::from_secs(86_400) * ARCHIVE_PART / self.load.archive_rows_per_day);
        for part in 0.. {
            due.tick().await;
            let taken = self.call("batch", |app| async move {
                let source = SourceId::new("historical_firms").map_err(|e| e.to_string())?;
                let stream = Stream {
                    id: StreamId::new("archive").map_err(|e| e.to_string())?,
                    source: source.clone(),
                    tenant: TenantId::new("research").map_err(|e| e.to_string())?,
                    granted: false,
                    when_full: WhenFull::Wait,
                };
                let body = traffic::archive(part, u64::from(ARCHIVE_PART));
                let context = Context { source: &source, received_at: app.clock.now(), topic: None, message: None };
                let format = sources::format_of(&source).ok_or("no format")?;
                let rows = format.rows(&body, context).map_err(|e| format!("{e:?}"))?;
                let (mut seen, mut ledger) = (Seen::of_tenant(&stream.tenant), Ledger::default());
                ingest(&app, &stream, &mut seen, &mut ledger, rows).await.map_err(|e| e.to_string())
            });
            if let Err(problem) = taken.await {
                self.fails(format!("an archive: {problem}"));
            }
        }
    }
}
