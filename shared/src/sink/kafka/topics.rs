//! The topics of K2 on a cluster: made where they are missing, reported, never repartitioned.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;
use tokio::time::{sleep, timeout};

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
const REPLICATION: i32 = 3;

/// The topics of one cluster, asked for through a producer that is there anyway.
pub(super) struct Topics {
    settings: KafkaSettings,
    producer: Arc<Producer>,
    cluster: Question<Arc<Cluster>>,
}

impl Topics {
    pub(super) fn new(settings: &KafkaSettings, producer: Arc<Producer>) -> Topics {
        Topics { settings: settings.clone(), producer, cluster: Question::new() }
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
    async fn create(&self, missing: &[&(String, Topic)], nodes: i32) -> Result<Vec<String>, BackendError> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let topics: Vec<NewTopic<'_>> = missing
            .iter()
            .map(|(name, topic)| {
                let replication = TopicReplication::Fixed(REPLICATION.min(nodes));
                let new = NewTopic::new(name, topic.partitions(), replication).set("retention.ms", RETENTION_MS);
                if nodes >= REPLICATION { new.set("min.insync.replicas", "2") } else { new }
            })
            .collect();
        let brokers = &self.settings.brokers;
        let unmade = |e| BackendError::Retry(format!("Kafka at {brokers} made no topics: {e}"));
        let admin = Admin(Some(self.settings.client().create().map_err(unmade)?));
        let options = AdminOptions::new().request_timeout(Some(ANSWER)).operation_timeout(Some(ANSWER));
        // The client's own waits go by the wall clock, which may be set back meanwhile.
        let results = timeout(2 * ANSWER, admin.client().create_topics(&topics, &options)).await;
        let results = results.map_err(|_| self.away("it does not say whether it made the topics"))?.map_err(unmade)?;
        let mut created = Vec::new();
        for result in results {
            match result {
                Ok(name) => created.push(name),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    let partitions =
                        missing.iter().find(|(n, _)| *n == name).map_or(0, |(_, topic)| topic.partitions());
                    let text = format!(
                        "topic {name} cannot be made at {brokers}: {code}; make it there with {partitions} partitions"
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
    brokers: i32,
    /// Partitions of every topic that exists.
    partitions: BTreeMap<String, i32>,
}

impl Cluster {
    fn of(metadata: &Metadata) -> Cluster {
        let topics = metadata.topics().iter().filter(|topic| !topic.partitions().is_empty());
        Cluster {
            brokers: metadata.brokers().len() as i32,
            partitions: topics.map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32)).collect(),
        }
    }
}

/// A client that makes topics.
struct Admin(Option<AdminClient<DefaultClientContext>>);

impl Admin {
    fn client(&self) -> &AdminClient<DefaultClientContext> {
        self.0.as_ref().expect("the client lives as long as its owner")
    }
}

impl Drop for Admin {
    /// Elsewhere: the client's end waits for its threads.
    fn drop(&mut self) {
        let client = self.0.take();
        let _ = std::thread::Builder::new().name("kafka-admin-end".into()).spawn(move || drop(client));
    }
}
