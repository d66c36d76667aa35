use serde_json::json;
use streammanager::embedded::{Commits, Embedded, MemoryDisk, Options};
use streammanager::queue::{Body, Message};

use super::*;
use crate::up::invoke::testing::Scripted;

/// One function's asynchronous invocations.
struct World {
    function: Arc<Scripted>,
    folder: Embedded,
    how: Asynchronous,
}

fn failures_queue() -> QueueRef {
    QueueRef::new("local:failures")
}

impl World {
    fn new(retries: u8, max_age: u64) -> World {
        let clock = Clock::simulated(Timestamp::from_second(1_573_690_000).unwrap());
        let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
        let folder = Embedded::on_disk(&MemoryDisk::new(), options).unwrap();
        let function = Arc::new(Scripted::taking(Duration::from_secs(2)));
        let how = Asynchronous {
            functions: function.clone(),
            function: "Express".into(),
            function_arn: "arn:aws:lambda:us-west-2:000000000000:function:express".into(),
            timeout: Duration::from_secs(3),
            backend: Arc::new(folder.clone()),
            retries,
            max_age: Duration::from_secs(max_age),
            on_failure: Some(failures_queue()),
            clock,
            rng: Rng::seeded(1),
        };
        World { function, folder, how }
    }

    async fn send(&self, event: Value) {
        let message = Message::now(Body::Text(event.to_string()));
        let sent = self.folder.send(&AsyncInvocations::queue("Express"), &[message]).await.unwrap();
        assert_eq!(sent, [Ok(())]);
    }

    /// Works for as long, and ends.
    async fn runs(&self, seconds: u64) {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let invocations = AsyncInvocations { how: self.how.clone(), app: None };
        tasks.spawn(invocations.run(tasks.clone(), stop.clone()));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }

    async fn waiting(&self) -> u64 {
        self.folder.depth(&AsyncInvocations::queue("Express")).await.unwrap().total()
    }

    async fn reports(&self) -> Vec<Value> {
        let received = self.folder.receive(&failures_queue(), 10, Duration::ZERO).await.unwrap();
        received.iter().map(|delivery| serde_json::from_str(&text(&delivery.body)).unwrap()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn l5_an_event_that_fails_for_good_is_reported_as_lambda_documents_it() {
    let world = World::new(2, 6 * 3600);
    world.function.answers([Err(()), Err(()), Err(())]);
    world.send(json!({ "alert": 1 })).await;
    world.runs(60).await;
    let reports = world.reports().await;
    let [report] = &reports[..] else { panic!("{reports:#?}") };
    let expected = json!({
        "version": "1.0",
        // Three calls of 2 s, a minute's wait as one second and two minutes' as two.
        "timestamp": "2019-11-14T00:06:49.000Z",
        "requestContext": {
            "requestId": report["requestContext"]["requestId"],
            "functionArn": "arn:aws:lambda:us-west-2:000000000000:function:express:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": { "alert": 1 },
        "responseContext": { "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled" },
        "responsePayload": {
            "errorType": "Sandbox.Timedout",
            "errorMessage": "the function ran longer than its time-out of 3s",
        },
    });
    assert_eq!(*report, expected);
    assert_eq!((world.function.events().len(), world.waiting().await), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn l5_an_event_that_grew_too_old_is_given_up_where_lambda_would() {
    // A minute's wait counts as one.
    let world = World::new(2, 60);
    world.function.answers([Err(()), Err(())]);
    world.send(json!({ "alert": 1 })).await;
    world.runs(60).await;
    let report = &world.reports().await[0];
    assert_eq!(report["requestContext"]["condition"], "EventAgeExceeded");
    assert_eq!((&report["requestContext"]["approximateInvokeCount"], world.function.events().len()), (&json!(1), 1));
    // What waited for too long is not even tried once.
    let world = World::new(2, 60);
    world.send(json!({ "alert": 1 })).await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    world.runs(10).await;
    let report = &world.reports().await[0];
    assert_eq!(
        (&report["requestContext"]["condition"], report.get("responseContext")),
        (&json!("EventAgeExceeded"), None)
    );
    assert_eq!((world.function.events().len(), world.waiting().await), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn l5_a_retry_that_succeeds_ends_it() {
    let world = World::new(2, 6 * 3600);
    world.function.answers([Err(())]);
    world.send(json!({})).await;
    world.runs(60).await;
    assert_eq!((world.function.events().len(), world.waiting().await, world.reports().await.len()), (2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn q1_an_event_at_work_is_nobody_else_s_however_long_its_tries_take() {
    let mut world = World::new(2, 6 * 3600);
    world.function = Arc::new(Scripted::taking(Duration::from_secs(25)));
    (world.how.functions, world.how.timeout) = (world.function.clone(), Duration::from_secs(60));
    world.function.answers([Err(()), Err(())]);
    world.send(json!({})).await;
    world.runs(300).await;
    assert_eq!((world.function.events().len(), world.function.most_at_work()), (3, 1));
}

/// As the topic rule of a client that published several alerts at once has them.
fn of_one_client(number: u32) -> Value {
    json!({ "payload": "", "topic": format!("sensors/{number}"), "principal": "p", "client": "c" })
}

#[tokio::test(start_paused = true)]
async fn q1_an_event_that_waits_long_for_its_turn_is_not_received_again() {
    let mut world = World::new(2, 6 * 3600);
    world.function = Arc::new(Scripted::taking(Duration::from_secs(25)));
    (world.how.functions, world.how.timeout) = (world.function.clone(), Duration::from_secs(60));
    for number in 0..4 {
        world.send(of_one_client(number)).await;
    }
    world.runs(600).await;
    let topics: Vec<Value> = world.function.events().iter().map(|event| event["topic"].clone()).collect();
    assert_eq!(topics, ["sensors/0", "sensors/1", "sensors/2", "sensors/3"]);
    assert_eq!((world.function.most_at_work(), world.waiting().await), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn q2_however_many_events_wait_those_at_work_are_bounded() {
    let world = World::new(2, 6 * 3600);
    for number in 0..3 * INVOCATIONS_AT_WORK {
        world.send(json!({ "alert": number })).await;
    }
    world.runs(60).await;
    assert_eq!(world.function.most_at_work(), INVOCATIONS_AT_WORK);
    assert_eq!((world.function.events().len(), world.waiting().await), (3 * INVOCATIONS_AT_WORK, 0));
}

#[tokio::test(start_paused = true)]
async fn l5_a_throttled_event_uses_up_no_try_and_waits_until_it_is_too_old() {
    let world = World::new(0, 6 * 3600);
    world.function.throttle(12);
    world.send(json!({ "alert": 1 })).await;
    world.runs(60).await;
    assert_eq!((world.function.events().len(), world.waiting().await, world.reports().await.len()), (1, 0, 0));

    // Lambda's waits of 1, 2, 4 … 300 s are over the hour after twenty.
    let world = World::new(0, 3600);
    world.function.throttle(usize::MAX);
    world.send(json!({ "alert": 1 })).await;
    world.runs(120).await;
    let reports = world.reports().await;
    let [report] = &reports[..] else { panic!("{reports:#?}") };
    let told = &report["requestContext"];
    assert_eq!((&told["condition"], &told["approximateInvokeCount"]), (&json!("EventAgeExceeded"), &json!(0)));
    assert_eq!((report.get("responseContext"), world.function.events().len()), (None, 0));
}
