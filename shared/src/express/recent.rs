//! The CRITICAL alerts that this process accepted lately [S12]: one that is sent again is not published again, and one whose
//! content changed is its next revision. In memory, since a look into the store would cost every alert its milliseconds;
//! what another process or an earlier one accepted is published again, under the same `event_id`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Accepted;
use crate::record::{Draft, EventId};
use crate::time::{Clock, Timestamp};

/// The window of push sources [S12].
const KEPT: Duration = Duration::from_secs(5 * 60);
/// Alerts kept; A3 lets 500 a minute in.
const MOST: usize = 5_000;

#[derive(Debug, Default)]
pub struct Recent(Mutex<BTreeMap<EventId, Known>>);

#[derive(Debug)]
struct Known {
    at: Timestamp,
    content: u32,
    revision: u32,
    accepted: Accepted,
}

/// What an alert is to what was accepted before.
#[derive(Debug)]
pub(super) enum Judged {
    New,
    Revision(u32),
    Duplicate(Accepted),
}

impl Recent {
    pub(super) fn judge(&self, draft: &Draft, clock: &Clock) -> Judged {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&draft.event).filter(|known| clock.since(known.at) < KEPT) {
            None => Judged::New,
            Some(same) if same.content == draft.content => Judged::Duplicate(same.accepted.clone()),
            Some(other) => Judged::Revision(other.revision + 1),
        }
    }

    /// It is durable.
    pub(super) fn accepted(&self, content: u32, revision: u32, accepted: &Accepted, clock: &Clock) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, known| clock.since(known.at) < KEPT);
        }
        if known.len() >= MOST {
            known.pop_first();
        }
        known.insert(accepted.event_id, Known { at: clock.now(), content, revision, accepted: accepted.clone() });
    }
}
