//! Turns at a host that wants to be asked one request at a time [S11]: a lease an address, over all streams and processes, and
//! when the host may be asked again. What it tells one stream to wait holds for all that ask it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::app::App;
use crate::connect::politeness::{LONGEST, busy_until};
use crate::error::BackendError;
use crate::limits::{HOST_TURN, HOST_TURN_WAIT, SLOW_RESPONSE};
use crate::sources::Service;
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

/// Sends a request in its host's turn.
pub(super) async fn ask(app: &App, service: &Service, request: &Request) -> Result<Asked, BackendError> {
    let Some(apart) = service.manners.apart else {
        return Ok(Asked::Answered(app.upstream.call(request, SLOW_RESPONSE).await));
    };
    let host = app.settings.services.address(service);
    let (store, name, until) = (&*app.store, format!("host/{host}"), Instant::now() + HOST_TURN_WAIT);
    let turn = loop {
        let Some(turn) = app.leases.acquire(store, &app.clock, &name, "poll", HOST_TURN).await? else {
            if Instant::now() >= until {
                return Ok(Asked::Wait(None));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        };
        let now = app.clock.now();
        let free: Option<Free> = store::get_json(store, &Key::new(HOSTS, host)).await?;
        // A time further ahead was written before the clock was set back.
        let free_at = free.map(|free| free.at).filter(|at| *at > now && *at <= now + LONGEST);
        let wait = free_at.and_then(|at| Duration::try_from(at.duration_since(now)).ok()).unwrap_or_default();
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
    let free = Free { at: told.unwrap_or(now).max(now + apart) };
    store::put_json(store, &Key::new(HOSTS, host), &free, "host").await?;
    turn.release(store).await?;
    Ok(Asked::Answered(answer))
}
