//! Rules of Lambda's event source mapping of a stream.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::case::{Case, Outcome, Unmet, cases, holds};
use super::lab::{World, fails, fine, function, pass, paused, queue, refused, rule};

pub type Check = fn(()) -> BoxFuture<'static, Outcome>;

const KINESIS: &str = "https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html";
const CREATE: &str = "https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-create.html";
const PARAMETERS: &str = "https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-parameters.html";
const FAILURES: &str = "https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html";
const REPORTING: &str = "https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html";
const BATCHING: &str = "https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html";
const MAPPING: &str = "https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html";

/// What is published on `in/KEY` is a record with that partition key.
fn mapped(shards: u32, properties: &str) -> String {
    let event = format!(
        "E: {{Type: Kinesis, Properties: {{Stream: !GetAtt S.Arn, StartingPosition: TRIM_HORIZON, {properties}}}}}"
    );
    with_event(shards, &event)
}

fn with_event(shards: u32, event: &str) -> String {
    let stream = format!("  S:\n    Type: AWS::Kinesis::Stream\n    Properties: {{Name: s, ShardCount: {shards}}}\n");
    let put = rule(
        "put",
        "SELECT * FROM 'in/+'",
        "{Kinesis: {StreamName: !Ref S, PartitionKey: '${topic(2)}', RoleArn: r}}",
        "",
    );
    stream + &put + &queue("lost", "") + &function("F", "Timeout: 3,", event)
}

const TO_LOST: &str = "DestinationConfig: {OnFailure: {Destination: !GetAtt Qlost.Arn}}";
const GATHER: &str = "MaximumBatchingWindowInSeconds: 1";

async fn put(world: &World, key: &str, numbers: impl IntoIterator<Item = u32>) -> Result<(), Unmet> {
    for n in numbers {
        world.publish(&format!("in/{key}"), &json!({ "n": n }).to_string()).await?;
    }
    Ok(())
}

fn number(record: &Value) -> u64 {
    use base64::Engine;
    let data = record["kinesis"]["data"].as_str().unwrap_or_default();
    let data = base64::engine::general_purpose::STANDARD.decode(data).unwrap_or_default();
    serde_json::from_slice::<Value>(&data).unwrap_or_default()["n"].as_u64().unwrap_or(u64::MAX)
}

fn numbers(event: &Value) -> Vec<u64> {
    event["Records"].as_array().into_iter().flatten().map(number).collect()
}

/// The numbers of each call.
fn batches(world: &World) -> Vec<Vec<u64>> {
    world.events().iter().map(numbers).collect()
}

/// Fails for batches that hold this number.
fn fails_with(n: u64) -> impl Fn(&str, &Value, usize) -> Result<Value, String> + Send + Sync + 'static {
    move |_, event, _| if numbers(event).contains(&n) { Err("it fails".into()) } else { Ok(json!({})) }
}

/// Names the record with this number as failed.
fn names(event: &Value, n: u64) -> Value {
    let records = event["Records"].as_array().cloned().unwrap_or_default();
    let failed = records.iter().filter(|record| number(record) == n);
    let failed = failed.map(|record| json!({ "itemIdentifier": record["kinesis"]["sequenceNumber"] }));
    json!({ "batchItemFailures": failed.collect::<Vec<_>>() })
}

/// The calls that three records take, of which the function answers the first with this.
async fn after(answer: fn(&Value) -> Value) -> Result<Vec<Vec<u64>>, Unmet> {
    let properties = format!("{GATHER}, FunctionResponseTypes: [ReportBatchItemFailures]");
    let world =
        World::new(&mapped(1, &properties), move |_, event, nth| Ok(if nth == 0 { answer(event) } else { json!({}) }))
            .await?;
    put(&world, "k", 0..3).await?;
    pass(10).await;
    Ok(batches(&world))
}

pub const CASES: &[Case<Check>] = cases![
    "kinesis-source/event", KINESIS, "An event lists its records as Records, each with its data, its place in the shard and where it comes from.", |()| {
        let world = World::new(&mapped(1, ""), fine).await?;
        put(&world, "k", [1]).await?;
        pass(1).await;
        let record = world.events().first().ok_or("no call")?["Records"][0].clone();
        let names = |value: &Value| value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        holds!(names(&record), ["awsRegion", "eventID", "eventName", "eventSource", "eventSourceARN", "eventVersion",
            "invokeIdentityArn", "kinesis"]);
        holds!(names(&record["kinesis"]), ["approximateArrivalTimestamp", "data", "kinesisSchemaVersion", "partitionKey",
            "sequenceNumber"]);
        holds!([&record["eventSource"], &record["eventName"]], [&json!("aws:kinesis"), &json!("aws:kinesis:record")]);
    }
    "kinesis-source/partition-key", KINESIS, "A record's event has its partition key.", |()| {
        let world = World::new(&mapped(1, ""), fine).await?;
        put(&world, "key-7", [1]).await?;
        pass(1).await;
        holds!(world.events()[0]["Records"][0]["kinesis"]["partitionKey"], json!("key-7"));
    }
    "kinesis-source/data", KINESIS, "A record's data come as base64.", |()| {
        let world = World::new(&mapped(1, ""), fine).await?;
        put(&world, "k", [7]).await?;
        pass(1).await;
        holds!(world.events()[0]["Records"][0]["kinesis"]["data"], json!("eyJuIjo3fQ=="));
    }
    "kinesis-source/event-id", KINESIS, "eventID is the shard's id and the sequence number with a colon between.", |()| {
        let world = World::new(&mapped(1, ""), fine).await?;
        put(&world, "k", [1]).await?;
        pass(1).await;
        let record = world.events()[0]["Records"][0].clone();
        let sequence = record["kinesis"]["sequenceNumber"].as_str().unwrap_or_default().to_owned();
        holds!(record["eventID"], json!(format!("shardId-000000000000:{sequence}")));
    }
    "kinesis-source/arrival", KINESIS, "approximateArrivalTimestamp is in seconds with a fraction.", |()| {
        let world = World::new(&mapped(1, ""), fine).await?;
        put(&world, "k", [1]).await?;
        pass(1).await;
        let at = world.events()[0]["Records"][0]["kinesis"]["approximateArrivalTimestamp"].as_f64().unwrap_or_default();
        holds!((at - 1_573_690_000.0).abs() < 10.0);
    }
    "kinesis-source/order", KINESIS, "Records of a shard come in the order in which they were put.", |()| {
        let world = World::new(&mapped(1, "BatchSize: 7"), fine).await?;
        put(&world, "k", 0..50).await?;
        pass(5).await;
        holds!(batches(&world).concat(), (0..50).collect::<Vec<u64>>());
    }
    "kinesis-source/sequence-numbers", KINESIS, "Sequence numbers of a shard grow.", |()| {
        let world = World::new(&mapped(1, ""), fine).await?;
        put(&world, "k", 0..20).await?;
        pass(2).await;
        let mut last = 0_u128;
        for event in world.events() {
            for record in event["Records"].as_array().into_iter().flatten() {
                let number = record["kinesis"]["sequenceNumber"].as_str().unwrap_or_default().parse::<u128>()?;
                holds!(number > last);
                last = number;
            }
        }
    }
    "kinesis-source/one-shard-a-batch", KINESIS, "A batch has records of one shard.", |()| {
        let world = World::new(&mapped(4, GATHER), fine).await?;
        for key in ["a", "b", "c", "d", "e"] {
            put(&world, key, 0..3).await?;
        }
        pass(3).await;
        let mut shards = BTreeSet::new();
        for event in world.events() {
            let of: BTreeSet<String> = event["Records"].as_array().into_iter().flatten()
                .map(|record| record["eventID"].as_str().unwrap_or_default().split(':').next().unwrap_or_default().to_owned()).collect();
            holds!(of.len(), 1);
            shards.extend(of);
        }
        holds!(shards.len() > 1);
    }
    "kinesis-source/key-keeps-its-shard", "https://docs.aws.amazon.com/streams/latest/dev/key-concepts.html",
        "A partition key's records go to one shard, which the MD5 of the key decides.", |()| {
        let world = World::new(&mapped(4, ""), fine).await?;
        for key in ["a", "b", "c", "e"] {
            put(&world, key, 0..2).await?;
        }
        pass(3).await;
        // md5("a") = 0cc1…, md5("b") = 92eb…, md5("c") = 4a8a…, md5("e") = e167…
        for event in world.events() {
            for record in event["Records"].as_array().into_iter().flatten() {
                let shard = match record["kinesis"]["partitionKey"].as_str() {
                    Some("a") => 0,
                    Some("c") => 1,
                    Some("b") => 2,
                    _ => 3,
                };
                holds!(record["eventID"].as_str().unwrap_or_default().starts_with(&format!("shardId-00000000000{shard}:")));
            }
        }
    }
    "kinesis-source/batch-size", PARAMETERS, "A batch has no more records than BatchSize.", |()| {
        let world = World::new(&mapped(1, "BatchSize: 3, MaximumBatchingWindowInSeconds: 5"), fine).await?;
        put(&world, "k", 0..8).await?;
        pass(10).await;
        holds!(batches(&world).iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 2]);
    }
    "kinesis-source/default-batch-size", PARAMETERS, "A batch has a hundred records at most where BatchSize is not set.", |()| {
        let world = World::new(&mapped(1, "MaximumBatchingWindowInSeconds: 5"), fine).await?;
        put(&world, "k", 0..150).await?;
        pass(12).await;
        holds!(batches(&world).iter().map(Vec::len).collect::<Vec<_>>(), [100, 50]);
    }
    "kinesis-source/no-window", KINESIS, "Without a batching window the function is invoked as soon as records are there.", |()| {
        let world = World::new(&mapped(1, ""), fine).await?;
        put(&world, "k", [1]).await?;
        pass(1).await;
        holds!(batches(&world), [[1]]);
    }
    "kinesis-source/window-gathers", BATCHING, "A batching window gathers records until it is over.", |()| {
        let world = World::new(&mapped(1, "MaximumBatchingWindowInSeconds: 10"), fine).await?;
        put(&world, "k", [1]).await?;
        pass(6).await;
        put(&world, "k", [2]).await?;
        holds!(batches(&world).len(), 0);
        pass(6).await;
        holds!(batches(&world), [[1, 2]]);
    }
    "kinesis-source/full-before-window", BATCHING, "A batch that is full does not wait for the end of its window.", |()| {
        let world = World::new(&mapped(1, "BatchSize: 2, MaximumBatchingWindowInSeconds: 60"), fine).await?;
        put(&world, "k", [1, 2]).await?;
        pass(3).await;
        holds!(batches(&world), [[1, 2]]);
    }
    "kinesis-source/payload-limit", BATCHING, "A batch is sent when it reaches the 6 MB of an invocation, however many records are missing.", |()| {
        let world = World::new(&mapped(1, "BatchSize: 1000, MaximumBatchingWindowInSeconds: 300"), fine).await?;
        let large = json!({ "n": 1, "filling": "x".repeat(120_000) }).to_string();
        for _ in 0..45 {
            world.publish("in/k", &large).await?;
        }
        pass(10).await;
        let first = world.events().first().ok_or("no call before the window is over")?.to_string().len();
        holds!(first <= 6 * 1024 * 1024 && first > 5 * 1024 * 1024);
    }
    "kinesis-source/retried", FAILURES, "A batch with which the function failed is tried again, the same records in the same order.", |()| {
        let world = World::new(&mapped(1, GATHER), |f, e, nth| if nth < 2 { fails(f, e, nth) } else { fine(f, e, nth) }).await?;
        put(&world, "k", 0..3).await?;
        pass(30).await;
        holds!(batches(&world), [[0, 1, 2]; 3]);
    }
    "kinesis-source/shard-waits", KINESIS, "Later records of a shard wait while an earlier batch fails.", |()| {
        let world = World::new(&mapped(1, "BatchSize: 1"), fails_with(0)).await?;
        put(&world, "k", 0..3).await?;
        pass(60).await;
        holds!(batches(&world).len() > 3 && batches(&world).iter().all(|batch| *batch == [0]));
    }
    "kinesis-source/other-shards-go-on", KINESIS, "A batch that fails holds up its own shard alone.", |()| {
        let world = World::new(&mapped(4, "BatchSize: 1"), fails_with(0)).await?;
        put(&world, "a", [0]).await?;
        put(&world, "b", 1..4).await?;
        pass(20).await;
        let others: Vec<u64> = batches(&world).concat().into_iter().filter(|n| *n > 0).collect();
        holds!(others, [1, 2, 3]);
    }
    "kinesis-source/retries-without-limit", PARAMETERS, "Where MaximumRetryAttempts is not set, a batch is tried until its records expire.", |()| {
        let world = World::new(&mapped(1, ""), fails).await?;
        put(&world, "k", [0]).await?;
        pass(3_600).await;
        holds!(batches(&world).len() > 50);
        holds!(world.times().last().is_some_and(|last| *last > 3_000.0));
    }
    "kinesis-source/expires", FAILURES, "A batch that goes on failing is given up when its records expire, and the shard goes on.", |()| {
        let world = World::new(&mapped(1, "BatchSize: 1"), fails_with(0)).await?;
        put(&world, "k", [0]).await?;
        pass(23 * 3_600).await;
        put(&world, "k", [1]).await?;
        holds!(!batches(&world).contains(&vec![1]));
        pass(2 * 3_600).await;
        holds!(batches(&world).contains(&vec![1]));
    }
    "kinesis-source/maximum-retries", FAILURES, "After MaximumRetryAttempts retries a batch is given up, and the next one is processed.", |()| {
        let world = World::new(&mapped(1, "BatchSize: 1, MaximumRetryAttempts: 2"), fails_with(0)).await?;
        put(&world, "k", 0..2).await?;
        pass(30).await;
        holds!(batches(&world), [[0], [0], [0], [1]]);
    }
    "kinesis-source/no-retries", FAILURES, "With MaximumRetryAttempts 0 a batch has one try.", |()| {
        let world = World::new(&mapped(1, "BatchSize: 1, MaximumRetryAttempts: 0"), fails_with(0)).await?;
        put(&world, "k", 0..2).await?;
        pass(30).await;
        holds!(batches(&world), [[0], [1]]);
    }
    "kinesis-source/bisect", MAPPING, "With BisectBatchOnFunctionError a failed batch is tried again in two halves.", |()| {
        let properties = format!("{GATHER}, BisectBatchOnFunctionError: true, MaximumRetryAttempts: 5");
        let world = World::new(&mapped(1, &properties), fails_with(3)).await?;
        put(&world, "k", 0..4).await?;
        pass(60).await;
        let batches = batches(&world);
        holds!(batches[..3], [vec![0, 1, 2, 3], vec![0, 1], vec![2, 3]]);
    }
    "kinesis-source/bisect-isolates", MAPPING, "Halving isolates the record that fails: all others are done with.", |()| {
        let properties = format!("{GATHER}, BisectBatchOnFunctionError: true, MaximumRetryAttempts: 1, {TO_LOST}");
        let world = World::new(&mapped(1, &properties), fails_with(2)).await?;
        put(&world, "k", 0..5).await?;
        pass(60).await;
        let report: Value = serde_json::from_str(world.bodies("lost").await?.first().ok_or("no report")?)?;
        holds!(report["KinesisBatchInfo"]["batchSize"], json!(1));
        let done: BTreeSet<u64> = batches(&world).into_iter().filter(|batch| !batch.contains(&2)).flatten().collect();
        holds!(done, BTreeSet::from([0, 1, 3, 4]));
    }
    "kinesis-source/bisect-uses-no-retry", KINESIS, "Splitting a batch does not count towards its retries.", |()| {
        let properties = format!("{GATHER}, BisectBatchOnFunctionError: true, MaximumRetryAttempts: 1");
        let world = World::new(&mapped(1, &properties), fails_with(3)).await?;
        put(&world, "k", 0..4).await?;
        pass(60).await;
        holds!(batches(&world), [vec![0, 1, 2, 3], vec![0, 1], vec![2, 3], vec![2], vec![3], vec![3]]);
    }
    "kinesis-source/record-age", FAILURES, "Records older than MaximumRecordAgeInSeconds are given up, and the shard goes on.", |()| {
        let world = World::new(&mapped(1, "BatchSize: 1, MaximumRecordAgeInSeconds: 60"), fails_with(0)).await?;
        put(&world, "k", [0]).await?;
        pass(50).await;
        put(&world, "k", [1]).await?;
        holds!(!batches(&world).contains(&vec![1]));
        pass(20).await;
        holds!(batches(&world).last(), Some(&vec![1]));
    }
    "kinesis-source/report", FAILURES, "The on-failure destination is told where the given up records are, why, and after how many calls.", |()| {
        let world = World::new(&mapped(1, &format!("{GATHER}, MaximumRetryAttempts: 1, {TO_LOST}")), fails).await?;
        put(&world, "k", 0..3).await?;
        pass(30).await;
        let report: Value = serde_json::from_str(world.bodies("lost").await?.first().ok_or("no report")?)?;
        let context = &report["requestContext"];
        holds!(context["condition"], json!("RetryAttemptsExhausted"));
        holds!(context["approximateInvokeCount"], json!(2));
        holds!(context["functionArn"].as_str().is_some_and(|arn| arn.starts_with("arn:aws:lambda:")));
        holds!(report["responseContext"], json!({ "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled" }));
        holds!(report["version"], json!("1.0"));
    }
    "kinesis-source/report-place", FAILURES, "A report names shard, stream, number of records, and the first and last sequence number and arrival.", |()| {
        let world = World::new(&mapped(1, &format!("{GATHER}, MaximumRetryAttempts: 0, {TO_LOST}")), fails).await?;
        put(&world, "k", 0..3).await?;
        pass(30).await;
        let report: Value = serde_json::from_str(world.bodies("lost").await?.first().ok_or("no report")?)?;
        let place = &report["KinesisBatchInfo"];
        let records = world.events()[0]["Records"].clone();
        holds!(place["shardId"], json!("shardId-000000000000"));
        holds!(place["batchSize"], json!(3));
        holds!(place["startSequenceNumber"], records[0]["kinesis"]["sequenceNumber"]);
        holds!(place["endSequenceNumber"], records[2]["kinesis"]["sequenceNumber"]);
        holds!(place["streamArn"], records[0]["eventSourceARN"]);
        for name in ["approximateArrivalOfFirstRecord", "approximateArrivalOfLastRecord"] {
            holds!(place[name].as_str().is_some_and(|time| time.starts_with("2019-11-14T")));
        }
    }
    "kinesis-source/report-without-records", FAILURES, "A report to a queue does not hold the records themselves.", |()| {
        let world = World::new(&mapped(1, &format!("MaximumRetryAttempts: 0, {TO_LOST}")), fails).await?;
        put(&world, "k", [7]).await?;
        pass(30).await;
        let reports = world.bodies("lost").await?;
        holds!(reports.len() == 1 && !reports[0].contains("eyJuIjo3fQ"));
    }
    "kinesis-source/no-report-of-success", FAILURES, "Nothing is reported of records that the function processed after all.", |()| {
        let properties = format!("MaximumRetryAttempts: 3, {TO_LOST}");
        let world = World::new(&mapped(1, &properties), |f, e, nth| if nth < 3 { fails(f, e, nth) } else { fine(f, e, nth) }).await?;
        put(&world, "k", [7]).await?;
        pass(60).await;
        holds!(world.left("lost").await?, 0);
    }
    "kinesis-source/partial-failure", REPORTING, "With ReportBatchItemFailures a batch is tried again from the record that the answer names.", |()| {
        holds!(after(|event| names(event, 1)).await?, [vec![0, 1, 2], vec![1, 2]]);
    }
    "kinesis-source/lowest-failure", REPORTING, "Of several records that the answer names the one with the lowest sequence number counts.", |()| {
        let both = |event: &Value| {
            let (last, first) = (names(event, 2), names(event, 1));
            json!({ "batchItemFailures": [last["batchItemFailures"][0], first["batchItemFailures"][0]] })
        };
        holds!(after(both).await?, [vec![0, 1, 2], vec![1, 2]]);
    }
    "kinesis-source/empty-failures", REPORTING, "An empty list of failures is a success of the whole batch.", |()| {
        holds!(after(|_| json!({ "batchItemFailures": [] })).await?, [[0, 1, 2]]);
    }
    "kinesis-source/null-failures", REPORTING, "A null list of failures is a success of the whole batch.", |()| {
        holds!(after(|_| json!({ "batchItemFailures": null })).await?, [[0, 1, 2]]);
    }
    "kinesis-source/null-answer", REPORTING, "A null answer is a success of the whole batch.", |()| {
        holds!(after(|_| Value::Null).await?, [[0, 1, 2]]);
    }
    "kinesis-source/empty-answer", REPORTING, "An empty object as answer is a success of the whole batch.", |()| {
        holds!(after(|_| json!({})).await?, [[0, 1, 2]]);
    }
    "kinesis-source/empty-identifier", REPORTING, "An empty itemIdentifier is a failure of the whole batch.", |()| {
        holds!(after(|_| json!({ "batchItemFailures": [{ "itemIdentifier": "" }] })).await?, [[0, 1, 2]; 2]);
    }
    "kinesis-source/null-identifier", REPORTING, "A null itemIdentifier is a failure of the whole batch.", |()| {
        holds!(after(|_| json!({ "batchItemFailures": [{ "itemIdentifier": null }] })).await?, [[0, 1, 2]; 2]);
    }
    "kinesis-source/bad-key", REPORTING, "An entry whose key is not itemIdentifier is a failure of the whole batch.", |()| {
        holds!(after(|_| json!({ "batchItemFailures": [{ "sequenceNumber": "1" }] })).await?, [[0, 1, 2]; 2]);
    }
    "kinesis-source/one-call-a-shard", PARAMETERS, "Without ParallelizationFactor a shard has one call at a time.", |()| {
        let world = World::start(&mapped(1, "BatchSize: 1"), paused(), Duration::from_secs(1), Box::new(fine)).await?;
        for key in ["a", "b", "c"] {
            put(&world, key, 0..2).await?;
        }
        pass(10).await;
        holds!(world.most_at_work(), 1);
    }
    "kinesis-source/parallel", PARAMETERS, "ParallelizationFactor says how many batches of a shard are processed at once.", |()| {
        let resources = mapped(1, "BatchSize: 1, ParallelizationFactor: 3");
        let world = World::start(&resources, paused(), Duration::from_secs(1), Box::new(fine)).await?;
        for key in 0..40 {
            put(&world, &format!("key-{key}"), [key]).await?;
        }
        pass(60).await;
        holds!(world.most_at_work(), 3);
        holds!(batches(&world).len(), 40);
    }
    "kinesis-source/parallel-keeps-keys", KINESIS, "Also with a ParallelizationFactor the records of one partition key are processed in their order.", |()| {
        let resources = mapped(1, "BatchSize: 1, ParallelizationFactor: 5");
        let world = World::start(&resources, paused(), Duration::from_millis(300), Box::new(fine)).await?;
        for n in 0..6 {
            for key in ["a", "b", "c"] {
                put(&world, key, [n]).await?;
            }
        }
        pass(30).await;
        for key in ["a", "b", "c"] {
            let of: Vec<u64> = world.events().iter().map(|event| event["Records"][0].clone())
                .filter(|record| record["kinesis"]["partitionKey"] == key).map(|record| number(&record)).collect();
            holds!(of, (0..6).collect::<Vec<u64>>());
        }
    }
    "kinesis-source/disabled", PARAMETERS, "A mapping that is not enabled reads nothing.", |()| {
        let world = World::new(&mapped(1, "Enabled: false"), fine).await?;
        put(&world, "k", [1]).await?;
        pass(60).await;
        holds!(batches(&world).len(), 0);
    }
    "kinesis-source/starting-position", CREATE, "A mapping of a stream needs a starting position: TRIM_HORIZON, LATEST or AT_TIMESTAMP.", |()| {
        for bad in ["", "StartingPosition: NOW"] {
            let event = format!("E: {{Type: Kinesis, Properties: {{Stream: !GetAtt S.Arn, {bad}}}}}");
            refused(&with_event(1, &event), "StartingPosition").await?;
        }
    }
    "kinesis-source/starting-time", CREATE, "The starting position AT_TIMESTAMP needs a time.", |()| {
        let event = "E: {Type: Kinesis, Properties: {Stream: !GetAtt S.Arn, StartingPosition: AT_TIMESTAMP}}";
        refused(&with_event(1, event), "StartingPositionTimestamp").await?;
    }
    "kinesis-source/batch-size-bound", PARAMETERS, "BatchSize is 10,000 at most.", |()| {
        refused(&mapped(1, "BatchSize: 10001"), "BatchSize").await?;
        World::new(&mapped(1, "BatchSize: 10000"), fine).await?;
    }
    "kinesis-source/parallel-bound", PARAMETERS, "ParallelizationFactor is ten at most.", |()| {
        refused(&mapped(1, "ParallelizationFactor: 11"), "ParallelizationFactor").await?;
    }
    "kinesis-source/retries-bound", PARAMETERS, "MaximumRetryAttempts is from -1, which stands for no limit, to 10,000.", |()| {
        for bad in ["-2", "10001"] {
            refused(&mapped(1, &format!("MaximumRetryAttempts: {bad}")), "MaximumRetryAttempts").await?;
        }
        World::new(&mapped(1, "MaximumRetryAttempts: -1"), fine).await?;
    }
    "kinesis-source/age-bound", MAPPING, "MaximumRecordAgeInSeconds is -1, which stands for no limit, or from 60 to 604,800.", |()| {
        for bad in ["-2", "59", "604801"] {
            refused(&mapped(1, &format!("MaximumRecordAgeInSeconds: {bad}")), "MaximumRecordAgeInSeconds").await?;
        }
        World::new(&mapped(1, "MaximumRecordAgeInSeconds: -1"), fine).await?;
    }
    "kinesis-source/window-bound", MAPPING, "A batching window is 300 seconds at most.", |()| {
        refused(&mapped(1, "MaximumBatchingWindowInSeconds: 301"), "MaximumBatchingWindowInSeconds").await?;
    }
    "kinesis-source/throttled", MAPPING, "MaximumRetryAttempts bounds retries after an error of the function; a throttled call is none.", |()| {
        let world = World::new(&mapped(1, &format!("MaximumRetryAttempts: 0, {TO_LOST}")), fine).await?;
        world.throttle(3);
        put(&world, "k", [1]).await?;
        pass(60).await;
        holds!(world.throttled().len(), 3);
        holds!(batches(&world), [[1]]);
        holds!(world.left("lost").await?, 0);
    }
    "kinesis-source/throttled-whole", MAPPING, "A batch is bisected after an error of the function; a throttled one stays whole.", |()| {
        let properties = format!("{GATHER}, BisectBatchOnFunctionError: true, {TO_LOST}");
        let world = World::new(&mapped(1, &properties), fine).await?;
        world.throttle(2);
        put(&world, "k", 0..4).await?;
        pass(60).await;
        holds!(batches(&world), [[0, 1, 2, 3]]);
    }
];
