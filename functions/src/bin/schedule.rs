//! The Lambda binary of `schedule`.

use std::process::ExitCode;

use streammanager_functions::{lambda, schedule};

#[tokio::main]
async fn main() -> ExitCode {
    lambda::run(|app, event, _| async move { schedule::handle(&app, event).await }).await
}
