use streammanager::embedded::{Commits, Embedded, MemoryDisk, Options, QueueOptions};
use streammanager::queue::Message;

use super::*;
use crate::up::invoke::testing::Scripted;

/// A queue with its event source.
struct World {
    function: Arc<Scripted>,
    folder: Embedded,
    source: QueueSource,
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn queue() -> QueueRef {
    QueueRef::new("local:ticks")
}

impl World {
    fn new(takes: Duration) -> World {
        let clock = Clock::simulated(Timestamp::from_second(1_545_082_649).unwrap());
        let visibility = Duration::from_secs(20);
        let queues = [(queue(), QueueOptions { visibility, ..QueueOptions::default() })].into();
        let options = Options { commits: Commits::Inline, queues, ..Options::new(clock.clone()) };
        let folder = Embedded::on_disk(&MemoryDisk::new(), options).unwrap();
        let function = Arc::new(Scripted::taking(takes));
        let source = QueueSource {
            functions: function.clone(),
            function: "F".into(),
            queue: queue(),
            backend: Arc::new(folder.clone()),
            batch_size: 10,
            window: Duration::ZERO,
            report_failures: true,
            max_concurrency: None,
            clock,
            first_receives: FirstReceives::default(),
        };
        World { function, folder, source, tasks: TaskTracker::new(), stop: CancellationToken::new() }
    }

    fn start(&self) {
        self.tasks.spawn(run(self.source.clone(), self.tasks.clone(), self.stop.clone()));
    }

    async fn send(&self, bodies: &[&str]) {
        for body in bodies {
            let sent = self.folder.send(&queue(), &[Message::now(Body::Text((*body).to_owned()))]).await.unwrap();
            assert_eq!(sent, [Ok(())]);
        }
    }

    /// The bodies of each call.
    fn calls(&self) -> Vec<String> {
        let body = |record: &Value| record["body"].as_str().unwrap().to_owned();
        let call = |event: &Value| event["Records"].as_array().unwrap().iter().map(body).collect::<String>();
        self.function.events().iter().map(call).collect()
    }

    async fn left(&self) -> u64 {
        self.folder.depth(&queue()).await.unwrap().total()
    }

    async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn l5_a_message_of_an_event_has_all_that_aws_sends() {
    let world = World::new(Duration::ZERO);
    world.function.answers([Err(())]);
    world.send(&["Test message."]).await;
    world.start();
    seconds(30).await;
    world.end().await;
    let events = world.function.events();
    let [first, again] = &events[..] else { panic!("{events:#?}") };
    let record = &first["Records"][0];
    let expected = json!({
        "messageId": record["messageId"], "receiptHandle": record["receiptHandle"], "body": "Test message.",
        "attributes": {
            "ApproximateReceiveCount": "1", "SentTimestamp": "1545082649000", "SenderId": "000000000000",
            "ApproximateFirstReceiveTimestamp": "1545082649000",
        },
        "messageAttributes": {}, "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3", "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-west-2:000000000000:ticks", "awsRegion": "us-west-2",
    });
    assert_eq!(*record, expected);
    let attributes = &again["Records"][0]["attributes"];
    assert_eq!(attributes["ApproximateReceiveCount"], "2");
    assert_eq!(attributes["ApproximateFirstReceiveTimestamp"], "1545082649000", "it was received then first");
    assert_eq!(again["Records"][0]["messageId"], record["messageId"]);
}

#[tokio::test(start_paused = true)]
async fn l5_a_batch_of_many_gathers_in_its_window() {
    let mut world = World::new(Duration::ZERO);
    (world.source.batch_size, world.source.window) = (25, Duration::from_secs(5));
    world.start();
    world.send(&["a"; 12]).await;
    seconds(4).await;
    assert_eq!(world.calls(), [""; 0]);
    world.send(&["b"; 15]).await;
    seconds(1).await;
    assert_eq!(world.calls(), [format!("{}{}", "a".repeat(12), "b".repeat(13))], "it is full");
    seconds(6).await;
    assert_eq!(world.calls().len(), 2, "its window is over");
    assert_eq!(world.left().await, 0);
    // What is gathered when the system stops is there for the next start.
    world.send(&["c"]).await;
    seconds(1).await;
    world.end().await;
    assert_eq!(world.calls().len(), 2);
    assert_eq!(world.folder.depth(&queue()).await.unwrap().visible, 1);
}

#[tokio::test(start_paused = true)]
async fn l5_no_more_calls_are_at_work_than_the_template_allows() {
    for (most, expected) in [(Some(2), 2), (None, 5)] {
        let mut world = World::new(Duration::from_secs(1));
        (world.source.batch_size, world.source.max_concurrency) = (1, most);
        world.send(&["a"; 12]).await;
        world.start();
        seconds(10).await;
        world.end().await;
        assert_eq!((world.function.most_at_work(), world.left().await), (expected, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn l5_what_an_answer_names_comes_again_and_one_that_cannot_be_read_brings_back_all() {
    let named = |id: Value| Ok(json!({ "batchItemFailures": [{ "itemIdentifier": id }] }));
    for (answer, left) in [
        (Ok(json!(null)), 0),
        (Ok(json!({ "batchItemFailures": null })), 0),
        (Ok(json!({ "batchItemFailures": [] })), 0),
        (Ok(json!({ "batchItemFailures": [{ "itemIdentifier": "2" }] })), 1),
        (named(json!("")), 3),
        (named(json!(null)), 3),
        (named(json!("another batch's")), 3),
        (Ok(json!({ "batchItemFailures": [{ "identifier": "2" }] })), 3),
        (Ok(json!("done")), 3),
        (Err(()), 3),
    ] {
        let said = format!("{answer:?}");
        let world = World::new(Duration::ZERO);
        world.send(&["a", "b", "c"]).await;
        let ids = world.folder.receive(&queue(), 10, Duration::ZERO).await.unwrap();
        assert_eq!(ids[1].id, "2");
        let release: Vec<_> = ids.into_iter().map(|delivery| (delivery.receipt, Settle::Release)).collect();
        world.folder.settle(&queue(), &release).await.unwrap();
        world.function.answers([answer]);
        world.start();
        seconds(10).await;
        assert_eq!((world.calls().len(), world.left().await), (1, left), "{said}");
        seconds(20).await;
        assert_eq!((world.calls().len(), world.left().await), (if left > 0 { 2 } else { 1 }, 0), "{said}");
        world.end().await;
    }
    // Without `ReportBatchItemFailures` nobody reads the answer.
    let mut world = World::new(Duration::ZERO);
    world.source.report_failures = false;
    world.function.answers([named(json!("2"))]);
    world.send(&["a", "b"]).await;
    world.start();
    seconds(1).await;
    assert_eq!(world.left().await, 0);
    world.end().await;
}
