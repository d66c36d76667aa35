//! The producer of the bulk lane, which speaks Kafka's protocol itself: a record's eleven headers cost Kafka's client an allocation
//! each, more than everything else that happens to the record here (ARCHITECTURE.md, "What a record costs").
//!
//! A call encodes its records and gives them to the dispatcher, which owns what is in flight and outlives the call: dropping a call
//! costs nobody anything. Of a partition one batch is in flight at a time, and what comes meanwhile is gathered for the next one: its
//! order is the order of the calls, and a batch that is sent again stands at the same place of the sequence.

mod batch;
mod cluster;
mod connection;
mod dispatch;
mod murmur2;
mod partition;
mod security;
mod shape;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::login::Refusal;
use super::producer::Answer;
use super::settings::KafkaSettings;
use crate::record::{Outgoing, Topic};
use crate::sink::{Sent, Written, refusal};
use batch::BATCH_BYTES;
pub(super) use cluster::Guide;
use cluster::Known;
pub(super) use cluster::NewTopic;
use dispatch::{Command, Dispatcher};
use partition::{Call, Fate, Part};
use security::Handshake;

/// A topic that is not there is told as such, after this, instead of as silence.
const MISSING: Duration = Duration::from_secs(1);
/// Waits before the next try of what failed, first and at the most: a broker that returns is found within a quarter of a second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));
/// Records encoded before other tasks get their turn: about half a millisecond.
const TURN: usize = 512;

pub(super) struct BulkProducer {
    guide: Arc<Guide>,
    topic_prefix: String,
    try_time: Duration,
    dispatcher: Mutex<Option<Dispatcher>>,
    /// Held while a call is encoded and handed over: calls follow one another in the order in which they came.
    handing_over: tokio::sync::Mutex<()>,
}

impl BulkProducer {
    /// # Errors
    /// A setting that cannot be used, such as a certificate file that is not there.
    pub(super) fn new(settings: &KafkaSettings, refusal: &Refusal) -> Result<BulkProducer, String> {
        Ok(BulkProducer {
            guide: Arc::new(Guide::new(&settings.brokers, Handshake::new(&settings.security, refusal)?)),
            topic_prefix: settings.topic_prefix.clone(),
            try_time: settings.try_time,
            dispatcher: Mutex::new(None),
            handing_over: tokio::sync::Mutex::new(()),
        })
    }

    pub(super) async fn send(&self, records: &[Outgoing]) -> Answer {
        let deadline = Instant::now() + self.try_time;
        let late = || Sent::Retry(format!("Kafka did not acknowledge within {:?}", self.try_time));
        let mut outcomes: Vec<Option<Sent>> = records.iter().map(refusal).collect();
        let open: Vec<usize> = (0..records.len()).filter(|&index| outcomes[index].is_none()).collect();
        let mut topic_is_missing = false;

        let dispatcher = self.dispatcher();
        let mut topics = BTreeMap::new();
        for &index in &open {
            if let Entry::Vacant(entry) = topics.entry(records[index].topic) {
                let name: Arc<str> = format!("{}{}", self.topic_prefix, entry.key().name()).into();
                let known = partitions_of(&dispatcher, &name, deadline).await;
                entry.insert((name, known));
            }
        }
        let (reports, mut reported) = mpsc::unbounded_channel();
        {
            let _handing_over = self.handing_over.lock().await;
            let call = Arc::new(Call { deadline, try_time: self.try_time, reports });
            let mut parts: BTreeMap<(Topic, i32), Vec<Part>> = BTreeMap::new();
            for (turn, index) in open.into_iter().enumerate() {
                if turn % TURN == TURN - 1 {
                    tokio::task::yield_now().await;
                }
                let record = &records[index];
                let (partition, partitions) = match &topics[&record.topic].1 {
                    Ok(partitions) => (murmur2::partition(record.key.as_bytes(), *partitions), *partitions),
                    Err(problem) => {
                        topic_is_missing |= problem.topic_is_missing;
                        outcomes[index] = Some(Sent::Retry(problem.text.clone()));
                        continue;
                    }
                };
                let parts = parts.entry((record.topic, partition)).or_default();
                if parts.last().is_none_or(|part| part.bodies.size() + record.value.len() > BATCH_BYTES) {
                    let mut part = Part::new(call.clone());
                    // A fair share and some more: room that grows is copied several times.
                    let share = records.len() / partitions.max(1) as usize;
                    part.bodies.reserve((share + share / 4 + 2).min(records.len()), record);
                    parts.push(part);
                }
                if let Some(part) = parts.last_mut() {
                    part.bodies.add(record);
                    part.indexes.push(index);
                }
            }
            let parts = parts.into_iter().flat_map(|((topic, partition), parts)| {
                let topic = &topics[&topic].0;
                parts.into_iter().map(move |part| (topic.clone(), partition, part))
            });
            dispatcher.tell(Command::Send(parts.collect()));
        }
        while let Some((indexes, fate)) = reported.recv().await {
            for (n, index) in indexes.into_iter().enumerate() {
                outcomes[index] = Some(match &fate {
                    Fate::Written { partition, first } => {
                        Sent::Acked(Some(Written { partition: *partition, offset: first + n as i64 }))
                    }
                    Fate::Retry(problem) => {
                        topic_is_missing |= problem.topic_is_missing;
                        Sent::Retry(problem.text.clone())
                    }
                    Fate::Refused(reason, text) => Sent::Refused(*reason, text.clone()),
                });
            }
        }
        let outcomes = outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(late)).collect();
        Answer { outcomes, topic_is_missing }
    }

    /// Asks the cluster as this producer does.
    pub(super) fn guide(&self) -> Arc<Guide> {
        self.guide.clone()
    }

    /// The dispatcher in use; a new one when there is none, or its runtime has ended.
    fn dispatcher(&self) -> Dispatcher {
        let mut kept = self.dispatcher.lock();
        match kept.as_ref().filter(|dispatcher| dispatcher.is_running()) {
            Some(dispatcher) => dispatcher.clone(),
            None => kept.insert(Dispatcher::start(self.guide.clone())).clone(),
        }
    }
}

/// Why records were not sent.
#[derive(Debug, Clone)]
struct Problem {
    text: String,
    /// The cluster does not have the topic.
    topic_is_missing: bool,
}

/// How many partitions a topic has; asks the cluster where that is not known yet.
async fn partitions_of(dispatcher: &Dispatcher, topic: &Arc<str>, deadline: Instant) -> Result<i32, Problem> {
    let patience = deadline.min(Instant::now() + MISSING);
    let mut known = dispatcher.known();
    let mut is_asked = false;
    loop {
        let state = known.borrow_and_update().topics.get(topic).cloned();
        let until = match state {
            Some(Known::Partitions(partitions)) => return Ok(partitions),
            Some(Known::Refused(text)) if is_asked => return Err(Problem { text, topic_is_missing: false }),
            Some(Known::Missing) => patience,
            _ => deadline,
        };
        if !is_asked {
            dispatcher.tell(Command::Learn { topic: topic.clone(), until: deadline });
            is_asked = true;
        }
        if !matches!(timeout_at(until, known.changed()).await, Ok(Ok(()))) {
            let known = known.borrow();
            let topic_is_missing = known.topics.get(topic) == Some(&Known::Missing);
            let text = match &known.problem {
                _ if topic_is_missing => format!("Kafka has no topic {topic}"),
                Some(problem) => format!("Kafka did not say who leads {topic}; last problem: {problem}"),
                None => format!("Kafka did not say who leads {topic}"),
            };
            return Err(Problem { text, topic_is_missing });
        }
    }
}
