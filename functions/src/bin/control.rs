//! The Lambda binary of `control`.

use streammanager_functions::{control, lambda};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(|app, event, _| async move { control::handle(&app, event).await }).await
}
