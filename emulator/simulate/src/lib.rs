//! A week of operation in simulated time: the real handlers and engine over an embedded queue and store on a simulated disk and
//! a model of Kafka, with seeded faults, and a judge of what must never happen. One seed decides a run: the same seed gives the
//! same bytes.

mod broker;
mod dice;
mod judge;
mod lies;
mod report;
mod seams;
mod soak;
mod traffic;
pub mod usage;
mod weather;
mod world;

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

pub use judge::Most;
pub use lies::Lie;
pub use report::Report;
pub use soak::Soak;
use world::World;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// How much time passes with faults; the end, in which everything must come out, is beside it.
    pub lasts: Duration,
    /// A backend that lies: the judge must find it.
    pub lie: Option<Lie>,
    /// The one kind of fault that strikes, by its name; `None`: all kinds.
    pub only: Option<String>,
}

/// The names of all kinds of faults.
pub fn faults() -> impl Iterator<Item = &'static str> {
    weather::names()
}

/// Everything that was accepted is published within this time of the last fault.
const SETTLES: Duration = Duration::from_secs(3_600);

/// Runs the plan. `progress` hears of every simulated hour that has passed.
///
/// # Errors
/// When no runtime can be had.
pub fn run(plan: &Plan, mut progress: impl FnMut(u64)) -> std::io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    Ok(runtime.block_on(async {
        let world = World::new(plan).await;
        let judge = world.judge.clone();
        tokio::select! { biased;
            () = judge.over() => {}
            () = whole(&world, plan.lasts, &mut progress) => {}
        }
        Report::of(plan, &world)
    }))
}

async fn whole(world: &std::sync::Arc<World>, lasts: Duration, progress: &mut impl FnMut(u64)) {
    world.run();
    let weather = tokio::spawn(weather::run(world.clone()));
    let ends = Instant::now() + lasts;
    let mut hours = 0;
    while Instant::now() < ends {
        sleep(Duration::from_secs(3_600).min(ends - Instant::now())).await;
        hours += 1;
        progress(hours);
    }
    weather.abort();
    // Aborted, it has ended at the next await.
    let _ = weather.await;
    world.mend().await;
    let settled = async {
        while !world.is_done() {
            sleep(Duration::from_secs(5)).await;
        }
    };
    if timeout_at(Instant::now() + SETTLES, settled).await.is_err() {
        world.judge.violated(format!("stuck: {} are still under way an hour after the last fault", world.left()));
        return;
    }
    // Forgotten in the queues, too.
    sleep(Duration::from_secs(120)).await;
    world.reconcile().await;
}
