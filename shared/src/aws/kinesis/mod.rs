//! The sink on Kinesis [K1]: one stream a topic, each record an event (`event.rs`), each lane a client with connections of its own, so that
//! an alert never waits behind bulk. Which records count as taken is decided in `put.rs`.

mod event;
mod put;
mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::Builder;
use futures::future::join_all;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};

use super::{Aws, CONNECT, REUSE, http_client};
use crate::error::{BackendError, Reason};
use crate::limits::{ASK_FOR_RETURN, TRY};
use crate::record::{Outgoing, Topic, hex};
use crate::settings::BadSetting;
use crate::sink::{Lane, Mending, Position, Sent, Sink, TopicReport, refusal};
use put::{Entry, Put};
use streams::Streams;

/// A record with its key. A stream may be told to take more, but a new one does not.
const RECORD_BYTES: usize = 1 << 20;
/// Characters of a partition key.
const KEY_CHARACTERS: usize = 256;
/// Characters of a stream's name.
const NAME_CHARACTERS: usize = 128;

/// Both lanes, each with its own client.
pub struct KinesisSink {
    critical: Client,
    bulk: Client,
    streams: Streams,
    mending: Mending,
    try_time: Duration,
}

impl Aws {
    /// Topics as streams, their names prefixed [K2].
    ///
    /// # Errors
    /// For a prefix that no stream's name can have.
    pub fn sink(&self, topic_prefix: &str) -> Result<KinesisSink, BadSetting> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let longest = Topic::ALL.iter().map(|topic| topic.name().len()).max().unwrap_or_default();
        if !topic_prefix.chars().all(is_name) || topic_prefix.len() + longest > NAME_CHARACTERS {
            let most = NAME_CHARACTERS - longest;
            let rule = format!("{topic_prefix:?} is not {most} letters, digits, _ . - at most, as Kinesis wants them");
            return Err(BadSetting { name: "TOPIC_PREFIX".into(), rule });
        }
        // A try has its own end and its own plan for what failed.
        let lane = || {
            let config = Builder::from(&self.config)
                .http_client(http_client())
                .retry_config(RetryConfig::disabled().with_reconnect_mode(REUSE))
                .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build());
            Client::from_conf(config.build())
        };
        let streams = Streams { client: Client::new(&self.config), prefix: topic_prefix.to_owned(), are_made: true };
        Ok(KinesisSink { critical: lane(), bulk: lane(), streams, mending: Mending::default(), try_time: TRY })
    }
}

impl KinesisSink {
    /// Streams are others' to make, such as a stack's: one that is missing is reported, and its records wait. It takes no more rights
    /// than to put records and to ask for a stream.
    #[must_use]
    pub fn on_given_streams(self) -> KinesisSink {
        KinesisSink { streams: Streams { are_made: false, ..self.streams }, ..self }
    }

    /// Gives each record up only after `try_time`, instead of R1's.
    #[must_use]
    pub fn trying_for(self, try_time: Duration) -> KinesisSink {
        KinesisSink { try_time, ..self }
    }
}

#[async_trait]
impl Sink for KinesisSink {
    async fn send(&self, lane: Lane, records: &[Outgoing]) -> Vec<Sent> {
        let client = match lane {
            Lane::Critical => &self.critical,
            Lane::Bulk => &self.bulk,
        };
        let deadline = Instant::now() + self.try_time;
        let mut outcomes = vec![Sent::Retry("Kinesis was not asked".into()); records.len()];
        let mut by_topic: BTreeMap<Topic, VecDeque<Entry>> = BTreeMap::new();
        for (index, record) in records.iter().enumerate() {
            match entry(index, record) {
                Ok(entry) => by_topic.entry(record.topic).or_default().push_back(entry),
                Err(refused) => outcomes[index] = refused,
            }
        }
        let puts = by_topic.into_iter().map(|(topic, entries)| {
            Put { client, stream: self.streams.name(topic), deadline, try_time: self.try_time }.all(entries)
        });
        for answer in join_all(puts).await {
            answer.outcomes.into_iter().for_each(|(index, outcome)| outcomes[index] = outcome);
            if answer.stream_is_missing && self.streams.are_made {
                let streams = self.streams.clone();
                self.mending.begin(async move { streams.check().await });
            }
        }
        outcomes
    }

    async fn answers(&self) -> bool {
        // Over the connection that an alert takes: asking keeps it warm.
        let streams = Streams { client: self.critical.clone(), ..self.streams.clone() };
        timeout(ASK_FOR_RETURN, streams.answer()).await.unwrap_or(false)
    }

    async fn check(&self) -> Result<Vec<TopicReport>, BackendError> {
        self.streams.check().await
    }

    /// Kinesis keeps no positions of its consumers: they keep them themselves.
    async fn positions(&self) -> Result<Vec<Position>, BackendError> {
        Ok(Vec::new())
    }
}

fn entry(index: usize, record: &Outgoing) -> Result<Entry, Sent> {
    if let Some(refused) = refusal(record) {
        return Err(refused);
    }
    let entry = Entry { index, key: partition_key(&record.key), data: event::of(record) };
    let bytes = entry.bytes();
    if bytes > RECORD_BYTES {
        let detail = format!("the record has {bytes} bytes with its attributes, {RECORD_BYTES} at most");
        return Err(Sent::Refused(Reason::TooLarge, detail));
    }
    Ok(entry)
}

/// The record's key, which the event carries whole; a longer one than Kinesis takes, such as of an alert's thread, by its hash.
fn partition_key(key: &str) -> String {
    if (1..=KEY_CHARACTERS).contains(&key.chars().count()) { key.to_owned() } else { hex(&Sha256::digest(key)) }
}
