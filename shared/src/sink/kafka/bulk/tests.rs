//! What a batch looks like on the wire, and the partition's rules against a broker that keeps sequences as Kafka does, under faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError as Error;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse,
    TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_protocol::records::RecordBatchDecoder;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::Instant;

use super::batch::{self, BATCH_BYTES, Bodies, HEAD, Sequence};
use super::connection::Ask;
use super::partition::{Batch, Call, Fate, Part, Partition, Then};
use crate::decode::{Context, Format};
use crate::error::Reason;
use crate::ingest::enrich;
use crate::ingest::pack::outgoing;
use crate::limits::TRY;
use crate::record::{Outgoing, SourceId, Stream, StreamId, TenantId, Tier, Topic, Traceparent, WhenFull};
use crate::settings::Settings;
use crate::sink::conformance::record;
use crate::sources::firms;

const START: Sequence = Sequence { producer: 7, epoch: 3, first: 40 };

#[test]
fn k5_a_batch_is_read_as_it_was_written() {
    let records: Vec<Outgoing> = (0..300)
        .map(|n| {
            let mut record = record("wire", n);
            record.value = format!("{{\"n\":{n},\"text\":\"{}\"}}", "é".repeat(n)).into();
            // Not in the order of their times.
            record.ingested_at += Duration::from_millis(1_000 * (n as u64 % 7));
            // Long stretches whose headers differ by event and time alone, and whatever else there is in between.
            record.observed_at += Duration::from_millis(n as u64 / 3);
            match n {
                40 => record.observed_at = "-000044-03-15T12:00:00Z".parse().unwrap(),
                80..85 => record.revision = 10,
                120..125 => record.extra = vec![("status".to_owned(), "Actual".to_owned())],
                160 => record.tier = Tier::Normal,
                200 => record.traceparent = Traceparent::new([8; 16], [9; 8]),
                240 => record.topic = Topic::CRITICAL_ALERTS,
                _ => {}
            }
            record
        })
        .collect();
    let mut parts = [Bodies::default(), Bodies::default()];
    for (n, record) in records.iter().enumerate() {
        parts[usize::from(n >= 100)].add(record);
    }
    let mut bytes = batch::encode(parts.iter(), START).unwrap();
    let unzip = |packed: &mut Bytes, _| Ok(Bytes::from(zstd::stream::decode_all(&packed[..])?));
    let read = RecordBatchDecoder::decode_with_custom_compression(&mut bytes, Some(unzip)).unwrap();
    assert_eq!(read.records.len(), records.len());
    for (n, (read, written)) in read.records.iter().zip(&records).enumerate() {
        assert_eq!(read.key.as_deref(), Some(written.key.as_bytes()));
        assert_eq!(read.value.as_deref(), Some(&written.value[..]));
        assert_eq!(read.timestamp, written.ingested_at.as_millisecond());
        assert_eq!((read.offset, read.sequence), (n as i64, START.first + n as i32));
        assert_eq!((read.producer_id, read.producer_epoch), (START.producer, START.epoch));
        let headers: Vec<(&str, String)> = read
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), String::from_utf8(value.clone().unwrap().to_vec()).unwrap()))
            .collect();
        assert_eq!(headers, written.headers());
    }
}

/// Records as sources make them, packed for the wire and by plain zstd at the level that K4 names.
fn packed(format: Format, source: &str, body: String) -> (usize, usize, usize) {
    let source = SourceId::new(source).unwrap();
    let at = "2026-07-24T10:00:30.123Z".parse().unwrap();
    let stream = Stream {
        id: StreamId::new("s").unwrap(),
        source: source.clone(),
        tenant: TenantId::new("butte").unwrap(),
        granted: false,
        when_full: WhenFull::Wait,
    };
    let context = Context { source: &source, received_at: at, topic: None, message: None };
    let (mut bodies, trace) = (Bodies::default(), Traceparent::new([1; 16], [2; 8]));
    for row in format.rows(&body.into(), context).unwrap() {
        let record = enrich(row.unwrap(), 0, &stream, at).unwrap();
        bodies.add(&outgoing(&record, &Settings::local(), trace.clone()).unwrap());
    }
    let batch = batch::encode(std::iter::once(&bodies), START).unwrap();
    let plain = zstd::stream::decode_all(&batch[HEAD..]).unwrap();
    (plain.len(), batch.len() - HEAD, zstd::bulk::compress(&plain, 3).unwrap().len())
}

#[test]
fn k4_batches_are_a_third_of_their_records_at_most_and_no_larger_than_plain_level_3_makes_them() {
    let mut random = StdRng::seed_from_u64(4);
    let mut digits = |from: f64, to: f64| format!("{:.2}", random.random_range(from..to));
    let mut rows =
        "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,\
                    bright_ti5,frp,daynight\n"
            .to_owned();
    let mut readings = Vec::new();
    for n in 0..300 {
        rows += &format!(
            "{},{},{},0.4{},0.39,2026-07-24,09{:02},N20,VIIRS,n,2.0NRT,{},{},N\n",
            digits(33.0, 41.0),
            digits(-123.0, -117.0),
            digits(300.0, 367.0),
            n % 10,
            n % 6,
            digits(280.0, 300.0),
            digits(0.2, 40.0),
        );
        readings.push(format!(
            r#"{{"sensor_id": "s-{n}", "timestamp": "2026-07-24T10:00:{:02}Z", "latitude": {}, "longitude": {}, "temperature_c": {}, "humidity_pct": {}}}"#,
            n % 30,
            digits(33.0, 41.0),
            digits(-123.0, -117.0),
            digits(10.0, 45.0),
            digits(5.0, 90.0),
        ));
    }
    let few = format!("[{}]", readings[..40].join(","));
    for (kind, format, source, body) in [
        ("detections", firms::FORMAT, "firms_viirs_noaa20", rows),
        ("readings", Format::SENSOR, "iot_x", format!("[{}]", readings.join(","))),
        ("a few readings", Format::SENSOR, "iot_x", few),
    ] {
        let (plain, ours, level_3) = packed(format, source, body);
        assert!(ours * 10 <= plain * 3, "{kind}: {ours} of {plain} bytes");
        assert!(ours * 100 <= level_3 * 104, "{kind}: {ours} bytes, plain level 3 makes {level_3}");
    }
}

#[test]
fn sequences_begin_again_behind_the_largest() {
    let last = Sequence { first: i32::MAX - 1, ..START };
    assert_eq!(last.after(1).first, i32::MAX);
    assert_eq!(last.after(2).first, 0);
    assert_eq!(last.after(5).first, 3);
    assert_eq!(START.next_epoch(), Some(Sequence { epoch: 4, first: 0, ..START }));
    assert_eq!(Sequence { epoch: i16::MAX, ..START }.next_epoch(), None);
}

/// A broker that is none, or bytes that were damaged: an answer that claims more than it holds is told as such, and reserves nothing.
#[test]
fn a6_an_answer_is_measured_before_it_is_decoded() {
    let host = StrBytes::from_static_str("broker");
    let partition = MetadataResponsePartition::default().with_replica_nodes(vec![1.into(), 2.into()]);
    let topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(host.clone())))
        .with_partitions(vec![partition.clone(), partition]);
    let brokers = vec![MetadataResponseBroker::default().with_host(host.clone()).with_port(9_092); 3];
    let metadata = MetadataResponse::default().with_brokers(brokers).with_topics(vec![topic]);
    let fault = BatchIndexAndErrorMessage::default().with_batch_index_error_message(Some(host.clone()));
    for version in 4..=9 {
        measured::<MetadataRequest>(version, &metadata);
    }
    for version in 7..=9 {
        let faults = if version < 8 { Vec::new() } else { vec![fault.clone(); 2] };
        let partition = PartitionProduceResponse::default().with_record_errors(faults);
        let topic = TopicProduceResponse::default()
            .with_name(TopicName(host.clone()))
            .with_partition_responses(vec![partition.clone(), partition]);
        measured::<ProduceRequest>(version, &ProduceResponse::default().with_responses(vec![topic]));
    }
    measured::<ApiVersionsRequest>(0, &ApiVersionsResponse::default().with_api_keys(vec![ApiVersion::default(); 4]));
}

fn measured<R: Ask>(version: i16, answer: &R::Response) {
    let mut bytes = BytesMut::new();
    answer.encode(&mut bytes, version).unwrap();
    assert!(R::ANSWER.fits(version, &bytes), "request {} version {version}", R::KEY);
    for end in 0..bytes.len() {
        assert!(!R::ANSWER.fits(version, &bytes[..end]), "request {} version {version}: {end} bytes", R::KEY);
    }
    // Whatever is changed: what is decoded has been measured.
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..20_000 {
        let mut damaged = bytes.to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..damaged.len());
            damaged[at] = if rng.random_bool(0.5) { 0xff } else { rng.random() };
        }
        if R::ANSWER.fits(version, &damaged) {
            let _ = R::Response::decode(&mut Bytes::from(damaged), version);
        }
    }
}

type Reports = UnboundedReceiver<(Vec<usize>, Fate)>;

/// A call of so many records for one partition, and where its reports arrive.
fn call(records: usize, deadline: Instant) -> (Vec<Part>, Reports) {
    let (reports, reported) = mpsc::unbounded_channel();
    let call = Arc::new(Call { deadline, try_time: TRY, reports });
    let parts = (0..records).map(|n| {
        let mut part = Part::new(call.clone());
        part.bodies.add(&record("call", n));
        part.indexes.push(n);
        part
    });
    (parts.collect(), reported)
}

#[test]
fn what_waits_goes_out_together_as_far_as_a_batch_reaches() {
    let now = Instant::now();
    let mut partition = Partition::new(now);
    let (parts, _reports) = call(2_000, now + TRY);
    let all: usize = parts.iter().map(|part| part.bodies.size()).sum();
    parts.into_iter().for_each(|part| partition.add(part));
    let (mut taken, mut requests, mut next) = (0, 0, 0);
    while partition.is_ready(now) {
        requests += 1;
        let batch = partition.take(requests, 7).unwrap();
        assert!(!partition.is_ready(now), "two batches are in flight");
        let size: usize = batch.parts.iter().map(|part| part.bodies.size()).sum();
        assert!(size <= BATCH_BYTES);
        assert_eq!(batch.sequence.first, next);
        next += batch.parts.len() as i32;
        taken += size;
        assert_eq!(partition.answered(requests, 0, Ok(Ok(0)), now), Then::Nothing);
    }
    assert_eq!((taken, partition.is_idle()), (all, true));
    assert_eq!(requests as usize, all.div_ceil(BATCH_BYTES));
}

/// K1: the broker refuses a batch of which one record is too large.
#[test]
fn k1_a_record_that_is_refused_is_refused_alone_and_in_its_place() {
    const LARGE: usize = 3;
    let now = Instant::now();
    let mut partition = Partition::new(now);
    let (parts, mut reports) = call(1, now + TRY);
    // Six in one part, which are halved; one of another call behind them.
    let mut part = parts.into_iter().next().unwrap();
    (1..6).for_each(|n| part.bodies.add(&record("call", n)));
    part.indexes.extend(1..6);
    partition.add(part);
    let (others, mut of_others) = call(1, now + TRY);
    others.into_iter().for_each(|part| partition.add(part));
    let (mut request, mut offset) = (0, 100);
    while partition.is_ready(now) {
        request += 1;
        let batch = partition.take(request, 7).unwrap();
        let holds_large = batch.parts.iter().any(|part| part.indexes.contains(&LARGE));
        let answer = if holds_large { Err(Error::MessageTooLarge) } else { Ok(offset) };
        offset += answer.map_or(0, |_| batch.parts.iter().map(|part| part.bodies.count() as i64).sum());
        partition.answered(request, 0, Ok(answer), now);
    }
    let mut fates = BTreeMap::new();
    while let Ok((indexes, fate)) = reports.try_recv() {
        for (n, index) in indexes.into_iter().enumerate() {
            let place = match &fate {
                Fate::Written { first, .. } => Some(first + n as i64),
                Fate::Refused(Reason::TooLarge, _) => None,
                other => panic!("{index}: {other:?}"),
            };
            fates.insert(index, place);
        }
    }
    let places: Vec<Option<i64>> = fates.into_values().collect();
    assert_eq!(places, [Some(100), Some(101), Some(102), None, Some(103), Some(104)]);
    assert!(matches!(of_others.try_recv(), Ok((_, Fate::Written { first: 105, .. }))));
    assert!(partition.is_idle());
}

/// K3: what waits behind a batch that is given up is given up with it, if it is of the same call.
#[test]
fn k3_a_call_is_given_up_from_its_first_failure_on_and_others_go_on() {
    let now = Instant::now();
    let mut partition = Partition::new(now);
    let (parts, mut reports) = call(1_000, now + TRY);
    let (others, mut of_others) = call(1, now + TRY);
    parts.into_iter().chain(others).for_each(|part| partition.add(part));
    let first = partition.take(1, 7).unwrap().parts.len();
    assert!(first < 1_000);
    partition.answered(1, 0, Ok(Err(Error::TopicAuthorizationFailed)), now);
    let mut given_up: Vec<usize> = Vec::new();
    while let Ok((indexes, Fate::Retry(problem))) = reports.try_recv() {
        assert!(problem.text.contains("uthoriz"), "{}", problem.text);
        given_up.extend(indexes);
    }
    given_up.sort_unstable();
    assert_eq!(given_up, (0..1_000).collect::<Vec<_>>());
    assert_eq!(partition.take(2, 7).unwrap().parts.len(), 1);
    partition.answered(2, 0, Ok(Ok(5)), now);
    assert!(matches!(of_others.try_recv(), Ok((_, Fate::Written { first: 5, .. }))));
}

/// A partition's leader: what it keeps of producers, and the log.
#[derive(Default)]
struct Leader {
    log: Vec<Kept>,
    /// Each one's epoch, and where its batches stand: first sequence, count, offset.
    producers: BTreeMap<i64, (i16, Vec<Appended>)>,
}

type Appended = (i32, i32, i64);

/// A sender's record, by its number.
type Kept = (usize, usize);

impl Leader {
    fn append(&mut self, batch: &Batch, what: &[Kept]) -> Result<i64, Error> {
        let (first, count) = (batch.sequence.first, what.len() as i32);
        let (epoch, recent) =
            self.producers.entry(batch.sequence.producer).or_insert_with(|| (batch.sequence.epoch, Vec::new()));
        if batch.sequence.epoch < *epoch {
            return Err(Error::InvalidProducerEpoch);
        }
        if batch.sequence.epoch > *epoch {
            if first != 0 {
                return Err(Error::OutOfOrderSequenceNumber);
            }
            (*epoch, *recent) = (batch.sequence.epoch, Vec::new());
        }
        if let Some((_, _, offset)) = recent.iter().rev().take(5).find(|(f, c, _)| (*f, *c) == (first, count)) {
            return Ok(*offset);
        }
        if recent.last().is_some_and(|(f, c, _)| f + c != first) {
            return Err(Error::OutOfOrderSequenceNumber);
        }
        let offset = self.log.len() as i64;
        recent.push((first, count, offset));
        self.log.extend(what);
        Ok(offset)
    }
}

/// Someone who sends records in order, a call at a time, and sends again what was not acknowledged.
struct Sender {
    acked: usize,
    of: usize,
    under_way: Option<(usize, Vec<Option<bool>>, Reports)>,
}

/// K3, K6, Q1: several senders, one partition; requests and answers are lost, come late and out of order, leaders answer with
/// errors, and time runs out in the middle. What is acknowledged lies where it is said, and nothing that came before
/// an acknowledged record is appended behind it.
#[test]
fn k3_no_fault_brings_an_earlier_record_behind_an_acknowledged_one() {
    for seed in 0..2_000 {
        run(seed);
    }
}

fn run(seed: u64) {
    const RECORDS: usize = 40;
    let mut rng = StdRng::seed_from_u64(seed);
    let faults: u32 = rng.random_range(0..30);
    let mut now = Instant::now();
    let (mut leader, mut partition) = (Leader::default(), Partition::new(now));
    let mut senders: Vec<Sender> = (0..3).map(|_| Sender { acked: 0, of: RECORDS, under_way: None }).collect();
    let mut calls: Vec<(*const Call, usize, usize)> = Vec::new();
    // Requests that the leader has not seen yet, and answers that have not arrived.
    let mut wire: Vec<(u64, Batch, Vec<Kept>)> = Vec::new();
    let mut waiting: Option<u64> = None;
    let mut answer: Option<Result<i64, Error>> = None;
    let (mut requests, mut producer, mut steps) = (0, 1, 0);
    while senders.iter().any(|sender| sender.acked < sender.of) {
        steps += 1;
        assert!(steps < 200_000, "seed {seed}: no progress");
        let is_calm = steps > 20_000;
        let fault = |rng: &mut StdRng, weight: u32| !is_calm && rng.random_range(0..100) < faults * weight / 4;
        now += Duration::from_millis(rng.random_range(0..40));
        if fault(&mut rng, 1) {
            now += Duration::from_millis(rng.random_range(0..3_000));
        }
        partition.expire(now, None);
        for (who, sender) in senders.iter_mut().enumerate() {
            if sender.under_way.is_none() && sender.acked < sender.of && rng.random_bool(0.5) {
                let count = rng.random_range(1..=(sender.of - sender.acked).min(9));
                let (parts, reports) = call(count, now + TRY);
                calls.push((Arc::as_ptr(&parts[0].call), who, sender.acked));
                parts.into_iter().for_each(|part| partition.add(part));
                sender.under_way = Some((sender.acked, vec![None; count], reports));
            }
        }
        if waiting.is_none() && partition.is_ready(now) {
            requests += 1;
            let batch = partition.take(requests, producer).unwrap();
            let what = batch.parts.iter().map(|part| {
                // The newest call at this address: an older one has ended.
                let (_, who, from) = calls.iter().rev().find(|(call, ..)| *call == Arc::as_ptr(&part.call)).unwrap();
                (*who, from + part.indexes[0])
            });
            wire.push((requests, batch.clone(), what.collect()));
            waiting = Some(requests);
        }
        // The leader takes a request, perhaps one whose sender has given up; some never arrive.
        if !wire.is_empty() && rng.random_bool(0.6) {
            let (request, batch, what) = wire.swap_remove(rng.random_range(0..wire.len()));
            if !fault(&mut rng, 2) {
                let refused = [Error::NotLeaderOrFollower, Error::NotEnoughReplicas, Error::OutOfOrderSequenceNumber];
                let outcome = match fault(&mut rng, 2) {
                    true => Err(refused[rng.random_range(0..3)]),
                    false => leader.append(&batch, &what),
                };
                if waiting == Some(request) {
                    answer = Some(outcome);
                }
            }
        }
        if let Some(request) = waiting {
            let arrives = match answer {
                Some(outcome) if !fault(&mut rng, 2) => rng.random_bool(0.7).then_some(Ok(outcome)),
                // The connection broke, or nobody answers.
                _ => (rng.random_bool(0.2)).then(|| Err("gone".to_owned())),
            };
            if let Some(arrived) = arrives {
                (waiting, answer) = (None, None);
                if partition.answered(request, 0, arrived, now) == Then::NewProducer {
                    producer += 1;
                }
            }
        }
        for (who, sender) in senders.iter_mut().enumerate() {
            let Some((from, outcomes, reports)) = &mut sender.under_way else { continue };
            while let Ok((indexes, fate)) = reports.try_recv() {
                let is_acked = match fate {
                    Fate::Written { first, .. } => {
                        assert_eq!(
                            leader.log[first as usize],
                            (who, *from + indexes[0]),
                            "seed {seed}: not where it was said"
                        );
                        true
                    }
                    Fate::Retry(_) => false,
                    Fate::Refused(reason, text) => panic!("seed {seed}: {reason:?} {text}"),
                };
                outcomes[indexes[0]] = Some(is_acked);
            }
            if outcomes.iter().all(Option::is_some) {
                let acked = outcomes.iter().take_while(|outcome| **outcome == Some(true)).count();
                assert!(!outcomes[acked..].contains(&Some(true)), "seed {seed}: acknowledged behind one given up");
                sender.acked += acked;
                sender.under_way = None;
            }
        }
    }
    // What senders have given up may still arrive.
    for (_, batch, what) in wire {
        let _ = leader.append(&batch, &what);
    }
    for who in 0..senders.len() {
        let of = |n| leader.log.iter().enumerate().filter(move |(_, kept)| **kept == (who, n)).map(|(at, _)| at);
        let firsts: Vec<_> = (0..RECORDS).map(|n| of(n).min()).collect();
        let lasts: Vec<_> = (0..RECORDS).map(|n| of(n).max()).collect();
        assert!(firsts[0].is_some() && firsts.is_sorted(), "seed {seed}: sender {who}: {firsts:?}");
        assert!(lasts.is_sorted(), "seed {seed}: sender {who}: an old one at the end: {lasts:?}");
    }
}
