//! The seen-set [S12]: per stream and observation hour the short hash, content and revision of every accepted record.
//! It moves only after the queue has acknowledged. Stored as small appended pages, merged when there are many, because a
//! commit then costs what it adds and not what the hour holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use futures::future::try_join_all;

use crate::app::App;
use crate::error::BackendError;
use crate::limits::{SEEN_KEPT, SEEN_PAGE_BYTES};
use crate::record::{Draft, StreamId};
use crate::store::{self, Expect, Key, PutError};
use crate::time::Timestamp;

/// What the seen-set says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    New,
    /// Same key, other content: the revision that it becomes.
    Revision(u32),
    /// Same key, same content: not published again.
    Duplicate,
}

/// An accepted record as the seen-set keeps it: 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    hour: i64,
    key: u64,
    content: u32,
    pub revision: u32,
}

impl Mark {
    /// This record's mark.
    pub fn of(draft: &Draft, revision: u32) -> Mark {
        Mark { hour: hour_of(draft.observed_at), key: draft.event.short(), content: draft.content, revision }
    }
}

fn hour_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(3600)
}

const MARK_BYTES: usize = 16;
/// Pages of one hour that are merged into one.
const MERGE_PAGES: usize = 32;
/// Marks held in memory; beyond that clean hours are dropped and read again when needed.
const HELD_MARKS: usize = 2_000_000;

/// One stream's seen-set, as far as it was needed.
#[derive(Debug)]
pub struct Seen {
    partition: String,
    hours: HashMap<i64, Hour>,
    /// Accepted and not yet stored.
    pending: BTreeMap<i64, Vec<Mark>>,
    held: usize,
}

#[derive(Debug, Default)]
struct Hour {
    marks: HashMap<u64, (u32, u32)>,
    pages: Vec<String>,
    next_page: u64,
}

impl Hour {
    fn add(&mut self, key: u64, content: u32, revision: u32) -> bool {
        let fresh = !self.marks.contains_key(&key);
        let mark = self.marks.entry(key).or_insert((content, revision));
        if revision >= mark.1 {
            *mark = (content, revision);
        }
        fresh
    }
}

impl Seen {
    /// An empty view of what was seen.
    pub fn new(stream: &StreamId) -> Seen {
        Seen { partition: format!("seen/{stream}"), hours: HashMap::new(), pending: BTreeMap::new(), held: 0 }
    }

    /// Reads the hours that `times` fall into, once each.
    pub async fn load(&mut self, app: &App, times: impl Iterator<Item = Timestamp>) -> Result<(), BackendError> {
        if self.held > HELD_MARKS {
            self.hours.clear();
            self.held = 0;
        }
        let wanted: BTreeSet<i64> = times.map(hour_of).filter(|hour| !self.hours.contains_key(hour)).collect();
        let loaded = try_join_all(wanted.iter().map(|&hour| read_hour(app, &self.partition, hour))).await?;
        for (hour, read) in wanted.into_iter().zip(loaded) {
            self.held += read.marks.len();
            self.hours.insert(hour, read);
        }
        Ok(())
    }

    /// Judges a draft whose hour is loaded, and remembers it within this batch, so that a row twice in one body is found.
    pub fn judge(&mut self, draft: &Draft) -> Judged {
        let hour = self.hours.entry(hour_of(draft.observed_at)).or_default();
        let (judged, revision) = match hour.marks.get(&draft.event.short()) {
            None => (Judged::New, 0),
            Some(&(content, _)) if content == draft.content => return Judged::Duplicate,
            Some(&(_, revision)) => (Judged::Revision(revision + 1), revision + 1),
        };
        self.held += usize::from(hour.add(draft.event.short(), draft.content, revision));
        judged
    }

    /// The queue has acknowledged this record's envelope.
    pub fn accept(&mut self, mark: &Mark) {
        self.pending.entry(mark.hour).or_default().push(*mark);
    }

    /// Stores what was accepted. What was judged and not accepted is forgotten with its hour, so that it is judged anew.
    pub async fn commit(&mut self, app: &App) -> Result<(), BackendError> {
        let pending = std::mem::take(&mut self.pending);
        let expires = |hour: i64| {
            let observed = Timestamp::from_second(hour * 3600).unwrap_or(Timestamp::UNIX_EPOCH);
            observed.max(app.clock.now()) + SEEN_KEPT
        };
        let partition = self.partition.clone();
        let written = try_join_all(pending.iter().filter_map(|(&hour, marks)| {
            let held = self.hours.get(&hour)?;
            Some(append(app, &partition, hour, held.next_page, marks, expires(hour)))
        }))
        .await?;
        let written: BTreeMap<i64, (Vec<String>, u64)> = written.into_iter().collect();
        for (hour, (pages, next)) in written {
            let Some(held) = self.hours.get_mut(&hour) else { continue };
            held.pages.extend(pages);
            held.next_page = next;
            if held.pages.len() >= MERGE_PAGES {
                merge(app, &partition, hour, held, expires(hour)).await?;
            }
        }
        Ok(())
    }

    /// Drops what was judged and not accepted: the next batch reads the store again.
    pub fn forget_unaccepted(&mut self) {
        self.hours.clear();
        self.pending.clear();
        self.held = 0;
    }
}

fn sort_key(hour: i64, page: u64) -> String {
    format!("{hour:08}/{page:08}")
}

async fn read_hour(app: &App, partition: &str, hour: i64) -> Result<Hour, BackendError> {
    let mut read = Hour::default();
    for item in store::list_all(&*app.store, partition, &format!("{hour:08}/"), usize::MAX).await? {
        for mark in item.value.chunks_exact(MARK_BYTES) {
            let word = |at: usize| u32::from_be_bytes([mark[at], mark[at + 1], mark[at + 2], mark[at + 3]]);
            let key = u64::from(word(0)) << 32 | u64::from(word(4));
            read.add(key, word(8), word(12));
        }
        read.next_page = item.key.sort.rsplit('/').next().and_then(|n| n.parse().ok()).map_or(0, |n: u64| n + 1);
        read.pages.push(item.key.sort);
    }
    Ok(read)
}

/// Writes `marks` as new pages; gives the pages' keys and the next free number. A page that another run took is skipped.
async fn append(
    app: &App,
    partition: &str,
    hour: i64,
    mut page: u64,
    marks: &[Mark],
    expires: Timestamp,
) -> Result<(i64, (Vec<String>, u64)), BackendError> {
    let mut written = Vec::new();
    for chunk in marks.chunks(SEEN_PAGE_BYTES / MARK_BYTES) {
        let mut value = Vec::with_capacity(chunk.len() * MARK_BYTES);
        for mark in chunk {
            value.extend_from_slice(&mark.key.to_be_bytes());
            value.extend_from_slice(&mark.content.to_be_bytes());
            value.extend_from_slice(&mark.revision.to_be_bytes());
        }
        let value = Bytes::from(value);
        loop {
            let key = Key::new(partition, sort_key(hour, page));
            page += 1;
            match app.store.put_if(&key, value.clone(), Expect::Absent, Some(expires)).await {
                Ok(_) => {
                    written.push(key.sort);
                    break;
                }
                Err(PutError::Conflict) => {}
                Err(e) => return Err(e.of("seen-set page")),
            }
        }
    }
    Ok((hour, (written, page)))
}

/// Writes the whole hour as new pages first and deletes the old ones then: a crash between leaves marks twice, which
/// changes nothing. Merged is what is stored: memory also knows rows that were judged and not accepted.
async fn merge(app: &App, partition: &str, hour: i64, held: &mut Hour, expires: Timestamp) -> Result<(), BackendError> {
    let stored = read_hour(app, partition, hour).await?;
    let mut marks: Vec<Mark> =
        stored.marks.iter().map(|(&key, &(content, revision))| Mark { hour, key, content, revision }).collect();
    marks.sort_unstable_by_key(|mark| mark.key);
    let (_, (pages, next)) = append(app, partition, hour, stored.next_page, &marks, expires).await?;
    (held.pages, held.next_page) = (pages, next);
    let old: Vec<Key> = stored.pages.into_iter().map(|sort| Key::new(partition, sort)).collect();
    try_join_all(old.iter().map(|key| store::remove(&*app.store, key))).await?;
    Ok(())
}
