//! The tries of one send [R1]: at once and twice more, with jitter between them, each behind the breaker.

use std::time::Duration;

use crate::app::App;
use crate::limits::{TRY_WAITS, TRY_WAITS_CRITICAL};
use crate::record::Outgoing;
use crate::sink::{Lane, Sent};

/// One outcome a record, in order. What the breaker did not let through is `Retry`.
pub async fn send(app: &App, lane: Lane, records: &[Outgoing]) -> Vec<Sent> {
    let waits = match lane {
        Lane::Critical => TRY_WAITS_CRITICAL,
        Lane::Bulk => TRY_WAITS,
    };
    let breaker = app.breakers.lane(lane);
    let mut outcomes = Vec::new();
    let mut open: Vec<usize> = (0..records.len()).collect();
    for wait in waits {
        if open.is_empty() {
            break;
        }
        if wait > Duration::ZERO {
            // A broker that is back is not waited for any longer [R2].
            tokio::select! { biased;
                () = app.breakers.changed() => {}
                () = tokio::time::sleep(app.rng.jitter(wait)) => {}
            }
        }
        if !breaker.admit() {
            break;
        }
        let sent = if open.len() == records.len() {
            app.sink.send(lane, records).await
        } else {
            let rest: Vec<Outgoing> = open.iter().map(|&i| records[i].clone()).collect();
            app.sink.send(lane, &rest).await
        };
        let failed = sent.iter().any(|outcome| matches!(outcome, Sent::Retry(_)));
        breaker.record(!failed);
        if open.len() == records.len() {
            outcomes = sent;
        } else {
            open.iter().zip(sent).for_each(|(&i, outcome)| outcomes[i] = outcome);
        }
        open.retain(|&i| matches!(outcomes[i], Sent::Retry(_)));
    }
    if outcomes.is_empty() {
        outcomes = vec![Sent::Retry("the circuit breaker is open".into()); records.len()];
    }
    outcomes
}
