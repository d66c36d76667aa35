//! realtime: one poll a tick. Its queue delivers one tick at a time, so that one failing source never stops another [S10].

use serde_json::Value;
use streammanager::app::App;
use streammanager::ingest::poll;
use streammanager::schedule::ticks::Tick;

use crate::HandlerError;
use crate::events::{BatchResponse, SqsEvent, SqsMessage};

/// A batch of ticks; the answer names those that are to come back.
pub async fn handle(app: &App, event: Value) -> Result<Value, HandlerError> {
    let event: SqsEvent = serde_json::from_value(event)?;
    let mut response = BatchResponse::default();
    for message in event.records {
        if !ticked(app, &message).await {
            response.fail(message.message_id);
        }
    }
    Ok(serde_json::to_value(response)?)
}

/// One tick: whether it is done with.
pub(crate) async fn ticked(app: &App, message: &SqsMessage) -> bool {
    let tick: Tick = match serde_json::from_str(&message.body) {
        Ok(tick) => tick,
        Err(e) => {
            // It goes to the ticks' dead-letter queue after its receives; the next tick comes by itself.
            tracing::error!(%e, message = message.message_id, "a message of the ticks queue is not a tick");
            return false;
        }
    };
    let polled = poll::poll(app, &tick).await;
    if let Err(problem) = &polled {
        tracing::warn!(%problem, stream = %tick.stream, "a poll is tried again");
    }
    polled.is_ok()
}
