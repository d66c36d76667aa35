//! The Lambda binary of `express`: also publishes the confirmations of alerts that came over MQTT.

use std::process::ExitCode;

use streammanager_functions::express;
use streammanager_functions::iot::Confirmations;
use streammanager_functions::lambda::run_with_sink;

#[tokio::main]
async fn main() -> ExitCode {
    run_with_sink(Confirmations::connect, |app, confirmations, event, _| async move {
        let answer = express::handle(&app, event).await?;
        confirmations.publish(answer.confirmations).await;
        Ok(answer.response)
    })
    .await
}
