//! What a record was before it was redriven: a dead letter. It travels in the record's headers, so that whoever reads the
//! record knows it, and so that a letter that it becomes again goes on with its history [R4].

use crate::error::Reason;
use crate::record::EventId;
use crate::time::{Timestamp, rfc3339};

/// A redriven record's past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// The dead letter that it was.
    pub letter: EventId,
    /// Why it was one.
    pub reason: Reason,
    /// When it failed first.
    pub first_seen: Timestamp,
    /// How often it had failed before this redrive.
    pub attempts: u64,
    /// Where it came from or was to go: the MQTT topic of what was pushed, the Kafka topic of what the sink refused.
    pub topic: Option<String>,
    /// Of a reading: the shard of the stream that carried it.
    pub partition: Option<String>,
    /// Of a reading: its sequence number in the shard.
    pub offset: Option<String>,
}

const LETTER: &str = "dead_letter_id";
const REASON: &str = "dead_letter_reason";
const FIRST_SEEN: &str = "dead_letter_first_seen";
const ATTEMPTS: &str = "dead_letter_attempts";
const TOPIC: &str = "original_topic";
const PARTITION: &str = "original_partition";
const OFFSET: &str = "original_offset";

impl Lineage {
    /// As the record's headers say it.
    pub fn headers(&self) -> impl Iterator<Item = (String, String)> {
        let known = [
            (LETTER, Some(self.letter.to_string())),
            (REASON, Some(self.reason.code().to_owned())),
            (FIRST_SEEN, Some(rfc3339(self.first_seen))),
            (ATTEMPTS, Some(self.attempts.to_string())),
            (TOPIC, self.topic.clone()),
            (PARTITION, self.partition.clone()),
            (OFFSET, self.offset.clone()),
        ];
        known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)))
    }

    /// Takes the lineage out of a record's headers; `None` for a record that was never a dead letter.
    pub(crate) fn taken_from(headers: &mut Vec<(String, String)>) -> Option<Lineage> {
        let mut take = |name| {
            let at = headers.iter().position(|(other, _)| other == name)?;
            Some(headers.remove(at).1)
        };
        let (letter, reason, first_seen, attempts) = (take(LETTER), take(REASON), take(FIRST_SEEN), take(ATTEMPTS));
        let (topic, partition, offset) = (take(TOPIC), take(PARTITION), take(OFFSET));
        Some(Lineage {
            letter: letter?.parse().ok()?,
            reason: serde_json::from_value(reason?.into()).ok()?,
            first_seen: first_seen?.parse().ok()?,
            attempts: attempts?.parse().ok()?,
            topic,
            partition,
            offset,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r4_a_lineage_comes_back_from_the_headers_as_it_was() {
        let lineage = Lineage {
            letter: EventId::from_bytes([7; 16]),
            reason: Reason::BadLatitude,
            first_seen: "2026-09-01T19:00:00.123Z".parse().unwrap(),
            attempts: 3,
            topic: Some("sensors/purpleair/7/state".into()),
            partition: None,
            offset: Some("4711".into()),
        };
        let mut headers: Vec<(String, String)> = [("status".to_owned(), "Actual".to_owned())].into();
        headers.extend(lineage.headers());
        assert_eq!(headers.len(), 7, "what is not known is not said: {headers:?}");
        assert_eq!(Lineage::taken_from(&mut headers), Some(lineage));
        assert_eq!(headers, [("status".to_owned(), "Actual".to_owned())]);
        assert_eq!(Lineage::taken_from(&mut headers), None);
    }
}
