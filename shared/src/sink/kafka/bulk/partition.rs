//! What waits for one partition and what is in flight to it: one batch at a time, made of what waits when it goes out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError as Error;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::batch::{BATCH_BYTES, Bodies, Sequence};
use super::{MISSING, PAUSES, Problem};
use crate::error::Reason;

/// What is in flight when its time is over may still be answered for so long.
const GRACE: Duration = Duration::from_millis(500);

/// What the parts of one call share.
pub(super) struct Call {
    /// What is not in flight then is given up.
    pub(super) deadline: Instant,
    pub(super) try_time: Duration,
    pub(super) reports: mpsc::UnboundedSender<(Vec<usize>, Fate)>,
}

/// What became of records that belong together.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    /// They lie at `first` and the offsets that follow.
    Written {
        partition: i32,
        first: i64,
    },
    Retry(Problem),
    Refused(Reason, String),
}

/// Records of one call for one partition, at most as many as one batch holds.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) bodies: Bodies,
    /// Which records of the call they are.
    pub(super) indexes: Vec<usize>,
    pub(super) call: Arc<Call>,
    /// To be sent without others: the broker refused a batch of which it was one.
    is_alone: bool,
}

impl Part {
    pub(super) fn new(call: Arc<Call>) -> Part {
        Part { bodies: Bodies::default(), indexes: Vec::new(), call, is_alone: false }
    }

    fn report(&self, fate: Fate) {
        // Nobody listens when the call was dropped.
        let _ = self.call.reports.send((self.indexes.clone(), fate));
    }

    fn halves(&self) -> [Part; 2] {
        let (first, second) = self.indexes.split_at(self.indexes.len() / 2);
        let [before, after] = self.bodies.split(first.len());
        [(before, first), (after, second)].map(|(bodies, indexes)| Part {
            bodies,
            indexes: indexes.to_vec(),
            call: self.call.clone(),
            is_alone: true,
        })
    }
}

/// What goes out together. Until its answer is known, it can only be sent again as the same.
#[derive(Clone)]
pub(super) struct Batch {
    pub(super) parts: Arc<Vec<Part>>,
    pub(super) sequence: Sequence,
}

impl Batch {
    fn count(&self) -> usize {
        self.parts.iter().map(|part| part.bodies.count()).sum()
    }
}

pub(super) struct Partition {
    queue: VecDeque<Part>,
    /// What was sent, and in which request it is on its way.
    sent: Option<(Batch, Option<u64>)>,
    /// Where the next batch stands; none before the first one, or after its producer was refused.
    next: Option<Sequence>,
    /// Nothing is sent before this.
    due: Instant,
    pause: Duration,
    /// What went wrong the last time.
    problem: Option<String>,
    /// Since when the cluster has said that it does not have it.
    missing_since: Option<Instant>,
}

/// What the dispatcher does about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    /// Another broker may lead it by now.
    AskWhoLeads,
    /// The producer's id is of no use any more.
    NewProducer,
}

impl Partition {
    pub(super) fn new(now: Instant) -> Partition {
        Partition {
            queue: VecDeque::new(),
            sent: None,
            next: None,
            due: now,
            pause: PAUSES.0,
            problem: None,
            missing_since: None,
        }
    }

    pub(super) fn add(&mut self, part: Part) {
        self.queue.push_back(part);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.sent.is_none()
    }

    pub(super) fn is_ready(&self, now: Instant) -> bool {
        let waits = self.sent.as_ref().map_or(!self.queue.is_empty(), |(_, request)| request.is_none());
        waits && self.due <= now
    }

    /// The cluster was asked.
    pub(super) fn is_there(&mut self, is_there: bool, now: Instant) {
        self.missing_since = if is_there { None } else { self.missing_since.or(Some(now)) };
    }

    /// What goes out next, as part of request `request`.
    pub(super) fn take(&mut self, request: u64, producer: i64) -> Option<Batch> {
        let batch = match self.sent.take() {
            Some((batch, _)) => batch,
            None => {
                let mut parts = vec![self.queue.pop_front()?];
                let mut size = parts[0].bodies.size();
                while !parts[0].is_alone
                    && let Some(part) = self.queue.front()
                    && !part.is_alone
                    && size + part.bodies.size() <= BATCH_BYTES
                {
                    size += part.bodies.size();
                    parts.extend(self.queue.pop_front());
                }
                let sequence = *self.next.get_or_insert(Sequence { producer, epoch: 0, first: 0 });
                Batch { parts: Arc::new(parts), sequence }
            }
        };
        self.sent = Some((batch.clone(), Some(request)));
        Some(batch)
    }

    /// The request was answered, or failed as a whole.
    pub(super) fn answered(
        &mut self,
        request: u64,
        index: i32,
        answer: Result<Result<i64, Error>, String>,
        now: Instant,
    ) -> Then {
        // Another request's: it was given up in the meantime.
        let Some((batch, _)) = self.sent.take_if(|(_, of)| *of == Some(request)) else { return Then::Nothing };
        let error = match answer {
            Ok(Ok(first)) if first >= 0 => {
                self.next = Some(batch.sequence.after(batch.count()));
                (self.pause, self.problem) = (PAUSES.0, None);
                let mut first = first;
                for part in &*batch.parts {
                    part.report(Fate::Written { partition: index, first });
                    first += part.bodies.count() as i64;
                }
                return Then::Nothing;
            }
            // That proves nothing: where the first one lies is not known. Sent once more at the worst, which its `event_id`
            // and `revision` show [K6].
            Ok(Ok(_) | Err(Error::DuplicateSequenceNumber)) => {
                self.begin_anew();
                self.give_up(batch, "Kafka called the record a repeat without saying where the first one lies");
                return Then::Nothing;
            }
            Err(problem) => {
                self.sent = Some((batch, None));
                self.wait(now, problem);
                return Then::AskWhoLeads;
            }
            Ok(Err(error)) => error,
        };
        let text = format!("Kafka: {error}");
        match error {
            Error::MessageTooLarge | Error::RecordListTooLarge if batch.count() == 1 => {
                refuse(&batch, Reason::TooLarge, &text);
            }
            Error::InvalidRecord | Error::InvalidTimestamp if batch.count() == 1 => {
                refuse(&batch, Reason::SinkRefused, &text);
            }
            // As a whole: only a record that it refuses alone is refused.
            Error::MessageTooLarge | Error::RecordListTooLarge | Error::InvalidRecord | Error::InvalidTimestamp => {
                let alone = |part: &Part| Part { is_alone: true, ..part.clone() };
                let smaller: Vec<Part> = match &batch.parts[..] {
                    [part] => part.halves().into(),
                    parts => parts.iter().map(alone).collect(),
                };
                smaller.into_iter().rev().for_each(|part| self.queue.push_front(part));
            }
            Error::InvalidTopicException => refuse(&batch, Reason::SinkRefused, &text),
            Error::OutOfOrderSequenceNumber | Error::UnknownProducerId => {
                tracing::warn!(partition = index, "a new sequence begins: {text}");
                self.begin_anew();
                self.dissolve(batch);
                self.wait(now, text);
            }
            Error::InvalidProducerEpoch | Error::InvalidProducerIdMapping | Error::ProducerFenced => {
                self.next = None;
                self.dissolve(batch);
                self.wait(now, text);
                return Then::NewProducer;
            }
            error if error.is_retriable() => {
                self.sent = Some((batch, None));
                self.wait(now, text);
                return Then::AskWhoLeads;
            }
            // For an operator to mend: good records never become dead letters for it.
            _ => self.give_up(batch, &text),
        }
        Then::Nothing
    }

    fn wait(&mut self, now: Instant, problem: String) {
        self.problem = Some(problem);
        self.due = now + self.pause;
        self.pause = PAUSES.1.min(self.pause * 2);
    }

    /// Gives up what is too late, and what waits for a partition that is not there.
    pub(super) fn expire(&mut self, now: Instant, last_problem: Option<&str>) {
        let is_late = |(batch, request): &mut (Batch, Option<u64>)| {
            let grace = if request.is_some() { GRACE } else { Duration::ZERO };
            batch.parts.iter().any(|part| part.call.deadline + grace <= now)
        };
        if let Some((batch, _)) = self.sent.take_if(is_late) {
            // It may lie there or be on its way: no other batch may stand at its place.
            self.begin_anew();
            self.dissolve(batch);
        }
        while let Some(late) = self.queue.iter().position(|part| part.call.deadline <= now) {
            let call = self.queue[late].call.clone();
            let mut text = format!("Kafka did not acknowledge within {:?}", call.try_time);
            if let Some(problem) = self.problem.as_deref().or(last_problem) {
                text = format!("{text}; last problem: {problem}");
            }
            self.give_up_call(&call, &text);
        }
        if self.missing_since.is_some_and(|since| since + MISSING <= now) && self.sent.is_none() {
            self.begin_anew();
            while let Some(part) = self.queue.front() {
                let call = part.call.clone();
                self.give_up_call(&call, "Kafka does not have the partition");
            }
        }
    }

    /// Its parts wait again, as if they had never been sent.
    fn dissolve(&mut self, batch: Batch) {
        match Arc::try_unwrap(batch.parts) {
            Ok(parts) => parts.into_iter().rev().for_each(|part| self.queue.push_front(part)),
            // The request that holds them is still being written.
            Err(parts) => parts.iter().rev().for_each(|part| self.queue.push_front(part.clone())),
        }
    }

    fn give_up(&mut self, batch: Batch, text: &str) {
        let calls: Vec<Arc<Call>> = batch.parts.iter().map(|part| part.call.clone()).collect();
        self.dissolve(batch);
        calls.iter().for_each(|call| self.give_up_call(call, text));
    }

    /// All that waits of a call: what came behind a record that is given up would be in another order [K3].
    fn give_up_call(&mut self, call: &Arc<Call>, text: &str) {
        let topic_is_missing = self.missing_since.is_some();
        self.queue.retain(|part| {
            let stays = !Arc::ptr_eq(&part.call, call);
            if !stays {
                part.report(Fate::Retry(Problem { text: text.to_owned(), topic_is_missing }));
            }
            stays
        });
    }

    /// A sequence of its own: the partition's leader refuses what it may still get of the one before.
    fn begin_anew(&mut self) {
        self.next = self.next.and_then(Sequence::next_epoch);
    }
}

fn refuse(batch: &Batch, reason: Reason, text: &str) {
    batch.parts.iter().for_each(|part| part.report(Fate::Refused(reason, text.to_owned())));
}
