//! The Lambda binary of `stream`: also reads records of the stream a second time.

use std::process::ExitCode;

use streammanager_functions::lambda::run_with;
use streammanager_functions::lambda::shards::Kinesis;
use streammanager_functions::stream;

#[tokio::main]
async fn main() -> ExitCode {
    run_with(Kinesis::connect, |app, kinesis, event, _| async move { stream::handle_with(&app, &kinesis, event).await })
        .await
}
