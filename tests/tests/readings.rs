//! Readings pushed by several senders for several devices, on every shard of the stream: each device's readings keep their order
//! all the way into Kafka, also when senders repeat what they did not see answered.

use std::time::{Duration, Instant};

use serde_json::json;
use streammanager::embedded::{Embedded, Options};
use streammanager::store;
use streammanager::time::Clock;
use streammanager_tests::fleet::{SENSORS, Sender, judge, read};
use streammanager_tests::system::{Start, System};
use tempfile::tempdir;

const SENDERS: u64 = 4;
/// Of one sender.
const READINGS: u64 = 2_500;

#[tokio::test(flavor = "multi_thread")]
async fn f9_a_devices_readings_keep_their_order_over_shards_senders_and_repeats() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let system = System::up(&start);
    let mqtt = system.mqtt;
    let threads = Sender::fleet(SENDERS).into_iter().map(|mut sender| {
        std::thread::spawn(move || {
            sender.send(mqtt, READINGS, true);
            sender
        })
    });
    let threads: Vec<_> = threads.collect();
    let senders: Vec<Sender> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let acknowledged = senders.into_iter().flat_map(|sender| sender.acknowledged.into_keys()).collect();

    let deadline = Instant::now() + Duration::from_secs(60);
    while system.page("/metrics").await.unwrap().lines().any(|line| {
        let waits = line.starts_with("stream_queue_depth{") || line.starts_with("stream_unread_readings ");
        waits && !line.ends_with(" 0")
    }) {
        assert!(Instant::now() < deadline, "readings still wait after a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let copies = judge(&acknowledged, &read(&system, SENSORS));
    // Nothing failed: what its senders repeated is known, and is there once.
    assert!(copies.values().all(|count| *count == 1), "{:?}", copies.iter().find(|(_, count)| **count > 1));
    assert_eq!(copies.len(), acknowledged.len());
    let (code, ledger) = system.stop();
    assert_eq!((code, &ledger["ledger"]["balanced"]), (0, &json!(true)), "{ledger}");
    assert_eq!(shards_read(&start).await, 4, "the devices do not lie on all shards: little is proved");
}

/// Shards whose reader has got anywhere, by their checkpoints.
async fn shards_read(start: &Start) -> usize {
    let folder = Embedded::open(&start.data, Options::new(Clock::system())).unwrap();
    let checkpoints = store::list_all(&folder, "kinesis/streammanager-SensorStream", "checkpoint/", 100).await.unwrap();
    checkpoints.iter().filter(|item| String::from_utf8_lossy(&item.value).parse::<u64>().unwrap() > 0).count()
}
