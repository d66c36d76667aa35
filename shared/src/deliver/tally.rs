//! What was delivered, counted once a record: the second half of the ledger.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

use crate::record::Tier;

/// Latencies of one tier in milliseconds, from accepted to acknowledged [P1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of the records were not slower.
    pub p50: f64,
    /// 95 of 100 records were not slower.
    pub p95: f64,
    /// 99 of 100 records were not slower.
    pub p99: f64,
    /// The slowest record.
    pub max: f64,
}

/// What this process has done since its start.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Records that this process has accepted.
    pub accepted: u64,
    /// Of these, records that revise an earlier one.
    pub revisions: u64,
    /// Dead letters that it has announced on their topic.
    pub announced: u64,
    /// Records acknowledged by the sink and forgotten by the queue, by topic.
    pub delivered: BTreeMap<String, u64>,
    /// Records that the sink refused for good.
    pub dead_lettered: u64,
    /// Of these, records whose envelope had been received before: possible duplicates at the sink [K6].
    pub redelivered: u64,
    /// How long records took, of each tier that had any.
    pub latency_ms: BTreeMap<Tier, Percentiles>,
}

impl Totals {
    /// Records delivered to any topic.
    pub fn delivered_in_all(&self) -> u64 {
        self.delivered.values().sum()
    }
}

/// Shared by the lanes of one process.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    totals: Totals,
    latency: BTreeMap<Tier, Histogram<u64>>,
}

/// What became of one settled envelope.
#[derive(Debug)]
pub struct Settled<'a> {
    /// The tier of all of its records.
    pub tier: Tier,
    /// Records that the sink acknowledged, by topic.
    pub topics: &'a BTreeMap<&'a str, u64>,
    /// Records that the sink refused for good.
    pub refused: u64,
    /// Its envelope had been received before.
    pub repeated: bool,
    /// From acceptance to now [P1].
    pub latency: Duration,
}

impl Tally {
    /// Counts one settled envelope.
    pub fn add(&self, settled: &Settled<'_>) {
        let mut inner = self.0.lock();
        let acknowledged: u64 = settled.topics.values().sum();
        for (topic, n) in settled.topics {
            *inner.totals.delivered.entry((*topic).to_owned()).or_default() += n;
        }
        inner.totals.dead_lettered += settled.refused;
        inner.totals.redelivered += if settled.repeated { acknowledged } else { 0 };
        let micros = settled.latency.as_micros() as u64;
        // Three significant digits, growing with the largest value: it cannot fail.
        let histogram = inner
            .latency
            .entry(settled.tier)
            .or_insert_with(|| Histogram::new(3).expect("a histogram takes 1 to 5 digits"));
        if histogram.record_n(micros, acknowledged).is_err() {
            tracing::warn!(micros, "a latency does not fit its histogram");
        }
        metrics::histogram!("stream_latency_seconds", "priority" => settled.tier.name())
            .record_many(settled.latency.as_secs_f64(), acknowledged as usize);
    }

    /// Records that the queue, or for an alert the broker, has acknowledged at the entrance.
    pub fn accepted(&self, records: u64, revisions: u64) {
        let totals = &mut self.0.lock().totals;
        totals.accepted += records;
        totals.revisions += revisions;
    }

    /// Records that the sink has acknowledged and that will be sent once more all the same [K6].
    pub fn repeated(&self, records: u64) {
        self.0.lock().totals.redelivered += records;
    }

    /// Announcements of dead letters that the queue has acknowledged.
    pub fn announced(&self, records: u64) {
        self.0.lock().totals.announced += records;
    }

    /// One alert that the broker acknowledged directly.
    pub fn express(&self, topic: &str, latency: Duration) {
        let topics = BTreeMap::from([(topic, 1)]);
        self.add(&Settled { tier: Tier::Critical, topics: &topics, refused: 0, repeated: false, latency });
    }

    /// The counts so far.
    pub fn totals(&self) -> Totals {
        let inner = self.0.lock();
        let ms = |histogram: &Histogram<u64>, q| histogram.value_at_quantile(q) as f64 / 1000.0;
        let percentiles =
            |h| Percentiles { p50: ms(h, 0.5), p95: ms(h, 0.95), p99: ms(h, 0.99), max: h.max() as f64 / 1000.0 };
        let latency_ms = inner.latency.iter().map(|(tier, h)| (*tier, percentiles(h))).collect();
        Totals { latency_ms, ..inner.totals.clone() }
    }
}
