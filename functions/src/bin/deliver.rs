//! The Lambda binary of `deliver`: stops taking work in time for its end.

use std::process::ExitCode;

use streammanager_functions::deliver;
use streammanager_functions::lambda::run_with_brokers;

#[tokio::main]
async fn main() -> ExitCode {
    run_with_brokers(
        |_, _| Ok(()),
        |app, (), event, stop| async move {
            deliver::check_topics(&*app.sink).await;
            deliver::handle(&app, event, stop).await
        },
    )
    .await
}
