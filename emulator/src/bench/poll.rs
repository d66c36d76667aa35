//! [F11]'s second half: where the time of one polled response goes, step by step through the functions that do it.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use serde::Serialize;
use streammanager::app::App;
use streammanager::decode::Context;
use streammanager::deliver::retry;
use streammanager::deliver::scheduler::{Front, Scheduler};
use streammanager::ingest::dedup::Seen;
use streammanager::ingest::pack::pack;
use streammanager::ingest::{enrich, validate};
use streammanager::queue::{Body, Message, Settle};
use streammanager::record::{Draft, Envelope, Tier};
use streammanager::sink::Lane;
use streammanager::sources::{self, firms};
use streammanager::upstream::http::HttpUpstream;
use streammanager::upstream::{Request, SecretUrl, Upstream};
use streammanager_host::exit::Failure;
use streammanager_host::host;
use tokio::time::Instant;

use crate::bench;
use crate::bench::generate::firms_viirs_noaa20;

/// Milliseconds of one poll by step.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Steps {
    /// The response over HTTP from a server on this host.
    pub fetch: f64,
    /// Decoding and validating.
    pub decode: f64,
    /// The seen-set's judgement, place, tier, JSON and envelopes.
    pub enrich: f64,
    /// The queue's durable acknowledgement.
    pub queue: f64,
    /// Route, breaker and the scheduler's choice for every record.
    pub throttle: f64,
    /// Unpacking and the broker's acknowledgement of every record.
    pub send: f64,
    /// The queue forgets, the seen-set remembers.
    pub account: f64,
}

impl Steps {
    pub(crate) fn named(&self) -> [(&'static str, f64); 7] {
        [
            ("fetch", self.fetch),
            ("decode", self.decode),
            ("enrich", self.enrich),
            ("queue", self.queue),
            ("throttle", self.throttle),
            ("send", self.send),
            ("account", self.account),
        ]
    }

    pub(crate) fn total(&self) -> f64 {
        self.named().iter().map(|(_, ms)| ms).sum()
    }
}

/// One poll of `rows` rows that nobody has seen. `number` tells polls apart.
pub(crate) async fn poll(app: &App, number: u64, rows: usize) -> Result<Steps, Failure> {
    let stream = bench::stream().map_err(Failure::new)?;
    let now = app.clock.now();
    let body = Bytes::from(firms_viirs_noaa20(number, rows, now));
    let source = Router::new().route("/", get(move || async move { body }));
    let url = format!("http://{}/", host::serve("the benchmark's source", source).await?);
    let upstream = HttpUpstream::new()?;
    let mut steps = Steps::default();

    let mut watch = Watch::start();
    let request = Request { url: SecretUrl::new(url, None), headers: Vec::new() };
    let body = upstream.call(&request, Duration::from_secs(10)).await.map_err(|e| Failure::new(format!("{e:?}")))?.body;
    steps.fetch = watch.lap();

    let context = Context { source: &stream.source, received_at: now, topic: None, message: None };
    let decoded = firms::FORMAT.rows(&body, context).map_err(Failure::new)?;
    let drafts: Vec<Draft> = decoded
        .map(|row| row.and_then(|draft| validate::check(draft, now)))
        .collect::<Result<_, _>>()
        .map_err(Failure::new)?;
    steps.decode = watch.lap();

    let mut seen = Seen::of_tenant(&stream.tenant);
    seen.load(&*app.store, &app.clock, &drafts).await?;
    let mut records = Vec::with_capacity(drafts.len());
    for draft in drafts {
        seen.judge(&draft);
        records.push(enrich(draft, 0, &stream, now).map_err(Failure::new)?);
    }
    let (envelopes, refused) = pack(&app.settings, &app.rng, &stream, now, records);
    if !refused.is_empty() {
        return Err(Failure::new(format!("{} records were refused", refused.len())));
    }
    steps.enrich = watch.lap();

    let queue = app.settings.queues.tier(Tier::High);
    let messages: Vec<Message> = envelopes
        .iter()
        .map(|packed| packed.envelope.encode().map(|bytes| Message::now(Body::Binary(bytes))))
        .collect::<Result<_, _>>()
        .map_err(Failure::new)?;
    for outcome in app.queue.send(queue, &messages).await? {
        outcome.map_err(Failure::new)?;
    }
    steps.queue = watch.lap();

    let mut scheduler = Scheduler::default();
    let high = Front::Ready { records: 1, served_as: Tier::High };
    let fronts = [Front::Empty, high, Front::Empty, Front::Empty];
    for _ in 0..rows {
        std::hint::black_box(sources::route(&stream.source, false).map_err(Failure::new)?);
        std::hint::black_box(app.breakers.lane(Lane::Bulk).admit());
        std::hint::black_box(scheduler.next(fronts));
    }
    steps.throttle = watch.lap();

    let deliveries = app.queue.receive(queue, messages.len(), Duration::ZERO).await?;
    let mut receipts = Vec::new();
    for delivery in deliveries {
        let Body::Binary(bytes) = delivery.body else { continue };
        let records = Envelope::decode(&bytes).and_then(|envelope| envelope.unpack()).map_err(Failure::new)?;
        let outcomes = retry::send(app, Lane::Bulk, &records).await;
        if let Some(failed) = outcomes.iter().find(|sent| !sent.is_acked()) {
            return Err(Failure::new(format!("the broker did not take a record: {failed:?}")));
        }
        receipts.push((delivery.receipt, Settle::Forget));
    }
    steps.send = watch.lap();

    app.queue.settle(queue, &receipts).await?;
    envelopes.iter().for_each(|packed| seen.accept(&packed.ids));
    seen.commit(&*app.store, &app.clock).await?;
    seen.leave(&*app.store, &app.clock).await;
    steps.account = watch.lap();
    Ok(steps)
}

struct Watch(Instant);

impl Watch {
    fn start() -> Watch {
        Watch(Instant::now())
    }

    /// Milliseconds since the last lap.
    fn lap(&mut self) -> f64 {
        let passed = self.0.elapsed();
        self.0 = Instant::now();
        passed.as_secs_f64() * 1000.0
    }
}
