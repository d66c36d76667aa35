//! What no single invocation knows of itself and is looked up where processes share it [O1, O3]: how full the tiers are, whether the
//! sink is away, which streams run, and which have had no good poll for too long. The function that runs each minute tells it on
//! AWS, a host whenever its metrics are read.

use std::time::Duration;

use metrics::Label;
use streammanager::app::App;
use streammanager::breaker::shared;
use streammanager::deliver::report;
use streammanager::error::BackendError;
use streammanager::record::Tier;
use streammanager::schedule::streams;
use streammanager::time::Timestamp;

/// However often a stream is polled, a shorter gap wakes nobody.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How often whoever speaks to the sink says whether it answers.
const ASKED_EVERY: Duration = Duration::from_secs(60);

/// A level, as a metric has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    /// As anywhere else.
    pub name: &'static str,
    /// Its label, if it has one.
    pub label: Option<(&'static str, String)>,
    /// Its value now.
    pub value: f64,
}

impl Gauge {
    fn new(name: &'static str, value: f64) -> Gauge {
        Gauge { name, label: None, value }
    }

    fn of(name: &'static str, label: &'static str, value: impl Into<String>, figure: f64) -> Gauge {
        Gauge { name, label: Some((label, value.into())), value: figure }
    }
}

/// Looks at everything.
///
/// # Errors
/// When a queue or the store is away.
pub async fn look(app: &App) -> Result<Vec<Gauge>, BackendError> {
    let mut gauges = Vec::new();
    for tier in Tier::ALL {
        let depth = app.queue.depth(app.settings.queues.tier(tier)).await?;
        gauges.push(Gauge::of("stream_queue_depth", "priority", tier.name(), depth.total() as f64));
    }
    let now = app.clock.now();
    let known = shared::known(&app.breakers, &*app.store, &app.clock).await?;
    let lanes = report::probing(known, report::last(&*app.store).await?.as_ref(), now);
    for (lane, known) in ["critical", "bulk"].into_iter().zip(lanes) {
        gauges.push(Gauge::of("stream_circuit_breaker_state", "lane", lane, known.state.figure()));
    }
    let (mut active, mut throttled, mut overdue) = (0_u32, 0_u32, 0_u32);
    for registered in streams::list(&*app.store).await? {
        let state = streams::poll_state(&*app.store, &registered.spec.id).await?;
        if let Some(at) = state.last_success {
            let (id, at) = (registered.spec.id.to_string(), at.as_second() as f64);
            gauges.push(Gauge::of("stream_last_good_poll_timestamp_seconds", "stream_id", id, at));
        }
        if registered.started {
            let patience = PATIENCE.max(2 * registered.spec.interval.get());
            active += 1;
            throttled += u32::from(state.is_throttled(now));
            // One that may not ask is not waited for until it may.
            let since = registered.since.max(state.rests_until.unwrap_or(registered.since));
            overdue += u32::from(!state.has_ended(&registered) && is_overdue(since, &state, now, patience));
        }
    }
    gauges.extend([
        Gauge::new("stream_active_streams", active.into()),
        Gauge::new("stream_throttling_active", throttled.into()),
        Gauge::new("stream_polls_overdue", overdue.into()),
    ]);
    Ok(gauges)
}

/// Waited for since it was started, not since its last poll: one that dies under way leaves no word of itself.
fn is_overdue(since: Timestamp, state: &streams::PollState, now: Timestamp, patience: Duration) -> bool {
    now > state.last_success.map_or(since, |good| good.max(since)) + patience
}

/// Looks, and tells what was seen among the metrics. Where it cannot be looked at nothing is told, and alarms are for that too.
pub async fn tell(app: &App) {
    match look(app).await {
        Ok(gauges) => {
            for Gauge { name, label, value } in gauges {
                let labels: Vec<Label> = label.into_iter().map(|(label, value)| Label::new(label, value)).collect();
                metrics::gauge!(name, labels).set(value);
            }
        }
        Err(problem) => tracing::warn!(%problem, "what metrics and alarms are for could not be looked at"),
    }
}

/// The same as Prometheus reads it.
pub fn prometheus(gauges: &[Gauge]) -> String {
    let mut text = String::new();
    for (nth, Gauge { name, label, value }) in gauges.iter().enumerate() {
        if nth == 0 || gauges[nth - 1].name != *name {
            text += &format!("# TYPE {name} gauge\n");
        }
        // Labels are names of tiers, lanes and streams, which have nothing to be escaped.
        let label = label.as_ref().map(|(label, value)| format!("{{{label}=\"{value}\"}}")).unwrap_or_default();
        text += &format!("{name}{label} {value}\n");
    }
    text
}

/// Does the work, and tells meanwhile each minute whether the sink answers, which only whoever speaks to it knows. The metric is called
/// after Kafka whatever the sink is [O1].
pub async fn while_the_sink_is_asked<F: Future>(app: &App, work: F) -> F::Output {
    let asking = async {
        loop {
            let answers = app.sink.answers().await;
            metrics::gauge!("stream_kafka_connection_status").set(f64::from(u8::from(answers)));
            tokio::time::sleep(ASKED_EVERY).await;
        }
    };
    tokio::select! { biased;
        done = work => done,
        never = asking => never,
    }
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
    fn o1_levels_are_written_as_prometheus_reads_them() {
        let gauges = [
            Gauge::of("stream_queue_depth", "priority", "high", 3.0),
            Gauge::of("stream_queue_depth", "priority", "low", 0.0),
            Gauge::new("stream_active_streams", 2.0),
        ];
        let want = "# TYPE stream_queue_depth gauge\nstream_queue_depth{priority=\"high\"} 3\n\
                    stream_queue_depth{priority=\"low\"} 0\n# TYPE stream_active_streams gauge\nstream_active_streams 2\n";
        assert_eq!(prometheus(&gauges), want);
    }
}
