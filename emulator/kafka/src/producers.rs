//! Idempotent producers of one partition: which sequence comes next, which batch was written before.
//! Rebuilt from the batches' heads when a log is opened; nothing of it is stored elsewhere.

use std::collections::{HashMap, VecDeque};

use kafka_protocol::ResponseError;

use super::batch::Head;
use super::limits::{MAX_PRODUCERS, REMEMBERED_BATCHES};

#[derive(Default)]
pub(super) struct Producers(HashMap<i64, Producer>);

struct Producer {
    epoch: i16,
    recent: VecDeque<Sent>,
}

struct Sent {
    first: i32,
    last: i32,
    base: i64,
    next: i64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    New,
    /// Written before, from `base` up to `next`.
    Duplicate {
        base: i64,
        next: i64,
    },
}

impl Producers {
    pub(super) fn check(&self, head: &Head) -> Result<Verdict, ResponseError> {
        let Some(known) = self.0.get(&head.producer) else {
            // A producer whose batches have all been deleted is unknown as well: Kafka accepts any sequence from it.
            return Ok(Verdict::New);
        };
        if head.epoch < known.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        if head.epoch > known.epoch {
            return if head.sequence == 0 { Ok(Verdict::New) } else { Err(ResponseError::OutOfOrderSequenceNumber) };
        }
        let last = last_sequence(head);
        if let Some(sent) = known.recent.iter().find(|sent| sent.first == head.sequence && sent.last == last) {
            return Ok(Verdict::Duplicate { base: sent.base, next: sent.next });
        }
        match known.recent.back() {
            Some(sent) if head.sequence != following(sent.last, 1) => Err(ResponseError::OutOfOrderSequenceNumber),
            _ => Ok(Verdict::New),
        }
    }

    pub(super) fn note(&mut self, head: &Head) {
        if head.producer < 0 {
            return;
        }
        if self.0.len() >= MAX_PRODUCERS && !self.0.contains_key(&head.producer) {
            self.forget_oldest();
        }
        let known = self
            .0
            .entry(head.producer)
            .or_insert_with(|| Producer { epoch: head.epoch, recent: VecDeque::with_capacity(REMEMBERED_BATCHES) });
        if known.epoch != head.epoch {
            known.epoch = head.epoch;
            known.recent.clear();
        }
        if known.recent.len() == REMEMBERED_BATCHES {
            known.recent.pop_front();
        }
        let (first, last) = (head.sequence, last_sequence(head));
        known.recent.push_back(Sent { first, last, base: head.base, next: head.next() });
    }

    /// A tenth at once, so that a stream of new producers does not search the whole map each time.
    fn forget_oldest(&mut self) {
        let mut written: Vec<i64> = self.0.values().filter_map(|p| p.recent.back()).map(|sent| sent.base).collect();
        written.sort_unstable();
        if let Some(&limit) = written.get(written.len() / 10) {
            self.0.retain(|_, producer| producer.recent.back().is_some_and(|sent| sent.base > limit));
        }
    }
}

fn last_sequence(head: &Head) -> i32 {
    following(head.sequence, head.last_delta)
}

/// Sequences run from 0 to `i32::MAX` and begin again.
fn following(sequence: i32, by: i32) -> i32 {
    sequence.checked_add(by).unwrap_or_else(|| by - (i32::MAX - sequence) - 1)
}
