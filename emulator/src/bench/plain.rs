//! The plain program, the baseline of F2: what anyone would write first. The csv crate, serde_json and a ThreadedProducer with
//! delivery callbacks. Nothing of ours is in it but the client's settings: no queue, no identity, no checks, no headers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, ToBytes};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::util::Timeout;
use serde::{Deserialize, Serialize};

use crate::bench::figures::{Figures, Run};

/// Wait while the producer holds all it may.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// A row of the area API for VIIRS, as it is written.
#[derive(Debug, Deserialize)]
struct Row<'a> {
    latitude: f64,
    longitude: f64,
    bright_ti4: f64,
    scan: f64,
    track: f64,
    acq_date: &'a str,
    acq_time: u32,
    satellite: &'a str,
    instrument: &'a str,
    confidence: &'a str,
    version: &'a str,
    bright_ti5: f64,
    frp: f64,
    daynight: &'a str,
}

/// What is published of it.
#[derive(Debug, Serialize)]
struct Event<'a> {
    source: &'a str,
    observed_at: String,
    latitude: f64,
    longitude: f64,
    bright_ti4: f64,
    bright_ti5: f64,
    frp: f64,
    scan: f64,
    track: f64,
    satellite: &'a str,
    instrument: &'a str,
    confidence: &'a str,
    version: &'a str,
    daynight: &'a str,
}

impl<'a> Event<'a> {
    fn of(row: Row<'a>) -> Event<'a> {
        let (hour, minute) = (row.acq_time / 100, row.acq_time % 100);
        Event {
            source: "firms_viirs_noaa20",
            observed_at: format!("{}T{hour:02}:{minute:02}:00Z", row.acq_date),
            latitude: row.latitude,
            longitude: row.longitude,
            bright_ti4: row.bright_ti4,
            bright_ti5: row.bright_ti5,
            frp: row.frp,
            scan: row.scan,
            track: row.track,
            satellite: row.satellite,
            instrument: row.instrument,
            confidence: row.confidence,
            version: row.version,
            daynight: row.daynight,
        }
    }
}

/// Sends every row of a FIRMS VIIRS response to `topic`; waits for the broker's acknowledgement of all.
///
/// # Errors
/// A text that names the row, the setting or the broker's answer; the run is worthless then.
pub(crate) fn plain_firms(config: &ClientConfig, topic: &str, body: &[u8]) -> Result<Figures, String> {
    let producer = connected(config, topic)?;
    let run = Run::begin()?;
    let mut rows = csv::Reader::from_reader(body);
    let headers = rows.headers().map_err(|e| e.to_string())?.clone();
    let (mut record, mut json, mut sent) = (csv::StringRecord::new(), Vec::new(), 0);
    while rows.read_record(&mut record).map_err(|e| e.to_string())? {
        let row: Row<'_> = record.deserialize(Some(&headers)).map_err(|e| e.to_string())?;
        let key = format!("{:.1},{:.1}", row.latitude, row.longitude);
        json.clear();
        serde_json::to_writer(&mut json, &Event::of(row)).map_err(|e| e.to_string())?;
        hand_over(&producer, BaseRecord::to(topic).key(&key).payload(&json))?;
        sent += 1;
    }
    acknowledged(&producer, sent)?;
    run.end(sent)
}

/// A producer whose first record is acknowledged: a run is records, not the first handshake.
pub(crate) fn connected(config: &ClientConfig, topic: &str) -> Result<ThreadedProducer<Deliveries>, String> {
    let producer =
        ThreadedProducer::from_config_and_context(config, Deliveries::default()).map_err(|e| e.to_string())?;
    hand_over(&producer, BaseRecord::to(topic).key("first").payload(b"{}"))?;
    acknowledged(&producer, 1)?;
    producer.context().acknowledged.store(0, Ordering::Relaxed);
    Ok(producer)
}

/// Waits while the producer is full.
pub(crate) fn hand_over<K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
    producer: &ThreadedProducer<Deliveries>,
    mut record: BaseRecord<'_, K, P>,
) -> Result<(), String> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                sleep(FULL_PAUSE);
            }
            Err((e, _)) => return Err(e.to_string()),
        }
    }
}

/// Waits until all of `sent` records are reported; each must be acknowledged.
pub(crate) fn acknowledged(producer: &ThreadedProducer<Deliveries>, sent: u64) -> Result<(), String> {
    producer.flush(Timeout::Never).map_err(|e| e.to_string())?;
    let deliveries = producer.context();
    if let Some(problem) = deliveries.problem.lock().take() {
        return Err(problem);
    }
    match deliveries.acknowledged.load(Ordering::Acquire) {
        all if all == sent => Ok(()),
        some => Err(format!("{some} of {sent} records were acknowledged")),
    }
}

/// Counts delivery reports.
#[derive(Default)]
pub(crate) struct Deliveries {
    acknowledged: AtomicU64,
    problem: Mutex<Option<String>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        match report {
            Ok(_) => _ = self.acknowledged.fetch_add(1, Ordering::AcqRel),
            Err((e, _)) => *self.problem.lock() = Some(e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use streammanager::time::Timestamp;

    use super::*;
    use crate::bench::generate::firms_viirs_noaa20;

    #[test]
    fn the_plain_program_reads_every_generated_row() {
        let now: Timestamp = "2026-07-24T10:00:30Z".parse().unwrap();
        let body = firms_viirs_noaa20(1, 500, now);
        let mut rows = csv::Reader::from_reader(body.as_bytes());
        let headers = rows.headers().unwrap().clone();
        let mut read = 0;
        for record in rows.records() {
            let record = record.unwrap();
            let event = Event::of(record.deserialize(Some(&headers)).unwrap());
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(json["satellite"], "N20");
            assert!(json["observed_at"].as_str().unwrap().parse::<Timestamp>().unwrap() <= now);
            read += 1;
        }
        assert_eq!(read, 500);
    }
}
