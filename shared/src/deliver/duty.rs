//! Who is on duty, that is, who delivers: the scheduler starts an invocation every minute, anywhere in it. One holds the
//! lease of the duty, one stands by and takes over when it ends or dies, any other leaves at once.
//!
//! When another version of the function is deployed, or turned back, its first invocation takes the place of whoever stands by, and
//! whoever is on duty sees it there: it takes nothing more, ends what it has in work and lets go [D2]. Which of two versions is
//! meant, the time of their start says, not their number: after a rollback the lower one is.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::deliver::deliver;
use crate::error::BackendError;
use crate::limits::LEASE;
use crate::schedule::lease::{self, Lease};

const DUTY: &str = "deliver/duty";
const STANDBY: &str = "deliver/standby";
/// Between two looks at who is on duty, or two tries at a store that is away.
const LOOK: Duration = Duration::from_secs(1);
/// Less often than anybody looks: a renewal is a write that is paid for [F10].
const RENEW: Duration = Duration::from_secs(2);
/// After a renewal that failed: there is time for three more.
const RENEW_AGAIN: Duration = Duration::from_millis(500);

/// How an invocation spent its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Delivered until it was told to stop.
    Delivered,
    /// Another version is deployed, and went on.
    HandedOver,
    /// Stood by until it was told to stop.
    StoodBy,
    /// Others deliver and stand by already.
    Surplus,
}

/// An invocation as its leases name it: `STARTED.TURN`, and with a version `STARTED.TURN VERSION`.
#[derive(Debug, Clone, Copy)]
struct Invocation<'o> {
    /// A ULID, which sorts by time; earlier releases had no turn behind it.
    started: &'o str,
    version: Option<&'o str>,
}

impl<'o> Invocation<'o> {
    fn named(owner: &'o str) -> Invocation<'o> {
        let (turn, version) = match owner.split_once(' ') {
            Some((turn, version)) => (turn, Some(version)),
            None => (owner, None),
        };
        Invocation { started: turn.split_once('.').map_or(turn, |(started, _)| started), version }
    }

    fn is(self, other: Invocation<'_>) -> bool {
        self.started == other.started
    }

    /// Whether the alias changed from the other's version to this one's.
    fn supersedes(self, other: Invocation<'_>) -> bool {
        self.version.is_some() && self.version != other.version && self.started > other.started
    }
}

/// What one try to be on duty came to.
enum Turn {
    Ended(Outcome),
    /// Another took the lease while this one could not renew it, or may have.
    Lost,
}

/// Delivers under the lease until `stop`. A state store that is away, or a lease that is lost, ends no invocation that still has
/// time: who is to deliver when the store is back must be there then.
///
/// # Errors
/// When the store cannot be used at all, or is away at the end.
pub async fn run(app: &App, stop: &CancellationToken) -> Result<Outcome, BackendError> {
    let started = app.rng.ulid(app.clock.now());
    let (mut turn, mut is_away) = (0_u32, false);
    loop {
        turn += 1;
        // A lease that was lost is never taken for the one that is held.
        let name = match &app.settings.version {
            Some(version) => format!("{started}.{turn} {version}"),
            None => format!("{started}.{turn}"),
        };
        let ended = match turn_of(app, &name, stop).await {
            Ok(Turn::Ended(outcome)) => return Ok(outcome),
            Ok(Turn::Lost) => {
                tracing::warn!("the duty to deliver was lost: the state store did not answer in time");
                Ok(Outcome::Delivered)
            }
            Err(BackendError::Retry(problem)) => {
                if !is_away {
                    tracing::warn!(problem, "the state store is away: nobody knows who delivers");
                }
                Err(BackendError::Retry(problem))
            }
            Err(problem) => return Err(problem),
        };
        is_away = ended.is_err();
        if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
            return ended;
        }
    }
}

async fn turn_of(app: &App, name: &str, stop: &CancellationToken) -> Result<Turn, BackendError> {
    let this = Invocation::named(name);
    // Its own, of an earlier turn, whose renewal was written although nobody heard of it.
    let is_own = |other: &str| Invocation::named(other).is(this);
    let acquire = || app.leases.acquire_from(&*app.store, &app.clock, DUTY, name, LEASE, is_own);
    if let Some(duty) = acquire().await? {
        return hold(app, duty, this, stop).await;
    }
    let makes_way = |other: &str| is_own(other) || this.supersedes(Invocation::named(other));
    let standing_by = app.leases.acquire_from(&*app.store, &app.clock, STANDBY, name, LEASE, makes_way);
    let Some(mut standby) = standing_by.await? else { return Ok(Turn::Ended(Outcome::Surplus)) };
    while !stop.is_cancelled() {
        if let Some(duty) = acquire().await? {
            standby.release(&*app.store).await?;
            return hold(app, duty, this, stop).await;
        }
        tokio::select! { biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        if standby.since().elapsed() >= RENEW && !standby.renew(&*app.store, &app.clock).await? {
            return Ok(Turn::Ended(Outcome::Surplus));
        }
    }
    standby.release(&*app.store).await?;
    Ok(Turn::Ended(Outcome::StoodBy))
}

/// Renews beside delivering. A lease that cannot be renewed in its time may have a new holder: stop, finish, release. So it
/// does for another version that stands by, and renews until it has finished.
async fn hold(
    app: &App,
    mut duty: Lease,
    this: Invocation<'_>,
    stop: &CancellationToken,
) -> Result<Turn, BackendError> {
    let ending = stop.child_token();
    let mut ended_for = Turn::Lost;
    let renewing = async {
        let mut next = duty.since() + RENEW;
        loop {
            tokio::time::sleep_until(next).await;
            // A store that hangs must not hold the end up beyond the lease.
            match timeout_at(duty.since() + LEASE - LOOK, duty.renew(&*app.store, &app.clock)).await {
                Ok(Ok(true)) => {
                    next = duty.since() + RENEW;
                    if !ending.is_cancelled() && superseded(app, this).await {
                        ended_for = Turn::Ended(Outcome::HandedOver);
                        ending.cancel();
                    }
                }
                Ok(Ok(false)) | Err(_) => break,
                Ok(Err(problem)) => {
                    tracing::warn!(%problem, "the lease of the duty to deliver could not be renewed");
                    next = Instant::now() + RENEW_AGAIN;
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
    let turn = if stop.is_cancelled() { Turn::Ended(Outcome::Delivered) } else { ended_for };
    duty.release(&*app.store).await?;
    delivered.map(|()| turn)
}

/// Whether another version stands by. Where nobody has a version nobody is asked.
async fn superseded(app: &App, this: Invocation<'_>) -> bool {
    if this.version.is_none() {
        return false;
    }
    // Whoever stands by is there a second later, too, and the next renewal must not wait for this.
    match timeout(LOOK, lease::owner(&*app.store, &app.clock, STANDBY)).await {
        Ok(Ok(other)) => other.is_some_and(|other| Invocation::named(&other).supersedes(this)),
        Ok(Err(problem)) => {
            tracing::warn!(%problem, "it is not known who stands by to deliver");
            false
        }
        Err(_) => false,
    }
}
