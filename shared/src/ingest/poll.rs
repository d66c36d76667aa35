//! One due poll: lease → next request → response → ingest → cursor, until the source has been read. The cursor moves only after the queue has acknowledged,
//! and a source's trouble is its own [S10].

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::app::App;
use crate::breaker::{BreakerState, Policy};
use crate::connect::{Connector, Cursor, Fetched, Rest, SourceError, Walk};
use crate::decode::Context;
use crate::error::BackendError;
use crate::express::derived;
use crate::ingest::dedup::Seen;
use crate::ingest::host::{Asked, Host};
use crate::ingest::pressure::{self, Pause};
use crate::ingest::{IngestError, Ledger, NoRoom, ingest};
use crate::limits::{ROUND, STORED_AHEAD};
use crate::record::{Stream, WhenFull};
use crate::schedule::file::StreamSpec;
use crate::schedule::streams::{self, PollState, Registered};
use crate::schedule::ticks::{Tick, latest_start};
use crate::sources::route;
use crate::sources::zones::Alerts;
use crate::time::{Timestamp, rfc3339};
use crate::upstream::{Request, Response};

/// A poll's lease: longer than a round, the turn that it waits for, an answer and their ingest take.
const LEASE: Duration = Duration::from_secs(120);
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
    // Before the stream is read: who changes it from now on knows that this poll was of the old one.
    let now = app.clock.now();
    let Some(registered) = streams::get(&*app.store, &tick.stream).await? else {
        return Ok(PollOutcome::Dropped("removed"));
    };
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
    // Whatever becomes of this poll.
    let waiting = match registered.spec.polled.alerts() {
        Some(alerts) => derived::resume(app, &tick.stream, alerts).await?,
        None => Vec::new(),
    };
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
    // What may ring is read however long records wait: its alerts have a tier of their own [E3].
    if registered.spec.polled.alerts().is_none()
        && let Ok(route) = route(&registered.spec.source_id, false)
        && let Some(Pause { length, because }) = pressure::pause(app, route.tier, route.topic).await?
    {
        throttle(&mut state, now + length, &because);
        streams::save_poll_state(&*app.store, &tick.stream, &state).await?;
        return Ok(PollOutcome::Dropped("throttled"));
    }
    if !state.breaker.admit(now, &BREAKER) {
        return Ok(PollOutcome::Dropped("told to wait"));
    }
    let fetched = fetch(app, registered, &mut state, waiting).await?;
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

/// Asks until the connector has all that it wants of this poll, or its time is over: then the next poll goes on from here.
async fn fetch(
    app: &App,
    registered: &Registered,
    state: &mut PollState,
    waiting: Vec<String>,
) -> Result<PollOutcome, BackendError> {
    let spec = &registered.spec;
    let connector = match spec.polled.connector(&spec.source_id, &app.settings.services) {
        Ok(connector) => connector,
        Err(problem) => {
            doubt_key(app, spec);
            return Ok(failed(state, app.clock.now(), problem));
        }
    };
    let stream = Stream {
        id: spec.id.clone(),
        source: spec.source_id.clone(),
        tenant: spec.tenant.clone(),
        granted: false,
        when_full: WhenFull::Refuse,
    };
    let mut round = Round {
        began: Instant::now(),
        ledger: Ledger::default(),
        answers: 0,
        bodies: 0,
        refused: 0,
        problems: waiting,
        alerts: spec.polled.alerts(),
    };
    let mut seen = Seen::of_tenant(&spec.tenant);
    let host = Host { address: connector.host(), apart: spec.polled.service().manners.apart };
    let completed_at = state.completed_at.take();
    state.rests_until = None;
    let counted = (state.records_processed, state.records_failed);
    let ended = loop {
        let cursor = Cursor(state.cursor.clone());
        if let Some(rest) = connector.rests(&cursor, app.clock.now()) {
            break Err(End::Rests(rest));
        }
        match step(app, &stream, host, &*connector, &cursor, &mut seen, &mut round).await {
            Ok(fetched) => {
                state.cursor = fetched.cursor.0;
                count(state, counted, &round.ledger, app.clock.now());
                if !fetched.more {
                    break Ok(());
                }
                // A kill costs a range that may be long, or is paid for, no more than one answer.
                if spec.polled.is_bounded() {
                    streams::save_poll_state(&*app.store, &spec.id, state).await?;
                }
                if round.began.elapsed() >= ROUND {
                    round.problems.push("the poll took too long: the next one goes on from here".into());
                    break Ok(());
                }
            }
            Err(end) => {
                if matches!(end, End::Failed(_) | End::Refused(_) | End::Busy { .. }) {
                    state.cursor = connector.failed(&cursor, app.clock.now()).0;
                }
                break Err(end);
            }
        }
    };
    let now = app.clock.now();
    // A part of an answer may have been taken.
    count(state, counted, &round.ledger, now);
    let ended = match ended {
        Err(End::Rests(Rest::Ended)) => {
            state.completed_at = completed_at.or(Some(now));
            if round.answers == 0 {
                return Ok(PollOutcome::Dropped("completed"));
            }
            Ok(())
        }
        other => other,
    };
    match ended {
        Ok(()) if round.refused == round.answers => Ok(failed(state, now, round.problems())),
        Ok(()) => {
            succeeded(state, now);
            let missing = (!round.problems.is_empty()).then(|| round.problems());
            if let Some(missing) = &missing {
                metrics::counter!("stream_polls_incomplete_total", "stream_id" => spec.id.to_string()).increment(1);
                if state.missing.as_ref() != Some(missing) {
                    tracing::warn!(stream = %spec.id, missing, "a poll went without a part of its source");
                }
            }
            state.missing = missing;
            Ok(if round.bodies == 0 { PollOutcome::NotModified } else { PollOutcome::Polled(round.ledger) })
        }
        Err(End::Backend(e)) => Err(e),
        Err(End::Failed(problem)) => Ok(failed(state, now, problem)),
        Err(End::Refused(problem)) => {
            doubt_key(app, spec);
            Ok(failed(state, now, problem))
        }
        Err(End::Busy { until, said }) => {
            host.leave_alone(app, until).await?;
            let outcome = failed(state, now, format!("{said}; it is asked again at {}", rfc3339(until)));
            state.not_before = state.not_before.max(Some(until));
            Ok(outcome)
        }
        Err(End::Full(why)) => {
            // What was accepted is known; the rest is read again. Our own trouble, so the source's breaker stays out of it.
            if round.alerts.is_some() {
                let said: Vec<String> =
                    [format!("{why}: its records wait, its alerts do not")].into_iter().chain(round.problems).collect();
                state.last_error = Some(said.join("; "));
            } else {
                throttle(state, now + FULL_WAIT, &why.to_string());
            }
            Ok(PollOutcome::Dropped("the queue is full"))
        }
        Err(End::Rests(Rest::Ended)) => Ok(PollOutcome::Dropped("completed")),
        Err(End::Rests(Rest::Until { until, because })) => {
            if round.answers > round.refused {
                succeeded(state, now);
            }
            // No `not_before`: whoever changes the stream's config is heard at its next tick.
            state.rests_until = Some(until);
            state.last_error = Some(format!("{because}: it is asked again at {}", rfc3339(until)));
            Ok(PollOutcome::Dropped("it may not ask yet"))
        }
        Err(End::Wait(until)) => {
            let until = until.unwrap_or(now);
            state.not_before = Some(until);
            let why = "other streams have been asking its host, or were told to wait";
            state.last_error = Some(format!("{why}: it is asked again at {}", rfc3339(until)));
            Ok(PollOutcome::Dropped("its host is to be left alone"))
        }
    }
}

/// What one poll has done so far.
struct Round<'a> {
    /// As whom alerts are derived of the records.
    alerts: Option<&'a Alerts>,
    began: Instant,
    ledger: Ledger,
    answers: usize,
    bodies: usize,
    /// Answers that are no data, nor the word that there is none.
    refused: usize,
    /// What single addresses said.
    problems: Vec<String>,
}

impl Round<'_> {
    fn problems(&self) -> String {
        const SHOWN: usize = 3;
        let mut text = self.problems.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
        if let Some(more @ 1..) = self.problems.len().checked_sub(SHOWN) {
            text.push_str(&format!("; and {more} more"));
        }
        text
    }
}

/// Why a poll ends early.
enum End {
    Failed(String),
    Refused(String),
    Busy { until: Timestamp, said: String },
    Wait(Option<Timestamp>),
    Rests(Rest),
    Full(NoRoom),
    Backend(BackendError),
}

impl From<SourceError> for End {
    fn from(e: SourceError) -> End {
        match e {
            SourceError::Busy { until, said } => End::Busy { until, said },
            SourceError::Failed(said) => End::Failed(said),
            SourceError::Refused(said) => End::Refused(said),
        }
    }
}

/// One request or one walk, and its answer's rows the whole way into the queues.
async fn step(
    app: &App,
    stream: &Stream,
    host: Host<'_>,
    connector: &dyn Connector,
    cursor: &Cursor,
    seen: &mut Seen,
    round: &mut Round<'_>,
) -> Result<Fetched, End> {
    let mut fetched = walked(app, host, connector.walk(cursor, app.clock.now()), round.began).await?;
    let now = app.clock.now();
    round.answers += 1;
    round.refused += usize::from(fetched.problem.is_some() && fetched.body.is_none());
    round.problems.extend(fetched.problem.take());
    if let Some(body) = fetched.body.take() {
        round.bodies += 1;
        let context = Context { source: &stream.source, received_at: now, topic: None, message: None };
        let rows = connector.rows(&body, context).map_err(|reject| End::Failed(reject.to_string()))?;
        let taken = ingest(app, stream, seen, &mut round.ledger, rows).await;
        // Records that are not taken come again; whom they tell to leave hears it now.
        if let Some(alerts) = round.alerts {
            let rows = connector.rows(&body, context).map_err(|reject| End::Failed(reject.to_string()))?;
            round.problems.extend(derived::derive(app, stream, alerts, rows).await.map_err(End::Backend)?);
        }
        taken.map_err(|e| match e {
            IngestError::Full(why) => End::Full(why),
            IngestError::Backend(e) => End::Backend(e),
        })?;
    }
    Ok(fetched)
}

async fn answer(app: &App, host: Host<'_>, request: &Request) -> Result<Response, End> {
    match host.ask(app, request).await.map_err(End::Backend)? {
        Asked::Answered(answer) => answer.map_err(|e| End::Failed(e.to_string())),
        Asked::Wait(until) => Err(End::Wait(until)),
    }
}

/// Asks until the walk has all that it wants.
async fn walked(app: &App, host: Host<'_>, mut walk: Box<dyn Walk + '_>, began: Instant) -> Result<Fetched, End> {
    while began.elapsed() < ROUND {
        let response = answer(app, host, &walk.next()).await?;
        if let Some(fetched) = walk.absorb(response, app.clock.now())? {
            return Ok(fetched);
        }
    }
    walk.cut()?.ok_or_else(|| End::Failed(format!("its answers did not end within {} s", ROUND.as_secs())))
}

/// Who asks with a key and is refused may hold one that was rotated since it was read.
fn doubt_key(app: &App, spec: &StreamSpec) {
    if spec.polled.service().key_setting.is_some() {
        app.key_doubt.raise();
    }
}

/// Our own trouble makes the source wait.
fn throttle(state: &mut PollState, until: Timestamp, because: &str) {
    state.not_before = Some(until);
    state.throttled_until = Some(until);
    state.last_error = Some(format!("{because}: the source is asked again at {}", rfc3339(until)));
}

/// What a poll has taken until now, beside what was counted before it: whatever a cursor is behind is counted with it [O2].
fn count(state: &mut PollState, (processed, failed): (u64, u64), ledger: &Ledger, now: Timestamp) {
    let processed = processed + ledger.accepted;
    if processed > state.records_processed {
        state.last_new = Some(now);
    }
    state.records_processed = processed;
    state.records_failed = failed + ledger.rejected_first;
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
