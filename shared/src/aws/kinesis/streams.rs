//! One stream a topic: made where it is missing, unless others make them, and reported. Kinesis itself decides about the shards of an on-demand stream, and a
//! key keeps its order through a split: how many there are is nothing to report. How long a stream keeps its records is asked at every
//! check, whoever made it: between making it and keeping it longer a process may end.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::ProvideErrorMetadata;
use aws_sdk_kinesis::types::{StreamDescriptionSummary, StreamMode, StreamModeDetails, StreamStatus};
use tokio::time::{Instant, sleep};

use crate::aws;
use crate::error::BackendError;
use crate::record::Topic;
use crate::sink::{TopicReport, TopicState};

/// A stream is made within half a minute.
const MADE_WITHIN: Duration = Duration::from_secs(120);
/// Five streams may be made at a time, and each may be asked for twenty times a second.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// 7 days [K2]; a stream that somebody keeps longer stays as it is.
const RETENTION_HOURS: i32 = 168;

/// The streams of one stage.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) client: Client,
    pub(super) prefix: String,
    /// Here; else they are others'.
    pub(super) are_made: bool,
}

impl Streams {
    pub(super) fn name(&self, topic: Topic) -> String {
        format!("{}{}", self.prefix, topic.name())
    }

    /// Whether Kinesis answers; a stream that is not there is an answer.
    pub(super) async fn answer(&self) -> bool {
        self.found(&self.name(Topic::CRITICAL_ALERTS)).await.is_ok()
    }

    /// Reports the stream of every topic.
    pub(super) async fn check(&self) -> Result<Vec<TopicReport>, BackendError> {
        if self.are_made {
            return self.made().await;
        }
        let mut reports = Vec::with_capacity(Topic::ALL.len());
        for topic in Topic::ALL {
            let topic = self.name(*topic);
            let state = self.found(&topic).await?.map_or(TopicState::Missing, |_| TopicState::Ready);
            reports.push(TopicReport { topic, state });
        }
        Ok(reports)
    }

    /// Makes those that are missing, and has all of them keep their records as long as they should.
    async fn made(&self) -> Result<Vec<TopicReport>, BackendError> {
        let until = Instant::now() + MADE_WITHIN;
        let mut reports = Vec::with_capacity(Topic::ALL.len());
        // All are begun before the first is waited for.
        for topic in Topic::ALL {
            let topic = self.name(*topic);
            let is_made = self.found(&topic).await?.is_none() && self.make(&topic, until).await?;
            let state = if is_made { TopicState::Created } else { TopicState::Ready };
            reports.push(TopicReport { topic, state });
        }
        for report in &reports {
            while !self.keeps(&report.topic).await? {
                self.pause(&report.topic, until).await?;
            }
        }
        Ok(reports)
    }

    async fn found(&self, stream: &str) -> Result<Option<StreamDescriptionSummary>, BackendError> {
        match self.client.describe_stream_summary().stream_name(stream).send().await {
            Ok(answer) => Ok(answer.stream_description_summary),
            Err(e) if e.code() == Some("ResourceNotFoundException") => Ok(None),
            Err(e) => Err(failed(stream, e)),
        }
    }

    /// Whether the stream takes records and keeps them as long as it should. One that does not is told to.
    async fn keeps(&self, stream: &str) -> Result<bool, BackendError> {
        let Some(found) = self.found(stream).await? else { return Ok(false) };
        if found.retention_period_hours >= RETENTION_HOURS {
            return Ok(found.stream_status != StreamStatus::Creating);
        }
        // Kinesis changes only what is active.
        if found.stream_status != StreamStatus::Active {
            return Ok(false);
        }
        self.retain(stream).await
    }

    /// `false` when another process was faster.
    async fn make(&self, stream: &str, until: Instant) -> Result<bool, BackendError> {
        let mode = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand).build();
        let mode = mode.map_err(|e| BackendError::Fatal(format!("Kinesis: {e}")))?;
        loop {
            let made = self.client.create_stream().stream_name(stream).stream_mode_details(mode.clone()).send().await;
            match made {
                Ok(_) => return Ok(true),
                Err(e) if e.code() == Some("ResourceInUseException") => return Ok(false),
                Err(e) if e.code() == Some("LimitExceededException") && Instant::now() < until => {
                    sleep(ASK_AGAIN).await;
                }
                Err(e) => return Err(failed(stream, e)),
            }
        }
    }

    /// `false` when another process changes the stream just now.
    async fn retain(&self, stream: &str) -> Result<bool, BackendError> {
        let request = self.client.increase_stream_retention_period().stream_name(stream);
        match request.retention_period_hours(RETENTION_HOURS).send().await {
            Ok(_) => Ok(true),
            Err(e) if e.code() == Some("ResourceInUseException") => Ok(false),
            Err(e) => Err(failed(stream, e)),
        }
    }

    async fn pause(&self, stream: &str, until: Instant) -> Result<(), BackendError> {
        if Instant::now() >= until {
            return Err(BackendError::Retry(format!("Kinesis stream {stream}: it does not become active")));
        }
        sleep(ASK_AGAIN).await;
        Ok(())
    }
}

fn failed<E>(
    stream: &str,
    error: aws_sdk_kinesis::error::SdkError<E, aws_sdk_kinesis::config::http::HttpResponse>,
) -> BackendError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    // Of calls a second, or of streams that are being made: it passes.
    let is_limit = error.code() == Some("LimitExceededException");
    match aws::failed("Kinesis stream", stream, error) {
        BackendError::Fatal(text) if is_limit => BackendError::Retry(text),
        other => other,
    }
}
