//! The places that the laws of `Sink` run on, each read by other means than the sink's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Headers;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use streammanager::aws::MskTokens;
use streammanager::faults::sink::FaultySink;
use streammanager::limits::TRY;
use streammanager::record::Outgoing;
use streammanager::record::Topic;
use streammanager::sink::conformance::{Breakable, Stored, TestSink};
use streammanager::sink::kafka::{KafkaSettings, KafkaSink, Password, Security, Tls, TokenSource, Tokens};
use streammanager::sink::{FileSink, Sink, Written};
use streammanager::time::Clock;
use streammanager_tests::{kafka, kafka_authorities, kafka_libs, skip, workspace};
use tempfile::TempDir;

pub struct Memory(Arc<FaultySink>);

impl Memory {
    pub async fn new() -> Option<Memory> {
        Some(Memory(Arc::new(FaultySink::memory())))
    }
}

#[async_trait]
impl TestSink for Memory {
    async fn open(&self) -> Arc<dyn Sink> {
        self.0.clone()
    }

    async fn read(&self) -> Vec<Stored> {
        let mut next: BTreeMap<Topic, i64> = BTreeMap::new();
        let stored = |record: Outgoing| Stored {
            written: Written { partition: 0, offset: following(next.entry(record.topic).or_default(), 1) },
            headers: Some(record.headers().iter().map(|(n, v)| (n.to_string(), v.to_string())).collect()),
            topic: record.topic.name().to_owned(),
            value: record.value.to_vec(),
            key: Some(record.key),
            timestamp_ms: Some(record.ingested_at.as_millisecond()),
        };
        self.0.stored().into_iter().map(stored).collect()
    }
}

#[async_trait]
impl Breakable for Memory {
    async fn outage(&self, out: bool) {
        self.0.outage(out);
    }
}

/// The offset `next`, which moves on by the size of what lies there.
fn following(next: &mut i64, size: i64) -> i64 {
    std::mem::replace(next, *next + size)
}

pub struct Files(TempDir);

impl Files {
    pub async fn new() -> Option<Files> {
        Some(Files(tempfile::tempdir().unwrap()))
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("sink")
    }

    fn topics(&self) -> impl Iterator<Item = (&'static str, PathBuf)> + '_ {
        Topic::ALL.iter().map(|topic| (topic.name(), self.folder().join(format!("{}.ndjson", topic.name()))))
    }
}

#[async_trait]
impl TestSink for Files {
    async fn open(&self) -> Arc<dyn Sink> {
        Arc::new(FileSink::open(self.folder()).unwrap())
    }

    async fn read(&self) -> Vec<Stored> {
        let mut all = Vec::new();
        for (topic, path) in self.topics().filter(|(_, path)| path.is_file()) {
            let bytes = fs::read(path).unwrap();
            assert!(bytes.ends_with(b"\n"));
            let mut next = 0;
            all.extend(bytes[..bytes.len() - 1].split(|&byte| byte == b'\n').map(|line| Stored {
                written: Written { partition: 0, offset: following(&mut next, line.len() as i64 + 1) },
                topic: topic.into(),
                value: line.to_vec(),
                key: None,
                headers: None,
                timestamp_ms: None,
            }));
        }
        all
    }
}

#[async_trait]
impl Breakable for Files {
    /// A file in the folder's place, since root may write into every folder.
    async fn outage(&self, out: bool) {
        let (folder, aside) = (self.folder(), self.0.path().join("aside"));
        if out {
            fs::rename(&folder, aside).unwrap();
            fs::write(folder, "").unwrap();
        } else {
            fs::remove_file(&folder).unwrap();
            fs::rename(aside, folder).unwrap();
        }
    }
}

/// Real Apache Kafka under a prefix.
pub struct KafkaWorld {
    pub settings: KafkaSettings,
    /// Where it is read, without TLS or a password.
    pub plain: String,
}

/// The other ways in that `tests/services/kafka secure` opens.
#[derive(Debug, Clone, Copy)]
pub enum Guarded {
    Tls,
    Scram,
    ScramOverTls,
    /// By tokens, with sessions of three seconds.
    Iam,
}

/// Whom the broker takes tokens of: `tests/services/java/MskTokens.java`.
pub const LOOKOUT: (&str, &str) = ("AKIDLOOKOUT", "smoke-column");
pub const REGION: &str = "us-west-2";

/// Signs as whoever has this access key.
pub fn signer((access_key, secret_key): (&str, &str), region: &str) -> MskTokens {
    let session = Some("smoke/session+token==".to_owned());
    let credentials = Credentials::new(access_key, secret_key, session, None, "test");
    MskTokens::provided(region, SharedCredentialsProvider::new(credentials))
}

pub fn tokens(source: impl TokenSource + 'static) -> Tokens {
    Tokens::new(Arc::new(source), Clock::system())
}

impl Guarded {
    fn settings(self, plain: &KafkaSettings, authorities: &Path) -> KafkaSettings {
        let ca = Some(authorities.join("ca.pem"));
        let scram =
            |tls| Security::ScramSha512 { user: "lookout".into(), password: Password::new("smoke-column"), tls };
        let (host, offset, security) = match self {
            Guarded::Tls => ("127.0.0.1", 2, Security::Tls { ca }),
            Guarded::Scram => ("127.0.0.1", 3, scram(None)),
            Guarded::ScramOverTls => ("localhost", 4, scram(Some(Tls { ca }))),
            Guarded::Iam => {
                ("localhost", 4, Security::Iam { tokens: tokens(signer(LOOKOUT, REGION)), tls: Tls { ca } })
            }
        };
        let port: u16 = plain.brokers.rsplit_once(':').unwrap().1.parse().unwrap();
        KafkaSettings { brokers: format!("{host}:{}", port + offset), security, ..plain.clone() }
    }
}

impl KafkaWorld {
    /// One prefix a process, so that the laws share their topics.
    pub async fn shared() -> Option<KafkaWorld> {
        KafkaWorld::fresh("laws")
    }

    pub fn fresh(name: &str) -> Option<KafkaWorld> {
        match kafka() {
            Some(brokers) => Some(KafkaWorld::at(&brokers, name)),
            None => {
                skip("a law of Sink on Kafka", "STREAMMANAGER_TEST_KAFKA is not set");
                None
            }
        }
    }

    pub async fn over_tls() -> Option<KafkaWorld> {
        KafkaWorld::guarded("laws-tls", Guarded::Tls)
    }

    pub async fn over_scram_and_tls() -> Option<KafkaWorld> {
        KafkaWorld::guarded("laws-scram", Guarded::ScramOverTls)
    }

    pub async fn by_tokens() -> Option<KafkaWorld> {
        KafkaWorld::guarded("laws-iam", Guarded::Iam)
    }

    pub fn guarded(name: &str, way: Guarded) -> Option<KafkaWorld> {
        match (kafka(), kafka_authorities()) {
            (Some(brokers), Some(authorities)) => {
                let world = KafkaWorld::at(&brokers, name);
                Some(KafkaWorld { settings: way.settings(&world.settings, &authorities), ..world })
            }
            _ => {
                skip(
                    "a test of Sink on Kafka with TLS, SCRAM or tokens",
                    "STREAMMANAGER_TEST_KAFKA_AUTHORITIES is not set",
                );
                None
            }
        }
    }

    /// With time to spare for each record: a busy machine is no fault of the sink.
    fn at(brokers: &str, name: &str) -> KafkaWorld {
        let prefix = format!("sinks-{}-{name}-", std::process::id());
        let settings = KafkaSettings::plaintext(brokers, &prefix).unwrap();
        let settings = KafkaSettings { try_time: Duration::from_secs(20), ..settings };
        KafkaWorld { settings, plain: brokers.to_owned() }
    }

    pub fn named(&self, topic: Topic) -> String {
        format!("{}{}", self.settings.topic_prefix, topic.name())
    }

    pub fn connect(&self) -> KafkaSink {
        KafkaSink::connect(&self.settings).unwrap()
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.plain).create().unwrap()
    }

    pub async fn make(&self, topic: &str, partitions: i32, config: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        new.config = config.to_vec();
        let made = self.admin().create_topics([&new], &AdminOptions::new()).await.unwrap();
        assert_eq!(made, [Ok(topic.to_owned())]);
    }

    pub async fn delete(&self, topic: &str) {
        let deleted = self.admin().delete_topics(&[topic], &AdminOptions::new()).await.unwrap();
        assert_eq!(deleted, [Ok(topic.to_owned())]);
    }

    /// Partitions and retention of every topic under the prefix. Asked again while one is just being made or deleted: the
    /// broker names it for a moment without knowing settings of it.
    pub async fn topics(&self) -> BTreeMap<String, (i32, String)> {
        let admin = self.admin();
        for _ in 0..100 {
            if let Some(topics) = self.settled_topics(&admin).await {
                return topics;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("a topic under {} has no settings", self.settings.topic_prefix);
    }

    async fn settled_topics(
        &self,
        admin: &AdminClient<DefaultClientContext>,
    ) -> Option<BTreeMap<String, (i32, String)>> {
        let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(10)).unwrap();
        let mut found = BTreeMap::new();
        for topic in metadata.topics().iter().filter(|topic| topic.name().starts_with(&self.settings.topic_prefix)) {
            let resource = ResourceSpecifier::Topic(topic.name());
            let configs = admin.describe_configs([&resource], &AdminOptions::new()).await.unwrap();
            let retention = configs[0].as_ref().ok()?.get("retention.ms")?.value.clone()?;
            found.insert(topic.name().to_owned(), (topic.partitions().len() as i32, retention));
        }
        Some(found)
    }

    /// Everything in `topic`'s partitions, each to its present end, with the partition it lies in.
    pub async fn read_topic(&self, topic: Topic) -> Vec<(i32, Stored)> {
        let (brokers, name) = (self.plain.clone(), self.named(topic));
        tokio::task::spawn_blocking(move || read(&brokers, &name, topic)).await.unwrap()
    }
}

#[async_trait]
impl TestSink for KafkaWorld {
    async fn open(&self) -> Arc<dyn Sink> {
        let sink = self.connect();
        sink.check().await.unwrap();
        Arc::new(sink)
    }

    async fn read(&self) -> Vec<Stored> {
        let mut all = Vec::new();
        for topic in [Topic::NASA_FIRMS, Topic::WEATHER, Topic::IOT_SENSORS] {
            all.extend(self.read_topic(topic).await.into_iter().map(|(_, stored)| stored));
        }
        all
    }
}

/// Where a read begins, and the offset at which each partition that holds messages ends.
type Range = (TopicPartitionList, BTreeMap<i32, i64>);

/// Every partition from its first message on, and the offset each ends at; `None` while one has no leader. Ends are kept by
/// partition: a topic is shared, and what others write meanwhile would use up a sum.
fn ends(consumer: &BaseConsumer, name: &str, within: Duration) -> Result<Option<Range>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(name), within)?;
    let partitions = metadata.topics()[0].partitions();
    if partitions.is_empty() || partitions.iter().any(|partition| partition.error().is_some() || partition.leader() < 0)
    {
        return Ok(None);
    }
    let (mut assigned, mut ends) = (TopicPartitionList::new(), BTreeMap::new());
    for partition in partitions.iter().map(|partition| partition.id()) {
        let (low, high) = consumer.fetch_watermarks(name, partition, within)?;
        assigned.add_partition_offset(name, partition, Offset::Offset(low))?;
        if low < high {
            ends.insert(partition, high);
        }
    }
    Ok(Some((assigned, ends)))
}

fn read(brokers: &str, name: &str, topic: Topic) -> Vec<(i32, Stored)> {
    let within = Duration::from_secs(10);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "none")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    // A topic that was just made has partitions without a leader for a moment, under load for longer.
    let mut tries = 0;
    let (assigned, mut open) = loop {
        match ends(&consumer, name, within) {
            Ok(Some(ends)) => break ends,
            other if tries == 40 => panic!("{name}: {:?}", other.err()),
            _ => tries += 1,
        }
        std::thread::sleep(Duration::from_millis(250));
    };
    consumer.assign(&assigned).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut all = Vec::new();
    while !open.is_empty() {
        let message = consumer.poll(within).expect("the partitions end at their high watermarks").unwrap();
        let (partition, offset) = (message.partition(), message.offset());
        match open.get(&partition) {
            Some(&end) if offset + 1 >= end => _ = open.remove(&partition),
            Some(_) => {}
            // Written after this read began, beyond the partition's end.
            None => continue,
        }
        let headers = message
            .headers()
            .map(|headers| headers.iter().map(|header| (header.key.to_owned(), text(header.value.unwrap()))).collect());
        let stored = Stored {
            topic: topic.name().into(),
            value: message.payload().unwrap().to_vec(),
            key: message.key().map(text),
            headers,
            timestamp_ms: message.timestamp().to_millis(),
            written: Written { partition, offset },
        };
        all.push((partition, stored));
    }
    all
}

/// A broker of the test's own, killed and started again.
pub struct OwnKafka {
    folder: TempDir,
    port: u16,
    broker: Mutex<Option<Child>>,
    world: KafkaWorld,
}

impl OwnKafka {
    pub async fn start() -> Option<OwnKafka> {
        if kafka_libs().is_none() {
            skip("a law of Sink on a Kafka that fails", "STREAMMANAGER_TEST_KAFKA_LIBS is not set");
            return None;
        }
        let port = broker_port();
        let mut world = KafkaWorld::at(&format!("127.0.0.1:{port}"), "own");
        world.settings.try_time = TRY;
        let own = OwnKafka { folder: tempfile::tempdir().unwrap(), port, broker: Mutex::new(None), world };
        own.outage(false).await;
        Some(own)
    }
}

/// A port for a broker, whose controller takes the next one; below the range that outgoing connections are given, so that
/// nothing takes either while the broker is away.
fn broker_port() -> u16 {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 5_000) as u16 * 2;
    for _ in 0..1_000 {
        let port = 20_000 + (start + NEXT.fetch_add(2, Ordering::Relaxed)) % 10_000;
        if [port, port + 1].iter().all(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return port;
        }
    }
    panic!("no two free ports in a row between 20000 and 30000");
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        if let Some(mut broker) = self.broker.lock().take() {
            let _ = broker.kill();
            let _ = broker.wait();
        }
    }
}

#[async_trait]
impl TestSink for OwnKafka {
    async fn open(&self) -> Arc<dyn Sink> {
        self.world.open().await
    }

    async fn read(&self) -> Vec<Stored> {
        self.world.read().await
    }
}

#[async_trait]
impl Breakable for OwnKafka {
    async fn outage(&self, out: bool) {
        if out {
            let mut broker = self.broker.lock().take().expect("the broker runs");
            broker.kill().unwrap();
            broker.wait().unwrap();
            return;
        }
        let spawn = || {
            let mut command = Command::new(workspace().join("tests/services/kafka"));
            command.arg("run").arg(self.folder.path()).arg(self.port.to_string());
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        *self.broker.lock() = Some(spawn());
        for _ in 0..900 {
            // One that ended at once, for a port that was not free yet, is started again.
            {
                let mut broker = self.broker.lock();
                if broker.as_mut().is_some_and(|broker| broker.try_wait().unwrap().is_some()) {
                    *broker = Some(spawn());
                }
            }
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the broker does not start");
    }
}
