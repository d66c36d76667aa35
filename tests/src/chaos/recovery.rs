//! How fast what was buffered goes out once the broker is back [F4], and how fast an archive is loaded [F8], each beside the
//! plain program that reads its spool and produces it with the same settings.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, config::FromClientConfig};
use serde_json::{Value, json};
use streammanager::record::Topic;
use streammanager_host::host::kafka_settings;
use tokio::runtime::Runtime;

use super::broker::{Broker, Which};
use super::topics::all_there;
use crate::binary;
use crate::bodies::actual;
use crate::system::{Start, System};
use crate::upstream::firms_csv;

/// Buffered detections [F4], and rows of the archive [F8].
const BUFFERED: usize = 47_000;
const ARCHIVE: usize = 10_847;
const ALERTS: usize = 20;
/// Where the plain program writes to, with as many partitions as the detections have.
const PLAIN: &str = "plain-spool";
/// Nothing of ours takes so long; a run that does has stalled.
const STALLED: Duration = Duration::from_secs(60);
/// Between two looks at the ends of the topics.
const LOOK: Duration = Duration::from_millis(5);

/// Times from the broker's return, or from the start of the load, in seconds; one each run.
#[derive(Debug, Default)]
pub struct Recovery {
    pub alerts: Vec<f64>,
    pub buffered: Vec<f64>,
    pub spool: Vec<f64>,
    pub archive: Vec<f64>,
    pub archive_spool: Vec<f64>,
    /// Records that were there twice.
    pub repeated: i64,
}

/// `folder` is empty. Apache Kafka behind a relay: its connections are cut during the outage, and mended for its return.
///
/// # Panics
/// When anything is lost, or does not come within a minute.
pub fn measure(folder: &Path, runs: usize) -> Recovery {
    let (runtime, broker) = (Runtime::new().expect("a runtime"), Broker::start(Which::Kafka, folder));
    let relay = broker.relay().expect("Apache Kafka stands behind one");
    let mut measured = Recovery::default();
    // Makes the topics.
    let first = System::up(&start(&broker, &folder.join("first")));
    let ends = Ends::of(&broker);
    assert_eq!(first.stop().0, 0);
    runtime.block_on(make_plain(&broker));
    // The first run warms the broker up and is not counted.
    for run in 0..=runs {
        let own = folder.join(format!("run-{run}"));
        let start = start(&broker, &own);
        let rows = write(&own, "rows.csv", &firms_csv(run * BUFFERED, BUFFERED));
        let spool = write(&own, "spool.ndjson", &decoded("firms_viirs_snpp", &rows));
        let (alerts, detections) = (ends.sum(Topic::CRITICAL_ALERTS), ends.sum(Topic::NASA_FIRMS));

        relay.cut();
        let left = ingest("firms_viirs_snpp", &rows, &start);
        assert_eq!(left["queued"], BUFFERED, "{left}");
        let system = System::up(&start);
        let key = runtime.block_on(system.sender("butte"));
        for alert in 0..ALERTS {
            let sent = runtime.block_on(system.alert(&key, actual(&format!("R{run}-{alert}"))));
            assert_eq!(sent.expect("it answers").0, 200);
        }
        system.kill();
        let system = System::up(&start);
        relay.mend();
        let back = Instant::now();
        let first = ends.reach(Topic::CRITICAL_ALERTS, alerts + ALERTS as i64, back);
        let all = ends.reach(Topic::NASA_FIRMS, detections + BUFFERED as i64, back);
        let (code, ledger) = system.stop();
        assert_eq!((code, &ledger["ledger"]["balanced"]), (0, &Value::Bool(true)), "{ledger}");
        let repeated = ends.sum(Topic::NASA_FIRMS) - detections - BUFFERED as i64;

        relay.cut();
        let plain = Plain::waiting(&broker);
        sleep(Duration::from_secs(2));
        relay.mend();
        let spooled = plain.produces(&spool);

        let rows = write(&own, "archive.csv", &firms_csv(run * ARCHIVE, ARCHIVE));
        let archive = write(&own, "archive.ndjson", &decoded("historical_firms", &rows));
        let began = Instant::now();
        let loaded = ingest("historical_firms", &rows, &Start { data: own.join("archive"), ..start });
        let whole = began.elapsed().as_secs_f64();
        assert_eq!((&loaded["accepted"], &loaded["queued"]), (&json!(ARCHIVE), &json!(0)), "{loaded}");
        let archived = Plain::waiting(&broker).produces(&archive);
        std::fs::remove_dir_all(&own).expect("its own folder");
        if run > 0 {
            measured.alerts.push(first);
            measured.buffered.push(all);
            measured.spool.push(spooled);
            measured.archive.push(whole);
            measured.archive_spool.push(archived);
            measured.repeated += repeated;
        }
    }
    measured
}

fn start(broker: &Broker, folder: &Path) -> Start {
    Start { kafka: broker.told(), ..Start::quiet(folder) }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("the folder can be written to");
    path
}

/// The published values of a file, one a line: what a plain program would keep in its spool.
fn decoded(source: &str, rows: &Path) -> String {
    let decoded = Command::new(binary()).args(["decode", "--source", source]).arg(rows).output().expect("it starts");
    assert!(decoded.status.success(), "{decoded:?}");
    String::from_utf8(decoded.stdout).expect("text")
}

/// `ingest` to its end; its report.
fn ingest(source: &str, rows: &Path, start: &Start) -> Value {
    let mut command = Command::new(binary());
    command.args(["ingest", "--json", "--source", source, "--kafka", &start.kafka, "--data"]).arg(&start.data);
    let ended = command.arg(rows).stderr(Stdio::null()).output().expect("it starts");
    serde_json::from_slice(&ended.stdout).expect("a report")
}

async fn make_plain(broker: &Broker) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker.address()).create().expect("a client");
    let topic = NewTopic::new(PLAIN, Topic::NASA_FIRMS.partitions(), TopicReplication::Fixed(1));
    let made = admin.create_topics(&[topic], &AdminOptions::new()).await.expect("it answers");
    assert!(made.iter().all(Result::is_ok), "{made:?}");
}

/// How far the topics reach.
struct Ends(BaseConsumer);

impl Ends {
    fn of(broker: &Broker) -> Ends {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker.address()).set("reconnect.backoff.max.ms", "100");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        while !all_there(&consumer) {
            sleep(LOOK);
        }
        Ends(consumer)
    }

    fn sum(&self, topic: Topic) -> i64 {
        let end = |partition| {
            let ends = self.0.fetch_watermarks(topic.name(), partition, STALLED);
            ends.expect("the broker is there").1
        };
        (0..topic.partitions()).map(end).sum()
    }

    /// Seconds from `since` until so many records are there.
    fn reach(&self, topic: Topic, records: i64, since: Instant) -> f64 {
        while self.sum(topic) < records {
            assert!(since.elapsed() < STALLED, "{} does not reach {records} records in time", topic.name());
            sleep(LOOK);
        }
        since.elapsed().as_secs_f64()
    }
}

/// The plain program: it waits with its spool for the broker.
struct Plain(ThreadedProducer<DefaultProducerContext>);

impl Plain {
    fn waiting(broker: &Broker) -> Plain {
        let settings = kafka_settings(&broker.address(), "").expect("an address");
        let mut config = settings.client();
        config.set("acks", "all").set("enable.idempotence", "true").set("linger.ms", "5");
        config.set("compression.codec", "zstd").set("message.timeout.ms", "60000");
        Plain(ThreadedProducer::from_config(&config).expect("a producer"))
    }

    /// Seconds from now until every line is acknowledged.
    fn produces(self, spool: &Path) -> f64 {
        let began = Instant::now();
        for line in read_to_string(spool).expect("the spool").lines() {
            let mut record: BaseRecord<'_, (), str> = BaseRecord::to(PLAIN).payload(line);
            while let Err((problem, again)) = self.0.send(record) {
                assert_eq!(problem.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{problem}");
                record = again;
                sleep(Duration::from_millis(1));
            }
        }
        self.0.flush(STALLED).expect("the broker is there");
        began.elapsed().as_secs_f64()
    }
}
