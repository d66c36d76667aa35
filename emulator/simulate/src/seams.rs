//! Queue, store and source as one process reaches them: each call takes its time, fails as the weather has it, and the judge
//! hears of what it says is durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use streammanager::embedded::Embedded;
use streammanager::error::BackendError;
use streammanager::faults::{Faults, Faulty};
use streammanager::queue::{Body, Delivery, Depth, Message, Queue, QueueRef, Receipt, Remains, SendError, Settle};
use streammanager::record::{Envelope, Tier};
use streammanager::settings::Queues;
use streammanager::store::{Expect, Item, Key, PutError, Store, Version};
use streammanager::time::Timestamp;
use tokio::time::sleep;

use crate::dice::Dice;
use crate::judge::Judge;
use crate::lies::Lie;

/// What surrounds one process's backends.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub judge: Judge,
    pub dice: Dice,
    pub lie: Option<Lie>,
    pub process: u64,
}

impl Surroundings {
    /// A call is under way for a moment, in which other things happen.
    async fn call(&self) {
        self.judge.step().await;
        if self.dice.once_in(4) {
            sleep(Duration::from_millis(self.dice.below(4))).await;
        }
    }

    fn lies(&self, lie: Lie, times: u64) -> bool {
        self.lie == Some(lie) && self.dice.once_in(times)
    }
}

pub(crate) struct WatchedQueue {
    around: Surroundings,
    inner: Faulty<Embedded>,
    tiers: BTreeMap<QueueRef, Tier>,
    /// The weather gives what was received a second time.
    repeats: Arc<Mutex<u32>>,
    given: Mutex<BTreeMap<QueueRef, Delivery>>,
}

impl WatchedQueue {
    pub(crate) fn new(
        around: Surroundings,
        inner: Embedded,
        faults: Faults,
        queues: &Queues,
        repeats: Arc<Mutex<u32>>,
    ) -> Arc<WatchedQueue> {
        let tiers = Tier::ALL.into_iter().map(|tier| (queues.tier(tier).clone(), tier)).collect();
        let inner = Faulty::new(inner, faults);
        Arc::new(WatchedQueue { around, inner, tiers, repeats, given: Mutex::default() })
    }

    fn accepted(&self, tier: Tier, message: &Message) {
        let Body::Binary(bytes) = &message.body else { return };
        let opened =
            Envelope::decode(bytes).and_then(|envelope| envelope.unpack().map(|records| (envelope.id, records)));
        let Ok((envelope, records)) = opened else {
            return self.around.judge.violated("the engine queued an envelope that nobody can read");
        };
        records.iter().for_each(|record| self.around.judge.queued((record.event, record.revision), envelope));
        // An alert's acceptance is what its sender is told: this may be a copy of what the broker has.
        if tier != Tier::Critical {
            records.iter().for_each(|record| self.around.judge.accepted((record.event, record.revision), tier));
        }
    }
}

#[async_trait]
impl Queue for WatchedQueue {
    async fn send(&self, to: &QueueRef, messages: &[Message]) -> Result<Vec<Result<(), SendError>>, BackendError> {
        self.around.call().await;
        let tier = self.tiers.get(to).copied();
        if tier.is_some() && self.around.lies(Lie::QueueAcknowledgesUnsent, 40) {
            tier.into_iter().for_each(|tier| messages.iter().for_each(|message| self.accepted(tier, message)));
            return Ok(vec![Ok(()); messages.len()]);
        }
        let damaged = tier.is_some() && self.around.lies(Lie::QueueDamagesBodies, 40);
        let sent = if damaged {
            let cut = |message: &Message| match &message.body {
                Body::Binary(bytes) => {
                    Message { body: Body::Binary(bytes.slice(..bytes.len() - 1)), ..message.clone() }
                }
                Body::Text(_) => message.clone(),
            };
            let damaged: Vec<Message> = messages.iter().map(cut).collect();
            self.inner.send(to, &damaged).await?
        } else {
            self.inner.send(to, messages).await?
        };
        if let Some(tier) = tier {
            let taken = messages.iter().zip(&sent).filter(|(_, outcome)| outcome.is_ok());
            taken.for_each(|(message, _)| self.accepted(tier, message));
        }
        Ok(sent)
    }

    async fn receive(&self, from: &QueueRef, max: usize, wait: Duration) -> Result<Vec<Delivery>, BackendError> {
        self.around.call().await;
        let mut given = self.inner.receive(from, max, wait).await?;
        let tier = self.tiers.contains_key(from);
        if tier && self.around.lies(Lie::QueueForgetsAtReceive, 1) {
            let forget: Vec<_> = given.iter().map(|one| (one.receipt.clone(), Settle::Forget)).collect();
            self.inner.settle(from, &forget).await?;
        }
        if tier && !given.is_empty() && self.around.lies(Lie::QueueHidesForEver, 20) {
            let hide: Vec<_> =
                given.drain(..).map(|one| (one.receipt, Settle::Extend(Duration::from_secs(12 * 3600)))).collect();
            self.inner.settle(from, &hide).await?;
        }
        let mut repeats = self.repeats.lock();
        if *repeats > 0 {
            // As SQS may: the same message again, and in another order.
            if let Some(before) = self.given.lock().get(from) {
                given.insert(0, before.clone());
                *repeats -= 1;
            }
            given.reverse();
        }
        if let Some(last) = given.last() {
            self.given.lock().insert(from.clone(), last.clone());
        }
        Ok(given)
    }

    fn end_waits(&self, from: &QueueRef) {
        self.inner.end_waits(from);
    }

    async fn settle(&self, from: &QueueRef, receipts: &[(Receipt, Settle)]) -> Result<(), BackendError> {
        self.around.call().await;
        if self.tiers.contains_key(from) && self.around.lies(Lie::QueueNeverForgets, 10) {
            let kept: Vec<_> = receipts.iter().filter(|(_, settle)| *settle != Settle::Forget).cloned().collect();
            return self.inner.settle(from, &kept).await;
        }
        if self.tiers.contains_key(from) && self.around.lies(Lie::QueueForgetsUnasked, 2) {
            let forget = |(receipt, _): &(Receipt, Settle)| (receipt.clone(), Settle::Forget);
            return self.inner.settle(from, &receipts.iter().map(forget).collect::<Vec<_>>()).await;
        }
        self.inner.settle(from, receipts).await
    }

    async fn replace(&self, from: &QueueRef, receipt: &Receipt, remainder: Body) -> Result<Remains, BackendError> {
        self.around.call().await;
        self.inner.replace(from, receipt, remainder).await
    }

    fn closed(&self) -> Option<String> {
        self.inner.closed()
    }

    async fn depth(&self, of: &QueueRef) -> Result<Depth, BackendError> {
        self.around.call().await;
        self.inner.depth(of).await
    }
}

pub(crate) struct WatchedStore {
    around: Surroundings,
    inner: Faulty<Embedded>,
}

impl WatchedStore {
    pub(crate) fn new(around: Surroundings, inner: Embedded, faults: Faults) -> Arc<WatchedStore> {
        Arc::new(WatchedStore { around, inner: Faulty::new(inner, faults) })
    }
}

fn is_duty(key: &Key) -> bool {
    key.partition == "leases" && key.sort == "deliver/duty"
}

#[async_trait]
impl Store for WatchedStore {
    async fn get(&self, key: &Key) -> Result<Option<Item>, BackendError> {
        self.around.call().await;
        self.inner.get(key).await
    }

    async fn list(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<Item>, BackendError> {
        self.around.call().await;
        self.inner.list(partition, prefix, after, max).await
    }

    async fn put_if(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        expires: Option<Timestamp>,
    ) -> Result<Version, PutError> {
        self.around.call().await;
        if self.around.lies(Lie::StoreForgetsWrites, 20) {
            return Ok(Version(self.around.dice.below(u64::MAX)));
        }
        let condition = if self.around.lie == Some(Lie::StoreIgnoresConditions) { Expect::Any } else { expect };
        let owner = value.clone();
        let written = self.inner.put_if(key, value, condition, expires).await?;
        if is_duty(key) {
            self.around.judge.on_duty(self.around.process, &owner);
        }
        Ok(written)
    }

    async fn delete_if(&self, key: &Key, expect: Expect) -> Result<(), PutError> {
        self.around.call().await;
        self.inner.delete_if(key, expect).await?;
        if is_duty(key) {
            self.around.judge.off_duty();
        }
        Ok(())
    }
}
