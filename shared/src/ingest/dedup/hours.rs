//! The seen-set of a tenant's sources, by the hour of observation. Whoever judges a source holds its turn from the reading of an
//! hour until the end of its body, or for a while where that is far.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use futures::future::try_join_all;
use tokio::time::Instant;

use super::known::{Judged, MARK_BYTES, Mark, Marks, hour_of, page};
use super::turns::{self, Turn};
use crate::error::BackendError;
use crate::limits::{SEEN_HELD_MARKS, SEEN_KEPT, SEEN_MERGED_PAGES, SEEN_PAGE_BYTES, SEEN_TURN_SHARE};
use crate::record::{Draft, SourceId, TenantId};
use crate::store::{self, Expect, Key, PutError, Store, Version};
use crate::time::{Clock, Timestamp};

#[derive(Debug)]
pub(super) struct Hours {
    tenant: TenantId,
    sources: BTreeMap<SourceId, Source>,
    /// When the turns were taken.
    since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Source {
    turn: Option<Turn>,
    /// Of our last turn's end.
    last: Option<Version>,
    hours: HashMap<i64, Hour>,
    /// Accepted and not yet stored.
    pending: BTreeMap<i64, Vec<Mark>>,
}

#[derive(Debug, Default)]
struct Hour {
    marks: Marks,
    pages: Vec<String>,
    next_page: u64,
}

impl Hours {
    pub(super) fn new(tenant: &TenantId) -> Hours {
        Hours { tenant: tenant.clone(), sources: BTreeMap::new(), since: None }
    }

    pub(super) async fn load(
        &mut self,
        store: &dyn Store,
        clock: &Clock,
        drafts: &[Draft],
    ) -> Result<(), BackendError> {
        let mut wanted: BTreeMap<SourceId, BTreeSet<i64>> = BTreeMap::new();
        for draft in drafts {
            wanted.entry(draft.source.clone()).or_default().insert(hour_of(draft.observed_at));
        }
        let held: usize =
            self.sources.values().flat_map(|source| source.hours.values()).map(|hour| hour.marks.len()).sum();
        if held > SEEN_HELD_MARKS {
            self.forget();
        }
        let ours = |source: &SourceId| self.sources.get(source).is_some_and(|source| source.turn.is_some());
        let overdue = self.since.is_some_and(|since| since.elapsed() >= SEEN_TURN_SHARE);
        if overdue || !wanted.keys().all(ours) {
            // All are let go before any is taken, and taken in one order: nobody waits for somebody who waits for them.
            self.leave(store, clock).await?;
            self.since = Some(Instant::now());
            for name in wanted.keys() {
                let source = self.sources.entry(name.clone()).or_default();
                let (turn, alone) =
                    turns::wait_for(store, clock, &format!("{}/{name}", self.tenant), source.last).await?;
                source.turn = Some(turn);
                if !alone {
                    source.hours.clear();
                }
            }
        }
        for (name, hours) in wanted {
            let partition = partition(&self.tenant, &name);
            let source = self.sources.entry(name).or_default();
            let missing: Vec<i64> = hours.into_iter().filter(|hour| !source.hours.contains_key(hour)).collect();
            let read = try_join_all(missing.iter().map(|&hour| read_hour(store, &partition, hour))).await?;
            source.hours.extend(missing.into_iter().zip(read));
        }
        Ok(())
    }

    pub(super) fn judge(&mut self, draft: &Draft) -> Judged {
        let source = self.sources.entry(draft.source.clone()).or_default();
        source.hours.entry(hour_of(draft.observed_at)).or_default().marks.judge(draft)
    }

    pub(super) fn accept(&mut self, marks: &[Mark]) {
        for mark in marks {
            let source = self.sources.entry(mark.source.clone()).or_default();
            source.pending.entry(mark.hour).or_default().push(mark.clone());
        }
    }

    pub(super) async fn commit(&mut self, store: &dyn Store, clock: &Clock) -> Result<(), BackendError> {
        for (name, source) in &mut self.sources {
            let partition = partition(&self.tenant, name);
            for (hour, marks) in std::mem::take(&mut source.pending) {
                let expires = expires(clock, hour);
                let held = source.hours.entry(hour).or_default();
                append(store, &partition, hour, held, &page(marks.iter()), expires).await?;
                if held.pages.len() >= SEEN_MERGED_PAGES {
                    merge(store, &partition, hour, held, expires).await?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn forget(&mut self) {
        for source in self.sources.values_mut() {
            source.hours.clear();
            source.pending.clear();
        }
    }

    pub(super) async fn leave(&mut self, store: &dyn Store, clock: &Clock) -> Result<(), BackendError> {
        self.since = None;
        for source in self.sources.values_mut() {
            if let Some(turn) = source.turn.take() {
                source.last = turn.free(store, clock).await?;
            }
        }
        Ok(())
    }
}

fn partition(tenant: &TenantId, source: &SourceId) -> String {
    format!("seen/{tenant}/{source}")
}

fn expires(clock: &Clock, hour: i64) -> Timestamp {
    let observed = Timestamp::from_second(hour * 3600).unwrap_or(Timestamp::UNIX_EPOCH);
    observed.max(clock.now()) + SEEN_KEPT
}

fn sort_key(hour: i64, page: u64) -> String {
    format!("{hour:08}/{page:08}")
}

async fn read_hour(store: &dyn Store, partition: &str, hour: i64) -> Result<Hour, BackendError> {
    let mut read = Hour::default();
    for item in store::list_all(store, partition, &format!("{hour:08}/"), usize::MAX).await? {
        read.marks.read(&item.value);
        read.next_page = item.key.sort.rsplit('/').next().and_then(|n| n.parse().ok()).map_or(0, |n: u64| n + 1);
        read.pages.push(item.key.sort);
    }
    Ok(read)
}

/// Writes `bytes` as new pages. A page that another run took is skipped.
async fn append(
    store: &dyn Store,
    partition: &str,
    hour: i64,
    held: &mut Hour,
    bytes: &[u8],
    expires: Timestamp,
) -> Result<(), BackendError> {
    for chunk in bytes.chunks(SEEN_PAGE_BYTES / MARK_BYTES * MARK_BYTES) {
        let value = Bytes::copy_from_slice(chunk);
        loop {
            let key = Key::new(partition, sort_key(hour, held.next_page));
            held.next_page += 1;
            match store.put_if(&key, value.clone(), Expect::Absent, Some(expires)).await {
                Ok(_) => {
                    held.pages.push(key.sort);
                    break;
                }
                Err(PutError::Conflict) => {}
                Err(e) => return Err(e.unexpected("seen-set page")),
            }
        }
    }
    Ok(())
}

/// Writes the whole hour as new pages first and deletes the old ones then: a crash between leaves marks twice, which
/// changes nothing. Merged is what is stored: memory also knows rows that were judged and not accepted.
async fn merge(
    store: &dyn Store,
    partition: &str,
    hour: i64,
    held: &mut Hour,
    expires: Timestamp,
) -> Result<(), BackendError> {
    let stored = read_hour(store, partition, hour).await?;
    let mut merged = Hour { next_page: stored.next_page, ..Hour::default() };
    append(store, partition, hour, &mut merged, &stored.marks.page(), expires).await?;
    (held.pages, held.next_page) = (merged.pages, merged.next_page);
    let old: Vec<Key> = stored.pages.into_iter().map(|sort| Key::new(partition, sort)).collect();
    try_join_all(old.iter().map(|key| store::remove(store, key))).await?;
    Ok(())
}
