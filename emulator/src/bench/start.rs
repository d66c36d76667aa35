//! How long `up` takes from its start as a process until it takes in what comes: on an empty data folder, with everything inside it.

use std::time::Duration;

use streammanager_host::exit::Failure;
use streammanager_host::host::http_client;
use tokio::time::{Instant, sleep};

use super::Scratch;
use super::system::System;

/// Nothing is measured beyond this.
const LONGEST: Duration = Duration::from_secs(30);
/// Milliseconds.
pub(crate) const GOAL: f64 = 300.0;

/// Milliseconds of each start.
pub(crate) async fn start(starts: usize) -> Result<Vec<f64>, Failure> {
    let mut took = Vec::new();
    for _ in 0..starts {
        let folder = Scratch::new("start").map_err(Failure::new)?;
        let began = Instant::now();
        let system = System::start("embedded", folder.path()).await?;
        let ready = format!("http://{}/health/ready", system.http);
        while !http_client().get(&ready).send().await.map_err(Failure::new)?.status().is_success() {
            if began.elapsed() > LONGEST {
                return Err(Failure::new(format!("`up` was not ready within {LONGEST:?}")));
            }
            sleep(Duration::from_millis(1)).await;
        }
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}
