//! Rules of SQS's calls that the queue seam has no words for, and that are asked of endpoints alone.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use futures::future::BoxFuture;

use super::case::{Case, Outcome, Unmet, cases, holds};

/// Asks a client about a new queue.
pub type Check = for<'a> fn((&'a Client, &'a str)) -> BoxFuture<'a, Outcome>;

const BATCH: &str = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html";
const RECEIVE: &str = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html";

fn entries(ids: &[&str]) -> Result<Vec<SendMessageBatchRequestEntry>, Unmet> {
    ids.iter().map(|id| Ok(SendMessageBatchRequestEntry::builder().id(*id).message_body("a").build()?)).collect()
}

async fn taken(sqs: &Client, queue: &str, ids: &[&str]) -> Result<bool, Unmet> {
    Ok(sqs.send_message_batch().queue_url(queue).set_entries(Some(entries(ids)?)).send().await.is_ok())
}

pub const CASES: &[Case<Check>] = cases![
    "sqs-calls/empty-batch", BATCH, "A batch without entries is refused.", |(sqs, queue)| {
        holds!(taken(sqs, queue, &[]).await?, false);
    }
    "sqs-calls/batch-of-eleven", BATCH, "A batch of more than ten entries is refused.", |(sqs, queue)| {
        holds!(taken(sqs, queue, &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]).await?, false);
    }
    "sqs-calls/distinct-ids", BATCH, "A batch with two entries of one Id is refused.", |(sqs, queue)| {
        holds!(taken(sqs, queue, &["0", "0"]).await?, false);
    }
    "sqs-calls/bad-entry-alone", BATCH, "An entry with a delay of over 15 minutes fails alone, and the others of its batch are taken.", |(sqs, queue)| {
        let mut entries = entries(&["good", "bad"])?;
        entries[1].delay_seconds = Some(901);
        let sent = sqs.send_message_batch().queue_url(queue).set_entries(Some(entries)).send().await;
        let sent = sent.map_err(|_| "the whole batch is refused")?;
        let ids: Vec<&str> = sent.successful.iter().map(|entry| entry.id.as_str()).collect();
        holds!((ids, sent.failed.len()), (vec!["good"], 1));
    }
    "sqs-calls/receive-of-eleven", RECEIVE, "A receive that asks for more than ten messages is refused.", |(sqs, queue)| {
        holds!(sqs.receive_message().queue_url(queue).max_number_of_messages(11).send().await.is_ok(), false);
    }
];
