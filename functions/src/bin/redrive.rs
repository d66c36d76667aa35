//! The Lambda binary of `redrive`.

use std::process::ExitCode;

use streammanager_functions::{lambda, redrive};

#[tokio::main]
async fn main() -> ExitCode {
    lambda::run(|app, event, _| async move { redrive::handle(&app, event).await }).await
}
