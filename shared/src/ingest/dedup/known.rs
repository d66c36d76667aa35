//! What is known of one key, and what it says of a draft. Nothing is read or stored here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::limits::CONTENTS_KNOWN;
use crate::record::{Draft, SourceId};

/// What the seen-set says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// The event is not known yet.
    New,
    /// Same key, other content: the revision that it becomes.
    Revision(u32),
    /// Published before, or a worse version of what was: not published again.
    Duplicate,
}

impl Judged {
    /// The revision that is published; `None` for what is not.
    pub fn revision(self) -> Option<u32> {
        match self {
            Judged::New => Some(0),
            Judged::Revision(revision) => Some(revision),
            Judged::Duplicate => None,
        }
    }
}

/// An accepted record as the seen-set keeps it: 16 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub(super) source: SourceId,
    pub(super) hour: i64,
    pub(crate) key: u64,
    pub(super) content: u32,
    pub(super) rank: u8,
    /// The revision that it has.
    pub revision: u32,
}

impl Mark {
    /// What is remembered of this draft once it was accepted as this revision.
    pub fn of(draft: &Draft, revision: u32) -> Mark {
        Mark {
            source: draft.source.clone(),
            hour: hour_of(draft),
            key: draft.event.short(),
            content: draft.content,
            rank: draft.rank,
            revision,
        }
    }
}

/// The hour that a draft is known in: of its observation, or for what lasts one for all.
pub(super) fn hour_of(draft: &Draft) -> i64 {
    if draft.lasting { LASTING } else { draft.observed_at.as_second().div_euclid(3600) }
}

/// The first hour of 1970, in which nothing was observed; what lasts is stored elsewhere.
pub(super) const LASTING: i64 = 0;

/// Bytes of a stored mark: key, content, and rank and revision in one word.
pub(super) const MARK_BYTES: usize = 16;
const REVISION_BITS: u32 = 24;

/// The last contents of one key.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    contents: [u32; CONTENTS_KNOWN],
    count: u8,
    /// The best version so far.
    rank: u8,
    revision: u32,
}

impl Known {
    fn add(&mut self, content: u32, rank: u8, revision: u32) {
        self.rank = self.rank.max(rank);
        self.revision = self.revision.max(revision);
        let held = &mut self.contents[..usize::from(self.count)];
        if held.contains(&content) {
            return;
        }
        if held.len() == CONTENTS_KNOWN {
            held.rotate_left(1);
            held[CONTENTS_KNOWN - 1] = content;
        } else {
            self.contents[usize::from(self.count)] = content;
            self.count += 1;
        }
    }
}

/// By key. Keys are hashes already, but a sender can choose them: they are hashed again by a seed, quickly.
pub(super) type ByKey<V> = HashMap<u64, V, foldhash::fast::RandomState>;

/// Keys with what is known of each.
#[derive(Debug, Default)]
pub(super) struct Marks(ByKey<Known>);

impl Marks {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn judge(&mut self, draft: &Draft) -> Judged {
        let known = match self.0.entry(draft.event.short()) {
            Entry::Vacant(place) => {
                place.insert(Known::default()).add(draft.content, draft.rank, 0);
                return Judged::New;
            }
            Entry::Occupied(place) => place.into_mut(),
        };
        let is_repeat = known.contents[..usize::from(known.count)].contains(&draft.content);
        if is_repeat || (draft.rank > 0 && draft.rank < known.rank) {
            return Judged::Duplicate;
        }
        let revision = known.revision + 1;
        known.add(draft.content, draft.rank, revision);
        Judged::Revision(revision)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }

    /// What is known of a draft's event, as marks, the older contents first.
    pub(super) fn of(&self, draft: &Draft) -> Vec<Mark> {
        let Some(known) = self.0.get(&draft.event.short()) else { return Vec::new() };
        let mark = |content: &u32| Mark { content: *content, rank: known.rank, ..Mark::of(draft, known.revision) };
        known.contents[..usize::from(known.count)].iter().map(mark).collect()
    }

    fn add(&mut self, key: u64, content: u32, rank: u8, revision: u32) {
        self.0.entry(key).or_default().add(content, rank, revision);
    }

    pub(super) fn remove(&mut self, key: u64) {
        self.0.remove(&key);
    }

    /// Adds a stored page's marks; gives their keys.
    pub(super) fn read(&mut self, page: &[u8]) -> Vec<u64> {
        let marks = page.chunks_exact(MARK_BYTES).map(|mark| {
            let word = |at: usize| u32::from_be_bytes([mark[at], mark[at + 1], mark[at + 2], mark[at + 3]]);
            let (key, ranked) = (u64::from(word(0)) << 32 | u64::from(word(4)), word(12));
            self.add(key, word(8), (ranked >> REVISION_BITS) as u8, ranked & ((1 << REVISION_BITS) - 1));
            key
        });
        marks.collect()
    }

    /// All of them as a page's bytes, the older contents of a key first.
    pub(super) fn page(&self) -> Vec<u8> {
        let mut keys: Vec<_> = self.0.iter().collect();
        keys.sort_unstable_by_key(|(key, _)| **key);
        let mut page = Vec::with_capacity(keys.len() * MARK_BYTES);
        for (key, known) in keys {
            for content in &known.contents[..usize::from(known.count)] {
                write(&mut page, *key, *content, known.rank, known.revision);
            }
        }
        page
    }
}

/// The marks as a page's bytes.
pub(super) fn page<'a>(marks: impl Iterator<Item = &'a Mark>) -> Vec<u8> {
    let mut page = Vec::new();
    marks.for_each(|mark| write(&mut page, mark.key, mark.content, mark.rank, mark.revision));
    page
}

fn write(page: &mut Vec<u8>, key: u64, content: u32, rank: u8, revision: u32) {
    let revision = revision.min((1 << REVISION_BITS) - 1);
    page.extend_from_slice(&key.to_be_bytes());
    page.extend_from_slice(&content.to_be_bytes());
    page.extend_from_slice(&(u32::from(rank) << REVISION_BITS | revision).to_be_bytes());
}
