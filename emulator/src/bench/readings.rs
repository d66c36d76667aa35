//! [F9, S12]: readings over MQTT at QoS 1 from several clients at once. What one costs must not grow with what the hour has
//! seen already, so the rate of the first seconds stands beside that of the last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use streammanager::time::Clock;
use streammanager_host::exit::Failure;
use streammanager_host::publisher::Publisher;
use tokio::time::{Instant, sleep_until};

use crate::bench::Scratch;
use crate::bench::system::System;

/// Publishes of one client on their way at once.
const WINDOW: u64 = 50;
/// Devices of one client, each with readings of its own.
const DEVICES: u64 = 25;
/// A sample of the counters.
const SAMPLE: Duration = Duration::from_secs(1);
/// The stretch at either end over which a rate is taken.
const STRETCH: usize = 5;
/// Nothing more was delivered for so long after the last publish: what is missing is lost.
const SETTLED: Duration = Duration::from_secs(20);

/// Readings a second.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Rates {
    pub first_second: f64,
    pub first: f64,
    pub last: f64,
    pub whole: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Readings {
    pub clients: u64,
    pub sent: u64,
    /// Acknowledged to their clients.
    pub acknowledged: Rates,
    /// Taken the whole way into the queues.
    pub processed: Rates,
    /// Acknowledged by the broker.
    pub drained: Rates,
    pub delivered: u64,
}

/// Sends `readings` readings of this hour from `clients` clients and waits until no more come through.
///
/// # Errors
/// When the system cannot start or a client is refused.
pub(crate) async fn readings(brokers: &str, clients: u64, readings: u64) -> Result<Readings, Failure> {
    let folder = Scratch::new("readings").map_err(Failure::new)?;
    let system = System::start(brokers, folder.path()).await?;
    let each = readings.div_ceil(clients);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let senders: Vec<_> = (0..clients)
        .map(|client| {
            let (mqtt, acknowledged) = (system.mqtt, acknowledged.clone());
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut publisher = Publisher::connect(mqtt, &format!("bench-{client}"))?;
                let mut number = 0;
                while number < each {
                    let device = client * DEVICES + (number / WINDOW) % DEVICES;
                    let until = each.min(number + WINDOW);
                    let payloads = (number..until).map(|number| reading(device, number));
                    let taken = publisher.publish_all(&format!("sensors/bench/{device}/state"), payloads)?;
                    acknowledged.fetch_add(taken as u64, Ordering::Relaxed);
                    number = until;
                }
                Ok(())
            })
        })
        .collect();

    let (mut acks, mut processed, mut drained) = (Samples::default(), Samples::default(), Samples::default());
    let (began, mut grew) = (Instant::now(), Instant::now());
    let expected = (each * clients) as f64;
    while drained.last() < expected && grew.elapsed() < SETTLED {
        sleep_until(began + SAMPLE * (acks.counts.len() as u32 + 1)).await;
        acks.add(began, acknowledged.load(Ordering::Relaxed) as f64);
        let before = drained.last();
        processed.add(began, system.metric("stream_records_processed_total").await?);
        drained.add(began, system.metric("stream_latency_seconds_count").await?);
        if drained.last() > before {
            grew = Instant::now();
        }
    }
    for sender in senders {
        sender.join().map_err(|_| Failure::new("a client of the benchmark panicked"))?.map_err(Failure::new)?;
    }
    let delivered = drained.last() as u64;
    let (acknowledged, processed, drained) = (acks.rates(), processed.rates(), drained.rates());
    Ok(Readings { clients, sent: each * clients, acknowledged, processed, drained, delivered })
}

fn reading(device: u64, number: u64) -> Vec<u8> {
    let now = Clock::system().now();
    json!({
        "id": device, "latitude": 38.0 + (device % 100) as f64 * 0.01, "longitude": -121.5,
        "timestamp": streammanager::time::rfc3339(now), "temperature_c": 20.0 + (number % 200) as f64 * 0.1,
        "relative_humidity_percent": 30, "sequence": number,
    })
    .to_string()
    .into_bytes()
}

/// A counter, read once a second.
#[derive(Default)]
struct Samples {
    counts: Vec<(f64, f64)>,
}

impl Samples {
    fn add(&mut self, began: Instant, count: f64) {
        self.counts.push((began.elapsed().as_secs_f64(), count));
    }

    fn last(&self) -> f64 {
        self.counts.last().map_or(0.0, |(_, count)| *count)
    }

    /// Over the time in which the counter grew.
    fn rates(&self) -> Rates {
        let end = self.counts.iter().position(|(_, count)| *count >= self.last()).unwrap_or_default();
        let at = |nth: usize| if nth == 0 { (0.0, 0.0) } else { self.counts[nth - 1] };
        let rate = |from: usize, to: usize| {
            let ((began, less), (ended, more)) = (at(from), at(to));
            if ended > began { (more - less) / (ended - began) } else { 0.0 }
        };
        // Samples 1 to `end + 1`; the last one may be a part of a second and is left out of the last stretch.
        let samples = end + 1;
        let last = samples.saturating_sub(1).max(1);
        Rates {
            first_second: rate(0, 1),
            first: rate(0, samples.min(STRETCH)),
            last: rate(last.saturating_sub(STRETCH), last),
            whole: rate(0, samples),
        }
    }
}
