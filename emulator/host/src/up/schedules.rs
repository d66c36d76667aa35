//! EventBridge Scheduler: each schedule fires once at the start and then every period, also while an earlier invocation
//! still runs, as AWS does.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::functions::Functions;

pub(crate) async fn run(
    functions: Functions,
    function: String,
    every: Duration,
    input: Option<Value>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! { biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let (functions, function, event) =
            (functions.clone(), function.clone(), input.clone().unwrap_or_else(|| json!({})));
        tasks.spawn(async move {
            if let Err(problem) = functions.invoke(&function, event).await {
                tracing::error!(%problem, function, "a scheduled invocation failed");
            }
        });
    }
}
