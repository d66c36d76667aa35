//! Questions to the cluster, which block the thread that asks.
//!
//! librdkafka waits for an answer by the wall clock: when the clock is set back by an hour, a wait of a second lasts an
//! hour. So a question waits without end on a thread of its own, and whoever wants the answer gives up by a clock that
//! nobody sets. Who asks while a question is under way waits for that one: an outage holds one thread, however long it
//! lasts and however often somebody asks [R2].

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

type Answer<T> = Option<Result<T, String>>;

pub(super) struct Question<T> {
    last: Mutex<watch::Receiver<Answer<T>>>,
}

impl<T: Clone + Send + Sync + 'static> Question<T> {
    pub(super) fn new() -> Question<T> {
        Question { last: Mutex::new(watch::channel(None).1) }
    }

    /// The answer to the question that is under way, otherwise to `ask`; a problem when there is none within `within`.
    pub(super) async fn answer(
        &self,
        within: Duration,
        ask: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let mut answer = self.under_way_or(ask)?;
        let answered = timeout(within, answer.wait_for(Option::is_some)).await;
        match answered.map_err(|_| format!("no answer within {within:?}"))? {
            Ok(answer) => answer.clone().unwrap_or_else(|| Err("no answer".into())),
            Err(_) => Err("the thread that asked has died".into()),
        }
    }

    fn under_way_or(
        &self,
        ask: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<watch::Receiver<Answer<T>>, String> {
        let mut last = self.last.lock();
        let is_under_way = last.borrow().is_none() && last.has_changed().is_ok();
        if !is_under_way {
            let (answered, answer) = watch::channel(None);
            std::thread::Builder::new()
                .name("kafka-question".into())
                .spawn(move || answered.send_replace(Some(ask())))
                .map_err(|e| e.to_string())?;
            *last = answer;
        }
        Ok(last.clone())
    }
}
