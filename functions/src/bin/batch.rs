//! The Lambda binary of `batch`.

use std::process::ExitCode;

use streammanager_functions::{batch, lambda};

#[tokio::main]
async fn main() -> ExitCode {
    lambda::run(|app, event, _| async move { batch::handle(&app, event).await }).await
}
