//! The queues, tables and buckets that the laws run on: made for one test each on the AWS endpoint, under a name that no
//! other test or run has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use streammanager::aws::{Aws, DynamoStore, QueueShape, S3Blobs, TableShape};
use streammanager::blobs;
use streammanager::queue::{self, Queue, QueueRef};
use streammanager::store::{self, Store};
use streammanager::time::{Clock, Rng};
use streammanager_tests::endpoints::Endpoint;

pub const REGION: &str = "us-west-2";

/// `None`, and said so: the endpoint does not run.
pub async fn connect(at: Endpoint, what: &str) -> Option<Aws> {
    Some(Aws::connect(Some(&at.url_for(what)?), REGION).await)
}

/// A name for `law` that is used once, short and plain enough for queues, tables and buckets.
pub fn name(law: &str) -> String {
    static USED: AtomicU64 = AtomicU64::new(0);
    let plain: String = law.replace('_', "-").chars().take(40).collect();
    // Runs on one endpoint have other process ids, or come later.
    let run = Clock::system().now().as_second() % 1_000_000;
    format!("{}-{run}-{}-{}", plain.trim_end_matches('-'), std::process::id(), USED.fetch_add(1, Ordering::Relaxed))
}

/// As the laws want their queues.
pub fn shape(name: &str) -> QueueShape<'_> {
    QueueShape {
        name,
        visibility: queue::conformance::VISIBILITY,
        delay: Duration::ZERO,
        retention: Duration::from_secs(3600),
        dead_letters: None,
    }
}

pub struct Queues {
    aws: Aws,
    refs: BTreeMap<&'static str, QueueRef>,
}

impl Queues {
    pub async fn new(at: Endpoint, law: &str) -> Option<Queues> {
        let aws = connect(at, &format!("{law} on SQS")).await?;
        let specs = queue::conformance::specs();
        let spec = specs.iter().find(|spec| spec.name == law).unwrap();
        let mut refs = BTreeMap::new();
        let mut redrive = None;
        if let Some((dead, receives)) = spec.dead_letters {
            let (at, _) = aws.make_queue(&shape(&name(&format!("{law}-dead")))).await.unwrap();
            refs.insert(dead, at.clone());
            redrive = Some((at, receives));
        }
        let own = name(law);
        let dead_letters = redrive.as_ref().map(|(at, receives)| (at, *receives));
        let (own, _) = aws.make_queue(&QueueShape { dead_letters, ..shape(&own) }).await.unwrap();
        refs.insert(spec.name, own);
        Some(Queues { aws, refs })
    }

    pub async fn keep(&self, law: for<'a> fn(&'a dyn queue::conformance::TestQueues) -> queue::conformance::Run<'a>) {
        law(self).await;
    }
}

#[async_trait]
impl queue::conformance::TestQueues for Queues {
    fn queue(&self) -> Arc<dyn Queue> {
        Arc::new(self.aws.queue())
    }

    fn at(&self, name: &str) -> QueueRef {
        self.refs[name].clone()
    }

    fn fences(&self) -> bool {
        false
    }

    /// SQS's counts are right a minute after the last change, as its documentation has it.
    fn counts_within(&self) -> Duration {
        Duration::from_secs(90)
    }
}

pub struct Tables {
    aws: Aws,
    table: String,
}

impl Tables {
    pub async fn new(at: Endpoint, law: &str) -> Option<Tables> {
        let aws = connect(at, &format!("{law} on DynamoDB")).await?;
        let table = name(law);
        let shape = TableShape { name: &table, partition_key: "pk", sort_key: Some("sk"), expires: Some("expires") };
        aws.make_table(&shape).await.unwrap();
        Some(Tables { aws, table })
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    pub fn store(&self) -> DynamoStore {
        self.aws.store(&self.table, Clock::system(), Rng::from_os().unwrap())
    }

    pub async fn keep(&self, law: for<'a> fn(&'a dyn store::conformance::TestStores) -> store::conformance::Run<'a>) {
        law(self).await;
    }
}

#[async_trait]
impl store::conformance::TestStores for Tables {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(Tables::store(self))
    }

    fn clock(&self) -> Clock {
        Clock::system()
    }
}

pub struct Buckets {
    blobs: S3Blobs,
    salt: String,
}

impl Buckets {
    pub async fn new(at: Endpoint, law: &str) -> Option<Buckets> {
        let aws = connect(at, &format!("{law} on S3")).await?;
        let bucket = name(law);
        aws.make_bucket(&bucket, Clock::system()).await.unwrap();
        Some(Buckets { blobs: aws.blobs(&bucket, Clock::system()).unwrap(), salt: bucket })
    }

    pub async fn keep(&self, law: for<'a> fn(&'a dyn blobs::Blobs, &'a str) -> blobs::conformance::Run<'a>) {
        law(&self.blobs, &self.salt).await;
    }
}
