//! The seen-set of what one shard pushes: a window over the last minutes' acceptances. A process reads each page of it once, so
//! that a reading costs the same however many came before it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::known::{ByKey, Judged, Mark, Marks};
use super::pages::{Chain, Page, Pages, Place};
use crate::error::BackendError;
use crate::limits::{SHARD_KNOWN, SHARD_KNOWN_MARKS, SHARDS_KNOWN};
use crate::record::Draft;
use crate::store::Store;
use crate::time::{Clock, Timestamp};

/// Pages of one listing.
const LISTED: usize = 500;

/// The windows of the shards that this process has worked on.
#[derive(Debug, Default)]
pub struct Shards(Mutex<BTreeMap<String, Window>>);

impl Shards {
    pub(super) fn take(&self, shard: &str) -> Window {
        let window = self.0.lock().remove(shard).unwrap_or_else(|| Window::new(shard));
        Window { fresh: false, ..window }
    }

    pub(super) fn give_back(&self, window: Window) {
        let mut shards = self.0.lock();
        if shards.len() < SHARDS_KNOWN {
            shards.insert(window.shard.clone(), window);
        }
    }
}

#[derive(Debug)]
pub(super) struct Window {
    shard: String,
    marks: Marks,
    /// How many pages hold a key.
    held: ByKey<u32>,
    /// The pages read, the oldest first: when each was written by the monotonic clock, and its keys.
    pages: VecDeque<(Instant, Vec<u64>)>,
    /// The last page read or written.
    last: Option<i64>,
    /// Judged since the last commit.
    judged: Vec<u64>,
    /// Accepted and not yet stored.
    pending: Vec<Mark>,
    /// Read since this batch began.
    fresh: bool,
}

impl Window {
    fn new(shard: &str) -> Window {
        Window {
            shard: shard.to_owned(),
            marks: Marks::default(),
            held: ByKey::default(),
            pages: VecDeque::new(),
            last: None,
            judged: Vec::new(),
            pending: Vec::new(),
            fresh: false,
        }
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.marks.len()
    }

    fn partition(&self) -> String {
        format!("seen-shard/{}", self.shard)
    }

    /// Reads the pages that other processes have written since, and lets the old ones go.
    pub(super) async fn load(&mut self, store: &dyn Store, clock: &Clock) -> Result<(), BackendError> {
        if std::mem::replace(&mut self.fresh, true) {
            return Ok(());
        }
        let now = clock.now().as_millisecond();
        let oldest = now - SHARD_KNOWN.as_millis() as i64;
        loop {
            let after = self.last.unwrap_or(oldest);
            let listed = store.list(&self.partition(), "", Some(&Place::Shard.sort_key(after)), LISTED).await;
            let items = listed.inspect_err(|_| self.fresh = false)?;
            let count = items.len();
            for item in items {
                let written = item.key.sort.parse().unwrap_or(now);
                let keys = self.marks.read(&item.value);
                // Another process's clock may be ahead.
                let age = Duration::from_millis(u64::try_from(now - written).unwrap_or_default());
                self.remember(written, Instant::now().checked_sub(age).unwrap_or_else(Instant::now), keys);
            }
            if count < LISTED {
                break;
            }
        }
        self.last.get_or_insert(oldest);
        while let Some((written, _)) = self.pages.front()
            && (written.elapsed() > SHARD_KNOWN || self.held.len() > SHARD_KNOWN_MARKS)
        {
            for key in self.pages.pop_front().map(|(_, keys)| keys).unwrap_or_default() {
                let left = self.held.get_mut(&key).map(|pages| {
                    *pages -= 1;
                    *pages
                });
                if left == Some(0) {
                    self.held.remove(&key);
                    self.marks.remove(key);
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, name: i64, written: Instant, keys: Vec<u64>) {
        for key in &keys {
            *self.held.entry(*key).or_default() += 1;
        }
        self.last = Some(name);
        self.pages.push_back((written, keys));
    }

    pub(super) fn judge(&mut self, draft: &Draft) -> Judged {
        self.judged.push(draft.event.short());
        self.marks.judge(draft)
    }

    pub(super) fn accept(&mut self, marks: &[Mark]) {
        self.pending.extend_from_slice(marks);
    }

    /// Takes what was accepted, as pages to be stored. Names grow, whatever the clock does: whoever reads on from a page misses
    /// none.
    pub(super) fn stage(&mut self, clock: &Clock) -> Pages {
        let (now, marks) = (clock.now(), std::mem::take(&mut self.pending));
        let first = now.as_millisecond().max(self.last.map_or(i64::MIN, |last| last + 1));
        let (partition, expires) = (self.partition(), kept_until(now));
        Pages(vec![Chain { place: Place::Shard, partition, expires, pages: Page::of(&marks, first) }])
    }

    pub(super) fn stored(&mut self, pages: Pages) {
        for page in pages.0.into_iter().flat_map(|chain| chain.pages) {
            self.remember(page.number, Instant::now(), page.keys);
        }
        // What was judged and then refused is not known.
        for key in self.judged.drain(..) {
            if !self.held.contains_key(&key) {
                self.marks.remove(key);
            }
        }
    }

    /// What was judged and not accepted is in memory alone: everything is read again.
    pub(super) fn forget(&mut self) {
        *self = Window::new(&self.shard);
    }
}

/// Longer than it is known: who begins to read it now must find all of it.
fn kept_until(now: Timestamp) -> Timestamp {
    now + 2 * SHARD_KNOWN
}
