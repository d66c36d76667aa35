//! The Lambda binary of `stream`.

use streammanager_functions::{lambda, stream};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(|app, event, _| async move { stream::handle(&app, event).await }).await
}
