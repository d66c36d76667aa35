//! A sink for tests that fails as told: over memory, or around another sink. It knows everything that it stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::error::{BackendError, Reason};
use crate::limits::{ASK_FOR_RETURN, TRY};
use crate::record::Outgoing;
use crate::record::Topic;
use crate::sink::{Lane, Position, Sent, Sink, TopicReport, TopicState, Written, refusal};
use crate::time::Rng;

/// What befalls one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The record is stored and acknowledged.
    None,
    /// Stored, but the acknowledgement is lost: `Retry`.
    LostAck,
    /// Not stored: `Retry`.
    Retry,
    /// Not stored: `Refused`.
    Refuse,
}

/// Shares of 256 of the records that a seeded sink fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shares {
    /// Records that are stored and not acknowledged.
    pub lost_ack: u8,
    /// Records that are not stored; in the same send nothing behind one in its partition is, as at Kafka.
    pub retry: u8,
}

/// A sink that loses, delays and refuses as it is told.
#[derive(Default)]
pub struct FaultySink {
    inner: Option<Arc<dyn Sink>>,
    state: Mutex<Behaviour>,
}

#[derive(Default)]
struct Behaviour {
    stored: Vec<Outgoing>,
    next_offsets: BTreeMap<Topic, i64>,
    sends: Vec<(Lane, usize)>,
    script: VecDeque<Fault>,
    seeded: Option<(Rng, Shares)>,
    refused_keys: BTreeSet<String>,
    away_topics: BTreeSet<String>,
    delay: Duration,
    overdue: Duration,
    paused_until: Option<Instant>,
    out: bool,
    positions: Vec<Position>,
}

impl FaultySink {
    /// Keeps its records in memory.
    pub fn memory() -> FaultySink {
        FaultySink::default()
    }

    /// Passes on what it does not lose.
    pub fn around(inner: Arc<dyn Sink>) -> FaultySink {
        FaultySink { inner: Some(inner), ..FaultySink::default() }
    }

    /// Where consumer groups are from now on.
    pub fn consumers_at(&self, positions: Vec<Position>) {
        self.state().positions = positions;
    }

    /// The faults of the next records, one each, in the order in which they are sent.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().script.extend(faults);
    }

    /// From now on a share of the records fails, drawn from `rng`.
    pub fn seed(&self, rng: Rng, shares: Shares) {
        self.state().seeded = Some((rng, shares));
    }

    /// Records with this key are refused from now on.
    pub fn refuse_key(&self, key: &str) {
        self.state().refused_keys.insert(key.to_owned());
    }

    /// No record of this topic is stored from now on.
    pub fn away_topic(&self, topic: &str) {
        self.state().away_topics.insert(topic.to_owned());
    }

    /// Records of this topic are stored again.
    pub fn return_topic(&self, topic: &str) {
        self.state().away_topics.remove(topic);
    }

    /// Every send takes this long from now on.
    pub fn delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// From now on every answer comes this much after the deed, however late that is.
    pub fn overdue(&self, overdue: Duration) {
        self.state().overdue = overdue;
    }

    /// For this long nothing is acknowledged, what is on its way included; then it goes on.
    pub fn pause(&self, pause: Duration) {
        self.state().paused_until = Some(Instant::now() + pause);
    }

    /// While out, every send waits its time and answers `Retry` for all.
    pub fn outage(&self, out: bool) {
        self.state().out = out;
    }

    /// Everything stored, in order, repeats included.
    pub fn stored(&self) -> Vec<Outgoing> {
        self.state().stored.clone()
    }

    /// Lane and size of every send so far.
    pub fn sends(&self) -> Vec<(Lane, usize)> {
        self.state().sends.clone()
    }

    /// One partition a topic; its offsets count the topic's records.
    fn store(&self, record: &Outgoing) -> Written {
        let mut state = self.state();
        state.stored.push(record.clone());
        let next = state.next_offsets.entry(record.topic).or_default();
        *next += 1;
        Written { partition: 0, offset: *next - 1 }
    }

    fn state(&self) -> MutexGuard<'_, Behaviour> {
        self.state.lock()
    }
}

impl Behaviour {
    fn fault(&mut self, record: &Outgoing) -> Fault {
        if self.refused_keys.contains(&record.key) {
            return Fault::Refuse;
        }
        if self.away_topics.contains(record.topic.name()) {
            return Fault::Retry;
        }
        if let Some(fault) = self.script.pop_front() {
            return fault;
        }
        match &self.seeded {
            None => Fault::None,
            Some((rng, shares)) => {
                let [drawn] = rng.bytes();
                match drawn {
                    _ if drawn < shares.lost_ack => Fault::LostAck,
                    _ if drawn < shares.lost_ack.saturating_add(shares.retry) => Fault::Retry,
                    _ => Fault::None,
                }
            }
        }
    }
}

#[async_trait]
impl Sink for FaultySink {
    async fn send(&self, lane: Lane, records: &[Outgoing]) -> Vec<Sent> {
        let (delay, out, overdue) = {
            let mut state = self.state();
            state.sends.push((lane, records.len()));
            (state.delay, state.out, state.overdue)
        };
        let deadline = Instant::now() + TRY;
        tokio::time::sleep(if out { TRY } else { delay.min(TRY) }).await;
        let paused = |state: MutexGuard<'_, Behaviour>| state.paused_until.filter(|until| Instant::now() < *until);
        while let Some(until) = paused(self.state()).filter(|_| Instant::now() < deadline) {
            tokio::time::sleep_until(until.min(deadline)).await;
        }
        if out || delay > TRY || paused(self.state()).is_some() {
            return vec![Sent::Retry("the sink is away".into()); records.len()];
        }
        let mut faults: Vec<Fault> = records.iter().map(|record| self.state().fault(record)).collect();
        if self.state().seeded.is_some() {
            let mut behind = BTreeSet::new();
            for (record, fault) in records.iter().zip(&mut faults).filter(|(_, fault)| **fault != Fault::Refuse) {
                if *fault == Fault::Retry || behind.contains(&record.key) {
                    *fault = Fault::Retry;
                    behind.insert(&record.key);
                }
            }
        }
        let passed = |index: &usize| matches!(faults[*index], Fault::None | Fault::LostAck);
        let passed: Vec<usize> = (0..records.len()).filter(passed).collect();
        let kept: Vec<Outgoing> = passed.iter().map(|&index| records[index].clone()).collect();
        let kept_outcomes = match &self.inner {
            Some(inner) => {
                let outcomes = inner.send(lane, &kept).await;
                for (record, _) in kept.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_acked()) {
                    self.store(record);
                }
                outcomes
            }
            None => {
                let stored = |record| Sent::Acked(Some(self.store(record)));
                kept.iter().map(|record| refusal(record).unwrap_or_else(|| stored(record))).collect()
            }
        };
        let mut outcomes: Vec<Sent> = faults
            .iter()
            .map(|fault| match fault {
                Fault::Refuse => Sent::Refused(Reason::SinkRefused, "refused as told".into()),
                _ => Sent::Retry("failed as told".into()),
            })
            .collect();
        for (index, outcome) in passed.into_iter().zip(kept_outcomes) {
            if faults[index] == Fault::None || !outcome.is_acked() {
                outcomes[index] = outcome;
            }
        }
        tokio::time::sleep(overdue).await;
        outcomes
    }

    async fn answers(&self) -> bool {
        let (out, until) = {
            let state = self.state();
            (state.out, state.paused_until)
        };
        let patience = Instant::now() + ASK_FOR_RETURN;
        tokio::time::sleep_until(until.unwrap_or_else(Instant::now).min(patience)).await;
        !out && until.is_none_or(|until| until <= Instant::now())
    }

    async fn check(&self) -> Result<Vec<TopicReport>, BackendError> {
        if self.state().out {
            return Err(BackendError::Retry("the sink is away".into()));
        }
        match &self.inner {
            Some(inner) => inner.check().await,
            None => Ok(Topic::ALL
                .iter()
                .map(|topic| TopicReport { topic: topic.name().into(), state: TopicState::Ready })
                .collect()),
        }
    }

    async fn positions(&self) -> Result<Vec<Position>, BackendError> {
        let (out, told) = {
            let state = self.state();
            (state.out, state.positions.clone())
        };
        match &self.inner {
            _ if out => Err(BackendError::Retry("the sink is away".into())),
            Some(inner) if told.is_empty() => inner.positions().await,
            _ => Ok(told),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::conformance::record;

    #[tokio::test(start_paused = true)]
    async fn a_script_decides_record_by_record() {
        let sink = FaultySink::memory();
        sink.refuse_key("bad");
        sink.script([Fault::None, Fault::LostAck, Fault::Retry]);
        let mut records: Vec<Outgoing> = (0..5).map(|n| record("scripted", n)).collect();
        records[4].key = "bad".into();
        let outcomes = sink.send(Lane::Bulk, &records).await;
        let short = |sent: &Sent| match sent {
            Sent::Acked(_) => 'a',
            Sent::Retry(_) => 't',
            Sent::Refused(..) => 'r',
        };
        assert_eq!(outcomes.iter().map(short).collect::<String>(), "attar");
        assert_eq!(sink.stored(), [records[0].clone(), records[1].clone(), records[3].clone()]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_seed_fails_the_same_records() {
        let run = || async {
            let sink = FaultySink::memory();
            sink.seed(Rng::seeded(7), Shares { lost_ack: 40, retry: 40 });
            let records: Vec<Outgoing> = (0..200).map(|n| record("seeded", n)).collect();
            (sink.send(Lane::Bulk, &records).await, sink.stored().len())
        };
        let (outcomes, stored) = run().await;
        let acked = outcomes.iter().filter(|sent| sent.is_acked()).count();
        assert!(acked < stored && stored < 200, "{acked} acknowledged, {stored} stored");
        assert_eq!(run().await, (outcomes, stored));
    }
}
