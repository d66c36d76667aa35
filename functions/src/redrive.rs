//! redrive: the hourly report of dead letters by pattern [R4].

use serde_json::Value;
use streammanager::app::App;
use streammanager::dead;

use crate::HandlerError;

/// Reports the dead letters by pattern.
pub async fn handle(app: &App, _event: Value) -> Result<Value, HandlerError> {
    let report = dead::patterns(&*app.store).await?;
    for pattern in &report.patterns {
        tracing::info!(stream = %pattern.stream, reason = %pattern.reason, letters = pattern.letters, "dead letters");
    }
    if report.unreadable > 0 {
        tracing::warn!(letters = report.unreadable, "dead letters cannot be read any more");
    }
    metrics::gauge!("stream_dlq_size").set(report.letters as f64);
    Ok(serde_json::to_value(report)?)
}
