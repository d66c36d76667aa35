//! What a person on duty is told while the system runs [O8]: each change of state once, in words, and a heartbeat; nothing
//! in between. What was is compared with what is; how it is found out stands in `lookout`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use streammanager::record::StreamId;
use streammanager::sink::Kind;
use streammanager::time::{Timestamp, rfc3339};
use tokio::time::Instant;

/// How things stand at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Why nothing new is taken in.
    pub(crate) intake: Option<String>,
    /// Why nothing is delivered.
    pub(crate) delivery: Option<String>,
    /// Messages in the tiers' queues.
    pub(crate) waiting: u64,
    /// By started stream, what its source answered to the last poll if that failed.
    pub(crate) sources: BTreeMap<StreamId, Option<String>>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    IntakeClosed { problem: String },
    IntakeOpen { closed_s: u64 },
    DeliveryStopped { problem: String, waiting: u64 },
    DeliveryResumed { sink: Kind, stopped_s: u64, waiting: u64 },
    SourceFailing { stream: StreamId, problem: String },
    SourceHealthy { stream: StreamId, failed_s: u64 },
    DeadLetters { letters: u64, patterns: usize, most: Vec<DeadPattern> },
    Heartbeat { accepted: u64, delivered: u64, waiting: u64, sources: usize, sources_failing: usize },
}

/// Dead letters with the same fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DeadPattern {
    pub(crate) stream: String,
    pub(crate) reason: String,
    pub(crate) rule: String,
    pub(crate) letters: u64,
}

impl Event {
    /// For people.
    pub(crate) fn words(&self) -> String {
        match self {
            Event::IntakeClosed { problem } => format!("nothing new is taken in: {problem}"),
            Event::IntakeOpen { closed_s } => format!("new records are taken in again, after {}", long(*closed_s)),
            Event::DeliveryStopped { problem, waiting } => {
                format!(
                    "nothing is delivered: {problem}; {waiting} messages wait in the queues, and what comes is queued"
                )
            }
            Event::DeliveryResumed { sink, stopped_s, waiting } => format!(
                "{} is back after {}; {waiting} messages wait and go out now, CRITICAL first",
                sink.proper_name(),
                long(*stopped_s)
            ),
            Event::SourceFailing { stream, problem } => format!("stream {stream} gets no data: {problem}"),
            Event::SourceHealthy { stream, failed_s } => {
                format!("stream {stream} gets data again, after {}", long(*failed_s))
            }
            Event::DeadLetters { letters, patterns, most } => {
                let named = most.iter().map(|DeadPattern { stream, reason, rule, letters }| {
                    // A terminal obeys control characters, and strangers write what a rule quotes.
                    let rule = rule
                        .chars()
                        .flat_map(|char| if char.is_control() { char.escape_default().collect() } else { vec![char] });
                    format!("{letters} × {reason} in stream {stream} ({})", rule.collect::<String>())
                });
                format!(
                    "dead letters: {letters}, of different faults: {patterns}; most often {}; what to do: streammanager dead-letters explain",
                    named.collect::<Vec<_>>().join(", ")
                )
            }
            Event::Heartbeat { accepted, delivered, waiting, sources, sources_failing } => format!(
                "accepted {accepted}, delivered {delivered}, waiting {waiting} messages; {} of {sources} sources healthy",
                sources - sources_failing
            ),
        }
    }

    pub(crate) fn line(&self, at: Timestamp, as_json: bool) -> String {
        let at = rfc3339(at);
        if !as_json {
            return format!("{at} {}", self.words());
        }
        let mut event = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = event.as_object_mut() {
            fields.insert("at".into(), at.into());
        }
        event.to_string()
    }
}

fn long(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// What was said last, and since when that is so, by a clock that nobody sets [M4].
pub(crate) struct Said {
    /// What is away when nothing is delivered.
    sink: Kind,
    standing: Standing,
    intake_since: Instant,
    delivery_since: Instant,
    sources_since: BTreeMap<StreamId, Instant>,
    beat: Instant,
    heartbeat: Duration,
}

impl Said {
    /// Nothing yet: whatever is wrong at the start is a change.
    pub(crate) fn nothing(sink: Kind, at: Instant, heartbeat: Duration) -> Said {
        Said {
            sink,
            standing: Standing::default(),
            intake_since: at,
            delivery_since: at,
            sources_since: BTreeMap::new(),
            beat: at,
            heartbeat,
        }
    }

    /// What is to be said of `now`; it counts as said.
    pub(crate) fn changes(&mut self, now: Standing, at: Instant) -> Vec<Event> {
        let seconds = |since: Instant| (at - since).as_secs();
        let mut events = Vec::new();
        match (&self.standing.intake, &now.intake) {
            (None, Some(problem)) => events.push(Event::IntakeClosed { problem: problem.clone() }),
            (Some(_), None) => events.push(Event::IntakeOpen { closed_s: seconds(self.intake_since) }),
            _ => {}
        }
        if self.standing.intake.is_some() != now.intake.is_some() {
            self.intake_since = at;
        }
        let waiting = now.waiting;
        match (&self.standing.delivery, &now.delivery) {
            (None, Some(problem)) => events.push(Event::DeliveryStopped { problem: problem.clone(), waiting }),
            (Some(_), None) => {
                let stopped_s = seconds(self.delivery_since);
                events.push(Event::DeliveryResumed { sink: self.sink, stopped_s, waiting });
            }
            _ => {}
        }
        if self.standing.delivery.is_some() != now.delivery.is_some() {
            self.delivery_since = at;
        }
        for (stream, problem) in &now.sources {
            let before = self.standing.sources.get(stream).cloned().flatten();
            match (before, problem) {
                (None, Some(problem)) => {
                    self.sources_since.insert(stream.clone(), at);
                    events.push(Event::SourceFailing { stream: stream.clone(), problem: problem.clone() });
                }
                (Some(_), None) => {
                    let failed_s = self.sources_since.remove(stream).map_or(0, seconds);
                    events.push(Event::SourceHealthy { stream: stream.clone(), failed_s });
                }
                _ => {}
            }
        }
        self.standing = now;
        events
    }

    /// The heartbeat, when it is due.
    pub(crate) fn heartbeat(&mut self, accepted: u64, delivered: u64, at: Instant) -> Option<Event> {
        if at < self.beat + self.heartbeat {
            return None;
        }
        self.beat = at;
        Some(Event::Heartbeat {
            accepted,
            delivered,
            waiting: self.standing.waiting,
            sources: self.standing.sources.len(),
            sources_failing: self.standing.sources.values().flatten().count(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    fn at(seconds: u64) -> Instant {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        *START + Duration::from_secs(seconds)
    }

    fn words(events: &[Event]) -> Vec<String> {
        events.iter().map(Event::words).collect()
    }

    #[test]
    fn o8_a_lost_and_returned_sink_is_said_once_each_by_its_name() {
        for sink in Kind::ALL {
            lost_and_returned(sink);
        }
    }

    fn lost_and_returned(sink: Kind) {
        let mut said = Said::nothing(sink, at(0), Duration::from_secs(600));
        let away = |waiting| Standing { delivery: Some("nobody answers".into()), waiting, ..Standing::default() };
        assert_eq!(said.changes(Standing::default(), at(1)), []);
        assert!(
            words(&said.changes(away(3), at(2)))[0].starts_with("nothing is delivered: nobody answers; 3 messages")
        );
        assert_eq!(said.changes(away(900), at(60)), [], "it is said once");
        let back = said.changes(Standing { waiting: 900, ..Standing::default() }, at(82));
        let name = sink.proper_name();
        let wanted = format!("{name} is back after 1 min 20 s; 900 messages wait and go out now, CRITICAL first");
        assert_eq!(words(&back), [wanted]);
        assert_eq!(said.changes(Standing::default(), at(83)), []);
    }

    #[test]
    fn o8_a_source_is_quoted_when_it_fails_and_named_when_it_is_well_again() {
        let mut said = Said::nothing(Kind::Kafka, at(0), Duration::from_secs(600));
        let stream = StreamId::new("modis").unwrap();
        let standing = |problem: Option<&str>| {
            let sources = BTreeMap::from([(stream.clone(), problem.map(str::to_owned))]);
            Standing { sources, ..Standing::default() }
        };
        let key = "status 200: \"Invalid MAP_KEY.\"";
        let first = said.changes(standing(Some(key)), at(1));
        assert_eq!(words(&first), [format!("stream modis gets no data: {key}")], "also when it fails from the start");
        assert_eq!(said.changes(standing(Some("status 500")), at(61)), []);
        assert_eq!(words(&said.changes(standing(None), at(121))), ["stream modis gets data again, after 2 min 0 s"]);
    }

    #[test]
    fn o8_a_quiet_system_gives_a_heartbeat_and_nothing_else() {
        let mut said = Said::nothing(Kind::Kafka, at(0), Duration::from_secs(600));
        let mut lines = 0;
        for second in 0..3_600 {
            assert_eq!(said.changes(Standing::default(), at(second)), []);
            lines += usize::from(said.heartbeat(5, 5, at(second)).is_some());
        }
        assert_eq!(lines, 5);
    }

    #[test]
    fn an_event_is_one_json_object() {
        let line = Event::IntakeClosed { problem: "the disk is full".into() }
            .line("2027-01-15T08:00:00Z".parse().unwrap(), true);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["event"], &line["problem"]), (&"intake_closed".into(), &"the disk is full".into()));
        assert_eq!(line["at"], "2027-01-15T08:00:00.000Z");
    }
}
