//! The laws of `Sink`, written once and run on every implementation. A `TestSink` is a place that a sink writes to and that
//! can be read around the sink.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{FutureExt, join_all};

use crate::error::Reason;
use crate::limits::{RECORD_VALUE_BYTES, TRY, TRY_ENDS_LATE};
use crate::record::{EventId, Outgoing, SCHEMAS, SourceId, TenantId, Tier, Topic, Traceparent};
use crate::sink::{Lane, Sent, Sink, TopicState, Written};
use crate::time::{Clock, Timestamp};

/// One record as it lies at its destination; what the sink does not keep is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Without a stage's prefix.
    pub topic: String,
    /// The published JSON.
    pub value: Vec<u8>,
    /// The record's key [K3].
    pub key: Option<String>,
    /// Names and values, in the order in which they are stored.
    pub headers: Option<Vec<(String, String)>>,
    /// Milliseconds since 1970: the time of acceptance [K5].
    pub timestamp_ms: Option<i64>,
    /// Where it lies.
    pub written: Written,
}

/// A place that a sink writes to, and that can be read around the sink.
#[async_trait]
pub trait TestSink: Send + Sync {
    /// A new sink over the same place: what a restarted process would have.
    async fn open(&self) -> Arc<dyn Sink>;

    /// Everything there, in order within a key.
    async fn read(&self) -> Vec<Stored>;

    /// Whether the sink can say where a record lies, as partition and offset.
    fn tells_where(&self) -> bool {
        true
    }
}

/// A world whose place can be away: a broker stopped, a disk that refuses.
#[async_trait]
pub trait Breakable: TestSink {
    /// Away from now on, or back.
    async fn outage(&self, out: bool);
}

/// A send that has not returned by then hangs.
const HANGS: Duration = Duration::from_secs(15);

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Record `n` of a law; the law's name keeps laws apart that run in one place.
pub fn record(law: &str, n: usize) -> Outgoing {
    let source = SourceId::new("firms_viirs_noaa20").expect("a valid id");
    let event = EventId::of(&source, [law, &n.to_string()]);
    // Today: a sink with a retention by time would soon forget records of a fixed day.
    let today = Clock::system().now().as_millisecond() / DAY_MS * DAY_MS;
    let ingested_at = Timestamp::from_millisecond(today + n as i64).expect("a valid time");
    Outgoing {
        topic: Topic::NASA_FIRMS,
        key: format!("85{:013x}", n % 7),
        value: format!(r#"{{"law":"{law}","n":{n},"event_id":"{event}"}}"#).into(),
        event,
        revision: 0,
        source,
        tenant: TenantId::new("california").expect("a valid tenant"),
        tier: Tier::High,
        dataschema: Topic::NASA_FIRMS.schema_uri(SCHEMAS).into(),
        observed_at: ingested_at,
        published_at: None,
        ingested_at,
        traceparent: Traceparent::new([1; 16], [2; 8]),
        extra: vec![("law".into(), law.into())],
    }
}

fn records(law: &str, count: usize) -> Vec<Outgoing> {
    (0..count).map(|n| record(law, n)).collect()
}

/// Every record was acknowledged.
pub fn assert_acked(outcomes: &[Sent]) {
    for (n, outcome) in outcomes.iter().enumerate() {
        assert!(outcome.is_acked(), "record {n} of {}: {outcome:?}", outcomes.len());
    }
}

/// How often each of `sent` lies there.
async fn copies(world: &dyn TestSink, sent: &[Outgoing]) -> Vec<usize> {
    let mut counts: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for stored in world.read().await {
        *counts.entry(stored.value).or_default() += 1;
    }
    sent.iter().map(|record| counts.get(&record.value[..]).copied().unwrap_or(0)).collect()
}

/// Sends until the place is back: the proof that an outage is over.
async fn until_acked(sink: &dyn Sink, lane: Lane, law: &str) {
    for n in 0..30 {
        if sink.send(lane, &[record(&format!("{law}, recovered"), n)]).await[0].is_acked() {
            return;
        }
    }
    panic!("no record was acknowledged after the outage");
}

/// An acknowledgement says where its record lies [E5], also when several records and several sends go to a topic at once.
pub async fn an_acknowledgement_says_where_its_record_lies(world: &dyn TestSink) {
    let sink = world.open().await;
    for lane in Lane::ALL {
        let mut batches: Vec<Vec<Outgoing>> =
            (1..12).map(|n| records(&format!("written {lane:?} {n}"), 3 * n)).collect();
        for record in batches.iter_mut().flatten().step_by(2) {
            record.topic = Topic::WEATHER;
        }
        batches[5][4].value = vec![b'x'; RECORD_VALUE_BYTES + 1].into();
        let outcomes = join_all(batches.iter().map(|sent| sink.send(lane, sent))).await;
        let stored = world.read().await;
        let mut told = BTreeMap::new();
        for (record, outcome) in batches.iter().flatten().zip(outcomes.concat()) {
            let found: Vec<_> = stored.iter().filter(|stored| stored.value == record.value[..]).collect();
            match outcome {
                Sent::Acked(None) if !world.tells_where() => assert_eq!(found.len(), 1),
                Sent::Acked(Some(written)) => {
                    assert_eq!(found.iter().map(|stored| stored.written).collect::<Vec<_>>(), [written]);
                    let key = (record.topic, written.partition, written.offset);
                    assert!(told.insert(key, record.event).is_none(), "two records at one place: {key:?}");
                }
                Sent::Refused(Reason::TooLarge, _) => assert_eq!(found, Vec::<&Stored>::new()),
                other => panic!("{lane:?}: {other:?}"),
            }
        }
    }
}

/// An acknowledged record lies there once, byte for byte, with key, headers and time where the sink keeps them; the
/// records of one key in the order in which they were sent.
pub async fn acked_records_are_there(world: &dyn TestSink) {
    const LAW: &str = "acked records are there";
    let sink = world.open().await;
    let mut sent = records(LAW, 300);
    for (n, record) in sent.iter_mut().enumerate() {
        if n % 3 == 0 {
            record.topic = Topic::WEATHER;
        }
        record.extra.push(("references".into(), format!("ü{n}")));
    }
    for lane in [Lane::Bulk, Lane::Critical] {
        for record in &mut sent {
            let value = format!(r#"{{"lane":"{lane:?}","text":"Brände \" {}","law":"{LAW}"}}"#, record.event);
            record.value = value.into();
        }
        let outcomes = sink.send(lane, &sent).await;
        assert_acked(&outcomes);
        let stored = world.read().await;
        let mut last_of_key: BTreeMap<(Topic, &str), usize> = BTreeMap::new();
        for record in &sent {
            let mut found = stored.iter().enumerate().filter(|(_, stored)| stored.value == record.value[..]);
            let (position, found, others) = match found.next() {
                Some((position, first)) => (position, first, found.count()),
                None => panic!("{lane:?}: an acknowledged record is not there"),
            };
            assert_eq!(others, 0, "{lane:?}: one record, one copy");
            assert_eq!(found.topic, record.topic.name());
            if let Some(key) = &found.key {
                assert_eq!(*key, record.key);
            }
            if let Some(time) = found.timestamp_ms {
                assert_eq!(time, record.ingested_at.as_millisecond());
            }
            if let Some(headers) = &found.headers {
                let expected: Vec<(String, String)> =
                    record.headers().iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
                assert_eq!(*headers, expected);
            }
            if let Some(before) = last_of_key.insert((record.topic, &record.key), position) {
                assert!(before < position, "{lane:?}: key {} lost its order", record.key);
            }
        }
    }
}

/// One outcome a record, in order: what is refused is refused in its place and alone, and is not there.
pub async fn a_refused_record_is_refused_alone(world: &dyn TestSink) {
    const LAW: &str = "refused alone";
    let sink = world.open().await;
    for lane in [Lane::Bulk, Lane::Critical] {
        let mut sent = records(&format!("{LAW} {lane:?}"), 9);
        sent[4].value = vec![b'x'; RECORD_VALUE_BYTES + 1].into();
        sent[7].extra.push(("cut\0off".into(), String::new()));
        let outcomes = sink.send(lane, &sent).await;
        assert_eq!(outcomes.len(), sent.len());
        for (n, outcome) in outcomes.iter().enumerate() {
            match n {
                4 => assert!(matches!(outcome, Sent::Refused(Reason::TooLarge, _)), "{outcome:?}"),
                7 => assert!(matches!(outcome, Sent::Refused(Reason::SinkRefused, _)), "{outcome:?}"),
                _ => assert!(outcome.is_acked(), "record {n}: {outcome:?}"),
            }
        }
        assert_eq!(copies(world, &sent).await, [1, 1, 1, 1, 0, 1, 1, 0, 1]);
    }
}

/// The largest value that the contract allows is taken.
pub async fn the_largest_record_is_taken(world: &dyn TestSink) {
    let sink = world.open().await;
    let mut sent = record("largest", 0);
    let filler = (2..RECORD_VALUE_BYTES).map(|n| char::from(b'a' + (n * n % 23) as u8));
    sent.value = format!("{:?}", filler.collect::<String>()).into();
    assert_acked(&sink.send(Lane::Critical, std::slice::from_ref(&sent)).await);
    assert_eq!(copies(world, &[sent]).await, [1]);
}

/// Nothing to send is answered at once.
pub async fn an_empty_send_is_nothing(world: &dyn TestSink) {
    let sink = world.open().await;
    for lane in [Lane::Bulk, Lane::Critical] {
        let outcomes = tokio::time::timeout(HANGS, sink.send(lane, &[])).await.expect("the send returns");
        assert_eq!(outcomes, []);
    }
}

/// Sends of both lanes at once: each gets its own outcomes, every record is there once.
pub async fn sends_at_once_keep_apart(world: &dyn TestSink) {
    const LAW: &str = "at once";
    let sink = world.open().await;
    let mut batches: Vec<(Lane, Vec<Outgoing>)> =
        (0..8).map(|n| (Lane::Bulk, records(&format!("{LAW} bulk {n}"), 500))).collect();
    batches.extend((0..40).map(|n| (Lane::Critical, records(&format!("{LAW} critical {n}"), 1))));
    // One batch has a record of its own kind, so that outcomes of one call given to another are seen.
    batches[3].1[250].value = vec![b'x'; RECORD_VALUE_BYTES + 1].into();
    let outcomes = join_all(batches.iter().map(|(lane, sent)| sink.send(*lane, sent))).await;
    for (batch, outcomes) in outcomes.iter().enumerate() {
        for (n, outcome) in outcomes.iter().enumerate() {
            match (batch, n) {
                (3, 250) => assert!(matches!(outcome, Sent::Refused(Reason::TooLarge, _)), "{outcome:?}"),
                _ => assert!(outcome.is_acked(), "{outcome:?}"),
            }
        }
    }
    batches[3].1.remove(250);
    let all: Vec<Outgoing> = batches.into_iter().flat_map(|(_, sent)| sent).collect();
    assert_eq!(copies(world, &all).await, vec![1; all.len()]);
}

/// A send that its caller gives up costs the others nothing: each of their records is acknowledged and there once.
pub async fn a_dropped_send_leaves_others_alone(world: &dyn TestSink) {
    const LAW: &str = "dropped";
    let sink = world.open().await;
    let kept = records(&format!("{LAW}: kept"), 2_000);
    let given_up = records(&format!("{LAW}: given up"), 500);
    let (beside, after) = kept.split_at(1_000);
    let beside = join_all(beside.chunks(100).map(|some| async {
        // Given up while it waits.
        let _ = sink.send(Lane::Bulk, &given_up[..1]).now_or_never();
        sink.send(Lane::Bulk, some).await
    }));
    let giving_up = async {
        // One of them while it is on its way.
        for millis in 0..10 {
            let _ = tokio::time::timeout(Duration::from_millis(millis), sink.send(Lane::Bulk, &given_up)).await;
        }
    };
    let (mut outcomes, ()) = tokio::join!(beside, giving_up);
    outcomes.push(sink.send(Lane::Bulk, after).await);
    assert_acked(&outcomes.concat());
    assert_eq!(copies(world, &kept).await, vec![1; kept.len()]);
}

/// `check` reports every topic of K2 once; what it made, it finds ready the next time.
pub async fn check_reports_every_topic(world: &dyn TestSink) {
    let sink = world.open().await;
    for state in [None, Some(TopicState::Ready)] {
        let reports = sink.check().await.expect("the place is there");
        let found = |topic: &Topic| reports.iter().filter(|report| report.topic.ends_with(topic.name())).count();
        assert_eq!(Topic::ALL.iter().map(found).collect::<Vec<_>>(), vec![1; Topic::ALL.len()]);
        for report in &reports {
            match state {
                None => assert!(matches!(report.state, TopicState::Ready | TopicState::Created), "{report:?}"),
                Some(state) => assert_eq!(report.state, state, "{}", report.topic),
            }
        }
    }
}

/// What was acknowledged is there for who comes after a restart.
pub async fn acked_records_outlive_the_sink(world: &dyn TestSink) {
    const LAW: &str = "outlives";
    let first = records(&format!("{LAW} first"), 50);
    let second = records(&format!("{LAW} second"), 50);
    for sent in [&first, &second] {
        let sink = world.open().await;
        assert_acked(&sink.send(Lane::Bulk, sent).await);
    }
    assert_eq!(copies(world, &first).await, vec![1; 50]);
    assert_eq!(copies(world, &second).await, vec![1; 50]);
}

/// While the place is away every record is `Retry`, the send returns, and a question has no answer; once it is back, the
/// same records go through.
pub async fn an_outage_is_retry_and_passes(world: &dyn Breakable) {
    let sink = world.open().await;
    assert!(sink.answers().await, "it is reached before the outage");
    world.outage(true).await;
    assert!(!sink.answers().await);
    for lane in [Lane::Bulk, Lane::Critical] {
        let sent = records(&format!("outage {lane:?}"), 600);
        let outcomes = tokio::time::timeout(HANGS, sink.send(lane, &sent)).await.expect("the send returns");
        assert_eq!(outcomes.len(), sent.len());
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Sent::Retry(_))), "{:?}", outcomes[0]);
    }
    world.outage(false).await;
    for lane in [Lane::Bulk, Lane::Critical] {
        let sent = records(&format!("outage {lane:?}"), 600);
        until_acked(&*sink, lane, "outage").await;
        assert_acked(&sink.send(lane, &sent).await);
        assert!(copies(world, &sent).await.iter().all(|&copies| copies > 0));
    }
}

/// What a send could not deliver while the place was away does not appear when it is back: not after the send returned,
/// nor after its caller gave it up.
pub async fn nothing_is_in_flight_after_a_send(world: &dyn Breakable) {
    let sink = world.open().await;
    world.outage(true).await;
    let mut sent = Vec::new();
    for lane in [Lane::Bulk, Lane::Critical] {
        let returned = records(&format!("in flight {lane:?}: returned"), 100);
        let given_up = records(&format!("in flight {lane:?}: given up"), 100);
        sink.send(lane, &returned).await;
        let _ = tokio::time::timeout(TRY / 4, sink.send(lane, &given_up)).await;
        sent.extend(returned);
        sent.extend(given_up);
    }
    // A call that was given up ends by itself.
    tokio::time::sleep(TRY + TRY_ENDS_LATE).await;
    world.outage(false).await;
    for lane in [Lane::Bulk, Lane::Critical] {
        until_acked(&*sink, lane, "in flight").await;
    }
    // Time for what should not be there to arrive.
    tokio::time::sleep(TRY).await;
    assert_eq!(copies(world, &sent).await, vec![0; sent.len()]);
}
