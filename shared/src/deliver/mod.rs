//! The second half: envelopes → the sink's acknowledgements. Concurrent receives fill bounded hands, CRITICAL has its own
//! strict lane, deficit round robin picks among the rest, and an envelope is forgotten only when every record of it is
//! accounted for. Nothing here knows a source.

pub mod age;
mod desk;
pub mod duty;
pub mod lag;
pub mod pace;
pub mod report;
pub mod retry;
pub mod scheduler;
pub(crate) mod settle;
pub mod tally;
mod urgency;

use futures::stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::error::BackendError;
use desk::Desk;

/// Delivers until `stop`; then takes nothing new, ends what is in flight and releases what is in hand.
///
/// # Errors
/// Only when a queue is unknown or broken for good; a backend that is away is waited for.
pub async fn deliver(app: &App, stop: &CancellationToken) -> Result<(), BackendError> {
    let _taking = app.fresh.taking();
    let mut desk = Desk::open(app).await;
    let mut stopping = stop.is_cancelled();
    loop {
        // Listening begins before looking, or a change in between would be missed.
        let mut changed = std::pin::pin!(app.breakers.changed());
        changed.as_mut().enable();
        desk.look_at_breakers();
        // Before a receive begins, which would bring what comes behind it.
        desk.give_back().await;
        if !stopping {
            desk.receive(stop);
            desk.dispatch();
            desk.ask_for_return();
        }
        desk.exchange();
        desk.report();
        desk.look_at_consumers();
        if stopping && desk.working.is_empty() && desk.receiving.is_empty() {
            return desk.close().await;
        }
        let wake = desk.wake_at();
        tokio::select! { biased;
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                desk.end_receives();
            }
            Some(done) = desk.working.next(), if !desk.working.is_empty() => desk.done(done),
            Some((tier, received)) = desk.receiving.next(), if !desk.receiving.is_empty() => desk.take(tier, received).await?,
            Some(answers) = desk.asking.next(), if !desk.asking.is_empty() => if answers { app.breakers.sign_of_return() },
            Some(()) = desk.exchanging.next(), if !desk.exchanging.is_empty() => {}
            Some(kept) = desk.reporting.next(), if !desk.reporting.is_empty() => desk.reported(kept),
            Some(()) = desk.looking.next(), if !desk.looking.is_empty() => {}
            () = changed => {}
            () = tokio::time::sleep_until(wake) => desk.keep_hidden().await,
        }
    }
}
