use streammanager::embedded::{Commits, Embedded, MemoryDisk, Options};
use streammanager::faults::{Fault, Faults, Faulty};
use tokio::task::JoinHandle;

use super::*;

const SHARD: &str = "shardId-000000000000";
const PLENTY: usize = usize::MAX / 2;

fn store() -> (Arc<dyn Store>, Faults) {
    let options = Options { commits: Commits::Inline, ..Options::new(Clock::system()) };
    let (inner, faults) = (Embedded::on_disk(&MemoryDisk::new(), options).unwrap(), Faults::none());
    (Arc::new(Faulty::new(inner, faults.clone())), faults)
}

async fn open(store: &Arc<dyn Store>) -> Log {
    Log::open("s", SHARD, Stores::both(store.clone()), Clock::system()).await.unwrap()
}

async fn put(log: &Log, data: &str) {
    log.put("a".into(), data.into()).await.unwrap();
}

/// A publisher that does not wait for the one before it.
fn publish(log: &Log, data: &str) -> JoinHandle<Result<(), BackendError>> {
    let (log, data) = (log.clone(), data.into());
    tokio::spawn(async move { log.put("a".into(), data).await })
}

/// What a reader gets of the next `most` records: numbers and data.
async fn next(log: &Log, most: usize) -> Vec<(u64, String)> {
    let records = log.next(log.read(), most, PLENTY).await.unwrap().records;
    records.iter().map(|record| (record.number, String::from_utf8_lossy(&record.data).into_owned())).collect()
}

fn numbered(first: u64, data: &[&str]) -> Vec<(u64, String)> {
    (first..).zip(data.iter().map(|data| (*data).to_owned())).collect()
}

async fn blocks(store: &Arc<dyn Store>) -> usize {
    store.list(&format!("kinesis/s/{SHARD}"), "", None, 1_000).await.unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn f9_what_is_put_while_a_block_is_being_written_shares_the_next_one() {
    let (store, faults) = store();
    let log = open(&store).await;
    faults.script([Fault::Late(Duration::from_secs(1))]);
    let puts: Vec<_> = ["1", "2", "3", "4"].map(|data| publish(&log, data)).into();
    // The first one is being written when the others come.
    while log.unread() < 4 && next(&log, 10).await.is_empty() {
        tokio::task::yield_now().await;
    }
    for put in puts {
        put.await.unwrap().unwrap();
    }
    assert_eq!(next(&log, 10).await, numbered(1, &["1", "2", "3", "4"]));
    assert!(blocks(&store).await <= 2, "{} blocks", blocks(&store).await);
}

#[tokio::test(start_paused = true)]
async fn nobody_overtakes_a_put_while_the_store_is_away() {
    let (store, faults) = store();
    let log = open(&store).await;
    // Not done; done, but the answer is lost: the same block comes again, and not a second copy of it.
    faults.script([Fault::Before, Fault::After, Fault::Before]);
    let first = publish(&log, "1");
    tokio::task::yield_now().await;
    let second = publish(&log, "2");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!first.is_finished() && !second.is_finished());
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(next(&log, 10).await, numbered(1, &["1", "2"]));
    assert_eq!(log.unread(), 2);
}

#[tokio::test(start_paused = true)]
async fn q2_a_publisher_that_left_is_forgotten_also_while_the_store_is_away() {
    let (store, faults) = store();
    let log = open(&store).await;
    faults.outage(true);
    for data in ["1", "2", "3"] {
        assert!(tokio::time::timeout(Duration::from_secs(1), log.put("a".into(), data.into())).await.is_err());
    }
    tokio::time::sleep(WRITE_AGAIN).await;
    // The first one was taken into a block before it left, and that block stays.
    assert_eq!(log.unread(), 1);
    faults.outage(false);
    put(&log, "4").await;
    assert_eq!(next(&log, 10).await, numbered(1, &["1", "4"]));
}

#[tokio::test(start_paused = true)]
async fn q2_a_full_shard_makes_publishers_wait_until_its_reader_has_caught_up() {
    let (store, _) = store();
    let log = open(&store).await;
    let large = "x".repeat(BLOCK_BYTES);
    let mut taken = 0;
    let waiting = loop {
        let mut put = Box::pin(log.put("a".into(), large.clone().into()));
        match tokio::time::timeout(Duration::from_secs(60), &mut put).await {
            Ok(answer) => answer.unwrap(),
            Err(_) => break put,
        }
        taken += 1;
        assert!(taken * BLOCK_BYTES <= SHARD_BYTES, "more than the shard may hold");
    };
    assert!(taken * BLOCK_BYTES >= SHARD_BYTES / 10 * 9, "{taken} blocks fill the shard");
    let first = log.next(0, 1, PLENTY).await.unwrap().records;
    let mut passed = log.pass(first[0].number).await.unwrap();
    log.delete(&mut passed).await;
    assert!(passed.is_empty());
    waiting.await.unwrap();
    assert_eq!(blocks(&store).await, taken);
}

#[tokio::test]
async fn l5_a_batch_ends_with_its_size_or_before_an_event_that_would_be_too_large() {
    let (store, _) = store();
    let log = open(&store).await;
    for _ in 0..20 {
        put(&log, &"x".repeat(300 * 1024)).await;
    }
    for _ in 0..250 {
        put(&log, "1").await;
    }
    let (mut expected, mut sizes) = (1, Vec::new());
    while log.unread() > 0 {
        let records = log.next(log.read(), 220, 6 * 1024 * 1024).await.unwrap().records;
        // Nothing is passed over, and the order is kept.
        let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
        assert_eq!(numbers, (expected..expected + records.len() as u64).collect::<Vec<_>>());
        expected += records.len() as u64;
        sizes.push(records.len());
        log.pass(expected - 1).await.unwrap();
    }
    assert_eq!(sizes, [15, 220, 35]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_failed_in_the_middle_of_a_block_goes_on_there_also_after_a_kill() {
    let (store, faults) = store();
    let log = open(&store).await;
    faults.script([Fault::Late(Duration::from_secs(1))]);
    let puts: Vec<_> = ["1", "2", "3", "4", "5"].map(|data| publish(&log, data)).into();
    for put in puts {
        put.await.unwrap().unwrap();
    }
    assert_eq!(next(&log, 10).await.len(), 5);
    let mut passed = log.pass(3).await.unwrap();
    log.delete(&mut passed).await;
    assert_eq!((next(&log, 10).await, log.unread()), (numbered(4, &["4", "5"]), 2));
    let log = open(&store).await;
    assert_eq!((next(&log, 1).await, log.unread()), (numbered(4, &["4"]), 2));
    put(&log, "6").await;
    assert_eq!(next(&log, 10).await, numbered(4, &["4", "5", "6"]));
}

#[tokio::test]
async fn what_a_kill_left_behind_the_checkpoint_is_deleted_and_no_number_is_given_twice() {
    let (store, _) = store();
    let log = open(&store).await;
    for data in ["1", "2", "3"] {
        put(&log, data).await;
    }
    // The checkpoint is moved, and nothing is deleted.
    assert_eq!(log.pass(2).await.unwrap(), [1, 2]);
    let log = open(&store).await;
    assert_eq!((blocks(&store).await, log.unread()), (1, 1));
    let mut passed = log.pass(3).await.unwrap();
    log.delete(&mut passed).await;
    assert_eq!(blocks(&store).await, 0);
    let log = open(&store).await;
    put(&log, "4").await;
    assert_eq!(next(&log, 10).await, numbered(4, &["4"]));
}

#[tokio::test]
async fn q1_a_damaged_block_costs_its_own_records_alone() {
    let options = Options { commits: Commits::Inline, ..Options::new(Clock::system()) };
    let store: Arc<dyn Store> = Arc::new(Embedded::on_disk(&MemoryDisk::new(), options).unwrap());
    let log = open(&store).await;
    for data in ["1", "2", "3"] {
        put(&log, data).await;
    }
    // As the store answers for a row that it has set aside.
    store::remove(&*store, &log.shared.key(1)).await.unwrap();
    store::remove(&*store, &log.shared.key(2)).await.unwrap();
    let given = log.next(0, 10, PLENTY).await.unwrap();
    assert_eq!((given.records[0].number, given.damaged, log.unread()), (3, 2, 1));
    store::remove(&*store, &log.shared.key(3)).await.unwrap();
    assert_eq!((next(&log, 10).await, log.unread()), (vec![], 0));
    put(&log, "4").await;
    assert_eq!(next(&log, 10).await, numbered(4, &["4"]));
}

#[tokio::test(start_paused = true)]
async fn q1_what_nobody_reads_expires_by_the_time_that_it_was_here_and_is_counted() {
    let (store, _) = store();
    let log = open(&store).await;
    put(&log, "1").await;
    let day = Duration::from_secs(24 * 3600);
    tokio::time::sleep(day / 2).await;
    put(&log, "2").await;
    // While the host is off nobody could have read it.
    let log = open(&store).await;
    tokio::time::sleep(day / 2).await;
    assert_eq!(log.expire(day).await.unwrap(), 0);
    put(&log, "3").await;
    tokio::time::sleep(day / 2).await;
    assert_eq!((log.expire(day).await.unwrap(), log.unread(), blocks(&store).await), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn records_that_an_earlier_version_stored_are_read_as_if_they_had_come_at_the_start() {
    let (store, _) = store();
    let mut undated = Vec::new();
    for lengths in [1_u32, 3] {
        undated.extend(lengths.to_le_bytes());
    }
    undated.extend(b"aold");
    let key = Key::new(format!("kinesis/s/{SHARD}"), sort_key(1));
    store.put_if(&key, undated.into(), Expect::Any, None).await.unwrap();
    let before = Clock::system().now();
    let log = open(&store).await;
    let records = log.next(0, 10, PLENTY).await.unwrap().records;
    assert_eq!((records[0].number, &records[0].data[..]), (1, &b"old"[..]));
    assert!(records[0].arrival.at >= before);
}
