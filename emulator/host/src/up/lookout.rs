//! Looks once a second how things stand, says what changed, and takes over what the disk damaged.

use std::io::Write;
use std::time::Duration;

use streammanager::app::App;
use streammanager::dead;
use streammanager::embedded::Embedded;
use streammanager::schedule::{mqtt, streams};
use streammanager::sink::Kind;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::changes::{Said, Standing};
use super::readiness::Readiness;
use super::reports::Reports;

const LOOK: Duration = Duration::from_secs(1);
/// Of a system about which there is nothing to say.
const HEARTBEAT: Duration = Duration::from_secs(10 * 60);

pub(crate) struct Lookout {
    pub(crate) app: App,
    pub(crate) folder: Embedded,
    pub(crate) readiness: Readiness,
    pub(crate) reports: Reports,
    pub(crate) sink: Kind,
    pub(crate) json: bool,
}

impl Lookout {
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut said = Said::nothing(self.sink, Instant::now(), HEARTBEAT);
        loop {
            let standing = self.standing().await;
            let (at, now) = (self.app.clock.now(), Instant::now());
            let mut events = said.changes(standing, now);
            let totals = self.app.tally.totals();
            events.extend(said.heartbeat(totals.accepted, totals.delivered_in_all(), now));
            events.extend(self.reports.take());
            events.iter().for_each(|event| say(&event.line(at, self.json)));
            if let Err(problem) = dead::bury_damaged(&self.app, &self.folder).await {
                tracing::warn!(%problem, "damaged rows are not yet among the dead letters");
            }
            // The last look is after the stop: what changed in between is said, too.
            if stop.is_cancelled() {
                return;
            }
            tokio::select! { biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn standing(&self) -> Standing {
        let report = self.readiness.report().await;
        let mut standing = Standing {
            intake: report.intake.problem(),
            delivery: report.delivery.problem(),
            waiting: report.delivery.waiting,
            ..Standing::default()
        };
        let Ok(registered) = streams::list(&*self.app.store).await else { return standing };
        for registered in registered.into_iter().filter(|registered| registered.started) {
            if let Ok(state) = streams::poll_state(&*self.app.store, &registered.spec.id).await {
                standing.sources.insert(registered.spec.id, state.last_error);
            }
        }
        let brokers = mqtt::connections(&*self.app.store).await.unwrap_or_default();
        standing.sources.extend(brokers.into_iter().map(|broker| (broker.id, broker.problem)));
        standing
    }
}

/// A line on standard output; whoever read it may have gone.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
