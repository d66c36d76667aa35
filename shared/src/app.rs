//! The world that every handler takes as its argument: settings, the five seams, time and randomness.

use std::sync::Arc;

use crate::blobs::Blobs;
use crate::breaker::SinkBreakers;
use crate::control::admission::Admission;
use crate::deliver::tally::Tally;
use crate::express::Recent;
use crate::express::tries::Tries;
use crate::ingest::dedup::Shards;
use crate::queue::Queue;
use crate::schedule::lease::Leases;
use crate::settings::Settings;
use crate::sink::Sink;
use crate::store::Store;
use crate::time::{Clock, Rng};
use crate::upstream::Upstream;

/// The outermost edge: where records wait, where state is kept, where records go, and who is asked for data.
#[derive(Clone)]
pub struct Seams {
    pub queue: Arc<dyn Queue>,
    pub store: Arc<dyn Store>,
    pub blobs: Arc<dyn Blobs>,
    pub sink: Arc<dyn Sink>,
    pub upstream: Arc<dyn Upstream>,
}

/// Cheap to clone; built in one place per binary.
#[derive(Clone)]
pub struct App {
    pub settings: Arc<Settings>,
    pub queue: Arc<dyn Queue>,
    pub sink: Arc<dyn Sink>,
    pub store: Arc<dyn Store>,
    pub blobs: Arc<dyn Blobs>,
    pub upstream: Arc<dyn Upstream>,
    pub clock: Clock,
    pub rng: Rng,
    pub breakers: Arc<SinkBreakers>,
    pub admission: Arc<Admission>,
    /// Alerts that this process accepted lately.
    pub recent: Arc<Recent>,
    /// What it knows of the shards that it read.
    pub shards: Arc<Shards>,
    /// Leases that others hold, as this process saw them.
    pub leases: Arc<Leases>,
    /// Tries of alerts at the broker that are under way in this process.
    pub tries: Arc<Tries>,
    /// What this process has delivered.
    pub tally: Arc<Tally>,
}

impl App {
    /// A process that has delivered and admitted nothing yet.
    pub fn new(settings: Settings, seams: Seams, clock: Clock, rng: Rng) -> App {
        let Seams { queue, store, blobs, sink, upstream } = seams;
        App {
            settings: Arc::new(settings),
            queue,
            sink,
            store,
            blobs,
            upstream,
            clock,
            rng,
            breakers: Arc::default(),
            admission: Arc::default(),
            recent: Arc::default(),
            shards: Arc::default(),
            leases: Arc::default(),
            tries: Arc::default(),
            tally: Arc::default(),
        }
    }
}
