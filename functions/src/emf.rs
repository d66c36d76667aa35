//! Metrics as CloudWatch reads them out of a function's log, in its embedded metric format [O1]. A function's process keeps what is
//! counted; after each invocation, and within a long one each minute, it is told in lines and begins again at nothing.
//!
//! Every combination of a name and its dimensions is a metric of its own, which is paid for by the month [F10]. So most labels
//! are no dimensions: they stand beside the figures in the same line, where Logs Insights finds them. How labels become
//! dimensions is one table, [`DIMENSIONS`].

mod histogram;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use streammanager::time::{Clock, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use histogram::Values;

/// A long invocation tells what it has counted so often: CloudWatch's figures are those of minutes.
const EVERY: Duration = Duration::from_secs(60);
/// Figures of one line, and values of one figure, as CloudWatch takes them.
const MOST: usize = 100;

/// Which labels of a metric are dimensions, in each of these sets a metric of its own. A name that is not here has none.
pub const DIMENSIONS: [(&str, &[&[&str]]); 3] = [
    ("stream_latency_seconds", &[&["priority"]]),
    ("stream_consumer_lag_seconds", &[&["group"]]),
    // The version's, and that of all versions.
    ("stream_calls_failed", &[&["function", "version"], &["function"]]),
];

/// One set without any.
const NONE: &[&[&str]] = &[&[]];

/// What is looked up in the log alone: nobody draws it, and it would be many metrics.
pub const LOGGED_ONLY: [&str; 4] = [
    "stream_express_hedged_total",
    "stream_last_good_poll_timestamp_seconds",
    "stream_poll_drift_seconds",
    "stream_stage_seconds",
];

/// What one process of a function has counted and not told yet.
pub struct Emf {
    namespace: String,
    function: String,
    counters: Kept<Counted>,
    gauges: Kept<Level>,
    histograms: Kept<Values>,
}

/// By name and labels.
type Kept<T> = Mutex<HashMap<Key, Arc<T>>>;

fn kept<T: Default>(kept: &Kept<T>, key: &Key) -> Arc<T> {
    kept.lock().entry(key.clone()).or_default().clone()
}

/// Counted since the process began, and how much of that was told.
#[derive(Default)]
struct Counted {
    total: AtomicU64,
    told: AtomicU64,
}

impl Counted {
    fn untold(&self) -> u64 {
        let total = self.total.load(Ordering::Relaxed);
        total.saturating_sub(self.told.swap(total, Ordering::Relaxed))
    }
}

impl CounterFn for Counted {
    fn increment(&self, value: u64) {
        self.total.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.total.fetch_max(value, Ordering::Relaxed);
    }
}

/// A level, if it was looked at since it was told last. What a process adds to or takes from one that it does not know says
/// nothing: whoever looks at it hears it.
#[derive(Default)]
struct Level(Mutex<Option<f64>>);

impl GaugeFn for Level {
    fn increment(&self, value: f64) {
        if let Some(level) = &mut *self.0.lock() {
            *level += value;
        }
    }

    fn decrement(&self, value: f64) {
        self.increment(-value);
    }

    fn set(&self, value: f64) {
        *self.0.lock() = Some(value);
    }
}

/// Lines that differ in more than their figures.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    is_metric: bool,
    dimensions: &'static [&'static [&'static str]],
    labels: BTreeMap<String, String>,
}

impl Line {
    fn of(key: &Key) -> Line {
        Line {
            is_metric: !LOGGED_ONLY.contains(&key.name()),
            dimensions: DIMENSIONS.iter().find(|(name, _)| *name == key.name()).map_or(NONE, |(_, sets)| sets),
            labels: key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect(),
        }
    }

    /// Without the labels that are no dimensions, and with all of them, for the log alone, where that is another line.
    fn merged(self) -> (Line, Option<Line>) {
        let is_dimension = |(label, _): &(&String, &String)| {
            !self.is_metric || self.dimensions.iter().any(|set| set.contains(&label.as_str()))
        };
        let labels: BTreeMap<_, _> =
            self.labels.iter().filter(is_dimension).map(|(label, value)| (label.clone(), value.clone())).collect();
        if labels == self.labels {
            return (self, None);
        }
        let whole = Line { is_metric: false, dimensions: NONE, labels: self.labels };
        (Line { labels, is_metric: self.is_metric, dimensions: self.dimensions }, Some(whole))
    }
}

/// Figures of one kind of line; a name may come several times.
type Figures = BTreeMap<Line, Vec<(String, Value)>>;

impl Emf {
    /// `namespace`: where CloudWatch keeps them, one a stack. `function`: who tells.
    pub fn new(namespace: impl Into<String>, function: impl Into<String>) -> Emf {
        Emf {
            namespace: namespace.into(),
            function: function.into(),
            counters: Kept::default(),
            gauges: Kept::default(),
            histograms: Kept::default(),
        }
    }

    /// Does the work, and hands each line to `tell`.
    pub async fn told<F: Future>(&self, clock: &Clock, tell: impl Fn(Value), work: F) -> F::Output {
        tokio::pin!(work);
        let mut minute = interval_at(Instant::now() + EVERY, EVERY);
        minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let done = loop {
            tokio::select! { biased;
                done = &mut work => break done,
                _ = minute.tick() => self.lines(clock.now()).into_iter().for_each(&tell),
            }
        };
        self.lines(clock.now()).into_iter().for_each(&tell);
        done
    }

    /// What was counted since the last call, each line a document of its own.
    pub fn lines(&self, at: Timestamp) -> Vec<Value> {
        let mut figures = Figures::new();
        for (key, counted) in &*self.counters.lock() {
            match counted.untold() {
                0 => {}
                untold => figures.entry(Line::of(key)).or_default().push((key.name().to_owned(), json!(untold))),
            }
        }
        for ((line, name), level) in self.levels() {
            figures.entry(line).or_default().push((name, json!(level)));
        }
        for (key, values) in &*self.histograms.lock() {
            let (line, values) = (Line::of(key), values.taken());
            let parts = if line.is_metric { values.listed(MOST) } else { values.summed().into_iter().collect() };
            figures.entry(line).or_default().extend(parts.into_iter().map(|part| (key.name().to_owned(), part)));
        }
        figures.retain(|_, figures| !figures.is_empty());
        figures.into_iter().flat_map(|(line, figures)| self.documents(&line, figures, at)).collect()
    }

    /// Of several levels of one metric the highest, for an alarm looks at the lowest that is told in a minute; each of them is logged.
    fn levels(&self) -> BTreeMap<(Line, String), f64> {
        let mut levels = BTreeMap::new();
        for (key, level) in &*self.gauges.lock() {
            let Some(level) = level.0.lock().take().filter(|level| level.is_finite()) else { continue };
            let (metric, whole) = Line::of(key).merged();
            for line in [Some(metric), whole].into_iter().flatten() {
                let highest = levels.entry((line, key.name().to_owned())).or_insert(level);
                *highest = level.max(*highest);
            }
        }
        levels
    }

    /// A document has each name once.
    fn documents(&self, line: &Line, figures: Vec<(String, Value)>, at: Timestamp) -> Vec<Value> {
        let mut documents: Vec<BTreeMap<String, Value>> = Vec::new();
        for (name, value) in figures {
            match documents.iter_mut().find(|document| document.len() < MOST && !document.contains_key(&name)) {
                Some(document) => drop(document.insert(name, value)),
                None => documents.push(BTreeMap::from([(name, value)])),
            }
        }
        documents.into_iter().map(|figures| self.document(line, figures, at)).collect()
    }

    fn document(&self, line: &Line, figures: BTreeMap<String, Value>, at: Timestamp) -> Value {
        let mut document = Map::new();
        if line.is_metric {
            let metrics: Vec<Value> = figures.keys().map(|name| definition(name)).collect();
            let directive = json!({ "Namespace": self.namespace, "Dimensions": line.dimensions, "Metrics": metrics });
            document
                .insert("_aws".into(), json!({ "Timestamp": at.as_millisecond(), "CloudWatchMetrics": [directive] }));
        }
        document.insert("function".into(), json!(self.function));
        document.extend(line.labels.iter().map(|(label, value)| (label.clone(), json!(value))));
        document.extend(figures);
        document.into()
    }
}

fn definition(name: &str) -> Value {
    match name.rsplit('_').next() {
        Some("seconds") => json!({ "Name": name, "Unit": "Seconds" }),
        Some("bytes") => json!({ "Name": name, "Unit": "Bytes" }),
        _ => json!({ "Name": name }),
    }
}

/// What a metric means stands in the documents, not in the log.
impl Recorder for Emf {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(kept(&self.counters, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(kept(&self.gauges, key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(kept(&self.histograms, key))
    }
}

#[cfg(test)]
mod tests;
