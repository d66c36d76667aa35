//! A model of Kafka: topics with partitions chosen by murmur2 of the key, and brokers that go away, are slow, lose
//! acknowledgements, have no leader, or refuse. What was given to it is its own affair: a sender that dies stops nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use streammanager::error::{BackendError, Reason};
use streammanager::limits::{ASK_FOR_RETURN, TRY};
use streammanager::record::{Outgoing, Topic};
use streammanager::sink::{Lane, Position, Sent, Sink, TopicReport, TopicState, Written};
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};

use crate::dice::Dice;
use crate::judge::{Judge, Published};
use crate::lies::Lie;
use crate::soak::Tally;

/// Longer than a breaker waits before its probe.
const NOBODY_COMES: Duration = Duration::from_secs(120);

/// How the broker is; the default is well.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Health {
    /// Nobody answers.
    pub away: bool,
    /// Added to every answer.
    pub slow: Duration,
    /// Of 256 records so many are stored without an acknowledgement.
    pub lost_acks: u8,
    /// Of 256 records so many are not taken now.
    pub failing: u8,
    /// Of 65,536 records so many are refused for good.
    pub refusing: u16,
    /// Nothing of this topic is taken: its leader is -1.
    pub leaderless: Option<Topic>,
}

pub(crate) struct Broker {
    judge: Judge,
    dice: Dice,
    lie: Option<Lie>,
    health: Mutex<Health>,
    next_offsets: Mutex<BTreeMap<(Topic, i32), i64>>,
    stored: Notify,
    tally: Arc<Tally>,
}

/// The broker as one process reaches it.
pub(crate) struct Client {
    pub broker: Arc<Broker>,
    pub process: u64,
}

impl Broker {
    pub(crate) fn new(judge: Judge, dice: Dice, lie: Option<Lie>, tally: Arc<Tally>) -> Arc<Broker> {
        Arc::new(Broker {
            judge,
            dice,
            lie,
            health: Mutex::default(),
            next_offsets: Mutex::default(),
            stored: Notify::new(),
            tally,
        })
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Health)) {
        let (before, after, ill) = {
            let mut health = self.health.lock();
            let before = health.away;
            change(&mut health);
            (before, health.away, *health != Health::default())
        };
        self.judge.broker_is_ill(ill);
        if before != after {
            self.judge.broker_is_away(after);
        }
    }

    /// Comes back when the next record of a bulk tier is stored, or when nobody brings one for minutes.
    pub(crate) async fn takes_something(&self) {
        let _ = timeout(NOBODY_COMES, self.stored.notified()).await;
    }

    fn health(&self) -> Health {
        self.health.lock().clone()
    }

    fn store(&self, record: &Outgoing) -> Written {
        let partition = partition(&record.key, record.topic.partitions());
        let mut offsets = self.next_offsets.lock();
        let next = offsets.entry((record.topic, partition)).or_default();
        *next += 1;
        self.judge.stored(record);
        if Lane::of(record.tier) == Lane::Bulk {
            self.stored.notify_waiters();
        }
        Written { partition, offset: *next - 1 }
    }

    /// Everything that becomes of one request, whoever waits for it.
    async fn request(self: Arc<Broker>, mut records: Vec<Outgoing>) -> Vec<Sent> {
        let retry = |why: &str| Sent::Retry(why.to_owned());
        let health = self.health();
        let takes = Duration::from_millis(1 + self.dice.below(5)) + health.slow;
        if health.away {
            sleep(TRY).await;
            return vec![retry("the broker is away"); records.len()];
        }
        sleep(takes.min(TRY)).await;
        let health = self.health();
        if health.away || takes > TRY {
            // It went in the middle of the request: what it had written by then stays written.
            let kept = self.dice.below(records.len() as u64 + 1) as usize;
            records[..kept].iter().for_each(|record| _ = self.store(record));
            sleep(TRY.saturating_sub(takes)).await;
            return vec![retry("the broker went away"); records.len()];
        }
        let lies = |times| self.dice.once_in(times);
        let backwards = self.lie == Some(Lie::SinkWritesBackwards);
        if backwards {
            records.reverse();
        }
        let mut outcomes = Vec::with_capacity(records.len());
        // Of a partition nothing is written behind what was not.
        let mut behind = BTreeSet::new();
        for record in &records {
            let place = (record.topic, partition(&record.key, record.topic.partitions()));
            if behind.contains(&place) {
                outcomes.push(retry("the broker is busy"));
                continue;
            }
            let drawn = self.dice.below(65_536);
            let (ack, fail) = (u64::from(health.lost_acks) << 8, u64::from(health.failing) << 8);
            outcomes.push(if health.leaderless == Some(record.topic) {
                retry("the partition has no leader")
            } else if drawn < ack {
                self.store(record);
                retry("the acknowledgement was lost")
            } else if drawn < ack + fail {
                behind.insert(place);
                retry("the broker is busy")
            } else if drawn < ack + fail + u64::from(health.refusing) {
                self.judge.refused(record);
                Sent::Refused(Reason::SinkRefused, "the broker's policy refuses it".into())
            } else {
                match self.lie {
                    Some(Lie::SinkAcknowledgesUnwritten) if lies(100) => Sent::Acked(None),
                    Some(Lie::SinkRefusesInOutages) if lies(100) => {
                        Sent::Refused(Reason::SinkRefused, "the broker is busy".into())
                    }
                    Some(Lie::SinkWritesTwice) if lies(100) => {
                        self.store(record);
                        Sent::Acked(Some(self.store(record)))
                    }
                    Some(Lie::SinkForgetsRevisions) if record.revision > 0 => Sent::Acked(None),
                    Some(Lie::SinkCutsValues) if lies(100) => {
                        let value = record.value.slice(..record.value.len() / 2);
                        Sent::Acked(Some(self.store(&Outgoing { value, ..record.clone() })))
                    }
                    _ => Sent::Acked(Some(self.store(record))),
                }
            });
        }
        if backwards {
            outcomes.reverse();
        }
        outcomes
    }
}

#[async_trait]
impl Sink for Client {
    async fn send(&self, lane: Lane, records: &[Outgoing]) -> Vec<Sent> {
        self.broker.judge.step().await;
        self.broker.judge.sends(self.process, lane);
        let (tell, heard) = oneshot::channel();
        let (broker, own) = (self.broker.clone(), records.to_vec());
        tokio::spawn(async move {
            // Whoever asked may be dead.
            let ids: Vec<Published> = own.iter().map(|record| (record.event, record.revision)).collect();
            let outcomes = broker.clone().request(own).await;
            for (id, outcome) in ids.into_iter().zip(&outcomes) {
                broker.tally.tried(id, outcome.is_acked());
            }
            let _ = tell.send(outcomes);
        });
        heard.await.unwrap_or_else(|_| vec![Sent::Retry("the simulation ends".into()); records.len()])
    }

    async fn answers(&self) -> bool {
        self.broker.judge.step().await;
        let away = self.broker.health().away;
        sleep(if away { ASK_FOR_RETURN } else { Duration::from_millis(2) }).await;
        !away && !self.broker.health().away
    }

    async fn check(&self) -> Result<Vec<TopicReport>, BackendError> {
        if self.broker.health().away {
            return Err(BackendError::Retry("the broker is away".into()));
        }
        let ready = |topic: &Topic| TopicReport { topic: topic.name().into(), state: TopicState::Ready };
        Ok(Topic::ALL.iter().map(ready).collect())
    }

    async fn positions(&self) -> Result<Vec<Position>, BackendError> {
        Ok(Vec::new())
    }
}

/// As Kafka's own producer chooses it.
fn partition(key: &str, partitions: i32) -> i32 {
    (murmur2(key.as_bytes()) & 0x7fff_ffff) as i32 % partitions
}

fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        rest.iter().enumerate().for_each(|(at, byte)| hash ^= u32::from(*byte) << (8 * at));
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::partition;

    /// From Apache Kafka's own `Utils.toPositive(Utils.murmur2(key)) % 12`.
    #[test]
    fn k3_keys_choose_the_partition_that_a_java_producer_would_choose() {
        let expected = [
            ("85283473fffffff", 11),
            ("8528340bfffffff", 7),
            ("852ab2c3fffffff", 6),
            ("firms_viirs_snpp", 0),
            ("KSTO@NWS.NOAA.GOV,NOAA-NWS-ALERTS-1", 4),
        ];
        assert_eq!(expected.map(|(key, _)| (key, partition(key, 12))), expected);
    }
}
