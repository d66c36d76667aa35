use serde_json::json;
use streammanager::embedded::{Commits, Embedded, MemoryDisk, Options};
use streammanager::queue::Body;
use streammanager::store::Store;
use streammanager::time::Timestamp;
use tokio_util::task::TaskTracker;

use super::*;
use crate::up::invoke::testing::Scripted;
use crate::up::kinesis::{KinesisStream, Stores};

/// A stream of one shard with its reader.
struct World {
    function: Arc<Scripted>,
    folder: Embedded,
    stream: KinesisStream,
    stop: CancellationToken,
    tasks: TaskTracker,
    clock: Clock,
}

fn folder(clock: &Clock) -> Embedded {
    let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
    Embedded::on_disk(&MemoryDisk::new(), options).unwrap()
}

fn plan() -> Plan {
    Plan {
        batch_size: 10,
        bytes: 1 << 20,
        window: Duration::ZERO,
        bisect: false,
        retries: None,
        max_age: None,
        retention: Duration::from_secs(24 * 3600),
        parallel: 1,
    }
}

fn failures() -> QueueRef {
    QueueRef::new("local:failures")
}

impl World {
    async fn open(folder: &Embedded, clock: &Clock) -> World {
        let store: Arc<dyn Store> = Arc::new(folder.clone());
        let stream = KinesisStream::open("s", Some(1), Stores::both(store), clock).await.unwrap();
        let (function, stop, tasks) = (Arc::default(), CancellationToken::new(), TaskTracker::new());
        World { function, folder: folder.clone(), stream, stop, tasks, clock: clock.clone() }
    }

    async fn new() -> World {
        let clock = Clock::simulated(Timestamp::from_second(1_573_690_000).unwrap());
        World::open(&folder(&clock), &clock).await
    }

    async fn start(&self, plan: Plan, report_failures: bool, start: StartAt) {
        let mapping = Mapping {
            functions: self.function.clone(),
            function: "Reader".into(),
            function_arn: "arn:aws:lambda:us-west-2:000000000000:function:reader".into(),
            stream_arn: "arn:aws:kinesis:us-west-2:000000000000:stream/s".into(),
            plan,
            start,
            report_failures,
            on_failure: Some(failures()),
            queue: Arc::new(self.folder.clone()),
            clock: self.clock.clone(),
            rng: Rng::seeded(1),
        };
        self.stream.start(mapping, &self.tasks, &self.stop).await.unwrap();
    }

    async fn put(&self, data: &[&str]) {
        for data in data {
            self.stream.put("a".into(), data.as_bytes().to_vec()).await.unwrap();
        }
    }

    /// Until everything is read.
    async fn done(&self) {
        while self.stream.unread() > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The data of each call's records.
    fn calls(&self) -> Vec<String> {
        use base64::Engine;
        let data = |record: &Value| {
            let data = record["kinesis"]["data"].as_str().unwrap();
            String::from_utf8(base64::engine::general_purpose::STANDARD.decode(data).unwrap()).unwrap()
        };
        let call = |event: &Value| event["Records"].as_array().unwrap().iter().map(data).collect::<String>();
        self.function.events().iter().map(call).collect()
    }

    async fn reports(&self) -> Vec<Value> {
        let received = self.folder.receive(&failures(), 10, Duration::ZERO).await.unwrap();
        let body = |body: &Body| match body {
            Body::Text(text) => serde_json::from_str(text).unwrap(),
            Body::Binary(_) => panic!("a report is text"),
        };
        received.iter().map(|delivery| body(&delivery.body)).collect()
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn failed(number: u64) -> Result<Value, ()> {
    Ok(json!({ "batchItemFailures": [{ "itemIdentifier": (number * 10_000).to_string() }] }))
}

#[tokio::test(start_paused = true)]
async fn l5_a_batch_that_is_given_up_is_reported_as_lambda_documents_it() {
    let world = World::new().await;
    world.function.answers([Err(()), Err(())]);
    world.put(&["1", "2"]).await;
    world.start(Plan { retries: Some(1), ..plan() }, false, StartAt::Oldest).await;
    world.done().await;
    let reports = world.reports().await;
    let [report] = &reports[..] else { panic!("{reports:?}") };
    let request_id = report["requestContext"]["requestId"].as_str().unwrap();
    assert_eq!(request_id.len(), 36);
    let expected = json!({
        "requestContext": {
            "requestId": request_id,
            "functionArn": "arn:aws:lambda:us-west-2:000000000000:function:reader",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 2,
        },
        "responseContext": { "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled" },
        "version": "1.0",
        "timestamp": "2019-11-14T00:06:41.000Z",
        "KinesisBatchInfo": {
            "shardId": "shardId-000000000000",
            "startSequenceNumber": "10000",
            "endSequenceNumber": "20000",
            "approximateArrivalOfFirstRecord": "2019-11-14T00:06:40.000Z",
            "approximateArrivalOfLastRecord": "2019-11-14T00:06:40.000Z",
            "batchSize": 2,
            "streamArn": "arn:aws:kinesis:us-west-2:000000000000:stream/s",
        },
    });
    assert_eq!(*report, expected);
    assert_eq!(world.stream.given_up(), 2);
    world.put(&["3"]).await;
    world.done().await;
    assert_eq!(world.calls(), ["12", "12", "3"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn l5_an_answer_that_names_records_counts_only_where_the_mapping_says_so() {
    for (report_failures, calls) in [(false, vec!["123"]), (true, vec!["123", "23"])] {
        let world = World::new().await;
        world.function.answers([failed(2)]);
        world.put(&["1", "2", "3"]).await;
        world.start(plan(), report_failures, StartAt::Oldest).await;
        world.done().await;
        assert_eq!(world.calls(), calls);
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn l5_an_answer_that_cannot_be_read_fails_the_whole_batch() {
    let world = World::new().await;
    let named = |id: Value| Ok(json!({ "batchItemFailures": [{ "itemIdentifier": id }] }));
    // Another batch's record, no record, another shard's.
    world.function.answers([failed(9), named(json!("")), named(json!(null)), named(json!("20001")), Ok(json!("x"))]);
    world.put(&["1", "2", "3"]).await;
    world.start(plan(), true, StartAt::Oldest).await;
    world.done().await;
    assert_eq!(world.calls(), ["123"; 6]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn l5_a_new_mapping_begins_where_the_template_says_and_then_its_checkpoint_decides() {
    for (start, first) in [(StartAt::Oldest, "12"), (StartAt::Latest, ""), (StartAt::Time(1_573_690_010.0), "2")] {
        let clock = Clock::simulated(Timestamp::from_second(1_573_690_000).unwrap());
        let folder = folder(&clock);
        let world = World::open(&folder, &clock).await;
        world.put(&["1"]).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        world.put(&["2"]).await;
        world.start(plan(), false, start).await;
        world.put(&["3"]).await;
        world.done().await;
        assert_eq!(world.calls().concat(), format!("{first}3"), "{start:?}");
        world.end().await;
        // What comes while nobody reads is read after all.
        let world = World::open(&folder, &clock).await;
        world.put(&["4"]).await;
        world.start(plan(), false, start).await;
        world.done().await;
        assert_eq!(world.calls(), ["4"], "{start:?}");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn q1_a_kill_repeats_what_the_slowest_lane_had_not_done() {
    let clock = Clock::simulated(Timestamp::from_second(1_573_690_000).unwrap());
    let folder = folder(&clock);
    let world = World::open(&folder, &clock).await;
    // Calls come in the order of the lanes: which one fails does not matter.
    world.function.answers(std::iter::repeat_n(Err(()), 1));
    for key in ["a", "b", "c", "d", "e", "f"] {
        world.stream.put(key.into(), key.as_bytes().to_vec()).await.unwrap();
    }
    world.start(Plan { parallel: 4, ..plan() }, false, StartAt::Oldest).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let failed: String = world.calls()[0].clone();
    assert!(world.calls().len() > 1 && world.stream.unread() >= failed.len() as u64);
    world.end().await;
    let world = World::open(&folder, &clock).await;
    world.start(Plan { parallel: 4, ..plan() }, false, StartAt::Oldest).await;
    world.done().await;
    let again = world.calls().concat();
    assert!(failed.chars().all(|record| again.contains(record)), "{failed} in {again}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn l5_a_window_gathers_what_comes_meanwhile() {
    let world = World::new().await;
    world.start(Plan { window: Duration::from_secs(5), ..plan() }, false, StartAt::Oldest).await;
    for data in ["1", "2", "3"] {
        world.put(&[data]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(world.calls(), [""; 0]);
    world.done().await;
    assert_eq!(world.calls(), ["123"]);
    world.end().await;
}
