//! Confirmations through AWS IoT's data plane. An alert is durable before its confirmation is published: what fails here is
//! logged and counted, and fails nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_iotdataplane::Client;
use aws_sdk_iotdataplane::config::Builder;
use aws_sdk_iotdataplane::primitives::Blob;
use futures::StreamExt;
use streammanager::aws::{Aws, chain};
use streammanager::settings::{BadSetting, variable};
use tokio::time::{Instant, timeout_at};

use crate::confirm::Confirmation;

/// All confirmations of one invocation, with the SDK's own tries: well within the 15 s that express has.
const TIME: Duration = Duration::from_secs(3);
/// Publishes at a time; a feed may hold hundreds of alerts.
const CONCURRENT: usize = 8;
/// Subscribers that asked for it get a confirmation at least once.
const QOS: i32 = 1;

/// Publishes confirmations; cheap to clone.
#[derive(Clone)]
pub struct Confirmations {
    client: Client,
    /// Begins every topic of this stage.
    prefix: Arc<str>,
}

impl Confirmations {
    /// `IOT_ENDPOINT`: the account's data endpoint, as `aws iot describe-endpoint --endpoint-type iot:Data-ATS` prints it,
    /// or a URL. Without it the SDK's own, the region's. `MQTT_PREFIX` begins every topic.
    pub fn connect(aws: &Aws, environment: &BTreeMap<String, String>) -> Result<Confirmations, BadSetting> {
        let mut config = Builder::from(aws.config());
        config.set_endpoint_url(variable(environment, "IOT_ENDPOINT").map(url).transpose()?);
        let prefix = variable(environment, "MQTT_PREFIX").unwrap_or_default().into();
        Ok(Confirmations { client: Client::from_conf(config.build()), prefix })
    }

    /// Returns when each is published or given up.
    pub async fn publish(&self, confirmations: Vec<Confirmation>) {
        let until = Instant::now() + TIME;
        let publishing = |confirmation: Confirmation| async move {
            let topic = confirmation.topic.clone();
            let problem = match timeout_at(until, self.publish_one(confirmation)).await {
                Ok(Ok(())) => return,
                Ok(Err(problem)) => problem,
                Err(_) => format!("not done in {TIME:?}"),
            };
            tracing::warn!(topic, problem, "the confirmation of an accepted alert was not published");
            metrics::counter!("stream_confirmations_failed_total").increment(1);
        };
        futures::stream::iter(confirmations).for_each_concurrent(CONCURRENT, publishing).await;
    }

    async fn publish_one(&self, confirmation: Confirmation) -> Result<(), String> {
        let topic = format!("{}{}", self.prefix, confirmation.topic);
        let publish = self.client.publish().topic(topic).qos(QOS).payload(Blob::new(confirmation.payload));
        publish.send().await.map(drop).map_err(|e| chain(&e))
    }
}

fn url(endpoint: &str) -> Result<String, BadSetting> {
    let url = if endpoint.contains("://") { endpoint.to_owned() } else { format!("https://{endpoint}") };
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace)) {
        Ok(url)
    } else {
        Err(BadSetting {
            name: "IOT_ENDPOINT".into(),
            rule: format!("{endpoint:?} is neither a host name nor an http or https URL"),
        })
    }
}
