//! The Kafka sink [K1, K2, K3, K4]: two lanes, each a producer of its own, so that an alert never waits behind bulk. Alerts, and all
//! questions to the cluster, go through librdkafka; bulk goes through a producer that is made for it.

mod bulk;
mod groups;
mod login;
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
use login::Refusal;
pub use login::{LoginContext, Token, TokenSource, Tokens};
use producer::Producer;
use question::Question;
pub use settings::{KafkaSettings, Password, Security, Tls};
use topics::Topics;

/// Both lanes, each with its own producer.
pub struct KafkaSink {
    critical: Arc<Producer>,
    bulk: BulkProducer,
    /// Of either lane.
    refusal: Refusal,
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
        let refusal = Refusal::none();
        let bulk = BulkProducer::new(settings, &refusal).map_err(BackendError::Fatal)?;
        let critical = Arc::new(Producer::new(settings, &refusal).map_err(BackendError::Fatal)?);
        Ok(KafkaSink {
            topics: Arc::new(Topics::new(settings, critical.clone(), bulk.guide())),
            groups: Groups::new(settings),
            critical,
            bulk,
            refusal,
            presence: Question::new(),
            mending: Mending::default(),
        })
    }

    /// Returns when a broker has not taken the user and its password, or the token.
    pub async fn login_refused(&self) {
        self.refusal.noted().await;
    }

    /// What was refused until now counts no more.
    pub fn forget_refusal(&self) {
        self.refusal.forget();
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
