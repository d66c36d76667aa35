//! A function that answers as a test tells it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use streammanager_functions::events::KinesisEvent;

use super::Invoke;
use crate::up::functions::Invocation;
use crate::up::processes::Uninvoked;

/// Answers in turn, an error for a call that takes too long; and `{}` when it is told nothing more.
#[derive(Default)]
pub(crate) struct Scripted {
    answers: Mutex<VecDeque<Result<Value, ()>>>,
    events: Mutex<Vec<Value>>,
    /// Calls that are refused before they reach it.
    throttled: AtomicUsize,
    /// What a call takes.
    takes: Duration,
    at_work: Mutex<(usize, usize)>,
}

impl Scripted {
    pub(crate) fn taking(takes: Duration) -> Scripted {
        Scripted { takes, ..Scripted::default() }
    }

    pub(crate) fn answers(&self, answers: impl IntoIterator<Item = Result<Value, ()>>) {
        self.answers.lock().extend(answers);
    }

    /// The next calls do not reach it.
    pub(crate) fn throttle(&self, calls: usize) {
        self.throttled.store(calls, Ordering::Relaxed);
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        self.events.lock().clone()
    }

    /// The most calls that were at work at the same time.
    pub(crate) fn most_at_work(&self) -> usize {
        self.at_work.lock().1
    }
}

#[async_trait]
impl Invoke for Scripted {
    async fn invoke(&self, function: &str, event: Value) -> Result<Value, Invocation> {
        let fewer = |calls: usize| calls.checked_sub(1);
        if self.throttled.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok() {
            return Err(Uninvoked::Throttled(function.to_owned()).into());
        }
        self.events.lock().push(event);
        {
            let mut at_work = self.at_work.lock();
            at_work.0 += 1;
            at_work.1 = at_work.1.max(at_work.0);
        }
        tokio::time::sleep(self.takes).await;
        self.at_work.lock().0 -= 1;
        let answer = self.answers.lock().pop_front().unwrap_or_else(|| Ok(json!({})));
        answer.map_err(|()| Invocation::TimedOut(Duration::from_secs(3)))
    }

    async fn invoke_with_records(&self, function: &str, event: KinesisEvent) -> Result<Value, Invocation> {
        self.invoke(function, serde_json::to_value(event).map_err(streammanager_functions::HandlerError::from)?).await
    }
}
