//! What a delivery takes from the queues into its hands.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Desk, warn_if_away};
use crate::breaker::BreakerState;
use crate::deliver::settle::{self, Held};
use crate::deliver::urgency::{self, Urgency};
use crate::error::BackendError;
use crate::limits::{HAND_CRITICAL, HAND_ENVELOPES, PARKED, QUEUE_BATCH};
use crate::queue::{Body, Delivery, Settle};
use crate::record::{Envelope, Tier};
use crate::sink::Lane;

/// One long poll; short, so that stopping waits no longer than this.
const RECEIVE_WAIT: Duration = Duration::from_secs(1);
/// Pause of a tier whose queue could not be reached.
const RECEIVE_PAUSE: Duration = Duration::from_secs(1);
/// Weight of the newest envelope in the usual number of records of one.
const USUAL_SHARE: f64 = 0.1;

impl Desk<'_> {
    /// One outstanding receive a tier, while its hand has room. Behind an open breaker a bulk tier takes what probes are made
    /// with. Of CRITICAL all are taken: the first may wait for an older one of its thread, and then
    /// only another one can be the probe [R2, E4].
    pub(in crate::deliver) fn receive(&mut self, stop: &CancellationToken) {
        let app = self.app;
        for tier in Tier::ALL {
            let (room, max) = match tier {
                Tier::Critical => (HAND_CRITICAL, QUEUE_BATCH),
                _ if app.breakers.lane(Lane::of(tier)).state() != BreakerState::Closed => {
                    if self.parked_of(tier).count() >= PARKED {
                        continue;
                    }
                    (self.probes(tier), 1)
                }
                Tier::High | Tier::Normal | Tier::Low => (HAND_ENVELOPES, QUEUE_BATCH),
            };
            let held = self.in_hand(tier) + if max == 1 { self.in_work_of(tier) } else { 0 };
            if self.polled.contains(&tier) || held + max > room {
                continue;
            }
            self.polled.insert(tier);
            let stop = stop.clone();
            self.receiving.push(Box::pin(async move {
                // Not asked for yet when the waits were ended.
                if stop.is_cancelled() {
                    return (tier, Ok(Vec::new()));
                }
                let received = app.queue.receive(app.settings.queues.tier(tier), max, RECEIVE_WAIT).await;
                if received.is_err() {
                    tokio::time::sleep(RECEIVE_PAUSE).await;
                }
                (tier, received)
            }));
        }
    }

    /// Nothing more is to be received: who waits for a first message wastes the time of whoever stops.
    pub(in crate::deliver) fn end_receives(&self) {
        self.polled.iter().for_each(|&tier| self.app.queue.end_waits(self.app.settings.queues.tier(tier)));
    }

    pub(in crate::deliver) async fn take(
        &mut self,
        tier: Tier,
        received: Result<Vec<Delivery>, BackendError>,
    ) -> Result<(), BackendError> {
        let app = self.app;
        self.polled.remove(&tier);
        let deliveries = match received {
            Ok(deliveries) => deliveries,
            Err(BackendError::Retry(problem)) => {
                tracing::warn!(%tier, problem, "the queue cannot be reached");
                return Ok(());
            }
            Err(fatal @ BackendError::Fatal(_)) => return Err(fatal),
        };
        if deliveries.is_empty() {
            self.idle.insert(tier);
        } else {
            self.idle.remove(&tier);
        }
        for Delivery { body, receipt, receives, .. } in deliveries {
            let bytes = match body {
                Body::Binary(bytes) => bytes,
                Body::Text(text) => text.into_bytes().into(),
            };
            match Envelope::decode(&bytes) {
                Ok(envelope) => {
                    let (thread, urgency) = match tier {
                        Tier::Critical => urgency::of(&envelope),
                        Tier::High | Tier::Normal | Tier::Low => (None, Urgency::default()),
                    };
                    let usual = self.usual.entry(tier).or_insert(f64::from(envelope.count));
                    *usual += USUAL_SHARE * (f64::from(envelope.count) - *usual);
                    let now = Instant::now();
                    let held = Held {
                        envelope,
                        receipt,
                        receives,
                        thread,
                        urgency,
                        overtaken_since: now,
                        taken_at: now,
                        due: now,
                        failed: 0,
                        put_off: 0,
                        here: self.here.clone(),
                    };
                    self.keep(held);
                }
                Err(e) => {
                    let queue = app.settings.queues.tier(tier);
                    let buried = settle::bury_unreadable(app, queue, bytes, &e.to_string()).await;
                    let settled = match buried {
                        Ok(()) => app.queue.settle(queue, &[(receipt, Settle::Forget)]).await,
                        Err(e) => Err(e),
                    };
                    warn_if_away(settled);
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, held: Held) {
        if held.envelope.tier == Tier::Critical {
            self.here.holds(held.envelope.id);
        }
        if let Some(before) = self.kept(&held.envelope) {
            // Received again, because it could not be kept hidden: only the latest receipt settles it.
            before.receipt = held.receipt;
        } else if !self.parks(&held) {
            self.insert(held);
        }
    }
}
