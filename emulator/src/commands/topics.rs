//! `topics`: what stands in Kafka, for people without Kafka's own tools.

use std::io::{ErrorKind, Write, stdout};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use streammanager::sink::kafka::LoginContext;
use streammanager_host::exit::{Exit, Failure};
use streammanager_host::host::kafka_settings;

use crate::cli::{BrokerArgs, TopicsCommand};
use crate::commands::print;

const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn run(command: TopicsCommand) -> Result<Exit, Failure> {
    // The consumer blocks; nothing else runs in this process.
    tokio::task::block_in_place(|| match command {
        TopicsCommand::List { broker } => list(&broker),
        TopicsCommand::Tail { topic, from_beginning, max, broker } => tail(&broker, &topic, from_beginning, max),
    })
}

fn consumer(broker: &BrokerArgs) -> Result<BaseConsumer<LoginContext>, Failure> {
    let consumer = kafka_settings(&broker.brokers(), "")?.consumer("streammanager-topics");
    consumer.map_err(|e| Failure::new(format!("--kafka {}: {e}", broker.brokers())))
}

fn unreachable(broker: &BrokerArgs, e: &rdkafka::error::KafkaError) -> Failure {
    Failure::new(format!("Kafka at {}: {e}; is it running? name it with --kafka HOST:PORT", broker.brokers()))
}

fn list(broker: &BrokerArgs) -> Result<Exit, Failure> {
    let consumer = consumer(broker)?;
    let metadata = consumer.fetch_metadata(None, TIMEOUT).map_err(|e| unreachable(broker, &e))?;
    let mut lines = Vec::new();
    for topic in metadata.topics().iter().filter(|topic| !topic.name().starts_with("__")) {
        let mut messages = 0;
        for partition in topic.partitions() {
            let (low, high) = consumer
                .fetch_watermarks(topic.name(), partition.id(), TIMEOUT)
                .map_err(|e| unreachable(broker, &e))?;
            messages += high - low;
        }
        let partitions = topic.partitions().len();
        lines.push(if broker.json {
            json!({ "topic": topic.name(), "partitions": partitions, "messages": messages }).to_string()
        } else {
            format!("{:<32} {partitions:>3} partitions {messages:>10} messages", topic.name())
        });
    }
    print(lines)?;
    Ok(Exit::Done)
}

fn tail(broker: &BrokerArgs, topic: &str, from_beginning: bool, max: Option<u64>) -> Result<Exit, Failure> {
    let consumer = consumer(broker)?;
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).map_err(|e| unreachable(broker, &e))?;
    let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
    if partitions.is_empty() {
        return Err(Failure::new(format!("there is no topic {topic}; `streammanager topics list` shows them")));
    }
    let offset = if from_beginning { Offset::Beginning } else { Offset::End };
    let mut assigned = TopicPartitionList::new();
    for partition in partitions {
        assigned.add_partition_offset(topic, partition.id(), offset).map_err(Failure::new)?;
    }
    consumer.assign(&assigned).map_err(|e| unreachable(broker, &e))?;
    let mut shown = 0;
    while max.is_none_or(|max| shown < max) {
        let Some(polled) = consumer.poll(Duration::from_millis(500)) else { continue };
        let message = polled.map_err(|e| unreachable(broker, &e))?;
        match writeln!(stdout(), "{}", line(&message, broker.json)) {
            Ok(()) => shown += 1,
            Err(e) if e.kind() == ErrorKind::BrokenPipe => break,
            Err(e) => return Err(Failure::new(format!("standard output: {e}"))),
        }
    }
    Ok(Exit::Done)
}

fn line(message: &impl Message, as_json: bool) -> String {
    let lossy = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    if !as_json {
        return format!("{} {}", lossy(message.key()), lossy(message.payload()));
    }
    let mut headers = serde_json::Map::new();
    if let Some(given) = message.headers() {
        for header in given.iter() {
            headers.insert(header.key.to_owned(), lossy(header.value).into());
        }
    }
    let value: Value = message.payload().and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or(Value::Null);
    json!({
        "partition": message.partition(), "offset": message.offset(), "key": lossy(message.key()), "headers": headers,
        "value": value,
    })
    .to_string()
}
