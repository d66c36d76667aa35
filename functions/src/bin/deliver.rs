//! The Lambda binary of `deliver`: stops taking work in time for its end.

use std::process::ExitCode;

use streammanager_functions::{deliver, lambda};

#[tokio::main]
async fn main() -> ExitCode {
    lambda::run(|app, event, stop| async move {
        deliver::check_topics(&*app.sink).await;
        deliver::handle(&app, event, stop).await
    })
    .await
}
