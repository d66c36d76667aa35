//! A scripted upstream for tests and simulation: answers in turn, the last one for ever.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Request, Response, Unreachable, Upstream};

pub struct Scripted {
    answers: Mutex<VecDeque<(Duration, Result<Response, Unreachable>)>>,
    asked: Mutex<Vec<Request>>,
}

impl Scripted {
    /// Each answer comes after its delay, if the caller waits so long.
    pub fn new(answers: impl IntoIterator<Item = (Duration, Result<Response, Unreachable>)>) -> Scripted {
        Scripted { answers: Mutex::new(answers.into_iter().collect()), asked: Mutex::default() }
    }

    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Upstream for Scripted {
    async fn call(&self, request: &Request, within: Duration) -> Result<Response, Unreachable> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        let next = {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            match answers.len() {
                0 | 1 => answers.front().cloned(),
                _ => answers.pop_front(),
            }
        };
        let Some((delay, answer)) = next else { return Err(Unreachable::Failed("nothing scripted".into())) };
        if delay > within {
            tokio::time::sleep(within).await;
            return Err(Unreachable::TimedOut(within));
        }
        tokio::time::sleep(delay).await;
        answer
    }
}
