//! Who is on duty, that is, who delivers: the scheduler starts an invocation every minute, anywhere in it. One holds the
//! lease of the duty, one stands by and takes over when it ends or dies, any other leaves at once.
//!
//! When another version of the function is deployed, or turned back, its first invocation takes the place of whoever stands by, and
//! whoever is on duty sees it there: it takes nothing more, ends what it has in work and lets go [D2]. Which of two versions is
//! meant, the time of their start says, not their number: after a rollback the lower one is.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::deliver::deliver;
use crate::error::BackendError;
use crate::limits::LEASE;
use crate::schedule::lease::{self, Lease};

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
    /// Another version is deployed, and went on.
    HandedOver,
    /// Stood by until it was told to stop.
    StoodBy,
    /// Others deliver and stand by already.
    Surplus,
}

/// An invocation as its leases name it: `STARTED`, and with a version `STARTED VERSION`.
#[derive(Debug, Clone, Copy)]
struct Invocation<'o> {
    /// A ULID, which sorts by time.
    started: &'o str,
    version: Option<&'o str>,
}

impl<'o> Invocation<'o> {
    fn named(owner: &'o str) -> Invocation<'o> {
        match owner.split_once(' ') {
            Some((started, version)) => Invocation { started, version: Some(version) },
            None => Invocation { started: owner, version: None },
        }
    }

    /// Whether the alias changed from the other's version to this one's.
    fn supersedes(self, other: Invocation<'_>) -> bool {
        self.version.is_some() && self.version != other.version && self.started > other.started
    }
}

/// Delivers under the lease until `stop`.
pub async fn run(app: &App, stop: &CancellationToken) -> Result<Outcome, BackendError> {
    let started = app.rng.ulid(app.clock.now());
    let owner = match &app.settings.version {
        Some(version) => format!("{started} {version}"),
        None => started.to_string(),
    };
    let this = Invocation::named(&owner);
    let acquire = || app.leases.acquire(&*app.store, &app.clock, DUTY, &owner, LEASE);
    if let Some(duty) = acquire().await? {
        return hold(app, duty, this, stop).await;
    }
    let makes_way = |other: &str| this.supersedes(Invocation::named(other));
    let standing_by = app.leases.acquire_from(&*app.store, &app.clock, STANDBY, &owner, LEASE, makes_way);
    let Some(mut standby) = standing_by.await? else { return Ok(Outcome::Surplus) };
    while !stop.is_cancelled() {
        if let Some(duty) = acquire().await? {
            standby.release(&*app.store).await?;
            return hold(app, duty, this, stop).await;
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

/// Renews beside delivering. A lease that cannot be renewed in its time may have a new holder: stop, finish, release. So it
/// does for another version that stands by, and renews until it has finished.
async fn hold(
    app: &App,
    mut duty: Lease,
    this: Invocation<'_>,
    stop: &CancellationToken,
) -> Result<Outcome, BackendError> {
    let ending = stop.child_token();
    let mut ended_for = Outcome::Replaced;
    let renewing = async {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RENEW).await;
            match duty.renew(&*app.store, &app.clock).await {
                Ok(true) => {
                    renewed = Instant::now();
                    if !ending.is_cancelled() && superseded(app, this).await {
                        ended_for = Outcome::HandedOver;
                        ending.cancel();
                    }
                }
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
    let outcome = if stop.is_cancelled() { Outcome::Delivered } else { ended_for };
    duty.release(&*app.store).await?;
    delivered.map(|()| outcome)
}

/// Whether another version stands by. Where nobody has a version nobody is asked.
async fn superseded(app: &App, this: Invocation<'_>) -> bool {
    if this.version.is_none() {
        return false;
    }
    match lease::owner(&*app.store, &app.clock, STANDBY).await {
        Ok(other) => other.is_some_and(|other| Invocation::named(&other).supersedes(this)),
        // Whoever stands by is there a second later, too.
        Err(problem) => {
            tracing::warn!(%problem, "it is not known who stands by to deliver");
            false
        }
    }
}
