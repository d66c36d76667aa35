//! The Lambda binary of `control`.

use std::process::ExitCode;

use streammanager_functions::{control, lambda};

#[tokio::main]
async fn main() -> ExitCode {
    lambda::run(|app, event, _| async move { control::handle(&app, event).await }).await
}
