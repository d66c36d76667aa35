//! Cadence [M4]: the minute schedule plans every tick up to two minutes ahead and sends it with a delay, so that polls keep
//! their times although the scheduler fires anywhere in its minute. A tick planned twice has the same due time and is
//! worked on once.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::BackendError;
use crate::limits::{QUEUE_BATCH, STORED_AHEAD, TICK_HORIZON};
use crate::queue::{Body, Message, QueueRef};
use crate::record::StreamId;
use crate::schedule::file::StreamSpec;
use crate::schedule::mode::Mode;
use crate::schedule::streams::{self, Registered};
use crate::settings::Queues;
use crate::store::{Expect, Key, PutError};
use crate::time::Timestamp;

const PLANS: &str = "stream-plans";

/// One due poll, as it travels through the ticks queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// Which stream is to be polled.
    pub stream: StreamId,
    /// When; it also tells a repeated tick from a new one [M4].
    pub due_at: Timestamp,
}

/// Plans the ticks of (watermark, now + 120 s] of every started stream that has not ended; gives how many were sent. One stream that cannot be
/// planned, because its mode's queue is full, leaves the others theirs [S10]; its error comes at the end.
pub async fn plan(app: &App) -> Result<usize, BackendError> {
    let (mut sent, mut failure) = (0, Ok(()));
    for registered in streams::list(&*app.store).await?.iter().filter(|registered| registered.started) {
        match plan_one(app, registered).await {
            Ok(ticks) => sent += ticks,
            Err(e) => failure = failure.and(Err(e)),
        }
    }
    failure.map(|()| sent)
}

/// Where a stream's ticks go.
pub(crate) fn queue_of<'q>(queues: &'q Queues, spec: &StreamSpec) -> &'q QueueRef {
    match Mode::of_stream(spec) {
        Mode::Batch => &queues.batch_ticks,
        Mode::Realtime => &queues.realtime_ticks,
        Mode::Streaming => &queues.stream_ticks,
    }
}

async fn plan_one(app: &App, registered: &Registered) -> Result<usize, BackendError> {
    let now = app.clock.now();
    if registered.spec.polled.is_bounded() {
        let state = streams::poll_state(&*app.store, &registered.spec.id).await?;
        // By a clock that was set back since nobody knows what was later.
        if state.has_ended(registered) && state.ahead_of(now).is_zero() {
            return Ok(0);
        }
    }
    let key = Key::new(PLANS, registered.spec.id.as_str());
    let item = app.store.get(&key).await?;
    let watermark = item.as_ref().and_then(|item| String::from_utf8_lossy(&item.value).parse::<Timestamp>().ok());
    let interval = registered.spec.interval.get();
    if let Some(planned) = watermark.filter(|watermark| is_ahead(*watermark, now)) {
        let stream = &registered.spec.id;
        tracing::warn!(%stream, %planned, "ticks are planned far ahead: the clock was set back, and polls go on now");
    }
    let due = due_times(watermark, interval, now);
    let Some(&last) = due.last() else { return Ok(0) };
    let queue = queue_of(&app.settings.queues, &registered.spec);
    let mut messages = Vec::with_capacity(due.len());
    for &due_at in &due {
        let tick = Tick { stream: registered.spec.id.clone(), due_at };
        let body = serde_json::to_string(&tick).map_err(|e| BackendError::Fatal(e.to_string()))?;
        let delay = Duration::try_from(due_at.duration_since(now)).unwrap_or(Duration::ZERO);
        messages.push(Message { body: Body::Text(body), delay });
    }
    for batch in messages.chunks(QUEUE_BATCH) {
        for outcome in app.queue.send(queue, batch).await? {
            outcome.map_err(|e| BackendError::Retry(format!("ticks of {}: {e}", registered.spec.id)))?;
        }
    }
    // Sent first, claimed then: a crash between repeats ticks, which are known by their due times, and loses none.
    let expect = item.map_or(Expect::Absent, |item| Expect::Version(item.version));
    match app.store.put_if(&key, Bytes::from(last.to_string()), expect, None).await {
        Ok(_) | Err(PutError::Conflict) => Ok(messages.len()),
        Err(e) => Err(e.unexpected("ticks")),
    }
}

/// Multiples of the interval since 1970 after the watermark and up to the horizon; the first plan of a stream, and one
/// whose watermark fell behind, begins now.
fn due_times(watermark: Option<Timestamp>, interval: Duration, now: Timestamp) -> Vec<Timestamp> {
    let step = interval.as_secs().max(1) as i64;
    let horizon = (now + TICK_HORIZON).as_second();
    let mut due = Vec::new();
    let from = match watermark {
        Some(watermark) if is_ahead(watermark, now) => {
            due.push(now);
            now.as_second()
        }
        Some(watermark) if watermark + interval >= now => watermark.as_second(),
        _ => {
            due.push(now);
            now.as_second()
        }
    };
    let mut next = (from.div_euclid(step) + 1) * step;
    while next <= horizon {
        due.extend(Timestamp::from_second(next).ok());
        next += step;
    }
    due
}

/// No plan reaches so far: this one was made before the clock was set back, and would stop the polls until then [M4].
fn is_ahead(watermark: Timestamp, now: Timestamp) -> bool {
    watermark > now + TICK_HORIZON + STORED_AHEAD
}

/// A tick later than this is dropped, not piled up [M4].
pub(crate) fn latest_start(due_at: Timestamp, interval: Duration) -> Timestamp {
    due_at + interval.max(Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn m4_a_schedule_that_fires_anywhere_in_its_minute_gives_one_tick_an_interval() {
        for interval in [5, 15, 30, 60, 90, 300] {
            let mut watermark = None;
            let mut all = Vec::new();
            for fired in [0, 119, 120, 190, 299, 301, 360, 479] {
                let due = due_times(watermark, Duration::from_secs(interval), at(fired));
                watermark = due.last().copied().or(watermark);
                all.extend(due);
            }
            let aligned = &all[1..];
            for pair in aligned.windows(2) {
                let gap = pair[1].as_second() - pair[0].as_second();
                assert_eq!(gap, interval as i64, "interval {interval} s: a gap of {gap} s");
            }
            assert_eq!(all[0], at(0), "the first poll comes at once");
        }
    }

    #[test]
    fn m4_after_a_long_sleep_the_missed_ticks_are_not_made_up() {
        let due = due_times(Some(at(0)), Duration::from_secs(60), at(86_400));
        assert_eq!(due.len(), 3, "one now and two within the horizon: {due:?}");
    }
}
