//! The Lambda binary of `deliver`: stops taking work in time for its end, and tells whether the sink answers.

use std::process::ExitCode;

use streammanager_functions::lambda::run_with_sink;
use streammanager_functions::{deliver, watch};

#[tokio::main]
async fn main() -> ExitCode {
    run_with_sink(
        |_, _| Ok(()),
        |app, (), event, stop| async move {
            deliver::check_topics(&*app.sink).await;
            watch::while_the_sink_is_asked(&app, deliver::handle(&app, event, stop)).await
        },
    )
    .await
}
