//! The queue seam: SQS's semantics (at least once, visibility, receive counts, delay) as a small trait over messages.
//! Envelopes, ticks and alerts to be tried again all travel through it; what a body means is the caller's business.

#[cfg(feature = "testing")]
pub mod conformance;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::BackendError;
use crate::time::Timestamp;

/// A queue as its backend addresses it: an SQS URL, or `local:NAME`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueRef(Arc<str>);

impl QueueRef {
    /// A queue as its backend addresses it.
    pub fn new(text: &str) -> QueueRef {
        QueueRef(text.into())
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for QueueRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A message's body. SQS carries text; binary goes as base64 there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// UTF-8, as events and ticks are.
    Text(String),
    /// Any bytes, as envelopes are.
    Binary(Bytes),
}

impl Body {
    /// Bytes of the body.
    pub fn len(&self) -> usize {
        match self {
            Body::Text(text) => text.len(),
            Body::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether the body has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What is carried; its size has a bound, beyond which the send is refused.
    pub body: Body,
    /// Not received before this has passed; 15 minutes at most, as SQS has it.
    pub delay: Duration,
}

impl Message {
    /// A message that is visible at once.
    pub fn now(body: Body) -> Message {
        Message { body, delay: Duration::ZERO }
    }
}

/// Names one receive of one message; stale once the message was received again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt(pub String);

/// What was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The queue's own name for the message, the same at every receive.
    pub id: String,
    /// The body exactly as it was sent.
    pub body: Body,
    /// With it this receive is settled.
    pub receipt: Receipt,
    /// How often it was received, this time included.
    pub receives: u32,
    /// When the queue took it, by the queue's clock.
    pub sent_at: Timestamp,
}

/// What becomes of a received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// Done: never seen again.
    Forget,
    /// Still at work: hidden for this long from now [Q5].
    Extend(Duration),
    /// Visible again at once.
    Release,
}

/// Where what remains of a message is, after the rest of it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remains {
    /// In the message's place, with its order and its age: the same receipt settles it.
    InPlace,
    /// In the queue, for whoever receives next: as a new message, or because the receipt was stale, in the old one.
    Queued,
}

/// Approximate, as SQS's counts are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that a receive would give.
    pub visible: u64,
    /// Messages that were received and are neither forgotten nor visible again.
    pub in_flight: u64,
    /// Messages whose delay has not passed yet.
    pub delayed: u64,
}

impl Depth {
    /// Everything that the queue holds.
    pub fn total(self) -> u64 {
        self.visible + self.in_flight + self.delayed
    }
}

/// Why one message was not taken; the others of its batch may have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It has this many bytes and can never be taken.
    #[error("the message has {0} bytes, more than a queue takes")]
    TooLarge(usize),
    /// At capacity [Q2]: the caller waits, or pushes back.
    #[error("the queue is full")]
    Full,
    /// The backend could not take this one: it may take it later. The text is for people.
    #[error("{0}")]
    Failed(String),
}

/// Sends one message; durable when it returns. A full queue is `Retry`.
pub async fn send_one(queue: &dyn Queue, to: &QueueRef, message: Message) -> Result<(), BackendError> {
    match queue.send(to, &[message]).await?.pop() {
        Some(Ok(())) => Ok(()),
        Some(Err(e)) => Err(BackendError::Retry(format!("{to}: {e}"))),
        None => Err(BackendError::Fatal(format!("{to}: the queue gave no outcome"))),
    }
}

/// A durable queue with the semantics of SQS.
#[async_trait]
pub trait Queue: Send + Sync {
    /// One outcome a message, in order. An `Ok` is durable: it survives `kill -9` [Q1].
    async fn send(&self, to: &QueueRef, messages: &[Message]) -> Result<Vec<Result<(), SendError>>, BackendError>;

    /// Up to `max` (10 at most) visible messages, hidden for the queue's visibility timeout. Waits up to `wait` for the
    /// first; an empty answer means none came.
    async fn receive(&self, from: &QueueRef, max: usize, wait: Duration) -> Result<Vec<Delivery>, BackendError>;

    /// Receives that still wait for a first message end now, with none; a backend that cannot do that lets them wait.
    fn end_waits(&self, _from: &QueueRef) {}

    /// A stale receipt changes nothing, and the call succeeds.
    async fn settle(&self, from: &QueueRef, receipts: &[(Receipt, Settle)]) -> Result<(), BackendError>;

    /// Replaces a received message by what remains of it, durable when it returns: never is neither of them in the queue [Q1].
    async fn replace(&self, from: &QueueRef, receipt: &Receipt, remainder: Body) -> Result<Remains, BackendError>;

    /// How many messages the queue holds; late by up to `counts_lag`.
    async fn depth(&self, of: &QueueRef) -> Result<Depth, BackendError>;

    /// Why it takes nothing new for now, as far as it knows that without being asked to: in words, with what to do.
    fn closed(&self) -> Option<String> {
        None
    }

    /// How late `depth` may be.
    fn counts_lag(&self) -> Duration {
        Duration::ZERO
    }
}
