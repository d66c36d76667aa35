//! The recovery figures [F4, F8] on Apache Kafka, each beside the plain spool; `tests/chaos recovery` starts it.

use std::process::ExitCode;

use streammanager_tests::chaos::recovery::{Recovery, measure};

fn main() -> ExitCode {
    let runs = match std::env::args().nth(1).map(|runs| runs.parse::<usize>()) {
        None => 20,
        Some(Ok(runs @ 1..)) => runs,
        Some(_) => {
            eprintln!("recovery: how many runs? see tests/chaos --help");
            return ExitCode::from(2);
        }
    };
    let folder = std::env::temp_dir().join(format!("streammanager-recovery-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder of its own");
    let measured = measure(&folder, runs);
    std::fs::remove_dir_all(&folder).expect("its own folder");
    let Recovery { alerts, buffered, spool, archive, archive_spool, repeated } = measured;
    println!("{:<78} {:>8} {:>8}", format!("seconds, {runs} runs"), "median", "longest");
    line("from the broker's return to 20 alerts, buffered through a kill -9", alerts);
    let ours = line("from the broker's return to 47,000 detections buffered with them", buffered);
    let plain = line("the plain spool of the same values, from the broker's return", spool);
    println!("{:.2} times the plain spool; 0 lost, {repeated} twice", ours / plain);
    let ours = line("`ingest` of 10,847 rows of an archive, from its start to its end", archive);
    let plain = line("the plain spool of the same values, which decodes and judges nothing", archive_spool);
    println!("{:.2} times the plain spool", ours / plain);
    ExitCode::SUCCESS
}

/// Gives the median.
fn line(what: &str, mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    let (median, longest) = (seconds[seconds.len() / 2], seconds[seconds.len() - 1]);
    println!("{what:<78} {median:>8.2} {longest:>8.2}");
    median
}
