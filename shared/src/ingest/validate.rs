//! The rules that need the present [S9]: what a decoder alone cannot judge.

use crate::error::{Reason, Reject};
use crate::limits::CLOCK_SKEW;
use crate::record::Draft;
use crate::time::{Timestamp, rfc3339};

/// Refuses a time in the future beyond the clock-skew bound.
pub fn check(draft: Draft, now: Timestamp) -> Result<Draft, Reject> {
    let latest = now + CLOCK_SKEW;
    if draft.observed_at > latest {
        let (observed, now, minutes) = (rfc3339(draft.observed_at), rfc3339(now), CLOCK_SKEW.as_secs() / 60);
        let detail = format!("observed_at {observed} is more than {minutes} minutes after {now}, the time here");
        return Err(draft.refused(Reject::new(Reason::FutureTime, detail)));
    }
    Ok(draft)
}
