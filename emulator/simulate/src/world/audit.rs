//! The audit of what the world holds: while a run goes on, and at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use streammanager::dead;
use streammanager::deliver::report;
use streammanager::embedded::Embedded;
use streammanager::record::{Envelope, EventId, Tier};
use streammanager::store::Key;
use tokio::time::sleep;

use super::World;
use crate::judge::Published;

impl World {
    pub(super) async fn audits(self: Arc<World>) {
        loop {
            sleep(Duration::from_secs(600)).await;
            self.audit().await;
        }
    }

    /// Somebody looks every ten seconds whether the system takes anything in [F12].
    pub(super) async fn looks(self: Arc<World>) {
        loop {
            sleep(Duration::from_secs(10)).await;
            let looked = self.invoke(|app| async move {
                let queue = app.settings.queues.tier(Tier::Critical);
                app.queue.closed().is_none()
                    && app.queue.depth(queue).await.is_ok()
                    && app.store.get(&Key::new("looks", "ready")).await.is_ok()
            });
            self.tally.looked(looked.await == Some(true));
        }
    }

    /// What the delivery on duty says of waits, each time that it says it [O8].
    pub(super) async fn bounds(self: Arc<World>) {
        let mut last = None;
        loop {
            sleep(Duration::from_millis(500)).await;
            let Some(embedded) = self.embedded() else { continue };
            let Ok(Some(report)) = report::last(&embedded).await else { continue };
            if last.replace(report.at) == Some(report.at) {
                continue;
            }
            for tier in Tier::BULK {
                let possible = report.waits.get(&tier).and_then(|wait| wait.longest_possible_s);
                if let Some(at_most) = possible.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
                    self.judge.said(tier, at_most);
                }
            }
        }
    }

    /// What was accepted is stored, refused, or in a queue; and only what the broker refused is a dead letter.
    pub(crate) async fn audit(&self) {
        let outstanding = self.judge.sound(self.judge.outstanding());
        let Some(embedded) = self.embedded() else { return };
        if !outstanding.is_empty() {
            let Some(queued) = self.queued(&embedded) else { return };
            if let Some((event, revision)) = outstanding.difference(&queued).next() {
                let lost = outstanding.difference(&queued).count();
                self.judge.violated(format!("lost: {lost} records, the first is {event} revision {revision}"));
            }
        }
        let Ok(letters) = dead::list(&embedded, None, 100_000).await else { return };
        for letter in letters.letters {
            match letter.event {
                Some(event) if !self.judge.was_refused(event) => {
                    self.judge.violated(format!("dead: {event} is a dead letter, and the broker never refused it"));
                }
                None if self.is_set_aside(&letter).await => {}
                None => self.judge.violated(format!("dead: what was sound became a dead letter: {}", letter.detail)),
                Some(_) => {}
            }
        }
    }

    /// Everything that the tiers' queues hold; `None` while the disk cannot be read.
    fn queued(&self, embedded: &Embedded) -> Option<BTreeSet<Published>> {
        let mut queued = BTreeSet::new();
        for tier in Tier::ALL {
            let read = embedded.each_body(self.settings.queues.tier(tier), |body| {
                let envelope = Envelope::decode(&Bytes::copy_from_slice(body));
                if let Ok(records) = envelope.and_then(|envelope| envelope.unpack()) {
                    queued.extend(records.iter().map(|record| (record.event, record.revision)));
                }
            });
            read.ok()?;
        }
        Some(queued)
    }

    /// At the end: everything that was offered was published, once as an event, or is a dead letter that the broker caused.
    pub(crate) async fn reconcile(&self) {
        self.audit().await;
        let mut offered: BTreeMap<&str, u64> = self.offered();
        offered.retain(|_, number| *number > 0);
        for (kind, number) in offered {
            let found = self.judge.events_of(kind);
            if found != number {
                self.judge.violated(format!("balance: {number} {kind} events were offered, {found} were published"));
            }
        }
        let Some(embedded) = self.embedded() else { return };
        let Ok(letters) = dead::list(&embedded, None, 1_000_000).await else { return };
        let kept: BTreeSet<EventId> = letters.letters.into_iter().filter_map(|letter| letter.event).collect();
        if let Some(event) = self.judge.only_refused().difference(&kept).next() {
            self.judge.violated(format!("lost: the broker refused {event}, and no dead letter has it"));
        }
        let depth = self.queued(&embedded).map_or(0, |queued| queued.len());
        if depth > 0 {
            self.judge.violated(format!("stuck: {depth} records are queued, although all are published"));
        }
    }
}
