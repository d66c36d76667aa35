//! The topics of K2 on a cluster: made where they are missing, reported, never repartitioned.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::oneshot;

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

type Admin = AdminClient<DefaultClientContext>;

/// Makes and reports every topic of K2.
pub(super) async fn check(
    config: ClientConfig,
    brokers: &str,
    topic_prefix: &str,
) -> Result<Vec<TopicReport>, BackendError> {
    let (admin, cluster) = elsewhere(brokers, move || {
        let admin: Admin = config.create().map_err(|e| e.to_string())?;
        let cluster = Cluster::ask(&admin)?;
        Ok((admin, cluster))
    })
    .await?;
    let wanted: Vec<(String, Topic)> =
        Topic::ALL.iter().map(|topic| (format!("{topic_prefix}{}", topic.name()), *topic)).collect();
    let missing: Vec<&(String, Topic)> =
        wanted.iter().filter(|(name, _)| !cluster.partitions.contains_key(name)).collect();
    let created = create(&admin, &missing, cluster.brokers, brokers).await?;
    let waited_for = created.clone();
    let cluster = elsewhere(brokers, move || {
        for _ in 0..PROPAGATION_ASKS {
            let cluster = Cluster::ask(&admin)?;
            if waited_for.iter().all(|name| cluster.partitions.contains_key(name)) {
                return Ok(cluster);
            }
            #[allow(clippy::disallowed_methods)] // a thread of its own that speaks to a real broker
            std::thread::sleep(PROPAGATION);
        }
        Err("the topics just made do not appear in the cluster".to_owned())
    })
    .await?;
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

/// The names made here; those that another process made meanwhile are left out.
async fn create(
    admin: &Admin,
    missing: &[&(String, Topic)],
    nodes: i32,
    brokers: &str,
) -> Result<Vec<String>, BackendError> {
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
    let options = AdminOptions::new().request_timeout(Some(ANSWER)).operation_timeout(Some(ANSWER));
    let results = admin
        .create_topics(&topics, &options)
        .await
        .map_err(|e| BackendError::Retry(format!("Kafka at {brokers} made no topics: {e}")))?;
    let mut created = Vec::new();
    for result in results {
        match result {
            Ok(name) => created.push(name),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                let partitions = missing.iter().find(|(n, _)| *n == name).map_or(0, |(_, topic)| topic.partitions());
                let text = format!(
                    "topic {name} cannot be made at {brokers}: {code}; make it there with {partitions} partitions"
                );
                return Err(BackendError::Fatal(text));
            }
        }
    }
    Ok(created)
}

/// What a cluster says of itself.
struct Cluster {
    brokers: i32,
    /// Partitions of every topic that exists.
    partitions: BTreeMap<String, i32>,
}

impl Cluster {
    fn ask(admin: &Admin) -> Result<Cluster, String> {
        let metadata = admin.inner().fetch_metadata(None, ANSWER).map_err(|e| e.to_string())?;
        let topics = metadata.topics().iter().filter(|topic| !topic.partitions().is_empty());
        Ok(Cluster {
            brokers: metadata.brokers().len() as i32,
            partitions: topics.map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32)).collect(),
        })
    }
}

/// Runs what blocks on a thread of its own; also the end of the client, which waits for its threads.
async fn elsewhere<T: Send + 'static>(
    brokers: &str,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, BackendError> {
    let away = |problem: String| BackendError::Retry(format!("Kafka at {brokers} does not answer: {problem}"));
    let (done, answer) = oneshot::channel();
    std::thread::Builder::new()
        .name("kafka-check".into())
        .spawn(move || done.send(work()))
        .map_err(|e| away(e.to_string()))?;
    answer.await.map_err(|e| away(e.to_string()))?.map_err(away)
}
