//! A histogram between two tellings: however many values there are, none is lost and few numbers are told. Values that differ by
//! less than a tenth count as one, their mean, so that the sum stays exact; CloudWatch keeps percentiles no finer.

use std::collections::BTreeMap;

use metrics::HistogramFn;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Neighbouring buckets differ by this factor.
const FACTOR: f64 = 1.1;

/// By bucket.
#[derive(Default)]
pub(super) struct Values(Mutex<BTreeMap<i32, Bucket>>);

#[derive(Clone, Copy)]
struct Bucket {
    count: u64,
    sum: f64,
    most: f64,
}

impl HistogramFn for Values {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        if count == 0 || !value.is_finite() {
            return;
        }
        let mut buckets = self.0.lock();
        let bucket = buckets.entry(number(value)).or_insert(Bucket { count: 0, sum: 0.0, most: value });
        bucket.count += count as u64;
        bucket.sum += value * count as f64;
        bucket.most = bucket.most.max(value);
    }
}

/// In the order of the values; all that is not above nothing is one.
fn number(value: f64) -> i32 {
    if value > 0.0 { (value.ln() / FACTOR.ln()).round() as i32 } else { i32::MIN }
}

/// What was recorded until it was taken.
pub(super) struct Taken(Vec<Bucket>);

impl Values {
    pub(super) fn taken(&self) -> Taken {
        Taken(std::mem::take(&mut *self.0.lock()).into_values().collect())
    }
}

impl Taken {
    /// As CloudWatch takes a distribution: each value with how often it came, at most so many a part.
    pub(super) fn listed(&self, most: usize) -> Vec<Value> {
        let part = |buckets: &[Bucket]| {
            let values: Vec<f64> = buckets.iter().map(|bucket| bucket.sum / bucket.count as f64).collect();
            let counts: Vec<u64> = buckets.iter().map(|bucket| bucket.count).collect();
            json!({ "Values": values, "Counts": counts })
        };
        self.0.chunks(most).map(part).collect()
    }

    /// In a few words; `None` when there is nothing.
    pub(super) fn summed(&self) -> Option<Value> {
        let most = self.0.last()?.most;
        let (count, sum) =
            self.0.iter().fold((0, 0.0), |(count, sum), bucket| (count + bucket.count, sum + bucket.sum));
        Some(json!({ "count": count, "sum": sum, "max": most }))
    }
}
