//! The Lambda binary of `redrive`: also tells how many dead letters there are.

use std::process::ExitCode;

use streammanager_functions::{lambda, redrive, watch};

#[tokio::main]
async fn main() -> ExitCode {
    lambda::run(|app, event, _| async move {
        let report = redrive::handle(&app, event).await?;
        let letters = report["letters"].as_f64().unwrap_or_default();
        watch::tell(&app, &lambda::name(), &[("stream_dlq_size", letters)]);
        Ok(report)
    })
    .await
}
