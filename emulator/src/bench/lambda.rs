//! [F7]: what a Lambda binary costs before it does anything: its size, the time from its start to its first request for an event, and
//! its resident memory when it has answered one. It runs in an environment as Lambda's; instead of AWS there is a service that knows
//! nothing and takes everything, so that the figures are the binary's own.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::{Value, json};
use streammanager::limits::DELIVER_MARGIN;
use streammanager::queue::QueueRef;
use streammanager_host::exit::Failure;
use streammanager_host::host;
use streammanager_host::runtime::{Environment, Function, INIT, Output, Start};
use streammanager_host::template::{self, REGION};
use streammanager_host::up::{Destination, OnAws, Surroundings, described};
use tokio::time::Instant;

/// MB, milliseconds and MB.
pub(crate) const GOALS: Measured = Measured { size_mb: 15.0, init_ms: 50.0, resident_mb: 64.0 };
/// Every invocation but that of deliver ends far before it.
const TIME: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Measured {
    pub size_mb: f64,
    /// The median.
    pub init_ms: f64,
    pub resident_mb: f64,
}

impl Measured {
    pub(crate) fn meets(&self, goals: &Measured) -> bool {
        self.size_mb <= goals.size_mb && self.init_ms <= goals.init_ms && self.resident_mb <= goals.resident_mb
    }
}

/// Each binary in `folder`, by name.
pub(crate) async fn lambda(folder: &Path, starts: usize) -> Result<BTreeMap<String, Measured>, Failure> {
    let nothing = Router::new().fallback(async || ([(CONTENT_TYPE, "application/x-amz-json-1.0")], "{}"));
    let url = format!("http://{}", host::serve("the stand-in for AWS", nothing).await?);
    // Nobody listens there: a producer connects when it is asked to send.
    let brokers = "127.0.0.1:9";
    let parameters = [("KafkaBrokers", brokers), ("KafkaSecurity", "plaintext"), ("Network", "none")];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let template = template::built_in(&BTreeMap::from(parameters)).map_err(Failure::new)?;
    let queues = template.queues.iter().map(|queue| {
        (QueueRef::new(&queue.url()), QueueRef::new(&format!("{url}/{}/{}", template::ACCOUNT, queue.name)))
    });
    let aws = OnAws { url: url.clone(), region: REGION.to_owned(), queues: queues.collect() };
    let destination = Destination::Brokers(brokers.to_owned());
    let told = Surroundings { aws: &aws, destination: &destination, confirmations: &url, host: &BTreeMap::new() };
    let mut measured = BTreeMap::new();
    for (function, process) in template.functions.iter().zip(described(&template, folder, &told)?) {
        measured.insert(function.binary.clone(), measure(&function.binary, &process, starts).await?);
    }
    Ok(measured)
}

async fn measure(binary: &str, process: &Function, starts: usize) -> Result<Measured, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(format!("{}: {e}", process.program.display()));
    let mut took = Vec::new();
    for _ in 0..starts {
        let began = Instant::now();
        let environment = started(process).await?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
        environment.terminate().await;
    }
    took.sort_by(f64::total_cmp);
    let environment = started(process).await?;
    let time = if binary == "deliver" { DELIVER_MARGIN + Duration::from_secs(1) } else { TIME };
    // Also a failure is an answer: AWS is not there.
    let _ = environment.invoke(&event(binary), time).await;
    environment.idle().await;
    let resident = environment.resident().ok_or_else(|| failed(&"it ended within its first invocation"))?;
    environment.terminate().await;
    let size = std::fs::metadata(&process.program).map_err(|e| failed(&e))?.len();
    Ok(Measured {
        size_mb: size as f64 / 1e6,
        init_ms: took.get(took.len() / 2).copied().unwrap_or_default(),
        resident_mb: resident as f64 / 1e6,
    })
}

async fn started(process: &Function) -> Result<Environment, Failure> {
    let nowhere = File::options().write(true).open("/dev/null").map_err(Failure::new)?;
    let started = Environment::start(process, Start::OnDemand, Output::File(nowhere), INIT).await;
    started.map_err(|e| Failure::new(format!("{}: {e}", process.program.display())))
}

/// One that makes the function use what it is built of.
fn event(binary: &str) -> Value {
    let request = |method: &str, path: &str| {
        json!({
            "version": "2.0", "routeKey": format!("{method} {path}"), "rawPath": path, "rawQueryString": "",
            "headers": { "authorization": "Bearer smk_bench:bench" },
            "requestContext": {
                "http": { "method": method, "path": path, "sourceIp": "192.0.2.1" },
                "authorizer": { "iam": { "userArn": "arn:aws:iam::000000000000:user/bench" } },
            },
            "body": "{}", "isBase64Encoded": false,
        })
    };
    match binary {
        "express" => request("POST", "/alerts"),
        "control" => request("GET", "/streams"),
        "batch" | "realtime" => {
            let tick = json!({ "stream": "bench", "due_at": "2026-01-01T00:00:00Z" }).to_string();
            json!({ "Records": [{ "messageId": "1", "body": tick, "eventSource": "aws:sqs" }] })
        }
        "stream" => {
            let reading = json!({
                "sensor_index": 1, "latitude": 40.7, "longitude": -122.9, "last_seen": 1_780_000_000, "pm2.5_atm": 12.5,
            });
            let output = json!({
                "topic": "sensors/purpleair/1/state", "principal": "bench", "client": "bench",
                "received_at": 1_780_000_000_000_u64, "payload": BASE64.encode(reading.to_string()),
            });
            let kinesis = json!({
                "sequenceNumber": "1", "partitionKey": "1", "data": BASE64.encode(output.to_string()),
                "approximateArrivalTimestamp": 1_780_000_000.0, "kinesisSchemaVersion": "1.0",
            });
            json!({ "Records": [{ "eventSource": "aws:kinesis", "eventID": "shardId-000000000000:1", "kinesis": kinesis }] })
        }
        // What schedules send.
        _ => json!({}),
    }
}
