//! The Lambda binary of `express`.

use streammanager_functions::{express, lambda};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(|app, event, _| async move { express::handle(&app, event).await }).await
}
