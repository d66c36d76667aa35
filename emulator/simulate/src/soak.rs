//! The soak report: at which try records reached the broker, and how often the system was ready to take more in [F12].

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::Serialize;

use crate::judge::Published;

/// What a run showed of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Soak {
    /// Revisions of events by the try at which the broker acknowledged them: the first, the second, the third, a later one.
    pub tries: [u64; 4],
    /// How often somebody looked whether the queue and the store answer.
    pub looks: u64,
    /// How often they did.
    pub ready: u64,
}

#[derive(Default)]
pub(crate) struct Tally(Mutex<State>);

#[derive(Default)]
struct State {
    soak: Soak,
    /// Tries of what is not acknowledged yet.
    failed: BTreeMap<Published, usize>,
}

impl Tally {
    /// The broker was given a record.
    pub(crate) fn tried(&self, record: Published, acknowledged: bool) {
        let mut state = self.0.lock();
        if acknowledged {
            let failed = state.failed.remove(&record).unwrap_or(0);
            state.soak.tries[failed.min(3)] += 1;
        } else {
            *state.failed.entry(record).or_default() += 1;
        }
    }

    pub(crate) fn looked(&self, ready: bool) {
        let mut state = self.0.lock();
        state.soak.looks += 1;
        state.soak.ready += u64::from(ready);
    }

    pub(crate) fn soak(&self) -> Soak {
        self.0.lock().soak
    }
}
