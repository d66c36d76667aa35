//! An alert's thread [E4]: which one it belongs to, and that it overtakes none of the messages that it refers to. Where the
//! transport keeps no order (AWS's asynchronous invocations do not), an Alert may still be on its way when its Cancel is
//! here. The Cancel then waits for it, for a bounded time, and goes on with an entry in its `quality`.

use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::{Instant, sleep, timeout};

use super::known::Names;
use crate::decode::alert::references::{self, Reference};
use crate::limits::{HEDGE, REFERENCE_AGE, REFERENCE_WAIT, REFERENCES_LOOKED_UP};
use crate::record::{AlertFacts, Quality, SourceId};
use crate::time::Clock;

/// First pause between two looks into the store; each is twice as long as the one before, up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Waits for the messages that the alert refers to, and puts it into their thread. What could not be had goes into `quality`.
pub(super) async fn join(names: Names<'_>, source: &SourceId, alert: &mut AlertFacts, quality: &mut Vec<Quality>) {
    let named: Vec<Reference<'_>> = alert
        .references
        .iter()
        .filter_map(|text| references::parse(text))
        .filter(|reference| reference.name != alert.name)
        .take(REFERENCES_LOOKED_UP)
        .collect();
    let until = Instant::now() + REFERENCE_WAIT;
    let mut pause = FIRST_PAUSE;
    let found = loop {
        let looks = try_join_all(named.iter().map(|reference| names.root(source, reference.name)));
        let Ok(Ok(roots)) = timeout(HEDGE, looks).await else {
            tracing::warn!(
                thread = alert.thread,
                "what an alert refers to cannot be looked up: its order is best effort"
            );
            quality.push(said("could not be looked up: this message may stand before one of them", None));
            return;
        };
        let coming =
            |(reference, root): (&Reference<'_>, &Option<String>)| root.is_none() && may_come(names.clock, reference);
        if !named.iter().zip(&roots).any(coming) || Instant::now() >= until {
            break roots;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    };
    let oldest = named.iter().zip(&found).filter_map(|(reference, root)| Some((reference.sent, root.as_ref()?)));
    let thread = oldest.min_by_key(|(sent, _)| (sent.is_none(), *sent)).map(|(_, root)| root.clone());
    for (reference, _) in named.iter().zip(&found).filter(|(_, root)| root.is_none()) {
        quality.push(said("names a message that was not published before this one", Some(reference.name)));
    }
    if let Some(root) = thread {
        alert.thread = root;
    }
}

fn said(problem: &str, name: Option<&str>) -> Quality {
    match name {
        Some(name) => Quality::new("references", problem, name),
        None => Quality { field: "references".into(), problem: problem.into(), raw: None },
    }
}

/// A message that was sent long ago is not on its way any more.
fn may_come(clock: &Clock, reference: &Reference<'_>) -> bool {
    reference.sent.is_none_or(|sent| clock.since(sent) < REFERENCE_AGE)
}
