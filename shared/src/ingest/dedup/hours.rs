//! The seen-set of a tenant's sources, by the hour of observation. Whoever judges a source holds its turn from the reading of an
//! hour until the end of its body, or for a while where that is far.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::future::try_join_all;
use tokio::time::Instant;

use super::known::{Judged, LASTING, MARK_BYTES, Mark, Marks, hour_of};
use super::pages::{Chain, FULL, Page, Pages, Place, of_hour, of_part};
use super::turns::{self, Turn};
use crate::error::BackendError;
use crate::limits::{
    CONTENTS_KNOWN, SEEN_HELD_MARKS, SEEN_KEPT, SEEN_KEPT_LASTING, SEEN_MERGED_PAGES, SEEN_TURN, SEEN_TURN_SHARE,
};
use crate::record::{Draft, SourceId, TenantId};
use crate::store::{self, Key, Store, Version};
use crate::time::{Clock, Timestamp};

#[derive(Debug)]
pub(super) struct Hours {
    tenant: TenantId,
    sources: BTreeMap<SourceId, Source>,
    /// The part of time whose marks of what lasts are written: `SEEN_KEPT_LASTING` long, counted from 1970.
    part: i64,
    /// When the turns were taken.
    since: Option<Instant>,
    /// When they were taken or renewed last.
    kept: Option<Instant>,
}

#[derive(Debug, Default)]
struct Source {
    turn: Option<Turn>,
    /// Of our last turn's end.
    last: Option<Version>,
    hours: BTreeMap<i64, Hour>,
    /// Accepted and not yet stored.
    pending: BTreeMap<i64, Vec<Mark>>,
}

#[derive(Debug, Default)]
struct Hour {
    marks: Marks,
    /// Stored pages that are not full, by their numbers: as many as may be are merged.
    small: Vec<(i64, Bytes)>,
    /// Numbers of those that are.
    full: Vec<i64>,
    next_page: i64,
    /// Keys of what lasts that only the part before this one knows: each is marked again when it is seen.
    fading: BTreeSet<u64>,
}

impl Hour {
    /// This page is stored.
    fn hold(&mut self, number: i64, page: Bytes) {
        self.next_page = self.next_page.max(number + 1);
        if page.len() < FULL {
            self.small.push((number, page));
        } else {
            self.full.push(number);
        }
    }
}

impl Hours {
    pub(super) fn new(tenant: &TenantId) -> Hours {
        Hours { tenant: tenant.clone(), sources: BTreeMap::new(), part: 0, since: None, kept: None }
    }

    pub(super) async fn load(
        &mut self,
        store: &dyn Store,
        clock: &Clock,
        drafts: &[Draft],
    ) -> Result<(), BackendError> {
        let wanted = wanted(drafts);
        if self.part == 0 {
            self.part = part_of(clock.now());
        }
        if self.held() > SEEN_HELD_MARKS {
            self.forget();
        }
        let ours = |source: &SourceId| self.sources.get(source).is_some_and(|source| source.turn.is_some());
        if self.is_overdue() || !wanted.keys().all(ours) {
            // All are let go before any is taken, and taken in one order: nobody waits for somebody who waits for them.
            self.leave(store, clock).await?;
            self.since = Some(Instant::now());
            self.kept = self.since;
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
        self.read(store, wanted).await
    }

    /// As `load`, while what was judged before is not stored yet: the turn stays ours, and nothing is forgotten.
    pub(super) async fn load_ahead(&mut self, store: &dyn Store, drafts: &[Draft]) -> Result<(), BackendError> {
        self.read(store, wanted(drafts)).await
    }

    async fn read(&mut self, store: &dyn Store, wanted: BTreeMap<SourceId, BTreeSet<i64>>) -> Result<(), BackendError> {
        for (name, hours) in wanted {
            let partition = partition(&self.tenant, &name);
            let source = self.sources.entry(name).or_default();
            let missing: Vec<i64> = hours.into_iter().filter(|hour| !source.hours.contains_key(hour)).collect();
            let read = try_join_all(missing.iter().map(|&hour| known_of(store, &partition, hour, self.part))).await?;
            source.hours.extend(missing.into_iter().zip(read));
        }
        Ok(())
    }

    pub(super) fn judge(&mut self, draft: &Draft) -> Judged {
        let source = self.sources.entry(draft.source.clone()).or_default();
        let hour = source.hours.entry(hour_of(draft)).or_default();
        if hour.fading.remove(&draft.event.short()) {
            let marks = hour.marks.of(draft);
            source.pending.entry(LASTING).or_default().extend(marks);
        }
        hour.marks.judge(draft)
    }

    pub(super) fn accept(&mut self, marks: &[Mark]) {
        for mark in marks {
            let source = self.sources.entry(mark.source.clone()).or_default();
            source.pending.entry(mark.hour).or_default().push(mark.clone());
        }
    }

    /// Takes what was accepted, as pages to be stored.
    pub(super) fn stage(&mut self, clock: &Clock) -> Pages {
        let mut chains = Vec::new();
        for (name, source) in &mut self.sources {
            for (hour, marks) in std::mem::take(&mut source.pending) {
                let held = source.hours.entry(hour).or_default();
                let pages = Page::of(&marks, held.next_page);
                held.next_page += pages.len() as i64;
                let (place, expires) = match hour {
                    LASTING => (Place::Lasting(name.clone(), self.part), expires_of(self.part)),
                    hour => (Place::Hour(name.clone(), hour), expires(clock, hour)),
                };
                chains.push(Chain { place, partition: partition(&self.tenant, name), expires, pages });
            }
        }
        Pages(chains)
    }

    /// These are stored; an hour that has many small pages now gets full ones instead.
    pub(super) async fn stored(&mut self, pages: Pages, store: &dyn Store) -> Result<(), BackendError> {
        for Chain { place, partition, expires, pages } in pages.0 {
            let (name, hour) = match &place {
                Place::Hour(name, hour) => (name, *hour),
                Place::Lasting(name, _) => (name, LASTING),
                Place::Shard => continue,
            };
            let held = self.sources.entry(name.clone()).or_default().hours.entry(hour).or_default();
            pages.into_iter().for_each(|page| held.hold(page.number, page.value));
            if held.small.len() >= SEEN_MERGED_PAGES {
                merge(store, partition, place, held, expires).await?;
            }
        }
        Ok(())
    }

    /// Whether these can be judged while what was judged before is not stored yet: in the turn that is ours, by what is in memory.
    pub(super) fn judges_ahead(&self, drafts: &[Draft]) -> bool {
        let ours = |draft: &Draft| self.sources.get(&draft.source).is_some_and(|source| source.turn.is_some());
        !self.is_overdue() && self.held() <= SEEN_HELD_MARKS && drafts.iter().all(ours)
    }

    fn is_overdue(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= SEEN_TURN_SHARE)
    }

    fn held(&self) -> usize {
        let marks =
            |hour: &Hour| hour.marks.len() + hour.small.iter().map(|(_, page)| page.len() / MARK_BYTES).sum::<usize>();
        self.sources.values().flat_map(|source| source.hours.values()).map(marks).sum()
    }

    /// Before what was judged a while ago is sent: the turns are still ours, or it has to be judged anew.
    pub(super) async fn keep_turns(&mut self, store: &dyn Store, clock: &Clock) -> Result<(), BackendError> {
        if self.kept.is_none_or(|kept| kept.elapsed() < SEEN_TURN / 2) {
            return Ok(());
        }
        for (name, source) in &mut self.sources {
            if let Some(turn) = &mut source.turn
                && !turn.renew(store, clock).await?
            {
                let problem = format!("another stream had the turn of {name} meanwhile; the rest is judged anew");
                return Err(BackendError::Retry(problem));
            }
        }
        self.kept = Some(Instant::now());
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

fn wanted(drafts: &[Draft]) -> BTreeMap<SourceId, BTreeSet<i64>> {
    let mut wanted: BTreeMap<SourceId, BTreeSet<i64>> = BTreeMap::new();
    for draft in drafts {
        wanted.entry(draft.source.clone()).or_default().insert(hour_of(draft));
    }
    wanted
}

fn part_of(now: Timestamp) -> i64 {
    now.as_second().div_euclid(SEEN_KEPT_LASTING.as_secs() as i64)
}

/// When the part after it has ended: until then, whoever is seen again is marked in that one.
fn expires_of(part: i64) -> Timestamp {
    let ends = (part + 2).saturating_mul(SEEN_KEPT_LASTING.as_secs() as i64);
    Timestamp::from_second(ends).unwrap_or(Timestamp::MAX)
}

fn expires(clock: &Clock, hour: i64) -> Timestamp {
    let observed = Timestamp::from_second(hour * 3600).unwrap_or(Timestamp::UNIX_EPOCH);
    observed.max(clock.now()) + SEEN_KEPT
}

/// What is known of an hour; of what lasts, by this part of time and the one before it.
async fn known_of(store: &dyn Store, partition: &str, hour: i64, part: i64) -> Result<Hour, BackendError> {
    if hour != LASTING {
        return stored(store, partition, Hour::default(), &of_hour(hour)).await;
    }
    let before = stored(store, partition, Hour::default(), &of_part(part - 1)).await?;
    let fading = before.marks.keys().collect();
    stored(store, partition, Hour { marks: before.marks, fading, ..Hour::default() }, &of_part(part)).await
}

/// `read` with what is stored under names that begin like this.
async fn stored(store: &dyn Store, partition: &str, mut read: Hour, prefix: &str) -> Result<Hour, BackendError> {
    for item in store::list_all(store, partition, prefix, usize::MAX).await? {
        for key in read.marks.read(&item.value) {
            read.fading.remove(&key);
        }
        // Nobody but us names pages; one with another name is read all the same, and stays as it is.
        if let Some(number) = item.key.sort.rsplit('/').next().and_then(|number| number.parse().ok()) {
            read.hold(number, item.value);
        }
    }
    Ok(read)
}

/// Writes the hour's small pages as full ones first and deletes the small ones then: a crash between leaves marks twice, which can
/// change the order of a key's contents, and no more. The full ones stay, so that an hour of millions costs its next page what it
/// cost the first, until revisions have made them several times as many as the last contents of all keys need: then they are
/// written anew as well.
/// Merged is what is stored: memory also knows rows that were judged and not accepted.
async fn merge(
    store: &dyn Store,
    partition: String,
    place: Place,
    held: &mut Hour,
    expires: Timestamp,
) -> Result<(), BackendError> {
    let needed = held.marks.len() * CONTENTS_KNOWN * MARK_BYTES / FULL;
    let (mut marks, mut old) = (Marks::default(), Vec::new());
    if held.full.len() > 1 + 2 * needed {
        marks = stored(store, &partition, Hour::default(), &place.prefix()).await?.marks;
        old.append(&mut held.full);
    } else {
        held.small.iter().for_each(|(_, page)| drop(marks.read(page)));
    }
    let bytes = Bytes::from(marks.page());
    // A page that is not full is held: by its own bytes, not by those of all.
    let page = |from: usize| match bytes.get(from..from + FULL) {
        Some(_) => bytes.slice(from..from + FULL),
        None => Bytes::copy_from_slice(&bytes[from..]),
    };
    let pages = (0..bytes.len()).step_by(FULL).map(page);
    let pages = (held.next_page..).zip(pages).map(|(number, value)| Page { number, value, keys: Vec::new() }).collect();
    let merged = Pages(vec![Chain { place: place.clone(), partition: partition.clone(), expires, pages }]);
    let merged = merged.store(store).await?;
    old.extend(std::mem::take(&mut held.small).into_iter().map(|(number, _)| number));
    let merged = merged.0.into_iter().flat_map(|chain| chain.pages);
    merged.for_each(|page| held.hold(page.number, page.value));
    let keys: Vec<Key> = old.iter().map(|number| Key::new(partition.as_str(), place.sort_key(*number))).collect();
    try_join_all(keys.iter().map(|key| store::remove(store, key))).await?;
    Ok(())
}
