//! When a host may be asked [S11]: what it tells one stream to wait holds for all that ask it, in every process; and one that wants
//! to be asked one request at a time is asked in turns, by a lease an address.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::app::App;
use crate::connect::politeness::{LONGEST, busy_until};
use crate::error::BackendError;
use crate::limits::{HOST_TURN, HOST_TURN_WAIT, SLOW_RESPONSE};
use crate::store::{self, HOSTS, Key};
use crate::time::Timestamp;
use crate::upstream::{Request, Response, Unreachable};

/// Whoever waits for a turn looks again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What became of a request.
pub(super) enum Asked {
    Answered(Result<Response, Unreachable>),
    /// It was not sent: other streams ask the host, or it asked for time until then.
    Wait(Option<Timestamp>),
}

/// When a host may be asked again.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Free {
    at: Timestamp,
}

/// Who is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host<'a> {
    /// With which the addresses of its requests begin.
    pub(super) address: &'a str,
    /// So long after each other, one request at a time; `None`: as the streams come.
    pub(super) apart: Option<Duration>,
}

impl Host<'_> {
    /// Sends a request when the host may be asked; where it wants them apart, in its turn.
    pub(super) async fn ask(self, app: &App, request: &Request) -> Result<Asked, BackendError> {
        let Some(apart) = self.apart else {
            return Ok(match self.free_at(app).await? {
                Some(at) => Asked::Wait(Some(at)),
                None => Asked::Answered(app.upstream.call(request, SLOW_RESPONSE).await),
            });
        };
        let (store, until) = (&*app.store, Instant::now() + HOST_TURN_WAIT);
        let name = format!("host/{}", self.address);
        let turn = loop {
            let Some(turn) = app.leases.acquire(store, &app.clock, &name, "poll", HOST_TURN).await? else {
                if Instant::now() >= until {
                    return Ok(Asked::Wait(None));
                }
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            };
            let free_at = self.free_at(app).await?;
            let wait = free_at.and_then(|at| Duration::try_from(at.duration_since(app.clock.now())).ok());
            let wait = wait.unwrap_or_default();
            if wait.is_zero() {
                break turn;
            }
            // Nobody waits with the turn in hand: whoever else waits has the same chance of the next one.
            turn.release(store).await?;
            if wait > until.saturating_duration_since(Instant::now()) {
                return Ok(Asked::Wait(free_at));
            }
            tokio::time::sleep(wait).await;
        };
        let answer = app.upstream.call(request, SLOW_RESPONSE).await;
        let now = app.clock.now();
        let told = answer.as_ref().ok().and_then(|response| busy_until(response, now));
        self.put(app, told.unwrap_or(now).max(now + apart)).await?;
        turn.release(store).await?;
        Ok(Asked::Answered(answer))
    }

    /// It is not asked before then.
    pub(super) async fn leave_alone(self, app: &App, until: Timestamp) -> Result<(), BackendError> {
        let at = self.free_at(app).await?.map_or(until, |at| at.max(until));
        self.put(app, at).await
    }

    /// When it may be asked again, if that lies ahead.
    async fn free_at(self, app: &App) -> Result<Option<Timestamp>, BackendError> {
        let free: Option<Free> = store::get_json(&*app.store, &Key::new(HOSTS, self.address)).await?;
        let now = app.clock.now();
        // A time further ahead was written before the clock was set back.
        Ok(free.map(|free| free.at).filter(|at| *at > now && *at <= now + LONGEST))
    }

    async fn put(self, app: &App, at: Timestamp) -> Result<(), BackendError> {
        store::put_json(&*app.store, &Key::new(HOSTS, self.address), &Free { at }, "host").await
    }
}
