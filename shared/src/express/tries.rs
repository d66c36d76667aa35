//! Tries of alerts at the broker that are under way. A try whose sender has heard "accepted" from the queue goes on by
//! itself to its end, a few seconds at the most; whoever ends the process, or lets it be frozen, waits for these ends [E2].

use std::collections::BTreeSet;
use std::future::Future;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use ulid::Ulid;

use crate::limits::TRIES_UNDER_WAY;

/// The tries of alerts at the broker that are under way in this process. Each ends by itself within seconds [E2].
#[derive(Debug, Default)]
pub struct Tries {
    tasks: TaskTracker,
    /// The process died: none of them does anything more.
    dead: CancellationToken,
    /// By the envelope that is, or becomes, the queue's copy.
    under_way: Mutex<BTreeSet<Ulid>>,
}

/// One try under way; its end is when this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    tries: &'a Tries,
    envelope: Ulid,
}

impl Tries {
    /// Returns when no try is under way and what follows from each is written.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    /// Whether the broker may still acknowledge the alert of this envelope by a try of this process.
    pub(crate) fn is_under_way(&self, envelope: Ulid) -> bool {
        self.under_way.lock().contains(&envelope)
    }

    /// As a crash of the process ends them: between any two steps. For simulation.
    #[cfg(feature = "testing")]
    pub fn kill(&self) {
        self.dead.cancel();
    }

    /// Runs to its end, whatever becomes of the sender.
    pub(super) fn spawn(&self, one: impl Future<Output = ()> + Send + 'static) {
        let dead = self.dead.clone();
        self.tasks.spawn(async move {
            tokio::select! { biased;
                () = dead.cancelled() => {}
                () = one => {}
            }
        });
    }

    /// `None`: as many as may be are under way.
    pub(super) fn begin(&self, envelope: Ulid) -> Option<UnderWay<'_>> {
        let mut under_way = self.under_way.lock();
        if under_way.len() >= TRIES_UNDER_WAY {
            return None;
        }
        under_way.insert(envelope);
        Some(UnderWay { tries: self, envelope })
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.tries.under_way.lock().remove(&self.envelope);
    }
}
