//! Simulated time under seeded faults: many seeds hold, the same seed gives the same bytes, seeds that found a fault before
//! find none now, and the judge finds every lie that a backend can tell.

use std::time::Duration;

use streammanager_simulate::{Lie, Plan, Report, run};

/// `SEEDS=1000 HOURS=24 cargo test … --test seeds` looks at more.
fn asked(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn simulate(seed: u64, lasts: Duration, lie: Option<Lie>) -> Report {
    run(&Plan { seed, lasts, lie, only: None }, |_| {}).expect("a runtime")
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3_600)
}

#[test]
fn l6_many_seeds_lose_nothing() {
    let (first, seeds, lasts) = (asked("FIRST", 1), asked("SEEDS", 2), hours(asked("HOURS", 1)));
    let mut failed = Vec::new();
    for seed in first..first + seeds {
        let report = simulate(seed, lasts, None);
        println!("{}", serde_json::to_string(&report).expect("it is JSON"));
        failed.extend(report.violation.as_ref().map(|violation| format!("{violation}: {}", report.again())));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn l6_the_same_seed_gives_the_same_bytes() {
    let once = || serde_json::to_string(&simulate(7, hours(1), None)).expect("it is JSON");
    assert_eq!(once(), once());
}

/// Each line: seed, days, and what the seed found.
#[test]
fn l6_what_was_found_before_stays_mended() {
    let found = include_str!("../../../tests/bugs/seeds.txt");
    for line in found.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.splitn(3, ' ');
        let seed = words.next().and_then(|seed| seed.parse().ok()).expect("a seed");
        let days: f64 = words.next().and_then(|days| days.parse().ok()).expect("days");
        let report = simulate(seed, Duration::from_secs_f64(days * 86_400.0), None);
        assert_eq!(report.violation, None, "{line}");
    }
}

/// One kind of fault alone, over and over.
fn only(fault: &str, seed: u64, lasts: Duration) -> Report {
    let report = run(&Plan { seed, lasts, lie: None, only: Some(fault.to_owned()) }, |_| {}).expect("a runtime");
    println!("{}", serde_json::to_string(&report).expect("it is JSON"));
    assert_eq!(report.violation, None, "{}", report.again());
    report
}

/// The judge holds what comes twice to K6's bound; here is enough of it to be held.
#[test]
fn k6_what_comes_twice_after_a_crash_is_bounded() {
    let report = only("killed while draining", 1, hours(2));
    assert!(report.crashes >= 3 && report.repeated_after_a_crash.envelopes > 0, "little is proved: {report}");
}

#[test]
fn q1_what_the_disk_damages_is_set_aside_and_never_sent() {
    let report = only("stored bits turned over", 1, hours(2));
    assert!(report.set_aside > 0, "little is proved: {report}");
}

/// Lies that show within simulated minutes.
const SOON: [Lie; 9] = [
    Lie::QueueAcknowledgesUnsent,
    Lie::QueueNeverForgets,
    Lie::QueueDamagesBodies,
    Lie::StoreIgnoresConditions,
    Lie::SinkAcknowledgesUnwritten,
    Lie::SinkRefusesInOutages,
    Lie::SinkWritesTwice,
    Lie::SinkCutsValues,
    Lie::SinkWritesBackwards,
];

/// `LIES=all` tells each of them, for longer: that takes minutes.
#[test]
fn l6_lies_of_a_backend_are_found() {
    let all = std::env::var("LIES").is_ok_and(|lies| lies == "all");
    let (lies, lasts) = if all { (&Lie::ALL[..], hours(3)) } else { (&SOON[..], hours(1)) };
    let mut unseen = Vec::new();
    for &lie in lies {
        let found = (1..=4).find_map(|seed| simulate(seed, lasts, Some(lie)).violation);
        println!("{lie:?}: {}", found.as_deref().unwrap_or("NOT FOUND"));
        unseen.extend(found.is_none().then_some(lie));
    }
    assert!(unseen.is_empty(), "not found: {unseen:?}");
}
