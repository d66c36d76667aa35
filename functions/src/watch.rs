//! What no single invocation knows of itself and somebody is woken for: whether the brokers are away, and which streams have had
//! no good poll for too long [O3]. The functions tell it in lines that CloudWatch reads as metrics.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::breaker::shared;
use streammanager::error::BackendError;
use streammanager::schedule::streams;
use streammanager::time::Timestamp;

/// However often a stream is polled, a shorter gap wakes nobody.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// Where CloudWatch keeps them; the alarms of the template look there.
const NAMESPACE: &str = "StreamManager";

/// Names as they are anywhere else, with their values now.
pub type Figures = Vec<(&'static str, f64)>;

/// Looked at each minute, by the function that runs each minute.
pub async fn look(app: &App) -> Result<Figures, BackendError> {
    let lanes = shared::known(&app.breakers, &*app.store, &app.clock).await?;
    let brokers = lanes.iter().map(|lane| lane.state.figure()).fold(0.0, f64::max);
    let (now, mut overdue) = (app.clock.now(), 0_u32);
    for registered in streams::list(&*app.store).await?.iter().filter(|registered| registered.started) {
        let state = streams::poll_state(&*app.store, &registered.spec.id).await?;
        let patience = PATIENCE.max(2 * registered.spec.interval.get());
        overdue += u32::from(state.completed_at.is_none() && is_overdue(registered.since, &state, now, patience));
    }
    Ok(vec![("stream_circuit_breaker_state", brokers), ("stream_polls_overdue", overdue.into())])
}

/// Waited for since it was started, not since its last poll: one that dies under way leaves no word of itself.
fn is_overdue(since: Timestamp, state: &streams::PollState, now: Timestamp, patience: Duration) -> bool {
    now > state.last_success.map_or(since, |good| good.max(since)) + patience
}

/// Tells them of this function.
pub fn tell(app: &App, function: &str, figures: &[(&'static str, f64)]) {
    // A line that cannot be written is lost with the log that it belongs to.
    let _ = writeln!(std::io::stdout(), "{}", line(function, app.clock.now(), figures));
}

/// One log line in CloudWatch's embedded metric format.
fn line(function: &str, at: Timestamp, figures: &[(&'static str, f64)]) -> Value {
    let metrics: Vec<Value> = figures.iter().map(|(name, _)| json!({ "Name": name })).collect();
    let mut line = json!({
        "_aws": {
            "Timestamp": at.as_millisecond(),
            "CloudWatchMetrics": [{ "Namespace": NAMESPACE, "Dimensions": [["function"]], "Metrics": metrics }],
        },
        "function": function,
    });
    for (name, value) in figures {
        line[*name] = json!(value);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn o3_a_stream_is_overdue_after_the_patience_that_it_has() {
        for (since, last_success, overdue) in [
            (400, None, false),
            (399, None, true),
            (0, Some(400), false),
            (0, Some(399), true),
            (400, Some(0), false),
            (0, Some(9_000), false),
        ] {
            let state = streams::PollState { last_success: last_success.map(at), ..Default::default() };
            let found = is_overdue(at(since), &state, at(1_000), Duration::from_secs(600));
            assert_eq!(found, overdue, "started at {since}, good at {last_success:?}");
        }
    }

    #[test]
    fn o1_a_line_is_what_cloudwatch_reads_as_metrics() {
        let line = line("p-dev-schedule", at(7), &[("stream_polls_overdue", 2.0)]);
        let expected = json!({
            "_aws": { "Timestamp": 7000, "CloudWatchMetrics": [{
                "Namespace": "StreamManager", "Dimensions": [["function"]], "Metrics": [{ "Name": "stream_polls_overdue" }],
            }]},
            "function": "p-dev-schedule", "stream_polls_overdue": 2.0,
        });
        assert_eq!(line, expected);
    }
}
