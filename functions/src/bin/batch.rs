//! The Lambda binary of `batch`.

use streammanager_functions::{batch, lambda};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(|app, event, _| async move { batch::handle(&app, event).await }).await
}
