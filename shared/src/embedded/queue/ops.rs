//! The queue's changes as operations of the writer: what each does to the rows, and to memory once that is committed.

use std::sync::Arc;
use std::time::Duration;

use redb::{ReadableTable, WriteTransaction};
use tokio::sync::oneshot;

use super::{Body, OneQueue, QueueRef, from_moment, later};
use crate::embedded::{BODIES, Moment, Op, QUEUED, RECEIVED, next_number, sealed};
use crate::error::BackendError;
use crate::time::Timestamp;

type Reply = oneshot::Sender<Result<(), BackendError>>;

/// The counter that numbers messages.
const NUMBER: &str = "message";

/// Adds messages whose places were reserved.
pub(super) struct Send {
    queue: Arc<OneQueue>,
    sent_at: Timestamp,
    /// The same moment by the queue's own time.
    now: Timestamp,
    /// Body and how long it is delayed.
    rows: Vec<(Body, Duration)>,
    first: u64,
    reply: Reply,
}

impl Send {
    pub(super) fn new(
        queue: Arc<OneQueue>,
        sent_at: Timestamp,
        now: Timestamp,
        rows: Vec<(Body, Duration)>,
        reply: Reply,
    ) -> Send {
        Send { queue, sent_at, now, rows, first: 0, reply }
    }
}

impl Op for Send {
    fn bytes(&self) -> usize {
        self.rows.iter().map(|(body, _)| body.len()).sum()
    }

    fn takes_in(&self) -> bool {
        true
    }

    fn apply(&mut self, tx: &WriteTransaction) -> Result<bool, redb::Error> {
        self.first = next_number(tx, NUMBER, self.rows.len() as u64)?;
        let (mut queued, mut bodies) = (tx.open_table(QUEUED)?, tx.open_table(BODIES)?);
        for (number, (body, delay)) in (self.first..).zip(&self.rows) {
            let visible_at = later(self.sent_at, *delay);
            let key = (self.queue.name.as_str(), number);
            let (bytes, binary) = bytes_of(body);
            let sent_at = self.sent_at.as_millisecond();
            queued.insert(key, (sent_at, moment_after(visible_at), 0, binary))?;
            bodies.insert(key, &seal(key, sent_at, binary, bytes)[..])?;
        }
        Ok(true)
    }

    fn finish(self: Box<Self>, outcome: Result<(), BackendError>) {
        let mut index = self.queue.index();
        index.give_back(self.rows.len() as u64);
        if outcome.is_ok() {
            for (number, (_, delay)) in (self.first..).zip(&self.rows) {
                index.add(number, later(self.now, *delay), 0, self.now);
            }
        }
        drop(index);
        self.queue.changed.notify_waiters();
        // Whoever asked may have gone.
        let _ = self.reply.send(outcome);
    }
}

/// Forgets messages that were marked as leaving.
pub(super) struct Delete {
    queue: Arc<OneQueue>,
    numbers: Vec<u64>,
    reply: Option<Reply>,
}

impl Delete {
    pub(super) fn new(queue: Arc<OneQueue>, numbers: Vec<u64>, reply: Option<Reply>) -> Delete {
        Delete { queue, numbers, reply }
    }
}

impl Op for Delete {
    fn bytes(&self) -> usize {
        0
    }

    fn is_patient(&self) -> bool {
        true
    }

    fn apply(&mut self, tx: &WriteTransaction) -> Result<bool, redb::Error> {
        let (mut queued, mut bodies) = (tx.open_table(QUEUED)?, tx.open_table(BODIES)?);
        for &number in &self.numbers {
            queued.remove((self.queue.name.as_str(), number))?;
            bodies.remove((self.queue.name.as_str(), number))?;
        }
        Ok(true)
    }

    fn finish(self: Box<Self>, outcome: Result<(), BackendError>) {
        leave(&self.queue, &self.numbers, outcome.is_ok());
        if let Some(reply) = self.reply {
            let _ = reply.send(outcome);
        }
    }
}

/// Gives a message another body. One that has left meanwhile stays away.
pub(super) struct Replace {
    queue: Arc<OneQueue>,
    number: u64,
    body: Body,
    reply: Reply,
}

impl Replace {
    pub(super) fn new(queue: Arc<OneQueue>, number: u64, body: Body, reply: Reply) -> Replace {
        Replace { queue, number, body, reply }
    }
}

impl Op for Replace {
    fn bytes(&self) -> usize {
        self.body.len()
    }

    fn apply(&mut self, tx: &WriteTransaction) -> Result<bool, redb::Error> {
        let (mut queued, mut bodies) = (tx.open_table(QUEUED)?, tx.open_table(BODIES)?);
        let key = (self.queue.name.as_str(), self.number);
        let row = queued.get(key)?.map(|row| row.value());
        let Some((sent_at, visible_at, receives, _)) = row else { return Ok(false) };
        let (bytes, binary) = bytes_of(&self.body);
        queued.insert(key, (sent_at, visible_at, receives, binary))?;
        bodies.insert(key, &seal(key, sent_at, binary, bytes)[..])?;
        Ok(true)
    }

    fn finish(self: Box<Self>, outcome: Result<(), BackendError>) {
        let _ = self.reply.send(outcome);
    }
}

/// Moves messages that were marked as leaving to the dead-letter queue: in one queue or the other, never in both. It may
/// fill beyond its capacity, for nothing is ever dropped on the way.
pub(super) struct Move {
    from: Arc<OneQueue>,
    to: Arc<OneQueue>,
    numbers: Vec<u64>,
    /// Their numbers in the other queue.
    moved: Vec<u64>,
}

impl Move {
    pub(super) fn new(from: Arc<OneQueue>, to: Arc<OneQueue>, numbers: Vec<u64>) -> Move {
        Move { from, to, numbers, moved: Vec::new() }
    }
}

impl Op for Move {
    fn bytes(&self) -> usize {
        // Bodies are copied within the transaction.
        self.numbers.len() * 64 * 1024
    }

    fn apply(&mut self, tx: &WriteTransaction) -> Result<bool, redb::Error> {
        self.moved.clear();
        let first = next_number(tx, NUMBER, self.numbers.len() as u64)?;
        let (mut queued, mut bodies) = (tx.open_table(QUEUED)?, tx.open_table(BODIES)?);
        for (number, &old) in (first..).zip(&self.numbers) {
            let (from, to) = ((self.from.name.as_str(), old), (self.to.name.as_str(), number));
            let row = queued.remove(from)?.map(|row| row.value());
            let body = bodies.remove(from)?.map(|body| body.value().to_vec());
            if let (Some((sent_at, _, _, binary)), Some(body)) = (row, body) {
                queued.insert(to, (sent_at, sent_at, 0, binary))?;
                // A damaged one stays known as such.
                let body = match open(from, sent_at, binary, &body) {
                    Some(body) => seal(to, sent_at, binary, body),
                    None => body,
                };
                bodies.insert(to, &body[..])?;
                self.moved.push(number);
            }
        }
        Ok(true)
    }

    fn finish(self: Box<Self>, outcome: Result<(), BackendError>) {
        leave(&self.from, &self.numbers, outcome.is_ok());
        if outcome.is_ok() {
            let mut index = self.to.index();
            self.moved.iter().for_each(|&number| index.add_visible(number));
            drop(index);
            self.to.changed.notify_waiters();
        }
    }
}

/// Writes receive counts of messages that came back.
pub(super) struct Count {
    queue: QueueRef,
    receives: Vec<(u64, u32)>,
}

impl Count {
    pub(super) fn new(queue: QueueRef, receives: Vec<(u64, u32)>) -> Count {
        Count { queue, receives }
    }
}

impl Op for Count {
    fn bytes(&self) -> usize {
        0
    }

    fn apply(&mut self, tx: &WriteTransaction) -> Result<bool, redb::Error> {
        let mut queued = tx.open_table(QUEUED)?;
        for &(number, receives) in &self.receives {
            let key = (self.queue.as_str(), number);
            // It may have been received again and forgotten since.
            let row = queued.get(key)?.map(|row| row.value());
            if let Some((sent_at, visible_at, _, binary)) = row {
                queued.insert(key, (sent_at, visible_at, receives, binary))?;
            }
        }
        Ok(true)
    }

    fn finish(self: Box<Self>, _: Result<(), BackendError>) {}
}

/// Notes up to which number messages may have been received, before they are.
pub(super) struct Mark {
    queue: Arc<OneQueue>,
    number: u64,
    reply: Reply,
}

impl Mark {
    pub(super) fn new(queue: Arc<OneQueue>, number: u64, reply: Reply) -> Mark {
        Mark { queue, number, reply }
    }
}

impl Op for Mark {
    fn bytes(&self) -> usize {
        0
    }

    fn apply(&mut self, tx: &WriteTransaction) -> Result<bool, redb::Error> {
        let (mut received, queue) = (tx.open_table(RECEIVED)?, self.queue.name.as_str());
        let known = received.get(queue)?.map_or(0, |mark| mark.value());
        // Two receives may ask at once.
        if known < self.number {
            received.insert(queue, self.number)?;
        }
        Ok(known < self.number)
    }

    fn finish(self: Box<Self>, outcome: Result<(), BackendError>) {
        if outcome.is_ok() {
            self.queue.index().mark(self.number);
        }
        let _ = self.reply.send(outcome);
    }
}

/// A body's bytes, and whether they are binary.
fn bytes_of(body: &Body) -> (&[u8], bool) {
    match body {
        Body::Text(text) => (text.as_bytes(), false),
        Body::Binary(bytes) => (bytes, true),
    }
}

pub(in crate::embedded) fn seal(key: (&str, u64), sent_at: Moment, binary: bool, body: &[u8]) -> Vec<u8> {
    sealed::seal(&[key.0.as_bytes(), &key.1.to_le_bytes(), &sent_at.to_le_bytes(), &[u8::from(binary)]], body)
}

/// The body of a message; `None` when it or its row is not what was sent.
pub(in crate::embedded) fn open<'a>(
    key: (&str, u64),
    sent_at: Moment,
    binary: bool,
    body: &'a [u8],
) -> Option<&'a [u8]> {
    sealed::open(&[key.0.as_bytes(), &key.1.to_le_bytes(), &sent_at.to_le_bytes(), &[u8::from(binary)]], body)
}

fn leave(queue: &OneQueue, numbers: &[u64], gone: bool) {
    let mut index = queue.index();
    for &number in numbers {
        if gone { index.left(number) } else { index.stayed(number) }
    }
    drop(index);
    queue.changed.notify_waiters();
}

/// Rounded up: what is delayed is never early.
fn moment_after(at: Timestamp) -> Moment {
    let moment = at.as_millisecond();
    if from_moment(moment) < at { moment + 1 } else { moment }
}
