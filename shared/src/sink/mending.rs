//! Topics that are found missing while we run are made again [K2], in the background: what was written to them is tried again anyway.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{TopicReport, TopicState};
use crate::error::BackendError;

/// At most this often: a cluster needs a moment to tell its brokers.
const MEND_EVERY: Duration = Duration::from_secs(1);

/// When topics that are missing are made again, and what stood in the way the last time.
#[derive(Default)]
pub(crate) struct Mending(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// None is under way, and the next may start at this time; `None`: at once.
    from: Option<Instant>,
    is_under_way: bool,
    /// Said once, until it is another one.
    problem: Option<String>,
}

impl Mending {
    /// Makes them by `check`, unless that is under way or has just been done.
    pub(crate) fn begin(&self, check: impl Future<Output = Result<Vec<TopicReport>, BackendError>> + Send + 'static) {
        {
            let mut state = self.0.lock();
            if state.is_under_way || state.from.is_some_and(|from| Instant::now() < from) {
                return;
            }
            state.is_under_way = true;
        }
        let state = self.0.clone();
        tokio::spawn(async move {
            let checked = check.await;
            let mut state = state.lock();
            state.is_under_way = false;
            state.from = Some(Instant::now() + MEND_EVERY);
            let problem = match checked {
                Ok(reports) => {
                    for report in reports.iter().filter(|report| report.state == TopicState::Created) {
                        tracing::warn!(topic = report.topic, "a topic was missing and was made again");
                    }
                    None
                }
                Err(problem) => Some(problem.to_string()),
            };
            if let Some(problem) = problem.as_ref().filter(|problem| state.problem.as_ref() != Some(*problem)) {
                tracing::warn!(problem, "a topic is missing and could not be made");
            }
            state.problem = problem;
        });
    }
}
