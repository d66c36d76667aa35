//! Rules of Lambda's event source mapping of a queue.

use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::case::{Case, Outcome, Unmet, cases, holds};
use super::lab::{World, fails, fine, function, pass, paused, queue, refused};

pub type Check = fn(()) -> BoxFuture<'static, Outcome>;

const SQS: &str = "https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html";
const CONFIGURE: &str = "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html";
const PARAMETERS: &str = "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html";
const ERRORS: &str = "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html";
const SCALING: &str = "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html";
const BATCHING: &str = "https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html";
const REPORTING: &str = "FunctionResponseTypes: [ReportBatchItemFailures]";

fn mapped(properties: &str) -> String {
    let event = format!("E: {{Type: SQS, Properties: {{Queue: !GetAtt Qin.Arn, {properties}}}}}");
    queue("in", "VisibilityTimeout: 20") + &function("F", "Timeout: 3,", &event)
}

/// The bodies of each call.
fn batches(world: &World) -> Vec<Vec<String>> {
    let body = |record: &Value| record["body"].as_str().unwrap_or_default().to_owned();
    let records = |event: &Value| event["Records"].as_array().into_iter().flatten().map(body).collect();
    world.events().iter().map(records).collect()
}

fn sizes(world: &World) -> Vec<usize> {
    batches(world).iter().map(Vec::len).collect()
}

/// How many of three messages are left after one call with this answer.
async fn left_after(properties: &str, answer: fn(&Value) -> Value) -> Result<u64, Unmet> {
    let world = World::new(&mapped(properties), move |_, event, _| Ok(answer(event))).await?;
    // Sent at once, so that one batch has all three.
    world.send("in", &["a", "b", "c"]).await?;
    pass(10).await;
    if sizes(&world).iter().sum::<usize>() != 3 {
        return Err(Unmet::Broken(format!("calls with {:?} messages", sizes(&world))));
    }
    world.left("in").await
}

fn second(event: &Value) -> Value {
    let records = event["Records"].as_array().cloned().unwrap_or_default();
    let failed = records.iter().filter(|record| record["body"] == "b");
    json!({ "batchItemFailures": failed.map(|record| json!({ "itemIdentifier": record["messageId"] })).collect::<Vec<_>>() })
}

const GATHERED: &str = "MaximumBatchingWindowInSeconds: 2, FunctionResponseTypes: [ReportBatchItemFailures]";

pub const CASES: &[Case<Check>] = cases![
    "sqs-source/event", SQS, "An event lists its messages as Records, each with ids, body, attributes and where it comes from.", |()| {
        let world = World::new(&mapped(""), fine).await?;
        world.send("in", &["Test message."]).await?;
        pass(1).await;
        let record = world.events().first().ok_or("no call")?["Records"][0].clone();
        let names: Vec<String> = record.as_object().ok_or("no record")?.keys().cloned().collect();
        holds!(names, ["attributes", "awsRegion", "body", "eventSource", "eventSourceARN", "md5OfBody", "messageAttributes",
            "messageId", "receiptHandle"]);
        holds!(record["eventSource"], json!("aws:sqs"));
    }
    "sqs-source/md5", SQS, "md5OfBody is the MD5 of the body.", |()| {
        let world = World::new(&mapped(""), fine).await?;
        world.send("in", &["Test message."]).await?;
        pass(1).await;
        holds!(world.events()[0]["Records"][0]["md5OfBody"], json!("e4e68fb7bd0e697a0ae8f1bb342846b3"));
    }
    "sqs-source/attributes", SQS, "Attributes are texts: the receive count, the times of send and first receive, the sender.", |()| {
        let world = World::new(&mapped(""), fine).await?;
        world.send("in", &["a"]).await?;
        pass(1).await;
        let event = world.events()[0].clone();
        let attributes = &event["Records"][0]["attributes"];
        holds!(attributes["ApproximateReceiveCount"], json!("1"));
        for name in ["SentTimestamp", "ApproximateFirstReceiveTimestamp"] {
            let milliseconds: i64 = attributes[name].as_str().unwrap_or_default().parse()?;
            holds!(milliseconds / 100_000_000, 15_736);
        }
        holds!(attributes["SenderId"].is_string());
    }
    "sqs-source/deleted", SQS, "Messages of a batch that the function processed are deleted.", |()| {
        let world = World::new(&mapped(""), fine).await?;
        world.send("in", &["a", "b"]).await?;
        pass(2).await;
        holds!(world.left("in").await?, 0);
    }
    "sqs-source/once", SQS, "The function is invoked once for a batch that it processed.", |()| {
        let world = World::new(&mapped(""), fine).await?;
        world.send("in", &["a"]).await?;
        pass(120).await;
        holds!(sizes(&world), [1]);
    }
    "sqs-source/error-brings-back", ERRORS, "After an error all messages of the batch are visible again when their visibility timeout ends.", |()| {
        let world = World::new(&mapped("MaximumBatchingWindowInSeconds: 1"), |f, e, nth| if nth == 0 { fails(f, e, nth) } else { fine(f, e, nth) }).await?;
        world.send("in", &["a", "b"]).await?;
        pass(15).await;
        holds!(sizes(&world), [2]);
        pass(15).await;
        holds!(batches(&world).concat().len(), 4);
        holds!(world.left("in").await?, 0);
    }
    "sqs-source/not-before-visibility", ERRORS, "A failed batch comes back when the visibility timeout is over, not before.", |()| {
        let world = World::new(&mapped(""), fails).await?;
        world.send("in", &["a"]).await?;
        pass(50).await;
        let times = world.times();
        holds!(times.len() >= 2 && times[1] - times[0] >= 19.9 && times[1] - times[0] < 22.0);
    }
    "sqs-source/receive-count", SQS, "A message that comes again has a receive count that is one higher.", |()| {
        let world = World::new(&mapped(""), fails).await?;
        world.send("in", &["a"]).await?;
        pass(45).await;
        let counts: Vec<Value> =
            world.events().iter().map(|event| event["Records"][0]["attributes"]["ApproximateReceiveCount"].clone()).collect();
        holds!(counts, ["1", "2", "3"].map(|n| json!(n)));
    }
    "sqs-source/first-receive-stays", SQS, "ApproximateFirstReceiveTimestamp stays that of the first receive.", |()| {
        let world = World::new(&mapped(""), fails).await?;
        world.send("in", &["a"]).await?;
        pass(25).await;
        let first = |event: &Value| event["Records"][0]["attributes"]["ApproximateFirstReceiveTimestamp"].clone();
        let events = world.events();
        holds!(events.len() == 2 && first(&events[0]) == first(&events[1]));
    }
    "sqs-source/default-batch-size", PARAMETERS, "A batch has ten messages at most where BatchSize is not set.", |()| {
        // The window gathers all 25 before a batch is made.
        let world = World::new(&mapped("MaximumBatchingWindowInSeconds: 2"), fine).await?;
        world.send("in", &["a"; 25]).await?;
        pass(10).await;
        holds!(sizes(&world).iter().max(), Some(&10));
        holds!(sizes(&world).iter().sum::<usize>(), 25);
    }
    "sqs-source/batch-size", PARAMETERS, "A batch has no more messages than BatchSize.", |()| {
        let world = World::new(&mapped("BatchSize: 2"), fine).await?;
        world.send("in", &["a"; 5]).await?;
        pass(5).await;
        holds!(sizes(&world).iter().all(|size| *size <= 2));
        holds!(sizes(&world).iter().sum::<usize>(), 5);
    }
    "sqs-source/no-window", BATCHING, "Without a batching window the function is invoked as soon as messages are there.", |()| {
        let world = World::new(&mapped(""), fine).await?;
        world.send("in", &["a"]).await?;
        pass(1).await;
        holds!(sizes(&world), [1]);
    }
    "sqs-source/window-gathers", BATCHING, "A batching window gathers messages until it is over.", |()| {
        let world = World::new(&mapped("MaximumBatchingWindowInSeconds: 5"), fine).await?;
        world.send("in", &["a"]).await?;
        pass(3).await;
        world.send("in", &["b"]).await?;
        holds!(sizes(&world), [0; 0]);
        pass(4).await;
        holds!(batches(&world), [["a", "b"]]);
    }
    "sqs-source/full-before-window", BATCHING, "A batch that is full does not wait for the end of its window.", |()| {
        let world = World::new(&mapped("BatchSize: 3, MaximumBatchingWindowInSeconds: 60"), fine).await?;
        world.send("in", &["a", "b", "c"]).await?;
        pass(3).await;
        holds!(sizes(&world), [3]);
    }
    "sqs-source/batch-over-ten", PARAMETERS, "With a batching window a batch can have more than ten messages.", |()| {
        let world = World::new(&mapped("BatchSize: 40, MaximumBatchingWindowInSeconds: 5"), fine).await?;
        world.send("in", &["a"; 35]).await?;
        pass(8).await;
        holds!(sizes(&world), [35]);
    }
    "sqs-source/payload-limit", BATCHING, "A batch is sent when it reaches the 6 MB of an invocation, however many messages are missing.", |()| {
        let world = World::new(&mapped("BatchSize: 100, MaximumBatchingWindowInSeconds: 60"), fine).await?;
        let body = "x".repeat(1_000_000);
        world.send("in", &[body.as_str(); 9]).await?;
        pass(5).await;
        let sizes = sizes(&world);
        holds!(sizes.len() == 1 && (5..=6).contains(&sizes[0]));
        holds!(world.events()[0].to_string().len() <= 6 * 1024 * 1024);
    }
    "sqs-source/partial-failure", ERRORS, "With ReportBatchItemFailures only the messages that the answer names come back.", |()| {
        holds!(left_after(GATHERED, second).await?, 1);
    }
    "sqs-source/partial-failure-again", ERRORS, "A message that the answer named comes in a later batch, without those that were done.", |()| {
        let world = World::new(&mapped(GATHERED), |_, event, nth| Ok(if nth == 0 { second(event) } else { json!({}) })).await?;
        world.send("in", &["a", "b", "c"]).await?;
        pass(40).await;
        let batches = batches(&world);
        holds!(batches.len() == 2 && batches[1] == ["b"]);
        holds!(world.left("in").await?, 0);
    }
    "sqs-source/empty-failures", ERRORS, "An empty list of failures is a success of the whole batch.", |()| {
        holds!(left_after(GATHERED, |_| json!({ "batchItemFailures": [] })).await?, 0);
    }
    "sqs-source/null-failures", ERRORS, "A null list of failures is a success of the whole batch.", |()| {
        holds!(left_after(GATHERED, |_| json!({ "batchItemFailures": null })).await?, 0);
    }
    "sqs-source/empty-answer", ERRORS, "An empty object as answer is a success of the whole batch.", |()| {
        holds!(left_after(GATHERED, |_| json!({})).await?, 0);
    }
    "sqs-source/null-answer", ERRORS, "A null answer is a success of the whole batch.", |()| {
        holds!(left_after(GATHERED, |_| Value::Null).await?, 0);
    }
    "sqs-source/empty-identifier", ERRORS, "An empty itemIdentifier is a failure of the whole batch.", |()| {
        holds!(left_after(GATHERED, |_| json!({ "batchItemFailures": [{ "itemIdentifier": "" }] })).await?, 3);
    }
    "sqs-source/null-identifier", ERRORS, "A null itemIdentifier is a failure of the whole batch.", |()| {
        holds!(left_after(GATHERED, |_| json!({ "batchItemFailures": [{ "itemIdentifier": null }] })).await?, 3);
    }
    "sqs-source/bad-key", ERRORS, "An entry whose key is not itemIdentifier is a failure of the whole batch.", |()| {
        holds!(left_after(GATHERED, |_| json!({ "batchItemFailures": [{ "identifier": "1" }] })).await?, 3);
    }
    "sqs-source/no-object", ERRORS, "An answer that is not such an object is a failure of the whole batch.", |()| {
        holds!(left_after(GATHERED, |_| json!("done")).await?, 3);
    }
    "sqs-source/answer-unread", ERRORS, "Without ReportBatchItemFailures the answer of a call that did not fail is not looked at.", |()| {
        holds!(left_after("MaximumBatchingWindowInSeconds: 2", second).await?, 0);
    }
    "sqs-source/dead-letters", ERRORS, "A message with which the function failed as often as the queue allows goes to its dead-letter queue.", |()| {
        let event = "E: {Type: SQS, Properties: {Queue: !GetAtt Qin.Arn}}";
        let own = queue("in", "VisibilityTimeout: 20, RedrivePolicy: {deadLetterTargetArn: !GetAtt Qdead.Arn, maxReceiveCount: 3}");
        let world = World::new(&(queue("dead", "") + &own + &function("F", "", event)), fails).await?;
        world.send("in", &["a"]).await?;
        pass(120).await;
        holds!(sizes(&world).len(), 3);
        holds!(world.bodies("dead").await?, ["a"]);
    }
    "sqs-source/five-batches", SCALING, "Up to five batches of a standard queue are processed at once at first.", |()| {
        let world = World::start(&mapped("BatchSize: 1"), paused(), Duration::from_secs(1), Box::new(fine)).await?;
        world.send("in", &["a"; 12]).await?;
        pass(2).await;
        holds!(world.most_at_work(), 5);
    }
    "sqs-source/maximum-concurrency", SCALING, "No more calls are at work at once than MaximumConcurrency says.", |()| {
        let properties = "BatchSize: 1, ScalingConfig: {MaximumConcurrency: 2}";
        let world = World::start(&mapped(properties), paused(), Duration::from_secs(1), Box::new(fine)).await?;
        world.send("in", &["a"; 12]).await?;
        pass(20).await;
        holds!(world.most_at_work(), 2);
        holds!(sizes(&world).len(), 12);
    }
    "sqs-source/disabled", PARAMETERS, "A mapping that is not enabled reads nothing.", |()| {
        let world = World::new(&mapped("Enabled: false"), fine).await?;
        world.send("in", &["a"]).await?;
        pass(60).await;
        holds!(sizes(&world).len(), 0);
        holds!(world.left("in").await?, 1);
    }
    "sqs-source/large-batch-needs-window", PARAMETERS, "A BatchSize over 10 needs a batching window of at least one second.", |()| {
        refused(&mapped("BatchSize: 11"), "BatchSize").await?;
        World::new(&mapped("BatchSize: 11, MaximumBatchingWindowInSeconds: 1"), fine).await?;
    }
    "sqs-source/batch-size-bound", PARAMETERS, "BatchSize is 10,000 at most.", |()| {
        refused(&mapped("BatchSize: 10001, MaximumBatchingWindowInSeconds: 1"), "BatchSize").await?;
        World::new(&mapped("BatchSize: 10000, MaximumBatchingWindowInSeconds: 1"), fine).await?;
    }
    "sqs-source/window-bound", BATCHING, "A batching window is five minutes at most.", |()| {
        refused(&mapped("MaximumBatchingWindowInSeconds: 301"), "MaximumBatchingWindowInSeconds").await?;
        World::new(&mapped("MaximumBatchingWindowInSeconds: 300"), fine).await?;
    }
    "sqs-source/concurrency-bounds", SCALING, "MaximumConcurrency is from 2 to 1,000.", |()| {
        for bad in ["1", "1001"] {
            refused(&mapped(&format!("ScalingConfig: {{MaximumConcurrency: {bad}}}")), "MaximumConcurrency").await?;
        }
    }
    "sqs-source/visibility-covers-timeout", CONFIGURE, "A mapping is refused if the function may take longer than the queue's visibility timeout.", |()| {
        let event = "E: {Type: SQS, Properties: {Queue: !GetAtt Qin.Arn}}";
        refused(&(queue("in", "VisibilityTimeout: 20") + &function("F", "Timeout: 21,", event)), "VisibilityTimeout").await?;
        World::new(&(queue("in", "VisibilityTimeout: 20") + &function("F", "Timeout: 20,", event)), fine).await?;
    }
    "sqs-source/response-types", PARAMETERS, "ReportBatchItemFailures is the one value of FunctionResponseTypes.", |()| {
        refused(&mapped("FunctionResponseTypes: [ReportEverything]"), "FunctionResponseTypes").await?;
        World::new(&mapped(REPORTING), fine).await?;
    }
];
