//! A scripted upstream for tests and simulation: answers in turn, the last one for ever.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::upstream::{Request, Response, Unreachable, Upstream};

/// A source whose answers are written down before.
pub struct Scripted {
    answers: Mutex<VecDeque<(Duration, Result<Response, Unreachable>)>>,
    asked: Mutex<Vec<Request>>,
}

impl Scripted {
    /// Each answer comes after its delay, if the caller waits so long.
    pub fn new(answers: impl IntoIterator<Item = (Duration, Result<Response, Unreachable>)>) -> Scripted {
        Scripted { answers: Mutex::new(answers.into_iter().collect()), asked: Mutex::default() }
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().clone()
    }
}

#[async_trait]
impl Upstream for Scripted {
    async fn call(&self, request: &Request, within: Duration) -> Result<Response, Unreachable> {
        self.asked.lock().push(request.clone());
        let next = {
            let mut answers = self.answers.lock();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::upstream::conformance::{self, Answer, LARGEST, Served, TestUpstream};

    const BASE: &str = "http://127.0.0.1:1";

    #[derive(Default)]
    struct Script(Mutex<Option<Arc<Scripted>>>);

    impl Script {
        fn serve(&self, after: Duration, outcome: Result<Response, Unreachable>) -> Served {
            let upstream = Arc::new(Scripted::new([(after, outcome)]));
            *self.0.lock() = Some(upstream.clone());
            Served { upstream, base: BASE.into() }
        }
    }

    #[async_trait]
    impl TestUpstream for Script {
        async fn answering(&self, answer: Answer) -> Served {
            let headers = answer.headers.iter().map(|(k, v)| (k.to_lowercase(), (*v).to_owned())).collect();
            let response = Response { status: answer.status, headers, body: answer.body, elapsed: answer.after };
            let fits = response.body.len() <= LARGEST;
            self.serve(answer.after, if fits { Ok(response) } else { Err(Unreachable::TooLarge(LARGEST)) })
        }
        async fn nobody(&self) -> Served {
            self.serve(Duration::ZERO, Err(Unreachable::Failed("connection refused".into())))
        }
        async fn asked(&self) -> (String, Vec<(String, String)>) {
            let asked = self.0.lock().as_ref().map(|script| script.asked()).unwrap();
            let last = asked.last().unwrap();
            (last.url.reveal().strip_prefix(BASE).unwrap().to_owned(), last.headers.clone())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        conformance::run(&Script::default()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn answers_come_in_turn_and_the_last_one_stays() {
        let ok = |status| Response { status, headers: Vec::new(), body: Default::default(), elapsed: Duration::ZERO };
        let script = Scripted::new([(Duration::ZERO, Ok(ok(500))), (Duration::ZERO, Ok(ok(200)))]);
        let request = Request { url: crate::upstream::SecretUrl::new(BASE.into(), None), headers: Vec::new() };
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(script.call(&request, Duration::from_secs(1)).await.unwrap().status);
        }
        assert_eq!(seen, [500, 200, 200]);
    }
}
