//! The publishes of one connection that wait for the gate: many at once, answered in the order in which they came.
//! What an answer looks like on the wire is decided in `publishes`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesOrdered, StreamExt};

use super::inbound::Fingerprint;
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
    /// The publishes of QoS 2 among them, oldest first.
    of_two: VecDeque<(u16, Fingerprint)>,
    /// Publishes that found the gate busy and will be offered again.
    held: Arc<AtomicUsize>,
}

/// How a publish is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// QoS 0.
    Nothing,
    /// QoS 1.
    Puback(u16),
    /// QoS 2.
    Pubrec(u16, Fingerprint),
}

pub(super) enum Settled {
    /// A publish with the gate's answer.
    Judged { reply: Reply, message: Message, answer: Result<Taken, Refused> },
    /// A publish of QoS 2 that was taken before: answered again, in its turn.
    Again { packet_id: u16 },
}

impl Window {
    pub(super) fn new(gate: Arc<dyn Gate>, limits: Limits) -> Window {
        Window { gate, limits, pending: FuturesOrdered::new(), bytes: 0, of_two: VecDeque::new(), held: Arc::default() }
    }

    /// Whether another publish may be let in.
    pub(super) fn has_room(&self) -> bool {
        let len = self.pending.len();
        len < usize::from(self.limits.window)
            && (len == 0 || self.bytes < self.limits.window_bytes)
            && self.held.load(Ordering::Relaxed) == 0
    }

    pub(super) fn push(&mut self, publish: Publish, reply: Reply, message: Message) {
        self.bytes += message.payload.len();
        if let Reply::Pubrec(packet_id, fingerprint) = reply {
            self.of_two.push_back((packet_id, fingerprint));
        }
        let (gate, held, patience) = (self.gate.clone(), self.held.clone(), self.limits.busy_patience);
        let settle = async move {
            let answer = offer(&*gate, publish, patience, &held).await;
            Settled::Judged { reply, message, answer }
        };
        self.pending.push_back(settle.boxed());
    }

    /// Puts the second answer to a publish behind the answers that are due before it.
    pub(super) fn push_again(&mut self, packet_id: u16) {
        self.pending.push_back(std::future::ready(Settled::Again { packet_id }).boxed());
    }

    /// Whether this publish of QoS 2 is with the gate.
    pub(super) fn holds(&self, packet_id: u16, fingerprint: Fingerprint) -> bool {
        self.of_two.contains(&(packet_id, fingerprint))
    }

    /// Publishes of QoS 2 that are with the gate.
    pub(super) fn of_two(&self) -> usize {
        self.of_two.len()
    }

    /// The oldest publish, once it is settled; waits for ever while there is none.
    pub(super) async fn settled(&mut self) -> Settled {
        match self.pending.next().await {
            Some(settled) => self.let_out(settled),
            None => std::future::pending().await,
        }
    }

    /// The oldest publish if it is settled already.
    pub(super) fn settled_now(&mut self) -> Option<Settled> {
        let settled = self.pending.next().now_or_never().flatten()?;
        Some(self.let_out(settled))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    fn let_out(&mut self, settled: Settled) -> Settled {
        if let Settled::Judged { reply, message, .. } = &settled {
            self.bytes -= message.payload.len();
            if matches!(reply, Reply::Pubrec(..)) {
                self.of_two.pop_front();
            }
        }
        settled
    }
}

/// Offers a publish to the gate, again and again while it is busy, for as long as `patience` lasts; a gate that has not answered
/// by then counts as busy. `held` counts the publishes that wait to be offered again.
pub(super) async fn offer(
    gate: &dyn Gate,
    publish: Publish,
    patience: Duration,
    held: &AtomicUsize,
) -> Result<Taken, Refused> {
    let answered = async {
        let mut answer = gate.publish(publish.clone()).await;
        if answer != Err(Refused::Busy) {
            return answer;
        }
        let _held = Held::count(held);
        let publish = Publish { again: true, ..publish };
        let mut pause = FIRST_PAUSE;
        while answer == Err(Refused::Busy) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            answer = gate.publish(publish.clone()).await;
        }
        answer
    };
    tokio::time::timeout(patience, answered).await.unwrap_or(Err(Refused::Busy))
}

/// Counts until it is dropped.
struct Held<'c>(&'c AtomicUsize);

impl Held<'_> {
    fn count(count: &AtomicUsize) -> Held<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        Held(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
