//! The laws of `Queue`, `Store` and `Blobs` on SQS, DynamoDB and S3 as AWS endpoints serve them, every law as a test on
//! a queue, table or bucket of its own on each; the embedded implementations run theirs inside the library. What only the AWS
//! adapters promise stands in `conformance/errors.rs`. Where an endpoint differs from AWS is told in `tests/src/endpoints.rs`.

#[path = "conformance/errors.rs"]
mod errors;
#[path = "conformance/stub.rs"]
mod stub;
#[path = "conformance/worlds.rs"]
mod worlds;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use streammanager::aws::{QueueShape, TableShape};
use streammanager::error::BackendError;
use streammanager::faults::{Fault, Faults, Faulty, Shares};
use streammanager::queue::{Body, Message, Queue, SendError, Settle};
use streammanager::store::{Expect, Key, Store};
use streammanager::time::{Clock, Rng};
use streammanager_tests::endpoints::{self, Endpoint};
use worlds::{Buckets, Queues, Tables, connect, name, shape};

macro_rules! every_law {
    ($seam:ident on $open:path: $($law:ident),* $(,)?) => {
        mod $seam {
            use streammanager::$seam::conformance::LAWS;
            use streammanager_tests::endpoints::Endpoint;

            #[test]
            fn no_law_is_left_out() {
                let names: Vec<&str> = LAWS.iter().map(|(name, _)| *name).collect();
                assert_eq!(names, [$(stringify!($law)),*]);
            }

            async fn keep(at: Endpoint, name: &str) {
                if let Some(world) = $open(at, name).await {
                    let (_, law) = LAWS.iter().find(|(other, _)| *other == name).unwrap();
                    at.keeps(stringify!($seam), name, world.keep(*law)).await;
                }
            }

            mod ministack {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $law() {
                    super::keep(super::Endpoint::Ministack, stringify!($law)).await;
                })*
            }

            mod localstack {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $law() {
                    super::keep(super::Endpoint::LocalStack, stringify!($law)).await;
                })*
            }
        }
    };
}

every_law!(queue on super::Queues::new: sent_is_received_once_with_its_data, binary_and_text_come_back_exactly,
    order_is_roughly_kept, a_receive_hides, visibility_ends_and_receives_count, extend_keeps_hidden,
    extend_by_nothing_shows, release_shows_at_once, forgotten_is_forgotten, a_stale_receipt_changes_nothing,
    nonsense_receipts_are_no_error, mixed_settling_does_each, what_remains_replaces_a_message,
    a_stale_receipt_replaces_nothing, a_delay_hides, an_empty_receive_waits,
    an_empty_receive_without_wait_returns, an_ended_wait_brings_nothing_and_loses_nothing, a_send_wakes_a_receive, a_release_wakes_a_receive,
    an_ended_visibility_wakes_a_receive, receive_gives_ten_at_most, many_in_one_send, too_large_is_refused_alone,
    the_largest_is_taken, depth_counts, two_receivers_share, too_often_received_goes_to_dead_letters,
    full_is_refused_and_room_taken_again, a_crash_loses_nothing_and_revives_nothing, a_crash_keeps_a_delay,
    a_crash_keeps_what_remains);
every_law!(store on super::Tables::new: absent_is_none, what_is_put_is_got, any_always_writes, absent_writes_once,
    version_writes_only_over_it, of_many_writers_one_wins, increments_by_version_lose_none, delete_takes_its_condition,
    a_recreated_item_has_another_version, list_is_ordered_and_bounded, list_keeps_to_partition_and_prefix,
    list_pages_over_large_items, expired_counts_as_absent, a_later_put_may_end_the_expiry, too_large_is_refused,
    a_crash_keeps_every_write);
every_law!(blobs on super::Buckets::new: absent_is_none, what_is_put_is_got_by_its_content, putting_again_is_the_same,
    large_and_empty, what_is_deleted_is_gone_and_can_be_put_again);

/// A caller that tries again until it is told `Ok` loses nothing through SQS and DynamoDB that fail half the time.
#[tokio::test(flavor = "multi_thread")]
async fn trying_again_loses_nothing_through_faulty_aws() {
    let Some(aws) = connect(Endpoint::Ministack, "trying again on AWS").await else { return };
    let queue_name = name("faulty");
    let (at, _) =
        aws.make_queue(&QueueShape { visibility: Duration::from_secs(1), ..shape(&queue_name) }).await.unwrap();
    let tables = Tables::new(Endpoint::Ministack, "faulty").await.unwrap();
    let faults = Faults::none();
    faults.script([Fault::Part, Fault::After, Fault::Late(Duration::from_millis(300)), Fault::Before]);
    faults.seed(Rng::seeded(1), Shares { before: 40, after: 40, part: 40 });
    let (queue, store) = (Faulty::new(aws.queue(), faults.clone()), Faulty::new(tables.store(), faults.clone()));

    let mut unsent: Vec<Message> = (0..30).map(|n| Message::now(Body::Text(n.to_string()))).collect();
    while !unsent.is_empty() {
        if let Ok(outcomes) = queue.send(&at, &unsent).await {
            let mut outcomes = outcomes.iter();
            unsent.retain(|_| outcomes.next().is_some_and(Result::is_err));
        }
    }
    let mut unseen: BTreeSet<String> = (0..30).map(|n| n.to_string()).collect();
    while !unseen.is_empty() || queue.depth(&at).await.is_ok_and(|depth| depth.total() > 0) {
        for delivery in queue.receive(&at, 10, Duration::from_secs(2)).await.unwrap_or_default() {
            let Body::Text(text) = &delivery.body else { panic!("{delivery:?}") };
            unseen.remove(text);
            while queue.settle(&at, &[(delivery.receipt.clone(), Settle::Forget)]).await.is_err() {}
        }
    }
    let key = Key::new("p", "count");
    for n in 1..=10u8 {
        // Whoever got no answer reads before writing again.
        loop {
            match store.get(&key).await {
                Ok(Some(item)) if item.value[..] == [n] => break,
                Ok(old) => {
                    let expect = old.map_or(Expect::Absent, |item| Expect::Version(item.version));
                    let _ = store.put_if(&key, Bytes::from(vec![n]), expect, None).await;
                }
                Err(_) => {}
            }
        }
    }
    assert!(faults.injected() > 20, "{}", faults.injected());
}

/// Q2 as far as SQS's counts go: what goes beyond is refused, and room is taken again.
#[tokio::test(flavor = "multi_thread")]
async fn q2_a_bounded_queue_on_sqs_is_full() {
    let Some(aws) = connect(Endpoint::Ministack, "capacity on SQS").await else { return };
    let name = name("bounded");
    let (at, _) = aws.make_queue(&shape(&name)).await.unwrap();
    let queue = aws.queue().bounded(5);
    let messages = |n: usize| vec![Message::now(Body::Text("m".into())); n];
    assert_eq!(queue.send(&at, &messages(4)).await.unwrap(), [Ok(()), Ok(()), Ok(()), Ok(())]);
    assert_eq!(queue.send(&at, &messages(2)).await.unwrap(), [Ok(()), Err(SendError::Full)]);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(queue.send(&at, &messages(1)).await.unwrap(), [Err(SendError::Full)], "counted again");
    let got = queue.receive(&at, 1, Duration::from_secs(2)).await.unwrap();
    queue.settle(&at, &[(got[0].receipt.clone(), Settle::Forget)]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(queue.send(&at, &messages(2)).await.unwrap(), [Ok(()), Err(SendError::Full)]);
}

/// What is declared is made once; what is there already is used as it is, and what differs is said.
#[tokio::test(flavor = "multi_thread")]
async fn making_again_changes_nothing() {
    let Some(aws) = connect(Endpoint::Ministack, "making queues, tables and buckets").await else { return };
    let (own, dead) = (name("again"), name("again-dead"));
    let (dead, _) = aws.make_queue(&shape(&dead)).await.unwrap();
    let wanted = QueueShape { dead_letters: Some((&dead, 7)), ..shape(&own) };
    let (queue, _) = aws.make_queue(&wanted).await.unwrap();
    aws.queue().send(&queue, &[Message::now(Body::Text("stays".into()))]).await.unwrap()[0].clone().unwrap();
    assert_eq!(aws.make_queue(&wanted).await.unwrap(), (queue.clone(), Vec::new()));
    let other = QueueShape { visibility: Duration::from_secs(9), dead_letters: Some((&dead, 8)), ..wanted };
    let (again, mut differs) = aws.make_queue(&other).await.unwrap();
    differs.sort();
    assert_eq!((again, differs.len()), (queue.clone(), 2), "{differs:?}");
    assert!(differs[0].starts_with("RedrivePolicy is ") && differs[1] == "VisibilityTimeout is 3 instead of 9");
    assert_eq!(aws.queue().depth(&queue).await.unwrap().visible, 1);

    let table = name("again");
    let shape = TableShape { name: &table, partition_key: "pk", sort_key: Some("sk"), expires: Some("expires") };
    for _ in 0..2 {
        aws.make_table(&shape).await.unwrap();
        aws.make_bucket(&table, Clock::system()).await.unwrap();
    }
    match aws.make_table(&TableShape { sort_key: None, ..shape }).await {
        Err(BackendError::Fatal(text)) => assert!(text.contains(&table) && text.contains("other keys"), "{text}"),
        other => panic!("{other:?}"),
    }
}

/// A law that the table names is one of the seam's.
#[test]
fn the_table_of_differences_names_laws() {
    let laws = |seam| -> Vec<&str> {
        match seam {
            "queue" => streammanager::queue::conformance::LAWS.iter().map(|(name, _)| *name).collect(),
            "store" => streammanager::store::conformance::LAWS.iter().map(|(name, _)| *name).collect(),
            "blobs" => streammanager::blobs::conformance::LAWS.iter().map(|(name, _)| *name).collect(),
            _ => Vec::new(),
        }
    };
    for difference in endpoints::DIFFERENCES {
        let known = difference.law.is_none_or(|law| laws(difference.seam).contains(&law));
        assert!(known && ["queue", "store", "blobs", "sink"].contains(&difference.seam), "{}", difference.what);
    }
}
