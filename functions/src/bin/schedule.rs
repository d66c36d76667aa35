//! The Lambda binary of `schedule`: also tells each minute what metrics and alarms are for.

use std::process::ExitCode;

use streammanager_functions::{lambda, schedule, watch};

#[tokio::main]
async fn main() -> ExitCode {
    lambda::run(|app, event, _| async move {
        let planned = schedule::handle(&app, event).await?;
        watch::tell(&app).await;
        Ok(planned)
    })
    .await
}
