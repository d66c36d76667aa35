//! Chaos on real processes for as long as one wants; `tests/chaos --help` says how. Ends with 1 when something was lost, out of
//! order or repeated too often.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use streammanager_tests::chaos::broker::Which;
use streammanager_tests::chaos::plan::Fault;
use streammanager_tests::chaos::senders::Load;
use streammanager_tests::chaos::{Setup, run};

fn main() -> ExitCode {
    let (mut brokers, mut folder) = (vec![Which::Kafka, Which::Beside, Which::Inside], std::env::temp_dir());
    let mut setup = Setup {
        which: Which::Kafka,
        seed: 1,
        faults: Fault::ALL.to_vec(),
        kills: u64::MAX,
        time: Duration::from_secs(5 * 60),
        longest: Duration::from_secs(6),
        settle_after: 5,
        load: Load { readings_per_s: 2_000, bulk_rows_per_s: 2_000, alert_pause: Duration::from_millis(20) },
        disk_mib: 1_024,
        tells: true,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let number = value.parse::<u64>();
        match (flag.as_str(), value.as_str(), number) {
            ("--broker", "kafka", _) => brokers = vec![Which::Kafka],
            ("--broker", "beside", _) => brokers = vec![Which::Beside],
            ("--broker", "inside", _) => brokers = vec![Which::Inside],
            ("--folder", _, _) => folder = PathBuf::from(value),
            ("--seed", _, Ok(seed)) => setup.seed = seed,
            ("--kills", _, Ok(kills)) => (setup.kills, setup.time) = (kills, Duration::from_secs(7 * 24 * 3_600)),
            ("--minutes", _, Ok(minutes)) => setup.time = Duration::from_secs(60 * minutes),
            ("--longest", _, Ok(seconds)) => setup.longest = Duration::from_secs(seconds),
            ("--settle-after", _, Ok(faults @ 1..)) => setup.settle_after = faults,
            ("--readings", _, Ok(per_s)) => setup.load.readings_per_s = per_s,
            ("--rows", _, Ok(per_s)) => setup.load.bulk_rows_per_s = per_s,
            _ => {
                eprintln!("chaos: {flag} {value} is not understood: see tests/chaos --help");
                return ExitCode::from(2);
            }
        }
    }
    let mut good = true;
    for which in brokers {
        let own = folder.join(format!("streammanager-chaos-{}-{which:?}", std::process::id()));
        std::fs::create_dir_all(&own).expect("a folder of its own");
        println!("== {which:?}, seed {}", setup.seed);
        let report = run(&own, &Setup { which, ..setup.clone() });
        println!("{report}");
        if report.violations.is_empty() {
            std::fs::remove_dir_all(&own).expect("its own folder");
        } else {
            println!("what is left of it: {}", own.display());
            good = false;
        }
    }
    ExitCode::from(u8::from(!good))
}
