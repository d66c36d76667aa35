//! The Kafka sink on librdkafka [K1, K2, K3, K4]: two lanes, each a producer of its own, so that an alert never waits behind bulk.

mod lane;
mod settings;
mod topics;

use std::time::Duration;

use async_trait::async_trait;

use crate::error::BackendError;
use crate::record::Outgoing;
use crate::sink::{Lane, Sent, Sink, TopicReport};
use lane::LaneProducer;
pub use settings::{KafkaSettings, Password, Security, Tls};

/// Both lanes, each with its own producer.
pub struct KafkaSink {
    settings: KafkaSettings,
    critical: LaneProducer,
    bulk: LaneProducer,
}

impl KafkaSink {
    /// Builds the producers, which connect by themselves; `check` tells whether the brokers answer.
    ///
    /// # Errors
    /// `Fatal` when librdkafka refuses a setting, such as a certificate file that is not there.
    pub fn connect(settings: &KafkaSettings) -> Result<KafkaSink, BackendError> {
        let lane =
            |lane| LaneProducer::new(settings.producer(lane), &settings.topic_prefix).map_err(BackendError::Fatal);
        Ok(KafkaSink { critical: lane(Lane::Critical)?, bulk: lane(Lane::Bulk)?, settings: settings.clone() })
    }
}

#[async_trait]
impl Sink for KafkaSink {
    async fn send(&self, lane: Lane, records: &[Outgoing], within: Duration) -> Vec<Sent> {
        match lane {
            Lane::Critical => self.critical.send(records, within).await,
            Lane::Bulk => self.bulk.send(records, within).await,
        }
    }

    async fn check(&self) -> Result<Vec<TopicReport>, BackendError> {
        topics::check(self.settings.client(), &self.settings.brokers, &self.settings.topic_prefix).await
    }
}
