//! The Lambda binary of `schedule`.

use streammanager_functions::{lambda, schedule};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(|app, event, _| async move { schedule::handle(&app, event).await }).await
}
