//! New pages of the seen-set on their way to the store. Nothing of the seen-set is held meanwhile: the next batch is judged.

use bytes::Bytes;
use futures::future::try_join_all;

use super::known::{MARK_BYTES, Mark, page};
use crate::error::BackendError;
use crate::limits::SEEN_PAGE_BYTES;
use crate::record::SourceId;
use crate::store::{Expect, Key, PutError, Store};
use crate::time::Timestamp;

/// Bytes of a page that holds as many marks as it may.
pub(super) const FULL: usize = SEEN_PAGE_BYTES / MARK_BYTES * MARK_BYTES;

/// Pages that are stored at once, which for a store on this host is one transaction.
#[derive(Debug, Default)]
pub(crate) struct Pages(pub(super) Vec<Chain>);

/// Pages of one place, stored one after another.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) place: Place,
    pub(super) partition: String,
    pub(super) expires: Timestamp,
    pub(super) pages: Vec<Page>,
}

/// Where pages belong, which says how they are named: by number within an hour or a part of time, or by the time of writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Hour(SourceId, i64),
    /// What lasts, in the part of time in which it was marked.
    Lasting(SourceId, i64),
    Shard,
}

impl Place {
    pub(super) fn sort_key(&self, number: i64) -> String {
        match self {
            Place::Hour(..) | Place::Lasting(..) => format!("{}{number:08}", self.prefix()),
            Place::Shard => format!("{number:016}"),
        }
    }

    /// With which the names of its pages begin.
    pub(super) fn prefix(&self) -> String {
        match self {
            Place::Hour(_, hour) => of_hour(*hour),
            Place::Lasting(_, part) => of_part(*part),
            Place::Shard => String::new(),
        }
    }
}

pub(super) fn of_hour(hour: i64) -> String {
    format!("{hour:08}/")
}

pub(super) fn of_part(part: i64) -> String {
    format!("lasting/{part:04}/")
}

#[derive(Debug)]
pub(super) struct Page {
    /// Under which it is stored; the first one that is free.
    pub(super) number: i64,
    pub(super) value: Bytes,
    /// Of its marks.
    pub(super) keys: Vec<u64>,
}

impl Page {
    /// Pages of `marks`, numbered from `first` on.
    pub(super) fn of(marks: &[Mark], first: i64) -> Vec<Page> {
        let chunks = marks.chunks(FULL / MARK_BYTES);
        let page = |(number, marks): (i64, &[Mark])| Page {
            number,
            value: page(marks.iter()).into(),
            keys: marks.iter().map(|mark| mark.key).collect(),
        };
        (first..).zip(chunks).map(page).collect()
    }
}

impl Pages {
    /// Stores them all, each where it is told afterwards. A name that another process took is passed over.
    pub(crate) async fn store(mut self, store: &dyn Store) -> Result<Pages, BackendError> {
        try_join_all(self.0.iter_mut().map(|chain| chain.store(store))).await?;
        Ok(self)
    }
}

impl Chain {
    async fn store(&mut self, store: &dyn Store) -> Result<(), BackendError> {
        let mut number = i64::MIN;
        for page in &mut self.pages {
            // After the one before, wherever that had to go.
            page.number = page.number.max(number);
            loop {
                let key = Key::new(self.partition.as_str(), self.place.sort_key(page.number));
                number = page.number + 1;
                match store.put_if(&key, page.value.clone(), Expect::Absent, Some(self.expires)).await {
                    Ok(_) => break,
                    Err(PutError::Conflict) => page.number = number,
                    Err(e) => return Err(e.unexpected("seen-set page")),
                }
            }
        }
        Ok(())
    }
}
