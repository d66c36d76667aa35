//! The Lambda binary of `stream`.

use std::process::ExitCode;

use streammanager_functions::{lambda, stream};

#[tokio::main]
async fn main() -> ExitCode {
    lambda::run(|app, event, _| async move { stream::handle(&app, event).await }).await
}
