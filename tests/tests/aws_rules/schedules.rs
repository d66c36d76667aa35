//! Rules of EventBridge Scheduler. A schedule fires at the start as well on this host; what AWS says holds for what follows.

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::case::{Case, Outcome, Unmet, cases, holds};
use super::lab::{World, fails, fine, function, pass, queue, refused};

pub type Check = fn(()) -> BoxFuture<'static, Outcome>;

const TYPES: &str = "https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html";
const FLEXIBLE: &str =
    "https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-flexible-time-windows.html";
const WINDOW: &str = "https://docs.aws.amazon.com/scheduler/latest/APIReference/API_FlexibleTimeWindow.html";
const TARGETS: &str = "https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-templated.html";
const STATE: &str = "https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-state.html";
const TARGET: &str = "https://docs.aws.amazon.com/scheduler/latest/APIReference/API_Target.html";

fn scheduled(expression: &str, properties: &str) -> String {
    let event = format!("E: {{Type: ScheduleV2, Properties: {{ScheduleExpression: '{expression}', {properties}}}}}");
    queue("lost", "")
        + &function(
            "F",
            "EventInvokeConfig: {DestinationConfig: {OnFailure: {Destination: !GetAtt Qlost.Arn}}},",
            &event,
        )
}

/// When a schedule of these properties fires in these seconds, after the start.
async fn fired(expression: &str, properties: &str, seconds: u64) -> Result<Vec<f64>, Unmet> {
    let world = World::new(&scheduled(expression, properties), fine).await?;
    pass(seconds).await;
    Ok(world.times().into_iter().skip(1).collect())
}

pub const CASES: &[Case<Check>] = cases![
    "schedule/rate", TYPES, "A rate-based schedule fires once a period.", |()| {
        let times = fired("rate(5 minutes)", "", 3_600).await?;
        holds!(times.len() == 11 || times.len() == 12);
    }
    "schedule/precision", TYPES, "A schedule without a flexible window fires within the minute that begins at its time.", |()| {
        let times = fired("rate(5 minutes)", "", 6 * 3_600).await?;
        for (n, time) in times.iter().enumerate() {
            let late = time - 300.0 * (n as f64 + 1.0);
            holds!((0.0..60.1).contains(&late));
        }
    }
    "schedule/not-on-the-second", TYPES, "The precision is a minute: a schedule does not fire at the same second of each.", |()| {
        let times = fired("rate(1 minute)", "", 3_600).await?;
        let late: Vec<u64> = times.iter().map(|time| *time as u64 % 60).collect();
        holds!(late.iter().any(|second| *second < 20) && late.iter().any(|second| *second > 40));
    }
    "schedule/rate-hours", TYPES, "A rate may be in hours.", |()| {
        holds!(fired("rate(2 hours)", "", 5 * 3_600).await?.len(), 2);
    }
    "schedule/rate-days", TYPES, "A rate may be in days.", |()| {
        holds!(fired("rate(1 day)", "", 50 * 3_600).await?.len(), 2);
    }
    "schedule/rate-units", TYPES, "A rate has a unit of minutes, hours or days.", |()| {
        refused(&scheduled("rate(30 seconds)", ""), "ScheduleExpression").await?;
    }
    "schedule/rate-positive", TYPES, "A rate's value is a positive whole number.", |()| {
        for bad in ["rate(0 minutes)", "rate(-1 minutes)", "rate(1.5 hours)"] {
            refused(&scheduled(bad, ""), "ScheduleExpression").await?;
        }
    }
    "schedule/flexible-window", FLEXIBLE, "With a flexible window the target is invoked within the window after the scheduled time.", |()| {
        let times = fired("rate(1 hour)", "FlexibleTimeWindow: {Mode: FLEXIBLE, MaximumWindowInMinutes: 15}", 40 * 3_600).await?;
        holds!(times.len() >= 38);
        for (n, time) in times.iter().enumerate() {
            holds!((0.0..900.1).contains(&(time - 3_600.0 * (n as f64 + 1.0))));
        }
    }
    "schedule/flexible-disperses", FLEXIBLE, "A flexible window disperses the invocations over its length.", |()| {
        let times = fired("rate(1 hour)", "FlexibleTimeWindow: {Mode: FLEXIBLE, MaximumWindowInMinutes: 15}", 40 * 3_600).await?;
        let late: Vec<f64> = times.iter().map(|time| time % 3_600.0).collect();
        holds!(late.iter().any(|late| *late < 300.0) && late.iter().any(|late| *late > 600.0));
    }
    "schedule/flexible-mode", WINDOW, "A flexible window names its mode: OFF or FLEXIBLE.", |()| {
        for bad in ["{MaximumWindowInMinutes: 5}", "{Mode: SOMETIMES}"] {
            refused(&scheduled("rate(1 hour)", &format!("FlexibleTimeWindow: {bad}")), "Mode").await?;
        }
    }
    "schedule/flexible-needs-length", FLEXIBLE, "A flexible window says how long it is.", |()| {
        refused(&scheduled("rate(1 hour)", "FlexibleTimeWindow: {Mode: FLEXIBLE}"), "MaximumWindowInMinutes").await?;
    }
    "schedule/flexible-bounds", WINDOW, "A flexible window has from 1 to 1,440 minutes.", |()| {
        for bad in [0, 1_441] {
            let window = format!("FlexibleTimeWindow: {{Mode: FLEXIBLE, MaximumWindowInMinutes: {bad}}}");
            refused(&scheduled("rate(1 hour)", &window), "MaximumWindowInMinutes").await?;
        }
    }
    "schedule/disabled", STATE, "A disabled schedule does not invoke its target.", |()| {
        let world = World::new(&scheduled("rate(1 minute)", "State: DISABLED"), fine).await?;
        pass(3_600).await;
        holds!(world.calls().len(), 0);
    }
    "schedule/input", TARGETS, "A target is given the schedule's input.", |()| {
        let world = World::new(&scheduled("rate(1 hour)", "Input: '{\"kind\": \"sweep\"}'"), fine).await?;
        pass(1).await;
        holds!(world.events(), [json!({ "kind": "sweep" })]);
    }
    "schedule/input-is-json", TARGET, "The input of a Lambda target is JSON.", |()| {
        refused(&scheduled("rate(1 hour)", "Input: 'sweep'"), "Input").await?;
    }
    "schedule/default-event", TARGET, "Without an input the target is given a default notification of the schedule.", |()| {
        let world = World::new(&scheduled("rate(1 hour)", ""), fine).await?;
        pass(1).await;
        let event = world.events().first().ok_or("no call")?.clone();
        let names: Vec<String> = event.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        holds!(names, ["account", "detail", "detail-type", "id", "region", "resources", "source", "time", "version"]);
        holds!([&event["source"], &event["detail-type"]], [&json!("aws.scheduler"), &json!("Scheduled Event")]);
        holds!(event["resources"][0].as_str().is_some_and(|arn| arn.starts_with("arn:aws:scheduler:")));
        holds!(event["time"], json!("2019-11-14T00:06:40Z"));
    }
    "schedule/asynchronous", TARGETS, "A Lambda target is invoked asynchronously: a failed invocation has the function's own retries and destination.", |()| {
        let world = World::new(&scheduled("rate(1 hour)", ""), fails).await?;
        pass(600).await;
        holds!(world.calls().len(), 3);
        let report: Value = serde_json::from_str(world.bodies("lost").await?.first().ok_or("no report")?)?;
        holds!(report["requestContext"]["condition"], json!("RetriesExhausted"));
    }
];
