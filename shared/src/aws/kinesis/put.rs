//! One call's records for one stream, in order.
//!
//! Kinesis takes or fails each record of a request by itself, so that a later record of a key may be stored although an earlier one
//! failed. Here a record counts as taken only when it lies behind every earlier one of its key: by the sequence numbers that
//! Kinesis gave them. One that overtook another is put once more behind it. The stream then has it twice, with the same `ce_id`, and
//! who reads up to the last record of a key has the newest.
//!
//! What failed is put again until the time of the try is over, before everything behind it.
//!
//! One case is left. A request that the end of its try cuts off may still be on its way, and Kinesis may store it after what the next
//! try put of the same key, and after a newer record. Kinesis has nothing that would refuse it then, as a leader of Kafka refuses an
//! old epoch, and nothing asks afterwards. The last record of such a key is an older one, told by its `revision` and `ingested_at`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::ProvideErrorMetadata;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::aws;
use crate::error::{BackendError, Reason};
use crate::sink::Sent;

/// What a request may hold; AWS itself takes 10 MiB since 2025, endpoints that speak like it do not.
const REQUEST_RECORDS: usize = 500;
const REQUEST_BYTES: usize = 5 << 20;
/// Waits before the next request after one that failed in part, first and at the most: a shard's second is over soon.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));

/// One record as it is put.
#[derive(Clone)]
pub(super) struct Entry {
    /// Its place in the call.
    pub(super) index: usize,
    /// Decides about the shard, and has an order.
    pub(super) key: String,
    pub(super) data: Vec<u8>,
}

impl Entry {
    /// As Kinesis counts them.
    pub(super) fn bytes(&self) -> usize {
        self.key.len() + self.data.len()
    }
}

/// Where records are put, and until when.
pub(super) struct Put<'a> {
    pub(super) client: &'a Client,
    pub(super) stream: String,
    pub(super) deadline: Instant,
    pub(super) try_time: Duration,
}

/// What became of a stream's records, by their places in the call.
pub(super) struct Answer {
    pub(super) outcomes: Vec<(usize, Sent)>,
    pub(super) stream_is_missing: bool,
}

/// What follows from a request that failed as a whole.
enum Failure {
    /// May pass within the same try.
    Passes(String),
    /// Another request would fail as this one did.
    Lasts { text: String, stream_is_missing: bool },
    /// One of its records at least cannot be taken.
    Invalid(String),
}

impl Put<'_> {
    pub(super) async fn all(self, mut open: VecDeque<Entry>) -> Answer {
        let mut answer = Answer { outcomes: Vec::with_capacity(open.len()), stream_is_missing: false };
        let mut last_of_key = HashMap::new();
        let (mut most, mut pause) = (REQUEST_RECORDS, PAUSES.0);
        let mut problem = None;
        while !open.is_empty() && Instant::now() < self.deadline {
            let request = next(&mut open, most);
            let failed = match self.request(&request).await {
                Ok(results) => {
                    let (back, failed) = judge(request, &results, &mut last_of_key, &mut answer.outcomes);
                    back.into_iter().rev().for_each(|entry| open.push_front(entry));
                    failed
                }
                Err(Failure::Invalid(text)) if request.len() == 1 => {
                    let refused = |entry: Entry| (entry.index, Sent::Refused(Reason::SinkRefused, text.clone()));
                    answer.outcomes.extend(request.into_iter().map(refused));
                    most = REQUEST_RECORDS;
                    None
                }
                Err(failure) => {
                    most = if matches!(failure, Failure::Invalid(_)) { request.len() / 2 } else { most };
                    request.into_iter().rev().for_each(|entry| open.push_front(entry));
                    match failure {
                        Failure::Passes(text) => Some(text),
                        Failure::Invalid(_) => None,
                        Failure::Lasts { text, stream_is_missing } => {
                            answer.stream_is_missing = stream_is_missing;
                            answer.outcomes.extend(open.iter().map(|entry| (entry.index, Sent::Retry(text.clone()))));
                            return answer;
                        }
                    }
                }
            };
            if failed.is_some() {
                problem = failed;
                sleep_until(self.deadline.min(Instant::now() + pause)).await;
                pause = PAUSES.1.min(2 * pause);
            }
        }
        let late = format!("Kinesis did not acknowledge within {:?}", self.try_time);
        let late = problem.map_or(late.clone(), |problem| format!("{late}; last problem: {problem}"));
        answer.outcomes.extend(open.into_iter().map(|entry| (entry.index, Sent::Retry(late.clone()))));
        answer
    }

    async fn request(&self, entries: &[Entry]) -> Result<Vec<PutRecordsResultEntry>, Failure> {
        let records: Result<_, _> = entries
            .iter()
            .map(|entry| {
                let data = Blob::new(entry.data.clone());
                PutRecordsRequestEntry::builder().data(data).partition_key(&entry.key).build()
            })
            .collect();
        let records = records.map_err(|e| Failure::Invalid(e.to_string()))?;
        let asking = self.client.put_records().stream_name(&self.stream).set_records(Some(records)).send();
        match timeout_at(self.deadline, asking).await {
            Err(_) => Err(Failure::Passes(format!("Kinesis stream {}: no answer", self.stream))),
            Ok(Ok(answer)) => Ok(answer.records),
            Ok(Err(e)) => {
                let code = e.code().unwrap_or_default();
                let is_invalid = matches!(code, "InvalidArgumentException" | "ValidationException");
                let stream_is_missing = code == "ResourceNotFoundException";
                Err(match aws::failed("Kinesis stream", &self.stream, e) {
                    BackendError::Retry(text) => Failure::Passes(text),
                    BackendError::Fatal(text) if is_invalid => Failure::Invalid(text),
                    BackendError::Fatal(text) => Failure::Lasts { text, stream_is_missing },
                })
            }
        }
    }
}

/// The first of them, as many as one request may hold.
fn next(open: &mut VecDeque<Entry>, most: usize) -> Vec<Entry> {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += entry.bytes();
        bytes <= REQUEST_BYTES
    };
    let count = open.iter().take(most.max(1)).take_while(fits).count().max(1);
    open.drain(..count.min(open.len())).collect()
}

/// Notes the outcome of what was taken or refused. What has to be put again, in its order, and why.
fn judge(
    request: Vec<Entry>,
    results: &[PutRecordsResultEntry],
    last_of_key: &mut HashMap<String, Number>,
    outcomes: &mut Vec<(usize, Sent)>,
) -> (Vec<Entry>, Option<String>) {
    let (mut back, mut problem) = (Vec::new(), None);
    let mut held: HashSet<String> = HashSet::new();
    for (at, entry) in request.into_iter().enumerate() {
        let result = results.get(at);
        if held.contains(&entry.key) {
            back.push(entry);
            continue;
        }
        match result.map(|result| (result.sequence_number(), result.error_code())) {
            Some((Some(number), None)) if last_of_key.get(&entry.key).is_none_or(|last| *last < Number::of(number)) => {
                // Kinesis numbers records with 56 digits, which are no offset.
                outcomes.push((entry.index, Sent::Acked(None)));
                last_of_key.insert(entry.key, Number::of(number));
                continue;
            }
            Some((Some(_), None)) => problem = Some("Kinesis stored a record before an earlier one of its key".into()),
            Some((_, Some(code))) => {
                let text = result.and_then(PutRecordsResultEntry::error_message).unwrap_or("no reason given");
                problem = Some(format!("Kinesis: {code}: {text}"));
            }
            Some((None, None)) | None => problem = Some("Kinesis said nothing of a record".into()),
        }
        held.insert(entry.key.clone());
        back.push(entry);
    }
    (back, problem)
}

/// A sequence number: a decimal number that is too large for a machine's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Number(usize, String);

impl Number {
    fn of(text: &str) -> Number {
        let digits = text.trim_start_matches('0');
        Number(digits.len(), digits.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_are_compared_as_numbers() {
        let numbers = ["0", "9", "010", "99", "49545115243490985018280067714973144582180062593244200961"];
        assert!(numbers.map(Number::of).is_sorted());
        assert_eq!(Number::of("007"), Number::of("7"));
    }

    #[test]
    fn a_request_holds_what_kinesis_takes() {
        let entry = |bytes| Entry { index: 0, key: "k".into(), data: vec![b'x'; bytes - 1] };
        let lengths = |entries: &[usize]| {
            let mut open: VecDeque<Entry> = entries.iter().map(|&bytes| entry(bytes)).collect();
            let mut requests = Vec::new();
            while !open.is_empty() {
                requests.push(next(&mut open, REQUEST_RECORDS).len());
            }
            requests
        };
        assert_eq!(lengths(&[10; 1001]), [500, 500, 1]);
        assert_eq!(lengths(&[1 << 20; 11]), [5, 5, 1]);
        assert_eq!(lengths(&[REQUEST_BYTES + 1, 10]), [1, 1]);
    }
}
