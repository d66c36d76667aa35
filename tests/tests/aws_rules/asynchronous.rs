//! Rules of Lambda's asynchronous invocations. Waits are a sixtieth as long on this host, while events grow older as on AWS.

use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::case::{Case, Outcome, Unmet, cases, holds};
use super::lab::{World, fails, fine, function, pass, paused, queue, refused, rule};

pub type Check = fn(()) -> BoxFuture<'static, Outcome>;

const ASYNC: &str = "https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html";
const ERRORS: &str = "https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html";
const RECORDS: &str = "https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html";
const CONFIGURE: &str = "https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-configuring.html";
const ACTION: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/lambda-rule-action.html";

/// What is published on `in` invokes the function.
fn invoked(config: &str) -> String {
    let config = if config.is_empty() { String::new() } else { format!("EventInvokeConfig: {{{config}}},") };
    let call = rule("call", "SELECT *, topic() AS topic FROM 'in'", "{Lambda: {FunctionArn: !GetAtt F.Arn}}", "");
    queue("lost", "") + &call + &function("F", &config, "")
}

const TO_LOST: &str = "DestinationConfig: {OnFailure: {Destination: !GetAtt Qlost.Arn}}";

async fn failing(config: &str) -> Result<World, Unmet> {
    let world = World::new(&invoked(config), fails).await?;
    world.publish("in", r#"{"n":1}"#).await?;
    pass(600).await;
    Ok(world)
}

async fn report(world: &World) -> Result<Value, Unmet> {
    Ok(serde_json::from_str(world.bodies("lost").await?.first().ok_or("no report")?)?)
}

pub const CASES: &[Case<Check>] = cases![
    "async/event", ACTION, "A Lambda action of a topic rule invokes the function with what its statement selects.", |()| {
        let world = World::new(&invoked(""), fine).await?;
        world.publish("in", r#"{"n":1}"#).await?;
        pass(2).await;
        holds!(world.events(), [json!({ "n": 1, "topic": "in" })]);
    }
    "async/once", ASYNC, "An event that the function took is not given to it again.", |()| {
        let world = World::new(&invoked(""), fine).await?;
        world.publish("in", "{}").await?;
        pass(3_600).await;
        holds!(world.calls().len(), 1);
    }
    "async/two-retries", ERRORS, "An event with which the function fails is tried two more times.", |()| {
        let world = failing("").await?;
        holds!(world.calls().len(), 3);
    }
    "async/same-event", ERRORS, "A retry has the same event.", |()| {
        let world = failing("").await?;
        holds!(world.events(), vec![json!({ "n": 1, "topic": "in" }); 3]);
    }
    "async/waits", ERRORS, "The wait before the second retry is two minutes, twice the one minute before the first.", |()| {
        let times = failing("").await?.times();
        holds!(times.len(), 3);
        let (first, second) = (times[1] - times[0], times[2] - times[1]);
        holds!((first - 1.0).abs() < 0.1 && (second - 2.0).abs() < 0.1);
    }
    "async/recovers", ERRORS, "A retry that succeeds is the last one.", |()| {
        let world = World::new(&invoked(TO_LOST), |f, e, nth| if nth == 0 { fails(f, e, nth) } else { fine(f, e, nth) }).await?;
        world.publish("in", "{}").await?;
        pass(600).await;
        holds!(world.calls().len(), 2);
        holds!(world.left("lost").await?, 0);
    }
    "async/no-retries", CONFIGURE, "With MaximumRetryAttempts 0 an event has one try.", |()| {
        holds!(failing("MaximumRetryAttempts: 0").await?.calls().len(), 1);
    }
    "async/one-retry", CONFIGURE, "With MaximumRetryAttempts 1 an event has two tries.", |()| {
        holds!(failing("MaximumRetryAttempts: 1").await?.calls().len(), 2);
    }
    "async/event-age", CONFIGURE, "An event older than MaximumEventAgeInSeconds is given up, whatever tries are left.", |()| {
        let world = failing(&format!("MaximumEventAgeInSeconds: 100, {TO_LOST}")).await?;
        // The second retry would come after three minutes.
        holds!(world.calls().len(), 2);
        holds!(world.left("lost").await?, 1);
    }
    "async/side-by-side", ASYNC, "An event that waits for its retry does not hold up others.", |()| {
        let one_fails = |_: &str, event: &Value, _: usize| if event["n"] == 1 { Err("it fails".to_owned()) } else { Ok(json!({})) };
        let world = World::start(&invoked(""), paused(), Duration::ZERO, Box::new(one_fails)).await?;
        world.publish("in", r#"{"n":1}"#).await?;
        world.publish("in", r#"{"n":2}"#).await?;
        pass(600).await;
        let calls: Vec<Value> = world.events().into_iter().map(|event| event["n"].clone()).collect();
        holds!(calls.len(), 4);
        holds!(calls[..2].contains(&json!(2)));
    }
    "async/report", RECORDS, "The on-failure destination is told which function failed, why, and after how many calls.", |()| {
        let report = report(&failing(TO_LOST).await?).await?;
        holds!(report["version"], json!("1.0"));
        holds!(report["requestContext"]["condition"], json!("RetriesExhausted"));
        holds!(report["requestContext"]["approximateInvokeCount"], json!(3));
        holds!(report["requestContext"]["functionArn"].as_str().is_some_and(|arn| arn.ends_with(":$LATEST")));
        holds!(report["requestContext"]["requestId"].as_str().map(str::len), Some(36));
    }
    "async/report-payload", RECORDS, "The report holds the event as requestPayload.", |()| {
        let report = report(&failing(TO_LOST).await?).await?;
        holds!(report["requestPayload"], json!({ "n": 1, "topic": "in" }));
    }
    "async/report-response", RECORDS, "The report holds the function's error as responsePayload, and how the call ended as responseContext.", |()| {
        let report = report(&failing(TO_LOST).await?).await?;
        holds!(report["responseContext"], json!({ "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled" }));
        holds!(report["responsePayload"]["errorMessage"].as_str().is_some_and(|words| words.contains("it fails")));
    }
    "async/report-time", RECORDS, "The report's timestamp is in ISO 8601, in UTC.", |()| {
        let report = report(&failing(TO_LOST).await?).await?;
        holds!(report["timestamp"].as_str().is_some_and(|time| time.starts_with("2019-11-14T") && time.ends_with('Z')));
    }
    "async/one-report", RECORDS, "An event that fails all its tries is reported once.", |()| {
        holds!(failing(TO_LOST).await?.left("lost").await?, 1);
    }
    "async/no-report-of-success", RECORDS, "An on-failure destination hears nothing of an event that was processed.", |()| {
        let world = World::new(&invoked(TO_LOST), fine).await?;
        world.publish("in", "{}").await?;
        pass(600).await;
        holds!(world.left("lost").await?, 0);
    }
    "async/throttled", ERRORS, "A throttled event goes back into the queue and is given again; that is no try of the function.", |()| {
        let world = World::new(&invoked(&format!("MaximumRetryAttempts: 0, {TO_LOST}")), fine).await?;
        world.throttle(5);
        world.publish("in", r#"{"n":1}"#).await?;
        pass(600).await;
        holds!(world.throttled().len(), 5);
        holds!(world.events(), [json!({ "n": 1, "topic": "in" })]);
        holds!(world.left("lost").await?, 0);
    }
    "async/throttled-tries", ERRORS, "An event that was throttled still has all its tries.", |()| {
        let world = World::new(&invoked(TO_LOST), fails).await?;
        world.throttle(2);
        world.publish("in", "{}").await?;
        pass(600).await;
        holds!((world.throttled().len(), world.calls().len()), (2, 3));
        holds!(report(&world).await?["requestContext"]["approximateInvokeCount"], json!(3));
    }
    "async/throttled-too-long", ERRORS, "A throttled event is tried again only until it is too old.", |()| {
        let world = World::new(&invoked(&format!("MaximumEventAgeInSeconds: 100, {TO_LOST}")), fine).await?;
        world.throttle(usize::MAX);
        world.publish("in", "{}").await?;
        pass(600).await;
        holds!(world.calls().len(), 0);
        // After 1, 2, 4 … 32 s of Lambda's, and not after 64 more.
        holds!((5..=8).contains(&world.throttled().len()));
        holds!(report(&world).await?["requestContext"]["condition"], json!("EventAgeExceeded"));
    }
    "async/retries-bound", CONFIGURE, "MaximumRetryAttempts is from 0 to 2.", |()| {
        refused(&invoked("MaximumRetryAttempts: 3"), "MaximumRetryAttempts").await?;
    }
    "async/age-bound", CONFIGURE, "MaximumEventAgeInSeconds is from one minute to six hours.", |()| {
        for bad in [59, 21_601] {
            refused(&invoked(&format!("MaximumEventAgeInSeconds: {bad}")), "MaximumEventAgeInSeconds").await?;
        }
        World::new(&invoked("MaximumEventAgeInSeconds: 21600"), fine).await?;
    }
];
