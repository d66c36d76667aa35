//! The tries of one send [R1]: at once, after 2 s, after 4 s more, with jitter, each behind the breaker.

use std::time::Duration;

use crate::app::App;
use crate::limits::{TRY_BULK, TRY_CRITICAL, TRY_WAITS};
use crate::record::Outgoing;
use crate::sink::{Lane, Sent};

/// One outcome a record, in order. What the breaker did not let through is `Retry`.
pub async fn send(app: &App, lane: Lane, records: &[Outgoing]) -> Vec<Sent> {
    let within = match lane {
        Lane::Critical => TRY_CRITICAL,
        Lane::Bulk => TRY_BULK,
    };
    let breaker = app.breakers.lane(lane);
    let mut outcomes = vec![Sent::Retry("the circuit breaker is open".into()); records.len()];
    let mut open: Vec<usize> = (0..records.len()).collect();
    for wait in TRY_WAITS {
        if open.is_empty() {
            break;
        }
        if wait > Duration::ZERO {
            tokio::time::sleep(app.rng.jitter(wait)).await;
        }
        if !breaker.admit(app.clock.now()) {
            break;
        }
        let sent = if open.len() == records.len() {
            app.sink.send(lane, records, within).await
        } else {
            let rest: Vec<Outgoing> = open.iter().map(|&i| records[i].clone()).collect();
            app.sink.send(lane, &rest, within).await
        };
        let failed = sent.iter().any(|outcome| matches!(outcome, Sent::Retry(_)));
        breaker.record(!failed, app.clock.now());
        for (&i, outcome) in open.iter().zip(sent) {
            outcomes[i] = outcome;
        }
        open.retain(|&i| matches!(outcomes[i], Sent::Retry(_)));
    }
    outcomes
}
