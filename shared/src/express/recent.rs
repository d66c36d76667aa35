//! The CRITICAL alerts that this process took lately [S12]: one that is sent again is not published again, and one whose
//! content changed is its next revision. In memory, since a look into the store would cost every alert its milliseconds;
//! what another process or an earlier one took is published again, under the same `event_id`.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};

use super::Accepted;
use crate::limits::{ALERT_KNOWN, ALERTS_KNOWN};
use crate::record::{Draft, EventId};
use crate::time::{Clock, Timestamp};

/// The alerts of one process; cheap to ask.
#[derive(Debug, Default)]
pub struct Recent(Mutex<BTreeMap<EventId, Known>>);

#[derive(Debug)]
struct Known {
    at: Timestamp,
    content: u32,
    revision: u32,
    /// `None`: it is under way, or could not be taken.
    accepted: Option<Accepted>,
}

/// What an alert is to what came before.
#[derive(Debug)]
pub(super) enum Judged {
    /// To be published with this revision.
    Revision(u32),
    Duplicate(Accepted),
}

impl Recent {
    /// Two contents under one event id never get the same revision, also when they come at the same time.
    pub(super) fn judge(&self, draft: &Draft, clock: &Clock) -> Judged {
        let mut alerts = self.alerts();
        let known = alerts.get(&draft.event).filter(|known| clock.since(known.at) < ALERT_KNOWN);
        let revision = match known {
            Some(Known { content, accepted: Some(accepted), .. }) if *content == draft.content => {
                return Judged::Duplicate(accepted.clone());
            }
            Some(same) if same.content == draft.content => same.revision,
            Some(other) => other.revision + 1,
            None => 0,
        };
        if alerts.len() >= ALERTS_KNOWN && !alerts.contains_key(&draft.event) {
            let oldest = alerts.iter().min_by_key(|(_, known)| known.at).map(|(event, _)| *event);
            oldest.map(|event| alerts.remove(&event));
        }
        let known = Known { at: clock.now(), content: draft.content, revision, accepted: None };
        alerts.insert(draft.event, known);
        Judged::Revision(revision)
    }

    /// It is durable.
    pub(super) fn accepted(&self, content: u32, accepted: &Accepted) {
        // A newer content may have come meanwhile: its entry stays.
        if let Some(known) = self.alerts().get_mut(&accepted.event_id).filter(|known| known.content == content) {
            known.accepted = Some(accepted.clone());
        }
    }

    fn alerts(&self) -> MutexGuard<'_, BTreeMap<EventId, Known>> {
        self.0.lock()
    }
}
