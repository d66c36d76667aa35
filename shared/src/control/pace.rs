//! How fast each sender may send, so that one that floods takes nothing from the others [A3]. A bucket a connector, in this process
//! alone: it costs no call, and an alert of a sender that keeps its pace waits for nothing. The bucket holds [`SENDER_BURST`]
//! of the pace and fills at it; each alert takes one, and nothing is taken when it is empty, but by whoever waits for it: what one is
//! due that way the bucket owes, and gives to nobody else.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::limits::{CONNECTORS_CACHED, SENDER_BURST};
use crate::record::ConnectorId;

/// The buckets of one process.
#[derive(Debug, Default)]
pub(crate) struct Paces(Mutex<BTreeMap<ConnectorId, Bucket>>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Below zero: owed to those who wait.
    left: f64,
    at: Instant,
    /// It was found empty, and has not been full since.
    floods: bool,
}

/// Whether a sender may send now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It may.
    May,
    /// Not before a second has passed. `is_first`: it kept its pace until now.
    TooFast {
        /// The first refusal since its bucket was full.
        is_first: bool,
    },
}

impl Paces {
    /// Its turn, if it has one now.
    pub(crate) fn turn(&self, sender: &ConnectorId, a_second: NonZeroU32) -> Turn {
        self.take(sender, a_second, false).0
    }

    /// Its next turn, and how long it is until then.
    pub(crate) fn next_turn(&self, sender: &ConnectorId, a_second: NonZeroU32) -> (Turn, Duration) {
        self.take(sender, a_second, true)
    }

    /// A turn that was not waited for.
    pub(crate) fn give_back(&self, sender: &ConnectorId) {
        if let Some(bucket) = self.0.lock().get_mut(sender) {
            bucket.left += 1.0;
        }
    }

    fn take(&self, sender: &ConnectorId, a_second: NonZeroU32, waits: bool) -> (Turn, Duration) {
        let (pace, now) = (f64::from(a_second.get()), Instant::now());
        let most = pace * SENDER_BURST.as_secs_f64();
        let filled = |bucket: &Bucket| (bucket.left + pace * (now - bucket.at).as_secs_f64()).min(most);
        let mut buckets = self.0.lock();
        if buckets.len() >= CONNECTORS_CACHED && !buckets.contains_key(sender) {
            // Whoever's is full is as good as new.
            buckets.retain(|_, bucket| filled(bucket) < most);
        }
        let bucket = buckets.entry(sender.clone()).or_insert(Bucket { left: most, at: now, floods: false });
        let left = filled(bucket);
        let floods = bucket.floods && left < most;
        let may = left >= 1.0;
        let left = if may || waits { left - 1.0 } else { left };
        *bucket = Bucket { left, at: now, floods: floods || !may };
        let turn = if may { Turn::May } else { Turn::TooFast { is_first: !floods } };
        (turn, Duration::from_secs_f64((-left / pace).max(0.0)))
    }
}
