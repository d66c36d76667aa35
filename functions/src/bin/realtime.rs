//! The Lambda binary of `realtime`.

use std::process::ExitCode;

use streammanager_functions::{lambda, realtime};

#[tokio::main]
async fn main() -> ExitCode {
    lambda::run(|app, event, _| async move { realtime::handle(&app, event).await }).await
}
