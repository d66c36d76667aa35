//! The Lambda binary of `schedule`: also tells each minute what alarms are for.

use std::process::ExitCode;

use streammanager_functions::{lambda, schedule, watch};

#[tokio::main]
async fn main() -> ExitCode {
    lambda::run(|app, event, _| async move {
        let planned = schedule::handle(&app, event).await?;
        match watch::look(&app).await {
            Ok(figures) => watch::tell(&app, &lambda::name(), &figures),
            Err(problem) => tracing::warn!(%problem, "what alarms are for could not be looked at"),
        }
        Ok(planned)
    })
    .await
}
