//! The baseline of F1: a program that shares our decode, JSON and headers, so that both put the same bytes on the wire, and hands
//! them to a ThreadedProducer with delivery callbacks; no queue, no deduplication, no tiers, no accounting.

use bytes::Bytes;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use streammanager::decode::Context;
use streammanager::ingest::enrich;
use streammanager::ingest::pack::outgoing;
use streammanager::record::Traceparent;
use streammanager::settings::Settings;
use streammanager::sources::firms;
use streammanager::time::Clock;

use crate::bench;
use crate::bench::figures::{Figures, Run};
use crate::bench::plain::{acknowledged, connected, hand_over};

/// Sends every row of a FIRMS VIIRS NOAA-20 response to `topic`; waits for the broker's acknowledgement of all.
///
/// # Errors
/// A text that names the row, the setting or the broker's answer; the run is worthless then.
pub(crate) fn naive_firms(config: &ClientConfig, topic: &str, body: &Bytes) -> Result<Figures, String> {
    let stream = bench::stream().map_err(|e| e.to_string())?;
    let settings = Settings::local();
    let traceparent = Traceparent::new([1; 16], [1; 8]);
    let now = Clock::system().now();
    let producer = connected(config, topic)?;

    let run = Run::begin()?;
    let context = Context { source: &stream.source, received_at: now, topic: None, message: None };
    let rows = firms::FORMAT.rows(body, context).map_err(|e| e.to_string())?;
    let mut records = 0;
    for row in rows {
        let draft = row.map_err(|e| e.to_string())?;
        let record = enrich(draft, 0, &stream, now).map_err(|e| e.to_string())?;
        let (key, timestamp) = (record.key(), record.ingested_at.as_millisecond());
        let out = outgoing(&record, &settings, traceparent.clone()).map_err(|e| e.to_string())?;
        let mut headers = Some(OwnedHeaders::new_with_capacity(out.header_count()));
        out.each_header(|key, value| {
            headers = headers.take().map(|all| all.insert(Header { key, value: Some(value.as_bytes()) }));
        });
        let message = BaseRecord::to(topic)
            .key(&*key)
            .payload(&out.value[..])
            .timestamp(timestamp)
            .headers(headers.unwrap_or_default());
        hand_over(&producer, message)?;
        records += 1;
    }
    acknowledged(&producer, records)?;
    run.end(records)
}
