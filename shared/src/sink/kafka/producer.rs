//! The producer of the CRITICAL lane, which every call of the lane shares: a call's records are handed to it and their delivery
//! reports counted.
//!
//! No call ever ends what others have in flight. librdkafka itself gives a record up when a try's time is over, and reports
//! it; a call returns when all its records are reported, so that nothing of it is in flight any more. A call that is dropped
//! leaves its records behind: they are delivered or given up within the same time, and nobody hears of it.
//!
//! A producer is *retired* only when it has failed for good, when it keeps a token that brokers refuse, or when it owes reports
//! long after their time. What a retired producer holds is purged and thereby reported; calls that have time left hand these records to its successor.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};
use rdkafka::util::Timeout;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::login::{LoginContext, Refusal};
use super::settings::KafkaSettings;
use crate::error::Reason;
use crate::limits::TRY_ENDS_LATE;
use crate::record::Outgoing;
use crate::sink::{Sent, Written, refusal};

/// Wait when the producer holds all it may: a fraction of the time in which it sends that much.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// Records handed over before other tasks get their turn: about half a millisecond.
const TURN: usize = 256;
/// A report that is so late never comes: the client's threads have died, or the host stood still.
const OWED: Duration = TRY_ENDS_LATE.saturating_mul(5);
/// Purged again until all is reported, in case a record was just moving between the producer's queues.
const PURGE_AGAIN: Duration = Duration::from_millis(50);
/// librdkafka's word for a token that could not be made.
const NO_TOKEN: &str = "Failed to acquire SASL OAUTHBEARER token";
/// After so many purges the client's threads must have died, and no report comes any more.
const PURGES: usize = 40;

pub(super) struct Producer {
    settings: KafkaSettings,
    config: ClientConfig,
    current: Mutex<Arc<Client>>,
    refusal: Refusal,
}

/// What became of a call's records, one outcome each.
pub(super) struct Answer {
    pub(super) outcomes: Vec<Sent>,
    /// The cluster does not have a topic that was written to.
    pub(super) topic_is_missing: bool,
}

impl Producer {
    /// # Errors
    /// A setting that cannot be used.
    pub(super) fn new(settings: &KafkaSettings, refusal: &Refusal) -> Result<Producer, String> {
        let config = settings.critical_producer();
        let current = Mutex::new(Arc::new(Client::new(&config, settings, refusal)?));
        Ok(Producer { settings: settings.clone(), config, current, refusal: refusal.clone() })
    }

    pub(super) async fn send(&self, records: &[Outgoing]) -> Answer {
        let deadline = Instant::now() + self.settings.try_time;
        let mut outcomes: Vec<Sent> =
            records.iter().map(|record| refusal(record).unwrap_or(Sent::Acked(None))).collect();
        let mut open: Vec<usize> = (0..records.len()).filter(|&index| outcomes[index].is_acked()).collect();
        let (mut too_large, mut topic_is_missing) = (Vec::new(), false);
        while !open.is_empty() {
            let client = match self.client() {
                Ok(client) => client,
                Err(problem) => {
                    open.into_iter().for_each(|index| outcomes[index] = Sent::Retry(problem.clone()));
                    break;
                }
            };
            let reports = client.round(records, &open, &self.settings.topic_prefix, deadline).await;
            open.clear();
            for (index, report) in reports {
                let failure = match report {
                    Ok(written) => {
                        outcomes[index] = Sent::Acked(Some(written));
                        continue;
                    }
                    Err(failure) => failure,
                };
                topic_is_missing |= failure.is_missing_topic();
                match failure {
                    // Its producer was retired: this call has time left.
                    Failure::Broker(code) if is_purged(code) && Instant::now() < deadline => open.push(index),
                    Failure::Broker(RDKafkaErrorCode::MessageSizeTooLarge) => too_large.push(index),
                    failure => outcomes[index] = self.outcome(&client, failure),
                }
            }
            open.sort_unstable();
        }
        too_large.sort_unstable();
        self.send_alone(records, &too_large, deadline, &mut outcomes).await;
        Answer { outcomes, topic_is_missing }
    }

    /// The broker refuses a whole batch as too large: only a record that it refuses alone is.
    async fn send_alone(&self, records: &[Outgoing], suspects: &[usize], deadline: Instant, outcomes: &mut [Sent]) {
        for &index in suspects {
            outcomes[index] = match self.client() {
                Err(problem) => Sent::Retry(problem),
                Ok(client) => {
                    match client.round(records, &[index], &self.settings.topic_prefix, deadline).await.pop() {
                        None => Sent::Retry("the Kafka producer gave no report".into()),
                        Some((_, Ok(written))) => Sent::Acked(Some(written)),
                        Some((_, Err(failure))) => self.outcome(&client, failure),
                    }
                }
            };
        }
    }

    /// What the cluster says of itself, or of one topic only; waits for the answer as long as it takes.
    ///
    /// # Errors
    /// What stands in the way.
    pub(super) fn metadata(&self, topic: Option<&str>) -> impl FnOnce() -> Result<Metadata, String> + Send + 'static {
        let topic = topic.map(|topic| format!("{}{topic}", self.settings.topic_prefix));
        let client = self.client();
        move || {
            let client = client?;
            client.producer().client().fetch_metadata(topic.as_deref(), Timeout::Never).map_err(|e| e.to_string())
        }
    }

    /// The last thing that went wrong between this lane's producer and the brokers.
    pub(super) fn last_problem(&self) -> Option<String> {
        self.current.lock().producer().context().last_problem()
    }

    /// Which producer is in use: another one has another number.
    #[cfg(test)]
    pub(super) fn serial(&self) -> usize {
        Arc::as_ptr(&*self.current.lock()) as usize
    }

    /// The producer in use; a new one after the last was retired or failed for good.
    fn client(&self) -> Result<Arc<Client>, String> {
        let mut current = self.current.lock();
        if let Some((code, text)) = current.producer().client().fatal_error() {
            tracing::warn!(%code, text, "the Kafka producer failed for good: a new one takes over");
            current.retire();
        }
        if current.producer().context().login.is_stale() {
            tracing::info!("the Kafka producer shows a token that is refused: a new one takes over");
            current.retire();
        }
        if current.retired.load(Ordering::Acquire) {
            *current = Arc::new(Client::new(&self.config, &self.settings, &self.refusal)?);
        }
        Ok(current.clone())
    }

    fn outcome(&self, client: &Client, failure: Failure) -> Sent {
        let code = match failure {
            Failure::Client(code) | Failure::Broker(code) => code,
            // Sent once more at the worst, which its `event_id` and `revision` show [K6].
            Failure::Unproved => {
                return Sent::Retry("Kafka called the record a repeat without saying where the first one lies".into());
            }
        };
        let mut text = if is_purged(code) || code == RDKafkaErrorCode::MessageTimedOut {
            format!("Kafka did not acknowledge within {:?}", self.settings.try_time)
        } else {
            format!("Kafka: {code}")
        };
        if let Some(problem) = client.producer().context().last_problem() {
            text = format!("{text}; last problem: {problem}");
        }
        outcome(code, text)
    }
}

/// What became of one record: where it lies, or why it has no acknowledgement.
type Report = Result<Written, Failure>;

/// Why a record has no acknowledgement.
#[derive(Clone, Copy)]
enum Failure {
    /// Refused before it was handed over.
    Client(RDKafkaErrorCode),
    /// Reported by the producer.
    Broker(RDKafkaErrorCode),
    /// The broker took it for a repeat and did not say where the first one lies. That proves nothing: on a partition that
    /// this producer has not written to, a later request may be stored before an earlier one that has to be sent again, and
    /// the earlier one is then called a repeat although its records are nowhere.
    Unproved,
}

impl Failure {
    fn is_missing_topic(self) -> bool {
        use RDKafkaErrorCode as Code;
        matches!(
            self,
            Failure::Client(code) | Failure::Broker(code)
                if matches!(code, Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition)
        )
    }
}

fn is_purged(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
}

/// What the caller does next about an error of Kafka's. Faults of a configuration that an operator can mend
/// (authorisation, a missing topic) are `Retry`: good records never go to the dead letters for them.
fn outcome(code: RDKafkaErrorCode, text: String) -> Sent {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge => Sent::Refused(Reason::TooLarge, text),
        Code::InvalidRecord | Code::InvalidTimestamp | Code::InvalidTopic => Sent::Refused(Reason::SinkRefused, text),
        _ => Sent::Retry(text),
    }
}

struct Client {
    /// `None` only while dropping.
    producer: Option<ThreadedProducer<Reports>>,
    retired: AtomicBool,
    /// Held while a call's records are handed over: calls follow one another in the order in which they came. Between the turns of
    /// one, another's later readings of the same device would overtake.
    handing_over: tokio::sync::Mutex<()>,
}

impl Client {
    fn new(config: &ClientConfig, settings: &KafkaSettings, refusal: &Refusal) -> Result<Client, String> {
        let login = LoginContext::new(settings.tokens());
        let reports = Reports { problem: Mutex::default(), login, refusal: refusal.clone() };
        let producer = ThreadedProducer::from_config_and_context(config, reports).map_err(|e| match e {
            // The text of this error holds the value, which may be a secret.
            KafkaError::ClientConfig(_, rule, name, _) => format!("Kafka client setting {name}: {rule}"),
            other => format!("no Kafka client: {other}"),
        })?;
        let (retired, handing_over) = (AtomicBool::new(false), tokio::sync::Mutex::new(()));
        Ok(Client { producer: Some(producer), retired, handing_over })
    }

    fn producer(&self) -> &ThreadedProducer<Reports> {
        self.producer.as_ref().expect("a producer lives as long as its client")
    }

    /// Hands the records named by `open` over, in order, and waits for their reports, one each.
    async fn round(
        &self,
        records: &[Outgoing],
        open: &[usize],
        topic_prefix: &str,
        deadline: Instant,
    ) -> Vec<(usize, Report)> {
        let call = Arc::new(Call { left: AtomicUsize::new(1), ..Call::default() });
        let mut topic = String::new();
        let mut late = false;
        let handing_over = self.handing_over.lock().await;
        for (turn, &index) in open.iter().enumerate() {
            if turn % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
            // Asked for each record, for the process may have stood still since the last one, which has expired then [K3].
            late |= Instant::now() >= deadline;
            let record = &records[index];
            topic.clear();
            topic.push_str(topic_prefix);
            topic.push_str(record.topic.name());
            let failure = loop {
                if late {
                    break Some(Failure::Client(RDKafkaErrorCode::MessageTimedOut));
                }
                if self.retired.load(Ordering::Acquire) {
                    break Some(Failure::Broker(RDKafkaErrorCode::PurgeQueue));
                }
                match self.hand_over(&topic, record, &call, index) {
                    Ok(()) => break None,
                    Err(RDKafkaErrorCode::QueueFull) if Instant::now() < deadline => sleep(FULL_PAUSE).await,
                    Err(RDKafkaErrorCode::QueueFull) => late = true,
                    Err(code) => break Some(Failure::Client(code)),
                }
            };
            if let Some(failure) = failure {
                call.report(index, Err(failure));
            }
        }
        drop(handing_over);
        call.settle();
        let is_finished = timeout_at(deadline + OWED, call.finished()).await.is_ok();
        if !is_finished {
            tracing::error!("the Kafka producer does not report its records: a new one takes over");
            self.retire();
            for _ in 0..PURGES {
                if timeout(PURGE_AGAIN, call.finished()).await.is_ok() {
                    break;
                }
                self.purge();
            }
        }
        call.take_reports(open)
    }

    fn hand_over(
        &self,
        topic: &str,
        record: &Outgoing,
        call: &Arc<Call>,
        index: usize,
    ) -> Result<(), RDKafkaErrorCode> {
        let mut headers = Some(OwnedHeaders::new_with_capacity(record.header_count()));
        record.each_header(|key, value| {
            headers = headers.take().map(|all| all.insert(Header { key, value: Some(value.as_bytes()) }));
        });
        call.left.fetch_add(1, Ordering::AcqRel);
        let ticket = Box::new(Ticket { call: call.clone(), index });
        let message = BaseRecord::with_opaque_to(topic, ticket)
            .key(record.key.as_bytes())
            .payload(&record.value[..])
            .timestamp(record.ingested_at.as_millisecond())
            .headers(headers.unwrap_or_default());
        self.producer().send(message).map_err(|(error, _)| {
            call.settle();
            error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)
        })
    }

    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.purge();
    }

    fn purge(&self) {
        self.producer().purge(PurgeConfig::default().queue().inflight().non_blocking());
    }
}

impl Drop for Client {
    /// Elsewhere: the producer's end waits for its threads, up to half a second.
    fn drop(&mut self) {
        let producer = self.producer.take();
        let _ = std::thread::Builder::new().name("kafka-client-end".into()).spawn(move || drop(producer));
    }
}

/// Collects a round's reports.
#[derive(Default)]
struct Call {
    /// Records not yet reported, and one more while they are being handed over.
    left: AtomicUsize,
    reports: Mutex<Vec<(usize, Report)>>,
    done: Notify,
}

impl Call {
    fn settle(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }

    fn report(&self, index: usize, report: Report) {
        self.reports.lock().push((index, report));
    }

    async fn finished(&self) {
        while self.left.load(Ordering::Acquire) > 0 {
            self.done.notified().await;
        }
    }

    /// One report for each of `open`: a record that nobody reported was not acknowledged.
    fn take_reports(&self, open: &[usize]) -> Vec<(usize, Report)> {
        let mut reports = std::mem::take(&mut *self.reports.lock());
        if reports.len() < open.len() {
            let reported: BTreeSet<usize> = reports.iter().map(|(index, _)| *index).collect();
            let missing = open.iter().filter(|index| !reported.contains(index));
            reports.extend(missing.map(|&index| (index, Err(Failure::Client(RDKafkaErrorCode::MessageTimedOut)))));
        }
        reports
    }
}

struct Ticket {
    call: Arc<Call>,
    index: usize,
}

/// Delivery reports, and librdkafka's log as events of ours.
struct Reports {
    problem: Mutex<Option<String>>,
    login: LoginContext,
    refusal: Refusal,
}

impl Reports {
    fn last_problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, report: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let report = match report {
            Ok(record) if record.offset() >= 0 => {
                Ok(Written { partition: record.partition(), offset: record.offset() })
            }
            Ok(_) => Err(Failure::Unproved),
            Err((error, _)) => Err(Failure::Broker(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail))),
        };
        ticket.call.report(ticket.index, report);
        ticket.call.settle();
    }
}

impl ClientContext for Reports {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = LoginContext::ENABLE_REFRESH_OAUTH_TOKEN;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.login.token()
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        match level {
            RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info => tracing::debug!(facility, "librdkafka: {text}"),
            RDKafkaLogLevel::Notice => tracing::info!(facility, "librdkafka: {text}"),
            // A connection that failed: what comes of it is told by the try that needed it.
            _ if facility == "FAIL" => tracing::info!(facility, "librdkafka: {text}"),
            _ => tracing::warn!(facility, "librdkafka: {text}"),
        }
    }

    fn error(&self, error: KafkaError, text: &str) {
        tracing::debug!(%error, "librdkafka: {text}");
        // Follows the broker's own problem and says less.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            return;
        }
        // What begins so says that we have no token to show, which no broker has refused.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Authentication) && !text.starts_with(NO_TOKEN) {
            self.login.note_refusal();
            self.refusal.note();
        }
        *self.problem.lock() = Some(text.to_owned());
    }
}
