//! The world that every handler takes as its argument: settings, the five seams, time and randomness, and what the process
//! remembers. The types of that memory know nothing of `App`: functions over them take the seams that they need.

use std::sync::Arc;

use crate::blobs::Blobs;
use crate::breaker::SinkBreakers;
use crate::control::admission::Admission;
use crate::deliver::tally::Tally;
use crate::express::known::Recent;
use crate::express::tries::Tries;
use crate::fires::Fires;
use crate::ingest::dedup::shard::Shards;
use crate::ingest::room::Room;
use crate::provenance::{Nowhere, Provenance};
use crate::queue::Queue;
use crate::record::fresh::Fresh;
use crate::schedule::lease::Leases;
use crate::schedule::mappings::KnownMappings;
use crate::settings::Settings;
use crate::sink::Sink;
use crate::sources::KeyDoubt;
use crate::store::Store;
use crate::time::{Clock, Rng};
use crate::upstream::Upstream;

/// The outermost edge: where records wait, where state is kept, where records go, and who is asked for data.
#[derive(Clone)]
pub struct Seams {
    /// Where ticks, envelopes and alerts wait.
    pub queue: Arc<dyn Queue>,
    /// Where state is kept that processes share.
    pub store: Arc<dyn Store>,
    /// Where bytes are kept that are too large for the store.
    pub blobs: Arc<dyn Blobs>,
    /// Where records go.
    pub sink: Arc<dyn Sink>,
    /// Who is asked for data.
    pub upstream: Arc<dyn Upstream>,
}

/// Cheap to clone; built in one place per binary.
#[derive(Clone)]
pub struct App {
    /// What the process was told at its start.
    pub settings: Arc<Settings>,
    /// As in [`Seams`].
    pub queue: Arc<dyn Queue>,
    /// As in [`Seams`].
    pub sink: Arc<dyn Sink>,
    /// As in [`Seams`].
    pub store: Arc<dyn Store>,
    /// As in [`Seams`].
    pub blobs: Arc<dyn Blobs>,
    /// As in [`Seams`].
    pub upstream: Arc<dyn Upstream>,
    /// The time of day; waiting is tokio's.
    pub clock: Clock,
    /// Randomness: ids, keys, jitter.
    pub rng: Rng,
    /// Before the sink's lanes [R2].
    pub breakers: Arc<SinkBreakers>,
    /// Who asked lately [A3].
    pub admission: Arc<Admission>,
    /// Alerts that this process accepted lately.
    pub recent: Arc<Recent>,
    /// What it knows of the shards that it read.
    pub shards: Arc<Shards>,
    /// The fires that burn, as it knows them.
    pub fires: Arc<Fires>,
    /// Leases that others hold, as this process saw them.
    pub leases: Arc<Leases>,
    /// The mappings of one's own sensors, as this process knows them [S18].
    pub mappings: Arc<KnownMappings>,
    /// Whether a service has refused its key [A6].
    pub key_doubt: Arc<KeyDoubt>,
    /// Tries of alerts at the broker that are under way in this process.
    pub tries: Arc<Tries>,
    /// Which tiers take new records, as this process knows it [P6].
    pub room: Arc<Room>,
    /// Records that it has queued and delivers itself.
    pub fresh: Arc<Fresh>,
    /// Where each record's steps are noted [O4].
    pub provenance: Arc<dyn Provenance>,
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
            fires: Arc::default(),
            leases: Arc::default(),
            mappings: Arc::default(),
            key_doubt: Arc::default(),
            tries: Arc::default(),
            room: Arc::default(),
            fresh: Arc::default(),
            provenance: Arc::new(Nowhere),
            tally: Arc::default(),
        }
    }
}
