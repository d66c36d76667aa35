//! deliver: started every minute, on duty for as long as its time allows.

use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::deliver::duty;
use streammanager::sink::{Sink, TopicState};
use tokio_util::sync::CancellationToken;

use crate::HandlerError;

/// Topics that are missing are made, and others than expected reported [K2]. Without an answer the breaker decides.
pub async fn check_topics(sink: &dyn Sink) {
    match sink.check().await {
        Ok(topics) => {
            for topic in topics.iter().filter(|topic| topic.state != TopicState::Ready) {
                tracing::warn!(topic = topic.topic, state = ?topic.state, "topic");
            }
        }
        Err(problem) => tracing::error!(%problem, "the topics could not be checked"),
    }
}

/// Delivers until `stop`, or returns at once when another invocation delivers and a third stands by.
pub async fn handle(app: &App, _event: Value, stop: CancellationToken) -> Result<Value, HandlerError> {
    let outcome = duty::run(app, &stop).await?;
    Ok(json!({ "outcome": outcome }))
}
