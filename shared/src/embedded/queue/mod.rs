//! The queue on this host. Messages are durable rows; who holds which message is memory only, so that everything unforgotten
//! is visible again after a crash. Up to which number messages may have been received is on disk, one write for many: after
//! a crash these count as received at least once, so that a repeat is always known as one [K6]. How often is approximate,
//! as in SQS: a few that were not received count too, and a receive that ended in the crash counts once in all.

mod index;
#[cfg(all(test, feature = "testing"))]
#[allow(clippy::unwrap_used)]
mod model;
mod ops;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use crate::embedded::{BODIES, Embedded, Failed, Moment, Op, Place, QUEUED, QueueOptions, Queued, Shared, sealed};
use crate::error::BackendError;
use crate::limits;
use crate::queue::{Body, Delivery, Depth, Message, Queue, QueueRef, Receipt, Remains, SendError, Settle};
use crate::time::Timestamp;
pub(super) use index::later;
use index::{Index, Taken};
pub(super) use ops::{open as sealed_body, seal};

/// SQS's longest delay.
const DELAY_MAX: Duration = Duration::from_secs(15 * 60);

/// The queues of one data folder, from their first use.
pub(crate) struct Queues {
    options: BTreeMap<QueueRef, QueueOptions>,
    /// Which opening of the folder this is; part of every receipt.
    opening: u64,
    /// By queue, as the disk had it at this opening.
    received: BTreeMap<String, u64>,
    used: Mutex<BTreeMap<QueueRef, Arc<OneQueue>>>,
}

struct OneQueue {
    name: QueueRef,
    options: QueueOptions,
    /// As of this opening: messages up to this number may have been received before.
    received: u64,
    index: Mutex<Index>,
    /// Something may be visible, or becomes so at another time than was known.
    changed: Notify,
    /// Who waits for a first message is to wait no longer.
    waits_ended: Notify,
}

impl Queues {
    pub(crate) fn new(
        options: BTreeMap<QueueRef, QueueOptions>,
        opening: u64,
        received: BTreeMap<String, u64>,
    ) -> Queues {
        Queues { options, opening, received, used: Mutex::default() }
    }

    /// Makes memory agree with the rows on disk: at the start, and after a commit whose outcome is not known.
    pub(crate) fn reconcile(&self, rows: &[(String, u64, Queued)], shared: &Shared) {
        let (wall, now) = (shared.clock().now(), shared.steady());
        let mut on_disk: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for (name, number, (sent_at, visible_at, receives, _)) in rows {
            on_disk.entry(name).or_default().insert(*number);
            let queue = self.get(&QueueRef::new(name));
            let mut index = queue.index();
            if !index.knows(*number) {
                let receives = (*receives).max(queue.possible_receives(*number));
                // Written by a clock that may have been set since, or damaged: a delay is never longer than it was, or may be.
                let left = from_moment(*visible_at).duration_since(wall);
                let delay = from_moment(*visible_at).duration_since(from_moment(*sent_at));
                let left = Duration::try_from(left.min(delay)).unwrap_or_default().min(DELAY_MAX);
                index.add(*number, later(now, left), receives, now);
            }
        }
        let used: Vec<_> = self.used().values().cloned().collect();
        for queue in &used {
            queue.index().keep(&on_disk.remove(queue.name.as_str()).unwrap_or_default());
            queue.changed.notify_waiters();
        }
    }

    /// Of all queues of the folder, also those that nobody has asked for since it was opened.
    fn depths(&self) -> Vec<(QueueRef, Depth)> {
        self.used().iter().map(|(name, queue)| (name.clone(), queue.index().depth())).collect()
    }

    /// Messages of a queue that somebody holds.
    pub(super) fn in_flight(&self, name: &str) -> u64 {
        self.get(&QueueRef::new(name)).index().depth().in_flight
    }

    fn get(&self, name: &QueueRef) -> Arc<OneQueue> {
        let mut used = self.used();
        if let Some(queue) = used.get(name) {
            return queue.clone();
        }
        let options = self.options.get(name).cloned().unwrap_or_default();
        let received = self.received.get(name.as_str()).copied().unwrap_or(0);
        let index = Mutex::new(Index::new(received));
        let (changed, waits_ended) = (Notify::new(), Notify::new());
        let queue = Arc::new(OneQueue { name: name.clone(), options, received, index, changed, waits_ended });
        used.insert(name.clone(), queue.clone());
        queue
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<QueueRef, Arc<OneQueue>>> {
        self.used.lock()
    }

    fn receipt(&self, taken: &Taken) -> Receipt {
        Receipt(format!("{}.{}.{}", self.opening, taken.number, taken.take))
    }

    /// Number and take; `None` for a receipt of an earlier opening, or of no queue at all.
    fn read_receipt(&self, receipt: &Receipt) -> Option<(u64, u64)> {
        let mut parts = receipt.0.split('.').map(|part| part.parse::<u64>().ok());
        let (opening, number, take) = (parts.next()??, parts.next()??, parts.next()??);
        (opening == self.opening).then_some((number, take))
    }
}

impl OneQueue {
    /// Of a message found on disk, whose row counts only the receives that it came back from. A possible receive alone never
    /// makes a dead letter of it.
    fn possible_receives(&self, number: u64) -> u32 {
        let most = self.options.dead_letters.as_ref().map_or(u32::MAX, |(_, limit)| limit.saturating_sub(1));
        u32::from(number <= self.received).min(most)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock()
    }
}

#[async_trait]
impl Queue for Embedded {
    async fn send(&self, to: &QueueRef, messages: &[Message]) -> Result<Vec<Result<(), SendError>>, BackendError> {
        self.room()?;
        let queue = self.shared().queues().get(to);
        let (sent_at, now) = (self.shared().clock().now(), self.shared().steady());
        let mut outcomes: Vec<Result<(), SendError>> = messages.iter().map(check).collect();
        let wanted = outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
        let granted = queue.index().reserve(wanted, queue.options.capacity);

        let mut rows = Vec::new();
        for (message, outcome) in messages.iter().zip(&mut outcomes).filter(|(_, outcome)| outcome.is_ok()) {
            if rows.len() as u64 == granted {
                *outcome = Err(SendError::Full);
                continue;
            }
            let delay = if message.delay.is_zero() { queue.options.delay } else { message.delay };
            rows.push((message.body.clone(), delay));
        }
        if !rows.is_empty() {
            self.done(|reply| Box::new(ops::Send::new(queue, sent_at, now, rows, reply))).await?;
        }
        Ok(outcomes)
    }

    async fn receive(&self, from: &QueueRef, max: usize, wait: Duration) -> Result<Vec<Delivery>, BackendError> {
        let queue = self.shared().queues().get(from);
        let max = max.min(limits::QUEUE_BATCH);
        let mut waited = pin!(tokio::time::sleep(wait));
        let mut ended = pin!(queue.waits_ended.notified());
        ended.as_mut().enable();
        loop {
            // Listening begins before looking, or a send in between would be missed.
            let mut changed = pin!(queue.changed.notified());
            changed.as_mut().enable();
            let found = self.take(&queue, max).await?;
            if !found.is_empty() || max == 0 || wait.is_zero() {
                return Ok(found);
            }
            let next_end = queue.index().next_end();
            tokio::select! {
                biased;
                () = changed => {}
                () = self.until(next_end) => {}
                () = &mut waited => return self.take(&queue, max).await,
                () = &mut ended => return Ok(Vec::new()),
            }
        }
    }

    fn end_waits(&self, from: &QueueRef) {
        self.shared().queues().get(from).waits_ended.notify_waiters();
    }

    async fn settle(&self, from: &QueueRef, receipts: &[(Receipt, Settle)]) -> Result<(), BackendError> {
        let queue = self.shared().queues().get(from);
        let now = self.shared().steady();
        let (mut leaving, mut returned) = (Vec::new(), Vec::new());
        {
            let mut index = queue.index();
            returned.extend(index.advance(now));
            for (receipt, settle) in receipts {
                let Some((number, take)) = self.shared().queues().read_receipt(receipt) else { continue };
                match *settle {
                    Settle::Forget if index.leave(number, take) => leaving.push(number),
                    Settle::Forget => {}
                    Settle::Extend(hidden) => _ = index.extend(number, take, later(now, hidden)),
                    Settle::Release => returned.extend(index.release(number, take)),
                }
            }
        }
        queue.changed.notify_waiters();
        self.count(&queue, returned);
        if leaving.is_empty() {
            Ok(())
        } else {
            self.done(|reply| Box::new(ops::Delete::new(queue, leaving, Some(reply)))).await
        }
    }

    async fn replace(&self, from: &QueueRef, receipt: &Receipt, remainder: Body) -> Result<Remains, BackendError> {
        let queue = self.shared().queues().get(from);
        let Some((number, take)) = self.shared().queues().read_receipt(receipt) else { return Ok(Remains::Queued) };
        let (returned, is_held) = {
            let mut index = queue.index();
            (index.advance(self.shared().steady()), index.holds(number, take))
        };
        self.count(&queue, returned);
        if !is_held {
            return Ok(Remains::Queued);
        }
        self.done(|reply| Box::new(ops::Replace::new(queue, number, remainder, reply))).await?;
        Ok(Remains::InPlace)
    }

    fn closed(&self) -> Option<String> {
        self.room().err().map(|problem| problem.to_string())
    }

    async fn depth(&self, of: &QueueRef) -> Result<Depth, BackendError> {
        let queue = self.shared().queues().get(of);
        let (returned, depth) = {
            let mut index = queue.index();
            (index.advance(self.shared().steady()), index.depth())
        };
        self.count(&queue, returned);
        Ok(depth)
    }
}

impl Embedded {
    /// What each queue holds that has anything, whoever made it.
    pub fn depths(&self) -> Vec<(QueueRef, Depth)> {
        let mut depths = self.shared().queues().depths();
        depths.retain(|(_, depth)| depth.total() > 0);
        depths
    }

    /// Shows the body of every message of a queue, in work or not, without receiving it.
    pub fn each_body(&self, of: &QueueRef, mut visit: impl FnMut(&[u8])) -> Result<(), BackendError> {
        let seen = self.shared().database().read(|tx| {
            for row in tx.open_table(BODIES)?.range((of.as_str(), 0)..=(of.as_str(), u64::MAX))? {
                visit(sealed::unchecked(row?.1.value()));
            }
            Ok(())
        });
        Ok(seen?)
    }

    /// The body of the message that was sent last of those that a queue holds.
    pub fn newest_body(&self, of: &QueueRef) -> Result<Option<Bytes>, BackendError> {
        let newest = self.shared().database().read(|tx| {
            let bodies = tx.open_table(BODIES)?;
            let last = bodies.range((of.as_str(), 0)..=(of.as_str(), u64::MAX))?.next_back().transpose()?;
            Ok(last.map(|(_, body)| Bytes::copy_from_slice(sealed::unchecked(body.value()))))
        });
        Ok(newest?)
    }

    /// Takes up to `max` messages with their bodies, none of a disk that cannot be told to forget them. Whatever left the queue
    /// meanwhile (too old, too often received) is passed over.
    async fn take(&self, queue: &Arc<OneQueue>, max: usize) -> Result<Vec<Delivery>, BackendError> {
        loop {
            self.trust().check()?;
            let now = self.shared().steady();
            let until = later(now, queue.options.visibility);
            let dead_after = queue.options.dead_letters.as_ref().map(|(_, receives)| *receives);
            let (returned, taken) = {
                let mut index = queue.index();
                let returned = index.advance(now);
                let taken = match index.mark_needed(max, dead_after) {
                    Some(mark) => Err(mark),
                    None => Ok(index.take(max, until, dead_after)),
                };
                (returned, taken)
            };
            self.count(queue, returned);
            let (taken, dead) = match taken {
                Ok(taken) => taken,
                // Nothing is taken yet, so a receive that is given up here holds nothing.
                Err(mark) => {
                    self.done(|reply| Box::new(ops::Mark::new(queue.clone(), mark, reply))).await?;
                    continue;
                }
            };
            if let Some((target, _)) = queue.options.dead_letters.as_ref().filter(|_| !dead.is_empty()) {
                let target = self.shared().queues().get(target);
                self.submit(Box::new(ops::Move::new(queue.clone(), target, dead)));
            }
            if taken.is_empty() {
                return Ok(Vec::new());
            }
            // Others that wait must learn when these come back.
            queue.changed.notify_waiters();
            let found = self.read(queue, taken)?;
            let fresh = self.drop_old(queue, found);
            if !fresh.is_empty() {
                return Ok(fresh.into_iter().map(|(_, delivery)| delivery).collect());
            }
        }
    }

    /// The messages that were taken; a damaged one is set aside and never holds up the others.
    fn read(&self, queue: &OneQueue, taken: Vec<Taken>) -> Result<Vec<(Taken, Delivery)>, BackendError> {
        match self.rows(queue, &taken) {
            Ok(rows) => Ok(self.deliveries(queue, taken, rows)),
            // A page cannot be read: the messages on the others can.
            Err(Failed::Damaged(_)) => {
                let mut found = Vec::new();
                for one in taken {
                    match self.rows(queue, std::slice::from_ref(&one)) {
                        Ok(rows) => found.extend(self.deliveries(queue, vec![one], rows)),
                        // It stays where it is, and counted; it is tried again when its visibility ends.
                        Err(failed) => {
                            let (queue, number, problem) = (&queue.name, one.number, BackendError::from(failed));
                            tracing::error!(%queue, number, %problem, "a message cannot be read");
                        }
                    }
                }
                Ok(found)
            }
            Err(failed) => {
                let mut index = queue.index();
                taken.iter().for_each(|taken| index.untake(taken));
                Err(failed.into())
            }
        }
    }

    /// A row each, in order; `None` where it is missing or damaged.
    fn rows(&self, queue: &OneQueue, taken: &[Taken]) -> Result<Vec<Option<(Moment, Body)>>, Failed> {
        self.shared().database().read(|tx| {
            let (queued, bodies) = (tx.open_table(QUEUED)?, tx.open_table(BODIES)?);
            let mut rows = Vec::with_capacity(taken.len());
            for taken in taken {
                let key = (queue.name.as_str(), taken.number);
                let row = queued.get(key)?.map(|row| row.value());
                let body = bodies.get(key)?;
                rows.push(row.zip(body).and_then(|((sent_at, _, _, binary), body)| {
                    let bytes = Bytes::copy_from_slice(ops::open(key, sent_at, binary, body.value())?);
                    let body =
                        if binary { Body::Binary(bytes) } else { Body::Text(String::from_utf8(bytes.into()).ok()?) };
                    Some((sent_at, body))
                }));
            }
            Ok(rows)
        })
    }

    fn deliveries(
        &self,
        queue: &OneQueue,
        taken: Vec<Taken>,
        rows: Vec<Option<(Moment, Body)>>,
    ) -> Vec<(Taken, Delivery)> {
        let mut found = Vec::with_capacity(taken.len());
        for (taken, row) in taken.into_iter().zip(rows) {
            let Some((sent_at, body)) = row else {
                queue.index().drop_taken(&taken);
                self.set_aside(Place::Message { queue: queue.name.to_string(), number: taken.number });
                continue;
            };
            let delivery = Delivery {
                id: taken.number.to_string(),
                body,
                receipt: self.shared().queues().receipt(&taken),
                receives: taken.receives,
                sent_at: from_moment(sent_at),
            };
            found.push((taken, delivery));
        }
        found
    }

    /// Lets what is older than the queue keeps leave, and gives the rest.
    fn drop_old(&self, queue: &Arc<OneQueue>, found: Vec<(Taken, Delivery)>) -> Vec<(Taken, Delivery)> {
        let Some(retention) = queue.options.retention else { return found };
        let now = self.shared().clock().now();
        let (old, fresh): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(_, delivery)| later(delivery.sent_at, retention) <= now);
        if !old.is_empty() {
            let numbers: Vec<u64> = old.iter().map(|(taken, _)| taken.number).collect();
            tracing::warn!(queue = %queue.name, messages = numbers.len(), "dropped messages past their retention");
            let mut index = queue.index();
            old.iter().for_each(|(taken, _)| _ = index.leave(taken.number, taken.take));
            drop(index);
            self.submit(Box::new(ops::Delete::new(queue.clone(), numbers, None)));
        }
        fresh
    }

    /// Has receive counts written, without waiting for it.
    fn count(&self, queue: &OneQueue, returned: Vec<(u64, u32)>) {
        if !returned.is_empty() {
            self.submit(Box::new(ops::Count::new(queue.name.clone(), returned)));
        }
    }

    async fn until(&self, end: Option<Timestamp>) {
        match end {
            None => std::future::pending().await,
            Some(end) => {
                let left = end.duration_since(self.shared().steady());
                tokio::time::sleep(Duration::try_from(left).unwrap_or(Duration::ZERO)).await;
            }
        }
    }

    /// Submits an operation and waits for its commit.
    pub(crate) async fn done<T>(
        &self,
        op: impl FnOnce(oneshot::Sender<Result<T, BackendError>>) -> Box<dyn Op>,
    ) -> Result<T, BackendError> {
        let (reply, answer) = oneshot::channel();
        self.submit(op(reply));
        answer.await.unwrap_or_else(|_| Err(BackendError::Fatal("the writer's thread has died".into())))
    }
}

fn check(message: &Message) -> Result<(), SendError> {
    match message.body.len() {
        0 => Err(SendError::Failed("a message needs a body".into())),
        bytes if bytes > limits::MESSAGE_BYTES => Err(SendError::TooLarge(bytes)),
        _ if message.delay > DELAY_MAX => Err(SendError::Failed("a delay is 15 minutes at most".into())),
        _ => Ok(()),
    }
}

fn from_moment(moment: Moment) -> Timestamp {
    Timestamp::from_millisecond(moment).unwrap_or(Timestamp::MAX)
}
