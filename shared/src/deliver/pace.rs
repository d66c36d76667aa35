//! How fast the sink takes records: measured over the time in which more waited than it could be given, so that neither idle hours,
//! nor single small envelopes, nor an outage make it look slow.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// One sample: long enough that single sends do not show in it.
const SAMPLE: Duration = Duration::from_secs(5);
/// Samples that are remembered: a minute of work.
const SAMPLES: usize = 12;

/// Records and the time that the sink took for them.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    records: u64,
    busy: Duration,
}

impl Sample {
    fn per_second(self) -> Option<f64> {
        (self.records > 0 && self.busy > Duration::ZERO).then(|| self.records as f64 / self.busy.as_secs_f64())
    }
}

/// The pace of one lane over its last minute of work.
#[derive(Debug, Default)]
pub struct Pace {
    samples: VecDeque<Sample>,
    /// Since then the sink has had something to do that is not counted yet.
    busy_since: Option<Instant>,
}

impl Pace {
    /// The sink was given something.
    pub fn began(&mut self, now: Instant) {
        self.busy_since.get_or_insert(now);
    }

    /// The sink took so many records; `goes_on`: it still has something to do; `waited`: more was in hand than could start.
    pub fn took(&mut self, records: u64, goes_on: bool, waited: bool, now: Instant) {
        let busy = self.busy_since.map_or(Duration::ZERO, |since| now - since);
        self.busy_since = goes_on.then_some(now);
        if !waited {
            return;
        }
        if self.samples.back().is_none_or(|sample| sample.busy >= SAMPLE) {
            self.samples.push_back(Sample::default());
            if self.samples.len() > SAMPLES {
                self.samples.pop_front();
            }
        }
        if let Some(sample) = self.samples.back_mut() {
            sample.records += records;
            sample.busy += busy;
        }
    }

    /// The sink took nothing of an envelope. While it has others, its time goes on; otherwise it does not count.
    pub fn failed(&mut self, goes_on: bool) {
        if !goes_on {
            self.busy_since = None;
        }
    }

    /// Records a second over the last minute of work; `None` before there was any.
    pub fn mean(&self) -> Option<f64> {
        let sum = |a: Sample, b: &Sample| Sample { records: a.records + b.records, busy: a.busy + b.busy };
        self.samples.iter().fold(Sample::default(), sum).per_second()
    }

    /// Records a second in the slowest sample of the last minute of work.
    pub fn slowest(&self) -> Option<f64> {
        // A sample that has just begun says little.
        let full = |sample: &&Sample| sample.busy >= SAMPLE;
        let slowest = self.samples.iter().filter(full).filter_map(|sample| sample.per_second()).reduce(f64::min);
        slowest.or_else(|| self.mean())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_and_outages_do_not_count() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!((pace.mean(), pace.slowest()), (None, None));
        pace.began(start);
        pace.took(1_000, false, true, start + seconds(1));
        pace.began(start + seconds(3_600));
        pace.failed(false);
        pace.began(start + seconds(3_606));
        pace.took(3_000, false, true, start + seconds(3_607));
        assert_eq!(pace.mean(), Some(2_000.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_calm_hour_of_small_envelopes_says_nothing_of_what_the_sink_can_do() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for second in 0..3_600 {
            pace.began(start + seconds(second));
            pace.took(1, false, false, start + seconds(second + 1));
        }
        assert_eq!((pace.mean(), pace.slowest()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_beside_others_takes_no_time_from_them() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.began(start);
        for second in 1..=10 {
            pace.failed(true);
            pace.took(100, true, true, start + seconds(second));
        }
        assert_eq!(pace.mean(), Some(100.0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_seconds_of_the_last_minute_count() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.began(start);
        for second in 1..=100 {
            let records = if (20..25).contains(&second) { 10 } else { 100 };
            pace.took(records, true, true, start + seconds(second));
            if second == 30 {
                assert!(pace.slowest().is_some_and(|slowest| slowest < 50.0), "{pace:?}");
                assert!(pace.mean().is_some_and(|mean| mean > 80.0), "{pace:?}");
            }
        }
        assert_eq!((pace.mean(), pace.slowest()), (Some(100.0), Some(100.0)), "it forgets after a minute of work");
    }
}
