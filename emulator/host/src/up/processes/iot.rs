//! AWS IoT's data plane as far as express speaks to it: what a function publishes there goes out at this host's own MQTT
//! endpoint, as on AWS at the account's.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use streammanager::record::hex;
use streammanager::time::Rng;
use streammanager_mqtt_endpoint::Endpoint;

use crate::exit::Failure;
use crate::host;

/// Gives `IOT_ENDPOINT`. Its path cannot be guessed: no other user of this host confirms alerts that nobody has taken.
pub(super) async fn serve(mqtt: Endpoint, rng: &Rng) -> Result<String, Failure> {
    let secret = hex(&rng.bytes::<16>());
    let routes = Router::new().route(&format!("/{secret}/topics/{{topic}}"), post(publish)).with_state(mqtt);
    let at = host::serve("the data plane of AWS IoT", routes).await?;
    Ok(format!("http://{at}/{secret}"))
}

async fn publish(State(mqtt): State<Endpoint>, Path(topic): Path<String>, payload: Bytes) -> StatusCode {
    mqtt.publish(&topic, payload).await;
    StatusCode::OK
}
