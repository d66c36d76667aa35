//! [F3]: alerts one after another over HTTP, from request to the reply after the broker's acknowledgement; turn by turn to a
//! system of its own and to the naive program on the same broker, so that both see the same noise.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use hdrhistogram::Histogram;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use serde::Serialize;
use serde_json::{Value, json};
use streammanager::record::Topic;
use streammanager::sink::Lane;
use streammanager::time::{Clock, rfc3339};
use streammanager_host::exit::Failure;
use streammanager_host::host::{self, http_client, kafka_settings};
use tokio::time::Instant;

use crate::bench::system::System;
use crate::bench::{PREFIX, Scratch};

/// Alerts that warm up connections and topics, and are not counted.
const WARM_UP: usize = 50;

/// What one sender waited.
#[derive(Debug, Serialize)]
pub(crate) struct Waits {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Acknowledged by the CRITICAL queue, because the broker took longer than the hedge waits [E2].
    pub by_queue: usize,
}

/// The waits of `alerts` alerts each: ours, and the naive program's.
///
/// # Errors
/// When either refuses an alert or cannot start; the run is worthless then.
pub(crate) async fn express(brokers: &str, alerts: usize) -> Result<(Waits, Waits), Failure> {
    let folder = Scratch::new("express").map_err(Failure::new)?;
    let system = System::start(brokers, folder.path()).await?;
    let (ours, key) = (system.http, system.register_sender().await?);
    let naive = naive(brokers).await?;
    let client = http_client();
    let (mut our_waits, mut naive_waits) = (Recorder::new()?, Recorder::new()?);
    for number in 0..WARM_UP + alerts {
        let counted = number >= WARM_UP;
        for (at, recorder) in [(ours, &mut our_waits), (naive, &mut naive_waits)] {
            let request = client.post(format!("http://{at}/alerts")).bearer_auth(&key).json(&alert(number));
            let began = Instant::now();
            let response = request.send().await.map_err(Failure::new)?;
            let status = response.status();
            let answer: Value = response.json().await.map_err(Failure::new)?;
            if !status.is_success() {
                return Err(Failure::new(format!("an alert was refused: {status} {answer}")));
            }
            if counted {
                recorder.micros.record(began.elapsed().as_micros() as u64).map_err(Failure::new)?;
                recorder.by_queue += usize::from(answer["accepted"][0]["acknowledged_by"] == "queue");
            }
        }
    }
    Ok((our_waits.waits(), naive_waits.waits()))
}

struct Recorder {
    micros: Histogram<u64>,
    by_queue: usize,
}

impl Recorder {
    fn new() -> Result<Recorder, Failure> {
        Ok(Recorder { micros: Histogram::new(3).map_err(Failure::new)?, by_queue: 0 })
    }

    fn waits(&self) -> Waits {
        let ms = |micros: u64| micros as f64 / 1000.0;
        Waits {
            p50_ms: ms(self.micros.value_at_quantile(0.5)),
            p99_ms: ms(self.micros.value_at_quantile(0.99)),
            max_ms: ms(self.micros.max()),
            by_queue: self.by_queue,
        }
    }
}

fn alert(number: usize) -> Value {
    let now = Clock::system().now();
    json!({
        "id": format!("BENCH-{}-{number}", now.as_millisecond()), "sender": "bench@example.org", "sent": rfc3339(now),
        "status": "Actual", "msgType": "Alert", "event": "Benchmark",
        "area": { "description": "Bench", "polygon": [[38.3, -120.9], [38.3, -120.8], [38.4, -120.8], [38.3, -120.9]] },
    })
}

/// The baseline: a body that is sent on as it came, answered after the broker's acknowledgement. It checks nothing.
async fn naive(brokers: &str) -> Result<SocketAddr, Failure> {
    let settings = kafka_settings(brokers, "")?;
    let producer: FutureProducer = settings.producer(Lane::Critical).create().map_err(Failure::new)?;
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
