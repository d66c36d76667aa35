//! deliver: started every minute, holds the lanes' lease for as long as its time allows (DESIGN 2).

use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::deliver::lanes;
use tokio_util::sync::CancellationToken;

use crate::HandlerError;

/// Delivers until `stop`, or returns at once when another invocation delivers and a third stands by.
pub async fn handle(app: &App, _event: Value, stop: CancellationToken) -> Result<Value, HandlerError> {
    let outcome = lanes::run(app, &stop).await?;
    Ok(json!({ "outcome": outcome }))
}
