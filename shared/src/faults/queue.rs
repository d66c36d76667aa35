//! A queue whose calls fail as told: nothing of it is the fault's own doing, the queue inside stays as it is.

use std::time::Duration;

use async_trait::async_trait;

use crate::error::BackendError;
use crate::faults::Faulty;
use crate::queue::{Body, Delivery, Depth, Message, Queue, QueueRef, Receipt, Remains, SendError, Settle};

#[async_trait]
impl<Q: Queue> Queue for Faulty<Q> {
    async fn send(&self, to: &QueueRef, messages: &[Message]) -> Result<Vec<Result<(), SendError>>, BackendError> {
        let send = |in_part: bool| async move {
            if !in_part {
                return self.inner.send(to, messages).await;
            }
            let taken: Vec<Message> = messages.iter().step_by(2).cloned().collect();
            let mut outcomes = self.inner.send(to, &taken).await?.into_iter();
            let refused = || Err(SendError::Failed("injected".into()));
            Ok((0..messages.len())
                .map(|n| if n % 2 == 0 { outcomes.next() } else { None }.unwrap_or_else(refused))
                .collect())
        };
        self.call_in_part("send", send).await
    }

    /// A receive whose answer is lost leaves its messages hidden until their visibility ends.
    async fn receive(&self, from: &QueueRef, max: usize, wait: Duration) -> Result<Vec<Delivery>, BackendError> {
        self.call("receive", self.inner.receive(from, max, wait)).await
    }

    fn end_waits(&self, from: &QueueRef) {
        self.inner.end_waits(from);
    }

    async fn settle(&self, from: &QueueRef, receipts: &[(Receipt, Settle)]) -> Result<(), BackendError> {
        self.call("settle", self.inner.settle(from, receipts)).await
    }

    async fn replace(&self, from: &QueueRef, receipt: &Receipt, remainder: Body) -> Result<Remains, BackendError> {
        self.call("replace", self.inner.replace(from, receipt, remainder)).await
    }

    async fn depth(&self, of: &QueueRef) -> Result<Depth, BackendError> {
        self.call("depth", self.inner.depth(of)).await
    }

    fn closed(&self) -> Option<String> {
        self.inner.closed()
    }

    fn counts_lag(&self) -> Duration {
        self.inner.counts_lag()
    }
}
