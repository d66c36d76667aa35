//! The ledger of one run: what came against what went [Q1], how it is printed and what the exit code says of it.

use std::fmt;

use serde::Serialize;
use serde_json::json;
use streammanager::deliver::tally::Totals;

use super::lookout::say;
use crate::exit::Exit;

/// What waits in the tiers' queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Queued {
    Records(u64),
    /// SQS knows its messages, not the records in them: one message holds thousands, or none when it is a void copy.
    Messages {
        messages: u64,
    },
    /// The endpoint of the queues is away.
    Unknown,
}

impl Queued {
    pub(crate) fn messages(messages: u64) -> Queued {
        match messages {
            0 => Queued::Records(0),
            messages => Queued::Messages { messages },
        }
    }

    /// The fewest and the most records that it may be.
    fn bounds(self) -> (u64, u64) {
        match self {
            Queued::Records(n) => (n, n),
            Queued::Messages { .. } | Queued::Unknown => (0, u64::MAX),
        }
    }
}

impl fmt::Display for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Queued::Records(n) => write!(f, "{n}"),
            Queued::Messages { messages } => write!(f, "{messages} messages"),
            Queued::Unknown => f.write_str("what is not known, for the queues' endpoint is away"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Balanced,
    NotBalanced,
    /// Nothing speaks against it, but what waited at the start or the end is known in messages only or not at all, other hosts
    /// work on the same queues, or what came and went is known to the functions' processes alone.
    Open,
}

pub(crate) struct Ledger {
    pub(crate) queued_at_start: Queued,
    pub(crate) queued: Queued,
    pub(crate) totals: Totals,
    /// This process counts what its functions do; processes of their own do not tell it.
    pub(crate) counted: bool,
    /// Others may work on the same queues: what they take and deliver is in no ledger of this host.
    pub(crate) shared: bool,
    pub(crate) unread_readings: u64,
    /// Records of streams that expired, or were given up as the template has it.
    pub(crate) given_up: u64,
    /// Accepted over MQTT, and not yet taken by `express`.
    pub(crate) unheard_alerts: u64,
    /// Messages in queues of the folder that the template does not have.
    pub(crate) astray: u64,
    /// Everything was delivered before the end.
    pub(crate) drained: bool,
}

impl Ledger {
    /// queued at start + accepted + announced = delivered + dead letters + queued
    fn verdict(&self) -> Verdict {
        if !self.counted {
            return Verdict::Open;
        }
        let (start, end) = (self.queued_at_start.bounds(), self.queued.bounds());
        let came = self.totals.accepted + self.totals.announced;
        let went = self.totals.delivered_in_all() + self.totals.dead_lettered;
        let least_and_most = |by: u64, (least, most): (u64, u64)| (least.saturating_add(by), most.saturating_add(by));
        let (came, went) = (least_and_most(came, start), least_and_most(went, end));
        if came.0 > went.1 || went.0 > came.1 {
            if self.shared { Verdict::Open } else { Verdict::NotBalanced }
        } else if came.0 == came.1 && went.0 == went.1 {
            Verdict::Balanced
        } else {
            Verdict::Open
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        let left = [self.unread_readings, self.unheard_alerts, self.astray, self.given_up];
        let all = matches!(self.queued, Queued::Records(0)) && left == [0; 4];
        match self.verdict() {
            Verdict::NotBalanced => Exit::Failed,
            Verdict::Balanced | Verdict::Open if all => Exit::Done,
            Verdict::Balanced | Verdict::Open => Exit::Partly,
        }
    }

    pub(crate) fn print(&self, as_json: bool) {
        let totals = &self.totals;
        if as_json && !self.counted {
            let ledger = json!({
                "queued_at_start": self.queued_at_start, "queued": self.queued, "unread_readings": self.unread_readings,
                "unheard_alerts": self.unheard_alerts, "given_up": self.given_up, "astray": self.astray,
                "drained": self.drained, "balanced": null,
            });
            say(&json!({ "ledger": ledger }).to_string());
            return;
        }
        if as_json {
            let balanced = match self.verdict() {
                Verdict::Balanced => Some(true),
                Verdict::NotBalanced => Some(false),
                Verdict::Open => None,
            };
            let ledger = json!({
                "queued_at_start": self.queued_at_start, "accepted": totals.accepted, "announced": totals.announced,
                "delivered": totals.delivered, "dead_lettered": totals.dead_lettered, "redelivered": totals.redelivered,
                "queued": self.queued, "unread_readings": self.unread_readings, "unheard_alerts": self.unheard_alerts,
                "given_up": self.given_up, "astray": self.astray, "drained": self.drained,
                "balanced": balanced, "latency_ms": totals.latency_ms,
            });
            say(&json!({ "ledger": ledger }).to_string());
            return;
        }
        let verdict = match self.verdict() {
            Verdict::Balanced => "0 lost",
            Verdict::NotBalanced => "NOT BALANCED",
            Verdict::Open => {
                "nothing is missing as far as can be told: SQS counts messages, not the records in them, and other hosts may work on them"
            }
        };
        if !self.counted {
            say(&format!(
                "queued at start {}, queued at the end {}; what came and went between is in the functions' own logs",
                self.queued_at_start, self.queued
            ));
            return self.print_left();
        }
        say(&format!(
            "queued at start {} + accepted {} + announced {} = delivered {} + dead letters {} + queued {}: {verdict}",
            self.queued_at_start,
            totals.accepted,
            totals.announced,
            totals.delivered_in_all(),
            totals.dead_lettered,
            self.queued
        ));
        self.print_left();
        for (topic, n) in &totals.delivered {
            say(&format!("  {n:>8} {topic}"));
        }
        for (tier, ms) in &totals.latency_ms {
            say(&format!("  {tier:<8} p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", ms.p50, ms.p99, ms.max));
        }
    }

    fn print_left(&self) {
        if self.unread_readings > 0 {
            say(&format!("{} readings wait in the stream for the next start", self.unread_readings));
        }
        if self.unheard_alerts > 0 {
            say(&format!("{} messages over MQTT wait for express at the next start", self.unheard_alerts));
        }
        if self.given_up > 0 {
            say(&format!(
                "{} readings never left the stream: they expired, were too old or were tried too often, as the template has it, or were damaged",
                self.given_up
            ));
        }
        if self.astray > 0 {
            say(&format!("{} messages wait in queues that this template does not have", self.astray));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(start: Queued, accepted: u64, delivered: u64, end: Queued) -> Ledger {
        let delivered = [("topic".to_owned(), delivered)].into();
        let totals = Totals { accepted, delivered, ..Totals::default() };
        Ledger {
            queued_at_start: start,
            queued: end,
            totals,
            counted: true,
            shared: false,
            unread_readings: 0,
            unheard_alerts: 0,
            given_up: 0,
            astray: 0,
            drained: true,
        }
    }

    fn verdict(start: Queued, accepted: u64, delivered: u64, end: Queued) -> Verdict {
        ledger(start, accepted, delivered, end).verdict()
    }

    #[test]
    fn q1_records_balance_exactly() {
        assert_eq!(verdict(Queued::Records(2), 5, 4, Queued::Records(3)), Verdict::Balanced);
        assert_eq!(verdict(Queued::Records(2), 5, 4, Queued::Records(2)), Verdict::NotBalanced);
        assert_eq!(verdict(Queued::messages(0), 5, 5, Queued::messages(0)), Verdict::Balanced);
        assert_eq!(verdict(Queued::messages(0), 5, 4, Queued::messages(0)), Verdict::NotBalanced);
        assert_eq!(verdict(Queued::messages(0), 5, 6, Queued::messages(0)), Verdict::NotBalanced);
    }

    #[test]
    fn what_still_waits_is_exit_code_3() {
        let none = Queued::Records(0);
        assert_eq!(ledger(none, 3, 2, Queued::Records(1)).exit(), Exit::Partly);
        assert_eq!(ledger(none, 3, 2, none).exit(), Exit::Failed);
        assert_eq!(ledger(none, 0, 0, none).exit(), Exit::Done);
        let unread = Ledger { unread_readings: 1, ..ledger(none, 0, 0, none) };
        assert_eq!(unread.exit(), Exit::Partly);
        let unheard = Ledger { unheard_alerts: 1, ..ledger(none, 0, 0, none) };
        assert_eq!(unheard.exit(), Exit::Partly);
        let given_up = Ledger { given_up: 1, ..ledger(none, 0, 0, none) };
        assert_eq!(given_up.exit(), Exit::Partly);
        let astray = Ledger { astray: 1, ..ledger(none, 0, 0, none) };
        assert_eq!(astray.exit(), Exit::Partly);
    }

    #[test]
    fn d3_what_other_hosts_took_or_delivered_is_open_and_so_is_what_an_endpoint_that_is_away_holds() {
        for (accepted, delivered) in [(1_538, 3_060), (1_109, 0)] {
            let shared =
                Ledger { shared: true, ..ledger(Queued::messages(3), accepted, delivered, Queued::messages(0)) };
            assert_eq!((shared.verdict(), shared.exit()), (Verdict::Open, Exit::Done));
        }
        let away = Ledger { shared: true, ..ledger(Queued::Records(0), 5, 2, Queued::Unknown) };
        assert_eq!((away.verdict(), away.exit()), (Verdict::Open, Exit::Partly));
        assert_eq!(serde_json::to_value(away.queued).unwrap(), serde_json::Value::Null);
    }

    #[test]
    fn l3_what_processes_of_their_own_did_is_open_and_what_waits_is_exit_code_3() {
        let uncounted = |end| Ledger { counted: false, ..ledger(Queued::Records(0), 0, 0, end) };
        assert_eq!(uncounted(Queued::Records(0)).verdict(), Verdict::Open);
        assert_eq!(uncounted(Queued::Records(0)).exit(), Exit::Done);
        assert_eq!(uncounted(Queued::messages(1)).exit(), Exit::Partly);
    }

    #[test]
    fn messages_leave_it_open_unless_records_are_missing_for_certain() {
        assert_eq!(verdict(Queued::messages(1), 5, 900, Queued::Records(0)), Verdict::Open);
        assert_eq!(verdict(Queued::messages(1), 5, 4, Queued::Records(0)), Verdict::NotBalanced);
        assert_eq!(verdict(Queued::Records(0), 5, 2, Queued::messages(1)), Verdict::Open);
        assert_eq!(verdict(Queued::Records(0), 5, 6, Queued::messages(1)), Verdict::NotBalanced);
        assert_eq!(verdict(Queued::messages(1), 5, 6, Queued::messages(1)), Verdict::Open);
    }
}
