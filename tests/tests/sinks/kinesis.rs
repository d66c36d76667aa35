//! Streams of Kinesis, as an AWS endpoint serves them, read by its own client; and an endpoint that fails as it is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use streammanager::aws::{Aws, KinesisSink};
use streammanager::record::Topic;
use streammanager::sink::conformance::{Breakable, Stored, TestSink};
use streammanager::sink::{Sink, Written};
use streammanager_tests::chaos::relay::Relay;
use streammanager_tests::endpoints::Endpoint;
use streammanager_tests::free_port;
use streammanager_tests::kinesis::{Found, read};

const REGION: &str = "us-west-2";

/// Kinesis under a prefix.
pub struct KinesisWorld {
    aws: Aws,
    /// Where it is read.
    reader: Client,
    prefix: String,
    try_time: Duration,
    /// The streams are others', as a stack's are a function's.
    are_given: bool,
}

impl KinesisWorld {
    pub async fn on_ministack() -> Option<KinesisWorld> {
        KinesisWorld::fresh(Endpoint::Ministack, "laws").await
    }

    pub async fn on_localstack() -> Option<KinesisWorld> {
        KinesisWorld::fresh(Endpoint::LocalStack, "laws").await
    }

    /// As a function writes to the streams of its stack.
    pub async fn of_a_stack() -> Option<KinesisWorld> {
        let world = KinesisWorld::fresh(Endpoint::Ministack, "stack").await?;
        Some(KinesisWorld { are_given: true, ..world })
    }

    /// One prefix a name, so that the laws share their streams; with time to spare for each record.
    pub async fn fresh(at: Endpoint, name: &str) -> Option<KinesisWorld> {
        let url = at.url_for("a test of Sink on Kinesis")?;
        Some(KinesisWorld::through(&url, &url, name).await)
    }

    async fn through(url: &str, read_at: &str, name: &str) -> KinesisWorld {
        KinesisWorld {
            aws: Aws::connect(Some(url), REGION).await,
            reader: Client::new(Aws::connect(Some(read_at), REGION).await.config()),
            prefix: format!("sinks-{}-{name}-", std::process::id()),
            try_time: Duration::from_secs(20),
            are_given: false,
        }
    }

    pub fn connect(&self) -> KinesisSink {
        self.aws.sink(&self.prefix).unwrap().trying_for(self.try_time)
    }

    pub fn named(&self, topic: Topic) -> String {
        format!("{}{}", self.prefix, topic.name())
    }

    pub async fn delete(&self, topic: Topic) {
        self.reader.delete_stream().stream_name(self.named(topic)).send().await.unwrap();
    }

    /// A stream as a process leaves it that ended between making it and keeping it longer.
    pub async fn make_for_a_day(&self, topic: Topic) {
        self.reader.create_stream().stream_name(self.named(topic)).shard_count(1).send().await.unwrap();
    }

    /// How long records are kept, for each stream that is there.
    pub async fn retention_hours(&self) -> BTreeMap<Topic, i32> {
        let mut found = BTreeMap::new();
        for topic in Topic::ALL {
            let asked = self.reader.describe_stream_summary().stream_name(self.named(*topic)).send().await;
            if let Some(summary) = asked.ok().and_then(|answer| answer.stream_description_summary) {
                found.insert(*topic, summary.retention_period_hours);
            }
        }
        found
    }

    /// Everything in `topic`'s shards, in order, by the shard's number.
    pub async fn read_topic(&self, topic: Topic) -> Vec<(i32, Found)> {
        read(&self.reader, &self.named(topic)).await
    }
}

#[async_trait]
impl TestSink for KinesisWorld {
    async fn open(&self) -> Arc<dyn Sink> {
        let sink = self.connect();
        sink.check().await.unwrap();
        Arc::new(if self.are_given { sink.on_given_streams() } else { sink })
    }

    async fn read(&self) -> Vec<Stored> {
        let mut all = Vec::new();
        for topic in [Topic::NASA_FIRMS, Topic::WEATHER] {
            let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
            for (partition, found) in self.read_topic(topic).await {
                let end = ends.entry(partition).or_default();
                *end += 1;
                all.push(Stored {
                    topic: topic.name().into(),
                    value: found.data().as_bytes().to_vec(),
                    key: Some(found.attributes()["partitionkey"].clone()),
                    headers: None,
                    timestamp_ms: None,
                    written: Written { partition, offset: *end - 1 },
                });
            }
        }
        all
    }

    fn tells_where(&self) -> bool {
        false
    }
}

/// Kinesis behind a line that can be cut.
pub struct FarKinesis {
    world: KinesisWorld,
    line: Relay,
}

impl FarKinesis {
    pub async fn on_ministack() -> Option<FarKinesis> {
        let url = Endpoint::Ministack.url_for("a law of Sink on a Kinesis that fails")?;
        let line = Relay::start(free_port(), url.rsplit_once(':').unwrap().1.parse().unwrap());
        let near = format!("http://127.0.0.1:{}", line.port);
        let mut world = KinesisWorld::through(&near, &url, &format!("far-{}", line.port)).await;
        world.try_time = streammanager::limits::TRY;
        Some(FarKinesis { world, line })
    }
}

#[async_trait]
impl TestSink for FarKinesis {
    async fn open(&self) -> Arc<dyn Sink> {
        self.world.open().await
    }

    async fn read(&self) -> Vec<Stored> {
        self.world.read().await
    }

    fn tells_where(&self) -> bool {
        false
    }
}

#[async_trait]
impl Breakable for FarKinesis {
    async fn outage(&self, out: bool) {
        if out { self.line.cut() } else { self.line.mend() }
    }
}
