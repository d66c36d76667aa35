//! The Lambda binary of `realtime`.

use streammanager_functions::{lambda, realtime};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(|app, event, _| async move { realtime::handle(&app, event).await }).await
}
