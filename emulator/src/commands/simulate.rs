//! `simulate`: days of operation in simulated time, under seeded faults.

use std::time::{Duration, Instant};

use streammanager_host::exit::{Exit, Failure};
use streammanager_simulate::{Plan, Report, faults, run as simulated};

use super::{print, say};
use crate::cli::SimulateArgs;

/// Said once in so many simulated hours, at the most.
const SAID_EVERY_HOURS: u64 = 24;

/// Runs one seed after the other; the first violation is the outcome.
pub(crate) async fn run(args: SimulateArgs) -> Result<Exit, Failure> {
    let lasts = Duration::try_from_secs_f64(args.days * 86_400.0)
        .map_err(|e| Failure::usage(format!("--days {}: {e}", args.days)))?;
    let kinds: Vec<&str> = faults().collect();
    if let Some(unknown) = args.only.as_deref().filter(|only| !kinds.contains(only)) {
        return Err(Failure::usage(format!("--only {unknown}: the kinds of faults are {}", kinds.join(", "))));
    }
    let mut violated = Vec::new();
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        let plan = Plan { seed, lasts, lie: None, only: args.only.clone() };
        let (began, quiet) = (Instant::now(), args.json);
        // It has a runtime of its own, whose clock is simulated.
        let running = tokio::task::spawn_blocking(move || {
            simulated(&plan, |hours| {
                if !quiet && hours % SAID_EVERY_HOURS == 0 {
                    say(format!("seed {seed}: day {} has passed, {:.0} s", hours / 24, began.elapsed().as_secs_f64()));
                }
            })
        });
        let report = running
            .await
            .map_err(|e| Failure::new(format!("seed {seed}: the simulation died: {e}")))?
            .map_err(|e| Failure::new(format!("cannot start the runtime: {e}")))?;
        show(&report, args.json)?;
        violated.extend(report.violation.is_some().then(|| report.again()));
    }
    if violated.is_empty() {
        return Ok(Exit::Done);
    }
    violated.iter().for_each(|again| say(format!("again with: {again}")));
    Ok(Exit::Failed)
}

fn show(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        let line = serde_json::to_string(report).map_err(|e| Failure::new(format!("the report: {e}")))?;
        return print([line]);
    }
    print([report])
}
