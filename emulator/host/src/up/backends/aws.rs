//! Queues, state and stored bytes on an AWS endpoint, under the template's names; what it declares is made if it is absent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use streammanager::aws::{Aws, QueueShape, SqsQueue, TableShape};
use streammanager::embedded::Embedded;
use streammanager::error::BackendError;
use streammanager::limits::QUEUE_CAPACITY;
use streammanager::queue::{Body, Delivery, Depth, Message, Queue, QueueRef, Receipt, Remains, SendError, Settle};
use streammanager::time::{Clock, Rng};

use super::{Backends, OnAws};
use crate::exit::Failure;
use crate::host::region;
use crate::template::Template;

pub(super) async fn open(
    url: &str,
    folder: Embedded,
    template: &Template,
    clock: &Clock,
    rng: &Rng,
) -> Result<Backends, Failure> {
    let region = region();
    let away = |e| Failure::new(format!("--aws {url} cannot be used, with AWS_REGION {region}: {e}"));
    let aws = Aws::connect(Some(url), &region).await;
    let (urls, differs) = make_queues(&aws, template).await.map_err(away)?;
    make_tables_and_buckets(&aws, template, clock).await.map_err(away)?;
    let (table, bucket) = (named(template, "STATE_TABLE")?, named(template, "BLOBS_BUCKET")?);
    Ok(Backends {
        place: format!("{url} in {region}: {} queues, table {table}, bucket {bucket}", urls.len()),
        queue: Arc::new(ByName {
            urls: urls.clone(),
            sqs: aws.queue().bounded(QUEUE_CAPACITY),
            folder: folder.clone(),
        }),
        store: Arc::new(aws.store(table, clock.clone(), rng.clone())),
        blobs: Arc::new(aws.blobs(bucket, clock.clone())?),
        folder,
        differs,
        shared: true,
        aws: Some(OnAws { url: url.to_owned(), region, queues: urls }),
    })
}

/// The template's queues at SQS, by the names that functions have for them in their environment; any other queue is this
/// host's own.
struct ByName {
    urls: BTreeMap<QueueRef, QueueRef>,
    sqs: SqsQueue,
    folder: Embedded,
}

impl ByName {
    fn at<'a>(&'a self, queue: &'a QueueRef) -> (&'a dyn Queue, &'a QueueRef) {
        match self.urls.get(queue) {
            Some(url) => (&self.sqs, url),
            None => (&self.folder, queue),
        }
    }
}

#[async_trait]
impl Queue for ByName {
    async fn send(&self, to: &QueueRef, messages: &[Message]) -> Result<Vec<Result<(), SendError>>, BackendError> {
        let (queue, to) = self.at(to);
        queue.send(to, messages).await
    }

    async fn receive(&self, from: &QueueRef, max: usize, wait: Duration) -> Result<Vec<Delivery>, BackendError> {
        let (queue, from) = self.at(from);
        queue.receive(from, max, wait).await
    }

    fn end_waits(&self, from: &QueueRef) {
        let (queue, from) = self.at(from);
        queue.end_waits(from);
    }

    async fn settle(&self, from: &QueueRef, receipts: &[(Receipt, Settle)]) -> Result<(), BackendError> {
        let (queue, from) = self.at(from);
        queue.settle(from, receipts).await
    }

    async fn replace(&self, from: &QueueRef, receipt: &Receipt, remainder: Body) -> Result<Remains, BackendError> {
        let (queue, from) = self.at(from);
        queue.replace(from, receipt, remainder).await
    }

    async fn depth(&self, of: &QueueRef) -> Result<Depth, BackendError> {
        let (queue, of) = self.at(of);
        queue.depth(of).await
    }

    /// Asynchronous invocations stay on this host's disk.
    fn closed(&self) -> Option<String> {
        self.folder.closed()
    }

    fn counts_lag(&self) -> Duration {
        self.sqs.counts_lag()
    }
}

/// URLs by local name, and what differs. A dead-letter queue comes before the queues that name it.
async fn make_queues(
    aws: &Aws,
    template: &Template,
) -> Result<(BTreeMap<QueueRef, QueueRef>, Vec<String>), BackendError> {
    let (mut urls, mut differs) = (BTreeMap::new(), Vec::new());
    let local = |name: &str| QueueRef::new(&format!("local:{name}"));
    let mut missing: Vec<_> = template.queues.iter().collect();
    while !missing.is_empty() {
        let before = missing.len();
        for queue in std::mem::take(&mut missing) {
            let dead_letters = match &queue.dead_letter {
                None => None,
                Some(dead) => match urls.get(&local(&dead.queue)) {
                    Some(url) => Some((url, dead.max_receives)),
                    None => {
                        missing.push(queue);
                        continue;
                    }
                },
            };
            let shape = QueueShape {
                name: &queue.name,
                visibility: queue.visibility,
                delay: queue.delay,
                retention: queue.retention,
                dead_letters,
            };
            let (url, found) = aws.make_queue(&shape).await?;
            differs.extend(found.into_iter().map(|clause| format!("queue {}: {clause}", queue.name)));
            urls.insert(QueueRef::new(&queue.url()), url);
        }
        if missing.len() == before {
            let names: Vec<&str> = missing.iter().map(|queue| queue.name.as_str()).collect();
            let text = format!("the dead letters of {} go round in a circle", names.join(", "));
            return Err(BackendError::Fatal(text));
        }
    }
    Ok((urls, differs))
}

async fn make_tables_and_buckets(aws: &Aws, template: &Template, clock: &Clock) -> Result<(), BackendError> {
    for table in &template.tables {
        let shape = TableShape {
            name: &table.name,
            partition_key: &table.partition_key,
            sort_key: table.sort_key.as_deref(),
            expires: table.expires.as_deref(),
        };
        aws.make_table(&shape).await?;
    }
    for bucket in &template.buckets {
        aws.make_bucket(&bucket.name, clock.clone()).await?;
    }
    Ok(())
}

/// As the Lambda binaries find it: in their environment.
fn named<'a>(template: &'a Template, variable: &str) -> Result<&'a str, Failure> {
    let named = template.functions.iter().find_map(|function| function.environment.get(variable));
    named
        .map(String::as_str)
        .ok_or_else(|| Failure::new(format!("template: no function has {variable} in its environment")))
}
