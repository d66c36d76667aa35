//! rdkafka as the laws use it: short-named producers, consumers and administration, with time limits everywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::target::Target;

/// For one call. Generous: two cores may be shared by several test runs.
pub const LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub headers: BTreeMap<String, Vec<u8>>,
    pub time: Option<i64>,
}

pub fn config(target: &Target, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &target.address).set("socket.nagle.disable", "true");
    set_all(&mut config, settings);
    config
}

fn set_all(config: &mut ClientConfig, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        config.set(*name, *value);
    }
}

pub fn producer(target: &Target, settings: &[(&str, &str)]) -> FutureProducer {
    let mut config = config(target, &[("linger.ms", "1"), ("message.timeout.ms", "30000")]);
    set_all(&mut config, settings);
    config.create().expect("a producer")
}

/// Sends all, many in flight, and answers where each was written.
pub async fn send(
    producer: &FutureProducer,
    topic: &str,
    records: &[Record],
) -> Vec<Result<(i32, i64), RDKafkaErrorCode>> {
    let mut sent = FuturesOrdered::new();
    for record in records {
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(rdkafka::message::Header { key, value: Some(value) })
        });
        let mut out = FutureRecord::to(topic).payload(&record.value).partition(record.partition).headers(headers);
        out.key = record.key.as_ref();
        out.timestamp = record.time;
        // The queue of the client holds 100,000; no law sends more.
        sent.push_back(producer.send_result(out).map_err(|(error, _)| error).expect("the client takes it"));
    }
    let delivered = sent.map(|delivery| match delivery.expect("the producer lives") {
        Ok(delivery) => Ok((delivery.partition, delivery.offset)),
        Err((error, _)) => Err(error.rdkafka_error_code().expect("a broker's or client's error")),
    });
    delivered.collect().await
}

/// Numbered records for one partition.
pub fn numbered(partition: i32, count: usize) -> Vec<Record> {
    let record = |number: usize| Record { partition, value: number.to_string().into_bytes(), ..Record::default() };
    (0..count).map(record).collect()
}

pub fn consumer(target: &Target, settings: &[(&str, &str)]) -> StreamConsumer {
    let mut config =
        config(target, &[("group.id", "none"), ("enable.auto.commit", "false"), ("auto.offset.reset", "earliest")]);
    set_all(&mut config, settings);
    config.create().expect("a consumer")
}

/// Everything in the topic, by partition and offset.
pub async fn read_all(target: &Target, topic: &str) -> Vec<Record> {
    read_with(target, topic, &[]).await
}

pub async fn read_with(target: &Target, topic: &str, settings: &[(&str, &str)]) -> Vec<Record> {
    let consumer = consumer(target, settings);
    let mut left: BTreeMap<i32, i64> = BTreeMap::new();
    let mut from = TopicPartitionList::new();
    for partition in partitions(&consumer, topic).unwrap_or_else(|error| panic!("{topic}: {error}")) {
        let (low, high) = consumer.fetch_watermarks(topic, partition, LIMIT).expect("watermarks");
        if low < high {
            left.insert(partition, high);
            from.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
        }
    }
    consumer.assign(&from).expect("an assignment");
    let mut records = Vec::new();
    while !left.is_empty() {
        let record = next(&consumer).await;
        if left.get(&record.partition).is_some_and(|high| record.offset + 1 >= *high) {
            left.remove(&record.partition);
        }
        records.push(record);
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

pub async fn next(consumer: &StreamConsumer) -> Record {
    let message = tokio::time::timeout(LIMIT, consumer.recv()).await.expect("a record in time").expect("a record");
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().unwrap_or_default().to_vec(),
        headers: headers.map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec())).collect(),
        time: message.timestamp().to_millis(),
    }
}

pub fn admin(target: &Target) -> AdminClient<DefaultClientContext> {
    config(target, &[]).create().expect("an admin client")
}

pub fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(LIMIT)).request_timeout(Some(LIMIT))
}

/// Creates the topic and waits until it can be written to.
pub async fn create(target: &Target, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
    let created = admin(target).create_topics([&new], &options()).await.expect("an answer");
    assert_eq!(created, [Ok(topic.to_owned())]);
    wait_for_partitions(target, topic, partitions as usize).await;
}

/// A real broker applies changes of topics a little after it has answered.
pub async fn wait_for_partitions(target: &Target, topic: &str, count: usize) {
    let client: BaseConsumer = config(target, &[]).create().expect("a client");
    for _ in 0..300 {
        if partitions(&client, topic).is_ok_and(|found| found.len() == count) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{topic} does not get {count} partitions");
}

/// The topic's partitions as the broker names them, without creating it.
pub fn partitions<C: Consumer>(client: &C, topic: &str) -> Result<Vec<i32>, RDKafkaErrorCode> {
    let metadata = client
        .fetch_metadata(Some(topic), LIMIT)
        .map_err(|error: KafkaError| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail))?;
    let topic = metadata.topics().first().ok_or(RDKafkaErrorCode::UnknownTopic)?;
    match topic.error() {
        Some(error) => Err(error.into()),
        None => Ok(topic.partitions().iter().map(|partition| partition.id()).collect()),
    }
}

pub fn flush(producer: &FutureProducer) {
    producer.flush(LIMIT).expect("everything is delivered");
}
