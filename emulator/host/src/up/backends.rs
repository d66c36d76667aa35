//! Where queues, state and stored bytes live: in the data folder, or on an AWS endpoint under the template's names. What a
//! service of AWS keeps to itself (Kinesis's records, asynchronous invocations) stays in the data folder either way.

#[cfg(feature = "aws")]
mod aws;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use streammanager::blobs::Blobs;
use streammanager::embedded::FileBlobs;
use streammanager::embedded::{Commits, Embedded, Options, QueueOptions};
use streammanager::queue::{Queue, QueueRef};
use streammanager::record::{Envelope, Tier};
use streammanager::settings::Settings;
use streammanager::store::Store;
use streammanager::time::{Clock, Rng, Timestamp};

use super::asynchronous::INVOCATIONS;
use super::ledger::Queued;
use crate::exit::Failure;
use crate::folder;
use crate::template::Template;

const EMBEDDED: &str = "embedded";

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Backends {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blobs: Arc<dyn Blobs>,
    /// This host's own, whose lock this process holds.
    pub(crate) folder: Embedded,
    /// Where they are, for people.
    pub(crate) place: String,
    /// What the endpoint had already and has otherwise than the template, as clauses.
    pub(crate) differs: Vec<String>,
    /// Others may work on the same queues and state.
    pub(crate) shared: bool,
    /// The endpoint of `--aws`.
    pub(crate) aws: Option<OnAws>,
}

/// Where processes of their own find what the template declares.
#[derive(Debug, Clone)]
pub struct OnAws {
    /// The endpoint.
    pub url: String,
    /// What it takes for its region.
    pub region: String,
    /// URLs by local name.
    pub queues: BTreeMap<QueueRef, QueueRef>,
}

impl Backends {
    /// `flag` is `embedded`, or the URL of an endpoint, where what the template declares is made if it is absent.
    #[cfg_attr(not(feature = "aws"), allow(unused_variables))]
    pub(crate) async fn open(
        flag: &str,
        data: &Path,
        template: &Template,
        clock: &Clock,
        rng: &Rng,
    ) -> Result<Backends, Failure> {
        let mut options = Options::new(clock.clone());
        options.queues = queue_options(template);
        let folder = Embedded::open(data, options)?;
        go_on_with_ids(&folder, template, clock, rng)?;
        match flag {
            EMBEDDED => Ok(Backends {
                queue: Arc::new(folder.clone()),
                store: Arc::new(folder.clone()),
                blobs: Arc::new(FileBlobs::open(data, Commits::Grouped, folder.trust().clone())?),
                folder,
                place: format!("{} on this host", data.display()),
                differs: Vec::new(),
                shared: false,
                aws: None,
            }),
            url if url.starts_with("http://") || url.starts_with("https://") => {
                #[cfg(feature = "aws")]
                return aws::open(url, folder, template, clock, rng).await;
                #[cfg(not(feature = "aws"))]
                return Err(Failure::new(format!(
                    "--aws {url}: this build has no AWS clients; build with --features aws"
                )));
            }
            other => Err(Failure::new(format!("--aws {other}: write embedded, or an endpoint's URL"))),
        }
    }

    /// Messages in this folder's queues that no function of the template takes, such as those of another stage: they wait on.
    pub(crate) fn astray(&self, template: &Template) -> BTreeMap<String, u64> {
        let known: BTreeSet<String> = template.queues.iter().map(|queue| queue.url()).collect();
        let depths = self.folder.depths().into_iter().map(|(queue, depth)| (queue.as_str().to_owned(), depth.total()));
        depths.filter(|(queue, _)| !known.contains(queue) && !queue.starts_with(INVOCATIONS)).collect()
    }

    /// What waits in the tiers' queues.
    pub(crate) async fn queued(&self, settings: &Settings) -> Result<Queued, Failure> {
        if !self.shared {
            return Ok(Queued::Records(folder::queued_records(&self.folder, settings).await?));
        }
        let mut messages = 0;
        for tier in Tier::ALL {
            messages += self.queue.depth(settings.queues.tier(tier)).await?.total();
        }
        Ok(Queued::messages(messages))
    }
}

/// More than lies between the packing of an envelope and of one that reaches its queue before it.
const PACKED_BY: Duration = Duration::from_secs(60);

/// Envelopes go by their ids: those of this process come after whatever waits, also when the clock was set back meanwhile.
fn go_on_with_ids(folder: &Embedded, template: &Template, clock: &Clock, rng: &Rng) -> Result<(), Failure> {
    for queue in &template.queues {
        let newest = folder.newest_body(&QueueRef::new(&queue.url()))?;
        // Other bodies, and damaged ones, have no id.
        if let Some(Ok(envelope)) = newest.map(|body| Envelope::decode(&body)) {
            let packed = envelope.id.timestamp_ms().cast_signed();
            let packed = Timestamp::from_millisecond(packed).unwrap_or(Timestamp::MAX);
            if packed > clock.now() {
                rng.ids_after(packed.checked_add(PACKED_BY).unwrap_or(Timestamp::MAX));
            }
        }
    }
    Ok(())
}

/// Functions know by these names the queues whose messages are of no use later.
const TICKS: [&str; 3] = ["BATCH_TICKS_QUEUE_URL", "REALTIME_TICKS_QUEUE_URL", "STREAM_TICKS_QUEUE_URL"];

/// A host's queues keep what was accepted however long it takes, through jumps of the clock and time switched off [Q1]: the
/// template's retention is for ticks alone.
pub(super) fn queue_options(template: &Template) -> BTreeMap<QueueRef, QueueOptions> {
    let environments = || template.functions.iter().map(|function| &function.environment);
    let is_of_ticks =
        |url: &str| environments().any(|has| TICKS.iter().any(|name| has.get(*name).is_some_and(|of| of == url)));
    let options = template.queues.iter().map(|queue| {
        let options = QueueOptions {
            visibility: queue.visibility,
            delay: queue.delay,
            retention: is_of_ticks(&queue.url()).then_some(queue.retention),
            dead_letters: queue
                .dead_letter
                .as_ref()
                .map(|dead| (QueueRef::new(&format!("local:{}", dead.queue)), dead.max_receives)),
            ..QueueOptions::default()
        };
        (QueueRef::new(&queue.url()), options)
    });
    options.collect()
}
