//! The topics of K2 on a cluster: made where they are missing, reported, never repartitioned.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use rdkafka::metadata::Metadata;
use tokio::time::sleep;

use super::bulk::{Guide, NewTopic};
use super::producer::Producer;
use super::question::Question;
use super::settings::KafkaSettings;
use crate::error::BackendError;
use crate::record::Topic;
use crate::sink::{TopicReport, TopicState};

/// One question to the cluster.
const ANSWER: Duration = Duration::from_secs(5);
/// Questions until new topics are known everywhere, each at least this long after the last.
const PROPAGATION: Duration = Duration::from_millis(50);
const PROPAGATION_ASKS: usize = 100;
/// 7 days [K2].
const RETENTION_MS: &str = "604800000";
const REPLICATION: i16 = 3;

/// The topics of one cluster, asked for through a producer that is there anyway.
pub(super) struct Topics {
    settings: KafkaSettings,
    producer: Arc<Producer>,
    guide: Arc<Guide>,
    cluster: Question<Arc<Cluster>>,
}

impl Topics {
    pub(super) fn new(settings: &KafkaSettings, producer: Arc<Producer>, guide: Arc<Guide>) -> Topics {
        Topics { settings: settings.clone(), producer, guide, cluster: Question::new() }
    }

    /// Makes and reports every topic of K2.
    pub(super) async fn check(&self) -> Result<Vec<TopicReport>, BackendError> {
        let cluster = self.ask().await?;
        let prefix = &self.settings.topic_prefix;
        let wanted: Vec<(String, Topic)> =
            Topic::ALL.iter().map(|topic| (format!("{prefix}{}", topic.name()), *topic)).collect();
        let missing: Vec<&(String, Topic)> =
            wanted.iter().filter(|(name, _)| !cluster.partitions.contains_key(name)).collect();
        let created = self.create(&missing, cluster.brokers).await?;
        let cluster = if missing.is_empty() { cluster } else { self.cluster_with(&created).await? };
        let report = |(name, topic): (String, Topic)| {
            let expected = topic.partitions();
            let state = match cluster.partitions.get(&name) {
                Some(&partitions) if partitions != expected => TopicState::Differs { partitions, expected },
                _ if created.contains(&name) => TopicState::Created,
                _ => TopicState::Ready,
            };
            TopicReport { topic: name, state }
        };
        Ok(wanted.into_iter().map(report).collect())
    }

    /// What the cluster says of itself as soon as it knows all of `names`.
    async fn cluster_with(&self, names: &[String]) -> Result<Arc<Cluster>, BackendError> {
        for _ in 0..PROPAGATION_ASKS {
            let cluster = self.ask().await?;
            if names.iter().all(|name| cluster.partitions.contains_key(name)) {
                return Ok(cluster);
            }
            sleep(PROPAGATION).await;
        }
        Err(self.away("the topics just made do not appear in the cluster"))
    }

    async fn ask(&self) -> Result<Arc<Cluster>, BackendError> {
        let ask = self.producer.metadata(None);
        let answer = self.cluster.answer(ANSWER, move || ask().map(|metadata| Arc::new(Cluster::of(&metadata)))).await;
        answer.map_err(|problem| match self.producer.last_problem() {
            Some(last) => self.away(&format!("{problem}; last problem: {last}")),
            None => self.away(&problem),
        })
    }

    fn away(&self, problem: &str) -> BackendError {
        BackendError::Retry(format!("Kafka at {} does not answer: {problem}", self.settings.brokers))
    }

    /// The names made here; those that another process made meanwhile are left out.
    async fn create(&self, missing: &[&(String, Topic)], nodes: i16) -> Result<Vec<String>, BackendError> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let topics: Vec<NewTopic<'_>> = missing
            .iter()
            .map(|(name, topic)| {
                let mut settings = vec![("retention.ms", RETENTION_MS)];
                if nodes >= REPLICATION {
                    settings.push(("min.insync.replicas", "2"));
                }
                NewTopic { name, partitions: topic.partitions(), replicas: REPLICATION.min(nodes), settings }
            })
            .collect();
        let brokers = &self.settings.brokers;
        let unmade = |e: String| BackendError::Retry(format!("Kafka at {brokers} made no topics: {e}"));
        let mut created = Vec::new();
        for (name, problem) in self.guide.create_topics(&topics, ANSWER).await.map_err(unmade)? {
            match problem {
                Ok(()) => created.push(name),
                Err((ResponseError::TopicAlreadyExists, _)) => {}
                Err((error, told)) if error.is_retriable() => return Err(unmade(format!("{name}: {told}"))),
                Err((_, told)) => {
                    let partitions =
                        missing.iter().find(|(n, _)| *n == name).map_or(0, |(_, topic)| topic.partitions());
                    let text = format!(
                        "topic {name} cannot be made at {brokers}: {told}; make it there with {partitions} partitions"
                    );
                    return Err(BackendError::Fatal(text));
                }
            }
        }
        Ok(created)
    }
}

/// What a cluster says of itself.
struct Cluster {
    brokers: i16,
    /// Partitions of every topic that exists.
    partitions: BTreeMap<String, i32>,
}

impl Cluster {
    fn of(metadata: &Metadata) -> Cluster {
        let topics = metadata.topics().iter().filter(|topic| !topic.partitions().is_empty());
        Cluster {
            brokers: metadata.brokers().len() as i16,
            partitions: topics.map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32)).collect(),
        }
    }
}
