//! Who delivers: the scheduler starts an invocation every minute, anywhere in it. One holds the lanes' lease, one
//! stands by and takes over when it ends or dies, any other leaves at once.

use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::deliver::deliver;
use crate::error::BackendError;
use crate::limits::LEASE;
use crate::schedule::lease::{self, Lease};

const LANES: &str = "deliver/lanes";
const STANDBY: &str = "deliver/standby";
const RENEW: Duration = Duration::from_secs(1);

/// How an invocation spent its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Delivered until it was told to stop.
    Delivered,
    /// Another took the lease while this one could not renew it.
    Replaced,
    /// Stood by until it was told to stop.
    StoodBy,
    /// Others deliver and stand by already.
    Surplus,
}

/// Delivers under the lease until `stop`.
pub async fn run(app: &App, stop: &CancellationToken) -> Result<Outcome, BackendError> {
    let owner = app.rng.ulid(app.clock.now()).to_string();
    if let Some(lanes) = lease::acquire(app, LANES, &owner, LEASE).await? {
        return hold(app, lanes, stop).await;
    }
    let Some(mut standby) = lease::acquire(app, STANDBY, &owner, LEASE).await? else { return Ok(Outcome::Surplus) };
    while !stop.is_cancelled() {
        if let Some(lanes) = lease::acquire(app, LANES, &owner, LEASE).await? {
            standby.release(app).await?;
            return hold(app, lanes, stop).await;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RENEW) => {}
        }
        if !standby.renew(app).await? {
            return Ok(Outcome::Surplus);
        }
    }
    standby.release(app).await?;
    Ok(Outcome::StoodBy)
}

/// Renews beside delivering. A lease that cannot be renewed in its time may have a new holder: stop, finish, release.
async fn hold(app: &App, mut lanes: Lease, stop: &CancellationToken) -> Result<Outcome, BackendError> {
    let ending = stop.child_token();
    let renewing = async {
        let mut renewed = app.clock.now();
        loop {
            tokio::time::sleep(RENEW).await;
            match lanes.renew(app).await {
                Ok(true) => renewed = app.clock.now(),
                Ok(false) => break,
                Err(problem) => {
                    tracing::warn!(%problem, "the lanes' lease could not be renewed");
                    if app.clock.since(renewed) + RENEW >= LEASE {
                        break;
                    }
                }
            }
        }
        ending.cancel();
        std::future::pending::<()>().await;
    };
    let delivered = tokio::select! { biased;
        delivered = deliver(app, &ending) => delivered,
        () = renewing => Ok(()),
    };
    let outcome = if stop.is_cancelled() { Outcome::Delivered } else { Outcome::Replaced };
    lanes.release(app).await?;
    delivered.map(|()| outcome)
}
