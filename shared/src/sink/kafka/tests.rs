//! The Kafka sink against librdkafka's own mock brokers, which are slow, silent or refuse as told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Code};

use super::*;
use crate::limits::TRY;
use crate::sink::conformance::record;

const BROKER: i32 = 1;
const PARTITIONS: i32 = 4;
/// Tries until a fault that is over has healed.
const TRIES: usize = 20;

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> (Cluster, KafkaSink) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(Topic::NASA_FIRMS.name(), PARTITIONS, 1).unwrap();
    let sink = KafkaSink::connect(&settings(&cluster)).unwrap();
    (cluster, sink)
}

fn settings(cluster: &Cluster) -> KafkaSettings {
    KafkaSettings::plaintext(&cluster.bootstrap_servers(), "").unwrap()
}

/// Both lanes are healed by themselves, without a restart.
async fn heals(sink: &KafkaSink, what: &str) {
    for lane in Lane::ALL {
        let mut last = Vec::new();
        for n in 0..TRIES {
            last = sink.send(lane, &[record(what, n)]).await;
            if last[0].is_acked() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(last[0].is_acked(), "{what}: {lane:?}: {last:?}");
    }
}

/// Nothing goes out on either lane.
async fn fails(sink: &KafkaSink, what: &str) {
    for lane in Lane::ALL {
        let outcome = sink.send(lane, &[record(what, 0)]).await;
        assert!(matches!(outcome[..], [Sent::Retry(_)]), "{what}: {lane:?}: {outcome:?}");
    }
}

/// A call's records are handed over before those of the next one: a device's later readings never overtake its earlier ones.
#[tokio::test]
async fn f9_calls_of_a_lane_follow_one_another() {
    let (_cluster, sink) = cluster();
    heals(&sink, "warm").await;
    for lane in Lane::ALL {
        let call = |law: &str| -> Vec<Outgoing> {
            (0..1_000).map(|n| Outgoing { key: "device".into(), ..record(law, n) }).collect()
        };
        let (first, second) = (call("first"), call("second"));
        let (first, second) = tokio::join!(sink.send(lane, &first), sink.send(lane, &second));
        let offsets = |sent: Vec<Sent>| -> Vec<i64> {
            let offset = |sent: &Sent| match sent {
                Sent::Acked(Some(written)) => written.offset,
                other => panic!("{lane:?}: {other:?}"),
            };
            sent.iter().map(offset).collect()
        };
        let (first, second) = (offsets(first), offsets(second));
        assert!(first.is_sorted() && second.is_sorted());
        assert!(first.last() < second.first(), "{lane:?}: {:?} {:?}", first.last(), second.first());
    }
}

/// K3: some of a call's batches are in flight or wait to be sent again when its time is over. The broker returns just then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k3_nothing_is_sent_after_what_came_before_it_was_given_up() {
    const READINGS: usize = 4_000;
    let world = |milliseconds| async move {
        let (cluster, sink) = cluster();
        heals(&sink, "warm").await;
        let call = |law: &str| -> Vec<Outgoing> {
            (0..READINGS).map(|n| Outgoing { key: "device".into(), ..record(law, n) }).collect()
        };
        cluster.broker_down(BROKER).unwrap();
        let (first, second) = (call("first"), call("second"));
        let (first, second, ()) = tokio::join!(
            sink.send(Lane::Bulk, &first),
            async {
                tokio::time::sleep(TRY / 2).await;
                sink.send(Lane::Bulk, &second).await
            },
            async {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                cluster.broker_up(BROKER).unwrap();
            }
        );
        for sent in [first, second] {
            let acked: Vec<bool> = sent.iter().map(Sent::is_acked).collect();
            assert!(acked.is_sorted_by(|before, after| before >= after), "{milliseconds} ms: {acked:?}");
        }
    };
    join_all([1_700, 1_900, 1_990, 2_000, 2_010, 2_100, 2_300, 2_990, 3_000].map(world)).await;
}

/// E2: at a broker that takes longer than the hedge waits, callers give up their tries all the time. The producer that all
/// share stays the same, and every call that waits is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e2_calls_given_up_at_a_slow_broker_cost_the_others_nothing() {
    let (cluster, sink) = cluster();
    heals(&sink, "warm").await;
    for milliseconds in [60, 200] {
        cluster.broker_round_trip_time(BROKER, Duration::from_millis(milliseconds)).unwrap();
        let before = sink.critical.serial();
        let calls = (0..64).map(|n| {
            let sink = &sink;
            async move {
                let one = [record("slow", n)];
                let sending = sink.send(Lane::Critical, &one);
                if n % 2 == 0 {
                    tokio::time::timeout(Duration::from_millis(20), sending).await.ok()
                } else {
                    Some(sending.await)
                }
            }
        });
        let outcomes = join_all(calls).await;
        assert!(outcomes.iter().flatten().all(|sent| sent[0].is_acked()), "{outcomes:?}");
        assert!(outcomes.iter().filter(|sent| sent.is_none()).count() > 0, "none was given up");
        assert_eq!(sink.critical.serial(), before, "the producer was retired");
    }
}

/// R2: the first try at a broker that does not answer yet fails; the producer finds it by itself when it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_a_broker_that_is_just_starting_is_found() {
    let (cluster, sink) = cluster();
    cluster.broker_down(BROKER).unwrap();
    fails(&sink, "down").await;
    assert!(!sink.answers().await);
    cluster.broker_up(BROKER).unwrap();
    heals(&sink, "up").await;
    assert!(sink.answers().await);
    cluster.broker_down(BROKER).unwrap();
    fails(&sink, "down again").await;
    cluster.broker_up(BROKER).unwrap();
    heals(&sink, "up again").await;
}

/// R2: however long an outage lasts and however often somebody asks, one question is under way, and its answer is everybody's.
#[tokio::test]
async fn r2_an_outage_holds_one_question() {
    let (question, asked) = (Question::new(), Arc::new(AtomicUsize::new(0)));
    let (answer, answers) = mpsc::channel::<u32>();
    let answers = Arc::new(Mutex::new(answers));
    let ask = || {
        let (asked, answers) = (asked.clone(), answers.clone());
        move || {
            asked.fetch_add(1, Ordering::Relaxed);
            answers.lock().recv().map_err(|e| e.to_string())
        }
    };
    let (short, long) = (Duration::from_millis(5), Duration::from_secs(60));
    for _ in 0..5 {
        assert_eq!(question.answer(short, ask()).await, Err("no answer within 5ms".into()));
    }
    let (first, second, sent) =
        tokio::join!(question.answer(long, ask()), question.answer(long, ask()), async { answer.send(7) });
    assert_eq!((first, second, sent), (Ok(7), Ok(7), Ok(())));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    answer.send(8).unwrap();
    assert_eq!(question.answer(long, ask()).await, Ok(8), "an answer of before is no answer now");
    let died = question.answer(long, || panic!("the client dies")).await;
    assert_eq!(died, Err("the thread that asked has died".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_taken_and_given_back_heal() {
    let (cluster, sink) = cluster();
    heals(&sink, "before").await;
    let refused = Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    for _ in 0..2 {
        cluster.request_errors(RDKafkaApiKey::Produce, &[refused; 4]);
        fails(&sink, "not allowed").await;
        cluster.clear_request_errors(RDKafkaApiKey::Produce);
        heals(&sink, "allowed again").await;
    }
    cluster.topic_error(Topic::NASA_FIRMS.name(), refused).unwrap();
    let (cluster, sink) = (&cluster, KafkaSink::connect(&settings(&cluster)).unwrap());
    fails(&sink, "not allowed from the start").await;
    cluster.topic_error(Topic::NASA_FIRMS.name(), Code::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    heals(&sink, "allowed in the end").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_missing_is_found_when_it_is_there() {
    let (cluster, sink) = cluster();
    heals(&sink, "before").await;
    let missing = Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    cluster.topic_error(Topic::NASA_FIRMS.name(), missing).unwrap();
    cluster.request_errors(RDKafkaApiKey::Produce, &[missing; 64]);
    fails(&sink, "deleted").await;
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    cluster.topic_error(Topic::NASA_FIRMS.name(), Code::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    heals(&sink, "made again").await;
}

/// Errors after which an idempotent producer must begin a new sequence, or cannot go on at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_sequence_heals() {
    let (cluster, sink) = cluster();
    heals(&sink, "before").await;
    for code in [
        Code::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
        Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
    ] {
        cluster.request_errors(RDKafkaApiKey::Produce, &[code]);
        for lane in Lane::ALL {
            sink.send(lane, &[record("broken", 0)]).await;
        }
        cluster.clear_request_errors(RDKafkaApiKey::Produce);
        heals(&sink, "afterwards").await;
    }
}

/// Q1: what the broker calls a repeat without saying where the first one lies may be stored nowhere. That happens on a new
/// partition of a broker that has just started, when an earlier request has to be sent again after a later one was stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q1_a_repeat_without_a_place_is_no_acknowledgement() {
    let (cluster, sink) = cluster();
    heals(&sink, "warm").await;
    for lane in Lane::ALL {
        cluster.request_errors(RDKafkaApiKey::Produce, &[Code::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER]);
        let outcome = sink.send(lane, &[record("repeat", 0)]).await;
        assert!(matches!(&outcome[..], [Sent::Retry(why)] if why.contains("repeat")), "{lane:?}: {outcome:?}");
    }
    heals(&sink, "repeat").await;
}
