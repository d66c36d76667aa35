//! Rules of SQS's standard queues, on the embedded queue and on any endpoint that speaks SQS.

use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;

use super::case::{Case, Outcome, Unmet, cases, holds};

/// How a queue is made; what is `None` has SQS's default.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    pub visibility: Option<u64>,
    pub delay: Option<u64>,
    pub retention: Option<u64>,
    /// The dead-letter queue and `maxReceiveCount`.
    pub dead_letters: Option<(String, u32)>,
}

#[derive(Debug, Clone)]
pub struct Got {
    pub id: String,
    pub body: String,
    pub receipt: String,
    pub receives: u32,
    /// Milliseconds since 1970.
    pub sent_at: i64,
}

/// A service of queues, with times in seconds.
#[async_trait]
pub trait Sqs: Send + Sync {
    async fn create(&self, spec: Spec) -> Result<String, Unmet>;
    /// Bodies with their delays, in one call; whether each was taken.
    async fn send(&self, queue: &str, messages: &[(&str, Option<u64>)]) -> Result<Vec<bool>, Unmet>;
    async fn receive(&self, queue: &str, max: usize, wait: u64) -> Result<Vec<Got>, Unmet>;
    /// Fails when the request is refused.
    async fn delete(&self, queue: &str, receipt: &str) -> Outcome;
    async fn hide(&self, queue: &str, receipt: &str, seconds: u64) -> Outcome;
    /// Messages that are visible, in flight, delayed.
    async fn counts(&self, queue: &str) -> Result<[u64; 3], Unmet>;
    /// Lets time pass.
    async fn pass(&self, time: Duration);
    /// Milliseconds since 1970.
    fn now(&self) -> i64;
}

pub type Check = for<'a> fn(&'a dyn Sqs) -> BoxFuture<'a, Outcome>;

const RECEIVE: &str = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html";
const SEND: &str = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html";
const BATCH: &str = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html";
const DELETE: &str = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html";
const CHANGE: &str =
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html";
const COUNTS: &str =
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html";
const CREATE: &str = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html";
const VISIBILITY: &str =
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html";
const IDENTIFIERS: &str =
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-queue-message-identifiers.html";
const DELAYS: &str = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-delay-queues.html";
const TIMERS: &str =
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-timers.html";
const DEAD: &str =
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html";
const POLLING: &str =
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html";
const QUOTAS: &str = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html";

/// What endpoints are late by.
const LATE: Duration = Duration::from_millis(1_500);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn bodies(got: &[Got]) -> Vec<&str> {
    got.iter().map(|got| got.body.as_str()).collect()
}

/// A queue with this visibility and one message, and the message as it is received first.
async fn received(sqs: &dyn Sqs, spec: Spec) -> Result<(String, Got), Unmet> {
    let queue = sqs.create(spec).await?;
    holds!(sqs.send(&queue, &[("a", None)]).await?, [true]);
    let mut got = sqs.receive(&queue, 1, 2).await?;
    let first = got.pop().ok_or("nothing was received")?;
    Ok((queue, first))
}

fn visible_after(seconds: u64) -> Spec {
    Spec { visibility: Some(seconds), ..Spec::default() }
}

async fn with_dead_letters(sqs: &dyn Sqs, receives: u32) -> Result<(String, String), Unmet> {
    let dead = sqs.create(Spec::default()).await?;
    let own = sqs.create(Spec { dead_letters: Some((dead.clone(), receives)), ..visible_after(1) }).await?;
    holds!(sqs.send(&own, &[("a", None)]).await?, [true]);
    Ok((own, dead))
}

pub const CASES: &[Case<Check>] = cases![
    "sqs/sent-is-received", RECEIVE, "A receive returns the body of a message that was sent.", |sqs| {
        let (_, got) = received(sqs, Spec::default()).await?;
        holds!(got.body, "a");
    }
    "sqs/unicode", QUOTAS, "A body may hold tabs, line ends and any character of XML beyond ASCII.", |sqs| {
        let queue = sqs.create(Spec::default()).await?;
        let body = "\t\n\r \"<&>' é 🔥 \u{FFFD}";
        holds!(sqs.send(&queue, &[(body, None)]).await?, [true]);
        let got = sqs.receive(&queue, 1, 2).await?;
        holds!(bodies(&got), [body]);
    }
    "sqs/hidden-after-receive", VISIBILITY, "A received message stays in its queue and is hidden from other receives.", |sqs| {
        let (queue, _) = received(sqs, visible_after(20)).await?;
        holds!(sqs.receive(&queue, 10, 0).await?.len(), 0);
        holds!(sqs.counts(&queue).await?.iter().sum::<u64>(), 1);
    }
    "sqs/visible-again", VISIBILITY, "A message that is not deleted within its visibility timeout can be received again.", |sqs| {
        let (queue, _) = received(sqs, visible_after(1)).await?;
        sqs.pass(seconds(1) + LATE).await;
        let got = sqs.receive(&queue, 10, 0).await?;
        holds!(bodies(&got), ["a"]);
    }
    "sqs/visibility-from-receive", VISIBILITY, "The visibility timeout begins when the message is returned, not when it was sent.", |sqs| {
        let queue = sqs.create(visible_after(3)).await?;
        holds!(sqs.send(&queue, &[("a", None)]).await?, [true]);
        sqs.pass(seconds(2)).await;
        holds!(sqs.receive(&queue, 1, 1).await?.len(), 1);
        sqs.pass(seconds(2)).await;
        holds!(sqs.receive(&queue, 1, 0).await?.len(), 0);
    }
    "sqs/default-visibility", VISIBILITY, "A queue that says nothing of it hides a received message for 30 seconds.", |sqs| {
        let (queue, _) = received(sqs, Spec::default()).await?;
        sqs.pass(seconds(28)).await;
        holds!(sqs.receive(&queue, 1, 0).await?.len(), 0);
        sqs.pass(seconds(2) + LATE).await;
        holds!(sqs.receive(&queue, 1, 0).await?.len(), 1);
    }
    "sqs/message-id-stays", IDENTIFIERS, "The message ID names the message, not the receive: it is the same each time.", |sqs| {
        let (queue, first) = received(sqs, visible_after(1)).await?;
        sqs.pass(seconds(1) + LATE).await;
        let again = sqs.receive(&queue, 1, 1).await?.pop().ok_or("it does not come again")?;
        holds!(again.id, first.id);
    }
    "sqs/message-id-length", IDENTIFIERS, "A message ID has at most 100 characters, a receipt handle at most 1,024.", |sqs| {
        let (_, got) = received(sqs, Spec::default()).await?;
        holds!((1..=100).contains(&got.id.len()) && (1..=1024).contains(&got.receipt.len()));
    }
    "sqs/receipt-differs", IDENTIFIERS, "Each receive of a message gives another receipt handle.", |sqs| {
        let (queue, first) = received(sqs, visible_after(1)).await?;
        sqs.pass(seconds(1) + LATE).await;
        let again = sqs.receive(&queue, 1, 1).await?.pop().ok_or("it does not come again")?;
        holds!(again.receipt != first.receipt);
    }
    "sqs/ids-are-unique", SEND, "Two messages with the same body are two messages, each with an ID of its own.", |sqs| {
        let queue = sqs.create(Spec::default()).await?;
        holds!(sqs.send(&queue, &[("a", None), ("a", None)]).await?, [true, true]);
        let mut got = sqs.receive(&queue, 10, 1).await?;
        if got.len() == 1 {
            got.extend(sqs.receive(&queue, 10, 1).await?);
        }
        holds!(got.len() == 2 && got[0].id != got[1].id);
    }
    "sqs/first-receive-counts-one", RECEIVE, "ApproximateReceiveCount of a first receive is 1.", |sqs| {
        let (_, got) = received(sqs, Spec::default()).await?;
        holds!(got.receives, 1);
    }
    "sqs/receive-count-grows", RECEIVE, "ApproximateReceiveCount counts the receives that were not followed by a deletion.", |sqs| {
        let (queue, mut got) = received(sqs, visible_after(60)).await?;
        for receives in 2..=4 {
            sqs.hide(&queue, &got.receipt, 0).await?;
            got = sqs.receive(&queue, 1, 2).await?.pop().ok_or("it does not come again")?;
            holds!(got.receives, receives);
        }
    }
    "sqs/sent-timestamp", RECEIVE, "SentTimestamp is the time of the send in milliseconds since 1970.", |sqs| {
        let (_, got) = received(sqs, Spec::default()).await?;
        holds!((sqs.now() - got.sent_at).abs() < 10_000);
    }
    "sqs/sent-timestamp-stays", RECEIVE, "SentTimestamp is the same at each receive.", |sqs| {
        let (queue, first) = received(sqs, visible_after(1)).await?;
        sqs.pass(seconds(1) + LATE).await;
        let again = sqs.receive(&queue, 1, 1).await?.pop().ok_or("it does not come again")?;
        holds!(again.sent_at, first.sent_at);
    }
    "sqs/deleted-is-gone", DELETE, "A deleted message is not received again.", |sqs| {
        let (queue, got) = received(sqs, visible_after(1)).await?;
        sqs.delete(&queue, &got.receipt).await?;
        sqs.pass(seconds(1) + LATE).await;
        holds!(sqs.receive(&queue, 10, 0).await?.len(), 0);
    }
    "sqs/delete-after-visibility", DELETE, "A message whose visibility timeout is over can still be deleted by its last receipt handle.", |sqs| {
        let (queue, got) = received(sqs, visible_after(1)).await?;
        sqs.pass(seconds(1) + LATE).await;
        sqs.delete(&queue, &got.receipt).await?;
        holds!(sqs.receive(&queue, 10, 1).await?.len(), 0);
    }
    "sqs/delete-with-older-receipt", DELETE, "A deletion by an older receipt handle succeeds and deletes nothing.", |sqs| {
        let (queue, first) = received(sqs, visible_after(1)).await?;
        sqs.pass(seconds(1) + LATE).await;
        holds!(sqs.receive(&queue, 1, 1).await?.len(), 1);
        sqs.delete(&queue, &first.receipt).await?;
        sqs.pass(seconds(1) + LATE).await;
        holds!(sqs.receive(&queue, 1, 1).await?.len(), 1);
    }
    "sqs/delete-one-of-many", DELETE, "A deletion takes away the message of its receipt handle and no other.", |sqs| {
        let queue = sqs.create(visible_after(1)).await?;
        holds!(sqs.send(&queue, &[("a", None), ("b", None)]).await?, [true, true]);
        let got = sqs.receive(&queue, 1, 1).await?;
        let other = if got[0].body == "a" { "b" } else { "a" };
        sqs.delete(&queue, &got[0].receipt).await?;
        sqs.pass(seconds(1) + LATE).await;
        let left = sqs.receive(&queue, 10, 1).await?;
        holds!(bodies(&left), [other]);
    }
    "sqs/extended", CHANGE, "A longer visibility timeout keeps the message hidden beyond the queue's own.", |sqs| {
        let (queue, got) = received(sqs, visible_after(1)).await?;
        sqs.hide(&queue, &got.receipt, 6).await?;
        sqs.pass(seconds(1) + LATE).await;
        holds!(sqs.receive(&queue, 10, 0).await?.len(), 0);
        sqs.pass(seconds(4) + LATE).await;
        holds!(sqs.receive(&queue, 10, 1).await?.len(), 1);
    }
    "sqs/shortened", CHANGE, "A shorter visibility timeout counts from the change, and does not add to what is left.", |sqs| {
        let (queue, got) = received(sqs, visible_after(60)).await?;
        sqs.hide(&queue, &got.receipt, 1).await?;
        sqs.pass(seconds(1) + LATE).await;
        holds!(sqs.receive(&queue, 10, 0).await?.len(), 1);
    }
    "sqs/ended-visibility", VISIBILITY, "A visibility timeout of 0 makes the message visible at once.", |sqs| {
        let (queue, got) = received(sqs, visible_after(60)).await?;
        sqs.hide(&queue, &got.receipt, 0).await?;
        holds!(sqs.receive(&queue, 10, 1).await?.len(), 1);
    }
    "sqs/extension-is-once", CHANGE, "A change of visibility holds for this receive; the next one has the queue's timeout again.", |sqs| {
        let (queue, got) = received(sqs, visible_after(1)).await?;
        sqs.hide(&queue, &got.receipt, 2).await?;
        sqs.pass(seconds(2) + LATE).await;
        holds!(sqs.receive(&queue, 1, 1).await?.len(), 1);
        sqs.pass(seconds(1) + LATE).await;
        holds!(sqs.receive(&queue, 1, 0).await?.len(), 1);
    }
    "sqs/message-timer", TIMERS, "A message that is sent with a delay is not received before it has passed.", |sqs| {
        let queue = sqs.create(Spec::default()).await?;
        holds!(sqs.send(&queue, &[("a", Some(2))]).await?, [true]);
        holds!(sqs.receive(&queue, 10, 0).await?.len(), 0);
        sqs.pass(seconds(2) + LATE).await;
        holds!(sqs.receive(&queue, 10, 0).await?.len(), 1);
    }
    "sqs/delay-queue", DELAYS, "A queue's delay hides each new message for as long.", |sqs| {
        let queue = sqs.create(Spec { delay: Some(2), ..Spec::default() }).await?;
        holds!(sqs.send(&queue, &[("a", None)]).await?, [true]);
        holds!(sqs.receive(&queue, 10, 0).await?.len(), 0);
        sqs.pass(seconds(2) + LATE).await;
        holds!(sqs.receive(&queue, 10, 0).await?.len(), 1);
    }
    "sqs/timer-over-queue", TIMERS, "A message's own delay takes the place of its queue's.", |sqs| {
        let queue = sqs.create(Spec { delay: Some(60), ..Spec::default() }).await?;
        holds!(sqs.send(&queue, &[("a", Some(1))]).await?, [true]);
        sqs.pass(seconds(1) + LATE).await;
        holds!(sqs.receive(&queue, 10, 0).await?.len(), 1);
    }
    "sqs/delays-of-a-batch", BATCH, "Entries of a batch have a delay each.", |sqs| {
        let queue = sqs.create(Spec::default()).await?;
        holds!(sqs.send(&queue, &[("late", Some(30)), ("now", None)]).await?, [true, true]);
        let got = sqs.receive(&queue, 10, 1).await?;
        holds!(bodies(&got), ["now"]);
    }
    "sqs/no-delay-after-receive", DELAYS, "A delay hides a message when it is sent; a visibility timeout after it was received.", |sqs| {
        let queue = sqs.create(Spec { delay: Some(3), ..visible_after(1) }).await?;
        holds!(sqs.send(&queue, &[("a", None)]).await?, [true]);
        sqs.pass(seconds(3) + LATE).await;
        holds!(sqs.receive(&queue, 1, 1).await?.len(), 1);
        sqs.pass(seconds(1) + LATE).await;
        holds!(sqs.receive(&queue, 1, 0).await?.len(), 1);
    }
    "sqs/short-poll", POLLING, "A receive without a wait answers at once, also when it found nothing.", |sqs| {
        let queue = sqs.create(Spec::default()).await?;
        let begun = sqs.now();
        holds!(sqs.receive(&queue, 10, 0).await?.len(), 0);
        holds!(sqs.now() - begun < 1_500);
    }
    "sqs/long-poll-empty", POLLING, "A long poll answers with nothing only when its wait is over.", |sqs| {
        let queue = sqs.create(Spec::default()).await?;
        let begun = sqs.now();
        holds!(sqs.receive(&queue, 10, 2).await?.len(), 0);
        holds!(sqs.now() - begun >= 1_900);
    }
    "sqs/long-poll-arrival", POLLING, "A long poll returns a message as soon as it becomes available.", |sqs| {
        let queue = sqs.create(Spec::default()).await?;
        let begun = sqs.now();
        let send = async {
            sqs.pass(seconds(1)).await;
            sqs.send(&queue, &[("a", None)]).await
        };
        let (got, sent) = tokio::join!(sqs.receive(&queue, 10, 10), send);
        holds!(sent?, [true]);
        holds!(got?.len(), 1);
        holds!(sqs.now() - begun < 5_000);
    }
    "sqs/long-poll-delay", POLLING, "A long poll returns a message whose delay ends within its wait.", |sqs| {
        let queue = sqs.create(Spec::default()).await?;
        holds!(sqs.send(&queue, &[("a", Some(1))]).await?, [true]);
        holds!(sqs.receive(&queue, 10, 6).await?.len(), 1);
    }
    "sqs/long-poll-visibility", POLLING, "A long poll returns a message whose visibility timeout ends within its wait.", |sqs| {
        let (queue, _) = received(sqs, visible_after(1)).await?;
        holds!(sqs.receive(&queue, 10, 6).await?.len(), 1);
    }
    "sqs/ten-at-most", RECEIVE, "A receive returns ten messages at most.", |sqs| {
        let queue = sqs.create(Spec::default()).await?;
        for _ in 0..2 {
            holds!(sqs.send(&queue, &[("a", None); 10]).await?, [true; 10]);
        }
        // AWS refuses to be asked for more; this host's queue gives ten.
        if let Ok(got) = sqs.receive(&queue, 20, 1).await {
            holds!((1..=10).contains(&got.len()));
        }
        holds!((1..=10).contains(&sqs.receive(&queue, 10, 1).await?.len()));
    }
    "sqs/no-more-than-asked", RECEIVE, "A receive returns no more messages than it asked for.", |sqs| {
        let queue = sqs.create(Spec::default()).await?;
        holds!(sqs.send(&queue, &[("a", None); 10]).await?, [true; 10]);
        let got = sqs.receive(&queue, 3, 1).await?.len();
        holds!((1..=3).contains(&got));
    }
    "sqs/batch-of-ten", BATCH, "A batch of ten messages is taken, each with an outcome of its own.", |sqs| {
        let queue = sqs.create(Spec::default()).await?;
        holds!(sqs.send(&queue, &[("a", None); 10]).await?, [true; 10]);
        holds!(sqs.counts(&queue).await?[0], 10);
    }
    "sqs/largest-message", QUOTAS, "A message of 1 MiB is taken.", |sqs| {
        let queue = sqs.create(Spec::default()).await?;
        let body = "x".repeat(1024 * 1024);
        holds!(sqs.send(&queue, &[(&body, None)]).await?, [true]);
        let got = sqs.receive(&queue, 1, 2).await?;
        holds!(got.len() == 1 && got[0].body == body);
    }
    "sqs/too-large", QUOTAS, "A message of more than 1 MiB is refused.", |sqs| {
        let queue = sqs.create(Spec::default()).await?;
        let body = "x".repeat(1024 * 1024 + 1);
        holds!(sqs.send(&queue, &[(&body, None)]).await?, [false]);
        holds!(sqs.counts(&queue).await?, [0, 0, 0]);
    }
    "sqs/counts-visible", COUNTS, "ApproximateNumberOfMessages counts what a receive could return.", |sqs| {
        let queue = sqs.create(Spec::default()).await?;
        holds!(sqs.send(&queue, &[("a", None); 3]).await?, [true; 3]);
        holds!(sqs.counts(&queue).await?, [3, 0, 0]);
    }
    "sqs/counts-in-flight", COUNTS, "ApproximateNumberOfMessagesNotVisible counts what was received and neither deleted nor is visible again.", |sqs| {
        let (queue, got) = received(sqs, visible_after(60)).await?;
        holds!(sqs.counts(&queue).await?, [0, 1, 0]);
        sqs.delete(&queue, &got.receipt).await?;
        holds!(sqs.counts(&queue).await?, [0, 0, 0]);
    }
    "sqs/counts-delayed", COUNTS, "ApproximateNumberOfMessagesDelayed counts what is not visible yet because of a delay.", |sqs| {
        let queue = sqs.create(Spec::default()).await?;
        holds!(sqs.send(&queue, &[("a", Some(60)), ("b", None)]).await?, [true; 2]);
        holds!(sqs.counts(&queue).await?, [1, 0, 1]);
    }
    "sqs/counts-after-visibility", COUNTS, "A message whose visibility timeout is over counts as visible again.", |sqs| {
        let (queue, _) = received(sqs, visible_after(1)).await?;
        sqs.pass(seconds(1) + LATE).await;
        holds!(sqs.counts(&queue).await?, [1, 0, 0]);
    }
    "sqs/redrive", DEAD, "A message that was received more often than maxReceiveCount goes to the dead-letter queue.", |sqs| {
        let (own, dead) = with_dead_letters(sqs, 1).await?;
        holds!(sqs.receive(&own, 1, 2).await?.len(), 1);
        sqs.pass(seconds(1) + LATE).await;
        holds!(sqs.receive(&own, 1, 1).await?.len(), 0);
        let letters = sqs.receive(&dead, 1, 2).await?;
        holds!(bodies(&letters), ["a"]);
    }
    "sqs/redrive-not-before", DEAD, "A message is received maxReceiveCount times before it goes there.", |sqs| {
        let (own, dead) = with_dead_letters(sqs, 3).await?;
        for receives in 1..=3 {
            let got = sqs.receive(&own, 1, 2).await?.pop().ok_or("it is not received as often as that")?;
            holds!(got.receives, receives);
            sqs.hide(&own, &got.receipt, 0).await?;
        }
        holds!(sqs.receive(&own, 1, 1).await?.len(), 0);
        holds!(sqs.receive(&dead, 1, 2).await?.len(), 1);
    }
    "sqs/redrive-deleted", DEAD, "A message that was deleted at its last receive does not become a dead letter.", |sqs| {
        let (own, dead) = with_dead_letters(sqs, 1).await?;
        let got = sqs.receive(&own, 1, 2).await?.pop().ok_or("nothing was received")?;
        sqs.delete(&own, &got.receipt).await?;
        sqs.pass(seconds(1) + LATE).await;
        holds!(sqs.receive(&own, 1, 0).await?.len() + sqs.receive(&dead, 1, 0).await?.len(), 0);
    }
    "sqs/redrive-keeps-its-age", DEAD, "A dead letter of a standard queue keeps the time at which it was first sent.", |sqs| {
        let (own, dead) = with_dead_letters(sqs, 1).await?;
        let got = sqs.receive(&own, 1, 2).await?.pop().ok_or("nothing was received")?;
        sqs.pass(seconds(1) + LATE).await;
        holds!(sqs.receive(&own, 1, 0).await?.len(), 0);
        let letter = sqs.receive(&dead, 1, 2).await?.pop().ok_or("there is no dead letter")?;
        holds!(letter.sent_at, got.sent_at);
    }
    "sqs/retention", CREATE, "A message that is older than MessageRetentionPeriod is deleted.", |sqs| {
        let queue = sqs.create(Spec { retention: Some(60), ..Spec::default() }).await?;
        holds!(sqs.send(&queue, &[("a", None)]).await?, [true]);
        sqs.pass(seconds(62) + LATE).await;
        holds!(sqs.receive(&queue, 1, 0).await?.len(), 0);
    }
    "sqs/retention-not-before", CREATE, "A message is kept as long as MessageRetentionPeriod says.", |sqs| {
        let queue = sqs.create(Spec { retention: Some(60), ..Spec::default() }).await?;
        holds!(sqs.send(&queue, &[("a", None)]).await?, [true]);
        sqs.pass(seconds(50)).await;
        holds!(sqs.receive(&queue, 1, 0).await?.len(), 1);
    }
];
