//! What AWS's failures mean to the caller: what may pass by itself is `Retry`, wrong configuration is `Fatal`, a lost answer
//! is no conflict, and of a batch only what failed is told as failed.

use std::time::Duration;

use bytes::Bytes;
use streammanager::aws::Aws;
use streammanager::blobs::{BlobRef, Blobs};
use streammanager::error::BackendError;
use streammanager::queue::{Body, Message, Queue, QueueRef, Receipt, SendError, Settle};
use streammanager::store::{Expect, Key, PutError, Store};
use streammanager::time::{Clock, Rng};
use streammanager_tests::endpoints::Endpoint;

use super::stub::{Answer, Stub};
use super::worlds::{REGION, Tables, connect, name};

/// Tries of one call (shared/src/aws.rs).
const TRIES: usize = 3;

fn message(text: &str) -> Message {
    Message::now(Body::Text(text.into()))
}

/// One call of every kind on every seam, with what it was.
async fn calls(aws: &Aws, queue: &QueueRef, table: &str, bucket: &str) -> Vec<(&'static str, BackendError)> {
    let store = aws.store(table, Clock::system(), Rng::from_os().unwrap());
    let (blobs, sqs) = (aws.blobs(bucket, Clock::system()).unwrap(), aws.queue());
    let key = Key::new("p", "k");
    let backend = |e| match e {
        PutError::Backend(e) => e,
        e => panic!("{e:?}"),
    };
    let receipts = [(Receipt("r".into()), Settle::Forget), (Receipt("s".into()), Settle::Release)];
    vec![
        ("send", sqs.send(queue, &[message("m")]).await.unwrap_err()),
        ("receive", sqs.receive(queue, 1, Duration::ZERO).await.unwrap_err()),
        ("settle", sqs.settle(queue, &receipts).await.unwrap_err()),
        ("depth", sqs.depth(queue).await.unwrap_err()),
        ("get", store.get(&key).await.unwrap_err()),
        ("list", store.list("p", "", None, 10).await.unwrap_err()),
        ("put_if", backend(store.put_if(&key, Bytes::new(), Expect::Absent, None).await.unwrap_err())),
        ("delete_if", backend(store.delete_if(&key, Expect::Any).await.unwrap_err())),
        ("put blob", blobs.put(Bytes::from_static(b"b")).await.unwrap_err()),
        ("get blob", blobs.get(&BlobRef::of(b"b")).await.unwrap_err()),
    ]
}

fn all_retry(failures: Vec<(&str, BackendError)>) {
    for (call, failure) in failures {
        assert!(matches!(failure, BackendError::Retry(_)), "{call}: {failure:?}");
    }
}

fn all_fatal(failures: Vec<(&str, BackendError)>, names: &str) {
    for (call, failure) in failures {
        assert!(matches!(&failure, BackendError::Fatal(text) if text.contains(names)), "{call}: {failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_queue_table_or_bucket_is_fatal_and_named() {
    let Some(aws) = connect(Endpoint::Ministack, "unknown queues, tables and buckets").await else { return };
    let unknown = name("unknown");
    let endpoint = streammanager_tests::aws().unwrap();
    let queue = QueueRef::new(&format!("{endpoint}/000000000000/{unknown}"));
    all_fatal(calls(&aws, &queue, &unknown, &unknown).await, &unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_down_is_tried_again() {
    let aws = Aws::connect(Some("http://127.0.0.1:1"), REGION).await;
    let failures = calls(&aws, &QueueRef::new("http://127.0.0.1:1/q"), "t", "b").await;
    assert!(failures[0].1.to_string().contains("http://127.0.0.1:1/q"), "{}", failures[0].1);
    all_retry(failures);
}

/// Status and body as AWS has them for JSON protocols and for S3's XML; the codes of a moment come with status 400 too.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_pass_is_tried_again_and_what_is_wrong_is_not() {
    let passes = [
        Answer::Says(400, r#"{"__type":"com.amazonaws.sqs#RequestThrottled","message":"slow down"}"#),
        Answer::Says(400, r#"{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"slow down"}"#),
        Answer::Says(400, r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}"#),
        Answer::Says(403, r#"{"__type":"ExpiredTokenException","message":"the credentials of this host are renewed"}"#),
        Answer::Says(503, "<Error><Code>SlowDown</Code><Message>slow down</Message></Error>"),
        Answer::Says(500, ""),
        Answer::Says(429, "from a proxy"),
    ];
    for passing in passes {
        let stub = Stub::answering(&[passing]).await;
        let failures = calls(&stub.aws, &QueueRef::new("q"), "t", "b").await;
        let only_json = matches!(passing, Answer::Says(_, body) if body.starts_with('{'));
        all_retry(failures.into_iter().filter(|(call, _)| !only_json || !call.ends_with("blob")).collect());
    }
    let wrong = [
        Answer::Says(400, r#"{"__type":"AccessDeniedException","message":"no"}"#),
        Answer::Says(403, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"),
        Answer::Says(400, r#"{"__type":"ValidationException","message":"no"}"#),
    ];
    for refusing in wrong {
        let stub = Stub::answering(&[refusing]).await;
        all_fatal(calls(&stub.aws, &QueueRef::new("q"), "t", "b").await, "");
        let asked = stub.asked().len();
        assert!(asked <= 11, "{asked} requests for 10 calls: what is wrong is not tried again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_call_is_tried_until_it_succeeds() {
    let throttled = Answer::Says(400, r#"{"__type":"com.amazonaws.sqs#RequestThrottled","message":"slow down"}"#);
    let taken = Answer::Says(200, r#"{"Successful":[{"Id":"0","MessageId":"m","MD5OfMessageBody":"x"}],"Failed":[]}"#);
    let stub = Stub::answering(&[throttled, throttled, taken]).await;
    assert_eq!(stub.aws.queue().send(&QueueRef::new("q"), &[message("m")]).await.unwrap(), [Ok(())]);
    assert_eq!(stub.asked().len(), TRIES);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_only_what_failed_is_told_as_failed() {
    let partly = Answer::Says(
        200,
        r#"{"Successful":[{"Id":"0","MessageId":"m","MD5OfMessageBody":"x"}],
            "Failed":[{"Id":"2","SenderFault":false,"Code":"InternalError","Message":"a bad moment"}]}"#,
    );
    let stub = Stub::answering(&[partly]).await;
    let outcomes = stub.aws.queue().send(&QueueRef::new("q"), &["a", "b", "c"].map(message)).await.unwrap();
    assert_eq!(outcomes[0], Ok(()));
    assert!(matches!(&outcomes[1], Err(SendError::Failed(_))), "the answer says nothing of it: {:?}", outcomes[1]);
    assert!(matches!(&outcomes[2], Err(SendError::Failed(text)) if text.contains("a bad moment")), "{:?}", outcomes[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_taken_before_one_fails_stand() {
    let first_ten = Answer::Says(
        200,
        r#"{"Successful":[{"Id":"0","MessageId":"m","MD5OfMessageBody":"x"},{"Id":"9","MessageId":"n","MD5OfMessageBody":"x"}],"Failed":[]}"#,
    );
    let stub = Stub::answering(&[first_ten, Answer::Says(500, "")]).await;
    let messages: Vec<Message> = (0..12).map(|n| message(&n.to_string())).collect();
    let outcomes = stub.aws.queue().send(&QueueRef::new("q"), &messages).await.unwrap();
    let taken: Vec<usize> = (0..12).filter(|at| outcomes[*at].is_ok()).collect();
    assert_eq!(taken, [0, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_sqs_could_not_settle_now_is_tried_again() {
    let later = Answer::Says(
        200,
        r#"{"Successful":[],"Failed":[{"Id":"0","SenderFault":false,"Code":"InternalError","Message":"a bad moment"}]}"#,
    );
    let stale = Answer::Says(
        200,
        r#"{"Successful":[],"Failed":[{"Id":"0","SenderFault":true,"Code":"ReceiptHandleIsInvalid","Message":"stale"}]}"#,
    );
    for what in [Settle::Forget, Settle::Release, Settle::Extend(Duration::from_secs(5))] {
        let receipts = [(Receipt("r".into()), what)];
        let failed = Stub::answering(&[later]).await.aws.queue().settle(&QueueRef::new("q"), &receipts).await;
        assert!(matches!(failed, Err(BackendError::Retry(_))), "{what:?}: {failed:?}");
        Stub::answering(&[stale]).await.aws.queue().settle(&QueueRef::new("q"), &receipts).await.unwrap();
    }
}

/// The SDK tries again by itself, and then meets what it wrote.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_was_lost_is_no_conflict() {
    let Some(tables) = Tables::new(Endpoint::Ministack, "lost-answers").await else { return };
    let store = |stub: &Stub| stub.aws.store(tables.table(), Clock::system(), Rng::from_os().unwrap());
    let key = Key::new("p", "k");
    let stub = Stub::answering(&[Answer::Lost, Answer::Real]).await;
    let first = store(&stub).put_if(&key, Bytes::from_static(b"1"), Expect::Absent, None).await.unwrap();
    assert_eq!(stub.asked().len(), 2, "the answer was not lost");
    let stub = Stub::answering(&[Answer::Lost, Answer::Real]).await;
    let second = store(&stub).put_if(&key, Bytes::from_static(b"2"), Expect::Version(first), None).await.unwrap();
    let item = tables.store().get(&key).await.unwrap().unwrap();
    assert_eq!((&item.value[..], item.version), (&b"2"[..], second));
    let stub = Stub::answering(&[Answer::Lost, Answer::Real]).await;
    let stale = store(&stub).put_if(&key, Bytes::from_static(b"3"), Expect::Version(first), None).await;
    assert!(matches!(stale, Err(PutError::Conflict)), "{stale:?}");
}
