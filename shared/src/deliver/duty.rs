//! Who is on duty, that is, who delivers: the scheduler starts an invocation every minute, anywhere in it. One holds the
//! lease of the duty, one stands by and takes over when it ends or dies, any other leaves at once.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::deliver::deliver;
use crate::error::BackendError;
use crate::limits::LEASE;
use crate::schedule::lease::Lease;

const DUTY: &str = "deliver/duty";
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
    let acquire = |name| app.leases.acquire(&*app.store, &app.clock, name, &owner, LEASE);
    if let Some(duty) = acquire(DUTY).await? {
        return hold(app, duty, stop).await;
    }
    let Some(mut standby) = acquire(STANDBY).await? else { return Ok(Outcome::Surplus) };
    while !stop.is_cancelled() {
        if let Some(duty) = acquire(DUTY).await? {
            standby.release(&*app.store).await?;
            return hold(app, duty, stop).await;
        }
        tokio::select! { biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RENEW) => {}
        }
        if !standby.renew(&*app.store, &app.clock).await? {
            return Ok(Outcome::Surplus);
        }
    }
    standby.release(&*app.store).await?;
    Ok(Outcome::StoodBy)
}

/// Renews beside delivering. A lease that cannot be renewed in its time may have a new holder: stop, finish, release.
async fn hold(app: &App, mut duty: Lease, stop: &CancellationToken) -> Result<Outcome, BackendError> {
    let ending = stop.child_token();
    let renewing = async {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RENEW).await;
            match duty.renew(&*app.store, &app.clock).await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => break,
                Err(problem) => {
                    tracing::warn!(%problem, "the lease of the duty to deliver could not be renewed");
                    if renewed.elapsed() + RENEW >= LEASE {
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
    duty.release(&*app.store).await?;
    delivered.map(|()| outcome)
}
