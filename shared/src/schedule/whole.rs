//! What reading a stream that has an end takes [M1, S11]: requests, points and time, for people, before it runs and while it does.

use std::fmt;
use std::time::Duration;

use super::file::StreamSpec;
use crate::connect::{Cursor, Progress};
use crate::record::StreamId;

const DAY: Duration = Duration::from_secs(86_400);

/// One stream's whole range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// Whose.
    pub stream: StreamId,
    /// How far it is, and what all of it takes.
    pub progress: Progress,
    /// From its first poll to its last one, if none fails and nothing of it is still to happen; `None` until its source has said how
    /// much there is.
    pub takes: Option<Duration>,
}

impl StreamSpec {
    /// `None` for a stream without an end.
    pub fn whole(&self, cursor: &Cursor) -> Option<Whole> {
        let progress = self.polled.progress(cursor)?;
        let interval = self.interval.get();
        let polls = progress.requests.map(|requests| requests.div_ceil(self.polled.requests().max(1) as u64));
        let by_polls = polls.map(|polls| interval.saturating_mul(u32::try_from(polls).unwrap_or(u32::MAX)));
        let a_day = self.polled.points_a_day(interval).map(|(_, may)| may.max(1));
        let days = progress.points.zip(a_day).map(|(points, a_day)| points.div_ceil(a_day).saturating_sub(1));
        let by_points = days.map_or(Duration::ZERO, |days| DAY.saturating_mul(u32::try_from(days).unwrap_or(u32::MAX)));
        let takes = by_polls.map(|by_polls| by_polls.max(by_points));
        Some(Whole { stream: self.id.clone(), progress, takes })
    }
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { done, whole, of, requests, points } = &self.progress;
        let (Some(whole), Some(requests), Some(takes)) = (whole, requests, self.takes) else {
            return write!(
                f,
                "{}: it has an end; how many {of} there are its source says at the first poll",
                self.stream
            );
        };
        write!(f, "{}: {whole} {of} by {requests} requests", self.stream)?;
        if let Some(points) = points {
            write!(f, " and {points} points")?;
        }
        write!(f, ", about {}", roughly(takes))?;
        if *done > 0 { write!(f, "; {done} of them were read") } else { Ok(()) }
    }
}

/// In the unit that fits.
fn roughly(time: Duration) -> String {
    let minutes = time.as_secs().div_ceil(60);
    match minutes {
        0..120 => format!("{minutes} min"),
        120..2_880 => format!("{} h", minutes.div_ceil(60)),
        _ => format!("{} days", minutes.div_ceil(1_440)),
    }
}
