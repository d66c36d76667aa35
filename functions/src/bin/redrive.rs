//! The Lambda binary of `redrive`.

use streammanager_functions::{lambda, redrive};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(|app, event, _| async move { redrive::handle(&app, event).await }).await
}
