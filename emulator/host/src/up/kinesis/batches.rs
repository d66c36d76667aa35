//! Which records of a shard a function gets together, when, and how often: Lambda's event source mapping of a stream as a pure
//! state machine [L5].
//!
//! Records come in their order and are dealt to lanes by their partition key; `ParallelizationFactor` says how many. In a lane
//! they gather until they are a batch: as many as it takes, an event's bytes, or the end of the window that began with the
//! first. A batch becomes a piece of work, and a lane has one call at a time, for its oldest piece. A piece that failed is
//! tried again, or falls into two that are tried one after the other (bisect), or is given up: because its tries are over, or
//! because its oldest records are too old. The checkpoint stands before the oldest record that is not done with, whatever other
//! lanes did meanwhile.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use md5::{Digest, Md5};
use streammanager::time::Timestamp;
use tokio::time::Instant;

use super::block::Record;
use super::log::event_bytes;
use crate::up::failures::LastCall;
use crate::up::gathering::{Bounds, Gathering};

/// A piece that failed is tried again after this.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// Lanes that wait for one that is slow read ahead of it, up to as many events.
const EVENTS_AHEAD: usize = 2;

/// What the template says of the mapping, and its stream.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) batch_size: usize,
    /// Of an event.
    pub(crate) bytes: usize,
    pub(crate) window: Duration,
    pub(crate) bisect: bool,
    /// None: until the records expire.
    pub(crate) retries: Option<u32>,
    /// By the time of day at which records arrived.
    pub(crate) max_age: Option<Duration>,
    /// From this host's start at the earliest: what waited while it was off is still read [Q1].
    pub(crate) retention: Duration,
    pub(crate) parallel: usize,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// From this record of the piece on.
    FailedFrom(u64),
    Failed(LastCall),
    /// The function was not called: that is no try, and nothing is halved.
    Throttled,
}

/// Why a piece is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    RetriesExhausted,
    TooOld,
    /// As old as the stream keeps records.
    Expired,
}

impl Why {
    /// As Lambda names it.
    pub(super) fn condition(self) -> &'static str {
        match self {
            Why::RetriesExhausted => "RetryAttemptsExhausted",
            Why::TooOld | Why::Expired => "RecordAgeExceeded",
        }
    }
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The function is called with the lane's piece.
    Call(usize),
    /// The lane's piece is given up.
    GiveUp(usize, Why),
    /// Nothing before this time, or before something comes or ends.
    Wait(Option<Instant>),
}

/// Records that stay together until they are done with.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) records: Vec<Record>,
    pub(super) calls: u32,
    pub(super) last: Option<LastCall>,
    failures: u32,
    not_before: Instant,
    over: Option<Why>,
}

#[derive(Debug)]
struct Lane {
    gathering: Gathering<Record>,
    pieces: VecDeque<Piece>,
    at_work: bool,
}

/// One shard's.
#[derive(Debug)]
pub(super) struct Batches {
    plan: Plan,
    lanes: Vec<Lane>,
    /// Read and not done with.
    open: BTreeSet<u64>,
    /// The last one that was read.
    taken: u64,
}

impl Batches {
    /// `read`: the number of the last record that is done with.
    pub(super) fn new(plan: Plan, read: u64) -> Batches {
        let bounds = Bounds { batch_size: plan.batch_size, bytes: plan.bytes, window: plan.window };
        let lane = |_| Lane { gathering: Gathering::new(bounds), pieces: VecDeque::new(), at_work: false };
        let lanes = (0..plan.parallel).map(lane).collect();
        Batches { plan, lanes, open: BTreeSet::new(), taken: read }
    }

    /// The number of the last record that is done with, and all before it.
    pub(super) fn checkpoint(&self) -> u64 {
        self.open.first().map_or(self.taken, |first| first - 1)
    }

    /// After which record more is wanted, how many records and for how many bytes of events.
    pub(super) fn wants(&self) -> Option<(u64, usize, usize)> {
        let (records, bytes) = (self.plan.batch_size * self.plan.parallel, self.plan.bytes * EVENTS_AHEAD);
        let bytes = if self.plan.parallel == 1 { self.plan.bytes } else { bytes };
        let filled: usize = self.lanes.iter().map(Lane::bytes).sum();
        let hungry = self.lanes.iter().any(|lane| lane.pieces.is_empty() && !lane.gathering.is_full());
        (hungry && self.open.len() < records && filled < bytes)
            .then(|| (self.taken, records - self.open.len(), bytes - filled))
    }

    /// In their order, those after what was taken before.
    pub(super) fn take(&mut self, records: Vec<Record>, now: Instant) {
        for record in records {
            self.taken = record.number;
            self.open.insert(record.number);
            let lane = lane_of(&record.key, self.lanes.len());
            let bytes = event_bytes(&record);
            self.lanes[lane].gathering.add(record, bytes, now);
        }
    }

    /// `now` and `time` say the same, by the clock of this process and by that of the day.
    pub(super) fn next(&mut self, now: Instant, time: Timestamp) -> Next {
        let mut wait: Option<Instant> = None;
        for (nth, lane) in self.lanes.iter_mut().enumerate().filter(|(_, lane)| !lane.at_work) {
            lane.form(now);
            lane.part_old(&self.plan, now, time);
            let due = match lane.pieces.front() {
                Some(piece) if piece.not_before > now => Some(piece.not_before),
                Some(piece) => {
                    lane.at_work = true;
                    return piece.over.map_or(Next::Call(nth), |why| Next::GiveUp(nth, why));
                }
                None => lane.gathering.ends(),
            };
            wait = wait.into_iter().chain(due).min();
        }
        Next::Wait(wait)
    }

    /// The one that `next` named.
    pub(super) fn piece(&self, lane: usize) -> &Piece {
        &self.lanes[lane].pieces[0]
    }

    /// The call with the lane's piece has ended.
    pub(super) fn ended(&mut self, lane: usize, outcome: Outcome, now: Instant) {
        let lane = &mut self.lanes[lane];
        lane.at_work = false;
        let Some(mut piece) = lane.pieces.pop_front() else { return };
        let (done, last) = match outcome {
            Outcome::Done => (piece.records.len(), LastCall::Answer),
            Outcome::FailedFrom(number) => {
                (piece.records.partition_point(|record| record.number < number), LastCall::Answer)
            }
            Outcome::Failed(last) => (0, last),
            Outcome::Throttled => {
                piece.not_before = now + RETRY_WAIT;
                lane.pieces.push_front(piece);
                return;
            }
        };
        piece.calls += 1;
        for record in piece.records.drain(..done) {
            self.open.remove(&record.number);
        }
        if piece.records.is_empty() {
            return;
        }
        piece.last = Some(last);
        if done > 0 {
            // What follows is tried from the record that failed; it has failed once.
            piece.failures = 1;
        } else if self.plan.bisect && piece.records.len() > 1 {
            // Halving uses up no try.
            let second = piece.records.split_off(piece.records.len().div_ceil(2));
            lane.pieces.push_front(Piece { records: second, ..piece.clone_without_records() });
            lane.pieces.push_front(piece);
            return;
        } else {
            piece.failures += 1;
        }
        if self.plan.retries.is_some_and(|retries| piece.failures > retries) {
            piece.over = Some(Why::RetriesExhausted);
        } else {
            piece.not_before = now + RETRY_WAIT;
        }
        lane.pieces.push_front(piece);
    }

    /// The lane's piece is given up, and whoever is to know it has been told.
    pub(super) fn given_up(&mut self, lane: usize) {
        let lane = &mut self.lanes[lane];
        lane.at_work = false;
        for record in lane.pieces.pop_front().into_iter().flat_map(|piece| piece.records) {
            self.open.remove(&record.number);
        }
    }

    /// The lane's piece could not be given up: whoever is to know it could not be told.
    pub(super) fn give_up_later(&mut self, lane: usize, at: Instant) {
        let lane = &mut self.lanes[lane];
        lane.at_work = false;
        if let Some(piece) = lane.pieces.front_mut() {
            piece.not_before = at;
        }
    }
}

impl Piece {
    fn new(records: Vec<Record>, now: Instant) -> Piece {
        Piece { records, calls: 0, last: None, failures: 0, not_before: now, over: None }
    }

    fn clone_without_records(&self) -> Piece {
        Piece { records: Vec::new(), ..*self }
    }
}

impl Lane {
    fn bytes(&self) -> usize {
        let at_work = self.pieces.iter().flat_map(|piece| &piece.records).map(event_bytes).sum::<usize>();
        self.gathering.filled() + at_work
    }

    /// Makes a piece of what is gathered, once it is a batch.
    fn form(&mut self, now: Instant) {
        if self.pieces.is_empty()
            && let Some(records) = self.gathering.batch(now)
        {
            self.pieces.push_back(Piece::new(records, now));
        }
    }

    /// Parts what is too old from the first piece: its oldest records come first.
    fn part_old(&mut self, plan: &Plan, now: Instant, time: Timestamp) {
        let why = |record: &Record| {
            let age = Duration::try_from(time.duration_since(record.arrival.at)).unwrap_or_default();
            if record.arrival.waited(now) >= plan.retention {
                Some(Why::Expired)
            } else {
                plan.max_age.is_some_and(|most| age > most).then_some(Why::TooOld)
            }
        };
        let Some(mut piece) = self.pieces.pop_front() else { return };
        let first = piece.records.first().and_then(why).filter(|_| piece.over.is_none());
        if let Some(first) = first {
            let old = piece.records.iter().take_while(|record| why(record) == Some(first)).count();
            let fresh = piece.records.split_off(old);
            if !fresh.is_empty() {
                self.pieces.push_front(Piece { records: fresh, ..piece.clone_without_records() });
            }
            (piece.over, piece.not_before) = (Some(first), now);
        }
        self.pieces.push_front(piece);
    }
}

/// A key's records are one lane's: they keep their order. Its shard is chosen by other bits of the same hash.
fn lane_of(key: &[u8], lanes: usize) -> usize {
    if lanes == 1 {
        return 0;
    }
    let hash = u128::from_be_bytes(Md5::digest(key).into());
    (hash as u64 % lanes as u64) as usize
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
