//! The baseline of F1: the program that anyone would write first. It decodes, makes the same JSON and hands it to a
//! FutureProducer with the same settings; no queue, no deduplication, no tiers, no accounting.

use std::collections::VecDeque;
use std::fs;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use serde::Serialize;
use streammanager::decode::Context;
use streammanager::ingest::enrich;
use streammanager::ingest::pack::outgoing;
use streammanager::record::Traceparent;
use streammanager::settings::Settings;
use streammanager::sink::Lane;
use streammanager::sources::firms;
use streammanager::time::Clock;
use streammanager_host::host::kafka_settings;
use tokio::time::Instant;

use crate::bench;

/// Messages in flight at most [F1].
const IN_FLIGHT: usize = 2_000;

/// One run's figures.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    pub records: u64,
    pub elapsed_s: f64,
    pub records_per_s: f64,
    /// User and system time of the whole process. The system counts it in hundredths of a second.
    pub cpu_us_per_record: f64,
}

impl Figures {
    pub(crate) fn of(records: u64, elapsed: Duration, cpu: Duration) -> Figures {
        let count = records.max(1) as f64;
        Figures {
            records,
            elapsed_s: elapsed.as_secs_f64(),
            records_per_s: records as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
            cpu_us_per_record: cpu.as_secs_f64() * 1e6 / count,
        }
    }
}

/// Sends every row of a FIRMS VIIRS NOAA-20 response to `topic`, with the headers that our records carry, so that both put the same
/// bytes on the wire; waits for the broker's acknowledgement of all.
///
/// # Errors
/// A text that names the row, the setting or the broker's answer; the run is worthless then.
pub(crate) async fn naive_firms(brokers: &str, topic: &str, body: &Bytes) -> Result<Figures, String> {
    let settings = kafka_settings(brokers, "").map_err(|e| e.to_string())?;
    let producer: FutureProducer = settings.producer(Lane::Bulk).create().map_err(|e| e.to_string())?;
    let stream = bench::stream().map_err(|e| e.to_string())?;
    let settings = Settings::local();
    let traceparent = Traceparent::new([1; 16], [1; 8]);
    let now = Clock::system().now();

    // Connected before it is measured: a run is records, not the first handshake.
    let first = FutureRecord::to(topic).key("first").payload("{}");
    acknowledged(producer.send_result(first).map_err(|(e, _)| e.to_string())?).await?;

    let (started, cpu_before) = (Instant::now(), cpu_time()?);
    let context = Context { source: &stream.source, received_at: now, topic: None, message: None };
    let rows = firms::FORMAT.rows(body, context).map_err(|e| e.to_string())?;
    let mut in_flight: VecDeque<DeliveryFuture> = VecDeque::with_capacity(IN_FLIGHT);
    let mut records = 0;
    for row in rows {
        let draft = row.map_err(|e| e.to_string())?;
        let record = enrich(draft, 0, &stream, now).map_err(|e| e.to_string())?;
        let (key, timestamp) = (record.key(), record.ingested_at.as_millisecond());
        let out = outgoing(&record, &settings, traceparent.clone()).map_err(|e| e.to_string())?;
        let named = out.headers();
        let headers = named.iter().fold(OwnedHeaders::new_with_capacity(named.len()), |all, (key, value)| {
            all.insert(Header { key, value: Some(value.as_bytes()) })
        });
        if in_flight.len() == IN_FLIGHT
            && let Some(oldest) = in_flight.pop_front()
        {
            acknowledged(oldest).await?;
        }
        let message = FutureRecord::to(topic).key(&key).payload(&out.value[..]).timestamp(timestamp).headers(headers);
        in_flight.push_back(producer.send_result(message).map_err(|(e, _)| e.to_string())?);
        records += 1;
    }
    for waiting in in_flight {
        acknowledged(waiting).await?;
    }
    let cpu = cpu_time()?.saturating_sub(cpu_before);
    Ok(Figures::of(records, started.elapsed(), cpu))
}

async fn acknowledged(delivery: DeliveryFuture) -> Result<(), String> {
    match delivery.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((e, _))) => Err(e.to_string()),
        Err(_) => Err("the producer ended before the broker's acknowledgement".into()),
    }
}

/// User and system time of this process so far, ended threads included.
///
/// # Errors
/// On a host without Linux's `/proc`.
pub(crate) fn cpu_time() -> Result<Duration, String> {
    /// Ticks of `/proc/self/stat` in a second: fixed by Linux for programs, whatever the kernel counts in.
    const TICKS: u64 = 100;
    let text = fs::read_to_string("/proc/self/stat").map_err(|e| format!("/proc/self/stat: {e}"))?;
    // The second field is the program's name in brackets and may hold blanks; user and system time are the 14th and 15th.
    let mut fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<u64>().ok());
    match (ticks(), ticks()) {
        (Some(user), Some(system)) => Ok(Duration::from_millis((user + system) * 1000 / TICKS)),
        _ => Err("/proc/self/stat has no times".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_counts_work() {
        let before = cpu_time().unwrap();
        let mut sum = 0u64;
        while cpu_time().unwrap() < before + Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(sum > 0);
    }
}
