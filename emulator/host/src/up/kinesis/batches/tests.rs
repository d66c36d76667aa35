use bytes::Bytes;

use super::*;
use crate::up::kinesis::block::Arrival;

/// Batches of ten, without a window, in one lane, tried for ever.
fn plan() -> Plan {
    Plan {
        batch_size: 10,
        bytes: 1 << 20,
        window: Duration::ZERO,
        bisect: false,
        retries: None,
        max_age: None,
        retention: Duration::from_secs(24 * 3600),
        parallel: 1,
    }
}

/// A shard whose records have their partition keys, and a clock.
struct Shard {
    batches: Batches,
    next: u64,
    now: Instant,
    time: Timestamp,
}

impl Shard {
    fn new(plan: Plan) -> Shard {
        let (now, time) = (Instant::now(), Timestamp::from_second(1_780_000_000).unwrap());
        Shard { batches: Batches::new(plan, 0), next: 1, now, time }
    }

    fn put(&mut self, keys: &[&str]) {
        let arrival = Arrival { at: self.time, since: self.now };
        let record = |(number, key): (u64, &&str)| {
            let (key, data) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::from_static(b"x"));
            Record { number, key, data, arrival }
        };
        let records: Vec<Record> = (self.next..).zip(keys).map(record).collect();
        self.next += records.len() as u64;
        self.batches.take(records, self.now);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.time += Duration::from_secs(seconds);
    }

    fn next(&mut self) -> Next {
        self.batches.next(self.now, self.time)
    }

    /// The numbers of the next call's records.
    fn called(&mut self) -> Option<(usize, Vec<u64>)> {
        match self.next() {
            Next::Call(lane) => Some((lane, self.numbers(lane))),
            Next::GiveUp(..) | Next::Wait(_) => None,
        }
    }

    fn given_up(&mut self) -> Option<(Why, Vec<u64>)> {
        match self.next() {
            Next::GiveUp(lane, why) => {
                let numbers = self.numbers(lane);
                self.batches.given_up(lane);
                Some((why, numbers))
            }
            Next::Call(_) | Next::Wait(_) => None,
        }
    }

    fn numbers(&self, lane: usize) -> Vec<u64> {
        self.batches.piece(lane).records.iter().map(|record| record.number).collect()
    }

    fn ended(&mut self, lane: usize, outcome: Outcome) {
        self.batches.ended(lane, outcome, self.now);
    }
}

const FAILED: Outcome = Outcome::Failed(LastCall::Error);

#[tokio::test]
async fn l5_a_batch_goes_when_it_is_full_or_its_window_is_over() {
    let mut shard = Shard::new(Plan { batch_size: 3, window: Duration::from_secs(5), ..plan() });
    shard.put(&["a", "b"]);
    assert_eq!(shard.next(), Next::Wait(Some(shard.now + Duration::from_secs(5))));
    shard.pass(4);
    shard.put(&["c", "d"]);
    assert_eq!(shard.called(), Some((0, vec![1, 2, 3])), "it is full");
    shard.ended(0, Outcome::Done);
    // The window of what is left begins when the batch before it went.
    shard.pass(4);
    assert_eq!(shard.called(), None);
    shard.pass(1);
    assert_eq!(shard.called(), Some((0, vec![4])), "its window is over");
    // Without a window whatever is there goes.
    let mut shard = Shard::new(plan());
    shard.put(&["a"]);
    assert_eq!(shard.called(), Some((0, vec![1])));
    let mut full = Shard::new(Plan { bytes: 1_200, window: Duration::from_secs(5), ..plan() });
    full.put(&["a", "b", "c"]);
    assert_eq!(full.called(), Some((0, vec![1, 2])), "an event has room for no more");
}

#[tokio::test]
async fn q1_a_batch_is_done_up_to_its_first_failed_record() {
    let mut shard = Shard::new(plan());
    shard.put(&["a"; 9]);
    assert_eq!(shard.called(), Some((0, (1..=9).collect())));
    assert_eq!(shard.batches.checkpoint(), 0);
    shard.ended(0, Outcome::FailedFrom(5));
    assert_eq!(shard.batches.checkpoint(), 4);
    shard.put(&["a"]);
    assert_eq!(shard.called(), None, "it waits before it is tried again");
    shard.pass(1);
    assert_eq!(shard.called(), Some((0, (5..=9).collect())), "what came since is another batch's");
    shard.ended(0, Outcome::Done);
    assert_eq!(shard.batches.checkpoint(), 9);
    assert_eq!(shard.called(), Some((0, vec![10])));
}

#[tokio::test]
async fn l5_a_batch_that_fails_is_tried_as_often_as_the_template_says_and_given_up_whole() {
    let mut shard = Shard::new(Plan { retries: Some(2), ..plan() });
    shard.put(&["a", "b"]);
    for _ in 0..3 {
        assert_eq!(shard.called(), Some((0, vec![1, 2])));
        shard.ended(0, FAILED);
        assert_eq!(shard.batches.checkpoint(), 0);
        shard.pass(1);
    }
    assert_eq!(shard.given_up(), Some((Why::RetriesExhausted, vec![1, 2])));
    assert_eq!(shard.batches.checkpoint(), 2);
    // Without a number it is tried for ever.
    let mut shard = Shard::new(plan());
    shard.put(&["a"]);
    for _ in 0..1_000 {
        assert_eq!(shard.called(), Some((0, vec![1])));
        shard.ended(0, FAILED);
        shard.pass(1);
    }
}

#[tokio::test]
async fn l5_bisecting_finds_the_bad_record_and_uses_up_no_try() {
    let mut shard = Shard::new(Plan { bisect: true, retries: Some(1), ..plan() });
    shard.put(&["a"; 8]);
    let (mut calls, mut given_up) = (Vec::new(), Vec::new());
    loop {
        match shard.next() {
            Next::Call(lane) => {
                let numbers = shard.numbers(lane);
                let outcome = if numbers.contains(&6) { FAILED } else { Outcome::Done };
                calls.push(numbers);
                shard.ended(lane, outcome);
            }
            Next::GiveUp(lane, _) => {
                given_up.extend(shard.numbers(lane));
                shard.batches.given_up(lane);
            }
            Next::Wait(Some(_)) => shard.pass(1),
            Next::Wait(None) => break,
        }
    }
    let expected: [&[u64]; 8] =
        [&[1, 2, 3, 4, 5, 6, 7, 8], &[1, 2, 3, 4], &[5, 6, 7, 8], &[5, 6], &[5], &[6], &[6], &[7, 8]];
    assert_eq!(calls, expected);
    assert_eq!((given_up, shard.batches.checkpoint()), (vec![6], 8));
}

#[tokio::test]
async fn l5_a_partial_failure_is_tried_from_its_record_also_when_batches_are_bisected() {
    let mut shard = Shard::new(Plan { bisect: true, retries: Some(1), ..plan() });
    shard.put(&["a"; 8]);
    assert!(shard.called().is_some());
    shard.ended(0, Outcome::FailedFrom(3));
    shard.pass(1);
    assert_eq!(shard.called(), Some((0, (3..=8).collect())));
    // That nothing was done is a failure of the whole.
    shard.ended(0, Outcome::FailedFrom(3));
    assert_eq!(shard.called(), Some((0, vec![3, 4, 5])));
    assert_eq!(shard.batches.checkpoint(), 2);
}

#[tokio::test]
async fn l5_records_that_are_too_old_are_given_up_before_they_are_tried_again() {
    let mut shard = Shard::new(Plan { max_age: Some(Duration::from_secs(60)), ..plan() });
    shard.put(&["a", "b"]);
    shard.pass(50);
    shard.put(&["c"]);
    assert_eq!(shard.called(), Some((0, vec![1, 2, 3])));
    shard.ended(0, FAILED);
    shard.pass(11);
    assert_eq!(shard.given_up(), Some((Why::TooOld, vec![1, 2])));
    assert_eq!(shard.called(), Some((0, vec![3])), "younger ones are tried on");
}

#[tokio::test]
async fn q1_what_expires_is_given_up_after_the_stream_s_retention_and_time_switched_off_does_not_count() {
    let mut shard = Shard::new(plan());
    shard.put(&["a"]);
    // The clock is set, or the host was off: it has waited for nobody.
    shard.time += Duration::from_secs(48 * 3600);
    assert_eq!(shard.called(), Some((0, vec![1])));
    shard.ended(0, FAILED);
    shard.pass(24 * 3600);
    assert_eq!(shard.given_up(), Some((Why::Expired, vec![1])));
    assert_eq!(shard.batches.checkpoint(), 1);
}

#[tokio::test]
async fn l5_lanes_keep_the_order_of_a_key_and_the_checkpoint_waits_for_the_slowest() {
    let mut shard = Shard::new(Plan { parallel: 10, batch_size: 2, ..plan() });
    let keys: Vec<String> = (0..20).map(|n| format!("device-{}", n % 5)).collect();
    shard.put(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    let (mut at_work, mut seen) = (Vec::new(), std::collections::BTreeMap::<Bytes, Vec<u64>>::new());
    while let Some((lane, _)) = shard.called() {
        at_work.push(lane);
    }
    assert!(at_work.len() > 1, "lanes work at the same time: {at_work:?}");
    let slow = at_work.iter().copied().find(|lane| shard.numbers(*lane).contains(&1)).unwrap();
    let mut calls = 0;
    loop {
        for lane in std::mem::take(&mut at_work) {
            if lane == slow {
                at_work.push(lane);
                continue;
            }
            for record in &shard.batches.piece(lane).records {
                seen.entry(record.key.clone()).or_default().push(record.number);
            }
            shard.ended(lane, Outcome::Done);
            calls += 1;
        }
        let Some((lane, _)) = shard.called() else { break };
        at_work.push(lane);
    }
    assert!(calls > 2);
    assert!(seen.values().all(|numbers| numbers.is_sorted()), "{seen:?}");
    assert_eq!(shard.batches.checkpoint(), 0, "the first record is still at work");
    while let Some(lane) = at_work.pop() {
        shard.ended(lane, Outcome::Done);
        at_work.extend(shard.called().map(|(lane, _)| lane));
    }
    assert_eq!(shard.batches.checkpoint(), 20);
}

#[tokio::test]
async fn q2_a_lane_that_is_stuck_bounds_what_is_read_ahead() {
    let mut shard = Shard::new(Plan { parallel: 2, batch_size: 5, ..plan() });
    let mut taken = 0;
    while let Some((after, records, _)) = shard.batches.wants() {
        assert_eq!(after, taken);
        assert!(records <= 10);
        // One device alone sends.
        shard.put(&["a"]);
        taken += 1;
        shard.called();
    }
    assert!((1..=10).contains(&taken), "{taken}");
}

#[tokio::test(start_paused = true)]
async fn l5_a_throttled_batch_uses_up_no_try_and_stays_whole() {
    let mut shard = Shard::new(Plan { bisect: true, retries: Some(0), ..plan() });
    shard.put(&["a", "a", "a"]);
    for _ in 0..5 {
        assert_eq!(shard.called(), Some((0, vec![1, 2, 3])));
        shard.batches.ended(0, Outcome::Throttled, shard.now);
        assert!(matches!(shard.next(), Next::Wait(Some(_))));
        shard.pass(1);
    }
    assert_eq!(shard.called(), Some((0, vec![1, 2, 3])));
    assert_eq!(shard.batches.piece(0).calls, 0);
}
