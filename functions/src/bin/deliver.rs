//! The Lambda binary of `deliver`: stops taking work in time for its end.

use streammanager_functions::{deliver, lambda};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(|app, event, stop| async move { deliver::handle(&app, event, stop).await }).await
}
