//! [F3]: alerts over HTTP, from request to the reply after the broker's acknowledgement; several senders at once, in turns to a
//! system of its own and to the naive program on the same broker, so that both see the same noise.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use hdrhistogram::Histogram;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use reqwest::Client;
use serde::Serialize;
use serde_json::{Value, json};
use streammanager::record::Topic;
use streammanager::time::{Clock, rfc3339};
use streammanager_host::exit::Failure;
use streammanager_host::host::{self, http_client, kafka_settings};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bench::system::System;
use crate::bench::{PREFIX, Scratch};

/// Alerts of each sender that warm up connections and topics, and are not counted.
const WARM_UP: usize = 50;
/// Alerts of each sender to one of the two before it is the other's turn.
const TURN: usize = 10;

/// What the senders waited.
#[derive(Debug, Serialize)]
pub(crate) struct Waits {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Accepted in a second of its turns.
    pub per_s: f64,
    /// Acknowledged by the CRITICAL queue, because the broker took longer than the hedge waits [E2].
    pub by_queue: u64,
    /// Alerts that were not accepted, by the reply's status; none of them counts in the waits.
    pub refused: BTreeMap<u16, u64>,
}

impl Waits {
    pub(crate) fn refused(&self) -> u64 {
        self.refused.values().sum()
    }
}

/// The waits of `alerts` alerts each from `senders` senders at once: ours, and the naive program's.
///
/// # Errors
/// When either cannot start or does not answer; the run is worthless then.
pub(crate) async fn express(brokers: &str, alerts: usize, senders: usize) -> Result<(Waits, Waits), Failure> {
    let folder = Scratch::new("express").map_err(Failure::new)?;
    let system = System::start(brokers, folder.path()).await?;
    let (ours, key) = (system.http, system.register_sender().await?);
    let naive = naive(brokers).await?;
    let client = http_client();
    let (mut our_waits, mut naive_waits) = (Recorder::new()?, Recorder::new()?);
    let each = alerts.div_ceil(senders);
    let mut sent = 0;
    while sent < WARM_UP + each {
        let warming_up = sent < WARM_UP;
        let end = if warming_up { WARM_UP } else { WARM_UP + each };
        let until = end.min(sent + TURN);
        for (at, recorder) in [(ours, &mut our_waits), (naive, &mut naive_waits)] {
            let turn =
                Turn { client: client.clone(), url: format!("http://{at}/alerts"), key: key.clone(), warming_up };
            recorder.add(turn.send(senders, sent..until).await?)?;
        }
        sent = until;
    }
    Ok((our_waits.waits(), naive_waits.waits()))
}

/// The same number of alerts from each sender to one address.
#[derive(Clone)]
struct Turn {
    client: Client,
    url: String,
    key: String,
    warming_up: bool,
}

/// What became of an alert.
struct Reply {
    waited: Duration,
    status: StatusCode,
    by_queue: bool,
}

/// A turn's replies, and how long it took; none while warming up.
type Turned = (Duration, Vec<Reply>);

impl Turn {
    async fn send(self, senders: usize, numbers: Range<usize>) -> Result<Turned, Failure> {
        let began = Instant::now();
        let mut sending = JoinSet::new();
        for sender in 0..senders {
            let (turn, numbers) = (self.clone(), numbers.clone());
            sending.spawn(async move {
                let mut replies = Vec::with_capacity(numbers.len());
                for number in numbers {
                    replies.push(turn.one(&alert(sender, number)).await?);
                }
                Ok::<_, Failure>(replies)
            });
        }
        let mut replies = Vec::new();
        while let Some(of_one) = sending.join_next().await {
            replies.extend(of_one.map_err(Failure::new)??);
        }
        Ok(if self.warming_up { (Duration::ZERO, Vec::new()) } else { (began.elapsed(), replies) })
    }

    async fn one(&self, alert: &Value) -> Result<Reply, Failure> {
        let request = self.client.post(&self.url).bearer_auth(&self.key).json(alert);
        let began = Instant::now();
        let response = request.send().await.map_err(Failure::new)?;
        let status = response.status();
        let answer: Value = response.json().await.map_err(Failure::new)?;
        let by_queue = answer["accepted"][0]["acknowledged_by"] == "queue";
        Ok(Reply { waited: began.elapsed(), status, by_queue })
    }
}

struct Recorder {
    micros: Histogram<u64>,
    elapsed: Duration,
    by_queue: u64,
    refused: BTreeMap<u16, u64>,
}

impl Recorder {
    fn new() -> Result<Recorder, Failure> {
        let micros = Histogram::new(3).map_err(Failure::new)?;
        Ok(Recorder { micros, elapsed: Duration::ZERO, by_queue: 0, refused: BTreeMap::new() })
    }

    fn add(&mut self, (elapsed, replies): Turned) -> Result<(), Failure> {
        self.elapsed += elapsed;
        for reply in replies {
            if reply.status.is_success() {
                self.micros.record(reply.waited.as_micros() as u64).map_err(Failure::new)?;
                self.by_queue += u64::from(reply.by_queue);
            } else {
                *self.refused.entry(reply.status.as_u16()).or_default() += 1;
            }
        }
        Ok(())
    }

    fn waits(&self) -> Waits {
        let ms = |micros: u64| micros as f64 / 1000.0;
        Waits {
            p50_ms: ms(self.micros.value_at_quantile(0.5)),
            p99_ms: ms(self.micros.value_at_quantile(0.99)),
            max_ms: ms(self.micros.max()),
            per_s: self.micros.len() as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
            by_queue: self.by_queue,
            refused: self.refused.clone(),
        }
    }
}

fn alert(sender: usize, number: usize) -> Value {
    let now = Clock::system().now();
    json!({
        "id": format!("BENCH-{}-{sender}-{number}", now.as_millisecond()), "sender": "bench@example.org", "sent": rfc3339(now),
        "status": "Actual", "msgType": "Alert", "event": "Benchmark",
        "area": { "description": "Bench", "polygon": [[38.3, -120.9], [38.3, -120.8], [38.4, -120.8], [38.3, -120.9]] },
    })
}

/// The baseline: a body that is sent on as it came, answered after the broker's acknowledgement. It checks nothing.
async fn naive(brokers: &str) -> Result<SocketAddr, Failure> {
    let settings = kafka_settings(brokers, "")?;
    let producer: FutureProducer = settings.critical_producer().create().map_err(Failure::new)?;
    let app = Router::new().route("/alerts", post(send_on)).with_state(Arc::new(producer));
    host::serve("the naive program", app).await
}

async fn send_on(State(producer): State<Arc<FutureProducer>>, body: Bytes) -> (StatusCode, String) {
    let topic = format!("{PREFIX}{}", Topic::CRITICAL_ALERTS.name());
    match producer.send(FutureRecord::to(&topic).key("bench").payload(&body[..]), Timeout::Never).await {
        Ok(_) => (StatusCode::OK, json!({ "accepted": [{ "acknowledged_by": "broker" }] }).to_string()),
        Err((e, _)) => (StatusCode::SERVICE_UNAVAILABLE, json!({ "error": e.to_string() }).to_string()),
    }
}
