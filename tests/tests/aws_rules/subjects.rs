//! Whom the rules are asked of: this emulator's queues, store and files, and endpoints that speak AWS's protocols.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry};
use parking_lot::Mutex;
use streammanager::aws::{Aws, TableShape};
use streammanager::blobs::Blobs;
use streammanager::embedded::{Commits, Embedded, FileBlobs, MemoryDisk, Options, QueueOptions};
use streammanager::queue::{Body, Message, Queue, QueueRef, Receipt, SendError, Settle};
use streammanager::store::Store;
use streammanager::time::{Clock, Rng};
use tempfile::TempDir;

use super::case::{Outcome, Unmet};
use super::lab::paused;
use super::sqs::{Got, Spec, Sqs};

const REGION: &str = "us-west-2";

fn embedded(clock: &Clock, queues: BTreeMap<QueueRef, QueueOptions>) -> Result<Embedded, Unmet> {
    let options = Options { commits: Commits::Inline, queues, ..Options::new(clock.clone()) };
    Ok(Embedded::on_disk(&MemoryDisk::new(), options)?)
}

/// The store of a data folder, on a paused clock.
pub fn store() -> Arc<dyn Store> {
    Arc::new(embedded(&paused(), BTreeMap::new()).unwrap_or_else(|problem| panic!("{problem:?}")))
}

/// The files of a data folder.
pub fn files() -> (TempDir, Arc<dyn Blobs>) {
    let folder = tempfile::tempdir().unwrap();
    let trust =
        embedded(&Clock::system(), BTreeMap::new()).unwrap_or_else(|problem| panic!("{problem:?}")).trust().clone();
    let blobs = FileBlobs::open(folder.path(), Commits::Inline, trust).unwrap();
    (folder, Arc::new(blobs))
}

/// The embedded queue, on a paused clock; opened at the first send, when all queues of a check are made.
pub struct OurQueues {
    clock: Clock,
    made: Mutex<BTreeMap<QueueRef, QueueOptions>>,
    opened: Mutex<Option<Embedded>>,
}

impl OurQueues {
    pub fn new() -> OurQueues {
        OurQueues { clock: paused(), made: Mutex::default(), opened: Mutex::default() }
    }

    fn folder(&self) -> Result<Embedded, Unmet> {
        let mut opened = self.opened.lock();
        if opened.is_none() {
            *opened = Some(embedded(&self.clock, self.made.lock().clone())?);
        }
        opened.clone().ok_or_else(|| "it was just opened".into())
    }
}

#[async_trait]
impl Sqs for OurQueues {
    async fn create(&self, spec: Spec) -> Result<String, Unmet> {
        let mut made = self.made.lock();
        let name = format!("local:q{}", made.len());
        let defaults = QueueOptions::default();
        let options = QueueOptions {
            visibility: spec.visibility.map_or(defaults.visibility, Duration::from_secs),
            delay: spec.delay.map_or(defaults.delay, Duration::from_secs),
            retention: spec.retention.map(Duration::from_secs),
            dead_letters: spec.dead_letters.map(|(queue, receives)| (QueueRef::new(&queue), receives)),
            ..defaults
        };
        made.insert(QueueRef::new(&name), options);
        Ok(name)
    }

    async fn send(&self, queue: &str, messages: &[(&str, Option<u64>)]) -> Result<Vec<bool>, Unmet> {
        let messages: Vec<Message> = messages
            .iter()
            .map(|(body, delay)| Message {
                body: Body::Text((*body).to_owned()),
                delay: Duration::from_secs(delay.unwrap_or_default()),
            })
            .collect();
        let outcomes = self.folder()?.send(&QueueRef::new(queue), &messages).await?;
        let taken = outcomes.into_iter().map(|outcome| match outcome {
            Ok(()) => Ok(true),
            Err(SendError::TooLarge(_)) => Ok(false),
            Err(e) => Err(e.into()),
        });
        taken.collect()
    }

    async fn receive(&self, queue: &str, max: usize, wait: u64) -> Result<Vec<Got>, Unmet> {
        let came = self.folder()?.receive(&QueueRef::new(queue), max, Duration::from_secs(wait)).await?;
        let got = came.into_iter().map(|delivery| Got {
            id: delivery.id,
            body: match delivery.body {
                Body::Text(text) => text,
                Body::Binary(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            },
            receipt: delivery.receipt.0,
            receives: delivery.receives,
            sent_at: delivery.sent_at.as_millisecond(),
        });
        Ok(got.collect())
    }

    async fn delete(&self, queue: &str, receipt: &str) -> Outcome {
        let receipts = [(Receipt(receipt.to_owned()), Settle::Forget)];
        Ok(self.folder()?.settle(&QueueRef::new(queue), &receipts).await?)
    }

    async fn hide(&self, queue: &str, receipt: &str, seconds: u64) -> Outcome {
        let receipts = [(Receipt(receipt.to_owned()), Settle::Extend(Duration::from_secs(seconds)))];
        Ok(self.folder()?.settle(&QueueRef::new(queue), &receipts).await?)
    }

    async fn counts(&self, queue: &str) -> Result<[u64; 3], Unmet> {
        let depth = self.folder()?.depth(&QueueRef::new(queue)).await?;
        Ok([depth.visible, depth.in_flight, depth.delayed])
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }
}

/// An endpoint that is not ours.
#[derive(Clone)]
pub struct Outside {
    aws: Aws,
    sqs: aws_sdk_sqs::Client,
    clock: Clock,
}

/// A name that no other run has.
fn name() -> String {
    static USED: AtomicU32 = AtomicU32::new(0);
    let run = Clock::system().now().as_second() % 10_000_000;
    format!("rules-{run}-{}-{}", std::process::id(), USED.fetch_add(1, Ordering::Relaxed))
}

impl Outside {
    pub async fn connect(url: &str) -> Outside {
        let aws = Aws::connect(Some(url), REGION).await;
        let sqs = aws_sdk_sqs::Client::new(aws.config());
        Outside { aws, sqs, clock: Clock::system() }
    }

    pub async fn called(&self, check: super::sqs_calls::Check) -> Outcome {
        let queue = self.create(Spec::default()).await?;
        check((&self.sqs, &queue)).await
    }

    pub async fn store(&self) -> Result<Arc<dyn Store>, Unmet> {
        let table = name();
        let shape = TableShape { name: &table, partition_key: "pk", sort_key: Some("sk"), expires: Some("expires") };
        self.aws.make_table(&shape).await?;
        Ok(Arc::new(self.aws.store(&table, self.clock.clone(), Rng::from_os()?)))
    }

    pub async fn blobs(&self) -> Result<Arc<dyn Blobs>, Unmet> {
        let bucket = name();
        self.aws.make_bucket(&bucket, Clock::system()).await?;
        Ok(Arc::new(self.aws.blobs(&bucket, Clock::system())?))
    }
}

fn code(e: impl ProvideErrorMetadata) -> Unmet {
    Unmet::Broken(e.code().unwrap_or("no answer").to_owned())
}

#[async_trait]
impl Sqs for Outside {
    async fn create(&self, spec: Spec) -> Result<String, Unmet> {
        let mut request = self.sqs.create_queue().queue_name(name());
        let seconds = [
            (QueueAttributeName::VisibilityTimeout, spec.visibility),
            (QueueAttributeName::DelaySeconds, spec.delay),
            (QueueAttributeName::MessageRetentionPeriod, spec.retention),
        ];
        for (attribute, value) in seconds {
            if let Some(value) = value {
                request = request.attributes(attribute, value.to_string());
            }
        }
        if let Some((dead, receives)) = spec.dead_letters {
            let asked = self.sqs.get_queue_attributes().queue_url(dead).attribute_names(QueueAttributeName::QueueArn);
            let attributes = asked.send().await.map_err(code)?.attributes.unwrap_or_default();
            let arn = attributes.get(&QueueAttributeName::QueueArn).ok_or("the queue has no ARN")?;
            let policy = serde_json::json!({ "deadLetterTargetArn": arn, "maxReceiveCount": receives.to_string() });
            request = request.attributes(QueueAttributeName::RedrivePolicy, policy.to_string());
        }
        request.send().await.map_err(code)?.queue_url.ok_or_else(|| "the queue has no URL".into())
    }

    async fn send(&self, queue: &str, messages: &[(&str, Option<u64>)]) -> Result<Vec<bool>, Unmet> {
        if let [(body, delay)] = messages {
            let request = self.sqs.send_message().queue_url(queue).message_body(*body);
            let sent = request.set_delay_seconds(delay.map(|delay| delay as i32)).send().await;
            return match sent {
                Ok(_) => Ok(vec![true]),
                Err(e) if e.as_service_error().is_some() => Ok(vec![false]),
                Err(e) => Err(code(e)),
            };
        }
        let mut request = self.sqs.send_message_batch().queue_url(queue);
        for (n, (body, delay)) in messages.iter().enumerate() {
            let entry = SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(*body);
            request = request.entries(entry.set_delay_seconds(delay.map(|delay| delay as i32)).build()?);
        }
        let sent = request.send().await.map_err(code)?;
        let taken = |n: usize| sent.successful.iter().any(|entry| entry.id == n.to_string());
        Ok((0..messages.len()).map(taken).collect())
    }

    async fn receive(&self, queue: &str, max: usize, wait: u64) -> Result<Vec<Got>, Unmet> {
        let request = self.sqs.receive_message().queue_url(queue).max_number_of_messages(max as i32);
        let request = request.message_system_attribute_names(MessageSystemAttributeName::All);
        let came = request.wait_time_seconds(wait as i32).send().await.map_err(code)?.messages.unwrap_or_default();
        let got = came.into_iter().map(|message| {
            let attributes = message.attributes.unwrap_or_default();
            let number = |name| attributes.get(&name).and_then(|value| value.parse::<i64>().ok());
            Ok(Got {
                id: message.message_id.ok_or("no message ID")?,
                body: message.body.ok_or("no body")?,
                receipt: message.receipt_handle.ok_or("no receipt handle")?,
                receives: number(MessageSystemAttributeName::ApproximateReceiveCount).ok_or("no receive count")? as u32,
                sent_at: number(MessageSystemAttributeName::SentTimestamp).ok_or("no time of the send")?,
            })
        });
        got.collect()
    }

    async fn delete(&self, queue: &str, receipt: &str) -> Outcome {
        self.sqs.delete_message().queue_url(queue).receipt_handle(receipt).send().await.map(drop).map_err(code)
    }

    async fn hide(&self, queue: &str, receipt: &str, seconds: u64) -> Outcome {
        let request = self.sqs.change_message_visibility().queue_url(queue).receipt_handle(receipt);
        request.visibility_timeout(seconds as i32).send().await.map(drop).map_err(code)
    }

    async fn counts(&self, queue: &str) -> Result<[u64; 3], Unmet> {
        let asked = self.sqs.get_queue_attributes().queue_url(queue).attribute_names(QueueAttributeName::All);
        let attributes = asked.send().await.map_err(code)?.attributes.unwrap_or_default();
        let count = |name| attributes.get(&name).and_then(|value| value.parse().ok()).ok_or("a count is missing");
        Ok([
            count(QueueAttributeName::ApproximateNumberOfMessages)?,
            count(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)?,
            count(QueueAttributeName::ApproximateNumberOfMessagesDelayed)?,
        ])
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }
}
