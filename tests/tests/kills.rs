//! Chaos in short: `kill -9` of `up` and of a bulk load and a full disk, while outside clients send through every door; whatever
//! they heard as accepted is in Kafka afterwards, in order, and what is there twice is known, bounded and counted [Q1, K6, R5].
//! `tests/chaos` has every other fault as well, Apache Kafka, and all the time one wants.

use std::time::Duration;

use streammanager_tests::chaos::broker::Which;
use streammanager_tests::chaos::plan::Fault;
use streammanager_tests::chaos::report::Report;
use streammanager_tests::chaos::senders::Load;
use streammanager_tests::chaos::{Setup, run};
use tempfile::tempdir;

/// Nothing is lost, whatever is hit.
fn short(which: Which, kills: u64) -> Report {
    let folder = tempdir().unwrap();
    let setup = Setup {
        which,
        seed: 1,
        faults: vec![Fault::Kill, Fault::KillInFlight, Fault::FillDisk, Fault::KillIngest],
        kills,
        time: Duration::from_secs(300),
        longest: Duration::from_secs(1),
        settle_after: 1,
        load: Load { readings_per_s: 1_500, bulk_rows_per_s: 500, alert_pause: Duration::from_millis(20) },
        disk_mib: 128,
        tells: false,
    };
    let report = run(folder.path(), &setup);
    println!("{report}");
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.accepted() >= 2_000, "{} were accepted: little is proved", report.accepted());
    report
}

#[test]
fn q1_kills_with_the_broker_inside_lose_nothing() {
    short(Which::Inside, 6);
}

#[test]
fn q1_kills_with_records_in_flight_lose_nothing_and_count_what_comes_twice() {
    let report = short(Which::Beside, 6);
    let in_flight = report.faults[&Fault::KillInFlight] as u64;
    // The other kills find records queued or not, as quick as the machine is.
    assert_eq!(report.hits_in_flight, in_flight, "kills that waited for records in the queues, and found some");
    assert!(report.redelivered > 0, "records were in flight at {} kills and none counts as redelivered", report.hits);
}
