//! The Kafka sink [K1, K2, K3, K4]: two lanes, each a producer of its own, so that an alert never waits behind bulk. Alerts, and all
//! questions to the cluster, go through librdkafka; bulk goes through a producer that is made for it.

mod bulk;
mod groups;
mod producer;
mod question;
mod settings;
mod topics;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::BackendError;
use crate::limits::ASK_FOR_RETURN;
use crate::record::Outgoing;
use crate::record::Topic;
use crate::sink::{Lane, Mending, Position, Sent, Sink, TopicReport};
use bulk::BulkProducer;
pub use groups::ConsumerGroups;
use groups::Groups;
use producer::Producer;
use question::Question;
pub use settings::{KafkaSettings, Password, Security, Tls};
use topics::Topics;

/// Both lanes, each with its own producer.
pub struct KafkaSink {
    critical: Arc<Producer>,
    bulk: BulkProducer,
    mending: Mending,
    /// Whether the cluster answers at all.
    presence: Question<()>,
    topics: Arc<Topics>,
    groups: Groups,
}

impl KafkaSink {
    /// Builds the producers, which connect by themselves; `check` tells whether the brokers answer.
    ///
    /// # Errors
    /// `Fatal` for a setting that cannot be used, such as a certificate file that is not there.
    pub fn connect(settings: &KafkaSettings) -> Result<KafkaSink, BackendError> {
        // First: what it says of a wrong setting is clearer than what librdkafka says.
        let bulk = BulkProducer::new(settings).map_err(BackendError::Fatal)?;
        let critical = Producer::new(settings.critical_producer(), &settings.topic_prefix, settings.try_time);
        let critical = Arc::new(critical.map_err(BackendError::Fatal)?);
        Ok(KafkaSink {
            topics: Arc::new(Topics::new(settings, critical.clone())),
            groups: Groups::new(settings),
            critical,
            bulk,
            presence: Question::new(),
            mending: Mending::default(),
        })
    }

    /// Returns when a broker has not taken the user or its password.
    pub async fn login_refused(&self) {
        tokio::select! {
            () = self.critical.login_refused() => {}
            () = self.bulk.login_refused() => {}
        }
    }

    /// What was refused until now counts no more.
    pub fn forget_refusal(&self) {
        self.critical.forget_refusal();
        self.bulk.forget_refusal();
    }
}

#[async_trait]
impl Sink for KafkaSink {
    async fn send(&self, lane: Lane, records: &[Outgoing]) -> Vec<Sent> {
        let answer = match lane {
            Lane::Critical => self.critical.send(records).await,
            Lane::Bulk => self.bulk.send(records).await,
        };
        if answer.topic_is_missing {
            let topics = self.topics.clone();
            self.mending.begin(async move { topics.check().await });
        }
        answer.outcomes
    }

    async fn answers(&self) -> bool {
        let ask = self.critical.metadata(Some(Topic::CRITICAL_ALERTS.name()));
        self.presence.answer(ASK_FOR_RETURN, move || ask().map(drop)).await.is_ok()
    }

    async fn check(&self) -> Result<Vec<TopicReport>, BackendError> {
        self.topics.check().await
    }

    async fn positions(&self) -> Result<Vec<Position>, BackendError> {
        self.groups.positions().await
    }
}
