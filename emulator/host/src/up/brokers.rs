//! Whether Kafka answers, since when, and how its topics are. Nothing waits for it: what is taken in meanwhile is queued
//! [R5]. Topics are made or checked whenever it answers again, and every few seconds while it does [K2].

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use streammanager::sink::{Sink, TopicReport, TopicState};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The first screen waits this long: one question to Kafka takes five seconds at most. Everything else runs already.
const FIRST_ANSWER: Duration = Duration::from_secs(6);
/// Between questions: of one that is away, and of one that answers.
const ASK_AGAIN: Duration = Duration::from_secs(1);
const ASK_OFTEN: Duration = Duration::from_secs(5);

/// What was last heard of Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    NothingYet,
    Answers(Vec<TopicReport>),
    /// Its last words, or why there were none.
    Away(String),
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Brokers {
    sink: Arc<dyn Sink>,
    heard: watch::Receiver<Heard>,
    say: Arc<watch::Sender<Heard>>,
    /// Topics whose partitions differ, each said once.
    differing: Arc<Mutex<Vec<TopicReport>>>,
}

impl Brokers {
    pub(crate) fn of(sink: Arc<dyn Sink>) -> Brokers {
        let (say, heard) = watch::channel(Heard::NothingYet);
        Brokers { sink, heard, say: Arc::new(say), differing: Arc::default() }
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard.borrow().clone()
    }

    /// What is heard first, or `NothingYet` when that takes too long.
    pub(crate) async fn first(&self) -> Heard {
        let mut heard = self.heard.clone();
        // The sender lives as long as this does.
        let _ = tokio::time::timeout(FIRST_ANSWER, heard.wait_for(|heard| *heard != Heard::NothingYet)).await;
        self.heard()
    }

    /// Asks until `stop`.
    pub(crate) async fn watch(self, stop: CancellationToken) {
        loop {
            let heard = match self.sink.check().await {
                Ok(topics) => {
                    self.say_differences(&topics);
                    Heard::Answers(topics)
                }
                Err(problem) => Heard::Away(problem.to_string()),
            };
            let pause = if matches!(heard, Heard::Away(_)) { ASK_AGAIN } else { ASK_OFTEN };
            self.say.send_replace(heard);
            tokio::select! { biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn say_differences(&self, topics: &[TopicReport]) {
        let mut said = self.differing.lock();
        for topic in topics {
            if let TopicState::Differs { partitions, expected } = topic.state
                && !said.contains(topic)
            {
                let topic = &topic.topic;
                tracing::warn!("topic {topic} has {partitions} partitions instead of {expected}: it is used as it is");
            }
        }
        *said = topics.iter().filter(|topic| matches!(topic.state, TopicState::Differs { .. })).cloned().collect();
    }
}
