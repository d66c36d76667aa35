//! schedule: every minute, the ticks of the streams that are due [M4].

use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::schedule::ticks;

use crate::HandlerError;

/// Plans the ticks; answers how many.
pub async fn handle(app: &App, _event: Value) -> Result<Value, HandlerError> {
    let planned = ticks::plan(app).await?;
    Ok(json!({ "ticks": planned }))
}
