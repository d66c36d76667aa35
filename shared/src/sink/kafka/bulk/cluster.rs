//! What the cluster says of itself: its brokers, who leads which partition, and an id for who writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, InitProducerIdRequest, MetadataRequest, MetadataResponse, ProducerId, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::connection::{Ask, Connection};
use super::security::Handshake;

/// Asks any broker that answers.
pub(in crate::sink::kafka) struct Guide {
    pub(super) handshake: Handshake,
    bootstrap: Vec<String>,
    asking: Mutex<Asking>,
}

#[derive(Default)]
struct Asking {
    /// Brokers that the cluster named.
    named: Vec<String>,
    connection: Option<Arc<Connection>>,
    /// How many addresses have been tried.
    tried: usize,
}

/// What was asked of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    Partitions(i32),
    Missing,
    /// The cluster keeps it from us.
    Refused(String),
}

/// The cluster as it was when it was asked.
#[derive(Default)]
pub(super) struct Cluster {
    /// `HOST:PORT` of each broker.
    pub(super) brokers: BTreeMap<i32, String>,
    pub(super) topics: BTreeMap<Arc<str>, Known>,
    /// By topic and partition; a partition without a leader is not in it.
    pub(super) leaders: BTreeMap<(Arc<str>, i32), i32>,
}

impl Guide {
    pub(super) fn new(brokers: &str, handshake: Handshake) -> Guide {
        let bootstrap = brokers.split(',').map(|address| address.trim().to_owned()).collect();
        Guide { handshake, bootstrap, asking: Mutex::default() }
    }

    /// # Errors
    /// What stands in the way.
    pub(super) async fn cluster(&self, topics: Vec<Arc<str>>) -> Result<Cluster, String> {
        let name = |topic: &Arc<str>| TopicName(StrBytes::from_string(topic.to_string()));
        let asked = topics.iter().map(|topic| MetadataRequestTopic::default().with_name(Some(name(topic)))).collect();
        let request = MetadataRequest::default().with_topics(Some(asked)).with_allow_auto_topic_creation(false);
        let cluster = Cluster::read(&self.ask(&request).await?);
        self.asking.lock().named = cluster.brokers.values().cloned().collect();
        Ok(cluster)
    }

    /// An id that nobody else has.
    ///
    /// # Errors
    /// What stands in the way.
    pub(super) async fn producer_id(&self) -> Result<i64, String> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(i32::MAX)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let answer = self.ask(&request).await?;
        match ResponseError::try_from_code(answer.error_code) {
            None => Ok(answer.producer_id.0),
            Some(error) => Err(format!("Kafka gives no producer id: {error}")),
        }
    }

    /// Makes topics; whether each was made, by its name, else why not and in the broker's words.
    ///
    /// # Errors
    /// What stands in the way of asking.
    pub(in crate::sink::kafka) async fn create_topics(
        &self,
        topics: &[NewTopic<'_>],
        within: Duration,
    ) -> Result<Vec<(String, Result<(), (ResponseError, String)>)>, String> {
        let request = CreateTopicsRequest::default()
            .with_topics(topics.iter().map(NewTopic::asked).collect())
            .with_timeout_ms(within.as_millis().try_into().unwrap_or(i32::MAX));
        // Of its own: this lasts longer than answers to questions may.
        let connection = Connection::open(&self.controller().await?, &self.handshake).await?;
        // The broker says at the end of that time what it has not made by then: its answer has yet to come here.
        let patience = 2 * within;
        let answer = timeout(patience, connection.ask(&request)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))?;
        let made = |topic: CreatableTopicResult| {
            let told = topic.error_message.map(|words| words.to_string()).filter(|words| !words.is_empty());
            let problem = ResponseError::try_from_code(topic.error_code);
            let problem = problem.map(|error| (error, told.unwrap_or_else(|| error.to_string())));
            (topic.name.to_string(), problem.map_or(Ok(()), Err))
        };
        Ok(answer.topics.into_iter().map(made).collect())
    }

    /// Where the broker is that makes topics.
    async fn controller(&self) -> Result<String, String> {
        let answer = self.ask(&MetadataRequest::default().with_topics(Some(Vec::new()))).await?;
        let address = Cluster::read(&answer).brokers.remove(&answer.controller_id.0);
        address.ok_or_else(|| "the cluster is choosing its controller".into())
    }

    async fn ask<R: Ask>(&self, request: &R) -> Result<R::Response, String> {
        let connection = self.connection().await?;
        let answer = connection.ask_in_time(request).await;
        if answer.is_err() {
            let mut asking = self.asking.lock();
            asking.connection.take_if(|kept| Arc::ptr_eq(kept, &connection));
        }
        answer
    }

    async fn connection(&self) -> Result<Arc<Connection>, String> {
        let address = {
            let mut asking = self.asking.lock();
            if let Some(connection) = asking.connection.as_ref().filter(|connection| !connection.is_over()) {
                return Ok(connection.clone());
            }
            let addresses: Vec<&String> = self.bootstrap.iter().chain(&asking.named).collect();
            let address = addresses[asking.tried % addresses.len()].clone();
            asking.tried += 1;
            address
        };
        let connection = Arc::new(Connection::open(&address, &self.handshake).await?);
        self.asking.lock().connection = Some(connection.clone());
        Ok(connection)
    }
}

/// A topic that is to be made.
pub(in crate::sink::kafka) struct NewTopic<'a> {
    pub(in crate::sink::kafka) name: &'a str,
    pub(in crate::sink::kafka) partitions: i32,
    pub(in crate::sink::kafka) replicas: i16,
    pub(in crate::sink::kafka) settings: Vec<(&'static str, &'static str)>,
}

impl NewTopic<'_> {
    fn asked(&self) -> CreatableTopic {
        let set = |&(name, value): &(&'static str, &'static str)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(Some(StrBytes::from_static_str(value)))
        };
        CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_string(self.name.to_owned())))
            .with_num_partitions(self.partitions)
            .with_replication_factor(self.replicas)
            .with_configs(self.settings.iter().map(set).collect())
    }
}

impl Cluster {
    fn read(answer: &MetadataResponse) -> Cluster {
        let mut cluster = Cluster::default();
        for broker in &answer.brokers {
            let (host, port) = (broker.host.as_str(), broker.port);
            let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            cluster.brokers.insert(broker.node_id.0, address);
        }
        for topic in &answer.topics {
            let Some(name) = &topic.name else { continue };
            let name: Arc<str> = name.as_str().into();
            let known = match ResponseError::try_from_code(topic.error_code) {
                // It is being made.
                None if topic.partitions.is_empty() => continue,
                None => Known::Partitions(topic.partitions.len() as i32),
                Some(ResponseError::UnknownTopicOrPartition) => Known::Missing,
                // Its leaders are being chosen.
                Some(error) if error.is_retriable() => continue,
                Some(error) => Known::Refused(format!("Kafka: {error}")),
            };
            cluster.topics.insert(name.clone(), known);
            for partition in &topic.partitions {
                // A leader of which nobody knows where it is, is none.
                if !cluster.brokers.contains_key(&partition.leader_id.0) {
                    continue;
                }
                cluster.leaders.insert((name.clone(), partition.partition_index), partition.leader_id.0);
            }
        }
        cluster
    }
}
