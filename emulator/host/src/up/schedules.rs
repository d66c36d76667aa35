//! EventBridge Scheduler: each schedule fires once at the start, so that the system begins at once, and then every period, some
//! time within its minute or its flexible window, as on AWS [L5]; also while an earlier invocation still runs. It hands over to
//! Lambda, which invokes asynchronously: the function's own retries and destination hold. The hand-over cannot fail inside one
//! process, so that the schedule's own retries and dead letters have nothing to do.

use std::time::Duration;

use serde_json::{Value, json};
use streammanager::time::{Rng, Timestamp};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::asynchronous::Asynchronous;
use super::failures::request_id;

/// Scheduler's precision.
const MINUTE: Duration = Duration::from_secs(60);

pub(crate) struct Schedule {
    pub(crate) how: Asynchronous,
    pub(crate) arn: String,
    pub(crate) every: Duration,
    /// Zero: off.
    pub(crate) flexible: Duration,
    /// The event; none: Scheduler's own.
    pub(crate) input: Option<Value>,
}

impl Schedule {
    pub(crate) async fn run(self, tasks: TaskTracker, stop: CancellationToken) {
        let mut times = tokio::time::interval(self.every);
        times.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut later = Duration::ZERO;
        loop {
            tokio::select! { biased;
                () = stop.cancelled() => return,
                _ = times.tick() => {}
            }
            let (how, stop) = (self.how.clone(), stop.clone());
            let event = self.input.clone().unwrap_or_else(|| self.event(self.how.clock.now()));
            tasks.spawn(async move {
                if stop.run_until_cancelled(tokio::time::sleep(later)).await.is_none() {
                    return;
                }
                let accepted_at = how.clock.now();
                if let Err(problem) = how.carry_out(&event, accepted_at, None).await {
                    tracing::error!(%problem, function = how.function, "a scheduled invocation is not done with, and comes no more");
                }
            });
            later = fraction(&self.how.rng, self.flexible.max(MINUTE));
        }
    }

    fn event(&self, time: Timestamp) -> Value {
        json!({
            "version": "0",
            "id": request_id(&self.how.rng),
            "detail-type": "Scheduled Event",
            "source": "aws.scheduler",
            "account": crate::template::ACCOUNT,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "region": crate::template::REGION,
            "resources": [self.arn],
            "detail": "{}",
        })
    }
}

/// Any part of `whole`.
fn fraction(rng: &Rng, whole: Duration) -> Duration {
    let part = u32::from_be_bytes(rng.bytes());
    whole.mul_f64(f64::from(part) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use parking_lot::Mutex;
    use streammanager::embedded::{Commits, Embedded, MemoryDisk, Options};
    use streammanager::time::Clock;
    use streammanager_functions::events::KinesisEvent;
    use tokio::time::Instant;

    use super::*;
    use crate::up::functions::Invocation;
    use crate::up::invoke::Invoke;

    /// When it was called, and with what.
    struct Called(Instant, Mutex<Vec<(Duration, Value)>>);

    #[async_trait]
    impl Invoke for Called {
        async fn invoke(&self, _: &str, event: Value) -> Result<Value, Invocation> {
            self.1.lock().push((self.0.elapsed(), event));
            Ok(json!({}))
        }

        async fn invoke_with_records(&self, _: &str, _: KinesisEvent) -> Result<Value, Invocation> {
            Ok(json!({}))
        }
    }

    async fn fired(seed: u64, every: u64, flexible: u64, seconds: u64) -> Vec<(Duration, Value)> {
        let clock = Clock::simulated(Timestamp::from_second(1_573_690_000).unwrap());
        let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
        let called = Arc::new(Called(Instant::now(), Mutex::default()));
        let how = Asynchronous {
            functions: called.clone(),
            function: "F".into(),
            function_arn: "arn:aws:lambda:us-west-2:000000000000:function:f".into(),
            timeout: Duration::from_secs(3),
            backend: Arc::new(Embedded::on_disk(&MemoryDisk::new(), options).unwrap()),
            retries: 0,
            max_age: Duration::from_secs(60),
            on_failure: None,
            clock,
            rng: Rng::seeded(seed),
        };
        let (every, flexible) = (Duration::from_secs(every), Duration::from_secs(flexible));
        let schedule = Schedule { how, arn: "arn:s".into(), every, flexible, input: None };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(schedule.run(tasks.clone(), stop.clone()));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        std::mem::take(&mut *called.1.lock())
    }

    #[tokio::test(start_paused = true)]
    async fn l5_a_schedule_fires_some_time_within_its_minute_and_the_same_seed_gives_the_same_times() {
        let fires = fired(7, 60, 0, 59 * 60).await;
        assert!(fires.len() == 58 || fires.len() == 59, "{}", fires.len());
        assert_eq!(fires[0].0, Duration::ZERO, "the system begins at once");
        let parts: Vec<_> = fires.iter().map(|(at, _)| at.as_secs_f64() % 60.0).collect();
        for (nth, (at, _)) in fires.iter().enumerate() {
            assert_eq!(at.as_secs() / 60, nth as u64, "{at:?}");
        }
        assert!(parts.iter().any(|part| *part > 45.0) && parts[1..].iter().any(|part| *part < 15.0), "{parts:?}");
        assert_eq!(fires[0].1["detail-type"], "Scheduled Event");
        assert_eq!(
            (&fires[0].1["time"], &fires[0].1["resources"]),
            (&json!("2019-11-14T00:06:40Z"), &json!(["arn:s"]))
        );
        assert_eq!(fired(7, 60, 0, 59 * 60).await, fires);
        assert_ne!(fired(8, 60, 0, 59 * 60).await, fires);
    }

    #[tokio::test(start_paused = true)]
    async fn l5_a_flexible_window_is_used() {
        let fires = fired(7, 3600, 900, 20 * 3600).await;
        let parts: Vec<_> = fires.iter().map(|(at, _)| at.as_secs() % 3600).collect();
        assert!(parts.iter().all(|part| *part < 900) && parts.iter().any(|part| *part > 120), "{parts:?}");
        assert!(fires.len() >= 19);
    }
}
