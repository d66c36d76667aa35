//! What one run is measured by: records a second to the broker's acknowledgement, and CPU time a record.

use std::fs;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// One run's figures.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    pub records: u64,
    pub elapsed_s: f64,
    pub records_per_s: f64,
    /// User and system time of the whole process. The system counts it in hundredths of a second.
    pub cpu_us_per_record: f64,
}

/// A run that has begun.
pub(crate) struct Run {
    began: Instant,
    cpu: Duration,
}

impl Run {
    /// # Errors
    /// On a host without Linux's `/proc`.
    pub(crate) fn begin() -> Result<Run, String> {
        Ok(Run { cpu: cpu_time()?, began: Instant::now() })
    }

    /// The figures now that `records` are acknowledged.
    ///
    /// # Errors
    /// On a host without Linux's `/proc`.
    pub(crate) fn end(self, records: u64) -> Result<Figures, String> {
        let elapsed_s = self.began.elapsed().as_secs_f64();
        let cpu = cpu_time()?.saturating_sub(self.cpu);
        Ok(Figures {
            records,
            elapsed_s,
            records_per_s: records as f64 / elapsed_s.max(f64::MIN_POSITIVE),
            cpu_us_per_record: cpu.as_secs_f64() * 1e6 / records.max(1) as f64,
        })
    }
}

/// The run in the middle by its time.
pub(crate) fn median(mut runs: Vec<Figures>) -> Figures {
    runs.sort_by(|a, b| a.elapsed_s.total_cmp(&b.elapsed_s));
    runs.swap_remove(runs.len() / 2)
}

/// User and system time of this process so far, ended threads included.
pub(crate) fn cpu_time() -> Result<Duration, String> {
    /// Ticks of `/proc/self/stat` in a second: fixed by Linux for programs, whatever the kernel counts in.
    const TICKS: u64 = 100;
    let text = fs::read_to_string("/proc/self/stat").map_err(|e| format!("/proc/self/stat: {e}"))?;
    // The second field is the program's name in brackets and may hold blanks; user and system time are the 14th and 15th.
    let mut fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<u64>().ok());
    match (ticks(), ticks()) {
        (Some(user), Some(system)) => Ok(Duration::from_millis((user + system) * 1000 / TICKS)),
        _ => Err("/proc/self/stat has no times".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_counts_work() {
        let before = cpu_time().unwrap();
        let mut sum = 0u64;
        while cpu_time().unwrap() < before + Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(sum > 0);
    }
}
