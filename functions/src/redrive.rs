//! redrive: the hourly look at the dead letters: their report by pattern, and the end of bytes whose letter is gone [R4].

use serde_json::Value;
use streammanager::app::App;
use streammanager::dead;

use crate::HandlerError;

/// Patterns that the log lists one by one; the answer and `dead-letters explain` have more.
const LOGGED: usize = 20;

/// Reports the dead letters by pattern, and drops stored bytes without a letter.
pub async fn handle(app: &App, _event: Value) -> Result<Value, HandlerError> {
    let report = dead::patterns(&*app.store).await?;
    for pattern in report.patterns.iter().take(LOGGED) {
        let dead::Pattern { stream, source, reason, letters, attempts, advice, .. } = pattern;
        tracing::info!(%stream, %source, %reason, letters, attempts, rule = pattern.rule, advice, "dead letters");
    }
    if report.unreadable > 0 {
        tracing::warn!(letters = report.unreadable, "dead letters cannot be read any more");
    }
    metrics::gauge!("stream_dlq_size").set(report.letters as f64);
    let dropped = dead::sweep(app).await?;
    if dropped > 0 {
        tracing::info!(dropped, "stored bytes of dead letters that are gone were dropped");
    }
    Ok(serde_json::to_value(report)?)
}
