//! One due poll: lease → next request → response → ingest → cursor. The cursor moves only after the queue has acknowledged,
//! and a source's trouble is its own [S10].

use std::time::Duration;

use serde::Serialize;

use crate::app::App;
use crate::breaker::{BreakerState, Policy};
use crate::connect::{Cursor, SourceError};
use crate::decode::Context;
use crate::error::BackendError;
use crate::ingest::dedup::Seen;
use crate::ingest::pressure::{self, Pause};
use crate::ingest::{IngestError, Ledger, ingest};
use crate::limits::{SLOW_RESPONSE, STORED_AHEAD};
use crate::record::{Stream, WhenFull};
use crate::schedule::streams::{self, PollState, Registered};
use crate::schedule::ticks::{Tick, latest_start};
use crate::sources::route;
use crate::time::{Timestamp, rfc3339};

/// A poll's lease: longer than a request and its ingest take.
const LEASE: Duration = Duration::from_secs(60);
/// A source's breaker [S10]. Its probe is a poll, which the stream's lease keeps alone.
const BREAKER: Policy =
    Policy { failures: 3, open: Duration::from_secs(60), longest: Duration::from_secs(600), probe: LEASE };

/// The wait before a source is asked again whose records found their queue full [Q2, Q3].
const FULL_WAIT: Duration = Duration::from_secs(60);

/// What became of a tick.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PollOutcome {
    /// The source gave data, and this became of it.
    Polled(Ledger),
    /// The source has nothing newer [S11].
    NotModified,
    /// The source's own trouble; the stream's state says more.
    Failed(String),
    /// Stopped, removed, late, a repeat, or told to wait: nothing was to be done.
    Dropped(&'static str),
}

/// Works on one tick. An `Err` means that store or queue is away: the tick comes back.
pub async fn poll(app: &App, tick: &Tick) -> Result<PollOutcome, BackendError> {
    let Some(registered) = streams::get(&*app.store, &tick.stream).await? else {
        return Ok(PollOutcome::Dropped("removed"));
    };
    let now = app.clock.now();
    metrics::histogram!("stream_poll_drift_seconds").record(app.clock.since(tick.due_at).as_secs_f64());
    if !registered.started {
        return Ok(PollOutcome::Dropped("stopped"));
    }
    if now > latest_start(tick.due_at, registered.spec.interval.get()) {
        return Ok(PollOutcome::Dropped("late"));
    }
    // The queue gives no tick before its time: the clock was set back since, and the next plan has the right ones.
    if tick.due_at > now + STORED_AHEAD {
        tracing::warn!(stream = %tick.stream, due_at = %tick.due_at, "a tick lies in the future: the clock was set back");
        return Ok(PollOutcome::Dropped("planned before the clock was set back"));
    }
    let name = format!("poll/{}", tick.stream);
    let Some(held) = app.leases.acquire(&*app.store, &app.clock, &name, "poll", LEASE).await? else {
        return Ok(PollOutcome::Dropped("another poll of this stream is under way"));
    };
    let outcome = leased(app, tick, &registered, now).await;
    held.release(&*app.store).await?;
    outcome
}

async fn leased(app: &App, tick: &Tick, registered: &Registered, now: Timestamp) -> Result<PollOutcome, BackendError> {
    let mut state = streams::poll_state(&*app.store, &tick.stream).await?;
    let ahead = state.ahead_of(now);
    if !ahead.is_zero() {
        tracing::warn!(stream = %tick.stream, ?ahead, "the last poll lies in the future: the clock was set back, and polls go on");
        state = state.set_back(ahead);
        streams::save_poll_state(&*app.store, &tick.stream, &state).await?;
    }
    if state.last_due.is_some_and(|last| tick.due_at <= last) {
        return Ok(PollOutcome::Dropped("a repeat"));
    }
    if state.not_before.is_some_and(|until| now < until) {
        return Ok(PollOutcome::Dropped("told to wait"));
    }
    if let Ok(route) = route(&registered.spec.source_id, false)
        && let Some(Pause { length, because }) = pressure::pause(app, route.tier, route.topic).await?
    {
        throttle(&mut state, now + length, &because);
        streams::save_poll_state(&*app.store, &tick.stream, &state).await?;
        return Ok(PollOutcome::Dropped("throttled"));
    }
    if !state.breaker.admit(now, &BREAKER) {
        return Ok(PollOutcome::Dropped("told to wait"));
    }
    let fetched = fetch(app, registered, &mut state).await?;
    if let PollOutcome::Failed(problem) = &fetched {
        metrics::counter!("stream_polls_failed_total", "stream_id" => tick.stream.to_string()).increment(1);
        match state.breaker.state() {
            BreakerState::Closed => tracing::info!(stream = %tick.stream, problem, "a poll failed"),
            BreakerState::Open | BreakerState::HalfOpen => {
                tracing::warn!(stream = %tick.stream, problem, failures = state.breaker.failures(), "polls fail in a row");
            }
        }
    }
    state.last_due = Some(tick.due_at);
    state.last_poll = Some(now);
    streams::save_poll_state(&*app.store, &tick.stream, &state).await?;
    Ok(fetched)
}

async fn fetch(app: &App, registered: &Registered, state: &mut PollState) -> Result<PollOutcome, BackendError> {
    let spec = &registered.spec;
    let connector = match spec.polled.connector(&spec.source_id, &app.settings.services) {
        Ok(connector) => connector,
        Err(problem) => return Ok(failed(state, app.clock.now(), problem)),
    };
    let cursor = Cursor(state.cursor.clone());
    let response = match app.upstream.call(&connector.next(&cursor), SLOW_RESPONSE).await {
        Ok(response) => response,
        Err(e) => return Ok(failed(state, app.clock.now(), e.to_string())),
    };
    let now = app.clock.now();
    let fetched = match connector.absorb(response, now) {
        Ok(fetched) => fetched,
        Err(SourceError::NotModified) => {
            succeeded(state, now);
            return Ok(PollOutcome::NotModified);
        }
        Err(SourceError::Busy { until, said }) => {
            let outcome = failed(state, now, format!("{said}; it is asked again at {}", rfc3339(until)));
            state.not_before = state.not_before.max(Some(until));
            return Ok(outcome);
        }
        Err(e) => return Ok(failed(state, now, e.to_string())),
    };
    let stream = Stream {
        id: spec.id.clone(),
        source: spec.source_id.clone(),
        tenant: spec.tenant.clone(),
        granted: false,
        when_full: WhenFull::Refuse,
    };
    let context = Context { source: &spec.source_id, received_at: now, topic: None, message: None };
    let rows = match connector.rows(&fetched.body, context) {
        Ok(rows) => rows,
        Err(reject) => return Ok(failed(state, now, reject.to_string())),
    };
    let (mut seen, mut ledger) = (Seen::of_tenant(&spec.tenant), Ledger::default());
    match ingest(app, &stream, &mut seen, &mut ledger, rows).await {
        Ok(()) => {}
        Err(IngestError::Backend(e)) => return Err(e),
        Err(IngestError::Full(why)) => {
            // What was accepted is known; the rest is read again. Our own trouble, so the source's breaker stays out of it.
            throttle(state, now + FULL_WAIT, &why.to_string());
            state.records_processed += ledger.accepted;
            state.records_failed += ledger.rejected_first;
            return Ok(PollOutcome::Dropped("the queue is full"));
        }
    }
    state.cursor = fetched.cursor.0;
    state.records_processed += ledger.accepted;
    state.records_failed += ledger.rejected_first;
    succeeded(state, now);
    Ok(PollOutcome::Polled(ledger))
}

/// Our own trouble makes the source wait.
fn throttle(state: &mut PollState, until: Timestamp, because: &str) {
    state.not_before = Some(until);
    state.throttled_until = Some(until);
    state.last_error = Some(format!("{because}: the source is asked again at {}", rfc3339(until)));
}

fn succeeded(state: &mut PollState, now: Timestamp) {
    state.breaker.record(true, now, &BREAKER);
    state.not_before = None;
    state.throttled_until = None;
    state.last_error = None;
    state.last_success = Some(now);
}

fn failed(state: &mut PollState, now: Timestamp, problem: String) -> PollOutcome {
    state.breaker.record(false, now, &BREAKER);
    state.last_error = Some(problem.clone());
    PollOutcome::Failed(problem)
}

#[cfg(all(test, feature = "embedded", feature = "testing"))]
mod tests;
