//! batch: ticks of streams read to their end. The tick itself says how far one invocation goes [M2].

use serde_json::Value;
use streammanager::app::App;

use crate::{HandlerError, realtime};

/// A batch of ticks; the answer names those that are to come back.
pub async fn handle(app: &App, event: Value) -> Result<Value, HandlerError> {
    realtime::handle(app, event).await
}
