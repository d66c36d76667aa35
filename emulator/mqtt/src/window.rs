//! The publishes of one connection that wait for the gate: many at once, answered in the order in which they came.
//! What an answer looks like on the wire is decided in `connection`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesOrdered, StreamExt};
use tokio::time::Instant;

use super::limits::Limits;
use super::message::Message;
use super::{Gate, Publish, Refused, Taken};

/// First pause before a busy gate is asked again; it doubles up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Window {
    gate: Arc<dyn Gate>,
    limits: Limits,
    pending: FuturesOrdered<BoxFuture<'static, Settled>>,
    bytes: usize,
    /// Publishes that found the gate busy and will be offered again.
    held: Arc<AtomicUsize>,
}

/// A publish with the gate's answer.
pub(super) struct Settled {
    pub(super) packet_id: Option<u16>,
    pub(super) message: Message,
    pub(super) answer: Result<Taken, Refused>,
}

impl Window {
    pub(super) fn new(gate: Arc<dyn Gate>, limits: Limits) -> Window {
        Window { gate, limits, pending: FuturesOrdered::new(), bytes: 0, held: Arc::default() }
    }

    /// Whether another publish may be let in.
    pub(super) fn has_room(&self) -> bool {
        let len = self.pending.len();
        len < usize::from(self.limits.window)
            && (len == 0 || self.bytes < self.limits.window_bytes)
            && self.held.load(Ordering::Relaxed) == 0
    }

    pub(super) fn push(&mut self, publish: Publish, packet_id: Option<u16>, message: Message) {
        self.bytes += message.payload.len();
        let (gate, held, patience) = (self.gate.clone(), self.held.clone(), self.limits.busy_patience);
        let settle = async move {
            let answer = offer(&*gate, publish, patience, &held).await;
            Settled { packet_id, message, answer }
        };
        self.pending.push_back(settle.boxed());
    }

    /// The oldest publish, once it is settled; waits for ever while there is none.
    pub(super) async fn settled(&mut self) -> Settled {
        match self.pending.next().await {
            Some(settled) => self.release(settled),
            None => std::future::pending().await,
        }
    }

    /// The oldest publish if it is settled already.
    pub(super) fn settled_now(&mut self) -> Option<Settled> {
        let settled = self.pending.next().now_or_never().flatten()?;
        Some(self.release(settled))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    fn release(&mut self, settled: Settled) -> Settled {
        self.bytes -= settled.message.payload.len();
        settled
    }
}

/// Offers a publish to the gate, again and again while it is busy, for as long as `patience` lasts.
/// `held` counts those that wait for a busy gate.
pub(super) async fn offer(
    gate: &dyn Gate,
    publish: Publish,
    patience: Duration,
    held: &AtomicUsize,
) -> Result<Taken, Refused> {
    let mut answer = gate.publish(publish.clone()).await;
    if answer != Err(Refused::Busy) {
        return answer;
    }
    held.fetch_add(1, Ordering::Relaxed);
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    while answer == Err(Refused::Busy) && started.elapsed() < patience {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        answer = gate.publish(publish.clone()).await;
    }
    held.fetch_sub(1, Ordering::Relaxed);
    answer
}
